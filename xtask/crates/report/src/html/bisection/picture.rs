// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bisection as a picture: the history from left to right, and the tested kernels from top to bottom in the
//! order of testing. The thick part of a row is the range that is left: it narrows down to the culprit.

use maud::{Markup, html};

use crate::html::bisection::class;
use vmtest_record::bisection::{Bisection, Step, runs};

/// Widths of the picture: for a screen, and for a phone. The style shows one of them.
const WIDTHS: [(&str, usize); 2] = [("wide", 760), ("narrow", 360)];
/// Margin at its sides, height of a row, and height of the header above the first row.
const SIDE: f64 = 14.0;
const ROW: usize = 28;
const HEAD: usize = 34;
/// Most rows that are drawn.
const MOST: usize = 60;
/// Half the size of a mark.
const HALF: f64 = 6.5;

/// The picture; a sentence if the record does not contain the positions of its kernels.
pub(super) fn figure(report: &Bisection) -> Markup {
    let rows: Vec<&[Step]> = runs(&report.path).collect();
    let furthest = report.path.iter().filter_map(|step| step.place).max();
    html! {
        @if let Some(furthest) = furthest {
            figure {
                @for (name, width) in WIDTHS {
                    @let last = furthest.max(report.history).max(1);
                    (Drawing { report, last, width: width as f64 }.whole(name, &rows))
                }
                (caption(report, rows.len()))
            }
        } @else if !rows.is_empty() {
            p.meta { "The record does not say where in the history these are." }
        }
    }
}

struct Drawing<'a> {
    report: &'a Bisection,
    /// The rightmost position.
    last: usize,
    width: f64,
}

/// The verdict of kernels that behave like the old endpoint.
fn old(report: &Bisection) -> &'static str {
    if report.find_fix { "bad" } else { "good" }
}

fn place(report: &Bisection, name: &str) -> Option<usize> {
    report.path.iter().find(|step| step.name == name)?.place
}

fn culprit(report: &Bisection) -> Option<(usize, &str)> {
    let first = report.first.as_ref()?;
    Some((place(report, &first.name)?, &first.name))
}

fn one_digit(value: f64) -> String {
    format!("{value:.1}")
}

impl Drawing<'_> {
    fn x(&self, place: usize) -> f64 {
        SIDE + (self.width - 2.0 * SIDE) * place as f64 / self.last as f64
    }

    /// Where to put the text of a mark: on the side with more room.
    fn beside(&self, x: f64, away: f64) -> (&'static str, String) {
        let (anchor, at) = if x > self.width * 0.5 { ("end", x - away) } else { ("start", x + away) };
        (anchor, one_digit(at))
    }

    fn whole(&self, name: &str, rows: &[&[Step]]) -> Markup {
        let height = HEAD + ROW * rows.len().min(MOST) + if culprit(self.report).is_some() { 24 } else { 4 };
        let asked = |row: usize| rows.iter().take(row + 1).map(|run| run.len()).sum::<usize>();
        let label = format!(
            "{} kernels in the order of testing, between the old end on the left and the new end on the right. \
             {}. The table says the same.",
            rows.len(),
            self.report.summary
        );
        html! {
            svg class={ "bisection " (name) } viewBox={ "0 0 " (self.width) " " (height) } role="img" aria-label=(label) {
                text.end x=(SIDE) y="13" { "old end" }
                text.end x=(self.width - SIDE) y="13" text-anchor="end" { "new end" }
                (self.answer(height))
                @for (row, run) in rows.iter().take(MOST).enumerate() {
                    (self.row(HEAD + ROW * row + ROW / 2, run, &self.report.path[..asked(row)]))
                }
            }
        }
    }

    /// The range where the culprit can be after these answers: after the last kernel like the old endpoint,
    /// up to the first that is not. `None` if that is not a range: with branches, or after an answer that was
    /// withdrawn.
    fn left(&self, answers: &[Step]) -> Option<(usize, usize)> {
        let told = |like_old: bool| {
            let judged = answers.iter().filter(|step| matches!(&step.verdict[..], "good" | "bad"));
            judged
                .filter(move |step| (step.verdict == old(self.report)) == like_old)
                .filter_map(|step| step.place)
        };
        let (from, to) = (told(true).max().unwrap_or(0), told(false).min().unwrap_or(self.last));
        (from < to).then_some((from, to))
    }

    /// Draws the culprit, or its candidates, through all rows.
    fn answer(&self, height: usize) -> Markup {
        let hides = self.report.among.iter().filter_map(|one| place(self.report, &one.name));
        let hides = hides.clone().min().zip(hides.max()).map(|(from, to)| {
            let left = self.x(from) - HALF - 3.0;
            (one_digit(left), one_digit(self.x(to) + HALF + 3.0 - left))
        });
        html! {
            @if let Some((place, name)) = culprit(self.report) {
                @let x = one_digit(self.x(place));
                @let (anchor, at) = self.beside(self.x(place), 0.0);
                line.culprit x1=(x) x2=(x) y1=(HEAD - 8) y2=(height - 18) {}
                text.culprit x=(at) y=(height - 4) text-anchor=(anchor) { (self.report.looked_for) ": " (name) }
            }
            @if let Some((left, width)) = hides {
                rect.hides x=(left) y=(HEAD - 8) width=(width) height=(height - HEAD + 6) {}
            }
        }
    }

    fn row(&self, y: usize, run: &[Step], answers: &[Step]) -> Markup {
        html! {
            line.axis x1=(SIDE) x2=(self.width - SIDE) y1=(y) y2=(y) {}
            @if let Some((from, to)) = self.left(answers) {
                line.left x1=(one_digit(self.x(from))) x2=(one_digit(self.x(to))) y1=(y) y2=(y) {}
            }
            @if let Some((step, place)) = run.first().and_then(|step| Some((step, step.place?))) {
                @let x = self.x(place);
                @let (anchor, at) = self.beside(x, HALF + 5.0);
                (mark(class(&step.verdict), x, y as f64))
                text x=(at) y=(y - 6) text-anchor=(anchor) {
                    tspan.word { (step.verdict) } " " (step.name) @if run.len() > 1 { " ×" (run.len()) }
                }
            }
        }
    }
}

fn caption(report: &Bisection, rows: usize) -> Markup {
    let new = if report.find_fix { "good" } else { "bad" };
    let mut like_old = report.path.iter().filter(|step| step.verdict == old(report));
    let strays = culprit(report)
        .is_some_and(|(first, _)| like_old.any(|step| step.place.is_some_and(|place| place > first)));
    html! {
        figcaption.meta {
            @for (verdict, word) in [("good", "good"), ("bad", "bad"), ("skip", "untestable")] {
                svg.bisection.key viewBox="0 0 16 16" aria-hidden="true" { (mark(class(verdict), 8.0, 8.0)) }
                (word) " \u{a0} "
            }
            br;
            "One row for each kernel, in the order of testing. The thick line is where the first " (new)
            " one can still be after that answer."
            @if rows > MOST { " " (rows - MOST) " more rows are in the table." }
            @if strays {
                " What is " (old(report))
                " to the right of the culprit is on a branch without it, or was so by chance."
            }
        }
    }
}

/// Shapes distinguish the marks without colours: a disc, a square, an empty diamond.
fn mark(tone: &str, x: f64, y: f64) -> Markup {
    let far = HALF + 1.0;
    let diamond =
        || format!("M{:.1} {y}L{x:.1} {:.1}L{:.1} {y}L{x:.1} {:.1}Z", x - far, y - far, x + far, y + far);
    let (left, side) = (one_digit(x - HALF), 2.0 * HALF);
    html! {
        @match tone {
            "ok" => circle.ok cx=(one_digit(x)) cy=(y) r=(HALF) {},
            "fail" => rect.fail x=(left) y=(y - HALF) width=(side) height=(side) {},
            _ => path.unknown d=(diamond()) {},
        }
    }
}
