// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bisection as a picture: the history from left to right, and the tested kernels from top to bottom in the
//! order of testing. The thick part of a row is the range that is left: it narrows down to the culprit.

use std::fmt::Write as _;

use crate::escape::xml as escape;
use crate::html::bisection::class;
use vmtest_record::bisection::{Bisection, Step, runs};

/// Width of the picture, margin at its sides, height of a row, and height of the header above the first row.
const WIDTH: usize = 760;
const SIDE: f64 = 14.0;
const ROW: usize = 28;
const HEAD: usize = 34;
/// Most rows that are drawn.
const MOST: usize = 60;
/// Half the size of a mark.
const HALF: f64 = 6.5;

/// The picture; a sentence if the record does not contain the positions of its kernels.
pub(super) fn figure(text: &mut String, report: &Bisection) {
    let rows: Vec<&[Step]> = runs(&report.path).collect();
    if rows.is_empty() {
        return;
    }
    let Some(furthest) = report.path.iter().filter_map(|step| step.place).max() else {
        text.push_str("<p class=\"meta\">The record does not say where in the history these are.</p>\n");
        return;
    };
    let drawing = Drawing { report, last: furthest.max(report.history).max(1) };
    let shown = rows.len().min(MOST);
    let height = HEAD + ROW * shown + if drawing.culprit().is_some() { 24 } else { 4 };
    let _ = writeln!(
        text,
        "<figure><svg class=\"bisection\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{} kernels \
         in the order of asking, between the old end on the left and the new end on the right. {}. The table says \
         the same.\">",
        rows.len(),
        escape(&report.summary)
    );
    let _ = writeln!(
        text,
        "<text class=\"end\" x=\"{SIDE}\" y=\"13\">old end</text>\
         <text class=\"end\" x=\"{}\" y=\"13\" text-anchor=\"end\">new end</text>",
        WIDTH as f64 - SIDE
    );
    drawing.answer(text, height);
    for (row, run) in rows.iter().take(MOST).enumerate() {
        let asked: usize = rows.iter().take(row + 1).map(|run| run.len()).sum();
        drawing.row(text, HEAD + ROW * row + ROW / 2, run, &report.path[..asked]);
    }
    text.push_str("</svg>");
    drawing.caption(text, rows.len());
    text.push_str("</figure>\n");
}

struct Drawing<'a> {
    report: &'a Bisection,
    /// The rightmost position.
    last: usize,
}

impl Drawing<'_> {
    fn x(&self, place: usize) -> f64 {
        SIDE + (WIDTH as f64 - 2.0 * SIDE) * place as f64 / self.last as f64
    }

    /// The verdict of kernels that behave like the old endpoint.
    fn old(&self) -> &'static str {
        if self.report.find_fix { "bad" } else { "good" }
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.report.path.iter().find(|step| step.name == name)?.place
    }

    fn culprit(&self) -> Option<(usize, &str)> {
        let first = self.report.first.as_ref()?;
        Some((self.place(&first.name)?, &first.name))
    }

    /// The range where the culprit can be after these answers: after the last kernel like the old endpoint,
    /// up to the first that is not. `None` if that is not a range: with branches, or after an answer that was
    /// withdrawn.
    fn left(&self, answers: &[Step]) -> Option<(usize, usize)> {
        let told = |like_old: bool| {
            let judged = answers.iter().filter(|step| matches!(&step.verdict[..], "good" | "bad"));
            judged.filter(move |step| (step.verdict == self.old()) == like_old).filter_map(|step| step.place)
        };
        let (from, to) = (told(true).max().unwrap_or(0), told(false).min().unwrap_or(self.last));
        (from < to).then_some((from, to))
    }

    /// Draws the culprit, or its candidates, through all rows.
    fn answer(&self, text: &mut String, height: usize) {
        if let Some((place, name)) = self.culprit() {
            let (x, bottom) = (self.x(place), height - 18);
            let (anchor, at) = beside(x, 0.0);
            let _ = writeln!(
                text,
                "<line class=\"culprit\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{bottom}\"/>\
                 <text class=\"culprit\" x=\"{at:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}: {}</text>",
                HEAD - 8,
                height - 4,
                escape(&self.report.looked_for),
                escape(name)
            );
        }
        let hides = self.report.among.iter().filter_map(|one| self.place(&one.name));
        let (from, to) = (hides.clone().min(), hides.max());
        if let (Some(from), Some(to)) = (from, to) {
            let (left, right) = (self.x(from) - HALF - 3.0, self.x(to) + HALF + 3.0);
            let _ = writeln!(
                text,
                "<rect class=\"hides\" x=\"{left:.1}\" y=\"{}\" width=\"{:.1}\" height=\"{}\"/>",
                HEAD - 8,
                right - left,
                height - HEAD + 6
            );
        }
    }

    fn row(&self, text: &mut String, y: usize, run: &[Step], answers: &[Step]) {
        let _ = writeln!(
            text,
            "<line class=\"axis\" x1=\"{SIDE}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>",
            WIDTH as f64 - SIDE
        );
        if let Some((from, to)) = self.left(answers) {
            let (from, to) = (self.x(from), self.x(to));
            let _ = writeln!(
                text,
                "<line class=\"left\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{y}\" y2=\"{y}\"/>"
            );
        }
        let Some((step, place)) = run.first().and_then(|step| Some((step, step.place?))) else { return };
        let x = self.x(place);
        mark(text, class(&step.verdict), x, y as f64);
        let (anchor, at) = beside(x, HALF + 5.0);
        let times = if run.len() > 1 { format!(" ×{}", run.len()) } else { String::new() };
        let _ = writeln!(
            text,
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"{anchor}\"><tspan class=\"word\">{}</tspan> {}{times}</text>",
            y - 6,
            escape(&step.verdict),
            escape(&step.name)
        );
    }

    fn caption(&self, text: &mut String, rows: usize) {
        let new = if self.report.find_fix { "good" } else { "bad" };
        text.push_str("<figcaption class=\"meta\">");
        for (verdict, word) in [("good", "good"), ("bad", "bad"), ("skip", "untestable")] {
            text.push_str("<svg class=\"bisection key\" viewBox=\"0 0 16 16\" aria-hidden=\"true\">");
            mark(text, class(verdict), 8.0, 8.0);
            let _ = write!(text, "</svg>{word} &nbsp; ");
        }
        let _ = write!(
            text,
            "<br>One row for each kernel, in the order of asking. The thick line is where the first {new} one can still be \
             after that answer."
        );
        if rows > MOST {
            let _ = write!(text, " {} more rows are in the table.", rows - MOST);
        }
        let like_old = self.report.path.iter().filter(|step| step.verdict == self.old());
        if let Some((first, _)) = self.culprit() {
            if like_old.filter_map(|step| step.place).any(|place| place > first) {
                let _ = write!(
                    text,
                    " What is {} to the right of the culprit is on a branch without it, or was so by chance.",
                    self.old()
                );
            }
        }
        text.push_str("</figcaption>");
    }
}

/// Shapes distinguish the marks without colours: a disc, a square, an empty diamond.
fn mark(text: &mut String, tone: &str, x: f64, y: f64) {
    let _ = match tone {
        "ok" => write!(text, "<circle class=\"ok\" cx=\"{x:.1}\" cy=\"{y}\" r=\"{HALF}\"/>"),
        "fail" => write!(
            text,
            "<rect class=\"fail\" x=\"{:.1}\" y=\"{:.1}\" width=\"{}\" height=\"{}\"/>",
            x - HALF,
            y - HALF,
            2.0 * HALF,
            2.0 * HALF
        ),
        _ => {
            let far = HALF + 1.0;
            write!(
                text,
                "<path class=\"unknown\" d=\"M{:.1} {y}L{x:.1} {:.1}L{:.1} {y}L{x:.1} {:.1}Z\"/>",
                x - far,
                y - far,
                x + far,
                y + far
            )
        }
    };
}

/// Where to put the text of a mark: on the side with more room.
fn beside(x: f64, away: f64) -> (&'static str, f64) {
    if x > WIDTH as f64 * 0.6 { ("end", x - away) } else { ("start", x + away) }
}
