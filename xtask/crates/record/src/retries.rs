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
mod tests;
