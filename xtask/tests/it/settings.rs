// SPDX-License-Identifier: MIT OR Apache-2.0
//! Settings of the user and of a kernel tree: which of them count, and that it is said.

use crate::support::{Done, World};

/// A dry run in the tree of this world.
fn run(world: &World, words: &[&str]) -> Done {
    let mut command = world.vmtest(&[words, &["-n"]].concat());
    command.current_dir(world.path("linux"));
    world.start(command).done()
}

fn world(user: &str, tree: &str) -> World {
    let world = World::new();
    world.tree("linux", "guest: pass");
    world.write("home/.config/kmatrix.toml", user);
    world.write("linux/.kmatrix.toml", tree);
    world
}

#[test]
fn the_command_line_comes_before_the_tree_and_the_tree_before_the_user() {
    let world = world("variant = 'debug'\ncpus = 3\n", "variant = 'nojit'\ntests = ['basic/*']\n");
    let tree = world.path("linux/.kmatrix.toml");
    let done = run(&world, &[]);
    let of_tree = format!("variant = nojit ({})", tree.display());
    done.exits(0).says(&["variant  nojit", &format!("setting  {of_tree}"), &format!("warning: {of_tree}")]);
    done.says(&["setting  cpus = 3 (", "home/.config/kmatrix.toml)", "setting  tests = basic/* ("]);
    assert_eq!(done.told("warning: cpus"), 0, "the user's own need no warning");
    let done = run(&world, &["--variant", "ibt", "-t", "many", "--cpus", "2"]);
    done.exits(0).says(&["variant  ibt"]);
    assert_eq!(done.told("setting  "), 0, "{done}");
    // Outside of the tree it has no say, also where it is tested.
    let spec = format!("tree:{}", world.path("linux").display());
    world.run(&["--kernel", &spec, "-n"]).exits(0).says(&["variant  debug"]);
    // A finished kernel has no variant.
    let done = world.run(&["--kernel", &spec, "--suite", "upstream", "-n"]);
    assert_eq!(done.told("setting  tests"), 0, "{done}");
    let done = world.start(world.command(&["doctor"])).done();
    done.says(&["settings (the command line", "variant = debug (", "cpus = 3 ("]);
}

#[test]
fn a_tree_that_chooses_its_tests_is_seen_in_a_quiet_run_and_in_what_is_repeated() {
    let world = world("", "tests = ['basic/first']\n");
    let spec = format!("tree:{}", world.path("linux").display());
    let mut command = world.vmtest(&["-q", "--kernel", &spec]);
    command.current_dir(world.path("linux"));
    let done = world.start(command).done();
    done.exits(0).says(&["warning: tests = basic/first (", "PASSED: 1 test on", "--test basic/first"]);
}

#[test]
fn a_file_that_is_wrong_is_refused_and_a_tree_names_no_mirror() {
    for (user, tree, says) in [
        ("varient = 'debug'\n", "", "unknown key `varient`"),
        ("varient = 'debug'\n", "", "did you mean `variant`?"),
        ("cpus = 'two'\n", "", "invalid type"),
        ("cpus = 0\n", "", "`cpus` is not between 1 and 64"),
        ("tests = [\n", "", "home/.config/kmatrix.toml"),
        ("", "mirror = 'http://example.org/debian'\n", "a kernel tree cannot choose the mirror"),
        ("variant = 'debgu'\n", "", "did you mean `debug`?"),
        ("suite = 'upsteam'\n", "", "did you mean `upstream`?"),
    ] {
        run(&world(user, tree), &[]).refuses(2, &[says]);
    }
}

#[test]
fn the_mirror_of_the_user_is_used_unless_another_is_named() {
    let world = world("mirror = 'no mirror'\n", "");
    let kernel = ["--kernel", "debian:7.0.13", "-n"];
    world.run(&kernel).refuses(2, &["`no mirror` is not a mirror"]);
    world.run(&[&kernel[..], &["--mirror", "nor this"]].concat()).refuses(2, &["`nor this` is not a mirror"]);
    world.start(world.command(&["sources"])).done().refuses(2, &["`no mirror` is not a mirror"]);
}
