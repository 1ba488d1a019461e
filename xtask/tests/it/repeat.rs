// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--repeat` and `--until-fail`, and how the chosen subtests affect the machine.

use std::fs;

use crate::support::{Done, TESTS, World, text};

/// A run of a kernel that does this.
fn run(does: &str, words: &[&str]) -> Done {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", &format!("guest: {does}")).display());
    world.run(&[&["--kernel", &spec], words].concat())
}

/// Outcome, attempts and reason of a cell.
fn cell(done: &Done, subtest: &str) -> (String, u64, String) {
    let cells = done.json()["cells"].as_array().expect("cells").iter();
    let found: Vec<_> = cells.filter(|cell| cell["subtest"] == subtest).collect();
    assert_eq!(found.len(), 1, "one cell however often it ran\n{done}");
    let attempts = found[0]["attempts"].as_u64().expect("a number");
    (text(&found[0]["outcome"]), attempts, text(&found[0]["reason"]))
}

#[test]
fn a_repeated_subtest_passes_if_it_does_so_every_time() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    for boot in ["direct", "vng"] {
        let done = world.run(&["--kernel", &spec, "--boot", boot, "--repeat", "4"]);
        done.exits(0).says(&["ran: 4 times each"]);
        assert_eq!(done.stdout.lines().last(), Some("exit 0: pass 3"), "{done}");
        assert_eq!(cell(&done, "second"), ("pass".to_owned(), 4, String::new()));
        let dir = done.run_dir.as_ref().expect("a run").join(text(&done.json()["boots"][0]["directory"]));
        let events = fs::read_to_string(dir.join("events.jsonl")).expect("events");
        assert_eq!(events.lines().count(), 2 + 4 * 2 * TESTS.len() + 1, "each repetition is reported");
    }
}

#[test]
fn the_first_failing_repetition_is_what_is_told() {
    let done = run("fails-third", &["--repeat", "5"]);
    done.exits(1).says(&["repetition 3 of 5: the session ran once"]);
    assert_eq!(cell(&done, "second").1, 5, "it goes on");
    assert_eq!(cell(&done, "first").0, "pass");
    // Two runs are not enough to see it.
    run("fails-third", &["--repeat", "2"]).exits(0);
}

#[test]
fn a_repetition_that_is_not_reported_is_missing() {
    let done = run("misses-one", &["--repeat", "5"]);
    done.exits(3);
    let (outcome, attempts, reason) = cell(&done, "second");
    assert_eq!((outcome.as_str(), attempts), ("missing", 4));
    assert!(reason.starts_with("repetition 3 of 5: "), "{reason}");
    assert_eq!(cell(&done, "third").0, "pass");

    let done = run("stops-short", &["--repeat", "5"]);
    done.exits(3);
    assert!(
        TESTS.iter().all(|path| cell(&done, path.split('/').next_back().expect("a name")).0 == "missing")
    );
    // A runner that does not support repeating.
    run("runs-once", &["--repeat", "5"]).exits(3).says(&["repetition 2 of 5: planned, and never reported"]);
}

#[test]
fn no_repetition_stands_for_another() {
    run("tells-twice", &["--repeat", "4"]).exits(30).says(&["ended twice"]);
}

#[test]
fn a_death_belongs_to_its_repetition() {
    let done = run("panic", &["--repeat", "3"]);
    done.exits(21).says(&["repetition 1 of 3: BUG: kernel NULL pointer dereference"]);
    assert_eq!(cell(&done, "second").0, "crash");
    assert_eq!(cell(&done, "first").0, "missing", "two of its repetitions never ran");
}

#[test]
fn until_it_fails_stops_at_the_first_failure() {
    let done = run("fails-third", &["--until-fail"]);
    done.exits(1).says(&["repetition 3: the session ran once", "ran: 2 to 3 times each"]);
    assert_eq!(cell(&done, "first"), ("pass".to_owned(), 3, String::new()));
    assert_eq!(cell(&done, "third"), ("pass".to_owned(), 2, String::new()));
    // Nothing found.
    let done = run("pass", &["--until-fail", "--repeat", "3"]);
    done.exits(0).says(&["ran: 3 times each"]);
    // The time was up in the third round, or in the first.
    run("stops-short", &["--until-fail"]).exits(0).says(&["ran: 2 to 3 times each"]);
    run("missing", &["--until-fail", "--repeat", "3"]).exits(3).says(&["no complete round"]);
    run("fail", &["--until-fail", "--repeat", "1"]).exits(1);
}

#[test]
fn how_often_is_told_to_the_guest_and_before_the_run() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    let args =
        ["--kernel", &spec, "--until-fail", "--repeat", "2", "--effort", "soak", "--timeout", "run=100"];
    let done = world.run(&args);
    done.exits(0);
    let told = world.read("home/guest.args");
    for word in ["vmtest.repeat=2", "vmtest.untilfail=1", "vmtest.seconds=80", "vmtest.effort=soak"] {
        assert!(told.split_whitespace().any(|told| told == word), "{word}: {told}");
    }
    let dry = world.run(&[&args[..], &["--dry-run"]].concat());
    dry.exits(0).says(&["until a failure: at most 2 times in one boot, nothing is started after 80 s"]);
    let plan = fs::read_to_string(done.run_dir.as_ref().expect("a run").join("plan.json")).expect("a plan");
    let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
    assert_eq!((&plan["repeat"], &plan["until_fail"]), (&2.into(), &true.into()));
}

#[test]
fn subtests_get_the_cpus_and_the_emulator_that_they_need() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    for (words, machine, cpus, thread, reason) in [
        (&["--test", "basic"][..], "microvm,acpi=off,rtc=on", 1, "multi", "no subtest"),
        (&["--test", "many"], "q35", 2, "single", "many/third needs it"),
        (&[], "q35", 2, "single", "many/third needs it"),
        (&["--cpus", "1"], "microvm,acpi=off,rtc=on", 1, "single", "many/third needs it"),
        (&["--test", "basic", "--cpus", "3"], "q35", 3, "multi", "no subtest"),
    ] {
        let done = world.run(&[&["--kernel", &spec, "--boot", "direct"], words].concat());
        done.exits(0);
        let args = world.read("home/guest.args");
        let args = args.lines().last().expect("a call");
        assert!(args.contains(&format!("-machine {machine} ")), "{words:?}: {args}");
        assert!(args.contains(&format!("-accel tcg,thread={thread} ")), "{words:?}: {args}");
        let boot = &done.json()["boots"][0];
        assert_eq!(
            (&boot["cpus"], text(&boot["tcg_thread"])),
            (&cpus.into(), thread.to_owned()),
            "{words:?}"
        );
        assert!(text(&boot["tcg_thread_reason"]).contains(reason), "{words:?}: {boot}");
        assert!(!text(&boot["cpus_reason"]).is_empty());
        let dry = world.run(&[&["--kernel", &spec, "--boot", "direct", "--dry-run"], words].concat());
        dry.exits(0).says(&[&format!("cpus {cpus}")]);
        assert_eq!(dry.told("thread single") == 1, thread == "single", "{words:?}\n{dry}");
    }
    let done = world.run(&["--kernel", &spec, "--boot", "vng"]);
    done.exits(0);
    assert!(world.read("home/guest.args").contains("--qemu-opts=-accel tcg,thread=single"));
}

#[test]
fn how_often_has_its_limits() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    for words in [
        &["--repeat", "0"][..],
        &["--repeat", "1001"],
        &["--repeat", "2", "--exec", "true"],
        &["--until-fail", "--shell"],
    ] {
        world.run(&[&["--kernel", &spec], words].concat()).exits(2);
    }
    assert_eq!(world.read("home/guest.calls"), "");
}
