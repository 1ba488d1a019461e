// SPDX-License-Identifier: MIT OR Apache-2.0
//! Removes directory trees that untrusted builds wrote. Symlinks are removed but never followed, not even as
//! the root.

use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{AT_FDCWD, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::store::walk::{is_dir, look, names, open_dir};

/// Removes a directory tree of any depth, including directories without permissions (some packages ship
/// them). Whatever cannot be removed is left to the next run.
pub fn remove_tree(path: &Path) {
    remove_tree_while(path, || true);
}

/// Removes a directory tree while `go_on` returns true.
///
/// Subdirectories are moved up to the top before they are removed, so it never descends more than two levels.
/// In a deep tree, paths could exceed PATH_MAX, and a descriptor per level could exceed the limit of open
/// files.
pub(super) fn remove_tree_while(path: &Path, go_on: impl Fn() -> bool) {
    let Ok(stat) = look(AT_FDCWD, path) else { return };
    if !is_dir(&stat) {
        let _ = fs::remove_file(path);
        return;
    }
    let Ok(top) = open_dir(AT_FDCWD, path, &stat) else { return };
    let mut moved = Moved { prefix: format!(".vmtest-{}-", vmtest_base::files::nonce()), count: 0 };
    loop {
        let (mut done, found) = (0_u64, names(&top).unwrap_or_default());
        for name in &found {
            if !go_on() {
                return;
            }
            done += remove(&top, name, &mut moved, &go_on);
        }
        // Nothing is left, or nothing that can be removed.
        if done == 0 {
            break;
        }
    }
    let _ = fs::remove_dir(path);
}

/// Generates unique names at the top.
struct Moved {
    prefix: String,
    count: u64,
}

/// Removes `name` from `top`, or moves its subdirectories up to `top`. Returns the number of changes.
fn remove(top: &OwnedFd, name: &CString, moved: &mut Moved, go_on: impl Fn() -> bool) -> u64 {
    let Ok(stat) = look(top, name.as_c_str()) else { return 0 };
    if !is_dir(&stat) {
        return u64::from(unlinkat(top, name.as_c_str(), UnlinkatFlags::NoRemoveDir).is_ok());
    }
    if unlinkat(top, name.as_c_str(), UnlinkatFlags::RemoveDir).is_ok() {
        return 1;
    }
    let Ok(dir) = open_dir(top, name.as_c_str(), &stat) else { return 0 };
    let mut done = 0;
    for below in names(&dir).unwrap_or_default() {
        if !go_on() {
            return done;
        }
        let Ok(stat) = look(&dir, below.as_c_str()) else { continue };
        let went = if is_dir(&stat) {
            // Moving a directory changes its `..` entry, so it must be writable.
            let _ = fchmodat(&dir, below.as_c_str(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink);
            moved.count += 1;
            let place = format!("{}{}", moved.prefix, moved.count);
            renameat(&dir, below.as_c_str(), top, place.as_str())
        } else {
            unlinkat(&dir, below.as_c_str(), UnlinkatFlags::NoRemoveDir)
        };
        done += u64::from(went.is_ok());
    }
    done + u64::from(unlinkat(top, name.as_c_str(), UnlinkatFlags::RemoveDir).is_ok())
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
