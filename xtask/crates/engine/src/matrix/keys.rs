// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys that identify the matrix, harness and job of a run, so that a run of another one is not mistaken for
//! it. A bisection also uses them to reuse an earlier answer only if the same harness would judge it.
//!
//! How it could be wrong: these keys are hashes, not signatures. Whoever can write to a run's directory can
//! forge a run; the keys only prevent mistakes, above all stale artifacts.

use std::path::{Path, PathBuf};

use crate::matrix::file::Matrix;
use vmtest_base::error::{IoContext, Result};
use vmtest_base::key::{Key, hash_file};

/// Everything that determines the result of a run: the source of the harness and the runner, the
/// configurations, the build root.
const OF_THE_HARNESS: [&str; 7] =
    ["Cargo.lock", "Cargo.toml", "images", "kconfig", "selftests", "xtask/crates", "xtask/src"];

/// Key of the harness.
///
/// # Errors
/// When the checkout cannot be read.
pub fn harness(project: &Path) -> Result<Key> {
    let mut files: Vec<PathBuf> = Vec::new();
    for top in OF_THE_HARNESS.map(|top| project.join(top)).into_iter().filter(|top| top.exists()) {
        for entry in walkdir::WalkDir::new(&top) {
            let entry = entry.map_err(std::io::Error::from).on("cannot walk", &top)?;
            if entry.file_type().is_file() {
                files.push(entry.into_path());
            }
        }
    }
    files.sort();
    let mut key = Key::of("harness 1").field("version", env!("CARGO_PKG_VERSION"));
    for file in files {
        let name = file.strip_prefix(project).unwrap_or(&file).to_string_lossy().into_owned();
        key = key.field(&name, std::fs::read(&file).on("cannot read", &file)?);
    }
    Ok(key.finish())
}

/// Key of everything that turns a guest into a verdict, for any kernel: [`harness`], all variants, the
/// contents of the build root, and the running program, which may be older than its source.
///
/// # Errors
/// When the checkout or the program cannot be read.
pub fn judge(project: &Path) -> Result<Key> {
    let program = std::env::current_exe().on("cannot find this program's own path", project)?;
    let key = Key::of("judge 1").field("harness", harness(project)?.as_str());
    Ok(key.field("program", hash_file(&program)?).finish())
}

/// Key of a matrix with this harness.
pub fn matrix(matrix: &Matrix, harness: &Key) -> Key {
    let key = Key::of("matrix 1").field("harness", harness.as_str());
    matrix.texts.iter().fold(key, |key, text| key.field("file", text)).finish()
}

/// Key of a job in a matrix.
pub fn job(matrix: &str, id: &str) -> Key {
    Key::of("job 1").field("matrix", matrix).field("id", id).finish()
}
