// SPDX-License-Identifier: MIT OR Apache-2.0
//! Being asked to end, and being killed: nothing runs on, the record is whole, and the next run works.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::World;

/// Interrupts a run in which something hangs, then mends the tree and runs again.
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
