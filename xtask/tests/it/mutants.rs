// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask test --mutants`: what counts as noticed, and what only looks like it.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::{ARCHIVED, Done, World};

/// A world with the project's series, whose kernel does this.
fn world(does: &str) -> World {
    let world = World::new();
    world.archived(does);
    world.patch("project/patches/fsession-6.18/0001-rename.patch", "second", "better");
    world.write("project/patches/fsession-6.18/base", "6.18.15\n");
    world
}

/// A mutant that makes the kernel do something other than `guest: pass`.
fn mutant(world: &World, name: &str, does: &str, trailers: &str) {
    mutant_of("pass", world, name, does, trailers);
}

/// The same for a kernel that does something else.
fn mutant_of(normally: &str, world: &World, name: &str, does: &str, trailers: &str) {
    let lines: String = does.lines().map(|line| format!("+{line}\n")).collect();
    world.write(
        &format!("project/patches/mutants/{name}.patch"),
        &format!(
            "From: A <a@example.org>\nSubject: [PATCH] fake: {name}\n\nOn purpose.\n\n{trailers}---\n\
             diff --git a/fake.does b/fake.does\n--- a/fake.does\n+++ b/fake.does\n@@ -1 +1,{} @@\n-guest: {normally}\n{lines}",
            does.lines().count()
        ),
    );
}

fn run(world: &World, words: &[&str]) -> Done {
    let all = ["test", "--mutants", "--toolchain", "host", "--accel", "tcg"];
    world.start(world.command(&[&all[..], words].concat())).done()
}

const NOTICED: &str = "Breaks: the second one\nNoticed-by: basic/second\n";

#[test]
fn a_mutant_is_noticed_by_the_subtests_that_it_names() {
    let world = world("guest: pass");
    mutant(&world, "a-fails", "guest: fail", NOTICED);
    mutant(
        &world,
        "b-skips",
        "guest: skip",
        "Breaks: what the kernel\n says of itself\nNoticed-by: basic, */second\n",
    );
    mutant(&world, "c-dies", "guest: panic", "Breaks: the kernel\nNoticed-by: panic\n");
    mutant(&world, "d-complains", "guest: splat", "Breaks: a lock\nNoticed-by: splat\n");
    let done = run(&world, &[]);
    done.exits(0).says(&[
        "noticed a-fails breaks the second one noticed by basic/second",
        "noticed b-skips breaks what the kernel says of itself",
        "noticed c-dies",
        "noticed d-complains",
        "exit 0: noticed 4",
    ]);
    assert_eq!((world.made("allnoconfig"), world.made("vmlinux")), (1, 5), "one object directory");
    assert_eq!(world.read("home/guest.calls").matches("qemu").count(), 5, "booted directly");
    let text =
        fs::read_to_string(done.run_dir.as_ref().expect("a run").join("mutants.json")).expect("a record");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["exit_code"], 0);
    assert_eq!(json["kernel"], "src:6.18.15+fsession");
    assert_eq!(json["mutants"][0]["noticed_by"], serde_json::json!(["basic/second"]));
    for line in done.stdout.lines().filter(|line| !line.starts_with("run:")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    world.is_clean();

    let done = run(&world, &["--only", "a-fails", "--only", "d-complains"]);
    done.exits(0).says(&["exit 0: noticed 2"]);
    assert_eq!(world.made("vmlinux"), 5, "a kernel is built once");
}

#[test]
fn a_mutant_is_compared_with_the_series_on_its_variant() {
    let world = world("guest: pass");
    mutant(&world, "a-default", "guest: fail", NOTICED);
    mutant(&world, "b-variant", "guest: fail", &format!("{NOTICED}Variant: debug\n"));
    let done = run(&world, &[]);
    done.exits(0).says(&["noticed a-default", "variant debug", "exit 0: noticed 2"]);
    assert_eq!(world.made("allnoconfig"), 2, "one for each variant");
    assert_eq!(world.read("home/guest.calls").matches("qemu").count(), 4, "the series and a mutant on each");

    mutant(&world, "c-unknown", "guest: fail", &format!("{NOTICED}Variant: no-such\n"));
    run(&world, &[]).exits(2).says(&["no-such"]);
    world.is_clean();
}

#[test]
fn what_only_looks_noticed_is_not() {
    let panics = "Breaks: x\nNoticed-by: panic, basic/second\n";
    for (does, trailers, says) in [
        ("guest: pass\nfake: x", NOTICED, "not by basic/second"),
        ("guest: fail", "Breaks: x\nNoticed-by: basic/second, many/*\n", "not by many/*"),
        ("guest: fail", "Breaks: x\nNoticed-by: panic, basic/second\n", "not by panic"),
        ("guest: panic", NOTICED, "does not declare what happened to its kernel"),
        ("guest: splat", NOTICED, "does not declare what happened to its kernel"),
        ("guest: dies-early", panics, "not by basic/second"),
        ("guest: vanish", panics, "guest lost"),
        ("guest: no-hello", panics, "boot failed"),
        ("guest: runner-dies", panics, "runner died"),
    ] {
        let world = world("guest: pass");
        mutant(&world, "m", does, trailers);
        run(&world, &[]).exits(1).says(&["UNNOTICED m", says, "exit 1: unnoticed 1"]);
    }
}

#[test]
fn a_mutant_that_does_not_apply_or_build_is_a_failure_and_the_others_are_told() {
    let world = world("guest: pass");
    mutant(&world, "a-good", "guest: fail", NOTICED);
    mutant(&world, "b-unbuilt", "make: error", NOTICED);
    mutant(&world, "c-stale", "guest: fail", NOTICED);
    let path = world.path("project/patches/mutants/c-stale.patch");
    let text = fs::read_to_string(&path).expect("written");
    fs::write(&path, text.replace("-guest: pass", "-guest: other")).expect("written");
    let done = run(&world, &[]);
    done.exits(1).says(&[
        "noticed a-good",
        "BROKEN b-unbuilt",
        "'sessions' undeclared",
        "BROKEN c-stale",
        "patch 2 of 2 (c-stale.patch",
        "exit 1: broken 2, noticed 1",
    ]);
}

#[test]
fn without_the_series_itself_nothing_is_judged() {
    // The mutant changes the kernel, which does not pass to begin with.
    for (does, code, says) in [
        ("guest: panic", 21, "NOT JUDGED m"),
        ("make: error", 12, "NOT JUDGED m"),
        ("guest: fail", 1, "UNNOTICED m"),
    ] {
        let world = world(does);
        mutant(&world, "m", "guest: fail", NOTICED);
        let path = world.path("project/patches/mutants/m.patch");
        let text = fs::read_to_string(&path).expect("written");
        let text = text
            .replace("-guest: pass", &format!("-{does}"))
            .replace("+guest: fail", "+guest: fail\n+fake: x");
        fs::write(&path, text.replace("+1,1 @@", "+1,2 @@")).expect("written");
        run(&world, &[]).exits(code).says(&[says]);
    }
}

#[test]
fn what_is_no_mutant_is_refused_before_any_work() {
    let refused = |trailers: &str, words: &[&str], says: &str| {
        let world = world("guest: pass");
        mutant(&world, "m", "guest: fail", trailers);
        let done = run(&world, words);
        done.refuses(2, &[says]);
        assert_eq!(world.read("home/make.calls") + &world.read("home/guest.calls"), "");
    };
    refused("Noticed-by: basic\n", &[], "m.patch is not a mutant because: it has no `Breaks:` line");
    refused("Breaks: x\n", &[], "no `Noticed-by:` line names anything");
    refused("Breaks: x\nNoticed-by: , ,\n", &[], "no `Noticed-by:` line names anything");
    refused("Breaks: x\nNoticed-by: [\n", &[], "`[` is not a glob");
    refused("Breaks: x\nNoticed-by: basix/*\n", &[], "m: `Noticed-by: basix/*` matches no subtest");
    refused(NOTICED, &["--only", "n"], "unknown mutant `n`");
    refused(NOTICED, &["--vm"], "cannot be used with");
    run(&world("guest: pass"), &[]).refuses(2, &["no mutants in"]);
    let world = world("guest: pass");
    world.start(world.command(&["test", "--only", "m"])).done().refuses(2, &["--mutants"]);
}

#[test]
fn an_interrupted_run_of_mutants_notices_nothing() {
    let world = world("guest: pass");
    mutant(&world, "a-hangs", "make: hang", NOTICED);
    mutant(&world, "b-fails", "guest: fail", NOTICED);
    let words = ["test", "--mutants", "--toolchain", "host", "--accel", "tcg"];
    let mut running = world.start(world.command(&words));
    running.wait_for_hang();
    running.signal(Signal::SIGINT);
    let done = running.done();
    done.exits(130).says(&["NOT JUDGED a-hangs", "NOT JUDGED b-fails"]);
    world.is_clean();
}

/// Output of the tree's own session test.
const UPSTREAM: &str = "#1/1     fsession_test/a:OK\n#1/2     fsession_test/b:OK\n#1       fsession_test:OK\n\
    Summary: 1/2 PASSED, 0 SKIPPED, 0 FAILED\n";

fn coverage(world: &World) -> Done {
    coverage_with(world, UPSTREAM)
}

fn coverage_with(world: &World, prints: &str) -> Done {
    let selftests = format!("{ARCHIVED}/tools/testing/selftests/bpf");
    world.write(
        &format!("{selftests}/Makefile"),
        "TRUNNER_EXTRA_SOURCES := test_progs.c\nLSKELS :=\nLINKED_SKELS :=\n",
    );
    let prints: String = prints.lines().map(|line| format!("//fsession_test: {line}\n")).collect();
    let source = format!("void test_fsession_test(void)\n{{\n}}\n{prints}");
    world.write(&format!("{selftests}/prog_tests/fsession_test.c"), &source);
    world.write(&format!("{selftests}/progs/fsession_test.c"), "int x;\n");
    world.seal(ARCHIVED);
    world.write("project/docs/evidence/coverage.md", "as it was\n");
    let words = ["test", "--coverage", "--toolchain", "host", "--accel", "tcg"];
    world.start(world.command(&words)).done()
}

#[test]
fn coverage_says_of_each_subtest_what_shows_that_it_can_fail() {
    let world = world("guest: pass");
    mutant(&world, "a-fails", "guest: fail", NOTICED);
    mutant(&world, "b-dies", "guest: panic", "Breaks: the kernel\nNoticed-by: panic\n");
    coverage(&world).exits(0).says(&["noticed a-fails", "exit 0: noticed 2"]);
    let page = world.read("project/docs/evidence/coverage.md");
    for row in [
        "| basic/first | fail | fail | - |",
        "| basic/second | fail | fail | a-fails |",
        "| a-fails | the second one | 1 | 0 |",
        "| b-dies | the kernel | 0; kernel panic or oops: ",
    ] {
        assert!(page.contains(row), "no {row} in\n{page}");
    }
    world.is_clean();
}

#[test]
fn a_subtest_that_cannot_fail_is_found_out() {
    let world = world("guest: cannot-fail");
    mutant_of("cannot-fail", &world, "a-fails", "guest: fail", NOTICED);
    coverage(&world)
        .exits(1)
        .says(&["UNPROVEN basic/second: it passes with an expectation inverted", "exit 1"]);

    // Here blind programs change nothing, so only subtests that fail with a mutant are proven.
    let world = self::world("guest: blind-passes");
    mutant_of("blind-passes", &world, "a-fails", "guest: fail", NOTICED);
    let done = coverage(&world);
    done.exits(1).says(&["UNPROVEN basic/first: no mutant makes it fail, and neither do blind programs"]);
    assert!(!done.stdout.contains("UNPROVEN basic/second"), "{}", done.stdout);
}

#[test]
fn what_the_trees_own_test_notices_is_not_known_where_it_does_not_pass() {
    let world = world("guest: pass");
    mutant(&world, "a-fails", "guest: fail", NOTICED);
    let fails = UPSTREAM.replace("b:OK", "b:FAIL").replace("test:OK", "test:FAIL").replace("1/2 P", "0/1 P");
    coverage_with(&world, &fails.replace("0 FAILED", "1 FAILED")).exits(3).says(&[
        "noticed a-fails",
        "UNPROVEN upstream: without a mutant fsession_test is fail: it exited with 0",
    ]);
}

#[test]
fn a_series_that_does_not_pass_leaves_the_page_as_it_was() {
    let world = world("guest: pass");
    world.write("project/patches/fsession-6.18/0001-rename.patch", "no patch\n");
    mutant(&world, "a-fails", "guest: fail", NOTICED);
    let done = coverage(&world);
    assert_ne!(done.status.code(), Some(0), "{done}");
    assert_eq!(world.read("project/docs/evidence/coverage.md"), "as it was\n");
}
