// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask report show`: the table of a finished run.

use std::path::PathBuf;

use crate::commands::print;
use crate::error::{Class, Result};
use crate::report::export::Story;
use crate::report::table;
use crate::stored::Stored;

/// Print the table of a finished run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run
    #[arg(value_name = "RUN", default_value = "latest")]
    run: PathBuf,
}

/// Prints it; the class is the run's.
///
/// # Errors
/// Where the run is not there or cannot be believed.
pub fn run(args: &Args) -> Result<Class> {
    let Args { run } = args;
    let stored = Stored::open(run)?;
    let directory = stored.dir.display().to_string();
    let story = Story::of(&stored.result, &directory);
    print(&table::render(&story, table::Look::of_stdout()))?;
    Ok(story.exit_class())
}
