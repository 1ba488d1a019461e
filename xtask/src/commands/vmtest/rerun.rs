// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vmtest --rerun-failed`: the request of an earlier run, for the tests that did not pass in it.

use std::path::Path;

use clap::FromArgMatches;

use crate::commands::vmtest::args::VmtestArgs;
use crate::commands::vmtest::words;
use vmtest_base::error::{Error, Result};
use vmtest_engine::request::Request;
use vmtest_host::context::Context;
use vmtest_record::findings;
use vmtest_record::load::Stored;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{Cell, RunResult};

/// The request of that run for what did not pass.
///
/// # Errors
/// Class `Usage` if there is no such run, if everything passed, or if it was not a run of `vmtest`.
pub(super) fn request(ctx: &Context, which: &Path) -> Result<Request> {
    let Stored { dir, result } = Stored::open(which)?;
    let no = |why: &str| {
        Error::usage(format!("cannot rerun the failed tests of {}", dir.display())).why(why.to_owned())
    };
    let args = arguments(&result.command).ok_or_else(|| no("it was not started by `vmtest`"))?;
    if args.matrix.is_some() {
        return Err(
            no("it is the run of a matrix").next("run the jobs that failed again with --matrix and --cell")
        );
    }
    let (request, _) = words::request(ctx, &args)?;
    let tests = tests(&result, request.tests.clone());
    let tests = tests.ok_or_else(|| no("every test of it passed"))?;
    Ok(Request { tests, ..request })
}

/// The options of a recorded command line.
fn arguments(command: &[String]) -> Option<VmtestArgs> {
    // The words are quoted as for a shell.
    let words = shlex::split(&command.join(" "))?;
    let at = words.iter().position(|word| word == "vmtest")?;
    let parser = <VmtestArgs as clap::Args>::augment_args(clap::Command::new("vmtest").no_binary_name(true));
    let matches = parser.try_get_matches_from(&words[at + 1..]).ok()?;
    VmtestArgs::from_arg_matches(&matches).ok()
}

/// What did not pass; the tests that were asked for if none of them ran. `None` if everything passed.
fn tests(run: &RunResult, asked: Vec<String>) -> Option<Vec<String>> {
    let bad: Vec<&Cell> = run.cells.iter().filter(|cell| findings::verdict(cell).is_bad()).collect();
    if bad.is_empty() && run.exit_code == vmtest_base::error::Class::Pass {
        return None;
    }
    if bad.iter().all(|cell| cell.outcome == Outcome::Notrun) {
        return Some(asked);
    }
    let mut tests: Vec<String> = Vec::new();
    for path in bad.iter().map(|cell| cell.path()) {
        if !tests.contains(&path) {
            tests.push(path);
        }
    }
    Some(tests)
}
