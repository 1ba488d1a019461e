// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows of docs/evidence/failures.md that need no virtual machine, and that the page matches what was seen.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;
use vmtest_testing::checkout;
use vmtest_testing::failures::rows::ROWS;
use vmtest_testing::failures::{page, run};

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
fn the_page_has_each_row_as_it_is_declared_and_all_of_them_were_right() {
    let page = fs::read_to_string(checkout().join("docs/evidence/failures.md")).expect("the page");
    assert_eq!(page::page(&[], &page), page, "cargo xtask test --failures writes it");
    for row in ROWS {
        let line = page::line_of(row, &page).unwrap_or_else(|| panic!("{} was never run", row.name));
        assert!(!line.contains("**"), "{line}");
        assert!(line.contains(&format!(" | {} | {} | ", row.class, row.code)), "{line}");
        let guest = line.split(" | ").nth(2).expect("a guest");
        assert!(guest.starts_with(if row.is_real() { "real, " } else { "fake" }), "{line}");
        let often =
            guest.rsplit_once(", ").and_then(|(_, times)| times.split(' ').nth(2)?.parse::<u32>().ok());
        assert_eq!(often.is_some_and(|times| times >= 20), row.racy, "{line}");
    }
}

#[test]
fn a_row_that_was_wrong_stands_out_on_the_page_and_the_others_stay() {
    let before = fs::read_to_string(checkout().join("docs/evidence/failures.md")).expect("the page");
    let (row, other) = (&ROWS[0], &ROWS[1]);
    let seen = json!({
        "name": row.name, "guest": "fake", "told": "pass", "times": 20, "right": 19, "to_verdict_ms": 1,
        "expected": { "class": 21, "exit": 21 }, "seen": { "class": 21, "exit": 0 },
    });
    let after = page::page(&[seen], &before);
    let line = page::line_of(row, &after).expect("a line");
    assert!(
        line.ends_with("| fake, **19 of 20 times right** | 21 | **21, seen 0** | pass | 1 ms |"),
        "{line}"
    );
    assert!(after.contains(&format!("{} ways, {} of them told right", ROWS.len(), ROWS.len() - 1)));
    assert_eq!(page::line_of(other, &after), page::line_of(other, &before));
    assert!(page::page(&[], "").contains("**not run yet**"));
}
