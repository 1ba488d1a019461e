// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exporter: KTAP, the kernel's own test format: one top-level test for each column with its subtests nested.
//! A plain TAP parser sees the columns.
//!
//! A skip that counts is `not ok` without a directive, because every consumer considers `# SKIP` to be fine.

use std::fmt::Write as _;

use crate::escape::ktap;
use crate::series;
use crate::story::Story;
use crate::table;
use vmtest_record::findings::{self, ColumnFindings, Finding, TestStatus};

/// Most log lines shown for one result.
const LOG_LINES: usize = 40;

pub fn render(story: &Story<'_>) -> String {
    let columns = findings::columns(story.run);
    let mut text = String::from("KTAP version 1\n");
    let _ = writeln!(text, "# {}", ktap(&story.run.command.join(" ")));
    let _ = writeln!(text, "# {}", ktap(story.directory));
    if let Some((_, sentence)) = series::verdict(story.run) {
        let _ = writeln!(text, "# {}", ktap(&sentence));
    }
    let _ = writeln!(text, "1..{}", columns.len());
    for (at, column) in columns.iter().enumerate() {
        nested(&mut text, column);
        let verdict =
            if column.findings.iter().any(|finding| finding.verdict.is_bad()) { "not ok" } else { "ok" };
        let skipped = column.findings.iter().all(|finding| finding.verdict == TestStatus::Aside);
        let directive = if skipped && verdict == "ok" { " # SKIP nothing here counts" } else { "" };
        let _ = writeln!(text, "{verdict} {} {}{directive}", at + 1, ktap(&column.name()));
    }
    let _ = writeln!(text, "# {}", ktap(&table::classes(story.run)));
    text
}

fn nested(text: &mut String, column: &ColumnFindings<'_>) {
    let _ = writeln!(text, "  KTAP version 1");
    let _ = writeln!(text, "  # Subtest: {}", ktap(&column.name()));
    let _ = writeln!(text, "  1..{}", column.findings.len());
    for (at, finding) in column.findings.iter().enumerate() {
        result(text, at + 1, finding);
    }
}

fn result(text: &mut String, number: usize, finding: &Finding<'_>) {
    let name = ktap(&finding.path());
    let why = ktap(&finding.why());
    let (verdict, directive) = match finding.verdict {
        TestStatus::Passed => ("ok", String::new()),
        TestStatus::Aside => ("ok", format!(" # SKIP {}: {why}", finding.word)),
        TestStatus::Failed | TestStatus::Error => ("not ok", String::new()),
    };
    // Before the result that they belong to, as in the kernel.
    if finding.verdict.is_bad() || (finding.verdict == TestStatus::Passed && !why.is_empty()) {
        let _ = writeln!(text, "  # {name}: {}: {why}", finding.word);
        let skipped = finding.detail.len().saturating_sub(LOG_LINES);
        for line in finding.detail.iter().skip(skipped) {
            let _ = writeln!(text, "  # {}", ktap(line));
        }
    }
    let _ = writeln!(text, "  {verdict} {number} {name}{directive}");
}
