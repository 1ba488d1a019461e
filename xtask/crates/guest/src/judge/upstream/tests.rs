// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports of `test_progs`, judged.

use super::*;
use crate::console::Scanner;
use crate::events::Stream;
use crate::observed::End;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use vmtest_protocol::{Check, Event, GuestOutcome, Line, Output, Plan, Start};

const GOOD: &str =
    "#1/1     t/a:OK\n#1/2     t/b:OK\n#1       t:OK\nSummary: 1/2 PASSED, 0 SKIPPED, 0 FAILED\n";

fn chosen(subtests: &[&str]) -> Chosen {
    Chosen {
        name: "t".into(),
        file: "t".into(),
        subtests: subtests.iter().map(|pattern| (*pattern).to_owned()).collect(),
        deny: Vec::new(),
    }
}

fn end(exit: Result<i32, &str>) -> TestEnd {
    let (reason, status) = match exit {
        Ok(0) => (String::new(), Some(0)),
        Ok(code) => (format!("test_progs exited with {code}"), Some(code)),
        Err(reason) => (reason.to_owned(), None),
    };
    let check = |status: i32| Check {
        what: EXIT_STATUS.into(),
        expected: "0".into(),
        seen: status.to_string(),
        ok: status == 0,
    };
    TestEnd {
        name: TestName { test: "t".into(), subtest: String::new() },
        round: 1,
        measured: String::new(),
        outcome: if status == Some(0) { GuestOutcome::Pass } else { GuestOutcome::Fail },
        reason,
        checks: 1,
        seen: status.map(check).into_iter().collect(),
        duration_us: 7000,
        log: String::new(),
    }
}

fn observed(events: Vec<Event>) -> Observed {
    let mut stream = Stream::new("n");
    for (seq, event) in events.into_iter().enumerate() {
        let line = Line { n: "n".into(), seq: seq as u64, ms: 0, event };
        let mut text = serde_json::to_vec(&line).expect("plain data");
        text.push(b'\n');
        stream.feed(&text);
    }
    Observed {
        end: End::Exited(ExitStatus::from_raw(0)),
        stream,
        console: Scanner::default(),
        complaint: String::new(),
        took: Duration::ZERO,
        booted_after: None,
        truncated: false,
        to_verdict: Duration::ZERO,
        before_kill: Vec::new(),
        judged: [0, 0],
    }
}

fn hello() -> Event {
    let hello = r#"{"ev":"hello","protocol":1,"release":"r","cmdline":"","clocksource":"","cpus":2,"memory_mib":1,"features":{},"profile":{}}"#;
    serde_json::from_str(hello).expect("a hello")
}

fn ran(text: &str, exit: Result<i32, &str>) -> Observed {
    let name = TestName { test: "t".into(), subtest: String::new() };
    observed(vec![
        hello(),
        Event::Plan(Plan { tests: vec![name.clone()], rounds: 1, until_fail: false }),
        Event::Start(Start { name, round: 1 }),
        Event::Output(Output { fd: 1, text: text.into() }),
        Event::End(end(exit)),
    ])
}

fn cells_of(test: &Chosen, known: &Known, seen: &Observed, class: Class) -> Vec<(String, Outcome, Class)> {
    let base = CellBase {
        kernel: "k".into(),
        variant: "v".into(),
        boot: "vng".into(),
        accel: "tcg".into(),
        suite: "upstream".into(),
        enforced: None,
    };
    let boot = Verdict { class, reason: "why".into() };
    let (cells, _) = judge(&base, std::slice::from_ref(test), known, seen, &boot, &|_| false);
    assert!(cells.iter().all(|cell| cell.suite == "upstream"));
    cells.iter().map(|cell| (cell.path(), cell.outcome, cell.class)).collect()
}

fn cells(text: &str, exit: Result<i32, &str>) -> Vec<(String, Outcome, Class)> {
    cells_of(&chosen(&[]), &Known::default(), &ran(text, exit), Class::Pass)
}

fn passes(cells: &[(String, Outcome, Class)]) -> bool {
    cells.iter().all(|(_, outcome, class)| *outcome == Outcome::Pass && *class == Class::Pass)
}

#[test]
fn a_whole_run_passes_and_nothing_less() {
    let good = cells(GOOD, Ok(0));
    assert_eq!(good.iter().map(|(path, ..)| path.as_str()).collect::<Vec<_>>(), ["t/a", "t/b"]);
    assert!(passes(&good));
    for cut in 0..GOOD.len() - 1 {
        assert!(!passes(&cells(&GOOD[..cut], Ok(0))), "cut at {cut}");
    }
    for exit in [Ok(1), Ok(2), Ok(255), Err("test_progs died of signal 11")] {
        let cells = cells(GOOD, exit);
        assert!(!cells.iter().any(|(_, outcome, _)| *outcome == Outcome::Pass), "{cells:?}");
    }
    let single = "#1       t:OK\nSummary: 1/0 PASSED, 0 SKIPPED, 0 FAILED\n";
    assert_eq!(cells(single, Ok(0)), [("t".to_owned(), Outcome::Pass, Class::Pass)]);
}

#[test]
fn failures_skips_and_limits_have_their_classes() {
    let text = "x:FAIL:what unexpected\n#1/1     t/a:FAIL\n#1/2     t/b:OK\n#1       t:FAIL\n\nAll error logs:\n\
                Summary: 0/1 PASSED, 0 SKIPPED, 1 FAILED\n";
    let failed = cells(text, Ok(1));
    assert_eq!(failed[0], ("t/a".to_owned(), Outcome::Fail, Class::TestFailed));
    assert_eq!(failed[1], ("t/b".to_owned(), Outcome::Pass, Class::Pass));
    let skipped = cells("#1       t:SKIP\nSummary: 1/0 PASSED, 1 SKIPPED, 0 FAILED\n", Ok(0));
    assert_eq!(skipped, [("t".to_owned(), Outcome::Skip, Class::Incomplete)]);
    let late = cells("", Err("no end within 300 s"));
    assert_eq!(late, [("t".to_owned(), Outcome::Timeout, Class::WallClock)]);
    // The test as a whole failed outside of its subtests.
    let outside =
        "#1/1     t/a:OK\nx:FAIL:cleanup\n#1       t:FAIL\nSummary: 0/1 PASSED, 0 SKIPPED, 1 FAILED\n";
    let outside = cells(outside, Ok(1));
    assert_eq!(outside[0], ("t".to_owned(), Outcome::Fail, Class::TestFailed));
}

#[test]
fn what_is_not_reported_any_more_is_missing() {
    let known = Known([("t".to_owned(), ["a", "b", "c"].map(str::to_owned).into())].into());
    let cells = cells_of(&chosen(&[]), &known, &ran(GOOD, Ok(0)), Class::Pass);
    assert_eq!(cells[2], ("t/c".to_owned(), Outcome::Missing, Class::Incomplete));
    let text = "#1/2     t/b:OK\n#1       t:OK\nSummary: 1/1 PASSED, 0 SKIPPED, 0 FAILED\n";
    let some = cells_of(&chosen(&["b", "none*"]), &known, &ran(text, Ok(0)), Class::Pass);
    assert_eq!(some.len(), 2);
    assert_eq!(some[1], ("t/none*".to_owned(), Outcome::Missing, Class::Incomplete));
    let none = "#1       t:OK\nSummary: 1/0 PASSED, 0 SKIPPED, 0 FAILED\n";
    let none = cells_of(&chosen(&["x"]), &Known::default(), &ran(none, Ok(0)), Class::Pass);
    assert_eq!(none, [("t/x".to_owned(), Outcome::Missing, Class::Incomplete)]);
}

#[test]
fn a_test_that_never_ended_has_the_boots_class() {
    let name = TestName { test: "t".into(), subtest: String::new() };
    let seen = observed(vec![
        hello(),
        Event::Plan(Plan { tests: vec![name.clone()], rounds: 1, until_fail: false }),
        Event::Start(Start { name, round: 1 }),
    ]);
    let cells = |class| cells_of(&chosen(&[]), &Known::default(), &seen, class);
    assert_eq!(cells(Class::Panic)[0].1, Outcome::Crash);
    assert_eq!(cells(Class::Hang)[0].1, Outcome::Timeout);
    let unplanned =
        observed(vec![hello(), Event::Plan(Plan { tests: Vec::new(), rounds: 1, until_fail: false })]);
    let cells = cells_of(&chosen(&[]), &Known::default(), &unplanned, Class::Pass);
    assert_eq!(cells, [("t".to_owned(), Outcome::Missing, Class::Incomplete)]);
    let host = cells_of(&chosen(&[]), &Known::default(), &ran(GOOD, Ok(0)), Class::Host);
    assert_eq!(host, [("t".to_owned(), Outcome::Fail, Class::Host)]);
}
