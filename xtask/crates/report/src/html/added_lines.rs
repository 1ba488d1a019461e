// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which added lines of a series ran: every line with its state and its tests, what did not run unfolded.

use maud::{Markup, html};

use crate::coverage::{all, counts, not_run, of, parts, shown};
use crate::html::{badge, bounded, heads, more};
use crate::names;
use vmtest_record::coverage::{Coverage, CoveredFile, CoveredLine, LineState};
use vmtest_record::run::RunResult;

/// Most bytes of the lines on the page.
const PAGE: usize = 200 * 1024;
/// Most tests that are named for a line.
const TESTS: usize = 12;

/// For the page: every added line with its state, what did not run unfolded.
pub(super) fn section(run: &RunResult) -> Markup {
    html! {
        @for (kernel, coverage) in of(run) {
            section {
                h2 { "Added lines of " (names::kernel(run, &kernel.id)) }
                p { (all(coverage)) }
                @let (patches, files) = parts(kernel, coverage);
                ul { @for line in patches.iter().chain(&files) { li { (line) } } }
                @for block in &not_run(coverage) {
                    h4 { (badge("fail", "not run")) " " (block.place()) " (patch " (block.first().patch) ")" }
                    pre tabindex="0" aria-label={ "Not run: " (block.place()) } {
                        @for line in block.lines { (shown(line)) "\n" }
                    }
                }
                (every_line(coverage))
            }
        }
    }
}

fn every_line(coverage: &Coverage) -> Markup {
    let has_result = |line: &CoveredLine| !matches!(line.state, LineState::NotCompiled | LineState::Unknown);
    let table = |file: &CoveredFile| {
        html! {
            @if file.lines.iter().any(has_result) {
                details {
                    summary { code { (file.path) } ": " (counts(file.lines.iter())) }
                    div.scroll tabindex="0" role="region" aria-label={ "Added lines of " (file.path) } {
                        table.plain {
                            (heads(&["line", "patch", "state", "code", "tests"]))
                            tbody { @for line in &file.lines { (row(coverage, line)) } }
                        }
                    }
                }
            }
        }
    };
    let (tables, shown) = bounded(coverage.files.iter().map(table), PAGE);
    html! { (tables) (more(coverage.files.len(), shown, "files")) }
}

fn row(coverage: &Coverage, line: &CoveredLine) -> Markup {
    let tone = match line.state {
        LineState::Run => "ok",
        LineState::NotRun => "fail",
        LineState::NoCode | LineState::NotCompiled | LineState::Unknown => "aside",
    };
    let name = |at: &usize| match coverage.tests.get(*at).map(String::as_str) {
        Some("") => "before the first test",
        Some(name) => name,
        None => "?",
    };
    let mut names: Vec<&str> = line.tests.iter().take(TESTS).map(name).collect();
    if line.tests.len() > TESTS {
        names.push("..");
    }
    html! {
        tr {
            th scope="row" { (line.line) } td { (line.patch) } td { (badge(tone, line.state.name())) }
            td { code { (shown(line)) } }
            td { @if !names.is_empty() { span title=(names.join("\n")) { (line.tests.len()) } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::paragraph;
    use crate::coverage::tests::sample;

    #[test]
    fn the_page_names_the_tests_of_a_line_and_a_problem_is_no_result() {
        let page = section(&sample()).into_string();
        assert!(page.contains("<span title=\"before the first test\nbasic/args\">2</span>"), "{page}");
        assert!(!page.contains("tools/b.c</code>"), "{page}");
        let mut run = sample();
        let problem = "no guest reported which lines ran".to_owned();
        run.kernels[0].coverage = Some(Coverage { problem, ..Coverage::default() });
        let text = paragraph(&run);
        assert_eq!(text, "not known which lines ran: no guest reported which lines ran");
    }
}
