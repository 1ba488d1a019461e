// SPDX-License-Identifier: MIT OR Apache-2.0
//! `review`: the answer to a series, with everything that it follows from.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Done, World, git, text};

/// A repository with a commit for each of these: what its kernel does, and what is added to its only file.
fn history(world: &World, does: &[(&str, &str)]) -> PathBuf {
    let top = world.repo("linux", does[0].0);
    for (at, (what, line)) in does.iter().enumerate().skip(1) {
        let before = fs::read_to_string(top.join("kernel/fake.c")).expect("there");
        fs::write(top.join("kernel/fake.c"), format!("{before}int next_{at};\n{line}\n")).expect("written");
        fs::write(top.join("fake.does"), format!("{what}\n")).expect("written");
        world.commit(&top, &format!("fake: patch {at}"));
    }
    top
}

fn review(world: &World, words: &[&str]) -> Done {
    let all = [&["review", "--toolchain", "host", "--accel", "tcg"][..], words].concat();
    world.start(world.command(&all)).done()
}

/// Asserts the exit code, and that the answer is the last line.
#[track_caller]
fn ends(done: &Done, code: i32) -> &Done {
    assert_eq!(done.status.code(), Some(code), "{done}");
    assert!(done.stdout.lines().last().is_some_and(|line| line.starts_with("merge: ")), "{done}");
    assert!(done.stdout.lines().any(|line| line.starts_with(&format!("exit {code}: "))), "{done}");
    done
}

/// The series in the record of the last run.
fn series(world: &World) -> Value {
    let file = fs::read_to_string(world.path("state/vmtest/runs/latest/run.json")).expect("a record");
    let run: Value = serde_json::from_str(&file).expect("JSON");
    assert_eq!(run["series"].as_array().map(Vec::len), Some(1), "{run:#}");
    run["series"][0].clone()
}

const PASSES: &str = "guest: pass";
const FAILS: &str = "guest: fail";
const SKIPS: &str = "guest: skip";

#[test]
fn a_good_series_is_answered_with_yes_and_a_tag() {
    let world = World::new();
    let top = history(&world, &[(SKIPS, ""), (SKIPS, ""), (PASSES, "")]);
    git(&top, &["format-patch", "-q", "--cover-letter", "--base=HEAD~2", "-o", "../outgoing", "HEAD~2"]);
    let cover = world.read("outgoing/0000-cover-letter.patch");
    let cover = cover.replace("*** SUBJECT HERE ***", "two small patches");
    let cover = cover.replacen("Subject: ", "Message-ID: <cover@example.org>\nSubject: ", 1);
    world.write("outgoing/0000-cover-letter.patch", &cover);
    let on = format!("--on={}", top.display());
    let from = "--from=M <m@example.org>";
    let done = review(&world, &["outgoing", &on, "--reply", "reply.eml", from]);
    ends(&done, 0).says(&[
        "merge: yes, all 2 patches apply, build and boot, and none breaks a test; 1 test starts to pass",
        "the base-commit of the series",
        "warnings - ok ok",
    ]);
    let reply = world.read("reply.eml");
    for line in [
        "From: M <m@example.org>",
        "Subject: Re: [PATCH 0/2] two small patches",
        "In-Reply-To: <cover@example.org>",
        "Tested-by: M <m@example.org>",
        "> 2/2 fake: patch 2",
    ] {
        assert!(reply.lines().any(|seen| seen == line), "{line}\n{reply}");
    }
    assert!(reply.lines().all(|line| line.chars().count() <= 75), "{reply}");
    let series = series(&world);
    assert_eq!(
        (text(&series["verdict"]), text(&series["patches"][1]["fixes"][0])),
        ("good".into(), "basic/second".into())
    );
    assert_eq!(series["patches"][0]["files"], serde_json::json!(["kernel/fake.c"]));
    world.is_clean();
}

#[test]
fn a_series_without_a_base_is_reviewed_on_the_newest_release_on_which_it_applies() {
    let world = World::new();
    let top = history(&world, &[(PASSES, ""), (PASSES, ""), (PASSES, ""), (PASSES, "")]);
    for (tag, rev) in [("v1.9", "HEAD~3"), ("v1.10-rc1", "HEAD~2"), ("v1.10", "HEAD~1")] {
        git(&top, &["tag", tag, rev]);
    }
    let rename = |name: &str| {
        let before = fs::read_to_string(top.join("kernel/fake.c")).expect("there");
        let after = before.replacen("int first;", &format!("int {name};"), 1);
        assert_ne!(before, after);
        fs::write(top.join("kernel/fake.c"), after).expect("written");
        world.commit(&top, "fake: rename it");
    };
    rename("changed_since");
    git(&top, &["checkout", "-q", "-b", "topic", "v1.10-rc1"]);
    rename("better");
    git(&top, &["format-patch", "-q", "-o", "../outgoing", "HEAD~1"]);
    git(&top, &["checkout", "-q", "main"]);
    let on = format!("--on={}", top.display());
    let is = |on: &str, says: &[&str]| {
        review(&world, &["outgoing", on, "--dry-run"]).exits(0).says(says);
    };
    is(&on, &["trying tree:", "trying git:", "@v1.10,", "the newest on which the series applies"]);
    git(&top, &["checkout", "-q", "topic"]);
    git(&top, &["reset", "-q", "--hard", "HEAD~1"]);
    is(&on, &["reviewing on tree:"]);
}

#[test]
fn a_series_that_breaks_a_test_is_answered_with_no_and_without_a_tag() {
    let world = World::new();
    let top = history(&world, &[(PASSES, ""), (FAILS, ""), (PASSES, "")]);
    let on = format!("--on={}", top.display());
    let done = review(&world, &["HEAD~2..HEAD", &on, "--reply", "reply.eml", "--from", "M <m@example.org>"]);
    ends(&done, 1).says(&[
        "merge: no, because patch 1/2 \"fake: patch 1\" breaks 1 test (basic/second); patch 2 is fine",
    ]);
    let reply = world.read("reply.eml");
    assert!(reply.contains("merge: no, because patch 1/2") && !reply.contains("Tested-by:"), "{reply}");
    assert!(!reply.contains(&world.path("").display().to_string()), "{reply}");
}

#[test]
fn a_new_warning_speaks_against_a_series_and_an_old_one_does_not() {
    let world = World::new();
    let warns = "/* warns: unused variable */";
    let old = [(PASSES, ""), (PASSES, warns), (PASSES, "")];
    let top = history(&world, &old);
    let on = format!("--on={}", top.display());
    ends(&review(&world, &["HEAD~1..HEAD", &on]), 0).says(&["merge: yes"]);
    let done = review(&world, &["HEAD~2..HEAD", &on]);
    ends(&done, 1)
        .says(&["merge: no, because patch 1/2 \"fake: patch 1\" adds 1 compiler warning; patch 2 is fine"]);
    let check = &series(&world)["patches"][0]["checks"]["warnings"];
    assert!(text(&check["lines"][0]).ends_with("warning: unused variable"), "{check:#}");
    // Without the check, nothing speaks against it.
    let done = review(&world, &["HEAD~2..HEAD", &on, "--skip", "warnings"]);
    ends(&done, 0).says(&["merge: yes"]);
}

#[test]
fn what_failed_before_is_no_finding_and_nothing_is_said_without_a_comparison() {
    let world = World::new();
    let top = history(&world, &[(FAILS, ""), (FAILS, "")]);
    let on = format!("--on={}", top.display());
    let done = review(&world, &["HEAD~1..HEAD", &on, "--reply", "reply.eml", "--from", "M <m@example.org>"]);
    ends(&done, 0).says(&[
        "merge: yes",
        "1 test does not pass with or without it",
        "the same without the series",
    ]);
    let shown = world.start(world.command(&["report", "show", "latest", "--from-raw"])).done();
    assert_eq!(shown.status.code(), Some(0), "{shown}");
    assert!(!world.read("reply.eml").contains("Tested-by:"), "not everything passed");
    let alone = ["HEAD~1..HEAD", &on, "--base", "none"];
    ends(&review(&world, &alone), 1).says(&["merge: not judged, because"]);
    let done = review(&world, &[&alone[..], &["--skip", "warnings"]].concat());
    ends(&done, 1)
        .says(&["merge: not judged, because tests fail, and the kernel without the series was not tested"]);
}

#[test]
fn a_series_that_does_not_apply_or_build_is_answered_with_the_place() {
    let world = World::new();
    let top = history(&world, &[(PASSES, ""), ("make: error\nguest: pass", "")]);
    let on = format!("--on={}", top.display());
    let done = review(&world, &["HEAD~1..HEAD", &on]);
    ends(&done, 12).says(&[
        "merge: no, because patch 1/1 \"fake: patch 1\" breaks the build: kernel/fake.c:7:9: error: \'sessions\'",
    ]);
    let world = World::new();
    let on = format!("--on={}", world.tree("linux", PASSES).display());
    world.patch("series/0001-elsewhere.patch", "nowhere", "better");
    let done = review(&world, &["series", &on]);
    ends(&done, 10).says(&["merge: no, because patch 1/1", "does not apply"]);
}

#[test]
fn what_is_no_review_is_refused() {
    let world = World::new();
    let tree = world.tree("linux", PASSES);
    let on = format!("--on={}", tree.display());
    review(&world, &[&on]).refuses(2, &["no series was named", "next: "]);
    world.patch("series/0001-x.patch", "second", "better");
    for option in ["--shell", "--with-base", "--list", "--first-n=1"] {
        let done = review(&world, &["series", &on, option]);
        done.refuses(2, &["cannot be"]);
    }
    let done = review(&world, &["series", &on, "--skip", "warning"]);
    done.refuses(2, &["warnings"]);
}

#[test]
fn without_boots_a_series_is_at_best_not_judged() {
    let world = World::new();
    let top = history(&world, &[(PASSES, ""), (PASSES, ""), ("make: error\nguest: pass", "")]);
    let on = format!("--on={}", top.display());
    let done = review(&world, &["HEAD~2..HEAD~1", &on, "--skip", "boots"]);
    ends(&done, 3).says(&["merge: not judged, because", "not booted, as --skip boots asks"]);
    let file = fs::read_to_string(world.path("state/vmtest/runs/latest/run.json")).expect("a record");
    let run: Value = serde_json::from_str(&file).expect("JSON");
    assert_eq!(run["boots"].as_array().map(Vec::len), Some(0), "{run:#}");
    assert_eq!(run["series"][0]["patches"][0]["builds"], "yes", "{run:#}");
    let done = review(&world, &["HEAD~2..HEAD", &on, "--skip", "boots"]);
    ends(&done, 12).says(&["merge: no, because", "breaks the build"]);
}

/// What `report show --from-raw` says of the last run, whose kernels are real ELF files.
#[test]
fn a_patch_that_changes_nothing_has_the_results_of_the_kernel_before_it() {
    let world = World::new();
    let top = history(&world, &[(PASSES, ""), (PASSES, "")]);
    let on = format!("--on={}", top.display());
    let done = review(&world, &["HEAD~1..HEAD", &on]);
    ends(&done, 0).says(&["changes no byte of the kernel"]);
    let file = fs::read_to_string(world.path("state/vmtest/runs/latest/run.json")).expect("a record");
    let run: Value = serde_json::from_str(&file).expect("JSON");
    assert_eq!(run["boots"].as_array().map(Vec::len), Some(1), "{run:#}");
    assert_eq!(run["kernels"][1]["same_as"], run["kernels"][0]["id"]);
    let raw = world.start(world.command(&["report", "show", "latest", "--from-raw"])).done();
    assert_eq!(raw.status.code(), Some(0), "{raw}");
    // Another kernel is booted, and a result that was changed afterwards is noticed.
    let cell = "\"outcome\": \"pass\"";
    let at = file.rfind(cell).expect("a pass");
    let changed = format!("{}\"outcome\": \"skip\"{}", &file[..at], &file[at + cell.len()..]);
    world.write("state/vmtest/runs/latest/run.json", &changed);
    let raw = world.start(world.command(&["report", "show", "latest", "--from-raw"])).done();
    assert_ne!(raw.status.code(), Some(0), "{raw}");
}

/// What `test_progs` of the fake tree prints for one test with these subtests.
fn prog_test(subtests: &[(&str, &str)]) -> String {
    let lines = subtests
        .iter()
        .enumerate()
        .map(|(at, (name, how))| format!("//alpha: #1/{}     alpha/{name}:{how}\n", at + 1));
    let failed = subtests.iter().filter(|(_, how)| *how == "FAIL").count();
    let (whole, ok) = if failed > 0 { ("FAIL", 0) } else { ("OK", 1) };
    let passed = subtests.len() - failed;
    format!(
        "void test_alpha(void)\n{{\n}}\n{}//alpha: #1       alpha:{whole}\n\
         //alpha: Summary: {ok}/{passed} PASSED, 0 SKIPPED, {} FAILED\n",
        lines.collect::<String>(),
        1 - ok
    )
}

#[test]
fn the_trees_own_tests_that_a_series_touches_are_run_with_and_without_it() {
    const BPF: &str = "tools/testing/selftests/bpf";
    let good = prog_test(&[("one", "OK")]);
    let run = |before: &str, after: &str| {
        let world = World::new();
        let top = world.repo("linux", PASSES);
        let write = |file: &str, text: &str| drop(world.write(&format!("linux/{BPF}/{file}"), text));
        write("Makefile", "TRUNNER_EXTRA_SOURCES := test_progs.c\nLSKELS := light.c\nLINKED_SKELS :=\n");
        write("DENYLIST", "# TEMPORARY\n");
        write("config", "CONFIG_BPF=y\n");
        write("progs/alpha.c", "int x;\n");
        write("prog_tests/beta.c", "void test_beta(void)\n{\n}\n//beta: #2       beta:OK\n");
        if !before.is_empty() {
            write("prog_tests/alpha.c", before);
        }
        world.commit(&top, "before");
        write("prog_tests/alpha.c", after);
        world.commit(&top, "selftests: change alpha");
        let on = format!("--on={}", top.display());
        let done = review(&world, &["HEAD~1..HEAD", &on]);
        let file = fs::read_to_string(world.path("state/vmtest/runs/latest/run.json")).expect("a record");
        let run: Value = serde_json::from_str(&file).expect("JSON");
        let cells = run["cells"].as_array().expect("cells").iter();
        let upstream: Vec<String> = cells
            .filter(|cell| cell["suite"] == "upstream")
            .map(|cell| format!("{} {}", text(&cell["test"]), text(&cell["outcome"])))
            .collect();
        (done, upstream)
    };
    let (done, cells) = run(&good, &prog_test(&[("one", "OK"), ("two", "OK")]));
    ends(&done, 0).says(&["merge: yes"]);
    assert!(cells.len() >= 3 && cells.iter().all(|cell| cell == "alpha pass"), "{cells:?}\n{done}");
    let (done, _) = run(&good, &prog_test(&[("one", "FAIL")]));
    ends(&done, 1).says(&["merge: no, because", "upstream: alpha/one"]);
    // A test that is new with the series.
    let (done, cells) = run("", &good);
    ends(&done, 0).says(&["merge: yes"]);
    assert!(cells.contains(&"alpha pass".to_owned()), "{cells:?}\n{done}");
    let (done, _) = run("", &prog_test(&[("one", "FAIL")]));
    ends(&done, 1).says(&["merge: no, because"]);
}
