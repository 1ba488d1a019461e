// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every way to die, caused: `cargo xtask test --failures` runs all rows and writes docs/failures.md and docs/failures.json;
//! `cargo xtask test` a sample of real ones, beside the fake ones, which are among the whole-command tests.

mod page;
mod rows;
mod run;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the whole-command tests use all of it")]
mod support;

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use rows::{ROWS, Row};

fn docs() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// Some that need no kernel of their own.
#[test]
fn some_real_deaths_are_told_right() {
    for name in ["triple-fault", "runner-hangs", "half-an-event", "no-first-byte", "qemu-killed"] {
        let row = ROWS.iter().find(|row| row.name == name).expect("there is such a row");
        let (_, wrong) = run::try_row(row, 1);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// All, or those that are named, and the page. `VMTEST_FAILURES` has the names, separated by spaces, or `all`;
/// `VMTEST_FAILURES_TIMES` how often racy ones run.
#[test]
#[ignore = "half an hour, writes docs/failures.md; cargo xtask test --failures; some_real_deaths_are_told_right is the sample for CI"]
fn every_row_is_told_right_and_written_down() {
    let wanted = std::env::var("VMTEST_FAILURES").unwrap_or_else(|_| "all".to_owned());
    let times =
        std::env::var("VMTEST_FAILURES_TIMES").ok().map_or(20, |text| text.parse().expect("a number"));
    let names: Vec<&str> = wanted.split_whitespace().collect();
    for name in names.iter().filter(|name| **name != "all") {
        assert!(ROWS.iter().any(|row| row.name == *name), "{name} is no row of docs/failures.md");
    }
    let chosen: Vec<&Row> = ROWS.iter().filter(|row| wanted == "all" || names.contains(&row.name)).collect();
    let file = docs().join("failures.json");
    let known: Value =
        fs::read_to_string(&file).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let mut records = known["rows"].as_array().cloned().unwrap_or_default();
    let mut wrong = Vec::new();
    for row in chosen {
        let (record, faults) = run::try_row(row, if row.racy { times } else { 1 });
        let verdict = if faults.is_empty() { "right" } else { "WRONG" };
        writeln!(std::io::stdout(), "{}: {verdict}", row.name).expect("somebody reads it");
        wrong.extend(faults);
        records.retain(|known| known["name"] != row.name);
        records.push(record);
        // After each: what was seen is kept whatever comes next.
        let ordered: Vec<&Value> =
            ROWS.iter().filter_map(|row| records.iter().find(|record| record["name"] == row.name)).collect();
        let all = json!({ "schema": 1, "rows": ordered });
        fs::write(&file, format!("{all:#}\n")).expect("written");
        fs::write(docs().join("failures.md"), page::page(&all)).expect("written");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
