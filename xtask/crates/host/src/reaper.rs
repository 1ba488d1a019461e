// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cleans up after a harness that was killed. Its sandboxes die with it. With the host's tools, the kernel
//! kills the processes that the harness started, but not their descendants; the next start kills those, and
//! nothing else.
//!
//! Each harness records the process groups that it starts, by number and start time, under its own nonce,
//! which all of them have in their environment. A process is killed only if all three match: it has the
//! nonce, it is in a group or session of that number, and it is not older than the group's leader. One alone
//! is not enough, because numbers are reused and environments are copied.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use vmtest_base::error::{IoContext, Result};

/// Environment variable with the nonce, set for everything that is started.
pub const VARIABLE: &str = "VMTEST_NONCE";
/// Prefix of a record's file name.
const PREFIX: &str = "p-";
/// Prefix of the line that names the harness of a record.
const OWNER: &str = "owner ";
/// How long a lock may outlive the harness that held it.
const MOMENT: Duration = Duration::from_millis(500);
/// How long leftovers may take to disappear.
const PATIENCE: Duration = Duration::from_secs(2);

/// The record of this process.
struct Record {
    path: PathBuf,
    file: Flock<File>,
}

static RECORD: Mutex<Option<Record>> = Mutex::new(None);

/// This process' nonce.
pub fn nonce() -> &'static str {
    static NONCE: OnceLock<String> = OnceLock::new();
    NONCE.get_or_init(vmtest_base::files::nonce)
}

/// Starts the record of this process in `dir`, and kills what earlier ones left running. Errors are ignored:
/// without a record, leftovers merely stay.
pub fn begin(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            end_what_it_tells(&path);
        }
    }
    let mut record = RECORD.lock().unwrap_or_else(PoisonError::into_inner);
    if record.is_none() {
        *record = new_record(&dir.join(format!("{PREFIX}{}", nonce())));
    }
}

/// Creates and locks a record. Until it is locked, another start can mistake it for that of a dead harness
/// and remove it, so this checks and retries.
fn new_record(path: &Path) -> Option<Record> {
    for _ in 0..100 {
        let file = OpenOptions::new().append(true).create(true).open(path).ok()?;
        let mut file = Flock::lock(file, FlockArg::LockExclusive).ok()?;
        let there = fs::metadata(path).is_ok_and(|named| {
            file.metadata().is_ok_and(|held| (named.dev(), named.ino()) == (held.dev(), held.ino()))
        });
        if there {
            let own = std::process::id();
            let began = Seen::of(own).map_or(0, |seen| seen.began);
            let _ = (&mut file as &mut File).write_all(format!("{OWNER}{own} {began}\n").as_bytes());
            return Some(Record { path: path.to_path_buf(), file });
        }
    }
    None
}

/// If the harness of a record is dead, kills what it left running and removes the record.
fn end_what_it_tells(path: &Path) {
    let Ok(mut file) = File::open(path) else { return };
    let text = fs::read_to_string(path).unwrap_or_default();
    // A harness holds the lock while it lives. It is held a moment longer if the harness was killed while it
    // started a child: the child has the descriptor until it executes the program.
    let until = Instant::now() + MOMENT;
    let _lock = loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => break lock,
            Err((same, _)) if owner_is_gone(&text) && Instant::now() < until => file = same,
            Err(_) => return,
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // Read again, now that nothing writes to it.
    let text = fs::read_to_string(path).unwrap_or_default();
    if end_all(&text) && remove_directories(&text) {
        let _ = fs::remove_file(path);
    }
}

/// Whether no process has the number and start time of the harness that wrote this record.
fn owner_is_gone(record: &str) -> bool {
    let owner = record.lines().find_map(|line| {
        let (pid, began) = line.strip_prefix(OWNER)?.split_once(' ')?;
        Some((pid.parse::<u32>().ok()?, began.parse::<u64>().ok()?))
    });
    owner.is_some_and(|(pid, began)| Seen::of(pid).is_none_or(|seen| seen.began != began))
}

/// Removes the record when this process ends normally, with nothing left running.
pub fn finish() {
    if let Some(record) = RECORD.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = fs::remove_file(&record.path);
    }
}

/// Records a process group that was started.
pub fn note(leader: u32) {
    let Some(seen) = Seen::of(leader) else { return };
    if let Some(record) = RECORD.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        let line = format!("{} {leader} {}\n", nonce(), seen.began);
        let _ = (&mut record.file as &mut File).write_all(line.as_bytes());
    }
}

/// A temporary directory that is removed when the value is dropped, or by the next start if this process is
/// killed. For regular files only.
pub fn temporary_directory() -> Result<tempfile::TempDir> {
    let base = std::env::temp_dir();
    let name = format!("{DIRECTORY_PREFIX}{}", vmtest_base::files::nonce());
    // Recorded before it exists: otherwise a kill in between would leak it.
    note_directory(&base.join(&name));
    let made = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(&base);
    made.on("cannot create a directory in", &base)
}

fn note_directory(path: &Path) {
    let Some(name) = path.to_str().filter(|name| !name.contains('\n')) else { return };
    if let Some(record) = RECORD.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        let _ = (&mut record.file as &mut File).write_all(format!("directory {name}\n").as_bytes());
    }
}

/// Prefix of the names of such directories.
const DIRECTORY_PREFIX: &str = "vmtest-";

/// Removes the directories that a record lists, and returns whether all are gone. The record is in our own
/// cache, but the names are checked nevertheless.
fn remove_directories(record: &str) -> bool {
    let paths = record.lines().filter_map(|line| line.strip_prefix("directory ")).map(Path::new);
    let named = |path: &&Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        path.is_absolute() && name.is_some_and(|name| name.starts_with(DIRECTORY_PREFIX))
    };
    // `count` visits all of them, even if one cannot be removed.
    paths.filter(named).filter(|path| !remove_directory(path)).count() == 0
}

/// Removes a directory of regular files, and returns whether it is gone. A process that is being killed may
/// still create a file in it (QEMU its socket), so this retries.
fn remove_directory(path: &Path) -> bool {
    let until = Instant::now() + PATIENCE;
    while path.symlink_metadata().is_ok_and(|stat| stat.is_dir()) {
        // Never recursive: we only put files into it, such as a FIFO or a socket.
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
        if fs::remove_dir(path).is_err() {
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    true
}

/// A process as /proc describes it.
struct Seen {
    group: u32,
    session: u32,
    /// Clock ticks since the host started.
    began: u64,
}

impl Seen {
    fn of(pid: u32) -> Option<Seen> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name is in parentheses and may contain any character.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let (group, session) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        let began = fields.nth(15)?.parse().ok()?;
        // A zombie is already dead.
        (!matches!(state, "Z" | "X")).then_some(Seen { group, session, began })
    }
}

/// Kills everything that a record lists, and returns whether nothing is left.
fn end_all(record: &str) -> bool {
    let until = Instant::now() + PATIENCE;
    loop {
        let left = leftovers(record);
        if left.is_empty() {
            return true;
        }
        for pid in left {
            let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)), Signal::SIGKILL);
        }
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Running processes whose nonce, group or session, and start time match the record.
fn leftovers(record: &str) -> Vec<u32> {
    let started: Vec<(&str, u32, u64)> = record
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        })
        .filter(|(nonce, ..)| nonce.len() == 16)
        .collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let Some(seen) = Seen::of(*pid) else { return false };
        let ours = |(_, leader, began): &&(&str, u32, u64)| {
            (seen.group == *leader || seen.session == *leader) && seen.began >= *began
        };
        let Some((nonce, ..)) = started.iter().find(ours) else { return false };
        *pid != std::process::id() && has_nonce(*pid, nonce)
    })
    .collect()
}

fn has_nonce(pid: u32, nonce: &str) -> bool {
    let wanted = format!("{VARIABLE}={nonce}");
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|pair| pair == wanted.as_bytes())
}

#[cfg(test)]
mod tests;
