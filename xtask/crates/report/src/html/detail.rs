// SPDX-License-Identifier: MIT OR Apache-2.0
//! The details of one cell: reason, expected and actual values, kernel messages at the time, the test's own
//! log.

use std::fmt::Write as _;

use crate::escape::{cut, xml as escape};
use crate::html::{MAX_BYTES, Page, compared, console, guest, tone};
use vmtest_base::error::Class;
use vmtest_record::findings;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{BootRecord, Cell, RunResult, SplatRecord};

/// Most bytes of a log that are shown.
const LOG_BYTES: usize = 16 * 1024;
/// Most expectations that are listed.
const MAX_UNMET: usize = 20;

pub(super) fn article(text: &mut String, page: &Page<'_>, at: usize) {
    let run = page.story.run;
    let cell = &run.cells[at];
    let word = cell.outcome.name();
    let _ = writeln!(
        text,
        "<article class=\"detail\" id=\"c{at}\" tabindex=\"-1\" aria-labelledby=\"h{at}\">\n\
         <p class=\"close\"><a href=\"#matrix\">Close</a></p>\n\
         <h3 id=\"h{at}\"><span class=\"badge {}\">{word}</span> {}</h3>\n<p class=\"meta\">on <strong>{}\
         </strong>{}</p>",
        tone(findings::verdict(cell), cell.outcome.name()),
        escape(&cell.path()),
        escape(&cell.kernel),
        facts(cell)
    );
    let reason = if cell.reason.is_empty() { "It passed." } else { &cell.reason };
    let _ = writeln!(text, "<p class=\"reason\">{}</p>", escape(reason));
    if let Some(change) = compared::of_cell(page.story, cell) {
        let was = if change.was.is_empty() { "was not there" } else { &change.was };
        let _ = writeln!(
            text,
            "<p class=\"was\">In the earlier run: {} ({})</p>",
            escape(was),
            change.change.label()
        );
    }
    if text.len() > MAX_BYTES {
        text.push_str("<p class=\"meta\">The page is full: the rest is in run.json.</p>\n</article>\n");
        return;
    }
    unmet(text, cell);
    tries(text, cell);
    splats(text, run, cell);
    if !cell.measured.is_empty() {
        let _ = writeln!(text, "<p>Measured: {}</p>", escape(&cell.measured));
    }
    if !cell.log.is_empty() {
        let log = cut(&cell.log, LOG_BYTES);
        let _ = writeln!(text, "<h4>Log of the test</h4>\n<pre tabindex=\"0\">{}</pre>", escape(&log));
    }
    guests(text, page, cell);
    text.push_str("</article>\n");
}

fn facts(cell: &Cell) -> String {
    let mut facts = Vec::new();
    for (name, value) in
        [("variant", &cell.variant), ("boot", &cell.boot), ("on", &cell.accel), ("suite", &cell.suite)]
    {
        if !value.is_empty() {
            facts.push(format!("{name} {}", escape(value)));
        }
    }
    facts.push(format!("class {}: {}", cell.class.code(), escape(cell.class.label())));
    if cell.enforced == Some(false) {
        facts.push("<strong>not enforced by this guest</strong>, see its conditions".to_owned());
    }
    if !cell.counts() {
        facts.push("does not count".to_owned());
    }
    if cell.attempts > 1 {
        facts.push(format!("ran {} times", cell.attempts));
    }
    if let Some(was) = cell.was {
        facts.push(format!("was {} in the column before", was.name()));
    }
    if cell.duration_ms > 0 {
        facts.push(format!("took {} ms", cell.duration_ms));
    }
    format!(" · {}", facts.join(" · "))
}

fn unmet(text: &mut String, cell: &Cell) {
    if cell.unmet.is_empty() {
        return;
    }
    text.push_str("<table class=\"plain unmet\"><caption>Expected and seen</caption>\n<thead><tr>\
    <th scope=\"col\">what</th><th scope=\"col\">expected</th><th scope=\"col\">seen</th></tr></thead>\n<tbody>\n");
    for one in cell.unmet.iter().take(MAX_UNMET) {
        let _ = writeln!(
            text,
            "<tr><th scope=\"row\">{}</th><td class=\"expected\"><code>{}</code></td><td class=\"seen\">\
            <code>{}</code></td></tr>",
            escape(&one.what),
            escape(&one.expected),
            escape(&one.seen)
        );
    }
    text.push_str("</tbody></table>\n");
    if cell.unmet.len() > MAX_UNMET {
        let _ = writeln!(text, "<p>and {} more in run.json</p>", cell.unmet.len() - MAX_UNMET);
    }
}

fn tries(text: &mut String, cell: &Cell) {
    if cell.tries.is_empty() {
        return;
    }
    text.push_str("<table class=\"plain\"><caption>Attempts</caption>\n<tbody>\n");
    for one in &cell.tries {
        let _ = writeln!(
            text,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>",
            one.number,
            one.outcome.name(),
            escape(&one.reason)
        );
    }
    text.push_str("</tbody></table>\n");
}

/// Kernel warnings while it ran. A test that never ran because of a death shows that death.
fn splats(text: &mut String, run: &RunResult, cell: &Cell) {
    let path = cell.path();
    let lost = matches!(cell.outcome, Outcome::Crash | Outcome::Timeout | Outcome::Missing | Outcome::Notrun);
    let died = |splat: &SplatRecord| lost && splat.severity == "death" && findings::verdict(cell).is_bad();
    let here = |splat: &&SplatRecord| {
        splat.variant_id() == cell.variant_id() && (splat.during == path || died(splat))
    };
    for splat in run.splats.iter().filter(here) {
        console::splat(text, splat);
    }
}

/// The guests that it ran in: where their time went, and the final output of those that were lost.
fn guests(text: &mut String, page: &Page<'_>, cell: &Cell) {
    let same = |boot: &&(usize, &BootRecord)| boot.1.column().any_boot() == cell.column().any_boot();
    let run = page.story.run;
    let boots: Vec<(usize, &BootRecord)> = run.boots.iter().enumerate().collect();
    let lost = matches!(cell.outcome, Outcome::Crash | Outcome::Timeout);
    for (at, boot) in boots.iter().filter(same) {
        let attempt = boot.attempt.map_or_else(String::new, |attempt| format!(", attempt {attempt}"));
        let class = boot.class;
        if lost && class != Class::Pass {
            last_words(text, run, boot);
        }
        if findings::verdict(cell).is_bad() {
            guest::times(text, boot);
        }
        let _ = writeln!(
            text,
            "<p><a href=\"#g{at}\">Its guest{attempt}: {}, console and conditions</a></p>",
            escape(class.label())
        );
    }
}

/// The queries before a guest was killed, and the end of its console if there is no warning to show.
fn last_words(text: &mut String, run: &RunResult, boot: &BootRecord) {
    if !boot.before_kill.is_empty() {
        let said = escape(&boot.before_kill.join("\n"));
        let _ = writeln!(text, "<h4>State before it was killed</h4>\n<pre tabindex=\"0\">{said}</pre>");
    }
    let complained = run.splats.iter().any(|splat| splat.variant_id() == boot.variant_id());
    if !complained && !boot.console_tail.is_empty() {
        let _ = writeln!(
            text,
            "<h4>End of its console</h4>\n{}",
            console::excerpt(&boot.console_tail.join("\n"))
        );
    }
}
