// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel specs as typed by the user: `src:6.18`, `debian:7.0.13`, `tree:PATH` .. Pure: only parses them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use vmtest_base::error::Error;
use vmtest_base::places;

/// Where a kernel comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KernelSpec {
    /// Source from the Debian archive: a version or a prefix of one.
    Src(String),
    /// A prebuilt image of the Debian archive.
    Debian {
        /// Upstream version, for example `7.0.13`.
        version: String,
        /// Flavour; `cloud-amd64` unless given (`debian:7.0.13/amd64`).
        flavour: String,
    },
    /// The user's tree in its current state.
    Tree(PathBuf),
    /// A commit of the user's repository.
    Git {
        repo: PathBuf,
        /// Any revision that git understands.
        rev: String,
    },
    /// The commits after `from` up to `to`, as a series on top of `from`.
    GitRange { repo: PathBuf, from: String, to: String },
    /// A source tarball.
    Tar(PathBuf),
    /// A bzImage or vmlinux.
    Image(PathBuf),
}

/// Default flavour of `debian:` kernels: the smallest image, with all virtual devices built in.
pub const DEFAULT_FLAVOUR: &str = "cloud-amd64";

pub(crate) const FORMS: &str =
    "use one of src:VERSION, debian:VERSION, tree:PATH, git:PATH@REV, git:PATH@A..B, tar:FILE, image:FILE";

impl KernelSpec {
    /// Whether there is source, which patches, variants and suites require.
    pub fn has_source(&self) -> bool {
        !matches!(self, KernelSpec::Debian { .. } | KernelSpec::Image(_))
    }

    /// The same kernel from any directory; relative paths start in `here`.
    pub fn absolute(self, here: &Path) -> KernelSpec {
        let whole = |path: PathBuf| places::whole(here, &path);
        match self {
            KernelSpec::Tree(path) => KernelSpec::Tree(whole(path)),
            KernelSpec::Tar(path) => KernelSpec::Tar(whole(path)),
            KernelSpec::Image(path) => KernelSpec::Image(whole(path)),
            KernelSpec::Git { repo, rev } => KernelSpec::Git { repo: whole(repo), rev },
            KernelSpec::GitRange { repo, from, to } => KernelSpec::GitRange { repo: whole(repo), from, to },
            other @ (KernelSpec::Src(_) | KernelSpec::Debian { .. }) => other,
        }
    }
}

impl FromStr for KernelSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<KernelSpec, Error> {
        let wrong = |why: &str| Error::usage(format!("`{text}` is not a kernel")).why(why).next(FORMS);
        let Some((scheme, rest)) = text.split_once(':') else {
            let is_path = text.starts_with(['.', '~']) || text.contains('/');
            let hint = if is_path { format!("did you mean `tree:{text}`?") } else { FORMS.to_owned() };
            return Err(Error { next: Some(hint), ..wrong("it has no scheme") });
        };
        let path = |text: &str| places::expanded(Path::new(text));
        if rest.is_empty() {
            return Err(wrong("the scheme is followed by nothing"));
        }
        match scheme {
            "src" => Ok(KernelSpec::Src(version(rest).map_err(|why| wrong(&why))?)),
            "debian" => {
                let (number, flavour) = rest.split_once('/').unwrap_or((rest, DEFAULT_FLAVOUR));
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '+';
                if flavour.is_empty() || !flavour.chars().all(plain) {
                    return Err(wrong("a flavour has only letters, digits, `-` and `+`"));
                }
                Ok(KernelSpec::Debian {
                    version: version(number).map_err(|why| wrong(&why))?,
                    flavour: flavour.to_owned(),
                })
            }
            "tree" => Ok(KernelSpec::Tree(path(rest))),
            "tar" => Ok(KernelSpec::Tar(path(rest))),
            "image" => Ok(KernelSpec::Image(path(rest))),
            "git" => git(rest).ok_or_else(|| wrong("git: needs PATH@REV or PATH@A..B")),
            _ => Err(wrong(&format!("unknown scheme `{scheme}:`"))),
        }
    }
}

/// The last `@` separates path and revision, since a path may contain one. `HEAD@{1}`, also written `@{1}`,
/// is an exception.
fn git(rest: &str) -> Option<KernelSpec> {
    let split = rest.rfind("@{").filter(|at| *at > 0).map(|at| rest[..at].rfind('@').unwrap_or(at));
    let at = split.or_else(|| rest.rfind('@'))?;
    let (repo, rev) = (places::expanded(Path::new(&rest[..at])), &rest[at + 1..]);
    if repo.as_os_str().is_empty() || rev.is_empty() || rev.starts_with('-') {
        return None;
    }
    match rev.split_once("..") {
        None => Some(KernelSpec::Git { repo, rev: rev.to_owned() }),
        Some((from, to)) if !from.is_empty() && !to.is_empty() && !to.starts_with(['.', '-']) => {
            Some(KernelSpec::GitRange { repo, from: from.to_owned(), to: to.to_owned() })
        }
        Some(_) => None,
    }
}

/// Digits and dots only, because it becomes part of package names and paths.
fn version(text: &str) -> Result<String, String> {
    let numbers = text.split('.').all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()));
    if numbers && text.contains('.') {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not a version such as 6.18 or 7.3.4"))
    }
}

impl fmt::Display for KernelSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelSpec::Src(version) => write!(out, "src:{version}"),
            KernelSpec::Debian { version, flavour } if flavour == DEFAULT_FLAVOUR => {
                write!(out, "debian:{version}")
            }
            KernelSpec::Debian { version, flavour } => write!(out, "debian:{version}/{flavour}"),
            KernelSpec::Tree(path) => write!(out, "tree:{}", path.display()),
            KernelSpec::Git { repo, rev } => write!(out, "git:{}@{rev}", repo.display()),
            KernelSpec::GitRange { repo, from, to } => write!(out, "git:{}@{from}..{to}", repo.display()),
            KernelSpec::Tar(path) => write!(out, "tar:{}", path.display()),
            KernelSpec::Image(path) => write!(out, "image:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests;
