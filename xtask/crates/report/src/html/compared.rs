// SPDX-License-Identifier: MIT OR Apache-2.0
//! The comparison with an earlier run.

use maud::{Markup, html};

use crate::html::{badge, more};
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

/// A value, or a word for its absence.
fn or<'a>(text: &'a str, absent: &'a str) -> &'a str {
    if text.is_empty() { absent } else { text }
}

pub(super) fn section(story: &Story<'_>) -> Markup {
    let Some(diff) = story.compared else { return html! {} };
    let (tone, word) = if diff.worse { ("fail", "worse") } else { ("ok", "not worse") };
    html! {
        section aria-labelledby="compared-title" {
            h2 #compared-title { (badge(tone, word)) " Compared with " (diff.old) }
            p { (crate::diff::line(diff)) }
            @for change in Change::ALL {
                @let tests: Vec<&TestChange> = diff.tests.iter().filter(|test| test.change == change).collect();
                @if !tests.is_empty() {
                    details open[change.is_worse() && tests.len() <= FEW] {
                        summary { (change.label()) ": " (tests.len()) }
                        ul {
                            @for test in tests.iter().take(MOST) {
                                li {
                                    strong { (test.test) } " on " (test.kernel) ": "
                                    (or(&test.was, "not there")) " then, " (or(&test.is, "not there")) " now"
                                }
                            }
                        }
                        (more(tests.len(), MOST, "tests"))
                    }
                }
            }
            (slower_and_settings(diff))
        }
    }
}

fn slower_and_settings(diff: &Diff) -> Markup {
    let count = diff.settings.len() + diff.slower.len();
    let seconds = |ms: u64| format!("{:.1} s", ms as f64 / 1000.0);
    html! {
        @if count > 0 {
            details {
                summary { "Made with, and slower: " (count) }
                ul {
                    @for phase in diff.slower.iter().take(MOST) {
                        li {
                            (phase.name) ": " (phase.kernel) ": " (seconds(phase.was_ms)) " then, "
                            (seconds(phase.is_ms)) " now"
                        }
                    }
                    @for setting in diff.settings.iter().take(MOST) {
                        li {
                            (setting.name) @if !setting.of.is_empty() { " of " (setting.of) } ": "
                            (or(&setting.was, "nothing")) " then, " (or(&setting.is, "nothing")) " now"
                        }
                    }
                }
                (more(diff.settings.len(), MOST, "settings"))
            }
        }
    }
}
