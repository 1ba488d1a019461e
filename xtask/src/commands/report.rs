// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask report`: reports about finished runs, offline. One module per subcommand.

pub mod diff;
mod export;
mod list;
mod merge;
mod show;

use std::path::Path;

use vmtest_base::error::{Class, Result};

const EXAMPLES: &str = "\
Examples:
  cargo xtask report list                          what ran, and when
  cargo xtask report show                          the newest run
  cargo xtask report show -2                       the run before that
  cargo xtask report show 20261121-090238-692d4a   by name or directory
  cargo xtask report export --output junit=out.xml --output mail=reply.txt
  cargo xtask report diff 20261120-090238-692d4a latest
  cargo xtask report merge job-*/                 merge parts of a matrix

RUN is `latest`, `-2` for the second last, the name of a run, its directory
or its run.json.
Nothing is fetched, built or booted.";

/// Show, compare, export or merge finished runs, offline
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What to do with them.
    #[command(subcommand)]
    what: What,
}

/// What to do with finished runs.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// List finished runs: name, time, duration, verdict.
    List(list::Args),
    /// Print the table of a finished run; the exit code is the run's.
    Show(show::Args),
    /// Compare two runs: exit 0 if nothing got worse, 1 if something did.
    Diff(diff::Args),
    /// Write a run in other formats; the exit code is the run's.
    Export(export::Args),
    /// Merge the runs of parts of a matrix (`vmtest --matrix` with --cell or --shard); missing parts give
    /// exit code 3.
    Merge(merge::Args),
}

/// Runs the subcommand; the class decides the exit code.
///
/// # Errors
/// When a run does not exist or cannot be trusted.
pub fn run(args: &Args, project: &Path) -> Result<Class> {
    match &args.what {
        What::List(args) => list::run(args).map(|()| Class::Pass),
        What::Show(args) => show::run(args),
        What::Diff(args) => diff::run(args),
        What::Export(args) => export::run(args),
        What::Merge(args) => merge::run(args, project),
    }
}
