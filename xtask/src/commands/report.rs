// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask report`: what can be said of finished runs, offline. One module per subcommand.

pub mod diff;
mod export;
mod merge;
mod show;

use std::path::Path;

use vmtest_base::error::{Class, Result};

const EXAMPLES: &str = "\
Examples:
  cargo xtask report show                              the newest run, as vmtest printed it
  cargo xtask report show 20261121-090238-692d4a       by its name, or by its directory
  cargo xtask report export --output junit=out.xml --output mail=reply.txt latest
  cargo xtask report diff 20261120-090238-692d4a latest
  cargo xtask report merge shards/*                    parts of a matrix as one run

RUN is `latest`, the name of a run, its directory, or its run.json. Nothing is booted, built or fetched.";

/// Re-read finished runs.
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
    /// Print the table of a run again; the exit code is the run's.
    Show(show::Args),
    /// Compare two runs: exit 0 if nothing got worse, 1 if something did.
    Diff(diff::Args),
    /// Write a run in other formats; the exit code is the run's.
    Export(export::Args),
    /// Join runs of parts of a matrix (`vmtest --matrix` with --cell or --shard) into one; what is missing is exit 3.
    Merge(merge::Args),
}

/// Runs it; the class decides the exit code.
///
/// # Errors
/// Where a run is not there or cannot be believed.
pub fn run(args: &Args, project: &Path) -> Result<Class> {
    match &args.what {
        What::Show(args) => show::run(args),
        What::Diff(args) => diff::run(args),
        What::Export(args) => export::run(args),
        What::Merge(args) => merge::run(args, project),
    }
}
