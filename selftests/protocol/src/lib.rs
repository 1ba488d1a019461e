// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the guest runner and the host say to each other.
//!
//! The runner writes one JSON object a line to a channel of its own, never to the console. Both sides take every
//! name from here, so a marker cannot be renamed on one side only. This crate knows nothing about files, ports or
//! virtual machines.

#![warn(missing_docs)]

pub mod base64;
pub mod build_id;
pub mod complaints;
pub mod taint;

use serde::{Deserialize, Serialize};

/// Version of this protocol. The host refuses a `hello` with another one: a stale runner must not be trusted.
pub const PROTOCOL: u32 = 3;

/// What the runner writes into the kernel's log, as a warning, just before `done`. It has to arrive on the console: then
/// whatever the kernel complained of until there arrived as well.
pub const LAST_WORD: &str = "vmtest-runner: the tests are over, and warnings still reach this console";

/// Name of the virtio-serial port that carries events under virtme-ng.
pub const VIRTIO_PORT: &str = "vmtest.events";

/// Kernel command line keys that the runner reads from `/proc/cmdline`. They hold a dot, so that the kernel takes
/// them for parameters of an absent module and neither warns nor hands them to init.
pub mod param {
    /// Run nonce; repeated in every event line.
    pub const NONCE: &str = "vmtest.nonce";
    /// Where events go: `ttyS1`, or the name of a virtio port.
    pub const PORT: &str = "vmtest.port";
    /// Comma-separated globs of `test/subtest` to run; absent means all.
    pub const TEST: &str = "vmtest.test";
    /// Exactly these subtests of the runner's list, by place ([`super::pick`]), whatever the effort: a list of names can be
    /// longer than this line may be. Counts more than [`TEST`].
    pub const PICK: &str = "vmtest.pick";
    /// `quick`, `normal` or `soak`.
    pub const EFFORT: &str = "vmtest.effort";
    /// How often the whole plan is run; absent means once.
    pub const REPEAT: &str = "vmtest.repeat";
    /// `1`: nothing is started any more after the first failure or complaint of the kernel.
    pub const UNTIL_FAIL: &str = "vmtest.untilfail";
    /// No subtest is started later than so many seconds after the runner; absent means that there is no such limit.
    pub const SECONDS: &str = "vmtest.seconds";
    /// `turned` or `blind`, a [`super::SelfTest`]: then every subtest must fail.
    pub const SELF_TEST: &str = "vmtest.selftest";
    /// `name=value`, repeatable: sysctl to set before the first test.
    pub const SYSCTL: &str = "vmtest.sysctl";
    /// Path of a bpftool in the guest; absent where there is none, and then no subtest that uses it runs.
    pub const BPFTOOL: &str = "vmtest.bpftool";
    /// Path in the guest of a file that says which of the kernel's own tests to run instead of the own suite: an
    /// [`Upstream`](crate::Upstream) as JSON. A file, because names of tests are many and this line is short.
    pub const UPSTREAM: &str = "vmtest.upstream";
    /// Base64 (standard alphabet) of a shell command to run instead of the tests.
    pub const EXEC: &str = "vmtest.exec";
    /// `1`: an interactive shell on the console instead of the tests (direct boot only).
    pub const SHELL: &str = "vmtest.shell";
}

/// Longest line either side accepts, in bytes; longer logs are cut by the runner with a mark.
pub const MAX_LINE: usize = 256 * 1024;

/// What a single event line looks like.
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
    /// First event: who is speaking, on what.
    Hello(Hello),
    /// Every subtest that will run, in order. Comes once, before the first `start`.
    Plan(Plan),
    /// A subtest begins.
    Start(Start),
    /// A subtest ended.
    End(End),
    /// The kernel complained (taint or a warning in its log).
    Splat(Splat),
    /// A piece of output of `--exec`, or of the `test_progs` that runs the test that started last.
    Output(Output),
    /// Last event. Nothing without it is a pass.
    Done(Done),
}

/// Who is speaking, on what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the runner.
    pub protocol: u32,
    /// `uname -r`.
    pub release: String,
    /// Build id of the running kernel, in hexadecimal; empty where the kernel shows none.
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
    /// What differs by kernel and what the tests therefore expect: name to value.
    pub profile: std::collections::BTreeMap<String, String>,
}

/// What is damaged on purpose, to see that the subtests can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelfTest {
    /// One expectation of each subtest is turned round: finds the subtest that never states what it found.
    Turned,
    /// BPF programs see nothing, and those made of instructions do nothing: finds the subtest that would pass on a kernel
    /// whose programs never run, or that accepts what it has to refuse.
    Blind,
}

impl SelfTest {
    /// As it stands on the kernel command line.
    pub fn name(self) -> &'static str {
        match self {
            SelfTest::Turned => "turned",
            SelfTest::Blind => "blind",
        }
    }

    /// The one of that name.
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
    /// `test/subtest`, the form that people type and globs match.
    ///
    /// Just `test` for a test of `test_progs` as a whole, which has no subtest.
    pub fn path(&self) -> String {
        if self.subtest.is_empty() { self.test.clone() } else { format!("{}/{}", self.test, self.subtest) }
    }
}

/// Every subtest that will run, in order, and how often.
///
/// A round is the whole plan once. Rounds count from 1; `start` and `end` carry theirs, so that no repetition can stand
/// for another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order in which they will run.
    pub tests: Vec<TestName>,
    /// Rounds; with `until_fail` the most there can be.
    #[serde(default = "one_round")]
    pub rounds: u32,
    /// Whether it ends with the first failure, or when time is up.
    #[serde(default)]
    pub until_fail: bool,
}

fn one_round() -> u32 {
    1
}

/// A subtest begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Which.
    #[serde(flatten)]
    pub name: TestName,
    /// In which round.
    #[serde(default = "one_round")]
    pub round: u32,
}

/// Outcome of a subtest as the guest can judge it. Crash, timeout and missing are the host's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestOutcome {
    /// Every expectation held, and there was at least one.
    Pass,
    /// An expectation did not hold, or something needed could not be had.
    Fail,
    /// The kernel does not have the feature, and rejected it exactly as it must.
    Skip,
    /// A declared, known kernel bug was seen.
    Xfail,
}

/// One expectation, as stated and as found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// What had to be.
    pub expected: String,
    /// What was.
    pub seen: String,
    /// Whether the two agree in the way the test asks for.
    pub ok: bool,
}

/// A subtest ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Which.
    #[serde(flatten)]
    pub name: TestName,
    /// In which round.
    #[serde(default = "one_round")]
    pub round: u32,
    /// How.
    pub outcome: GuestOutcome,
    /// Why it failed, was skipped or is a known failure; empty for a pass.
    pub reason: String,
    /// Number of expectations that were checked. 0 is never a pass.
    pub checks: u32,
    /// The expectations that did not hold, or the first few of those that did; none of those in a later round than the
    /// first.
    pub seen: Vec<Check>,
    /// Figures that it took, for people; empty where it took none.
    #[serde(default)]
    pub measured: String,
    /// Wall time in microseconds.
    pub duration_us: u64,
    /// Verifier log, libbpf's messages, the test's own notes; cut at 64 KiB.
    pub log: String,
}

/// The kernel complained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Splat {
    /// The subtest that was running; empty strings outside of any: at boot, while programs are loaded, after the last one.
    #[serde(flatten)]
    pub name: TestName,
    /// First line of the complaint.
    pub title: String,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// 1 for standard output, 2 for standard error.
    pub fd: u8,
    /// Text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// How the process that ran the tests ended, seen by its parent in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how", content = "code")]
pub enum WorkerEnd {
    /// It went through its plan, or through its command, and exited with this status.
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
    /// `/proc/sys/kernel/tainted` after the worker was reaped, see [`taint`]; `None` where it cannot be read.
    pub tainted: Option<u64>,
}

/// One subtest as `runner --list` prints it, a JSON array of these; works on any host, without a VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// Which.
    #[serde(flatten)]
    pub name: TestName,
    /// One sentence: what it proves.
    pub about: String,
    /// Smallest effort that includes it.
    pub effort: Effort,
    /// Needs `thread=single` when emulated, because it patches text under load.
    pub single_thread: bool,
    /// Needs more than one CPU: on one it is a skip.
    #[serde(default)]
    pub several_cpus: bool,
    /// Uses the bpftool of the tree under test; planned only where the host offers one.
    #[serde(default)]
    pub bpftool: bool,
    /// Runs only where its group is named: it is no test of the kernel, but kills it.
    #[serde(default)]
    pub only_named: bool,
}

/// Whether a glob speaks of this group by name; `*` does not.
pub fn names_group(glob: &str, group: &str) -> bool {
    glob.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Places in a list, in hexadecimal: four places a digit, the first of them its highest bit.
pub fn pick(places: impl IntoIterator<Item = bool>) -> String {
    let places: Vec<bool> = places.into_iter().collect();
    let digit = |four: &[bool]| {
        let bits = (0..4).fold(0, |bits, at| bits << 1 | u32::from(four.get(at) == Some(&true)));
        char::from_digit(bits, 16).unwrap_or('0')
    };
    places.chunks(4).map(digit).collect()
}

/// The opposite of [`pick`], for a list of this length; `None` where the text is of another list.
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
    /// Directory of `test_progs` or the program, and all that it needs, as the guest sees it.
    pub bundle: String,
    /// A file in it that runs in place of `test_progs`, without arguments, once for each test; `None`: `test_progs`.
    #[serde(default)]
    pub program: Option<String>,
    /// Names of tests, in order; no two are the same.
    pub tests: Vec<UpstreamTest>,
    /// Patterns of subtests that must not run (`test/subtest`, with `*`).
    pub deny: Vec<String>,
    /// Seconds that one test may take.
    pub limit_s: u32,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamTest {
    /// As `test_progs -l` names it.
    pub name: String,
    /// Patterns of its subtests (with `*`); empty for all of them.
    pub subtests: Vec<String>,
}

/// Begins the reason of a test that was killed because its time was up; what follows is how long that was.
pub const OUT_OF_TIME: &str = "no end within";

/// Most bytes of output that the runner sends of one `test_progs`, half from each end.
pub const MAX_TEST_OUTPUT: usize = 1024 * 1024;

/// Stands where output was left out.
pub const OUTPUT_CUT: &str = "[.. bytes of output cut by the runner ..]";

/// How much to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// One look at each group: does the feature work at all.
    Quick,
    /// Everything that ends within seconds.
    Normal,
    /// The same, and stress in full: minutes.
    Soak,
}

impl Effort {
    /// All of them, the smallest first.
    pub const ALL: [Effort; 3] = [Effort::Quick, Effort::Normal, Effort::Soak];

    /// The word for it on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Effort::Quick => "quick",
            Effort::Normal => "normal",
            Effort::Soak => "soak",
        }
    }

    /// From its word.
    pub fn of_name(name: &str) -> Option<Effort> {
        Effort::ALL.into_iter().find(|effort| effort.name() == name)
    }
}

#[cfg(test)]
mod tests;
