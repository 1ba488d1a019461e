// SPDX-License-Identifier: MIT OR Apache-2.0
//! Visits every file of a tree that an untrusted build may have written: of any depth, where paths may exceed
//! PATH_MAX, with directories without permissions, and with symlinks, which are not followed. Only one
//! directory is open at a time, so depth does not use up descriptors.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, fstatat};

use vmtest_base::error::Result;

/// The permissions that the owner needs to list a directory and to change its contents.
const MINE: Mode = Mode::S_IRWXU;

pub(super) fn is_dir(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
}

/// `lstat` of `name` in `dir`.
pub(super) fn look(dir: impl AsFd, name: &(impl nix::NixPath + ?Sized)) -> nix::Result<FileStat> {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// Opens a directory that `look` found. Adds missing permissions for the owner first.
pub(super) fn open_dir(
    dir: impl AsFd,
    name: &(impl nix::NixPath + ?Sized),
    stat: &FileStat,
) -> nix::Result<OwnedFd> {
    if !Mode::from_bits_truncate(stat.st_mode).contains(MINE) {
        // Fails for directories of other users, which may be readable nevertheless.
        let _ = fchmodat(&dir, name, MINE, FchmodatFlags::FollowSymlink);
    }
    let how = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, how, Mode::empty())
}

/// Names in an open directory.
pub(super) fn names(dir: &OwnedFd) -> nix::Result<Vec<CString>> {
    let dots = |name: &std::ffi::CStr| [c".", c".."].contains(&name);
    let mut list = Dir::from_fd(openat(dir, ".", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)?;
    Ok(list.iter().flatten().map(|entry| entry.file_name().to_owned()).filter(|name| !dots(name)).collect())
}

/// Calls `visit` for `top` and everything below it. Skips what cannot be read.
///
/// # Errors
/// Those of `visit`.
pub fn walk(top: &Path, mut visit: impl FnMut(&FileStat) -> Result<()>) -> Result<()> {
    struct Level {
        id: (u64, u64),
        left: Vec<(CString, FileStat)>,
    }
    let Ok(stat) = look(AT_FDCWD, top) else { return Ok(()) };
    visit(&stat)?;
    if !is_dir(&stat) {
        return Ok(());
    }
    let Ok(mut here) = open_dir(AT_FDCWD, top, &stat) else { return Ok(()) };
    let mut entered = Some(stat);
    let mut levels: Vec<Level> = Vec::new();
    loop {
        if let Some(stat) = entered.take() {
            let mut left = Vec::new();
            for name in names(&here).unwrap_or_default() {
                let Ok(stat) = look(&here, name.as_c_str()) else { continue };
                visit(&stat)?;
                if is_dir(&stat) {
                    left.push((name, stat));
                }
            }
            levels.push(Level { id: (stat.st_dev, stat.st_ino), left });
        }
        let Some(level) = levels.last_mut() else { return Ok(()) };
        if let Some((name, stat)) = level.left.pop() {
            if let Ok(below) = open_dir(&here, name.as_c_str(), &stat) {
                (here, entered) = (below, Some(stat));
            }
            continue;
        }
        levels.pop();
        let Some(above) = levels.last() else { return Ok(()) };
        match up(&here, above.id) {
            Ok(parent) => here = parent,
            // The directory was moved, so the way back to the rest is lost.
            Err(_) => return Ok(()),
        }
    }
}

/// The parent directory, if it is still the expected one.
fn up(here: &OwnedFd, id: (u64, u64)) -> nix::Result<OwnedFd> {
    let parent = openat(here, "..", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let stat = fstat(&parent)?;
    if (stat.st_dev, stat.st_ino) == id { Ok(parent) } else { Err(Errno::ESTALE) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use nix::sys::stat::mkdirat;

    /// Nested directories, deeper than any path can name and than a process can open, with a file in the last
    /// one.
    pub(in crate::store) fn deep(top: &Path, levels: usize, name: &str) {
        std::fs::create_dir_all(top).expect("made");
        let how = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut here = openat(AT_FDCWD, top, how, Mode::empty()).expect("opened");
        for _ in 0..levels {
            mkdirat(&here, name, MINE).expect("made");
            here = openat(&here, name, how, Mode::empty()).expect("opened");
        }
        let how = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = openat(&here, "file", how, Mode::S_IRUSR).expect("created");
        nix::unistd::write(&file, &[1; 100_000]).expect("written");
    }

    fn count(top: &Path) -> (usize, i64) {
        let (mut files, mut bytes) = (0, 0);
        walk(top, |stat| {
            files += 1;
            bytes += if is_dir(stat) { 0 } else { stat.st_size };
            Ok(())
        })
        .expect("walked");
        (files, bytes)
    }

    #[test]
    fn everything_is_seen_whatever_its_depth_and_mode() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (wide, far) = (dir.path().join("wide"), dir.path().join("far"));
        deep(&wide, 200, &"x".repeat(250));
        deep(&far, 3000, "y");
        assert_eq!(count(&wide), (202, 100_000));
        assert_eq!(count(&far), (3002, 100_000));
        std::os::unix::fs::symlink("/etc", wide.join("link")).expect("linked");
        let closed = wide.join("closed");
        std::fs::create_dir(&closed).expect("made");
        std::fs::write(closed.join("file"), "12345").expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o000);
        std::fs::set_permissions(&closed, mode).expect("closed");
        let length = i64::try_from("/etc".len()).expect("small");
        assert_eq!(count(&wide), (205, 100_005 + length));
        assert_eq!(count(&dir.path().join("nothing")), (0, 0));
        crate::store::remove_tree(&wide);
        crate::store::remove_tree(&far);
        assert!(!wide.exists() && !far.exists());
    }
}
