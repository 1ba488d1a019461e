// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cells of the kernel's own tests: compares what `test_progs` printed with how it ended, which tests were
//! chosen and what the same binary reported before. Pure.
//!
//! A subtest passes if its line says OK and there are no doubts about the run that printed it.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde::{Deserialize, Serialize};
use vmtest_protocol::{End as TestEnd, OUT_OF_TIME, TestName};

use crate::judge::Verdict;
use crate::judge::cells::{CellBase, MaySkip, Rounds, make_cell, open_cell};
use crate::observed::Observed;
use crate::test_progs::{self, Report, Said, Subtest};
use vmtest_base::error::Class;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::Cell;

/// The runner's name for the check of a process's exit status.
const EXIT_STATUS: &str = "exit status";
/// Bytes of output kept in one cell.
const MAX_LOG: usize = 64 * 1024;

/// The only wildcard that `test_progs` supports: `*` matches any text.
pub fn star_matches(pattern: &str, text: &str) -> bool {
    let pattern = regex::escape(pattern).replace("\\*", ".*");
    Regex::new(&format!("^(?s:{pattern})$")).is_ok_and(|pattern| pattern.is_match(text))
}

/// A test that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    pub name: String,
    /// The file that defines it, without `.c`.
    pub file: String,
    /// Patterns of subtests; empty for all.
    pub subtests: Vec<String>,
    /// Subtests that match but do not run.
    pub deny: Vec<String>,
}

impl Chosen {
    /// Whether all of its subtests must run, so that their numbers may not have gaps.
    pub fn is_whole(&self) -> bool {
        self.subtests.is_empty() && self.deny.is_empty()
    }

    /// Whether this subtest was chosen.
    pub fn wants(&self, subtest: &str) -> bool {
        (self.subtests.is_empty() || self.subtests.iter().any(|pattern| star_matches(pattern, subtest)))
            && !self.deny.iter().any(|pattern| star_matches(pattern, subtest))
    }
}

/// Subtests that earlier runs of one binary reported; a name that no longer appears is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known(pub BTreeMap<String, BTreeSet<String>>);

type Reported = BTreeMap<String, BTreeSet<String>>;

/// The parsed output of a bundle: cells in the order of the tests, and the subtests of those tests that leave
/// no doubt.
#[derive(Debug, Default)]
struct Read {
    cells: Vec<Cell>,
    reported: Reported,
}

/// Judges each chosen test, and each that the guest ran unplanned.
pub fn judge(
    base: &CellBase,
    chosen: &[Chosen],
    known: &Known,
    seen: &Observed,
    boot: &Verdict,
    may_skip: MaySkip<'_>,
) -> (Vec<Cell>, Reported) {
    let mut judged = Read::default();
    for test in chosen {
        let one = One { base, test, seen, boot, may_skip };
        one.judge(known, &mut judged);
    }
    let ended = seen.stream.ended.iter().map(|end| &end.name);
    for name in ended.chain(seen.stream.running.as_ref()) {
        if !chosen.iter().any(|test| test.name == name.test && name.subtest.is_empty()) {
            let found = (Outcome::Fail, "the guest ran what was not planned".to_owned(), Class::Host);
            judged.cells.push(make_cell(base, name, found, (None, 1), false));
        }
    }
    (judged.cells, judged.reported)
}

struct One<'a> {
    base: &'a CellBase,
    test: &'a Chosen,
    seen: &'a Observed,
    boot: &'a Verdict,
    may_skip: MaySkip<'a>,
}

impl One<'_> {
    fn name(&self, subtest: &str) -> TestName {
        TestName { test: self.test.name.clone(), subtest: subtest.to_owned() }
    }

    fn cell(&self, subtest: &str, outcome: Outcome, reason: String, class: Class, log: &str) -> Cell {
        let name = self.name(subtest);
        let may_skip = (self.may_skip)(&name);
        let class = if outcome == Outcome::Skip && may_skip { Class::Pass } else { class };
        let mut cell = make_cell(self.base, &name, (outcome, reason, class), (None, 1), may_skip);
        if outcome != Outcome::Pass {
            cell.log = bounded(log);
        }
        cell
    }

    fn judge(&self, known: &Known, judged: &mut Read) {
        let whole = self.name("");
        let Some(end) = self.seen.stream.ended.iter().find(|end| end.name == whole) else {
            let planned = self.seen.stream.plan.as_ref().is_none_or(|plan| plan.contains(&whole));
            let found = open_cell(&whole, self.seen, self.boot, Rounds::Exactly(1));
            let found = match found {
                (Outcome::Missing, _, Class::Incomplete) if !planned => {
                    let why = "test_progs -l does not name it: it is not built in".to_owned();
                    (Outcome::Missing, why, Class::Incomplete)
                }
                found => found,
            };
            return judged.cells.push(make_cell(self.base, &whole, found, (None, 1), false));
        };
        if self.boot.class == Class::Host {
            let found = (Outcome::Fail, self.boot.reason.clone(), Class::Host);
            return judged.cells.push(make_cell(self.base, &whole, found, (Some(end), 1), false));
        }
        let text = self.seen.stream.printed_by(&whole);
        let report = test_progs::read(&self.test.name, text, self.test.is_whole(), exit_status(end));
        let mut cells: Vec<Cell> =
            report.subtests.iter().map(|subtest| self.subtest(subtest, &report)).collect();
        cells.splice(0..0, self.whole(end, &report));
        cells.extend(self.missing(known, &report));
        if cells.is_empty() {
            // Nothing failed, but nothing ran either: not a pass.
            let why = "no subtest of it was run".to_owned();
            cells.push(self.cell("", Outcome::Missing, why, Class::Incomplete, text));
        }
        // The output has no duration per subtest.
        if let Some(first) = cells.first_mut() {
            first.duration_ms = end.duration_us / 1000;
        }
        judged.cells.append(&mut cells);
        if report.doubts.is_empty() {
            let names = report.subtests.iter().map(|subtest| subtest.name.clone());
            judged.reported.insert(self.test.name.clone(), names.collect());
        }
    }

    fn subtest(&self, subtest: &Subtest, report: &Report) -> Cell {
        let Subtest { number: _, name, said, log } = subtest;
        let cell = |outcome, reason, class| self.cell(name, outcome, reason, class, log);
        match said {
            Said::Fail => cell(Outcome::Fail, first_complaint(log), Class::TestFailed),
            Said::Skip => cell(Outcome::Skip, skip_reason(report, log), Class::Incomplete),
            Said::Ok | Said::SomeSkipped(..) if !report.doubts.is_empty() => {
                let why = format!("it says OK, but {}", report.doubts.join("; "));
                cell(Outcome::Missing, why, Class::Incomplete)
            }
            Said::SomeSkipped(..) => cell(Outcome::Skip, skip_reason(report, log), Class::Incomplete),
            Said::Ok if !self.test.wants(name.split(" #").next().unwrap_or(name)) => {
                cell(Outcome::Fail, "it ran without being requested".to_owned(), Class::Host)
            }
            Said::Ok => cell(Outcome::Pass, String::new(), Class::Pass),
        }
    }

    /// A cell for the test as a whole, if its subtests do not cover everything.
    fn whole(&self, end: &TestEnd, report: &Report) -> Option<Cell> {
        let log = if report.log.trim().is_empty() { &end.log } else { &report.log };
        let cell = |outcome, reason, class| Some(self.cell("", outcome, reason, class, log));
        if end.reason.starts_with(OUT_OF_TIME) {
            return cell(Outcome::Timeout, end.reason.clone(), Class::WallClock);
        }
        let any = |wanted: Said| report.subtests.iter().any(|subtest| subtest.said == wanted);
        if !report.doubts.is_empty() {
            // How the process ended explains the rest.
            let died = (exit_status(end).is_none() || report.whole.is_none()) && !end.reason.is_empty();
            let silent = report.subtests.is_empty() && report.whole.is_none();
            let doubts = report.doubts.join("; ");
            let why = match (died, silent) {
                (true, true) => end.reason.clone(),
                (true, false) => format!("{} ({doubts})", end.reason),
                (false, _) => doubts,
            };
            return cell(Outcome::Fail, why, Class::TestFailed);
        }
        let skips = report.subtests.iter().filter(|subtest| subtest.said == Said::Skip).count() as u32;
        match report.whole {
            Some(Said::Fail) if any(Said::Fail) => None,
            Some(Said::Fail) => cell(Outcome::Fail, first_complaint(&report.log), Class::TestFailed),
            Some(Said::Ok) if report.subtests.is_empty() && self.test.subtests.is_empty() => {
                cell(Outcome::Pass, String::new(), Class::Pass)
            }
            // Subtests were chosen and none of them ran: they are reported as missing.
            Some(Said::Ok) => None,
            Some(Said::Skip | Said::SomeSkipped(..))
                if report.summary.is_some_and(|summary| summary.skipped == skips) && skips > 0 =>
            {
                None
            }
            Some(Said::Skip | Said::SomeSkipped(..)) => {
                cell(Outcome::Skip, skip_reason(report, &report.log), Class::Incomplete)
            }
            None => cell(Outcome::Fail, "it says nothing".to_owned(), Class::TestFailed),
        }
    }

    /// Subtests that did not report although they were chosen by name or the same binary reported them
    /// before.
    fn missing(&self, known: &Known, report: &Report) -> Vec<Cell> {
        let reported = |name: &str| report.subtests.iter().any(|subtest| subtest.name == name);
        let matched =
            |pattern: &str| report.subtests.iter().any(|subtest| star_matches(pattern, &subtest.name));
        let missing =
            |name: &str, why: &str| self.cell(name, Outcome::Missing, why.to_owned(), Class::Incomplete, "");
        let mut cells: Vec<Cell> = Vec::new();
        for pattern in self.test.subtests.iter().filter(|pattern| !matched(pattern)) {
            cells.push(missing(pattern, "requested, but no subtest of that name reported"));
        }
        for name in known.0.get(&self.test.name).into_iter().flatten() {
            let wanted = self.test.wants(name.split(" #").next().unwrap_or(name));
            if wanted && !reported(name) && !self.test.subtests.contains(name) {
                cells.push(missing(name, "an earlier run of the same test_progs reported it"));
            }
        }
        cells
    }
}

/// The exit status of a process; `None` if a signal or its time limit ended it.
pub fn exit_status(end: &TestEnd) -> Option<i32> {
    end.seen.iter().find(|check| check.what == EXIT_STATUS)?.seen.parse().ok()
}

/// The line that says what failed; upstream's macros print `function:FAIL:what ..`.
fn first_complaint(log: &str) -> String {
    let complaint = log.lines().find(|line| line.contains(":FAIL:"));
    let any = log.lines().find(|line| !line.trim().is_empty());
    complaint
        .or(any)
        .map_or_else(|| "it failed and does not say why".to_owned(), |line| line.trim().to_owned())
}

fn skip_reason(report: &Report, log: &str) -> String {
    let said = log.lines().find(|line| line.contains("SKIP")).map(|line| line.trim().to_owned());
    let module = report.without_testmod.then(|| "the guest took no bpf_testmod.ko".to_owned());
    said.or(module).unwrap_or_else(|| "the test skipped it and does not say why".to_owned())
}

/// The tail of a log that is too long for a cell.
pub fn bounded(log: &str) -> String {
    if log.len() <= MAX_LOG {
        return log.to_owned();
    }
    let mut from = log.len() - MAX_LOG;
    while !log.is_char_boundary(from) {
        from += 1;
    }
    format!("[.. {from} bytes are left out ..]\n{}", &log[from..])
}

#[cfg(test)]
mod tests;
