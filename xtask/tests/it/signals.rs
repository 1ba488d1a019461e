// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs that are interrupted or killed: nothing keeps running, the record is whole, and the next run works.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::World;

/// Interrupts a run in which something hangs, then fixes the tree and runs again.
fn interrupted(does: &str, boot: &str, signal: Signal, code: i32) {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", does).display());
    let mut running = world.start(world.vmtest(&["--kernel", &spec, "--boot", boot]));
    running.wait_for_hang();
    running.signal(signal);
    let done = running.done_within(Duration::from_secs(5));
    world.is_clean();
    done.exits(code);
    let json = done.json();
    assert_eq!(json["exit_code"], code, "{done}");
    let cells = json["cells"].as_array().expect("cells");
    assert!(cells.iter().all(|cell| cell["outcome"] != "pass" || cell["subtest"] == "first"), "{done}");
    assert!(!cells.is_empty(), "{done}");
    world.tree("linux", "guest: pass");
    world.run(&["--kernel", &spec, "--boot", boot]).exits(0);
}

#[test]
fn sigint_ends_a_build() {
    interrupted("make: hang", "direct", Signal::SIGINT, 130);
}

#[test]
fn sigterm_ends_a_build() {
    interrupted("make: hang", "vng", Signal::SIGTERM, 143);
}

#[test]
fn sigint_ends_a_guest() {
    interrupted("guest: idle", "vng", Signal::SIGINT, 130);
}

#[test]
fn sigterm_ends_a_guest() {
    interrupted("guest: idle", "direct", Signal::SIGTERM, 143);
}

#[test]
fn a_killed_harness_takes_its_guest_along() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: idle").display());
    let mut running = world.start(world.vmtest(&["--kernel", &spec, "--boot", "direct"]));
    running.wait_for_hang();
    running.signal(Signal::SIGKILL);
    let done = running.done();
    assert_eq!(done.status.code(), None);
    world.no_process_is_left(Duration::from_secs(3));
    world.tree("linux", "guest: pass");
    world.run(&["--kernel", &spec, "--boot", "direct"]).exits(0);
}

#[test]
fn what_is_deaf_to_signals_ends_as_well() {
    interrupted("make: deaf", "direct", Signal::SIGINT, 130);
    interrupted("guest: deaf", "vng", Signal::SIGHUP, 130);
}

#[test]
fn sigint_ends_the_build_of_the_runner() {
    let world = World::new();
    world.write("home/runner-takes-forever", "");
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    let mut running = world.start(world.vmtest(&["--kernel", &spec]));
    running.wait_for_hang();
    running.signal(Signal::SIGINT);
    let done = running.done_within(Duration::from_secs(5));
    world.is_clean();
    done.exits(130).json();
}

#[test]
fn sigint_ends_a_look_inside() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: exec-hang").display());
    let mut running = world.start(world.vmtest(&["--kernel", &spec, "--boot", "vng", "--exec", "true"]));
    running.wait_for_hang();
    running.signal(Signal::SIGINT);
    let done = running.done_within(Duration::from_secs(5));
    world.is_clean();
    done.refuses(130, &["interrupted"]);
}

#[test]
fn a_run_that_waits_for_another_can_be_interrupted_or_takes_over() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "make: hang-once\nguest: pass").display());
    let words = ["--kernel", &spec, "--boot", "direct"];
    let mut first = world.start(world.vmtest(&words));
    first.wait_for_hang();
    let mut second = world.start(world.vmtest(&words));
    second.wait_to_say("waiting for another run");
    second.signal(Signal::SIGINT);
    second.done_within(Duration::from_secs(5)).exits(130).json();
    let mut third = world.start(world.vmtest(&words));
    third.wait_to_say("waiting for another run");
    first.signal(Signal::SIGKILL);
    first.done();
    third.done().exits(0);
}

/// Where a run can be when it is interrupted.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Index,
    Download,
    Unpack,
    Apply,
    Configure,
    Build,
    Runner,
    Boot,
    Test,
}

const PHASES: [Phase; 9] = [
    Phase::Index,
    Phase::Download,
    Phase::Unpack,
    Phase::Apply,
    Phase::Configure,
    Phase::Build,
    Phase::Runner,
    Phase::Boot,
    Phase::Test,
];

/// Replaces a program by one that hangs with a child process if one of its arguments is `word`, and otherwise
/// runs the original.
fn hangs(world: &World, name: &str, word: &str) {
    let bin = world.path("bin").join(name);
    // A link to the host's program, or a fake.
    let real = world.path("home").join(format!("real-{name}"));
    fs::rename(&bin, &real).expect("moved");
    let script = format!(
        "#!/bin/sh\nfor one; do [ \"$one\" = {word} ] && {{\n    sleep 1000 &\n    printf '%s\\n' $$ $! >> {}\n    \
         wait\n}}; done\nexec {} \"$@\"\n",
        // Not every child has HOME set.
        world.path("home/pids").display(),
        real.display()
    );
    fs::write(&bin, script).expect("written");
    fs::set_permissions(&bin, fs::Permissions::from_mode(0o755)).expect("made executable");
}

/// A world in which a run hangs in this phase, and its arguments.
fn hanging_in(phase: Phase) -> (World, Vec<String>) {
    let world = World::new();
    let does = match phase {
        Phase::Configure => "make: hang-config",
        Phase::Build => "make: hang",
        Phase::Boot => "guest: silent",
        Phase::Test => "guest: idle",
        Phase::Index | Phase::Download | Phase::Unpack | Phase::Apply | Phase::Runner => "guest: pass",
    };
    let tree = world.tree("linux", does);
    let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
    let mut words =
        vec!["--kernel".to_owned(), format!("tree:{}", text(&tree)), "--boot".into(), "direct".into()];
    match phase {
        // Before the columns are known.
        Phase::Index | Phase::Download => {
            super::disk::archive(&world);
            world.write("home/apt.cut", "0");
            world.write("home/apt.exit", "0\n");
            hangs(&world, "apt-get", if matches!(phase, Phase::Index) { "update" } else { "download" });
            words[1] = "debian:9.9.1".to_owned();
            words.extend(["--mirror".to_owned(), "http://mirror.example/debian".to_owned()]);
        }
        Phase::Unpack => {
            let tar = world.path("linux.tar.xz");
            let done = std::process::Command::new("tar")
                .arg("-cJf")
                .arg(&tar)
                .arg("-C")
                .arg(world.path(""))
                .arg("linux")
                .status();
            assert!(done.is_ok_and(|status| status.success()));
            hangs(&world, "xz", "-dc");
            words[1] = format!("tar:{}", text(&tar));
        }
        Phase::Apply => {
            let patch = world.patch("series/1.patch", "first", "other");
            hangs(&world, "git", "am");
            words.extend(["--patches".to_owned(), text(&patch)]);
        }
        Phase::Runner => drop(world.write("home/runner-takes-forever", "")),
        Phase::Configure | Phase::Build | Phase::Boot | Phase::Test => (),
    }
    (world, words)
}

#[test]
fn a_run_ends_within_five_seconds_wherever_it_is() {
    for phase in PHASES {
        for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
            let (world, words) = hanging_in(phase);
            let mut running =
                world.start(world.vmtest(&words.iter().map(String::as_str).collect::<Vec<_>>()));
            running.wait_for_hang();
            let told = Instant::now();
            running.signal(signal);
            let done = running.done_within(Duration::from_secs(5));
            world.no_process_is_left(Duration::from_secs(5).saturating_sub(told.elapsed()));
            done.exits(code);
            assert_eq!(done.json()["exit_code"], code, "{phase:?}\n{done}");
            assert!(done.json()["classes"][code.to_string()].is_u64(), "{phase:?}\n{done}");
            assert!(
                done.outcomes(None).values().all(|outcome| outcome != "pass" || matches!(phase, Phase::Test)),
                "{phase:?}\n{done}"
            );
            world.is_clean();
        }
    }
}

#[test]
fn what_a_killed_run_left_is_ended_by_the_next_one_and_nothing_else_is() {
    for phase in PHASES {
        let (world, words) = hanging_in(phase);
        let mut running = world.start(world.vmtest(&words.iter().map(String::as_str).collect::<Vec<_>>()));
        running.wait_for_hang();
        // An unrelated process that has everything that can be copied: the environment of one of them.
        let pids = world.read("home/pids");
        let environ =
            fs::read(format!("/proc/{}/environ", pids.lines().next().expect("a process"))).expect("read");
        let nonce = environ
            .split(|byte| *byte == 0)
            .find(|pair| pair.starts_with(b"VMTEST_NONCE="))
            .expect("a nonce");
        let nonce = String::from_utf8_lossy(nonce).into_owned();
        let mut foreign = std::process::Command::new("sleep");
        foreign.arg("1000").env("VMTEST_NONCE", nonce.split_once('=').expect("a value").1);
        let mut foreign = foreign.spawn().expect("sleep runs");
        running.signal(Signal::SIGKILL);
        running.done();
        // Another harness starts with the same cache.
        world.start(world.command(&["cache"])).done().exits(0);
        world.no_process_is_left(Duration::from_secs(1));
        assert!(
            foreign.try_wait().expect("waited").is_none(),
            "{phase:?}: somebody else's process was ended"
        );
        foreign.kill().and_then(|()| foreign.wait()).expect("ended");
        let records = fs::read_dir(world.path("cache/tmp")).expect("listed").flatten();
        let records: Vec<_> =
            records.filter(|entry| entry.file_name().to_string_lossy().starts_with("p-")).collect();
        assert!(records.is_empty(), "{phase:?}: {records:?}");
    }
}

#[test]
fn two_runs_at_once_do_not_disturb_each_other() {
    let world = World::new();
    let (one, other) = (world.tree("one", "guest: idle"), world.tree("other", "guest: pass"));
    let of = |tree: &Path| format!("tree:{}", tree.display());
    let mut first = world.start(world.vmtest(&["--kernel", &of(&one), "--boot", "vng"]));
    first.wait_for_hang();
    for number in 0..3 {
        let out = format!("out-{number}");
        world.run(&["--kernel", &of(&other), "--boot", "vng", "--out", &out]).exits(0);
    }
    assert!(first.child.try_wait().expect("waited").is_none(), "the first one still runs");
    for pid in world.read("home/pids").lines() {
        assert!(Path::new("/proc").join(pid).exists(), "and so does its guest");
    }
    first.signal(Signal::SIGINT);
    let done = first.done_within(Duration::from_secs(5));
    done.exits(130);
    assert_eq!(done.outcomes(None)["basic/first"], "pass");
    world.is_clean();
}
