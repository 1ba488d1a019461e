// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cells of one boot: what the guest reported for each subtest, combined with the verdict on the boot,
//! and what is missing.

use std::collections::BTreeSet;

use vmtest_protocol::{Check, End as TestEnd, GuestOutcome, TestName};

use crate::judge::Verdict;
use crate::observed::Observed;
use vmtest_base::error::Class;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{Cell, Expectation};

/// How often each subtest must have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    Exactly(u32),
    /// In every round except the last, which may end anywhere; in at least one.
    UntilFail,
}

/// Decides which cells may be skipped.
pub type MaySkip<'a> = &'a dyn Fn(&TestName) -> bool;

/// What all cells of a boot have in common.
#[derive(Debug, Clone, Default)]
pub struct CellBase {
    pub kernel: String,
    pub variant: String,
    /// `vng` or `direct`.
    pub boot: String,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// `own` or `upstream`.
    pub suite: String,
    /// Whether the guest met the conditions of its variant; `None` if there are none or it is unknown.
    pub enforced: Option<bool>,
}

/// The cells of a boot: one for each planned subtest and one for each unplanned one that the guest reported.
pub fn judge(
    base: &CellBase,
    planned: &[TestName],
    seen: &Observed,
    boot: &Verdict,
    rounds: Rounds,
    may_skip: MaySkip<'_>,
) -> Vec<Cell> {
    let mut all: Vec<TestName> = planned.to_vec();
    let unasked = seen.stream.ended.iter().map(|end| &end.name).chain(seen.stream.running.as_ref());
    for name in unasked {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    let last_round = seen.stream.ended.iter().map(|end| end.round).max().unwrap_or(0);
    let cell = |name: &TestName| {
        let ends: Vec<&TestEnd> = seen.stream.ended.iter().filter(|end| end.name == *name).collect();
        let too_often = |end: &&TestEnd| matches!(rounds, Rounds::Exactly(rounds) if end.round > rounds);
        let (found, end) = match ends.last() {
            Some(end) if !planned.contains(name) || ends.iter().any(too_often) => {
                let reason = "the guest ran what was not planned".to_owned();
                ((Outcome::Fail, reason, Class::Host), Some(*end))
            }
            _ => {
                let wanted = match rounds {
                    Rounds::Exactly(rounds) => rounds,
                    Rounds::UntilFail => last_round.saturating_sub(1).max(1),
                };
                repeated_cell(name, &ends, wanted, rounds, seen, boot, may_skip(name))
            }
        };
        let running = seen.stream.running.as_ref() == Some(name);
        let attempts = u32::try_from(ends.len()).unwrap_or(u32::MAX).saturating_add(running.into());
        let cell = make_cell(base, name, found, (end, attempts), may_skip(name));
        // The guest died during it.
        if running && end.is_none() { with_expectations(cell, &seen.stream.checked) } else { cell }
    };
    all.iter().map(cell).collect()
}

type Found = (Outcome, String, Class);

/// A cell passes if it did so in each of the first `wanted` rounds and in every other round that was
/// reported. It shows the first repetition that did not pass.
fn repeated_cell<'a>(
    name: &TestName,
    ends: &[&'a TestEnd],
    wanted: u32,
    rounds: Rounds,
    seen: &Observed,
    boot: &Verdict,
    may_skip: bool,
) -> (Found, Option<&'a TestEnd>) {
    let judged: Vec<(&TestEnd, Found)> =
        ends.iter().map(|end| (*end, ended_cell(end, boot, may_skip))).collect();
    let which = |round: u32, (outcome, reason, class): &Found| {
        let which = match rounds {
            // The fate of the whole boot says nothing about one repetition.
            _ if *class == Class::Host || *outcome == Outcome::Notrun => String::new(),
            Rounds::Exactly(1) => String::new(),
            Rounds::Exactly(of) => format!("repetition {round} of {of}: "),
            Rounds::UntilFail => format!("repetition {round}: "),
        };
        (*outcome, format!("{which}{reason}"), *class)
    };
    if let Some((end, found)) = judged.iter().find(|(_, found)| found.0 == Outcome::Fail) {
        return (which(end.round, found), Some(end));
    }
    let reported: BTreeSet<u32> = ends.iter().map(|end| end.round).filter(|round| *round <= wanted).collect();
    let running = seen.stream.running.as_ref() == Some(name);
    let not_pass = judged.iter().find(|(_, found)| found.0 != Outcome::Pass);
    let unexpected = || judged.iter().find(|(_, found)| !found.1.is_empty());
    match not_pass.or_else(unexpected).or(judged.last()) {
        Some((end, found)) if !running && reported.len() == wanted as usize => {
            // Nor does a result that is the same every time.
            let same = judged.iter().all(|(_, other)| other.0 == found.0);
            (if same { found.clone() } else { which(end.round, found) }, Some(end))
        }
        _ => {
            let round = if running { seen.stream.round } else { missing(&reported) };
            (which(round, &open_cell(name, seen, boot, rounds)), None)
        }
    }
}

/// The first round that is missing.
fn missing(reported: &BTreeSet<u32>) -> u32 {
    (1..).find(|round| !reported.contains(round)).unwrap_or(0)
}

/// Cells of a kernel that never booted because an earlier stage failed.
pub fn notrun(base: &CellBase, planned: &[TestName], class: Class, reason: &str) -> Vec<Cell> {
    let cell = |name| make_cell(base, name, (Outcome::Notrun, reason.to_owned(), class), (None, 0), false);
    planned.iter().map(cell).collect()
}

pub fn make_cell(
    base: &CellBase,
    name: &TestName,
    (outcome, reason, class): Found,
    (end, attempts): (Option<&TestEnd>, u32),
    may_skip: bool,
) -> Cell {
    let cell = Cell {
        kernel: base.kernel.clone(),
        variant: base.variant.clone(),
        boot: base.boot.clone(),
        accel: base.accel.clone(),
        suite: base.suite.to_owned(),
        test: name.test.clone(),
        subtest: name.subtest.clone(),
        outcome,
        reason,
        required: !(outcome == Outcome::Skip && may_skip),
        attempts,
        duration_ms: end.map_or(0, |end| end.duration_us / 1000),
        class,
        was: None,
        measured: end.map_or_else(String::new, |end| measured(end, outcome, &base.accel)),
        enforced: base.enforced,
        expected: None,
        tries: Vec::new(),
        unmet: Vec::new(),
        held: Vec::new(),
        log: end.filter(|_| outcome != Outcome::Pass).map_or_else(String::new, |end| end.log.clone()),
    };
    match end.filter(|_| outcome != Outcome::Pass) {
        Some(end) => with_expectations(cell, &end.seen),
        None => cell,
    }
}

/// Adds expectations that were checked: those that failed, and the others.
fn with_expectations(cell: Cell, checks: &[Check]) -> Cell {
    let those = |ok: bool| -> Vec<Expectation> {
        let those = checks.iter().filter(|check| check.ok == ok);
        let expectation = |check: &Check| Expectation {
            what: check.what.clone(),
            expected: check.expected.clone(),
            seen: check.seen.clone(),
        };
        those.map(expectation).collect()
    };
    Cell { unmet: those(false), held: those(true), ..cell }
}

/// Adds the accelerator to a measurement, which means little without it and which the guest does not know.
pub fn measured(end: &TestEnd, outcome: Outcome, accel: &str) -> String {
    if outcome != Outcome::Pass || end.measured.is_empty() {
        return String::new();
    }
    let on = if accel == "kvm" { accel.to_owned() } else { format!("{accel}: emulated") };
    format!("{}, {on}", end.measured)
}

/// A cell whose test ended. Results reported before a death are kept; results from a garbled channel are not
/// trusted.
fn ended_cell(end: &TestEnd, boot: &Verdict, may_skip: bool) -> (Outcome, String, Class) {
    if boot.class == Class::Host {
        return (Outcome::Fail, boot.reason.clone(), Class::Host);
    }
    let reason = explain(end);
    match end.outcome {
        GuestOutcome::Fail => (Outcome::Fail, reason, Class::TestFailed),
        GuestOutcome::Skip if may_skip => (Outcome::Skip, reason, Class::Pass),
        GuestOutcome::Skip => (Outcome::Skip, reason, Class::Incomplete),
        GuestOutcome::Xfail if end.reason.is_empty() => {
            (Outcome::Fail, "a known failure without a reason".to_owned(), Class::TestFailed)
        }
        GuestOutcome::Xfail => (Outcome::Xfail, reason, Class::Pass),
        GuestOutcome::Pass if end.checks == 0 => {
            (Outcome::Fail, "passed without checking anything".to_owned(), Class::TestFailed)
        }
        GuestOutcome::Pass if end.seen.iter().any(|check| !check.ok) => {
            (Outcome::Fail, format!("passed although: {reason}"), Class::TestFailed)
        }
        GuestOutcome::Pass => (Outcome::Pass, end.reason.clone(), Class::Pass),
    }
}

fn explain(end: &TestEnd) -> String {
    let mut reason = end.reason.clone();
    for check in end.seen.iter().filter(|check| !check.ok) {
        let text = format!("{}: expected {}, seen {}", check.what, check.expected, check.seen);
        if !reason.contains(&text) {
            reason.push_str(if reason.is_empty() { "" } else { "; " });
            reason.push_str(&text);
        }
    }
    reason
}

/// A planned cell that never ended.
pub fn open_cell(name: &TestName, seen: &Observed, boot: &Verdict, rounds: Rounds) -> Found {
    let running = seen.stream.running.as_ref() == Some(name);
    let never_ran = seen.stream.hello.is_none();
    match boot.class {
        Class::Interrupted | Class::Terminated => (Outcome::Notrun, boot.reason.clone(), boot.class),
        Class::BootFailed => (Outcome::Notrun, boot.reason.clone(), boot.class),
        class if never_ran => (Outcome::Notrun, boot.reason.clone(), class),
        class @ (Class::Panic | Class::GuestLost | Class::RunnerDied) if running => {
            (Outcome::Crash, boot.reason.clone(), class)
        }
        class @ (Class::Hang | Class::WallClock) if running => (Outcome::Timeout, boot.reason.clone(), class),
        Class::Pass | Class::Splat if rounds == Rounds::UntilFail => {
            let reason = "not reported: no complete round before the first failure or the time limit";
            (Outcome::Missing, reason.to_owned(), Class::Incomplete)
        }
        Class::Pass | Class::Splat => {
            (Outcome::Missing, "planned, and never reported".to_owned(), Class::Incomplete)
        }
        Class::Host => (Outcome::Missing, boot.reason.clone(), Class::Host),
        class => {
            (Outcome::Missing, format!("never ran: {} ({})", boot.reason, class.label()), Class::Incomplete)
        }
    }
}
