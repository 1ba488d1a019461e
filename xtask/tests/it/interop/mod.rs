// SPDX-License-Identifier: MIT OR Apache-2.0
//! Third-party programs read what we write: a browser, shells, validators, linters. Ordinary test runs omit
//! these; `cargo xtask test --interop` runs them, and so does CI. A missing program is a failure: a skipped
//! test proves nothing.

mod browser;
mod exports;
mod forge;
mod junitparser;
mod pages;
mod papers;
mod workflows;

use std::process::{Command, Output};

/// Runs a program of the host to its end.
fn output(program: &str, command: &mut Command) -> Output {
    let missing = |error| panic!("{program}: {error}; `scripts/setup.sh --ci` installs it");
    command.output().unwrap_or_else(missing)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
