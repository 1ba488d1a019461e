// SPDX-License-Identifier: MIT OR Apache-2.0
//! `scripts/checkpatch.pl --strict` of the tree that a patch is for.

use std::path::Path;
use std::time::Duration;

use crate::series::Patch;
use vmtest_base::beneath;
use vmtest_base::error::{Error, Result};
use vmtest_base::files::write_file;
use vmtest_host::context::Context;
use vmtest_host::process::Job;
use vmtest_host::sandbox::{Sandbox, Tools};

/// The script, below the tree.
const SCRIPT: &str = "scripts/checkpatch.pl";
/// Time limit; a patch takes a second.
const LIMIT: Duration = Duration::from_secs(120);

/// What it said of a patch: lines such as `kernel/bpf/a.c:12: WARNING: line over 80 characters`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub lines: Vec<String>,
    pub errors: usize,
    pub warnings: usize,
    pub checks: usize,
}

impl Report {
    /// Reads the script's terse output. `None` if this is not the output of a script that ran to its end.
    fn of(output: &str) -> Option<Report> {
        let mut report = Report::default();
        let mut ended = false;
        for line in output.lines() {
            let count = match kind(line) {
                Some("ERROR") => &mut report.errors,
                Some("WARNING") => &mut report.warnings,
                Some("CHECK") => &mut report.checks,
                _ => {
                    // `total: 0 errors, 1 warnings, 2 checks, 40 lines checked`
                    ended |= line.starts_with("total: ");
                    continue;
                }
            };
            *count += 1;
            report.lines.push(line.to_owned());
        }
        ended.then_some(report)
    }

    /// `1 error, 2 warnings and 3 checks`; `None` if there is nothing.
    pub fn counts(&self) -> Option<String> {
        let counted = |count: usize, word: &str| match count {
            0 => None,
            1 => Some(format!("1 {word}")),
            many => Some(format!("{many} {word}s")),
        };
        let parts: Vec<String> = [(self.errors, "error"), (self.warnings, "warning"), (self.checks, "check")]
            .into_iter()
            .filter_map(|(count, word)| counted(count, word))
            .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// The kind in `FILE:LINE: KIND: text` or `patch:LINE: KIND: text`.
fn kind(line: &str) -> Option<&str> {
    line.splitn(4, ": ").take(3).find(|word| ["ERROR", "WARNING", "CHECK"].contains(word))
}

/// Runs the script of the unpacked tree `source` on a patch.
///
/// # Errors
/// Class `Host` if it cannot run, or does not run to its end.
pub fn run(ctx: &Context, tools: &Tools, source: &Path, patch: &Patch) -> Result<Report> {
    if !beneath::is_file(source, SCRIPT) {
        return Err(Error::host(format!("this tree has no {SCRIPT}")));
    }
    let scratch = ctx.cache.scratch()?;
    write_file(&scratch.path().join("patch"), &patch.raw)?;
    let sandbox = Sandbox::new(tools).read_only(source, "/src").read_only(scratch.path(), "/obj");
    let mut command = sandbox.command("perl");
    command.arg(sandbox.see("/src").join(SCRIPT));
    command.args(["--strict", "--terse", "--showfile", "--color=never"]);
    command.arg(format!("--root={}", sandbox.see("/src").display()));
    if !patch.commit.is_empty() {
        // Only the subject of a commit is known here.
        command.args(["--no-signoff", "--ignore=COMMIT_MESSAGE"]);
    }
    command.arg(sandbox.see("/obj/patch"));
    let done = Job::new(command).deadline(LIMIT).run()?;
    // It exits with 0 and says nothing in terse mode if it found nothing, else with 1.
    if done.success() && done.stdout.trim().is_empty() {
        return Ok(Report::default());
    }
    Report::of(&done.stdout).ok_or_else(|| done.error(format!("{SCRIPT} did not run to its end")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_lines_are_counted_by_their_kind() {
        let output = include_str!("checkpatch/output.txt");
        let report = Report::of(output).expect("it ran to its end");
        assert_eq!((report.errors, report.warnings, report.checks), (2, 2, 2), "{report:?}");
        assert_eq!(report.counts().as_deref(), Some("2 errors, 2 warnings, 2 checks"));
        assert_eq!(
            Report::of("total: 0 errors, 0 warnings, 0 checks, 7 lines checked\n").expect("ended").counts(),
            None
        );
        assert!(Report::of("").is_none(), "nothing is not a clean patch");
        assert!(Report::of("Can't locate strict.pm in @INC\n").is_none());
    }
}
