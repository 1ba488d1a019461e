// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a test result format reports: each cell, and also what no cell shows; otherwise a kernel that died
//! after its last test would yield a report full of passes. One rule for all formats: the exit code is 0
//! exactly if nothing here is bad.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::ids::ColumnId;
use crate::outcome::Outcome;
use crate::run::{BootRecord, Cell, RunResult, SplatRecord};
use crate::series::CountedCheck;
use vmtest_base::error::{Class, PRECEDENCE};

/// A finding, reduced to the statuses of a generic test format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TestStatus {
    /// There is evidence that it passed.
    Passed,
    /// It does not count: an allowed skip, a known failure, or a column that is only for comparison.
    Aside,
    /// A problem was found in the kernel under test: a test failed, or the kernel printed a warning.
    Failed,
    /// It could not be judged, or the kernel died, so the test has no result.
    Error,
}

impl TestStatus {
    /// Whether it fails the run.
    pub fn is_bad(self) -> bool {
        matches!(self, TestStatus::Failed | TestStatus::Error)
    }
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding<'a> {
    /// Group of tests; `[run]` or `[guest]` if no cell shows it.
    pub test: &'a str,
    /// Name in the group; empty if the finding is about the whole group.
    pub subtest: &'a str,
    /// Its status.
    pub verdict: TestStatus,
    /// The outcome, or the class in words: `fail`, `kernel panic or oops`.
    pub word: &'static str,
    /// Exit class.
    pub class: Class,
    /// Reason; empty for a plain pass.
    pub reason: &'a str,
    /// The kernel before this one if it failed in the same way, where it counts. One failure counts once.
    pub already_on: Option<&'a str>,
    /// Lines that show it.
    pub detail: Vec<&'a str>,
    /// How long it took.
    pub duration_ms: u64,
}

/// The test name of findings about the run; no real test has it.
const RUN: &str = "[run]";
/// The same for findings about a guest.
const GUEST: &str = "[guest]";

/// The suite of columns with the checks of patches.
pub const CHECKS: &str = "checks";

/// Why a run in which nothing failed is still not a pass.
pub const NO_PLAIN_PASS: &str = "no test passed without an allowance";

impl Finding<'_> {
    /// Whether it is a test, as opposed to a problem with a guest or the run.
    pub fn is_test(&self) -> bool {
        ![RUN, GUEST].contains(&self.test)
    }

    /// `test/subtest`.
    pub fn path(&self) -> String {
        if self.subtest.is_empty() { self.test.to_owned() } else { format!("{}/{}", self.test, self.subtest) }
    }

    /// The reason in one line; never empty unless it passed.
    pub fn why(&self) -> String {
        let reason = self.reason.split_whitespace().collect::<Vec<_>>().join(" ");
        match (self.verdict, reason.is_empty()) {
            _ if self.already_on.is_some() => {
                format!("it failed already on {}", self.already_on.unwrap_or_default())
            }
            (TestStatus::Passed, true) => String::new(),
            (_, true) => format!("{}: no reason was given", self.word),
            (_, false) => reason,
        }
    }
}

/// The findings of one suite on one kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnFindings<'a> {
    /// The column; all fields are empty for findings about the whole run.
    pub id: ColumnId<'a>,
    /// Never empty.
    pub findings: Vec<Finding<'a>>,
}

impl ColumnFindings<'_> {
    /// `src:6.18/debug (direct)`, with the suite if it is not our own.
    pub fn name(&self) -> String {
        let ColumnId { kernel, variant, boot, suite } = self.id;
        if kernel.is_empty() {
            return "run".to_owned();
        }
        let variant = if variant == "default" { "" } else { variant };
        let slash = if variant.is_empty() { "" } else { "/" };
        let suite = if suite == "own" { "" } else { suite };
        let more: Vec<&str> = [boot, suite].into_iter().filter(|word| !word.is_empty()).collect();
        let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
        format!("{kernel}{slash}{variant}{more}")
    }

    /// Findings with this verdict.
    pub fn count(&self, verdict: TestStatus) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }
}

/// All findings of a run, by column.
pub fn columns(run: &RunResult) -> Vec<ColumnFindings<'_>> {
    let mut columns: Vec<ColumnFindings<'_>> = Vec::new();
    for cell in &run.cells {
        column(&mut columns, cell.column()).findings.push(of_cell(run, cell));
    }
    for boot in run.untold_boots() {
        column(&mut columns, boot.column()).findings.push(of_boot(run, boot));
    }
    for series in &run.series {
        for (class, counted) in series.checks_that_count() {
            let kernel = if counted.patch.kernel.is_empty() { &series.kernel } else { &counted.patch.kernel };
            let id = ColumnId { kernel, variant: &series.variant, boot: "", suite: CHECKS };
            column(&mut columns, id).findings.push(of_check(class, counted));
        }
    }
    let told = columns.iter().flat_map(|column| &column.findings).any(|finding| finding.verdict.is_bad());
    let decides = run.exit_code;
    // An interruption, an empty run, or a record that contradicts itself.
    if decides != Class::Pass && (!told || !is_told(&columns, decides)) {
        let finding = Finding {
            test: RUN,
            subtest: "",
            verdict: of_class(decides),
            word: decides.label(),
            class: decides,
            already_on: None,
            reason: if run.cells.is_empty() {
                "nothing was judged"
            } else if run.has_no_evidence() {
                NO_PLAIN_PASS
            } else {
                run.unknown_lines().unwrap_or_default()
            },
            detail: Vec::new(),
            duration_ms: 0,
        };
        column(&mut columns, ColumnId::default()).findings.push(finding);
    }
    columns
}

fn is_told(columns: &[ColumnFindings<'_>], class: Class) -> bool {
    columns.iter().flat_map(|column| &column.findings).any(|finding| finding.class == class)
}

fn column<'c, 'a>(columns: &'c mut Vec<ColumnFindings<'a>>, id: ColumnId<'a>) -> &'c mut ColumnFindings<'a> {
    let at = columns.iter().position(|one| one.id == id).unwrap_or_else(|| {
        columns.push(ColumnFindings { id, findings: Vec::new() });
        columns.len() - 1
    });
    &mut columns[at]
}

/// A check of a patch, which no guest ran.
fn of_check(class: Class, counted: CountedCheck<'_>) -> Finding<'_> {
    Finding {
        test: &counted.patch.info.subject,
        subtest: counted.name,
        verdict: of_class(class),
        word: if class == Class::Incomplete { "not checked" } else { "fail" },
        class,
        reason: &counted.check.summary,
        already_on: None,
        detail: counted.check.lines.iter().map(String::as_str).collect(),
        duration_ms: counted.check.duration_ms,
    }
}

/// The status that corresponds to an exit class.
fn of_class(class: Class) -> TestStatus {
    match class {
        Class::Pass => TestStatus::Passed,
        Class::TestFailed | Class::Splat | Class::Flaky => TestStatus::Failed,
        Class::Usage | Class::Incomplete | Class::SeriesDoesNotApply | Class::OptionLost => TestStatus::Error,
        Class::KernelBuild | Class::SuiteBuild | Class::BootFailed | Class::Panic | Class::Hang => {
            TestStatus::Error
        }
        Class::WallClock | Class::GuestLost | Class::RunnerDied | Class::Host => TestStatus::Error,
        Class::Interrupted | Class::Terminated => TestStatus::Error,
    }
}

/// The status of a cell.
pub fn verdict(cell: &Cell) -> TestStatus {
    if !cell.counts() {
        return TestStatus::Aside;
    }
    match (cell.outcome, of_class(cell.class)) {
        (Outcome::Pass | Outcome::Flaky, verdict) => verdict,
        // Its class says that it is allowed or not required.
        (Outcome::Skip | Outcome::Xfail | Outcome::Notrun, TestStatus::Passed) => TestStatus::Aside,
        (Outcome::Fail, TestStatus::Failed) => TestStatus::Failed,
        // These outcomes are never a pass, whatever class the record says.
        _ => TestStatus::Error,
    }
}

fn of_cell<'a>(run: &'a RunResult, cell: &'a Cell) -> Finding<'a> {
    let log: Vec<&str> = cell.log.lines().collect();
    let path = cell.path();
    // What happened to the guest in the meantime is on the console, not in the test's log.
    let happened = |splat: &&SplatRecord| splat.variant_id() == cell.variant_id() && splat.during == path;
    let detail = match cell.outcome {
        Outcome::Crash | Outcome::Timeout => {
            let splat = run.splats.iter().find(happened);
            log.into_iter().chain(splat.into_iter().flat_map(splat_lines)).collect()
        }
        _ => log,
    };
    let already_on = already_on(run, cell);
    Finding {
        test: &cell.test,
        subtest: &cell.subtest,
        verdict: if already_on.is_some() { TestStatus::Aside } else { verdict(cell) },
        already_on,
        word: cell.outcome.name(),
        class: cell.class,
        reason: &cell.reason,
        detail,
        duration_ms: cell.duration_ms,
    }
}

/// The kernel that this cell is compared with, if its failure is the same and already fails the run.
fn already_on<'a>(run: &'a RunResult, cell: &Cell) -> Option<&'a str> {
    if cell.was.is_some() || !verdict(cell).is_bad() {
        return None;
    }
    let kernel = run.kernels.iter().find(|kernel| kernel.id == cell.kernel)?;
    let before = kernel.compared_to.as_deref()?;
    let is_same = |other: &&Cell| {
        other.kernel == before
            && (&other.variant, &other.suite) == (&cell.variant, &cell.suite)
            && (&other.test, &other.subtest) == (&cell.test, &cell.subtest)
            && (other.outcome, other.class) == (cell.outcome, cell.class)
            && verdict(other).is_bad()
    };
    run.cells.iter().find(is_same).map(|other| other.kernel.as_str())
}

/// A kernel warning, with files and lines if they are known.
pub fn splat_lines(splat: &SplatRecord) -> impl Iterator<Item = &str> {
    let lines = if splat.stack.is_empty() { &splat.lines } else { &splat.stack };
    lines.iter().map(String::as_str)
}

fn of_boot<'a>(run: &'a RunResult, boot: &'a BootRecord) -> Finding<'a> {
    let complained = |splat: &&SplatRecord| {
        (splat.variant_id(), splat.attempt) == (boot.variant_id(), boot.attempt) && splat.allowed.is_none()
    };
    let splats: Vec<&str> = run.splats.iter().filter(complained).flat_map(splat_lines).collect();
    let tail = if splats.is_empty() { &boot.console_tail[..] } else { &[] };
    let class = boot.class;
    Finding {
        test: GUEST,
        subtest: "",
        verdict: of_class(class),
        word: class.label(),
        class,
        reason: &boot.reason,
        already_on: None,
        detail: boot.before_kill.iter().chain(tail).map(String::as_str).chain(splats).collect(),
        duration_ms: boot.duration_ms,
    }
}

/// The first error of a compiler in a reason: `kernel/bpf/a.c:12:3: error: ..`.
pub fn compiler_error(reason: &str) -> Option<&str> {
    let line = reason.lines().find(|line| line.contains(": error: "))?.trim_start();
    let line = line.strip_prefix("because: ").unwrap_or(line).trim_start_matches(['|', ' ']);
    Some(line.strip_prefix("/src/").unwrap_or(line))
}

/// The tests that a series adds or changes in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnTests<'a> {
    /// One sentence that describes it.
    pub what: String,
    /// The first of the files.
    pub files: Vec<&'a str>,
    /// How many more there are.
    pub more: usize,
}

/// Most files that are listed.
const MAX_FILES: usize = 8;

impl OwnTests<'_> {
    /// The files in one line.
    pub fn list(&self) -> String {
        let more = if self.more > 0 { format!(" and {} more", self.more) } else { String::new() };
        format!("{}{more}", self.files.join(", "))
    }
}

/// What a reader must know about the origin of the tests; `None` if no series of the run changes any.
pub fn own_tests(run: &RunResult) -> Option<OwnTests<'_>> {
    let changed = run.kernels.iter().flat_map(|kernel| &kernel.tests_changed);
    let mut files: Vec<&str> = changed.map(String::as_str).collect();
    files.sort_unstable();
    files.dedup();
    let count = files.len();
    let plural = if count == 1 { "file" } else { "files" };
    let used = run.boots.iter().any(|boot| boot.suite == "upstream");
    let used = if used { "" } else { "; no suite of this run uses them" };
    files.truncate(MAX_FILES);
    (count > 0).then(|| OwnTests {
        what: format!(
            "the tests are the series' own: it changes {count} {plural} of the tree's BPF tests{used}"
        ),
        more: count - files.len(),
        files,
    })
}

/// A reason that several findings of one kernel share.
#[derive(Debug, Clone)]
pub struct Reason<'c, 'a> {
    /// Column of the first finding.
    pub column: &'c ColumnFindings<'a>,
    /// The first finding.
    pub finding: &'c Finding<'a>,
    /// The reason.
    pub why: String,
    /// How many share it.
    pub count: usize,
}

impl Reason<'_, '_> {
    /// `fail: basic/x and 2 more on src:6.18 (direct)`.
    pub fn title(&self) -> String {
        let more = if self.count > 1 { format!(" and {} more", self.count - 1) } else { String::new() };
        format!("{}: {}{more} on {}", self.finding.word, self.finding.path(), self.column.name())
    }
}

/// Everything that is bad, starting with what decides the exit code. Each reason of a kernel appears once,
/// because a kernel that does not build has a finding for every test.
pub fn reasons<'c, 'a>(columns: &'c [ColumnFindings<'a>]) -> Vec<Reason<'c, 'a>> {
    let all = columns.iter().flat_map(|column| column.findings.iter().map(move |finding| (column, finding)));
    let mut bad: Vec<_> = all.filter(|(_, finding)| finding.verdict.is_bad()).collect();
    bad.sort_by_key(|(_, finding)| PRECEDENCE.into_iter().position(|class| class == finding.class));
    let mut reasons: Vec<Reason<'_, '_>> = Vec::new();
    let mut places: BTreeMap<(&str, &str, String), usize> = BTreeMap::new();
    for (column, finding) in bad {
        let why = finding.why();
        let next = reasons.len();
        match places.entry((column.id.kernel, column.id.variant, why.clone())) {
            Entry::Occupied(place) => reasons[*place.get()].count += 1,
            Entry::Vacant(place) => {
                place.insert(next);
                reasons.push(Reason { column, finding, why, count: 1 });
            }
        }
    }
    reasons
}

#[cfg(test)]
mod tests;
