// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cells of a program of selftests/suites/: compares the KTAP that it printed with its plan and with how it
//! ended. Pure.
//!
//! `suite.toml` is the plan: every name in it must be reported, and nothing else. A result passes if its line
//! says `ok` and there are no doubts about its report.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vmtest_protocol::{End as TestEnd, OUT_OF_TIME, OUTPUT_CUT, TestName};

use crate::judge::Verdict;
use crate::judge::cells::{CellBase, MaySkip, Rounds, make_cell, open_cell};
use crate::judge::upstream::{bounded, exit_status};
use crate::ktap::{self, Leaf, Report, Said};
use crate::observed::Observed;
use vmtest_base::error::Class;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::Cell;

/// Reason of a skip that gives none.
const NO_REASON: &str = "it was skipped and does not say why";

/// A suite of selftests/suites/.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Name of its directory.
    pub name: String,
    /// A one-line description.
    pub about: String,
    pub dir: PathBuf,
    /// The executable, relative to `dir`.
    pub program: String,
    pub tests: Vec<String>,
    /// Time limit in seconds.
    pub limit_s: u32,
}

impl Program {
    /// The names of its cells.
    pub fn names(&self) -> Vec<TestName> {
        self.tests.iter().map(|test| self.cell_name(test)).collect()
    }

    fn cell_name(&self, subtest: &str) -> TestName {
        TestName { test: self.name.clone(), subtest: subtest.to_owned() }
    }
}

/// One cell for each planned name, and one for each result that is not in the plan.
pub fn judge(
    base: &CellBase,
    suite: &Program,
    seen: &Observed,
    boot: &Verdict,
    may_skip: MaySkip<'_>,
) -> Vec<Cell> {
    let whole = TestName { test: suite.name.clone(), subtest: String::new() };
    let cell = |name: &TestName, (outcome, reason, class): (Outcome, String, Class), log: &str| {
        let allowed = may_skip(name);
        let class = if outcome == Outcome::Skip && allowed { Class::Pass } else { class };
        let mut cell = make_cell(base, name, (outcome, reason, class), (None, 1), allowed);
        if outcome != Outcome::Pass {
            cell.log = bounded(log);
        }
        cell
    };
    let ended = seen.stream.ended.iter().find(|end| end.name == whole);
    let Some(end) = ended.filter(|_| boot.class != Class::Host) else {
        let found = match ended {
            Some(_) => (Outcome::Fail, boot.reason.clone(), Class::Host),
            None => open_cell(&whole, seen, boot, Rounds::Exactly(1)),
        };
        return suite.names().iter().map(|name| cell(name, found.clone(), "")).collect();
    };
    let text = seen.stream.printed_by(&whole);
    let report = report(text, end);
    let out_of_time = end.reason.starts_with(OUT_OF_TIME);
    let doubts = report.doubts.join("; ");
    let planned = suite.tests.iter().map(|test| {
        let name = suite.cell_name(test);
        match report.leaves.iter().find(|leaf| leaf.name == *test) {
            Some(leaf) => cell(&name, said(leaf, &doubts), &leaf.log),
            None if out_of_time => {
                cell(&name, (Outcome::Timeout, end.reason.clone(), Class::WallClock), text)
            }
            None if doubts.is_empty() && report.skipped.is_some() => {
                let why = report.skipped.as_deref().filter(|why| !why.is_empty()).unwrap_or(NO_REASON);
                cell(&name, (Outcome::Skip, why.to_owned(), Class::Incomplete), text)
            }
            None => {
                let why = if doubts.is_empty() { "it was not reported" } else { &doubts };
                cell(&name, (Outcome::Missing, why.to_owned(), Class::Incomplete), text)
            }
        }
    });
    let unplanned = report.leaves.iter().filter(|leaf| !suite.tests.contains(&leaf.name)).map(|leaf| {
        let why = "suite.toml does not plan it".to_owned();
        cell(&suite.cell_name(&leaf.name), (Outcome::Fail, why, Class::TestFailed), &leaf.log)
    });
    planned.chain(unplanned).collect()
}

/// The report it printed, with doubts added from how the program ended.
fn report(text: &str, end: &TestEnd) -> Report {
    let mut report = ktap::read(text);
    if text.contains(OUTPUT_CUT) {
        report.doubts.push("it printed more than is kept".to_owned());
    }
    let some = |said: Said| report.leaves.iter().any(|leaf| leaf.said == said);
    let (failed, skipped) = (some(Said::NotOk), some(Said::Skip) || report.skipped.is_some());
    match exit_status(end) {
        Some(0) => (),
        // kselftest's exit status for a skip.
        Some(4) if skipped => (),
        // That is how programs report that a result failed.
        Some(_) if failed => (),
        _ if end.reason.is_empty() => report.doubts.push("nothing says how it ended".to_owned()),
        _ => report.doubts.push(end.reason.clone()),
    }
    report
}

/// The outcome of a result, given the doubts about its report.
fn said(leaf: &Leaf, doubts: &str) -> (Outcome, String, Class) {
    let reason = |otherwise: &str| match leaf.reason.is_empty() {
        false => leaf.reason.clone(),
        true => leaf.log.lines().last().unwrap_or(otherwise).trim_start_matches("# ").to_owned(),
    };
    match leaf.said {
        Said::NotOk => (Outcome::Fail, reason("it failed and does not say why"), Class::TestFailed),
        _ if !doubts.is_empty() => (Outcome::Missing, format!("reported, but {doubts}"), Class::Incomplete),
        Said::Skip => (Outcome::Skip, reason(NO_REASON), Class::Incomplete),
        // The kselftest harness writes `unknown` if a test gives no reason.
        Said::Xfail if matches!(leaf.reason.as_str(), "" | "unknown") => {
            (Outcome::Fail, "a known failure without a reason".to_owned(), Class::TestFailed)
        }
        Said::Xfail => (Outcome::Xfail, leaf.reason.clone(), Class::Pass),
        Said::Ok if !leaf.reason.is_empty() => {
            (Outcome::Pass, format!("passed, although a failure was expected: {}", leaf.reason), Class::Pass)
        }
        Said::Ok => (Outcome::Pass, String::new(), Class::Pass),
    }
}

#[cfg(test)]
mod tests;
