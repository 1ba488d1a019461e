// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bisection: the answer, the picture, every kernel that was tested, and the evidence of both sides. A
//! separate page, or a part of the page of a run.

mod picture;

use std::fmt::Write as _;

use crate::escape::xml as escape;
use crate::html::{began, begin};
use vmtest_record::bisection::{Bisection, Subject, runs};

/// Most rows of a table.
const MOST: usize = 400;

/// A page about the bisection only.
pub fn page(report: &Bisection) -> String {
    let mut text = String::new();
    begin(&mut text, &format!("vmtest: {} ({})", report.answer, report.looked_for));
    let _ = writeln!(
        text,
        "<header>\n<h1><span class=\"badge {}\">{}</span> {}</h1>\n<p class=\"verdict\">{}</p>\n\
         <p class=\"meta\">run {}{} · exit {}<br><code>{}</code></p>\n</header>\n<main>",
        tone(report),
        escape(&report.answer),
        escape(&report.summary),
        escape(&report.question),
        escape(&report.run),
        began(&report.run),
        report.exit_code.code(),
        escape(&report.command)
    );
    text.push_str("<section id=\"bisection\" aria-label=\"The way to it\">\n");
    body(&mut text, report);
    text.push_str("</section>\n");
    if !report.resume.is_empty() {
        let _ = writeln!(text, "<p>To resume: <code>{}</code></p>", escape(&report.resume));
    }
    let _ = writeln!(
        text,
        "<p class=\"meta\">Everything that it saw: <code>{}</code></p>\n</main>\n</body>\n</html>",
        escape(&report.directory)
    );
    text
}

/// A section of another page.
pub(super) fn section(text: &mut String, report: &Bisection) {
    let _ = writeln!(
        text,
        "<section id=\"bisection\" aria-labelledby=\"bisection-title\">\n<h2 id=\"bisection-title\">\
        <span class=\"badge {}\">{}</span> {}</h2>\n<p><strong>{}</strong></p>",
        tone(report),
        escape(&report.answer),
        escape(&report.question),
        escape(&report.summary)
    );
    body(text, report);
    text.push_str("</section>\n");
}

fn tone(report: &Bisection) -> &'static str {
    if report.answer == "found" { "ok" } else { "dead" }
}

/// The CSS class of a verdict's colour; its word is always shown next to it.
fn class(verdict: &str) -> &'static str {
    match verdict {
        "good" => "ok",
        "bad" => "fail",
        _ => "aside",
    }
}

fn body(text: &mut String, report: &Bisection) {
    if let Some(first) = &report.first {
        let facts = [("commit", &first.commit), ("author", &first.author), ("date", &first.date)];
        let known = facts.into_iter().filter(|(_, value)| !value.is_empty());
        let facts: Vec<String> = known.map(|(name, value)| format!("{name} {}", escape(value))).collect();
        if !facts.is_empty() {
            let _ = writeln!(text, "<p>{}</p>", facts.join(" · "));
        }
    }
    if !report.among.is_empty() {
        text.push_str("<p>One of these is it:</p>\n<ul>\n");
        for one in report.among.iter().take(MOST) {
            let _ = writeln!(
                text,
                "<li><span class=\"badge {}\">{}</span> {}<br><span class=\"why\">{}</span></li>",
                class(&one.verdict),
                escape(&one.verdict),
                escape(&one.line()),
                escape(&one.why)
            );
        }
        let _ = writeln!(text, "</ul>{}", more(report.among.len()));
    }
    picture::figure(text, report);
    for one in report.before.iter().chain(&report.after) {
        evidence(text, one);
    }
    asked(text, report);
    if !report.notes.is_empty() {
        text.push_str("<h3>Worth knowing</h3>\n<ul>\n");
        for note in &report.notes {
            let _ = writeln!(text, "<li>{}</li>", escape(note));
        }
        text.push_str("</ul>\n");
    }
}

/// One side of the answer: its reason, and how to reproduce it.
fn evidence(text: &mut String, one: &Subject) {
    if one.verdict.is_empty() {
        return;
    }
    let times = match one.runs {
        [1, _] => "1 run".to_owned(),
        [runs, bad] => format!("{runs} runs, {bad} of them bad"),
    };
    let _ = writeln!(
        text,
        "<article class=\"evidence\">\n<h3><span class=\"badge {}\">{}</span> {}</h3>\n\
         <p class=\"reason\">{}</p>\n<p class=\"meta\">{times}, in <code>{}</code></p>",
        class(&one.verdict),
        escape(&one.verdict),
        escape(&one.line()),
        escape(&one.why),
        escape(&one.directory)
    );
    if !one.again.is_empty() {
        let _ = writeln!(text, "<p>See it again: <code>{}</code></p>", escape(&one.again));
    }
    if !one.console.is_empty() {
        let _ = writeln!(
            text,
            "<details><summary>End of its console</summary><pre tabindex=\"0\">{}</pre></details>",
            escape(&one.console.join("\n"))
        );
    }
    text.push_str("</article>\n");
}

fn asked(text: &mut String, report: &Bisection) {
    if report.path.is_empty() {
        return;
    }
    text.push_str(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Tested kernels\">\
    <table class=\"plain\"><caption>Tested kernels, in order</caption><thead><tr>\
    <th scope=\"col\">kernel</th><th scope=\"col\">verdict</th><th scope=\"col\">runs</th>\
    <th scope=\"col\">asked as</th><th scope=\"col\">why</th></tr></thead>\n<tbody>\n",
    );
    let rows: Vec<_> = runs(&report.path).collect();
    for run in rows.iter().take(MOST) {
        let Some(step) = run.first() else { continue };
        let subject = if step.subject.is_empty() { String::new() } else { format!(" ({})", step.subject) };
        let known = if step.cached { ", known before" } else { "" };
        let _ = writeln!(
            text,
            "<tr><th scope=\"row\">{}{}</th><td><span class=\"badge {}\">{}</span></td><td>{}</td>\
             <td>{}{known}</td><td>{}</td></tr>",
            escape(&step.name),
            escape(&subject),
            class(&step.verdict),
            escape(&step.verdict),
            run.len(),
            escape(&step.purpose),
            escape(&step.why)
        );
    }
    let _ = writeln!(text, "</tbody></table></div>{}", more(rows.len()));
}

fn more(all: usize) -> String {
    if all > MOST { format!("<p>and {} more</p>", all - MOST) } else { String::new() }
}
