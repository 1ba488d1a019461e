// SPDX-License-Identifier: MIT OR Apache-2.0
//! Suites that are a program: a directory of selftests/suites/ with a `suite.toml`, whose program prints KTAP
//! in the guest.
//!
//! Parses `suite.toml`; the output is interpreted in [`vmtest_guest::judge`].

use std::fs;
use std::path::{Component, Path};

use serde::Deserialize;

use vmtest_base::error::{Error, Result};
use vmtest_base::files::read_text;
use vmtest_base::similar;
use vmtest_guest::judge::Program;

/// Where the suites are, relative to the checkout.
const SUITES: &str = "selftests/suites";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    about: String,
    program: String,
    tests: Vec<String>,
    limit_s: u32,
}

/// Loads the suite of that name.
///
/// # Errors
/// Class `Usage` for an unknown name, with the valid ones, and for an invalid `suite.toml`.
pub fn load(project: &Path, name: &str) -> Result<Program> {
    let names = names(project);
    if !names.iter().any(|known| known == name) {
        let more = if names.is_empty() { String::new() } else { format!(", {}", names.join(", ")) };
        return Err(Error::usage(format!("--suite {name}: unknown suite"))
            .why(format!("available suites: own, upstream{more}"))
            .next(similar::or(
                name,
                names.iter().map(String::as_str).chain(["own", "upstream"]),
                "docs/adding-a-suite.md describes how to add one",
            )));
    }
    let dir = project.join(SUITES).join(name);
    let path = dir.join("suite.toml");
    let wrong = |why: String| Error::usage(format!("{} is not a valid suite", path.display())).why(why);
    let File { about, program, tests, limit_s } =
        toml::from_str(&read_text(&path)?).map_err(|error| wrong(error.to_string()))?;
    let plain = Path::new(&program).components().all(|part| matches!(part, Component::Normal(_)));
    if program.is_empty() || !plain || !dir.join(&program).is_file() {
        return Err(wrong(format!("`program` is not a file below it: {program}")));
    }
    if tests.is_empty() || limit_s == 0 {
        return Err(wrong("`tests` must not be empty, and `limit_s` must be at least 1".to_owned()));
    }
    let mut sorted = tests.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() != tests.len() {
        return Err(wrong("`tests` names a test twice".to_owned()));
    }
    Ok(Program { name: name.to_owned(), about, dir, program, tests, limit_s })
}

/// Names of the available suites.
fn names(project: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(project.join(SUITES)) else { return Vec::new() };
    let suites = entries.flatten().filter(|entry| entry.path().join("suite.toml").is_file());
    let mut names: Vec<String> =
        suites.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
