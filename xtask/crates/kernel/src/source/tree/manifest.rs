// SPDX-License-Identifier: MIT OR Apache-2.0
//! The content of a snapshot: the stamp of each file, which reveals changes, and a hash of its content, which
//! goes into the snapshot's key. So the key of a tree does not depend on where and when it was checked out.

use crate::source::tree::{Entry, SYMLINK, Stamp};
use vmtest_base::key::Key;

/// A file of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// Its path and state.
    pub(super) entry: Entry,
    /// SHA-256 of its content, or of a symlink's target, as hex digits.
    pub(super) hash: String,
    /// The file was modified just before it was read: a later edit may have left its stamp unchanged, so it
    /// is read again next time. (git calls such an index entry racy.)
    pub(super) fresh: bool,
}

impl Held {
    /// Whether the content of a file in this state is known.
    pub(super) fn is(&self, stamp: &Stamp) -> bool {
        !self.fresh && self.entry.stamp == *stamp
    }
}

/// Serializes the manifest.
pub(super) fn write(held: &[Held]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(held.len() * 190);
    for Held { entry: Entry { path, stamp }, hash, fresh } in held {
        let Stamp { mode, size, mtime, ctime, inode } = stamp;
        let fresh = if *fresh { "fresh" } else { "known" };
        let head = format!(
            "{mode:o} {size} {}.{} {}.{} {}.{} {fresh} {hash} ",
            mtime.0, mtime.1, ctime.0, ctime.1, inode.0, inode.1
        );
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(path);
        bytes.push(0);
    }
    bytes
}

/// Parses a manifest; `None` if it is incomplete or from an earlier version of the harness.
pub(super) fn parse(bytes: &[u8]) -> Option<Vec<Held>> {
    fn pair<T: std::str::FromStr>(word: &str) -> Option<(T, T)> {
        let (one, two) = word.split_once('.')?;
        Some((one.parse().ok()?, two.parse().ok()?))
    }
    let record = |record: &[u8]| {
        let mut parts = record.splitn(8, |byte| *byte == b' ');
        let mut word = || std::str::from_utf8(parts.next()?).ok();
        let mode = u32::from_str_radix(word()?, 8).ok()?;
        let size = word()?.parse().ok()?;
        let (mtime, ctime, inode) = (pair(word()?)?, pair(word()?)?, pair(word()?)?);
        let fresh = match word()? {
            "fresh" => true,
            "known" => false,
            _ => return None,
        };
        let hash =
            word().filter(|hash| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let hash = hash.to_owned();
        let stamp = Stamp { mode, size, mtime, ctime, inode };
        Some(Held { entry: Entry { path: parts.next()?.to_vec(), stamp }, hash, fresh })
    };
    bytes.strip_suffix(&[0])?.split(|byte| *byte == 0).map(record).collect()
}

/// Hash of paths, contents and the mode bits that git tracks. Not of times, which differ between checkouts.
pub(super) fn key(held: &[Held]) -> Key {
    let mut text = Vec::with_capacity(held.len() * 120);
    for Held { entry, hash, .. } in held {
        let kind = match entry.stamp.mode {
            mode if mode & crate::source::tree::FILE_TYPE == SYMLINK => b'l',
            mode if mode & 0o100 != 0 => b'x',
            _ => b'f',
        };
        text.extend_from_slice(&[kind, b' ']);
        text.extend_from_slice(hash.as_bytes());
        text.push(b' ');
        text.extend_from_slice(&entry.path);
        text.push(0);
    }
    Key::of("source tree 2").field("files", &text).finish()
}
