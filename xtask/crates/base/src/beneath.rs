// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads files from directories that an untrusted build wrote, or that an untrusted tree was unpacked into.
//! The build runs in a sandbox, but its output is read outside. So nothing here follows a symlink, whether as
//! the last component or on the way, and only regular files are read: otherwise a `vmlinux` that links to a
//! private key could end up in a guest or a report.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use crate::error::{Class, Error, IoContext, Result};
use crate::size;

mod below;

pub use crate::beneath::below::Kind;
pub use crate::beneath::below::Top;
pub use crate::beneath::below::gone;
pub use crate::beneath::below::leads_out;
pub use crate::beneath::below::walk;

/// Longest text that is read. A kernel configuration has about 200 KB.
const MAX_TEXT: u64 = 8 << 20;
/// Most that is kept from one build, all files together. A kernel with full debug information has 1 GB.
const MAX_KEPT: u64 = 2 << 30;
/// Most names that are read from one directory.
const MAX_NAMES: usize = 100_000;

/// Opens `below` in `dir`. `dir` itself is trusted.
fn at(dir: &Path, below: &Path, how: OFlag) -> io::Result<OwnedFd> {
    let always = OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let mut here = open(dir, OFlag::O_CLOEXEC | OFlag::O_DIRECTORY, Mode::empty())?;
    let mut parts = below.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { return Err(Errno::EINVAL.into()) };
        let way = if parts.peek().is_some() { OFlag::O_DIRECTORY } else { how };
        here = openat(here.as_fd(), name, always | way, Mode::empty())?;
    }
    Ok(here)
}

/// Opens the regular file `below` in `dir` for reading.
fn file(dir: &Path, below: &Path) -> io::Result<File> {
    // Opening a FIFO that has no writer would block forever.
    let file = File::from(at(dir, below, OFlag::O_NONBLOCK)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// Whether `below` is a regular file, reached without a symlink.
pub fn is_file(dir: &Path, below: impl AsRef<Path>) -> bool {
    file(dir, below.as_ref()).is_ok()
}

/// Whether `below` and everything on the way to it are real directories, not symlinks.
pub fn is_dir(dir: &Path, below: impl AsRef<Path>) -> bool {
    at(dir, below.as_ref(), OFlag::O_DIRECTORY).is_ok()
}

/// Whether no symlink is on the way to `below`. `below` itself may be anything, or missing.
pub fn no_link_on_the_way(dir: &Path, below: impl AsRef<Path>) -> bool {
    below.as_ref().parent().is_none_or(|way| is_dir(dir, way))
}

/// The text of a regular file.
///
/// # Errors
/// If it is missing, not a regular file (a symlink is not one), or longer than 8 MiB.
pub fn read_text(dir: &Path, below: impl AsRef<Path>) -> Result<String> {
    read_text_up_to(dir, below, MAX_TEXT)
}

/// The text of a regular file of at most `most` bytes.
///
/// # Errors
/// If it is missing, not a regular file (a symlink is not one), or longer.
pub fn read_text_up_to(dir: &Path, below: impl AsRef<Path>, most: u64) -> Result<String> {
    Ok(String::from_utf8_lossy(&read_up_to(dir, below, most)?).into_owned())
}

/// The content of a regular file of at most `most` bytes.
///
/// # Errors
/// If it is missing, not a regular file (a symlink is not one), or longer.
pub fn read_up_to(dir: &Path, below: impl AsRef<Path>, most: u64) -> Result<Vec<u8>> {
    let below = below.as_ref();
    let read = || {
        let mut bytes = Vec::new();
        let length = file(dir, below)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        if length as u64 > most {
            return Err(io::Error::other(format!("it has more than {most} bytes")));
        }
        Ok(bytes)
    };
    read().on("cannot read", dir.join(below))
}

/// The last `most` bytes of a regular file, or all of a shorter one.
///
/// # Errors
/// If it is missing or not a regular file (a symlink is not one).
pub fn last_bytes(dir: &Path, below: impl AsRef<Path>, most: u64) -> Result<Vec<u8>> {
    let below = below.as_ref();
    let read = || {
        let mut file = file(dir, below)?;
        let from = file.metadata()?.len().saturating_sub(most);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes).map(|_| bytes)
    };
    read().on("cannot read", dir.join(below))
}

/// Limits how much is kept from one build. Counts sizes, not disk blocks: a sparse file takes up its full
/// size once copied.
#[derive(Debug)]
pub struct Budget {
    left: u64,
    class: Class,
}

impl Budget {
    /// For one build; exceeding it is an error of this class.
    pub fn of(class: Class) -> Budget {
        Budget { left: MAX_KEPT, class }
    }

    /// Reserves space for a file.
    ///
    /// # Errors
    /// If the budget does not have that much left.
    pub fn take(&mut self, path: &Path, bytes: u64) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            Error::new(self.class, format!("{} is too large to keep", path.display())).why(format!(
                "it has {}; {} are left of the {} that may be kept of one build",
                size::format(bytes),
                size::format(self.left),
                size::format(MAX_KEPT)
            ))
        })?;
        Ok(())
    }
}

/// Copies a regular file and its mode to `to`, if the budget allows.
///
/// # Errors
/// If it is missing or not a regular file (a symlink is not one), or on an IO error; of the budget's class if
/// it is too large.
pub fn copy(dir: &Path, below: impl AsRef<Path>, to: &Path, room: &mut Budget) -> Result<()> {
    let below = below.as_ref();
    let from = file(dir, below).on("cannot copy", dir.join(below))?;
    let stat = from.metadata().on("cannot copy", dir.join(below))?;
    room.take(&dir.join(below), stat.len())?;
    let mut target = File::create(to).on("cannot create", to)?;
    // Copies only the size that the budget allowed, even if the file grows meanwhile.
    io::copy(&mut from.take(stat.len()), &mut target).on("cannot copy", dir.join(below))?;
    target.set_permissions(stat.permissions()).on("cannot set the mode of", to)
}

/// Names of the regular files in a directory; empty if it is not a directory or is reached through a symlink.
pub fn names(dir: &Path, below: impl AsRef<Path>) -> Vec<String> {
    let below = below.as_ref();
    if !is_dir(dir, below) {
        return Vec::new();
    }
    let entries = std::fs::read_dir(dir.join(below)).into_iter().flatten().flatten().take(MAX_NAMES);
    let plain = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let mut names: Vec<String> = plain.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests;
