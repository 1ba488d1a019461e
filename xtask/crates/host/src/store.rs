// SPDX-License-Identifier: MIT OR Apache-2.0
//! Persistent files: the cache with its keys and locks, and one directory per run.

mod cache;
mod inventory;
mod kind;
mod remove;
mod run_dir;
mod seal;
mod walk;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub use crate::store::cache::Cache;
pub use crate::store::cache::Lock;
pub use crate::store::cache::Scratch;
pub use crate::store::inventory::Inventory;
pub use crate::store::inventory::Prune;
pub use crate::store::inventory::Pruned;
pub use crate::store::inventory::ROOM;
pub use crate::store::inventory::free_space;
pub use crate::store::inventory::make_room;
pub use crate::store::inventory::prune;
pub use crate::store::kind::CacheKind;
pub use crate::store::remove::remove_tree;
pub use crate::store::run_dir::KEPT_RUNS;
pub use crate::store::run_dir::RUN_BYTES;
pub use crate::store::run_dir::RunDir;
pub use crate::store::run_dir::bound;
pub use crate::store::run_dir::bound_unfinished;
pub use crate::store::run_dir::keep_newest;
pub use crate::store::seal::SEAL;

/// Directories that this process writes to, so that an error can name a full one: many programs fail without
/// saying why.
static PLACES: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A disk with less free space is full. Not 0, since failed programs free some by removing unfinished files.
const NO_ROOM: u64 = 1 << 20;

/// The same for the number of files.
const FEW_FILES: u64 = 32;

fn remember_place(path: &Path) {
    PLACES.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
}

/// A directory of ours on a file system that is out of space or inodes.
pub fn full_place() -> Option<PathBuf> {
    let full = |place: &&PathBuf| {
        let stat = nix::sys::statvfs::statvfs(place.as_path());
        stat.is_ok_and(|stat| {
            stat.blocks_available() * stat.fragment_size() < NO_ROOM
                || (stat.files() > 0 && stat.files_available() < FEW_FILES)
        })
    };
    PLACES.lock().unwrap_or_else(PoisonError::into_inner).iter().find(full).cloned()
}

/// A name of a user's path for the origin in keys: relative to `VMTEST_ORIGIN_BASE` if the path is below
/// that, else absolute. So CI jobs with checkouts at different paths can share one cache.
pub fn origin_name(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    let base = std::env::var_os("VMTEST_ORIGIN_BASE").filter(|base| !base.is_empty());
    let base = base.and_then(|base| Path::new(&base).canonicalize().ok());
    match base.and_then(|base| path.strip_prefix(base).ok().map(Path::to_owned)) {
        // An absolute path cannot start like this.
        Some(below) => [b"below the base: ", below.as_os_str().as_bytes()].concat(),
        None => path.as_os_str().as_bytes().to_vec(),
    }
}
