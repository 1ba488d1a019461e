// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys that identify the matrix, harness and job of a run, so that a run of another one is not mistaken for
//! it. A bisection also uses them to reuse an earlier answer only if the same harness would judge it.
//!
//! How it could be wrong: these keys are hashes, not signatures. Whoever can write to a run's directory can
//! forge a run; the keys only prevent mistakes, above all stale artifacts.

use std::path::{Path, PathBuf};

use crate::matrix::file::Matrix;
use vmtest_base::error::{IoContext, Result};
use vmtest_base::installation::Version;
use vmtest_base::key::{Key, KeyBuilder, hash_file};
use vmtest_base::program;

/// Everything that determines the result of a run: the source of the harness and the runner, the
/// configurations, the build root.
const OF_THE_HARNESS: [&str; 7] =
    ["Cargo.lock", "Cargo.toml", "images", "kconfig", "selftests", "xtask/crates", "xtask/src"];
/// The parts of it that an installation has as files.
const OF_AN_INSTALLATION: [&str; 4] = ["images", "kconfig", "runner", "selftests"];

/// Key of the harness. An installation has that of the checkout it was made from, as long as its files are unchanged.
///
/// # Errors
/// When the checkout or the installation cannot be read.
pub fn harness(project: &Path) -> Result<Key> {
    if program::installation() == Some(project) {
        return of_installation(project);
    }
    let of = Key::of("harness 1").field("version", env!("CARGO_PKG_VERSION"));
    Ok(files(of, project, &OF_THE_HARNESS)?.finish())
}

fn of_installation(root: &Path) -> Result<Key> {
    let Version { harness, content, .. } = Version::read(root)?;
    let present = installed(root)?;
    if present.as_str() == content {
        return Ok(Key::stored(harness));
    }
    let changed = Key::of("changed harness 1").field("made from", harness);
    Ok(changed.field("changed to", present.as_str()).finish())
}

/// Hash of the files of an installation that determine the result of a run.
///
/// # Errors
/// When they cannot be read.
pub fn installed(root: &Path) -> Result<Key> {
    Ok(files(Key::of("installation 1"), root, &OF_AN_INSTALLATION)?.finish())
}

/// Adds the names and contents of all files below these directories.
fn files(mut key: KeyBuilder, project: &Path, tops: &[&str]) -> Result<KeyBuilder> {
    let mut files: Vec<PathBuf> = Vec::new();
    for top in tops.iter().map(|top| project.join(top)).filter(|top| top.exists()) {
        for entry in walkdir::WalkDir::new(&top) {
            let entry = entry.map_err(std::io::Error::from).on("cannot walk", &top)?;
            if entry.file_type().is_file() {
                files.push(entry.into_path());
            }
        }
    }
    files.sort();
    for file in files {
        let name = file.strip_prefix(project).unwrap_or(&file).to_string_lossy().into_owned();
        key = key.field(&name, std::fs::read(&file).on("cannot read", &file)?);
    }
    Ok(key)
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_installation_has_the_key_of_its_checkout_until_it_is_changed() {
        let dir = tempfile::tempdir().expect("a directory");
        for top in OF_AN_INSTALLATION.map(|top| dir.path().join(top)) {
            fs::create_dir(&top).expect("made");
            fs::write(top.join("file"), "as it was").expect("written");
        }
        of_installation(dir.path()).expect_err("it has no VERSION");
        let content = installed(dir.path()).expect("a key").to_string();
        let of_checkout = "0123456789abcdef0123".to_owned();
        let [version, revision, date] = ["1", "r", "d"].map(str::to_owned);
        let version = Version { version, revision, date, harness: of_checkout.clone(), content };
        fs::write(dir.path().join(program::VERSION_FILE), version.text()).expect("written");
        assert_eq!(of_installation(dir.path()).expect("a key").as_str(), of_checkout);
        for top in OF_AN_INSTALLATION.map(|top| dir.path().join(top)) {
            fs::write(top.join("file"), "changed").expect("written");
            let changed = of_installation(dir.path()).expect("a key");
            assert_ne!(changed.as_str(), of_checkout, "{}", top.display());
            fs::write(top.join("file"), "as it was").expect("written");
        }
        assert_eq!(of_installation(dir.path()).expect("a key").as_str(), of_checkout);
    }
}
