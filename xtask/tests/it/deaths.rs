// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every way in which a guest can end, and the verdict. Never a pass.

use std::fs;

use crate::support::{Done, World, text};

/// Boots a guest that does this, both ways, and asserts the exit code and the outcome of `basic/second`.
#[track_caller]
fn judged(does: &str, words: &[&str], code: i32, second: &str, says: &[&str]) -> Done {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", &format!("guest: {does}")).display());
    let mut last = None;
    for boot in ["direct", "vng"] {
        let done = world.run(&[&["--kernel", &spec, "--boot", boot][..], words].concat());
        done.exits(code).says(says);
        assert_eq!(
            done.outcomes(None).get("basic/second").map(String::as_str),
            Some(second),
            "{boot}\n{done}"
        );
        world.is_clean();
        last = Some(done);
    }
    last.expect("both were booted")
}

/// Like [`judged`]; the subtest before the death keeps its pass, the one after it is missing.
#[track_caller]
fn dies_in_the_middle(does: &str, words: &[&str], code: i32, second: &str, says: &[&str]) {
    let done = judged(does, words, code, second, says);
    let outcomes = done.outcomes(None);
    assert_eq!((&outcomes["basic/first"][..], &outcomes["many/third"][..]), ("pass", "missing"), "{done}");
    assert_eq!(done.json()["boots"][0]["class"], code);
}

#[test]
fn a_panic_is_a_crash_of_the_running_test() {
    dies_in_the_middle("panic", &[], 21, "crash", &["BUG: kernel NULL pointer dereference"]);
}

#[test]
fn a_panic_after_the_last_test_still_counts() {
    judged("panics-at-last", &[], 21, "pass", &["Attempted to kill init!"]);
}

#[test]
fn a_panic_before_the_runner_leaves_every_test_not_run() {
    judged("dies-early", &[], 21, "notrun", &["Unable to mount root fs"]);
}

#[test]
fn a_kernel_that_dies_before_it_can_panic_is_not_waited_for() {
    // Not the boot limit, which would mean that the guest did not boot.
    let begun = std::time::Instant::now();
    judged("early-exception", &["--timeout", "boot=600"], 21, "notrun", &["PANIC: early exception 0x0d"]);
    judged("system-halted", &["--timeout", "boot=600"], 21, "notrun", &["System halted"]);
    assert!(begun.elapsed().as_secs() < 300, "{:?}", begun.elapsed());
}

#[test]
fn an_emulator_that_dies_is_not_the_kernels_fault_and_gets_a_second_chance_before_the_first_word() {
    let says = "the emulator died, not the kernel: qemu-system-x86_64: system/physmem.c:2671:";
    judged("emulator-dies", &[], 30, "missing", &[says, "during basic/second"]);
    judged("emulator-dies-early", &[], 30, "notrun", &[says, "Retrying once"]);
    judged("emulator-dies-of-a-panic", &[], 21, "crash", &["Fatal exception"]);
    for (does, code) in [("emulator-dies-early then pass", 0), ("emulator-dies then pass", 30)] {
        let world = World::new();
        let spec = format!("tree:{}", world.tree("linux", &format!("guest: {does}")).display());
        let done = world.run(&["--kernel", &spec, "--boot", "vng"]);
        done.exits(code);
        assert_eq!(done.stderr.contains("Retrying once"), code == 0, "{done}");
    }
}

#[test]
fn vanishing_without_done_is_a_lost_guest() {
    dies_in_the_middle("vanish", &[], 24, "crash", &["exited without a final message during basic/second"]);
}

#[test]
fn every_test_passed_but_no_done_is_a_lost_guest() {
    judged("no-done", &[], 24, "pass", &["exited without a final message"]);
}

#[test]
fn silence_is_a_hang() {
    dies_in_the_middle("idle", &["--timeout", "idle=1"], 22, "timeout", &["during basic/second"]);
}

#[test]
fn a_guest_that_does_not_switch_off_hangs() {
    judged("stays-on", &["--timeout", "shutdown=1"], 22, "pass", &["did not switch off"]);
}

#[test]
fn talking_for_too_long_meets_the_wall_clock() {
    dies_in_the_middle("busy", &["--timeout", "run=1"], 23, "timeout", &["not done within the limit"]);
}

#[test]
fn a_guest_without_hello_did_not_boot() {
    let says = ["the first process started, the runner did not report"];
    judged("no-hello", &[], 20, "notrun", &says);
    judged("no-hello-hang", &["--timeout", "boot=1"], 20, "notrun", &says);
}

#[test]
fn a_guest_without_a_byte_did_not_boot() {
    judged("silent", &["--timeout", "first-byte=1"], 20, "notrun", &["not a byte on the console"]);
}

#[test]
fn qemus_own_complaint_is_passed_on() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: refuses").display());
    let done = world.run(&["--kernel", &spec, "--boot", "direct"]);
    done.exits(20).says(&["Cannot allocate memory"]);
}

#[test]
fn a_killed_runner_is_no_failed_test() {
    dies_in_the_middle("runner-dies", &[], 25, "crash", &["signal 11 killed the runner during basic/second"]);
    dies_in_the_middle("runner-exits", &[], 25, "crash", &["the runner exited with 101"]);
}

#[test]
fn a_planned_test_without_an_end_is_missing() {
    judged("missing", &[], 3, "missing", &["planned, and never reported"]);
}

#[test]
fn a_failure_shows_its_reason_and_its_log() {
    judged("fail", &[], 1, "fail", &["the session ran once", "| said by basic/second"]);
}

#[test]
fn a_known_failure_passes_with_its_reason() {
    judged("xfail", &[], 0, "xfail", &["a known bug"]);
}

#[test]
fn a_skip_counts_unless_it_is_allowed() {
    judged("skip", &[], 3, "skip", &["no BPF_TRACE_FSESSION"]);
    for allowed in ["basic/*", "basic", "tree:lin*=*"] {
        let done = judged("skip", &["--allow-skip", allowed], 0, "skip", &[]);
        let json = done.json();
        let cells = json["cells"].as_array().expect("cells").iter();
        let optional: Vec<_> =
            cells.filter(|cell| cell["required"] == false).map(|cell| text(&cell["subtest"])).collect();
        assert_eq!(optional, ["second"]);
    }
    judged("skip", &["--allow-skip", "tree:other=*"], 3, "skip", &[]);
}

#[test]
fn a_skip_of_an_optional_subtest_does_not_count_unless_its_group_is_named() {
    let world = World::new();
    let list = world.path("home/list.json");
    let listed = fs::read_to_string(&list).expect("the list");
    let second = "\"subtest\":\"second\"";
    assert!(listed.contains(second), "{listed}");
    world.write("home/list.json", &listed.replace(second, &format!("{second},\"optional\":true")));
    let spec = format!("tree:{}", world.tree("linux", "guest: skip").display());
    for (tests, status) in [(&[][..], 0), (&["--test", "*"], 0), (&["--test", "basic/*"], 3)] {
        let done = world.run(&[&["--kernel", &spec], tests].concat());
        let json = done.exits(status).json();
        let mut cells = json["cells"].as_array().expect("cells").iter();
        let cell = cells.find(|cell| cell["subtest"] == "second").expect("a cell");
        assert_eq!(
            (&cell["outcome"], &cell["required"]),
            (&"skip".into(), &(status != 0).into()),
            "{tests:?}"
        );
    }
}

#[test]
fn a_splat_counts_though_every_test_passed() {
    let done = judged("splat", &[], 4, "pass", &["kernel/bpf/trampoline.c:42"]);
    let splat = &done.json()["splats"][0];
    assert_eq!((text(&splat["severity"]), text(&splat["kernel"])), ("splat".into(), "tree:linux".into()));
    let done = judged("told-splat", &[], 4, "pass", &["told by the runner"]);
    assert_eq!(text(&done.json()["splats"][0]["during"]), "basic/second");
}

#[test]
fn a_channel_that_cannot_be_believed_passes_nothing() {
    for (does, says) in [
        ("garbage", "a line that is not an event"),
        ("wrong-nonce", "an event of another run, nonce 0123456789abcdef"),
        ("gap", "expected event"),
        ("torn", "torn"),
        ("two-hellos", "a second hello"),
        ("wrong-counts", "counts differ"),
        ("talks-on", "an event after the last one"),
        ("no-plan", "plan"),
        ("ends-twice", "end"),
        ("other-protocol", "speaks protocol"),
    ] {
        let world = World::new();
        let spec = format!("tree:{}", world.tree("linux", &format!("guest: {does}")).display());
        let done = world.run(&["--kernel", &spec, "--boot", "direct"]);
        done.exits(30).says(&[says]);
        assert!(done.outcomes(None).values().all(|outcome| outcome != "pass"), "{does}\n{done}");
    }
}

#[test]
fn a_test_that_nobody_planned_is_no_pass() {
    let done = judged("unplanned", &[], 30, "pass", &["the guest ran what was not planned"]);
    assert_eq!(done.outcomes(None)["basic/stray"], "fail");
}

#[test]
fn a_killed_qemu_is_a_lost_guest() {
    dies_in_the_middle("killed", &[], 24, "crash", &["exited without a final message during basic/second"]);
}

#[test]
fn a_console_that_is_not_text_is_read_all_the_same() {
    dies_in_the_middle("binary", &[], 21, "crash", &["Kernel panic - not syncing"]);
}

#[test]
fn more_console_than_is_kept_could_hold_a_death() {
    judged("flood", &[], 30, "fail", &["more output than is stored"]);
}

#[test]
fn a_child_that_a_guest_leaves_behind_does_not_hold_the_run_up() {
    judged("leaves-a-child", &[], 0, "pass", &[]);
}

#[test]
fn a_pass_that_checked_nothing_or_says_otherwise_is_a_failure() {
    judged("checks-nothing", &[], 1, "fail", &["passed without checking anything"]);
    judged("contradicts", &[], 1, "fail", &["runs: expected 2, seen 1"]);
}

#[test]
fn a_runner_that_plans_less_than_was_asked_for_does_not_pass() {
    judged("plans-less", &[], 3, "missing", &["planned, and never reported"]);
}

#[test]
fn a_kvm_that_runs_no_kernel_is_told_and_the_guest_is_emulated() {
    let silent = ("silent-under-kvm", "no output under KVM within 1 s", (20, "not a byte on the console"));
    let died =
        "QEMU died under KVM before the guest's first output: qemu-system-x86_64: system/physmem.c:2671:";
    let dies = ("dies-under-kvm", died, (30, "the emulator died, not the kernel"));
    for (boot, (does, why, (code, says))) in [("direct", silent), ("vng", silent), ("direct", dies)] {
        let boots = |accel: &str| {
            let world = World::new();
            let spec = format!("tree:{}", world.tree("linux", &format!("guest: {does}")).display());
            let words =
                ["vmtest", "--toolchain", "host", "--accel", accel, "--kernel", &spec, "--boot", boot];
            let mut command = world.command(&[&words[..], &["--timeout", "first-byte=1"]].concat());
            command.env("VMTEST_KVM_LOOKS_USABLE", "1");
            let done = world.start(command).done();
            world.is_clean();
            let cells = done.run_dir.as_ref().expect("a run").join("cells");
            let kept = std::fs::read_dir(cells).expect("listed").flatten();
            let kept: Vec<_> = kept.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            (done, kept)
        };
        let (done, kept) = boots("auto");
        done.exits(0).says(&[why, "Retrying without KVM"]);
        let record = &done.json()["boots"][0];
        assert_eq!(record["accel"], "tcg");
        assert!(record["accel_reason"].as_str().expect("text").contains(why), "{record}");
        assert_eq!(done.json()["cells"][0]["accel"], "tcg");
        assert!(kept.iter().any(|name| name.ends_with("-kvm")), "the first try is evidence: {kept:?}");
        // If KVM was required, this is the result.
        let (done, _) = boots("kvm");
        done.exits(code).says(&[says]);
        assert_eq!(done.json()["boots"][0]["accel"], "kvm");
    }
}

#[test]
fn a_make_that_does_not_end_is_ended_and_its_column_does_not_build() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "make: hang\nguest: pass").display());
    let done = world.run(&["--kernel", &spec, "--boot", "direct", "--timeout", "build=1"]);
    done.exits(12).says(&["did not end within 1 s", "--timeout build=TIME"]);
    assert!(done.outcomes(None).values().all(|outcome| outcome == "notrun"), "{done}");
    let plan = done.run_dir.as_ref().expect("a run").join("plan.json");
    assert!(std::fs::read_to_string(plan).expect("kept").contains("\"limit_s\": 1"));
    // None of it is trusted, and nothing keeps running.
    world.is_clean();
    world.tree("linux", "guest: pass");
    world.run(&["--kernel", &spec, "--boot", "direct"]).exits(0);
}
