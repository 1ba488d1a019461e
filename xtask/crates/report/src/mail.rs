// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exporter: plain text for the reply to a patch, at most 30 lines of 75 columns so that it gets read.

use std::collections::BTreeMap;

use crate::story::Story;
use crate::table;
use vmtest_base::error::Class;
use vmtest_record::findings::{self, ColumnFindings, TestStatus};
use vmtest_record::run::RunResult;

/// Maximum line width.
pub(super) const WIDTH: usize = 75;
pub(super) const LINES: usize = 30;
/// Most columns of the matrix that are listed.
const MAX_COLUMNS: usize = 8;
/// Most lines for findings.
const FINDING_LINES: usize = 11;
/// Most lines about tests that the series changes.
const OWN_TESTS_LINES: usize = 3;
/// Most lines for the command at the end.
const COMMAND_LINES: usize = 3;

pub fn render(story: &Story<'_>) -> String {
    let run = story.run;
    let columns = findings::columns(run);
    let class = run.exit_code;
    let mut lines = Vec::new();
    let verdict = if class == Class::Pass { "passed" } else { "NOT passed" };
    lines.extend(wrap(&format!("vmtest: {verdict}, {}", table::classes(run)), "", 2));
    lines.push(String::new());
    let listed = columns.iter().filter(|column| !column.id.kernel.is_empty());
    let width = listed.clone().map(|column| column.name().chars().count()).max().unwrap_or(0).min(WIDTH / 2);
    for column in listed.clone().take(MAX_COLUMNS) {
        let line = format!("  {:width$}  {}", column.name(), counts(column));
        lines.extend(wrap(line.trim_start(), "  ", 1));
    }
    let more = listed.count().saturating_sub(MAX_COLUMNS);
    if more > 0 {
        lines.push(format!("  and {more} more columns"));
    }
    let note = findings::own_tests(run).map_or_else(Vec::new, |own| {
        wrap(&format!("Note: {}: {}", own.what, own.list()), "", OWN_TESTS_LINES)
    });
    lines.extend(found(&columns, FINDING_LINES - note.len()));
    lines.push(String::new());
    lines.extend(under_test(run));
    lines.extend(note);
    lines.extend(wrap(&run.command.join(" "), "  ", COMMAND_LINES));
    lines.truncate(LINES);
    lines.join("\n") + "\n"
}

/// `41 pass, 1 crash`, bad outcomes last.
fn counts(column: &ColumnFindings<'_>) -> String {
    let mut counts: BTreeMap<(TestStatus, &str), usize> = BTreeMap::new();
    for finding in &column.findings {
        *counts.entry((finding.verdict, finding.word)).or_default() += 1;
    }
    let word = |((verdict, word), count): (&(TestStatus, &str), &usize)| match verdict {
        TestStatus::Aside => format!("{count} {word} (allowed)"),
        TestStatus::Passed | TestStatus::Failed | TestStatus::Error => format!("{count} {word}"),
    };
    counts.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// What is bad, the worst first.
fn found(columns: &[ColumnFindings<'_>], most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left_out = 0;
    for reason in findings::reasons(columns) {
        let mut entry = wrap(&reason.title(), "", 1);
        entry.extend(wrap(&reason.why, "    ", 2));
        if lines.len() + entry.len() > most {
            left_out += reason.count;
        } else {
            lines.extend(entry);
        }
    }
    if left_out > 0 {
        lines.push(format!("and {left_out} more that did not pass"));
    }
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

fn under_test(run: &RunResult) -> Vec<String> {
    let mut lines = Vec::new();
    let kernel = run.kernels.iter().find(|kernel| !kernel.series.is_empty());
    if let Some(kernel) = kernel {
        let more = if kernel.series.len() > 1 {
            format!(" and {} more", kernel.series.len() - 1)
        } else {
            String::new()
        };
        lines.extend(wrap(&format!("Series: {}{more}", kernel.series[0]), "", 1));
        if let Some(note) = kernel.notes.first() {
            lines.extend(wrap(&format!("Note: {note}"), "", 2));
        }
    }
    let mut on: Vec<String> = Vec::new();
    for boot in &run.boots {
        let word = if boot.accel == "tcg" { "emulated (tcg)" } else { &boot.accel };
        let how = format!("{} boot, {word}", boot.boot);
        if !on.contains(&how) {
            on.push(how);
        }
    }
    let tool =
        |name: &str| run.tools.get(name).map(|version| version.lines().next().unwrap_or_default().to_owned());
    on.extend(tool("qemu-system-x86_64"));
    if !on.is_empty() {
        lines.extend(wrap(&format!("On: {}", on.join("; ")), "", 1));
    }
    lines
}

/// At most `most` lines within the width, each with this indent. Omitted text is marked with two dots.
fn wrap(text: &str, indent: &str, most: usize) -> Vec<String> {
    // Two columns are reserved for the dots.
    let options = textwrap::Options::new(WIDTH - 2).initial_indent(indent).subsequent_indent(indent);
    let text = text.replace(['\n', '\t'], " ");
    let mut lines: Vec<String> =
        textwrap::wrap(&text, &options).into_iter().map(|line| line.into_owned()).collect();
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            last.push_str("..");
        }
    }
    lines
}
