// SPDX-License-Identifier: MIT OR Apache-2.0
//! Access to many files below an untrusted directory, each reached without following a symlink. There can be
//! tens of thousands, so the directories on the way stay open for the next file.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};

/// Type of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    Link,
    Dir,
    /// A FIFO, socket or device, which may block or act when it is opened; with its name for messages.
    Special(&'static str),
}

impl Kind {
    /// From `st_mode`.
    pub fn of(mode: u32) -> Kind {
        match SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG => Kind::File,
            SFlag::S_IFLNK => Kind::Link,
            SFlag::S_IFDIR => Kind::Dir,
            SFlag::S_IFIFO => Kind::Special("a FIFO"),
            SFlag::S_IFSOCK => Kind::Special("a socket"),
            _ => Kind::Special("a device"),
        }
    }
}

/// A directory whose contents are reached without following a symlink.
#[derive(Debug)]
pub struct Top {
    fd: OwnedFd,
    /// The open directories on the way to the last path.
    way: Vec<(OsString, OwnedFd)>,
}

const DIRECTORY: OFlag =
    OFlag::O_CLOEXEC.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK);

impl Top {
    /// Opens the directory itself. Symlinks in `dir` are followed.
    ///
    /// # Errors
    /// If it is missing or not a directory.
    pub fn open(dir: &Path) -> io::Result<Top> {
        let fd = open(dir, OFlag::O_CLOEXEC | OFlag::O_DIRECTORY, Mode::empty())?;
        Ok(Top { fd, way: Vec::new() })
    }

    /// The directory that holds `below`, and its name there. Cheap if the last call was for a path nearby.
    fn parent<'a>(&mut self, below: &'a Path) -> io::Result<(BorrowedFd<'_>, &'a OsStr)> {
        let mut parts = Vec::new();
        for part in below.components() {
            let Component::Normal(name) = part else { return Err(Errno::EINVAL.into()) };
            parts.push(name);
        }
        let name = parts.pop().ok_or(Errno::EINVAL)?;
        let same = self.way.iter().zip(&parts).take_while(|((open, _), part)| open == *part).count();
        self.way.truncate(same);
        for part in &parts[same..] {
            let above = self.way.last().map_or(self.fd.as_fd(), |(_, fd)| fd.as_fd());
            let fd = openat(above, *part, DIRECTORY, Mode::empty())?;
            self.way.push(((*part).to_owned(), fd));
        }
        Ok((self.way.last().map_or(self.fd.as_fd(), |(_, fd)| fd.as_fd()), name))
    }

    /// `lstat` of `below`.
    ///
    /// # Errors
    /// `ENOENT` if it is missing, `ENOTDIR` or `ELOOP` if a symlink is on the way.
    pub fn stat(&mut self, below: &Path) -> io::Result<FileStat> {
        let (dir, name) = self.parent(below)?;
        Ok(fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// The target of a symlink.
    ///
    /// # Errors
    /// If it is not a symlink, and those of [`Top::stat`].
    pub fn read_link(&mut self, below: &Path) -> io::Result<OsString> {
        let (dir, name) = self.parent(below)?;
        Ok(readlinkat(dir, name)?)
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// If it is anything else, and those of [`Top::stat`].
    pub fn file(&mut self, below: &Path) -> io::Result<File> {
        let (dir, name) = self.parent(below)?;
        // Opening a FIFO that has no writer would block forever.
        let how = OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = File::from(openat(dir, name, how, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
    }

    /// The bytes of a regular file of at most this size.
    ///
    /// # Errors
    /// If it is longer, and those of [`Top::file`].
    pub fn read(&mut self, below: &Path, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(below)?.take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(io::Error::other(format!("it is longer than {most} bytes")));
        }
        Ok(bytes)
    }
}

/// Visits everything below `below` in `top` (all of `top` if `below` is empty) without following symlinks.
/// For a directory, `visit` returns whether to descend into it.
///
/// # Errors
/// If a directory cannot be listed, and those of `visit`. A directory that has vanished meanwhile counts as
/// empty.
pub fn walk(
    top: &Path,
    below: &Path,
    visit: &mut impl FnMut(&Path, Kind) -> io::Result<bool>,
) -> io::Result<()> {
    let mut todo = vec![below.to_owned()];
    let mut opener = Top::open(top)?;
    while let Some(here) = todo.pop() {
        let opened = if here.as_os_str().is_empty() {
            openat(&opener.fd, ".", DIRECTORY, Mode::empty())
        } else {
            let (dir, name) = match opener.parent(&here) {
                Ok(found) => found,
                Err(error) if gone(&error) => continue,
                Err(error) => return Err(error),
            };
            openat(dir, name, DIRECTORY, Mode::empty())
        };
        let fd = match opened.map_err(io::Error::from) {
            Ok(fd) => fd,
            Err(error) if gone(&error) => continue,
            Err(error) => return Err(error),
        };
        for entry in Dir::from_fd(fd)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let path = here.join(name);
            let kind = match entry.file_type() {
                Some(Type::File) => Kind::File,
                Some(Type::Symlink) => Kind::Link,
                Some(Type::Directory) => Kind::Dir,
                Some(Type::Fifo) => Kind::Special("a FIFO"),
                Some(Type::Socket) => Kind::Special("a socket"),
                Some(Type::CharacterDevice | Type::BlockDevice) => Kind::Special("a device"),
                // Some file systems do not report the type.
                None => match opener.stat(&path) {
                    Ok(stat) => Kind::of(stat.st_mode),
                    Err(error) if gone(&error) => continue,
                    Err(error) => return Err(error),
                },
            };
            if visit(&path, kind)? && kind == Kind::Dir {
                todo.push(path);
            }
        }
    }
    Ok(())
}

/// Whether the error means that the path does not exist, or that a symlink is on the way to it.
pub fn gone(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP))
}

/// Whether a symlink leads out of the directory that its path is relative to, also through other symlinks.
/// `target` returns where a path leads if it is a symlink itself.
///
/// A lexical check is not enough: with `l -> .`, `l/l/../..` never goes above the top by its names, but leads
/// two levels up.
pub fn leads_out(link: &Path, target: impl Fn(&Path) -> Option<PathBuf>) -> bool {
    const HOPS: usize = 40;
    let mut here = PathBuf::new();
    let mut todo: VecDeque<OsString> = link.iter().map(OsStr::to_owned).collect();
    let mut hops = 0;
    while let Some(part) = todo.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::Normal(name)) => here.push(name),
            Some(Component::ParentDir) if !here.pop() => return true,
            Some(Component::RootDir | Component::Prefix(_)) => return true,
            Some(Component::ParentDir | Component::CurDir) | None => continue,
        }
        if let Some(to) = target(&here) {
            hops += 1;
            if hops > HOPS {
                return true;
            }
            here.pop();
            for part in to.components().rev() {
                todo.push_front(part.as_os_str().to_owned());
            }
        }
    }
    false
}

#[cfg(test)]
mod tests;
