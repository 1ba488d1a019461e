// SPDX-License-Identifier: MIT OR Apache-2.0
//! The copy of a tree in the cache, updated by replacing only the files that changed.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;
use std::{fs, io};

use nix::sys::stat::{UtimensatFlags, fstat, utimensat};
use nix::sys::time::TimeSpec;

use crate::source::tree::manifest::{self, Held};
use crate::source::tree::{Entry, FILE_TYPE, SYMLINK, Stamp, below, everything, stamp, threads};
use vmtest_base::beneath::Top;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::event::Phase;
use vmtest_base::files::{create_dir, write_file};
use vmtest_base::interrupt;
use vmtest_base::key::{hash_bytes, hash_file};

/// Updates the snapshot in `home` to `wanted`. Returns its content, and whether it was already up to date.
pub(super) fn refresh(
    top: &Path,
    home: &Path,
    wanted: Vec<Entry>,
    phase: &Phase,
) -> Result<(Vec<Held>, bool)> {
    let (files, manifest_path) = (home.join("files"), home.join("manifest"));
    let record = fs::read(&manifest_path).ok();
    let known = record.as_deref().and_then(manifest::parse);
    if let Some(known) = &known
        && known.iter().all(|held| !held.fresh)
        && known.iter().map(|held| &held.entry).eq(&wanted)
    {
        return Ok((known.clone(), true));
    }
    let have: HashMap<&[u8], &Held> = match &known {
        Some(known) => known.iter().map(|held| (&held.entry.path[..], held)).collect(),
        None => HashMap::new(),
    };
    // Without a manifest an update was interrupted, so everything is copied again.
    let there = match &known {
        Some(known) => known.iter().map(|held| held.entry.path.clone()).collect(),
        None => everything(&files)?,
    };
    if record.is_some() {
        fs::remove_file(&manifest_path).on("cannot remove", &manifest_path)?;
    }
    let wanted_paths: HashSet<&[u8]> = wanted.iter().map(|entry| &entry.path[..]).collect();
    for gone in there.iter().filter(|path| !wanted_paths.contains(&path[..])) {
        remove(&files, &below(&files, gone))?;
    }
    let is_held = |entry: &Entry| have.get(&entry.path[..]).is_some_and(|held| held.is(&entry.stamp));
    let changed: Vec<&Entry> = wanted.iter().filter(|entry| !is_held(entry)).collect();
    let copied = copy_all(top, home, &changed, &have, phase)?;
    // Files may have changed again while they were copied: the manifest describes the snapshot itself.
    let mut copied: HashMap<&[u8], Option<Held>> = copied.into_iter().collect();
    let mut held = Vec::with_capacity(wanted.len());
    for entry in &wanted {
        match copied.remove(&entry.path[..]) {
            Some(Some(new)) => held.push(new),
            Some(None) => remove(&files, &below(&files, &entry.path))?,
            None => held.extend(have.get(&entry.path[..]).map(|old| (*old).clone())),
        }
    }
    let same = known.as_deref().is_some_and(|known| manifest::key(known) == manifest::key(&held));
    let handle = fs::File::open(&files).on("cannot open", &files)?;
    // After a power failure, a manifest without the content that it describes would never be noticed.
    nix::unistd::syncfs(&handle).on("cannot sync", &files)?;
    write_file(&manifest_path, manifest::write(&held))?;
    Ok((held, same))
}

/// Removes a file and the directories that are then empty.
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

/// The result of copying a file: `None` if it vanished meanwhile.
type Copied<'a> = (&'a [u8], Option<Held>);

/// Copies files into the snapshot, unless it already has their content.
fn copy_all<'a>(
    top: &Path,
    home: &Path,
    entries: &[&'a Entry],
    have: &HashMap<&[u8], &Held>,
    phase: &Phase,
) -> Result<Vec<Copied<'a>>> {
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
        let opener = Top::open(top).on("cannot open", top)?;
        let mut copier = Copier { opener, top, scratch: &scratch };
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
            let old = have.get(&entry.path[..]).copied();
            let to = below(&files, &entry.path);
            copied.push((&entry.path[..], copier.copy(entry, old, &to)?));
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

/// Copies files out of a tree.
struct Copier<'a> {
    opener: Top,
    top: &'a Path,
    /// Temporary name.
    scratch: &'a Path,
}

impl Copier<'_> {
    /// Copies one file under a temporary name and renames it, unless the snapshot already has the same
    /// content according to `old`. A file that changes meanwhile is copied again.
    fn copy(&mut self, entry: &Entry, old: Option<&Held>, to: &Path) -> Result<Option<Held>> {
        let (opener, top, scratch) = (&mut self.opener, self.top, self.scratch);
        const ATTEMPTS: usize = 5;
        let from = below(top, &entry.path);
        for _ in 0..ATTEMPTS {
            let now = SystemTime::now();
            let Ok(before) = stamp(opener, entry.path())? else { return Ok(None) };
            if before.mode & FILE_TYPE != entry.stamp.mode & FILE_TYPE {
                // The file was replaced by a symlink or the other way round, so the list of files is
                // outdated: paths below a new symlink would no longer belong to the tree.
                break;
            }
            match fs::remove_file(scratch) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).on("cannot remove", scratch);
                }
                _ => (),
            }
            let made = copy_content(opener, entry.path(), &before, scratch);
            if made.is_ok() && stamp(opener, entry.path())? == Ok(before) {
                let (seconds, nanoseconds) = before.mtime;
                let mtime = TimeSpec::new(seconds, nanoseconds);
                utimensat(nix::fcntl::AT_FDCWD, scratch, &mtime, &mtime, UtimensatFlags::NoFollowSymlink)
                    .on("cannot set the time of", scratch)?;
                // Hash of the copy, which does not change any more.
                let hash = content(scratch, before)?;
                let entry = Entry { path: entry.path.clone(), stamp: before };
                // Keep the old file if only the ctime differs: later stages have links to it.
                let same = |old: &Held| old.hash == hash && old.entry.stamp.visible() == before.visible();
                if old.is_some_and(same) {
                    fs::remove_file(scratch).on("cannot remove", scratch)?;
                } else {
                    fs::rename(scratch, to).on("cannot rename into place", to)?;
                }
                return Ok(Some(Held { entry, hash, fresh: before.is_fresh(now) }));
            }
            if stamp(opener, entry.path())? == Ok(before) {
                made.on("cannot copy", &from)?;
            }
        }
        Err(Error::host(format!("cannot copy {}", from.display()))
            .why("it kept changing while it was read")
            .next("wait until nothing writes there, then run this again"))
    }
}

/// Copies exactly the stamped file, not another one that replaced it.
fn copy_content(opener: &mut Top, path: &Path, before: &Stamp, to: &Path) -> io::Result<()> {
    if before.mode & FILE_TYPE == SYMLINK {
        return std::os::unix::fs::symlink(opener.read_link(path)?, to);
    }
    let mut from = opener.file(path)?;
    if Stamp::of(&fstat(&from)?) != *before {
        return Err(io::Error::other("it changed"));
    }
    let mut copy = fs::File::create_new(to)?;
    // A file that keeps growing may never end. Uses reflinks if the file system supports them.
    io::copy(&mut io::Read::take(&mut from, before.size), &mut copy)?;
    copy.set_permissions(fs::Permissions::from_mode(before.mode & 0o777))
}

/// Hash of the content of a file or symlink in the cache.
fn content(path: &Path, stamp: Stamp) -> Result<String> {
    if stamp.mode & FILE_TYPE == SYMLINK {
        let target = fs::read_link(path).on("cannot read", path)?;
        return Ok(hash_bytes(target.as_os_str().as_bytes()));
    }
    hash_file(path)
}
