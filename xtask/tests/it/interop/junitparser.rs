// SPDX-License-Identifier: MIT OR Apache-2.0
//! JUnit as CI systems read it: junitparser, a third-party Python library, must see in the report of a run
//! what is in its record.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Done, World, text};

const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/interop/junit.py");

/// Number of cases of each kind.
type Counts = BTreeMap<&'static str, usize>;

/// What junitparser reads from a report. Debian's python3 has it, but another python3 may come first in PATH.
fn read(file: &Path) -> Value {
    let mut said = String::new();
    for python in ["/usr/bin/python3", "python3"] {
        let Ok(output) = Command::new(python).arg(READER).arg(file).output() else { continue };
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).expect("JSON");
        }
        said += &String::from_utf8_lossy(&output.stderr);
    }
    panic!("{said}\nwithout junitparser nothing is proven; scripts/setup.sh --ci installs it");
}

/// How docs/reports.md says that a cell is reported.
fn becomes(cell: &Value) -> &'static str {
    let counts = cell["class"] != 0;
    match (text(&cell["outcome"]).as_str(), counts) {
        ("pass" | "flaky", false) => "success",
        ("skip" | "xfail" | "notrun", false) => "skipped",
        ("fail" | "flaky", true) => "failure",
        ("crash" | "timeout" | "missing" | "skip" | "notrun", true) => "error",
        (outcome, _) => panic!("{outcome} of class {}", cell["class"]),
    }
}

fn tally<'a>(kinds: impl Iterator<Item = &'a str>) -> Counts {
    let mut counts = Counts::new();
    for kind in kinds {
        let known = ["success", "skipped", "failure", "error"];
        *counts.entry(known.into_iter().find(|name| *name == kind).expect("a kind")).or_default() += 1;
    }
    counts
}

/// Asserts that the reader sees the cells of the record, and returns what else it sees.
#[track_caller]
fn agree(done: &Done, file: &Path) -> Counts {
    let seen = read(file);
    assert_eq!(seen["declared"], seen["counted"], "{seen:#}");
    let cells = done.json()["cells"].as_array().expect("cells");
    let cases = seen["cases"].as_array().expect("cases");
    // Problems of a guest or the run are not cells: `[guest]`, `[run]`.
    let (besides, tests): (Vec<&Value>, Vec<&Value>) =
        cases.iter().partition(|case| text(&case[1]).starts_with('['));
    let kinds = |cases: &[&Value]| tally(cases.iter().map(|case| case[2].as_str().expect("a kind")));
    assert_eq!(kinds(&tests), tally(cells.iter().map(becomes)), "{seen:#}\n{done}");
    let mut expected: Vec<(String, &str)> = cells
        .iter()
        .map(|cell| (format!("own.{}/{}", text(&cell["test"]), text(&cell["subtest"])), becomes(cell)))
        .collect();
    let mut found: Vec<(String, &str)> = tests
        .iter()
        .map(|case| (format!("{}/{}", text(&case[0]), text(&case[1])), case[2].as_str().expect("a kind")))
        .collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "{done}");
    kinds(&besides)
}

#[test]
#[ignore = "runs in CI, where junitparser is installed: cargo xtask test --interop"]
fn a_reader_of_ci_systems_sees_what_the_record_says() {
    let none = Counts::new;
    for (does, words, code, besides) in [
        ("pass", &[][..], 0, none()),
        ("fail", &[], 1, none()),
        ("skip", &[], 3, none()),
        ("skip", &["--allow-skip", "*"], 0, none()),
        ("xfail", &[], 0, none()),
        ("missing", &[], 3, none()),
        ("panic", &[], 21, none()),
        ("idle", &["--timeout", "idle=1"], 22, none()),
        ("fail then pass", &["--retries", "1"], 5, none()),
        ("fail then pass", &["--retries", "1", "--allow-flaky"], 0, none()),
        // All tests passed, so nothing would be visible.
        ("splat", &[], 4, Counts::from([("failure", 1)])),
        ("panics-at-last", &[], 21, Counts::from([("error", 1)])),
        ("vanish", &[], 24, none()),
    ] {
        let world = World::new();
        let spec = format!("tree:{}", world.tree("linux", &format!("guest: {does}")).display());
        let file = world.path("out.xml");
        let output = format!("junit={}", file.display());
        let done =
            world.run(&[&["--kernel", &spec, "--boot", "direct", "--output", &output], words].concat());
        done.exits(code);
        assert_eq!(agree(&done, &file), besides, "{does}\n{done}");
    }
}

#[test]
#[ignore = "runs in CI, where junitparser is installed: cargo xtask test --interop"]
fn the_report_of_an_interrupted_run_says_so() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: idle").display());
    let file = world.path("out.xml");
    let output = format!("junit={}", file.display());
    let mut running =
        world.start(world.vmtest(&["--kernel", &spec, "--boot", "direct", "--output", &output]));
    running.wait_for_hang();
    running.signal(Signal::SIGINT);
    let done = running.done();
    done.exits(130);
    agree(&done, &file);
    let seen = read(&file);
    let bad = |case: &&Value| case[2] == "error" || case[2] == "failure";
    assert!(seen["cases"].as_array().expect("cases").iter().filter(bad).count() > 0, "{seen:#}");
}
