// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interfaces that others depend on: only data on standard output, variables of CI systems, and colours.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::{Done, TESTS, World};

fn kernel(world: &World, does: &str) -> String {
    format!("tree:{}", world.tree("linux", &format!("guest: {does}")).display())
}

fn run(world: &World, words: &[&str]) -> Done {
    world.start(world.command(words)).done()
}

#[test]
fn json_stands_alone_on_standard_output() {
    let world = World::new();
    let spec = kernel(&world, "fail");
    let run_of = |words: &[&str]| world.run(&[&["--kernel", &spec, "--boot", "direct"], words].concat());
    let alone = |done: &Done, code: i32| -> Value {
        assert_eq!(done.status.code(), Some(code), "{done}");
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}\n{done}"))
    };
    assert_eq!(alone(&run_of(&["--json", "-"]), 1)["exit_code"], 1);
    assert_eq!(alone(&run_of(&["--output", "json"]), 1)["exit_code"], 1);
    let listed = alone(&world.run(&["--list", "--json", "-"]), 0);
    assert_eq!(listed.as_array().map(Vec::len), Some(TESTS.len()));
    run_of(&["--json", "-", "--output", "mail"]).refuses(2, &["two reports would go to standard output"]);
    for (words, code, field) in [
        (&["report", "show", "--json"][..], 1, "cells"),
        (&["report", "diff", "latest", "latest", "--json"], 0, "worse"),
        (&["cache", "--json"], 0, "entries"),
        (&["cache", "--prune", "1000G", "--json"], 0, "removed"),
        (&["clean", "--runs", "--keep", "1", "--json"], 0, "runs"),
        (&["clean", "--cache", "--dry-run", "--json"], 0, "cache"),
    ] {
        let json = alone(&run(&world, words), code);
        assert!(!json[field].is_null(), "{words:?}: {json:#}");
    }
    let doctor = run(&world, &["doctor", "--json"]);
    assert!(serde_json::from_str::<Value>(&doctor.stdout).expect("JSON").is_array(), "{doctor}");
    let (good, bad) = (kernel(&world, "pass"), world.path("bad"));
    world.tree("bad", "guest: fail");
    let words = ["bisect", "--good", &good, "--bad", &format!("tree:{}", bad.display()), "--json", "-"];
    assert_eq!(run(&world, &words).stdout, "", "a mistake gives no data");
}

#[test]
fn a_job_of_github_gets_annotations_and_a_summary() {
    let world = World::new();
    let summary = world.write("summary.md", "what was there before\n");
    for (does, code) in [("pass", 0), ("fail", 1)] {
        let spec = kernel(&world, does);
        let in_job = |words: &[&str]| {
            let mut command = world.vmtest(&[&["--kernel", &spec, "--boot", "direct"], words].concat());
            command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary);
            world.start(command).done()
        };
        let done = in_job(&[]);
        done.exits(code);
        let level =
            if code == 0 { "::notice title=vmtest::exit 0: " } else { "::error title=vmtest::exit 1: " };
        assert!(done.stdout.starts_with(level), "{done}");
        // If standard output is data, it contains nothing else.
        let done = in_job(&["--output", "json"]);
        serde_json::from_str::<Value>(&done.stdout).expect("JSON alone");
    }
    let text = fs::read_to_string(&summary).expect("the summary");
    assert!(text.starts_with("what was there before\n## ✅ vmtest: exit 0: "), "{text}");
    assert_eq!(
        (text.matches("## ✅ vmtest").count(), text.matches("## ❌ vmtest").count()),
        (2, 2),
        "{text}"
    );

    let spec = kernel(&world, "pass");
    let mut command = world.vmtest(&["--kernel", &spec, "--boot", "direct"]);
    command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", world.path("nowhere/at/all"));
    let done = world.start(command).done();
    done.exits(0).says(&["cannot be written"]);
    let plain = world.run(&["--kernel", &spec, "--boot", "direct"]);
    assert!(!plain.stdout.contains("::notice"), "only there\n{plain}");
}

/// The log of a job in the order in which both streams were written: our own commands are on standard output,
/// in a gap that standard error opens and closes.
fn log_of(done: &Done) -> String {
    let token = done.stderr.lines().next().and_then(|line| line.strip_prefix("::stop-commands::"));
    let end = format!("::{}::\n", token.unwrap_or_else(|| panic!("stopped at once\n{done}")));
    let (first, rest) = done.stderr.split_once(&end).expect("commands go on in the end");
    match rest {
        "" => [first, &done.stdout, &end].concat(),
        rest => [first, &end, &done.stdout, rest].concat(),
    }
}

/// The commands that GitHub's runner accepts from a log: those at the start of a line and the old ones
/// anywhere in it, except between `stop-commands` and its token.
fn commands_in(log: &str) -> Vec<String> {
    let mut stopped: Option<String> = None;
    let mut taken = Vec::new();
    for line in log.lines() {
        let new = line.trim_start().strip_prefix("::").and_then(|rest| rest.split_once("::"));
        let old = line.split_once("##[").and_then(|(_, rest)| rest.split_once(']'));
        let Some((command, data)) = new.or(old) else { continue };
        match &stopped {
            Some(token) if command == token => stopped = None,
            Some(_) => (),
            None if command == "stop-commands" => stopped = Some(data.to_owned()),
            None => taken.push(line.to_owned()),
        }
    }
    assert_eq!(stopped, None, "commands go on in the end\n{log}");
    taken
}

#[test]
fn a_job_of_github_takes_no_command_from_a_stranger() {
    assert_eq!(
        commands_in("  ::error::x\n| ##[add-mask]y\n::stop-commands::t\n::error::x\n::t::\n").len(),
        2
    );
    let world = World::new();
    let spec = kernel(&world, "pass");
    let manifest = "about = \"x\"\nprogram = \"run.sh\"\ntests = [\"one\", \"two\"]\nlimit_s = 9\n";
    world.write("project/selftests/suites/tiny/suite.toml", manifest);
    let says = "KTAP version 1\n1..2\n::error::log\n##[add-mask]log\nnot ok 1 one # ::error::reason\n\
                # x ##[add-mask]reason\nnot ok 2 two # ::set-output name=x::y ::stop-commands::evil\n";
    world.write("project/selftests/suites/tiny/run.sh", &format!("cat << END\n{says}END\nexit 1\n"));
    let job = |words: &[&str]| {
        let mut command = world.command(words);
        command.env("GITHUB_ACTIONS", "true");
        world.start(command).done()
    };
    let common = ["vmtest", "--toolchain", "host", "--accel", "tcg", "--kernel", &spec, "--suite", "tiny"];
    let done = job(&common);
    done.exits(1).says(&["::error::reason", "##[add-mask]log"]);
    let (ours, table) = done.stdout.split_once("\n::stop-commands::").expect("stopped before the table");
    assert!(ours.lines().all(|line| line.starts_with("::error title=")), "{done}");
    assert!(table.contains("##[add-mask]log") && table.contains("    ::error::reason"), "{done}");
    assert_eq!(commands_in(&log_of(&done)), ours.lines().collect::<Vec<_>>(), "{done}");
    // The token cannot be predicted.
    let again = job(&common);
    assert_ne!(again.stderr.lines().next(), done.stderr.lines().next());
    // Commands that read an untrusted record, and commands that are rejected.
    for words in [
        &["report", "show"][..],
        &["report", "export"],
        &["report", "diff", "latest", "latest"],
        &["report", "show", "::error::x\n::error::y"],
        &["vmtest", "--kernel", "##[error]x", "--nothing"],
        &[
            "vmtest",
            "--kernel",
            &spec,
            "--suite",
            "tiny",
            "--toolchain",
            "host",
            "--accel",
            "tcg",
            "--dry-run",
        ],
    ] {
        let done = job(words);
        let taken = commands_in(&log_of(&done));
        assert!(taken.iter().all(|line| line.starts_with("::error title=")), "{words:?} {done}");
    }
    // Data contains nothing else.
    let data = job(&[&common[..], &["--json", "-"]].concat());
    serde_json::from_str::<Value>(&data.stdout).expect("JSON alone");
}

#[test]
fn colours_are_for_terminals() {
    let world = World::new();
    let spec = kernel(&world, "fail");
    let done = world.run(&["--kernel", &spec, "--boot", "direct"]);
    assert!(!done.stdout.contains('\u{1b}') && !done.stderr.contains('\u{1b}'), "{done}");
    // util-linux runs a program on a terminal.
    let on_terminal = |no_colour: &str| {
        let binary = env!("CARGO_BIN_EXE_xtask");
        let mut command = world.command(&[]);
        let envs: Vec<(std::ffi::OsString, Option<std::ffi::OsString>)> =
            command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
        command = Command::new("script");
        command.args(["-qec", &format!("{binary} report show"), "/dev/null"]).env_clear();
        for (name, value) in envs {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        let output =
            command.env("PATH", "/usr/bin:/bin").env("NO_COLOR", no_colour).output().expect("script(1)");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(on_terminal("").contains("\u{1b}[31mfail\u{1b}[0m"), "{}", on_terminal(""));
    assert!(!on_terminal("1").contains('\u{1b}'));
}
