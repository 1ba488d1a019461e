// SPDX-License-Identifier: MIT OR Apache-2.0
//! Invalid arguments and unwritable outputs: one clear message each, the right exit code, and nothing done.

use std::fs;

use crate::support::World;

const PASSES: &str = "guest: pass";

/// Asserts that this is rejected before anything is built or booted.
#[track_caller]
fn refused(world: &World, words: &[&str], code: i32, says: &[&str]) {
    world.run(words).refuses(code, says);
    assert_eq!(world.read("home/make.calls") + &world.read("home/guest.calls"), "", "{words:?}");
}

#[test]
fn what_is_no_kernel_is_refused() {
    let world = World::new();
    world.write("empty/file", "");
    world.write("text", "no kernel\n");
    world.tree("linux", PASSES);
    for (spec, says) in [
        ("no-such-word", "use one of src:VERSION"),
        ("text", "neither a tarball nor a file of patches"),
        ("svn:trunk", "unknown scheme `svn:`"),
        ("src:six", "is not a version"),
        ("tree:missing", "No such file"),
        ("tree:empty", "no Makefile with VERSION"),
        ("tree:text", "it is not a directory"),
        ("tree:linux/kernel", "name the top of the tree"),
        ("git:linux@HEAD", "is not a git repository"),
        ("git:missing@HEAD", "is not a git repository"),
        ("tar:missing", "missing"),
        ("image:missing", "missing"),
        ("image:text", "text is not a kernel"),
        ("image:empty", "it is not a file"),
    ] {
        refused(&world, &["--kernel", spec], 2, &[says]);
    }
    let repo = world.repo("repo", PASSES);
    refused(&world, &["--kernel", &format!("git:{}@nowhere", repo.display())], 2, &["nowhere"]);
    let done = world.run(&["--kernel", "tar:text"]);
    assert!([2, 30].contains(&done.status.code().unwrap_or(0)), "{done}");
    done.says(&["text"]);
}

#[test]
fn what_is_no_series_is_refused() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", PASSES).display());
    world.write("empty.mbox", "");
    world.write("text.patch", "Dear reader,\nthis is no patch.\n");
    fs::create_dir(world.path("bare")).expect("made");
    for (path, code, says) in [
        ("missing", 2, "cannot read the series missing"),
        ("bare", 2, "no *.patch in the directory bare"),
        ("empty.mbox", 2, "empty.mbox"),
        ("text.patch", 10, "text.patch"),
    ] {
        refused(&world, &["--kernel", &spec, "--patches", path], code, &[says]);
    }
    refused(
        &world,
        &["--kernel", "debian:7.0.13", "--patches", "text.patch"],
        2,
        &["--patches cannot be applied to debian:7.0.13"],
    );
}

#[test]
fn what_cannot_be_configured_is_refused() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", PASSES).display());
    world.write("typo.config", "# mine\nCONFIG_BPF\n");
    refused(&world, &["--kernel", &spec, "--config", "typo.config"], 2, &["typo.config:2: it has no `=`"]);
    refused(&world, &["--kernel", &spec, "--config", "missing.config"], 2, &["missing.config"]);
    refused(&world, &["--kernel", &spec, "--variant", "nogit"], 2, &["nogit", "nojit"]);
    // An option that does not exist: kconfig silently drops it, we do not.
    world.write("misspelt.config", "CONFIG_BPF_EVENTZ=y\n");
    world.tree("linux", "kconfig: CONFIG_BPF_EVENTZ");
    let done = world.run(&["--kernel", &spec, "--config", "misspelt.config"]);
    done.exits(11).says(&["CONFIG_BPF_EVENTZ=y became n", "misspelt.config:1"]);
}

#[test]
fn places_that_cannot_be_written_cost_no_build() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", PASSES).display());
    // The tests may run as root: only a path below a regular file is unwritable for every user.
    world.write("file", "");
    world.write("full/file", "");
    refused(&world, &["--kernel", &spec, "--json", "file/run.json"], 30, &["file/run.json"]);
    refused(&world, &["--kernel", &spec, "--json", "nowhere/run.json"], 30, &["nowhere/run.json"]);
    refused(&world, &["--kernel", &spec, "--json", "full"], 2, &["--json full is a directory"]);
    refused(&world, &["--kernel", &spec, "--out", "file/out"], 30, &["file/out"]);
    refused(&world, &["--kernel", &spec, "--out", "full"], 2, &["--out full is not empty"]);
    assert!(!world.path("state/vmtest").exists(), "nothing was begun");
    for (variable, value, says) in
        [("VMTEST_CACHE_DIR", "file/cache", "file/cache"), ("XDG_STATE_HOME", "file/state", "file/state")]
    {
        let mut command = world.vmtest(&["--kernel", &spec]);
        command.env(variable, world.path(value));
        world.start(command).done().refuses(30, &[says]);
    }
}

#[test]
fn a_tool_that_is_not_there_is_named_with_what_mends_it() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", PASSES).display());
    for (boot, tool) in
        [("vng", "vng"), ("auto", "vng"), ("direct", "pahole"), ("direct", "qemu-system-x86_64")]
    {
        let (here, away) = (world.path("bin").join(tool), world.path("away"));
        fs::rename(&here, &away).expect("moved");
        refused(
            &world,
            &["--kernel", &spec, "--boot", boot],
            30,
            &["this host has no usable", tool, "next: "],
        );
        fs::rename(&away, &here).expect("moved back");
    }
}

#[test]
fn a_glob_without_a_match_is_a_usage_error() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "make: slow\nguest: pass").display());
    for glob in ["basix/*", "basic/fourth"] {
        let done = world.run(&["--kernel", &spec, "--test", glob]);
        done.exits(2).says(&[&format!("--test {glob} matches no subtest"), "basic, many"]);
        assert_eq!(done.stderr.matches("error: ").count(), 1, "{done}");
    }
    assert_eq!(world.read("home/guest.calls"), "");
    // The runner has been built by now, so this is cheap.
    world
        .run(&["--kernel", &spec, "--test", "basix", "--dry-run"])
        .refuses(2, &["--test basix matches no subtest"]);
}

#[test]
fn two_kernels_cannot_be_looked_into() {
    let world = World::new();
    for look in [&["--exec", "true"][..], &["--shell"], &["--gdb"]] {
        let words = [&["--kernel", "src:6.18", "--kernel", "src:7.3"][..], look].concat();
        refused(&world, &words, 2, &["--shell, --exec and --gdb look inside one guest"]);
    }
}

#[test]
fn a_typo_in_any_option_or_value_is_a_usage_error() {
    let world = World::new();
    for words in [
        &["--kernl", "src:7.3"][..],
        &["--patch", "x"],
        &["--varient", "default"],
        &["--tests", "basic"],
        &["--effort", "most"],
        &["--boot", "qemu"],
        &["--accel", "hvf"],
        &["--toolchain", "image", "--toolchian", "host"],
        &["--allow-skips", "x"],
        &["--configs", "x"],
        &["--apend", "x"],
        &["--sysctrl", "a=b"],
        &["--cpus", "0"],
        &["--cpus", "two"],
        &["--timeouts", "idle=1"],
        &["--make-jobs", "0"],
        &["--vms", "0"],
        &["--failfast"],
        &["--jsn", "x"],
        &["--outptu", "x"],
        &["--dryrun"],
        &["--lst"],
        &["--shel"],
        &["--exec"],
        &["--build-only", "--kernel", "src:6.18"],
        &["--shard", "1/2", "--kernel", "src:6.18"],
        &["--cell", "x", "--kernel", "src:6.18"],
        &["--executor", "run {cell} {out}", "--kernel", "src:6.18"],
        &["--repeat", "2", "--allow-flaky"],
        &["--matrix", "m.toml", "--build-only", "--executor-limit", "5"],
        &["--exec", "true", "--test", "basic"],
        &["--exec", "true", "--output", "html=x"],
        &["--list", "--test", "basic"],
        &["--exec", "true", "--shell"],
        &["--gdb", "--exec", "true"],
        &["--selftest"],
    ] {
        let done = world.start(world.command(&[&["vmtest"][..], words].concat())).done();
        done.refuses(2, &["try '--help'"]);
    }
    for (words, says) in [
        (&["--memory", "lots"][..], "--memory `lots` is not a size"),
        (&["--timeout", "idel=1"], "valid phases: first-byte, boot, idle, run, shutdown"),
        (&["--append", "a b"], "--append `a b` is not one kernel parameter"),
        (&["--sysctl", "a"], "--sysctl `a` is not NAME=VALUE"),
        (&["--allow-skip", "k="], "names no test"),
        (&["--test", "["], "glob"),
        (&["--exec", ""], "--exec needs a command"),
        (&["--kernel", "tree:.", "--kernel", "tree:."], "given twice"),
        (&["stray"], "`stray` is neither a kernel nor a series"),
    ] {
        refused(&world, words, 2, &[says]);
    }
}

#[test]
fn help_tells_the_exit_codes() {
    let world = World::new();
    let done = world.start(world.command(&["vmtest", "--help"])).done();
    done.exits(0).says(&["Exit codes:", "24  guest lost", "git:PATH@A..B"]);
}

#[test]
fn without_a_home_the_places_are_named() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", PASSES).display());
    let mut command = world.vmtest(&["--kernel", &spec]);
    for name in ["HOME", "VMTEST_CACHE_DIR", "XDG_STATE_HOME"] {
        command.env_remove(name);
    }
    world.start(command).done().refuses(30, &["VMTEST_CACHE_DIR", "XDG_STATE_HOME"]);
}

#[test]
fn a_list_that_cannot_be_had_is_a_suite_that_does_not_build() {
    let world = World::new();
    let listed = world.read("home/list.json");
    world.write("home/list.json", "no list");
    world.run(&["--list"]).refuses(13, &["list of tests cannot be read"]);
    world.write("home/list.json", &listed);
    world.run(&["--list"]).exits(0).says(&["basic/first"]);
}
