// SPDX-License-Identifier: MIT OR Apache-2.0
//! Settings of the user and of a kernel tree: which of them count, and that it is said.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

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

const ASKS: &str = "sources";

/// What a terminal shows of a command after this was typed.
fn typed(world: &World, words: &str, typed: &str, ci: &str) -> String {
    let command = world.command(&[]);
    let mut script = Command::new("script");
    script.args(["-qec", &format!("{} {words}", env!("CARGO_BIN_EXE_xtask")), "/dev/null"]).env_clear();
    for (name, value) in command.get_envs().filter(|(name, _)| *name != "PATH") {
        script.env(name, value.unwrap_or_default());
    }
    // util-linux runs a program on a terminal; the world's own programs come first.
    script.env("PATH", format!("{}:/usr/bin:/bin", world.path("bin").display())).env("CI", ci);
    script.current_dir(world.path("")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = script.spawn().expect("script(1)");
    let (mut output, mut seen) = (child.stdout.take().expect("a pipe"), Vec::new());
    let mut piece = [0; 1024];
    while !String::from_utf8_lossy(&seen).contains(QUESTION) {
        match output.read(&mut piece).expect("read") {
            0 => break,
            count => seen.extend(&piece[..count]),
        }
    }
    // It has ended if it asks nothing.
    let _ = child.stdin.take().expect("a pipe").write_all(typed.as_bytes());
    output.read_to_end(&mut seen).expect("read");
    child.wait().expect("it ended");
    String::from_utf8_lossy(&seen).into_owned()
}

/// A world whose apt names no mirror and reaches none.
fn without_mirror() -> World {
    let world = World::new();
    let apt = world.path("bin/apt-get");
    fs::remove_file(&apt).expect("removed");
    world.write(
        "bin/apt-get",
        "#!/bin/sh\n[ \"$1\" = indextargets ] || echo \"E: no network\" >&2\nexit 100\n",
    );
    fs::set_permissions(&apt, fs::Permissions::from_mode(0o755)).expect("a mode");
    world
}

const QUESTION: &str = "Address of a mirror";
const LINE: &str = "export VMTEST_DEBIAN_MIRROR=http://MIRROR/debian";

#[test]
fn a_mirror_is_asked_for_once_and_saved_beside_the_other_settings() {
    let world = without_mirror();
    world.write("home/.config/kmatrix.toml", "# mine\ncpus = 2");
    let seen = typed(&world, ASKS, "http://mirror.example/debian/\n", "");
    assert_eq!(seen.matches(QUESTION).count(), 1, "{seen}");
    assert!(seen.contains("note: saved in ") && seen.contains("cannot read the Debian archive"), "{seen}");
    let file = "# mine\ncpus = 2\nmirror = \"http://mirror.example/debian\"\n";
    assert_eq!(world.read("home/.config/kmatrix.toml"), file);
    let seen = typed(&world, ASKS, "http://other.example/debian\n", "");
    assert_eq!(seen.matches(QUESTION).count(), 0, "{seen}");
    assert_eq!(world.read("home/.config/kmatrix.toml"), file);
}

#[test]
fn what_is_no_address_is_refused_and_no_answer_is_the_error() {
    let world = without_mirror();
    let seen = typed(&world, ASKS, "mirror.example\n", "");
    assert!(seen.contains("error: `mirror.example` is not the address of a mirror"), "{seen}");
    let seen = typed(&world, ASKS, "\n", "");
    assert!(seen.contains(QUESTION) && seen.contains(LINE), "{seen}");
    let seen = typed(&world, ASKS, "\u{3}", "");
    assert!(seen.contains("error: interrupted"), "{seen}");
    assert!(!world.path("home/.config/kmatrix.toml").exists());
}

#[test]
fn nobody_is_asked_in_ci_without_a_terminal_or_by_a_dry_run() {
    let world = without_mirror();
    let seen = typed(&world, ASKS, "http://mirror.example/debian\n", "true");
    assert!(!seen.contains(QUESTION) && seen.contains(LINE), "{seen}");
    let done = world.start(world.command(&["sources"])).done();
    done.refuses(30, &["cannot choose a Debian mirror", LINE]);
    assert_eq!(done.told(QUESTION), 0, "{done}");
    let dry_run = "vmtest --toolchain host --kernel debian:7.0.13 -n";
    let seen = typed(&world, dry_run, "http://mirror.example/debian\n", "");
    assert!(!seen.contains(QUESTION) && seen.contains(LINE), "{seen}");
    assert!(!world.path("home/.config/kmatrix.toml").exists());
}

/// What the build root needs is missing before anything is fetched or built.
#[test]
fn a_run_that_must_make_the_build_root_needs_the_mirror_first() {
    let world = without_mirror();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    for name in ["mmdebstrap", "bwrap", "newuidmap", "newgidmap"] {
        symlink(world.path("bin/gcc"), world.path("bin").join(name)).expect("a link");
    }
    let run = world.start(world.command(&["vmtest", "--kernel", &spec, "-n"])).done();
    run.refuses(30, &["cannot choose a Debian mirror", LINE]);
    world.start(world.command(&["vmtest", "--kernel", &spec])).done().refuses(30, &[LINE]);
}
