// SPDX-License-Identifier: MIT OR Apache-2.0
//! docs/failures.md from docs/failures.json.

use std::fmt::Write as _;

use serde_json::Value;

use crate::rows::ROWS;

/// The page of these records.
pub fn page(records: &Value) -> String {
    let rows = records["rows"].as_array().cloned().unwrap_or_default();
    let right = rows.iter().filter(|row| row["right"] == row["times"]).count();
    let mut text = format!(
        "<!-- SPDX-License-Identifier: MIT OR Apache-2.0 -->\n\
         # Every way to die, and what is made of it\n\n\
         Written by `cargo xtask test --failures` from what it saw; not by hand. [failures.json](failures.json) has more of each \
         row.\n\n\
         {} ways, {right} of them told right each time. *Real* guests are QEMU with a kernel that was built here, emulated; *fake* \
         ones are a\n\
         program in the place of QEMU or virtme-ng that says what such a guest says. *Guest* is the class of the guest as a whole, \
         *exit* the\n\
         exit code of the run, both as expected and as seen. *Time* is from the line that told of the death, or else from the last \
         byte of\n\
         the guest, to the verdict; where a limit had to pass first, that is named. A row with a number of times is racy, and was \
         run that often.\n\n\
         | way | cause | guest | class | exit | told as | time |\n|---|---|---|---|---|---|---|\n",
        rows.len(),
    );
    for row in ROWS {
        let Some(record) = rows.iter().find(|record| record["name"] == row.name) else {
            let _ = writeln!(text, "| {} | {} | | | | not run yet | |", row.name, plain(row.how));
            continue;
        };
        let pair = |what: &str| {
            let (expected, seen) = (&record["expected"][what], &record["seen"][what]);
            if expected == seen { format!("{seen}") } else { format!("**{expected}, seen {seen}**") }
        };
        let mut time = format!("{} ms", record["to_verdict_ms"]);
        if let Some(limit) = record["limit"].as_str() {
            let _ = write!(time, " ({limit})");
        }
        let times = record["times"].as_u64().unwrap_or(0);
        let often =
            if times > 1 { format!(", {} of {times} times right", record["right"]) } else { String::new() };
        let _ = writeln!(
            text,
            "| {} | {} | {}{often} | {} | {} | {} | {time} |",
            row.name,
            plain(row.how),
            record["guest"].as_str().unwrap_or_default(),
            pair("class"),
            pair("exit"),
            plain(record["told"].as_str().unwrap_or_default()),
        );
    }
    text
}

/// Inside of a table's cell, and of a bearable length.
fn plain(text: &str) -> String {
    let short: String = text.chars().take(90).collect();
    let dots = if text.chars().count() > 90 { "…" } else { "" };
    format!("{}{dots}", short.replace('|', "\\|").replace('<', "&lt;"))
}
