// SPDX-License-Identifier: MIT OR Apache-2.0
//! Expectations of a subtest: what was checked, the expected value and the actual value.
//!
//! The self test inverts one of them here, in the one place that every verdict passes through, so a subtest
//! that cannot fail is detected.

use std::fmt::{Debug, Display};
use vmtest_protocol::{Check, GuestOutcome};

/// Most expectations that are reported if all were met; if some failed, those are reported (up to
/// `MAX_FAILED`).
const MAX_HELD: usize = 8;
const MAX_FAILED: usize = 20;

/// The expectations of one subtest, in the order in which they were checked.
#[derive(Debug, Default)]
pub struct Checks {
    all: Vec<Check>,
    known_bug: Option<String>,
    skip: Option<String>,
    measured: String,
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
        if let Some(check) = self.all.iter_mut().rev().find(|check| check.ok) {
            check.ok = false;
            check.expected = format!("(self test) not {}", check.expected);
        }
    }

    /// Makes the verdict. `trouble` is why the test could not complete.
    pub fn verdict(self, trouble: Option<String>) -> Verdict {
        let checks = self.all.len() as u32;
        let failed = self.all.iter().filter(|check| !check.ok).count();
        let first_failed = self.all.iter().find(|check| !check.ok);
        let (outcome, reason) = match (trouble, first_failed, self.known_bug) {
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
        let seen = match failed {
            0 => self.all.into_iter().take(MAX_HELD).collect(),
            _ => self.all.into_iter().filter(|check| !check.ok).take(MAX_FAILED).collect(),
        };
        // No measurement unless the subtest passed.
        let measured = if outcome == GuestOutcome::Pass { self.measured } else { String::new() };
        Verdict { outcome, reason, checks, seen, measured }
    }
}

#[cfg(test)]
mod tests;
