// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of a run: the names of what failed, and one line that says what was found.

use std::fmt::Write as _;

use crate::layout::{Look, indented};
use crate::names;
use crate::series;
use crate::story::Story;
use vmtest_base::error::Class;
use vmtest_record::findings::{self, TestStatus};
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{Cell, RunResult};
use vmtest_record::series::Verdict;

const GREEN: &str = "1;32";
const RED: &str = "1;31";
const YELLOW: &str = "1;33";
/// Most names of failed tests.
const MAX_NAMES: usize = 40;

/// A column in which no test ran, because an earlier stage failed.
#[derive(Debug, Clone, Copy)]
pub struct FailedStage<'a> {
    /// One of its cells: all have the same reason.
    pub cell: &'a Cell,
    /// How many tests did not run.
    pub cells: usize,
}

impl FailedStage<'_> {
    pub fn has(&self, cell: &Cell) -> bool {
        self.cell.column() == cell.column()
    }

    /// `patch 1/3 "subject" does not apply: kernel/bpf/trampoline.c: wrong base`.
    pub fn line(&self, run: &RunResult) -> String {
        let name = names::kernel(run, &self.cell.kernel);
        let reason = &self.cell.reason;
        let first = reason.lines().next().unwrap_or_default();
        match self.cell.class {
            Class::SeriesDoesNotApply => does_not_apply(first).unwrap_or_else(|| format!("{name}: {first}")),
            Class::KernelBuild => match findings::compiler_error(reason) {
                Some(error) => format!("{name} does not build: {error}"),
                None => format!("{name}: {first}"),
            },
            class => format!("{} on {name}: {first}", class.label()),
        }
    }
}

/// Columns in which a stage failed before any test, in the order of the matrix.
pub fn failed_stages(run: &RunResult) -> Vec<FailedStage<'_>> {
    let mut stages: Vec<FailedStage<'_>> = Vec::new();
    for cell in &run.cells {
        if stages.iter().any(|stage| stage.has(cell)) {
            continue;
        }
        let same = |other: &&Cell| {
            other.outcome == Outcome::Notrun
                && (other.class, &other.reason) == (cell.class, &cell.reason)
                && cell.class != Class::Pass
        };
        let of_column = || run.cells.iter().filter(|other| other.column() == cell.column());
        if of_column().all(|other| same(&other)) {
            stages.push(FailedStage { cell, cells: of_column().count() });
        }
    }
    stages
}

/// Shortens the first line of a reason of the series: number, subject, file, and why.
fn does_not_apply(first: &str) -> Option<String> {
    let (patch, why) = first.split_once(" does not apply: ")?;
    let (number, rest) = patch.strip_prefix("patch ")?.split_once(" (")?;
    let (_, subject) = rest.strip_suffix(')')?.split_once(", ")?;
    let number = number.replace(" of ", "/");
    let kind = why.split(':').next().unwrap_or(why);
    let file = why.split([' ', ',']).find(|word| word.contains('/')).map(|file| file.trim_matches(':'));
    let file = file.map(|file| format!("{file}: ")).unwrap_or_default();
    Some(format!("patch {number} {subject} does not apply: {file}{kind}"))
}

/// The finding and its colour. Compared with an earlier run, the comparison is the finding.
pub fn headline(story: &Story<'_>) -> (String, &'static str) {
    match story.compared {
        None => finding(story.run),
        Some(diff) if story.exit_class() == Class::Pass => {
            (format!("PASSED: {}", crate::diff::line(diff)), GREEN)
        }
        Some(diff) => (format!("FAILED: {}", crate::diff::line(diff)), RED),
    }
}

/// The names of failed tests, each once, and the finding.
pub fn render(text: &mut String, story: &Story<'_>, look: Look) {
    let run = story.run;
    let names = failed_names(run);
    if !names.is_empty() {
        let more = names.len().saturating_sub(MAX_NAMES);
        let mut list = names[..names.len() - more].join("  ");
        if more > 0 {
            let _ = write!(list, "  and {more} more");
        }
        let _ = write!(text, "\nnot passed:\n{}", indented(&list, "    ", look.width));
    }
    text.push('\n');
    let (line, colour) = headline(story);
    for line in indented(&line, "", look.width).lines() {
        let _ = writeln!(text, "{}", look.paint(line, colour));
    }
}

/// Tests that count and did not pass, except where a whole stage failed.
fn failed_names(run: &RunResult) -> Vec<String> {
    let stages = failed_stages(run);
    let bad = |cell: &&Cell| findings::verdict(cell).is_bad() && !stages.iter().any(|stage| stage.has(cell));
    let mut names: Vec<String> = Vec::new();
    for name in run.cells.iter().filter(bad).map(Cell::path) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What the run found, in one line, and its colour.
pub fn finding(run: &RunResult) -> (String, &'static str) {
    let class = run.exit_code;
    match class {
        Class::Interrupted | Class::Terminated => (format!("STOPPED: {}", class.label()), YELLOW),
        Class::Pass => match series::verdict(run) {
            Some((Verdict::Good, sentence)) => (format!("PASSED: {sentence}"), GREEN),
            Some((Verdict::Bad, sentence)) => (sentence, RED),
            Some((Verdict::Unjudged, _)) | None => (format!("PASSED: {}", passed(run)), GREEN),
        },
        Class::Flaky => (format!("FLAKY: {}", counted(run)), YELLOW),
        _ => {
            let series = series::verdict(run).filter(|(verdict, _)| *verdict == Verdict::Bad);
            let stage = failed_stages(run).into_iter().find(|stage| stage.cell.class == class);
            let line = match (series, stage) {
                (Some((_, sentence)), _) => sentence,
                (None, Some(stage)) => format!("FAILED: {}", stage.line(run)),
                (None, None) => format!("FAILED: {}", failed(run)),
            };
            (line, RED)
        }
    }
}

fn tests(count: usize) -> String {
    format!("{count} test{}", if count == 1 { "" } else { "s" })
}

/// `121 tests on src:6.18.15`, with what was allowed.
fn passed(run: &RunResult) -> String {
    let judged: Vec<&Cell> = run.cells.iter().filter(|cell| is_judged(run, cell)).collect();
    let count = judged.iter().filter(|cell| findings::verdict(cell) == TestStatus::Passed).count();
    let known = judged.iter().filter(|cell| cell.outcome == Outcome::Xfail).count();
    let aside = [
        (known, if known == 1 { "known failure" } else { "known failures" }),
        (judged.len() - count - known, "skipped or not required"),
    ];
    let aside: Vec<String> =
        aside.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let aside = if aside.is_empty() { String::new() } else { format!(" (and {})", aside.join(", ")) };
    format!("{}{aside}{}", tests(count), on(run, judged.into_iter()))
}

fn is_judged(run: &RunResult, cell: &Cell) -> bool {
    !run.kernels.iter().any(|kernel| kernel.id == cell.kernel && kernel.role.is_some())
}

/// ` on KERNEL`, or on how many.
fn on<'a>(run: &RunResult, cells: impl Iterator<Item = &'a Cell>) -> String {
    let mut kernels: Vec<&str> = Vec::new();
    for cell in cells {
        if !kernels.contains(&cell.kernel.as_str()) {
            kernels.push(&cell.kernel);
        }
    }
    match kernels[..] {
        [] => String::new(),
        [one] => format!(" on {}{}", names::kernel(run, one), state(run, one)),
        _ => format!(" on {} kernels", kernels.len()),
    }
}

/// ` (topic@9673a52 +2 files)` for a tree in a repository.
fn state(run: &RunResult, id: &str) -> String {
    let state = run.kernels.iter().find(|kernel| kernel.id == id).map(|kernel| kernel.state.as_str());
    state.filter(|state| !state.is_empty()).map(|state| format!(" ({state})")).unwrap_or_default()
}

/// `11 of 120 tests on KERNEL`: of the columns in which something failed.
fn counted(run: &RunResult) -> String {
    let bad: Vec<&Cell> = run.cells.iter().filter(|cell| findings::verdict(cell).is_bad()).collect();
    let counts = |cell: &&Cell| {
        findings::verdict(cell) != TestStatus::Aside && bad.iter().any(|one| one.kernel == cell.kernel)
    };
    let all = run.cells.iter().filter(counts).count();
    format!("{} of {}{}", bad.len(), tests(all), on(run, bad.iter().copied()))
}

fn failed(run: &RunResult) -> String {
    let class = run.exit_code;
    let bad = run.cells.iter().filter(|cell| findings::verdict(cell).is_bad()).count();
    match class {
        Class::TestFailed if bad > 0 => counted(run),
        Class::Incomplete if bad > 0 => format!("{} were skipped or are missing", counted(run)),
        _ if run.cells.is_empty() => format!("{}: no test ran", class.label()),
        _ => {
            let boot = run.boots.iter().find(|boot| boot.class == class);
            let cell = run.cells.iter().find(|cell| cell.class == class && cell.counts());
            let splat = run.splats.iter().find(|splat| splat.allowed.is_none() && class == Class::Splat);
            let why = match (splat, boot, cell) {
                (Some(splat), ..) => splat.title.as_str(),
                (_, Some(boot), _) => &boot.reason,
                (_, _, Some(cell)) => &cell.reason,
                _ if run.has_no_evidence() => findings::NO_PLAIN_PASS,
                _ => run.unknown_lines().unwrap_or_default(),
            };
            let why = why.lines().next().unwrap_or_default();
            let during = cell.filter(|cell| matches!(cell.outcome, Outcome::Crash | Outcome::Timeout));
            let during = during.map(|cell| format!(" during {}", cell.path())).unwrap_or_default();
            let kernel = boot.map(|boot| &boot.kernel).or_else(|| cell.map(|cell| &cell.kernel));
            let kernel = kernel.map(|id| format!(" on {}", names::kernel(run, id))).unwrap_or_default();
            let colon = if why.is_empty() { "" } else { ": " };
            format!("{}{during}{kernel}{colon}{why}", class.label())
        }
    }
}
