// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bisection: the answer, the picture, every kernel that was tested, and the evidence of both sides. A
//! separate page, or a part of the page of a run.

mod picture;

use maud::{Markup, html};

use crate::html::{SMALL, badge, began, bounded, command, document, heads, lines, more};
use vmtest_record::bisection::{Bisection, Step, Subject, runs};

/// A page about the bisection only.
pub fn page(report: &Bisection) -> String {
    let body = html! {
        header {
            h1 class=(tone(report)) { (report.summary) }
            p.meta {
                (badge(tone(report), &report.answer)) " " (report.question) " · exit " (report.exit_code.code())
                br; (began(&report.run)) " run " (report.run)
            }
            (command("Repeat", &report.command))
            @if !report.resume.is_empty() { (command("Resume", &report.resume)) }
        }
        main {
            section #bisection aria-label="The way to it" { (body(report)) }
            p.meta { "Everything that it saw: " code { (report.directory) } }
        }
    };
    document(&format!("{} ({})", report.answer, report.looked_for), &body)
}

/// A section of another page.
pub(super) fn section(report: &Bisection) -> Markup {
    html! {
        section #bisection aria-labelledby="bisection-title" {
            h2 #bisection-title { (badge(tone(report), &report.answer)) " " (report.question) }
            p { strong { (report.summary) } }
            (body(report))
        }
    }
}

fn tone(report: &Bisection) -> &'static str {
    if report.answer == "found" { "ok" } else { "fail" }
}

/// The CSS class of a verdict's colour; its word is always shown next to it.
fn class(verdict: &str) -> &'static str {
    match verdict {
        "good" => "ok",
        "bad" => "fail",
        _ => "aside",
    }
}

fn body(report: &Bisection) -> Markup {
    let first = report.first.iter();
    let facts = first.flat_map(|one| [("commit", &one.commit), ("author", &one.author), ("date", &one.date)]);
    let facts: Vec<String> =
        facts.filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name} {value}")).collect();
    let candidate = |one: &Subject| {
        html! { li { (badge(class(&one.verdict), &one.verdict)) " " (one.line()) div.reason { (one.why) } } }
    };
    let (among, shown) = bounded(report.among.iter().map(candidate), SMALL);
    html! {
        @if !facts.is_empty() { p { (facts.join(" · ")) } }
        @if !report.among.is_empty() {
            p { "One of these is it:" }
            ul { (among) }
            (more(report.among.len(), shown, "candidates"))
        }
        (picture::figure(report))
        @for one in report.before.iter().chain(&report.after) { (evidence(one)) }
        (tested(report))
        @if !report.notes.is_empty() {
            h3 { "Worth knowing" }
            ul { @for note in &report.notes { li { (note) } } }
        }
    }
}

/// One side of the answer: its reason, and how to reproduce it.
fn evidence(one: &Subject) -> Markup {
    let times = match one.runs {
        [1, _] => "1 run".to_owned(),
        [runs, bad] => format!("{runs} runs, {bad} of them bad"),
    };
    html! {
        @if !one.verdict.is_empty() {
            article.evidence {
                h3 { (badge(class(&one.verdict), &one.verdict)) " " (one.line()) }
                p.reason { (one.why) }
                @if !one.again.is_empty() { (command("See it again", &one.again)) }
                @if !one.evidence().is_empty() {
                    details {
                        summary { "End of its console" }
                        (lines("End of its console", &one.evidence().join("\n")))
                    }
                }
                p.meta { (times) ", in " code { (one.directory) } }
            }
        }
    }
}

fn tested(report: &Bisection) -> Markup {
    let row = |run: &[Step]| {
        html! {
            @if let Some(step) = run.first() {
                tr {
                    th scope="row" { (step.name) @if !step.subject.is_empty() { " (" (step.subject) ")" } }
                    td data-label="verdict" { (badge(class(&step.verdict), &step.verdict)) }
                    td data-label="runs" { (run.len()) }
                    td data-label="tested for" { (step.purpose) @if step.cached { ", known before" } }
                    td data-label="why" { (step.why) }
                }
            }
        }
    };
    let (rows, shown) = bounded(runs(&report.path).map(row), 3 * SMALL);
    html! {
        @if !report.path.is_empty() {
            table.series {
                caption { "Tested kernels, in order" }
                (heads(&["kernel", "verdict", "runs", "tested for", "why"]))
                tbody { (rows) }
            }
            (more(runs(&report.path).count(), shown, "kernels"))
        }
    }
}
