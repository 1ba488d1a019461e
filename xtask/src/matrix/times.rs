// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long the guests of each job took the last time: what takes longest starts first. A guess and no more, so that a file
//! that is lost or wrong costs some time and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::workdir::{create_dir, runs_dir, write_file};

/// Most jobs that are remembered.
const MOST: usize = 4096;

/// Name of a job to milliseconds.
pub type Times = BTreeMap<String, u64>;

fn file() -> Result<PathBuf> {
    Ok(runs_dir()?.parent().unwrap_or(Path::new("/")).join("job-times.json"))
}

/// What is remembered; nothing where it cannot be read.
pub fn load() -> Times {
    let text = file().ok().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Remembers these as well.
///
/// # Errors
/// When the file system refuses.
pub fn remember(new: Times) -> Result<()> {
    let mut times = load();
    times.extend(new);
    while times.len() > MOST {
        times.pop_first();
    }
    let file = file()?;
    if let Some(dir) = file.parent() {
        create_dir(dir)?;
    }
    let text = serde_json::to_string(&times).unwrap_or_default();
    write_file(&file, text)
}

/// Expected time of a job. One that nobody has seen yet may be the longest.
pub fn expected(times: &Times, id: &str) -> u64 {
    times.get(id).copied().unwrap_or(u64::from(u32::MAX))
}
