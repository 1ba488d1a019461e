// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::samples::cell;

fn one(outcome: Outcome, class: Class) -> Cell {
    cell("k", "a", outcome, class)
}

/// The cell of a subtest with these results in its attempts.
fn tried(attempts: &[(Outcome, Class)]) -> Cell {
    let mut cells = vec![one(attempts[0].0, attempts[0].1)];
    for (at, (outcome, class)) in attempts.iter().enumerate().skip(1) {
        let number = u32::try_from(at + 1).expect("few");
        merge(&mut cells, vec![one(*outcome, *class)], number, (attempts[0].1, *class));
    }
    cells.remove(0)
}

const FAIL: (Outcome, Class) = (Outcome::Fail, Class::TestFailed);
const PASS: (Outcome, Class) = (Outcome::Pass, Class::Pass);
const CRASH: (Outcome, Class) = (Outcome::Crash, Class::Panic);
const MISSING: (Outcome, Class) = (Outcome::Missing, Class::Incomplete);
const NOTRUN: (Outcome, Class) = (Outcome::Notrun, Class::BootFailed);

#[test]
fn only_what_failed_or_was_lost_runs_again() {
    let planned = [TestName { test: "basic".into(), subtest: "a".into() }];
    let again = |cell: Cell| !again(&[cell], &planned).is_empty();
    for (outcome, class) in [
        FAIL,
        CRASH,
        MISSING,
        NOTRUN,
        (Outcome::Timeout, Class::Hang),
        (Outcome::Timeout, Class::WallClock),
        (Outcome::Crash, Class::GuestLost),
        (Outcome::Crash, Class::RunnerDied),
        (Outcome::Fail, Class::Host),
    ] {
        assert!(again(one(outcome, class)), "{outcome:?}");
    }
    for (outcome, class) in [
        PASS,
        (Outcome::Skip, Class::Incomplete),
        (Outcome::Skip, Class::Pass),
        (Outcome::Xfail, Class::Pass),
        (Outcome::Notrun, Class::KernelBuild),
        (Outcome::Notrun, Class::SuiteBuild),
        (Outcome::Notrun, Class::Interrupted),
        (Outcome::Notrun, Class::Incomplete),
    ] {
        assert!(!again(one(outcome, class)), "{outcome:?}");
    }
    assert!(!again(Cell { required: false, ..one(FAIL.0, FAIL.1) }));
    assert!(!again(Cell { subtest: "stray".into(), ..one(FAIL.0, FAIL.1) }), "nobody planned it");
}

#[test]
fn a_later_pass_is_flaky_and_nothing_else_is() {
    for first in [FAIL, CRASH, MISSING, NOTRUN] {
        let cell = tried(&[first, PASS]);
        assert_eq!((cell.outcome, cell.class, cell.attempts), (Outcome::Flaky, Class::Flaky, 2));
        assert!(cell.reason.contains(first.0.name()), "{}", cell.reason);
        let tries: Vec<(u32, Outcome)> = cell.tries.iter().map(|one| (one.number, one.outcome)).collect();
        assert_eq!(tries, [(1, first.0), (2, Outcome::Pass)]);
    }
    for second in [
        MISSING,
        NOTRUN,
        (Outcome::Skip, Class::Incomplete),
        (Outcome::Skip, Class::Pass),
        (Outcome::Xfail, Class::Pass),
        (Outcome::Notrun, Class::Interrupted),
    ] {
        let cell = tried(&[FAIL, second]);
        assert_eq!((cell.outcome, cell.class), FAIL, "{second:?}");
    }
    let cell = tried(&[FAIL, MISSING, PASS]);
    assert_eq!((cell.outcome, cell.tries.len(), cell.attempts), (Outcome::Flaky, 3, 3));
    assert_eq!(tried(&[FAIL, FAIL, FAIL]).outcome, Outcome::Fail);
    // An untrusted guest cannot produce a pass.
    assert_eq!(tried(&[FAIL, (Outcome::Fail, Class::Host)]).class, Class::TestFailed);
}

#[test]
fn without_a_pass_the_attempt_that_tells_most_is_shown() {
    for (attempts, shown) in [
        ([FAIL, CRASH], CRASH),
        ([CRASH, FAIL], CRASH),
        ([MISSING, FAIL], FAIL),
        ([NOTRUN, FAIL], FAIL),
        ([FAIL, NOTRUN], FAIL),
        ([MISSING, NOTRUN], MISSING),
    ] {
        let cell = tried(&attempts);
        assert_eq!((cell.outcome, cell.class), shown, "{attempts:?}");
        assert_eq!((cell.attempts, cell.tries.len()), (2, 2));
    }
}

#[test]
fn the_death_of_a_kernel_is_never_allowed() {
    let allowed = |first| {
        let mut cells = vec![tried(&[first, PASS])];
        allow(&mut cells);
        (cells[0].outcome, cells[0].class)
    };
    assert_eq!(allowed(FAIL), (Outcome::Flaky, Class::Pass));
    assert_eq!(allowed((Outcome::Timeout, Class::Hang)), (Outcome::Flaky, Class::Pass));
    assert_eq!(allowed(CRASH), (Outcome::Flaky, Class::Flaky));
    // It was lost because the kernel died in another subtest.
    let mut cells = vec![one(MISSING.0, MISSING.1)];
    merge(&mut cells, vec![one(PASS.0, PASS.1)], 2, (Class::Panic, Class::Pass));
    allow(&mut cells);
    assert_eq!(cells[0].class, Class::Flaky);
    let mut failed = vec![one(FAIL.0, FAIL.1)];
    allow(&mut failed);
    assert_eq!(failed[0].class, Class::TestFailed);
}

fn named(subtest: &str, outcome: Outcome, class: Class) -> Cell {
    Cell { subtest: subtest.into(), ..one(outcome, class) }
}

/// Outcomes after whole tests ran again because of what was lost in `first`.
fn whole(first: &[Cell], second: &[Cell], boots: (Class, Class)) -> Vec<(String, Outcome, Class)> {
    let mut cells = first.to_vec();
    let names: Vec<TestName> = cells
        .iter()
        .map(|cell| TestName { test: cell.test.clone(), subtest: cell.subtest.clone() })
        .collect();
    let lost = again(&cells, &names);
    merge_tests(&mut cells, second.to_vec(), &lost, 2, boots);
    allow(&mut cells);
    cells.iter().map(|cell| (cell.subtest.clone(), cell.outcome, cell.class)).collect()
}

#[test]
fn a_whole_test_that_runs_again_tells_of_all_its_parts() {
    let pass = |name| named(name, PASS.0, PASS.1);
    let fail = |name| named(name, FAIL.0, FAIL.1);
    let flaky = |name: &str| (name.to_owned(), Outcome::Flaky, Class::Pass);
    let boots = (Class::TestFailed, Class::Pass);
    // The failed subtest passes; the passed one stays a pass.
    let seen = whole(&[pass("a"), fail("b")], &[pass("a"), pass("b")], boots);
    assert_eq!(seen, [("a".to_owned(), Outcome::Pass, Class::Pass), flaky("b")]);
    // The subtest that passed fails now.
    assert_eq!(whole(&[pass("a"), fail("b")], &[fail("a"), pass("b")], boots), [flaky("a"), flaky("b")]);
    // An allowed skip fails now, which was not allowed.
    let skip = named("a", Outcome::Skip, Class::Pass);
    assert_eq!(whole(&[skip, fail("b")], &[fail("a"), pass("b")], boots), [flaky("a"), flaky("b")]);
    // It fails again, or is missing.
    for second in [vec![pass("a"), fail("b")], vec![pass("a")], vec![], vec![pass("c")]] {
        let seen = whole(&[pass("a"), fail("b")], &second, boots);
        assert_eq!(seen[1], ("b".to_owned(), FAIL.0, FAIL.1), "{second:?}");
    }
    // The guest was lost during the test, and now all of it runs. A panic is never allowed.
    let lost = [named("", Outcome::Timeout, Class::Hang)];
    let seen = whole(&lost, &[pass("a"), pass("b")], (Class::Hang, Class::Pass));
    assert_eq!(seen, [flaky(""), flaky("a"), flaky("b")]);
    let seen = whole(&[named("", CRASH.0, CRASH.1)], &[pass("a")], (Class::Panic, Class::Pass));
    assert!(seen.iter().all(|(_, outcome, class)| (*outcome, *class) == (Outcome::Flaky, Class::Flaky)));
    // Only part of it passes, or nothing runs.
    let seen = whole(&lost, &[pass("a"), fail("b")], (Class::Hang, Class::TestFailed));
    assert_eq!(seen[0].1, Outcome::Timeout);
    assert_eq!(seen[2], ("b".to_owned(), FAIL.0, FAIL.1));
    assert_eq!(whole(&lost, &[], (Class::Hang, Class::Pass)).len(), 1);
    let skipped = [named("a", Outcome::Skip, Class::Pass)];
    assert_eq!(whole(&lost, &skipped, (Class::Hang, Class::Pass))[0].1, Outcome::Timeout);
}

#[test]
fn a_complaint_stands_whatever_comes_later() {
    assert!(!is_replaced(Class::Splat) && !is_replaced(Class::Pass) && !is_replaced(Class::Interrupted));
    assert!(is_replaced(Class::Panic) && is_replaced(Class::BootFailed) && is_replaced(Class::Host));
}
