// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cache` and `clean`, and how many runs are kept.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Done, World, text};

fn tool(world: &World, words: &[&str]) -> Done {
    world.start(world.command(words)).done()
}

fn listed(world: &World) -> Value {
    let done = tool(world, &["cache", "--json"]);
    done.exits(0);
    serde_json::from_str(&done.stdout).expect("JSON")
}

fn entries(listed: &Value) -> Vec<&Value> {
    listed["entries"].as_array().expect("entries").iter().collect()
}

/// Makes every entry look as if it was last used this many days ago.
fn aged(world: &World, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    for entry in entries(&listed(world)) {
        let path = world.path("cache").join(text(&entry["kind"])).join(text(&entry["name"]));
        fs::File::open(path).and_then(|file| file.set_modified(then)).expect("times can be set");
    }
}

#[test]
fn what_is_there_is_listed_and_what_was_not_used_goes() {
    let world = World::new();
    let old = format!("tree:{}", world.tree("old", "guest: pass").display());
    let new = format!("tree:{}", world.tree("new", "guest: pass").display());
    // Trees with the same contents would be the same kernel.
    world.write("new/kernel/fake.c", "int first;\nint second;\nint third;\nint fourth;\n");
    let run = |spec: &str| {
        world.run(&["--kernel", spec, "--boot", "direct"]).exits(0);
    };
    run(&old);
    aged(&world, 9);
    run(&new);
    let before = listed(&world);
    let kinds: BTreeSet<String> = entries(&before).iter().map(|entry| text(&entry["kind"])).collect();
    for kind in ["trees", "objects", "kernel", "runner", "initramfs", "tools"] {
        assert!(kinds.contains(kind), "{kind} is not in {kinds:?}");
    }
    let sum: u64 = entries(&before).iter().map(|entry| entry["bytes"].as_u64().expect("bytes")).sum();
    assert_eq!(before["bytes"], sum);
    assert!(entries(&before).iter().all(|entry| entry["in_use"] == false), "{before:#}");

    let would = tool(&world, &["cache", "--prune", "7d", "--dry-run"]);
    would.exits(0).says(&["would remove trees/", "would remove objects/", "would remove kernel/"]);
    assert_eq!(
        listed(&world)["entries"].as_array().map(Vec::len),
        before["entries"].as_array().map(Vec::len)
    );
    tool(&world, &["cache", "--prune", "7d"]).exits(0).says(&["removed kernel/", "freed"]);
    let after = listed(&world);
    let count = |kind: &str| entries(&after).iter().filter(|entry| entry["kind"] == kind).count();
    // Entries used by both runs were used a moment ago.
    assert_eq!(["trees", "objects", "kernel", "runner"].map(count), [1; 4], "{after:#}");
    world.is_clean();
    run(&new);
    assert_eq!(world.made("vmlinux"), 2, "the one that was used is still there");
    run(&old);
    assert_eq!(world.made("vmlinux"), 3);
    tool(&world, &["cache", "--prune", "0"]).exits(0);
    assert!(entries(&listed(&world)).is_empty());
    run(&new);
    world.is_clean();
}

#[test]
fn a_run_removes_old_entries_only_for_the_space_that_is_to_stay_free() {
    let world = World::new();
    let old = format!("tree:{}", world.tree("old", "guest: pass").display());
    let new = format!("tree:{}", world.tree("new", "guest: pass").display());
    world.write("new/kernel/fake.c", "int first;\nint second;\nint third;\nint fourth;\n");
    world.run(&["--kernel", &old, "--boot", "direct"]).exits(0);
    aged(&world, 9);
    let run = |keep: &str| {
        let mut command = world.vmtest(&["--kernel", &new, "--boot", "direct"]);
        command.env("VMTEST_KEEP_FREE", keep);
        world.start(command).done()
    };
    let kernels = || entries(&listed(&world)).iter().filter(|entry| entry["kind"] == "kernel").count();
    run("0").exits(0);
    assert_eq!(kernels(), 2, "nothing had to go");
    // More than any disk has.
    run("8000T").exits(0).says(&["entries unused for longest"]);
    assert_eq!(kernels(), 1, "the one that was used a moment ago");
    run("lots").exits(2).says(&["VMTEST_KEEP_FREE is `lots`", "write 500M or 20G"]);
    world.is_clean();
}

#[test]
fn what_a_run_uses_stays_and_the_run_goes_on() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: meets").display());
    let mut running = world.start(world.vmtest(&["--kernel", &spec, "--boot", "direct"]));
    let begun = std::time::Instant::now();
    while !fs::read_dir(world.path("home"))
        .expect("listed")
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("here."))
    {
        assert!(begun.elapsed() < Duration::from_secs(60), "the guest does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let in_use = listed(&world);
    let used: BTreeSet<String> = entries(&in_use)
        .iter()
        .filter(|entry| entry["in_use"] == true)
        .map(|entry| text(&entry["kind"]))
        .collect();
    for kind in ["kernel", "runner", "initramfs"] {
        assert!(used.contains(kind), "{kind} is not among {used:?}");
    }
    tool(&world, &["cache", "--prune", "0"]).exits(0).says(&["in use, kept: kernel/"]);
    tool(&world, &["clean", "--cache", "--runs"]).exits(0).says(&["in use, kept: kernel/", "0 runs in"]);
    // Release the guest, which waits for this file.
    world.write("home/here.other", "");
    assert!(running.child.try_wait().expect("waited").is_none(), "it was still running");
    running.done().exits(0);
    assert_eq!(fs::read_dir(world.path("state/vmtest/runs")).expect("listed").count(), 2, "and latest");
}

#[test]
fn clean_removes_what_is_named_and_nothing_of_others() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    world.run(&["--kernel", &spec, "--boot", "direct"]).exits(0);
    for mine in ["cache/kernel/linux/a.c", "cache/photos/b.jpg", "state/vmtest/runs/notes/c"] {
        world.write(mine, "mine");
    }
    tool(&world, &["clean"]).refuses(2, &["needs to know what to remove", "--runs"]);
    tool(&world, &["clean", "--dry-run"]).refuses(2, &["needs to know what to remove"]);
    let would = tool(&world, &["clean", "--runs", "--cache", "--dry-run"]);
    would.exits(0).says(&[
        "would remove run ",
        "would remove kernel/",
        "not created by vmtest, kept: photos",
    ]);
    tool(&world, &["clean", "--runs"]).exits(0).says(&["removed run ", "1 runs in"]);
    assert!(!entries(&listed(&world)).is_empty());
    tool(&world, &["clean", "--cache"])
        .exits(0)
        .says(&["removed kernel/", "not created by vmtest, kept: kernel/linux"]);
    assert!(entries(&listed(&world)).is_empty());
    for mine in ["cache/kernel/linux/a.c", "cache/photos/b.jpg", "state/vmtest/runs/notes/c"] {
        assert_eq!(world.read(mine), "mine", "{mine}");
    }
    world.is_clean();
}

#[test]
fn only_the_newest_runs_are_kept() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    let mut dirs = Vec::new();
    for _ in 0..4 {
        let done = world.run(&["--kernel", &spec, "--boot", "direct", "--keep", "2"]);
        done.exits(0);
        dirs.push(done.run_dir.expect("a run"));
        // Names have a resolution of one second.
        std::thread::sleep(Duration::from_millis(1_050));
    }
    assert_eq!(dirs.iter().map(|dir| dir.exists()).collect::<Vec<_>>(), [false, false, true, true]);
    tool(&world, &["vmtest", "--keep", "0"]).refuses(2, &["--keep"]);
}

#[test]
fn a_run_that_flooded_is_judged_by_all_of_it_and_kept_small() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: flood").display());
    let size = |done: &Done| -> u64 {
        let dir = done.run_dir.as_ref().expect("a run");
        let files = walkdir::WalkDir::new(dir).into_iter().flatten();
        files
            .filter_map(|entry| entry.metadata().ok())
            .filter(|stat| stat.is_file())
            .map(|stat| stat.len())
            .sum()
    };
    let done = world.run(&["--kernel", &spec, "--boot", "direct"]);
    done.exits(30).says(&["the run is larger than 50 MB", "--run-size"]);
    assert!(size(&done) <= 50 << 20, "{}", size(&done));
    let small = world.run(&["--kernel", &spec, "--boot", "direct", "--run-size", "1M"]);
    small.exits(30);
    assert!(size(&small) <= 1 << 20, "{}", size(&small));
    assert_eq!(small.outcomes(None), done.outcomes(None));
    let whole = world.run(&["--kernel", &spec, "--boot", "direct", "--run-size", "200M"]);
    assert!(size(whole.exits(30)) > 60 << 20);
}

#[test]
fn a_killed_run_is_bounded_by_the_next_one() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: idle").display());
    let mut running = world.start(world.vmtest(&["--kernel", &spec, "--boot", "direct"]));
    running.wait_for_hang();
    let runs = world.path("state/vmtest/runs");
    let dir = fs::read_dir(&runs).expect("listed").flatten().next().expect("a run").path();
    let log = dir.join("cells/console.log");
    fs::create_dir_all(dir.join("cells"))
        .and_then(|()| fs::write(&log, vec![b'x'; 60 << 20]))
        .expect("written");
    let other = format!("tree:{}", world.tree("other", "guest: pass").display());
    world.run(&["--kernel", &other, "--boot", "direct"]).exits(0);
    assert_eq!(fs::metadata(&log).expect("there").len(), 60 << 20, "it was under way");
    running.signal(Signal::SIGKILL);
    running.done();
    world.run(&["--kernel", &other, "--boot", "direct"]).exits(0);
    assert!(fs::metadata(&log).expect("there").len() <= 50 << 20);
}

#[test]
fn what_is_typed_wrong_is_a_usage_error() {
    let world = World::new();
    for words in [
        &["cache", "--prune", "7"][..],
        &["cache", "--prune", "all"],
        &["cache", "--dry-run"],
        &["clean", "--keep", "3"],
        &["clean", "--everything"],
        &["vmtest", "--run-size", "big"],
    ] {
        tool(&world, words).refuses(2, &["try '--help'"]);
    }
    assert!(!world.path("cache").exists(), "nothing was made");
}
