// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exporter: plain text for the reply to a patch, at most 30 lines of 75 columns so that it gets read.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::coverage;
use crate::series;
use crate::story::Story;
use crate::table;
use vmtest_base::error::Class;
use vmtest_record::findings::{self, ColumnFindings, TestStatus};
use vmtest_record::run::RunResult;
use vmtest_record::series::PatchRecord;

/// Maximum line width.
pub(super) const WIDTH: usize = 75;
pub(super) const LINES: usize = 30;
/// Most columns of the matrix that are listed.
const MAX_COLUMNS: usize = 8;
/// Most lines for findings.
const FINDING_LINES: usize = 11;
/// Most lines about the series and the guests.
const UNDER_TEST_LINES: usize = 4;
/// Most lines about tests that the series changes.
const OWN_TESTS_LINES: usize = 3;
/// Most patches that have a line.
const PATCHES: usize = 10;
/// Most lines about the added lines that ran.
const COVERAGE_LINES: usize = 3;
/// Most lines of the first sentence about a series.
const SENTENCE_LINES: usize = 4;
/// Most lines for the command at the end.
const COMMAND_LINES: usize = 3;

pub fn render(story: &Story<'_>) -> String {
    let run = story.run;
    let columns = findings::columns(run);
    let class = run.exit_code;
    let mut lines = Vec::new();
    match series::verdict(run) {
        Some((_, sentence)) => {
            lines.extend(wrap(&sentence, "", SENTENCE_LINES));
            lines.push(String::new());
            lines.extend(patches(run));
            lines.extend(wrap(&table::classes(run), "", 1));
        }
        None => {
            let verdict = if class == Class::Pass { "passed" } else { "NOT passed" };
            lines.extend(wrap(&format!("vmtest: {verdict}, {}", table::classes(run)), "", 2));
        }
    }
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
    let covered = match coverage::paragraph(run) {
        text if text.is_empty() => Vec::new(),
        text => wrap(&text, "", COVERAGE_LINES),
    };
    let taken = lines.len() + 1 + UNDER_TEST_LINES + note.len() + covered.len() + COMMAND_LINES;
    lines.extend(found(&columns, FINDING_LINES.min(LINES.saturating_sub(taken + 1))));
    lines.push(String::new());
    lines.extend(covered);
    lines.extend(under_test(run));
    lines.extend(note);
    lines.extend(wrap(&run.command.join(" "), "  ", COMMAND_LINES));
    lines.truncate(LINES);
    without_directories(&lines.join("\n")) + "\n"
}

/// A line for each patch, if each was tested.
fn patches(run: &RunResult) -> Vec<String> {
    let Some(series) = series::told(run).next() else { return Vec::new() };
    let count = series.patches.len();
    let mut lines = Vec::new();
    // Patches with a problem go before the others if there is no room for all.
    let mut shown: Vec<&PatchRecord> = series.patches.iter().collect();
    shown.sort_by_key(|patch| (count > PATCHES && !patch.is_bad(), patch.number));
    shown.truncate(PATCHES);
    shown.sort_by_key(|patch| patch.number);
    for patch in &shown {
        let line = format!("{}/{count} {}: {}", patch.number, patch.info.subject, series::result(patch));
        lines.extend(wrap(&line, "  ", 1));
    }
    if count > shown.len() {
        lines.push(format!("  and {} more patches", count - shown.len()));
    }
    lines.push(String::new());
    lines
}

/// The text without the directories of this machine: `tree:/home/me/linux` becomes `tree:linux`. Paths of a
/// guest stay.
pub(super) fn without_directories(text: &str) -> String {
    static PATH: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?m)(^|[\s:=,'\x22(@])(~?(?:/[\w.+~@%-]+)+/)([\w.+~@%-]*)").expect("a pattern")
    });
    let shorter = |found: &Captures<'_>| {
        let of_guest = ["/sys/", "/proc/", "/dev/"].iter().any(|start| found[2].starts_with(start));
        let of_web = found[1].ends_with(':') && found[2].starts_with("//");
        if of_guest || of_web { found[0].to_owned() } else { format!("{}{}", &found[1], &found[3]) }
    };
    PATH.replace_all(text, shorter).into_owned()
}

/// `41 pass, 1 crash`, bad outcomes last.
fn counts(column: &ColumnFindings<'_>) -> String {
    let mut counts: BTreeMap<(TestStatus, &str, bool), usize> = BTreeMap::new();
    for finding in &column.findings {
        let before = finding.already_on.is_some();
        *counts.entry((finding.verdict, finding.word, before)).or_default() += 1;
    }
    let word = |((verdict, word, before), count): (&(TestStatus, &str, bool), &usize)| match verdict {
        TestStatus::Aside if *before => format!("{count} {word} as before"),
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
pub(super) fn wrap(text: &str, indent: &str, most: usize) -> Vec<String> {
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
