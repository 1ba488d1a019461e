// SPDX-License-Identifier: MIT OR Apache-2.0
//! The question for each kernel, and how the cells of one run answer it. Pure.
//!
//! Bad and good both need evidence. Bad: the selected tests had exactly the outcome that is searched for.
//! Good: they ran, and did not have it. Anything else is a skip with its reason; otherwise another bug in the
//! range would become the culprit.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use clap::ValueEnum;
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::bisect::search::Verdict;
use vmtest_base::error::{Class, Error, Result};
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{BootRecord, Cell, RunResult};

/// What a bad kernel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asked {
    /// A test does not pass: it fails, or the kernel lacks what it needs
    Fail,
    /// The kernel dies: a panic or an oops
    Panic,
    /// The guest says nothing any more
    Hang,
    /// The kernel complains: a warning, a sanitizer, lockdep
    Splat,
    /// The kernel does not build
    Build,
}

impl Asked {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Asked::Fail => "fail",
            Asked::Panic => "panic",
            Asked::Hang => "hang",
            Asked::Splat => "splat",
            Asked::Build => "build",
        }
    }
}

/// The question, as stored in `bisect.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Question {
    /// What a bad kernel does.
    pub asked: Asked,
    /// Globs of tests; empty for all.
    pub tests: Vec<String>,
    /// Regular expression for the title; `None`: like the title at the failing endpoint.
    pub title: Option<String>,
    /// Searches for the first good one.
    pub find_fix: bool,
    /// [`shape`] of the title at the failing endpoint; `None` until that is known, if `title` is given, and
    /// for tests, whose messages may vary.
    pub sought: Option<String>,
    /// Tests that pass at the passing endpoint; empty until that is known, and if the question is not about
    /// tests.
    pub passes: BTreeSet<String>,
}

/// The result of one run of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub verdict: Verdict,
    pub why: String,
    /// Title of what was seen; empty if nothing was.
    pub title: String,
    /// Its class; `Pass` if the verdict is good.
    pub class: Class,
}

impl Answer {
    fn good(why: String) -> Answer {
        Answer { verdict: Verdict::Good, why, title: String::new(), class: Class::Pass }
    }

    fn bad(class: Class, title: &str, why: String) -> Answer {
        Answer { verdict: Verdict::Bad, why, title: title.to_owned(), class }
    }

    fn skip(class: Class, why: String) -> Answer {
        // A failure before the guest runs is permanent; another boot may succeed.
        let verdict = match class {
            Class::SeriesDoesNotApply | Class::OptionLost | Class::KernelBuild | Class::SuiteBuild => {
                Verdict::Never
            }
            _ => Verdict::Skip,
        };
        Answer { verdict, why, title: String::new(), class }
    }
}

/// A title without the parts that differ between runs: numbers and addresses.
pub fn shape(title: &str) -> String {
    static NUMBERS: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\b0x[0-9a-fA-F]+\b|\b[0-9a-fA-F]{8,}\b|[0-9]+").ok());
    NUMBERS.as_ref().map_or_else(|| title.to_owned(), |numbers| numbers.replace_all(title, "#").into_owned())
}

impl Question {
    /// The regular expression of `--title`.
    ///
    /// # Errors
    /// Class `Usage` for an invalid one.
    pub fn title_regex(&self) -> Result<Option<Regex>> {
        let compile = |text: &String| {
            Regex::new(text).map_err(|error| {
                Error::usage(format!("--title {text} is not a regular expression")).why(error)
            })
        };
        self.title.as_ref().map(compile).transpose()
    }

    fn is_sought(&self, titles: &[&str]) -> bool {
        match (self.title_regex(), &self.sought) {
            (Ok(Some(regex)), _) => titles.iter().any(|title| regex.is_match(title)),
            (Ok(None), Some(sought)) => titles.iter().any(|title| shape(title) == *sought),
            (Ok(None), None) => true,
            // It was checked before anything ran.
            (Err(_), _) => false,
        }
    }

    /// Stores what later runs are compared with, from the first run of an endpoint.
    pub fn learn(&mut self, finding: &Answer, run: &RunResult) {
        let has_title = match self.asked {
            Asked::Panic | Asked::Hang | Asked::Splat | Asked::Build => true,
            Asked::Fail => false,
        };
        if finding.verdict == Verdict::Bad && has_title && self.title.is_none() && self.sought.is_none() {
            self.sought = Some(shape(&finding.title));
        }
        if finding.verdict == Verdict::Good && !has_title && self.passes.is_empty() {
            let passed = run.cells.iter().filter(|cell| cell.outcome == Outcome::Pass);
            self.passes = passed.map(name).collect();
        }
    }

    /// The answer of one run.
    ///
    /// # Errors
    /// The interruption, which is not a verdict.
    pub fn judge(&self, run: &RunResult) -> Result<Answer> {
        let ended = run.cells.iter().map(|cell| cell.class).chain(run.boots.iter().map(|boot| boot.class));
        if let Some(class) =
            ended.into_iter().find(|class| matches!(class, Class::Interrupted | Class::Terminated))
        {
            return Err(Error::new(class, class.label()));
        }
        // Cells that were never meant to run are not evidence, nor are skips that no kernel has to explain.
        let idle = |cell: &Cell| {
            matches!(cell.outcome, Outcome::Notrun | Outcome::Skip)
                && !cell.required
                && cell.class == Class::Pass
        };
        let cells: Vec<&Cell> = run.cells.iter().filter(|cell| !idle(cell)).collect();
        Ok(match self.asked {
            Asked::Fail => self.judge_fail(run, &cells),
            Asked::Panic => self.judge_end(run, &cells, Class::Panic),
            Asked::Hang => self.judge_end(run, &cells, Class::Hang),
            Asked::Splat => self.judge_splat(run, &cells),
            Asked::Build => self.judge_build(run, &cells),
        })
    }

    fn judge_fail(&self, run: &RunResult, cells: &[&Cell]) -> Answer {
        let told = |cell: &&Cell| match cell.outcome {
            Outcome::Fail => cell.class == Class::TestFailed,
            // A skip means that the kernel does not support the test: not a pass. A flaky test failed once.
            Outcome::Skip | Outcome::Flaky => true,
            Outcome::Pass
            | Outcome::Xfail
            | Outcome::Missing
            | Outcome::Crash
            | Outcome::Timeout
            | Outcome::Notrun => false,
        };
        // Failures are shown before skips.
        let failed = cells.iter().copied().filter(told);
        let mut failed: Vec<&Cell> = failed.collect();
        failed.sort_by_key(|cell| cell.outcome != Outcome::Fail);
        if let Some(cell) = failed.iter().find(|cell| self.is_sought(&[&cell.reason, &cell.log])) {
            let more =
                if failed.len() > 1 { format!(" (and {} more)", failed.len() - 1) } else { String::new() };
            return Answer::bad(cell.class, &cell.reason, format!("{}{more}", what(cell)));
        }
        if let Some(cell) = failed.first() {
            return Answer::skip(cell.class, format!("a different failure: {}", what(cell)));
        }
        let open = |cell: &&&Cell| !matches!(cell.outcome, Outcome::Pass | Outcome::Xfail);
        if let Some(cell) = cells.iter().find(open) {
            return Answer::skip(worst(run, cell), unjudged(run, cell));
        }
        if let Some(boot) = broken_boot(run) {
            return Answer::skip(boot.class, boot.reason.clone());
        }
        let passed: BTreeSet<String> =
            cells.iter().filter(|cell| cell.outcome == Outcome::Pass).map(|cell| name(cell)).collect();
        if passed.is_empty() || run.boots.is_empty() {
            return Answer::skip(Class::Incomplete, "none of the selected tests ran".to_owned());
        }
        if let Some(missing) = self.passes.difference(&passed).next() {
            return Answer::skip(
                Class::Incomplete,
                format!("{missing} was selected but is not among its tests"),
            );
        }
        Answer::good(counted(passed.len(), "passed"))
    }

    /// For a kernel that dies or hangs.
    fn judge_end(&self, run: &RunResult, cells: &[&Cell], wanted: Class) -> Answer {
        let Some(boot) = run.boots.iter().find(|boot| boot.class == wanted) else {
            return self.whole(run, cells, true);
        };
        let during = cells
            .iter()
            .find(|cell| matches!(cell.outcome, Outcome::Crash | Outcome::Timeout) && cell.class == wanted);
        if during.is_none() && !self.tests.is_empty() {
            return Answer::skip(wanted, format!("during none of the selected tests: {}", boot.reason));
        }
        if !self.is_sought(&[&boot.reason]) {
            return Answer::skip(wanted, format!("a different one: {}", boot.reason));
        }
        let during = during.map(|cell| format!(" during {}", cell.path())).unwrap_or_default();
        let during = if boot.reason.ends_with(&during) { "" } else { &during };
        Answer::bad(wanted, &boot.reason, format!("{}{during}", boot.reason))
    }

    fn judge_splat(&self, run: &RunResult, cells: &[&Cell]) -> Answer {
        let splats: Vec<_> = run.splats.iter().filter(|splat| splat.severity == "splat").collect();
        if let Some(splat) = splats.iter().find(|splat| self.is_sought(&[&splat.title])) {
            let during =
                if splat.during.is_empty() { String::new() } else { format!(" during {}", splat.during) };
            return Answer::bad(Class::Splat, &splat.title, format!("{}{during}", splat.title));
        }
        // Many detectors report only once.
        if let Some(splat) = splats.first() {
            return Answer::skip(Class::Splat, format!("a different one: {}", splat.title));
        }
        self.whole(run, cells, false)
    }

    fn judge_build(&self, run: &RunResult, cells: &[&Cell]) -> Answer {
        if let Some(cell) = cells.iter().find(|cell| cell.class == Class::KernelBuild) {
            let title = compiler_error(&cell.reason);
            return if self.is_sought(&[&title]) {
                Answer::bad(Class::KernelBuild, &title, title.clone())
            } else {
                Answer::skip(Class::KernelBuild, format!("a different one: {title}"))
            };
        }
        if let Some(cell) = cells.first() {
            return Answer::skip(cell.class, unjudged(run, cell));
        }
        match run.kernels.as_slice() {
            [kernel] if !kernel.release.is_empty() && !kernel.toolchain.is_empty() => {
                Answer::good(format!("it builds: {}", kernel.release))
            }
            _ => Answer::skip(Class::Incomplete, "it was never built".to_owned()),
        }
    }

    /// Good if the kernel had no problem and every selected test ended normally.
    fn whole(&self, run: &RunResult, cells: &[&Cell], with_splats: bool) -> Answer {
        let bad =
            |boot: &&BootRecord| !(boot.class == Class::Pass || (with_splats && boot.class == Class::Splat));
        if let Some(boot) = run.boots.iter().find(bad) {
            return Answer::skip(boot.class, boot.reason.clone());
        }
        let ended = |cell: &&&Cell| match cell.outcome {
            Outcome::Pass | Outcome::Skip | Outcome::Xfail | Outcome::Flaky => true,
            Outcome::Fail => cell.class == Class::TestFailed,
            Outcome::Missing | Outcome::Crash | Outcome::Timeout | Outcome::Notrun => false,
        };
        if let Some(cell) = cells.iter().find(|cell| !ended(cell)) {
            return Answer::skip(worst(run, cell), unjudged(run, cell));
        }
        if cells.is_empty() || run.boots.is_empty() {
            return Answer::skip(Class::Incomplete, "none of the selected tests ran".to_owned());
        }
        Answer::good(format!("{}, and the kernel stayed up", counted(cells.len(), "completed")))
    }
}

fn counted(count: usize, did: &str) -> String {
    match count {
        1 => format!("the test {did}"),
        _ => format!("all {count} tests {did}"),
    }
}

fn name(cell: &Cell) -> String {
    format!("{}:{}", cell.suite, cell.path())
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn what(cell: &Cell) -> String {
    format!("{} {}: {}", cell.path(), cell.outcome.name(), first_line(&cell.reason))
}

fn broken_boot(run: &RunResult) -> Option<&BootRecord> {
    run.boots.iter().find(|boot| !matches!(boot.class, Class::Pass | Class::Splat))
}

/// Class of the reason why a cell has no answer: that of its boot is more specific than "missing".
fn worst(run: &RunResult, cell: &Cell) -> Class {
    broken_boot(run).map_or(cell.class, |boot| boot.class)
}

/// Why a cell is not evidence.
fn unjudged(run: &RunResult, cell: &Cell) -> String {
    let boot = broken_boot(run).map(|boot| boot.reason.as_str());
    // An error of a stage: what failed, and its immediate cause.
    let lines: Vec<&str> = cell.reason.lines().take(2).map(str::trim).collect();
    let reason = boot.map_or_else(|| lines.join(" "), str::to_owned);
    format!("{}: {reason}", worst(run, cell).label())
}

/// The compiler's first error in the message of a failed build.
fn compiler_error(reason: &str) -> String {
    let because = reason.lines().find_map(|line| line.trim_start().strip_prefix("because: "));
    because.unwrap_or(first_line(reason)).to_owned()
}

#[cfg(test)]
mod tests;
