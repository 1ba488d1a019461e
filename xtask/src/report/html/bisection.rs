// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bisection as a picture: the history as a line, each kernel that was asked as a mark on it, in the order of asking.

use std::fmt::Write as _;

use crate::report::bisect::Report;
use crate::report::escape::xml as escape;

/// One kernel that was asked.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Its name.
    pub name: String,
    /// Its subject; empty where it has none.
    pub subject: String,
    /// `good`, `bad`, `skip`.
    pub verdict: String,
    /// Why.
    pub why: String,
    /// Why it was asked.
    pub purpose: String,
    /// Its place in the history, from 0 at the old end; `None` where the record does not say.
    pub place: Option<usize>,
}

/// A bisection that came to its end.
#[derive(Debug, Clone)]
pub struct Bisection {
    /// What it came to.
    pub report: Report,
    /// Every kernel that was asked, in order.
    pub probes: Vec<Probe>,
}

/// Width of the picture, and of a row of it.
const WIDTH: usize = 720;
const ROW: usize = 22;
/// Rows that are drawn.
const MOST: usize = 60;

/// The picture, and the same as a table.
pub(super) fn section(text: &mut String, bisection: &Bisection) {
    let Bisection { report, probes } = bisection;
    let tone = if report.answer == "found" { "ok" } else { "dead" };
    let _ = writeln!(
        text,
        "<section id=\"bisection\" aria-labelledby=\"bisection-title\">\n<h2 id=\"bisection-title\">\
        <span class=\"badge {tone}\">{}</span> {}</h2>\n<p><strong>{}</strong></p>",
        escape(&report.answer),
        escape(&report.question),
        escape(&report.summary)
    );
    if let Some(first) = &report.first {
        for value in [&first.commit, &first.subject, &first.author, &first.date] {
            if !value.is_empty() {
                let _ = writeln!(text, "<p class=\"meta\">{}</p>", escape(value));
            }
        }
    }
    picture(text, report, probes);
    text.push_str(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Kernels that were asked\">\
    <table class=\"plain\"><caption>Kernels that were asked, in order</caption><thead><tr>\
    <th scope=\"col\">kernel</th><th scope=\"col\">verdict</th><th scope=\"col\">asked as</th>\
    <th scope=\"col\">why</th></tr></thead>\n<tbody>\n",
    );
    for probe in probes.iter().take(MOST) {
        let subject = if probe.subject.is_empty() { String::new() } else { format!(" ({})", probe.subject) };
        let _ = writeln!(
            text,
            "<tr><th scope=\"row\">{}{}</th><td><span class=\"badge {}\">{}</span></td><td>{}</td><td>{}</td></tr>",
            escape(&probe.name),
            escape(&subject),
            class(&probe.verdict),
            escape(&probe.verdict),
            escape(&probe.purpose),
            escape(&probe.why)
        );
    }
    text.push_str("</tbody></table></div>\n</section>\n");
}

fn class(verdict: &str) -> &'static str {
    match verdict {
        "good" => "ok",
        "bad" => "fail",
        _ => "aside",
    }
}

fn picture(text: &mut String, report: &Report, probes: &[Probe]) {
    let last = probes.iter().filter_map(|probe| probe.place).max().unwrap_or(0).max(report.history).max(1);
    if probes.iter().all(|probe| probe.place.is_none()) {
        text.push_str("<p class=\"meta\">The record does not say where in the history these are.</p>\n");
        return;
    }
    let rows = probes.len().min(MOST);
    let height = ROW * (rows + 1);
    let x = |place: usize| 12.0 + (WIDTH as f64 - 24.0) * place as f64 / last as f64;
    let _ = writeln!(
        text,
        "<figure><svg class=\"bisection\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{} kernels asked between the old end on the left and the new end on the right; \
         the table below says the same\">",
        rows
    );
    for (row, probe) in probes.iter().take(MOST).enumerate() {
        let y = ROW * row + ROW;
        let _ =
            writeln!(text, "<line class=\"axis\" x1=\"12\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>", WIDTH - 12);
        let Some(place) = probe.place else { continue };
        let (cx, tone) = (x(place), class(&probe.verdict));
        let anchor = if cx > WIDTH as f64 * 0.7 { "end" } else { "start" };
        let shift = if anchor == "end" { -11.0 } else { 11.0 };
        let mark = match tone {
            "ok" => format!("<circle class=\"ok\" cx=\"{cx:.1}\" cy=\"{y}\" r=\"6\"/>"),
            "dead" => format!(
                "<rect class=\"fail\" x=\"{:.1}\" y=\"{}\" width=\"12\" height=\"12\"/>",
                cx - 6.0,
                y - 6
            ),
            _ => format!("<circle class=\"aside\" cx=\"{cx:.1}\" cy=\"{y}\" r=\"5\"/>"),
        };
        let _ = writeln!(
            text,
            "{mark}<text x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{} {}</text>",
            cx + shift,
            y - 3,
            escape(&probe.name),
            escape(&probe.verdict)
        );
    }
    text.push_str(
        "</svg><figcaption class=\"meta\">Old end left, new end right; from above in the \
         order of asking. Round: good; square: bad.</figcaption></figure>\n",
    );
}
