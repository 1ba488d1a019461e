// SPDX-License-Identifier: MIT OR Apache-2.0
//! Result tables for terminals of every width.

use super::*;
use crate::layout::WIDTH;

fn render(run: &RunResult, directory: &str, look: Look) -> String {
    crate::table::render(&Story::of(run, directory), look)
}
use vmtest_record::run::AllowRecord;
use vmtest_record::samples::run;

fn cell(kernel: &str, subtest: &str, outcome: Outcome, class: Class, reason: &str) -> Cell {
    Cell { reason: reason.into(), ..vmtest_record::samples::cell(kernel, subtest, outcome, class) }
}

#[test]
fn every_line_fits_and_the_last_counts_every_class() {
    let mut cells = Vec::new();
    for kernel in ["debian:7.0.13", "debian:6.19.11", "src:7.3.4", "src:6.18.15+fsession"] {
        cells.push(cell(kernel, "runs_twice", Outcome::Pass, Class::Pass, ""));
        let long = "a_subtest_with_a_name_that_nobody_would_give_it_except_to_try_this";
        cells.push(cell(
            kernel,
            long,
            Outcome::Skip,
            Class::Incomplete,
            "no BPF_TRACE_FSESSION ".repeat(9).as_str(),
        ));
    }
    let text = render(&run(cells), "/runs/r", Look::PLAIN);
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{line}");
    }
    assert!(text.contains("[4] src:6.18.15+fsession"));
    assert!(text.ends_with("exit 3: required test skipped or missing 4, pass 4\n"), "{text}");
}

#[test]
fn what_changed_from_the_base_is_marked_and_counted() {
    let base = Kernel { id: "k".into(), role: Some(Role::Base), ..Kernel::default() };
    let patched = Kernel { id: "k+s".into(), compared_to: Some("k".into()), ..Kernel::default() };
    let skip = |kernel, name| cell(kernel, name, Outcome::Skip, Class::Incomplete, "no fsession");
    let pass = |kernel, name| cell(kernel, name, Outcome::Pass, Class::Pass, "");
    let mut run = run(vec![
        skip("k", "a"),
        skip("k", "b"),
        pass("k", "c"),
        pass("k+s", "a"),
        cell("k+s", "b", Outcome::Missing, Class::Incomplete, "gone"),
        pass("k+s", "c"),
    ]);
    run.kernels = vec![base, patched];
    vmtest_record::reference_columns::settle(&mut run);
    run.conclude(None);
    let text = render(&run, "/r", Look::PLAIN);
    for line in [
        "basic/a  skip      pass*",
        "basic/b  skip      missing*",
        "basic/c  pass      pass",
        "*       another outcome than on the unpatched kernel",
        "changed from k to k+s, of 3 cells: 1 from skip to pass, 1 from skip to missing",
        "exit 3: required test skipped or missing 1, pass 3; 2 only to compare with",
    ] {
        assert!(text.lines().any(|seen| seen == line), "{line}\n{text}");
    }
    let painted = render(&run, "/r", Look { colour: true, ..Look::PLAIN });
    assert!(painted.contains("\x1b[32mpass*\x1b[0m"), "{painted}");
}

#[test]
fn what_was_measured_stands_below_the_matrix() {
    let mut quick = cell("k", "a", Outcome::Pass, Class::Pass, "");
    quick.measured = "7.0 ns a call, tcg: emulated".to_owned();
    let text = render(&run(vec![quick, cell("k", "b", Outcome::Pass, Class::Pass, "")]), "/r", Look::PLAIN);
    let figures = "measured on k\n    basic/a  7.0 ns a call, tcg: emulated\n\nPASSED:";
    assert!(text.contains(figures), "{text}");
}

#[test]
fn splats_are_shown_with_their_stack_and_entries_that_allow_nothing_are_told() {
    let splat = |title: &str, stack: &[&str], lines: &[&str]| SplatRecord {
        kernel: "k".into(),
        title: title.into(),
        during: "basic/a".into(),
        severity: "splat".into(),
        stack: stack.iter().map(|line| (*line).to_owned()).collect(),
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        ..SplatRecord::default()
    };
    let mut run = run(vec![cell("k", "a", Outcome::Pass, Class::Pass, "")]);
    run.splats = vec![
        splat("WARNING: one", &["f (a.c:1)"], &["before", "WARNING: one", "f+0x1/0x2"]),
        SplatRecord {
            allowed: Some("known".into()),
            ..splat("WARNING: two", &[], &["before", "[1.0] WARNING: two", "after"])
        },
        splat("WARNING: one", &["again"], &[]),
    ];
    let entry = |title: &str, state: &str| AllowRecord {
        title: title.into(),
        reason: "r".into(),
        expires: "2026-01-01".into(),
        state: state.into(),
        splats: 1,
    };
    run.allowed_splats = vec![entry("two", "used"), entry("one", "expired"), entry("three", "unused")];
    let text = render(&run, "/r", Look::PLAIN);
    for part in [
        "splat: WARNING: one\n    on k during basic/a\n    | f (a.c:1)\n",
        "splat: WARNING: two (allowed: known)\n    on k during basic/a\n    | [1.0] WARNING: two\n    | after\n",
        "--allow-splats: \"one\" (r) is expired",
        "--allow-splats: \"three\" (r) is unused: it fits nothing in this run",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("again") && !text.contains("\"two\""), "{text}");
}

#[test]
fn what_is_allowed_to_be_no_pass_is_said() {
    let cells =
        [cell("k", "a", Outcome::Pass, Class::Pass, ""), cell("k", "b", Outcome::Skip, Class::Pass, "x")];
    assert_eq!(classes(&run(cells.into())), "exit 0: pass 2 (1 allowed skips among them)");
    let cells =
        [cell("k", "a", Outcome::Pass, Class::Pass, ""), cell("k", "b", Outcome::Notrun, Class::Pass, "x")];
    assert_eq!(classes(&run(cells.into())), "exit 0: pass 2 (1 not run and not required among them)");
}

#[test]
fn a_reason_is_told_once_for_all_cells_that_share_it() {
    let cells = ["a", "b", "c"].map(|name| cell("k", name, Outcome::Skip, Class::Incomplete, "no fsession"));
    let text = render(&run(cells.into()), "/r", Look::PLAIN);
    assert_eq!(text.matches("no fsession").count(), 1);
    assert!(text.contains("skip basic/a\n    on k and 2 more"));
    assert!(!text.contains('\x1b'));
}

#[test]
fn several_expectations_are_a_list_that_is_cut_where_rows_are_folded() {
    let unmet = |number: usize| Expectation {
        what: format!("check {number}"),
        expected: "1".into(),
        seen: number.to_string(),
    };
    let mut failed = cell("k", "a", Outcome::Fail, Class::TestFailed, "check 2: expected 1, seen 2 (8 of 9)");
    failed.unmet = (2..10).map(unmet).collect();
    let run = run(vec![failed, cell("k", "b", Outcome::Pass, Class::Pass, "")]);
    let folded = render(&run, "/runs/r", Look { rows: Rows::Failed, ..Look::PLAIN });
    let list = "fail basic/a\n    check 2: expected 1, seen 2\n    check 3: expected 1, seen 3\n    \
                check 4: expected 1, seen 4\n    5 more: cargo xtask report show r --rows all\n";
    assert!(folded.contains(list), "{folded}");
    let whole = render(&run, "/runs/r", Look::PLAIN);
    assert!(whole.contains("    check 9: expected 1, seen 9\n") && !whole.contains(" more: "), "{whole}");
    let elsewhere = render(&run, "/out", Look { rows: Rows::Failed, ..Look::PLAIN });
    assert!(elsewhere.contains("cargo xtask report show /out --rows all"), "{elsewhere}");
}
