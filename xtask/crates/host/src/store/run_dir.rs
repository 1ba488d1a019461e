// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directory of one run, with all its output. Limits how many are kept, and how large a finished one may
//! be.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};

use crate::store::remove_tree;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::{create_dir, nonce};
use vmtest_base::places::runs_dir;

/// Default number of runs that are kept.
pub const KEPT_RUNS: u32 = 50;
/// Default size limit of a finished run, in bytes.
pub const RUN_BYTES: u64 = 50 * 1024 * 1024;
/// A smaller file is not cut, since that would not save much.
const WORTH_A_CUT: u64 = 64 * 1024;

/// Reserve for lines that are logged after the size was measured.
const ROOM_FOR_MORE: u64 = 8 * 1024;

/// The directory of one run, with all its output.
#[derive(Debug, Clone)]
pub struct RunDir {
    /// Name of the run: time and a few random digits.
    pub id: String,
    pub path: PathBuf,
    /// Shows that the run is in progress while this process lives.
    _lock: Arc<Flock<File>>,
}

impl RunDir {
    /// Creates a new one: `out` itself if given, else `runs/<id>` under `$XDG_STATE_HOME/vmtest`. See
    /// [`RunDir::link_as_latest`].
    ///
    /// # Errors
    /// If `out` is not empty, and those of the file system.
    pub fn create(out: Option<&Path>) -> Result<RunDir> {
        let id = run_id();
        let path = match out {
            Some(out) => {
                create_dir(out)?;
                RunDir::check_empty(out)?;
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

    /// Checks that a run may use this directory of `--out`, which may be missing.
    ///
    /// # Errors
    /// Class `Usage` if it is not empty, and those of the file system.
    pub fn check_empty(out: &Path) -> Result<()> {
        if out.symlink_metadata().is_ok() && fs::read_dir(out).on("cannot list", out)?.next().is_some() {
            return Err(Error::usage(format!("--out {} is not empty", out.display()))
                .next("name a new directory: a run never mixes with the files of another"));
        }
        Ok(())
    }

    /// Reopens one of another process, to continue that run.
    ///
    /// # Errors
    /// Class `Usage` while another process works in it.
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

    /// An empty subdirectory with its own files. Whatever a killed process left there is removed.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn part(&self, below: &str) -> Result<RunDir> {
        let path = self.path.join(below);
        if path.exists() {
            fs::remove_dir_all(&path).on("cannot remove", &path)?;
        }
        create_dir(&path)?;
        Ok(RunDir { id: format!("{}/{below}", self.id), path, ..self.clone() })
    }

    /// Points the symlink `latest` to it. A directory of `--out` gets a symlink with the name of the run first, so
    /// that the run is found by name and is listed; it is not an error if there is no place for one.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn link_as_latest(&self) -> Result<()> {
        let runs = runs_dir()?;
        if self.path.parent() != Some(&runs) {
            let _ = create_dir(&runs)
                .and_then(|()| self.link(&runs, &self.id, &self.path))
                .and_then(|()| self.link(&runs, "latest", Path::new(&self.id)));
            return Ok(());
        }
        self.link(&runs, "latest", Path::new(&self.id))
    }

    fn link(&self, runs: &Path, name: &str, to: &Path) -> Result<()> {
        let link = runs.join(format!("{NEW_LATEST}{}", self.id));
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(to, &link).on("cannot link", &link)?;
        vmtest_base::files::killpoint("latest");
        fs::rename(&link, runs.join(name)).on("cannot link", runs.join(name))
    }

    /// Removes the files of a run that did not happen after all.
    pub fn discard(&self) {
        remove_tree(&self.path);
        if runs_dir().is_ok_and(|runs| self.path.parent() != Some(&runs)) {
            // The directory of `--out` belongs to the user.
            let _ = fs::create_dir(&self.path);
        }
    }

    /// A directory below it, created if missing.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn dir(&self, below: &str) -> Result<PathBuf> {
        let path = self.path.join(below);
        create_dir(&path)?;
        Ok(path)
    }
}

/// Removes all but the newest `keep` runs in `runs`. Keeps runs in progress and, if `spare_latest`, the
/// target of the symlink `latest`. With `dry_run`, only lists them. Returns the names of the removed runs.
/// Directories that are not runs are never touched.
///
/// # Errors
/// Those of the file system.
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
    if !dry_run {
        forget_links(runs, keep, latest.as_deref());
    }
    // A process that was killed during a removal left the run under this name.
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

/// Prefix of the link that is about to become `latest`; the id of the run follows.
const NEW_LATEST: &str = ".latest-";
/// Prefix of the name of a run that is being removed.
const GONE: &str = ".gone-";

/// Removes symlinks to runs of `--out`: those whose run is gone, and all but the newest `keep`. Their runs belong to
/// the user.
fn forget_links(runs: &Path, keep: usize, latest: Option<&Path>) {
    let entries = fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_named = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(is_run_id);
    let mut links: Vec<PathBuf> = entries.filter(|path| path.is_symlink() && is_named(path)).collect();
    links.sort();
    let old = links.len().saturating_sub(keep);
    for (at, link) in links.iter().enumerate() {
        if (at < old && link.file_name() != latest.map(Path::as_os_str)) || !link.exists() {
            let _ = fs::remove_file(link);
        }
    }
    // A process that was killed in `link` left one.
    let entries = fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_new =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(NEW_LATEST));
    for link in entries.filter(|path| path.is_symlink() && is_new(path)) {
        if !link.exists() || not_under_way(&link).is_some() {
            let _ = fs::remove_file(link);
        }
    }
}

/// Locks a run that is not in progress; `None` if it is.
fn not_under_way(path: &Path) -> Option<Flock<File>> {
    Flock::lock(File::open(path).ok()?, FlockArg::LockExclusiveNonblock).ok()
}

/// Cuts the middle out of the largest logs until the files of a finished run take at most `limit` bytes. A
/// mark replaces each cut. `run.json` and `plan.json` are never touched. Returns the names of the files that
/// were cut.
///
/// The mark is neither a valid event nor a kernel message: whoever reads a cut file again finds a faulty
/// channel or an incomplete console, and neither ever counts as a pass.
///
/// # Errors
/// Those of the file system.
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
    // The log gets a few more lines, one of them about the cut.
    let limit = limit.saturating_sub(ROOM_FOR_MORE);
    logs.sort();
    // Each cut file keeps an equal share. Small files, which say most, stay whole and leave the rest to the
    // others.
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

/// Bounds the size of runs that were killed before they had a record, since no other code does.
///
/// # Errors
/// Those of the file system.
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

/// Start of the mark in a file that was cut.
pub const CUT_MARK: &str = "[vmtest: cut here: ";

/// Keeps the first third and the last two thirds of `share` bytes of a file, under the same name.
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

/// Whether [`run_id`] could have made this name.
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
mod tests;
