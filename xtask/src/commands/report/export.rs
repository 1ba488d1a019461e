// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask report export`: a finished run in other formats.

use std::path::PathBuf;

use crate::commands::baseline::BaselineArgs;
use crate::commands::output;
use vmtest_base::error::{Class, Result};
use vmtest_record::load::{self, Stored};
use vmtest_report::story::Story;

const EXAMPLES: &str = "\
Examples:
  cargo xtask report export --output html=report.html
  cargo xtask report export --output junit=out.xml --output mail=reply.txt
  cargo xtask report export run/ --output html=report.html --baseline old/";

/// Write a finished run in other formats; the exit code is the run's
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Run to read
    #[arg(value_name = "RUN", default_value = "latest", allow_negative_numbers = true, value_parser = crate::commands::path())]
    run: PathBuf,
    /// Which formats.
    #[command(flatten)]
    output: output::OutputArgs,
    /// The earlier run to compare it with.
    #[command(flatten)]
    baseline: BaselineArgs,
    /// Bisection to include in the html page: its directory, its name or `latest`
    #[arg(long, value_name = "RUN", value_parser = crate::commands::path())]
    bisection: Option<PathBuf>,
}

/// Writes the reports; the class is the run's.
///
/// # Errors
/// When the run does not exist or cannot be trusted, or a report cannot be written.
pub fn run(args: &Args) -> Result<Class> {
    let Args { run, output, baseline, bisection } = args;
    let stored = Stored::open(run)?;
    let baseline = baseline.open()?;
    let outputs = output.open(None)?;
    let compared = baseline.map(|baseline| baseline.compare(&stored.dir, &stored.result));
    let directory = stored.dir.display().to_string();
    let consoles = outputs.consoles(&stored.dir, &stored.result);
    let bisection = bisection.as_deref().map(load::bisection).transpose()?;
    let story = Story {
        compared: compared.as_ref(),
        consoles: &consoles,
        bisection: bisection.as_ref(),
        ..Story::of(&stored.result, &directory)
    };
    outputs.write(&story)?;
    Ok(story.exit_class())
}
