// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a snapshot holds: the state of each file, by which changes are found, and a hash of its content, of which the
//! snapshot's key is made. So a tree has one key wherever it was checked out, and whenever.

use crate::source::tree::{Entry, SYMLINK, Stamp};
use vmtest_base::key::Key;

/// A file of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// Its path and state.
    pub(super) entry: Entry,
    /// SHA-256 of its content, or of a link's target, as hex digits.
    pub(super) hash: String,
    /// The file was as new as the reading of it: an edit a moment later may have left its state as it is, so it is read
    /// again. (Git calls such an entry of its index racy.)
    pub(super) fresh: bool,
}

impl Held {
    /// Whether the content of a file in this state is known.
    pub(super) fn is(&self, stamp: &Stamp) -> bool {
        !self.fresh && self.entry.stamp == *stamp
    }
}

/// The list as bytes, for the file.
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

/// The list in a file; `None` for an incomplete list, or one of an earlier version of the harness.
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

/// Of paths, contents, and what git would keep of a mode. Not of times: they are another in each checkout.
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
