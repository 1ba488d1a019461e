// SPDX-License-Identifier: MIT OR Apache-2.0
//! Expectations of a subtest: what was checked, the expected value and the actual value.
//!
//! The self test inverts one of them here, in the one place that every verdict passes through, so a subtest
//! that cannot fail is detected.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::time::{Duration, Instant};
use vmtest_protocol::{Check, GuestOutcome};

/// Most expectations that are reported if all were met.
const MAX_HELD: usize = 8;
/// Most failed ones that are reported, and most met ones beside them.
const MAX_FAILED: usize = 20;
const MAX_BESIDE: usize = 12;

/// Sends expectations to the host while the subtest runs.
///
/// Waiting until an event has left the machine takes longer than most checks. So the first few are sent one
/// by one, then those that fail, and of the others the last few whenever some time has passed.
pub struct Reporter {
    send: Box<dyn FnMut(Vec<Check>)>,
    pace: Pace,
    events: usize,
    /// How many were sent or left out.
    passed: usize,
    last: Instant,
}

/// How much is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Each expectation: the next step may be the last one of this kernel.
    Each,
    First,
    /// One event: the host counts those of thousands of rounds.
    Later,
}

impl Reporter {
    /// Number of expectations that are sent one by one.
    const FIRST: usize = 6;
    /// Most in an event.
    const LAST: usize = 8;
    const INTERVAL: Duration = Duration::from_millis(200);

    pub fn new(pace: Pace, send: impl FnMut(Vec<Check>) + 'static) -> Self {
        Self { send: Box::new(send), pace, events: 0, passed: 0, last: Instant::now() }
    }

    /// Looks at the expectations so far, after each one.
    fn look(&mut self, all: &[Check]) {
        let (at_once, most) = match self.pace {
            Pace::Each => (usize::MAX, 500),
            Pace::First => (Self::FIRST, 60),
            Pace::Later => (0, 1),
        };
        let fails = all.last().is_some_and(|check| !check.ok);
        let due = all.len() <= at_once || fails || self.last.elapsed() >= Self::INTERVAL;
        if due && self.events < most {
            let from = self.passed.max(all.len().saturating_sub(Self::LAST));
            (self.send)(all[from..].to_vec());
            self.events += 1;
            (self.passed, self.last) = (all.len(), Instant::now());
        }
    }
}

/// The expectations of one subtest, in the order in which they were checked.
#[derive(Default)]
pub struct Checks {
    all: Vec<Check>,
    known_bug: Option<String>,
    /// The known bug that each of these expectations is about, by index in `all`; it excuses no other.
    known_bugs: BTreeMap<usize, String>,
    skip: Option<String>,
    measured: String,
    reporter: Option<Reporter>,
}

/// The verdict on a subtest.
#[derive(Debug)]
pub struct Verdict {
    pub outcome: GuestOutcome,
    /// Reason, unless it is a plain pass.
    pub reason: String,
    /// How many there were.
    pub checks: u32,
    /// Those worth showing.
    pub seen: Vec<Check>,
    /// Measurements; empty without any.
    pub measured: String,
}

impl Checks {
    /// Also reports them as they are checked.
    pub fn reported(reporter: Reporter) -> Self {
        Self { reporter: Some(reporter), ..Self::default() }
    }

    /// Checks that `seen` equals `expected`.
    pub fn eq<T: PartialEq + Display>(&mut self, what: impl Into<String>, seen: T, expected: T) {
        let ok = seen == expected;
        self.state(what, expected.to_string(), seen.to_string(), ok);
    }

    /// The same for bit patterns, which are reported in hexadecimal.
    pub fn hex(&mut self, what: impl Into<String>, seen: u64, expected: u64) {
        self.state(what, format!("{expected:#x}"), format!("{seen:#x}"), seen == expected);
    }

    /// The same for values that only implement `Debug`.
    pub fn same<T: PartialEq + Debug>(&mut self, what: impl Into<String>, seen: T, expected: T) {
        let ok = seen == expected;
        self.state(what, format!("{expected:?}"), format!("{seen:?}"), ok);
    }

    /// Records any other check; `ok` says whether it holds.
    pub fn state(
        &mut self,
        what: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
        ok: bool,
    ) {
        self.all.push(Check { what: what.into(), expected: expected.into(), seen: seen.into(), ok });
        if let Some(reporter) = &mut self.reporter {
            reporter.look(&self.all);
        }
    }

    /// Records a check that a known kernel bug may break. `bug`: on a kernel that has it, its description; then
    /// this expectation alone is excused.
    pub fn state_with_bug(
        &mut self,
        bug: Option<&str>,
        what: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
        ok: bool,
    ) {
        if let Some(bug) = bug {
            self.known_bugs.insert(self.all.len(), bug.to_owned());
        }
        self.state(what, expected, seen, ok);
    }

    /// Declares that a known kernel bug makes this subtest fail here.
    pub fn expect_failure(&mut self, reason: impl Into<String>) {
        self.known_bug = Some(reason.into());
    }

    /// Declares that the kernel does not support what this subtest tests. If all expectations, which say how
    /// it must reject it, are met, the subtest is a skip, not a pass.
    pub fn skip(&mut self, reason: impl Into<String>) {
        self.skip = Some(reason.into());
    }

    /// Keeps a measurement for humans. It does not affect the verdict: whatever it depends on must be
    /// checked.
    pub fn measured(&mut self, figure: impl Into<String>) {
        self.measured = figure.into();
    }

    /// Inverts the last expectation that was met, as if the test had required the opposite. A subtest that
    /// fails anyway is not changed; a declared bug does not excuse it here.
    pub fn turn_round(&mut self) {
        self.known_bug = None;
        self.known_bugs.clear();
        if let Some(check) = self.all.iter_mut().rev().find(|check| check.ok) {
            check.ok = false;
            check.expected = format!("(self test) not {}", check.expected);
        }
    }

    /// Makes the verdict. `trouble` is why the test could not complete.
    pub fn verdict(self, trouble: Option<String>) -> Verdict {
        let checks = self.all.len() as u32;
        let failed = self.all.iter().filter(|check| !check.ok).count();
        let mut bad = self.all.iter().enumerate().filter(|(_, check)| !check.ok);
        let excused = bad.clone().find_map(|(at, _)| self.known_bugs.get(&at).cloned());
        // One that is not excused decides; all others do only together.
        let first_failed =
            bad.clone().find(|(at, _)| !self.known_bugs.contains_key(at)).or_else(|| bad.next());
        let all_excused = first_failed.is_some_and(|(at, _)| self.known_bugs.contains_key(&at));
        let known_bug = self.known_bug.or(excused.filter(|_| all_excused));
        let (outcome, reason) = match (trouble, first_failed.map(|(_, check)| check), known_bug) {
            (Some(trouble), _, _) => (GuestOutcome::Fail, trouble),
            (None, Some(_), Some(bug)) => (GuestOutcome::Xfail, bug),
            (None, Some(c), None) => (
                GuestOutcome::Fail,
                format!("{}: expected {}, seen {} ({failed} of {checks})", c.what, c.expected, c.seen),
            ),
            (None, None, _) if checks == 0 => (GuestOutcome::Fail, "nothing was checked".to_owned()),
            (None, None, _) if self.skip.is_some() => (GuestOutcome::Skip, self.skip.unwrap_or_default()),
            (None, None, Some(bug)) => {
                (GuestOutcome::Pass, format!("unexpected pass: expected to fail because {bug}"))
            }
            (None, None, None) => (GuestOutcome::Pass, String::new()),
        };
        let first = first_failed.map(|(at, _)| at);
        let seen = worth_showing(self.all, first);
        // No measurement unless the subtest passed.
        let measured = if outcome == GuestOutcome::Pass { self.measured } else { String::new() };
        Verdict { outcome, reason, checks, seen, measured }
    }
}

/// If one failed: the failed ones and the met ones nearest to the first, in order. Otherwise the first few.
fn worth_showing(all: Vec<Check>, first_failed: Option<usize>) -> Vec<Check> {
    let Some(first) = first_failed else { return all.into_iter().take(MAX_HELD).collect() };
    let mut held: Vec<usize> = (0..all.len()).filter(|&at| all[at].ok).collect();
    held.sort_by_key(|at| at.abs_diff(first));
    let failed = (0..all.len()).filter(|&at| !all[at].ok).take(MAX_FAILED);
    let mut shown: Vec<usize> = failed.chain(held.into_iter().take(MAX_BESIDE)).collect();
    shown.sort_unstable();
    shown.into_iter().map(|at| all[at].clone()).collect()
}

#[cfg(test)]
mod tests;
