// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--suite NAME`: a program of selftests/suites/ that prints KTAP. The fake guest really runs it.

use crate::support::{Done, World};

const MANIFEST: &str = "about = \"x\"\nprogram = \"run.sh\"\ntests = [\"one\", \"two\"]\nlimit_s = 9\n";

/// Runs a suite whose program prints this and exits with this status.
fn run(prints: &str, status: u32, more: &[&str]) -> Done {
    let world = World::new();
    world.tree("linux", "guest: pass");
    world.write("project/selftests/suites/tiny/suite.toml", MANIFEST);
    world.write("project/selftests/suites/tiny/run.sh", &format!("cat << END\n{prints}END\nexit {status}\n"));
    let spec = format!("tree:{}", world.path("linux").display());
    world.run(&[&["--kernel", &spec, "--suite", "tiny"], more].concat())
}

fn outcomes(done: &Done) -> Vec<(String, String)> {
    done.outcomes(None).into_iter().collect()
}

#[test]
fn each_planned_result_is_a_cell() {
    let done = run("KTAP version 1\n1..2\nok 1 one\nok 2 two\n", 0, &[]);
    done.exits(0).says(&["exit 0: pass 2"]);
    assert_eq!(done.json()["cells"][0]["suite"], "tiny");
    let done = run("KTAP version 1\n1..2\nok 1 one\n# 2 is not 3\nnot ok 2 two\n", 1, &[]);
    done.exits(1).says(&["fail tiny/two", "2 is not 3"]);
    assert_eq!(outcomes(&done)[0].1, "pass");
    run("KTAP version 1\n1..2\nok 1 one # SKIP no device\nok 2 two\n", 0, &[]).exits(3).says(&["no device"]);
    run("KTAP version 1\n1..2\nok 1 one # SKIP no device\nok 2 two\n", 0, &["--allow-skip", "tiny/one"])
        .exits(0);
}

#[test]
fn what_kunit_and_kselftest_print_is_read() {
    let nested = |results: &str| {
        format!("KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: list\n{results}ok 1 list\n")
    };
    let kunit = nested("    # module: list_test\n    1..2\n    ok 1 one\n    ok 2 two\n# list: pass:2\n");
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    let names = MANIFEST.replace("\"one\"", "\"list/one\"").replace("\"two\"", "\"list/two\"");
    world.write("project/selftests/suites/tiny/suite.toml", &names);
    world.write("project/selftests/suites/tiny/run.sh", &format!("cat << END\n{kunit}END\n"));
    world.run(&["--kernel", &spec, "--suite", "tiny"]).exits(0).says(&["exit 0: pass 2"]);
    // A program that skips itself as a whole, with kselftest's exit status.
    let skips = "TAP version 13\n1..0 # SKIP this machine has no such device\n";
    for status in [0, 4] {
        let done = run(skips, status, &[]);
        done.exits(3).says(&[
            "skip tiny/one",
            "this machine has no such device",
            "required test skipped or missing 2",
        ]);
        // If allowed, it is not a failure, but still not a pass.
        run(skips, status, &["--allow-skip", "*"]).exits(3).says(&["no test passed without an allowance"]);
    }
    run(skips, 1, &["--allow-skip", "*"]).exits(3).says(&["exited with 1"]);
}

#[test]
fn a_known_failure_needs_a_reason() {
    for (line, code) in [
        ("ok 2 two # XFAIL a known bug", 0),
        ("not ok 2 two # TODO a known bug", 0),
        ("ok 2 two # XFAIL", 1),
        ("ok 2 two # XFAIL unknown", 1),
        ("not ok 2 two # TODO", 1),
        ("ok 2 # XFAIL two", 1),
        ("ok 2 two # XPASS a known bug", 0),
    ] {
        run(&format!("KTAP version 1\n1..2\nok 1 one\n{line}\n"), 0, &[]).exits(code);
    }
    run("KTAP version 1\n1..2\nok 1 one\nok 2 two # XFAIL a known bug\n", 0, &[])
        .exits(0)
        .says(&["PASSED: 1 test (and 1 known failure) on tree:linux"]);
    let only = "KTAP version 1\n1..2\nok 1 one # XFAIL a known bug\nok 2 two # XFAIL another\n";
    run(only, 0, &[])
        .exits(3)
        .says(&["exit 3: pass 2 (2 xfail among them); no test passed without an allowance"]);
}

#[test]
fn with_a_doubt_nothing_is_a_pass() {
    for (prints, status, says) in [
        ("", 0, "no version line"),
        ("KTAP version 1\n1..2\nok 1 one\n", 0, "plans 2 results and has 1"),
        ("KTAP version 1\n1..2\nok 1 one\nok 2 two\n", 7, "exited with 7"),
        ("KTAP version 1\n1..1\nok 1 one\n", 0, "it was not reported"),
        ("KTAP version 1\n1..3\nok 1 one\nok 2 two\nok 3 three\n", 0, "suite.toml does not plan it"),
        ("KTAP version 1\n1..2\nok 1 one\nok 2 one\n", 0, "one is reported twice"),
    ] {
        let done = run(prints, status, &["--allow-skip", "*"]);
        assert_ne!(done.status.code(), Some(0), "{prints}{done}");
        done.says(&[says]);
    }
}

#[test]
fn a_program_that_failed_runs_again() {
    let text = "KTAP version 1\n1..2\nok 1 one\nnot ok 2 two\n";
    let done = run(text, 1, &["--retries", "1", "--allow-flaky"]);
    done.exits(1);
    assert_eq!(done.json()["boots"].as_array().map(Vec::len), Some(2));
    let tries = done.json()["cells"][1]["tries"].as_array().map(Vec::len);
    assert_eq!(tries, Some(2));
    // A program may notice that the second attempt is another one, for example from the clock.
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    world.write("project/selftests/suites/tiny/suite.toml", MANIFEST);
    let once = world.path("once");
    let once = once.display();
    let once = format!("if [ -e '{once}' ]; then not=; else not='not '; : > '{once}'; fi\n");
    let says = "printf 'KTAP version 1\\n1..2\\nok 1 one\\n%sok 2 two\\n' \"$not\"\n[ ! \"$not\" ]\n";
    world.write("project/selftests/suites/tiny/run.sh", &format!("{once}{says}"));
    let done = world.run(&["--kernel", &spec, "--suite", "tiny", "--retries", "1"]);
    done.exits(5).says(&["passed in attempt 2"]);
    assert_eq!(outcomes(&done), [("tiny/one".into(), "pass".into()), ("tiny/two".into(), "flaky".into())]);
}

#[test]
fn what_is_no_suite_is_refused_before_any_work() {
    let world = World::new();
    world.write("project/selftests/suites/tiny/suite.toml", MANIFEST);
    world.run(&["--suite", "tini"]).refuses(2, &["--suite tini: unknown suite", "own, upstream, tiny"]);
    world.run(&["--suite", "tiny"]).refuses(2, &["is not a file below it: run.sh"]);
    world.write("project/selftests/suites/tiny/run.sh", "");
    world.run(&["--suite", "tiny", "--test", "x"]).refuses(2, &["--suite tiny runs as a whole"]);
    world.run(&["--suite", "tiny", "--boot", "direct"]).refuses(2, &["cannot be booted directly"]);
    world.run(&["--suite", "tiny", "--repeat", "2"]).refuses(2, &["--suite tiny runs once"]);
    world.write("project/selftests/suites/tiny/suite.toml", &MANIFEST.replace("two", "one"));
    world.run(&["--suite", "tiny"]).refuses(2, &["names a test twice"]);
    world.write("project/selftests/suites/tiny/suite.toml", &MANIFEST.replace("run.sh", "../run.sh"));
    world.run(&["--suite", "tiny"]).refuses(2, &["is not a file below it"]);
}

#[test]
fn a_kernel_that_dies_leaves_no_pass() {
    let world = World::new();
    world.tree("linux", "guest: panic");
    world.write("project/selftests/suites/tiny/suite.toml", MANIFEST);
    world.write("project/selftests/suites/tiny/run.sh", "echo KTAP version 1\n");
    let spec = format!("tree:{}", world.path("linux").display());
    let done = world.run(&["--kernel", &spec, "--suite", "tiny", "--allow-skip", "*"]);
    done.exits(21);
    assert!(outcomes(&done).iter().all(|(_, outcome)| outcome != "pass"), "{done}");
}

#[test]
fn a_guest_with_fewer_cpus_than_asked_for_is_said() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: fewer-cpus").display());
    world.write("project/selftests/suites/tiny/suite.toml", MANIFEST);
    let prints = "printf 'KTAP version 1\\n1..2\\nok 1 one\\nok 2 two\\n'\n";
    world.write("project/selftests/suites/tiny/run.sh", prints);
    let done = world.run(&["--kernel", &spec, "--suite", "tiny", "--cpus", "4"]);
    done.exits(0).says(&["warning: tree:linux: the guest sees 1 CPUs of 4"]);
}
