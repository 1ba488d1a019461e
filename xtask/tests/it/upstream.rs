// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--suite upstream`: the tree's own tests, from the choice to the cells. The fakes "compile" and "run"
//! them: the output of a test is in its source (`support/fakes/guest`).

use std::collections::BTreeMap;
use std::fs;

use crate::support::{Done, World, text};

const MAKEFILE: &str = "TRUNNER_EXTRA_SOURCES := test_progs.c\nLSKELS := light.c\nLINKED_SKELS :=\n";
pub(super) const ALPHA: &str = "#include \"alpha.skel.h\"\nvoid test_alpha(void)\n{\n}\n\
    //alpha: #1/1     alpha/one:OK\n//alpha: #1/2     alpha/two: a/b:OK\n//alpha: #1       alpha:OK\n\
    //alpha: Summary: 1/2 PASSED, 0 SKIPPED, 0 FAILED\n\
    //alpha.2: #1/1     alpha/one:OK\n//alpha.2: #1       alpha:OK\n\
    //alpha.2: Summary: 1/1 PASSED, 0 SKIPPED, 0 FAILED\n";
const BETA: &str = "void serial_test_beta(void)\n{\n}\n//beta: #2       beta:OK\n\
    //beta: Summary: 1/0 PASSED, 0 SKIPPED, 0 FAILED\n";

/// The spec of a tree with these tests (name to source) whose guest does this.
pub(super) fn tree(world: &World, does: &str, tests: &[(&str, &str)]) -> String {
    let top = world.tree("linux", does);
    let file = |path: &str, text: &str| {
        drop(world.write(&format!("linux/tools/testing/selftests/bpf/{path}"), text));
    };
    file("Makefile", MAKEFILE);
    file("DENYLIST", "# TEMPORARY\nunstable   # sums differ\n");
    file("config", "CONFIG_BPF=y\nCONFIG_NOT_HERE=y\n");
    for (name, source) in tests {
        file(&format!("prog_tests/{name}.c"), source);
        let breaks = if source.contains("breaks its program") { "BREAK\n" } else { "int x;\n" };
        file(&format!("progs/{name}.c"), breaks);
    }
    format!("tree:{}", top.display())
}

pub(super) fn run(world: &World, spec: &str, words: &[&str]) -> Done {
    world.run(&[&["--kernel", spec, "--suite", "upstream"], words].concat())
}

/// Path of each cell to its outcome and reason.
fn cells(done: &Done) -> BTreeMap<String, (String, String)> {
    let cells = done.json()["cells"].as_array().expect("cells").iter();
    cells
        .map(|cell| {
            let (test, subtest) = (text(&cell["test"]), text(&cell["subtest"]));
            let path = if subtest.is_empty() { test } else { format!("{test}/{subtest}") };
            (path, (text(&cell["outcome"]), text(&cell["reason"])))
        })
        .collect()
}

fn outcomes(done: &Done) -> Vec<(String, String)> {
    cells(done).into_iter().map(|(path, (outcome, _))| (path, outcome)).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(path, outcome)| ((*path).to_owned(), (*outcome).to_owned())).collect()
}

#[test]
fn a_good_run_has_a_cell_for_each_subtest_and_the_binary_is_reused() {
    let world = World::new();
    let spec = tree(&world, "guest: pass", &[("alpha", ALPHA), ("beta", BETA)]);
    let done = run(&world, &spec, &["--test", "alpha", "--test", "bet*"]);
    done.exits(0);
    let good = [("alpha/one", "pass"), ("alpha/two: a/b", "pass"), ("beta", "pass")];
    assert_eq!(outcomes(&done), pairs(&good));
    let json = done.json();
    assert!(json["cells"].as_array().expect("cells").iter().all(|cell| cell["suite"] == "upstream"));
    assert_eq!(json["boots"][0]["suite"], "upstream");
    done.says(&["of the 2 options in the tree's own config", "2 differ"]);
    run(&world, &spec, &["--test", "alpha", "--test", "bet*"]).exits(0);
    assert_eq!((world.made("vmtest-base"), world.made("vmtest-all")), (1, 1), "nothing changed");
    run(&world, &spec, &["--test", "beta"]).exits(0);
    assert_eq!((world.made("vmtest-base"), world.made("vmtest-all")), (1, 2), "another set of tests");
    world.is_clean();
}

#[test]
fn the_tests_of_another_tree_run_on_a_kernel_that_has_other_ones() {
    let world = World::new();
    let spec = tree(&world, "guest: pass", &[("alpha", ALPHA), ("beta", BETA)]);
    let newer = world.path("newer");
    let copied = std::process::Command::new("cp").args(["-a"]).arg(world.path("linux")).arg(&newer).status();
    assert!(copied.expect("cp").success());
    fs::remove_file(world.path("linux/tools/testing/selftests/bpf/prog_tests/alpha.c"))
        .expect("it was there");
    let words = ["--test", "alpha", "--test", "beta"];
    let done = run(&world, &spec, &words);
    assert_eq!(outcomes(done.exits(3)), pairs(&[("alpha", "missing"), ("beta", "pass")]));
    let newer = format!("tree:{}", newer.display());
    let done = run(&world, &spec, &[&words[..], &["--suite-tree", &newer]].concat());
    let all = [("alpha/one", "pass"), ("alpha/two: a/b", "pass"), ("beta", "pass")];
    assert_eq!(outcomes(done.exits(0)), pairs(&all));
    assert_eq!(
        done.json()["kernels"].as_array().map(Vec::len),
        Some(1),
        "the other tree does not become a column"
    );
    world.run(&["--kernel", &spec, "--suite-tree", &newer]).refuses(2, &["add --suite upstream"]);
    let finished = ["--suite-tree", "debian:7.0.13"];
    run(&world, &spec, &finished).refuses(2, &["has no tests in its source"]);
}

#[test]
fn a_test_that_does_not_compile_ends_no_other() {
    let world = World::new();
    let program = "#include \"gamma.skel.h\"\n// breaks its program\nvoid test_gamma(void)\n{\n}\n";
    let test = "BREAK\nvoid test_delta(void)\n{\n}\n";
    let spec = tree(&world, "guest: pass", &[("alpha", ALPHA), ("gamma", program), ("delta", test)]);
    let words = ["--test", "alpha", "--test", "gamma", "--test", "delta"];
    let done = run(&world, &spec, &words);
    done.exits(13);
    let expected =
        [("alpha/one", "pass"), ("alpha/two: a/b", "pass"), ("delta", "notrun"), ("gamma", "notrun")];
    assert_eq!(outcomes(&done), pairs(&expected));
    for name in ["gamma", "delta"] {
        let reason = &cells(&done)[name].1;
        assert!(reason.contains(&format!("{name}.c:3:10: fatal error: 'nothere.h'")), "{reason}");
    }
    run(&world, &spec, &["--test", "gamma"]).exits(13).says(&["test_progs of tree:linux does not build"]);
    world.is_clean();
}

#[test]
fn what_the_text_says_decides_the_cells() {
    let world = World::new();
    let fails = "void test_fails(void)\n{\n}\n//fails: run:FAIL:entry unexpected entry: actual 0 != expected 1\n\
        //fails: #1/1     fails/a:FAIL\n//fails: #1       fails:FAIL\n//fails: \n//fails: All error logs:\n\
        //fails: #1/1     fails/a:FAIL\n//fails: #1       fails:FAIL\n\
        //fails: Summary: 0/0 PASSED, 0 SKIPPED, 1 FAILED\n//fails! 1\n";
    let skips = "void test_skips(void)\n{\n}\n//skips: #1       skips:SKIP\n\
        //skips: Summary: 1/0 PASSED, 1 SKIPPED, 0 FAILED\n";
    let silent = "void test_silent(void)\n{\n}\n";
    let denied = BETA.replace("beta", "unstable");
    let spec = tree(
        &world,
        "guest: pass",
        &[("alpha", ALPHA), ("fails", fails), ("skips", skips), ("silent", silent), ("unstable", &denied)],
    );
    let failed = run(&world, &spec, &["--test", "fails"]);
    failed.exits(1).says(&["actual 0 != expected 1"]);
    assert_eq!(outcomes(&failed), pairs(&[("fails/a", "fail")]));
    run(&world, &spec, &["--test", "skips"]).exits(3);
    let allowed = run(&world, &spec, &["--test", "skips", "--allow-skip", "skips"]);
    allowed
        .exits(3)
        .says(&["exit 3: pass 1 (1 allowed skips among them); no test passed without an allowance"]);
    run(&world, &spec, &["--test", "skips", "--test", "alpha", "--allow-skip", "skips"]).exits(0);
    run(&world, &spec, &["--test", "silent"]).exits(1).says(&["says nothing of silent"]);
    run(&world, &spec, &["--test", "nothere"]).exits(3).says(&["no such test in"]);
    run(&world, &spec, &["--test", "alpha", "--test", "unstable"]).exits(0).says(&["deny list: sums differ"]);
    run(&world, &spec, &["--test", "unstable"]).exits(3);
    run(&world, &spec, &["--test", "unstable", "--ignore-denylist"]).exits(0);
    // No subtest has that name, and test_progs runs one that was not chosen.
    let none = run(&world, &spec, &["--test", "unstable/none*", "--ignore-denylist"]);
    none.exits(3);
    assert_eq!(outcomes(&none), pairs(&[("unstable/none*", "missing")]));
    run(&world, &spec, &["--test", "alpha/one"]).exits(30).says(&["ran without being requested"]);
}

#[test]
fn a_name_that_the_tree_does_not_have_is_known_before_the_build_with_a_similar_one() {
    let world = World::new();
    let spec = tree(&world, "guest: pass", &[("alpha", ALPHA)]);
    let typo = run(&world, &spec, &["--test", "alhpa", "--test", "alpha"]);
    let why = "no such test in the tree's prog_tests/; did you mean `alpha`?";
    typo.exits(3).says(&[&format!("warning: tree:linux: alhpa: {why}")]);
    assert_eq!(cells(&typo)["alhpa"], ("missing".to_owned(), why.to_owned()));
    let log = fs::read_to_string(typo.run_dir.as_ref().expect("a run").join("log")).expect("a log");
    assert!(log.find(why) < log.find(" build: "), "{log}");
    // A test of the other suite can be meant as well.
    let both = ["--suite", "own", "--test", "basik", "--test", "alpha"];
    run(&world, &spec, &both).exits(3).says(&["prog_tests/; did you mean `basic`?"]);
    world.is_clean();
}

#[test]
fn a_subtest_that_an_earlier_run_had_is_missed() {
    let world = World::new();
    let spec = tree(&world, "guest: pass", &[("alpha", ALPHA)]);
    run(&world, &spec, &["--test", "alpha"]).exits(0);
    let environment = world.read("home/guest.env");
    world.write("home/guest.env", &format!("{environment}says=.2\n"));
    let done = run(&world, &spec, &["--test", "alpha"]);
    done.exits(3);
    assert_eq!(outcomes(&done), pairs(&[("alpha/one", "pass"), ("alpha/two: a/b", "missing")]));
}

#[test]
fn a_test_that_the_binary_does_not_list_or_that_kills_the_kernel_is_no_pass() {
    for (does, code, word) in [("lists-less", 3, "missing"), ("panic", 21, "crash")] {
        let world = World::new();
        let spec = tree(&world, &format!("guest: {does}"), &[("alpha", ALPHA)]);
        let done = run(&world, &spec, &["--test", "alpha"]);
        done.exits(code);
        assert_eq!(outcomes(&done), pairs(&[("alpha", word)]));
    }
}

/// ALPHA, whose second subtest fails if the guest does `says.2`, and its first if it does `says.3`.
pub(super) const SHAKY: &str = "#include \"alpha.skel.h\"\nvoid test_alpha(void)\n{\n}\n\
    //alpha: #1/1     alpha/one:OK\n//alpha: #1/2     alpha/two:OK\n//alpha: #1       alpha:OK\n\
    //alpha: Summary: 1/2 PASSED, 0 SKIPPED, 0 FAILED\n\
    //alpha.2: run:FAIL:sum sum: actual 1 != expected 2\n\
    //alpha.2: #1/1     alpha/one:OK\n//alpha.2: #1/2     alpha/two:FAIL\n//alpha.2: #1       alpha:FAIL\n\
    //alpha.2: Summary: 0/1 PASSED, 0 SKIPPED, 1 FAILED\n//alpha.2! 1\n\
    //alpha.3: run:FAIL:sum sum: actual 3 != expected 2\n\
    //alpha.3: #1/1     alpha/one:FAIL\n//alpha.3: #1/2     alpha/two:OK\n//alpha.3: #1       alpha:FAIL\n\
    //alpha.3: Summary: 0/1 PASSED, 0 SKIPPED, 1 FAILED\n//alpha.3! 1\n";

#[test]
fn a_test_that_failed_runs_again_as_a_whole_and_alone() {
    let within = |world: &World, does: &str, more: &[&str]| {
        let spec = tree(world, &format!("guest: {does}"), &[("alpha", SHAKY), ("beta", BETA)]);
        run(world, &spec, &[&["--test", "alpha", "--test", "beta", "--retries", "1"], more].concat())
    };
    let retried = |does: &str, more: &[&str]| within(&World::new(), does, more);
    let world = World::new();
    let done = within(&world, "says.2 then pass", &[]);
    done.exits(5).says(&["passed in attempt 2; before that fail: ", "attempt 2 of 2"]);
    assert_eq!(outcomes(&done), pairs(&[("alpha/one", "pass"), ("alpha/two", "flaky"), ("beta", "pass")]));
    let boots = done.json()["boots"].as_array().cloned().expect("boots");
    assert_eq!((boots.len(), &boots[1]["attempt"]), (2, &2.into()));
    let dir = done.run_dir.as_ref().expect("a run").join(text(&boots[1]["directory"]));
    let events = std::fs::read_to_string(dir.join("events.jsonl")).expect("kept");
    assert!(events.contains("alpha") && !events.contains("beta"), "only what was lost: {events}");
    retried("says.2 then pass", &["--allow-flaky"]).exits(0);
    // A test that had passed fails when it runs again.
    let done = retried("says.2 then says.3", &[]);
    done.exits(5).says(&["passed, and in attempt 2 fail: "]);
    assert_eq!(outcomes(&done), pairs(&[("alpha/one", "flaky"), ("alpha/two", "flaky"), ("beta", "pass")]));
    let done = retried("says.2", &["--allow-flaky"]);
    done.exits(1);
    assert_eq!(outcomes(&done)[1].1, "fail");
    // A death of the kernel is never allowed.
    for more in [&[][..], &["--allow-flaky"]] {
        let done = retried("panic then pass", more);
        done.exits(5).says(&["Kernel panic - not syncing: Fatal exception"]);
        assert!(outcomes(&done).iter().all(|(_, outcome)| outcome == "flaky"), "{done}");
    }
    retried("panic", &[]).exits(21);
    let done = retried("lists-less then pass", &[]);
    done.exits(5);
    let done = retried("pass then says.2", &[]);
    done.exits(0);
    assert_eq!(done.json()["boots"].as_array().map(Vec::len), Some(1), "nothing was lost");
}

#[test]
fn both_suites_are_two_boots_of_one_column() {
    let world = World::new();
    let spec = tree(&world, "guest: pass", &[("alpha", ALPHA)]);
    let words = ["--suite", "own", "--test", "alpha", "--test", "basic/first"];
    let done = run(&world, &spec, &words);
    done.exits(0);
    assert_eq!(
        outcomes(&done),
        pairs(&[("alpha/one", "pass"), ("alpha/two: a/b", "pass"), ("basic/first", "pass")])
    );
    let boots = done.json()["boots"].as_array().expect("boots").iter();
    assert_eq!(boots.map(|boot| text(&boot["suite"])).collect::<Vec<_>>(), ["own", "upstream"]);
    assert_eq!(done.json()["kernels"].as_array().map(Vec::len), Some(1));
    // A name that neither suite has is reported as missing, once.
    run(&world, &spec, &["--suite", "own", "--test", "basic/first", "--test", "nope"]).exits(3);
}

#[test]
fn a_tree_without_tests_and_a_kernel_without_a_tree_are_told() {
    let world = World::new();
    let bare = format!("tree:{}", world.tree("bare", "guest: pass").display());
    run(&world, &bare, &["--test", "alpha"]).exits(13).says(&["has no BPF selftests"]);
    world.run(&["--suite", "upstream", "--kernel", "image:x"]).refuses(2, &["--suite upstream"]);
}

#[test]
fn a_guest_with_fewer_cpus_than_asked_for_is_said() {
    let world = World::new();
    let spec = tree(&world, "guest: fewer-cpus", &[("alpha", ALPHA)]);
    let done = run(&world, &spec, &["--test", "alpha", "--cpus", "4"]);
    done.exits(0).says(&["warning: tree:linux: the guest sees 1 CPUs of 4"]);
}
