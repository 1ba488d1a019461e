// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask report show`: the table of a finished run.

use std::path::PathBuf;

use crate::commands::print;
use crate::error::{Class, Result};
use crate::report::export::{Format, Story};
use crate::report::table::Look;
use crate::stored::Stored;

const EXAMPLES: &str = "\
Examples:
  cargo xtask report show
  cargo xtask report show 20261121-090238-692d4a
  cargo xtask report show latest --json";

/// Print the table of a finished run.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The run
    #[arg(value_name = "RUN", default_value = "latest")]
    run: PathBuf,
    /// Its record instead of the table
    #[arg(long)]
    json: bool,
}

/// Prints it; the class is the run's.
///
/// # Errors
/// Where the run is not there or cannot be believed.
pub fn run(args: &Args) -> Result<Class> {
    let Args { run, json } = args;
    let stored = Stored::open(run)?;
    let directory = stored.dir.display().to_string();
    let story = Story::of(&stored.result, &directory);
    let format = if *json { Format::Json } else { Format::Table };
    print(&format.render(&story, Look::of_stdout())?)?;
    Ok(story.exit_class())
}
