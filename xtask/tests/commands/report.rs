// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said of runs that are over.

use std::fs;

use crate::support::{Done, World};

/// A run of guests that do this, one kernel each.
fn ran(world: &World, guests: &[&str]) -> Done {
    let words: Vec<String> = guests
        .iter()
        .enumerate()
        .flat_map(|(at, does)| {
            let tree = world.tree(&format!("linux-{at}"), &format!("guest: {does}"));
            ["--kernel".to_owned(), format!("tree:{}", tree.display())]
        })
        .collect();
    let words: Vec<&str> = ["--boot", "direct", "--timeout", "idle=2"]
        .into_iter()
        .chain(words.iter().map(String::as_str))
        .collect();
    world.run(&words)
}

fn report(world: &World, words: &[&str]) -> Done {
    world.start(world.command(&[&["report"], words].concat())).done()
}

#[test]
fn show_prints_what_vmtest_printed_and_ends_as_it_did() {
    let world = World::new();
    for (guests, code) in [(&["pass"][..], 0), (&["fail"], 1), (&["pass", "panic"], 21), (&["vanish"], 24)] {
        let done = ran(&world, guests);
        done.exits(code);
        let dir = done.run_dir.as_ref().expect("a run");
        let (dir, name) = (dir.display().to_string(), dir.file_name().expect("a name").to_string_lossy());
        for which in [&[][..], &["latest"], &[&dir], &[&name], &[&format!("{dir}/run.json")]] {
            let shown = report(&world, &[&["show"], which].concat());
            assert_eq!(shown.stdout, done.stdout, "{guests:?} {which:?}");
            shown.exits(code);
        }
    }
}

#[test]
fn a_run_that_is_not_there_or_not_to_be_believed_is_no_pass() {
    let world = World::new();
    report(&world, &["show"]).refuses(2, &["there is no finished run latest"]);
    let done = ran(&world, &["fail"]);
    let dir = done.run_dir.as_ref().expect("a run");
    let good = fs::read_to_string(dir.join("run.json")).expect("run.json");
    for (from, to, why) in [
        ("\"exit_code\": 1", "\"exit_code\": 0", "its cells come to exit 1"),
        ("\"schema\": 1", "\"schema\": 2", "its schema is 2"),
        ("\"outcome\": \"fail\"", "\"outcome\": \"fine\"", "fine"),
        ("\"class\": 1", "\"class\": 77", "there is no class 77"),
        ("\"class\": 1", "\"class\": 0", "its cells come to exit 0"),
    ] {
        assert!(good.contains(from), "{from}\n{good}");
        fs::write(dir.join("run.json"), good.replace(from, to)).expect("written");
        report(&world, &["show"]).refuses(30, &["cannot believe", why]);
    }
    fs::write(dir.join("run.json"), &good[..good.len() / 2]).expect("written");
    report(&world, &["show"]).refuses(30, &["cannot believe"]);
    fs::remove_file(dir.join("run.json")).expect("removed");
    report(&world, &["show"]).refuses(2, &["it is under way, or was killed"]);
}
