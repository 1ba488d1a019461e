// SPDX-License-Identifier: MIT OR Apache-2.0
//! The details of one cell: what the test proves, whether the result is new, expected and seen values, how to
//! repeat it, kernel messages at the time, the test's own log.

use maud::{Markup, html};

use crate::escape::cut;
use crate::html::{DETAILS, Page, badge, bounded, command, compared, console, guest, heads, lines};
use crate::html::{linked, more, none_ran, pairs, tone};
use crate::names;
use vmtest_base::error::Class;
use vmtest_record::findings::{self, TestStatus};
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{BootRecord, Cell, Expectation, SplatRecord};

/// Most bytes of a log. If many tests fail, they share the room.
const LOG_BYTES: usize = 16 * 1024;
/// Most expectations that are listed.
const MAX_UNMET: usize = 20;
/// Groups of our own suite whose BPF programs have a file of their own.
pub(super) const BPF_GROUPS: [&str; 9] =
    ["basic", "concurrent", "cookie", "cost", "elsewhere", "info", "mixed", "multi", "reject"];

/// All details that fit, the bad ones first.
pub(super) fn section(page: &mut Page<'_>) -> Markup {
    let cells = &page.story.run.cells;
    let mut told: Vec<usize> = (0..cells.len()).filter(|at| has_more(page, *at)).collect();
    told.sort_by_key(|at| !findings::verdict(&cells[*at]).is_bad());
    let logs = told.iter().filter(|at| !cells[**at].log.is_empty()).count().max(1);
    let log = (DETAILS / 2 / logs).min(LOG_BYTES);
    let (articles, shown) = bounded(told.iter().map(|at| article(page, *at, log)), DETAILS);
    page.told = told.iter().take(shown).copied().collect();
    html! {
        section #details aria-label="Details of cells" { (articles) (more(told.len(), shown, "details")) }
    }
}

/// Whether there is more to show than that it passed, and no earlier cell shows it.
fn has_more(page: &Page<'_>, at: usize) -> bool {
    let cell = &page.story.run.cells[at];
    let more = cell.outcome != Outcome::Pass
        || findings::verdict(cell) != TestStatus::Passed
        || !cell.reason.is_empty()
        || !cell.tries.is_empty()
        || !cell.measured.is_empty()
        || cell.was.is_some()
        || compared::of_cell(page.story, cell).is_some();
    more && page.origin(at) == at
}

fn article(page: &Page<'_>, at: usize, log: usize) -> Markup {
    let run = page.story.run;
    let cell = &run.cells[at];
    let word = cell.outcome.name();
    html! {
        article.detail id={ "c" (at) } tabindex="-1" aria-labelledby={ "h" (at) } {
            p.close { a href="#matrix" { "Close" } }
            h3 id={ "h" (at) } {
                (badge(tone(findings::verdict(cell), word), word)) " "
                @if let Some(stage) = page.stage(cell) { (none_ran(stage)) } @else { (cell.path()) }
            }
            p { "on " strong { (page.column(cell.column())) } @if let Some(new) = since(page, cell) { ". " (new) } }
            @if let Some(proves) = run.proves.get(&cell.path()).filter(|_| cell.suite == "own") {
                p { "It proves: " (proves) }
            }
            (reason(cell))
            (unmet(cell))
            (held(cell))
            @if page.stage(cell).is_some() { (command("Repeat", &run.command.join(" "))) } @else {
                (command("Repeat", &again(page, cell)))
                @if let Some(source) = source(cell) { p { "Source: " code { (source) } } }
            }
            (tries(cell))
            @for splat in splats(page, cell) { (console::splat(splat)) }
            @if !cell.measured.is_empty() { p { "Measured: " (cell.measured) } }
            @if !cell.log.is_empty() {
                h4 { "Log of the test" }
                (lines("Log of the test", &cut(&cell.log, log)))
            }
            (guests(page, cell))
            p.meta { (facts(cell)) }
        }
    }
}

/// Whether the result is new, as far as anything shows it.
fn since(page: &Page<'_>, cell: &Cell) -> Option<String> {
    if let Some(change) = compared::of_cell(page.story, cell) {
        let was = if change.was.is_empty() { "was not there" } else { &change.was };
        return Some(format!("In the earlier run: {was} ({}).", change.change.label()));
    }
    if cell.outcome == Outcome::Pass && cell.was.is_none() || cell.outcome == Outcome::Notrun {
        return None;
    }
    let name = |kernel: &str| names::kernel(page.story.run, kernel);
    Some(match (cell.was, page.before(cell)) {
        (Some(Outcome::Pass), Some((_, before))) if before.outcome == Outcome::Pass => {
            format!("New: it passed on {}.", name(&before.kernel))
        }
        (Some(was), _) => format!("On the kernel before: {}.", was.name()),
        (None, Some((_, before))) if before.outcome == cell.outcome => {
            format!("Not new: the same on {}.", name(&before.kernel))
        }
        _ if cell.outcome == Outcome::Pass => return None,
        _ if page.story.run.series.iter().any(|series| series.base == cell.kernel) => {
            "Not new: this kernel is without the series.".to_owned()
        }
        _ => "Nothing in this run shows whether that is new.".to_owned(),
    })
}

/// Why it did not pass, without what the table of expectations says.
fn reason(cell: &Cell) -> Markup {
    let mut reason = cell.reason.clone();
    for one in &cell.unmet {
        reason =
            reason.replacen(&format!("{}: expected {}, seen {}", one.what, one.expected, one.seen), "", 1);
    }
    if reason != cell.reason {
        reason = reason.replace(count(&cell.reason), "").trim_matches([' ', ':']).to_owned();
    }
    html! {
        @if reason.contains('\n') { (lines("Reason", &reason)) }
        @else if !reason.is_empty() { p.reason { (reason) } }
    }
}

/// ` (1 of 64)` at the end of a reason: how many expectations failed, and how many there were. Empty if it is not there.
fn count(reason: &str) -> &str {
    let at = reason.rfind(" (").unwrap_or(reason.len());
    let numbers = reason[at..].strip_prefix(" (").and_then(|end| end.strip_suffix(')')?.split_once(" of "));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if numbers.is_some_and(|(a, b)| is_number(a) && is_number(b)) { &reason[at..] } else { "" }
}

/// With a word for what was counted.
pub(super) fn counted(reason: &str) -> String {
    match reason.strip_suffix(')').filter(|_| !count(reason).is_empty()) {
        Some(rest) => format!("{rest} expectations failed)"),
        None => reason.to_owned(),
    }
}

fn unmet(cell: &Cell) -> Markup {
    expectations("plain unmet", &counted(&format!("Expected and seen{}", count(&cell.reason))), &cell.unmet)
}

/// What was as expected: what a dead guest had reported, or what is around a failure.
fn held(cell: &Cell) -> Markup {
    let died = matches!(cell.outcome, Outcome::Crash | Outcome::Timeout);
    let caption = if died { "As expected, before the guest died" } else { "As expected" };
    expectations("plain", caption, &cell.held)
}

fn expectations(class: &str, caption: &str, all: &[Expectation]) -> Markup {
    html! {
        @if !all.is_empty() {
            div.scroll tabindex="0" role="region" aria-label=(caption) {
                table class=(class) {
                    caption { (caption) }
                    (heads(&["what", "expected", "seen"]))
                    tbody {
                        @for one in all.iter().take(MAX_UNMET) {
                            tr {
                                th scope="row" { (one.what) }
                                td { code { (one.expected) } } td.seen { code { (one.seen) } }
                            }
                        }
                    }
                }
            }
            (more(all.len(), MAX_UNMET, "expectations"))
        }
    }
}

/// The command of the run, for this test only. The words are quoted for a shell.
fn again(page: &Page<'_>, cell: &Cell) -> String {
    let command = &page.story.run.command;
    if !command.iter().any(|word| word == "vmtest") || command.iter().any(|word| word.starts_with("--matrix"))
    {
        return command.join(" ");
    }
    let path = cell.path();
    let mut words: Vec<&str> = Vec::new();
    let mut is_value = false;
    for word in command {
        let others = ["-t", "--test", "--output", "--json", "--out"];
        let name = word.split('=').next().unwrap_or_default();
        if !is_value && !others.contains(&name) {
            words.push(word);
        }
        is_value = !is_value && others.contains(&&word[..]);
    }
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "_/.:@+-".contains(c));
    let path = if plain { path } else { format!("'{}'", path.replace('\'', "'\\''")) };
    format!("{} --test {path}", words.join(" "))
}

/// Where its BPF program is: below selftests/ for our own, in the tree under test for its own.
fn source(cell: &Cell) -> Option<String> {
    match &cell.suite[..] {
        "own" if BPF_GROUPS.contains(&&cell.test[..]) => Some(format!("selftests/bpf/{}.bpf.h", cell.test)),
        "own" => Some("selftests/bpf/session.bpf.c".to_owned()),
        "upstream" => Some(format!("tools/testing/selftests/bpf/prog_tests/{}.c", cell.test)),
        _ => None,
    }
}

fn facts(cell: &Cell) -> String {
    let is = |yes: bool, fact: String| Some(fact).filter(|_| yes);
    let named = |name: &str, value: &str| is(!value.is_empty(), format!("{name} {value}"));
    let facts = [
        is(true, format!("exit class {}: {}", cell.class.code(), cell.class.label())),
        named("variant", &cell.variant),
        named("boot", &cell.boot),
        named("on", &cell.accel),
        named("suite", &cell.suite),
        is(cell.enforced == Some(false), "NOT enforced by this guest, see its conditions".to_owned()),
        is(!cell.counts(), "does not count".to_owned()),
        is(cell.attempts > 1, format!("ran {} times", cell.attempts)),
        is(cell.duration_ms > 0 && cell.outcome != Outcome::Notrun, format!("took {} ms", cell.duration_ms)),
    ];
    facts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

fn tries(cell: &Cell) -> Markup {
    let rows = cell.tries.iter();
    let rows = rows.map(|one| (one.number.to_string(), format!("{}: {}", one.outcome.name(), one.reason)));
    html! { @if !cell.tries.is_empty() { h4 { "Attempts" } (pairs(rows)) } }
}

/// Kernel warnings while it ran.
fn splats<'a>(page: &Page<'a>, cell: &'a Cell) -> impl Iterator<Item = &'a SplatRecord> {
    let path = cell.path();
    let died = matches!(cell.outcome, Outcome::Crash | Outcome::Timeout) && findings::verdict(cell).is_bad();
    page.story.run.splats.iter().filter(move |splat| {
        splat.variant_id() == cell.variant_id()
            && (splat.during == path || (died && splat.severity == "death"))
    })
}

/// The guests that it ran in: where their time went, and the final output of those that were lost.
fn guests(page: &Page<'_>, cell: &Cell) -> Markup {
    let same = |(_, boot): &(usize, &BootRecord)| boot.column().any_boot() == cell.column().any_boot();
    let lost = matches!(cell.outcome, Outcome::Crash | Outcome::Timeout);
    html! {
        @for (at, boot) in page.story.run.boots.iter().enumerate().filter(same) {
            @if lost && boot.class != Class::Pass { (last_words(page, boot)) }
            @if boot.class != Class::Pass { (guest::times(boot)) }
            @let attempt = boot.attempt.map_or_else(String::new, |attempt| format!(", attempt {attempt}"));
            @let ended = if boot.class == Class::Pass { "" } else { boot.class.label() };
            @let colon = if ended.is_empty() { "" } else { ": " };
            p { (linked(page.guest(at), &format!("Console and conditions of its guest{attempt}{colon}{ended}"))) }
        }
    }
}

/// The queries before a guest was killed, and the end of its console if there is no warning to show.
fn last_words(page: &Page<'_>, boot: &BootRecord) -> Markup {
    let warned = page.story.run.splats.iter().any(|splat| splat.variant_id() == boot.variant_id());
    html! {
        @if !boot.before_kill.is_empty() {
            h4 { "State before it was killed" }
            (lines("State before it was killed", &boot.before_kill.join("\n")))
        }
        @if !warned && !boot.console_tail.is_empty() {
            h4 { "End of its console" }
            (console::excerpt(&boot.console_tail.join("\n")))
        }
    }
}
