// SPDX-License-Identifier: MIT OR Apache-2.0
//! The result of a run: the model that every report is made from. Pure.

use crate::coverage::Coverage;
use crate::matrix::ExpectedRecord;
use crate::matrix::MatrixRecord;
use crate::outcome::Outcome;
use crate::series::{Check, Letter, PatchInfo, SeriesRecord, Verdict};
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use vmtest_base::error::{Class, PRECEDENCE};

/// Version of `run.json`. Readers reject unknown versions.
pub const SCHEMA: u32 = 1;

/// One cell of the matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// ID of the kernel, which names the column.
    pub kernel: String,
    /// Name of the variant; empty for a kernel that was not built here.
    pub variant: String,
    /// `vng` or `direct`.
    pub boot: String,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// `own` or `upstream`.
    pub suite: String,
    /// Group of tests.
    pub test: String,
    /// Subtest; empty for an `upstream` test as a whole, if its subtests do not cover everything.
    pub subtest: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it did not pass; empty for a pass.
    pub reason: String,
    /// Whether anything but a pass counts against the run. If not, the class still shows what happened.
    pub required: bool,
    /// How often it ran.
    pub attempts: u32,
    /// Wall time of the subtest in the guest; of the repetition that is shown.
    pub duration_ms: u64,
    /// Exit class of this cell.
    pub class: Class,
    /// Its outcome in the nearest earlier column that it is compared with, if that was different.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<Outcome>,
    /// Measurements and the accelerator they were taken on; empty without any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub measured: String,
    /// Expectations that were not met; empty if all were, or if none was checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmet: Vec<Expectation>,
    /// Of a cell that did not pass, expectations that were met: those nearest to the first failure, or those
    /// reported before the guest died.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Expectation>,
    /// The test's own log, if it did not pass; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log: String,
    /// Whether its guest met the conditions of its variant; absent if the variant has none, or without a
    /// guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforced: Option<bool>,
    /// The original result of a cell that matches a declared failure; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<ExpectedRecord>,
    /// Every attempt of `--retries`, including this one; empty if there was only one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tries: Vec<Attempt>,
}

/// An expectation that was checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// What was checked.
    pub what: String,
    /// The expected value.
    pub expected: String,
    /// The actual value.
    pub seen: String,
}

/// Outcome of a subtest in one of several guests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Number of the attempt, from 1.
    pub number: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Exit class of this attempt.
    pub class: Class,
    /// Why it did not pass.
    pub reason: String,
    /// Exit class of the guest as a whole.
    pub boot: Class,
}

impl Cell {
    /// `test/subtest`, or `test`.
    pub fn path(&self) -> String {
        self.name().path()
    }

    /// Whether its class counts for the run.
    pub fn counts(&self) -> bool {
        self.required || self.class == Class::Pass
    }
}

/// Why a column exists that is not judged as a whole; see [`crate::reference_columns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The unpatched kernel, next to the patched one.
    Base,
    /// The first patches of a series, or none yet.
    Step,
}

/// A kernel of the run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Kernel {
    /// Name of its column in the matrix.
    pub id: String,
    /// The specification that the user gave.
    pub spec: String,
    /// `uname -r`, from the runner; empty if it never reported.
    pub release: String,
    /// Build ID of its file, which its guests must report; empty if the file has none (a compressed image).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub build_id: String,
    /// State of a tree in a repository: branch, commit and changed files; absent for other kernels.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// Hash of everything that went into it.
    pub key: String,
    /// Subjects of the patches on top.
    pub series: Vec<String>,
    /// What these patches say of themselves; only until [`RunResult::series`] is filled in from it.
    #[serde(skip)]
    pub patches: Vec<PatchInfo>,
    /// The mail that a reply to the series answers; only until [`RunResult::series`] is filled in from it.
    #[serde(skip)]
    pub letter: Option<Letter>,
    /// Results of the checks of its last patch; only until [`RunResult::series`] is filled in from it.
    #[serde(skip)]
    pub checks: BTreeMap<String, Check>,
    /// Which added lines ran; absent unless the kernel counts lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// ID of an earlier kernel that is the same byte for byte, so that this one was not booted; absent
    /// otherwise. Its cells are those of that kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<String>,
    /// `gcc` or `clang`; empty for a kernel that was not built here.
    pub toolchain: String,
    /// Its role, if it is only there for comparison; `None` for all that are judged as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Surprising properties of the series, such as a diff inside a commit message. Usually empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// ID of the kernel that its cells are compared with, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_to: Option<String>,
    /// Files of the tree's own BPF tests that its series changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests_changed: Vec<String>,
}

/// A kernel warning.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SplatRecord {
    /// ID of the kernel.
    pub kernel: String,
    /// Name of the variant.
    pub variant: String,
    /// First line of the report.
    pub title: String,
    /// The subtest that was running, if the runner noticed; empty otherwise.
    pub during: String,
    /// `death` or `splat`.
    pub severity: String,
    /// The attempt of `--retries`; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Why it does not fail the run, if `--allow-splats` allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
    /// The console lines around it, including the line itself; empty if it is not on the console.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// Its stack with files and lines, decoded by the tree's own script; empty without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<String>,
    /// Why there is no decoded stack.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub no_stack: String,
}

/// A condition of a variant, and its value in a guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConditionRecord {
    /// Description for humans.
    pub what: String,
    /// The feature of the guest that is read.
    pub read: String,
    /// The wanted value: a regular expression.
    pub wanted: String,
    /// The actual value.
    pub value: String,
    /// Whether the value is as wanted.
    pub enforced: bool,
    /// Whether a guest that does not meet it cannot pass.
    pub must: bool,
}

/// An entry of the file of `--allow-splats` and its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AllowRecord {
    /// Pattern of the title.
    pub title: String,
    /// Why it is allowed.
    pub reason: String,
    /// Its last valid day.
    pub expires: String,
    /// `used`, `unused` or `expired`.
    pub state: String,
    /// Number of splats that it matches.
    pub splats: u64,
}

/// A step, for the timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseRecord {
    /// Name of the step.
    pub name: String,
    /// What it worked on, usually a kernel.
    pub kernel: String,
    /// When it started, relative to the start of the run.
    #[serde(default)]
    pub started_ms: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// The result came from the cache.
    pub cached: bool,
}

/// One boot and the conditions it ran under.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BootRecord {
    /// ID of the kernel.
    pub kernel: String,
    /// Name of the variant.
    pub variant: String,
    /// Name of the suite that ran in it.
    #[serde(default)]
    pub suite: String,
    /// `vng` or `direct`.
    pub boot: String,
    /// Why it was booted this way.
    pub boot_reason: String,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// Why this accelerator.
    pub accel_reason: String,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Why this many.
    pub cpus_reason: String,
    /// `multi` or `single`: threads of the emulator; absent under KVM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcg_thread: Option<String>,
    /// Why that mode; absent under KVM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcg_thread_reason: Option<String>,
    /// Limits in force, in seconds.
    pub limits_s: BTreeMap<String, u64>,
    /// Build ID of the kernel that ran, as read by the runner; empty if it never reported, or the kernel has
    /// none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub build_id: String,
    /// What the runner found in the guest.
    pub features: BTreeMap<String, String>,
    /// What the tests expected of this kernel.
    pub profile: BTreeMap<String, String>,
    /// The conditions of its variant and their values here; absent without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionRecord>,
    /// Class of the boot as a whole: `pass` if it completed.
    pub class: Class,
    /// Why it did not complete; empty if it did.
    pub reason: String,
    /// Milliseconds from start to `hello`; absent if that never arrived.
    pub booted_after_ms: Option<u64>,
    /// Start to end, in milliseconds.
    pub duration_ms: u64,
    /// Directory of its console and events, relative to the run's.
    pub directory: String,
    /// Last lines of the console, for a boot that did not complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub console_tail: Vec<String>,
    /// Milliseconds from the line that reported the kernel's death, or else the guest's last byte, to the
    /// verdict.
    #[serde(default)]
    pub to_verdict_ms: u64,
    /// Queries before the guest was killed, with the answers; absent if it ended by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before_kill: Vec<String>,
    /// The attempt of `--retries`; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The tests that it lost ran again, so its class is recorded but does not count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retried: bool,
    /// Why its class does not count, if a matrix declares how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

/// `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name of the run.
    pub run: String,
    /// The command line.
    pub command: Vec<String>,
    /// The class that follows from its cells; the process exits with its code, unless `--baseline` decides.
    pub exit_code: Class,
    /// A review: the verdict on its series decides the exit code.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub review: bool,
    /// Number of cells of each class.
    pub classes: BTreeMap<Class, u64>,
    /// Version of each tool.
    pub tools: BTreeMap<String, String>,
    /// The columns.
    pub kernels: Vec<Kernel>,
    /// The boots.
    pub boots: Vec<BootRecord>,
    /// The cells.
    pub cells: Vec<Cell>,
    /// Kernel warnings.
    pub splats: Vec<SplatRecord>,
    /// Entries of `--allow-splats`; absent without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_splats: Vec<AllowRecord>,
    /// What each patch did, for every kernel and variant that the patches are on; absent without patches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<SeriesRecord>,
    /// Name of a test of our own suite that did not pass, to one sentence: what it proves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub proves: BTreeMap<String, String>,
    /// The timeline.
    pub phases: Vec<PhaseRecord>,
    /// Its part of a matrix; absent for other runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix: Option<MatrixRecord>,
}

impl RunResult {
    /// A run without any results, which is therefore not a pass.
    pub fn empty(run: &str, command: Vec<String>) -> RunResult {
        RunResult {
            schema: SCHEMA,
            run: run.to_owned(),
            command,
            exit_code: Class::Host,
            review: false,
            classes: Default::default(),
            tools: Default::default(),
            kernels: Vec::new(),
            boots: Vec::new(),
            cells: Vec::new(),
            splats: Vec::new(),
            allowed_splats: Vec::new(),
            series: Vec::new(),
            proves: Default::default(),
            phases: Vec::new(),
            matrix: None,
        }
    }

    /// Boots whose class is not the class of any of their cells: it counts even if every cell passed, as in a
    /// panic after the last test.
    pub fn untold_boots(&self) -> impl Iterator<Item = &BootRecord> {
        let told = |boot: &BootRecord| {
            self.cells.iter().any(|cell| {
                cell.counts()
                    && cell.class == boot.class
                    && cell.variant_id() == boot.variant_id()
                    && (cell.suite == boot.suite || boot.suite.is_empty())
            })
        };
        let counts = move |boot: &&BootRecord| {
            boot.class != Class::Pass && !boot.retried && boot.expected.is_none() && !told(boot)
        };
        self.boots.iter().filter(counts)
    }

    /// Counts classes and decides the exit code. `interrupted` overrides everything.
    pub fn conclude(&mut self, interrupted: Option<Class>) {
        self.classes.clear();
        for cell in self.cells.iter().filter(|cell| cell.counts()) {
            *self.classes.entry(cell.class).or_default() += 1;
        }
        let untold: Vec<Class> = self.untold_boots().map(|boot| boot.class).collect();
        for class in untold {
            *self.classes.entry(class).or_default() += 1;
        }
        for (class, _) in self.series.iter().flat_map(SeriesRecord::checks_that_count) {
            *self.classes.entry(class).or_default() += 1;
        }
        if self.unknown_lines().is_some() {
            *self.classes.entry(Class::Incomplete).or_default() += 1;
        }
        if let Some(class) = interrupted {
            self.classes.entry(class).or_insert(1);
        }
        // A run without any cell is a usage error.
        let worst = PRECEDENCE.into_iter().find(|class| self.classes.contains_key(class));
        let worst = match worst.unwrap_or(Class::Usage) {
            Class::Pass if !self.has_plain_pass() => Class::Incomplete,
            class => class,
        };
        self.exit_code = if self.review { self.answered(worst) } else { worst };
    }

    /// Why it is not known which added lines ran, on a kernel that counts lines.
    pub fn unknown_lines(&self) -> Option<&str> {
        let judged = self.kernels.iter().filter(|kernel| kernel.role.is_none());
        judged.filter_map(|kernel| kernel.coverage.as_ref()?.unknown()).next()
    }

    /// The exit class of a review whose cells say `class`: a series is good although tests fail that fail
    /// without it as well, and it is not good because all tests pass.
    fn answered(&self, class: Class) -> Class {
        let verdicts = || self.series.iter().map(|one| one.verdict);
        let good = verdicts().next().is_some() && verdicts().all(|verdict| verdict == Verdict::Good);
        match class {
            Class::Interrupted | Class::Terminated => class,
            _ if good => Class::Pass,
            // Everything that passed may still be too little for an answer.
            Class::Pass => Class::Incomplete,
            _ => class,
        }
    }

    /// Whether every cell and check that counts is a pass.
    pub fn is_all_pass(&self) -> bool {
        self.classes.keys().all(|class| *class == Class::Pass)
    }

    /// Whether the exit code comes from no cell: everything is allowed, and nothing passed.
    pub fn has_no_evidence(&self) -> bool {
        self.exit_code == Class::Incomplete && !self.classes.contains_key(&self.exit_code)
    }

    /// Whether anything passed without an allowance, in a column that is judged. Otherwise nothing fails the
    /// run, but nothing shows that anything was tested either.
    ///
    /// How it could be wrong: one pass is enough, on any of the kernels. The user is responsible for
    /// allowances that are too wide for the others, and the last line counts them.
    pub fn has_plain_pass(&self) -> bool {
        let judged = |id: &str| !self.kernels.iter().any(|kernel| kernel.id == id && kernel.role.is_some());
        self.cells.iter().any(|cell| {
            cell.outcome == Outcome::Pass
                && cell.class == Class::Pass
                && cell.required
                && judged(&cell.kernel)
        })
    }
}

#[cfg(test)]
mod tests;
