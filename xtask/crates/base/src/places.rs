// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where this project keeps a user's files.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The directory that an environment variable names, else `below_home` in HOME. Only absolute paths count.
///
/// # Errors
/// If neither is an absolute path.
pub fn base_dir(variable: &str, below_home: &str) -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os(variable).map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        return Ok(dir);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    home.map(|home| home.join(below_home)).ok_or_else(|| {
        Error::host(format!("cannot find a place for files: neither {variable} nor HOME names a directory"))
            .next("set VMTEST_CACHE_DIR and XDG_STATE_HOME")
    })
}

/// Where run directories are kept.
///
/// # Errors
/// If neither XDG_STATE_HOME nor HOME is an absolute path.
pub fn runs_dir() -> Result<PathBuf> {
    Ok(base_dir("XDG_STATE_HOME", ".local/state")?.join("vmtest").join("runs"))
}

/// The path with a leading `~/` replaced by HOME: a shell does that only at the beginning of a word, so not in `tree:~/l`.
pub fn expanded(path: &Path) -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    match (path.strip_prefix("~"), home) {
        (Ok(below), Some(home)) => home.join(below),
        _ => path.to_owned(),
    }
}
