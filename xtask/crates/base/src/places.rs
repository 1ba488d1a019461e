// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where this project keeps a user's files.

use std::path::{Component, Path, PathBuf};

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

/// A path as seen from `here`, without `.`; and without `..`, unless a symbolic link before it leads elsewhere.
pub fn whole(here: &Path, path: &Path) -> PathBuf {
    let whole: PathBuf = here.join(path).components().collect();
    let mut short = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::ParentDir => drop(short.pop()),
            part => short.push(part),
        }
    }
    // What will be written does not exist yet, but its directory does.
    let real =
        |path: &Path| path.canonicalize().or_else(|_| path.parent().unwrap_or(path).canonicalize()).ok();
    if short != whole && real(&short).is_some_and(|place| real(&whole) == Some(place)) {
        short
    } else {
        whole
    }
}

/// The path with a leading `~/` replaced by HOME: a shell does that only at the beginning of a word, so not in `tree:~/l`.
pub fn expanded(path: &Path) -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    match (path.strip_prefix("~"), home) {
        (Ok(below), Some(home)) => home.join(below),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_loses_its_parents_unless_a_link_is_before_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let top = dir.path().canonicalize().expect("a directory");
        for below in ["a/b", "c"] {
            std::fs::create_dir_all(top.join(below)).expect("made");
        }
        assert_eq!(whole(&top.join("a"), Path::new("./../c")), top.join("c"));
        assert_eq!(whole(&top.join("a"), Path::new("../new.xml")), top.join("new.xml"));
        std::os::unix::fs::symlink(top.join("a/b"), top.join("link")).expect("linked");
        assert_eq!(whole(&top, Path::new("link/../c")), top.join("link/../c"));
    }
}
