// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading whole files, writing them atomically, and random names.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{IoContext, Result};

/// A point at which a test can kill this process with SIGKILL: `VMTEST_KILL_AT=N` kills it at the N-th such
/// point. Cache entries and records must be complete or absent for every N. `moment` only documents the call.
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

/// Creates a directory with its parents.
///
/// # Errors
/// Those of the file system.
pub fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).on("cannot create directory", path)
}

/// Prefix of temporary files that are still being written.
pub const HALF: &str = ".vmtest-";

/// Writes a file under a temporary name and renames it, so that a reader sees either the old or the new
/// content.
///
/// # Errors
/// Those of the file system.
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

/// Exchanges two directories of one file system in a single step; in two where the file system cannot do that.
///
/// # Errors
/// Those of the file system.
pub fn exchange(one: &Path, other: &Path) -> Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    match renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE) {
        Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOSYS) => (),
        done => return done.on("cannot replace", other),
    }
    let aside = one.with_extension("old");
    fs::rename(other, &aside).on("cannot rename", other)?;
    fs::rename(one, other).on("cannot rename into place", other)?;
    fs::rename(&aside, one).on("cannot rename", &aside)
}

/// Reads a text file.
///
/// # Errors
/// If it cannot be read or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).on("cannot read", path)
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
