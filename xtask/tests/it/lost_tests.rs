// SPDX-License-Identifier: MIT OR Apache-2.0
//! A series that changes the tests that judge it: a vanished test counts, and the report says that the series
//! changes tests.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Done, World, git, text};

const BPF: &str = "tools/testing/selftests/bpf";

/// Source of a test that prints this.
fn test(lines: &[&str]) -> String {
    let printed: String = lines.iter().map(|line| format!("//alpha: {line}\n")).collect();
    format!("void test_alpha(void)\n{{\n}}\n{printed}")
}

fn both() -> String {
    test(&[
        "#1/1     alpha/one:OK",
        "#1/2     alpha/two:OK",
        "#1       alpha:OK",
        "Summary: 1/2 PASSED, 0 SKIPPED, 0 FAILED",
    ])
}

fn one() -> String {
    test(&["#1/1     alpha/one:OK", "#1       alpha:OK", "Summary: 1/1 PASSED, 0 SKIPPED, 0 FAILED"])
}

/// A repository whose commits leave this text in these test files of the tree, one after the other; an empty
/// text removes the file.
fn history(world: &World, commits: &[&[(&str, &str)]]) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("linux-{}", COUNT.fetch_add(1, Ordering::SeqCst));
    let top = world.tree(&name, "guest: pass");
    git(&top, &["init", "-q", "-b", "main"]);
    let beta = "void test_beta(void)\n{\n}\n//beta: #2       beta:OK\n//beta: Summary: 1/0 PASSED, 0 SKIPPED, 0 FAILED\n";
    let base = [
        ("Makefile", "TRUNNER_EXTRA_SOURCES := test_progs.c\nLSKELS := light.c\nLINKED_SKELS :=\n"),
        ("DENYLIST", "# TEMPORARY\n"),
        ("config", "CONFIG_BPF=y\n"),
        ("prog_tests/beta.c", beta),
        ("progs/alpha.c", "int x;\n"),
        ("progs/beta.c", "int x;\n"),
    ];
    let write = |(file, text): &(&str, &str)| {
        let path = top.join(BPF).join(file);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        match text.is_empty() {
            true => std::fs::remove_file(&path).expect("it was there"),
            false => std::fs::write(&path, text).expect("written"),
        }
    };
    base.iter().for_each(write);
    for (at, files) in commits.iter().enumerate() {
        files.iter().for_each(write);
        world.commit(&top, &format!("state {at}"));
    }
    format!("git:{}@HEAD~{}..HEAD", top.display(), commits.len() - 1)
}

fn run(world: &World, range: &str, words: &[&str]) -> Done {
    let tests = ["--suite", "upstream", "--test", "alpha", "--test", "beta"];
    world.run(&[&["--kernel", range], &tests[..], words].concat())
}

/// Subtests that are missing and count, with the index of their column.
fn lost(done: &Done) -> Vec<(usize, String)> {
    let json = done.json();
    let kernels = json["kernels"].as_array().expect("kernels");
    let cells = json["cells"].as_array().expect("cells").iter();
    cells
        .filter(|cell| cell["outcome"] == "missing" && cell["required"] == true)
        .map(|cell| {
            let column = kernels.iter().position(|kernel| kernel["id"] == cell["kernel"]).expect("a column");
            (column, text(&cell["subtest"]))
        })
        .collect()
}

#[test]
fn a_subtest_that_a_series_removes_or_renames_is_missing() {
    let world = World::new();
    let (both, one) = (both(), one());
    let range = history(&world, &[&[("prog_tests/alpha.c", &both)], &[("prog_tests/alpha.c", &one)]]);
    let done = run(&world, &range, &["--with-base"]);
    done.exits(3).says(&[
        "alpha/two pass missing*",
        "alpha/two passed on",
        "and is gone here: nothing reported it",
        "the tests are the series' own: it changes 1 file of the tree's BPF tests",
        "tools/testing/selftests/bpf/prog_tests/alpha.c",
    ]);
    assert_eq!(lost(&done), [(1, "two".to_owned())]);
    assert_eq!(
        done.json()["kernels"][1]["tests_changed"],
        serde_json::json!([format!("{BPF}/prog_tests/alpha.c")])
    );
    assert!(done.json()["kernels"][0].get("tests_changed").is_none());
    // Its record is trusted, and its raw bytes agree.
    let dir = done.run_dir.as_deref().map(Path::display).expect("a run").to_string();
    for words in [&["report", "show", &dir][..], &["report", "show", &dir, "--from-raw"]] {
        world.start(world.command(words)).done().exits(3);
    }
    world.is_clean();
}

#[test]
fn a_step_that_loses_a_test_counts_though_the_last_patch_brings_it_back() {
    let world = World::new();
    let (both, renamed) = (both(), both().replace("alpha/two", "alpha/deux"));
    let states: [&[(&str, &str)]; 4] = [
        &[("prog_tests/alpha.c", &both)],
        &[("prog_tests/alpha.c", &renamed)],
        &[("prog_tests/alpha.c", "")],
        &[("prog_tests/alpha.c", &both)],
    ];
    let done = run(&world, &history(&world, &states), &["--each-patch"]);
    done.exits(3).says(&["patch 1/3 \"state 1\" breaks 1 test (upstream: alpha/two)"]);
    let two = |column| (column, "two".to_owned());
    let lost: Vec<_> = lost(&done).into_iter().filter(|(_, subtest)| subtest == "two").collect();
    assert_eq!(lost, [two(1), two(2)]);
    world.is_clean();
}

#[test]
fn a_series_that_puts_a_test_on_the_deny_list_does_not_pass() {
    let both = both();
    for line in ["alpha\n", "beta # flaky\n"] {
        let world = World::new();
        let range = history(&world, &[&[("prog_tests/alpha.c", &both)], &[("DENYLIST", line)]]);
        let done = run(&world, &range, &["--with-base"]);
        done.exits(3).says(&["on the tree's deny list"]);
        // A deny list that existed before does not lose anything.
        let denied = history(
            &world,
            &[&[("prog_tests/alpha.c", &both), ("DENYLIST", line)], &[("config", "CONFIG_BPF=y\n\n")]],
        );
        run(&world, &denied, &["--with-base"]).exits(0);
    }
}
