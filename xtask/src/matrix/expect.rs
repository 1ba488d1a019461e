// SPDX-License-Identifier: MIT OR Apache-2.0
//! Known failures (`[[expect]]`) and cells that have to be there and pass (`[[require]]`). Pure.
//!
//! A known failure covers exactly the outcome that it declares, and of that only the classes that a test can cause: a
//! failure of the harness, a complaint of the kernel or an interruption is never known. A crash, a time limit and what
//! could not be made cover only what says what the entry says that it says (`says`), and the boot whose end that was.
//!
//! How it could be wrong: an entry hides another failure of the same test that ends in the same outcome. So an entry that
//! fits everything is refused, it has a last day, the cell keeps what was seen, and how many cells each entry covers is told.
//! An entry for a crash hides another death in the same test whose first line fits as well. A requirement is the counterpart:
//! whatever is allowed, skipped or excluded elsewhere, these cells are there and passed, or the run did not. What is
//! required is never a known failure, and its skip is never allowed.

use std::collections::BTreeSet;

use regex::Regex;
use serde::Deserialize;
use vmtest_protocol::TestName;

use super::pattern::CellPattern;
use crate::allow::is_date;
use crate::error::Class;
use crate::result::{
    Cell, CellBase, CellGlobs, ExpectRecord, ExpectedRecord, Globs, Outcome, RequireRecord, RunResult,
    make_cell,
};

/// `[[expect]]` as it is written.
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

/// A known failure.
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
    /// Makes sense of it.
    ///
    /// # Errors
    /// Says what is wrong.
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
            return Err("this [[expect]] fits everything: name kernels, variants, suites or tests".to_owned());
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
            return Err(format!("outcome {outcome:?} is none of {}{skips}", names.join(", ")));
        };
        for (key, text) in [("reason", reason), ("link", link)] {
            if text.trim().is_empty() {
                return Err(format!("this [[expect]] has no {key}"));
            }
        }
        if !is_date(expires) {
            return Err(format!("expires {expires:?} is no date: write YYYY-MM-DD"));
        }
        let says = match says {
            Some(pattern) => {
                let regex = Regex::new(pattern).map_err(|error| format!("says {pattern:?}: {error}"))?;
                if regex.is_match("") {
                    return Err(format!("says {pattern:?} fits everything"));
                }
                Some(regex)
            }
            None if matches!(outcome, Outcome::Crash | Outcome::Timeout | Outcome::Notrun) => {
                return Err(format!(
                    "an expected {} has to say by `says` which one: a regular expression for the reason of the cell",
                    outcome.name()
                ));
            }
            None => None,
        };
        Ok(Expectation {
            cells,
            outcome,
            says,
            reason: reason.clone(),
            link: link.clone(),
            expires: expires.clone(),
            // The day itself still counts.
            expired: expires.as_str() < today,
        })
    }

    fn covers(&self, cell: &Cell) -> bool {
        !self.expired
            && cell.outcome == self.outcome
            && may_be_known(cell.outcome, cell.class())
            && self.says.as_ref().is_none_or(|says| says.is_match(&cell.reason))
            && self.cells.fits(cell)
    }

    fn text(&self) -> String {
        format!("{} ({}, until {})", self.reason, self.link, self.expires)
    }
}

/// Which classes of an outcome a test itself can be the cause of.
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

/// What becomes of the entries where nothing ran.
pub fn untouched(entries: &[Expectation]) -> Vec<ExpectRecord> {
    entries.iter().map(|entry| told(entry, (0, 0))).collect()
}

/// Turns known failures into `xfail` unless they are `required`, and tells what became of each entry.
pub fn apply(entries: &[Expectation], required: &[CellPattern], run: &mut RunResult) -> Vec<ExpectRecord> {
    let mut found: Vec<(u64, u64)> = vec![(0, 0); entries.len()];
    // Boots that ended as it was known: where they ran, their class, and why.
    let mut ends: BTreeSet<(String, String, String, u8, usize)> = BTreeSet::new();
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
            (cell.outcome, cell.class) = (Outcome::Xfail, Class::Pass.code());
        } else if cell.outcome == Outcome::Pass {
            let fits = |entry: &Expectation| !entry.expired && entry.cells.fits(cell);
            if let Some(at) = entries.iter().position(fits) {
                found[at].1 += 1;
                let news = format!(
                    "an unexpected pass: a known {} is declared: {}",
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

/// Adds what became of the same entries in another part of the matrix.
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
                // A day may have ended between two parts.
                let expired = old.state == "expired" || new.state == "expired";
                old.state = state(old, expired).to_owned();
            }
            None => all.push(new.clone()),
        }
    }
}

/// What of the required cells is there. One that did not pass counts, whatever allowed it. `whole`: the run has all jobs of
/// the matrix, so that what is not there is missing.
pub fn require(globs: &[CellGlobs], run: &mut RunResult, whole: bool) -> Vec<RequireRecord> {
    globs.iter().map(|globs| require_one(globs, &mut run.cells, whole)).collect()
}

fn require_one(globs: &CellGlobs, cells: &mut Vec<Cell>, whole: bool) -> RequireRecord {
    let (mut found, mut lacking) = (0, Vec::new());
    // A pattern that is none can only stand in a record that somebody wrote by hand: then nothing fits it.
    let pattern = CellPattern::new(globs).ok();
    let fits = |cell: &Cell| pattern.as_ref().is_some_and(|pattern| pattern.fits(cell));
    for cell in cells.iter_mut().filter(|cell| !is_stand_in(cell) && fits(cell)) {
        found += 1;
        let passed = matches!(cell.outcome, Outcome::Pass | Outcome::Flaky) && cell.class() == Class::Pass;
        if passed {
            continue;
        }
        let Cell { outcome, kernel, variant, .. } = &*cell;
        lacking.push(format!("{} {} on {kernel} ({variant})", outcome.name(), cell.path()));
        cell.required = true;
        if cell.class() == Class::Pass {
            cell.class = Class::Incomplete.code();
            cell.reason = format!("{}; the matrix requires a pass", cell.reason);
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

/// The cell that stands for required ones that are not there: reports are made of cells.
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
    let reason = "required by the matrix, and no cell fits".to_owned();
    make_cell(&base, &name, (Outcome::Missing, reason, Class::Incomplete), (None, 0), false)
}

/// Test of a cell that stands for required ones that are not there.
const REQUIRED: &str = "required";

/// Whether a cell stands for required ones that are not there.
pub fn is_stand_in(cell: &Cell) -> bool {
    cell.suite == "matrix" && cell.test == REQUIRED && cell.outcome == Outcome::Missing
}

/// What somebody should know of these entries, for the log. `whole`: the run has all jobs of the matrix.
pub fn news(expected: &[ExpectRecord], required: &[RequireRecord], whole: bool) -> Vec<String> {
    let mut news = Vec::new();
    for entry in expected {
        let which = format!("known {} {}: {}", entry.outcome.name(), globs_text(&entry.cells), entry.reason);
        match entry.state.as_str() {
            "expired" => news.push(format!("expired on {}, and covers nothing: {which}", entry.expires)),
            "unused" if whole => news.push(format!("fits no failure any more, take it out: {which}")),
            "passes" => news.push(format!("{} cells pass that are known to fail: {which}", entry.passes)),
            _ => (),
        }
    }
    for entry in required.iter().filter(|entry| entry.state == "unmet") {
        let why = match entry.lacking.as_slice() {
            [] => "no cell of the matrix fits".to_owned(),
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
mod tests {
    use super::*;
    use crate::result::tests_support::{self, run as run_of};

    const DAY: &str = "2026-11-21";
    const PANIC: &str = "Kernel panic - not syncing: x";

    fn entry(more: &str) -> Result<Expectation, String> {
        let text = format!("reason = 'known'\nlink = 'docs/x.md'\n{more}");
        let has_day = more.contains("expires");
        let text = if has_day { text } else { format!("{text}\nexpires = '2026-11-21'") };
        Expectation::new(&toml::from_str(&text).map_err(|error| error.to_string())?, DAY)
    }

    fn cell(subtest: &str, outcome: Outcome, class: Class, reason: &str) -> Cell {
        Cell { reason: reason.to_owned(), ..tests_support::cell("k", subtest, outcome, class) }
    }

    fn after(entries: &[Expectation], cells: Vec<Cell>) -> (RunResult, Vec<ExpectRecord>) {
        let mut run = run_of(cells);
        let records = apply(entries, &[], &mut run);
        run.conclude(None);
        (run, records)
    }

    #[test]
    fn exactly_the_declared_outcome_is_covered() {
        let all = [
            (Outcome::Fail, Class::TestFailed),
            (Outcome::Crash, Class::Panic),
            (Outcome::Timeout, Class::Hang),
            (Outcome::Missing, Class::Incomplete),
            (Outcome::Notrun, Class::KernelBuild),
            (Outcome::Flaky, Class::Flaky),
        ];
        for (declared, _) in all {
            let known = entry(&format!("test = 'basic/a'\nsays = 'it'\noutcome = '{}'", declared.name()))
                .expect("an entry");
            for (outcome, class) in all {
                let (run, records) =
                    after(std::slice::from_ref(&known), vec![cell("a", outcome, class, "it broke")]);
                let covered = outcome == declared;
                assert_eq!(run.exit_code == 0, covered, "{declared:?} {outcome:?}");
                assert_eq!(run.cells[0].outcome == Outcome::Xfail, covered);
                assert_eq!(records[0].covered, u64::from(covered));
                assert_eq!(records[0].state, if covered { "used" } else { "unused" });
            }
            for (outcome, class) in [
                (Outcome::Fail, Class::Host),
                (Outcome::Fail, Class::Splat),
                (Outcome::Skip, Class::Incomplete),
                (Outcome::Notrun, Class::Interrupted),
                (Outcome::Notrun, Class::Host),
                (Outcome::Missing, Class::Host),
                (Outcome::Missing, Class::Panic),
            ] {
                let (run, _) =
                    after(std::slice::from_ref(&known), vec![cell("a", outcome, class, "it broke")]);
                assert_eq!(
                    (run.cells[0].outcome, run.exit_code),
                    (outcome, class.code()),
                    "{declared:?} {outcome:?}"
                );
            }
        }
    }

    #[test]
    fn what_the_cell_says_has_to_fit_and_so_has_its_place() {
        let known =
            entry("test = 'basic/a'\nkernel = 'k'\noutcome = 'fail'\nsays = 'EINVAL'").expect("an entry");
        let fail = |subtest: &str, reason: &str| cell(subtest, Outcome::Fail, Class::TestFailed, reason);
        let (run, records) =
            after(&[known], vec![fail("a", "-EINVAL"), fail("a", "-EPERM"), fail("b", "-EINVAL")]);
        let outcomes: Vec<Outcome> = run.cells.iter().map(|cell| cell.outcome).collect();
        assert_eq!(outcomes, [Outcome::Xfail, Outcome::Fail, Outcome::Fail]);
        assert_eq!((records[0].covered, run.exit_code), (1, 1));
        let seen = run.cells[0].expected.as_ref().expect("it says what was seen");
        assert_eq!((seen.outcome, seen.class), (Outcome::Fail, 1));
        assert!(run.cells[0].reason.contains("-EINVAL") && run.cells[0].reason.contains("docs/x.md"));
    }

    #[test]
    fn an_entry_ends_and_a_pass_is_told() {
        let fail = || {
            vec![cell("a", Outcome::Fail, Class::TestFailed, "x"), cell("b", Outcome::Pass, Class::Pass, "")]
        };
        let last = entry("test = 'basic/*'\noutcome = 'fail'\nexpires = '2026-11-21'").expect("an entry");
        let (run, records) = after(&[last], fail());
        assert_eq!((run.exit_code, records[0].state.as_str()), (0, "used, and passes"));
        assert!(run.cells[1].reason.starts_with("an unexpected pass"), "{}", run.cells[1].reason);
        let over = entry("test = 'basic/*'\noutcome = 'fail'\nexpires = '2026-11-20'").expect("an entry");
        let (run, records) = after(&[over], fail());
        assert_eq!((run.exit_code, records[0].state.as_str()), (1, "expired"));
        assert!(news(&records, &[], true)[0].contains("expired on 2026-11-20"));
        let other = entry("test = 'other/*'\noutcome = 'fail'").expect("an entry");
        let (_, records) = after(&[other], fail());
        assert!(news(&records, &[], true)[0].contains("fits no failure"));
        assert!(news(&records, &[], false).is_empty(), "another part may have it");
    }

    #[test]
    fn a_known_death_covers_its_boot_and_no_other() {
        let known = entry("test = 'basic/a'\noutcome = 'crash'\nsays = 'not syncing: x'").expect("an entry");
        let dead = |reason: &str| {
            let mut run = run_of(vec![cell("a", Outcome::Crash, Class::Panic, reason)]);
            let mut boot = tests_support::boot("k", Class::Panic);
            (boot.variant, boot.suite) = (run.cells[0].variant.clone(), run.cells[0].suite.clone());
            boot.reason = reason.to_owned();
            run.boots = vec![boot];
            run
        };
        let mut run = dead(PANIC);
        apply(std::slice::from_ref(&known), &[], &mut run);
        run.conclude(None);
        assert_eq!((run.exit_code, run.boots[0].expected.is_some()), (0, true));
        let mut run = dead("Kernel panic - not syncing: another");
        apply(std::slice::from_ref(&known), &[], &mut run);
        run.conclude(None);
        assert_eq!(run.exit_code, Class::Panic.code());
        // The same, but of another suite in the same kernel.
        let mut run = dead(PANIC);
        run.boots[0].suite = "other".to_owned();
        apply(std::slice::from_ref(&known), &[], &mut run);
        run.conclude(None);
        assert_eq!(run.exit_code, Class::Panic.code());
        // What the death took along has to be declared for itself.
        let mut run = dead(PANIC);
        run.cells.push(cell("b", Outcome::Missing, Class::Incomplete, "never reported"));
        apply(&[known], &[], &mut run);
        run.conclude(None);
        assert_eq!(run.exit_code, Class::Incomplete.code());
    }

    #[test]
    fn an_entry_that_makes_no_sense_is_refused() {
        for (text, why) in [
            ("outcome = 'fail'", "fits everything"),
            ("test = '*'\noutcome = 'fail'", "fits everything"),
            ("test = 'a'\noutcome = 'skip'", "allow_skip"),
            ("test = 'a'\noutcome = 'pass'", "is none of"),
            ("test = 'a'\noutcome = 'crash'", "`says`"),
            ("test = 'a'\noutcome = 'timeout'", "`says`"),
            ("test = 'a'\noutcome = 'fail'\nsays = '.*'", "fits everything"),
            ("test = 'a'\noutcome = 'fail'\nsays = '('", "says"),
            ("test = 'a'\noutcome = 'fail'\nexpires = 'soon'", "no date"),
            ("test = '['\noutcome = 'fail'", "["),
        ] {
            let error = entry(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn required_cells_are_there_and_passed() {
        let globs: CellGlobs = toml::from_str("test = 'basic/a'").expect("globs");
        let state = |cells: Vec<Cell>, whole: bool| {
            let mut run = run_of(cells);
            let required = require(std::slice::from_ref(&globs), &mut run, whole);
            run.conclude(None);
            (required[0].state.clone(), run.exit_code)
        };
        let pass = || cell("a", Outcome::Pass, Class::Pass, "");
        assert_eq!(state(vec![pass()], true), ("met".into(), 0));
        assert_eq!(state(vec![cell("b", Outcome::Pass, Class::Pass, "")], true), ("unmet".into(), 3));
        assert_eq!(state(vec![cell("b", Outcome::Pass, Class::Pass, "")], false), ("not here".into(), 0));
        for (outcome, class) in
            [(Outcome::Skip, Class::Pass), (Outcome::Xfail, Class::Pass), (Outcome::Notrun, Class::Pass)]
        {
            let other = Cell { required: false, ..cell("a", outcome, class, "") };
            assert_eq!(state(vec![pass(), other], true), ("unmet".into(), 3), "{outcome:?}");
        }
        assert_eq!(state(vec![cell("a", Outcome::Fail, Class::TestFailed, "")], true), ("unmet".into(), 1));
    }

    #[test]
    fn what_is_required_is_never_a_known_failure() {
        let known = [entry("test = 'basic/*'\noutcome = 'fail'").expect("an entry")];
        let required =
            [CellPattern::new(&toml::from_str("test = 'basic/a'").expect("globs")).expect("a pattern")];
        let fail = |subtest: &str| cell(subtest, Outcome::Fail, Class::TestFailed, "x");
        let mut run = run_of(vec![fail("a"), fail("b")]);
        let records = apply(&known, &required, &mut run);
        assert_eq!(
            run.cells.iter().map(|cell| cell.outcome).collect::<Vec<_>>(),
            [Outcome::Fail, Outcome::Xfail]
        );
        assert_eq!(records[0].covered, 1);
    }

    #[test]
    fn parts_add_up() {
        let known = [entry("test = 'basic/*'\noutcome = 'fail'").expect("an entry")];
        let (_, mut one) = after(&known, vec![cell("a", Outcome::Pass, Class::Pass, "")]);
        let (_, other) = after(&known, vec![cell("b", Outcome::Fail, Class::TestFailed, "x")]);
        let whole =
            vec![cell("a", Outcome::Pass, Class::Pass, ""), cell("b", Outcome::Fail, Class::TestFailed, "x")];
        let (_, whole) = after(&known, whole);
        add(&mut one, &other);
        assert_eq!(one, whole);
    }
}
