// SPDX-License-Identifier: MIT OR Apache-2.0
//! Removes directory trees that strangers' builds wrote into. A link is removed and never followed, also as the root.

use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{AT_FDCWD, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::store::walk::{is_dir, look, names, open_dir};

/// Removes a directory tree of any depth, also one with directories in it that nobody may read or change (packages ship
/// them); what cannot be removed is left for the next run.
pub fn remove_tree(path: &Path) {
    remove_tree_while(path, || true);
}

/// Removes a directory tree as long as `go_on` says so.
///
/// Nothing is deeper than two levels when it is removed: what a directory holds is moved up to the top first. A path could be
/// longer than the kernel takes, and a descriptor for each level would be more than a process may have.
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
        // Nothing left, or nothing that can be removed.
        if done == 0 {
            break;
        }
    }
    let _ = fs::remove_dir(path);
}

/// Names at the top that nothing in the tree has.
struct Moved {
    prefix: String,
    count: u64,
}

/// Removes `name` from `top`, or brings what is in it up to `top`; how much was done.
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
            // Its entry for the directory above changes, which takes the right to write to it.
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
