// SPDX-License-Identifier: MIT OR Apache-2.0
//! `report show --from-raw` of external suites: the same bytes give the same cells, and a record that
//! contradicts them is rejected.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Done, World, text};
use crate::upstream::{ALPHA, SHAKY, run, tree};

/// As printed by a kernel with the series.
const CAPTURED: &str = include_str!("../../crates/guest/src/test_progs/fsession_test.txt");

/// A test whose program prints what was captured.
fn captured() -> String {
    let lines = CAPTURED.lines().map(|line| format!("//fsession_test: {line}\n"));
    format!("void test_fsession_test(void)\n{{\n}}\n{}", lines.collect::<String>())
}

fn from_raw(world: &World) -> Done {
    world.start(world.command(&["report", "show", "--from-raw"])).done()
}

/// Asserts that the record follows from the bytes.
#[track_caller]
fn comes_to_the_same(world: &World, done: &Done) {
    let again = from_raw(world);
    assert_eq!(again.stdout, done.stdout, "{again}");
    again.exits(done.status.code().expect("a code")).says(&["are what their bytes say"]);
    assert!(!again.stderr.contains("not re-judged"), "{again}");
}

const MANIFEST: &str = "about = \"x\"\nprogram = \"run.sh\"\ntests = [\"one\", \"two\"]\nlimit_s = 9\n";

/// A run of a program that prints this and exits with this status.
fn program(world: &World, prints: &str, status: u32, more: &[&str]) -> Done {
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    world.write("project/selftests/suites/tiny/suite.toml", MANIFEST);
    world.write("project/selftests/suites/tiny/run.sh", &format!("cat << END\n{prints}END\nexit {status}\n"));
    world.run(&[&["--kernel", &spec, "--suite", "tiny"], more].concat())
}

const KTAP_FAILS: &str = "KTAP version 1\n1..2\nok 1 one\n# 2 is not 3\nnot ok 2 two\n";

#[test]
fn the_trees_own_tests_come_to_the_same_again() {
    let captured = captured();
    let ways: [(&str, &[&str], i32); 9] = [
        ("pass", &["--test", "fsession_test"], 0),
        ("pass", &["--test", "fsession_test", "--test", "alpha"], 0),
        ("pass", &["--test", "fsession_test/fsession_test"], 30),
        ("says.2", &["--test", "alpha"], 1),
        ("pass", &["--test", "alpha", "--test", "unstable"], 0),
        ("pass", &["--test", "alpha", "--test", "nothere"], 3),
        ("pass", &["--test", "alpha/none*", "--allow-skip", "*"], 30),
        ("lists-less", &["--test", "alpha"], 3),
        ("panic", &["--test", "alpha", "--test", "fsession_test"], 21),
    ];
    for (does, words, code) in ways {
        let world = World::new();
        let denied = captured.replace("fsession_test", "unstable");
        let tests = [("fsession_test", &*captured), ("alpha", SHAKY), ("unstable", &denied)];
        let spec = tree(&world, &format!("guest: {does}"), &tests);
        let environment = world.read("home/guest.env");
        if let Some(says) = does.strip_prefix("says") {
            world.write("home/guest.env", &format!("{environment}says={says}\n"));
        }
        let done = run(&world, &spec, words);
        done.exits(code);
        comes_to_the_same(&world, &done);
    }
}

#[test]
fn what_an_earlier_run_had_and_both_suites_at_once_are_judged_again() {
    let world = World::new();
    let spec = tree(&world, "guest: pass", &[("alpha", ALPHA)]);
    let done = run(&world, &spec, &["--suite", "own", "--test", "alpha", "--test", "basic/first"]);
    done.exits(0);
    comes_to_the_same(&world, &done);
    let environment = world.read("home/guest.env");
    world.write("home/guest.env", &format!("{environment}says=.2\n"));
    let done = run(&world, &spec, &["--test", "alpha"]);
    // What the binary had reported by then; the cache contains more later.
    done.exits(3);
    comes_to_the_same(&world, &done);
    fs::remove_dir_all(world.path("cache")).expect("removed");
    comes_to_the_same(&world, &done);
}

#[test]
fn programs_come_to_the_same_again() {
    for (prints, status, words, code) in [
        ("KTAP version 1\n1..2\nok 1 one\nok 2 two\n", 0, &[][..], 0),
        (KTAP_FAILS, 1, &[], 1),
        ("KTAP version 1\n1..2\nok 1 one # SKIP no device\nok 2 two\n", 0, &[], 3),
        ("KTAP version 1\n1..2\nok 1 one # SKIP no device\nok 2 two\n", 0, &["--allow-skip", "tiny/one"], 0),
        ("KTAP version 1\n1..2\nok 1 one\n", 0, &[], 3),
    ] {
        let world = World::new();
        let done = program(&world, prints, status, words);
        if code != 3 {
            done.exits(code);
        }
        assert_eq!(done.status.code() == Some(0), code == 0, "{done}");
        comes_to_the_same(&world, &done);
        // The suite in the checkout has changed since.
        world.write("project/selftests/suites/tiny/suite.toml", "nothing of the kind");
        comes_to_the_same(&world, &done);
    }
}

/// A run, its original record, and the location of its bytes.
struct Forged<'a> {
    world: &'a World,
    file: PathBuf,
    good: String,
    bytes: PathBuf,
}

impl Forged<'_> {
    fn of<'a>(world: &'a World, done: &Done) -> Forged<'a> {
        let dir = done.run_dir.clone().expect("a run");
        let bytes = dir.join(text(&done.json()["boots"][0]["directory"]));
        let file = dir.join("run.json");
        Forged { world, good: fs::read_to_string(&file).expect("run.json"), file, bytes }
    }

    /// Asserts that a consistent but forged record is rejected with this message.
    #[track_caller]
    fn is_found_out(&self, change: impl FnOnce(&mut Value), says: &str) {
        let mut run: Value = serde_json::from_str(&self.good).expect("JSON");
        change(&mut run);
        let mut classes = serde_json::Map::new();
        for cell in run["cells"].as_array().expect("cells") {
            let count = classes.entry(cell["class"].to_string()).or_insert(json!(0));
            *count = json!(count.as_u64().expect("a count") + 1);
        }
        let code =
            [1, 3, 0].into_iter().find(|code| classes.contains_key(&code.to_string())).expect("a class");
        (run["exit_code"], run["classes"]) = (json!(code), Value::Object(classes));
        fs::write(&self.file, run.to_string()).expect("written");
        let shown = self.world.start(self.world.command(&["report", "show"])).done();
        assert_eq!(shown.status.code(), Some(code), "it agrees with itself\n{shown}");
        from_raw(self.world).refuses(30, &[says]);
        fs::write(&self.file, &self.good).expect("written");
    }

    /// Asserts that truncated or changed bytes are not evidence.
    #[track_caller]
    fn needs_its_bytes(&self, from: &str, to: &str) {
        let events = self.bytes.join("events.jsonl");
        let good = fs::read(&events).expect("events");
        fs::write(&events, &good[..good.len() - 1]).expect("written");
        from_raw(self.world).refuses(30, &["bytes of", "that were judged"]);
        let said = String::from_utf8(good.clone()).expect("text");
        assert!(said.contains(from), "{said}");
        fs::write(&events, said.replace(from, to)).expect("written");
        let refused = from_raw(self.world);
        assert_eq!(refused.status.code(), Some(30), "{refused}");
        fs::remove_file(&events).expect("removed");
        from_raw(self.world).refuses(30, &["cannot read"]);
        fs::write(&events, good).expect("written");
        let brief = self.bytes.join("brief.json");
        let known = fs::read_to_string(&brief).expect("a brief");
        // Without the saved inputs the guest is reported as left out, and none remains.
        fs::remove_file(&brief).expect("removed");
        from_raw(self.world).exits(30).says(&["not re-judged", "no guest of this run can be re-judged"]);
        fs::write(&brief, known).expect("written");
        from_raw(self.world).exits(1);
    }
}

/// Makes a cell a pass, or gives it this outcome.
fn becomes(cell: &mut Value, outcome: &str, class: u8) {
    for (field, value) in [("outcome", json!(outcome)), ("class", json!(class)), ("reason", json!(""))] {
        cell[field] = value;
    }
}

/// Every way in which a record with cells `good` and `bad` can be forged.
fn every_forgery(forged: &Forged<'_>, good: usize, bad: usize, name: &str) {
    let told = |says: &str| format!("{name} on tree:linux: {says}");
    forged.is_found_out(
        |run| becomes(&mut run["cells"][bad], "pass", 0),
        &told("pass (), but its guest reported fail"),
    );
    forged.is_found_out(
        |run| becomes(&mut run["cells"][bad], "missing", 3),
        &told("missing (), but its guest reported fail"),
    );
    forged.is_found_out(
        |run| becomes(&mut run["cells"][bad], "notrun", 3),
        &told("notrun (), but its guest reported fail"),
    );
    let gone = |run: &mut Value| drop(run["cells"].as_array_mut().expect("cells").remove(bad));
    forged.is_found_out(gone, &told("not in the record"));
    forged.is_found_out(
        |run| {
            let mut stray = run["cells"][good].clone();
            stray["subtest"] = "stray".into();
            run["cells"].as_array_mut().expect("cells").push(stray);
        },
        "/stray on tree:linux: pass, but no guest reported it",
    );
}

#[test]
fn a_record_of_the_trees_own_tests_that_says_something_else_is_refused() {
    let world = World::new();
    let failing = captured()
        .replace("fsession_cookie:OK", "fsession_cookie:FAIL")
        .replace("#6       fsession_test:OK", "#6       fsession_test:FAIL")
        .replace("1/4 PASSED, 0 SKIPPED, 0 FAILED", "0/3 PASSED, 0 SKIPPED, 1 FAILED");
    let failing = format!("{failing}//fsession_test! 1\n");
    let spec = tree(&world, "guest: pass", &[("fsession_test", &failing)]);
    let done = run(&world, &spec, &["--test", "fsession_test"]);
    done.exits(1);
    comes_to_the_same(&world, &done);
    let cells = done.json()["cells"].as_array().expect("cells").clone();
    let at = |name: &str| cells.iter().position(|cell| cell["subtest"] == name).expect("a cell");
    let forged = Forged::of(&world, &done);
    every_forgery(&forged, at("fsession_mixed"), at("fsession_cookie"), "fsession_test/fsession_cookie");
    forged.needs_its_bytes("fsession_cookie:FAIL", "fsession_cookie:SKIP");
}

#[test]
fn a_record_of_a_program_that_says_something_else_is_refused() {
    let world = World::new();
    let done = program(&world, KTAP_FAILS, 1, &[]);
    done.exits(1);
    let forged = Forged::of(&world, &done);
    every_forgery(&forged, 0, 1, "tiny/two");
    forged.needs_its_bytes("not ok 2 two", "ook ok 2 two");
}

#[test]
fn whole_tests_that_ran_again_are_named_and_left_out() {
    let world = World::new();
    let spec = tree(&world, "guest: pass then says.2 then pass", &[("alpha", SHAKY)]);
    let words = ["--suite", "own", "--test", "basic/first", "--test", "alpha", "--retries", "1"];
    let done = run(&world, &spec, &words);
    done.exits(5);
    let again = from_raw(&world);
    again.exits(5).says(&["not re-judged", "suite upstream, tried again as a whole", "1 cells of 1 guests"]);
}

/// Printed by a kernel with lockdep at boot, when a program was attached.
const WAIT_CONTEXT: &str = "[   24.100000] =============================\r\n\
    [   24.100001] [ BUG: Invalid wait context ]\r\n\
    [   24.100002] 6.18.15 #1 Not tainted\r\n\
    [   24.100003] -----------------------------\r\n\
    [   24.100004] runner/77 is trying to lock:\r\n";
const NON_STATIC_KEY: &str = "[   60.100001][  T101] INFO: trying to register non-static key.\r\n\
    [   60.100002][  T101] The code is fine but needs lockdep annotation, or maybe\r\n\
    [   60.100003][  T101] you didn't initialize this object before use?\r\n\
    [   60.100004][  T101] turning off the locking correctness validator.\r\n\
    [   60.100005][  T101] CPU: 0 UID: 0 PID: 101 Comm: runner Not tainted 6.18.15 #1 PREEMPT(lazy)\r\n\
    [   60.100006][  T101] Call Trace:\r\n\
    [   60.100007][  T101]  <TASK>\r\n\
    [   60.100008][  T101]  dump_stack_lvl+0x5d/0x80\r\n\
    [   60.100009][  T101]  register_lock_class+0x4b2/0x4c0\r\n\
    [   60.100010][  T101]  </TASK>\r\n";

#[test]
fn a_complaint_in_the_bytes_of_a_passing_run_is_found() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    let done = world.run(&["--kernel", &spec, "--boot", "direct"]);
    done.exits(0);
    let bytes = done.run_dir.clone().expect("a run").join(text(&done.json()["boots"][0]["directory"]));
    let console = fs::read_to_string(bytes.join("console.log")).expect("a console");
    let brief = fs::read_to_string(bytes.join("brief.json")).expect("a brief");
    let with = |added: &str| {
        let at = console.find("[    0.500000]").expect("its first process");
        fs::write(bytes.join("console.log"), format!("{}{added}{}", &console[..at], &console[at..]))
            .expect("written");
        let mut brief: Value = serde_json::from_str(&brief).expect("JSON");
        brief["judged"][0] = json!(brief["judged"][0].as_u64().expect("bytes") + added.len() as u64);
        fs::write(bytes.join("brief.json"), brief.to_string()).expect("written");
        from_raw(&world)
    };
    with("").exits(0);
    for (added, class, says) in [
        (WAIT_CONTEXT, 4, "[ BUG: Invalid wait context ]"),
        (NON_STATIC_KEY, 4, "INFO: trying to register non-static key."),
        ("[    1.0] Call Trace:\r\n[    1.0]  strange+0x1/0x2\r\n", 4, "unexplained stack trace in strange"),
        ("fine Kernel panic - not syncing: x\r\n", 21, "Kernel panic - not syncing: x"),
    ] {
        // The record says that it passed.
        with(added).refuses(30, &[&format!("class 0 (), but its raw output says {class} ({says}")]);
    }
    with("WARNING: said by a program\r\nBUG: said by a program\r\n").exits(0);
}
