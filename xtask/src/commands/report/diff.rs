// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask report diff`: compares two runs.

use std::path::PathBuf;
use std::time::Duration;

use crate::commands::print;
use crate::github;
use vmtest_base::error::{Class, Error, Result};
use vmtest_record::diff::{self, Side, Slower};
use vmtest_record::load::Stored;

/// When a phase is slower.
#[derive(Debug, Clone, clap::Args)]
pub struct SlowerArgs {
    /// Report a phase as slower if it takes PERCENT % longer
    #[arg(long, value_name = "PERCENT", default_value_t = Slower::USUAL.percent)]
    slower: u64,
    /// Only if it also takes at least TIME longer (5, 90s, 2m)
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = vmtest_base::duration::parse)]
    slower_by: Duration,
    /// Count slower phases as worse. By default they are only reported: a busy machine is not a regression
    #[arg(long)]
    slower_counts: bool,
}

impl SlowerArgs {
    fn meant(&self) -> Slower {
        let SlowerArgs { slower, slower_by, slower_counts } = self;
        Slower {
            percent: *slower,
            at_least_ms: u64::try_from(slower_by.as_millis()).unwrap_or(u64::MAX),
            counts: *slower_counts,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask report diff 20261120-090238-692d4a latest
  cargo xtask report diff old/ new/ --slower 20 --slower-counts --json

A run is worse if a test that passed now fails, is flaky, is missing, has
disappeared or no longer counts; if it failed in a worse class; or if the
kernel has a new warning.
Exit codes: 0 nothing got worse; 1 something did; 2 usage; 30 untrustworthy
run.";

/// Compare two finished runs.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Earlier run
    #[arg(value_name = "A", allow_negative_numbers = true, value_parser = crate::commands::path())]
    old: PathBuf,
    /// Later run
    #[arg(value_name = "B", default_value = "latest", allow_negative_numbers = true, value_parser = crate::commands::path())]
    new: PathBuf,
    /// Slower phases.
    #[command(flatten)]
    slower: SlowerArgs,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
}

/// Compares them; the class says whether anything got worse.
///
/// # Errors
/// When a run does not exist or cannot be trusted.
pub fn run(args: &Args) -> Result<Class> {
    let Args { old, new, slower, json } = args;
    let (old, new) = (Stored::open(old)?, Stored::open(new)?);
    let (old_options, new_options) = (old.options(), new.options());
    let diff = diff::compare(
        Side { run: &old.result, options: &old_options },
        Side { run: &new.result, options: &new_options },
        slower.meant(),
    );
    let text = if *json {
        let text = serde_json::to_string_pretty(&diff);
        text.map_err(|error| Error::host("cannot write the comparison as JSON").why(error))? + "\n"
    } else {
        vmtest_report::diff::render(&diff)
    };
    if !json {
        github::text_follows();
    }
    print(&text)?;
    Ok(diff.class())
}
