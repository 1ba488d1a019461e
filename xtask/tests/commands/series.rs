// SPDX-License-Identifier: MIT OR Apache-2.0
//! Series of the project: their short names, and what a run means that names nothing.

use std::fs;

use crate::support::{World, text};

const PASSES: &str = "guest: pass";

/// A world whose checkout has a series and whose cache has the kernel that it is for.
fn with_series() -> World {
    let world = World::new();
    world.tree("cache/source/debian-tarball-6.18.15-0123456789ab", PASSES);
    world.patch("project/patches/fsession-6.18/0001-rename.patch", "second", "better");
    world.write("project/patches/fsession-6.18/README.md", "About it.\n");
    world.write("project/patches/fsession-6.18/base", "6.18.15 6.18.20\n");
    world
}

#[test]
fn without_arguments_it_is_the_projects_series_on_its_kernel() {
    let world = with_series();
    // What lies in the working directory has no say.
    world.tree("fsession", PASSES);
    for words in
        [&[][..], &["--patches", "fsession-6.18"], &["--kernel", "src:6.18", "--patches", "fsession-6.18"]]
    {
        let done = world.run(words);
        done.exits(0);
        let kernel = &done.json()["kernels"][0];
        assert_eq!(text(&kernel["id"]), "src:6.18.15+fsession", "{words:?}");
        assert_eq!(kernel["series"], serde_json::json!(["fake: rename second"]));
    }
    let done = world.run(&["--kernel", "src:6.18"]);
    done.exits(0);
    assert_eq!(
        text(&done.json()["kernels"][0]["id"]),
        "src:6.18.15",
        "a kernel that is named is taken as it is"
    );
    let done = world.run(&["--dry-run"]);
    done.exits(0).says(&["kernel   src:6.18.15", "series   fsession (1 patches)"]);
}

#[test]
fn a_short_name_or_a_path_of_the_projects_series_gives_one_column_name() {
    let world = with_series();
    let spec = format!("tree:{}", world.tree("linux", PASSES).display());
    let path = world.path("project/patches/fsession-6.18").display().to_string();
    for patches in ["fsession", "fsession-6.18", &path, &format!("{path}/")] {
        let done = world.run(&["--kernel", &spec, "--patches", patches]);
        done.exits(0);
        assert_eq!(text(&done.json()["kernels"][0]["id"]), "tree:linux+fsession", "{patches}");
    }
    world.patch("more.patch", "first", "best");
    let second = fs::read_to_string(world.path("more.patch")).expect("written");
    world.write("more.patch", &second.replace(" int second;", " int better;"));
    let done = world.run(&["--kernel", &spec, "--patches", "fsession", "--patches", "more.patch"]);
    done.exits(0);
    assert_eq!(text(&done.json()["kernels"][0]["id"]), "tree:linux+fsession+more");
}

#[test]
fn a_path_comes_before_a_short_name_and_it_is_said() {
    let world = with_series();
    let spec = format!("tree:{}", world.tree("linux", PASSES).display());
    world.patch("fsession/0001-mine.patch", "first", "mine");
    let done = world.run(&["--kernel", &spec, "--patches", "fsession"]);
    done.exits(0).says(&["note: --patches fsession is fsession in this directory, not the project's"]);
    assert_eq!(text(&done.json()["kernels"][0]["id"]), "tree:linux+fsession");
    assert_eq!(done.json()["kernels"][0]["series"], serde_json::json!(["fake: rename first"]));
}

#[test]
fn a_name_that_is_not_exactly_one_series_is_refused_with_what_there_is() {
    let world = with_series();
    world.patch("project/patches/mutants/lost.patch", "second", "lost");
    let refused = |words: &[&str], says: &[&str]| {
        world.run(words).refuses(2, says);
        assert_eq!(world.read("home/make.calls"), "", "{words:?}");
    };
    let there = "has no series of that name; it has: fsession-6.18";
    refused(&["--patches", "fsessoin"], &["cannot read the series fsessoin", there]);
    refused(&["--patches", "mutants"], &["cannot read the series mutants", there]);
    refused(&["--patches", "./fsession"], &["cannot read the series ./fsession"]);
    world.patch("project/patches/fsession-6.12/0001-rename.patch", "second", "better");
    let both = "several series of the project have that name: fsession-6.12, fsession-6.18";
    refused(&["--patches", "fsession"], &[both, "name one of them in full"]);
    fs::remove_dir_all(world.path("project/patches")).expect("removed");
    refused(
        &[],
        &["cannot read the series fsession", "it has: none", "without --patches tests a kernel as it is"],
    );
}
