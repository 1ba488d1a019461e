// SPDX-License-Identifier: MIT OR Apache-2.0
//! One module per subcommand: only the order of its steps, and nothing that another command also needs.

pub mod baseline;
pub mod bisect;
pub mod cache;
pub mod ci_matrix;
pub mod clean;
pub mod completions;
pub mod coverage;
pub mod dist;
pub mod doctor;
mod finish;
pub mod inspect;
pub mod install;
pub mod matrix;
pub mod mutants;
pub mod output;
pub mod report;
pub mod review;
pub mod sources;
mod staging;
mod start;
pub mod target;
pub mod test;
pub mod typed;
pub mod vmtest;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde_json::Value;
use vmtest_protocol::Effort;

use crate::commands::target::Target;
use crate::github;
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::{places, sanitize};

/// Names of the commands, for who mistypes one: an unknown first word is a kernel or a series.
pub const COMMANDS: [&str; 16] = [
    "vmtest",
    "review",
    "coverage",
    "matrix",
    "bisect",
    "report",
    "ci-matrix",
    "sources",
    "doctor",
    "cache",
    "clean",
    "completions",
    "man",
    "test",
    "dist",
    "install",
];

/// Writes data to standard output.
///
/// # Errors
/// When it cannot be written.
pub fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(sanitize::with_colours(text).as_bytes()) {
        // `vmtest .. | head`: the reader has enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(|error| Error::new(Class::Host, "cannot write to standard output").why(error)),
    }
}

/// Prints text, or data if requested.
///
/// # Errors
/// When it cannot be written.
pub fn tell(text: &str, data: &Value, to: Option<&Path>) -> Result<Class> {
    let target = match to {
        Some(path) if path == Path::new("-") => Some(Target::Stdout),
        Some(path) => Some(Target::open("--json", path)?),
        None => None,
    };
    if !target.as_ref().is_some_and(Target::is_stdout) {
        github::text_follows();
        print(text)?;
    }
    if let Some(target) = target {
        target.write(&format!("{data:#}\n"))?;
    }
    Ok(Class::Pass)
}

/// A path that the user typed.
pub fn path() -> impl TypedValueParser<Value = PathBuf> {
    clap::builder::PathBufValueParser::new().map(|path| places::expanded(&path))
}

/// Values of `--effort`. Its type is shared with the guest, so it does not depend on clap.
pub fn effort() -> impl TypedValueParser<Value = Effort> {
    let words = [
        PossibleValue::new("quick").help("One look at each group"),
        PossibleValue::new("normal").help("Everything that ends within seconds"),
        PossibleValue::new("soak").help("The same, and stress in full: minutes"),
    ];
    PossibleValuesParser::new(words).try_map(|word| Effort::of_name(&word).ok_or("unknown effort"))
}
