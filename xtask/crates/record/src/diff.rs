// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two runs side by side: what failed newly, what was fixed, what vanished, what takes longer, and what the two were
//! made with. Within one run columns are compared by [`crate::reference_columns`]; this is about the same columns on two days. Pure.
//!
//! Success is the last branch here as well: whatever was right before and is not right now is worse, and so is what was
//! right and is not there, or is not asked any more.
//!
//! How it could be wrong: a test that was never right can get no worse than the class of its failure says, and two
//! failures of one class with different reasons are told and do not count. A test that was renamed is a vanished one and
//! a new one.

mod settings;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::findings::{self, ColumnFindings, Finding, TestStatus};
use crate::ids::ColumnId;
use crate::run::RunResult;
use vmtest_base::error::{Class, PRECEDENCE};

/// Version of this structure.
const SCHEMA: u32 = 1;

/// A configuration: option to value.
pub type Options = BTreeMap<String, String>;

/// One of the two runs.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Its record.
    pub run: &'a RunResult,
    /// Configuration of its kernels, by their ids and variants, as far as it is known.
    pub options: &'a BTreeMap<(String, String), Options>,
}

/// From when on a phase is slower.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slower {
    /// By so many hundredths.
    pub percent: u64,
    /// And by at least so many milliseconds.
    pub at_least_ms: u64,
    /// Whether it counts.
    pub counts: bool,
}

impl Slower {
    /// Where nobody says otherwise: told, and no regression, because another machine is slower, too.
    pub const USUAL: Slower = Slower { percent: 50, at_least_ms: 5000, counts: false };
}

/// What became of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is bad and was not, or was not there.
    Fails,
    /// It was bad and is so in a way that counts for more.
    Worse,
    /// It was right, and is right only on a repeat.
    Flaky,
    /// It was there, and is not.
    Vanished,
    /// It was right, and does not count any more: an allowed skip, a known failure.
    Unasked,
    /// It was bad, and is right.
    #[serde(rename = "mended")]
    Fixed,
    /// It is bad for a different reason than before.
    Differs,
    /// It is right, and was not there.
    Added,
}

impl Change {
    /// Every one, what matters most first.
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

    /// For people.
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

/// A test that is not what it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TestChange {
    /// What became of it.
    pub change: Change,
    /// Which kernel, as the new run calls it.
    pub kernel: String,
    /// Which variant.
    pub variant: String,
    /// How it was booted.
    pub boot: String,
    /// Which suite.
    pub suite: String,
    /// test/subtest.
    pub test: String,
    /// Its outcome before; empty where it was not there.
    pub was: String,
    /// Its outcome now; empty where it is not there.
    pub is: String,
    /// Why it is what it is; of one that vanished, empty.
    pub reason: String,
}

impl TestChange {
    /// Its column, as the new run calls it.
    pub fn column(&self) -> ColumnId<'_> {
        let TestChange { kernel, variant, boot, suite, .. } = self;
        ColumnId { kernel, variant, boot, suite }
    }
}

/// A phase that takes longer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseChange {
    /// What is done.
    pub name: String,
    /// On what.
    pub kernel: String,
    /// How long it took.
    pub was_ms: u64,
    /// How long it takes.
    pub is_ms: u64,
}

/// Something that the two runs were made with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Setting {
    /// `tool`, `kernel`, `guest`, `option`.
    pub kind: &'static str,
    /// Of which column; empty for the whole run.
    pub of: String,
    /// Which.
    pub name: String,
    /// Before; empty where it was not there.
    pub was: String,
    /// Now; empty where it is not there.
    pub is: String,
}

/// What there is to say of two runs.
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
    /// Columns with other names that were compared all the same: the one kernel of each run.
    pub paired: Option<[String; 2]>,
    /// Tests that are in both.
    pub compared: usize,
    /// Tests that are not what they were, what matters most first.
    pub tests: Vec<TestChange>,
    /// Complaints of kernels that are new; digits do not tell two apart.
    pub new_splats: Vec<String>,
    /// Complaints that are gone.
    pub gone_splats: Vec<String>,
    /// Phases that take longer.
    pub slower: Vec<PhaseChange>,
    /// What the two runs were made with, as far as it differs.
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
    // Two runs without a test in common have nothing to say of each other.
    diff.worse = diff.tests.iter().any(|test| test.change.is_worse())
        || !diff.new_splats.is_empty()
        || (slower.counts && !diff.slower.is_empty())
        || diff.compared == 0;
    diff
}

/// The kernels of two runs that have one each, by different names: two versions of a series, or of a kernel.
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
            // Of two with one name, the one that is worse.
            let place = found.entry(key).or_insert(finding);
            if rank(finding) < rank(place) {
                *place = finding;
            }
        }
    }
    found
}

/// Small is bad.
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

/// What became of a test; `None` where it is what it was.
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

/// What is told of the run itself is there only when it is bad.
fn vanished(was: &Finding<'_>) -> Option<Change> {
    match was.verdict {
        _ if !was.is_test() => Some(Change::Fixed),
        TestStatus::Passed | TestStatus::Failed | TestStatus::Error => Some(Change::Vanished),
        TestStatus::Aside => Some(Change::Differs),
    }
}

/// Complaints that count, by kernel, variant and title without its digits.
fn splats(run: &RunResult, rename: &dyn Fn(&str) -> String) -> BTreeMap<String, String> {
    let counted = run.splats.iter().filter(|splat| splat.allowed.is_none());
    let one = |splat: &crate::run::SplatRecord| {
        let title = splat.title.replace(|c: char| c.is_ascii_digit(), "");
        let key = format!("{}\n{}\n{title}", rename(&splat.kernel), splat.variant);
        (key, format!("{} on {}", splat.title, rename(&splat.kernel)))
    };
    counted.map(one).collect()
}

/// Sums of what was really done: a phase whose result was there already took no time worth comparing.
fn phases(
    old: &RunResult,
    new: &RunResult,
    rename: &dyn Fn(&str) -> String,
    slower: Slower,
) -> Vec<PhaseChange> {
    let sums = |run: &RunResult, rename: &dyn Fn(&str) -> String| {
        let mut sums: BTreeMap<(String, String), u64> = BTreeMap::new();
        for phase in run.phases.iter().filter(|phase| !phase.cached) {
            // A boot is called by its kernel and, in brackets, by how it was started.
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
    /// What a process ends with that asks only this.
    pub fn class(&self) -> Class {
        if self.worse { Class::TestFailed } else { Class::Pass }
    }
}
