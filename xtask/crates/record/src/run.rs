// SPDX-License-Identifier: MIT OR Apache-2.0
//! The outcome of a run: the model that every report is made from. Pure.

use crate::matrix::ExpectedRecord;
use crate::matrix::MatrixRecord;
use crate::outcome::Outcome;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use vmtest_base::error::{Class, PRECEDENCE};

/// Version of `run.json`. Readers refuse what they do not know.
pub const SCHEMA: u32 = 1;

/// One leaf of the matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Column: id of the kernel.
    pub kernel: String,
    /// Name of the variant; empty for a kernel that was not built here.
    pub variant: String,
    /// `vng` or `direct`.
    pub boot: String,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// `own` or `upstream`.
    pub suite: String,
    /// Group.
    pub test: String,
    /// Subtest; empty for a test of `upstream` as a whole, where its subtests do not say it all.
    pub subtest: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it is not a pass; empty for one.
    pub reason: String,
    /// Whether anything but a pass counts against the run. Where it does not, the class still says what it is.
    pub required: bool,
    /// How often it ran.
    pub attempts: u32,
    /// Wall time of the subtest in the guest; of the repetition that is told of.
    pub duration_ms: u64,
    /// Exit class of this cell.
    pub class: Class,
    /// Its outcome in the nearest earlier column that it is compared with, where that was another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<Outcome>,
    /// Figures that it took and what they were taken on; empty where it took none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub measured: String,
    /// Expectations that did not hold; empty where all did, or where it never came to one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmet: Vec<Unmet>,
    /// The test's own log, for what is not a pass; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log: String,
    /// Whether what its variant is about was really so in its guest; absent where a variant is about nothing of the
    /// kind, and where there was no guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforced: Option<bool>,
    /// What was seen of a failure that a matrix declares; absent elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<ExpectedRecord>,
    /// Every attempt of `--retries`, this one among them; empty where there was one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tries: Vec<Attempt>,
}

/// An expectation that did not hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unmet {
    /// What was looked at.
    pub what: String,
    /// What had to be.
    pub expected: String,
    /// What was.
    pub seen: String,
}

/// Outcome of a subtest in one of several guests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// What came of it.
    pub outcome: Outcome,
    /// Exit class of that.
    pub class: Class,
    /// Why it was not a pass.
    pub reason: String,
    /// Exit class of that guest as a whole.
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

/// What a column is for that is not judged as a whole; see [`crate::reference_columns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The unpatched kernel, beside the patched one.
    Base,
    /// The first patches of a series, or none of them yet.
    Step,
}

/// A kernel of the run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Kernel {
    /// Column of the matrix.
    pub id: String,
    /// As it was asked for.
    pub spec: String,
    /// `uname -r`, from the runner; empty when it never spoke.
    pub release: String,
    /// Build id of its file, which its guests have to show; empty where the file does not tell (a compressed image).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub build_id: String,
    /// Hash of everything that went into it.
    pub key: String,
    /// Subjects of the patches on top.
    pub series: Vec<String>,
    /// `gcc` or `clang`; empty for a kernel that was not built here.
    pub toolchain: String,
    /// Why it is there, for one that is there to compare with; `None` for all that are judged as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// What a reader of the series would not think: a diff that stands in the message of a mail, say. Empty for most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Id of the kernel that its cells are compared with; `None` where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_to: Option<String>,
    /// Files of the tree's own BPF tests that its series changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests_changed: Vec<String>,
}

/// A complaint of a kernel.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SplatRecord {
    /// Which kernel.
    pub kernel: String,
    /// Which variant.
    pub variant: String,
    /// First line.
    pub title: String,
    /// The subtest that was running, where the runner noticed it; empty otherwise.
    pub during: String,
    /// `death` or `splat`.
    pub severity: String,
    /// In which attempt of `--retries`, where it was not the first; absent there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Why it does not fail the run, where `--allow-splats` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
    /// What stands around it on the console, the line itself among it; empty where it is not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// Its stack with files and lines, by the tree's own script; empty where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<String>,
    /// Why there is no such stack.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub no_stack: String,
}

/// What a variant is about, and how it was in a guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConditionRecord {
    /// For people.
    pub what: String,
    /// Which feature of the guest tells.
    pub read: String,
    /// What that had to be: a regular expression.
    pub wanted: String,
    /// What it was.
    pub value: String,
    /// Whether that is as wanted.
    pub enforced: bool,
    /// Whether a guest without it is no pass.
    pub must: bool,
}

/// An entry of the file of `--allow-splats`, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AllowRecord {
    /// Pattern of the title.
    pub title: String,
    /// Why it is allowed.
    pub reason: String,
    /// Its last day.
    pub expires: String,
    /// `used`, `unused` or `expired`.
    pub state: String,
    /// Splats that it fits.
    pub splats: u64,
}

/// A step, for the timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseRecord {
    /// What was done.
    pub name: String,
    /// On what, mostly a kernel.
    pub kernel: String,
    /// When it began, counted from the start of the run.
    #[serde(default)]
    pub started_ms: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// Nothing had to be done.
    pub cached: bool,
}

/// One boot and the conditions it ran under.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BootRecord {
    /// Which kernel.
    pub kernel: String,
    /// Which variant.
    pub variant: String,
    /// Which suite ran in it.
    #[serde(default)]
    pub suite: String,
    /// `vng` or `direct`, and why.
    pub boot: String,
    /// Why this way of booting.
    pub boot_reason: String,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// Why this accelerator.
    pub accel_reason: String,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Why so many.
    pub cpus_reason: String,
    /// `multi` or `single`: threads of the emulator; absent under KVM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcg_thread: Option<String>,
    /// Why that; absent under KVM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcg_thread_reason: Option<String>,
    /// Limits in force, in seconds.
    pub limits_s: BTreeMap<String, u64>,
    /// Build id of the kernel that ran, as the runner read it; empty where it never spoke, or the kernel shows none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub build_id: String,
    /// What the runner found in the guest.
    pub features: BTreeMap<String, String>,
    /// What the tests expected of this kernel.
    pub profile: BTreeMap<String, String>,
    /// What its variant is about, and how it was here; absent where that is nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionRecord>,
    /// Class of the boot as a whole: `pass` where it went through.
    pub class: Class,
    /// Why it did not; empty where it did.
    pub reason: String,
    /// Start to hello, in milliseconds; absent when it never came.
    pub booted_after_ms: Option<u64>,
    /// Start to end, in milliseconds.
    pub duration_ms: u64,
    /// Directory of its console and events, below the run's.
    pub directory: String,
    /// Last lines of the console, for a boot that did not go through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub console_tail: Vec<String>,
    /// The line that told of the kernel's death, or else the last byte of the guest, to the verdict, in milliseconds.
    #[serde(default)]
    pub to_verdict_ms: u64,
    /// What a guest was asked before it was killed, and what it answered; absent for one that ended by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before_kill: Vec<String>,
    /// Which attempt of `--retries` it is, where it is not the first; absent there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// What it lost ran again: its class stands here, and is not counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retried: bool,
    /// Why its class is not counted, where a matrix declares how it ended.
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
    /// The class that its cells add up to; the process exits with its code, unless `--baseline` decides.
    pub exit_code: Class,
    /// Exit code to number of cells.
    pub classes: BTreeMap<Class, u64>,
    /// Name to version.
    pub tools: BTreeMap<String, String>,
    /// Columns.
    pub kernels: Vec<Kernel>,
    /// Boots.
    pub boots: Vec<BootRecord>,
    /// Leaves.
    pub cells: Vec<Cell>,
    /// Complaints of kernels.
    pub splats: Vec<SplatRecord>,
    /// Entries of `--allow-splats`; absent without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_splats: Vec<AllowRecord>,
    /// Timeline.
    pub phases: Vec<PhaseRecord>,
    /// What it is of a matrix; absent for a run of anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix: Option<MatrixRecord>,
}

impl RunResult {
    /// A run that has come to nothing yet, and so to no pass.
    pub fn empty(run: &str, command: Vec<String>) -> RunResult {
        RunResult {
            schema: SCHEMA,
            run: run.to_owned(),
            command,
            exit_code: Class::Host,
            classes: Default::default(),
            tools: Default::default(),
            kernels: Vec::new(),
            boots: Vec::new(),
            cells: Vec::new(),
            splats: Vec::new(),
            allowed_splats: Vec::new(),
            phases: Vec::new(),
            matrix: None,
        }
    }

    /// Boots whose class none of their cells has: it counts even when every cell is fine, as in a panic after the last test.
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

    /// Counts classes and decides the exit code. `interrupted` overrules everything.
    pub fn conclude(&mut self, interrupted: Option<Class>) {
        self.classes.clear();
        for cell in self.cells.iter().filter(|cell| cell.counts()) {
            *self.classes.entry(cell.class).or_default() += 1;
        }
        let untold: Vec<Class> = self.untold_boots().map(|boot| boot.class).collect();
        for class in untold {
            *self.classes.entry(class).or_default() += 1;
        }
        if let Some(class) = interrupted {
            self.classes.entry(class).or_insert(1);
        }
        // No cell at all is nothing to be proud of.
        let worst = PRECEDENCE.into_iter().find(|class| self.classes.contains_key(class));
        let worst = match worst.unwrap_or(Class::Usage) {
            Class::Pass if !self.has_plain_pass() => Class::Incomplete,
            class => class,
        };
        self.exit_code = worst;
    }

    /// Whether the exit code says what no cell does: all of it is allowed, and none of it is a pass.
    pub fn has_no_evidence(&self) -> bool {
        self.exit_code == Class::Incomplete && !self.classes.contains_key(&self.exit_code)
    }

    /// Whether anything passed that needed no allowance, in a column that is judged. Without it nothing fails a run, and
    /// nothing shows that anything was tested.
    ///
    /// How it could be wrong: one pass is enough, on any of the kernels. Allowances too wide for the others are the
    /// user's, and the last line counts them.
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
