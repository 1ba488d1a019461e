// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cache entries under construction: scratch directories that become entries in one step or are removed.

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

/// How long an interrupted run cleans up.
const PATIENCE: Duration = Duration::from_secs(1);

/// An unfinished cache entry.
pub struct Scratch {
    pub(super) dir: Option<tempfile::TempDir>,
    pub(super) lock: Flock<File>,
    pub(super) cache: Cache,
}

impl Scratch {
    pub fn path(&self) -> &Path {
        self.dir.as_ref().map(tempfile::TempDir::path).unwrap_or_else(|| Path::new(""))
    }

    /// Seals it and syncs it under its final name. Replaces an older entry of that name.
    ///
    /// # Errors
    /// Those of the file system.
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

    /// The same without seal and sync, for an entry that can tell by itself whether it is complete and is too
    /// large to sync.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn keep_unsynced_as(mut self, place: &Path) -> Result<PathBuf> {
        if let Some(parent) = place.parent() {
            create_dir(parent)?;
        }
        let Some(dir) = self.dir.as_ref() else { return Ok(place.to_owned()) };
        if place.exists() {
            // Moved away in one step, so that it is never visible half removed.
            let old = self.cache.scratch()?;
            fs::rename(place, old.path().join("old")).on("cannot replace", place)?;
            killpoint("old one away");
        }
        fs::rename(dir.path(), place).on("cannot rename into place", place)?;
        killpoint("renamed");
        drop(self.dir.take().map(tempfile::TempDir::keep));
        // The scratch lock protected it so far; now the shared lock of a user does.
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
        // Removing half a kernel tree takes long on a busy disk, too long to wait for after Ctrl-C. The next
        // run removes the rest.
        let until = Instant::now() + PATIENCE;
        remove_tree_while(&dir.keep(), || interrupt::requested().is_none() || Instant::now() < until);
    }
}
