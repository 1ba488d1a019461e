// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies a tree's files for a build of its tests. A link in the tree is never followed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use vmtest_base::beneath::{self, Budget};
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::files::create_dir;
use vmtest_kernel::patched::PatchedTree;

/// Copies parts of a patched tree, giving every file the same old time, so that existing build results are
/// newer. A part that is a link, or that is reached through one, is skipped, because it may lead out of the
/// tree. A link inside a part is copied as a link, for make; the harness never follows it.
pub(super) fn copy_inputs(tree: &PatchedTree, to: &Path, inputs: &[&str]) -> Result<()> {
    for input in inputs {
        if !beneath::no_link_on_the_way(&tree.source().dir, input) {
            continue;
        }
        let from = tree.source().dir.join(input);
        if from.is_symlink() {
            continue;
        }
        for entry in walkdir::WalkDir::new(&from).follow_root_links(false).into_iter().flatten() {
            if let Ok(below) = entry.path().strip_prefix(&tree.source().dir) {
                copy_one(entry.path(), &to.join(below))?;
            }
        }
    }
    let Some(overlay) = tree.overlay() else { return Ok(()) };
    let is_input = |path: &&String| {
        inputs.iter().any(|input| {
            path.strip_prefix(input).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    // The series may name a path behind a link in the tree, which would modify a file of this host.
    for path in overlay.deleted.iter().filter(is_input).filter(|path| beneath::no_link_on_the_way(to, path)) {
        let _ = fs::remove_file(to.join(path));
    }
    for path in overlay.changed.iter().filter(is_input) {
        make_way(to, path)?;
        copy_one(&overlay.dir.join("files").join(path), &to.join(path))?;
    }
    Ok(())
}

/// Creates the parent directories of `path` below `to`.
fn make_way(to: &Path, path: &str) -> Result<()> {
    let mut way = PathBuf::new();
    for part in Path::new(path).parent().into_iter().flat_map(Path::components) {
        way.push(part);
        if !beneath::is_dir(to, &way) {
            let place = to.join(&way);
            fs::create_dir(&place).map_err(|error| {
                Error::new(Class::SuiteBuild, format!("the tests in {path} cannot be built"))
                    .why(format!("{} is not a directory of the tree: {error}", way.display()))
            })?;
        }
    }
    Ok(())
}

fn copy_one(from: &Path, to: &Path) -> Result<()> {
    let data = fs::symlink_metadata(from).on("cannot look at", from)?;
    if data.is_dir() {
        return create_dir(to);
    }
    if let Some(parent) = to.parent() {
        create_dir(parent)?;
    }
    let _ = fs::remove_file(to);
    if data.is_symlink() {
        let target = fs::read_link(from).on("cannot read", from)?;
        return std::os::unix::fs::symlink(&target, to).on("cannot make the link", to);
    }
    if data.is_file() {
        fs::copy(from, to).on("cannot copy", from)?;
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let file = fs::File::options().append(true).open(to).on("cannot open", to)?;
        file.set_modified(old).on("cannot set the time of", to)?;
    }
    Ok(())
}

/// Copies a directory, preserving the times of its files.
pub(super) fn copy_dated(from: &Path, to: &Path, room: &mut Budget) -> Result<()> {
    for entry in walkdir::WalkDir::new(from).follow_root_links(false) {
        let entry = entry.map_err(std::io::Error::from).on("cannot walk", from)?;
        let Ok(below) = entry.path().strip_prefix(from) else { continue };
        let target = to.join(below);
        if entry.file_type().is_dir() {
            create_dir(&target)?;
        } else if entry.file_type().is_symlink() {
            let link = fs::read_link(entry.path()).on("cannot read", entry.path())?;
            std::os::unix::fs::symlink(&link, &target).on("cannot make the link", &target)?;
        } else if entry.file_type().is_file() {
            beneath::copy(from, below, &target, room)?;
            let data = entry.path().metadata().on("cannot look at", entry.path())?;
            let time = data.modified().on("cannot look at", entry.path())?;
            let file = fs::File::options().append(true).open(&target).on("cannot open", &target)?;
            file.set_modified(time).on("cannot set the time of", &target)?;
        }
    }
    Ok(())
}

/// Removes the intermediate files of a library or program.
pub(super) fn remove_objects(dir: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(dir).into_iter().flatten() {
        let on_the_way =
            entry.path().extension().is_some_and(|kind| kind == "o" || kind == "d" || kind == "cmd");
        if entry.file_type().is_file() && on_the_way {
            fs::remove_file(entry.path()).on("cannot remove", entry.path())?;
        }
    }
    Ok(())
}
