// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is decided before anything is built, and does not change later: patches, configurations, and the
//! kernel that a spec resolves to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::{Done, World, text};

const PASSES: &str = "guest: pass";

/// Puts a script in front of a program of the world. `$real` is the program.
fn before(world: &World, name: &str, script: &str) {
    let program = world.path("bin").join(name);
    let real = fs::read_link(&program).expect("a link");
    fs::remove_file(&program).expect("removed");
    let text = format!("#!/bin/sh\nreal={}\n{script}\nexec \"$real\" \"$@\"\n", real.display());
    fs::write(&program, text).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
}

/// The numbers of the log lines of a run that are about a phase.
fn lines_about(done: &Done, phase: &str) -> Vec<usize> {
    let log = fs::read_to_string(done.run_dir.as_ref().expect("a run").join("log")).expect("a log");
    let about = log.lines().enumerate().filter(|(_, line)| line.contains(&format!(" {phase}: ")));
    about.map(|(at, _)| at).collect()
}

/// A patch of `kernel/fake.c` after [`World::patch`] renamed "second" to "better".
fn next_patch(world: &World, name: &str, from: &str) -> PathBuf {
    let path = world.patch(name, from, "best");
    let text = fs::read_to_string(&path).expect("there").replace(" int second;", " int better;");
    world.write(name, &text)
}

/// With the last patch this kernel is not available; the columns before it are the kernel without it.
#[test]
fn no_make_starts_before_all_patches_are_applied_and_all_configurations_merged() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("good", PASSES).display());
    let extra = world.write("extra.config", "CONFIG_BPF_EVENTS=y\n");
    world.patch("a.patch", "second", "better");
    next_patch(&world, "b.patch", "first");
    next_patch(&world, "c.patch", "nothere");
    // A fragment that is read later than this is malformed.
    let spoil = format!("[ \"$1\" = --version ] || echo nonsense > {}", extra.display());
    before(&world, "make", &spoil);
    let patches = ["--patches", "a.patch", "--patches", "b.patch", "--patches", "c.patch"];
    let words = [&["--kernel", &spec, "--each-patch", "--config", "extra.config"], &patches[..]].concat();
    let done = world.run(&words);
    done.exits(10);
    let (patched, made) = (lines_about(&done, "patch"), lines_about(&done, "configure"));
    assert_eq!(patched.len(), 6, "begin and end of each");
    assert!(!made.is_empty() && patched.iter().max() < made.iter().min(), "{patched:?} {made:?}\n{done}");
    assert_eq!(world.read("extra.config"), "nonsense\n", "{done}");
    // Only this column fails: the others are built and booted.
    assert_eq!(world.made("vmlinux"), 3, "{done}");
    let cells = done.json()["cells"].as_array().expect("cells").iter();
    let outcomes: Vec<String> = cells.map(|cell| text(&cell["outcome"])).collect();
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "pass").count(), 9, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "notrun").count(), 3, "{outcomes:?}");
    world.is_clean();
}

/// The same in a matrix, whose jobs with other kernels run in their own threads.
#[test]
fn no_make_of_a_matrix_starts_before_the_patches_of_all_jobs_are_applied() {
    let world = World::new();
    for name in ["good", "other"] {
        world.tree(name, PASSES);
    }
    world.write("other/kernel/fake.c", "int zeroth;\n");
    world.patch("a.patch", "second", "better");
    world.write(
        "m.toml",
        "[[matrix]]\nkernels = ['tree:good', 'tree:other']\nvariants = ['default', 'debug']\nseries = ['./a.patch']\n",
    );
    let done = world.run(&["--matrix", "m.toml"]);
    done.exits(10);
    let (patched, made) = (lines_about(&done, "patch"), lines_about(&done, "configure"));
    assert_eq!(patched.len(), 8, "begin and end of each");
    assert!(!made.is_empty() && patched.iter().max() < made.iter().min(), "{patched:?} {made:?}\n{done}");
    assert_eq!(world.made("vmlinux"), 2, "{done}");
    world.is_clean();
}

/// What the fake make was called for, in order, without what does not matter here.
fn calls(world: &World) -> Vec<String> {
    let calls = world.read("home/make.calls");
    calls.lines().filter(|call| ["allnoconfig", "vmlinux"].contains(call)).map(str::to_owned).collect()
}

/// The numbers of the first log lines with a warning and about a build.
fn warned_and_built(done: &Done, warning: &str) -> (usize, usize) {
    let log = fs::read_to_string(done.run_dir.as_ref().expect("a run").join("log")).expect("a log");
    let at = |part: &str| log.lines().position(|line| line.contains(part));
    (
        at(warning).unwrap_or_else(|| panic!("no {warning}\n{log}")),
        at(" build: ").unwrap_or_else(|| panic!("no build\n{log}")),
    )
}

const LOSES: &str = "a requested option is lost: CONFIG_BPF_EVENTS=y became n";

#[test]
fn a_lost_option_of_a_later_kernel_is_known_before_anything_is_built() {
    let world = World::new();
    let good = format!("tree:{}", world.tree("good", PASSES).display());
    let lossy = format!("tree:{}", world.tree("lossy", "kconfig: CONFIG_BPF_EVENTS").display());
    let done = world.run(&["--kernel", &good, "--kernel", &lossy]);
    done.exits(11).says(&[&format!("warning: tree:lossy: {LOSES}")]);
    assert_eq!(calls(&world), ["allnoconfig", "allnoconfig", "vmlinux"], "{done}");
    let (warned, built) = warned_and_built(&done, LOSES);
    assert!(warned < built, "{done}");
    assert!(done.outcomes(Some("tree:good")).values().all(|outcome| outcome == "pass"), "{done}");
    assert!(done.outcomes(Some("tree:lossy")).values().all(|outcome| outcome == "notrun"), "{done}");
    world.is_clean();
}

#[test]
fn a_lost_option_of_a_job_is_known_before_anything_of_a_matrix_is_built() {
    let world = World::new();
    world.tree("good", PASSES);
    world.tree("lossy", "kconfig: CONFIG_BPF_EVENTS");
    world.write("m.toml", "[[matrix]]\nkernels = ['tree:good', 'tree:lossy']\nvariants = ['default']\n");
    let done = world.run(&["--matrix", "m.toml"]);
    done.exits(11);
    assert_eq!(calls(&world), ["allnoconfig", "allnoconfig", "vmlinux"], "{done}");
    let (warned, built) = warned_and_built(&done, LOSES);
    assert!(warned < built, "{done}");
    world.is_clean();
}

/// A series that does not change Kconfig is not configured apart from its build.
#[test]
fn an_option_that_a_series_loses_is_known_before_its_base_is_built() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("good", PASSES).display());
    world.write(
        "lossy.patch",
        "From: A <a@example.org>\nSubject: [PATCH] fake: lose an option\n\nIt is gone.\n---\n\
         diff --git a/Kconfig b/Kconfig\n--- a/Kconfig\n+++ b/Kconfig\n\
         @@ -1,3 +1,4 @@\n mainmenu \"fake\"\n \n+# less\n config BPF_EVENTS\n\
         diff --git a/fake.does b/fake.does\n--- a/fake.does\n+++ b/fake.does\n\
         @@ -1 +1,2 @@\n guest: pass\n+kconfig: CONFIG_BPF_EVENTS\n--\n2.39.0\n",
    );
    let done = world.run(&["--kernel", &spec, "--patches", "lossy.patch", "--with-base"]);
    done.exits(11);
    assert_eq!(calls(&world), ["allnoconfig", "allnoconfig", "vmlinux"], "{done}");
    let (warned, built) = warned_and_built(&done, LOSES);
    assert!(warned < built, "{done}");
    assert!(done.outcomes(Some("tree:good")).values().all(|outcome| outcome == "pass"), "{done}");
    world.patch("harmless.patch", "second", "better");
    world.run(&["--kernel", &spec, "--patches", "harmless.patch", "--with-base"]).exits(0);
    assert_eq!(calls(&world)[3..], ["vmlinux"], "{done}");
    world.is_clean();
}

/// An index of the archive that lists these versions, all of which are in the cache.
fn index(world: &World, versions: &[&str]) -> String {
    let release = |version: &&str| {
        let entry = format!("cache/source/debian-tarball-{version}-0123456789ab");
        world.tree(&entry, PASSES);
        world.seal(&entry);
        serde_json::json!({ "upstream": version, "version": version, "form": "tarball", "suite": "stable",
            "sha256": "0123456789ab", "size": 1 })
    };
    let sources: Vec<_> = versions.iter().map(release).collect();
    serde_json::json!({ "mirror": "fake", "read_at": 0, "sources": sources, "images": [] }).to_string()
}

fn head(top: &Path, rev: &str) -> String {
    let mut git = std::process::Command::new("git");
    let said = git.arg("-C").arg(top).args(["rev-parse", rev]).output().expect("git runs");
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

/// The third kernel is a range, and resolving it takes a `git merge-base`: by then the first two are
/// resolved, and nothing has been fetched.
#[test]
fn what_changes_after_a_kernel_was_resolved_does_not_change_what_is_built() {
    let world = World::new();
    let listed = world.path("cache/apt/host/index.json");
    let refreshed = world.write("refreshed.json", &index(&world, &["6.18.16", "6.18.15"]));
    world.write("cache/apt/host/index.json", &index(&world, &["6.18.15"]));
    let two = |name: &str| {
        let top = world.repo(name, PASSES);
        world.write(&format!("{name}/more.c"), "int more;\n");
        world.commit(&top, "second");
        top
    };
    let (moving, range) = (two("moving"), two("range"));
    let (old, new) = (head(&moving, "HEAD"), head(&moving, "HEAD~1"));
    let script = format!(
        "case \" $* \" in *\" merge-base \"*)\n    {cp} {refreshed} {listed}\n    echo {new} > {moving}/.git/refs/heads/main\nesac",
        cp = world.path("bin/cp").display(),
        refreshed = refreshed.display(),
        listed = listed.display(),
        moving = moving.display(),
    );
    before(&world, "git", &script);
    let (moving_spec, range_spec) =
        (format!("git:{}@main", moving.display()), format!("git:{}@HEAD~1..HEAD", range.display()));
    let done = world.run(&["--kernel", "src:6.18", "--kernel", &moving_spec, "--kernel", &range_spec]);
    done.exits(0);
    let kernels = done.json()["kernels"].as_array().expect("kernels").iter();
    let ids: Vec<String> = kernels.map(|kernel| text(&kernel["id"])).collect();
    assert_eq!(ids[..2], ["src:6.18.15".to_owned(), format!("git:moving@{}", &old[..12])], "{done}");
    // It did change: the next run uses the new ones.
    assert_eq!(head(&moving, "main"), new);
    let done = world.run(&["--kernel", "src:6.18", "--kernel", &moving_spec]);
    let kernels = done.json()["kernels"].as_array().expect("kernels").iter();
    let ids: Vec<String> = kernels.map(|kernel| text(&kernel["id"])).collect();
    assert_eq!(ids, ["src:6.18.16".to_owned(), format!("git:moving@{}", &new[..12])], "{done}");
    world.is_clean();
}
