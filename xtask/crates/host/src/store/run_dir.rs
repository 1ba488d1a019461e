// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directory of one run: everything it saw. How many are kept, and how large one may stay once it is over.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};

use crate::store::remove_tree;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::{create_dir, nonce};
use vmtest_base::places::runs_dir;

/// Runs that are kept, unless asked otherwise.
pub const KEPT_RUNS: u32 = 50;
/// Bytes of a run that is over, unless asked otherwise.
pub const RUN_BYTES: u64 = 50 * 1024 * 1024;
/// A file smaller than this is not cut: nothing would be won.
const WORTH_A_CUT: u64 = 64 * 1024;

/// What the log of a run may still get after its size was looked at.
const ROOM_FOR_MORE: u64 = 8 * 1024;

/// The directory of one run: everything it saw.
#[derive(Debug, Clone)]
pub struct RunDir {
    /// Name of the run: time and a few random digits.
    pub id: String,
    /// Where it is.
    pub path: PathBuf,
    /// Says that the run is under way, as long as this process lives.
    _lock: Arc<Flock<File>>,
}

impl RunDir {
    /// Makes a new one: `out` itself when given, else `runs/<id>` under `$XDG_STATE_HOME/vmtest`, see
    /// [`RunDir::link_as_latest`].
    ///
    /// # Errors
    /// When `out` holds files already, or the file system refuses.
    pub fn create(out: Option<&Path>) -> Result<RunDir> {
        let id = run_id();
        let path = match out {
            Some(out) => {
                create_dir(out)?;
                if fs::read_dir(out).on("cannot list", out)?.next().is_some() {
                    return Err(Error::usage(format!("--out {} is not empty", out.display()))
                        .next("name a new directory: a run never mixes with the files of another"));
                }
                std::path::absolute(out).on("cannot resolve", out)?
            }
            None => runs_dir()?.join(&id),
        };
        create_dir(&path)?;
        crate::store::remember_place(&path);
        let handle = File::open(&path).on("cannot open", &path)?;
        let lock = Flock::lock(handle, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno);
        Ok(RunDir { id, _lock: Arc::new(lock.on("cannot lock", &path)?), path })
    }

    /// One that was begun by another process, to go on in it.
    ///
    /// # Errors
    /// Class `Usage` while another process is at work there.
    pub fn reopen(path: &Path) -> Result<RunDir> {
        let handle = File::open(path).on("cannot open", path)?;
        let lock = Flock::lock(handle, FlockArg::LockExclusiveNonblock).map_err(|_| {
            Error::usage(format!("another process is at work in {}", path.display()))
                .next("wait until it finishes, or stop it first")
        })?;
        crate::store::remember_place(path);
        let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(RunDir { id, path: path.to_owned(), _lock: Arc::new(lock) })
    }

    /// A part of it with files of its own, empty: what a killed process left there goes.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn part(&self, below: &str) -> Result<RunDir> {
        let path = self.path.join(below);
        if path.exists() {
            fs::remove_dir_all(&path).on("cannot remove", &path)?;
        }
        create_dir(&path)?;
        Ok(RunDir { id: format!("{}/{below}", self.id), path, ..self.clone() })
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
        vmtest_base::files::killpoint("latest");
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

/// Removes all but the newest `keep` runs in `runs`, those under way and the one that `latest` names; with `dry_run` only
/// says which. Gives the names of what went. What is no run is never touched.
///
/// # Errors
/// When the file system refuses.
pub fn keep_newest(runs: &Path, keep: usize, spare_latest: bool, dry_run: bool) -> Result<Vec<String>> {
    let latest = fs::read_link(runs.join("latest")).ok().filter(|_| spare_latest);
    let mut names: Vec<String> = fs::read_dir(runs)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    // Whoever was killed while removing one has left it under this name, and a link that never got its own.
    for name in names.iter().filter(|name| name.strip_prefix(GONE).is_some_and(is_run_id)) {
        if !dry_run {
            remove_tree(&runs.join(name));
        }
    }
    names.retain(|name| is_run_id(name));
    let old = names.len().saturating_sub(keep);
    let mut removed = Vec::new();
    for name in names.into_iter().take(old) {
        let path = runs.join(&name);
        if latest.as_deref() == Some(Path::new(&name)) {
            continue;
        }
        let Some(_lock) = not_under_way(&path) else { continue };
        if !dry_run {
            let gone = runs.join(format!("{GONE}{name}"));
            fs::rename(&path, &gone).on("cannot remove", &path)?;
            remove_tree(&gone);
        }
        removed.push(name);
    }
    if !spare_latest && !dry_run && fs::read_link(runs.join("latest")).is_ok_and(|to| !runs.join(to).exists())
    {
        let _ = fs::remove_file(runs.join("latest"));
    }
    Ok(removed)
}

/// In front of the name of a run that is being removed.
const GONE: &str = ".gone-";

/// The lock of a run that is over; `None` while it is under way.
fn not_under_way(path: &Path) -> Option<Flock<File>> {
    Flock::lock(File::open(path).ok()?, FlockArg::LockExclusiveNonblock).ok()
}

/// Cuts the middle out of the largest logs until the files of a run that is over take no more than `limit`. A mark stands
/// where something was cut. `run.json` and `plan.json` are never touched. Gives the names of what was cut.
///
/// The mark is no event and no line of a kernel: what reads a cut file again finds a faulty channel and a console that does
/// not hold everything, and neither is ever a pass.
///
/// # Errors
/// When the file system refuses.
pub fn bound(run: &Path, limit: u64) -> Result<Vec<String>> {
    let mut logs: Vec<(u64, PathBuf)> = Vec::new();
    let mut rest = 0;
    for entry in walkdir::WalkDir::new(run).follow_root_links(false).into_iter().flatten() {
        let (Ok(stat), path) = (entry.metadata(), entry.path()) else { continue };
        let is_log = path.extension().is_some_and(|kind| kind == "log" || kind == "jsonl");
        if stat.is_file() && is_log {
            logs.push((stat.len(), entry.into_path()));
        } else if stat.is_file() {
            rest += stat.len();
        }
    }
    let total = |logs: &[(u64, PathBuf)]| logs.iter().map(|(length, _)| length).sum::<u64>();
    if total(&logs) + rest <= limit {
        return Ok(Vec::new());
    }
    // The log gets some more lines, of which one tells of this.
    let limit = limit.saturating_sub(ROOM_FOR_MORE);
    logs.sort();
    // The same for each file that is cut, as much as fits: the small ones, which say most, stay whole.
    let mut room = limit.saturating_sub(rest);
    let mut cut = Vec::new();
    let count = logs.len() as u64;
    for (at, (length, path)) in logs.into_iter().enumerate() {
        let share = (room / (count - at as u64)).max(WORTH_A_CUT);
        if length > share {
            cut_middle(&path, length, share, limit)?;
            cut.push(path.strip_prefix(run).unwrap_or(&path).display().to_string());
        }
        room = room.saturating_sub(length.min(share));
    }
    Ok(cut)
}

/// Bounds the runs that were killed before they had a record: nobody else will.
///
/// # Errors
/// When the file system refuses.
pub fn bound_unfinished(runs: &Path) -> Result<()> {
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_run = entry.file_name().to_str().is_some_and(is_run_id) && !path.is_symlink();
        if !is_run || path.join("run.json").exists() {
            continue;
        }
        if let Some(_lock) = not_under_way(&path) {
            bound(&path, RUN_BYTES)?;
        }
    }
    Ok(())
}

/// First words of the mark in a file that was cut.
pub const CUT_MARK: &str = "[vmtest: cut here: ";

/// Keeps the first third and the end of a file, together `share` bytes, under the same name.
fn cut_middle(path: &Path, length: u64, share: u64, limit: u64) -> Result<()> {
    let mark_room = 200;
    let keep = share.saturating_sub(mark_room);
    let (head, tail) = (keep / 3, keep - keep / 3);
    let mark =
        format!("\n{CUT_MARK}{} bytes, to keep the run within {limit}; --run-size]\n", length - head - tail);
    let mut file = File::open(path).on("cannot open", path)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut half = tempfile::NamedTempFile::new_in(dir).on("cannot create a file in", dir)?;
    std::io::copy(&mut (&mut file).take(head), &mut half).on("cannot write", path)?;
    half.write_all(mark.as_bytes()).on("cannot write", path)?;
    file.seek(SeekFrom::Start(length - tail)).on("cannot read", path)?;
    std::io::copy(&mut file.take(tail), &mut half).on("cannot write", path)?;
    half.persist(path).map_err(|error| error.error).on("cannot rename into place", path)?;
    Ok(())
}

fn run_id() -> String {
    format!("{}-{}", vmtest_base::date::compact(), &nonce()[..6])
}

/// Whether a name is one that [`run_id`] gives.
fn is_run_id(name: &str) -> bool {
    let shape = "dddddddd-dddddd-xxxxxx";
    name.len() == shape.len()
        && name.bytes().zip(shape.bytes()).all(|(byte, shape)| match shape {
            b'd' => byte.is_ascii_digit(),
            b'x' => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            _ => byte == shape,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_a_name_of_its_own_shape() {
        assert!(is_run_id(&run_id()) && !is_run_id("20261121-090238-692d4g") && !is_run_id("latest"));
    }

    #[test]
    fn old_runs_go_but_not_the_latest_one_under_way_or_what_is_no_run() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let runs = dir.path();
        let name = |number: u32| format!("20261121-09000{number}-00000{number}");
        for number in 1..=6 {
            create_dir(&runs.join(name(number)).join("cells")).expect("made");
        }
        create_dir(&runs.join("notes")).expect("made");
        create_dir(&runs.join(format!("{GONE}{}", name(0)))).expect("made");
        std::os::unix::fs::symlink(name(2), runs.join("latest")).expect("linked");
        let handle = File::open(runs.join(name(3))).expect("open");
        let lock = Flock::lock(handle, FlockArg::LockExclusiveNonblock).expect("locked");
        assert_eq!(keep_newest(runs, 2, true, true).expect("looked"), [name(1), name(4)]);
        assert_eq!(keep_newest(runs, 2, true, false).expect("removed"), [name(1), name(4)]);
        let mut left: Vec<_> = fs::read_dir(runs).expect("listed").flatten().map(|e| e.file_name()).collect();
        left.sort();
        let expected = [name(2), name(3), name(5), name(6), "latest".to_owned(), "notes".to_owned()];
        assert_eq!(left, expected.map(std::ffi::OsString::from));
        drop(lock);
        assert_eq!(keep_newest(runs, 0, false, false).expect("removed").len(), 4);
        assert!(runs.join("latest").symlink_metadata().is_err() && runs.join("notes").exists());
    }

    #[test]
    fn a_run_that_is_too_large_loses_the_middle_of_its_largest_logs() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let write = |name: &str, text: Vec<u8>| {
            let path = dir.path().join(name);
            create_dir(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        let long: Vec<u8> =
            (0..600_000_u32).flat_map(|number| format!("{number:09}\n").into_bytes()).collect();
        write("run.json", vec![b' '; 100_000]);
        write("builds/k/build.log", vec![b'b'; 1_000]);
        write("cells/a/console.log", long.clone());
        write("cells/b/events.jsonl", long.clone());
        let limit = 1024 * 1024;
        let cut = bound(dir.path(), limit).expect("bounded");
        assert_eq!(cut.len(), 2, "{cut:?}");
        let size = |name: &str| fs::metadata(dir.path().join(name)).expect("there").len();
        let all = ["run.json", "builds/k/build.log", "cells/a/console.log", "cells/b/events.jsonl"];
        assert_eq!((size("run.json"), size("builds/k/build.log")), (100_000, 1_000));
        let total: u64 = all.iter().map(|name| size(name)).sum();
        assert!(total <= limit && total > limit - 2 * ROOM_FOR_MORE, "{total}");
        let text = fs::read_to_string(dir.path().join("cells/a/console.log")).expect("read");
        assert!(text.starts_with("000000000\n") && text.ends_with("000599999\n") && text.contains(CUT_MARK));
        assert!(bound(dir.path(), limit).expect("bounded").is_empty(), "once is enough");
        // A channel that was cut is no channel to believe.
        let mut stream = vmtest_guest::events::Stream::new("abc");
        stream.feed(&fs::read(dir.path().join("cells/b/events.jsonl")).expect("read"));
        assert!(!stream.faults.is_empty());
    }
}
