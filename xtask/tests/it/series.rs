// SPDX-License-Identifier: MIT OR Apache-2.0
//! Series of the project: their short names, and the defaults of a run that names nothing.

use std::fs;

use crate::support::{World, text};

const PASSES: &str = "guest: pass";

/// A world whose checkout has a series and whose cache has the kernel that it is for.
fn with_series() -> World {
    let world = World::new();
    world.archived(PASSES);
    world.patch("project/patches/fsession-6.18/0001-rename.patch", "second", "better");
    world.write("project/patches/fsession-6.18/README.md", "About it.\n");
    world.write("project/patches/fsession-6.18/base", "6.18.15 6.18.20\n");
    world
}

#[test]
fn without_arguments_it_is_the_projects_series_on_its_kernel() {
    let world = with_series();
    // Files in the working directory have no effect.
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
        "a kernel given by name is tested as it is"
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
    done.exits(0).says(&["note: --patches fsession means fsession in this directory, not the project's"]);
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
    refused(&["--patches", "fsession"], &[both, "give the full name of one"]);
    fs::remove_dir_all(world.path("project/patches")).expect("removed");
    refused(
        &[],
        &["cannot read the series fsession", "it has: none", "without --patches to test a kernel as it is"],
    );
}

/// b4 as far as the harness uses it: it finds one mail, and returns the file `home/thread.mbx`.
fn b4(world: &World, body: &str) {
    let script = format!("#!/bin/sh\nprintf '%s\\n' \"$*\" >> \"$HOME/b4.calls\"\n{body}\n");
    let path = world.write("home/b4", &script);
    std::os::unix::fs::symlink(&path, world.path("bin/b4")).expect("a link");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
}

const MAIL: &str = "20260101000000.1234-1-a@example.org";

#[test]
fn a_series_comes_by_the_id_of_its_mail_and_is_fetched_once() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("good", "guest: pass").display());
    world.patch("home/thread.mbx", "second", "better");
    b4(
        &world,
        "while [ $# -gt 1 ]; do case $1 in --mbox-name) name=$2 ;; --outdir) out=$2 ;; esac; shift; done\n\
         case $name in *.*) name=${name%.*} ;; esac\n\
         [ \"$1\" = 20260101000000.1234-1-a@example.org ] || { echo \"That message-id is not known.\"; exit 1; }\n\
         cp \"$HOME/thread.mbx\" \"$out/$name.mbx\"",
    );
    let address = format!("https://lore.kernel.org/bpf/{MAIL}/");
    for text in [MAIL, &format!("<{MAIL}>"), &address] {
        let done = world.run(&["--kernel", &spec, "--patches", text]);
        done.exits(0);
        assert_eq!(done.json()["kernels"][0]["id"], "tree:good+20260101000000.1234-1-a");
        assert_eq!(done.json()["kernels"][0]["series"], serde_json::json!(["fake: rename second"]));
    }
    assert_eq!(world.read("home/b4.calls").lines().count(), 1, "fetched once");
    world.run(&["--kernel", &spec, "--patches", "other@example.org"]).refuses(2, &["has no such series"]);
    world.is_clean();
}

#[test]
fn without_a_network_the_way_by_an_mbox_is_told() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("good", "guest: pass").display());
    // Printed by b4 0.14.
    b4(
        &world,
        "echo \"Failed to resolve 'lore.kernel.org' ([Errno -2] Name or service not known)\" >&2; exit 1",
    );
    let run = |text: &str| world.run(&["--kernel", &spec, "--patches", text]);
    run(MAIL)
        .refuses(30, &["has no network", "b4 am 20260101000000.1234-1-a@example.org", "--patches FILE.mbx"]);
    for bad in ["a b@c", "a@", "https://lore.kernel.org/bpf/", "https://example.org/a@b/"] {
        run(bad).refuses(2, &["does not name a mail"]);
    }
    assert_eq!(world.made("vmlinux"), 0);
    // An existing file takes precedence.
    world.patch(MAIL, "second", "better");
    run(MAIL).exits(0);
}
