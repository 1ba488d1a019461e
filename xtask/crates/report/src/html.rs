// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exporter: one self-contained HTML file that needs neither network nor script. The finding comes first, then
//! what each patch did, what is wrong and the matrix. Everything that did not pass links to its details.
//!
//! Without JavaScript everything is on the page in sequence. With it details open next to the matrix.

mod added_lines;
mod bisection;
mod compared;
mod console;
mod detail;
mod guest;
mod matrix;
mod series;
mod timeline;

use std::collections::{BTreeMap, BTreeSet};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::escape::cut;
use crate::names;
use crate::story::Story;
use crate::summary::{FailedStage, failed_stages, headline};
use vmtest_base::date;
use vmtest_base::error::Class;
use vmtest_base::sanitize;
use vmtest_record::findings::{self, Reason, TestStatus};
use vmtest_record::ids::{CellId, ColumnId};
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{BootRecord, Cell, Kernel};
use vmtest_record::series::Verdict;

pub use crate::html::bisection::page as bisection_page;

/// The style of the page, and its script.
const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");
/// Most bytes of the largest parts, so that a page has at most 1 MB; the rest is in run.json.
const DETAILS: usize = 350 * 1024;
const MATRIX: usize = 230 * 1024;
const GUESTS: usize = 150 * 1024;
const PATCHES: usize = 120 * 1024;
/// The same for each of the smaller ones.
const SMALL: usize = 40 * 1024;
/// Most reasons above the matrix, and most bytes of one.
const MAX_REASONS: usize = 12;
const REASON: usize = 1500;

/// What the parts of a page need to know about each other.
pub(super) struct Page<'a> {
    story: &'a Story<'a>,
    /// Columns in which no test ran.
    stages: Vec<FailedStage<'a>>,
    places: BTreeMap<CellId<'a>, usize>,
    /// Indices of the cells whose details are on the page.
    told: BTreeSet<usize>,
    /// How many guests are on the page.
    guests: usize,
    /// Patches with details on the page: the series, the number, and the kernel that it makes.
    patches: Vec<(usize, usize, &'a str)>,
}

/// The page of a run.
pub fn render(story: &Story<'_>) -> String {
    let run = story.run;
    let places = run.cells.iter().enumerate().rev().map(|(at, cell)| (cell.id(), at)).collect();
    let stages = failed_stages(run);
    let mut page =
        Page { story, stages, places, told: BTreeSet::new(), guests: run.boots.len(), patches: Vec::new() };
    let guests = guest::section(&mut page);
    let details = detail::section(&mut page);
    let patches = series::details(&mut page);
    let (line, _) = headline(story);
    let tone = match line.split(':').next() {
        Some("PASSED") => "ok",
        Some("STOPPED" | "FLAKY") => "lost",
        _ => "fail",
    };
    let class = story.exit_class();
    let body = html! {
        a.skip href="#matrix" { "Skip to the matrix" }
        header {
            @if let Some(answer) = answer(story) { p class={ "answer " (tone) } { (answer) } }
            h1 class=(tone) { (line) }
            p.meta { "exit " (class.code()) ": " (class.label()) " · " (began(&run.run)) " run " (run.run) }
            (command("Repeat", &run.command.join(" ")))
            @if let Some(own) = findings::own_tests(run) {
                details.meta { summary { (own.what) } (own.list()) }
            }
        }
        main {
            (series::section(&page, &patches))
            (wrong(&page))
            (compared::section(story))
            (crate::flaws::section(run))
            (added_lines::section(run))
            (matrix::section(&page))
            (details)
            @if let Some(bisection) = story.bisection { (bisection::section(bisection)) }
            (guests)
            (timeline::section(run))
            (kernels(story))
        }
    };
    document(&line, &body)
}

/// May the series be merged? In short: the heading below it is the reason.
fn answer(story: &Story<'_>) -> Option<&'static str> {
    let (verdict, _) = crate::series::verdict(story.run).filter(|_| story.compared.is_none())?;
    Some(match (verdict, story.exit_class()) {
        (Verdict::Bad, _) => "Merge: no",
        (Verdict::Good, Class::Pass) => "Merge: yes",
        _ => "Merge: not judged",
    })
}

/// A whole page. It may not load anything or run any script but its own.
fn document(title: &str, body: &Markup) -> String {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(policy);
                title { "vmtest: " (title.chars().take(120).collect::<String>()) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) script { (PreEscaped(SCRIPT)) } }
        }
    };
    sanitize::lines(&page.into_string()) + "\n"
}

/// As many pieces as fit, and how many those are.
fn bounded(pieces: impl Iterator<Item = Markup>, most: usize) -> (Markup, usize) {
    let (mut text, mut shown) = (String::new(), 0);
    for piece in pieces {
        if text.len() + piece.0.len() > most && shown > 0 {
            break;
        }
        text.push_str(&piece.0);
        shown += 1;
    }
    (PreEscaped(text), shown)
}

/// What is not on the page, if anything.
fn more(all: usize, shown: usize, what: &str) -> Markup {
    html! { @if all > shown { p.meta { "and " (all - shown) " more " (what) " in run.json" } } }
}

fn heads(names: &[&str]) -> Markup {
    html! { thead { tr { @for name in names { th scope="col" { (name) } } } } }
}

/// A table of names and values, without those that are empty.
fn pairs<T: AsRef<str>>(rows: impl Iterator<Item = (T, T)>) -> Markup {
    let rows = rows.filter(|(_, value)| !value.as_ref().is_empty());
    html! {
        table.plain {
            tbody { @for (name, value) in rows { tr { th scope="row" { (name.as_ref()) } td { (value.as_ref()) } } } }
        }
    }
}

fn badge(tone: &str, word: &str) -> Markup {
    html! { span class={ "badge " (tone) } { (word) } }
}

/// A link, if there is a place that it can lead to.
fn linked(place: Option<String>, name: &str) -> Markup {
    html! { @if let Some(place) = place { a href=(place) { (name) } } @else { (name) } }
}

/// A command, with a button that copies it.
fn command(name: &str, text: &str) -> Markup {
    html! {
        p.command {
            (name) ": " code { (text) } " "
            button.copy type="button" aria-label={ "Copy: " (name) } { "Copy" }
        }
    }
}

fn lines(label: &str, text: &str) -> Markup {
    html! { pre tabindex="0" aria-label=(label) { (text) } }
}

/// When a run started, according to its name; empty if the name does not say.
fn began(run: &str) -> String {
    date::of_run(run).map_or_else(String::new, |at| at.strftime("%Y-%m-%d %H:%M:%S UTC ·").to_string())
}

/// The CSS class that sets the colour; the word is always shown next to it. Purple is for deaths only.
fn tone(verdict: TestStatus, word: &str) -> &'static str {
    match (verdict, word) {
        (TestStatus::Passed, _) => "ok",
        (TestStatus::Aside, _) => "aside",
        (TestStatus::Failed, _) => "fail",
        (TestStatus::Error, "skip" | "missing" | "notrun" | "not checked") => "lost",
        (TestStatus::Error, _) => "dead",
    }
}

impl<'a> Page<'a> {
    /// The anchor of a cell's details; `None` if it has none.
    fn anchor(&self, at: usize) -> Option<String> {
        let at = self.origin(at);
        self.told.contains(&at).then(|| format!("#c{at}"))
    }

    /// The anchor of the patch that made this kernel; `None` if it is not on the page.
    fn patch(&self, kernel: &str) -> Option<String> {
        let (at, number, _) = self.patches.iter().find(|(.., made)| *made == kernel)?;
        Some(series::anchor(*at, *number))
    }

    /// The anchor of a guest; `None` if it is not on the page.
    fn guest(&self, at: usize) -> Option<String> {
        (at < self.guests).then(|| format!("#g{at}"))
    }

    fn stage(&self, cell: &Cell) -> Option<&FailedStage<'a>> {
        self.stages.iter().find(|stage| stage.has(cell))
    }

    fn kernel(&self, id: &str) -> Option<&'a Kernel> {
        self.story.run.kernels.iter().find(|kernel| kernel.id == id)
    }

    /// The cell of the column before, if there is one.
    fn before(&self, cell: &Cell) -> Option<(usize, &'a Cell)> {
        let kernel = self.kernel(&cell.kernel)?.compared_to.as_deref()?;
        let id = cell.id();
        let boots = [&cell.boot[..], "vng", "direct", ""];
        let at = boots.iter().find_map(|boot| {
            self.places.get(&CellId { column: ColumnId { kernel, boot, ..id.column }, ..id })
        })?;
        Some((*at, &self.story.run.cells[*at]))
    }

    /// The first cell with this failure: the same one in a column before, or the first of a column in which
    /// nothing ran.
    fn origin(&self, mut at: usize) -> usize {
        let cells = &self.story.run.cells;
        // An untrusted record may contain a cycle.
        for _ in 0..self.story.run.kernels.len() {
            let cell = &cells[at];
            let same = |other: &Cell| {
                cell.was.is_none()
                    && cell.outcome != Outcome::Pass
                    && (other.outcome, other.class) == (cell.outcome, cell.class)
                    && findings::verdict(other).is_bad() == findings::verdict(cell).is_bad()
            };
            match self.before(cell).filter(|(_, other)| same(other)) {
                Some((other, _)) => at = other,
                None => break,
            }
        }
        self.stage(&cells[at]).and_then(|stage| self.places.get(&stage.cell.id()).copied()).unwrap_or(at)
    }

    /// `2/3 bpf: mask the cookie index`, with the variant and the suite if they are not the usual ones.
    fn column(&self, id: ColumnId<'_>) -> String {
        let usual = ["", "default", "own", findings::CHECKS];
        let more: Vec<&str> = [id.variant, id.suite].into_iter().filter(|one| !usual.contains(one)).collect();
        let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
        format!("{}{more}", names::kernel(self.story.run, id.kernel))
    }
}

/// What is bad, starting with what decides the exit code: each reason once, with a link to its details.
fn wrong(page: &Page<'_>) -> Markup {
    let columns = findings::columns(page.story.run);
    let mut reasons = findings::reasons(&columns);
    // Of a kernel that was not built, that is said once.
    let is_repeated = |reason: &Reason<'_, '_>| {
        let id = reason.column.id;
        let has_stage = page.stages.iter().any(|stage| stage.cell.kernel == id.kernel);
        id.suite == findings::CHECKS && reason.finding.class == Class::Incomplete && has_stage
    };
    reasons.retain(|reason| !is_repeated(reason));
    html! {
        @if !reasons.is_empty() {
            section aria-labelledby="wrong-title" {
                h2 #wrong-title { "What is wrong" }
                ol.wrong { @for reason in reasons.iter().take(MAX_REASONS) { (one_reason(page, reason)) } }
                (more(reasons.len(), MAX_REASONS, "reasons in the matrix, and"))
            }
        }
    }
}

fn one_reason(page: &Page<'_>, reason: &Reason<'_, '_>) -> Markup {
    let run = page.story.run;
    let (column, finding) = (reason.column, reason.finding);
    let cell = CellId { column: column.id, test: finding.test, subtest: finding.subtest };
    let is_check = column.id.suite == findings::CHECKS;
    let at = page.places.get(&cell).copied().filter(|_| finding.is_test());
    let is_its =
        |boot: &BootRecord| boot.column().any_boot() == column.id.any_boot() && boot.class == finding.class;
    // Of a column in which nothing ran, the stage says more than the name of any test.
    let stage = at.and_then(|at| page.stage(&run.cells[at]));
    let patch = page.patch(column.id.kernel).filter(|_| is_check || stage.is_some());
    let place = match finding.is_test() {
        true => patch.or_else(|| at.and_then(|at| page.anchor(at))),
        false => run.boots.iter().position(is_its).and_then(|at| page.guest(at)),
    };
    let (badge, name, others) = match (stage, reason.count - 1) {
        (Some(stage), _) => {
            let name = none_ran(stage);
            (badge("fail", finding.class.label()), name, String::new())
        }
        (None, _) if is_check => (
            badge(tone(finding.verdict, finding.word), finding.word),
            finding.subtest.to_owned(),
            String::new(),
        ),
        (None, more) => {
            let s = if more > 1 { "s" } else { "" };
            let others = if more > 0 { format!(" and {more} more test{s}") } else { String::new() };
            (badge(tone(finding.verdict, finding.word), finding.word), finding.path(), others)
        }
    };
    let why = cut(if finding.reason.is_empty() { &reason.why } else { finding.reason }, REASON);
    html! {
        li {
            (badge) " " strong { (linked(place, &name)) } (others)
            @if !column.id.kernel.is_empty() { " on " (page.column(column.id)) }
            @if why.contains('\n') { (lines("Reason", &why)) } @else { div.reason { (detail::counted(&why)) } }
            @if is_check && !finding.detail.is_empty() {
                (lines("Output of the check", &cut(&finding.detail.join("\n"), REASON)))
            }
        }
    }
}

/// `none of the 14 tests ran`.
fn none_ran(stage: &FailedStage<'_>) -> String {
    match stage.cells {
        1 => "the test did not run".to_owned(),
        cells => format!("none of the {cells} tests ran"),
    }
}

fn kernels(story: &Story<'_>) -> Markup {
    let run = story.run;
    let row = |kernel: &Kernel| {
        html! {
            tr {
                th scope="row" { (kernel.id) } td { code { (kernel.spec) } } td { (kernel.release) }
                td {
                    @for subject in &kernel.series { (subject) br; }
                    @for note in &kernel.notes { strong { (note) } br; }
                }
                td { (kernel.toolchain) }
            }
        }
    };
    let (rows, shown) = bounded(run.kernels.iter().map(row), SMALL);
    let tools = run.tools.iter().map(|(name, text)| (&name[..], text.lines().next().unwrap_or_default()));
    html! {
        section {
            details {
                summary { h2 { "Kernels and tools" } }
                div.scroll tabindex="0" role="region" aria-label="Kernels" {
                    table.plain {
                        (heads(&["column", "given as", "release", "patches", "compiler"]))
                        tbody { (rows) }
                    }
                }
                (more(run.kernels.len(), shown, "kernels"))
                (pairs(tools))
            }
            p.meta { "Consoles, events and run.json: " code { (story.directory) } }
        }
    }
}

#[cfg(test)]
mod tests;
