// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--retries` and `--allow-flaky`: what runs again, and that only a pass with the usual evidence makes a
//! test flaky.

use serde_json::Value;

use crate::support::{Done, World, text};

/// A run of a kernel whose guests do this, one after the other.
fn run(does: &str, words: &[&str]) -> Done {
    within(&World::new(), does, words)
}

fn within(world: &World, does: &str, words: &[&str]) -> Done {
    let spec = format!("tree:{}", world.tree("linux", &format!("guest: {does}")).display());
    let done = world.run(&[&["--kernel", &spec, "--boot", "direct"][..], words].concat());
    world.is_clean();
    done
}

fn cell<'a>(done: &'a Done, subtest: &str) -> &'a Value {
    let mut cells = done.json()["cells"].as_array().expect("cells").iter();
    cells.find(|cell| cell["subtest"] == subtest).unwrap_or_else(|| panic!("no {subtest}\n{done}"))
}

/// Outcomes of `basic/first`, `basic/second` and `many/third`.
fn outcomes(done: &Done) -> [String; 3] {
    ["first", "second", "third"].map(|name| text(&cell(done, name)["outcome"]))
}

/// The outcome of each attempt of a cell.
fn tries(done: &Done, subtest: &str) -> Vec<String> {
    let tries = cell(done, subtest)["tries"].as_array().cloned().unwrap_or_default();
    tries.iter().map(|one| text(&one["outcome"])).collect()
}

#[test]
fn what_failed_runs_again_alone_and_is_flaky() {
    let world = World::new();
    let done = within(&world, "fail then pass", &["--retries", "2"]);
    done.exits(5).says(&["passed in attempt 2; before that fail: the session ran once", "attempt 2 of 3"]);
    assert_eq!(outcomes(&done), ["pass", "flaky", "pass"], "{done}");
    assert_eq!(tries(&done, "second"), ["fail", "pass"]);
    assert_eq!(cell(&done, "second")["attempts"], 2);
    assert_eq!(tries(&done, "first"), [""; 0], "it ran once");
    let boots = done.json()["boots"].as_array().expect("boots");
    assert_eq!(boots.len(), 2, "no more attempts than needed");
    assert_eq!((&boots[1]["attempt"], &boots[0]["retried"]), (&Value::from(2), &Value::Null));
    let dir = done.run_dir.as_ref().expect("a run").join(text(&boots[1]["directory"]));
    let events = std::fs::read_to_string(dir.join("events.jsonl")).expect("kept");
    assert!(events.contains("second") && !events.contains("first"), "only what was lost: {events}");
    assert_eq!(done.stdout.lines().last(), Some("exit 5: flaky 1, pass 2"), "{done}");
}

#[test]
fn what_always_fails_stays_a_failure() {
    let done = run("fail", &["--retries", "3"]);
    done.exits(1);
    assert_eq!(outcomes(&done), ["pass", "fail", "pass"]);
    assert_eq!(tries(&done, "second"), ["fail"; 4]);
    run("fail", &["--retries", "3", "--allow-flaky"]).exits(1);
}

#[test]
fn without_retries_nothing_runs_again() {
    let done = run("fail then pass", &[]);
    done.exits(1);
    assert_eq!(tries(&done, "second"), [""; 0]);
}

#[test]
fn a_lost_guest_takes_everything_behind_it_along() {
    for (does, first) in [("vanish then pass", "crash"), ("killed then pass", "crash")] {
        let done = run(does, &["--retries", "1"]);
        done.exits(5).says(&["its lost tests were rerun"]);
        assert_eq!(outcomes(&done), ["pass", "flaky", "flaky"], "{done}");
        assert_eq!(
            (tries(&done, "second"), tries(&done, "third")),
            (vec![first.into(), "pass".into()], vec!["missing".into(), "pass".into()])
        );
        assert_eq!(
            (&done.json()["boots"][0]["class"], &done.json()["boots"][0]["retried"]),
            (&24.into(), &true.into())
        );
        run(does, &["--retries", "1", "--allow-flaky"]).exits(0).says(&["2 allowed flaky among them"]);
    }
    let done = run("silent then pass", &["--retries", "1", "--timeout", "first-byte=1"]);
    done.exits(5);
    assert_eq!(outcomes(&done), ["flaky"; 3]);
    let done = run("idle then pass", &["--retries", "1", "--timeout", "idle=1"]);
    done.exits(5);
    assert_eq!(tries(&done, "second"), ["timeout", "pass"]);
    let done = run("gap then pass", &["--retries", "1"]);
    done.exits(5);
    assert_eq!(tries(&done, "first"), ["fail", "pass"], "nothing of the first guest is believed");
}

#[test]
fn a_death_of_the_kernel_stays_in_the_record_and_is_never_allowed() {
    for more in [&[][..], &["--allow-flaky"]] {
        let done = run("panic then pass", &[&["--retries", "2"], more].concat());
        done.exits(5).says(&["death: BUG: kernel NULL pointer dereference", "its lost tests were rerun"]);
        assert_eq!(outcomes(&done), ["pass", "flaky", "flaky"]);
        let json = done.json();
        assert_eq!((&json["boots"][0]["class"], &json["boots"][0]["retried"]), (&21.into(), &true.into()));
        assert_eq!(json["splats"][0]["severity"], "death");
        assert_eq!(text(&json["splats"][0]["during"]), "basic/second");
    }
    run("panic", &["--retries", "2"]).exits(21);
    // Every subtest had passed: there is nothing to run again, and the panic counts.
    let done = run("panics-at-last then pass", &["--retries", "2"]);
    done.exits(21);
    assert_eq!(done.json()["boots"].as_array().map(Vec::len), Some(1));
    // The second guest dies after the pass.
    let done = run("fail then panics-at-last", &["--retries", "2"]);
    done.exits(21);
    assert_eq!(outcomes(&done)[1], "flaky");
}

#[test]
fn an_attempt_that_does_not_run_it_is_no_pass() {
    for second in [
        "missing",
        "no-hello",
        "dies-early",
        "no-plan",
        "runner-dies",
        "torn",
        "vanish",
        "skip",
        "xfail",
        "checks-nothing",
    ] {
        let done = run(&format!("fail then {second}"), &["--retries", "1"]);
        assert!(![0, 5].contains(&done.status.code().unwrap_or(0)), "{second}\n{done}");
        assert!(!["pass", "flaky"].contains(&outcomes(&done)[1].as_str()), "{second}\n{done}");
        let done =
            run(&format!("fail then {second}"), &["--retries", "1", "--allow-flaky", "--allow-skip", "*"]);
        assert_ne!(done.status.code(), Some(0), "{second}\n{done}");
    }
}

#[test]
fn what_cannot_be_flaky_is_not_tried_again() {
    for (does, code) in [("skip", 3), ("splat", 4), ("told-splat", 4), ("xfail", 0), ("pass", 0)] {
        let done = run(&format!("{does} then pass"), &["--retries", "3"]);
        done.exits(code);
        assert_eq!(done.json()["boots"].as_array().map(Vec::len), Some(1), "{does}");
    }
    let done = run("splat-and-fail then pass", &["--retries", "3"]);
    done.exits(4).says(&["WARNING: CPU: 0"]);
    assert_eq!(outcomes(&done)[1], "flaky", "the complaint counts, and the subtest is told as it is");
    let done = run("fail then splat", &["--retries", "3", "--allow-flaky"]);
    done.exits(4);

    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "make: error").display());
    let done = world.run(&["--kernel", &spec, "--retries", "3"]);
    done.exits(12);
    assert_eq!(world.made("vmlinux"), 1);
}

#[test]
fn what_makes_no_sense_together_is_refused() {
    let world = World::new();
    for words in [
        &["--retries", "2", "--repeat", "2"][..],
        &["--retries", "2", "--until-fail"],
        &["--retries", "2", "--self-test"],
        &["--retries", "2", "--shell"],
        &["--retries", "0"],
        &["--retries", "11"],
        &["--allow-flaky"],
    ] {
        let done = world.run(words);
        assert_eq!(done.status.code(), Some(2), "{words:?}\n{done}");
    }
}
