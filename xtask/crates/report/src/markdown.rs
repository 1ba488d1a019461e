// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exporter: Markdown for the summary of a CI job. Problems come first; the whole matrix is folded.

use std::fmt::Write as _;

use crate::coverage;
use crate::escape::{cut, markdown, xml};
use crate::flaws;
use crate::series;
use crate::story::Story;
use crate::table;
use vmtest_base::error::Class;
use vmtest_record::findings::{self, ColumnFindings, TestStatus};
use vmtest_record::run::RunResult;
use vmtest_record::series::State;

/// A job summary is limited to 1 MiB; what precedes the matrix is far smaller than that.
const MATRIX_BYTES: usize = 512 * 1024;
/// Findings that are shown with their log.
const DETAILED: usize = 20;
/// Bytes of each log.
const LOG_BYTES: usize = 4 * 1024;

pub fn render(story: &Story<'_>) -> String {
    let run = story.run;
    let columns = findings::columns(run);
    let class = run.exit_code;
    let mark = if class == Class::Pass { "✅" } else { "❌" };
    let mut text = match series::verdict(run) {
        Some((_, sentence)) => format!("## {mark} {}\n\n", markdown(&sentence)),
        None => format!("## {mark} vmtest: {}\n\n", markdown(&table::classes(run))),
    };
    patches(&mut text, run);
    overview(&mut text, &columns);
    flaws::render_markdown(&mut text, run);
    coverage::render_markdown(&mut text, run);
    if let Some(own) = findings::own_tests(run) {
        let _ = writeln!(text, "\n{}: {}", markdown(&own.what), markdown(&own.list()));
    }
    details(&mut text, &columns);
    matrix(&mut text, &columns);
    let _ = writeln!(
        text,
        "\nRun <code>{}</code>: <code>{}</code>",
        markdown(&run.run),
        markdown(&run.command.join(" "))
    );
    text
}

/// A table with a row for each patch.
fn patches(text: &mut String, run: &RunResult) {
    for one in series::told(run) {
        text.push_str("| patch | builds | boots | result |\n|---|---|---|---|\n");
        for patch in &one.patches {
            let state = |state: State| match state {
                State::Yes => "yes",
                State::No => "**no**",
                State::Unknown => "",
            };
            let name = format!("{}/{} {}", patch.number, one.patches.len(), patch.info.subject);
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                markdown(&name),
                state(patch.builds),
                state(patch.boots),
                markdown(&series::result(patch))
            );
        }
        let _ = writeln!(text, "\n{}\n", markdown(&table::classes(run)));
    }
}

fn overview(text: &mut String, columns: &[ColumnFindings<'_>]) {
    text.push_str("| kernel | passed | failed | not judged | aside |\n|---|--:|--:|--:|--:|\n");
    for column in columns {
        let count = |verdict| column.count(verdict);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            markdown(&column.name()),
            count(TestStatus::Passed),
            count(TestStatus::Failed),
            count(TestStatus::Error),
            count(TestStatus::Aside)
        );
    }
}

fn details(text: &mut String, columns: &[ColumnFindings<'_>]) {
    let reasons = findings::reasons(columns);
    for reason in reasons.iter().take(DETAILED) {
        let (title, why) = (markdown(&reason.title()), markdown(&reason.why));
        let _ = write!(text, "\n<details><summary>{title}<br>{why}</summary>\n\n");
        let log = cut(&reason.finding.detail.join("\n"), LOG_BYTES);
        let log = if log.is_empty() { reason.finding.reason.to_owned() } else { log };
        // Until the end of `pre` nothing is parsed as Markdown, including empty lines.
        let _ = write!(text, "<pre>{}</pre>\n\n</details>\n", xml(&log));
    }
    if reasons.len() > DETAILED {
        let _ = writeln!(text, "\nand {} more reasons in the run's record", reasons.len() - DETAILED);
    }
}

fn matrix(text: &mut String, columns: &[ColumnFindings<'_>]) {
    let mut rows: Vec<String> = Vec::new();
    for finding in columns.iter().flat_map(|column| &column.findings) {
        let path = finding.path();
        if !rows.contains(&path) {
            rows.push(path);
        }
    }
    let _ = write!(text, "\n<details><summary>All {} rows</summary>\n\n| |", rows.len());
    for column in columns {
        let _ = write!(text, " {} |", markdown(&column.name()));
    }
    let _ = write!(text, "\n|---|{}\n", "---|".repeat(columns.len()));
    let start = text.len();
    for (at, row) in rows.iter().enumerate() {
        if text.len() - start > MATRIX_BYTES {
            let _ = writeln!(text, "| and {} more rows |{}", rows.len() - at, " |".repeat(columns.len()));
            break;
        }
        let _ = write!(text, "| {} |", markdown(row));
        for column in columns {
            let found = column.findings.iter().find(|finding| finding.path() == *row);
            let word = found.map_or_else(String::new, |finding| match finding.verdict {
                TestStatus::Failed | TestStatus::Error => format!("**{}**", finding.word),
                TestStatus::Passed | TestStatus::Aside => finding.word.to_owned(),
            });
            let _ = write!(text, " {word} |");
        }
        text.push('\n');
    }
    text.push_str("\n</details>\n");
}
