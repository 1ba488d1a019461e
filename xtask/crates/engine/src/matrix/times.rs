// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long the guests of each job took last time, so that the longest can start first. Only a hint: a
//! missing or wrong file costs some time and nothing else.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use vmtest_base::error::{IoContext, Result};
use vmtest_base::files::{create_dir, write_file};
use vmtest_base::places::runs_dir;

/// Most jobs that are remembered.
const MOST: usize = 4096;

/// Name of a job to milliseconds.
pub type Times = BTreeMap<String, u64>;

fn file() -> Result<PathBuf> {
    Ok(runs_dir()?.parent().unwrap_or(Path::new("/")).join("job-times.json"))
}

/// The remembered times; empty if they cannot be read.
pub fn load() -> Times {
    file().map(|file| read(&file)).unwrap_or_default()
}

fn read(file: &Path) -> Times {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Remembers these times as well.
///
/// # Errors
/// When the file cannot be written.
pub fn remember(new: Times) -> Result<()> {
    add(&file()?, new)
}

fn add(file: &Path, new: Times) -> Result<()> {
    let dir = file.parent().unwrap_or(Path::new("/"));
    create_dir(dir)?;
    // Shards of a matrix may end at the same time on one machine, and one could overwrite what the other
    // added. The directory is locked, because each write replaces the file.
    let handle = File::open(dir).on("cannot open", dir)?;
    let _lock =
        Flock::lock(handle, FlockArg::LockExclusive).map_err(|(_, errno)| errno).on("cannot lock", dir)?;
    let mut times = read(file);
    times.extend(new);
    while times.len() > MOST {
        times.pop_first();
    }
    write_file(file, serde_json::to_string(&times).unwrap_or_default())
}

/// Expected time of a job. An unknown one may be the longest.
pub fn expected(times: &Times, id: &str) -> u64 {
    times.get(id).copied().unwrap_or(u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_at_once_is_all_remembered() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("state/job-times.json");
        let names: Vec<String> = (0..16).map(|at| format!("job-{at}")).collect();
        std::thread::scope(|scope| {
            for (at, name) in (0..).zip(&names) {
                let file = &file;
                scope.spawn(move || add(file, Times::from([(name.clone(), at)])).expect("remembered"));
            }
        });
        let times = read(&file);
        assert!(names.iter().zip(0..).all(|(name, at)| times.get(name) == Some(&at)), "{times:?}");
    }
}
