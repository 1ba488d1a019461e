// SPDX-License-Identifier: MIT OR Apache-2.0
//! Expectations of a subtest: what was looked at, what had to be, what was.
//!
//! The self test turns one of them round here, in the one place that every subtest's verdict passes through, so a
//! subtest that cannot fail is found out.

use std::fmt::{Debug, Display};
use vmtest_protocol::{Check, GuestOutcome};

/// Expectations kept for the report when all held; when some failed, those are reported (up to `MAX_FAILED`).
const MAX_HELD: usize = 8;
const MAX_FAILED: usize = 20;

/// The expectations of one subtest, in the order in which they were stated.
#[derive(Debug, Default)]
pub struct Checks {
    all: Vec<Check>,
    known_bug: Option<String>,
    skip: Option<String>,
    measured: String,
}

/// What a subtest's expectations come to.
#[derive(Debug)]
pub struct Verdict {
    /// How it ended.
    pub outcome: GuestOutcome,
    /// Why, when it is no plain pass.
    pub reason: String,
    /// How many there were.
    pub checks: u32,
    /// Those worth showing.
    pub seen: Vec<Check>,
    /// Figures that it took; empty where it took none.
    pub measured: String,
}

impl Checks {
    /// States that `seen` is `expected`.
    pub fn eq<T: PartialEq + Display>(&mut self, what: impl Into<String>, seen: T, expected: T) {
        let ok = seen == expected;
        self.state(what, expected.to_string(), seen.to_string(), ok);
    }

    /// The same for bit patterns: reported in hexadecimal.
    pub fn hex(&mut self, what: impl Into<String>, seen: u64, expected: u64) {
        self.state(what, format!("{expected:#x}"), format!("{seen:#x}"), seen == expected);
    }

    /// The same for values that only have a debug form.
    pub fn same<T: PartialEq + Debug>(&mut self, what: impl Into<String>, seen: T, expected: T) {
        let ok = seen == expected;
        self.state(what, format!("{expected:?}"), format!("{seen:?}"), ok);
    }

    /// States anything else; `ok` says whether it holds.
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

    /// Declares that the kernel lacks what this subtest is about: if the expectations hold, which say how it has to refuse
    /// it, it is a skip and no pass.
    pub fn skip(&mut self, reason: impl Into<String>) {
        self.skip = Some(reason.into());
    }

    /// Keeps a figure, for people. Nothing is judged by it: what it rests on has to be an expectation.
    pub fn measured(&mut self, figure: impl Into<String>) {
        self.measured = figure.into();
    }

    /// Turns round the last expectation that held, as if the test had asked for the opposite. A subtest that fails
    /// anyway stays as it is; a declared bug does not excuse it here.
    pub fn turn_round(&mut self) {
        self.known_bug = None;
        if let Some(check) = self.all.iter_mut().rev().find(|check| check.ok) {
            check.ok = false;
            check.expected = format!("(self test) not {}", check.expected);
        }
    }

    /// Comes to a verdict. `trouble` is why the test could not go to its end.
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
        // Of what did not go as it should there is no figure.
        let measured = if outcome == GuestOutcome::Pass { self.measured } else { String::new() };
        Verdict { outcome, reason, checks, seen, measured }
    }
}

#[cfg(test)]
mod tests;
