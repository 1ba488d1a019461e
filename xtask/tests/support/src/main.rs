// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vmtest-testing [--times N] [ROW..]`: causes every way to die, or only these, and writes docs/evidence/failures.md
//! from what was seen. Started by `cargo xtask test --failures`. The details are in
//! `target/tmp/failures/failures.json`.

use std::fs;
use std::io::Write;
use std::process::ExitCode;

use serde_json::json;
use vmtest_testing::failures::rows::{ROWS, Row};
use vmtest_testing::failures::{page, run};
use vmtest_testing::{checkout, scratch};

fn main() -> ExitCode {
    let mut times = 20;
    let mut names: Vec<String> = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--times" {
            times = words.next().and_then(|text| text.parse().ok()).expect("--times takes a number");
        } else {
            names.push(word);
        }
    }
    let say = |line: String| writeln!(std::io::stdout(), "{line}").expect("standard output");
    if let Some(unknown) = names.iter().find(|name| ROWS.iter().all(|row| row.name != **name)) {
        let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        say(format!("error: no such row: {unknown}\nnext: one of {}", known.join(", ")));
        return ExitCode::from(2);
    }
    let chosen = |row: &&Row| names.is_empty() || names.iter().any(|name| name == row.name);
    let (file, records_file) =
        (checkout().join("docs/evidence/failures.md"), scratch("failures").join("failures.json"));
    let mut records = Vec::new();
    let mut wrong = Vec::new();
    for row in ROWS.iter().filter(chosen) {
        let (record, faults) = run::try_row(row, if row.racy { times } else { 1 });
        say(format!("{}: {}", row.name, if faults.is_empty() { "right" } else { "WRONG" }));
        wrong.extend(faults);
        records.push(record);
        // After each row, so that nothing is lost whatever happens next.
        fs::write(&records_file, format!("{:#}\n", json!({ "schema": 1, "rows": records })))
            .expect("written");
        let before = fs::read_to_string(&file).unwrap_or_default();
        fs::write(&file, page::page(&records, &before)).expect("written");
    }
    wrong.iter().for_each(|line| say(line.clone()));
    ExitCode::from(u8::from(!wrong.is_empty()))
}
