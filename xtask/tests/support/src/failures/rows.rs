// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every way for a run to go wrong in or around its guest, and the required verdict: declared once, for the
//! tests and for docs/evidence/failures.md.

/// What causes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A fake guest that does this (`fakes/guest`).
    Fake {
        /// What it does.
        does: &'static str,
        /// `direct` or `vng`.
        boot: &'static str,
    },
    /// A real guest, with a subtest of the group `faults`.
    Fault {
        subtest: &'static str,
        /// `direct` or `vng`.
        boot: &'static str,
        /// Whether it needs the kernel of the variant `faults`; otherwise the default one.
        variant: bool,
    },
    /// A real guest with a healthy kernel, made to fail by its options alone.
    Options,
    /// A real QEMU whose kernel is only this machine code, entered in 32-bit mode.
    Code(&'static [u8]),
    /// A real guest that loses this process while `faults/runner_hangs` runs.
    Killed {
        /// Start of the process's command line.
        process: &'static str,
        /// `direct` or `vng`.
        boot: &'static str,
    },
}

/// One way to die.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub name: &'static str,
    /// How it is caused, in words.
    pub how: &'static str,
    /// How the test causes it.
    pub cause: Cause,
    /// Additional options of the run.
    pub words: &'static [&'static str],
    /// Class of the guest as a whole.
    pub class: i64,
    /// Exit code of the run.
    pub code: i32,
    /// Outcome of the affected subtest.
    pub outcome: &'static str,
    /// Part of the title of the death or of a splat, or else of the reason of the guest or of that subtest.
    pub says: &'static str,
    /// Whether the result depends on timing; such a row is tried many times.
    pub racy: bool,
}

impl Row {
    const fn new(name: &'static str, how: &'static str, cause: Cause) -> Row {
        Row { name, how, cause, words: &[], class: 0, code: 0, outcome: "", says: "", racy: false }
    }

    /// The guest and the run have this class.
    const fn is(self, class: i32, outcome: &'static str, says: &'static str) -> Row {
        Row { class: class as i64, code: class, outcome, says, ..self }
    }

    const fn exits(self, code: i32) -> Row {
        Row { code, ..self }
    }

    const fn with(self, words: &'static [&'static str]) -> Row {
        Row { words, ..self }
    }

    const fn racy(self) -> Row {
        Row { racy: true, ..self }
    }

    /// Whether it needs a virtual machine.
    pub fn is_real(&self) -> bool {
        !matches!(self.cause, Cause::Fake { .. })
    }

    /// The affected `test/subtest`.
    pub fn victim(&self) -> String {
        match self.cause {
            Cause::Fake { .. } => "basic/second".to_owned(),
            Cause::Fault { subtest, .. } => format!("faults/{subtest}"),
            Cause::Killed { .. } => "faults/runner_hangs".to_owned(),
            Cause::Options | Cause::Code(_) => "faults/lives".to_owned(),
        }
    }
}

const fn fault(subtest: &'static str) -> Cause {
    Cause::Fault { subtest, boot: "direct", variant: true }
}

const fn plain(subtest: &'static str) -> Cause {
    Cause::Fault { subtest, boot: "direct", variant: false }
}

const fn vng(subtest: &'static str, variant: bool) -> Cause {
    Cause::Fault { subtest, boot: "vng", variant }
}

const fn fake(does: &'static str) -> Cause {
    Cause::Fake { does, boot: "direct" }
}

const fn fake_vng(does: &'static str) -> Cause {
    Cause::Fake { does, boot: "vng" }
}

/// `cli; hlt; jmp` back to the hlt.
const HALTS: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd];
/// `lidt` of a table without entries (ten zeros at 0x100010), then a breakpoint.
const TRIPLE_FAULT: &[u8] =
    &[0x0f, 0x01, 0x1d, 0x10, 0x00, 0x10, 0x00, 0xcc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

pub const ROWS: &[Row] = &[
    // A kernel that dies.
    Row::new("panic", "LKDTM PANIC", fault("panic"))
        .is(21, "crash", "Kernel panic - not syncing: dumptest"),
    Row::new("panic-vng", "LKDTM PANIC, through virtme-ng", vng("panic", true)).is(
        21,
        "crash",
        "Kernel panic - not syncing: dumptest",
    ),
    Row::new(
        "oops",
        "LKDTM EXCEPTION: a null pointer, which KASAN turns into a protection fault",
        fault("oops"),
    )
    .is(21, "crash", "Oops: general protection fault"),
    Row::new("bug", "LKDTM BUG", fault("bug")).is(21, "crash", "kernel BUG at drivers/misc/lkdtm/bugs.c"),
    Row::new("stack-overflow", "LKDTM EXHAUST_STACK", fault("stack")).is(
        21,
        "crash",
        "stack guard page was hit",
    ),
    Row::new("soft-lockup", "LKDTM SOFTLOCKUP; softlockup_panic=1", fault("soft_lockup")).is(
        21,
        "crash",
        "watchdog: BUG: soft lockup",
    ),
    Row::new(
        "rcu-stall",
        "LKDTM SOFTLOCKUP while somebody waits for a grace period, without the detector of soft lockups; panic_on_rcu_stall",
        fault("rcu_stall"),
    )
    .with(&["--cpus", "2", "--append", "nosoftlockup", "--append", "hung_task_panic=0", "--append", "rcupdate.rcu_cpu_stall_timeout=5"])
    .is(21, "crash", "detected stall"),
    Row::new("hard-lockup", "LKDTM HARDLOCKUP on one of two CPUs; hardlockup_panic", fault("hard_lockup"))
        .is(21, "crash", "hard LOCKUP"),
    Row::new("hung-task", "LKDTM HUNG_TASK; hung_task_panic=1", fault("hung_task")).is(
        21,
        "crash",
        "blocked for more than 5 seconds",
    ),
    Row::new("no-init", "rdinit= names no file", Cause::Options)
        .with(&["--boot", "direct", "--append", "rdinit=/nothing"])
        .is(21, "notrun", "Kernel panic - not syncing: "),
    Row::new(
        "death-behind-garbage",
        "40,000 random bytes and an open line on the console, then LKDTM PANIC",
        fault("binary"),
    )
    .is(21, "crash", "Kernel panic - not syncing: dumptest"),
    Row::new("panic-after-the-last-test", "a fake guest panics after `done`", fake("panics-at-last")).is(
        21,
        "pass",
        "Attempted to kill init!",
    ),
    Row::new("panic-that-stays", "a fake guest panics and goes on", fake("panic-stays")).is(
        21,
        "crash",
        "Kernel panic",
    ),
    Row::new(
        "panic-behind-many-splats",
        "a fake guest warns 64 times, then panics",
        fake("many-splats-and-panic"),
    )
    .is(21, "crash", "Kernel panic - not syncing: at last"),
    Row::new("panic-before-the-runner", "a fake guest without a root", fake("dies-early")).is(
        21,
        "notrun",
        "Unable to mount root fs",
    ),
    Row::new("emulator-int3", "a fake guest with two CPUs, an int3 oops in schedule()", fake("int3"))
        .with(&["--cpus", "2", "--test", "basic"])
        .is(30, "missing", "an emulator failure, not the kernel's"),
    Row::new("emulator-dies", "a fake QEMU stops at an assertion of its own", fake("emulator-dies"))
        .is(30, "missing", "the emulator died, not the kernel"),
    Row::new("int3-in-a-trampoline", "the same in a trampoline", fake("int3-ours"))
        .with(&["--cpus", "2", "--test", "basic"])
        .is(21, "crash", "Oops: int3"),
    // A kernel that prints a warning and continues.
    Row::new("warning", "LKDTM WARNING", fault("warning")).is(4, "pass", "lkdtm_WARNING"),
    Row::new("kasan", "LKDTM READ_AFTER_FREE", fault("kasan")).is(
        4,
        "pass",
        "BUG: KASAN: slab-use-after-free in lkdtm_READ_AFTER_FREE",
    ),
    Row::new("ubsan", "LKDTM ARRAY_BOUNDS", fault("ubsan")).is(4, "pass", "UBSAN: array-index-out-of-bounds"),
    Row::new("list-corruption", "LKDTM CORRUPT_LIST_ADD", fault("list")).is(4, "pass", "list_add corruption"),
    Row::new("lockdep", "LKDTM SPINLOCKUP, once: back to user space with a lock", fault("lockdep"))
        .is(4, "pass", "lock held when returning to user space")
        .racy(),
    Row::new("oom", "a process takes all memory", plain("oom"))
        .is(4, "fail", "Out of memory: Killed process")
        .exits(1),
    // A guest that hangs.
    Row::new("hang-in-kernel", "LKDTM SOFTLOCKUP, no detector", fault("soft_lockup"))
        .with(&[
            "--append",
            "nowatchdog",
            "--append",
            "rcupdate.rcu_cpu_stall_suppress=1",
            "--timeout",
            "idle=15",
        ])
        .is(22, "timeout", "no output for too long during faults/soft_lockup"),
    Row::new("hung-task-no-panic", "LKDTM HUNG_TASK, hung_task_panic=0", fault("hung_task"))
        .with(&["--append", "hung_task_panic=0", "--timeout", "idle=20"])
        .is(22, "timeout", "; the kernel had said: INFO: task"),
    Row::new("runner-hangs", "a subtest that never ends", plain("runner_hangs"))
        .with(&["--timeout", "idle=10"])
        .is(22, "timeout", "no output for too long during faults/runner_hangs"),
    Row::new("runner-hangs-vng", "the same through virtme-ng", vng("runner_hangs", false))
        .with(&["--timeout", "idle=10"])
        .is(22, "timeout", "no output for too long during faults/runner_hangs"),
    Row::new("power-off-without-acpi", "the guest switches off, and the machine cannot", plain("power_off"))
        .with(&["--timeout", "idle=10"])
        .is(22, "timeout", "no output for too long during faults/power_off"),
    Row::new("does-not-switch-off", "a fake guest that stays after `done`", fake("stays-on"))
        .with(&["--timeout", "shutdown=1"])
        .is(22, "pass", "did not switch off"),
    Row::new("flood", "a process writes to the console as fast as the UART takes it", plain("flood"))
        .with(&["--timeout", "run=30"])
        .is(23, "timeout", "not done within the limit during faults/flood"),
    Row::new("talks-for-ever", "a fake guest that writes a line ten times a second", fake("busy"))
        .with(&["--timeout", "run=2"])
        .is(23, "timeout", "not done within the limit"),
    // A boot that does not get far.
    Row::new("no-first-byte", "a kernel that halts at its first instruction", Cause::Code(HALTS)).is(
        20,
        "notrun",
        "no byte within the limit: not a byte on the console",
    ),
    Row::new(
        "reset-before-the-first-byte",
        "a kernel with a triple fault as its second instruction",
        Cause::Code(TRIPLE_FAULT),
    )
    .is(20, "notrun", "exited with status 0: not a byte on the console"),
    Row::new("boot-limit", "a limit of one second", Cause::Options)
        .with(&["--boot", "vng", "--timeout", "boot=1"])
        .is(20, "notrun", "not ready within the limit"),
    Row::new("no-hello", "a fake guest whose runner says nothing", fake("no-hello-hang"))
        .with(&["--timeout", "boot=1"])
        .is(20, "notrun", "the first process started, the runner did not report"),
    Row::new("qemu-refuses", "a fake QEMU without memory", fake("refuses")).is(
        20,
        "notrun",
        "Cannot allocate memory",
    ),
    Row::new("vng-refuses", "a fake vng that dies at its start", fake_vng("refuses")).is(
        20,
        "notrun",
        "Cannot allocate memory",
    ),
    // A guest that is gone.
    Row::new("triple-fault", "sysrq b with reboot=t", plain("triple_fault"))
        .is(24, "crash", "exited without a final message during faults/triple_fault")
        .racy(),
    Row::new("restart", "reboot(2) in the middle of a test", plain("restart")).is(
        24,
        "crash",
        "exited without a final message during faults/restart",
    ),
    Row::new("restart-vng", "the same through virtme-ng", vng("restart", false)).is(
        24,
        "crash",
        "exited without a final message during faults/restart",
    ),
    Row::new(
        "power-off-vng",
        "power off in the middle of a test, through virtme-ng",
        vng("power_off", false),
    )
    .is(24, "crash", "exited without a final message during faults/power_off"),
    Row::new("starts-twice", "a fake guest that boots once more", fake("reboots")).is(
        24,
        "crash",
        "the kernel started more than once",
    ),
    Row::new(
        "qemu-killed",
        "SIGKILL of a real QEMU",
        Cause::Killed { process: "qemu-system", boot: "direct" },
    )
    .is(24, "crash", "exited without a final message during faults/runner_hangs")
    .racy(),
    Row::new("vng-killed", "SIGKILL of virtme-ng", Cause::Killed { process: "vng", boot: "vng" }).is(
        24,
        "crash",
        "exited without a final message during faults/runner_hangs",
    ),
    Row::new("vanishes", "a fake guest ends without `done`", fake("vanish")).is(
        24,
        "crash",
        "exited without a final message during basic/second",
    ),
    Row::new("no-done", "the same after the last subtest", fake("no-done")).is(
        24,
        "pass",
        "exited without a final message",
    ),
    // A runner that fails.
    Row::new("runner-dies", "SIGKILL to the process that runs the subtests", plain("runner_dies"))
        .is(25, "crash", "signal 9 killed the runner during faults/runner_dies")
        .racy(),
    Row::new("runner-exits", "a fake runner exits with 101", fake("runner-exits")).is(
        25,
        "crash",
        "the runner exited with 101",
    ),
    Row::new("test-aborts", "abort() in a subtest", plain("test_aborts"))
        .is(0, "fail", "its process died of SIGABRT")
        .exits(1),
    Row::new("never-reported", "a fake runner leaves a subtest out", fake("missing"))
        .is(0, "missing", "planned, and never reported")
        .exits(3),
    Row::new("checks-nothing", "a fake runner says pass, and checked nothing", fake("checks-nothing"))
        .is(0, "fail", "passed without checking anything")
        .exits(1),
    // Events that cannot be trusted.
    Row::new("half-an-event", "half an event on the port, then a reset", plain("torn_event"))
        .is(30, "missing", "the event channel cannot be trusted: a line that is not an event")
        .racy(),
    Row::new("torn-event", "a fake guest stops within an event", fake("torn")).is(30, "missing", "torn"),
    Row::new("garbage-event", "a fake guest sends what is no JSON", fake("garbage")).is(
        30,
        "fail",
        "a line that is not an event",
    ),
    Row::new("foreign-event", "a fake guest sends the nonce of another run", fake("wrong-nonce")).is(
        30,
        "missing",
        "an event of another run",
    ),
    Row::new("lost-event", "a fake guest leaves a number out", fake("gap")).is(30, "fail", "expected event"),
    Row::new("started-twice", "a fake runner says hello twice", fake("two-hellos")).is(
        30,
        "fail",
        "a second hello",
    ),
    Row::new("counts-differ", "a fake runner counts one too many", fake("wrong-counts")).is(
        30,
        "fail",
        "counts differ",
    ),
    Row::new("event-after-done", "a fake runner goes on after `done`", fake("talks-on")).is(
        30,
        "fail",
        "an event after the last one",
    ),
    Row::new("unplanned", "a fake runner runs what nobody asked for", fake("unplanned"))
        .is(0, "pass", "")
        .exits(30),
    Row::new("other-protocol", "a fake runner of another version", fake("other-protocol")).is(
        30,
        "fail",
        "speaks protocol",
    ),
    Row::new(
        "flood-of-a-gigabyte",
        "a fake guest writes 1 GB without an end of line",
        fake("flood-gigabyte"),
    )
    .with(&["--timeout", "run=120", "--timeout", "idle=60"])
    .is(30, "fail", "more output than is stored"),
    // The effect of a second attempt.
    Row::new("flaky", "a fake guest fails once; --retries 1", fake("fail then pass"))
        .with(&["--retries", "1"])
        .is(0, "flaky", "passed in attempt 2")
        .exits(5),
    Row::new(
        "flaky-after-a-panic",
        "a fake guest panics once; --retries 1 --allow-flaky",
        fake("panic then pass"),
    )
    .with(&["--retries", "1", "--allow-flaky"])
    .is(21, "flaky", "NULL pointer")
    .exits(5),
];
