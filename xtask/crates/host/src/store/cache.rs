// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cache. An entry is made under a temporary name, synced and renamed, so an incomplete one is never
//! visible. Concurrent runs are safe: a process that makes an entry holds its lock, and one that uses an
//! entry holds a shared lock on it so that it is not removed meanwhile. The kernel releases these locks
//! however a process ends.
//!
//! Entries that never change are sealed ([`seal`](crate::store::seal)) and checked against the seal when they
//! are opened. An entry that is damaged or was never sealed is removed and reported. To its user it is
//! missing, so it is made again.

mod scratch;

pub use scratch::Scratch;

use crate::store::CacheKind;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use vmtest_base::places::base_dir;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::store::remove::remove_tree;
use crate::store::seal::{self, State};
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::event::Bus;
use vmtest_base::files::{create_dir, killpoint};
use vmtest_base::interrupt;

/// The cache. Everything in it can be rebuilt.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    /// Entries that this process uses, with their locks.
    held: Arc<Mutex<HashMap<PathBuf, Flock<File>>>>,
    /// Entries that this process compared with their seals, or made.
    checked: Arc<Mutex<HashSet<PathBuf>>>,
    /// Reports about removed entries, not yet printed.
    removed: Arc<Mutex<Vec<String>>>,
    /// The thread that removes what killed runs left behind, if any.
    tidying: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// A lock that is held until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Cache {
    /// Opens the cache in `VMTEST_CACHE_DIR`, else `$XDG_CACHE_HOME/vmtest`, else `~/.cache/vmtest`.
    ///
    /// # Errors
    /// If neither a variable nor HOME names a directory, or it cannot be written.
    pub fn open() -> Result<Cache> {
        let cache = Cache::at(Cache::place()?)?;
        crate::reaper::begin(&cache.root.join("tmp"));
        Ok(cache)
    }

    /// Where the cache is, or would be.
    ///
    /// # Errors
    /// If neither a variable nor HOME names a directory.
    pub fn place() -> Result<PathBuf> {
        match std::env::var_os("VMTEST_CACHE_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) => std::path::absolute(PathBuf::from(&dir)).on("cannot use VMTEST_CACHE_DIR", &dir),
            None => Ok(base_dir("XDG_CACHE_HOME", ".cache")?.join("vmtest")),
        }
    }

    /// Opens the cache in the absolute path `root`. Creates it if it is missing, and removes incomplete
    /// entries of killed runs.
    pub fn at(root: PathBuf) -> Result<Cache> {
        let cache = Cache {
            root,
            held: Arc::default(),
            checked: Arc::default(),
            removed: Arc::default(),
            tidying: Arc::default(),
        };
        for dir in ["tmp", "locks"] {
            create_dir(&cache.root.join(dir))?;
        }
        crate::store::remember_place(&cache.root);
        cache.remove_leftovers();
        Ok(cache)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the entry of this kind and key is, or would be.
    pub fn path(&self, kind: CacheKind, key: &str) -> PathBuf {
        self.root.join(kind.name()).join(key)
    }

    /// The entry of this kind and key, if it is complete and undamaged; this process now holds it, see
    /// [`Cache::hold`]. A damaged one is removed. The content of a source is checked by [`Cache::verify`]
    /// instead.
    pub fn get(&self, kind: CacheKind, key: &str) -> Option<PathBuf> {
        let path = Some(self.path(kind, key)).filter(|path| self.hold(path))?;
        if seal::scope(kind).is_none() {
            return Some(path);
        }
        let state = if seal::is_lazy(kind) && path.join(seal::SEAL).is_file() {
            State::Whole
        } else {
            match self.compare(&path) {
                Ok(state) => state,
                // The user of the entry gets interrupted as well.
                Err(_) if interrupt::requested().is_some() => State::Whole,
                Err(error) => State::Damaged(error.summary()),
            }
        };
        self.remove_unless_whole(&path, state).then_some(path)
    }

    /// Compares the entry at `dir` with its seal, once per process and whatever its kind. Accepts any
    /// directory that is not a sealed entry of this cache.
    ///
    /// # Errors
    /// If it is damaged. Then it has been removed and can be made again.
    pub fn verify(&self, bus: &Bus, dir: &Path) -> Result<()> {
        let entry = dir.strip_prefix(&self.root).ok().map(|below| below.iter().collect::<Vec<_>>());
        let Some([kind, _]) = entry.as_deref() else { return Ok(()) };
        if kind.to_str().and_then(CacheKind::named).is_none_or(|kind| seal::scope(kind).is_none()) {
            return Ok(());
        }
        let state = self.compare(dir)?;
        if self.remove_unless_whole(dir, state) {
            return Ok(());
        }
        self.report_removed(bus);
        Err(Error::host(format!("{} was damaged, and is removed", dir.display()))
            .next("run the same command again"))
    }

    /// Holds the lock while it compares, so that other threads wait and do not use a damaged entry.
    fn compare(&self, path: &Path) -> Result<State> {
        let mut checked = self.checked();
        if checked.contains(path) {
            return Ok(State::Whole);
        }
        let state = seal::check(path)?;
        if state == State::Whole {
            checked.insert(path.to_owned());
        }
        Ok(state)
    }

    fn checked(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an entry is usable. One that is not is moved away at once, even if it is in use.
    fn remove_unless_whole(&self, path: &Path, state: State) -> bool {
        let below = path.strip_prefix(&self.root).unwrap_or(path).display();
        let said = match state {
            State::Whole => return true,
            State::Unsealed => format!("{below} is of an earlier version, which did not seal what it made"),
            State::Damaged(why) => format!("{below} in the cache is damaged: {why}"),
        };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Another process may have replaced it meanwhile.
        let is_it = held.remove(path).is_some_and(|file| is_at(&file, path));
        drop(held);
        let gone = is_it
            && self.scratch().is_ok_and(|scratch| fs::rename(path, scratch.path().join("damaged")).is_ok());
        let then = if gone { "it is removed and made again" } else { "it is not used" };
        self.removed.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{said}; {then}"));
        false
    }

    /// Reports what was removed since the last call.
    pub fn report_removed(&self, bus: &Bus) {
        let said = std::mem::take(&mut *self.removed.lock().unwrap_or_else(PoisonError::into_inner));
        said.into_iter().for_each(|text| bus.warn(text));
    }

    /// Keeps the entry at `path` from being removed until this process ends or releases it, and sets its time
    /// of last use to now. `false` if it does not exist.
    pub fn hold(&self, path: &Path) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(path).is_some_and(|file| is_at(file, path)) {
            return true;
        }
        loop {
            let Ok(file) = File::open(path) else { return false };
            // A process that removes entries takes the exclusive lock only for the time of a rename.
            let Ok(file) = Flock::lock(file, FlockArg::LockShared) else { return false };
            if is_at(&file, path) {
                // Fails in a read-only cache, which keeps no time of last use.
                let _ = file.set_modified(SystemTime::now());
                held.insert(path.to_owned(), file);
                return true;
            }
        }
    }

    /// Undoes [`Cache::hold`].
    pub fn release(&self, path: &Path) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    /// The entry of this kind and key. If it does not exist yet, `make` fills the empty directory that it
    /// gets. The flag is true if the entry existed.
    ///
    /// # Errors
    /// Those of `make` and those of the file system. No incomplete entry is left.
    pub fn get_or_make(
        &self,
        bus: &Bus,
        kind: CacheKind,
        key: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<(PathBuf, bool)> {
        if let Some(path) = self.get(kind, key) {
            return Ok((path, true));
        }
        self.report_removed(bus);
        let _lock = self.lock(bus, kind, key)?;
        if let Some(path) = self.get(kind, key) {
            return Ok((path, true));
        }
        let scratch = self.scratch()?;
        make(scratch.path())?;
        Ok((scratch.keep_as(&self.path(kind, key))?, false))
    }

    /// An empty directory on the cache's file system that is removed unless it is kept.
    pub fn scratch(&self) -> Result<Scratch> {
        let dir = tempfile::Builder::new()
            .prefix("t-")
            .tempdir_in(self.root.join("tmp"))
            .on("cannot create a scratch directory in", self.root.join("tmp"))?;
        let handle = File::open(dir.path()).on("cannot open", dir.path())?;
        // The lock shows other runs that this directory still has an owner.
        let lock = Flock::lock(handle, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .on("cannot lock", dir.path())?;
        killpoint("scratch");
        Ok(Scratch { dir: Some(dir), lock, cache: self.clone() })
    }

    /// Waits for the lock of an entry, and prints a note if it has to wait.
    ///
    /// # Errors
    /// If it cannot be taken, or if interrupted while waiting.
    pub fn lock(&self, bus: &Bus, kind: CacheKind, key: &str) -> Result<Lock> {
        let path = self.root.join("locks").join(format!("{kind}-{key}"));
        let mut said = false;
        loop {
            interrupt::check()?;
            match try_lock(&path)? {
                Some(lock) => return Ok(lock),
                None => {
                    if !said {
                        bus.note(format!(
                            "waiting for another run, or another kernel of this one, that holds {}",
                            path.display()
                        ));
                        said = true;
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    /// Moves an unused entry to a temporary name, where no lookup finds it. `None` if it is in use or
    /// missing.
    pub(super) fn take_away(&self, kind: CacheKind, key: &str) -> Result<Option<Doomed>> {
        let lock_path = self.root.join("locks").join(format!("{kind}-{key}"));
        let Some(lock) = try_lock(&lock_path)? else { return Ok(None) };
        let path = self.path(kind, key);
        let Some(handle) = unused(&path) else { return Ok(None) };
        let doomed = self.root.join("tmp").join(format!("t-{}", vmtest_base::files::nonce()));
        fs::rename(&path, &doomed).on("cannot remove", &path)?;
        killpoint("taken away");
        // Safe for waiting processes: after locking, they check that their file is still the one with that
        // name.
        let _ = fs::remove_file(&lock_path);
        Ok(Some(Doomed { path: doomed, _handle: handle, _lock: lock }))
    }

    /// Removes entries of a kind whose names start with `prefix`, except for the `count` most recently used
    /// ones and any in use.
    pub fn keep_newest(&self, kind: CacheKind, prefix: &str, count: usize) -> Result<()> {
        let entries = fs::read_dir(self.path(kind, "")).into_iter().flatten().flatten();
        let mut found: Vec<(SystemTime, String)> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok().filter(|name| name.starts_with(prefix))?;
                Some((entry.metadata().and_then(|stat| stat.modified()).ok()?, name))
            })
            .collect();
        found.sort();
        let surplus = found.len().saturating_sub(count);
        for (_, name) in found.into_iter().take(surplus) {
            self.take_away(kind, &name)?.into_iter().for_each(Doomed::remove);
        }
        Ok(())
    }

    /// Whether a process is making or using this entry.
    pub(super) fn is_used(&self, kind: CacheKind, key: &str) -> bool {
        let lock_path = self.root.join("locks").join(format!("{kind}-{key}"));
        let made =
            File::open(&lock_path).is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err());
        let path = self.path(kind, key);
        made || (unused(&path).is_none() && path.symlink_metadata().is_ok())
    }

    /// Removes scratch directories whose owner is gone, in a background thread. If the process ends before it
    /// is done, the next one continues.
    fn remove_leftovers(&self) {
        self.remove_half_files();
        let leftovers = self.leftovers(FRESH);
        if !leftovers.is_empty() {
            let remove = move || leftovers.iter().for_each(|(path, _lock)| remove_tree(path));
            *self.tidying.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::spawn(remove));
        }
    }

    /// The same, but waits for it.
    pub(super) fn remove_leftovers_now(&self) {
        if let Some(tidying) = self.tidying.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The next run removes the rest.
            drop(tidying.join());
        }
        self.remove_half_files();
        self.leftovers(FRESH).iter().for_each(|(path, _lock)| remove_tree(path));
    }

    /// Removes temporary files that a killed process left next to entries that are files.
    fn remove_half_files(&self) {
        for kind in [CacheKind::SuiteSeen, CacheKind::Hashes, CacheKind::Tools] {
            for entry in fs::read_dir(self.path(kind, "")).into_iter().flatten().flatten() {
                let half = entry.file_name().to_string_lossy().starts_with(vmtest_base::files::HALF);
                let age =
                    entry.metadata().and_then(|stat| stat.modified()).ok().and_then(|at| at.elapsed().ok());
                // Writing one takes only a moment.
                if half && age.is_some_and(|age| age >= FRESH) {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
    }

    /// Scratch directories of at least this age whose owner is gone, locked for removal.
    fn leftovers(&self, at_least: Duration) -> Vec<(PathBuf, Flock<File>)> {
        let Ok(entries) = fs::read_dir(self.root.join("tmp")) else { return Vec::new() };
        let orphan = |entry: fs::DirEntry| {
            // A new one may not have its lock yet.
            let age = entry.metadata().ok()?.modified().ok()?.elapsed().ok()?;
            let ours = entry.file_name().to_str()?.starts_with("t-");
            let handle =
                Some(entry.path()).filter(|_| ours && age >= at_least).and_then(|path| opened(&path))?;
            let lock = Flock::lock(handle, FlockArg::LockExclusiveNonblock).ok()?;
            Some((entry.path(), lock))
        };
        entries.flatten().filter_map(orphan).collect()
    }
}

/// The lock of this file, unless it is taken.
fn try_lock(path: &Path) -> Result<Option<Lock>> {
    loop {
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o644)
            .open(path)
            .on("cannot open lock", path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            // The process that removed the entry also removed this file; there may be a new one of its name.
            Ok(file) if !is_at(&file, path) => (),
            Ok(file) => return Ok(Some(Lock { _file: file })),
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(errno).on("cannot lock", path),
        }
    }
}

/// Whether `path` still names this open file.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Opens and locks what `path` names against use; `None` if it is in use or missing.
fn unused(path: &Path) -> Option<Flock<File>> {
    let handle = opened(path)?;
    Flock::lock(handle, FlockArg::LockExclusiveNonblock).ok().filter(|handle| is_at(handle, path))
}

/// Opens an entry to lock it. A build may have removed all permissions from a directory that it could write.
fn opened(path: &Path) -> Option<File> {
    let denied = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    match File::open(path) {
        Err(error) if denied(&error) && path.symlink_metadata().is_ok_and(|stat| stat.is_dir()) => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).ok()?;
            File::open(path).ok()
        }
        opened => opened.ok(),
    }
}

/// An entry that is being removed and that no process can use any more.
pub(super) struct Doomed {
    path: PathBuf,
    _handle: Flock<File>,
    _lock: Lock,
}

impl Doomed {
    /// Removes it; whatever cannot be removed is left to the next run.
    pub(super) fn remove(self) {
        remove_tree(&self.path);
        // For an entry that is a file.
        let _ = fs::remove_file(&self.path);
    }
}

/// A scratch directory younger than this is never considered a leftover.
const FRESH: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
