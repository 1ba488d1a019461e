// SPDX-License-Identifier: MIT OR Apache-2.0
//! The source tree that an object directory is built from: hard links to the cached source, overlaid with the
//! changed files of a series.
//!
//! make decides by timestamps. So a file that differs from the last build in this object directory gets a new
//! time, even if an older state is restored, and all other files keep theirs. Then make rebuilds exactly what
//! differs, in whatever order kernels are built.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use vmtest_base::error::{IoContext, Result};
use vmtest_base::files::{create_dir, killpoint, write_file};
use vmtest_base::interrupt;
use vmtest_base::key::Key;
use vmtest_host::store::{SEAL, remove_tree};

/// The last state of the view.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// Key of the base source; `None` while files are being changed, or before the first time.
    base: Option<Key>,
    /// Files that the series had changed or deleted.
    overlaid: BTreeSet<String>,
}

/// Files of a series, over a base.
#[derive(Debug, Clone, Copy)]
pub struct Overlaid<'a> {
    /// Directory with the changed files at their paths.
    pub files: &'a Path,
    pub changed: &'a [String],
    /// Paths that the series deletes.
    pub deleted: &'a [String],
}

/// Result of a sync.
#[derive(Debug, Default)]
pub struct Synced {
    /// Paths whose content is new to this object directory; empty after the first sync.
    pub changed: Vec<String>,
    /// Whether the view was created.
    pub fresh: bool,
}

/// Updates `view` to `base` with `overlay` on top. `state_file` records its state.
///
/// # Errors
/// If interrupted, and those of the file system. The next call then compares everything.
pub fn sync(
    view: &Path,
    state_file: &Path,
    base: &Path,
    base_key: &Key,
    overlay: Option<Overlaid<'_>>,
) -> Result<Synced> {
    // A source that was damaged and unpacked again has the same key, but other inodes.
    let inode = base.metadata().on("cannot look at", base)?.ino();
    let base_key = &Key::of("view base 1")
        .field("source", base_key.as_str())
        .field("inode", inode.to_le_bytes())
        .finish();
    let mut state = read_state(state_file);
    let known = state.as_ref().and_then(|state| state.base.clone());
    let before = state.take().map(|state| state.overlaid).unwrap_or_default();
    let mut synced = Synced::default();
    let (changed, deleted) = overlay.map_or((&[][..], &[][..]), |overlay| (overlay.changed, overlay.deleted));
    let now: BTreeSet<String> = changed.iter().chain(deleted).cloned().collect();
    // From here until the end, the view is between two states.
    write_state(state_file, &State { base: None, overlaid: before.clone() })?;
    if !view.exists() {
        fill(base, view)?;
        synced.fresh = true;
    } else if known.as_ref() != Some(base_key) {
        compare(base, view, &now, &mut synced.changed)?;
    }
    for path in before.difference(&now) {
        take(&base.join(path), &view.join(path), path, &mut synced.changed)?;
    }
    if let Some(overlay) = overlay {
        for path in overlay.changed {
            take(&overlay.files.join(path), &view.join(path), path, &mut synced.changed)?;
        }
        for path in overlay.deleted {
            take(&overlay.files.join(path), &view.join(path), path, &mut synced.changed)?;
        }
    }
    write_state(state_file, &State { base: Some(base_key.clone()), overlaid: now })?;
    Ok(synced)
}

fn read_state(file: &Path) -> Option<State> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

fn write_state(file: &Path, state: &State) -> Result<()> {
    // A state has only strings and sets: serializing it cannot fail.
    write_file(file, serde_json::to_vec(state).unwrap_or_default())
}

/// Creates a view of links, under another name until it is complete.
fn fill(base: &Path, view: &Path) -> Result<()> {
    let half = view.with_extension("half");
    remove_tree(&half);
    create_dir(&half)?;
    for entry in walk(base) {
        let entry = entry?;
        let Some(below) = relative(base, entry.path()) else { continue };
        let target = half.join(below);
        if entry.file_type().is_dir() {
            fs::create_dir(&target).on("cannot create", &target)?;
        } else {
            link(entry.path(), &target)?;
        }
    }
    killpoint("half a view");
    fs::rename(&half, view).on("cannot rename into place", view)
}

/// Updates the view to the base. Skips files of the overlay: otherwise each edit of a tree would rebuild
/// everything that includes a header of the series.
fn compare(base: &Path, view: &Path, overlaid: &BTreeSet<String>, changed: &mut Vec<String>) -> Result<()> {
    let owned = |below: &Path| below.to_str().is_some_and(|below| overlaid.contains(below));
    for entry in walk(base) {
        let entry = entry?;
        let Some(below) = relative(base, entry.path()) else { continue };
        let target = view.join(&below);
        if entry.file_type().is_dir() {
            if !target.is_dir() {
                let _ = fs::remove_file(&target);
                create_dir(&target)?;
            }
            continue;
        }
        if owned(&below) {
            continue;
        }
        let same = match (entry.path().symlink_metadata(), target.symlink_metadata()) {
            (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
            _ => false,
        };
        if !same {
            take(entry.path(), &target, &below.to_string_lossy(), changed)?;
        }
    }
    let mut gone = Vec::new();
    for entry in walk(view) {
        let entry = entry?;
        let Some(below) = relative(view, entry.path()) else { continue };
        if !owned(&below) && base.join(&below).symlink_metadata().is_err() {
            gone.push((below, entry.file_type().is_dir()));
        }
    }
    for (below, is_dir) in gone.iter().rev() {
        let path = view.join(below);
        if *is_dir {
            // It may still contain files of the overlay.
            let _ = fs::remove_dir(&path);
        } else {
            fs::remove_file(&path).on("cannot remove", &path)?;
            changed.push(below.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// Sets one path of the view to the content of `from`, with a new time if that differs. Removes it if `from`
/// does not exist.
fn take(from: &Path, to: &Path, name: &str, changed: &mut Vec<String>) -> Result<()> {
    interrupt::check()?;
    let Ok(source) = from.symlink_metadata() else {
        if to.symlink_metadata().is_ok() {
            fs::remove_file(to).on("cannot remove", to)?;
            changed.push(name.to_owned());
        }
        return Ok(());
    };
    if same_content(from, &source, to) {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        create_dir(parent)?;
    }
    // Never in place: the old file may be a hard link to the cached source.
    let half = to.with_file_name(format!(".vmtest-{}", std::process::id()));
    let _ = fs::remove_file(&half);
    if source.file_type().is_symlink() {
        link(from, &half)?;
    } else {
        fs::copy(from, &half).on("cannot copy", from)?;
    }
    killpoint("half a file");
    fs::rename(&half, to).on("cannot rename into place", to)?;
    killpoint("a file of the view");
    changed.push(name.to_owned());
    Ok(())
}

fn same_content(from: &Path, source: &fs::Metadata, to: &Path) -> bool {
    let Ok(target) = to.symlink_metadata() else { return false };
    if source.file_type() != target.file_type()
        || source.mode() != target.mode()
        || source.len() != target.len()
    {
        return false;
    }
    if source.file_type().is_symlink() {
        return fs::read_link(from).ok() == fs::read_link(to).ok();
    }
    matches!((fs::read(from), fs::read(to)), (Ok(a), Ok(b)) if a == b)
}

fn link(from: &Path, to: &Path) -> Result<()> {
    if from.symlink_metadata().on("cannot look at", from)?.file_type().is_symlink() {
        let target = fs::read_link(from).on("cannot read link", from)?;
        return std::os::unix::fs::symlink(target, to).on("cannot link", to);
    }
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        // Too many links, or a file system without hard links.
        Err(_) => copy_keeping_time(from, to),
    }
}

fn copy_keeping_time(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).on("cannot copy", from)?;
    let time = from.metadata().and_then(|data| data.modified()).on("cannot look at", from)?;
    let file = fs::File::options().write(true).open(to).on("cannot open", to)?;
    file.set_modified(time).on("cannot set the time of", to)
}

fn walk(dir: &Path) -> impl Iterator<Item = Result<walkdir::DirEntry>> {
    let dir = dir.to_owned();
    // The seal belongs to the cache entry, not to the source.
    let is_seal = |entry: &walkdir::DirEntry| entry.depth() == 1 && entry.file_name() == SEAL;
    WalkDir::new(&dir).min_depth(1).into_iter().filter_entry(move |entry| !is_seal(entry)).map(move |entry| {
        interrupt::check()?;
        entry.map_err(std::io::Error::from).on("cannot walk", &dir)
    })
}

fn relative(root: &Path, path: &Path) -> Option<PathBuf> {
    path.strip_prefix(root).ok().map(Path::to_owned)
}

#[cfg(test)]
mod tests;
