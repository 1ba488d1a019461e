// SPDX-License-Identifier: MIT OR Apache-2.0
//! The seal of a cache entry: a record of every file when the entry was made. An entry is checked against its
//! seal before it is used.
//!
//! The rule of the cache: *an entry may be shared only if everything that produced it was a function of its
//! key*. Either everything that ran to make it is in the key (a download with its checksum, a tool built only
//! from hashed files), or the key holds the origin of what ran and the set of files that make executes
//! ([`vmtest_kernel::executed`]). A seal shows that an entry is still what was made; it cannot show that the
//! right thing was made.
//!
//! A file whose size, mode, mtime and ctime match the seal counts as unchanged: no program can set a ctime,
//! so an overwritten file is noticed even if its size and mtime are restored. If any of them differs, the
//! content is hashed and decides. If that matches (a hard link was added, the cache was restored from an
//! archive), the new times are sealed.
//!
//! Limits: damage below the file system (a bad disk that reports no error) changes no times, and neither does
//! a write while the clock is set back to the tick of the first write. And anyone who can write to the cache
//! can also write a seal.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::store::kind::CacheKind;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::{HALF, write_file};
use vmtest_base::interrupt;
use vmtest_base::key::{hash_bytes, hash_file};

/// Name of the seal in the entry.
pub const SEAL: &str = ".vmtest-seal";
/// First line. A seal of another version is invalid.
const VERSION: &str = "vmtest seal 2";

/// Which files of an entry are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    /// For a build root: what is executed or loaded, and the names in the directories that contain such
    /// files. That is a third of 12,000 files.
    Executed,
}

/// How an entry of this kind is sealed; `None` for kinds that keep changing or have other checks.
pub(super) fn scope(kind: CacheKind) -> Option<Scope> {
    match kind {
        // Git, ccache, make and apt keep writing to these; a snapshot has its own manifest.
        CacheKind::Git | CacheKind::Objects | CacheKind::Ccache | CacheKind::Apt | CacheKind::Trees => None,
        // Single files that are written atomically.
        kind if kind.is_fact() => None,
        CacheKind::Root => Some(Scope::Executed),
        _ => Some(Scope::All),
    }
}

/// Whether it is checked only before something is built from it: checking 90,000 files takes longer than a
/// whole run with a cached kernel.
pub(super) fn is_lazy(kind: CacheKind) -> bool {
    kind == CacheKind::Source
}

/// Result of a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Unchanged.
    Whole,
    /// Without a seal: an earlier version of the harness made it.
    Unsealed,
    /// Changed; with the evidence.
    Damaged(String),
}

/// The sealed state of a file, symlink or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    stamp: Stamp,
    /// Of the content, of a symlink's target, or of the names in a directory.
    hash: String,
    path: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    mode: u32,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> std::io::Result<Stamp> {
        let stat = fs::symlink_metadata(path)?;
        Ok(Stamp {
            mode: stat.mode(),
            // The size of a directory depends on the file system.
            size: if stat.is_dir() { 0 } else { stat.size() },
            modified: (stat.mtime(), stat.mtime_nsec()),
            changed: (stat.ctime(), stat.ctime_nsec()),
        })
    }

    /// For [`digest`].
    fn bytes(&self) -> [u8; 44] {
        let mut bytes = [0; 44];
        bytes[..4].copy_from_slice(&self.mode.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.size.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.modified.0.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.modified.1.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.changed.0.to_le_bytes());
        bytes[36..].copy_from_slice(&self.changed.1.to_le_bytes());
        bytes
    }

    fn kind(&self) -> u32 {
        self.mode & 0o170_000
    }

    /// Whether everything but the times is equal.
    fn is_alike(&self, other: &Stamp) -> bool {
        (self.mode, self.size) == (other.mode, other.size)
    }
}

const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const FILE: u32 = 0o100_000;

/// Writes the seal of a finished entry.
///
/// # Errors
/// If a file cannot be read or the seal cannot be written.
pub(super) fn write(entry: &Path, scope: Scope) -> Result<()> {
    let paths = list(entry, scope)?;
    let lines = each(&paths, |path| {
        let whole = entry.join(path);
        let stamp = Stamp::of(&whole).on("cannot look at", &whole)?;
        let hash = content(&whole, &stamp).on("cannot read", &whole)?;
        Ok(Line { stamp, hash, path: path.clone() })
    })?;
    store(entry, &lines)
}

/// Layout: [`VERSION`], the number of lines, a digest of all stamps, all paths, all lines, and a hash of all
/// that, separated by NULs. The paths and the digest come first, because most checks need nothing else.
fn store(entry: &Path, lines: &[Line]) -> Result<()> {
    let stamps: Vec<[u8; 44]> = lines.iter().skip(1).map(|line| line.stamp.bytes()).collect();
    let mut bytes = format!("{VERSION}\0{}\0{}\0", lines.len(), digest(&stamps)).into_bytes();
    for line in lines {
        bytes.extend_from_slice(line.path.as_os_str().as_bytes());
        bytes.push(0);
    }
    for Line { stamp: Stamp { mode, size, modified, changed }, hash, path: _ } in lines {
        let times = format!("{}.{} {}.{}", modified.0, modified.1, changed.0, changed.1);
        bytes.extend_from_slice(format!("{mode:o} {size} {times} {hash}\0").as_bytes());
    }
    let sum = hash_bytes(&bytes);
    bytes.extend_from_slice(sum.as_bytes());
    write_file(&entry.join(SEAL), bytes)
}

/// Of all stamps but that of the entry itself, whose mtime is its time of last use.
fn digest(stamps: &[[u8; 44]]) -> String {
    hash_bytes(stamps.as_flattened())
}

/// A parsed seal.
struct Sealed<'a> {
    digest: &'a [u8],
    paths: Vec<&'a Path>,
    /// Parsed only if the digest differs.
    lines: std::slice::Split<'a, u8, fn(&u8) -> bool>,
}

fn parse(bytes: &[u8]) -> Option<Sealed<'_>> {
    const SUM: usize = 64;
    let (text, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM)?)?;
    if hash_bytes(text).as_bytes() != sum {
        return None;
    }
    // With memchr: in an unoptimized build a loop over bytes would take most of the time.
    let mut ends = memchr::memchr_iter(0, text);
    let mut from = 0;
    let mut next = || {
        let end = ends.next()?;
        let part = text.get(from..end)?;
        from = end + 1;
        Some(part)
    };
    if next()? != VERSION.as_bytes() {
        return None;
    }
    let count: usize = std::str::from_utf8(next()?).ok()?.parse().ok()?;
    let digest = next()?;
    let mut paths = Vec::with_capacity(count.min(text.len()));
    for _ in 0..count {
        paths.push(Path::new(OsStr::from_bytes(next()?)));
    }
    let is_end: fn(&u8) -> bool = |byte| *byte == 0;
    Some(Sealed { digest, paths, lines: text.get(from..)?.split(is_end) })
}

impl Sealed<'_> {
    /// The lines that still have to be compared: if no stamp differs, only the one of the top directory.
    /// `None` if a line is invalid.
    fn top_or_all(mut self, same: bool) -> Option<Vec<Line>> {
        if same {
            self.paths.truncate(1);
        }
        let line = |(path, line): (&Path, &[u8])| {
            let mut words = std::str::from_utf8(line).ok()?.split(' ');
            let time = |word: &str| {
                let (seconds, nanoseconds) = word.split_once('.')?;
                Some((seconds.parse().ok()?, nanoseconds.parse().ok()?))
            };
            let mode = u32::from_str_radix(words.next()?, 8).ok()?;
            let size = words.next()?.parse().ok()?;
            let (modified, changed) = (time(words.next()?)?, time(words.next()?)?);
            let hash = words.next()?.to_owned();
            Some(Line { stamp: Stamp { mode, size, modified, changed }, hash, path: path.to_owned() })
        };
        let count = self.paths.len();
        let lines: Vec<Line> =
            self.paths.into_iter().zip(self.lines).map(line).collect::<Option<Vec<_>>>()?;
        (lines.len() == count).then_some(lines)
    }
}

/// Compares an entry with its seal.
///
/// # Errors
/// If interrupted, or if a file cannot be read although it exists.
pub(super) fn check(entry: &Path) -> Result<State> {
    let seal = entry.join(SEAL);
    let bytes = match fs::read(&seal) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(State::Unsealed),
        Err(error) => return Err(error).on("cannot read", &seal),
    };
    let unreadable = || Ok(State::Damaged("its seal cannot be read".into()));
    let Some(sealed) = parse(&bytes) else { return unreadable() };
    let Some((top, below)) = sealed.paths.split_first() else { return unreadable() };
    let stamps = each(below, |path| Ok(Stamp::of(&entry.join(path)).map_or([0; 44], |stamp| stamp.bytes())))?;
    let same = top.as_os_str().is_empty() && digest(&stamps).as_bytes() == sealed.digest;
    let Some(mut lines) = sealed.top_or_all(same) else { return unreadable() };
    let seen = each(&lines, |line| look(entry, line))?;
    let mut renewed = false;
    for (line, seen) in lines.iter_mut().zip(seen) {
        match seen {
            Seen::Same => (),
            Seen::Touched(stamp) => (line.stamp, renewed) = (stamp, true),
            Seen::Other(why) => {
                return Ok(State::Damaged(format!("{} {why}", line.path.display())));
            }
        }
    }
    if renewed {
        // Fails in a read-only cache, which is then hashed each time.
        let _ = store(entry, &lines);
    }
    Ok(State::Whole)
}

enum Seen {
    Same,
    Touched(Stamp),
    Other(&'static str),
}

fn look(entry: &Path, line: &Line) -> Result<Seen> {
    let path = entry.join(&line.path);
    let now = match Stamp::of(&path) {
        Ok(now) => now,
        Err(error) if is_gone(&error) => return Ok(Seen::Other("is gone")),
        Err(error) => return Err(error).on("cannot look at", &path),
    };
    let is_top = line.path.as_os_str().is_empty();
    // The mtime of the top directory is the time of last use.
    if now == line.stamp && !is_top {
        return Ok(Seen::Same);
    }
    if now.kind() != line.stamp.kind() {
        return Ok(Seen::Other("is something else"));
    }
    if now.size != line.stamp.size {
        return Ok(Seen::Other("has another size"));
    }
    if !now.is_alike(&line.stamp) && !is_top {
        return Ok(Seen::Other("has another mode"));
    }
    match content(&path, &now) {
        Ok(hash) if hash == line.hash => Ok(if is_top { Seen::Same } else { Seen::Touched(now) }),
        Ok(_) if now.kind() == DIRECTORY => Ok(Seen::Other("holds other names")),
        Ok(_) => Ok(Seen::Other("has another content")),
        Err(error) if is_gone(&error) => Ok(Seen::Other("is gone")),
        // A file that the disk cannot read is damaged, too.
        Err(_) => Ok(Seen::Other("cannot be read")),
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

/// Hash of a file's content, a symlink's target or the names in a directory.
fn content(path: &Path, stamp: &Stamp) -> std::io::Result<String> {
    match stamp.kind() {
        LINK => Ok(hash_bytes(fs::read_link(path)?.as_os_str().as_bytes())),
        DIRECTORY => {
            let mut names = Vec::new();
            for entry in fs::read_dir(path)? {
                let name = entry?.file_name();
                // The seal itself, or its temporary file.
                if !name.as_bytes().starts_with(HALF.as_bytes()) {
                    names.push(name);
                }
            }
            names.sort();
            let joined: Vec<u8> = names.iter().flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect();
            Ok(hash_bytes(&joined))
        }
        FILE => hash_file(path).map_err(|error| std::io::Error::other(error.to_string())),
        // A device or FIFO has no content to hash.
        _ => Ok(String::from("-")),
    }
}

/// Paths below the entry that are sealed, the entry itself first.
fn list(entry: &Path, scope: Scope) -> Result<Vec<PathBuf>> {
    let mut paths = BTreeSet::from([PathBuf::new()]);
    for found in walkdir::WalkDir::new(entry).follow_root_links(false).min_depth(1) {
        let found = found.map_err(std::io::Error::from).on("cannot walk", entry)?;
        let Ok(below) = found.path().strip_prefix(entry) else { continue };
        if found.depth() == 1 && below.as_os_str().as_bytes().starts_with(HALF.as_bytes()) {
            continue;
        }
        match scope {
            Scope::All => drop(paths.insert(below.to_owned())),
            Scope::Executed if found.depth() == 1 => drop(paths.insert(below.to_owned())),
            Scope::Executed if is_executed(&found) => {
                paths.insert(below.to_owned());
                // A program added to this directory could be found before others on PATH.
                paths.extend(below.parent().map(Path::to_owned));
            }
            Scope::Executed => (),
        }
    }
    Ok(paths.into_iter().collect())
}

/// Programs, libraries and files that interpreters load.
fn is_executed(found: &walkdir::DirEntry) -> bool {
    let name = found.file_name().to_string_lossy();
    let loaded =
        name.contains(".so") || [".py", ".pm", ".pl", ".a", ".o"].iter().any(|end| name.ends_with(end));
    let runs = || found.metadata().is_ok_and(|stat| stat.is_file() && stat.mode() & 0o111 != 0);
    found.file_type().is_file() && (loaded || runs())
}

/// Calls `work` for each item, using up to 8 threads.
fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    // Fewer items are done sooner than a thread starts.
    let share = items.len().div_ceil(threads).max(64);
    let work = &work;
    let parts: Vec<Result<Vec<R>>> = std::thread::scope(|scope| {
        let one = |items| {
            scope.spawn(move || {
                let mut done = Vec::new();
                for (at, item) in <[T]>::iter(items).enumerate() {
                    if at % 256 == 0 {
                        interrupt::check()?;
                    }
                    done.push(work(item)?);
                }
                Ok(done)
            })
        };
        let workers: Vec<_> = items.chunks(share).map(one).collect();
        workers.into_iter().map(vmtest_base::thread::join).collect()
    });
    parts.into_iter().try_fold(Vec::with_capacity(items.len()), |mut all, part| {
        all.extend(part?);
        Ok::<_, Error>(all)
    })
}

#[cfg(test)]
mod tests;
