// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--retries`: which subtests run again in a fresh guest, and how the attempts are combined. Pure.
//!
//! A subtest that passes only in a later attempt is `flaky`, never a pass. An attempt passes only with the
//! same evidence as a first one; an attempt that did not run the subtest, skipped it or is a known failure
//! changes nothing.
//!
//! How it could be wrong: a failure that depends on earlier tests in the same guest does not happen again
//! when the subtest runs alone, so it looks random. It is `flaky` then and still counts, unless
//! `--allow-flaky` is given.

use vmtest_protocol::TestName;

use crate::outcome::Outcome;
use crate::run::{Attempt, Cell};
use vmtest_base::error::{Class, PRECEDENCE};

/// The cells worth another attempt: planned, counted, and failed or lost.
///
/// Not a skip: the kernel does not support it and still will not. Not what an earlier stage prevented. Not a
/// kernel warning: the subtest passed, and the warning stands. Not what an interruption cut off.
pub fn again(cells: &[Cell], planned: &[TestName]) -> Vec<TestName> {
    let lost = |cell: &&Cell| {
        let by_the_guest = match cell.class {
            Class::TestFailed | Class::BootFailed | Class::Panic | Class::Hang | Class::WallClock => true,
            Class::GuestLost | Class::RunnerDied | Class::Host => true,
            Class::Incomplete => cell.outcome == Outcome::Missing,
            Class::Pass | Class::Usage | Class::Splat | Class::Flaky | Class::SeriesDoesNotApply => false,
            Class::OptionLost | Class::KernelBuild | Class::SuiteBuild => false,
            Class::Interrupted | Class::Terminated => false,
        };
        cell.required && by_the_guest
    };
    cells.iter().filter(lost).map(Cell::name).filter(|name| planned.contains(name)).collect()
}

/// An attempt as stored in the record.
fn attempt(cell: &Cell, number: u32, boot: Class) -> Attempt {
    Attempt { number, outcome: cell.outcome, class: cell.class, reason: cell.reason.clone(), boot }
}

/// Merges the cells of another attempt. `boots`: class of the guest as a whole, in the first attempt and in
/// this one. `number`: the number of this attempt, from 2.
pub fn merge(cells: &mut [Cell], again: Vec<Cell>, number: u32, (first, this): (Class, Class)) {
    for new in again {
        let same = |cell: &&mut Cell| (&cell.test, &cell.subtest) == (&new.test, &new.subtest);
        let Some(cell) = cells.iter_mut().find(same) else { continue };
        if cell.tries.is_empty() {
            cell.tries.push(attempt(cell, number - 1, first));
        }
        cell.tries.push(attempt(&new, number, this));
        cell.attempts = cell.attempts.saturating_add(new.attempts);
        if new.outcome == Outcome::Pass && new.class == Class::Pass {
            cell.reason =
                format!("passed in attempt {number}; before that {}: {}", cell.outcome.name(), cell.reason);
            (cell.outcome, cell.class) = (Outcome::Flaky, Class::Flaky);
            cell.duration_ms = new.duration_ms;
        } else if tells_more(&new, cell) {
            let (tries, attempts) = (std::mem::take(&mut cell.tries), cell.attempts);
            *cell = Cell { tries, attempts, ..new };
        }
    }
}

/// Merges the results of whole tests that ran again. `lost`: the tests that were the reason.
///
/// A whole test reports more subtests than were lost: one that passed or was allowed not to, and fails now,
/// is just as flaky as the reverse. A subtest that the first attempt never reached is flaky as well, because
/// the guest that should have run it was lost. A cell for the test as a whole represents everything in it: it
/// passed if something did and nothing else is left.
pub fn merge_tests(
    cells: &mut Vec<Cell>,
    again: Vec<Cell>,
    lost: &[TestName],
    number: u32,
    boots: (Class, Class),
) {
    let wholes = whole_tests(cells, &again, lost);
    for new in again {
        let name = new.name();
        match cells.iter_mut().find(|cell| is_named(cell, &name)) {
            Some(_) if lost.contains(&name) => merge(cells, vec![new], number, boots),
            Some(old) if old.class == Class::Pass && new.class != Class::Pass => {
                old.tries = vec![attempt(old, number - 1, boots.0), attempt(&new, number, boots.1)];
                old.attempts = old.attempts.saturating_add(new.attempts);
                let (was, is) = (old.outcome.name(), new.outcome.name());
                let was = if old.outcome == Outcome::Pass { "passed" } else { was };
                old.reason = format!("{was}, and in attempt {number} {is}: {}", new.reason);
                (old.outcome, old.class, old.log) = (Outcome::Flaky, Class::Flaky, new.log);
            }
            Some(_) => (),
            None if new.outcome == Outcome::Pass && new.class == Class::Pass => {
                let mut before = attempt(&new, number - 1, boots.0);
                before.outcome = Outcome::Missing;
                before.class = Class::Incomplete;
                before.reason = "its guest never reached it".to_owned();
                let reason = format!("passed in attempt {number}; before that {}", before.reason);
                let tries = vec![before, attempt(&new, number, boots.1)];
                let (outcome, class) = (Outcome::Flaky, Class::Flaky);
                cells.push(Cell { outcome, class, reason, tries, attempts: new.attempts + 1, ..new });
            }
            // A new cell counts as it is.
            None => cells.push(Cell { tries: vec![attempt(&new, number, boots.1)], ..new }),
        }
    }
    merge(cells, wholes, number, boots);
}

fn is_named(cell: &Cell, name: &TestName) -> bool {
    (&cell.test, &cell.subtest) == (&name.test, &name.subtest)
}

/// Cells for the tests as a whole that ran again and whose subtests alone reported.
fn whole_tests(cells: &[Cell], again: &[Cell], lost: &[TestName]) -> Vec<Cell> {
    let mut wholes = Vec::new();
    for whole in lost.iter().filter(|name| name.subtest.is_empty()) {
        let parts: Vec<&Cell> = again.iter().filter(|cell| cell.test == whole.test).collect();
        let Some(old) = cells.iter().find(|cell| is_named(cell, whole)) else { continue };
        if parts.iter().any(|cell| is_named(cell, whole)) {
            continue;
        }
        let Some(any) = parts.first() else { continue };
        let bad = parts.iter().find(|cell| cell.class != Class::Pass);
        let passed = parts.iter().any(|cell| cell.outcome == Outcome::Pass);
        let found = match bad {
            None if passed => (Outcome::Pass, String::new(), Class::Pass),
            None => (Outcome::Missing, "nothing of it passed".to_owned(), Class::Incomplete),
            Some(bad) => (bad.outcome, format!("{}: {}", bad.subtest, bad.reason), bad.class),
        };
        let (outcome, reason, class) = found;
        let attempts = any.attempts;
        wholes.push(Cell {
            outcome,
            reason,
            class,
            attempts,
            tries: Vec::new(),
            log: String::new(),
            ..old.clone()
        });
    }
    wholes
}

/// Whether the later of two attempts without a pass is the one to show: only it ran the subtest, or its
/// result is worse.
fn tells_more(new: &Cell, old: &Cell) -> bool {
    let ran = |cell: &Cell| matches!(cell.outcome, Outcome::Fail | Outcome::Crash | Outcome::Timeout);
    let rank = |cell: &Cell| PRECEDENCE.into_iter().position(|class| class == cell.class);
    match (ran(new), ran(old)) {
        (true, true) => rank(new) < rank(old),
        (new, old) => new && !old,
    }
}

/// `--allow-flaky`: a pass on a retry does not count against the run, unless the kernel died in one of the
/// guests that lost it.
pub fn allow(cells: &mut [Cell]) {
    let flaky = cells.iter_mut().filter(|cell| cell.outcome == Outcome::Flaky);
    for cell in flaky {
        if !cell.tries.iter().any(|one| one.boot == Class::Panic) {
            cell.class = Class::Pass;
        }
    }
}

/// Whether a guest's class no longer counts because its lost subtests run again. A kernel warning still
/// counts.
pub fn is_replaced(boot: Class) -> bool {
    !matches!(boot, Class::Pass | Class::Splat | Class::Interrupted | Class::Terminated)
}

#[cfg(test)]
mod tests {
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
}
