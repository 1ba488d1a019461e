// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask report show`: the table of a finished run.

use std::path::PathBuf;

use crate::commands::print;
use crate::github;
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::event::Bus;
use vmtest_engine::replay::{self, Replayed};
use vmtest_record::load::Stored;
use vmtest_report::format::Format;
use vmtest_report::layout::{Look, Rows};
use vmtest_report::progress;
use vmtest_report::story::Story;

const EXAMPLES: &str = "\
Examples:
  cargo xtask report show
  cargo xtask report show -2
  cargo xtask report show 20261121-090238-692d4a
  cargo xtask report show latest --json
  cargo xtask report show latest --from-raw";

/// Print the table of a finished run
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Run to read
    #[arg(value_name = "RUN", default_value = "latest", allow_negative_numbers = true, value_parser = crate::commands::path())]
    run: PathBuf,
    /// Print run.json instead of the table
    #[arg(long)]
    json: bool,
    /// Rows of the table: all, or failed, which counts the tests that passed by group [default: failed on a
    /// terminal, all elsewhere]
    #[arg(long, value_enum, value_name = "WHICH")]
    rows: Option<Rows>,
    /// Re-judge the raw output of its guests, and reject a record that contradicts it
    #[arg(long)]
    from_raw: bool,
}

/// Prints it; the class is the run's.
///
/// # Errors
/// When the run does not exist or cannot be trusted.
pub fn run(args: &Args) -> Result<Class> {
    let Args { run, json, rows, from_raw } = args;
    let stored = Stored::open(run)?;
    if *from_raw {
        judge_again(&stored)?;
    }
    let directory = stored.dir.display().to_string();
    let story = Story::of(&stored.result, &directory);
    let format = if *json { Format::Json } else { Format::Table };
    if format == Format::Table {
        github::text_follows();
    }
    print(&format.render(&story, Look::of_stdout(*rows))?)?;
    Ok(story.exit_class())
}

/// Prints how much of a run follows from its bytes.
fn judge_again(stored: &Stored) -> Result<()> {
    let Replayed { guests, cells, left_out } = replay::check(stored)?;
    let bus = Bus::new(vec![progress::sink()]);
    left_out.iter().for_each(|one| bus.warn(format!("not re-judged: {one}")));
    if guests == 0 {
        return Err(Error::host("no guest of this run can be re-judged"));
    }
    bus.note(format!("{cells} cells of {guests} guests are what their bytes say"));
    Ok(())
}
