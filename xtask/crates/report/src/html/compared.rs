// SPDX-License-Identifier: MIT OR Apache-2.0
//! The comparison with an earlier run.

use std::fmt::Write as _;

use crate::escape::xml as escape;
use crate::story::Story;
use vmtest_record::diff::{Change, Diff, TestChange};
use vmtest_record::run::Cell;

/// Up to this many are shown unfolded.
const FEW: usize = 12;
/// Most rows of one kind.
const MOST: usize = 50;

/// How a cell changed; `None` if it did not, if it is new and passes, or if no comparison was requested.
pub(super) fn of_cell<'a>(story: &Story<'a>, cell: &Cell) -> Option<&'a TestChange> {
    let diff = story.compared?;
    let path = cell.path();
    diff.tests
        .iter()
        .find(|test| test.test == path && test.change != Change::Added && test.column() == cell.column())
}

pub(super) fn section(text: &mut String, story: &Story<'_>) {
    let Some(diff) = story.compared else { return };
    let (tone, word) = if diff.worse { ("dead", "worse") } else { ("ok", "not worse") };
    let _ = writeln!(
        text,
        "<section aria-labelledby=\"compared-title\">\n<h2 id=\"compared-title\">\
        <span class=\"badge {tone}\">{word}</span> Compared with {}</h2>\n<p>{}</p>",
        escape(&diff.old),
        escape(&crate::diff::line(diff))
    );
    for change in Change::ALL {
        let tests: Vec<&TestChange> = diff.tests.iter().filter(|test| test.change == change).collect();
        if tests.is_empty() {
            continue;
        }
        let open = if change.is_worse() && tests.len() <= FEW { " open" } else { "" };
        let _ = writeln!(text, "<details{open}><summary>{}: {}</summary>\n<ul>", change.label(), tests.len());
        for test in tests.iter().take(MOST) {
            let word =
                |outcome: &str| if outcome.is_empty() { "not there".to_owned() } else { escape(outcome) };
            let _ = writeln!(
                text,
                "<li><strong>{}</strong> on {}: {} then, {} now</li>",
                escape(&test.test),
                escape(&test.kernel),
                word(&test.was),
                word(&test.is)
            );
        }
        let _ = writeln!(text, "</ul>{}</details>", more(tests.len()));
    }
    if !diff.settings.is_empty() || !diff.slower.is_empty() {
        slower_and_settings(text, diff);
    }
    text.push_str("</section>\n");
}

fn slower_and_settings(text: &mut String, diff: &Diff) {
    let _ = writeln!(
        text,
        "<details><summary>Made with, and slower: {}</summary>\n<ul>",
        diff.settings.len() + diff.slower.len()
    );
    for phase in diff.slower.iter().take(MOST) {
        let (was, is) = (phase.was_ms as f64 / 1000.0, phase.is_ms as f64 / 1000.0);
        let _ = writeln!(
            text,
            "<li>{}: {}: {was:.1} s then, {is:.1} s now</li>",
            escape(&phase.name),
            escape(&phase.kernel)
        );
    }
    for setting in diff.settings.iter().take(MOST) {
        let value = |text: &str| if text.is_empty() { "nothing".to_owned() } else { escape(text) };
        let of = if setting.of.is_empty() { String::new() } else { format!(" of {}", escape(&setting.of)) };
        let _ = writeln!(
            text,
            "<li>{}{of}: {} then, {} now</li>",
            escape(&setting.name),
            value(&setting.was),
            value(&setting.is)
        );
    }
    let _ = writeln!(text, "</ul>{}</details>", more(diff.settings.len()));
}

fn more(all: usize) -> String {
    if all > MOST { format!("<p>and {} more</p>", all - MOST) } else { String::new() }
}
