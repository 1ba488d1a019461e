// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports about finished runs.

use std::fs;

use crate::support::{Done, World};

/// A run of guests that do this, one kernel each.
fn ran(world: &World, guests: &[&str]) -> Done {
    ran_with(world, guests, &[])
}

/// The same, with additional arguments.
fn ran_with(world: &World, guests: &[&str], more: &[&str]) -> Done {
    let kernel = |(at, does): (usize, &&str)| {
        let tree = world.tree(&format!("linux-{at}"), &format!("guest: {does}"));
        ["--kernel".to_owned(), format!("tree:{}", tree.display())]
    };
    let kernels: Vec<String> = guests.iter().enumerate().flat_map(kernel).collect();
    let kernels: Vec<&str> = kernels.iter().map(String::as_str).collect();
    world.run(&[&["--boot", "direct", "--timeout", "idle=2"], &kernels[..], more].concat())
}

fn report(world: &World, words: &[&str]) -> Done {
    world.start(world.command(&[&["report"], words].concat())).done()
}

#[test]
fn show_prints_what_vmtest_printed_and_ends_as_it_did() {
    let world = World::new();
    for (guests, code) in [(&["pass"][..], 0), (&["fail"], 1), (&["pass", "panic"], 21), (&["vanish"], 24)] {
        let done = ran(&world, guests);
        done.exits(code);
        let dir = done.run_dir.as_ref().expect("a run");
        let (dir, name) = (dir.display().to_string(), dir.file_name().expect("a name").to_string_lossy());
        for which in [&[][..], &["latest"], &[&dir], &[&name], &[&format!("{dir}/run.json")]] {
            let shown = report(&world, &[&["show"], which].concat());
            assert_eq!(shown.stdout, done.stdout, "{guests:?} {which:?}");
            shown.exits(code);
        }
    }
}

#[test]
fn a_run_that_is_not_there_or_not_to_be_believed_is_no_pass() {
    let world = World::new();
    report(&world, &["show"]).refuses(2, &["no such finished run: latest"]);
    let done = ran(&world, &["fail"]);
    let dir = done.run_dir.as_ref().expect("a run");
    let good = fs::read_to_string(dir.join("run.json")).expect("run.json");
    for (from, to, why) in [
        ("\"exit_code\": 1", "\"exit_code\": 0", "its cells give exit 1"),
        ("\"schema\": 1", "\"schema\": 2", "its schema is 2"),
        ("\"outcome\": \"fail\"", "\"outcome\": \"fine\"", "fine"),
        ("\"class\": 1", "\"class\": 77", "no exit class has the number 77"),
        ("\"class\": 1", "\"class\": 0", "its cells give exit 0"),
    ] {
        assert!(good.contains(from), "{from}\n{good}");
        fs::write(dir.join("run.json"), good.replace(from, to)).expect("written");
        report(&world, &["show"]).refuses(30, &["cannot trust", why]);
    }
    fs::write(dir.join("run.json"), &good[..good.len() / 2]).expect("written");
    report(&world, &["show"]).refuses(30, &["cannot trust"]);
    fs::remove_file(dir.join("run.json")).expect("removed");
    report(&world, &["show"]).refuses(2, &["it is under way, or was killed"]);
}

#[test]
fn what_guests_said_is_judged_again_and_comes_to_the_same() {
    let ways: [(&[&str], &[&str]); 13] = [
        (&["pass"], &[]),
        (&["fail"], &[]),
        (&["skip"], &[]),
        (&["skip"], &["--allow-skip", "basic/*"]),
        (&["panic", "pass"], &[]),
        (&["panics-at-last"], &[]),
        (&["many-splats"], &[]),
        (&["vanish"], &[]),
        (&["garbage"], &[]),
        (&["dies-early"], &[]),
        (&["idle"], &[]),
        (&["fails-third"], &["--repeat", "4"]),
        (&["fail then panic then pass"], &["--retries", "2"]),
    ];
    for (guests, words) in ways {
        let world = World::new();
        let done = ran_with(&world, guests, words);
        let code = done.status.code().expect("a code");
        let again = report(&world, &["show", "--from-raw"]);
        assert_eq!(again.stdout, done.stdout, "{guests:?} {words:?}\n{again}");
        again.exits(code).says(&["are what their bytes say"]);
        assert!(!again.stderr.contains("not re-judged"), "{again}");
    }
}

#[test]
fn a_record_that_agrees_with_itself_and_not_with_its_guests_is_found_out() {
    let world = World::new();
    let done = ran(&world, &["fail"]);
    let dir = done.run_dir.as_ref().expect("a run");
    let good = fs::read_to_string(dir.join("run.json")).expect("run.json");
    let json = || -> serde_json::Value { serde_json::from_str(&good).expect("JSON") };
    let found_out = |run: &serde_json::Value, says: &str| {
        fs::write(dir.join("run.json"), run.to_string()).expect("written");
        assert_eq!(report(&world, &["show"]).status.code(), Some(0), "it agrees with itself");
        report(&world, &["show", "--from-raw"]).refuses(30, &[says]);
    };
    let mut forged = json();
    (forged["exit_code"], forged["classes"]) = (0.into(), serde_json::json!({ "0": 3 }));
    for (field, value) in [("outcome", "pass".into()), ("class", 0.into()), ("reason", "".into())] {
        forged["cells"][1][field] = value;
    }
    found_out(&forged, "basic/second on tree:linux-0: pass (), but its guest reported fail");
    let mut without = json();
    (without["exit_code"], without["classes"]) = (0.into(), serde_json::json!({ "0": 2 }));
    without["cells"].as_array_mut().expect("cells").remove(1);
    found_out(&without, "basic/second on tree:linux-0: not in the record");
    let mut more = without.clone();
    let mut stray = more["cells"][0].clone();
    stray["subtest"] = "stray".into();
    more["classes"] = serde_json::json!({ "0": 3 });
    more["cells"].as_array_mut().expect("cells").push(stray);
    found_out(&more, "basic/stray on tree:linux-0: pass, but no guest reported it");

    // Missing bytes are not evidence either.
    fs::write(dir.join("run.json"), &good).expect("written");
    let cell = json()["boots"][0]["directory"].as_str().expect("a directory").to_owned();
    let events = dir.join(cell).join("events.jsonl");
    let bytes = fs::read(&events).expect("events");
    fs::write(&events, &bytes[..bytes.len() / 2]).expect("written");
    report(&world, &["show", "--from-raw"]).refuses(30, &["bytes of", "that were judged"]);
}

#[test]
fn runs_are_listed_and_counted_from_the_newest_wherever_they_are() {
    let world = World::new();
    assert_eq!(report(&world, &["list"]).stdout, "no finished runs\n");
    ran(&world, &["fail"]).exits(1);
    let out = world.path("elsewhere").display().to_string();
    ran_with(&world, &["pass"], &["--out", &out]);
    let list = report(&world, &["list"]);
    let lines: Vec<&str> = list.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{list}");
    assert!(lines[0].contains("FAILED: 1 of 3 tests on tree:linux-0"), "{list}");
    assert!(lines[1].contains("PASSED: 3 tests on tree:linux-0"), "{list}");
    for (which, code) in
        [(&["show"][..], 0), (&["show", "latest"], 0), (&["show", "-1"], 0), (&["show", "-2"], 1)]
    {
        report(&world, which).exits(code);
    }
    report(&world, &["show", "-3"]).refuses(2, &["no such finished run: -3", "not that many"]);
    let name = lines[1].split(' ').next().expect("a name");
    report(&world, &["show", name]).exits(0).says(&[&out]);
    let json = report(&world, &["list", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["runs"][0]["exit_code"], 1);
    // The run of --out is the user's: only its name is forgotten.
    let clean = world.start(world.command(&["clean", "--runs"])).done();
    assert_eq!(clean.status.code(), Some(0), "{clean}");
    assert_eq!(report(&world, &["list"]).stdout, "no finished runs\n");
    report(&world, &["show", &out]).exits(0);
}

#[test]
fn rows_can_be_folded_and_unfolded() {
    let world = World::new();
    let done = ran(&world, &["fail"]);
    done.exits(1).says(&["basic/first pass", "basic/second fail"]);
    let folded = report(&world, &["show", "--rows", "failed"]);
    folded.exits(1).says(&["basic 1/2 many 1/1", "fail basic/second"]);
    assert_eq!(folded.told("basic/first"), 0, "{folded}");
    let folded = ran_with(&world, &["fail"], &["--rows", "failed"]);
    assert_eq!(folded.told("basic/first"), 0, "{folded}");
}

#[test]
fn what_did_not_pass_runs_again_with_the_same_request() {
    let world = World::new();
    let first = ran_with(&world, &["fail"], &["--repeat", "2"]);
    first.exits(1);
    let again = world.start(world.command(&["vmtest", "--rerun-failed"])).done();
    again.exits(1).says(&["FAILED: 1 of 1 test on tree:linux-0"]);
    assert_eq!(again.outcomes(None).into_keys().collect::<Vec<_>>(), ["basic/second"]);
    let command = again.json()["command"].to_string();
    assert!(command.contains("--repeat") && command.contains("basic/second"), "{command}");
    assert!(!command.contains("rerun"), "it can be repeated when `latest` is another run: {command}");
    world.tree("linux-0", "guest: pass");
    let run = first.run_dir.as_ref().expect("a run").display().to_string();
    let fixed = world.start(world.command(&["vmtest", "--rerun-failed", &run])).done();
    fixed.exits(0);
    assert_eq!(fixed.outcomes(None).len(), 1, "{fixed}");
    let none = world.start(world.command(&["vmtest", "--rerun-failed"])).done();
    none.refuses(2, &["cannot rerun the failed tests of", "every test of it passed"]);
    // Nothing ran, so everything that was asked for runs.
    ran_with(&world, &[], &["--kernel", &format!("tree:{}", world.tree("broken", "make: error").display())]);
    let same = world.start(world.command(&["vmtest", "--rerun-failed"])).done();
    same.exits(12);
    assert_eq!(same.outcomes(None).len(), 3, "{same}");
}

#[test]
fn the_finding_names_the_state_of_a_tree() {
    let world = World::new();
    let top = world.repo("linux", "guest: pass");
    let spec = format!("tree:{}", top.display());
    let run = || world.run(&["--kernel", &spec, "--boot", "direct"]);
    let clean = run();
    let state = crate::support::text(&clean.json()["kernels"][0]["state"]);
    assert!(state.starts_with("main@") && state.len() == "main@".len() + 7, "{state}");
    clean.exits(0).says(&[&format!("PASSED: 3 tests on tree:linux ({state})")]);
    fs::write(top.join("kernel/fake.c"), "int edited;\n").expect("written");
    run().exits(0).says(&[&format!("PASSED: 3 tests on tree:linux ({state} +1 file)")]);
}
