// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::layout::Look;
use crate::mail;
use vmtest_base::error::Class;
use vmtest_base::error::PRECEDENCE;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::Cell;
use vmtest_record::run::Kernel;
use vmtest_record::samples::boot;
use vmtest_record::samples::cell;
use vmtest_record::samples::run;

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
        Format::Markdown => text.starts_with("## ✅ vmtest: exit 0: "),
        Format::Github => !text.contains("::error ") && text.contains("::notice title=vmtest::exit 0: "),
        Format::Mail => text.starts_with("vmtest: passed, exit 0: "),
        Format::Html => text.contains("<h1 class=\"ok\">PASSED: ") && !text.contains("What is wrong"),
    }
}

#[test]
fn no_class_is_a_pass_in_any_format_but_the_one() {
    let good = || cell("k", "a", Outcome::Pass, Class::Pass);
    for format in Format::value_variants() {
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
