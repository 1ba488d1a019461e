// SPDX-License-Identifier: MIT OR Apache-2.0
//! `dist` and `install`: an installed program needs neither cargo nor the checkout, and a copied binary is rejected.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::{Done, TESTS, World, binary, checkout};

/// Places a program without writing it: one that was just written may be "busy" when another test forks.
fn place(program: &Path, at: &Path) {
    fs::create_dir_all(at.parent().expect("a parent")).expect("made");
    if fs::hard_link(program, at).is_err() {
        fs::copy(program, at).expect("copied");
    }
}

fn run(world: &World, words: &[&str]) -> Done {
    world.start(world.command(words)).done()
}

/// A world where this harness has been installed.
fn installed() -> World {
    let world = World::new();
    place(&binary(), &world.path("home/harness"));
    symlink(checkout().join("scripts"), world.path("project/scripts")).expect("a link");
    run(&world, &["install"]).exits(0).says(&["home/.local/bin is not on PATH", "home/.local/share/kmatrix"]);
    world
}

/// The same without what only a checkout has.
fn alone() -> World {
    let world = installed();
    fs::rename(world.path("project"), world.path("moved")).expect("moved");
    for name in ["cargo", "rustc", "clang"] {
        fs::remove_file(world.path("bin").join(name)).expect("removed");
    }
    fs::remove_dir_all(world.path("cache")).expect("removed");
    world
}

/// The installed program, found on PATH by a shell.
fn kmatrix(world: &World, words: &[&str]) -> Done {
    let ours = world.command(words);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec kmatrix \"$@\"", "sh"]).args(words).current_dir(world.path("")).env_clear();
    command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let path = format!("{}:{}", world.path("home/.local/bin").display(), world.path("bin").display());
    command.env("PATH", path).env_remove("CARGO").env_remove("CARGO_MANIFEST_DIR");
    world.start(command).done()
}

#[test]
fn an_installed_program_runs_without_cargo_and_checkout() {
    let world = alone();
    world.tree("tree", "");
    let host = ["vmtest", "--toolchain", "host", "--accel", "tcg", "--kernel", "tree:tree"];
    let done = kmatrix(&world, &host);
    done.exits(0).says(&["repeat: kmatrix vmtest --toolchain host"]);
    assert_eq!(done.outcomes(None).len(), TESTS.len(), "{done}");
    assert_eq!(done.told("cargo xtask"), 0, "{done}");
    assert!(!world.path("cache/runner").exists(), "the runner is not built");
    let wrong = kmatrix(&world, &[&host[..], &["--test", "nonsense"]].concat());
    wrong.refuses(2, &["next: `kmatrix vmtest --list` lists them all"]);
    kmatrix(&world, &["vmtest", "--nonsense"]).exits(2).says(&["Usage: kmatrix vmtest"]);
    // Named by its path where PATH does not have it.
    let program = world.path("home/.local/bin/kmatrix");
    let mut command = Command::new(&program);
    command.args(["vmtest", "--list"]).env_clear().env("HOME", world.path("home"));
    let listed = world.start(command).done();
    listed.exits(0);
    assert!(TESTS.iter().all(|name| listed.stdout.contains(name)), "{listed}");
}

#[test]
fn an_installed_program_does_not_offer_what_needs_the_sources() {
    let world = installed();
    let help = kmatrix(&world, &["--help"]);
    help.exits(0).says(&["Usage: kmatrix <COMMAND>", "vmtest"]);
    for name in ["test", "dist", "install"] {
        assert!(
            !help.stdout.lines().any(|line| line.trim_start().starts_with(&format!("{name} "))),
            "{help}"
        );
        kmatrix(&world, &[name]).exits(2).says(&[&format!("`cargo xtask {name}` there")]);
    }
    let root = world.path("home/.local/share/kmatrix");
    let bash = fs::read_to_string(root.join("completions/kmatrix")).expect("completions");
    assert!(bash.contains("complete -F _kmatrix") && !bash.contains("xtask"), "{bash}");
    for (file, part) in
        [("completions/_kmatrix", "#compdef kmatrix"), ("completions/kmatrix.fish", "-c kmatrix")]
    {
        let text = fs::read_to_string(root.join(file)).expect("completions");
        assert!(text.contains(part) && !text.contains("xtask"), "{file}");
    }
    let page = fs::read_to_string(root.join("man/man1/kmatrix-vmtest.1")).expect("a page");
    assert!(page.contains(".TH KMATRIX-VMTEST") && !page.contains("xtask"), "{page}");
    assert!(!root.join("man/man1/kmatrix-dist.1").exists());
}

#[test]
fn an_installation_is_replaced_as_a_whole() {
    let world = installed();
    let root = world.path("home/.local/share/kmatrix");
    world.write("home/.local/share/kmatrix/kconfig/removed-since.toml", "old");
    run(&world, &["install"]).exits(0);
    assert!(!root.join("kconfig/removed-since.toml").exists());
    assert!(root.join("kconfig/default.toml").is_file());
    let names = |dir: &str| {
        let entries = fs::read_dir(world.path(dir)).expect("listed").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("home/.local/share"), ["kmatrix"], "nothing else is left");
    assert_eq!(names("home/.local/bin"), ["kmatrix"]);
    // A directory of cargo's programs that is on PATH is better than one that is not.
    fs::create_dir_all(world.path("home/.cargo/bin")).expect("made");
    let mut command = world.command(&["install"]);
    let path = format!("{}:{}", world.path("home/.cargo/bin").display(), world.path("bin").display());
    let done = world.start({
        command.env("PATH", path);
        command
    });
    done.done().exits(0).says(&["linked as", "home/.cargo/bin/kmatrix"]);
    assert_eq!(
        fs::read_link(world.path("home/.cargo/bin/kmatrix")).expect("a link"),
        root.join("bin/kmatrix")
    );
}

#[test]
fn install_overwrites_nothing_of_others() {
    let world = World::new();
    let at = |prefix: &str| world.path(prefix).display().to_string();
    world.write("one/bin/kmatrix", "another program");
    run(&world, &["install", "--prefix", &at("one")]).refuses(2, &["one/bin/kmatrix", "is not a link to"]);
    assert_eq!(world.read("one/bin/kmatrix"), "another program");
    assert!(!world.path("one/share").exists());
    world.write("two/share/kmatrix/notes", "somebody's");
    run(&world, &["install", "--prefix", &at("two")]).refuses(2, &["two/share/kmatrix", "was not made by"]);
    assert_eq!(world.read("two/share/kmatrix/notes"), "somebody's");
    assert!(!world.path("home/cargo.calls").exists(), "it is refused before anything is built");
}

#[test]
fn a_tarball_has_everything() {
    let world = World::new();
    // Stands for the program: the real one of the tests takes half a minute to pack.
    let program = world.write("home/harness", "#!/bin/sh\necho \"$*\"\n");
    fs::set_permissions(program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let out = world.path("k.tar.xz").display().to_string();
    run(&world, &["dist", "--out", &out]).exits(0).says(&[&out]);
    let first = fs::read(&out).expect("the tarball");
    run(&world, &["dist", "--out", &out]).exits(0);
    assert_eq!(first, fs::read(&out).expect("the tarball"), "it is the same when it is made again");
    let listed = Command::new("tar").args(["-tf", &out]).output().expect("tar");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for part in
        ["bin/kmatrix", "VERSION", "kconfig/default.toml", "images/build-root.toml", "completions/_kmatrix"]
    {
        let whole = format!("kmatrix-{}/{part}\n", env!("CARGO_PKG_VERSION"));
        assert!(listed.contains(&whole), "{part}\n{listed}");
    }
    assert!(listed.contains("/vmtest-runner\n") && listed.contains("/list.json\n"), "{listed}");
    assert!(!listed.contains(".vmtest-"), "nothing of the cache\n{listed}");
    let missing = world.path("missing/k.tar.xz").display().to_string();
    run(&world, &["dist", "--out", &missing]).refuses(2, &["its directory does not exist"]);
}

#[test]
fn a_copied_binary_is_rejected() {
    let world = World::new();
    let run = |at: &str| {
        let program = world.path(at);
        place(&binary(), &program);
        let mut command = Command::new(program);
        command
            .args(["vmtest", "--toolchain", "host", "--variant", "nonsense", "--dry-run"])
            .current_dir(world.path(""))
            .env_clear();
        command.env("HOME", world.path("home")).env("PATH", world.path("bin"));
        world.start(command).done()
    };
    run("elsewhere/xtask").refuses(2, &["cannot find the files that belong to", "cargo xtask install"]);
    run("elsewhere/bin/kmatrix").refuses(2, &["cannot find the files that belong to"]);
    // A copied checkout is a checkout, and has other variants.
    for file in ["xtask/Cargo.toml", "images/x", "kconfig/own-of-the-copy.toml"] {
        world.write(&format!("copy/{file}"), "");
    }
    run("copy/target/debug/xtask").refuses(2, &["unknown variant", "own-of-the-copy"]);
}

#[test]
fn setup_of_an_installation_asks_for_no_compiler() {
    let world = alone();
    for name in ["bash", "dirname", "id", "uname"] {
        let found =
            ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(name)).into_iter().find(|path| path.exists());
        symlink(found.expect("a basic program"), world.path("bin").join(name)).expect("a link");
    }
    let check = |script: &Path| {
        let mut command = Command::new("/bin/bash");
        command
            .arg(script)
            .arg("--check")
            .env_clear()
            .env("PATH", world.path("bin"))
            .env("HOME", world.path("home"));
        let done = world.start(command).done();
        done.exits(1).says(&["bubblewrap"]);
        done
    };
    let script = world.path("home/.local/share/kmatrix/scripts/setup.sh");
    let installed = check(&script);
    installed.says(&[&format!("to install them: {}", script.display())]);
    assert!(installed.told("clang") + installed.told("Rust") == 0, "{installed}");
    check(&checkout().join("scripts/setup.sh")).says(&["clang", "Rust is not installed"]);
}
