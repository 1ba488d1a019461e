// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--share`: a directory of the host in a guest of `--shell` or `--exec`.

use std::path::PathBuf;

use vmtest_base::error::{Error, IoContext, Result};
use vmtest_kernel::spec::KernelSpec;

/// Where the guest sees it with the tools of the build root.
pub const SHARE_MOUNT: &str = "/src";

/// A directory of the host that a guest sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    pub dir: PathBuf,
    /// Whether the guest may write to it.
    pub writable: bool,
}

impl Share {
    /// Reads `DIR` or `DIR:rw`.
    ///
    /// # Errors
    /// Class `Usage` if there is no such directory.
    pub fn parse(text: &str) -> Result<Share> {
        let (dir, writable) = text.strip_suffix(":rw").map_or((text, false), |dir| (dir, true));
        let dir = PathBuf::from(dir);
        if !dir.is_dir() {
            return Err(Error::usage(format!("--share {text}: no such directory"))
                .next("name a directory of this host; `DIR:rw` lets the guest write to it"));
        }
        Ok(Share { dir: dir.canonicalize().on("cannot resolve", &dir)?, writable })
    }

    /// What a guest shares without `--share`: the tree that is tested, read-only.
    pub fn of_tree(spec: &KernelSpec) -> Option<Share> {
        match spec {
            KernelSpec::Tree(path) => Some(Share { dir: path.canonicalize().ok()?, writable: false }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_only_unless_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().canonicalize().expect("resolved");
        let text = path.display().to_string();
        let share = |writable| Share { dir: path.clone(), writable };
        assert_eq!(Share::parse(&text).expect("read"), share(false));
        assert_eq!(Share::parse(&format!("{text}:rw")).expect("read"), share(true));
        assert!(Share::parse(&format!("{text}/missing")).is_err());
    }
}
