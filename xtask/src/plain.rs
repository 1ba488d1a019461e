// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text of strangers on its way to people: a guest, a makefile or a patch can say anything, and a terminal acts on some of
//! it. Raw bytes stay in the files that hold them raw; the record, the table, progress and errors get this.

use crate::result::RunResult;

/// What stands for a character that a terminal or a reader would be misled by.
const STAND_IN: char = '·';

/// Moves the cursor, hides text, or turns the order of what follows round.
fn misleads(c: char) -> bool {
    let turns =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    (c.is_control() && c != '\n' && c != '\t') || turns || ('\u{2028}'..='\u{2029}').contains(&c)
}

/// Text of several lines, with nothing in it that a terminal acts on.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if misleads(c) { STAND_IN } else { c }).collect()
}

/// The same, as one line.
pub fn line(text: &str) -> String {
    text.chars().map(|c| if misleads(c) || c == '\n' || c == '\t' { STAND_IN } else { c }).collect()
}

/// Colours that our own tables use.
const COLOURS: [&str; 4] = ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"];

/// Text of ours for a terminal: the colours of our tables stay.
pub fn with_colours(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\x1b') {
        clean.push_str(&plain(&rest[..at]));
        rest = &rest[at..];
        match COLOURS.iter().find(|colour| rest.starts_with(**colour)) {
            Some(colour) => {
                clean.push_str(colour);
                rest = &rest[colour.len()..];
            }
            None => {
                clean.push(STAND_IN);
                rest = &rest[1..];
            }
        }
    }
    clean + &plain(rest)
}

/// Cleans every text of a record: a guest, a patch or a path may have a say in it, and a record may be somebody else's.
/// Names of subtests that were asked for hold nothing of the kind, so no cell takes the place of another.
pub fn record(run: &mut RunResult) {
    let clean = |text: &mut String| *text = plain(text);
    let one_line = |text: &mut String| *text = line(text);
    one_line(&mut run.run);
    run.command.iter_mut().for_each(one_line);
    run.tools = run.tools.iter().map(|(name, version)| (line(name), plain(version))).collect();
    for kernel in &mut run.kernels {
        [&mut kernel.id, &mut kernel.spec, &mut kernel.release].into_iter().for_each(one_line);
        let lists = kernel.series.iter_mut().chain(&mut kernel.tests_changed);
        lists.chain(&mut kernel.compared_to).for_each(one_line);
        [&mut kernel.key, &mut kernel.toolchain].into_iter().for_each(one_line);
    }
    for boot in &mut run.boots {
        [&mut boot.kernel, &mut boot.variant, &mut boot.directory].into_iter().for_each(one_line);
        [&mut boot.suite, &mut boot.boot, &mut boot.accel, &mut boot.boot_reason, &mut boot.accel_reason]
            .into_iter()
            .chain([&mut boot.cpus_reason])
            .chain(&mut boot.tcg_thread)
            .chain(&mut boot.tcg_thread_reason)
            .for_each(one_line);
        clean(&mut boot.reason);
        boot.console_tail.iter_mut().chain(&mut boot.before_kill).for_each(one_line);
        boot.conditions.iter_mut().for_each(|condition| one_line(&mut condition.value));
        for found in [&mut boot.features, &mut boot.profile] {
            *found = found.iter().map(|(name, value)| (line(name), plain(value))).collect();
        }
    }
    for cell in &mut run.cells {
        [&mut cell.kernel, &mut cell.test, &mut cell.subtest, &mut cell.measured]
            .into_iter()
            .for_each(one_line);
        [&mut cell.variant, &mut cell.boot, &mut cell.accel, &mut cell.suite].into_iter().for_each(one_line);
        [&mut cell.reason, &mut cell.log].into_iter().for_each(clean);
        cell.tries.iter_mut().for_each(|attempt| clean(&mut attempt.reason));
        cell.unmet
            .iter_mut()
            .flat_map(|one| [&mut one.what, &mut one.expected, &mut one.seen])
            .for_each(clean);
    }
    for splat in &mut run.splats {
        [&mut splat.kernel, &mut splat.title, &mut splat.during].into_iter().for_each(one_line);
        [&mut splat.variant, &mut splat.severity].into_iter().chain(&mut splat.allowed).for_each(one_line);
        splat.lines.iter_mut().chain(&mut splat.stack).chain([&mut splat.no_stack]).for_each(one_line);
    }
    for phase in &mut run.phases {
        [&mut phase.name, &mut phase.kernel].into_iter().for_each(one_line);
    }
    for entry in &mut run.allowed_splats {
        [&mut entry.title, &mut entry.reason, &mut entry.expires, &mut entry.state]
            .into_iter()
            .for_each(one_line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_gone() {
        let hostile = "a\x1b[2J\x1b]0;title\x07\r\u{9b}31mb\u{202e}c\u{200b}\u{2028}\u{feff}\u{7f}\0";
        for text in [plain(hostile), line(hostile), with_colours(hostile)] {
            assert!(!text.contains(misleads), "{text:?}");
            assert!(text.starts_with('a') && text.contains("·[2J·]0;title"));
        }
        assert_eq!(plain("two\nlines\tand ünïcode ✓"), "two\nlines\tand ünïcode ✓");
        assert_eq!(line("two\nlines"), "two·lines");
        assert_eq!(with_colours("\x1b[32mpass\x1b[0m \x1b[8mhidden"), "\x1b[32mpass\x1b[0m ·[8mhidden");
    }
}
