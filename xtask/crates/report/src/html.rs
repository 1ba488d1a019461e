// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exporter: one self-contained HTML file that needs neither network nor script. The verdict comes first,
//! then what is wrong, ordered by what decides the exit code, then the matrix; each cell that is not a plain
//! pass links to its details.
//!
//! Without JavaScript everything is on the page in sequence, and every such cell is a link. With it the
//! matrix has filters, and details open next to it.

mod bisection;
mod compared;
mod console;
mod detail;
mod guest;
mod matrix;
mod timeline;

use std::fmt::Write as _;

use crate::escape::xml as escape;
use crate::story::Story;
use crate::table;
use vmtest_base::date;
use vmtest_base::error::Class;
use vmtest_record::findings::{self, TestStatus};
use vmtest_record::outcome::Outcome;
use vmtest_record::run::Cell;

pub use crate::html::bisection::page as bisection_page;

/// The style of the page, and its script.
const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");
/// Above this page size, cells and guests are shown in brief: 40,000 cells and 200 guests still make a page
/// that a browser can open.
const MAX_BYTES: usize = 12 * 1024 * 1024;
/// Most reasons that are listed above the matrix.
const MAX_REASONS: usize = 12;

/// The part of a run that a page shows.
pub(super) struct Page<'a> {
    story: &'a Story<'a>,
    /// Indices of cells with details.
    told: Vec<usize>,
}

pub fn render(story: &Story<'_>) -> String {
    let run = story.run;
    let page = Page { story, told: told(&run.cells, story) };
    let class = story.exit_class();
    let mut text = String::new();
    head(&mut text, story, class);
    wrong(&mut text, &page);
    compared::section(&mut text, story);
    matrix::section(&mut text, &page);
    text.push_str("<section id=\"details\" aria-label=\"Details of cells\">\n");
    for at in &page.told {
        detail::article(&mut text, &page, *at);
    }
    text.push_str("</section>\n");
    if let Some(bisection) = story.bisection {
        bisection::section(&mut text, bisection);
    }
    guest::section(&mut text, &page);
    timeline::section(&mut text, run);
    foot(&mut text, story);
    text
}

/// Cells with more to show than that they passed.
fn told(cells: &[Cell], story: &Story<'_>) -> Vec<usize> {
    let has_more = |cell: &Cell| {
        cell.outcome != Outcome::Pass
            || findings::verdict(cell) != TestStatus::Passed
            || !cell.reason.is_empty()
            || !cell.tries.is_empty()
            || !cell.measured.is_empty()
            || cell.was.is_some()
            || compared::of_cell(story, cell).is_some()
    };
    cells.iter().enumerate().filter(|(_, cell)| has_more(cell)).map(|(at, _)| at).collect()
}

impl Page<'_> {
    /// The anchor of a cell's details; `None` if it has none.
    fn anchor(&self, at: usize) -> Option<String> {
        self.told.binary_search(&at).is_ok().then(|| format!("c{at}"))
    }
}

/// The CSS class that sets the colour; the word is always shown next to it. Deaths of a kernel stand out from
/// test failures, and those from missing results.
fn tone(verdict: TestStatus, word: &str) -> &'static str {
    match (verdict, word) {
        (TestStatus::Passed, _) => "ok",
        (TestStatus::Aside, _) => "aside",
        (TestStatus::Failed, _) => "fail",
        (TestStatus::Error, "skip" | "missing" | "notrun") => "lost",
        (TestStatus::Error, _) => "dead",
    }
}

/// A page up to its body. It may not load anything or run any script but its own.
fn begin(text: &mut String, title: &str) {
    let _ = write!(
        text,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        escape(title)
    );
}

fn head(text: &mut String, story: &Story<'_>, class: Class) {
    let run = story.run;
    let word = if class == Class::Pass { "passed" } else { "not passed" };
    begin(text, &format!("vmtest: {word} ({})", class.label()));
    text.push_str("<a class=\"skip\" href=\"#matrix\">Skip to the matrix</a>\n<header>\n");
    let tone = if class == Class::Pass { "ok" } else { "dead" };
    let _ = writeln!(
        text,
        "<h1><span class=\"badge {tone}\">{word}</span> exit {}: {}</h1>\n<p class=\"verdict\">{}</p>",
        class.code(),
        escape(class.label()),
        escape(&table::verdict(story))
    );
    let at = began(&run.run);
    let _ = writeln!(
        text,
        "<p class=\"meta\">run {}{at}<br><code>{}</code></p>",
        escape(&run.run),
        escape(&run.command.join(" "))
    );
    if let Some(own) = findings::own_tests(run) {
        let _ = writeln!(text, "<p class=\"meta\">{}: {}</p>", escape(&own.what), escape(&own.list()));
    }
    text.push_str("</header>\n<main>\n");
}

/// When a run started, according to its name; empty if the name does not say.
fn began(run: &str) -> String {
    date::of_run(run).map_or_else(String::new, |at| at.strftime(" · %Y-%m-%d %H:%M:%S UTC").to_string())
}

/// What is bad, starting with what decides the exit code: each reason once, with a link to its details.
fn wrong(text: &mut String, page: &Page<'_>) {
    let run = page.story.run;
    let columns = findings::columns(run);
    let reasons = findings::reasons(&columns);
    if reasons.is_empty() {
        return;
    }
    text.push_str(
        "<section aria-labelledby=\"wrong-title\">\n<h2 id=\"wrong-title\">What is wrong\
    </h2>\n<ol class=\"wrong\">\n",
    );
    for reason in reasons.iter().take(MAX_REASONS) {
        let (column, finding) = (reason.column, reason.finding);
        let place = if finding.is_test() {
            let is_it = |cell: &Cell| cell.column() == column.id && cell.path() == finding.path();
            run.cells.iter().position(is_it).and_then(|at| page.anchor(at))
        } else {
            let same = |boot: &vmtest_record::run::BootRecord| {
                boot.column().any_boot() == column.id.any_boot() && boot.class == finding.class
            };
            run.boots.iter().position(same).map(|at| format!("g{at}"))
        };
        let more = if reason.count > 1 { format!(" and {} more", reason.count - 1) } else { String::new() };
        let name = match place {
            Some(place) => format!("<a href=\"#{place}\">{}</a>", escape(&finding.path())),
            None => escape(&finding.path()),
        };
        let _ = writeln!(
            text,
            "<li><span class=\"badge {}\">{}</span> <strong>{name}</strong>{more} on {}<br>\
            <span class=\"why\">{}</span></li>",
            tone(finding.verdict, finding.word),
            escape(finding.word),
            escape(&column.name()),
            escape(&reason.why)
        );
    }
    text.push_str("</ol>\n");
    if reasons.len() > MAX_REASONS {
        let _ = writeln!(text, "<p>and {} more reasons in the matrix</p>", reasons.len() - MAX_REASONS);
    }
    text.push_str("</section>\n");
}

fn foot(text: &mut String, story: &Story<'_>) {
    let run = story.run;
    text.push_str(
        "<section>\n<details><summary>Kernels and tools</summary>\n<table class=\"plain\">\
    <caption>Kernels</caption>\n<thead><tr><th scope=\"col\">column</th><th scope=\"col\">asked for as</th>\
    <th scope=\"col\">release</th><th scope=\"col\">patches</th><th scope=\"col\">compiler</th></tr>\
    </thead>\n<tbody>\n",
    );
    for kernel in &run.kernels {
        let notes = kernel.notes.iter().map(|note| format!("<strong>{}</strong>", escape(note)));
        let series: Vec<String> = kernel.series.iter().map(|subject| escape(subject)).chain(notes).collect();
        let _ = writeln!(
            text,
            "<tr><th scope=\"row\">{}</th><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&kernel.id),
            escape(&kernel.spec),
            escape(&kernel.release),
            if series.is_empty() { "none".to_owned() } else { series.join("<br>") },
            escape(&kernel.toolchain)
        );
    }
    text.push_str("</tbody></table>\n<table class=\"plain\"><caption>Tools</caption>\n<tbody>\n");
    for (name, version) in &run.tools {
        let version = version.lines().next().unwrap_or_default();
        let _ =
            writeln!(text, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(name), escape(version));
    }
    let _ = writeln!(
        text,
        "</tbody></table>\n</details>\n<p class=\"meta\">Everything that the run saw: <code>{}</code></p>\n\
        </section>\n</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>",
        escape(story.directory)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmtest_record::load::Consoles;
    use vmtest_record::samples::boot;
    use vmtest_record::samples::cell;
    use vmtest_record::samples::run;

    #[test]
    fn a_page_stays_small_enough_for_a_browser() {
        let mut run = run(Vec::new());
        let mut consoles = Consoles::new();
        for kernel in 0..100 {
            let id = format!("k{kernel}");
            for test in 0..100 {
                let one = cell(&id, &format!("t{test}"), Outcome::Fail, Class::TestFailed);
                run.cells.push(Cell {
                    reason: "why ".repeat(20),
                    log: "line of a log\n".repeat(2000),
                    ..one
                });
            }
            let guest = boot(&id, Class::Panic);
            run.boots.push(vmtest_record::run::BootRecord { directory: id.clone(), ..guest });
            consoles.insert(id, "[    1.0] a line of a console that says something\n".repeat(100_000));
        }
        run.conclude(None);
        let text = render(&Story { consoles: &consoles, ..Story::of(&run, "/r") });
        assert!(text.len() > MAX_BYTES && text.len() < 2 * MAX_BYTES, "{}", text.len());
        // The last one is on the page as well, with its reason.
        assert!(text.contains("id=\"c9999\"") && text.contains("id=\"g99\""));
    }
}
