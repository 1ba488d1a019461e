// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel messages: warnings with their stack, and console excerpts in which warnings are marked.

use maud::{Markup, html};

use crate::html::lines;
use vmtest_base::sanitize;
use vmtest_record::console_rules::complains;
use vmtest_record::run::SplatRecord;

/// Lines of a console that are shown before a warning, after it, and at the end.
const BEFORE: usize = 15;
const BEHIND: usize = 60;
const AT_THE_END: usize = 60;
/// Most lines of one console.
const MOST: usize = 400;
/// Most characters of a line.
const WIDTH: usize = 400;

/// A kernel warning with its stack.
pub(super) fn splat(splat: &SplatRecord) -> Markup {
    let word = if splat.severity == "death" { "The kernel died" } else { "Kernel warning" };
    html! {
        h4 { (word) ": " (splat.title) }
        @if let Some(why) = &splat.allowed { p { "Allowed: " (why) } }
        @if !splat.stack.is_empty() { (lines("Decoded stack", &splat.stack.join("\n"))) }
        @if !splat.lines.is_empty() {
            p.meta { "On the console:" }
            (marked(splat.lines.iter().map(String::as_str)))
        }
        @if !splat.no_stack.is_empty() { p.meta { "Not decoded: " (splat.no_stack) } }
    }
}

/// Lines of a console; those that are warnings are marked.
fn marked<'a>(lines: impl Iterator<Item = &'a str>) -> Markup {
    html! {
        pre.console tabindex="0" aria-label="Console" {
            @for line in lines {
                @let line: String = sanitize::line(line).chars().take(WIDTH).collect();
                @if complains(&line) { mark { (line) } } @else { (line) }
                "\n"
            }
        }
    }
}

/// The relevant parts of a console: around each warning, and the end.
pub(super) fn excerpt(console: &str) -> Markup {
    let lines: Vec<&str> = console.lines().collect();
    let mut wanted = vec![false; lines.len()];
    let mut mark = |from: usize, to: usize| {
        for one in wanted.iter_mut().take(to.min(lines.len())).skip(from) {
            *one = true;
        }
    };
    mark(lines.len().saturating_sub(AT_THE_END), lines.len());
    for (at, line) in lines.iter().enumerate() {
        if complains(&sanitize::line(line)) {
            mark(at.saturating_sub(BEFORE), at + BEHIND);
        }
    }
    let mut parts = Vec::new();
    let (mut shown, mut at) = (0, 0);
    while at < lines.len() {
        let same = wanted[at..].iter().take_while(|one| **one == wanted[at]).count();
        let room = if wanted[at] { MOST.saturating_sub(shown).min(same) } else { 0 };
        parts.push((&lines[at..at + room], same - room));
        shown += room;
        at += same;
    }
    html! {
        @for (part, left) in parts {
            @if !part.is_empty() { (marked(part.iter().copied())) }
            @if left > 0 { p.meta { (left) " lines are not shown" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_marked_and_the_rest_is_bounded() {
        let noise =
            |count: usize| (0..count).map(|at| format!("[    1.{at:06}] noise {at}\n")).collect::<String>();
        let splat = "[    2.000000] WARNING: CPU: 0 PID: 1 at a.c:1 <f>\n";
        let console = format!("{}{splat}{}", noise(500), noise(5000));
        let text = excerpt(&console).into_string();
        assert!(
            text.contains("<mark>[    2.000000] WARNING: CPU: 0 PID: 1 at a.c:1 &lt;f&gt;</mark>"),
            "{text}"
        );
        assert!(text.contains("485 lines are not shown") && text.contains("noise 4999\n"), "{text}");
        assert!(text.lines().count() < MOST + 10);
        let many = splat.repeat(10_000);
        assert!(excerpt(&many).into_string().lines().count() < MOST + 10);
        assert_eq!(excerpt("").into_string(), "");
    }
}
