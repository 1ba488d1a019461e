// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exporter: the matrix of `--each-patch`, one narrow column for each patch, with build and boot on top;
//! below it, in words, which patch makes tests pass and which breaks something that worked.

use std::fmt::Write as _;

use crate::layout::{Look, Rows, WIDTH, flush, indented};
use crate::series;
use vmtest_record::findings;
use vmtest_record::outcome::Outcome;
use vmtest_record::reference_columns::{self, Change, Stage};
use vmtest_record::run::{Cell, Kernel, Role, RunResult};
use vmtest_record::series::{CheckState, SeriesRecord};

/// Most lines of a check that are shown.
const CHECK_LINES: usize = 5;
/// Minimum width of the label column; a series too long for one table is split into several.
const LABELS: usize = 26;

/// Whether this is a run of `--each-patch`.
pub fn applies(run: &RunResult) -> bool {
    run.kernels.iter().any(|kernel| kernel.role == Some(Role::Step))
}

/// Whether a cell belongs to an intermediate patch and does not count: its reason would be repeated for each
/// patch.
pub fn is_background(run: &RunResult, cell: &Cell) -> bool {
    !cell.counts()
        && run.kernels.iter().any(|kernel| kernel.id == cell.kernel && kernel.role == Some(Role::Step))
}

struct PatchColumn<'a> {
    kernel: &'a Kernel,
    stages: [Stage; 2],
    stage_changes: [Option<Change>; 2],
}

/// Patches, matrix, legend, and what each patch did.
pub fn render(text: &mut String, run: &RunResult, look: Look) {
    let steps = steps(run);
    subjects(text, &steps, look.width);
    let rows = rows(run, look.rows);
    let digits = steps.len().to_string().len().max(2);
    let label_width = rows.iter().map(|row| row.len()).max().unwrap_or(0).max("build".len());
    // The mark of a change follows the outcome: two characters and a space.
    let wide = digits + 1;
    let fit = ((look.width - LABELS - 2) / wide).max(1);
    for (block, some) in steps.chunks(fit).enumerate() {
        let first = block * fit;
        // "base" is wider than a number.
        let extra = if first == 0 { 2 } else { 0 };
        let label_width = label_width.min(look.width - some.len() * wide - extra);
        let head = (0..some.len()).map(|at| match first + at {
            0 => format!("{:>width$}", "base", width = wide + extra),
            number => format!("{number:>wide$}"),
        });
        let _ = writeln!(text, "{:label_width$}{}", "", head.collect::<String>());
        for (at, name) in ["build", "boot"].into_iter().enumerate() {
            let mark = |step: &PatchColumn<'_>| match (name, &step.kernel.same_as) {
                // The kernel before it was booted, and is the same.
                ("boot", Some(_)) => ("=", None),
                _ => stage_mark(step.stages[at]),
            };
            let marks = some.iter().map(|step| (mark(step), step.stage_changes[at]));
            line(text, name, label_width, marks, (wide, extra), look);
        }
        checks(text, run, some, first, label_width, (wide, extra), look);
        for row in &rows {
            let cell = |step: &PatchColumn<'_>| {
                run.cells.iter().find(|cell| cell.kernel == step.kernel.id && cell.path() == *row)
            };
            let marks = some.iter().map(|step| match cell(step) {
                Some(cell) => (
                    mark(cell.outcome),
                    reference_columns::change(cell).filter(|change| *change != Change::Differs),
                ),
                None => (("-", None), None),
            });
            line(text, row, label_width, marks, (wide, extra), look);
        }
        text.push('\n');
    }
    legend(text, run);
    story(text, run);
}

/// A line for each check of `review`, with the time that it took.
fn checks(
    text: &mut String,
    run: &RunResult,
    some: &[PatchColumn<'_>],
    first: usize,
    label_width: usize,
    width: (usize, usize),
    look: Look,
) {
    let Some(series) = series::told(run).next() else { return };
    let mut names: Vec<&String> = series.patches.iter().flat_map(|patch| patch.checks.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let of = |at: usize| series.patches.get((first + at).checked_sub(1)?)?.checks.get(name);
        let marks = (0..some.len()).map(|at| match of(at).map(|check| check.state) {
            Some(CheckState::Clean) => (("ok", GREEN), None),
            Some(CheckState::Info) => (("i", None), None),
            Some(CheckState::Advice) => (("a", YELLOW), None),
            Some(CheckState::Bad) => (("!", RED), None),
            Some(CheckState::Unknown) => (("?", YELLOW), None),
            None => (("-", None), None),
        });
        line(text, name, label_width, marks, width, look);
    }
}

/// What the checks of each patch found.
fn found(text: &mut String, series: &SeriesRecord) {
    for patch in &series.patches {
        let told = patch.checks.values().filter(|check| check.state != CheckState::Clean);
        let mut told = told.peekable();
        if told.peek().is_some() {
            let _ = write!(text, "\n{}", flush(&format!("patch {}/{}:", patch.number, series.patches.len())));
        }
        for check in told {
            text.push_str(&indented(&check.summary, "    ", WIDTH));
            let more = check.lines.len().saturating_sub(CHECK_LINES);
            for line in check.lines.iter().take(CHECK_LINES) {
                text.push_str(&indented(line, "        ", WIDTH));
            }
            if more > 0 {
                let _ = writeln!(text, "        and {more} more");
            }
        }
    }
}

fn steps(run: &RunResult) -> Vec<PatchColumn<'_>> {
    let mut kernels: Vec<&Kernel> = Vec::new();
    for kernel in &run.kernels {
        if !kernels.iter().any(|known| known.id == kernel.id) {
            kernels.push(kernel);
        }
    }
    let stages: Vec<_> = kernels.iter().map(|kernel| reference_columns::stages(run, kernel)).collect();
    let builds = reference_columns::stage_changes(stages.iter().map(|(build, _)| *build));
    let boots = reference_columns::stage_changes(stages.iter().map(|(_, boot)| *boot));
    kernels
        .into_iter()
        .zip(stages)
        .zip(builds.into_iter().zip(boots))
        .map(|((kernel, (build, boot)), (build_change, boot_change))| PatchColumn {
            kernel,
            stages: [build, boot],
            stage_changes: [build_change, boot_change],
        })
        .collect()
}

/// Subject of the patch that this column adds.
fn subject<'a>(step: &PatchColumn<'a>) -> &'a str {
    step.kernel.series.last().map_or("?", String::as_str)
}

fn subjects(text: &mut String, steps: &[PatchColumn<'_>], width: usize) {
    for (number, step) in steps.iter().enumerate() {
        let (name, what) = if number == 0 {
            ("base".to_owned(), step.kernel.id.as_str())
        } else {
            (number.to_string(), subject(step))
        };
        let what: String = what.chars().take(width - 6).collect();
        let _ = writeln!(text, "{name:>4}  {what}");
    }
    text.push('\n');
}

/// Tests that have a row: all, or those that a patch breaks or that fail the run.
fn rows(run: &RunResult, which: Rows) -> Vec<String> {
    let is_listed = |cell: &&Cell| {
        which == Rows::All
            || findings::verdict(cell).is_bad()
            || reference_columns::change(cell) == Some(Change::Breaks)
    };
    let mut rows: Vec<String> = Vec::new();
    for path in run.cells.iter().filter(is_listed).map(Cell::path) {
        if !rows.contains(&path) {
            rows.push(path);
        }
    }
    rows
}

/// The text of a table entry, and its colour.
type Mark = (&'static str, Option<&'static str>);

const GREEN: Option<&str> = Some("32");
const RED: Option<&str> = Some("31");
const YELLOW: Option<&str> = Some("33");

fn mark(outcome: Outcome) -> Mark {
    match outcome {
        Outcome::Pass => ("P", GREEN),
        Outcome::Fail => ("F", RED),
        Outcome::Skip => (".", None),
        Outcome::Missing => ("?", RED),
        Outcome::Crash => ("C", RED),
        Outcome::Timeout => ("T", RED),
        Outcome::Flaky => ("~", YELLOW),
        Outcome::Xfail => ("x", YELLOW),
        Outcome::Notrun => ("-", None),
    }
}

fn stage_mark(stage: Stage) -> Mark {
    match stage {
        Stage::Ok => ("ok", GREEN),
        Stage::Failed(_) => ("F", RED),
        Stage::Unknown => ("-", None),
    }
}

fn line(
    text: &mut String,
    label: &str,
    label_width: usize,
    marks: impl Iterator<Item = (Mark, Option<Change>)>,
    (wide, extra): (usize, usize),
    look: Look,
) {
    let label: String = label.chars().take(label_width).collect();
    let mut line = format!("{label:label_width$}");
    for (at, ((word, colour), change)) in marks.enumerate() {
        let sign = match (word, change) {
            // No room for a mark: only a failure can be broken, and that is one letter.
            ("ok", _) | (_, None | Some(Change::Differs)) => "",
            (_, Some(Change::Starts)) => "*",
            (_, Some(Change::Breaks)) => "!",
        };
        let shown = format!("{word}{sign}");
        let width = wide + if at == 0 { extra } else { 0 };
        // The outcome is aligned with the second-to-last digit of the number above, its mark with the last.
        let padded = format!("{shown:<2}");
        let before = width.saturating_sub(2);
        let _ = match colour.filter(|_| look.colour && !shown.is_empty()) {
            Some(colour) => write!(line, "{:before$}\x1b[{colour}m{padded}\x1b[0m", ""),
            None => write!(line, "{:before$}{padded}", ""),
        };
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

fn legend(text: &mut String, run: &RunResult) {
    let mut seen: Vec<Outcome> = run.cells.iter().map(|cell| cell.outcome).collect();
    seen.sort_unstable();
    seen.dedup();
    let words: Vec<String> =
        seen.into_iter().map(|outcome| format!("{} {}", mark(outcome).0, outcome.name())).collect();
    let changes: Vec<Change> = run.cells.iter().filter_map(reference_columns::change).collect();
    let mut text_of = words.join("   ");
    if changes.contains(&Change::Starts) {
        text_of.push_str("   * starts to pass");
    }
    text_of.push_str("   ! breaks what worked");
    if run.series.iter().flat_map(|one| &one.patches).any(|patch| !patch.checks.is_empty()) {
        text_of.push_str(
            "\nchecks: ok clean   i for information   a advice   ! speaks against it   ? not checked",
        );
    }
    if run.kernels.iter().any(|kernel| kernel.same_as.is_some()) {
        text_of.push_str("\n= the same kernel as before, not booted again");
    }
    let _ = writeln!(text, "{text_of}");
}

/// What each patch did, in words, in patch order.
fn story(text: &mut String, run: &RunResult) {
    let told: Vec<&SeriesRecord> = series::told(run).collect();
    for one in &told {
        if told.len() > 1 {
            let variant = if one.variant.is_empty() { String::new() } else { format!("/{}", one.variant) };
            let _ = writeln!(text, "\non {}{variant}", one.kernel);
        }
        for what in series::story(one) {
            let _ = write!(text, "\n{}", flush(&what));
        }
        found(text, one);
    }
}

#[cfg(test)]
mod tests;
