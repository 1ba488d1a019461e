// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--each-patch`, `--with-base` and `--first-n`: reference columns, and which of their cells count.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Done, TESTS, World, git, text};

/// A repository whose first commit does the first of these, and each later one the next. The subject says
/// what it does.
fn history(world: &World, does: &[&str]) -> PathBuf {
    let top = world.repo("linux", does[0]);
    for what in &does[1..] {
        // Two states may do the same, but a commit must change something.
        let before = fs::read_to_string(top.join("kernel/fake.c")).expect("there");
        fs::write(top.join("kernel/fake.c"), format!("{before}int next;\n")).expect("written");
        fs::write(top.join("fake.does"), format!("{what}\n")).expect("written");
        world.commit(&top, &format!("fake: {}", what.replace('\n', ", ")));
    }
    top
}

/// `--each-patch` over a whole history.
fn each(world: &World, does: &[&str], words: &[&str]) -> Done {
    let top = history(world, does);
    let range = format!("git:{}@HEAD~{}..HEAD", top.display(), does.len() - 1);
    world.run(&[&["--kernel", &range, "--each-patch"][..], words].concat())
}

/// Outcomes of `basic/second`, column by column, and whether they count.
fn second(done: &Done) -> Vec<(String, bool)> {
    let cells = done.json()["cells"].as_array().expect("cells").iter();
    cells
        .filter(|cell| cell["subtest"] == "second")
        .map(|cell| (text(&cell["outcome"]), cell["required"] == true))
        .collect()
}

fn ids(done: &Done) -> Vec<String> {
    done.json()["kernels"].as_array().expect("kernels").iter().map(|kernel| text(&kernel["id"])).collect()
}

const SKIPS: &str = "guest: skip";
const PASSES: &str = "guest: pass";
const FAILS: &str = "guest: fail";

#[test]
fn each_patch_is_a_column_built_in_order_in_one_directory() {
    let world = World::new();
    let done = each(&world, &[SKIPS, SKIPS, PASSES, PASSES], &[]);
    done.exits(0);
    assert_eq!(done.stdout.lines().last(), Some("exit 0: pass 10; 2 only to compare with"), "{done}");
    let ids = ids(&done);
    let base = ids[0].clone();
    assert!(base.starts_with("git:linux@") && !base.contains('+'), "{base}");
    let range = "HEAD~3..HEAD";
    let expected = [String::new(), format!("+{range}@1/3"), format!("+{range}@2/3"), format!("+{range}")];
    assert_eq!(ids, expected.map(|end| format!("{base}{end}")));
    let skip = |counts| ("skip".to_owned(), counts);
    let pass = ("pass".to_owned(), true);
    assert_eq!(second(&done), [skip(false), skip(false), pass.clone(), pass]);
    let json = done.json();
    let kernels = json["kernels"].as_array().expect("kernels");
    assert_eq!(
        kernels.iter().map(|kernel| kernel["role"] == "step").collect::<Vec<_>>(),
        [true, true, true, false]
    );
    for (at, kernel) in kernels.iter().enumerate() {
        assert_eq!(kernel["series"].as_array().map(Vec::len), Some(at));
        let before = if at == 0 { Value::Null } else { ids[at - 1].clone().into() };
        assert_eq!(kernel["compared_to"], before);
    }
    let was: Vec<&Value> = json["cells"].as_array().expect("cells").iter().map(|cell| &cell["was"]).collect();
    assert_eq!(was.iter().filter(|was| ***was == "skip").count(), 1, "one change\n{done}");

    let phases = json["phases"].as_array().expect("phases").iter();
    let built: Vec<String> =
        phases.filter(|phase| phase["name"] == "build").map(|phase| text(&phase["kernel"])).collect();
    assert_eq!(built, ids, "in order");
    // The file that controls the fake make was changed once.
    assert_eq!((world.made("allnoconfig"), world.made("vmlinux")), (2, 4), "two object directories");
    done.says(&[
        "patch 2/3 \"fake: guest: pass\" lets 1 test (basic/second) pass",
        "build ok ok ok ok",
        "boot ok ok ok ok",
        "basic/second . . P* P",
        "basic/first P P P P",
    ]);
    // The reason of intermediate patches is not repeated for each of them.
    assert_eq!(done.told("no BPF_TRACE_FSESSION"), 0, "{done}");
    world.is_clean();
}

#[test]
fn a_series_from_a_directory_is_taken_apart_as_well_and_may_stop_early() {
    let world = World::new();
    let top = history(&world, &[SKIPS, PASSES, FAILS]);
    git(&top, &["format-patch", "-q", "-o", "../series", "HEAD~2"]);
    git(&top, &["checkout", "-q", "HEAD~2"]);
    let kernel = format!("tree:{}", top.display());
    let words = ["--kernel", &kernel, "--patches", "series"];
    let run = |more: &[&str]| world.run(&[&words[..], more].concat());
    let done = run(&["--each-patch"]);
    done.exits(1).says(&["patch 2/2 \"fake: guest: fail\" breaks 1 test (basic/second)"]);
    assert_eq!(ids(&done), ["tree:linux", "tree:linux+series@1/2", "tree:linux+series"]);
    let built = world.made("vmlinux");
    let done = run(&["--each-patch", "--first-n", "1"]);
    done.exits(0);
    assert_eq!(ids(&done), ["tree:linux", "tree:linux+series@1/2"]);
    let done = run(&["--first-n", "1"]);
    done.exits(0);
    assert_eq!(ids(&done), ["tree:linux+series@1/2"]);
    // With all patches, it is the same column and the same kernel as without the option.
    let done = run(&["--first-n", "2"]);
    done.exits(1);
    assert_eq!(ids(&done), ["tree:linux+series"]);
    assert_eq!(world.made("vmlinux"), built, "each was built once");
    let done = run(&["--each-patch", "--dry-run"]);
    done.exits(0).says(&["patches none, 1 .. 2 of 2: 3 column(s)"]);
}

#[test]
fn a_patch_that_does_not_build_is_the_finding_and_the_rest_is_tried() {
    let world = World::new();
    let done = each(&world, &[SKIPS, PASSES, "make: error\nguest: pass", PASSES], &[]);
    done.exits(12).says(&[
        "patch 2/3 \"fake: make: error, guest: pass\" breaks the build: ",
        "patch 3/3 \"fake: guest: pass\" builds again",
        "build ok ok F! ok",
        "boot ok ok - ok",
        "basic/second . P* - P",
        "'sessions' undeclared",
    ]);
    assert_eq!(done.json()["classes"], serde_json::json!({ "0": 8, "12": 3 }));
    // Unknown is not a change: with patch 3, no test passes that had not passed before.
    assert_eq!(done.told("lets 1 test (basic/second) pass"), 1, "{done}");
}

#[test]
fn what_breaks_on_the_way_counts_though_the_end_is_good() {
    for (broken, code, says) in [
        (FAILS, 1, "breaks 1 test (basic/second)"),
        (SKIPS, 3, "breaks 1 test (basic/second)"),
        ("guest: splat", 4, "breaks the boot: kernel splat"),
        ("guest: panic", 21, "breaks the boot: kernel panic or oops"),
        ("guest: dies-early", 21, "breaks the boot: kernel panic or oops"),
        ("guest: no-hello", 20, "breaks the boot: boot failed"),
    ] {
        let world = World::new();
        let done = each(&world, &[PASSES, broken, PASSES], &[]);
        done.exits(code).says(&[says]);
    }
}

#[test]
fn half_a_series_may_fail_what_never_worked_but_its_kernel_has_to_live() {
    let world = World::new();
    let done = each(&world, &[SKIPS, FAILS, PASSES], &[]);
    done.exits(0).says(&["basic/second . F P*"]);
    assert_eq!(second(&done)[1], ("fail".to_owned(), false));
    for (does, code) in
        [("guest: splat", 4), ("guest: panic", 21), ("guest: no-hello", 20), ("make: error", 12)]
    {
        let world = World::new();
        each(&world, &[does, PASSES], &[]).exits(code);
    }
}

#[test]
fn the_last_column_is_judged_as_any_other() {
    let world = World::new();
    let done = each(&world, &[SKIPS, SKIPS, SKIPS], &[]);
    done.exits(3).says(&["1 test (basic/second) does not pass with or without the series"]);
    let id = ids(&done).pop().expect("a last one");
    let top = world.path("linux");
    let range = format!("git:{}@HEAD~2..HEAD", top.display());
    let words = ["--kernel", &range, "--each-patch", "--allow-skip"];
    world.run(&[&words[..], &[&format!("{id}=basic/*")]].concat()).exits(0);
    // The glob matches the steps, but not the last column.
    world.run(&[&words[..], &["*@?/2=*"]].concat()).exits(3);
}

#[test]
fn a_patch_that_does_not_apply_leaves_the_columns_before_it() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", PASSES).display());
    world.patch("series/0001-rename.patch", "second", "better");
    world.patch("series/0002-elsewhere.patch", "nowhere", "better");
    let done = world.run(&["--kernel", &spec, "--patches", "series", "--each-patch"]);
    done.exits(10).says(&["patch 2 of 2 (0002-elsewhere.patch", "does not apply: "]);
    assert_eq!(done.json()["classes"], serde_json::json!({ "0": 6, "10": 3 }));
    let done = world.run(&["--kernel", &spec, "--patches", "series", "--each-patch", "--first-n", "1"]);
    done.exits(0);
}

#[test]
fn parts_of_no_series_are_refused() {
    let world = World::new();
    let top = history(&world, &[SKIPS, PASSES]);
    let (tree, range) = (format!("tree:{}", top.display()), format!("git:{}@HEAD~1..HEAD", top.display()));
    for (words, says) in [
        (&["--kernel", tree.as_str(), "--each-patch"][..], "--each-patch needs a series"),
        (&["--kernel", &tree, "--with-base"], "--with-base needs a series"),
        (&["--kernel", &tree, "--first-n", "1"], "--first-n needs a series"),
        (&["--kernel", &range, "--first-n", "2"], "--first-n 2 is out of range"),
        (&["--kernel", &range, "--each-patch", "--first-n", "2"], "give a number from 1 to 1"),
        (&["--kernel", &range, "--first-n", "0"], "--first-n <K>"),
        (&["--kernel", &range, "--each-patch", "--with-base"], "cannot be used with"),
        (&["--kernel", &range, "--each-patch", "--exec", "true"], "--each-patch starts several guests"),
        (&["--kernel", &range, "--kernel", &tree, "--each-patch"], "--each-patch is for one kernel"),
        (
            &["--kernel", &range, "--variant", "default", "--variant", "debug", "--each-patch"],
            "in one variant",
        ),
    ] {
        world.run(words).refuses(2, &[says]);
    }
    assert_eq!(world.read("home/make.calls"), "");
}

#[test]
fn an_interrupted_series_has_all_its_columns_and_leaves_nothing() {
    let world = World::new();
    let top = history(&world, &[SKIPS, "make: hang\nguest: pass", PASSES]);
    let range = format!("git:{}@HEAD~2..HEAD", top.display());
    let mut running = world.start(world.vmtest(&["--kernel", &range, "--each-patch"]));
    running.wait_for_hang();
    running.signal(Signal::SIGINT);
    let done = running.done();
    done.exits(130);
    assert_eq!(ids(&done).len(), 3);
    assert_eq!(done.json()["cells"].as_array().map(Vec::len), Some(3 * TESTS.len()));
    world.is_clean();
}

#[test]
fn a_kernel_that_cannot_be_had_has_a_name_for_each_column() {
    let world = World::new();
    let top = history(&world, &[SKIPS, PASSES]);
    // It can be resolved; its first commit is not a kernel.
    fs::remove_file(top.join("Makefile")).expect("removed");
    world.commit(&top, "no kernel");
    fs::write(top.join("kernel/fake.c"), "int x;\n").expect("written");
    world.commit(&top, "a patch");
    let range = format!("git:{}@HEAD~1..HEAD", top.display());
    let done = world.run(&["--kernel", &range, "--each-patch"]);
    done.exits(2).says(&["is not a kernel"]);
    let mut ids = ids(&done);
    ids.dedup();
    assert_eq!(ids.len(), 2, "{done}");
}

/// `--with-base` of a tree that does the one, with a series that makes it do the other.
fn with_base(world: &World, base: &str, patched: &str, words: &[&str]) -> Done {
    let top = history(world, &[base, patched]);
    git(&top, &["format-patch", "-q", "-o", "../series", "HEAD~1"]);
    git(&top, &["checkout", "-q", "HEAD~1"]);
    let kernel = format!("tree:{}", top.display());
    world.run(&[&["--kernel", &kernel, "--patches", "series", "--with-base"][..], words].concat())
}

#[test]
fn the_base_is_the_first_column_and_what_changed_is_marked() {
    let world = World::new();
    let done = with_base(&world, SKIPS, PASSES, &[]);
    done.exits(0).says(&[
        "tree:linux tree:linux+series",
        "basic/first pass pass",
        "basic/second skip pass*",
        "* another outcome than on the unpatched kernel",
        "changed from tree:linux to tree:linux+series, of 3 cells: 1 from skip to pass",
        "no BPF_TRACE_FSESSION",
    ]);
    assert_eq!(done.stdout.lines().last(), Some("exit 0: pass 5; 1 only to compare with"), "{done}");
    let json = done.json();
    assert_eq!(json["kernels"][0]["role"], "base");
    assert_eq!(json["kernels"][1]["compared_to"], "tree:linux");
    assert_eq!(json["kernels"][1]["role"], Value::Null);
    assert_eq!(second(&done), [("skip".to_owned(), false), ("pass".to_owned(), true)]);
    assert_eq!(
        (world.made("allnoconfig"), world.made("vmlinux")),
        (2, 2),
        "the patch changes what make executes"
    );
}

#[test]
fn the_patched_column_decides_and_a_base_that_is_not_there_is_no_pass() {
    for (base, patched, code) in [
        // Test results of the base are informational ..
        (SKIPS, PASSES, 0),
        (FAILS, PASSES, 0),
        ("guest: plans-less", PASSES, 0),
        // .. those of the patched kernel are not ..
        (SKIPS, SKIPS, 3),
        (FAILS, FAILS, 1),
        (PASSES, FAILS, 1),
        (PASSES, SKIPS, 3),
        (PASSES, "make: error", 12),
        // .. and nothing can be compared with a kernel that is missing.
        ("make: error", PASSES, 12),
        ("guest: no-hello", PASSES, 20),
        ("guest: panic", PASSES, 21),
        ("guest: panics-at-last", PASSES, 21),
        ("guest: splat", PASSES, 4),
        ("guest: no-done", PASSES, 24),
        ("guest: gap", PASSES, 30),
    ] {
        let world = World::new();
        let done = with_base(&world, base, patched, &[]);
        assert_eq!(done.status.code(), Some(code), "{base} and {patched}\n{done}");
        done.exits(code);
    }
}

#[test]
fn each_kernel_with_a_series_gets_its_base_and_others_none() {
    let world = World::new();
    let top = history(&world, &[SKIPS, PASSES]);
    let range = format!("git:{}@HEAD~1..HEAD", top.display());
    let other = format!("tree:{}", world.tree("other", PASSES).display());
    let words = ["--kernel", other.as_str(), "--kernel", &range, "--with-base"];
    let done = world.run(&[&words[..], &["--variant", "default", "--variant", "debug"]].concat());
    done.exits(0);
    let columns: Vec<(String, String)> = done.json()["boots"]
        .as_array()
        .expect("boots")
        .iter()
        .map(|boot| (text(&boot["kernel"]), text(&boot["variant"])))
        .collect();
    let base = columns[2].0.clone();
    let patched = format!("{base}+HEAD~1..HEAD");
    let expected = [
        ("tree:other", "default"),
        ("tree:other", "debug"),
        (&base, "default"),
        (&patched, "default"),
        (&base, "debug"),
        (&patched, "debug"),
    ];
    assert_eq!(columns, expected.map(|(kernel, variant)| (kernel.to_owned(), variant.to_owned())));
    assert_eq!(done.json()["classes"], serde_json::json!({ "0": 16 }));
}

#[test]
fn a_base_that_skips_stops_no_run_that_is_to_stop_at_the_first_failure() {
    let world = World::new();
    with_base(&world, SKIPS, PASSES, &["--fail-fast"]).exits(0);
    let world = World::new();
    with_base(&world, "guest: panic", PASSES, &["--fail-fast", "--vms", "1"]).exits(21);
}
