// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies the files of a shard into the run that it is merged into. They may come from another machine: only
//! regular files below `cells/` and `builds/` are copied, and no link is followed.

use std::path::{Component, Path};

use vmtest_base::beneath::{self, Budget};
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::files::create_dir;
use vmtest_host::store::RunDir;
use vmtest_record::run::RunResult;

/// Most files of a shard.
const MAX_FILES: usize = 100_000;

/// Copies the files of a shard.
///
/// # Errors
/// Class `Usage` for a record that names a directory elsewhere, or one that already exists.
pub fn adopt(from: &Path, run: &RunResult, to: &RunDir) -> Result<()> {
    let (mut count, mut room) = (0, Budget::of(Class::Usage));
    for boot in run.boots.iter().filter(|boot| !boot.directory.is_empty()) {
        if !is_of_a_cell(Path::new(&boot.directory)) {
            return Err(Error::usage(format!("{} cannot be merged", from.display()))
                .why(format!("{:?} is not a valid guest directory", boot.directory)));
        }
        let place = to.path.join(&boot.directory);
        if place.exists() {
            return Err(Error::usage(format!("{} cannot be merged", from.display()))
                .why(format!("{} already exists, from another part", boot.directory)));
        }
        copy(from, Path::new(&boot.directory), &place, &mut count, &mut room)?;
    }
    // Two shards may have built the same kernel: the first log is kept.
    let builds = Path::new("builds");
    let entries = beneath::is_dir(from, builds).then(|| std::fs::read_dir(from.join(builds)));
    for entry in entries.into_iter().flatten().flatten().flatten() {
        let place = to.path.join("builds").join(entry.file_name());
        if !place.exists() {
            copy(from, &builds.join(entry.file_name()), &place, &mut count, &mut room)?;
        }
    }
    Ok(())
}

/// `cells/NAME`
fn is_of_a_cell(path: &Path) -> bool {
    let parts: Vec<Component<'_>> = path.components().collect();
    matches!(parts[..], [Component::Normal(top), Component::Normal(_)] if top == "cells")
}

/// Copies the directory `below` of a shard.
fn copy(part: &Path, below: &Path, to: &Path, count: &mut usize, room: &mut Budget) -> Result<()> {
    // It must not be a link or be reached through one. It may be missing if it was deleted to limit the size
    // of the run.
    if !beneath::is_dir(part, below) {
        return Ok(());
    }
    let from = &part.join(below);
    for entry in walkdir::WalkDir::new(from).follow_root_links(false) {
        let entry = entry.map_err(std::io::Error::from).on("cannot read", from)?;
        let inside = entry.path().strip_prefix(from).unwrap_or(Path::new(""));
        let place = to.join(inside);
        *count += 1;
        if *count > MAX_FILES {
            return Err(Error::usage(format!("{} has more than {MAX_FILES} files", from.display())));
        }
        if entry.file_type().is_dir() {
            create_dir(&place)?;
        } else if entry.file_type().is_file() {
            beneath::copy(part, below.join(inside), &place, room)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use vmtest_record::samples::boot;
    use vmtest_record::samples::run;

    fn adopted(directory: &str) -> (tempfile::TempDir, Result<()>) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let part = dir.path().join("part");
        fs::create_dir_all(part.join("cells/k")).expect("made");
        fs::create_dir_all(part.join("builds/b")).expect("made");
        fs::write(part.join("cells/k/console.log"), "text").expect("written");
        fs::write(part.join("builds/b/build.log"), "text").expect("written");
        std::os::unix::fs::symlink("/etc/passwd", part.join("cells/k/link")).expect("linked");
        std::os::unix::fs::symlink("/etc", part.join("cells/etc")).expect("linked");
        let mut record = run(Vec::new());
        record.boots = vec![boot("k", Class::Pass)];
        record.boots[0].directory = directory.to_owned();
        let to = RunDir::create(Some(&dir.path().join("to"))).expect("a directory");
        let done = adopt(&part, &record, &to);
        (dir, done)
    }

    #[test]
    fn plain_files_come_along_and_links_do_not() {
        let (dir, done) = adopted("cells/k");
        done.expect("adopted");
        assert!(dir.path().join("to/cells/k/console.log").is_file());
        assert!(dir.path().join("to/builds/b/build.log").is_file());
        assert!(dir.path().join("to/cells/k/link").symlink_metadata().is_err());
        let (dir, done) = adopted("cells/etc");
        done.expect("nothing to take");
        assert!(!dir.path().join("to/cells/etc").exists());
    }

    #[test]
    fn a_record_names_its_own_directories() {
        for hostile in ["/etc", "../part", "cells/../../x", "cells", "builds/b", "cells/k/deep"] {
            let (_dir, done) = adopted(hostile);
            assert_eq!(done.expect_err(hostile).class, Class::Usage, "{hostile}");
        }
    }
}
