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
mod tests {
    use super::*;

    fn checks(held: &[bool]) -> Checks {
        let mut checks = Checks::default();
        for &ok in held {
            checks.eq("x", u32::from(ok), 1);
        }
        checks
    }

    #[test]
    fn nothing_checked_is_never_a_pass() {
        assert_eq!(checks(&[]).verdict(None).outcome, GuestOutcome::Fail);
        assert_eq!(checks(&[true]).verdict(None).outcome, GuestOutcome::Pass);
    }

    #[test]
    fn a_failure_says_what_was_expected_and_seen() {
        let verdict = checks(&[true, false, true]).verdict(None);
        assert_eq!(verdict.outcome, GuestOutcome::Fail);
        assert_eq!(verdict.reason, "x: expected 1, seen 0 (1 of 3)");
        assert_eq!(verdict.seen.len(), 1);
    }

    #[test]
    fn a_figure_is_kept_only_of_a_pass() {
        for (held, kept) in [(true, "7 ns"), (false, "")] {
            let mut checks = checks(&[held]);
            checks.measured("7 ns");
            assert_eq!(checks.verdict(None).measured, kept);
        }
    }

    #[test]
    fn trouble_is_a_failure_even_when_all_held() {
        assert_eq!(checks(&[true]).verdict(Some("no link".into())).outcome, GuestOutcome::Fail);
    }

    #[test]
    fn turned_round_nothing_passes() {
        for held in [&[][..], &[true], &[false], &[true, true], &[true, false], &[false, true]] {
            for (bug, skip) in [(false, false), (true, false), (false, true)] {
                let mut checks = checks(held);
                if bug {
                    checks.expect_failure("known");
                }
                if skip {
                    checks.skip("absent");
                }
                checks.turn_round();
                assert_eq!(checks.verdict(None).outcome, GuestOutcome::Fail, "{held:?} {bug} {skip}");
            }
        }
    }

    #[test]
    fn a_skip_needs_expectations_that_held() {
        for (held, expected) in [
            (&[true][..], GuestOutcome::Skip),
            (&[], GuestOutcome::Fail),
            (&[false], GuestOutcome::Fail),
            (&[true, false], GuestOutcome::Fail),
        ] {
            let mut checks = checks(held);
            checks.skip("absent");
            assert_eq!(checks.verdict(None).outcome, expected, "{held:?}");
        }
        let mut checks = checks(&[true]);
        checks.skip("absent");
        assert_eq!(checks.verdict(Some("no BTF".into())).outcome, GuestOutcome::Fail);
    }

    #[test]
    fn a_known_bug_is_xfail_and_its_absence_is_told() {
        let mut known = checks(&[false]);
        known.expect_failure("mainline bug");
        assert_eq!(known.verdict(None).outcome, GuestOutcome::Xfail);
        let mut gone = checks(&[true]);
        gone.expect_failure("mainline bug");
        let verdict = gone.verdict(None);
        assert_eq!(verdict.outcome, GuestOutcome::Pass);
        assert!(verdict.reason.starts_with("unexpected pass"));
    }
}
