// SPDX-License-Identifier: MIT OR Apache-2.0
//! A series: a row for each patch, and behind it what is known of the patch.

use maud::{Markup, html};

use crate::escape::cut;
use crate::html::{PATCHES, Page, badge, bounded, command, lines, more};
use crate::{names, series};
use vmtest_record::run::Cell;
use vmtest_record::series::{Check, CheckState, PatchRecord, SeriesRecord, State};

/// Most tests that a row names, and that the details of a patch list.
const NAMED: usize = 3;
const LISTED: usize = 60;
/// Most bytes of the output of a compiler, or of a check.
const OUTPUT: usize = 8 * 1024;

/// The tables, and the details of all patches. Nothing unless each patch was tested.
pub(super) fn section(page: &Page<'_>) -> Markup {
    let told: Vec<&SeriesRecord> = series::told(page.story.run).collect();
    let all = || {
        let patches = |(at, one): (usize, &&SeriesRecord)| -> Vec<(usize, usize)> {
            (0..one.patches.len()).map(|number| (at, number)).collect()
        };
        told.iter().enumerate().flat_map(patches)
    };
    let detail = |(at, number): (usize, usize)| detail(page, at, told[at], &told[at].patches[number]);
    let (details, shown) = bounded(all().map(detail), PATCHES);
    let linked: Vec<(usize, usize)> = all().take(shown).collect();
    html! {
        @if !told.is_empty() {
            section aria-labelledby="patches-title" {
                h2 #patches-title { "Patches" }
                @for (at, one) in told.iter().enumerate() {
                    @if told.len() > 1 { h3 { (one.name) " on " (one.kernel) " " (one.variant) } }
                    (table(one, at, &linked))
                    @if told.len() > 1 { p { (series::sentence(one)) } }
                    (beside(page, one))
                }
                (more(all().count(), shown, "patches with details"))
            }
            section aria-label="Details of patches" { (details) }
        }
    }
}

fn table(one: &SeriesRecord, at: usize, linked: &[(usize, usize)]) -> Markup {
    let checked = one.patches.iter().any(|patch| !patch.checks.is_empty());
    html! {
        table.series {
            thead {
                tr {
                    th scope="col" { "patch" }
                    th scope="col" { "builds" }
                    th scope="col" { "boots" }
                    @if checked { th scope="col" { "checks" } }
                    th scope="col" { "tests" }
                }
            }
            tbody {
                @for patch in &one.patches {
                    tr.bad[patch.is_bad()] {
                        th scope="row" {
                            @let name = format!("{}/{} {}", patch.number, one.patches.len(), patch.info.subject);
                            @if linked.contains(&(at, patch.number - 1)) {
                                a href={ "#p" (at) "-" (patch.number) } { (name) }
                            } @else { (name) }
                        }
                        td data-label="builds" { (builds(patch)) }
                        td data-label="boots" { (state(patch, patch.boots)) }
                        @if checked { td data-label="checks" { (checks(patch)) } }
                        td data-label="tests" { (tests(patch)) }
                    }
                }
            }
        }
    }
}

fn builds(patch: &PatchRecord) -> Markup {
    match patch.applies {
        State::No => badge("fail", "does not apply"),
        _ => state(patch, patch.builds),
    }
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
    let mut noted: Vec<&Check> = patch.checks.values().collect();
    noted.retain(|check| check.state != CheckState::Clean);
    noted.sort_by_key(|check| check.state != CheckState::Bad);
    html! {
        @for check in &noted { div { (badge(tone(check.state), word(check.state))) " " (check.summary) } }
        @if patch.checks.is_empty() { "–" }
        @else if noted.is_empty() { "clean" }
    }
}

fn tone(state: CheckState) -> &'static str {
    match state {
        CheckState::Clean => "ok",
        CheckState::Info | CheckState::Advice => "aside",
        CheckState::Bad => "fail",
        CheckState::Unknown => "lost",
    }
}

fn word(state: CheckState) -> &'static str {
    match state {
        CheckState::Clean => "clean",
        CheckState::Info => "note",
        CheckState::Advice => "advice",
        CheckState::Bad => "bad",
        CheckState::Unknown => "no result",
    }
}

fn tests(patch: &PatchRecord) -> Markup {
    let list = |names: &[String]| {
        let dots = if names.len() > NAMED { ", .." } else { "" };
        format!("{}{dots}", names[..names.len().min(NAMED)].join(", "))
    };
    html! {
        @if !patch.breaks.is_empty() {
            div { (badge("fail", &format!("breaks {}", patch.breaks.len()))) " " (list(&patch.breaks)) }
        }
        @if !patch.fixes.is_empty() {
            div { (badge("ok", &format!("{} more pass", patch.fixes.len()))) " " (list(&patch.fixes)) }
        }
        @if patch.breaks.is_empty() && patch.fixes.is_empty() {
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
    let id = format!("p{at}-{}", patch.number);
    let problems = series::problems(patch, NAMED);
    html! {
        article.detail id=(id) tabindex="-1" aria-labelledby={ "h" (id) } {
            p.close { a href="#matrix" { "Close" } }
            h3 id={ "h" (id) } { (series::title(one, patch)) }
            @for problem in &problems { p.reason { (problem) } }
            @if problems.is_empty() { p { (series::result(patch)) } }
            (output(page, one, patch))
            (list(page, patch, "Breaks", &patch.breaks))
            (list(page, patch, "Lets pass", &patch.fixes))
            @if !patch.checks.is_empty() {
                h4 { "Checks" }
                @for (name, check) in &patch.checks { (check_result(name, check)) }
            }
            h4 { "The patch" }
            table.plain {
                tbody {
                    @for (name, value) in [
                        ("subject", &patch.info.subject),
                        ("author", &patch.info.author),
                        ("message ID", &patch.info.message_id),
                        ("commit", &patch.info.commit),
                    ] {
                        @if !value.is_empty() { tr { th scope="row" { (name) } td { (value) } } }
                    }
                    @if !patch.info.files.is_empty() {
                        tr {
                            th scope="row" { "files" }
                            td { @for file in patch.info.files.iter().take(LISTED) { code { (file) } br; } }
                        }
                    }
                }
            }
            @if !patch.info.commit.is_empty() {
                (command("Show it", &format!("git show {}", patch.info.commit)))
            }
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
        @if let Some(guest) = guest.filter(|at| *at < page.guests) {
            p { a href={ "#g" (guest) } { "Its guest and console" } }
        }
    }
}

fn list(page: &Page<'_>, patch: &PatchRecord, title: &str, names: &[String]) -> Markup {
    let run = page.story.run;
    let is = |cell: &Cell, name: &str| {
        cell.kernel == patch.kernel
            && (cell.path() == name || format!("{}: {}", cell.suite, cell.path()) == name)
    };
    html! {
        @if !names.is_empty() {
            h4 { (title) " " (names.len()) " test" @if names.len() > 1 { "s" } }
            ul {
                @for name in names.iter().take(LISTED) {
                    @let place = run.cells.iter().position(|cell| is(cell, name)).and_then(|at| page.anchor(at));
                    li { @if let Some(place) = place { a href=(place) { (name) } } @else { (name) } }
                }
            }
            (more(names.len(), LISTED, "tests"))
        }
    }
}

fn check_result(name: &str, check: &Check) -> Markup {
    html! {
        p { (badge(tone(check.state), word(check.state))) " " strong { (name) } ": " (check.summary) }
        @if !check.lines.is_empty() { (lines(name, &cut(&check.lines.join("\n"), OUTPUT))) }
    }
}
