// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first stage: from a [`KernelSpec`] to source in the cache, or to a prebuilt image. [`resolve`] says what a spec
//! means without fetching anything; [`fetch`] gets it. What a user owns is only ever read.

mod git;
mod image;
mod tarball;
#[cfg(test)]
pub(crate) mod tests_support;
mod tree;

use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::error::Result;
use crate::kernel::archive;
use crate::kernel::spec::KernelSpec;
use crate::workdir::Key;

pub use image::release_of;
pub use tarball::{had_space, succeeded, unpack};

/// Kernel source in the cache.
#[derive(Debug, Clone)]
pub struct SourceTree {
    /// Column of the matrix: `src:6.18.15`, `tree:linux`, `git:linux@1a2b3c4d5e6f`, `tar:linux-6.18.15`.
    pub id: String,
    /// The source itself. Later stages never modify it: they may hold hard links into it.
    pub dir: PathBuf,
    /// Of the content.
    pub key: Key,
    /// The same for successive states of one tree, repository or version: names the object directory.
    pub lineage: Key,
    /// The commit it is, where it came from a repository as a commit.
    pub base_commit: Option<String>,
}

/// A kernel that somebody else built, in the cache.
#[derive(Debug, Clone)]
pub struct Prebuilt {
    /// Column of the matrix: `debian:7.0.13`, `image:bzImage`.
    pub id: String,
    /// What was asked for.
    pub spec: KernelSpec,
    /// A bzImage or a vmlinux.
    pub image: PathBuf,
    /// Its configuration; `None` where nobody ships one.
    pub config: Option<PathBuf>,
    /// `uname -r` of it, where the file says so.
    pub release: Option<String>,
    /// Of the content.
    pub key: Key,
}

/// What a spec became.
#[derive(Debug, Clone)]
pub enum Fetched {
    /// Source.
    Source(SourceTree),
    /// A base and the patches that a range of commits is.
    Range {
        /// The commit before the first of the range.
        base: SourceTree,
        /// `git format-patch` files in the cache, in order.
        patches: Vec<PathBuf>,
        /// `A..B` as it was typed.
        name: String,
    },
    /// A kernel that needs no build.
    Prebuilt(Prebuilt),
}

/// What a spec means, before anything is fetched.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Column of the matrix, as [`fetch`] will name it, unless the mirror lacks what it lists.
    pub id: String,
    /// Which version, package and suite it became and why, or facts about the path.
    pub description: String,
    /// Whether it is in the cache already (a tree's snapshot is refreshed all the same).
    pub cached: bool,
}

/// Says what a spec means. The network is used only where the archive's index is missing or old.
///
/// # Errors
/// A usage error for a path that is no kernel, a host error where the archive cannot be asked or has no such version.
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

/// Gets it into the cache.
///
/// # Errors
/// Those of [`resolve`], and host errors for downloads, disks and tools.
pub fn fetch(ctx: &Context, spec: &KernelSpec) -> Result<Fetched> {
    match spec {
        KernelSpec::Src(version) => archive::fetch_source(ctx, version).map(Fetched::Source),
        KernelSpec::Debian { version, flavour } => {
            archive::fetch_image(ctx, spec, version, flavour).map(Fetched::Prebuilt)
        }
        KernelSpec::Tree(path) => tree::fetch(ctx, path).map(Fetched::Source),
        KernelSpec::Git { repo, rev } => git::fetch(ctx, repo, rev).map(Fetched::Source),
        KernelSpec::GitRange { repo, from, to } => git::fetch_range(ctx, repo, from, to),
        KernelSpec::Tar(file) => tarball::fetch(ctx, file).map(Fetched::Source),
        KernelSpec::Image(file) => image::fetch(ctx, spec, file).map(Fetched::Prebuilt),
    }
}

/// The version in a kernel's Makefile; `None` where the directory is no kernel tree.
fn kernel_version(dir: &Path) -> Option<String> {
    version_of_makefile(&std::fs::read_to_string(dir.join("Makefile")).ok()?)
}

fn version_of_makefile(text: &str) -> Option<String> {
    let value = |name: &str| {
        let line = text.lines().take(20).find(|line| line.split('=').next().map(str::trim) == Some(name))?;
        Some(line.split_once('=')?.1.trim().to_owned())
    };
    let (major, minor) = (value("VERSION")?, value("PATCHLEVEL")?);
    let sublevel = value("SUBLEVEL").filter(|level| !level.is_empty() && level != "0");
    let point = sublevel.map(|level| format!(".{level}")).unwrap_or_default();
    Some(format!("{major}.{minor}{point}{}", value("EXTRAVERSION").unwrap_or_default()))
}

/// Last component of a path, for a column id.
fn short_name(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    full.file_name().unwrap_or(full.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_makefile_tells_the_version() {
        let text = "# SPDX\nVERSION = 6\nPATCHLEVEL = 18\nSUBLEVEL = 15\nEXTRAVERSION =\nNAME = Baby\n";
        assert_eq!(version_of_makefile(text).as_deref(), Some("6.18.15"));
        let rc = "VERSION = 7\nPATCHLEVEL = 4\nSUBLEVEL = 0\nEXTRAVERSION = -rc3\n";
        assert_eq!(version_of_makefile(rc).as_deref(), Some("7.4-rc3"));
        assert_eq!(version_of_makefile("all:\n\tcc x.c\n"), None);
    }
}
