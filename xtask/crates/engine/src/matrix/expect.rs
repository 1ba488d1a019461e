// SPDX-License-Identifier: MIT OR Apache-2.0
//! Known failures (`[[expect]]`) and cells that must exist and pass (`[[require]]`). Pure.
//!
//! A known failure covers exactly the outcome that it declares, and only classes that a test can cause: a
//! failure of the harness, a kernel warning or an interruption is never known. A crash, a time limit and a
//! cell that could not run are covered only if their reason matches `says` of the entry, along with the boot
//! that ended that way.
//!
//! How it could be wrong: an entry hides another failure of the same test with the same outcome. So an entry
//! that matches everything is rejected, it has an expiry date, the cell keeps its original result, and each
//! report shows how many cells each entry covers. An entry for a crash hides another death in the same test
//! whose first line matches as well. A requirement is the counterpart: whatever is allowed, skipped or
//! excluded elsewhere, these cells must exist and pass, or the run does not. A required cell is never a known
//! failure, and its skip is never allowed.

use std::collections::BTreeSet;

use regex::Regex;
use serde::Deserialize;
use vmtest_protocol::TestName;

use crate::matrix::pattern::CellPattern;
use vmtest_base::date::is_date;
use vmtest_base::error::Class;
use vmtest_guest::judge::{CellBase, make_cell};
use vmtest_record::matrix::{CellGlobs, ExpectRecord, ExpectedRecord, Globs, RequireRecord};
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{Cell, RunResult};

/// `[[expect]]` as written in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectLines {
    kernel: Option<Globs>,
    variant: Option<Globs>,
    boot: Option<Globs>,
    suite: Option<Globs>,
    test: Option<Globs>,
    outcome: String,
    says: Option<String>,
    reason: String,
    link: String,
    expires: String,
}

#[derive(Debug, Clone)]
pub struct Expectation {
    cells: CellPattern,
    outcome: Outcome,
    says: Option<Regex>,
    reason: String,
    link: String,
    expires: String,
    expired: bool,
}

impl Expectation {
    /// Validates an entry.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(lines: &ExpectLines, today: &str) -> Result<Expectation, String> {
        let ExpectLines { kernel, variant, boot, suite, test, outcome, says, reason, link, expires } = lines;
        let globs = CellGlobs {
            kernel: kernel.clone(),
            variant: variant.clone(),
            boot: boot.clone(),
            suite: suite.clone(),
            test: test.clone(),
        };
        let cells = CellPattern::new(&globs)?;
        if cells.is_everything() {
            return Err(
                "this [[expect]] matches everything: name kernels, variants, suites or tests".to_owned()
            );
        }
        let known = [
            Outcome::Fail,
            Outcome::Crash,
            Outcome::Timeout,
            Outcome::Missing,
            Outcome::Notrun,
            Outcome::Flaky,
        ];
        let Some(outcome) = known.into_iter().find(|known| known.name() == outcome) else {
            let names: Vec<&str> = known.iter().map(|known| known.name()).collect();
            let skips = "; a skip is allowed with `allow_skip`";
            return Err(format!("unknown outcome {outcome:?}; expected one of {}{skips}", names.join(", ")));
        };
        for (key, text) in [("reason", reason), ("link", link)] {
            if text.trim().is_empty() {
                return Err(format!("this [[expect]] has no {key}"));
            }
        }
        if !is_date(expires) {
            return Err(format!("expires {expires:?} is not a date: write YYYY-MM-DD"));
        }
        let says = reason_pattern(says.as_deref(), outcome)?;
        Ok(Expectation {
            cells,
            outcome,
            says,
            reason: reason.clone(),
            link: link.clone(),
            expires: expires.clone(),
            // The expiry day itself still counts.
            expired: expires.as_str() < today,
        })
    }

    fn covers(&self, cell: &Cell) -> bool {
        !self.expired
            && cell.outcome == self.outcome
            && may_be_known(cell.outcome, cell.class)
            && self.says.as_ref().is_none_or(|says| says.is_match(&cell.reason))
            && self.cells.fits(cell)
    }

    fn text(&self) -> String {
        format!("{} ({}, until {})", self.reason, self.link, self.expires)
    }
}

/// Whether a test itself can cause this class of an outcome.
fn may_be_known(outcome: Outcome, class: Class) -> bool {
    match outcome {
        Outcome::Fail => class == Class::TestFailed,
        Outcome::Crash => matches!(class, Class::Panic | Class::GuestLost | Class::RunnerDied),
        Outcome::Timeout => matches!(class, Class::Hang | Class::WallClock),
        Outcome::Missing => class == Class::Incomplete,
        Outcome::Flaky => class == Class::Flaky,
        Outcome::Notrun => matches!(
            class,
            Class::SeriesDoesNotApply
                | Class::OptionLost
                | Class::KernelBuild
                | Class::SuiteBuild
                | Class::BootFailed
                | Class::Panic
        ),
        Outcome::Pass | Outcome::Skip | Outcome::Xfail => false,
    }
}

/// The records of the entries if nothing ran.
pub fn untouched(entries: &[Expectation]) -> Vec<ExpectRecord> {
    entries.iter().map(|entry| told(entry, (0, 0))).collect()
}

/// Turns known failures into `xfail` unless they are `required`, and returns the state of each entry.
pub fn apply(entries: &[Expectation], required: &[CellPattern], run: &mut RunResult) -> Vec<ExpectRecord> {
    let mut found: Vec<(u64, u64)> = vec![(0, 0); entries.len()];
    // Boots that ended in a known way: where they ran, their class, and the entry.
    let mut ends: BTreeSet<(String, String, String, Class, usize)> = BTreeSet::new();
    for cell in &mut run.cells {
        let known = entries.iter().position(|entry| entry.covers(cell));
        if let Some(at) = known.filter(|_| !required.iter().any(|pattern| pattern.fits(cell))) {
            let entry = &entries[at];
            found[at].0 += 1;
            if matches!(entry.outcome, Outcome::Crash | Outcome::Timeout | Outcome::Notrun) {
                let (kernel, variant, suite) =
                    (cell.kernel.clone(), cell.variant.clone(), cell.suite.clone());
                ends.insert((kernel, variant, suite, cell.class, at));
            }
            cell.expected =
                Some(ExpectedRecord { outcome: cell.outcome, class: cell.class, why: entry.text() });
            cell.reason = format!("known: {}; seen: {}: {}", entry.text(), cell.outcome.name(), cell.reason);
            (cell.outcome, cell.class) = (Outcome::Xfail, Class::Pass);
        } else if cell.outcome == Outcome::Pass {
            let fits = |entry: &Expectation| !entry.expired && entry.cells.fits(cell);
            if let Some(at) = entries.iter().position(fits) {
                found[at].1 += 1;
                let news = format!(
                    "unexpected pass: declared as a known {}: {}",
                    entries[at].outcome.name(),
                    entries[at].text()
                );
                cell.reason = if cell.reason.is_empty() { news } else { format!("{}; {news}", cell.reason) };
            }
        }
    }
    for boot in &mut run.boots {
        let known = ends.iter().find(|(kernel, variant, suite, class, at)| {
            let here =
                (kernel, variant, suite, class) == (&boot.kernel, &boot.variant, &boot.suite, &boot.class);
            here && entries[*at].says.as_ref().is_some_and(|says| says.is_match(&boot.reason))
        });
        if let Some((.., at)) = known {
            boot.expected = Some(entries[*at].text());
        }
    }
    entries.iter().zip(found).map(|(entry, found)| told(entry, found)).collect()
}

/// `says` of an entry. Outcomes with many possible causes require it.
fn reason_pattern(says: Option<&str>, outcome: Outcome) -> Result<Option<Regex>, String> {
    match says {
        Some(pattern) => {
            let regex = Regex::new(pattern).map_err(|error| format!("says {pattern:?}: {error}"))?;
            if regex.is_match("") {
                return Err(format!("says {pattern:?} matches everything"));
            }
            Ok(Some(regex))
        }
        None if matches!(outcome, Outcome::Crash | Outcome::Timeout | Outcome::Notrun) => Err(format!(
            "an expected {} needs `says`: a regular expression that matches the cell's reason",
            outcome.name()
        )),
        None => Ok(None),
    }
}

fn told(entry: &Expectation, (covered, passes): (u64, u64)) -> ExpectRecord {
    let mut record = ExpectRecord {
        cells: entry.cells.text.clone(),
        outcome: entry.outcome,
        says: entry.says.as_ref().map(|says| says.as_str().to_owned()),
        reason: entry.reason.clone(),
        link: entry.link.clone(),
        expires: entry.expires.clone(),
        state: String::new(),
        covered,
        passes,
    };
    record.state = state(&record, entry.expired).to_owned();
    record
}

fn state(record: &ExpectRecord, expired: bool) -> &'static str {
    match (expired, record.covered, record.passes) {
        (true, ..) => "expired",
        (_, 0, 0) => "unused",
        (_, 0, _) => "passes",
        (_, _, 0) => "used",
        _ => "used, and passes",
    }
}

/// Adds the states of the same entries in another shard of the matrix.
pub fn add(all: &mut Vec<ExpectRecord>, part: &[ExpectRecord]) {
    for new in part {
        let same = |old: &&mut ExpectRecord| {
            (&old.cells, old.outcome, &old.says, &old.reason, &old.link, &old.expires)
                == (&new.cells, new.outcome, &new.says, &new.reason, &new.link, &new.expires)
        };
        match all.iter_mut().find(same) {
            Some(old) => {
                old.covered += new.covered;
                old.passes += new.passes;
                // An entry may have expired between two shards.
                let expired = old.state == "expired" || new.state == "expired";
                old.state = state(old, expired).to_owned();
            }
            None => all.push(new.clone()),
        }
    }
}

/// The state of the required cells. A required cell that did not pass counts, even if something allowed it.
/// `whole`: the run has all jobs of the matrix, so an absent cell is missing.
pub fn require(globs: &[CellGlobs], run: &mut RunResult, whole: bool) -> Vec<RequireRecord> {
    globs.iter().map(|globs| require_one(globs, &mut run.cells, whole)).collect()
}

fn require_one(globs: &CellGlobs, cells: &mut Vec<Cell>, whole: bool) -> RequireRecord {
    let (mut found, mut lacking) = (0, Vec::new());
    // Only a hand-written record can contain an invalid pattern: then nothing matches it.
    let pattern = CellPattern::new(globs).ok();
    let fits = |cell: &Cell| pattern.as_ref().is_some_and(|pattern| pattern.fits(cell));
    for cell in cells.iter_mut().filter(|cell| !is_stand_in(cell) && fits(cell)) {
        found += 1;
        let passed = matches!(cell.outcome, Outcome::Pass | Outcome::Flaky) && cell.class == Class::Pass;
        if passed {
            continue;
        }
        let Cell { outcome, kernel, variant, .. } = &*cell;
        lacking.push(format!("{} {} on {kernel} ({variant})", outcome.name(), cell.path()));
        cell.required = true;
        if cell.class == Class::Pass {
            cell.class = Class::Incomplete;
            cell.reason = format!("{}; the matrix requires it to pass", cell.reason);
        }
    }
    if found == 0 && whole {
        cells.push(nothing_fits(globs));
    }
    let state = match (found, lacking.is_empty()) {
        (0, _) if whole => "unmet",
        (0, _) => "not here",
        (_, true) => "met",
        (_, false) => "unmet",
    };
    RequireRecord { cells: globs.clone(), state: state.into(), found, lacking }
}

/// A cell that represents missing required cells, because reports consist of cells.
fn nothing_fits(globs: &CellGlobs) -> Cell {
    let name = TestName { test: REQUIRED.to_owned(), subtest: globs_text(globs) };
    let base = CellBase {
        kernel: "matrix".to_owned(),
        variant: String::new(),
        boot: String::new(),
        accel: String::new(),
        suite: "matrix".to_owned(),
        enforced: None,
    };
    let reason = "required by the matrix, but no cell matches".to_owned();
    make_cell(&base, &name, (Outcome::Missing, reason, Class::Incomplete), (None, 0), false)
}

/// Test name of a cell that represents missing required cells.
const REQUIRED: &str = "required";

/// Whether a cell represents missing required cells.
pub fn is_stand_in(cell: &Cell) -> bool {
    cell.suite == "matrix" && cell.test == REQUIRED && cell.outcome == Outcome::Missing
}

/// Messages about these entries for the log. `whole`: the run has all jobs of the matrix.
pub fn news(expected: &[ExpectRecord], required: &[RequireRecord], whole: bool) -> Vec<String> {
    let mut news = Vec::new();
    for entry in expected {
        let which = format!("known {} {}: {}", entry.outcome.name(), globs_text(&entry.cells), entry.reason);
        match entry.state.as_str() {
            "expired" => news.push(format!("expired on {} and no longer applies: {which}", entry.expires)),
            "unused" if whole => news.push(format!("matches no failure any more, remove it: {which}")),
            "passes" => {
                news.push(format!("{} cells pass although they are declared to fail: {which}", entry.passes))
            }
            _ => (),
        }
    }
    for entry in required.iter().filter(|entry| entry.state == "unmet") {
        let why = match entry.lacking.as_slice() {
            [] => "no cell of the matrix matches".to_owned(),
            lacking => lacking.iter().take(5).cloned().collect::<Vec<_>>().join(", "),
        };
        news.push(format!("required cells did not pass ({}): {why}", globs_text(&entry.cells)));
    }
    news
}

fn globs_text(globs: &CellGlobs) -> String {
    serde_json::to_string(globs).unwrap_or_default()
}

#[cfg(test)]
mod tests;
