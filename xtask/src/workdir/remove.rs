// SPDX-License-Identifier: MIT OR Apache-2.0
//! Removes directory trees that strangers' builds wrote into. A link is removed and never followed, also as the root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Removes a directory tree, also one with read-only directories in it (packages ship them); what cannot be removed
/// is left for the next run.
pub fn remove_tree(path: &Path) {
    remove_tree_while(path, || true);
}

/// Removes a directory tree as long as `go_on` says so.
pub(super) fn remove_tree_while(path: &Path, go_on: impl Fn() -> bool) {
    // A build can leave a link to anywhere where a directory of its own was, and walkdir follows a root that is one.
    let walk = walkdir::WalkDir::new(path).follow_root_links(false).into_iter().filter_entry(|entry| {
        if entry.file_type().is_dir() {
            // What it holds can only be removed once it may be written.
            let _ = fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700));
        }
        true
    });
    let mut directories = Vec::new();
    for entry in walk.flatten() {
        if !go_on() {
            return;
        }
        if entry.file_type().is_dir() {
            directories.push(entry.into_path());
        } else {
            let _ = fs::remove_file(entry.path());
        }
    }
    for directory in directories.iter().rev() {
        let _ = fs::remove_dir(directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_removed_and_what_they_name_stays() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let home = dir.path().join("home");
        fs::create_dir_all(home.join("deep")).expect("made");
        fs::write(home.join("deep/file"), "mine").expect("written");
        fs::create_dir_all(dir.path().join("tree/inside")).expect("made");
        symlink(&home, dir.path().join("tree/inside/link")).expect("linked");
        symlink(&home, dir.path().join("root")).expect("linked");
        remove_tree(&dir.path().join("tree"));
        remove_tree(&dir.path().join("root"));
        assert!(!dir.path().join("tree").exists() && dir.path().join("root").symlink_metadata().is_err());
        assert_eq!(fs::read_to_string(home.join("deep/file")).expect("still there"), "mine");
    }
}
