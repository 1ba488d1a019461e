// SPDX-License-Identifier: MIT OR Apache-2.0
//! Words without a prefix: what they are taken for, from the directory in which they are typed.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

use crate::support::{Done, World, git, text};

const PASSES: &str = "guest: pass";

/// `vmtest` with the host's (fake) tools, in a directory of the world.
fn at(world: &World, dir: &str, words: &[&str]) -> Done {
    let mut command = world.vmtest(words);
    command.current_dir(world.path(dir));
    world.start(command).done()
}

/// Asserts what each word is taken for.
#[track_caller]
fn taken(world: &World, dir: &str, cases: &[(&str, &str)]) {
    for (word, spec) in cases {
        let done = at(world, dir, &[word, "--dry-run"]);
        done.exits(0);
        assert_eq!(done.told(&format!("note: taking {word} as {spec}")), 1, "{done}");
    }
}

#[test]
fn a_word_is_taken_for_what_is_on_disk() {
    let world = World::new();
    world.archived(PASSES);
    world.tree("linux", PASSES);
    fs::write(world.path("bzImage"), image()).expect("written");
    world.patch("outgoing/0001-second.patch", "second", "better");
    world.patch("one.patch", "second", "better");
    world.patch("mail", "second", "better");
    let tree = format!("tree:{}", world.path("linux").display());
    taken(
        &world,
        ".",
        &[
            ("linux", "tree:linux"),
            ("6.18", "src:6.18"),
            ("v6.18", "src:6.18"),
            ("6.18.y", "src:6.18.15"),
            ("latest", "src:6.18.15"),
            ("bzImage", "image:bzImage"),
            ("outgoing/", "a series (--patches outgoing/)"),
            ("one.patch", "a series (--patches one.patch)"),
            ("mail", "a series (--patches mail)"),
        ],
    );
    taken(&world, "outgoing", &[("../linux", "tree:../linux")]);
    // The option takes the same words, and a prefix leaves nothing to guess.
    let done = world.run(&["--kernel", "linux", "--patches", "outgoing", "--dry-run"]);
    done.exits(0).says(&["note: taking linux as tree:linux", "series   outgoing (1 patches)"]);
    assert_eq!(world.run(&["--kernel", &tree, "--dry-run"]).told("taking"), 0);
    assert_eq!(world.run(&[&tree, "--dry-run"]).exits(0).told("taking"), 0);
    world.run(&["--kernel", "outgoing"]).refuses(2, &["`outgoing` is not a kernel", "--patches takes one"]);
}

/// As much of a bzImage as is looked at.
fn image() -> Vec<u8> {
    let mut head = vec![0; 0x400];
    head[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    head[0x202..0x206].copy_from_slice(b"HdrS");
    head
}

#[test]
fn revisions_and_ranges_are_of_the_repository_around() {
    let world = World::new();
    let top = world.repo("linux", PASSES);
    git(&top, &["tag", "v6.18"]);
    world.write("linux/kernel/fake.c", "int first;\nint better;\nint third;\n");
    world.commit(&top, "fake: better");
    git(&top, &["branch", "topic"]);
    let repo = format!("git:{}", top.display());
    taken(
        &world,
        "linux",
        &[
            ("topic", "git:.@topic"),
            ("HEAD~1", "git:.@HEAD~1"),
            // A tag of this repository, not a release of the archive.
            ("v6.18", "git:.@v6.18"),
            ("v6.18..topic", "git:.@v6.18..topic"),
            ("v6.18..", "git:.@v6.18..HEAD"),
        ],
    );
    taken(&world, "linux/kernel", &[("topic", &format!("{repo}@topic"))]);
    taken(&world, ".", &[("linux@topic", "git:linux@topic")]);
    let done = at(&world, "linux", &["v6.18..", "--dry-run"]);
    done.exits(0).says(&["patches  none, then 1 of 1: 2 column(s)"]);
    at(&world, "linux", &["v6.18..", "--first-n", "1", "--dry-run"]).exits(0).says(&["patches  1 of 1"]);
    at(&world, "linux", &["v6.18..nowhere"]).refuses(2, &["`nowhere` is not a commit in"]);
    world.run(&["v6.18..topic"]).refuses(2, &["the working directory is not in a kernel tree"]);
    fs::create_dir(world.path("linux/topic")).expect("made");
    world.patch("linux/topic/0001-x.patch", "third", "worse");
    at(&world, "linux", &["topic"]).refuses(
        2,
        &["`topic` is ambiguous", "git:.@topic", "--patches topic", "write the one that you mean"],
    );
}

#[test]
fn in_a_kernel_tree_it_is_tested() {
    let world = World::new();
    let top = world.tree("linux", PASSES);
    let note = format!("note: testing the kernel tree {}", top.display());
    for dir in ["linux", "linux/kernel"] {
        let done = at(&world, dir, &["--test", "basic/*"]);
        done.exits(0).says(&[&note]);
        assert_eq!(text(&done.json()["kernels"][0]["id"]), "tree:linux");
    }
    world.patch("my.patch", "second", "better");
    let done = at(&world, "linux", &["../my.patch"]);
    done.exits(0).says(&[&note]);
    assert_eq!(text(&done.json()["kernels"][0]["id"]), "tree:linux+my");
}

#[test]
fn without_a_command_it_is_vmtest() {
    let world = World::new();
    world.tree("linux", PASSES);
    let host = ["--toolchain", "host", "--accel", "tcg"];
    let run = |words: &[&str]| world.start(world.command(&[words, &host].concat())).done();
    run(&["linux", "-t", "basic/*"]).exits(0).says(&["taking linux as tree:linux"]);
    run(&["-t", "basic/*", "linux"]).exits(0);
    world.start(world.command(&["--help"])).done().exits(0).says(&["Find the first bad"]);
    // Only the program that is installed tests something without a word.
    world.start(world.command(&[])).done().exits(2).says(&["Usage: cargo xtask <COMMAND>"]);
    std::os::unix::fs::symlink(crate::support::binary(), world.path("bin/kmatrix")).expect("a link");
    let mut command = world.command(&[]);
    let mut alone = std::process::Command::new(world.path("bin/kmatrix"));
    alone
        .current_dir(world.path("linux"))
        .env_clear()
        .envs(command.env("NO", "THING").get_envs().filter_map(|(name, value)| Some((name, value?))));
    alone.args(["--dry-run"]).args(host);
    world.start(alone).done().exits(0).says(&["testing the kernel tree"]);
}

#[test]
fn home_is_found_wherever_a_path_is() {
    let world = World::new();
    world.tree("home/linux", PASSES);
    world.patch("home/my/0001-second.patch", "second", "better");
    for words in [
        &["--kernel", "tree:~/linux", "--patches", "~/my"][..],
        &["~/linux", "~/my"],
        &["--kernel=~/linux", "--patches=~/my", "--json=~/run.json", "--output", "html=~/run.html"],
    ] {
        let done = world.run(words);
        done.exits(0);
        assert_eq!(text(&done.json()["kernels"][0]["id"]), "tree:linux+my", "{words:?}");
    }
    assert!(world.path("home/run.json").is_file() && world.path("home/run.html").is_file());
}

/// A server that gives this answer once.
fn serve(status: &'static str, body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let place = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let _ = stream.read(&mut [0; 4096]);
        let head = format!("HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).expect("sent");
    });
    format!("http://{place}")
}

#[test]
fn a_series_comes_from_the_address_of_its_mbox_or_patch() {
    let world = World::new();
    // The first python3 on PATH may be a wrapper that needs more programs.
    let python = world.path("bin/python3");
    let _ = fs::remove_file(&python);
    std::os::unix::fs::symlink("/usr/bin/python3", &python).expect("a link");
    let spec = format!("tree:{}", world.tree("good", PASSES).display());
    let patch = fs::read_to_string(world.patch("home/x", "second", "better")).expect("written");
    for (path, name) in [("/series/12/mbox/", "series-12"), ("/a/linux/pull/7.patch", "pull-7")] {
        let address = serve("200 OK", patch.clone()) + path;
        let done = world.run(&["--kernel", &spec, "--patches", &address]);
        done.exits(0);
        assert_eq!(text(&done.json()["kernels"][0]["id"]), format!("tree:good+{name}"));
    }
    // It is fetched each time: a pull request may have changed.
    let changed = patch.replace("better", "worse");
    let done = world.run(&[&spec, &(serve("200 OK", changed) + "/a/linux/pull/7.patch")]);
    done.exits(0);
    let gone = serve("404 Not Found", String::new()) + "/a/linux/pull/8.patch";
    world.run(&["--kernel", &spec, "--patches", &gone]).refuses(2, &["cannot download the series", "404"]);
    let refused = "http://127.0.0.1:1/x.patch";
    world
        .run(&["--kernel", &spec, "--patches", refused])
        .refuses(30, &["Connection refused", "--patches FILE"]);
    world.is_clean();
}

#[test]
fn short_options_and_durations() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", PASSES).display());
    let words = ["-k", &spec, "-t", "basic/*", "-j", "2", "--timeout", "idle=2m", "--timeout", "run=1h"];
    let done = world.run(&[&words[..], &["-n"]].concat());
    done.exits(0).says(&["idle 120 s, run 3600 s"]);
    assert_eq!(done.run_dir, None, "nothing was run");
    let quiet = world.run(&[&words[..], &["-q"]].concat());
    quiet.exits(0);
    assert_eq!(quiet.stderr, "", "{quiet}");
    assert!(quiet.stdout.contains("basic 2/2") && !quiet.stdout.contains("basic/first"), "{quiet}");
    let tests = |done: &Done| ["basic/first", "basic/second"].map(|test| done.stderr.contains(test));
    assert_eq!(tests(&world.run(&words)), [false, false]);
    let each = world.run(&[&words[..], &["-v"]].concat());
    each.says(&["pass    basic/first  (tree:linux)", "pass    basic/second  (tree:linux)"]);
    world.run(&["-q", "-v"]).refuses(2, &["cannot be used with"]);
    world.run(&["--timeout", "idle=5x"]).refuses(2, &["not a duration: write 90s, 5m or 1h"]);
}

#[test]
fn variables_for_make_are_taken_as_users_type_them() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "make: warns\nguest: pass").display());
    world.write("out/.config", "CONFIG_FANCY=y\nCONFIG_CMDLINE=\"quiet\"\n");
    let run = |words: &[&str]| world.run(&[&[spec.as_str()][..], words].concat());
    let calls = || world.read("home/make.args");
    run(&["LLVM=1", "ARCH=x86_64", "-n"]).exits(0).says(&["variant  clang"]);
    let warning = "note: kernel/fake.c:2:5: warning: no previous declaration";
    let done = run(&["W=1", "O=out"]);
    done.exits(0).says(&[warning, "note: out/.config: left out: CONFIG_CMDLINE=\"quiet\""]);
    assert!(calls().contains(" W=1 "), "{}", calls());
    assert!(calls().contains("alldefconfig"), "{}", calls());
    // The same kernel again has the same warnings; without W=1 they are not shown.
    run(&["W=1", "O=out"]).exits(0).says(&[warning]);
    assert_eq!(run(&[]).exits(0).told(warning), 0);
    run(&["--kconfig", "out/.config", "--dry-run"]).exits(0);
    fs::create_dir_all(world.path("out/arch/x86/boot")).expect("made");
    fs::write(world.path("out/arch/x86/boot/bzImage"), image()).expect("written");
    world.run(&["-k", "O=out", "-n"]).exits(0).says(&["taking O=out as image:out/arch/x86/boot/bzImage"]);
    for (words, says) in [
        (&["ARCH=arm64"][..], "kernels are built for x86_64 and booted on it"),
        (&["CROSS_COMPILE=aarch64-linux-gnu-"], "kernels are built for x86_64"),
        (&["LLVM=-18"], "use LLVM=1"),
        (&["LLVM=1", "--variant", "nojit"], "--variant nojit has its own compiler"),
        (&["O=nowhere"], "there is no nowhere/.config"),
        (&["W=x"], "use W=1"),
        (&["V=1"], "use LLVM=1, O=DIR, W=1, or ARCH=x86_64"),
        (&["--kconfig", "nowhere"], "--kconfig nowhere cannot be read"),
        (&["--kconfig", "linux/Makefile"], "linux/Makefile is not a kernel configuration"),
    ] {
        run(words).refuses(2, &[says]);
    }
    world.run(&["debian:7.0.13", "W=1"]).refuses(2, &["W=1 cannot be applied to debian:7.0.13"]);
}

#[test]
fn a_value_with_a_typing_error_gets_the_right_one() {
    let world = World::new();
    let top = world.repo("linux", PASSES);
    git(&top, &["branch", "bpf-cookies"]);
    world.patch("project/patches/fsession-6.18/0001-x.patch", "second", "better");
    let program = "about = 'x'\nprogram = 'run'\ntests = ['a']\nlimit_s = 1\n";
    world.write("project/selftests/suites/tracefs/suite.toml", program);
    let spec = format!("tree:{}", top.display());
    let repo = format!("git:{}@bpf-cokies", top.display());
    for (words, says) in [
        (&["--kernel", &spec, "--test", "basix/*"][..], "did you mean `basic/*`? Otherwise,"),
        (&["--kernel", &spec, "--test", "basic/frist"], "did you mean `basic/first`?"),
        (&["--kernel", &spec, "--variant", "nogit"], "did you mean `nojit`?"),
        (&["--kernel", &spec, "--suite", "tarcefs"], "did you mean `tracefs`?"),
        (&["--kernel", &spec, "--suite", "upsteam"], "did you mean `upstream`?"),
        (&["--kernel", &spec, "--patches", "fsessoin"], "did you mean `fsession`?"),
        (&["--kernel", &repo], "did you mean `bpf-cookies`?"),
        (&["reprot"], "did you mean `report`?"),
        (&["./linxu"], "did you mean `./linux`? Otherwise,"),
        (&["--kernel", "./lnux"], "did you mean `./linux`? Otherwise,"),
    ] {
        world.run(words).refuses(2, &[says]);
    }
    at(&world, "linux", &["bpf-cokies"]).refuses(2, &["(did you mean `bpf-cookies`?)"]);
}

#[test]
fn the_ends_of_a_bisection_are_revisions_of_the_repository_around() {
    let world = World::new();
    let top = crate::bisect::line(&world, &[PASSES, PASSES, "guest: fail"]);
    let words = ["bisect", "--toolchain", "host", "--accel", "tcg", "--boot", "direct", "-t", "basic/*"];
    let mut command = world.command(&[&words[..], &["--good", "HEAD~2", "--bad", "HEAD"]].concat());
    command.current_dir(&top);
    let done = world.start(command).done();
    done.exits(0).says(&["first bad commit:", "number 2", "taking HEAD as git:"]);
    let mut command = world.command(&[&words[..], &["--good", "HEAD~2", "--bad", "HAED"]].concat());
    command.current_dir(&top);
    world.start(command).done().refuses(2, &["`HAED` is not a kernel"]);
}

#[test]
fn what_was_guessed_is_repeated_from_anywhere() {
    let world = World::new();
    let top = world.tree("linux", PASSES).display().to_string();
    fs::create_dir_all(world.path("project/sub")).expect("made");
    for (dir, words) in [("project/sub", &["../../linux"][..]), ("linux", &[]), ("linux", &["--kernel", "."])]
    {
        let done = at(&world, dir, &[words, &["-t", "basic/first"]].concat());
        done.exits(0);
        let line =
            done.stdout.lines().find_map(|line| line.strip_prefix("repeat: cargo xtask ")).expect("a line");
        let kernel = line.split("--kernel tree:").nth(1).and_then(|rest| rest.split(' ').next());
        let kernel = fs::canonicalize(kernel.unwrap_or_else(|| panic!("{line}"))).expect("an absolute path");
        assert_eq!(
            kernel.display().to_string(),
            fs::canonicalize(&top).expect("there").display().to_string()
        );
        assert!(line.contains(" --kernel tree:/"), "{line}");
        let again: Vec<&str> = line.split(' ').collect();
        world.start(world.command(&again)).done().exits(0);
    }
}
