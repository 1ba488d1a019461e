// SPDX-License-Identifier: MIT OR Apache-2.0
//! docs/evidence/failures.md: a line for each row, made from what was seen. Rows that did not run keep their line.

use serde_json::Value;

use super::rows::{ROWS, Row};

/// The page, with these records replacing the lines of `before`.
pub fn page(records: &[Value], before: &str) -> String {
    let lines: Vec<String> =
        ROWS.iter()
            .map(|row| match records.iter().find(|record| record["name"] == row.name) {
                Some(record) => line(row, record),
                None => line_of(row, before)
                    .unwrap_or_else(|| format!("{}| | | | **not run yet** | |", cause(row))),
            })
            .collect();
    let right = lines.iter().filter(|line| !line.contains("**")).count();
    format!(
        "<!-- SPDX-License-Identifier: MIT OR Apache-2.0 -->\n\
         # Every way to die, and what is made of it\n\n\
         Written by `cargo xtask test --failures` from what it saw, not by hand; it leaves more of each row in\n\
         `target/tmp/failures/failures.json`.\n\n\
         {} ways, {right} of them told right each time. *Real* guests are QEMU with a kernel that was built here, emulated; *fake* \
         ones are a\n\
         program in the place of QEMU or virtme-ng that says what such a guest says. *Guest* is the class of the guest as a whole, \
         *exit* the\n\
         exit code of the run, both as expected and as seen. *Time* is from the line that told of the death, or else from the last \
         byte of\n\
         the guest, to the verdict; where a limit had to pass first, that is named. A row with a number of times is racy, and was \
         run that often.\n\n\
         | way | cause | guest | class | exit | told as | time |\n|---|---|---|---|---|---|---|\n{}\n",
        ROWS.len(),
        lines.join("\n"),
    )
}

/// The line of a row on a page; `None` if it has none, or another cause.
pub fn line_of(row: &Row, page: &str) -> Option<String> {
    page.lines().find(|line| line.starts_with(&cause(row))).map(str::to_owned)
}

fn cause(row: &Row) -> String {
    format!("| {} | {} ", row.name, plain(row.how))
}

fn line(row: &Row, record: &Value) -> String {
    let pair = |what: &str| {
        let (expected, seen) = (&record["expected"][what], &record["seen"][what]);
        if expected == seen { format!("{seen}") } else { format!("**{expected}, seen {seen}**") }
    };
    let (right, times) = (record["right"].as_u64().unwrap_or(0), record["times"].as_u64().unwrap_or(0));
    let often = match (right == times, times) {
        (true, 0 | 1) => String::new(),
        (true, _) => format!(", {right} of {times} times right"),
        (false, _) => format!(", **{right} of {times} times right**"),
    };
    let limit = record["limit"].as_str().map(|limit| format!(" ({limit})")).unwrap_or_default();
    format!(
        "{}| {}{often} | {} | {} | {} | {} ms{limit} |",
        cause(row),
        record["guest"].as_str().unwrap_or_default(),
        pair("class"),
        pair("exit"),
        plain(record["told"].as_str().unwrap_or_default()),
        record["to_verdict_ms"],
    )
}

/// Text inside a table cell, of limited length.
fn plain(text: &str) -> String {
    let short: String = text.chars().take(90).collect();
    let dots = if text.chars().count() > 90 { "…" } else { "" };
    format!("{}{dots}", short.replace('|', "\\|").replace('<', "&lt;"))
}
