// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask bisect`: whole searches through git trees, series and images, and everything that could
//! mislead them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Done, World, git, listing, text};

pub(super) const PASS: &str = "guest: pass";
pub(super) const FAIL: &str = "guest: fail";
pub(super) const SKIP: &str = "guest: skip";
const PANIC: &str = "guest: panic";
pub(super) const UNBUILT: &str = "make: error\nguest: pass";
const UNBOOTED: &str = "guest: no-hello";

/// Commits another state of the kernel; the subject describes it.
pub(super) fn commit(world: &World, top: &Path, subject: &str, does: &str) {
    let file = top.join("kernel/fake.c");
    let before = fs::read_to_string(&file).expect("there");
    fs::write(&file, format!("{before}int {};\n", subject.replace([' ', ':'], "_"))).expect("written");
    fs::write(top.join("fake.does"), format!("{does}\n")).expect("written");
    world.commit(top, subject);
}

/// A linear history: the first commit does the first of these, and so on. Their subjects count from 0.
pub(super) fn line(world: &World, does: &[&str]) -> PathBuf {
    let top = world.repo("linux", does[0]);
    for (at, does) in does.iter().enumerate().skip(1) {
        commit(world, &top, &format!("number {at}"), does);
    }
    top
}

fn rev(top: &Path, rev: &str) -> String {
    let output = Command::new("git").arg("-C").arg(top).args(["rev-parse", rev]).output().expect("git runs");
    assert!(output.status.success(), "{rev}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(super) fn words(top: &Path, good: &str, bad: &str, more: &[&str]) -> Vec<String> {
    let spec = |rev: &str| format!("git:{}@{rev}", top.display());
    let first = ["bisect", "--toolchain", "host", "--accel", "tcg", "--boot", "direct"];
    let mut words: Vec<String> = first.map(str::to_owned).into();
    words.extend(["--good".into(), spec(good), "--bad".into(), spec(bad)]);
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words
}

pub(super) fn command(world: &World, words: &[String]) -> Command {
    world.command(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(super) fn bisect(world: &World, top: &Path, good: &str, bad: &str, more: &[&str]) -> Done {
    world.start(command(world, &words(top, good, bad, more))).done()
}

pub(super) fn resume(world: &World, which: &str) -> Done {
    world.start(world.command(&["bisect", "--resume", which])).done()
}

/// `bisect.json` of a run.
pub(super) fn record(done: &Done) -> Value {
    let dir = done.run_dir.as_ref().unwrap_or_else(|| panic!("no run\n{done}"));
    record_in(dir)
}

pub(super) fn record_in(dir: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.join("bisect.json")).expect("a record")).expect("JSON")
}

fn booted(world: &World) -> usize {
    world.read("home/guest.calls").lines().count()
}

#[test]
fn the_first_bad_commit_is_found_and_the_repository_stays_as_it_is() {
    let world = World::new();
    let mut does = vec![PASS; 7];
    does.extend([FAIL; 5]);
    let top = line(&world, &does);
    let before = listing(&top);
    let done = bisect(&world, &top, "HEAD~11", "HEAD", &["--test", "basic/*", "--json", "report.json"]);
    done.exits(0).says(&[
        "first bad commit:",
        "number 7",
        "author t <t@example.org>",
        "1 run: basic/second fail: the session ran once",
        "1 run: all 2 tests passed",
        "exit 0: found",
    ]);
    assert_eq!(listing(&top), before, "nothing was written to the user's repository");
    assert!(booted(&world) <= 6, "2 ends and 4 steps\n{done}");
    assert_eq!(world.made("allnoconfig"), 2, "an object directory for each of what make executes");
    let report: Value = serde_json::from_str(&world.read("report.json")).expect("a report");
    assert_eq!((&report["answer"], &report["exit_code"]), (&"found".into(), &0.into()));
    assert_eq!(text(&report["first"]["commit"]), rev(&top, "HEAD~4"));
    assert_eq!(text(&report["before"][0]["commit"]), rev(&top, "HEAD~5"));
    for side in [&report["first"], &report["before"][0]] {
        let files = side["files"].as_array().expect("files");
        assert_eq!(files.len(), 2, "console and events\n{report:#}");
        files.iter().for_each(|file| assert!(Path::new(&text(file)).is_file(), "{file}"));
        assert!(side["console"].as_array().is_some_and(|lines| !lines.is_empty()));
    }
    let dir = done.run_dir.as_ref().expect("a run");
    let page = fs::read_to_string(dir.join("bisect.md")).expect("a page");
    assert!(page.contains(&rev(&top, "HEAD~4")) && page.contains("number 7"), "{page}");
    assert_eq!(record(&done)["report"], report);

    // The other endpoint was built while the first one ran, and a time estimate is printed.
    let log = fs::read_to_string(dir.join("log")).expect("a log");
    let at = |what: &str| log.find(what).unwrap_or_else(|| panic!("no {what}\n{log}"));
    let good = format!("done   build: git:linux@{}", &rev(&top, "HEAD~11")[..12]);
    assert!(at(&good) < at("note   bad "), "{log}");
    done.says(&["11 left, about 4 step(s), about", "so far good 1, bad 1, skip 0"]);

    // The printed command reproduces it.
    let again = text(&report["first"]["again"]);
    let words: Vec<&str> = again.split(' ').skip(2).map(|word| word.trim_matches('\'')).collect();
    world.start(world.command(&words)).done().exits(1).says(&["basic/second"]);
    world.is_clean();

    // Runs are reused: for the same tests nothing is booted again, whatever the question.
    let calls = booted(&world);
    let done = bisect(&world, &top, "HEAD~11", "HEAD", &["--test", "basic/*"]);
    done.exits(0).says(&["number 7", "known before", "0 boot(s)"]);
    assert_eq!(booted(&world), calls);
}

#[test]
fn a_fix_is_found_the_other_way_round() {
    let world = World::new();
    let top = line(&world, &[FAIL, FAIL, SKIP, FAIL, PASS, PASS, PASS]);
    let done = bisect(&world, &top, "HEAD~6", "HEAD", &["--find-fix", "--test", "basic/second"]);
    done.exits(0).says(&["first good commit:", "number 4", "bad", "number 3", "the test passed"]);
    // Skips are not passes: the first commit with the feature is found, too.
    let done = bisect(&world, &top, "HEAD~4", "HEAD", &["--find-fix", "--test", "basic/second"]);
    done.exits(0).says(&["number 4"]);
}

#[test]
fn whatever_else_breaks_on_the_way_is_skipped_with_its_reason() {
    let world = World::new();
    let does = [
        PASS,
        PASS,
        UNBUILT,
        PASS,
        "guest: dies-early",
        PASS,
        PANIC,
        FAIL,
        UNBUILT,
        "guest: vanish",
        FAIL,
        FAIL,
    ];
    let top = line(&world, &does);
    let done = bisect(&world, &top, "HEAD~11", "HEAD", &[]);
    done.exits(3).says(&[
        "the first bad commit is one of 2",
        "skip",
        "number 6",
        "kernel panic or oops: BUG: kernel NULL pointer dereference",
        "number 7",
        "exit 3: hidden",
    ]);
    let report = &record(&done)["report"];
    let among: Vec<String> =
        report["among"].as_array().expect("some").iter().map(|one| text(&one["subject"])).collect();
    assert_eq!(among, ["number 6", "number 7"]);
    assert_eq!(text(&report["before"][0]["subject"]), "number 5");

    // All commits in between.
    let world = World::new();
    let top = line(&world, &[PASS, UNBUILT, UNBUILT, UNBOOTED, FAIL]);
    let done = bisect(&world, &top, "HEAD~4", "HEAD", &[]);
    done.exits(3).says(&["is one of 4", "'sessions' undeclared", "boot failed"]);
}

#[test]
fn ends_that_are_not_what_was_said_are_told_before_the_search() {
    for (does, more, code, says) in [
        ([FAIL, FAIL, FAIL], &[][..], 2, "(--good) is bad, not good"),
        ([PASS, PASS, PASS], &[], 2, "(--bad) is good, not bad"),
        ([PASS, PASS, PASS], &["--find-fix"], 2, "(--good) is good, not bad, which --find-fix requires"),
        ([FAIL, FAIL, FAIL], &["--find-fix"], 2, "(--bad) is bad, not good"),
        ([PASS, PASS, UNBUILT], &[], 12, "(--bad) is untestable: kernel build failed"),
        ([UNBOOTED, FAIL, FAIL], &[], 20, "(--good) is untestable: boot failed"),
        ([PASS, PASS, PANIC], &[], 21, "is untestable: kernel panic or oops"),
        ([PASS, PASS, FAIL], &["--class", "panic"], 2, "(--bad) is good, not bad"),
        (
            [PASS, PASS, FAIL],
            &["--title", "twice"],
            1,
            "is untestable: a different failure: basic/second fail",
        ),
    ] {
        let world = World::new();
        let top = line(&world, &does);
        let done = bisect(&world, &top, "HEAD~2", "HEAD", more);
        done.exits(code).says(&["end", says]);
        assert!(booted(&world) <= 2, "{done}");
        assert_eq!(record(&done)["report"]["exit_code"], code);
    }
}

#[test]
fn what_is_asked_for_is_the_only_thing_that_is_bad() {
    // A panic, with a failure, another panic and an unbootable kernel in the range.
    let world = World::new();
    let top =
        line(&world, &[PASS, FAIL, "guest: other-panic", PASS, UNBOOTED, PASS, PANIC, PANIC, UNBUILT, PANIC]);
    let done = bisect(&world, &top, "HEAD~9", "HEAD", &["--class", "panic", "--test", "basic"]);
    done.exits(0).says(&["number 6", "BUG: kernel NULL pointer dereference", "during basic/second"]);
    let done = bisect(&world, &top, "HEAD~9", "HEAD~7", &["--class", "panic", "--test", "basic"]);
    done.exits(0).says(&["number 2", "kernel BUG at mm/slub.c:17!"]);
    let done = bisect(&world, &top, "HEAD~8", "HEAD", &["--class", "panic", "--title", "BUG at mm"]);
    done.exits(21).says(&["(--bad) is untestable: a different one: BUG: kernel NULL pointer"]);

    // A kernel warning; an earlier failure does not count as one.
    let world = World::new();
    let splat = "guest: splat";
    let top = line(&world, &[PASS, FAIL, PASS, splat, splat]);
    let done = bisect(&world, &top, "HEAD~4", "HEAD", &["--class", "splat"]);
    done.exits(0).says(&["number 3", "WARNING: CPU: 0 PID: 1 at kernel/bpf/trampoline.c:42"]);

    // A build failure: nothing is booted.
    let world = World::new();
    let top = line(&world, &[PASS, PANIC, "kconfig: CONFIG_BPF_JIT\nguest: pass", PASS, UNBUILT, UNBUILT]);
    let done = bisect(&world, &top, "HEAD~5", "HEAD", &["--class", "build"]);
    done.exits(0).says(&["number 4", "'sessions' undeclared", "it builds: 6.18.0-fake"]);
    assert_eq!(booted(&world), 0);

    let world = World::new();
    let top = line(&world, &[PASS, FAIL, "guest: idle", "guest: idle"]);
    let done = bisect(&world, &top, "HEAD~3", "HEAD", &["--class", "hang", "--timeout", "idle=1"]);
    done.exits(0).says(&["number 2", "no output for too long during basic/second"]);
}

/// A small random number generator: the same sequence for each seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit.max(1)
    }
}

/// The `fake.does` of a merge is that of the broken side, if any.
fn merge(world: &World, top: &Path, other: &str, subject: &str, does: &str) {
    git(top, &["merge", "-q", "--no-ff", "--no-commit", "-s", "ours", other]);
    fs::write(top.join("fake.does"), format!("{does}\n")).expect("written");
    world.commit(top, subject);
}

/// The result of `git bisect run` on the same history, with a script that reads what the kernel would do;
/// `None` if skips hide it.
fn git_bisect(world: &World, top: &Path, good: &str, bad: &str) -> Option<String> {
    let copy = world.path("copy");
    let _ = fs::remove_dir_all(&copy);
    git(world.path("").as_path(), &["clone", "-q", &top.display().to_string(), "copy"]);
    git(&copy, &["bisect", "start", bad, good]);
    let script =
        "grep -q 'make: error' fake.does && exit 125; grep -q 'guest: fail' fake.does && exit 1; exit 0";
    let mut command = Command::new("git");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    let output =
        command.arg("-C").arg(&copy).args(["bisect", "run", "sh", "-c", script]).output().expect("git runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let hidden = said.contains("only 'skip'ped commits left");
    assert!(output.status.success() || hidden, "{said}");
    (!hidden).then(|| rev(&copy, "refs/bisect/bad"))
}

#[test]
fn merges_are_searched_as_git_bisect_searches_them() {
    let mut agreed = 0;
    for seed in 0..6 {
        let mut random = Random(seed);
        let world = World::new();
        let top = world.repo("linux", PASS);
        // Branches that start at random commits and are merged; one of their commits breaks the kernel.
        let culprit = 1 + random.below(9);
        let mut broken: Vec<(String, bool)> = vec![(rev(&top, "HEAD"), false)];
        for at in 1..10 {
            let (from, was) = broken[broken.len() - 1 - random.below(broken.len().min(3))].clone();
            git(&top, &["checkout", "-q", &from]);
            let is = was || at == culprit;
            let build = if random.below(5) == 0 && at != culprit { "make: error\n" } else { "" };
            let guest = if is { FAIL } else { PASS };
            if random.below(3) == 0 {
                let (other, other_is) = broken[random.below(broken.len())].clone();
                let guest = if is || other_is { FAIL } else { PASS };
                merge_or_commit(&world, &top, &other, &format!("number {at}"), &format!("{build}{guest}"));
                broken.push((rev(&top, "HEAD"), is || other_is));
            } else {
                commit(&world, &top, &format!("number {at}"), &format!("{build}{guest}"));
                broken.push((rev(&top, "HEAD"), is));
            }
        }
        // Merge all heads into one.
        let heads: Vec<(String, bool)> = broken.clone();
        let mut is = broken.last().expect("some").1;
        for (number, (head, head_is)) in heads.iter().enumerate() {
            is |= head_is;
            let does = if is { FAIL } else { PASS };
            merge_or_nothing(&world, &top, head, &format!("merge {number}"), does);
        }
        let (first, last) = (broken[0].0.clone(), rev(&top, "HEAD"));
        let done = bisect(&world, &top, &first, &last, &["--test", "basic"]);
        let report = &record(&done)["report"];
        if report["answer"] == "found" {
            assert_eq!(text(&report["first"]["subject"]), format!("number {culprit}"), "seed {seed}\n{done}");
            // It may choose other commits of equal weight, and end among skips where ours did not.
            if let Some(culprit) = git_bisect(&world, &top, &first, &last) {
                assert_eq!(text(&report["first"]["commit"]), culprit, "seed {seed}");
                agreed += 1;
            }
        } else {
            let among = report["among"].as_array().expect("some");
            let named = |one: &Value| one["subject"] == format!("number {culprit}");
            assert!(among.iter().any(named), "seed {seed}\n{done}");
            done.exits(3);
        }
    }
    assert!(agreed >= 3, "{agreed}");
}

/// A merge, if there is something to merge.
fn merge_or_nothing(world: &World, top: &Path, other: &str, subject: &str, does: &str) {
    let mut command = Command::new("git");
    command.arg("-C").arg(top).args(["merge-base", "--is-ancestor", other, "HEAD"]);
    if !command.status().expect("git runs").success() {
        merge(world, top, other, subject, does);
    }
}

/// A merge, or an ordinary commit if there is nothing to merge.
fn merge_or_commit(world: &World, top: &Path, other: &str, subject: &str, does: &str) {
    let before = rev(top, "HEAD");
    merge_or_nothing(world, top, other, subject, does);
    if rev(top, "HEAD") == before {
        commit(world, top, subject, does);
    }
}

#[test]
fn a_merge_can_be_the_culprit_and_ends_may_be_on_two_branches() {
    let world = World::new();
    let top = world.repo("linux", PASS);
    git(&top, &["checkout", "-qb", "side"]);
    commit(&world, &top, "side 1", PASS);
    git(&top, &["checkout", "-q", "main"]);
    commit(&world, &top, "main 1", PASS);
    merge(&world, &top, "side", "the merge", FAIL);
    commit(&world, &top, "main 2", FAIL);
    let done = bisect(&world, &top, "main~3", "main", &[]);
    done.exits(0).says(&["first bad commit:", "the merge"]);
    let report = &record(&done)["report"];
    assert_eq!(report["before"].as_array().map(Vec::len), Some(2), "both of its parents are good\n{done}");
    // The good endpoint is not an ancestor: the merge base is tested as well.
    let done = bisect(&world, &top, "side", "main", &[]);
    done.exits(0).says(&["the merge"]);
    git(&top, &["checkout", "-qb", "fixed", "main~3"]);
    git(&top, &["checkout", "-q", "main"]);
    let world = World::new();
    let top = world.repo("linux", FAIL);
    git(&top, &["checkout", "-qb", "fixed"]);
    commit(&world, &top, "a fix", PASS);
    git(&top, &["checkout", "-q", "main"]);
    commit(&world, &top, "main 1", FAIL);
    let done = bisect(&world, &top, "fixed", "main", &[]);
    done.exits(2).says(&["wrong end", "merge base of both endpoints", "is bad, not good"]);
}

#[test]
fn patches_of_a_series_are_an_axis_and_so_is_a_tree_below_patches() {
    let world = World::new();
    let top = line(&world, &[SKIP, SKIP, UNBUILT, PASS, PASS, PASS]);
    git(&top, &["format-patch", "-q", "-o", "../series", "HEAD~5"]);
    git(&top, &["checkout", "-q", "HEAD~5"]);
    let tree = format!("tree:{}", top.display());
    let first = [
        "bisect",
        "--toolchain",
        "host",
        "--accel",
        "tcg",
        "--boot",
        "direct",
        "--good",
        &tree,
        "--bad",
        &tree,
    ];
    let run = |more: &[&str]| world.start(world.command(&[&first[..], more].concat())).done();
    let done = run(&["--patches", "series", "--find-fix", "--test", "basic"]);
    done.exits(3).says(&["patch 2", "patch 3", "number 3", "--first-n 3"]);
    let report = &record(&done)["report"];
    assert_eq!(report["among"].as_array().map(Vec::len), Some(2), "{done}");
    assert_eq!(text(&report["before"][0]["name"]), "patch 1");
    assert!(text(&report["after"]["author"]).contains("t@example.org"), "{report:#}");
    run(&["--find-fix"]).refuses(2, &["they are the same kernel, and no --patches are given"]);

    // On top of each commit; where the patch does not apply, the commit is skipped.
    let world = World::new();
    let top = line(&world, &[PASS, PASS, PASS, PASS, FAIL, FAIL]);
    let patch = world.patch("my.patch", "first", "better");
    git(&top, &["checkout", "-q", "HEAD~2"]);
    let renamed =
        fs::read_to_string(top.join("kernel/fake.c")).expect("there").replace("int first;", "int other;");
    fs::write(top.join("kernel/fake.c"), renamed).expect("written");
    world.commit(&top, "renamed by somebody else");
    commit(&world, &top, "and on", FAIL);
    fs::write(
        top.join("kernel/fake.c"),
        fs::read_to_string(top.join("kernel/fake.c")).expect("there").replace("int other;", "int first;"),
    )
    .expect("written");
    world.commit(&top, "renamed back");
    let patch = patch.display().to_string();
    let done = bisect(&world, &top, "main~5", "HEAD", &["--patches", &patch]);
    done.exits(3).says(&["is one of 3", "series does not apply", "renamed back"]);
    let kernels = fs::read_dir(done.run_dir.as_ref().expect("a run").join("steps/001")).expect("there");
    let run = kernels.flatten().find(|entry| entry.file_name() == "run.json").expect("a record");
    let run: Value = serde_json::from_str(&fs::read_to_string(run.path()).expect("read")).expect("JSON");
    assert_eq!(run["kernels"][0]["series"], serde_json::json!(["fake: rename first"]));
}

#[test]
fn a_test_that_fails_sometimes_is_asked_until_it_is_believed() {
    let world = World::new();
    let flaky = "guest: flaky";
    let top = line(&world, &[PASS, PASS, PASS, PASS, flaky, flaky, flaky, flaky, flaky]);
    let env = world.read("home/guest.env");
    // Fails in two of five runs, irregularly.
    let pattern = "PFFPPFPPFPPPFPFPFFPPPPFPFPPFPFPPFFPPFPPPFPFPFPPPFFPPPFPFPPFPFPPPFF";
    world.write("home/guest.env", &format!("{env}flaky={}\n", pattern.repeat(4)));
    let done = bisect(&world, &top, "HEAD~8", "HEAD", &["--runs", "12", "--test", "basic/second"]);
    done.exits(0).says(&["first bad commit:", "number 4", "x12", "by a careful estimate"]);
    let record = record(&done);
    let runs = |subject: &str| {
        record["steps"]
            .as_array()
            .expect("steps")
            .iter()
            .filter(|step| step["known"]["subject"] == subject)
            .count()
    };
    assert_eq!(runs("number 8"), 12, "the end tells how often it fails\n{done}");
    assert!(runs("number 3") >= 10, "{done}");
}

#[test]
fn a_commit_that_was_good_by_chance_is_found_out() {
    let world = World::new();
    let flaky = "guest: flaky";
    // The endpoint always fails, so few good runs would be enough. Those of number 3 pass at first.
    let top = line(&world, &[PASS, PASS, PASS, flaky, FAIL, FAIL, FAIL, FAIL]);
    let env = world.read("home/guest.env");
    world.write("home/guest.env", &format!("{env}flaky=PPPFFFFF\n"));
    let done = bisect(&world, &top, "HEAD~7", "HEAD", &["--runs", "8", "--test", "basic/second"]);
    done.exits(0).says(&["first bad commit:", "number 3", "passed at first and failed when tested again"]);
}

#[test]
fn killed_at_any_moment_it_goes_on_to_the_same_answer() {
    let mut does = vec![PASS; 9];
    does.extend([FAIL; 8]);
    does[5] = UNBUILT;
    does[10] = UNBOOTED;
    for after in ["testing", "so far good 1, bad 1", "so far good 2, bad 1", "so far good 2, bad 2"] {
        let world = World::new();
        let top = line(&world, &does);
        let mut running = world.start(command(&world, &words(&top, "HEAD~16", "HEAD", &[])));
        running.wait_to_say(after);
        running.signal(Signal::SIGKILL);
        let done = running.done();
        assert_eq!(done.status.code(), None);
        let dir = done.run_dir.clone().expect("a run");
        let before = record_in(&dir)["steps"].as_array().map_or(0, Vec::len);
        // Move the names that were given at the start.
        git(&top, &["checkout", "-q", "--detach"]);
        git(&top, &["update-ref", "refs/heads/main", "HEAD~3"]);
        let mut done = resume(&world, "latest");
        // Forked children of the killed process hold its locks until they exec, which takes a while under
        // load.
        for _ in 0..20 {
            if done.told("another process is at work") == 0 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(250));
            done = resume(&world, "latest");
        }
        done.exits(0).says(&["number 9", "exit 0: found"]);
        let record = record_in(&dir);
        let steps = record["steps"].as_array().expect("steps").clone();
        assert!(steps.len() > before);
        let mut ids: Vec<String> = steps.iter().map(|step| text(&step["id"])).collect();
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all, "nothing is asked twice");
        world.no_process_is_left(std::time::Duration::from_secs(3));
        // A finished bisection prints its answer again.
        resume(&world, &dir.display().to_string()).exits(0).says(&["number 9"]);
    }
}

#[test]
fn interrupted_it_says_how_to_go_on_and_one_at_a_time_may() {
    let world = World::new();
    let top = line(&world, &[PASS, PASS, "guest: idle", FAIL, FAIL]);
    let mut running = world.start(command(&world, &words(&top, "HEAD~4", "HEAD", &[])));
    running.wait_for_hang();
    let name = "latest";
    resume(&world, name).exits(2).says(&["another process is at work"]);
    running.signal(Signal::SIGINT);
    let done = running.done();
    done.exits(130).says(&["interrupted", "cargo xtask bisect --resume 20"]);
    world.is_clean();
    let steps = record(&done)["steps"].as_array().map_or(0, Vec::len);
    assert_eq!(steps, 2, "an interruption is no verdict\n{done}");
    let dir = done.run_dir.clone().expect("a run");
    // Verdicts of other tests are not mixed with these.
    world.write("project/selftests/lib.rs", "changed\n");
    resume(&world, name).exits(2).says(&["its tests, the configuration, the tools or the harness"]);
    fs::write(dir.join("bisect.json"), "{").expect("written");
    resume(&world, name).exits(2).says(&["cannot resume"]);
    resume(&world, "nothing").exits(2).says(&["no bisection to resume"]);
}

#[test]
fn mistakes_are_told_before_any_work() {
    let world = World::new();
    let top = line(&world, &[PASS, FAIL]);
    let refuses = |good: &str, bad: &str, more: &[&str], says: &[&str]| {
        bisect(&world, &top, good, bad, more).refuses(2, says);
    };
    refuses("HEAD", "HEAD~1", &[], &["wrong way round"]);
    refuses("HEAD", "HEAD", &[], &["the same commit"]);
    refuses("nowhere", "HEAD", &[], &["is not a commit"]);
    refuses("HEAD~1", "HEAD", &["--test", "nothing/*"], &["matches no subtest"]);
    refuses("HEAD~1", "HEAD", &["--title", "("], &["is not a regular expression"]);
    refuses("HEAD~1", "HEAD", &["--confidence", "1"], &["is not a probability"]);
    refuses("HEAD~1", "HEAD", &["--class", "panic", "--script"], &["needs --title"]);
    refuses("HEAD~1", "HEAD", &["--variant", "nothing"], &["nothing"]);
    let first = ["bisect", "--toolchain", "host", "--accel", "tcg"];
    let run = |more: &[&str]| world.start(world.command(&[&first[..], more].concat())).done();
    let here = format!("git:{}@HEAD", top.display());
    run(&["--good", &here, "--bad", "debian:7.0.4"]).refuses(2, &["of different kinds"]);
    run(&["--good", "debian:7.0.1", "--bad", "debian:7.0.4", "--patches", "series"])
        .refuses(2, &["--patches"]);
    let words = ["--good", &here];
    assert_eq!(run(&words).status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
    let runs = fs::read_dir(world.path("state/vmtest/runs")).into_iter().flatten().count();
    assert_eq!(runs, 0, "no run was begun");
}

/// Gives the world its own kconfig/, with a variant that equals the default.
fn own_variant(world: &World, name: &str) -> String {
    let kconfig = world.path("project/kconfig");
    let real = kconfig.canonicalize().expect("a directory");
    fs::remove_file(&kconfig).expect("a link");
    let copied = Command::new("cp").args(["-rL", "--no-target-directory"]).args([&real, &kconfig]).status();
    assert!(copied.expect("cp runs").success());
    let text = world.read("project/kconfig/default.toml");
    world.write(&format!("project/kconfig/{name}.toml"), &text);
    text
}

#[test]
fn an_answer_is_remembered_only_for_what_gave_it() {
    let world = World::new();
    let top = line(&world, &[PASS, PASS, FAIL]);
    let text = own_variant(&world, "rt");
    let search = || {
        let before = booted(&world);
        bisect(&world, &top, "HEAD~2", "HEAD", &["--test", "basic/*", "--variant", "rt"]).exits(0);
        booted(&world) - before
    };
    assert_eq!((search(), search()), (3, 0));
    // None of these changes the kernel.
    for (file, more) in [
        ("project/kconfig/rt.toml", format!("{text}cmdline = [\"nosmp\"]\n")),
        ("project/kconfig/rt.toml", format!("{text}memory_mib = 256\n")),
        ("project/kconfig/rt.toml", format!("{text}slowdown = 2\n")),
        ("project/kconfig/rt.toml", format!("{text}\n[sysctls]\n\"kernel.pid_max\" = \"4096\"\n")),
        ("project/xtask/crates/guest/src/console.rs", "// another rule\n".to_owned()),
    ] {
        world.write(file, &more);
        let boots = search();
        assert_eq!((boots, search()), (3, 0), "{file}: {more}");
    }
    assert_eq!(world.made("vmlinux"), 3);
}

#[test]
fn a_host_that_cannot_start_qemu_is_no_answer_of_a_kernel() {
    let world = World::new();
    let top = line(&world, &[PASS, PASS, PASS, FAIL]);
    let qemu = world.path("bin/qemu-system-x86_64");
    let real = fs::read_link(&qemu).expect("a link");
    let refuse = || {
        fs::remove_file(&qemu).expect("removed");
        let refusing = "#!/bin/sh\n[ \"$1\" = --version ] && { echo \"qemu-system-x86_64 99.1 (fake)\"; exit 0; }\n\
                        echo 'qemu: cannot set up guest memory' >&2\nexit 1\n";
        let program = world.write("refusing", refusing);
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
        std::os::unix::fs::symlink(program, &qemu).expect("linked");
    };
    let allow = || {
        fs::remove_file(&qemu).expect("removed");
        std::os::unix::fs::symlink(&real, &qemu).expect("linked");
    };
    refuse();
    let done = bisect(&world, &top, "HEAD~3", "HEAD", &["--test", "basic/*"]);
    done.exits(30).says(&["no guest started", "cannot set up guest memory"]);
    let step = &record(&done)["steps"][0];
    assert_eq!((&step["verdict"], &step["class"]), (&"skip".into(), &30.into()), "{done}");
    // Failed results are tried again: by the same search, and by another one.
    allow();
    resume(&world, "latest").exits(0).says(&["number 3"]);
    let world_commit = format!("git:{}@HEAD", top.display());
    let judge = || {
        let words = ["bisect", "--toolchain", "host", "--accel", "tcg", "--boot", "direct", "--judge"];
        world.start(world.command(&[&words[..], &[&world_commit, "--test", "basic/first"]].concat())).done()
    };
    refuse();
    assert_eq!(judge().status.code(), Some(128), "git has to stop, and not to skip");
    allow();
    assert_eq!(judge().status.code(), Some(0), "basic/first passes");
}

#[test]
fn a_guest_that_a_busy_host_may_have_ended_is_booted_again() {
    for does in [UNBOOTED, "guest: vanish", "guest: idle"] {
        let world = World::new();
        let top = line(&world, &[PASS, does, FAIL]);
        let search = || {
            let before = booted(&world);
            let more = ["--test", "basic/*", "--timeout", "idle=1"];
            bisect(&world, &top, "HEAD~2", "HEAD", &more).exits(3);
            booted(&world) - before
        };
        assert_eq!((search(), search()), (3, 1), "{does}");
    }
}

/// An image as stored in the cache: the header of a bzImage, and what the fake guest does.
pub(super) fn image(world: &World, version: &str, does: &str) {
    let mut bytes = vec![0_u8; 0x210];
    bytes[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes.extend_from_slice(format!("\n{does}\n").as_bytes());
    let entry = format!("cache/image/debian-{version}-cloud-amd64-0123456789ab");
    fs::create_dir_all(world.path(&entry)).expect("a directory");
    fs::write(world.path(&entry).join("vmlinuz"), bytes).expect("written");
    world.seal(&entry);
}

#[test]
fn images_between_two_versions_are_searched_without_a_build() {
    let world = World::new();
    let versions = ["6.9.1", "6.10.3", "6.12.94", "6.12.107", "7.0.4", "7.0.12"];
    for (at, version) in versions.iter().enumerate() {
        image(&world, version, if at < 3 { SKIP } else { PASS });
    }
    // Outside of the range.
    image(&world, "6.8.9", PASS);
    image(&world, "7.1.0", FAIL);
    let index = serde_json::json!({ "mirror": "fake", "read_at": 0, "sources": [], "images": [] });
    world.write("cache/apt/host/index.json", &index.to_string());
    let run = |more: &[&str]| {
        let first = ["bisect", "--toolchain", "host", "--accel", "tcg", "--find-fix", "--test", "basic/*"];
        world.start(world.command(&[&first[..], more].concat())).done()
    };
    let done = run(&["--good", "debian:6.9.1", "--bad", "debian:7.0.12"]);
    done.exits(0).says(&["first good image: debian:6.12.107", "bad debian:6.12.94", "no BPF_TRACE_FSESSION"]);
    assert!(booted(&world) <= 5, "{done}");
    assert_eq!(world.made("vmlinux"), 0);
    run(&["--good", "debian:7.0.12", "--bad", "debian:6.9.1"])
        .refuses(2, &["cannot search between", "the earlier version"]);
    run(&["--good", "debian:6.9.1", "--bad", "debian:7.0.12", "--class", "build"])
        .refuses(2, &["an image is not built here"]);
}

/// Runs the command line printed by `--script` as a user would.
fn by_git(world: &World, top: &Path, good: &str, bad: &str, more: &[&str]) -> (i32, String) {
    let done = bisect(world, top, good, bad, &[more, &["--script"]].concat());
    done.exits(0);
    assert_eq!(done.stdout.lines().count(), 1, "one line\n{done}");
    let mut command = world.command(&[]);
    let sh = world.path("bin/sh");
    let mut script = Command::new(sh);
    script.args(["-c", done.stdout.trim()]).env_clear();
    for (name, value) in command.current_dir("/").get_envs() {
        if let Some(value) = value {
            script.env(name, value);
        }
    }
    let output = script.output().expect("sh runs");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap_or(-1), said)
}

#[test]
fn a_plain_git_bisect_run_understands_the_script() {
    let world = World::new();
    let does = [PASS, PASS, PASS, UNBUILT, PASS, UNBOOTED, PASS, FAIL, UNBUILT, FAIL, FAIL];
    let top = line(&world, &does);
    let (code, said) = by_git(&world, &top, "HEAD~10", "HEAD", &["--test", "basic/*"]);
    assert!(
        code == 0 && said.contains("is the first bad commit") && said.contains("number 7"),
        "{code}: {said}"
    );
    git(&top, &["bisect", "reset"]);
    git(&top, &["checkout", "-q", "main"]);

    // When searching for a fix, git's own terms are used.
    let world = World::new();
    let top = line(&world, &[FAIL, FAIL, FAIL, PASS, PASS]);
    let (code, said) = by_git(&world, &top, "HEAD~4", "HEAD", &["--test", "basic", "--find-fix"]);
    assert!(code == 0 && said.contains("is the first fixed commit") && said.contains("number 3"), "{said}");

    // No verdict is not an answer: git stops instead of treating it as bad. The runner does not build, or
    // this program does not exist.
    let world = World::new();
    let top = line(&world, &[PASS, PASS, FAIL, FAIL]);
    world.write("home/runner-is-broken", "");
    let (code, said) = by_git(&world, &top, "HEAD~3", "HEAD", &["--test", "basic"]);
    assert!(code != 0 && !said.contains("is the first bad commit"), "{code}: {said}");
    assert!(said.contains("exit code 128") || said.contains("128"), "{said}");
}

#[test]
fn one_kernel_judged_for_git_has_one_of_four_codes() {
    let world = World::new();
    let top = line(&world, &[PASS, FAIL, UNBUILT, UNBOOTED, PANIC]);
    let judge = |rev: &str, more: &[&str]| {
        let spec = format!("git:{}@{rev}", top.display());
        let first = ["bisect", "--toolchain", "host", "--accel", "tcg", "--boot", "direct", "--judge", &spec];
        world.start(world.command(&[&first[..], more].concat())).done().status.code()
    };
    for (rev, more, code) in [
        ("HEAD~4", &[][..], 0),
        ("HEAD~3", &[], 1),
        ("HEAD~2", &[], 125),
        ("HEAD~1", &[], 125),
        ("HEAD", &[], 125),
        ("HEAD", &["--class", "panic", "--title", "NULL pointer"], 1),
        ("HEAD", &["--class", "panic", "--title", "slub"], 125),
        ("HEAD~4", &["--find-fix"], 1),
        ("HEAD~3", &["--find-fix"], 0),
        ("HEAD~4", &["--runs", "3"], 0),
        ("nowhere", &[], 128),
        ("HEAD", &["--class", "panic"], 128),
        ("HEAD", &["--test", "nothing/*"], 128),
    ] {
        assert_eq!(judge(rev, more), Some(code), "{rev} {more:?}");
    }
    // Any other exit code becomes 128 in the script, including a panic of the harness (101).
    let done = bisect(&world, &top, "HEAD~4", "HEAD~3", &["--script"]);
    let guard = done.stdout.split_once("; code=$?; ").expect("a guard").1.trim_end_matches(['\'', '\n']);
    for (code, seen) in [(0, 0), (1, 1), (125, 125), (2, 128), (101, 128), (130, 128), (255, 128), (127, 128)]
    {
        let script = format!("(exit {code}); code=$?; {guard}");
        let status = Command::new("sh").args(["-c", &script]).status().expect("sh runs");
        assert_eq!(status.code(), Some(seen), "{code}");
    }
}
