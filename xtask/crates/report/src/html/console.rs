// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel messages: warnings with their stack, and console excerpts in which warnings are marked.

use std::fmt::Write as _;

use crate::escape::xml as escape;
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
pub(super) fn splat(text: &mut String, splat: &SplatRecord) {
    let word = if splat.severity == "death" { "The kernel died" } else { "Kernel warning" };
    let _ = writeln!(text, "<h4>{word}: {}</h4>", escape(&splat.title));
    if let Some(why) = &splat.allowed {
        let _ = writeln!(text, "<p>Allowed: {}</p>", escape(why));
    }
    if !splat.stack.is_empty() {
        let _ = writeln!(
            text,
            "<pre tabindex=\"0\" aria-label=\"Decoded stack\">{}</pre>",
            escape(&splat.stack.join("\n"))
        );
    }
    if !splat.lines.is_empty() {
        let lines: Vec<&str> = splat.lines.iter().map(String::as_str).collect();
        let _ = writeln!(text, "<details open><summary>On the console</summary>{}</details>", marked(&lines));
    }
    if !splat.no_stack.is_empty() {
        let _ = writeln!(text, "<p class=\"meta\">Not decoded: {}</p>", escape(&splat.no_stack));
    }
}

/// Lines of a console; those that are warnings are marked.
fn marked(lines: &[&str]) -> String {
    let mut text = String::from("<pre tabindex=\"0\" class=\"console\" aria-label=\"Console\">");
    for line in lines {
        let line: String = sanitize::line(line).chars().take(WIDTH).collect();
        if complains(&line) {
            let _ = writeln!(text, "<mark>{}</mark>", escape(&line));
        } else {
            let _ = writeln!(text, "{}", escape(&line));
        }
    }
    text + "</pre>"
}

/// The relevant parts of a console: around each warning, and the end.
pub(super) fn excerpt(console: &str) -> String {
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
    let mut text = String::new();
    let mut shown = 0;
    let mut at = 0;
    while at < lines.len() {
        let same = wanted[at..].iter().take_while(|one| **one == wanted[at]).count();
        let room = MOST.saturating_sub(shown);
        if wanted[at] && room > 0 {
            text.push_str(&marked(&lines[at..at + same.min(room)]));
            shown += same.min(room);
        } else {
            let _ = writeln!(text, "<p class=\"cut\">{same} lines are not shown</p>");
        }
        at += same;
    }
    text
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
        let text = excerpt(&console);
        assert!(
            text.contains("<mark>[    2.000000] WARNING: CPU: 0 PID: 1 at a.c:1 &lt;f&gt;</mark>"),
            "{text}"
        );
        assert!(text.contains("485 lines are not shown") && text.contains("noise 4999\n"), "{text}");
        assert!(text.lines().count() < MOST + 10);
        let many = splat.repeat(10_000);
        assert!(excerpt(&many).lines().count() < MOST + 10);
        assert_eq!(excerpt(""), "");
    }
}
