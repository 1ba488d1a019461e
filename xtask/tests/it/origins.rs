// SPDX-License-Identifier: MIT OR Apache-2.0
//! The objects of an untrusted build are used only by builds whose makefiles execute the same code. The
//! "hostile" script leaves an object that the fake make links into every kernel built from those objects.

use std::fs;
use std::path::Path;

use crate::support::{ARCHIVED, Done, World, git};

const PASSES: &str = "guest: pass";
const HOSTILE: &str = "echo POISONED > \"$obj/planted\"\n";

/// A patch that adds a hostile script to the link step.
fn hostile_patch(world: &World, name: &str) {
    world.write(
        name,
        "From: A <a@example.org>\nSubject: [PATCH] fake: link\n\nIt helps.\n\n---\n scripts/link.sh | 1 +\n\n\
         diff --git a/scripts/link.sh b/scripts/link.sh\nnew file mode 100644\n--- /dev/null\n+++ b/scripts/link.sh\n\
         @@ -0,0 +1 @@\n+echo POISONED > \"$obj/planted\"\n--\n2.39.0\n",
    );
}

/// Whether the kernel that was booted last contains what the script planted.
fn is_poisoned(world: &World) -> bool {
    let calls = world.read("home/guest.calls");
    let kernel = calls.lines().last().and_then(|line| line.split_once(' ')).expect("a boot").1.to_owned();
    fs::read_to_string(kernel).expect("a kernel").contains("POISONED")
}

fn run(world: &World, words: &[&str]) -> Done {
    let done = world.run(&[&["--boot", "direct"][..], words].concat());
    done.exits(0);
    done
}

fn objects(world: &World) -> usize {
    let all = fs::read_dir(world.path("cache/objects")).expect("listed").flatten();
    all.filter(|entry| entry.path().join("obj").is_dir()).count()
}

#[test]
fn a_hostile_version_of_a_series_reaches_no_later_kernel() {
    let world = World::new();
    world.archived(PASSES);
    run(&world, &["--kernel", "src:6.18.15"]);
    let before = objects(&world);
    world.patch("inbox/1.patch", "first", "other");
    hostile_patch(&world, "inbox/2.patch");
    run(&world, &["--kernel", "src:6.18.15", "--patches", "inbox"])
        .says(&["changes scripts/link.sh, which make executes", "in a private copy of the objects"]);
    assert!(is_poisoned(&world), "its own kernel is its own affair");
    assert_eq!(objects(&world), before, "and its objects are gone");
    world.is_clean();

    fs::remove_file(world.path("inbox/2.patch")).expect("removed");
    run(&world, &["--kernel", "src:6.18.15", "--patches", "inbox"]);
    assert!(!is_poisoned(&world), "the clean second version");
    // The same patch as the project's own is trusted.
    world.patch("project/patches/own-6.18/1.patch", "first", "other");
    run(&world, &["--kernel", "src:6.18.15", "--patches", "own"]);
    assert!(!is_poisoned(&world), "the default");
    world.patch("elsewhere/1.patch", "first", "other");
    run(&world, &["--kernel", "src:6.18.15", "--patches", "elsewhere"]);
    assert!(!is_poisoned(&world), "another path");
    // The hostile series is still hostile, and only where it is requested.
    hostile_patch(&world, "inbox/2.patch");
    let built = world.made("vmlinux");
    run(&world, &["--kernel", "src:6.18.15", "--patches", "inbox"]);
    assert!(is_poisoned(&world));
    assert_eq!(world.made("vmlinux"), built, "it is in the cache");
}

#[test]
fn a_kernel_is_shared_with_nobody_of_another_origin() {
    let world = World::new();
    world.archived(PASSES);
    for path in ["one/1.patch", "two/1.patch", "project/patches/own-6.18/1.patch"] {
        world.patch(path, "first", "other");
    }
    for (at, series) in ["one", "two", "own", "one", "two", "own"].iter().enumerate() {
        run(&world, &["--kernel", "src:6.18.15", "--patches", series]);
        assert_eq!(world.made("vmlinux"), (at + 1).min(3), "{series}");
    }
    assert_eq!(fs::read_dir(world.path("cache/kernel")).expect("listed").count(), 3);
}

#[test]
fn a_hostile_branch_reaches_no_other_commit_and_no_clone() {
    let world = World::new();
    let top = world.repo("linux", PASSES);
    git(&top, &["checkout", "-qb", "stranger"]);
    world.write("linux/scripts/link.sh", HOSTILE);
    world.commit(&top, "helps");
    let spec = |top: &Path, rev: &str| format!("git:{}@{rev}", top.display());
    run(&world, &["--kernel", &spec(&top, "stranger")]);
    assert!(is_poisoned(&world));
    run(&world, &["--kernel", &spec(&top, "main")]);
    assert!(!is_poisoned(&world), "the first build in this repository was the stranger's");
    git(&world.path(""), &["clone", "-q", "-b", "main", "linux", "clone"]);
    run(&world, &["--kernel", &spec(&world.path("clone"), "main")]);
    assert!(!is_poisoned(&world));
    // A range whose last commit removes the script.
    git(&top, &["rm", "-q", "scripts/link.sh"]);
    world.commit(&top, "does not help");
    run(&world, &["--kernel", &format!("{}..stranger", spec(&top, "stranger~1"))]);
    assert!(!is_poisoned(&world), "repaired");
    world.is_clean();
}

#[test]
fn a_hostile_state_of_a_tree_reaches_no_later_state_and_no_copy() {
    let world = World::new();
    let top = world.tree("linux", PASSES);
    let spec = |top: &Path| format!("tree:{}", top.display());
    world.write("linux/scripts/link.sh", HOSTILE);
    run(&world, &["--kernel", &spec(&top)]);
    assert!(is_poisoned(&world));
    fs::remove_file(top.join("scripts/link.sh")).expect("removed");
    run(&world, &["--kernel", &spec(&top)]);
    assert!(!is_poisoned(&world));
    let copy = world.tree("copy", PASSES);
    run(&world, &["--kernel", &spec(&copy)]);
    assert!(!is_poisoned(&world));
}

#[test]
fn what_only_changes_c_files_is_built_from_what_was_there() {
    let world = World::new();
    world.archived(PASSES);
    run(&world, &["--kernel", "src:6.18.15"]);
    for to in ["other", "another", "third_name"] {
        world.patch("inbox/1.patch", "first", to);
        run(&world, &["--kernel", "src:6.18.15", "--patches", "inbox"]);
    }
    assert_eq!((world.made("allnoconfig"), world.made("vmlinux"), objects(&world)), (1, 4, 2));
    // The next version, or a tree that is being edited, with its own objects.
    let top = world.tree("linux", PASSES);
    for text in ["int a;\n", "int b;\n"] {
        world.write("linux/kernel/fake.c", text);
        run(&world, &["--kernel", &format!("tree:{}", top.display())]);
    }
    assert_eq!((world.made("allnoconfig"), world.made("vmlinux"), objects(&world)), (2, 6, 3));
}

#[test]
fn of_a_strangers_tree_the_last_states_keep_their_objects() {
    let world = World::new();
    let top = world.tree("linux", PASSES);
    for at in 0..4 {
        world.write("linux/kernel/Makefile", &format!("# {at}\n"));
        run(&world, &["--kernel", &format!("tree:{}", top.display())]);
        assert_eq!(objects(&world), (at + 1).min(2));
    }
    // Back to a version that is still cached.
    world.write("linux/kernel/Makefile", "# 2\n");
    world.write("linux/kernel/fake.c", "int x;\n");
    run(&world, &["--kernel", &format!("tree:{}", top.display())]);
    assert_eq!((world.made("allnoconfig"), objects(&world)), (4, 2));
    assert!(!world.path(ARCHIVED).exists());
    world.is_clean();
}
