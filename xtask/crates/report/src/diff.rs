// SPDX-License-Identifier: MIT OR Apache-2.0
//! The comparison of two runs as text.

use std::fmt::Write as _;

use crate::layout::{flush, wrapped};
use vmtest_record::diff::{Change, Diff, Setting, TestChange};

/// Most tests of each kind that are listed.
const MAX_TESTS: usize = 20;
const MAX_SETTINGS: usize = 30;
const MAX_PHASES: usize = 10;

/// The whole comparison; its last line is the verdict.
pub fn render(diff: &Diff) -> String {
    let mut text = String::new();
    let _ =
        write!(text, "{}", flush(&format!("compared with {}: {} tests in both", diff.old, diff.compared)));
    if let Some([from, to]) = &diff.paired {
        text.push_str(&wrapped(&format!("{from} then and {to} now, the one kernel of each run")));
    }
    for change in Change::ALL {
        let tests: Vec<&TestChange> = diff.tests.iter().filter(|test| test.change == change).collect();
        tests_of(&mut text, change, &tests);
    }
    for (what, splats) in
        [("new kernel warning", &diff.new_splats), ("kernel warning gone", &diff.gone_splats)]
    {
        for splat in splats.iter().take(MAX_TESTS) {
            let _ = write!(text, "\n{}", flush(&format!("{what}: {splat}")));
        }
        more(&mut text, splats.len(), MAX_TESTS, "complaints");
    }
    if !diff.slower.is_empty() {
        text.push_str("\nslower\n");
    }
    for phase in diff.slower.iter().take(MAX_PHASES) {
        let (was, is) = (phase.was_ms as f64 / 1000.0, phase.is_ms as f64 / 1000.0);
        text.push_str(&wrapped(&format!("{}: {}: {was:.1} s then, {is:.1} s now", phase.name, phase.kernel)));
    }
    more(&mut text, diff.slower.len(), MAX_PHASES, "phases");
    settings(&mut text, &diff.settings);
    let _ = write!(text, "\n{}", flush(&line(diff)));
    text
}

fn tests_of(text: &mut String, change: Change, tests: &[&TestChange]) {
    if tests.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}: {}", change.label(), tests.len());
    if change == Change::Added {
        return;
    }
    for test in tests.iter().take(MAX_TESTS) {
        let variant = if test.variant.is_empty() || test.variant == "default" { "" } else { &test.variant };
        let slash = if variant.is_empty() { "" } else { "/" };
        let how = match (test.was.as_str(), test.is.as_str()) {
            ("", is) => format!("{is}, was not there"),
            (was, "") => format!("{was} then, not there now"),
            (was, is) => format!("{was} then, {is} now"),
        };
        let on = if test.kernel.is_empty() {
            String::new()
        } else {
            format!(" on {}{slash}{variant}", test.kernel)
        };
        let _ = write!(text, "{}", flush(&format!("  {}{on}: {how}", test.test)));
        if change.is_worse() && !test.reason.is_empty() {
            text.push_str(&wrapped(&test.reason));
        }
    }
    more(text, tests.len(), MAX_TESTS, "tests");
}

fn settings(text: &mut String, settings: &[Setting]) {
    if settings.is_empty() {
        return;
    }
    text.push_str("\nmade with\n");
    let value = |text: &str| match text.lines().next() {
        None | Some("") => "nothing".to_owned(),
        Some(line) => line.to_owned(),
    };
    for setting in settings.iter().take(MAX_SETTINGS) {
        let of = if setting.of.is_empty() { String::new() } else { format!(" of {}", setting.of) };
        let (was, is) = (value(&setting.was), value(&setting.is));
        text.push_str(&wrapped(&format!("{}{of}: {was} then, {is} now", setting.name)));
    }
    more(text, settings.len(), MAX_SETTINGS, "differences");
}

fn more(text: &mut String, all: usize, shown: usize, what: &str) {
    if all > shown {
        let _ = writeln!(text, "    and {} more {what}", all - shown);
    }
}

/// The verdict in one line.
pub fn line(diff: &Diff) -> String {
    let count = |change: Change| {
        let count = diff.tests.iter().filter(|test| test.change == change).count();
        (count > 0).then(|| format!("{} {count}", change.label()))
    };
    let mut counts: Vec<String> = Change::ALL.into_iter().filter_map(count).collect();
    for (what, count) in
        [("new kernel warnings", diff.new_splats.len()), ("slower phases", diff.slower.len())]
    {
        if count > 0 {
            counts.push(format!("{what} {count}"));
        }
    }
    if diff.compared == 0 {
        counts.insert(0, "no test is in both".to_owned());
    }
    let counts = if counts.is_empty() { "every test as it was".to_owned() } else { counts.join(", ") };
    let verdict = if diff.worse { "something got worse" } else { "nothing got worse" };
    format!("{verdict} than in {}: {counts}", diff.old)
}

#[cfg(test)]
mod tests;
