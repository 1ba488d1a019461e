// SPDX-License-Identifier: MIT OR Apache-2.0
//! A series: a row for each patch, and behind it what is known of the patch.

use maud::{Markup, html};

use crate::escape::cut;
use crate::html::{PATCHES, Page, badge, bounded, command, heads, lines, linked, more, pairs};
use crate::{names, series};
use vmtest_record::run::Cell;
use vmtest_record::series::{Check, CheckState, PatchRecord, SeriesRecord, State};

/// Most tests that a row names, and that the details of a patch list.
const NAMED: usize = 3;
const LISTED: usize = 60;
/// Most bytes of the output of a compiler, or of a check.
const OUTPUT: usize = 8 * 1024;

/// The anchor of a patch.
pub(super) fn anchor(series: usize, number: usize) -> String {
    format!("#p{series}-{number}")
}

/// The details of all patches that fit. Nothing unless each patch was tested.
pub(super) fn details(page: &mut Page<'_>) -> Markup {
    let told: Vec<&SeriesRecord> = series::told(page.story.run).collect();
    let mut all: Vec<(usize, &SeriesRecord, &PatchRecord)> = Vec::new();
    for (at, one) in told.into_iter().enumerate() {
        all.extend(one.patches.iter().map(|patch| (at, one, patch)));
    }
    let each = all.iter().map(|(at, one, patch)| detail(page, *at, one, patch));
    let (details, shown) = bounded(each, PATCHES);
    page.patches = Vec::new();
    for (at, one, patch) in all.iter().take(shown) {
        let is_last = patch.kernel.is_empty() && patch.number == one.patches.len();
        page.patches.push((*at, patch.number, if is_last { &one.kernel } else { &patch.kernel }));
    }
    html! {
        @if !all.is_empty() {
            section aria-label="Details of patches" { (details) (more(all.len(), shown, "patches with details")) }
        }
    }
}

/// The tables, and below them the details.
pub(super) fn section(page: &Page<'_>, details: &Markup) -> Markup {
    let told: Vec<&SeriesRecord> = series::told(page.story.run).collect();
    html! {
        @if !told.is_empty() {
            section aria-labelledby="patches-title" {
                h2 #patches-title { "Patches" }
                @for (at, one) in told.iter().enumerate() {
                    @if told.len() > 1 { h3 { (one.name) " on " (one.kernel) " " (one.variant) } }
                    (table(page, one, at))
                    @if told.len() > 1 { p { (series::sentence(one)) } }
                    (beside(page, one))
                }
            }
            (details)
        }
    }
}

fn table(page: &Page<'_>, one: &SeriesRecord, at: usize) -> Markup {
    let checked = one.patches.iter().any(|patch| !patch.checks.is_empty());
    let is_there = |number: usize| page.patches.iter().any(|(of, one, _)| (*of, *one) == (at, number));
    let place = |number: usize| is_there(number).then(|| anchor(at, number));
    let name = |patch: &PatchRecord| format!("{}/{} {}", patch.number, one.patches.len(), patch.info.subject);
    let names = ["patch", "builds", "boots", if checked { "checks" } else { "tests" }, "tests"];
    html! {
        table.series {
            (heads(&names[..if checked { 5 } else { 4 }]))
            tbody {
                @for patch in &one.patches {
                    tr.bad[patch.is_bad()] {
                        th scope="row" { (linked(place(patch.number), &name(patch))) }
                        td data-label="builds" { (builds(patch)) }
                        td data-label="boots" {
                            @if let Some(other) = same_as(page, patch) { "as " (other) }
                            @else { (state(patch, patch.boots)) }
                        }
                        @if checked { td data-label="checks" { (checks(patch)) } }
                        td data-label="tests" { (tests(patch)) }
                    }
                }
            }
        }
    }
}

/// The number of the patch whose kernel this one's is; it was not booted again.
fn same_as(page: &Page<'_>, patch: &PatchRecord) -> Option<String> {
    let run = page.story.run;
    let other = page.kernel(&patch.kernel)?.same_as.as_deref()?;
    Some(match page.kernel(other).and_then(|kernel| names::step(run, kernel)) {
        Some((at, of)) => format!("{at}/{of}"),
        None => names::kernel(run, other),
    })
}

fn builds(patch: &PatchRecord) -> Markup {
    if patch.applies == State::No { badge("fail", "does not apply") } else { state(patch, patch.builds) }
}

fn state(patch: &PatchRecord, state: State) -> Markup {
    match state {
        State::Yes => html! { "yes" },
        State::No if patch.inherited => badge("aside", "no, as before"),
        State::No => badge("fail", "no"),
        State::Unknown => html! { "–" },
    }
}

fn checks(patch: &PatchRecord) -> Markup {
    let mut noted: Vec<(&String, &Check)> = patch.checks.iter().collect();
    noted.retain(|(_, check)| check.state != CheckState::Clean);
    noted.sort_by_key(|(_, check)| check.state != CheckState::Bad);
    html! {
        @for (name, check) in &noted {
            div {
                (word(check.state)) " "
                @if check.state == CheckState::Unknown { (name) ": " }
                (check.summary)
            }
        }
        @if patch.checks.is_empty() { "–" } @else if noted.is_empty() { "clean" }
    }
}

fn word(state: CheckState) -> Markup {
    match state {
        CheckState::Clean => badge("ok", "clean"),
        CheckState::Info => badge("aside", "note"),
        CheckState::Advice => badge("aside", "advice"),
        CheckState::Bad => badge("fail", "bad"),
        CheckState::Unknown => badge("lost", "no result"),
    }
}

fn tests(patch: &PatchRecord) -> Markup {
    let changes = [
        ("fail", format!("breaks {}", patch.breaks.len()), &patch.breaks),
        ("ok", format!("{} more pass", patch.fixes.len()), &patch.fixes),
    ];
    let dots = |names: &[String]| if names.len() > NAMED { ", .." } else { "" };
    html! {
        @for (tone, word, names) in changes.iter().filter(|(.., names)| !names.is_empty()) {
            div {
                (badge(tone, word))
                " " (names[..names.len().min(NAMED)].join(", ")) (dots(names))
            }
        }
        @if changes.iter().all(|(.., names)| names.is_empty()) {
            @if patch.boots == State::Unknown { "–" } @else { "as before" }
        }
    }
}

/// What it was compared with, and what fails there as well.
fn beside(page: &Page<'_>, one: &SeriesRecord) -> Markup {
    let before = &one.failed_before;
    html! {
        p.meta {
            @if one.base.is_empty() { "The kernel without the series was not tested." }
            @else { "Compared with " (names::kernel(page.story.run, &one.base)) ", without the series." }
            @if !before.is_empty() {
                " Not new, they fail there as well: " (before[..before.len().min(LISTED)].join(", ")) "."
            }
        }
    }
}

fn detail(page: &Page<'_>, at: usize, one: &SeriesRecord, patch: &PatchRecord) -> Markup {
    let id = &anchor(at, patch.number)[1..];
    let (problems, info) = (series::problems(patch, NAMED), &patch.info);
    let facts = [("author", &info.author), ("message ID", &info.message_id), ("commit", &info.commit)];
    let facts = facts.map(|(name, value)| (name, &value[..]));
    html! {
        article.detail id=(id) tabindex="-1" aria-labelledby={ "h" (id) } {
            p.close { a href="#matrix" { "Close" } }
            h3 id={ "h" (id) } { (series::title(one, patch)) }
            @for problem in &problems { p.reason { (problem) } }
            @if problems.is_empty() { p { (series::result(patch)) } }
            @if let Some(other) = same_as(page, patch) {
                p { "It was not booted: its kernel is the same as that of " (other) "." }
            }
            (output(page, one, patch))
            (list(page, patch, "Breaks", "", &patch.breaks))
            (list(page, patch, "Lets", " pass", &patch.fixes))
            @if !patch.checks.is_empty() {
                h4 { "Checks" }
                @for (name, check) in &patch.checks { (check_result(name, check)) }
            }
            h4 { "The patch" }
            (pairs(facts.into_iter()))
            @for file in info.files.iter().take(LISTED) { code { (file) } br; }
            @if !info.commit.is_empty() { (command("Show it", &format!("git show {}", info.commit))) }
            (command("Repeat", &page.story.run.command.join(" ")))
        }
    }
}

/// The output of the stage that failed, with its lines.
fn output(page: &Page<'_>, one: &SeriesRecord, patch: &PatchRecord) -> Markup {
    let run = page.story.run;
    let kernel = if patch.applies == State::No { &one.kernel } else { &patch.kernel };
    let failed = [patch.applies, patch.builds].contains(&State::No) && !patch.inherited;
    let stage = page.stages.iter().find(|stage| stage.cell.kernel == *kernel && failed);
    let guest = run.boots.iter().position(|boot| boot.kernel == *kernel && patch.boots == State::No);
    html! {
        @if let Some(stage) = stage { (lines("Output", &cut(&stage.cell.reason, OUTPUT))) }
        @if let Some(guest) = guest { p { (linked(page.guest(guest), "Its guest and console")) } }
    }
}

fn list(page: &Page<'_>, patch: &PatchRecord, before: &str, behind: &str, names: &[String]) -> Markup {
    let run = page.story.run;
    let is = |cell: &Cell, name: &str| {
        cell.kernel == patch.kernel
            && (cell.path() == name || format!("{}: {}", cell.suite, cell.path()) == name)
    };
    html! {
        @if !names.is_empty() {
            h4 { (before) " " (names.len()) " test" @if names.len() > 1 { "s" } (behind) }
            ul {
                @for name in names.iter().take(LISTED) {
                    @let at = run.cells.iter().position(|cell| is(cell, name));
                    li { (linked(at.and_then(|at| page.anchor(at)), name)) }
                }
            }
            (more(names.len(), LISTED, "tests"))
        }
    }
}

fn check_result(name: &str, check: &Check) -> Markup {
    html! {
        p { (word(check.state)) " " strong { (name) } ": " (check.summary) }
        @if !check.lines.is_empty() { (lines(name, &cut(&check.lines.join("\n"), OUTPUT))) }
    }
}
