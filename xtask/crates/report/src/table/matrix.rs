// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows of the table: all of them, or on a terminal the groups with their counts and what did not pass.

use std::fmt::Write as _;

use crate::layout::{Look, Rows, indented};
use crate::names;
use crate::summary::{FailedStage, failed_stages};
use vmtest_base::error::Class;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{Cell, RunResult};

/// Follows an outcome that differs from the one it is compared with.
const CHANGED: &str = "*";

/// A column: a kernel in a variant.
#[derive(PartialEq, Eq, Clone)]
pub(super) struct TableColumn<'a> {
    pub(super) kernel: &'a str,
    variant: &'a str,
    pub(super) boot: &'a str,
}

impl<'a> TableColumn<'a> {
    pub(super) fn of(cell: &'a Cell) -> TableColumn<'a> {
        TableColumn { kernel: &cell.kernel, variant: &cell.variant, boot: &cell.boot }
    }

    pub(super) fn has(&self, cell: &Cell) -> bool {
        TableColumn::of(cell) == *self
    }

    /// How it was booted is included only if that distinguishes it from another column.
    pub(super) fn name(&self, run: &RunResult) -> String {
        let variant = if self.variant.is_empty() || self.variant == "default" { "" } else { self.variant };
        let slash = if variant.is_empty() { "" } else { "/" };
        let other = |cell: &Cell| {
            (&cell.kernel[..], &cell.variant[..]) == (self.kernel, self.variant) && cell.boot != self.boot
        };
        let boot = if !self.boot.is_empty() && run.cells.iter().any(other) {
            format!(" ({})", self.boot)
        } else {
            String::new()
        };
        format!("{}{slash}{variant}{boot}", names::kernel(run, self.kernel))
    }
}

pub(super) fn columns(run: &RunResult) -> Vec<TableColumn<'_>> {
    let mut columns = Vec::new();
    for cell in &run.cells {
        let column = TableColumn::of(cell);
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    columns
}

pub(super) fn rows(run: &RunResult) -> Vec<(&str, &str)> {
    let mut rows = Vec::new();
    for cell in &run.cells {
        let row = (cell.test.as_str(), cell.subtest.as_str());
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}

/// The matrix. A column whose stage failed is a line, unless other columns have results and all rows are wanted.
pub(super) fn render(text: &mut String, run: &RunResult, look: Look) {
    let stages = failed_stages(run);
    let all = columns(run);
    let failed = |column: &TableColumn<'_>| stages.iter().any(|stage| column.has(stage.cell));
    let ran: Vec<TableColumn<'_>> = all.iter().filter(|column| !failed(column)).cloned().collect();
    let whole = look.rows == Rows::All && !ran.is_empty();
    // Without any other column, the end of the report says it.
    if !whole && stages.len() + ran.len() > 1 {
        stages.iter().for_each(|stage| stage_line(text, run, stage, look));
    }
    if ran.is_empty() {
        return;
    }
    if whole {
        table(text, run, &all, &rows(run), look);
        legend(text, run);
        return;
    }
    if !stages.is_empty() {
        text.push('\n');
    }
    ran.iter().for_each(|column| folded(text, run, column, ran.len() > 1, look));
    // The reasons below name every test of a single column.
    let listed: Vec<_> = rows(run).into_iter().filter(|row| is_listed(run, *row, &ran)).collect();
    if ran.len() > 1 && !listed.is_empty() {
        text.push('\n');
        table(text, run, &ran, &listed, look);
    }
}

fn stage_line(text: &mut String, run: &RunResult, stage: &FailedStage<'_>, look: Look) {
    for line in indented(&stage.line(run), "", look.width).lines() {
        let _ = writeln!(text, "{}", look.paint(line, "31"));
    }
}

/// Whether a row has its own line although the others are only counted.
pub(super) fn is_listed(run: &RunResult, (test, subtest): (&str, &str), columns: &[TableColumn<'_>]) -> bool {
    run.cells.iter().any(|cell| {
        (cell.test.as_str(), cell.subtest.as_str()) == (test, subtest)
            && cell.outcome != Outcome::Pass
            && cell.counts()
            && !is_excluded(cell)
            && columns.iter().any(|column| column.has(cell))
    })
}

/// Whether a test has no part in this column by the rules of its suite, such as one on a deny list.
fn is_excluded(cell: &Cell) -> bool {
    cell.outcome == Outcome::Notrun && cell.class == Class::Pass
}

/// `basic 36/36  cookie 11/16`: the groups of a column, and how many of each passed.
fn folded(text: &mut String, run: &RunResult, column: &TableColumn<'_>, named: bool, look: Look) {
    let mut groups: Vec<(&str, usize, usize)> = Vec::new();
    for cell in run.cells.iter().filter(|cell| column.has(cell) && !is_excluded(cell)) {
        let at = groups.iter().position(|(test, ..)| *test == cell.test).unwrap_or_else(|| {
            groups.push((&cell.test, 0, 0));
            groups.len() - 1
        });
        groups[at].1 += usize::from(cell.outcome == Outcome::Pass);
        groups[at].2 += 1;
    }
    if named {
        let _ = writeln!(text, "{}", column.name(run));
    }
    let indent = if named { "    " } else { "" };
    let mut width = 0;
    for (test, passed, all) in groups {
        let plain = format!("{test} {passed}/{all}");
        let gap = match width {
            0 => indent.to_owned(),
            _ if width + 2 + plain.len() > look.width => format!("\n{indent}"),
            _ => "  ".to_owned(),
        };
        width = if gap == "  " { width + 2 } else { indent.len() } + plain.len();
        let colour = if passed == all { "32" } else { "33" };
        let _ = write!(text, "{gap}{test} {}", look.paint(&format!("{passed}/{all}"), colour));
    }
    text.push('\n');
}

fn table(text: &mut String, run: &RunResult, columns: &[TableColumn<'_>], rows: &[(&str, &str)], look: Look) {
    let widest_row = rows.iter().map(|(test, subtest)| test.len() + 1 + subtest.len()).max().unwrap_or(0);
    let names: Vec<String> = columns.iter().map(|column| column.name(run)).collect();
    let widest_name = names.iter().map(String::len).max().unwrap_or(0).max("missing".len());
    // If the kernel names do not fit side by side, they become numbers that are explained above the table.
    let numbered = widest_row.min(44) + columns.len() * (widest_name + 2) > look.width;
    // A mark follows the outcome.
    let widest_word = "missing".len() + usize::from(run.cells.iter().any(|cell| cell.was.is_some()));
    let column_width = if numbered { widest_word + 2 } else { widest_name.max(widest_word) + 2 };
    let room = look.width.saturating_sub(columns.len() * column_width).max(24);
    let label_width = widest_row.min(room);
    if numbered {
        for (index, name) in names.iter().enumerate() {
            let _ = writeln!(text, "[{}] {name}", index + 1);
        }
        text.push('\n');
    }
    let heads = names
        .iter()
        .enumerate()
        .map(|(index, name)| if numbered { format!("[{}]", index + 1) } else { name.clone() });
    let heads: String = heads.map(|head| format!("  {head:<width$}", width = column_width - 2)).collect();
    let _ = writeln!(text, "{:label_width$}{}", "", heads.trim_end());
    for (test, subtest) in rows {
        let _ = write!(text, "{:label_width$}", shortened(&name_of(test, subtest), label_width));
        let mut line = String::new();
        for column in columns {
            let found = run
                .cells
                .iter()
                .find(|cell| cell.test == *test && cell.subtest == *subtest && column.has(cell));
            let changed = if found.is_some_and(|cell| cell.was.is_some()) { CHANGED } else { "" };
            let word = format!("{}{changed}", found.map_or("-", |cell| cell.outcome.name()));
            let padding = column_width - 2 - word.len().min(column_width - 2);
            let _ = write!(line, "  {}{:padding$}", painted(&word, found.map(|cell| cell.outcome), look), "");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn name_of(test: &str, subtest: &str) -> String {
    if subtest.is_empty() { test.to_owned() } else { format!("{test}/{subtest}") }
}

fn legend(text: &mut String, run: &RunResult) {
    let mut seen: Vec<Outcome> = run.cells.iter().map(|cell| cell.outcome).collect();
    seen.sort_unstable();
    seen.dedup();
    let meaning = |outcome: Outcome| match outcome {
        Outcome::Pass => "every expectation held",
        Outcome::Fail => "an expectation did not hold",
        Outcome::Skip => "feature not supported, and correctly rejected",
        Outcome::Missing => "planned, never reported",
        Outcome::Crash => "the kernel or the runner died during it",
        Outcome::Timeout => "did not finish in time",
        Outcome::Flaky => "passed only on a repeat",
        Outcome::Xfail => "a known bug, declared",
        Outcome::Notrun => "not run (an earlier step failed, or not applicable here)",
    };
    text.push('\n');
    for outcome in seen {
        let _ = writeln!(text, "{:8}{}", outcome.name(), meaning(outcome));
    }
    if run.cells.iter().any(|cell| cell.was.is_some()) {
        let _ = writeln!(text, "{CHANGED:8}another outcome than on the unpatched kernel");
    }
}

pub(super) fn painted(word: &str, outcome: Option<Outcome>, look: Look) -> String {
    let colour = match outcome {
        Some(Outcome::Pass) => "32",
        Some(Outcome::Fail | Outcome::Crash | Outcome::Timeout | Outcome::Missing) => "31",
        Some(Outcome::Skip | Outcome::Flaky | Outcome::Xfail | Outcome::Notrun) => "33",
        None => return word.to_owned(),
    };
    look.paint(word, colour)
}

fn shortened(label: &str, width: usize) -> String {
    if label.chars().count() <= width {
        return label.to_owned();
    }
    let kept: String = label.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}
