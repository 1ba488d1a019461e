// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows of docs/failures.md that need no virtual machine, and that the page is what was seen.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::rows::ROWS;
use crate::{page, run};

#[test]
fn every_row_with_a_fake_guest_is_told_right() {
    let mut wrong = Vec::new();
    for row in ROWS.iter().filter(|row| !row.is_real()) {
        wrong.extend(run::try_row(row, 1).1);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_two_rows_have_one_name_and_there_are_enough() {
    let names: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), ROWS.len());
    assert!(names.len() >= 30);
    assert!(ROWS.iter().all(|row| row.code != 0), "none is a pass");
}

#[test]
fn the_page_is_made_of_what_was_seen_and_all_of_that_was_right() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let read = |name: &str| fs::read_to_string(docs.join(name)).expect("it is there");
    let records = serde_json::from_str(&read("failures.json")).expect("JSON");
    assert_eq!(page::page(&records), read("failures.md"), "cargo xtask test --failures writes both");
    for row in ROWS {
        let found =
            records["rows"].as_array().expect("rows").iter().find(|record| record["name"] == row.name);
        let record = found.unwrap_or_else(|| panic!("{} was never run", row.name));
        for what in ["class", "exit", "outcome"] {
            assert_eq!(record["expected"][what], record["seen"][what], "{}: {what}", row.name);
        }
        assert_eq!(
            (&record["expected"]["class"], &record["expected"]["exit"]),
            (&row.class.into(), &row.code.into())
        );
        assert_eq!(record["right"], record["times"], "{}", row.name);
        let least = if row.racy { 20 } else { 1 };
        assert!(record["times"].as_u64() >= Some(least), "{} ran {} times", row.name, record["times"]);
    }
}
