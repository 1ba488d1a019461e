// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of the project: those of an installation, or of the checkout that this program was built in.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::program::{VERSION_FILE, installation, is_project};

/// Directory of the runner that is built in advance, as `runner/KEY/`.
pub const RUNNER_DIR: &str = "runner";

/// Directory with the files of the project: the installation, or the checkout that this program was built in.
///
/// # Errors
/// Class `Usage` for a binary that was copied out of both.
pub fn project() -> Result<PathBuf> {
    if let Some(root) = installation() {
        return Ok(root.to_owned());
    }
    let real = std::env::current_exe().and_then(std::fs::canonicalize).unwrap_or_default();
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    checkout_of(&real, manifest.as_deref())
}

/// `manifest` is what cargo sets for the programs that it runs. Without it, the target directory must be in the checkout.
fn checkout_of(real: &Path, manifest: Option<&Path>) -> Result<PathBuf> {
    let told = manifest.filter(|dir| dir.file_name() == Some(OsStr::new("xtask"))).and_then(Path::parent);
    if let Some(checkout) = told.filter(|dir| is_project(dir)) {
        return Ok(checkout.to_owned());
    }
    let targets = real.ancestors().filter(|dir| dir.file_name() == Some(OsStr::new("target")));
    let mut checkouts = targets.filter_map(Path::parent);
    let found = checkouts.find(|dir| dir.join("xtask/Cargo.toml").is_file() && is_project(dir));
    found.map(Path::to_owned).ok_or_else(|| {
        Error::usage(format!("cannot find the files that belong to {}", real.display()))
            .why("it is neither in an installation nor in the target directory of a checkout")
            .next("run `cargo xtask` in the checkout, or `cargo xtask install` once and then `kmatrix`")
    })
}

/// The contents of [`VERSION_FILE`]: one `name value` a line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Version {
    /// Version of the harness.
    pub version: String,
    /// Commit of the checkout, with `+changes` if files differed from it; `unknown` outside git.
    pub revision: String,
    /// Day of the commit, YYYY-MM-DD.
    pub date: String,
    /// Key of the checkout's harness.
    pub harness: String,
    /// Hash of the installed files that determine a verdict.
    pub content: String,
}

impl Version {
    /// The file's text.
    pub fn text(&self) -> String {
        let Version { version, revision, date, harness, content } = self;
        format!("version {version}\nrevision {revision}\ndate {date}\nharness {harness}\ncontent {content}\n")
    }

    /// Reads the version of the installation in this directory.
    ///
    /// # Errors
    /// If the file or one of its fields is missing.
    pub fn read(root: &Path) -> Result<Version> {
        let path = root.join(VERSION_FILE);
        let text = crate::files::read_text(&path)?;
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.filter(|value| !value.is_empty()).map(str::to_owned).ok_or_else(|| {
                Error::host(format!("{} is damaged", path.display()))
                    .why(format!("it has no `{name}`"))
                    .next("install it again")
            })
        };
        Ok(Version {
            version: field("version")?,
            revision: field("revision")?,
            date: field("date")?,
            harness: field("harness")?,
            content: field("content")?,
        })
    }
}

#[cfg(test)]
mod tests;
