// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tree:PATH`: a snapshot of the user's tree in the cache: what git tracks and what it would not ignore, with the
//! mtimes kept, so that a tree that was built in place can be built elsewhere and make rebuilds only what changed.
//!
//! What changed is found by size, mode and mtime, as make does. The key is of the contents: another checkout of the same
//! state, on another machine of a CI system, has the same. A changed file is replaced by a new one, never written to: later
//! stages hold hard links.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::git::{query, shell};
use super::{Resolved, SourceTree, kernel_version, short_name};
use crate::context::Context;
use crate::error::{Error, IoContext, Result};
use crate::event::Phase;
use crate::interrupt;
use crate::workdir::{Key, create_dir, hash_bytes, hash_file, write_file};
use manifest::Held;

mod manifest;

const FILE_TYPE: u32 = 0o170_000;
const SYMLINK: u32 = 0o120_000;
const REGULAR: u32 = 0o100_000;

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Stamp {
    mode: u32,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

/// A file of the tree, by its path below the top.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Entry {
    path: Vec<u8>,
    stamp: Stamp,
}

/// The state of a regular file or symbolic link; `None` for anything else and for what is not there.
fn stamp(path: &Path) -> Result<Option<Stamp>> {
    let stat = match fs::symlink_metadata(path) {
        Ok(stat) => stat,
        Err(error) => {
            use std::io::ErrorKind::{NotADirectory, NotFound};
            return if matches!(error.kind(), NotFound | NotADirectory) {
                Ok(None)
            } else {
                Err(error).on("cannot read", path)
            };
        }
    };
    Ok(matches!(stat.mode() & FILE_TYPE, SYMLINK | REGULAR).then(|| Stamp {
        mode: stat.mode(),
        size: stat.size(),
        seconds: stat.mtime(),
        nanoseconds: stat.mtime_nsec(),
    }))
}

fn below(top: &Path, path: &[u8]) -> PathBuf {
    top.join(OsStr::from_bytes(path))
}

/// Paths of all files that belong to the tree, sorted.
fn list(ctx: &Context, top: &Path) -> Result<Vec<Vec<u8>>> {
    let shell = shell()?;
    let mut command = query(&shell, top);
    let owned;
    if top.join(".git").exists() {
        command = command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    } else {
        // No repository: an empty one beside the tree lends its reading of .gitignore files, and of nothing else.
        owned = ctx.cache.scratch()?;
        let git_dir = owned.path();
        for dir in ["objects", "refs"] {
            create_dir(&git_dir.join(dir))?;
        }
        fs::write(git_dir.join("HEAD"), "ref: refs/heads/none\n").on("cannot write", git_dir)?;
        command = command
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .arg("--git-dir")
            .arg(git_dir)
            .args(["--work-tree", ".", "ls-files", "-z", "--others", "--exclude-standard"]);
    }
    let output = command.output().map_err(|error| {
        Error::host(format!("cannot list the files of {}", top.display()))
            .why(error)
            .next("install the package `git`")
    })?;
    if !output.status.success() {
        return Err(Error::host(format!("cannot list the files of {}", top.display()))
            .why(String::from_utf8_lossy(&output.stderr).trim()));
    }
    let mut paths: Vec<Vec<u8>> =
        output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect();
    if !paths.iter().any(|path| path == b"Makefile") {
        // Debian's source packages ship a .gitignore that hides everything but their own directory.
        ctx.bus.warn(format!("{}: its .gitignore hides the source, so every file is taken", top.display()));
        paths = walk(top)?;
    }
    // A file in conflict is listed once for each side.
    paths.sort_unstable();
    paths.dedup();
    Ok(paths)
}

/// Every file below a directory, `.git` aside.
fn walk(top: &Path) -> Result<Vec<Vec<u8>>> {
    let mut paths = Vec::new();
    let inside = walkdir::WalkDir::new(top).min_depth(1).into_iter();
    for entry in inside.filter_entry(|entry| entry.depth() != 1 || entry.file_name() != ".git") {
        let entry = entry.map_err(|error| {
            Error::host(format!("cannot list {}", error.path().unwrap_or(top).display())).why(error)
        })?;
        if !entry.file_type().is_dir() {
            let path = entry.path().strip_prefix(top).unwrap_or(entry.path());
            paths.push(path.as_os_str().as_bytes().to_vec());
        }
    }
    Ok(paths)
}

/// The state of each path, in their order; on all cores, since that is 90,000 system calls.
fn stamps(top: &Path, paths: Vec<Vec<u8>>) -> Result<Vec<Entry>> {
    let threads = threads();
    let share = paths.len().div_ceil(threads).max(1);
    let parts: Vec<Result<Vec<Entry>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = paths
            .chunks(share)
            .map(|paths| {
                scope.spawn(move || {
                    let mut entries = Vec::with_capacity(paths.len());
                    for path in paths {
                        if let Some(stamp) = stamp(&below(top, path))? {
                            entries.push(Entry { path: path.clone(), stamp });
                        }
                    }
                    Ok(entries)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("stat does not panic")).collect()
    });
    let mut entries = Vec::with_capacity(paths.len());
    for part in parts {
        entries.extend(part?);
    }
    drop_below_symlinks(&mut entries);
    Ok(entries)
}

/// A directory that became a symbolic link leaves tracked paths "below" it. Writing those into the snapshot would
/// follow the link, out of the cache.
fn drop_below_symlinks(entries: &mut Vec<Entry>) {
    let links: Vec<Vec<u8>> = entries
        .iter()
        .filter(|entry| entry.stamp.mode & FILE_TYPE == SYMLINK)
        .map(|entry| [&entry.path[..], b"/"].concat())
        .collect();
    for link in links {
        let begin = entries.partition_point(|entry| entry.path < link);
        let count = entries[begin..].iter().take_while(|entry| entry.path.starts_with(&link)).count();
        entries.drain(begin..begin + count);
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).min(8)
}

fn checked(path: &Path) -> Result<(PathBuf, String)> {
    let no = |why: String| Error::usage(format!("tree:{} is no kernel tree", path.display())).why(why);
    let top = path.canonicalize().map_err(|error| no(error.to_string()))?;
    if !top.is_dir() {
        return Err(
            no("it is no directory".to_owned()).next("a tarball is tar:FILE, a kernel image image:FILE")
        );
    }
    if let Some(version) = kernel_version(&top) {
        return Ok((top, version));
    }
    let error = no("it has no Makefile with VERSION and PATCHLEVEL".to_owned());
    let inside = top.ancestors().skip(1).find(|above| kernel_version(above).is_some());
    Err(match inside {
        Some(above) => error.next(format!("name the top of the tree: tree:{}", above.display())),
        None => error.next("name the top directory of a kernel's source"),
    })
}

fn lineage(top: &Path) -> Key {
    Key::of("tree lineage 1").field("path", top.as_os_str().as_bytes()).finish()
}

pub(super) fn resolve(ctx: &Context, path: &Path) -> Result<Resolved> {
    let (top, version) = checked(path)?;
    let shell = shell()?;
    let head = query(&shell, &top).args(["rev-parse", "--short=12", "--verify", "--quiet", "HEAD"]).output();
    let head = head.ok().filter(|output| output.status.success() && top.join(".git").exists());
    let head = head.map(|output| format!(" at {}", String::from_utf8_lossy(&output.stdout).trim()));
    let home = ctx.cache.path("trees", lineage(&top).as_str());
    Ok(Resolved {
        id: format!("tree:{}", short_name(&top)),
        description: format!("kernel {version}{}, as it is in {}", head.unwrap_or_default(), top.display()),
        cached: home.join("manifest").exists(),
        path: Some(top),
        commits: 0,
    })
}

pub(super) fn fetch(ctx: &Context, path: &Path) -> Result<SourceTree> {
    let (top, _) = checked(path)?;
    let lineage = lineage(&top);
    let id = format!("tree:{}", short_name(&top));
    let home = ctx.cache.path("trees", lineage.as_str());
    let _lock = ctx.cache.lock(&ctx.bus, &format!("trees-{lineage}"))?;
    create_dir(&home.join("files"))?;
    ctx.cache.hold(&home);
    let phase = ctx.bus.phase("snapshot", &id);
    let wanted = stamps(&top, list(ctx, &top)?)?;
    interrupt::check()?;
    let (held, unchanged) = refresh(&top, &home, wanted, &phase)?;
    let key = manifest::key(&held);
    if unchanged {
        phase.cached()
    } else {
        phase.finish()
    }
    Ok(SourceTree {
        id,
        dir: home.join("files"),
        key,
        origin: Some(lineage.clone()),
        lineage,
        base_commit: None,
    })
}

/// Makes the snapshot in `home` what `wanted` says. Gives what it holds, and whether it did so already.
fn refresh(top: &Path, home: &Path, wanted: Vec<Entry>, phase: &Phase) -> Result<(Vec<Held>, bool)> {
    let (files, manifest_path) = (home.join("files"), home.join("manifest"));
    let record = fs::read(&manifest_path).ok();
    let known = record.as_deref().and_then(manifest::parse);
    if let Some(known) = &known
        && known.iter().map(|held| &held.entry).eq(&wanted)
    {
        return Ok((known.clone(), true));
    }
    // Without a manifest a refresh was cut short: what is there decides.
    let have = match known {
        Some(have) => have,
        None => there(&files)?,
    };
    if record.is_some() {
        fs::remove_file(&manifest_path).on("cannot remove", &manifest_path)?;
    }
    let wanted_paths: HashSet<&[u8]> = wanted.iter().map(|entry| &entry.path[..]).collect();
    for gone in have.iter().filter(|held| !wanted_paths.contains(&held.entry.path[..])) {
        remove(&files, &below(&files, &gone.entry.path))?;
    }
    let mut have: HashMap<&Entry, &str> = have.iter().map(|held| (&held.entry, held.hash.as_str())).collect();
    let changed: Vec<&Entry> = wanted.iter().filter(|entry| !have.contains_key(entry)).collect();
    let copied = copy_all(top, home, &changed, phase)?;
    // Files may have changed once more while they were copied: the manifest says what the snapshot holds.
    let mut copied: HashMap<&[u8], Option<(Stamp, String)>> = copied.into_iter().collect();
    let mut held = Vec::with_capacity(wanted.len());
    for entry in &wanted {
        match (have.remove(entry), copied.remove(&entry.path[..])) {
            (_, Some(Some((stamp, hash)))) => {
                held.push(Held { entry: Entry { path: entry.path.clone(), stamp }, hash });
            }
            (Some(hash), None) => held.push(Held { entry: entry.clone(), hash: hash.to_owned() }),
            (_, Some(None)) | (None, None) => remove(&files, &below(&files, &entry.path))?,
        }
    }
    let handle = fs::File::open(&files).on("cannot open", &files)?;
    // A manifest that outlives the content it names, after a power cut, would never be noticed.
    nix::unistd::syncfs(&handle).on("cannot sync", &files)?;
    write_file(&manifest_path, manifest::write(&held))?;
    Ok((held, false))
}

/// What is in a directory of files, read whole.
fn there(files: &Path) -> Result<Vec<Held>> {
    let mut paths = walk(files)?;
    paths.sort_unstable();
    let entries = stamps(files, paths)?;
    let hash = |entry: Entry| -> Result<Held> {
        interrupt::check()?;
        let hash = content(&below(files, &entry.path), entry.stamp)?;
        Ok(Held { entry, hash })
    };
    entries.into_iter().map(hash).collect()
}

/// Hash of what a file or link holds.
fn content(path: &Path, stamp: Stamp) -> Result<String> {
    if stamp.mode & FILE_TYPE == SYMLINK {
        let target = fs::read_link(path).on("cannot read", path)?;
        return Ok(hash_bytes(target.as_os_str().as_bytes()));
    }
    hash_file(path)
}

/// Removes a file, and directories that it leaves empty.
fn remove(files: &Path, path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).on("cannot remove", path);
        }
        _ => (),
    }
    let mut parent = path.parent();
    while let Some(dir) = parent.filter(|dir| *dir != files && fs::remove_dir(dir).is_ok()) {
        parent = dir.parent();
    }
    Ok(())
}

/// What became of a file that was to be copied: its state and content, `None` where it vanished meanwhile.
type Copied<'a> = (&'a [u8], Option<(Stamp, String)>);

/// Copies files into the snapshot.
fn copy_all<'a>(top: &Path, home: &Path, entries: &[&'a Entry], phase: &Phase) -> Result<Vec<Copied<'a>>> {
    let files = home.join("files");
    let mut dirs: Vec<PathBuf> =
        entries.iter().filter_map(|entry| Some(below(&files, &entry.path).parent()?.to_owned())).collect();
    dirs.dedup();
    for dir in dirs {
        create_dir(&dir)?;
    }
    let next = AtomicUsize::new(0);
    let work = |number: usize| -> Result<Vec<Copied<'a>>> {
        let scratch = home.join(format!("new-{number}"));
        let mut copied = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = entries.get(at) else { return Ok(copied) };
            if at % 64 == 0 {
                interrupt::check()?;
            }
            if number == 0 && copied.len() % 256 == 0 {
                phase.progress(at as u64, entries.len() as u64, String::from_utf8_lossy(&entry.path));
            }
            let (from, to) = (below(top, &entry.path), below(&files, &entry.path));
            copied.push((&entry.path[..], copy(&from, &to, &scratch)?));
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads()).map(|number| scope.spawn(move || work(number))).collect();
        let mut all = work(0)?;
        for worker in workers {
            all.extend(worker.join().expect("a copy does not panic")?);
        }
        Ok(all)
    })
}

/// Copies one file under a temporary name and renames it. A file that changes meanwhile is copied again.
fn copy(from: &Path, to: &Path, scratch: &Path) -> Result<Option<(Stamp, String)>> {
    const ATTEMPTS: usize = 5;
    for _ in 0..ATTEMPTS {
        let Some(before) = stamp(from)? else { return Ok(None) };
        match fs::remove_file(scratch) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).on("cannot remove", scratch);
            }
            _ => (),
        }
        let made = if before.mode & FILE_TYPE == SYMLINK {
            fs::read_link(from).and_then(|target| std::os::unix::fs::symlink(target, scratch))
        } else {
            // Reflinks where the file system can, and keeps the mode.
            fs::copy(from, scratch).map(drop)
        };
        if made.is_ok() && stamp(from)? == Some(before) {
            let mtime = TimeSpec::new(before.seconds, before.nanoseconds);
            utimensat(nix::fcntl::AT_FDCWD, scratch, &mtime, &mtime, UtimensatFlags::NoFollowSymlink)
                .on("cannot set the time of", scratch)?;
            // Of the copy: nothing changes that any more.
            let hash = content(scratch, before)?;
            fs::rename(scratch, to).on("cannot rename into place", to)?;
            return Ok(Some((before, hash)));
        }
        if stamp(from)? == Some(before) {
            made.on("cannot copy", from)?;
        }
    }
    Err(Error::host(format!("cannot copy {}", from.display()))
        .why("it kept changing while it was read")
        .next("wait until whatever writes there is done, then run this again"))
}

#[cfg(test)]
mod tests;
