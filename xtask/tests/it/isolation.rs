// SPDX-License-Identifier: MIT OR Apache-2.0
//! Untrusted series, trees and guests that try to access what is not theirs. Here with fake tools; builds in
//! the real sandbox are in `tests/vm/isolation.rs`.

use std::fs;
use std::path::Path;

use crate::support::World;

/// Runs a tree whose make leaves these links, to a secret file or to a directory of the user.
#[track_caller]
fn leaves_links(links: &[&str], to_directory: bool, code: i32, says: &str) {
    let world = World::new();
    world.write("somebody/secret.c", "a secret\n");
    let does: String = links.iter().map(|link| format!("\nlink: {link}")).collect();
    let tree = world.tree("linux", &format!("make: links{does}\nguest: pass"));
    let target = world.path(if to_directory { "somebody" } else { "somebody/secret.c" });
    world.write("linux/fake.target", &target.display().to_string());
    let kmods = "linux/tools/testing/selftests/bpf/test_kmods";
    world.write(&format!("{kmods}/Makefile"), "obj-m := x.o\n");
    let config = world.write("modules.config", "CONFIG_MODULES=y\n");
    let spec = format!("tree:{}", tree.display());
    let config = config.to_str().expect("a plain path");
    let done = world.run(&["--kernel", &spec, "--boot", "direct", "--config", config]);
    done.exits(code);
    if !says.is_empty() {
        done.says(&[says]);
    }
    assert_eq!(world.read("somebody/secret.c"), "a secret\n", "{links:?}");
    assert_eq!(fs::read_dir(world.path("somebody")).expect("listed").count(), 1, "{links:?}");
    for place in ["cache/kernel", "state"] {
        for entry in walkdir::WalkDir::new(world.path(place)).into_iter().flatten() {
            let held = fs::read(entry.path()).unwrap_or_default();
            let holds = held.windows(8).any(|part| part == b"a secret");
            assert!(!holds, "{links:?}: {} holds the secret", entry.path().display());
        }
    }
}

#[test]
fn links_that_a_build_leaves_are_not_followed() {
    leaves_links(&["vmlinux"], false, 12, "did not produce vmlinux as a regular file");
    leaves_links(&["include/config/kernel.release"], false, 12, "did not produce vmlinux as a regular file");
    leaves_links(&["include/config"], true, 12, "did not produce vmlinux as a regular file");
    leaves_links(&[".config"], false, 12, "did not produce vmlinux as a regular file");
}

#[test]
fn a_link_where_we_tidy_up_costs_nobody_a_file() {
    leaves_links(&["vmtest-modules"], true, 0, "");
}

/// Number of object directories and of ccache directories.
fn places(world: &World) -> (usize, usize) {
    let count = |kind: &str| fs::read_dir(world.path("cache").join(kind)).map(Iterator::count).unwrap_or(0);
    (count("objects"), count("ccache"))
}

#[test]
fn what_a_strangers_build_leaves_is_used_for_the_same_origin_only() {
    let world = World::new();
    let tree = world.tree("linux", "guest: pass");
    let spec = format!("tree:{}", tree.display());
    let run = |more: &[&str]| {
        world.run(&[&["--kernel", &spec, "--boot", "direct"][..], more].concat()).exits(0);
        places(&world)
    };
    assert_eq!(run(&[]), (1, 1));
    world.patch("mine/1.patch", "first", "other");
    world.patch("theirs/1.patch", "second", "other");
    world.patch("project/patches/own-6.18/1.patch", "third", "other");
    assert_eq!(run(&["--patches", "own"]), (1, 1), "the project's own series is trusted as the tree is");
    assert_eq!(run(&["--patches", "mine"]), (2, 1));
    assert_eq!(run(&["--patches", "theirs"]), (3, 1));
    world.patch("mine/1.patch", "first", "another");
    assert_eq!(run(&["--patches", "mine"]), (3, 1), "the next version builds on what the last one left");
    assert_eq!(run(&[]), (3, 1));
}

#[test]
fn the_first_objects_of_a_stranger_are_a_copy_and_no_link() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    let run = |more: &[&str]| world.run(&[&["--kernel", &spec, "--boot", "direct"][..], more].concat());
    let objects = || -> Vec<_> {
        let all = fs::read_dir(world.path("cache/objects")).expect("listed").flatten();
        all.map(|entry| entry.path().join("obj")).filter(|obj| obj.is_dir()).collect()
    };
    run(&[]).exits(0);
    let [ours] = &objects()[..] else { panic!("{:?}", objects()) };
    fs::write(ours.join("object"), "ours").expect("written");
    world.patch("series/1.patch", "first", "other");
    run(&["--patches", "series"]).exits(0);
    assert_eq!(
        (world.made("allnoconfig"), world.made("vmlinux")),
        (1, 2),
        "what was there was not made again"
    );
    let theirs: Vec<_> = objects().into_iter().filter(|obj| obj != ours).collect();
    let [theirs] = &theirs[..] else { panic!("{theirs:?}") };
    assert_eq!(fs::read_to_string(theirs.join("object")).expect("copied"), "ours");
    fs::write(theirs.join("object"), "poisoned").expect("written");
    assert_eq!(fs::read_to_string(ours.join("object")).expect("read"), "ours");
}

/// Directories whose names contain special characters of shells, makefiles and terminals.
const ODD: [&str; 9] = [
    "with space",
    "quote'single",
    "quote\"double",
    "$(touch owned)",
    "`touch owned`",
    "new\nline",
    "semi;touch owned",
    "star*",
    "\u{1b}[2Jescape",
];

#[test]
fn odd_names_are_safe_or_refused_by_name_in_every_option() {
    for odd in ODD {
        let world = World::new();
        let top = world.repo(&format!("{odd}/linux"), "guest: pass");
        let patch = world.patch(&format!("{odd}/p/1.patch"), "first", "other");
        let config = world.write(&format!("{odd}/x.config"), "CONFIG_BPF=y\n");
        let out = world.path(&format!("{odd}/out"));
        let json = world.path(&format!("{odd}/run.json"));
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let tree = format!("tree:{}", text(&top));
        // A direct boot passes any path unchanged.
        let git = format!("git:{}@main", text(&top));
        if odd.contains('\n') {
            // git itself lists paths by lines.
            let done = world.run(&["--kernel", &git, "--boot", "direct"]);
            done.exits(2).says(&["its path contains a newline"]);
        }
        for words in [
            &["--kernel", &tree][..],
            &["--kernel", if odd.contains('\n') { &tree } else { &git }],
            &["--kernel", &tree, "--patches", &text(&patch)],
            &["--kernel", &tree, "--patches", &text(patch.parent().expect("a parent"))],
            &["--kernel", &tree, "--config", &text(&config)],
            &["--kernel", &tree, "--json", &text(&json)],
            &["--kernel", &tree, "--out", &text(&out)],
        ] {
            let done = world.run(&[words, &["--boot", "direct"]].concat());
            assert_eq!(done.status.code(), Some(0), "{odd:?} in {words:?}\n{done}");
            assert!(!done.stdout.contains('\u{1b}') && !done.stderr.contains('\u{1b}'), "{odd:?}\n{done}");
        }
        // Names that are not paths.
        for (words, code) in [
            (&["--variant", odd][..], 2),
            (&["--suite", odd], 2),
            (&["--cpu-model", odd], 2),
            (&["--append", odd], 2),
            (&["--sysctl", odd], 2),
            (&["--memory", odd], 2),
            (&["--timeout", odd], 2),
            (&["--kernel", &format!("git:{}@{odd}", text(&top))], 2),
            (&["--kernel", &format!("src:{odd}")], 2),
            (&["--kernel", &format!("debian:7.0/{odd}")], 2),
            (&["--kernel", &format!("image:{odd}")], 2),
            (&["--kernel", &format!("tar:{odd}")], 2),
            (&["--mirror", odd, "--kernel", "src:6.18"], 2),
            (&["--patches", odd, "--kernel", &format!("tree:{}/nothing", text(&top))], 2),
            (&["--run-size", odd], 2),
        ] {
            let done = world.run(words);
            assert_eq!(done.status.code(), Some(code), "{odd:?} in {words:?}\n{done}");
            assert!(!done.stdout.contains('\u{1b}') && !done.stderr.contains('\u{1b}'), "{odd:?}\n{done}");
        }
        // vng passes paths to a shell: unsafe paths are rejected with the host's tools, and nothing is run.
        for variable in ["VMTEST_CACHE_DIR", "TMPDIR"] {
            let place = world.path(&format!("{odd}/place"));
            fs::create_dir_all(&place).expect("made");
            let mut command = world.vmtest(&["--kernel", &tree, "--boot", "vng"]);
            command.env(variable, &place);
            let done = world.start(command).done();
            assert_eq!(done.status.code(), Some(30), "{odd:?} in {variable}\n{done}");
            done.says(&["vng cannot use the path"]);
        }
        let owned = walkdir::WalkDir::new(world.path("")).into_iter().flatten();
        assert!(!owned.into_iter().any(|entry| entry.file_name() == "owned"), "{odd:?} was run by a shell");
    }
}

/// Boots a hostile guest both ways; nothing that it reports is a pass.
#[track_caller]
fn hostile(does: &str, code: i32, says: &str) -> (World, crate::support::Done) {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", &format!("guest: {does}")).display());
    for boot in ["direct", "vng"] {
        let done = world.run(&["--kernel", &spec, "--boot", boot]);
        done.exits(code).says(&[says]);
        world.is_clean();
        if boot == "vng" {
            return (world, done);
        }
    }
    unreachable!("both were booted")
}

#[test]
fn a_hostile_guest_does_not_reach_the_terminal() {
    let (_world, done) = hostile("escapes", 1, "not so");
    let record = fs::read_to_string(done.run_dir.as_ref().expect("a run").join("run.json")).expect("read");
    for text in [&done.stdout, &done.stderr, &record] {
        let bad = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!text.contains(bad), "{done}");
        assert!(!text.contains("\\u001b") && !text.contains("\\u202e"), "{text}");
    }
    let log = fs::read_to_string(done.run_dir.as_ref().expect("a run").join("log")).expect("read");
    assert!(!log.contains('\u{1b}'));
    assert_eq!(done.outcomes(None)["basic/second"], "fail");
    assert!(
        done.json()["splats"].as_array().is_some_and(|splats| !splats.is_empty()),
        "the splat is not hidden"
    );
}

#[test]
fn a_hostile_guest_stays_within_the_bounds() {
    for (does, says) in [
        ("endless", "expected event"),
        ("deep", "is not an event"),
        ("long-line", "a line of more than"),
        ("other-cell", "which was not running"),
    ] {
        let (_world, done) = hostile(does, 30, says);
        let passes = done.outcomes(None).values().filter(|outcome| *outcome == "pass").count();
        assert_eq!(passes, 0, "{does}\n{done}");
        let dir = done.run_dir.as_ref().expect("a run");
        let files = walkdir::WalkDir::new(dir).into_iter().flatten();
        let bytes: u64 = files.filter_map(|entry| entry.metadata().ok()).map(|stat| stat.len()).sum();
        assert!(bytes <= 51 << 20, "{does}: {bytes}");
    }
}

#[test]
fn names_that_a_guest_makes_up_are_no_paths() {
    let (world, done) = hostile("dotdot", 30, "not planned");
    assert!(!world.path("owned").exists() && !world.path("state/owned").exists(), "{done}");
    let outcomes = done.outcomes(None);
    assert_eq!(outcomes["basic/first"], "pass");
    assert!(
        outcomes.iter().any(|(name, outcome)| name.starts_with("../") && outcome == "fail"),
        "{outcomes:?}"
    );
}

/// A finished run whose guest died, next to everything that a link in it could point to.
fn run_from_elsewhere() -> (World, std::path::PathBuf, std::path::PathBuf) {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: panic").display());
    let out = world.path("out");
    world.run(&["--kernel", &spec, "--boot", "direct", "--out", out.to_str().expect("plain")]).exits(21);
    for name in ["console.log", "events.jsonl", "config", "brief.json", "secret"] {
        world.write(&format!("home-of-somebody/{name}"), "CONFIG_A_SECRET=y a secret\n");
    }
    let cell = fs::read_dir(out.join("cells")).expect("listed").flatten().next().expect("a guest").path();
    (world, out, cell)
}

/// Asserts that no command that reads this run shows the secret, and that each finishes in time.
#[track_caller]
fn reads_no_secret(world: &World, out: &Path) {
    let run = out.to_str().expect("plain");
    let page = world.path("page.html");
    let output = format!("html={}", page.display());
    for words in [
        &["report", "export", run, "--output", &output][..],
        &["report", "show", run],
        &["report", "show", run, "--from-raw"],
        &["report", "diff", run, run],
        &["report", "merge", run, "--out", world.path("merged").to_str().expect("plain")],
    ] {
        let done = world.start(world.command(words)).done();
        let told = done.to_string() + &fs::read_to_string(&page).unwrap_or_default();
        assert!(!told.contains("a secret") && !told.contains("A_SECRET"), "{words:?}\n{told}");
        let merged = walkdir::WalkDir::new(world.path("merged")).into_iter().flatten();
        for entry in merged.filter(|entry| entry.file_type().is_file()) {
            let held = fs::read(entry.path()).expect("read");
            assert!(!held.windows(8).any(|part| part == b"a secret"), "{}", entry.path().display());
        }
        let _ = fs::remove_dir_all(world.path("merged"));
    }
}

#[test]
fn a_run_from_elsewhere_shows_nothing_of_this_host() {
    let (world, out, cell) = run_from_elsewhere();
    let somebody = world.path("home-of-somebody");
    for name in ["console.log", "events.jsonl", "config", "brief.json"] {
        let kept = world.path("kept");
        let _ = fs::rename(cell.join(name), &kept);
        std::os::unix::fs::symlink(somebody.join(name), cell.join(name)).expect("linked");
        reads_no_secret(&world, &out);
        fs::remove_file(cell.join(name)).expect("removed");
        // It has no writer, so opening it would block forever.
        nix::unistd::mkfifo(&cell.join(name), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        reads_no_secret(&world, &out);
        fs::remove_file(cell.join(name)).expect("removed");
        let _ = fs::rename(&kept, cell.join(name));
    }
    // A directory on the path.
    let name = cell.file_name().expect("a name").to_owned();
    fs::rename(&cell, world.path("kept")).expect("moved");
    std::os::unix::fs::symlink(&somebody, &cell).expect("linked");
    reads_no_secret(&world, &out);
    fs::remove_file(&cell).expect("removed");
    fs::remove_dir(out.join("cells")).expect("removed");
    fs::create_dir(world.path("elsewhere")).expect("made");
    fs::rename(&somebody, world.path("elsewhere").join(&name)).expect("moved");
    std::os::unix::fs::symlink(world.path("elsewhere"), out.join("cells")).expect("linked");
    reads_no_secret(&world, &out);
    // The record itself.
    world.write("record.json", "a secret");
    fs::remove_file(out.join("run.json")).expect("removed");
    std::os::unix::fs::symlink(world.path("record.json"), out.join("run.json")).expect("linked");
    reads_no_secret(&world, &out);
    fs::remove_file(out.join("run.json")).expect("removed");
    nix::unistd::mkfifo(&out.join("run.json"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    reads_no_secret(&world, &out);
}

/// Everything in a directory: name and content.
fn content(dir: &Path) -> Vec<(String, String)> {
    let files = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().flatten();
    files
        .map(|entry| {
            (entry.path().display().to_string(), fs::read_to_string(entry.path()).unwrap_or_default())
        })
        .collect()
}

#[test]
fn the_trees_own_tests_are_not_looked_for_behind_a_link() {
    const BPF: &str = "linux/tools/testing/selftests/bpf";
    let victim = |world: &World| {
        world.write("victim/Makefile", "TRUNNER_EXTRA_SOURCES := test_progs.c\n");
        world.write(
            "victim/prog_tests/evil.c",
            "void test_evil(void)\n{\n}\n//evil: #1       evil:OK\n\
            //evil: Summary: 1/0 PASSED, 0 SKIPPED, 0 FAILED\n",
        );
        world.write("victim/progs/evil.c", "int x;\n");
        world.write("victim/config", "CONFIG_BPF=y\n");
        world.path("victim")
    };
    for (link, to) in [
        (BPF, ""),
        ("linux/tools/testing/selftests", "/.."),
        (&format!("{BPF}/prog_tests"), "/prog_tests"),
        (&format!("{BPF}/prog_tests/evil.c"), "/prog_tests/evil.c"),
        (&format!("{BPF}/Makefile"), "/Makefile"),
    ] {
        let world = World::new();
        let victim = victim(&world);
        let spec = crate::upstream::tree(&world, "guest: pass", &[("alpha", crate::upstream::ALPHA)]);
        let place = world.path(link);
        if place.is_dir() {
            fs::remove_dir_all(&place).expect("removed");
        } else {
            let _ = fs::remove_file(&place);
        }
        if link == "linux/tools/testing/selftests" {
            std::os::unix::fs::symlink(&victim, world.path("bpf")).expect("linked");
        }
        std::os::unix::fs::symlink(world.path(&format!("victim{to}")), &place).expect("linked");
        let before = content(&victim);
        let done = crate::upstream::run(&world, &spec, &["--test", "evil"]);
        assert_ne!(done.status.code(), Some(0), "{link}\n{done}");
        let listed = crate::upstream::run(&world, &spec, &["--list"]);
        assert!(!listed.stdout.contains("evil"), "{link}: the test of somebody else\n{listed}");
        assert_eq!(content(&victim), before, "{link}");
    }
}

#[test]
fn a_series_writes_nothing_behind_a_link_of_the_tree() {
    const PROGS: &str = "tools/testing/selftests/bpf/progs";
    let world = World::new();
    world.write("victim/alpha.c", "first\n");
    let spec = crate::upstream::tree(&world, "guest: pass", &[("alpha", crate::upstream::ALPHA)]);
    fs::remove_dir_all(world.path("linux").join(PROGS)).expect("removed");
    std::os::unix::fs::symlink(world.path("victim"), world.path("linux").join(PROGS)).expect("linked");
    for (name, change) in [
        ("alpha.c", "--- a/FILE\n+++ b/FILE\n@@ -1 +1 @@\n-first\n+second\n"),
        ("alpha.c", "deleted file mode 100644\n--- a/FILE\n+++ /dev/null\n@@ -1 +0,0 @@\n-first\n"),
        ("new.c", "new file mode 100644\n--- /dev/null\n+++ b/FILE\n@@ -0,0 +1 @@\n+second\n"),
    ] {
        let patch = "From: A <a@example.org>\nSubject: [PATCH] x\n\nx\n---\ndiff --git a/FILE b/FILE\n"
            .to_owned()
            + change;
        let patch = patch.replace("FILE", &format!("{PROGS}/{name}"));
        let patch = world.write("series/1.patch", &patch);
        let before = content(&world.path("victim"));
        let done = crate::upstream::run(
            &world,
            &spec,
            &["--test", "alpha", "--patches", patch.to_str().expect("plain")],
        );
        assert_ne!(done.status.code(), Some(0), "{change}\n{done}");
        assert_eq!(content(&world.path("victim")), before, "{change}\n{done}");
    }
}
