// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cache entries that are being made: scratch directories that become entries in one step, or go away.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use super::Cache;
use crate::store::CacheKind;
use crate::store::remove::remove_tree_while;
use crate::store::seal;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::{create_dir, killpoint};
use vmtest_base::interrupt;

/// How long an interrupted run tidies up.
const PATIENCE: Duration = Duration::from_secs(1);

/// An unfinished cache entry.
pub struct Scratch {
    pub(super) dir: Option<tempfile::TempDir>,
    pub(super) lock: Flock<File>,
    pub(super) cache: Cache,
}

impl Scratch {
    /// Where it is now.
    pub fn path(&self) -> &Path {
        self.dir.as_ref().map(tempfile::TempDir::path).unwrap_or_else(|| Path::new(""))
    }

    /// Seals it and makes it durable under its final name; an older entry of that name is replaced.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn keep_as(self, place: &Path) -> Result<PathBuf> {
        let kind = place.parent().and_then(Path::file_name).and_then(|kind| kind.to_str());
        if let Some(scope) = kind.and_then(CacheKind::named).and_then(seal::scope) {
            seal::write(self.path(), scope)?;
            killpoint("sealed");
            self.cache.checked().insert(place.to_owned());
        }
        // One call for the whole entry: syncing 90,000 source files one by one takes minutes.
        nix::unistd::syncfs(&self.lock as &File).on("cannot sync", self.path())?;
        killpoint("synced");
        self.keep_unsynced_as(place)
    }

    /// The same for what tells by itself whether it is whole, and is too large to wait for the disk.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn keep_unsynced_as(mut self, place: &Path) -> Result<PathBuf> {
        if let Some(parent) = place.parent() {
            create_dir(parent)?;
        }
        let Some(dir) = self.dir.as_ref() else { return Ok(place.to_owned()) };
        if place.exists() {
            // Away in one step, so that it is never seen half-removed.
            let old = self.cache.scratch()?;
            fs::rename(place, old.path().join("old")).on("cannot replace", place)?;
            killpoint("old one away");
        }
        fs::rename(dir.path(), place).on("cannot rename into place", place)?;
        killpoint("renamed");
        drop(self.dir.take().map(tempfile::TempDir::keep));
        // Until now nobody could take it away; from now on it is ours by use.
        self.lock.relock(FlockArg::LockShared).on("cannot lock", place)?;
        if !self.cache.hold(place) {
            return Err(Error::host(format!("{} was removed at once", place.display()))
                .next("something prunes this cache all the time: run it again without that"));
        }
        Ok(place.to_owned())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(dir) = self.dir.take() else { return };
        // Half a kernel tree takes long to remove on a busy disk, and nobody who pressed Ctrl-C waits for that: the
        // rest is a leftover, which the next run removes.
        let until = Instant::now() + PATIENCE;
        remove_tree_while(&dir.keep(), || interrupt::requested().is_none() || Instant::now() < until);
    }
}
