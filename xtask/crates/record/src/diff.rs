// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares two runs: what newly failed, what was fixed, what vanished, what takes longer, and which settings
//! differ. [`crate::reference_columns`] compares columns within one run; this compares the same columns in
//! two runs. Pure.
//!
//! Success is the last branch here as well: a test that passed and does not pass now is worse, even if it is
//! missing or no longer required.
//!
//! How it could be wrong: a test that never passed can only get worse by the class of its failure; two
//! failures of one class with different reasons are reported but do not count. A renamed test is reported as
//! one that vanished and one that was added.

mod settings;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::findings::{self, ColumnFindings, Finding, TestStatus};
use crate::ids::ColumnId;
use crate::run::RunResult;
use vmtest_base::error::{Class, PRECEDENCE};

/// Version of this structure.
const SCHEMA: u32 = 1;

/// A kernel configuration: option to value.
pub type Options = BTreeMap<String, String>;

/// One of the two runs.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Its record.
    pub run: &'a RunResult,
    /// Kernel configurations by kernel ID and variant, as far as they are known.
    pub options: &'a BTreeMap<(String, String), Options>,
}

/// When a phase counts as slower.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slower {
    /// Minimum slowdown in percent.
    pub percent: u64,
    /// Minimum slowdown in milliseconds.
    pub at_least_ms: u64,
    /// Whether a slower phase is a regression.
    pub counts: bool,
}

impl Slower {
    /// The default: reported, but not a regression, because another machine may be slower.
    pub const USUAL: Slower = Slower { percent: 50, at_least_ms: 5000, counts: false };
}

/// How a test changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It fails now, and passed or did not exist before.
    Fails,
    /// It failed before and now fails in a more serious way.
    Worse,
    /// It passed before, and now passes only on a retry.
    Flaky,
    /// It existed before and is missing now.
    Vanished,
    /// It passed before and no longer counts: an allowed skip, a known failure.
    Unasked,
    /// It failed before and passes now.
    #[serde(rename = "mended")]
    Fixed,
    /// It fails for a different reason than before.
    Differs,
    /// It is new and passes.
    Added,
}

impl Change {
    /// All changes, the most important first.
    pub const ALL: [Change; 8] = [
        Change::Fails,
        Change::Worse,
        Change::Flaky,
        Change::Vanished,
        Change::Unasked,
        Change::Fixed,
        Change::Differs,
        Change::Added,
    ];

    /// Whether something got worse.
    pub fn is_worse(self) -> bool {
        match self {
            Change::Fails | Change::Worse | Change::Flaky | Change::Vanished | Change::Unasked => true,
            Change::Fixed | Change::Differs | Change::Added => false,
        }
    }

    /// Text shown in reports.
    pub fn label(self) -> &'static str {
        match self {
            Change::Fails => "new failure",
            Change::Worse => "fails worse",
            Change::Flaky => "flaky now",
            Change::Vanished => "vanished",
            Change::Unasked => "counts no more",
            Change::Fixed => "fixed",
            Change::Differs => "different reason",
            Change::Added => "added",
        }
    }
}

/// A test whose result changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TestChange {
    /// How it changed.
    pub change: Change,
    /// ID of the kernel in the new run.
    pub kernel: String,
    /// Name of the variant.
    pub variant: String,
    /// How it was booted.
    pub boot: String,
    /// Name of the suite.
    pub suite: String,
    /// `test/subtest`.
    pub test: String,
    /// Its outcome before; empty if it did not exist.
    pub was: String,
    /// Its outcome now; empty if it is missing.
    pub is: String,
    /// Reason for the new outcome; empty if it vanished.
    pub reason: String,
}

impl TestChange {
    /// Its column in the new run.
    pub fn column(&self) -> ColumnId<'_> {
        let TestChange { kernel, variant, boot, suite, .. } = self;
        ColumnId { kernel, variant, boot, suite }
    }
}

/// A phase that takes longer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseChange {
    /// Name of the phase.
    pub name: String,
    /// The kernel it works on.
    pub kernel: String,
    /// Its duration before.
    pub was_ms: u64,
    /// Its duration now.
    pub is_ms: u64,
}

/// A setting that differs between the two runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Setting {
    /// `tool`, `kernel`, `guest`, `option`.
    pub kind: &'static str,
    /// The column; empty for the whole run.
    pub of: String,
    /// Name of the setting.
    pub name: String,
    /// Value before; empty if it was not set.
    pub was: String,
    /// Value now; empty if it is not set.
    pub is: String,
}

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diff {
    /// Version of this structure.
    pub schema: u32,
    /// Name of the earlier run.
    pub old: String,
    /// Name of the later run.
    pub new: String,
    /// Exit codes of the two.
    pub exit_codes: [u8; 2],
    /// Whether anything got worse.
    pub worse: bool,
    /// The only kernel of each run, if they were compared despite different names.
    pub paired: Option<[String; 2]>,
    /// Number of tests in both runs.
    pub compared: usize,
    /// Tests whose results changed, the most important first.
    pub tests: Vec<TestChange>,
    /// New kernel warnings; titles that differ only in digits are the same.
    pub new_splats: Vec<String>,
    /// Kernel warnings that no longer appear.
    pub gone_splats: Vec<String>,
    /// Phases that take longer.
    pub slower: Vec<PhaseChange>,
    /// Settings that differ.
    pub settings: Vec<Setting>,
}

type Key<'a> = (String, &'a str, &'a str, &'a str, String);

/// Compares two runs.
pub fn compare(old: Side<'_>, new: Side<'_>, slower: Slower) -> Diff {
    let paired = pair(old.run, new.run);
    let rename = |kernel: &str| match &paired {
        Some([from, to]) if from == kernel => to.clone(),
        _ => kernel.to_owned(),
    };
    let (old_columns, new_columns) = (findings::columns(old.run), findings::columns(new.run));
    let before = by_key(&old_columns, &rename);
    let after = by_key(&new_columns, &str::to_owned);
    let keys: BTreeSet<&Key<'_>> = before.keys().chain(after.keys()).collect();
    let mut tests: Vec<TestChange> = keys
        .into_iter()
        .filter_map(|key| test(key, before.get(key).copied(), after.get(key).copied()))
        .collect();
    tests.sort_by_key(|test| test.change);
    let compared = before.iter().filter(|(key, was)| was.is_test() && after.contains_key(*key)).count();
    let (old_splats, new_splats) = (splats(old.run, &rename), splats(new.run, &str::to_owned));
    let only = |these: &BTreeMap<String, String>, those: &BTreeMap<String, String>| -> Vec<String> {
        these.iter().filter(|(key, _)| !those.contains_key(*key)).map(|(_, title)| title.clone()).collect()
    };
    let mut diff = Diff {
        schema: SCHEMA,
        old: old.run.run.clone(),
        new: new.run.run.clone(),
        exit_codes: [old.run.exit_code.code(), new.run.exit_code.code()],
        worse: true,
        compared,
        tests,
        new_splats: only(&new_splats, &old_splats),
        gone_splats: only(&old_splats, &new_splats),
        slower: phases(old.run, new.run, &rename, slower),
        settings: settings::differing(old, new, &rename),
        paired,
    };
    // Two runs without a common test cannot be compared.
    diff.worse = diff.tests.iter().any(|test| test.change.is_worse())
        || !diff.new_splats.is_empty()
        || (slower.counts && !diff.slower.is_empty())
        || diff.compared == 0;
    diff
}

/// The kernels of two runs with one each, if the names differ: two versions of a series, or of a kernel.
fn pair(old: &RunResult, new: &RunResult) -> Option<[String; 2]> {
    let ids = |run: &RunResult| run.cells.iter().map(|cell| cell.kernel.clone()).collect::<BTreeSet<_>>();
    let (old, new) = (ids(old), ids(new));
    if old.len() != 1 || new.len() != 1 || old == new {
        return None;
    }
    Some([old.into_iter().next()?, new.into_iter().next()?])
}

fn by_key<'a>(
    columns: &'a [ColumnFindings<'a>],
    rename: &dyn Fn(&str) -> String,
) -> BTreeMap<Key<'a>, &'a Finding<'a>> {
    let mut found: BTreeMap<Key<'_>, &Finding<'_>> = BTreeMap::new();
    for column in columns {
        for finding in &column.findings {
            let ColumnId { kernel, variant, boot, suite } = column.id;
            let key = (rename(kernel), variant, boot, suite, finding.path());
            // If two have the same name, use the worse one.
            let place = found.entry(key).or_insert(finding);
            if rank(finding) < rank(place) {
                *place = finding;
            }
        }
    }
    found
}

/// Lower is worse.
fn rank(finding: &Finding<'_>) -> usize {
    let place = PRECEDENCE.into_iter().position(|class| class == finding.class).unwrap_or_default();
    if finding.verdict.is_bad() { place } else { PRECEDENCE.len() }
}

fn test(key: &Key<'_>, was: Option<&Finding<'_>>, is: Option<&Finding<'_>>) -> Option<TestChange> {
    let (kernel, variant, boot, suite, test) = key;
    Some(TestChange {
        change: change(was, is)?,
        kernel: kernel.clone(),
        variant: (*variant).to_owned(),
        boot: (*boot).to_owned(),
        suite: (*suite).to_owned(),
        test: test.clone(),
        was: was.map_or_else(String::new, |was| was.word.to_owned()),
        is: is.map_or_else(String::new, |is| is.word.to_owned()),
        reason: is.map(Finding::why).unwrap_or_default(),
    })
}

/// How a test changed; `None` if it did not.
fn change(was: Option<&Finding<'_>>, is: Option<&Finding<'_>>) -> Option<Change> {
    let (was, is) = match (was, is) {
        (None, None) => return None,
        (None, Some(is)) => return Some(if is.verdict.is_bad() { Change::Fails } else { Change::Added }),
        (Some(was), None) => return vanished(was),
        (Some(was), Some(is)) => (was, is),
    };
    let flaky = |one: &Finding<'_>| one.word == "flaky";
    match (was.verdict, is.verdict) {
        (TestStatus::Passed, _) if flaky(is) && !flaky(was) => Some(Change::Flaky),
        (TestStatus::Passed | TestStatus::Aside, TestStatus::Failed | TestStatus::Error) => {
            Some(Change::Fails)
        }
        (TestStatus::Failed | TestStatus::Error, TestStatus::Failed | TestStatus::Error) => {
            match rank(is).cmp(&rank(was)) {
                std::cmp::Ordering::Less => Some(Change::Worse),
                std::cmp::Ordering::Equal if (was.word, was.why()) == (is.word, is.why()) => None,
                std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => Some(Change::Differs),
            }
        }
        (TestStatus::Passed, TestStatus::Aside) => Some(Change::Unasked),
        (TestStatus::Failed | TestStatus::Error | TestStatus::Aside, TestStatus::Passed) => {
            Some(Change::Fixed)
        }
        (TestStatus::Failed | TestStatus::Error, TestStatus::Aside) => Some(Change::Differs),
        (TestStatus::Passed, TestStatus::Passed) | (TestStatus::Aside, TestStatus::Aside)
            if was.word != is.word =>
        {
            Some(Change::Differs)
        }
        (TestStatus::Passed, TestStatus::Passed) | (TestStatus::Aside, TestStatus::Aside) => None,
    }
}

/// Findings about the run itself exist only when something is wrong.
fn vanished(was: &Finding<'_>) -> Option<Change> {
    match was.verdict {
        _ if !was.is_test() => Some(Change::Fixed),
        TestStatus::Passed | TestStatus::Failed | TestStatus::Error => Some(Change::Vanished),
        TestStatus::Aside => Some(Change::Differs),
    }
}

/// Warnings that count, by kernel, variant and title without digits.
fn splats(run: &RunResult, rename: &dyn Fn(&str) -> String) -> BTreeMap<String, String> {
    let counted = run.splats.iter().filter(|splat| splat.allowed.is_none());
    let one = |splat: &crate::run::SplatRecord| {
        let title = splat.title.replace(|c: char| c.is_ascii_digit(), "");
        let key = format!("{}\n{}\n{title}", rename(&splat.kernel), splat.variant);
        (key, format!("{} on {}", splat.title, rename(&splat.kernel)))
    };
    counted.map(one).collect()
}

/// Sums the work that was really done: a phase whose result was cached took no time worth comparing.
fn phases(
    old: &RunResult,
    new: &RunResult,
    rename: &dyn Fn(&str) -> String,
    slower: Slower,
) -> Vec<PhaseChange> {
    let sums = |run: &RunResult, rename: &dyn Fn(&str) -> String| {
        let mut sums: BTreeMap<(String, String), u64> = BTreeMap::new();
        for phase in run.phases.iter().filter(|phase| !phase.cached) {
            // The name of a boot phase is its kernel and, in parentheses, how it was booted.
            let (kernel, rest) = phase.kernel.split_once(" (").unwrap_or((&phase.kernel, ""));
            let rest = if rest.is_empty() { String::new() } else { format!(" ({rest}") };
            let key = (phase.name.clone(), rename(kernel) + &rest);
            *sums.entry(key).or_default() += phase.duration_ms;
        }
        sums
    };
    let (before, after) = (sums(old, rename), sums(new, &str::to_owned));
    let longer = |((name, kernel), is_ms): (&(String, String), &u64)| {
        let was_ms = *before.get(&(name.clone(), kernel.clone()))?;
        let more = is_ms.saturating_sub(was_ms);
        let is_slower =
            more >= slower.at_least_ms && more.saturating_mul(100) >= was_ms.saturating_mul(slower.percent);
        (is_slower && more > 0).then(|| PhaseChange {
            name: name.clone(),
            kernel: kernel.clone(),
            was_ms,
            is_ms: *is_ms,
        })
    };
    after.iter().filter_map(longer).collect()
}

impl Diff {
    /// The exit class of a process that only compares.
    pub fn class(&self) -> Class {
        if self.worse { Class::TestFailed } else { Class::Pass }
    }
}
