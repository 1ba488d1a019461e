// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exporter: JUnit XML, for whatever collects test results. One suite for each column; `failure` is what a test found,
//! `error` is what could not be judged or died. `schema/junit.xsd` says what it may hold.

use std::fmt::Write as _;

use crate::escape::{cut, xml};
use crate::story::Story;
use crate::table;
use vmtest_record::findings::{self, Column, Finding, Verdict};

/// Most bytes of a log in one test case.
const LOG_BYTES: usize = 64 * 1024;

/// The whole document.
pub fn render(story: &Story<'_>) -> String {
    let run = story.run;
    let columns = findings::columns(run);
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let sum = |count: &dyn Fn(&Column<'_>) -> usize| columns.iter().map(count).sum::<usize>();
    let _ = writeln!(
        text,
        // No `skipped` here: the schema of Jenkins has it in suites only.
        "<testsuites name=\"vmtest\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{}\">",
        sum(&|column| column.findings.len()),
        sum(&|column| column.count(Verdict::Failed)),
        sum(&|column| column.count(Verdict::Error)),
        seconds(columns.iter().flat_map(|column| &column.findings).map(|finding| finding.duration_ms).sum()),
    );
    for column in &columns {
        suite(&mut text, story, column);
    }
    text.push_str("</testsuites>\n");
    text
}

fn suite(text: &mut String, story: &Story<'_>, column: &Column<'_>) {
    let run = story.run;
    let time = seconds(column.findings.iter().map(|finding| finding.duration_ms).sum());
    let _ = write!(
        text,
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{time}\"",
        xml(&column.name()),
        column.findings.len(),
        column.count(Verdict::Failed),
        column.count(Verdict::Error),
        column.count(Verdict::Aside),
    );
    if let Some(at) = vmtest_base::date::of_run(&run.run) {
        let _ = write!(text, " timestamp=\"{at}\"");
    }
    text.push_str(">\n    <properties>\n");
    for (name, value) in properties(story, column) {
        let _ = writeln!(text, "      <property name=\"{}\" value=\"{}\"/>", xml(name), xml(&value));
    }
    text.push_str("    </properties>\n");
    for finding in &column.findings {
        case(text, column, finding);
    }
    text.push_str("  </testsuite>\n");
}

fn properties(story: &Story<'_>, column: &Column<'_>) -> Vec<(&'static str, String)> {
    let run = story.run;
    let mut properties = vec![
        ("run", run.run.clone()),
        ("exit_code", run.exit_code.to_string()),
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

fn case(text: &mut String, column: &Column<'_>, finding: &Finding<'_>) {
    let class: Vec<&str> =
        [column.id.suite, finding.test].into_iter().filter(|word| !word.is_empty()).collect();
    let name = if finding.subtest.is_empty() { finding.test } else { finding.subtest };
    let _ = write!(
        text,
        "    <testcase classname=\"{}\" name=\"{}\" time=\"{}\"",
        xml(&class.join(".")),
        xml(name),
        seconds(finding.duration_ms)
    );
    let why = finding.why();
    let detail = cut(&finding.detail.join("\n"), LOG_BYTES);
    let detail =
        if detail.is_empty() { finding.reason.to_owned() } else { format!("{}\n\n{detail}", finding.reason) };
    let element = match finding.verdict {
        Verdict::Passed if why.is_empty() => {
            text.push_str("/>\n");
            return;
        }
        Verdict::Passed => format!("<system-out>{}: {}</system-out>", xml(finding.word), xml(&detail)),
        Verdict::Aside => format!("<skipped message=\"{}: {}\"/>", xml(finding.word), xml(&why)),
        Verdict::Failed => body("failure", finding.word, &why, &detail),
        Verdict::Error => body("error", finding.word, &why, &detail),
    };
    let _ = write!(text, ">\n      {element}\n    </testcase>\n");
}

fn body(element: &str, kind: &str, message: &str, detail: &str) -> String {
    format!("<{element} type=\"{}\" message=\"{}\">{}</{element}>", xml(kind), xml(message), xml(detail))
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}
