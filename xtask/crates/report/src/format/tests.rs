// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::layout::Look;
use crate::mail;
use vmtest_base::error::Class;
use vmtest_base::error::PRECEDENCE;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::Cell;
use vmtest_record::run::{Kernel, Role};
use vmtest_record::samples::boot;
use vmtest_record::samples::cell;
use vmtest_record::samples::run;
use vmtest_record::series::{Check, CheckState};

fn render(format: Format, run: &RunResult) -> String {
    let story = Story::of(run, "/runs/r");
    format.render(&story, Look::PLAIN).expect("rendered")
}

/// Whether a reader of this format would consider the run a pass.
fn passes(format: Format, run: &RunResult) -> bool {
    let text = render(format, run);
    match format {
        Format::Table => text.lines().last().is_some_and(|line| line.starts_with("exit 0: ")),
        Format::Json => {
            let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            json["exit_code"] == 0
        }
        Format::Junit => {
            text.contains("<testcase ") && !text.contains("<error ") && !text.contains("<failure ")
        }
        Format::Ktap => text.contains("\nok 1 ") && !text.contains("not ok "),
        Format::Markdown => {
            text.starts_with("## ✅ vmtest: exit 0: ") || text.starts_with("## ✅ the patch ")
        }
        Format::Github => {
            let notices = ["exit 0: ", "the patch "].map(|start| format!("::notice title=vmtest::{start}"));
            !text.contains("::error ") && notices.iter().any(|notice| text.contains(notice))
        }
        Format::Mail => {
            text.starts_with("vmtest: passed, exit 0: ")
                || text.starts_with("the patch applies, builds, boots")
        }
        Format::Html => text.contains("<h1 class=\"ok\">PASSED: ") && !text.contains("What is wrong"),
        Format::Lcov => unreachable!("a viewer of coverage shows no verdict"),
    }
}

/// The formats that have a verdict.
fn with_a_verdict() -> impl Iterator<Item = &'static Format> {
    Format::value_variants().iter().filter(|format| **format != Format::Lcov)
}

#[test]
fn no_class_is_a_pass_in_any_format_but_the_one() {
    let good = || cell("k", "a", Outcome::Pass, Class::Pass);
    for format in with_a_verdict() {
        assert!(!passes(*format, &run(Vec::new())), "{format:?}: nothing");
        for class in PRECEDENCE {
            let passed = class == Class::Pass;
            let outcome = if passed { Outcome::Pass } else { Outcome::Missing };
            let one = run(vec![good(), cell("k", "b", outcome, class)]);
            assert_eq!(passes(*format, &one), passed, "{format:?}: a cell with {class:?}");
            let mut one = run(vec![good()]);
            one.boots = vec![boot("k", class)];
            one.conclude(None);
            assert_eq!(passes(*format, &one), passed, "{format:?}: a boot with {class:?}");
            let interrupted = matches!(class, Class::Interrupted | Class::Terminated);
            one.boots.clear();
            one.conclude(Some(class).filter(|_| interrupted));
            assert_eq!(passes(*format, &one), !interrupted, "{format:?}: {class:?}");
        }
    }
}

/// A review of one patch in which everything passed, with this result of a check.
fn reviewed(state: CheckState) -> RunResult {
    let mut run = run(["base", "base+s"].map(|id| cell(id, "a", Outcome::Pass, Class::Pass)).to_vec());
    run.boots = ["base", "base+s"].map(|id| boot(id, Class::Pass)).to_vec();
    let check = Check { state, summary: "the check".into(), lines: vec!["a line".into()], duration_ms: 1 };
    let patched = Kernel {
        id: "base+s".into(),
        series: vec!["subject".into()],
        checks: [("warnings".to_owned(), check)].into(),
        compared_to: Some("base".into()),
        ..Kernel::default()
    };
    run.kernels = vec![Kernel { id: "base".into(), role: Some(Role::Step), ..Kernel::default() }, patched];
    vmtest_record::attribution::settle(&mut run, None);
    run.conclude(None);
    run
}

#[test]
fn a_series_that_only_a_check_speaks_against_is_a_pass_in_no_format() {
    for format in with_a_verdict() {
        for state in [CheckState::Clean, CheckState::Info, CheckState::Advice] {
            assert!(passes(*format, &reviewed(state)), "{format:?} {state:?}");
        }
        for state in [CheckState::Bad, CheckState::Unknown] {
            let text = render(*format, &reviewed(state));
            assert!(!passes(*format, &reviewed(state)), "{format:?} {state:?}\n{text}");
            assert!(text.contains("the check") || text.contains("warnings"), "{format:?} {state:?}\n{text}");
        }
    }
    let junit = render(Format::Junit, &reviewed(CheckState::Bad));
    assert_eq!(junit.matches("<failure ").count(), 1, "once\n{junit}");
}

#[test]
fn a_mail_is_short_whatever_the_run() {
    let mut cells = Vec::new();
    for kernel in 0..40 {
        for test in 0..40 {
            let long = "an_uncommonly_long_name_of_a_test_that_nobody_would_break_".repeat(3);
            let one =
                cell(&format!("{long}{kernel}"), &format!("{long}{test}"), Outcome::Fail, Class::TestFailed);
            cells.push(Cell { reason: format!("reason {test}: {long}\nand more"), ..one });
        }
    }
    let mut run = run(cells);
    run.command = vec!["x".repeat(4000)];
    run.kernels = vec![Kernel { series: vec!["a subject ".repeat(30)], ..Kernel::default() }];
    let text = render(Format::Mail, &run);
    assert!(text.lines().count() <= mail::LINES, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= mail::WIDTH), "{text}");
    assert!(text.contains("and 32 more columns") && text.contains("more that did not pass"), "{text}");
}
