// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--retries`: which subtests run again in a fresh guest, and what several attempts come to together. Pure.
//!
//! What passes only in a later attempt is `flaky`, and never a pass. An attempt counts as a pass only by the same evidence as
//! a first one; one that did not run the subtest, skipped it or knows its failure changes nothing.
//!
//! How it could be wrong: a failure that needs what ran before it in the same guest does not come back when the subtest runs
//! alone, and is taken for chance. It is `flaky` then, so it still counts, unless `--allow-flaky` says otherwise.

use vmtest_protocol::TestName;

use crate::error::{Class, PRECEDENCE};
use crate::result::{Attempt, Cell, Outcome};

/// What of these cells is worth another attempt: what was planned, counts, and failed or was lost.
///
/// Not a skip: the kernel said that it cannot, and will again. Not what a stage before the boot prevented. Not a complaint of
/// the kernel: the subtest passed, and what was complained of stays true. Not what an interruption cut off.
pub fn again(cells: &[Cell], planned: &[TestName]) -> Vec<TestName> {
    let lost = |cell: &&Cell| {
        let by_the_guest = match cell.class() {
            Class::TestFailed | Class::BootFailed | Class::Panic | Class::Hang | Class::WallClock => true,
            Class::GuestLost | Class::RunnerDied | Class::Host => true,
            Class::Incomplete => cell.outcome == Outcome::Missing,
            Class::Pass | Class::Usage | Class::Splat | Class::Flaky | Class::SeriesDoesNotApply => false,
            Class::OptionLost | Class::KernelBuild | Class::SuiteBuild => false,
            Class::Interrupted | Class::Terminated => false,
        };
        cell.required && by_the_guest
    };
    let name = |cell: &Cell| TestName { test: cell.test.clone(), subtest: cell.subtest.clone() };
    cells.iter().filter(lost).map(name).filter(|name| planned.contains(name)).collect()
}

/// An attempt, as it stands in the record.
fn attempt(cell: &Cell, number: u32, boot: Class) -> Attempt {
    Attempt {
        number,
        outcome: cell.outcome,
        class: cell.class,
        reason: cell.reason.clone(),
        boot: boot.code(),
    }
}

/// Adds what another attempt came to. `boots`: class of the guest as a whole, of the first attempt and of this one.
/// `number`: which attempt it is, from 2.
pub fn merge(cells: &mut [Cell], again: Vec<Cell>, number: u32, (first, this): (Class, Class)) {
    for new in again {
        let same = |cell: &&mut Cell| (&cell.test, &cell.subtest) == (&new.test, &new.subtest);
        let Some(cell) = cells.iter_mut().find(same) else { continue };
        if cell.tries.is_empty() {
            cell.tries.push(attempt(cell, number - 1, first));
        }
        cell.tries.push(attempt(&new, number, this));
        cell.attempts = cell.attempts.saturating_add(new.attempts);
        if new.outcome == Outcome::Pass && new.class() == Class::Pass {
            cell.reason =
                format!("passed in attempt {number}; before that {}: {}", cell.outcome.name(), cell.reason);
            (cell.outcome, cell.class) = (Outcome::Flaky, Class::Flaky.code());
            cell.duration_ms = new.duration_ms;
        } else if tells_more(&new, cell) {
            let (tries, attempts) = (std::mem::take(&mut cell.tries), cell.attempts);
            *cell = Cell { tries, attempts, ..new };
        }
    }
}

/// Of two attempts without a pass, whether the later one is the one to show: it ran the subtest and the other did not, or it
/// came to something worse.
fn tells_more(new: &Cell, old: &Cell) -> bool {
    let ran = |cell: &Cell| matches!(cell.outcome, Outcome::Fail | Outcome::Crash | Outcome::Timeout);
    let rank = |cell: &Cell| PRECEDENCE.into_iter().position(|class| class == cell.class());
    match (ran(new), ran(old)) {
        (true, true) => rank(new) < rank(old),
        (new, old) => new && !old,
    }
}

/// `--allow-flaky`: what passed on a repeat does not count, unless the kernel died in one of the guests that lost it.
pub fn allow(cells: &mut [Cell]) {
    let flaky = cells.iter_mut().filter(|cell| cell.outcome == Outcome::Flaky);
    for cell in flaky {
        if !cell.tries.iter().any(|one| one.boot == Class::Panic.code()) {
            cell.class = Class::Pass.code();
        }
    }
}

/// Whether a guest's class is told by its subtests from now on, because they run again. A complaint is not: it stands.
pub fn is_replaced(boot: Class) -> bool {
    !matches!(boot, Class::Pass | Class::Splat | Class::Interrupted | Class::Terminated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests_support::cell;

    fn one(outcome: Outcome, class: Class) -> Cell {
        cell("k", "a", outcome, class)
    }

    /// What a subtest comes to that did this in its attempts.
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
            assert_eq!((cell.outcome, cell.class(), cell.attempts), (Outcome::Flaky, Class::Flaky, 2));
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
            assert_eq!((cell.outcome, cell.class()), FAIL, "{second:?}");
        }
        let cell = tried(&[FAIL, MISSING, PASS]);
        assert_eq!((cell.outcome, cell.tries.len(), cell.attempts), (Outcome::Flaky, 3, 3));
        assert_eq!(tried(&[FAIL, FAIL, FAIL]).outcome, Outcome::Fail);
        // A guest that could not be believed makes no pass.
        assert_eq!(tried(&[FAIL, (Outcome::Fail, Class::Host)]).class(), Class::TestFailed);
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
            assert_eq!((cell.outcome, cell.class()), shown, "{attempts:?}");
            assert_eq!((cell.attempts, cell.tries.len()), (2, 2));
        }
    }

    #[test]
    fn the_death_of_a_kernel_is_never_allowed() {
        let allowed = |first| {
            let mut cells = vec![tried(&[first, PASS])];
            allow(&mut cells);
            (cells[0].outcome, cells[0].class())
        };
        assert_eq!(allowed(FAIL), (Outcome::Flaky, Class::Pass));
        assert_eq!(allowed((Outcome::Timeout, Class::Hang)), (Outcome::Flaky, Class::Pass));
        assert_eq!(allowed(CRASH), (Outcome::Flaky, Class::Flaky));
        // It was lost because the kernel died in another one.
        let mut cells = vec![one(MISSING.0, MISSING.1)];
        merge(&mut cells, vec![one(PASS.0, PASS.1)], 2, (Class::Panic, Class::Pass));
        allow(&mut cells);
        assert_eq!(cells[0].class(), Class::Flaky);
        let mut failed = vec![one(FAIL.0, FAIL.1)];
        allow(&mut failed);
        assert_eq!(failed[0].class(), Class::TestFailed);
    }

    #[test]
    fn a_complaint_stands_whatever_comes_later() {
        assert!(!is_replaced(Class::Splat) && !is_replaced(Class::Pass) && !is_replaced(Class::Interrupted));
        assert!(is_replaced(Class::Panic) && is_replaced(Class::BootFailed) && is_replaced(Class::Host));
    }
}
