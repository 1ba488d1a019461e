// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where things are kept: the cache with its keys and locks, and one directory per run.
//!
//! A cache entry is made under a temporary name, synced and renamed, so a half-made one is never seen. Two runs at
//! once are safe: who makes an entry holds its lock.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use crate::error::{Error, IoContext, Result};
use crate::event::Bus;
use crate::interrupt;

/// Hash of everything that went into something, as 20 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    /// Begins a key; `kind` and its version keep keys of different things apart.
    pub fn of(kind: &str) -> KeyBuilder {
        KeyBuilder { hash: Sha256::new() }.field("kind", kind)
    }

    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

/// Collects what goes into a [`Key`]. Fields are framed by their length, so no two lists of fields collide.
pub struct KeyBuilder {
    hash: Sha256,
}

impl KeyBuilder {
    /// Adds a named field.
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> KeyBuilder {
        for part in [name.as_bytes(), value.as_ref()] {
            self.hash.update((part.len() as u64).to_le_bytes());
            self.hash.update(part);
        }
        self
    }

    /// The key.
    pub fn finish(self) -> Key {
        let digest = self.hash.finalize();
        Key(digest.iter().take(10).map(|byte| format!("{byte:02x}")).collect())
    }
}

/// SHA-256 of a file's content, as hex digits.
///
/// # Errors
/// When it cannot be read.
pub fn hash_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).on("cannot open", path)?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).on("cannot read", path)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The cache: everything in it can be made again.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
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
        let root = match std::env::var_os("VMTEST_CACHE_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) => std::path::absolute(PathBuf::from(&dir)).on("cannot use VMTEST_CACHE_DIR", &dir)?,
            None => base_dir("XDG_CACHE_HOME", ".cache")?.join("vmtest"),
        };
        Cache::at(root)
    }

    /// Opens the cache in the directory `root`, an absolute path; makes it where it is missing and removes what killed
    /// runs left half-made.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn at(root: PathBuf) -> Result<Cache> {
        let cache = Cache { root };
        for dir in ["tmp", "locks"] {
            create_dir(&cache.root.join(dir))?;
        }
        cache.remove_leftovers();
        Ok(cache)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the entry of this kind and key is, or would be.
    pub fn path(&self, kind: &str, key: &str) -> PathBuf {
        self.root.join(kind).join(key)
    }

    /// The entry of this kind and key if it is complete.
    pub fn get(&self, kind: &str, key: &str) -> Option<PathBuf> {
        Some(self.path(kind, key)).filter(|path| path.exists())
    }

    /// The entry of this kind and key; `make` fills the empty directory that it is given when there is none yet. The
    /// flag says whether it was there already.
    ///
    /// # Errors
    /// Those of `make`, and those of the file system. Nothing half-made stays.
    pub fn get_or_make(
        &self,
        bus: &Bus,
        kind: &str,
        key: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<(PathBuf, bool)> {
        if let Some(path) = self.get(kind, key) {
            return Ok((path, true));
        }
        let _lock = self.lock(bus, &format!("{kind}-{key}"))?;
        if let Some(path) = self.get(kind, key) {
            return Ok((path, true));
        }
        let scratch = self.scratch()?;
        make(scratch.path())?;
        Ok((scratch.keep_as(&self.path(kind, key))?, false))
    }

    /// An empty directory on the cache's file system that goes away unless it is kept.
    ///
    /// # Errors
    /// When it cannot be made.
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
        Ok(Scratch { dir: Some(dir), _lock: lock })
    }

    /// Waits for the named lock, and says so when it has to.
    ///
    /// # Errors
    /// When it cannot be had, or when interrupted while waiting.
    pub fn lock(&self, bus: &Bus, name: &str) -> Result<Lock> {
        let path = self.root.join("locks").join(name);
        let mut said = false;
        loop {
            interrupt::check()?;
            let file = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(false)
                .mode(0o644)
                .open(&path)
                .on("cannot open lock", &path)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => return Ok(Lock { _file: file }),
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                    if !said {
                        bus.note(format!("waiting for another run that holds {}", path.display()));
                        said = true;
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err((_, errno)) => return Err(errno).on("cannot lock", &path),
            }
        }
    }

    /// Removes scratch directories whose owner is gone, beside the work: what is left when the process ends waits for
    /// the next one.
    fn remove_leftovers(&self) {
        let leftovers = self.leftovers();
        if !leftovers.is_empty() {
            std::thread::spawn(move || leftovers.iter().for_each(|(path, _lock)| remove_tree(path)));
        }
    }

    /// Scratch directories whose owner is gone, locked for whoever removes them.
    fn leftovers(&self) -> Vec<(PathBuf, Flock<File>)> {
        let Ok(entries) = fs::read_dir(self.root.join("tmp")) else { return Vec::new() };
        let orphan = |entry: fs::DirEntry| {
            // One that was made a moment ago may not have its lock yet.
            let age = entry.metadata().ok()?.modified().ok()?.elapsed().ok()?;
            let handle = File::open(entry.path()).ok().filter(|_| age >= FRESH)?;
            let lock = Flock::lock(handle, FlockArg::LockExclusiveNonblock).ok()?;
            Some((entry.path(), lock))
        };
        entries.flatten().filter_map(orphan).collect()
    }
}

/// A scratch directory younger than this is never taken for a leftover.
const FRESH: Duration = Duration::from_secs(10);

/// How long an interrupted run tidies up.
const PATIENCE: Duration = Duration::from_secs(1);

/// An unfinished cache entry.
pub struct Scratch {
    dir: Option<tempfile::TempDir>,
    _lock: Flock<File>,
}

impl Scratch {
    /// Where it is now.
    pub fn path(&self) -> &Path {
        self.dir.as_ref().map(tempfile::TempDir::path).unwrap_or_else(|| Path::new(""))
    }

    /// Makes it durable under its final name; an older entry of that name is replaced.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn keep_as(mut self, place: &Path) -> Result<PathBuf> {
        if let Some(parent) = place.parent() {
            create_dir(parent)?;
        }
        let Some(dir) = self.dir.take() else { return Ok(place.to_owned()) };
        // One call for the whole entry: syncing 90,000 source files one by one takes minutes.
        nix::unistd::syncfs(&self._lock as &File).on("cannot sync", dir.path())?;
        let made = dir.keep();
        if place.exists() {
            remove_tree(place);
        }
        fs::rename(&made, place).on("cannot rename into place", place)?;
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

/// Removes a directory tree, also one with read-only directories in it (packages ship them); what cannot be removed
/// is left for the next run.
pub fn remove_tree(path: &Path) {
    remove_tree_while(path, || true);
}

/// Removes a directory tree as long as `go_on` says so.
fn remove_tree_while(path: &Path, go_on: impl Fn() -> bool) {
    use std::os::unix::fs::PermissionsExt;
    let walk = walkdir::WalkDir::new(path).into_iter().filter_entry(|entry| {
        if entry.file_type().is_dir() {
            // What it holds can only be removed once it may be written.
            let _ = fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700));
        }
        true
    });
    let mut directories = Vec::new();
    for entry in walk.flatten() {
        if !go_on() {
            return;
        }
        if entry.file_type().is_dir() {
            directories.push(entry.into_path());
        } else {
            let _ = fs::remove_file(entry.path());
        }
    }
    for directory in directories.iter().rev() {
        let _ = fs::remove_dir(directory);
    }
    // A tree that is no directory at all.
    let _ = fs::remove_file(path);
}

/// Creates a directory with its parents.
///
/// # Errors
/// When the file system refuses.
pub fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).on("cannot create directory", path)
}

/// Writes a file under a temporary name and renames it, so that a reader sees the old or the new content.
///
/// # Errors
/// When the file system refuses.
pub fn write_file(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).on("cannot create a file in", dir)?;
    std::io::Write::write_all(&mut file, content.as_ref()).on("cannot write", path)?;
    file.as_file().sync_all().on("cannot sync", path)?;
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).on("cannot set the mode of", path)?;
    file.persist(path).map_err(|error| error.error).on("cannot rename into place", path)?;
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

/// The directory of one run: everything it saw.
#[derive(Debug, Clone)]
pub struct RunDir {
    /// Name of the run: time and a few random digits.
    pub id: String,
    /// Where it is.
    pub path: PathBuf,
}

impl RunDir {
    /// Makes a new one: `out` itself when given, else `runs/<id>` under `$XDG_STATE_HOME/vmtest`, see
    /// [`RunDir::link_as_latest`].
    ///
    /// # Errors
    /// When `out` holds files already, or the file system refuses.
    pub fn create(out: Option<&Path>) -> Result<RunDir> {
        let id = run_id();
        if let Some(out) = out {
            create_dir(out)?;
            if fs::read_dir(out).on("cannot list", out)?.next().is_some() {
                return Err(Error::usage(format!("--out {} is not empty", out.display()))
                    .next("name a new directory: a run never mixes with the files of another"));
            }
            let path = std::path::absolute(out).on("cannot resolve", out)?;
            return Ok(RunDir { id, path });
        }
        let runs = runs_dir()?;
        let path = runs.join(&id);
        create_dir(&path)?;
        Ok(RunDir { id, path })
    }

    /// Makes it what the link `latest` beside it points to; a directory of `--out` has no link beside it.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn link_as_latest(&self) -> Result<()> {
        let runs = runs_dir()?;
        if self.path.parent() != Some(&runs) {
            return Ok(());
        }
        let link = runs.join(format!(".latest-{}", self.id));
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&self.id, &link).on("cannot link", &link)?;
        fs::rename(&link, runs.join("latest")).on("cannot link", runs.join("latest"))
    }

    /// Removes what a run that never was has written.
    pub fn discard(&self) {
        remove_tree(&self.path);
        if runs_dir().is_ok_and(|runs| self.path.parent() != Some(&runs)) {
            // The directory of `--out` is the user's.
            let _ = fs::create_dir(&self.path);
        }
    }

    /// A directory below it, made where it is missing.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn dir(&self, below: &str) -> Result<PathBuf> {
        let path = self.path.join(below);
        create_dir(&path)?;
        Ok(path)
    }
}

/// Where runs are kept.
///
/// # Errors
/// When neither XDG_STATE_HOME nor HOME says where.
pub fn runs_dir() -> Result<PathBuf> {
    Ok(base_dir("XDG_STATE_HOME", ".local/state")?.join("vmtest").join("runs"))
}

fn run_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (day, second) = (now.as_secs() / 86_400, now.as_secs() % 86_400);
    let (year, month, day) = civil_date(day);
    format!(
        "{year:04}{month:02}{day:02}-{:02}{:02}{:02}-{}",
        second / 3600,
        second / 60 % 60,
        second % 60,
        &nonce()[..6]
    )
}

/// Year, month and day (UTC) of a day counted from 1970-01-01; a date library for a directory name would be more code.
fn civil_date(day: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (mut rest, mut year) = (day, 1970);
    while rest >= if leap(year) { 366 } else { 365 } {
        rest -= if leap(year) { 366 } else { 365 };
        year += 1;
    }
    let mut month = 1;
    for length in [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest + 1)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(dir: &Path) -> Cache {
        Cache::at(dir.to_owned()).expect("a temporary directory can be written")
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let joined = Key::of("k").field("a", "bc").finish();
        assert_ne!(joined, Key::of("k").field("ab", "c").finish());
        assert_ne!(joined, Key::of("k").field("a", "b").field("c", "").finish());
        assert_eq!(joined, Key::of("k").field("a", "bc").finish());
    }

    #[test]
    fn a_failed_entry_leaves_nothing() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let cache = cache(dir.path());
        let bus = Bus::new(Vec::new());
        let failed = cache.get_or_make(&bus, "src", "k", |at| {
            fs::write(at.join("half"), "x").on("cannot write", at)?;
            Err(Error::host("no"))
        });
        assert!(failed.is_err());
        assert!(cache.get("src", "k").is_none());
        assert_eq!(fs::read_dir(dir.path().join("tmp")).expect("tmp").count(), 0);
        let (_, there) = cache.get_or_make(&bus, "src", "k", |_| Ok(())).expect("made");
        assert!(!there);
        let (_, there) = cache.get_or_make(&bus, "src", "k", |_| Err(Error::host("again"))).expect("kept");
        assert!(there);
    }

    #[test]
    fn only_leftovers_without_an_owner_go() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let cache = cache(dir.path());
        let owned = cache.scratch().expect("scratch");
        let dead = dir.path().join("tmp/t-dead");
        create_dir(&dead).expect("made");
        assert!(cache.leftovers().is_empty(), "a new one may belong to someone who has not locked it yet");
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        File::open(&dead).and_then(|dir| dir.set_modified(long_ago)).expect("times can be set");
        File::open(owned.path()).and_then(|dir| dir.set_modified(long_ago)).expect("times can be set");
        let leftovers: Vec<PathBuf> = cache.leftovers().into_iter().map(|(path, _)| path).collect();
        assert_eq!(leftovers, [dead.as_path()]);
        fs::create_dir_all(dead.join("a/b"))
            .and_then(|()| fs::write(dead.join("a/c"), "x"))
            .expect("written");
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dead.join("a"), fs::Permissions::from_mode(0o500)).expect("modes can be set");
        remove_tree(&dead);
        assert!(owned.path().exists() && !dead.exists());
    }

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!(civil_date(20_778), (2026, 11, 21));
    }
}
