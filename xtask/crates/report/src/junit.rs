// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exporter: JUnit XML, for tools that collect test results. One suite for each column; a `failure` was found
//! by a test, an `error` could not be judged or died. `schema/junit.xsd` defines the format.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use crate::escape::{cut, xml_chars};
use crate::series;
use crate::story::Story;
use crate::table;
use vmtest_record::findings::{self, ColumnFindings, Finding, TestStatus};
use vmtest_record::series::SeriesRecord;

/// Most bytes of a log in one test case.
const LOG_BYTES: usize = 64 * 1024;

/// Sanitizes untrusted text. quick-junit silently drops control characters, including tabs.
fn clean(text: &str) -> String {
    xml_chars(text).replace('\t', "        ")
}

pub fn render(story: &Story<'_>) -> String {
    let columns = findings::columns(story.run);
    let mut report = Report::new("vmtest");
    report.set_time(duration(columns.iter().flat_map(|column| &column.findings)));
    report.add_test_suites(series::told(story.run).map(patches));
    // The checks of a patch are in its case.
    let tests = columns.iter().filter(|column| column.id.suite != findings::CHECKS);
    report.add_test_suites(tests.map(|column| suite(story, column)));
    let text = report.to_string().expect("a report in memory can be written");
    // The Jenkins schema has this attribute only on suites, but quick-junit writes it here as well.
    text.replacen(&format!(" skipped=\"{}\"", report.skipped), "", 1)
}

fn suite(story: &Story<'_>, column: &ColumnFindings<'_>) -> TestSuite {
    let mut suite = TestSuite::new(clean(&column.name()));
    suite.set_time(duration(&column.findings));
    if let Some(at) = vmtest_base::date::of_run(&story.run.run) {
        suite.extra.insert("timestamp".into(), at.to_string().into());
    }
    suite.add_properties(
        properties(story, column).into_iter().map(|(name, value)| Property::new(name, clean(&value))),
    );
    suite.add_test_cases(column.findings.iter().map(|finding| case(column, finding)));
    suite
}

/// A case for each patch of a series.
fn patches(series: &SeriesRecord) -> TestSuite {
    let mut suite = TestSuite::new("patches");
    for (name, value) in [("kernel", &series.kernel), ("variant", &series.variant), ("series", &series.name)]
    {
        if !value.is_empty() {
            suite.add_property(Property::new(name, clean(value)));
        }
    }
    for patch in &series.patches {
        let what = clean(&series::result(patch));
        let lines: Vec<&str> =
            patch.checks.values().flat_map(|check| &check.lines).map(String::as_str).collect();
        let detail = clean(&cut(&lines.join("\n"), LOG_BYTES));
        let mut status = if patch.is_bad() {
            TestCaseStatus::non_success(NonSuccessKind::Failure)
        } else if patch.missing_check().is_some() {
            TestCaseStatus::non_success(NonSuccessKind::Error)
        } else if series::is_fine(patch) {
            TestCaseStatus::success()
        } else {
            TestCaseStatus::skipped()
        };
        if patch.is_bad() || patch.missing_check().is_some() {
            status.set_type("patch").set_description(format!("{what}\n{detail}"));
        }
        if !series::is_fine(patch) {
            status.set_message(what.clone());
        }
        let name = format!("{}/{} {}", patch.number, series.patches.len(), patch.info.subject);
        let mut case = TestCase::new(clean(&name), status);
        case.set_classname("patches").set_time(Duration::ZERO);
        if series::is_fine(patch) {
            case.set_system_out(what);
        }
        suite.add_test_case(case);
    }
    suite
}

fn duration<'a>(findings: impl IntoIterator<Item = &'a Finding<'a>>) -> Duration {
    Duration::from_millis(findings.into_iter().map(|finding| finding.duration_ms).sum())
}

fn properties(story: &Story<'_>, column: &ColumnFindings<'_>) -> Vec<(&'static str, String)> {
    let run = story.run;
    let mut properties = vec![
        ("run", run.run.clone()),
        ("exit_code", run.exit_code.code().to_string()),
        ("verdict", table::classes(run)),
        ("directory", story.directory.to_owned()),
        ("command", run.command.join(" ")),
    ];
    if let Some(kernel) = run.kernels.iter().find(|kernel| kernel.id == column.id.kernel) {
        properties.push(("kernel", kernel.id.clone()));
        properties.push(("release", kernel.release.clone()));
        properties.push(("patches", kernel.series.len().to_string()));
    }
    for (name, value) in
        [("variant", column.id.variant), ("boot", column.id.boot), ("suite", column.id.suite)]
    {
        properties.push((name, value.to_owned()));
    }
    properties.retain(|(_, value)| !value.is_empty());
    properties
}

fn case(column: &ColumnFindings<'_>, finding: &Finding<'_>) -> TestCase {
    let why = finding.why();
    let word = clean(finding.word);
    let detail = cut(&finding.detail.join("\n"), LOG_BYTES);
    let detail =
        if detail.is_empty() { finding.reason.to_owned() } else { format!("{}\n\n{detail}", finding.reason) };
    let problem = |kind: NonSuccessKind| {
        let mut status = TestCaseStatus::non_success(kind);
        status.set_type(&word).set_message(clean(&why)).set_description(clean(&detail));
        status
    };
    let status = match finding.verdict {
        TestStatus::Passed => TestCaseStatus::success(),
        TestStatus::Aside => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(format!("{word}: {}", clean(&why)));
            status
        }
        TestStatus::Failed => problem(NonSuccessKind::Failure),
        TestStatus::Error => problem(NonSuccessKind::Error),
    };
    let name = if finding.subtest.is_empty() { finding.test } else { finding.subtest };
    let mut case = TestCase::new(clean(name), status);
    let class: Vec<&str> =
        [column.id.suite, finding.test].into_iter().filter(|word| !word.is_empty()).collect();
    case.set_classname(clean(&class.join("."))).set_time(duration([finding]));
    if finding.verdict == TestStatus::Passed && !why.is_empty() {
        case.set_system_out(format!("{word}: {}", clean(&detail)));
    }
    case
}
