// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where things are kept: the cache with its keys and locks, and one directory per run.

mod cache;
mod inventory;
mod key;
mod remove;
mod run;
mod seal;
mod walk;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, IoContext, Result};

pub use cache::{Cache, Lock, Scratch};
pub use inventory::{Inventory, Prune, Pruned, kind_about, prune};
pub use key::{Key, KeyBuilder, hash_bytes, hash_file};
pub use remove::remove_tree;
pub use run::{KEPT_RUNS, RUN_BYTES, RunDir, bound, bound_unfinished, keep_newest, runs_dir};
pub use seal::SEAL;

/// A moment at which a test may kill this process as the kernel would: `VMTEST_KILL_AT=N` at the N-th such moment. Entries
/// and records must be whole or absent whatever N is. `moment` is for whoever reads the code.
pub fn killpoint(_moment: &str) {
    #[cfg(debug_assertions)]
    {
        use std::sync::atomic::{AtomicU64, Ordering};
        static PASSED: AtomicU64 = AtomicU64::new(0);
        static AT: std::sync::LazyLock<Option<u64>> =
            std::sync::LazyLock::new(|| std::env::var("VMTEST_KILL_AT").ok()?.parse().ok());
        if let Some(at) = *AT {
            if PASSED.fetch_add(1, Ordering::SeqCst) + 1 == at {
                let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

/// Places that this process writes to, to name the one that is full: many programs fail there without saying why.
static PLACES: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// With less than this left a disk is full, whatever gave back what it had half written.
const NO_ROOM: u64 = 1 << 20;

/// The same, for the number of files.
const FEW_FILES: u64 = 32;

fn remember_place(path: &Path) {
    PLACES.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
}

/// A place of ours without room for more bytes, or for more files.
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

/// Creates a directory with its parents.
///
/// # Errors
/// When the file system refuses.
pub fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).on("cannot create directory", path)
}

/// How names of files begin that are being written.
const HALF: &str = ".vmtest-";

/// Writes a file under a temporary name and renames it, so that a reader sees the old or the new content.
///
/// # Errors
/// When the file system refuses.
pub fn write_file(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = tempfile::Builder::new().prefix(HALF).tempfile_in(dir);
    let mut file = made.on("cannot create a file in", dir)?;
    std::io::Write::write_all(&mut file, content.as_ref()).on("cannot write", path)?;
    file.as_file().sync_all().on("cannot sync", path)?;
    killpoint("written");
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).on("cannot set the mode of", path)?;
    file.persist(path).map_err(|error| error.error).on("cannot rename into place", path)?;
    killpoint("in place");
    Ok(())
}

/// Reads a text file.
///
/// # Errors
/// When it cannot be read or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).on("cannot read", path)
}

fn base_dir(variable: &str, below_home: &str) -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os(variable).map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        return Ok(dir);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    home.map(|home| home.join(below_home)).ok_or_else(|| {
        Error::host(format!("cannot find a place for files: neither {variable} nor HOME names a directory"))
            .next("set VMTEST_CACHE_DIR and XDG_STATE_HOME")
    })
}

/// Names a place of the user for origins: its path, or below the directory that `VMTEST_ORIGIN_BASE` names what is below
/// that. The jobs of a pipeline have their checkouts at different paths, and one cache.
pub fn origin_name(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    let base = std::env::var_os("VMTEST_ORIGIN_BASE").filter(|base| !base.is_empty());
    let base = base.and_then(|base| Path::new(&base).canonicalize().ok());
    match base.and_then(|base| path.strip_prefix(base).ok().map(Path::to_owned)) {
        // No path begins so.
        Some(below) => [b"below the base: ", below.as_os_str().as_bytes()].concat(),
        None => path.as_os_str().as_bytes().to_vec(),
    }
}

/// 16 random hex digits: a nonce that a stale or hostile guest cannot guess.
pub fn nonce() -> String {
    let mut bytes = [0_u8; 8];
    let read =
        File::open("/dev/urandom").and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    if read.is_err() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        bytes = (now.as_nanos() as u64 ^ u64::from(std::process::id()) << 32).to_le_bytes();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
