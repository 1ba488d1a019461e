// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first stage: from a [`KernelSpec`] to source in the cache, or to a prebuilt image. [`resolve`]
//! determines what a spec means without fetching it; [`fetch`] gets it. The user's files are only ever read.

pub mod archive;
mod git;
mod image;
#[cfg(any(test, feature = "testing"))]
pub mod samples;
mod tarball;
mod tree;

use std::path::{Path, PathBuf};

use crate::series::Series;
use crate::spec::KernelSpec;
use vmtest_base::error::Result;
use vmtest_base::key::Key;
use vmtest_host::context::Context;
use vmtest_host::store::origin_name;

pub use crate::source::git::Commits;
pub(crate) use crate::source::git::unknown_commit;
pub use crate::source::image::release_of;
pub use crate::source::tarball::had_space;
pub use crate::source::tarball::succeeded;
pub use crate::source::tarball::unpack;

/// Largest file and largest total size of a source. In a kernel these are 20 MB and 2 GB.
const MAX_FILE: u64 = 4 << 30;
const MAX_TREE: u64 = 32 << 30;

/// Kernel source in the cache.
#[derive(Debug, Clone)]
pub struct SourceTree {
    /// Column of the matrix: `src:6.18.15`, `tree:linux`, `git:linux@1a2b3c4d5e6f`, `tar:linux-6.18.15`.
    pub id: String,
    /// The source itself. Later stages may hard-link its files, so they are never modified.
    pub dir: PathBuf,
    /// Hash of the content.
    pub key: Key,
    /// The same for successive states of one tree, repository or version. Part of the object directory's key.
    pub lineage: Key,
    /// Origin of untrusted source; `None` if the archive signed it.
    pub origin: Option<Key>,
    /// Its commit, if it came from a repository as a commit.
    pub base_commit: Option<String>,
}

/// A prebuilt kernel in the cache.
#[derive(Debug, Clone)]
pub struct Prebuilt {
    /// Column of the matrix: `debian:7.0.13`, `image:bzImage`.
    pub id: String,
    /// A bzImage or a vmlinux.
    pub image: PathBuf,
    /// Its configuration, if available.
    pub config: Option<PathBuf>,
    /// Its `uname -r`, if the file contains it.
    pub release: Option<String>,
    /// Hash of the content.
    pub key: Key,
}

/// Result of fetching a spec.
#[derive(Debug, Clone)]
pub enum Fetched {
    Source(SourceTree),
    /// A base and the patches of a range of commits.
    Range {
        /// The commit before the first one of the range.
        base: SourceTree,
        /// Its commits in order, named as the range was typed. Their origin is that of the base.
        series: Series,
    },
    /// A kernel that needs no build.
    Prebuilt(Prebuilt),
}

impl Fetched {
    /// Whether it is still in the cache: a damaged entry is removed when that is noticed.
    pub fn is_there(&self) -> bool {
        let path = match self {
            Fetched::Source(tree) | Fetched::Range { base: tree, .. } => &tree.dir,
            Fetched::Prebuilt(prebuilt) => &prebuilt.image,
        };
        path.symlink_metadata().is_ok()
    }
}

/// What a spec means, before anything is fetched.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Column of the matrix. [`fetch`] uses the same unless a listed file is missing from the mirror.
    pub id: String,
    /// Which version, package and suite it became and why, or facts about the path.
    pub description: String,
    /// Whether it is already in the cache. A tree's snapshot is updated anyway.
    pub cached: bool,
    /// The absolute path of the user's tree or file; `None` if the id alone is unambiguous, as for a version
    /// of the archive or a commit.
    pub path: Option<PathBuf>,
    /// For a tree in a repository: branch, commit and changed files (`topic@9673a52 +2 files`); otherwise empty.
    pub state: String,
    /// Commits of a range, each of which becomes a patch; 0 for everything else.
    pub commits: usize,
    /// What [`fetch`] gets, even if the archive or a branch has changed since.
    pub(crate) choice: Choice,
}

/// What a spec was resolved to.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    /// Source from the archive, with the version as typed.
    Source(String, archive::SourceChoice),
    /// A prebuilt image from the archive, with version and flavour as typed.
    Image(String, String, archive::ImageChoice),
    /// The commit with this full hash in this repository.
    Commit(PathBuf, String),
    /// These commits of this repository.
    Range(PathBuf, git::Range),
    /// A tree, as it is when it is fetched.
    Tree(PathBuf),
    /// A source tarball.
    Tarball(PathBuf),
    /// A kernel file.
    File(PathBuf),
}

/// Resolves a spec. Uses the network only if the archive's index is missing or old.
///
/// # Errors
/// Class `Usage` for a path that is not a kernel, `Host` if the archive cannot be reached or has no such
/// version.
pub fn resolve(ctx: &Context, spec: &KernelSpec) -> Result<Resolved> {
    match spec {
        KernelSpec::Src(version) => archive::resolve_source(ctx, version),
        KernelSpec::Debian { version, flavour } => archive::resolve_image(ctx, version, flavour),
        KernelSpec::Tree(path) => tree::resolve(ctx, path),
        KernelSpec::Git { repo, rev } => git::resolve(ctx, repo, rev),
        KernelSpec::GitRange { repo, from, to } => git::resolve_range(ctx, repo, from, to),
        KernelSpec::Tar(file) => tarball::resolve(ctx, file),
        KernelSpec::Image(file) => image::resolve(ctx, file),
    }
}

/// Fetches a resolved source into the cache, without resolving it again.
///
/// # Errors
/// Class `Host` for downloads, disks and tools, `Usage` for files that changed since they were resolved.
pub fn fetch(ctx: &Context, resolved: &Resolved) -> Result<Fetched> {
    match &resolved.choice {
        Choice::Source(asked, choice) => archive::fetch_source(ctx, asked, choice).map(Fetched::Source),
        Choice::Image(asked, flavour, choice) => {
            archive::fetch_image(ctx, asked, flavour, choice).map(Fetched::Prebuilt)
        }
        Choice::Commit(repo, commit) => git::fetch(ctx, repo, commit).map(Fetched::Source),
        Choice::Range(repo, range) => git::fetch_range(ctx, repo, range),
        Choice::Tree(path) => tree::fetch(ctx, path).map(Fetched::Source),
        Choice::Tarball(file) => tarball::fetch(ctx, file).map(Fetched::Source),
        Choice::File(file) => image::fetch(ctx, file).map(Fetched::Prebuilt),
    }
}

/// Column ids of the kernels of one run, in their order. An id stays short (`tree:linux`) unless several
/// paths have the same one: then each gets as many directories as needed to distinguish it (`tree:a/linux`,
/// `tree:b/linux`), regardless of the order. A kernel that is named twice keeps one id.
pub fn unique_ids(kernels: &[Resolved]) -> Vec<String> {
    let id = |kernel: &Resolved| {
        let rivals = || kernels.iter().filter(|other| other.id == kernel.id && other.path != kernel.path);
        let (Some((scheme, _)), Some(path)) = (kernel.id.split_once(':'), &kernel.path) else {
            return kernel.id.clone();
        };
        if rivals().next().is_none() {
            return kernel.id.clone();
        }
        let depths = 2..=path.components().count();
        let told_apart = |depth: &usize| {
            rivals().all(|other| {
                other.path.as_deref().is_none_or(|other| end(other, *depth) != end(path, *depth))
            })
        };
        let depth = depths.clone().find(told_apart).unwrap_or(*depths.end());
        format!("{scheme}:{}", end(path, depth).display())
    };
    kernels.iter().map(id).collect()
}

/// The last components of a path.
fn end(path: &Path, components: usize) -> PathBuf {
    path.iter().skip(path.iter().count().saturating_sub(components)).collect()
}

/// The version in a kernel's Makefile; `None` if the directory is not a kernel tree.
fn kernel_version(dir: &Path) -> Option<String> {
    version_of_makefile(&vmtest_base::beneath::read_text(dir, "Makefile").ok()?)
}

/// Whether the directory is the top of a kernel tree. Other projects have such a Makefile, too.
pub(crate) fn is_kernel_tree(dir: &Path) -> bool {
    dir.join("kernel").is_dir() && kernel_version(dir).is_some()
}

/// The version in the text of a kernel's top-level Makefile.
pub fn version_of_makefile(text: &str) -> Option<String> {
    let value = |name: &str| {
        let line = text.lines().take(20).find(|line| line.split('=').next().map(str::trim) == Some(name))?;
        Some(line.split_once('=')?.1.trim().to_owned())
    };
    let (major, minor) = (value("VERSION")?, value("PATCHLEVEL")?);
    let sublevel = value("SUBLEVEL").filter(|level| !level.is_empty() && level != "0");
    let point = sublevel.map(|level| format!(".{level}")).unwrap_or_default();
    Some(format!("{major}.{minor}{point}{}", value("EXTRAVERSION").unwrap_or_default()))
}

/// Origin of the source at this path.
fn origin(path: &Path) -> Key {
    Key::of("source origin 1").field("place", origin_name(path)).finish()
}

/// Last component of a path, for a column id.
fn short_name(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    full.file_name().unwrap_or(full.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
