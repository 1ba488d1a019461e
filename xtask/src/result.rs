// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run came to: the model that every report is made from, and the judgement of one boot. Pure.
//!
//! Success is the last branch. A boot is believed only when its runner said `done`, every count agrees, no line is
//! missing and the console shows no death; each cell only when its own `end` says pass and at least one expectation was
//! checked.

mod matrix;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};
use vmtest_protocol::{Check, End as TestEnd, GuestOutcome, TestName, WorkerEnd};

use crate::allow::Allowed;
use crate::error::{Class, PRECEDENCE};
use crate::vm::console::Hit;
use crate::vm::session::{End, Observed};

pub use matrix::{CellGlobs, ExpectRecord, ExpectedRecord, Globs, JobRecord, MatrixRecord, RequireRecord};

/// Version of `run.json`. Readers refuse what they do not know.
pub const SCHEMA: u32 = 1;

/// Outcome of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Every expectation held.
    Pass,
    /// An expectation did not hold.
    Fail,
    /// The kernel lacks the feature, and refused it exactly as it must.
    Skip,
    /// Planned, and never reported.
    Missing,
    /// The kernel, the guest or the runner died during it.
    Crash,
    /// It did not end in time.
    Timeout,
    /// Passed only on a repeat.
    Flaky,
    /// A declared, known failure.
    Xfail,
    /// A stage before it failed.
    Notrun,
}

impl Outcome {
    /// As in `run.json`.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Fail => "fail",
            Outcome::Skip => "skip",
            Outcome::Missing => "missing",
            Outcome::Crash => "crash",
            Outcome::Timeout => "timeout",
            Outcome::Flaky => "flaky",
            Outcome::Xfail => "xfail",
            Outcome::Notrun => "notrun",
        }
    }
}

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
    pub class: u8,
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

/// What a subtest came to in one guest of several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// What came of it.
    pub outcome: Outcome,
    /// Exit class of that.
    pub class: u8,
    /// Why it was not a pass.
    pub reason: String,
    /// Exit class of that guest as a whole.
    pub boot: u8,
}

impl Cell {
    /// `test/subtest`, or `test`.
    pub fn path(&self) -> String {
        TestName { test: self.test.clone(), subtest: self.subtest.clone() }.path()
    }

    /// Class of this cell.
    pub fn class(&self) -> Class {
        // A number that no class has can only come from another version's file.
        Class::from_code(self.class).unwrap_or(Class::Host)
    }

    /// Whether its class counts for the run.
    pub fn counts(&self) -> bool {
        self.required || self.class() == Class::Pass
    }
}

/// What a column is for that is not judged as a whole; see [`crate::compare`].
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
    /// Hash of everything that went into it.
    pub key: String,
    /// Subjects of the patches on top.
    pub series: Vec<String>,
    /// `gcc` or `clang`; empty for a kernel that was not built here.
    pub toolchain: String,
    /// Why it is there, for one that is there to compare with; `None` for all that are judged as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Id of the kernel that its cells are compared with; `None` where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_to: Option<String>,
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
    /// What the runner found in the guest.
    pub features: BTreeMap<String, String>,
    /// What the tests expected of this kernel.
    pub profile: BTreeMap<String, String>,
    /// What its variant is about, and how it was here; absent where that is nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionRecord>,
    /// Class of the boot as a whole: `pass` where it went through.
    pub class: u8,
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
    /// What its cells come to; what the process exits with, unless `--baseline` decides.
    pub exit_code: u8,
    /// Exit code to number of cells.
    pub classes: BTreeMap<u8, u64>,
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
            exit_code: Class::Host.code(),
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
                    && cell.kernel == boot.kernel
                    && cell.variant == boot.variant
                    && (cell.suite == boot.suite || boot.suite.is_empty())
            })
        };
        let class = |boot: &BootRecord| Class::from_code(boot.class).unwrap_or(Class::Host);
        let counts = move |boot: &&BootRecord| {
            class(boot) != Class::Pass && !boot.retried && boot.expected.is_none() && !told(boot)
        };
        self.boots.iter().filter(counts)
    }

    /// Counts classes and decides the exit code. `interrupted` overrules everything.
    pub fn conclude(&mut self, interrupted: Option<Class>) {
        self.classes.clear();
        for cell in self.cells.iter().filter(|cell| cell.counts()) {
            *self.classes.entry(cell.class).or_default() += 1;
        }
        let untold: Vec<u8> = self.untold_boots().map(|boot| boot.class).collect();
        for class in untold {
            *self.classes.entry(class).or_default() += 1;
        }
        if let Some(class) = interrupted {
            self.classes.entry(class.code()).or_insert(1);
        }
        // No cell at all is nothing to be proud of.
        let worst = PRECEDENCE.into_iter().find(|class| self.classes.contains_key(&class.code()));
        self.exit_code = worst.unwrap_or(Class::Usage).code();
    }
}

/// What one boot came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// `Pass` when the boot went through and the runner was believed; tests may have failed all the same.
    pub class: Class,
    /// Why not.
    pub reason: String,
}

/// What a boot is judged by besides what was seen of it.
#[derive(Debug)]
pub struct Terms<'a> {
    /// What the kernel must call itself; empty where nobody knows.
    pub release: &'a str,
    /// Splats that do not count.
    pub allowed: &'a Allowed,
    /// The emulator, where it is one of those that run patched text wrongly; `None` elsewhere.
    pub emulator: Option<&'a str>,
}

/// Judges a boot as a whole, before its cells.
pub fn judge_boot(seen: &Observed, terms: &Terms<'_>) -> Verdict {
    let no = |class: Class, reason: String| Verdict { class, reason };
    let stream = &seen.stream;
    if let End::Interrupted(class) = seen.end {
        return no(class, "the run was interrupted".to_owned());
    }
    if let Some(death) = seen.console.death() {
        return match emulator_failure(death, terms.emulator) {
            Some(why) => no(Class::Host, why),
            None => no(Class::Panic, death.title.clone()),
        };
    }
    if let Some(line) = emulator_died(seen) {
        return no(Class::Host, format!("the emulator died, not the kernel: {line}{}", during(seen)));
    }
    if stream.hello.is_none() {
        return judge_silence(seen);
    }
    match seen.end {
        End::IdleLimit => {
            return no(Class::Hang, format!("no output for too long{}{}", during(seen), complained(seen)));
        }
        End::RunLimit => {
            return no(
                Class::WallClock,
                format!("not done within the limit{}{}", during(seen), complained(seen)),
            );
        }
        End::Interrupted(_) | End::Exited(_) | End::ShutdownLimit => (),
        End::NoFirstByte | End::BootLimit | End::StayedDead => (),
    }
    // A garbled channel explains a missing `done` better than a lost guest does.
    if let Some(fault) = stream.faults.first() {
        let more = stream.faults.len() - 1;
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        return no(Class::Host, format!("the event channel cannot be believed: {fault}{more}"));
    }
    let release = terms.release;
    if let Some(hello) = stream.hello.as_ref().filter(|hello| !release.is_empty() && hello.release != release)
    {
        return no(
            Class::Host,
            format!("the guest runs {:?}, the kernel to test is {release:?}", hello.release),
        );
    }
    let Some(done) = &stream.done else {
        return no(
            Class::GuestLost,
            format!(
                "the guest went away without a word{}{}{}",
                during(seen),
                restarted(seen),
                complained(seen)
            ),
        );
    };
    if seen.truncated {
        return no(Class::Host, "more output than is stored; what was cut could hold a death".to_owned());
    }
    match done.worker {
        WorkerEnd::Exited(0) => (),
        WorkerEnd::Exited(code) => {
            return no(Class::RunnerDied, format!("the runner exited with {code}{}", during(seen)));
        }
        WorkerEnd::Signaled(signal) => {
            return no(Class::RunnerDied, format!("signal {signal} killed the runner{}", during(seen)));
        }
    }
    let planned = stream.plan.as_ref().map_or(0, Vec::len);
    if done.planned as usize != planned || done.ended as usize != stream.ended.len() {
        return no(
            Class::Host,
            format!(
                "counts differ: the runner planned {} and ended {}, {planned} and {} arrived",
                done.planned,
                done.ended,
                stream.ended.len()
            ),
        );
    }
    if seen.end == End::ShutdownLimit {
        return no(Class::Hang, "the tests were done, but the guest did not switch off".to_owned());
    }
    let shown = seen.console.splats().map(|hit| &hit.title);
    let mut titles = shown.chain(stream.splats.iter().map(|splat| &splat.title));
    if let Some(title) = titles.find(|title| terms.allowed.allows(title).is_none()) {
        return no(Class::Splat, title.clone());
    }
    if seen.console.dropped > 0 {
        return no(Class::Splat, format!("{} complaints more than are kept", seen.console.dropped));
    }
    no(Class::Pass, String::new())
}

/// The symbol in a register dump: `RIP: 0010:name+0x1/0x2`.
#[expect(clippy::unwrap_used, reason = "a constant pattern; the tests compile it")]
static RIP: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"RIP: \w+:([A-Za-z_]\S*)\+0x").unwrap());

/// What an emulator does that translates text while another CPU patches it: the breakpoint that stands there for a moment
/// is taken for one of nobody's. In code that a program's trampoline consists of, or that has no name, it may be the
/// kernel's own mistake, and stays its death.
///
/// How it could be wrong: a kernel that forgets a breakpoint in its text dies in the same way, and is not accused here. It
/// is no pass either, and with `--cpus 1` or under KVM it is told apart.
fn emulator_failure(death: &Hit, emulator: Option<&str>) -> Option<String> {
    let emulator = emulator?;
    let is_int3 = |line: &String| line.contains("Oops: int3");
    if !death.title.starts_with("Oops: int3") && !death.report.iter().any(is_int3) {
        return None;
    }
    let lines = death.report.iter().skip_while(|line| !is_int3(line));
    let symbol = lines.filter_map(|line| RIP.captures(line)).next()?.get(1)?.as_str().to_owned();
    let ours = ["bpf_trampoline_", "bpf_prog_", "bpf_dispatcher_"];
    (!ours.iter().any(|prefix| symbol.starts_with(prefix))).then(|| {
        format!(
            "an emulator failure, not the kernel's: an int3 oops in {symbol}, as {emulator} makes of text that is patched \
             while it runs; --cpus 1 or KVM would tell"
        )
    })
}

/// What QEMU says when it stops at an assertion of its own. Seen of 10.0 in one of some hundred boots of a busy host:
/// `qemu-system-x86_64: system/physmem.c:2671: iotlb_to_section: Assertion `section_index < d->map.sections_nb' failed.`
#[expect(clippy::unwrap_used, reason = "a constant pattern; the tests compile it")]
static ASSERTION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^qemu-system-\w+: \S+\.c:\d+: .*Assertion .* failed\.?$").unwrap());
/// So many lines of the console may stand behind it.
const LAST_WORDS: usize = 5;

/// What the emulator died of, if it did and the kernel did not. QEMU tells it on its standard error, which is the console
/// under vng.
///
/// How it could be wrong: a guest can write that line before it goes away. A death of its kernel counts all the same, and
/// without one nothing of it is a pass.
pub fn emulator_died(seen: &Observed) -> Option<String> {
    if !matches!(seen.end, End::Exited(status) if !status.success()) || seen.console.death().is_some() {
        return None;
    }
    let tail = seen.console.tail(LAST_WORDS);
    let mut lines = tail.iter().map(String::as_str).chain(seen.complaint.lines()).map(str::trim);
    lines.find(|line| ASSERTION.is_match(line)).map(str::to_owned)
}

/// What the kernel complained of first: it may be why the guest ended as it did.
fn complained(seen: &Observed) -> String {
    let first = seen.console.splats().next();
    first.map_or_else(String::new, |hit| format!("; the kernel had said: {}", hit.title))
}

/// A boot that never came to hello.
fn judge_silence(seen: &Observed) -> Verdict {
    let how = match seen.end {
        End::NoFirstByte => "no byte within the limit".to_owned(),
        End::BootLimit | End::IdleLimit | End::RunLimit | End::ShutdownLimit | End::StayedDead => {
            "not ready within the limit".to_owned()
        }
        End::Exited(status) => format!("the virtual machine {}", crate::proc::ended(status)),
        End::Interrupted(_) => "interrupted".to_owned(),
    };
    let mut reason = format!("{how}: {}{}", seen.console.progress.text(), restarted(seen));
    if let Some(line) = seen.complaint.lines().find(|line| !line.trim().is_empty()) {
        reason.push_str(&format!("; it said: {}", line.trim()));
    }
    Verdict { class: Class::BootFailed, reason }
}

fn during(seen: &Observed) -> String {
    seen.stream.running.as_ref().map_or_else(String::new, |name| format!(" during {}", name.path()))
}

fn restarted(seen: &Observed) -> &'static str {
    if seen.console.kernels > 1 { "; the kernel started more than once" } else { "" }
}

/// How often each subtest has to have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// This often.
    Exactly(u32),
    /// In every round but the last, which may end anywhere; in one at least.
    UntilFail,
}

/// Which cells a skip may have.
pub type MaySkip<'a> = &'a dyn Fn(&TestName) -> bool;

/// What every cell of a boot has in common.
#[derive(Debug, Clone)]
pub struct CellBase {
    /// Column.
    pub kernel: String,
    /// Variant.
    pub variant: String,
    /// `vng` or `direct`.
    pub boot: String,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// `own` or `upstream`.
    pub suite: String,
    /// Whether the guest is what its variant is about; `None` where nobody asks, or knows.
    pub enforced: Option<bool>,
}

/// The cells of a boot: one for each planned subtest and one for each that the guest reported unasked.
pub fn cells(
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
        make_cell(base, name, found, (end, attempts), may_skip(name))
    };
    all.iter().map(cell).collect()
}

type Found = (Outcome, String, Class);

/// A cell passes if it did so in each of the first `wanted` rounds, and in every other that was reported. What it shows is
/// the first repetition that is no pass.
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
            // What befell the whole boot is no news of one repetition.
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
            // Nor is what is the same every time.
            let same = judged.iter().all(|(_, other)| other.0 == found.0);
            (if same { found.clone() } else { which(end.round, found) }, Some(end))
        }
        _ => {
            let round = if running { seen.stream.round } else { missing(&reported) };
            (which(round, &open_cell(name, seen, boot, rounds)), None)
        }
    }
}

/// The first round that is not there.
fn missing(reported: &BTreeSet<u32>) -> u32 {
    (1..).find(|round| !reported.contains(round)).unwrap_or(0)
}

/// Cells of a kernel that never booted because a stage before it failed.
pub fn notrun(base: &CellBase, planned: &[TestName], class: Class, reason: &str) -> Vec<Cell> {
    let cell = |name| make_cell(base, name, (Outcome::Notrun, reason.to_owned(), class), (None, 0), false);
    planned.iter().map(cell).collect()
}

/// One cell.
pub fn make_cell(
    base: &CellBase,
    name: &TestName,
    (outcome, reason, class): Found,
    (end, attempts): (Option<&TestEnd>, u32),
    may_skip: bool,
) -> Cell {
    Cell {
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
        class: class.code(),
        was: None,
        measured: end.map_or_else(String::new, |end| measured(end, outcome, &base.accel)),
        enforced: base.enforced,
        expected: None,
        tries: Vec::new(),
        unmet: end.filter(|_| outcome != Outcome::Pass).map(unmet).unwrap_or_default(),
        log: end.filter(|_| outcome != Outcome::Pass).map_or_else(String::new, |end| end.log.clone()),
    }
}

/// Expectations that did not hold.
fn unmet(end: &TestEnd) -> Vec<Unmet> {
    let not_ok = end.seen.iter().filter(|check| !check.ok);
    let unmet = |check: &Check| Unmet {
        what: check.what.clone(),
        expected: check.expected.clone(),
        seen: check.seen.clone(),
    };
    not_ok.map(unmet).collect()
}

/// A figure is worth little without what it was taken on, and that the guest does not know.
fn measured(end: &TestEnd, outcome: Outcome, accel: &str) -> String {
    if outcome != Outcome::Pass || end.measured.is_empty() {
        return String::new();
    }
    let on = if accel == "kvm" { accel.to_owned() } else { format!("{accel}: emulated") };
    format!("{}, {on}", end.measured)
}

/// A cell whose test ended. What was reported before a death is kept; what a garbled channel says is not believed.
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

/// A planned cell without an end.
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
            let reason =
                "not reported: there was no whole round before the first failure or the end of the time";
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

/// Cells and runs for tests of what is made of them.
#[cfg(test)]
pub(crate) mod tests_support {
    use super::*;

    pub(crate) fn cell(kernel: &str, subtest: &str, outcome: Outcome, class: Class) -> Cell {
        Cell {
            kernel: kernel.into(),
            variant: String::new(),
            boot: "direct".into(),
            accel: "tcg".into(),
            suite: "own".into(),
            test: "basic".into(),
            subtest: subtest.into(),
            outcome,
            reason: String::new(),
            required: true,
            attempts: 1,
            duration_ms: 1,
            class: class.code(),
            was: None,
            measured: String::new(),
            unmet: Vec::new(),
            log: String::new(),
            enforced: None,
            expected: None,
            tries: Vec::new(),
        }
    }

    pub(crate) fn boot(kernel: &str, class: Class) -> BootRecord {
        BootRecord {
            kernel: kernel.into(),
            suite: "own".into(),
            boot: "direct".into(),
            accel: "tcg".into(),
            cpus: 1,
            class: class.code(),
            duration_ms: 1,
            ..BootRecord::default()
        }
    }

    pub(crate) fn run(cells: Vec<Cell>) -> RunResult {
        let mut run = RunResult {
            schema: SCHEMA,
            run: "r".into(),
            command: vec!["cargo".into(), "xtask".into(), "vmtest".into()],
            exit_code: 0,
            classes: Default::default(),
            tools: Default::default(),
            kernels: Vec::new(),
            boots: Vec::new(),
            cells,
            splats: Vec::new(),
            allowed_splats: Vec::new(),
            phases: Vec::new(),
            matrix: None,
        };
        run.conclude(None);
        run
    }
}

#[cfg(test)]
mod tests;
