// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports of runs in every format. None of them may say pass if the run does not; third-party programs read
//! them in `interop`.

use std::fs;
use std::path::PathBuf;

use quick_junit::{NonSuccessKind, Report, TestCaseStatus};

use crate::support::{Done, TESTS, World, text};

/// What the guest does, additional arguments of the run, and its exit code.
pub const WAYS: [(&str, &[&str], i32); 15] = [
    ("pass", &[], 0),
    ("fail", &[], 1),
    ("skip", &[], 3),
    ("skip", &["--allow-skip", "*"], 0),
    ("missing", &[], 3),
    ("xfail", &[], 0),
    ("splat", &[], 4),
    ("fail then pass", &["--retries", "1"], 5),
    ("fail then pass", &["--retries", "1", "--allow-flaky"], 0),
    ("dies-early", &[], 21),
    ("panic", &[], 21),
    ("panics-at-last", &[], 21),
    ("idle", &["--timeout", "idle=1"], 22),
    ("vanish", &[], 24),
    ("runner-dies", &[], 25),
];

/// The formats that are written to files, all in one run.
const FILES: [&str; 8] = ["table", "json", "junit", "ktap", "markdown", "github", "mail", "html"];

pub struct Exported {
    pub done: Done,
    pub dir: PathBuf,
}

impl Exported {
    pub fn read(&self, format: &str) -> String {
        fs::read_to_string(self.dir.join(format))
            .unwrap_or_else(|error| panic!("{format}: {error}\n{}", self.done))
    }
}

pub fn exported(world: &World, does: &str, words: &[&str]) -> Exported {
    let spec = format!("tree:{}", world.tree("linux", &format!("guest: {does}")).display());
    let dir = world.path("out");
    fs::create_dir_all(&dir).expect("a directory");
    let outputs: Vec<String> = FILES
        .iter()
        .flat_map(|format| ["--output".to_owned(), format!("{format}={}", dir.join(format).display())])
        .collect();
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let done = world.run(&[&["--kernel", &spec, "--boot", "direct"], words, &outputs[..]].concat());
    Exported { done, dir }
}

/// The cases of a report that did not succeed, as parsed by nextest's library: failures and errors.
fn junit(text: &str) -> (usize, usize) {
    let report = Report::deserialize_from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let cases: Vec<_> = report.test_suites.iter().flat_map(|suite| &suite.test_cases).collect();
    assert!(!cases.is_empty() && cases.len() == report.tests, "{text}");
    let count = |wanted: NonSuccessKind| {
        let is = |status: &TestCaseStatus| matches!(status, TestCaseStatus::NonSuccess { kind, .. } if *kind == wanted);
        cases.iter().filter(|case| is(&case.status)).count()
    };
    let counts = (count(NonSuccessKind::Failure), count(NonSuccessKind::Error));
    assert_eq!(counts, (report.failures, report.errors), "{text}");
    counts
}

#[test]
fn every_format_says_what_the_exit_code_says() {
    for (does, words, code) in WAYS {
        let world = World::new();
        let exported = exported(&world, does, words);
        exported.done.exits(code);
        let passed = code == 0;
        let line = exported.done.stdout.lines().last().expect("a last line").to_owned();

        assert_eq!(exported.read("table"), exported.done.stdout, "{does}");
        let json: serde_json::Value = serde_json::from_str(&exported.read("json")).expect("JSON");
        assert_eq!(json, *exported.done.json(), "{does}");

        let (failures, errors) = junit(&exported.read("junit"));
        assert_eq!(failures + errors == 0, passed, "{does}: {failures} {errors}");
        // A failed test or a kernel warning; anything else could not be judged.
        assert_eq!(failures > 0, matches!(code, 1 | 4 | 5), "{does}: {failures} {errors}");

        let ktap = exported.read("ktap");
        assert_eq!(ktap.contains("not ok "), !passed, "{does}\n{ktap}");
        assert!(ktap.ends_with(&format!("# {line}\n")), "{does}");

        let markdown = exported.read("markdown");
        let mark = if passed { "## ✅ vmtest: exit 0: " } else { "## ❌ vmtest: exit " };
        assert!(markdown.starts_with(mark), "{does}\n{markdown}");
        let github = exported.read("github");
        assert_eq!(github.contains("::error "), !passed, "{does}\n{github}");
        assert!(github.lines().all(|line| line.starts_with("::")), "{github}");

        let html = exported.read("html");
        assert_eq!(html.contains("What is wrong</h2>"), !passed, "{does}");
        assert_eq!(html.contains("<h1 class=\"ok\">PASSED: "), passed, "{does}");
        assert!(html.contains(&format!("exit {code}: ")), "{does}");

        if does == "fail" {
            assert_eq!(json["proves"], serde_json::json!({ "basic/second": "Proves basic/second." }));
            assert!(html.contains("It proves: Proves basic/second."), "{html}");
        }

        let mail = exported.read("mail");
        assert_eq!(mail.starts_with("vmtest: passed, exit 0: "), passed, "{does}\n{mail}");
        assert_eq!(mail.starts_with("vmtest: NOT passed, exit "), !passed, "{does}\n{mail}");
        assert!(mail.lines().count() <= 30 && mail.lines().all(|line| line.chars().count() <= 75), "{mail}");
    }
}

#[test]
fn what_never_came_to_a_guest_is_an_error_in_every_format() {
    for (does, code) in [("make: error", 12), ("kconfig: CONFIG_BPF_EVENTS", 11)] {
        let world = World::new();
        let spec = format!("tree:{}", world.tree("linux", does).display());
        let file = |name: &str| world.path(name).display().to_string();
        let (xml, ktap) = (format!("junit={}", file("xml")), format!("ktap={}", file("ktap")));
        let done = world.run(&["--kernel", &spec, "--output", &xml, "--output", &ktap]);
        done.exits(code);
        assert_eq!(junit(&world.read("xml")), (0, TESTS.len()));
        assert!(world.read("ktap").contains("\nnot ok "));
    }
}

#[test]
fn an_export_of_a_finished_run_is_what_the_run_wrote() {
    let world = World::new();
    let during = exported(&world, "fail", &[]);
    let run = during.done.run_dir.as_ref().expect("a run").display().to_string();
    for format in FILES {
        let words = ["report", "export", &run, "--output", format];
        let done = world.start(world.command(&words)).done();
        assert_eq!(done.status.code(), Some(1), "{done}");
        assert_eq!(done.stdout, during.read(format), "{format}");
    }
    let all = world.path("all").display().to_string();
    let words = ["report", "export", "--output", "mail", "--output", &format!("json={all}")];
    let done = world.start(world.command(&words)).done();
    assert_eq!((done.stdout, world.read("all")), (during.read("mail"), during.read("json")));
}

#[test]
fn a_report_that_cannot_be_written_is_told_before_anything_is_done() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    let refused = |words: &[&str], code: i32, says: &str| {
        let done = world.run(&[&["--kernel", &spec], words].concat());
        done.refuses(code, &[says]);
        assert_eq!((world.made("vmlinux"), done.run_dir.is_some()), (0, false));
    };
    refused(&["--output", "pdf=x"], 2, "formats are table, json, junit, ktap");
    refused(&["--output", "junit="], 2, "the file is missing");
    refused(&["--output", "junit", "--output", "mail"], 2, "two reports would go to standard output");
    refused(&["--output", "junit=/nowhere/at/all"], 30, "cannot write /nowhere/at/all");
    refused(
        &["--output", &format!("junit={}", world.path("out").display()), "--output", "pdf"],
        2,
        "unknown format",
    );
    assert!(!world.path("out").exists(), "what was only tried is not left");
}

/// The reports of a run whose record contains hostile text.
pub fn hostile(world: &World) -> Exported {
    let exported = exported(world, "fail", &[]);
    let run = exported.done.run_dir.as_ref().expect("a run");
    let file = run.join("run.json");
    let mut json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&file).expect("read")).expect("JSON");
    let hostile = "x]]></failure><testcase name=\"y\"/>\u{0}\u{8}\u{1b}[2J\u{ffff}\n\
                   ::error::%0A\nok 1 - all # SKIP\n<script>|`*";
    for cell in json["cells"].as_array_mut().expect("cells") {
        if cell["outcome"] == "fail" {
            for field in ["reason", "log", "subtest"] {
                cell[field] = hostile.into();
            }
        }
    }
    json["command"] = serde_json::json!(["a", "\u{1b}]0;title\u{7}\nexit 0: pass 1"]);
    fs::write(&file, json.to_string()).expect("written");
    for format in FILES {
        let place = exported.dir.join(format);
        let words = ["report", "export", "--output", &format!("{format}={}", place.display())];
        let done = world.start(world.command(&words)).done();
        assert_eq!(done.status.code(), Some(1), "{done}");
    }
    assert_eq!(text(&json["run"]), text(&exported.done.json()["run"]));
    exported
}

#[test]
fn the_report_of_a_hostile_guest_stays_a_report() {
    let world = World::new();
    let exported = hostile(&world);
    for format in FILES {
        let shown = exported.read(format);
        assert!(!shown.contains(['\u{0}', '\u{8}', '\u{1b}']), "{format}: {shown:?}");
        let markup = ["junit", "markdown", "html"].contains(&format);
        assert!(!markup || !shown.contains("<script>|"), "{format}: {shown}");
    }
    assert_eq!(junit(&exported.read("junit")), (1, 0));
    assert!(exported.read("ktap").contains("not ok "));
    let github = exported.read("github");
    assert!(github.lines().all(|line| line.starts_with("::error title=")), "{github}");
}
