// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs with reference columns, and what counts in them.

use super::*;
use crate::run::BootRecord;
use crate::samples::boot;
use crate::samples::cell;
use crate::samples::run;

/// A run of one subtest: `base`, steps and finally the judged column.
fn steps(outcomes: &[(Outcome, Class)]) -> RunResult {
    let mut run = run(Vec::new());
    for (at, (outcome, class)) in outcomes.iter().enumerate() {
        let id = format!("k@{at}");
        run.cells.push(cell(&id, "x", *outcome, *class));
        run.kernels.push(Kernel {
            id,
            role: Some(Role::Step).filter(|_| at + 1 < outcomes.len()),
            compared_to: at.checked_sub(1).map(|before| format!("k@{before}")),
            ..Kernel::default()
        });
    }
    settle(&mut run);
    run.conclude(None);
    run
}

const PASS: (Outcome, Class) = (Outcome::Pass, Class::Pass);
const SKIP: (Outcome, Class) = (Outcome::Skip, Class::Incomplete);
const FAIL: (Outcome, Class) = (Outcome::Fail, Class::TestFailed);
const UNBUILT: (Outcome, Class) = (Outcome::Notrun, Class::KernelBuild);
const MISSING: (Outcome, Class) = (Outcome::Missing, Class::Incomplete);

fn changes(run: &RunResult) -> Vec<Option<Change>> {
    run.cells.iter().map(change).collect()
}

#[test]
fn half_a_series_may_skip_and_fail_if_the_whole_passes() {
    let run = steps(&[SKIP, SKIP, FAIL, PASS]);
    assert_eq!(run.exit_code.code(), 0);
    assert_eq!(run.classes, [(Class::Pass, 1)].into());
    assert_eq!(changes(&run), [None, None, Some(Change::Differs), Some(Change::Starts)]);
    assert_eq!(run.cells[3].was, Some(Outcome::Fail));
    assert_eq!(run.cells.iter().filter(|cell| cell.required).count(), 1);
    // The class still shows the failure, so a sum of classes never counts it as a pass.
    assert_eq!(run.cells[2].class, Class::TestFailed);
}

#[test]
fn the_last_column_is_judged_as_any_other() {
    assert_eq!(steps(&[SKIP, SKIP, SKIP]).exit_code.code(), 3);
    assert_eq!(steps(&[SKIP, PASS, SKIP]).exit_code.code(), 3);
    assert_eq!(steps(&[SKIP, FAIL]).exit_code.code(), 1);
    assert_eq!(steps(&[PASS, MISSING]).exit_code.code(), 3);
    assert_eq!(steps(&[PASS, FAIL]).cells[1].was, Some(Outcome::Pass));
}

#[test]
fn what_worked_before_counts_wherever_it_breaks() {
    for broken in [SKIP, FAIL, MISSING] {
        let run = steps(&[PASS, broken, broken, PASS]);
        assert_eq!(run.exit_code.code(), broken.1.code(), "{broken:?}");
        assert_eq!(run.classes[&broken.1], 2);
        // One patch broke it, one fixed it.
        assert_eq!(changes(&run), [None, Some(Change::Breaks), None, Some(Change::Starts)]);
    }
    // Also if a column in between has no result.
    let run = steps(&[PASS, UNBUILT, FAIL, PASS]);
    assert_eq!(run.exit_code.code(), 1);
    assert_eq!(changes(&run), [None, None, Some(Change::Breaks), Some(Change::Starts)]);
}

#[test]
fn what_happens_to_the_kernel_counts_in_every_column() {
    assert_eq!(steps(&[UNBUILT, PASS]).exit_code.code(), 12);
    assert_eq!(steps(&[SKIP, UNBUILT, PASS]).exit_code.code(), 12);
    assert_eq!(steps(&[(Outcome::Crash, Class::Panic), PASS]).exit_code.code(), 21);
    assert_eq!(steps(&[(Outcome::Notrun, Class::BootFailed), PASS]).exit_code.code(), 20);
    assert_eq!(steps(&[(Outcome::Fail, Class::Host), PASS]).exit_code.code(), 30);
    assert_eq!(steps(&[UNBUILT, PASS]).cells[1].was, None, "unknown before");
}

#[test]
fn without_the_column_to_judge_nothing_is_excused() {
    let mut run = steps(&[SKIP, PASS]);
    run.kernels.pop();
    run.cells.pop();
    run.cells[0].required = true;
    settle(&mut run);
    run.conclude(None);
    assert_eq!(run.exit_code.code(), 3);
}

#[test]
fn variants_are_compared_with_themselves() {
    let mut run = steps(&[SKIP, PASS]);
    let mut other = run.cells.clone();
    other.iter_mut().for_each(|cell| {
        cell.variant = "nojit".into();
        cell.was = None;
        cell.required = true;
    });
    other[1].outcome = Outcome::Skip;
    other[1].class = Class::Incomplete;
    run.cells.extend(other);
    let kernels = run.kernels.clone();
    run.kernels.extend(kernels);
    settle(&mut run);
    run.conclude(None);
    assert_eq!((run.exit_code.code(), run.cells[3].was), (3, None));
}

/// A run of columns of the upstream suite, each with the subtests that it reported; all of them ran.
fn reported(columns: &[&[(&str, Outcome, Class)]]) -> RunResult {
    let mut all = run(Vec::new());
    for (at, cells) in columns.iter().enumerate() {
        let id = format!("k@{at}");
        let made = cells.iter().map(|(subtest, outcome, class)| {
            let one = cell(&id, subtest, *outcome, *class);
            Cell { suite: "upstream".into(), test: "fsession_test".into(), ..one }
        });
        all.cells.extend(made);
        all.boots.push(BootRecord { suite: "upstream".into(), ..boot(&id, Class::Pass) });
        all.kernels.push(Kernel {
            id,
            role: Some(Role::Step).filter(|_| at + 1 < columns.len()),
            compared_to: at.checked_sub(1).map(|before| format!("k@{before}")),
            ..Kernel::default()
        });
    }
    settle(&mut all);
    all.conclude(None);
    all
}

fn ok(subtest: &str) -> (&str, Outcome, Class) {
    (subtest, Outcome::Pass, Class::Pass)
}

fn missing_in(run: &RunResult) -> Vec<(&str, &str)> {
    let missing = run.cells.iter().filter(|cell| cell.outcome == Outcome::Missing);
    missing.map(|cell| (cell.kernel.as_str(), cell.subtest.as_str())).collect()
}

#[test]
fn a_test_that_passed_and_is_gone_is_missing_and_counts() {
    let lost = reported(&[&[ok("basic"), ok("cookie")], &[ok("basic")]]);
    assert_eq!(lost.exit_code.code(), 3);
    assert_eq!(missing_in(&lost), [("k@1", "cookie")]);
    let cell = lost.cells.last().expect("a cell");
    assert_eq!(cell.reason, "fsession_test/cookie passed on k@0, and is gone here: nothing reported it");
    assert_eq!((cell.required, cell.was, &cell.suite[..]), (true, Some(Outcome::Pass), "upstream"));
    assert_eq!(change(cell), Some(Change::Breaks));
    // Judging its record again gives the same result.
    let mut again = lost.clone();
    settle(&mut again);
    assert_eq!(again, lost);
    // Also in the middle of a series, also if the subtest was renamed, and also for a whole test.
    let lost = reported(&[&[ok("a"), ok("b")], &[ok("a")], &[ok("a")], &[ok("a"), ok("b")]]);
    assert_eq!((lost.exit_code.code(), missing_in(&lost)), (3, vec![("k@1", "b"), ("k@2", "b")]));
    assert_eq!(lost.cells.iter().filter_map(change).collect::<Vec<_>>(), [Change::Starts, Change::Breaks]);
    let renamed = reported(&[&[ok("a"), ok("b")], &[ok("a"), ok("b2")]]);
    assert_eq!((renamed.exit_code.code(), missing_in(&renamed)), (3, vec![("k@1", "b")]));
    let absent = ("", Outcome::Missing, Class::Incomplete);
    let removed = reported(&[&[ok("a"), ok("b")], &[absent], &[ok("a"), ok("b")]]);
    assert_eq!(removed.exit_code.code(), 3);
    assert_eq!(missing_in(&removed)[1..], [("k@1", "a"), ("k@1", "b")]);
    assert!(removed.cells.last().is_some_and(|cell| cell.reason.contains("as a whole is missing")));
    let nothing = reported(&[&[ok("a")], &[]]);
    assert_eq!((nothing.exit_code.code(), missing_in(&nothing)), (3, vec![("k@1", "a")]));
}

#[test]
fn a_test_that_never_passed_can_go_and_a_new_one_can_come() {
    let failed = ("b", Outcome::Fail, Class::TestFailed);
    assert_eq!(reported(&[&[ok("a"), failed], &[ok("a"), ok("c")]]).exit_code.code(), 0);
}

#[test]
fn a_series_cannot_excuse_itself_from_a_test() {
    let denied = ("a", Outcome::Notrun, Class::Pass);
    let run = reported(&[&[ok("a"), ok("b")], &[denied, ok("b")]]);
    assert_eq!((run.exit_code.code(), run.cells[2].required), (3, true));
    assert_eq!(change(&run.cells[2]), Some(Change::Breaks));
    // A test that was already on the list before is unchanged.
    assert_eq!(reported(&[&[denied, ok("b")], &[denied, ok("b")]]).exit_code.code(), 0);
}

#[test]
fn what_never_ran_has_lost_no_test() {
    let stopped = ("", Outcome::Notrun, Class::SuiteBuild);
    let mut run = reported(&[&[ok("a")], &[]]);
    run.cells.truncate(1);
    run.boots.truncate(1);
    run.cells.push(Cell {
        suite: "upstream".into(),
        test: "fsession_test".into(),
        ..cell("k@1", stopped.0, stopped.1, stopped.2)
    });
    settle(&mut run);
    run.conclude(None);
    assert_eq!((run.exit_code.code(), missing_in(&run)), (13, vec![]));
}

#[test]
fn kernels_variants_and_suites_are_not_compared_with_each_other() {
    let mut run = reported(&[&[ok("a"), ok("b")], &[ok("a"), ok("b")]]);
    run.kernels.iter_mut().for_each(|kernel| (kernel.role, kernel.compared_to) = (None, None));
    run.cells.pop();
    settle(&mut run);
    assert_eq!(missing_in(&run), []);
    let mut run = reported(&[&[ok("a")], &[ok("a")]]);
    run.cells[1].suite = "own".into();
    settle(&mut run);
    assert_eq!(missing_in(&run), [("k@1", "a")], "another suite's test of that name is another");
}

#[test]
fn a_stage_is_broken_once() {
    use Stage::{Failed, Ok, Unknown};
    let failed = Failed(Class::KernelBuild);
    let changes = stage_changes([Ok, failed, Unknown, failed, Ok, Ok]);
    assert_eq!(changes, [None, Some(Change::Breaks), None, None, Some(Change::Starts), None]);
}
