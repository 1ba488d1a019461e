// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask report list`: finished runs, newest last.

use std::fmt::Write as _;

use serde_json::Value;

use crate::commands::print;
use vmtest_base::date;
use vmtest_base::error::Result;
use vmtest_base::places::runs_dir;
use vmtest_record::load;
use vmtest_record::run::RunResult;
use vmtest_report::layout::{Look, Rows};
use vmtest_report::summary;

const EXAMPLES: &str = "\
Examples:
  cargo xtask report list
  cargo xtask report list --json";

/// List finished runs
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// Lists them, newest last.
///
/// # Errors
/// If there is no place for runs.
pub fn run(args: &Args) -> Result<()> {
    let look = Look::of_stdout(None);
    let (mut text, mut data) = (String::new(), Vec::new());
    for dir in load::finished(&runs_dir()?) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let when = date::of_run(&name).map(|when| when.strftime("%Y-%m-%d %H:%M").to_string());
        let when = when.unwrap_or_default();
        match load::read(&dir) {
            Ok(run) => {
                let (finding, colour) = summary::finding(&run);
                let seconds = seconds(&run);
                let line = format!("{name}  {when}  {:>6}  ", format!("{seconds} s"));
                // Lines are cut for a terminal only.
                let room = match look.rows {
                    Rows::Failed => look.width.saturating_sub(line.chars().count()),
                    Rows::All => usize::MAX,
                };
                let shown: String = finding.chars().take(room).collect();
                let _ = writeln!(text, "{line}{}", look.paint(&shown, colour));
                data.push(entry(&name, &run, seconds, &finding));
            }
            Err(error) => {
                let _ = writeln!(text, "{name}  {when}  {:>6}  {}", "", error.summary());
            }
        }
    }
    if args.json {
        return print(&format!("{:#}\n", serde_json::json!({ "schema": 1, "runs": data })));
    }
    print(if text.is_empty() { "no finished runs\n" } else { &text })
}

fn entry(name: &str, run: &RunResult, seconds: u64, finding: &str) -> Value {
    serde_json::json!({
        "run": name,
        "started": date::of_run(name).map(|when| when.to_string()),
        "seconds": seconds,
        "kernels": run.kernels.iter().map(|kernel| kernel.id.as_str()).collect::<Vec<_>>(),
        "exit_code": run.exit_code.code(),
        "finding": finding,
    })
}

/// From the start of the run to the end of its last step.
fn seconds(run: &RunResult) -> u64 {
    let ends = run.phases.iter().map(|phase| phase.started_ms.saturating_add(phase.duration_ms));
    ends.max().unwrap_or(0) / 1000
}
