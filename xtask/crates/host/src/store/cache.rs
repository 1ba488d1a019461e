// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cache. An entry is made under a temporary name, synced and renamed, so a half-made one is never seen. Two runs at
//! once are safe: who makes an entry holds its lock, and who uses one holds a shared lock on it, so that it is not removed
//! meanwhile. The kernel drops all of these locks when a process ends, however it ends.
//!
//! What is made once and then only read is sealed ([`seal`](crate::store::seal)) and checked against that when it is opened. An
//! entry that is damaged, or was never sealed, is removed and reported; to its user it is not there, and so it is made again.

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

/// The cache: everything in it can be made again.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    /// Entries that this process uses.
    held: Arc<Mutex<HashMap<PathBuf, Flock<File>>>>,
    /// Entries that this process compared with their seals, or made.
    checked: Arc<Mutex<HashSet<PathBuf>>>,
    /// What is to be reported of entries that were removed.
    removed: Arc<Mutex<Vec<String>>>,
    /// Removes what killed runs left; absent where they left nothing.
    tidying: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// A lock that is held until it is dropped, also by a process that is killed.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Cache {
    /// Opens the cache in `VMTEST_CACHE_DIR`, else `$XDG_CACHE_HOME/vmtest`, else `~/.cache/vmtest`.
    ///
    /// # Errors
    /// When there is no such place, or it cannot be written.
    pub fn open() -> Result<Cache> {
        let cache = Cache::at(Cache::place()?)?;
        crate::reaper::begin(&cache.root.join("tmp"));
        Ok(cache)
    }

    /// Where the cache is, or would be.
    ///
    /// # Errors
    /// When no variable says where.
    pub fn place() -> Result<PathBuf> {
        match std::env::var_os("VMTEST_CACHE_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) => std::path::absolute(PathBuf::from(&dir)).on("cannot use VMTEST_CACHE_DIR", &dir),
            None => Ok(base_dir("XDG_CACHE_HOME", ".cache")?.join("vmtest")),
        }
    }

    /// Opens the cache in the directory `root`, an absolute path; makes it where it is missing and removes what killed
    /// runs left half-made.
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

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the entry of this kind and key is, or would be.
    pub fn path(&self, kind: CacheKind, key: &str) -> PathBuf {
        self.root.join(kind.name()).join(key)
    }

    /// The entry of this kind and key if it is complete and as it was made; from now on this process uses it, see
    /// [`Cache::hold`]. One that is damaged is removed. A source is looked at by [`Cache::verify`].
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
                // Whoever uses it is interrupted as well.
                Err(_) if interrupt::requested().is_some() => State::Whole,
                Err(error) => State::Damaged(error.summary()),
            }
        };
        self.remove_unless_whole(&path, state).then_some(path)
    }

    /// Compares the entry that this directory is with its seal, once for each process and whatever its kind; a directory
    /// outside of the cache is not ours to judge.
    ///
    /// # Errors
    /// When it is damaged; then it is removed, and may be made again.
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

    /// Once for each entry; others wait meanwhile, and do not use what may be damaged.
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

    /// Whether an entry can be used; one that cannot goes away in one step, whoever uses it: nothing good comes of it.
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

    /// Reports what was removed since the last time.
    pub fn report_removed(&self, bus: &Bus) {
        let said = std::mem::take(&mut *self.removed.lock().unwrap_or_else(PoisonError::into_inner));
        said.into_iter().for_each(|text| bus.warn(text));
    }

    /// Says that this process uses the entry at `path` from now until its end: nobody removes it meanwhile, and its time
    /// of last use is now. `false` where there is none.
    pub fn hold(&self, path: &Path) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(path).is_some_and(|file| is_at(file, path)) {
            return true;
        }
        loop {
            let Ok(file) = File::open(path) else { return false };
            // Who removes an entry holds the other kind of lock for the time of a rename.
            let Ok(file) = Flock::lock(file, FlockArg::LockShared) else { return false };
            if is_at(&file, path) {
                // A cache that may only be read has no time of last use.
                let _ = file.set_modified(SystemTime::now());
                held.insert(path.to_owned(), file);
                return true;
            }
        }
    }

    /// Takes [`Cache::hold`] back.
    pub fn release(&self, path: &Path) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    /// The entry of this kind and key; `make` fills the empty directory that it is given when there is none yet. The
    /// flag says whether it was there already.
    ///
    /// # Errors
    /// Those of `make`, and those of the file system. Nothing half-made stays.
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

    /// An empty directory on the cache's file system that goes away unless it is kept.
    pub fn scratch(&self) -> Result<Scratch> {
        let dir = tempfile::Builder::new()
            .prefix("t-")
            .tempdir_in(self.root.join("tmp"))
            .on("cannot create a scratch directory in", self.root.join("tmp"))?;
        let handle = File::open(dir.path()).on("cannot open", dir.path())?;
        // The lock tells a later run that this directory still has an owner.
        let lock = Flock::lock(handle, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .on("cannot lock", dir.path())?;
        killpoint("scratch");
        Ok(Scratch { dir: Some(dir), lock, cache: self.clone() })
    }

    /// Waits for the named lock, and says so when it has to.
    ///
    /// # Errors
    /// When it cannot be had, or when interrupted while waiting.
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

    /// Takes an entry away that nobody uses, and gives what it was under a name where nobody looks for it. `None` where it
    /// is in use, or not there.
    pub(super) fn take_away(&self, kind: CacheKind, key: &str) -> Result<Option<Doomed>> {
        let lock_path = self.root.join("locks").join(format!("{kind}-{key}"));
        let Some(lock) = try_lock(&lock_path)? else { return Ok(None) };
        let path = self.path(kind, key);
        let Some(handle) = unused(&path) else { return Ok(None) };
        let doomed = self.root.join("tmp").join(format!("t-{}", vmtest_base::files::nonce()));
        fs::rename(&path, &doomed).on("cannot remove", &path)?;
        killpoint("taken away");
        // Nobody waits with an old one in hand: who gets a lock looks whether it is still the one of that name.
        let _ = fs::remove_file(&lock_path);
        Ok(Some(Doomed { path: doomed, _handle: handle, _lock: lock }))
    }

    /// Of the entries of a kind whose names begin so, keeps those that were used last, and those that are in use.
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

    /// Whether a process makes or uses this entry.
    pub(super) fn is_used(&self, kind: CacheKind, key: &str) -> bool {
        let lock_path = self.root.join("locks").join(format!("{kind}-{key}"));
        let made =
            File::open(&lock_path).is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err());
        let path = self.path(kind, key);
        made || (unused(&path).is_none() && path.symlink_metadata().is_ok())
    }

    /// Removes scratch directories whose owner is gone, beside the work: what is left when the process ends waits for
    /// the next one.
    fn remove_leftovers(&self) {
        self.remove_half_files();
        let leftovers = self.leftovers(FRESH);
        if !leftovers.is_empty() {
            let remove = move || leftovers.iter().for_each(|(path, _lock)| remove_tree(path));
            *self.tidying.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::spawn(remove));
        }
    }

    /// Removes them now.
    pub(super) fn remove_leftovers_now(&self) {
        if let Some(tidying) = self.tidying.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // What it could not remove, the next run will.
            drop(tidying.join());
        }
        self.remove_half_files();
        self.leftovers(FRESH).iter().for_each(|(path, _lock)| remove_tree(path));
    }

    /// Small files that a killed process was writing beside entries that are files.
    fn remove_half_files(&self) {
        for kind in [CacheKind::SuiteSeen, CacheKind::Hashes, CacheKind::Tools] {
            for entry in fs::read_dir(self.path(kind, "")).into_iter().flatten().flatten() {
                let half = entry.file_name().to_string_lossy().starts_with(vmtest_base::files::HALF);
                let age =
                    entry.metadata().and_then(|stat| stat.modified()).ok().and_then(|at| at.elapsed().ok());
                // It takes a moment to write one.
                if half && age.is_some_and(|age| age >= FRESH) {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
    }

    /// Scratch directories of this age whose owner is gone, locked for whoever removes them.
    fn leftovers(&self, at_least: Duration) -> Vec<(PathBuf, Flock<File>)> {
        let Ok(entries) = fs::read_dir(self.root.join("tmp")) else { return Vec::new() };
        let orphan = |entry: fs::DirEntry| {
            // One that was made a moment ago may not have its lock yet.
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

/// The lock of this file if nobody holds it.
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
            // Who removed the entry has removed this file as well: there may be another one of its name.
            Ok(file) if !is_at(&file, path) => (),
            Ok(file) => return Ok(Some(Lock { _file: file })),
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(errno).on("cannot lock", path),
        }
    }
}

/// Whether this open file is the one that `path` names now.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// What `path` names, locked against use; `None` where it is used, or not there.
fn unused(path: &Path) -> Option<Flock<File>> {
    let handle = opened(path)?;
    Flock::lock(handle, FlockArg::LockExclusiveNonblock).ok().filter(|handle| is_at(handle, path))
}

/// Opens an entry, to lock it. A build may have taken all permissions from a directory that it could write to.
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

/// An entry on its way out. Nobody can use it any more.
pub(super) struct Doomed {
    path: PathBuf,
    _handle: Flock<File>,
    _lock: Lock,
}

impl Doomed {
    /// Removes it; what cannot be removed is a leftover for the next run.
    pub(super) fn remove(self) {
        remove_tree(&self.path);
        // An entry that is a file.
        let _ = fs::remove_file(&self.path);
    }
}

/// A scratch directory younger than this is never taken for a leftover.
const FRESH: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
