// SPDX-License-Identifier: MIT OR Apache-2.0
//! The protocol between the guest runner and the host.
//!
//! The runner writes one JSON object per line to a separate channel, never to the console. Both sides use the
//! names defined here, so a marker cannot be renamed on one side only. This crate does not depend on files,
//! ports or virtual machines.

#![warn(missing_docs)]

pub mod base64;
pub mod build_id;
pub mod complaints;
pub mod taint;

use serde::{Deserialize, Serialize};

/// Version of this protocol. The host rejects a `hello` with any other version: a stale runner must not be
/// trusted.
pub const PROTOCOL: u32 = 5;

/// A warning that the runner writes to the kernel log just before `done`. If it reaches the console, all
/// earlier kernel warnings have reached it as well.
pub const LAST_WORD: &str = "vmtest-runner: the tests are over, and warnings still reach this console";

/// Name of the virtio-serial port that carries events under virtme-ng.
pub const VIRTIO_PORT: &str = "vmtest.events";

/// Kernel command line keys that the runner reads from `/proc/cmdline`. They contain a dot, so the kernel
/// assumes that they are parameters of an absent module and neither warns nor passes them to init.
pub mod param {
    /// Run nonce; repeated in every event line.
    pub const NONCE: &str = "vmtest.nonce";
    /// Where events are sent: `ttyS1`, or the name of a virtio port.
    pub const PORT: &str = "vmtest.port";
    /// Comma-separated globs of `test/subtest` to run; absent means all.
    pub const TEST: &str = "vmtest.test";
    /// Exactly these subtests, by their index in the runner's list ([`super::pick`]), regardless of the
    /// effort: a list of names could be too long for the command line. Overrides [`TEST`].
    pub const PICK: &str = "vmtest.pick";
    /// `quick`, `normal` or `soak`.
    pub const EFFORT: &str = "vmtest.effort";
    /// How often the whole plan is run; absent means once.
    pub const REPEAT: &str = "vmtest.repeat";
    /// `1`: nothing is started after the first failure or kernel warning.
    pub const UNTIL_FAIL: &str = "vmtest.untilfail";
    /// No subtest starts later than this many seconds after the runner; absent means no limit.
    pub const SECONDS: &str = "vmtest.seconds";
    /// `turned` or `blind`, a [`super::SelfTest`]: then every subtest must fail.
    pub const SELF_TEST: &str = "vmtest.selftest";
    /// `1`: also try what is known to kill or corrupt this kernel. The only one of these that a user may set.
    pub const PROVOKE: &str = "vmtest.provoke";
    /// `1`: counters of gcov are reported after each subtest. A variant sets it.
    pub const COVERAGE: &str = "vmtest.coverage";
    /// `1`: the guest's clock is a counter of instructions, one for a nanosecond.
    pub const ICOUNT: &str = "vmtest.icount";
    /// `name=value`, repeatable: sysctl to set before the first test.
    pub const SYSCTL: &str = "vmtest.sysctl";
    /// Path of a bpftool in the guest; if absent, no subtest that uses it runs.
    pub const BPFTOOL: &str = "vmtest.bpftool";
    /// Path in the guest of a file that selects tests of an external suite to run instead of our own: an
    /// [`Upstream`](crate::Upstream) as JSON. A file, because a command line is too short for many test
    /// names.
    pub const UPSTREAM: &str = "vmtest.upstream";
    /// Base64 (standard alphabet) of a shell command to run instead of the tests.
    pub const EXEC: &str = "vmtest.exec";
    /// `1`: an interactive shell on the console instead of the tests (direct boot only).
    pub const SHELL: &str = "vmtest.shell";
}

/// Longest line that either side accepts, in bytes; the runner cuts longer logs and marks the cut.
pub const MAX_LINE: usize = 256 * 1024;

/// A single event line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Nonce of the run, as given on the kernel command line.
    pub n: String,
    /// Counts from 0 without a gap.
    pub seq: u64,
    /// Milliseconds since the runner started, from the guest's monotonic clock.
    pub ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened in the guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ev", rename_all = "snake_case")]
pub enum Event {
    /// First event: identifies the runner and the guest.
    Hello(Hello),
    /// Every subtest that will run, in order. Comes once, before the first `start`.
    Plan(Plan),
    /// A subtest begins.
    Start(Start),
    /// Expectations of the running subtest, sent as they are checked: the guest may die before its end.
    Checked(Checked),
    /// A subtest ended.
    End(End),
    /// The kernel printed a warning (found in its log or taint flags).
    Splat(Splat),
    /// Which lines ran since the last event of this kind for the same file.
    Counters(Counters),
    /// A piece of output of `--exec`, or of the `test_progs` that runs the test that started last.
    Output(Output),
    /// Last event. Without it, nothing counts as a pass.
    Done(Done),
}

/// Identifies the runner and the guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the runner.
    pub protocol: u32,
    /// `uname -r`.
    pub release: String,
    /// Build ID of the running kernel, in hexadecimal; empty if the kernel exposes none.
    #[serde(default)]
    pub build_id: String,
    /// `/proc/cmdline`.
    pub cmdline: String,
    /// Current clock source, for example `kvm-clock` or `tsc`.
    pub clocksource: String,
    /// CPUs online.
    pub cpus: u32,
    /// Memory in MiB, from `MemTotal`.
    pub memory_mib: u64,
    /// Features found in the kernel's BTF and sysctls: name to value.
    pub features: std::collections::BTreeMap<String, String>,
    /// Properties that differ by kernel, and that the expectations of the tests depend on: name to value.
    pub profile: std::collections::BTreeMap<String, String>,
}

/// How the suite is damaged on purpose, to check that the subtests can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelfTest {
    /// One expectation of each subtest is inverted: finds subtests whose verdict ignores their expectations.
    Turned,
    /// BPF programs record nothing, and programs made of instructions do nothing: finds subtests that would
    /// pass on a kernel whose programs never run, or that accepts what it must reject.
    Blind,
}

impl SelfTest {
    /// Its name on the kernel command line.
    pub fn name(self) -> &'static str {
        match self {
            SelfTest::Turned => "turned",
            SelfTest::Blind => "blind",
        }
    }

    /// Parses a name from the kernel command line.
    pub fn from_name(name: &str) -> Option<SelfTest> {
        [SelfTest::Turned, SelfTest::Blind].into_iter().find(|one| one.name() == name)
    }
}

/// A subtest's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TestName {
    /// Group, for example `basic`.
    pub test: String,
    /// Subtest within the group, for example `entry_before_body`.
    pub subtest: String,
}

impl TestName {
    /// `test/subtest`, the form that users type and globs match.
    ///
    /// Just `test` for a test of `test_progs` as a whole, which has no subtest.
    pub fn path(&self) -> String {
        if self.subtest.is_empty() { self.test.clone() } else { format!("{}/{}", self.test, self.subtest) }
    }
}

/// Every subtest that will run, in order, and how often.
///
/// A round is the whole plan once. Rounds count from 1; `start` and `end` carry theirs, so that no repetition
/// can be mistaken for another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order in which they will run.
    pub tests: Vec<TestName>,
    /// Number of rounds; with `until_fail` the maximum.
    #[serde(default = "one_round")]
    pub rounds: u32,
    /// Whether it stops at the first failure, or when the time is up.
    #[serde(default)]
    pub until_fail: bool,
}

fn one_round() -> u32 {
    1
}

/// A subtest begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Name of the subtest.
    #[serde(flatten)]
    pub name: TestName,
    /// Number of the round, from 1.
    #[serde(default = "one_round")]
    pub round: u32,
}

/// Outcome of a subtest as far as the guest can judge it. The host adds crash, timeout and missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestOutcome {
    /// Every expectation was met, and there was at least one.
    Pass,
    /// An expectation was not met, or something needed was not available.
    Fail,
    /// The kernel does not have the feature, and rejected it exactly as it must.
    Skip,
    /// A declared, known kernel bug was seen.
    Xfail,
}

/// One expectation and what was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked.
    pub what: String,
    /// The expected value.
    pub expected: String,
    /// The actual value.
    pub seen: String,
    /// Whether the expectation was met.
    pub ok: bool,
}

/// Expectations of the running subtest, in order. Not all of them: see the runner's `check`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// Name of the subtest.
    #[serde(flatten)]
    pub name: TestName,
    /// Number of the round, from 1.
    pub round: u32,
    /// The expectations since the last event of this kind.
    pub checks: Vec<Check>,
}

/// A subtest ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Name of the subtest.
    #[serde(flatten)]
    pub name: TestName,
    /// Number of the round, from 1.
    #[serde(default = "one_round")]
    pub round: u32,
    /// How it ended.
    pub outcome: GuestOutcome,
    /// Why it failed, was skipped or is a known failure; empty for a pass.
    pub reason: String,
    /// Number of expectations that were checked. 0 is never a pass.
    pub checks: u32,
    /// The expectations that were not met and those around them, or the first few if all were met, which are
    /// only reported in the first round.
    pub seen: Vec<Check>,
    /// Measurements, for humans; empty without any.
    #[serde(default)]
    pub measured: String,
    /// Wall time in microseconds.
    pub duration_us: u64,
    /// Verifier log, libbpf's messages and the test's own notes; cut at 64 KiB.
    pub log: String,
}

/// The kernel printed a warning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Splat {
    /// The subtest that was running; empty strings if none was: at boot, while programs are loaded, after the
    /// last one.
    #[serde(flatten)]
    pub name: TestName,
    /// First line of the warning.
    pub title: String,
}

/// Counters of gcov of one object: from the start of the guest to the first subtest, or of one subtest. Nothing is sent of an
/// object in which no line ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// The subtest that ran; empty strings before the first one, when programs are loaded.
    #[serde(flatten)]
    pub name: TestName,
    /// Path of the data file below the object directory, `kernel/bpf/trampoline.gcda`.
    pub object: String,
    /// Number of this piece of the file, from 1.
    pub part: u32,
    /// How many pieces it has.
    pub parts: u32,
    /// The piece of the compressed (deflate) data file, in [`base64`].
    pub data: String,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// 1 for standard output, 2 for standard error.
    pub fd: u8,
    /// Text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// How the process that ran the tests ended, as seen by its parent in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how", content = "code")]
pub enum WorkerEnd {
    /// It completed its plan or its command, and exited with this status.
    Exited(i32),
    /// A signal ended it.
    Signaled(i32),
}

/// Last event: counts to compare with what was received.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Number of subtests in the plan, which is one round.
    pub planned: u32,
    /// Number of `end` events sent, of all rounds.
    pub ended: u32,
    /// How the worker ended.
    pub worker: WorkerEnd,
    /// `/proc/sys/kernel/tainted` after the worker was reaped, see [`taint`]; `None` if it cannot be read.
    pub tainted: Option<u64>,
}

/// One subtest in the JSON array printed by `runner --list`; works on any host, without a VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// Name of the subtest.
    #[serde(flatten)]
    pub name: TestName,
    /// One sentence: what it proves.
    pub about: String,
    /// Smallest effort that includes it.
    pub effort: Effort,
    /// Needs `thread=single` when emulated, because it patches code under load.
    pub single_thread: bool,
    /// Needs more than one CPU: with one CPU it is skipped.
    #[serde(default)]
    pub several_cpus: bool,
    /// Uses the bpftool of the tree under test; planned only if the host provides one.
    #[serde(default)]
    pub bpftool: bool,
    /// Measures a cost, which an emulator can count in instructions if nothing else runs in the guest.
    #[serde(default)]
    pub counted: bool,
    /// Runs only if its group is named: it does not test the kernel, but kills it.
    #[serde(default)]
    pub only_named: bool,
    /// Tests what most kernels do not have: a skip does not count, unless its group is named.
    #[serde(default)]
    pub optional: bool,
}

/// Whether a glob names this group explicitly; `*` does not.
pub fn names_group(glob: &str, group: &str) -> bool {
    glob.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Encodes selected indices of a list in hexadecimal: four indices per digit, the first one in its highest
/// bit.
pub fn pick(places: impl IntoIterator<Item = bool>) -> String {
    let places: Vec<bool> = places.into_iter().collect();
    let digit = |four: &[bool]| {
        let bits = (0..4).fold(0, |bits, at| bits << 1 | u32::from(four.get(at) == Some(&true)));
        char::from_digit(bits, 16).unwrap_or('0')
    };
    places.chunks(4).map(digit).collect()
}

/// The inverse of [`pick`] for a list of this length; `None` if the text belongs to another list.
pub fn picked(text: &str, length: usize) -> Option<Vec<bool>> {
    let bits = text.chars().map(|c| c.to_digit(16)).collect::<Option<Vec<u32>>>()?;
    let mut places: Vec<bool> =
        bits.iter().flat_map(|bits| (0..4).map(move |at| bits & (8 >> at) != 0)).collect();
    let fits =
        bits.len() == length.div_ceil(4) && places.split_off(length.min(places.len())).iter().all(|bit| !bit);
    fits.then_some(places)
}

/// Which tests of the kernel's own `test_progs`, or which program, to run; see [`param::UPSTREAM`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Directory of `test_progs` or the program with all its files, as the guest sees it.
    pub bundle: String,
    /// A file in it that runs instead of `test_progs`, without arguments, once for each test.
    #[serde(default)]
    pub program: Option<String>,
    /// Unique names of tests, in order.
    pub tests: Vec<UpstreamTest>,
    /// Patterns of subtests that must not run (`test/subtest`, with `*`).
    pub deny: Vec<String>,
    /// Time limit of one test, in seconds.
    pub limit_s: u32,
}

/// A test to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamTest {
    /// Its name as printed by `test_progs -l`.
    pub name: String,
    /// Patterns of its subtests (with `*`); empty for all of them.
    pub subtests: Vec<String>,
}

/// Prefix of the reason of a test that was killed at its time limit; the limit follows.
pub const OUT_OF_TIME: &str = "no end within";

/// Most bytes of output that the runner sends for one `test_progs`, half from each end.
pub const MAX_TEST_OUTPUT: usize = 1024 * 1024;

/// Marks where output was cut.
pub const OUTPUT_CUT: &str = "[.. bytes of output cut by the runner ..]";

/// How much to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// One look at each group: does the feature work in principle.
    Quick,
    /// Everything that finishes within seconds.
    Normal,
    /// The same plus the full stress tests: minutes.
    Soak,
}

impl Effort {
    /// All levels, the smallest first.
    pub const ALL: [Effort; 3] = [Effort::Quick, Effort::Normal, Effort::Soak];

    /// Its name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Effort::Quick => "quick",
            Effort::Normal => "normal",
            Effort::Soak => "soak",
        }
    }

    /// Parses a name from a command line.
    pub fn of_name(name: &str) -> Option<Effort> {
        Effort::ALL.into_iter().find(|effort| effort.name() == name)
    }
}

#[cfg(test)]
mod tests;
