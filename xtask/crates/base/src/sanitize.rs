// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes untrusted text safe to show. A guest, a makefile or a patch can contain any characters, and a
//! terminal acts on some of them. Raw output stays raw in its own files; the record, the table, progress and
//! errors get sanitized text.

/// Replaces a character that could mislead a terminal or a reader.
const STAND_IN: char = '·';

/// Whether it can move the cursor, hide text or change the text direction.
fn misleads(c: char) -> bool {
    let turns =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    (c.is_control() && c != '\n' && c != '\t') || turns || ('\u{2028}'..='\u{2029}').contains(&c)
}

/// Sanitizes text that may have several lines.
pub fn lines(text: &str) -> String {
    text.chars().map(|c| if misleads(c) { STAND_IN } else { c }).collect()
}

/// Sanitizes text and keeps it on one line.
pub fn line(text: &str) -> String {
    text.chars().map(|c| if misleads(c) || c == '\n' || c == '\t' { STAND_IN } else { c }).collect()
}

/// Colours that our own tables use.
const COLOURS: [&str; 7] =
    ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[1;31m", "\x1b[1;32m", "\x1b[1;33m", "\x1b[0m"];

/// Sanitizes our own text for a terminal, but keeps the colours of our tables.
pub fn with_colours(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\x1b') {
        clean.push_str(&lines(&rest[..at]));
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
    clean + &lines(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_gone() {
        let hostile = "a\x1b[2J\x1b]0;title\x07\r\u{9b}31mb\u{202e}c\u{200b}\u{2028}\u{feff}\u{7f}\0";
        for text in [lines(hostile), line(hostile), with_colours(hostile)] {
            assert!(!text.contains(misleads), "{text:?}");
            assert!(text.starts_with('a') && text.contains("·[2J·]0;title"));
        }
        assert_eq!(lines("two\nlines\tand ünïcode ✓"), "two\nlines\tand ünïcode ✓");
        assert_eq!(line("two\nlines"), "two·lines");
        assert_eq!(with_colours("\x1b[32mpass\x1b[0m \x1b[8mhidden"), "\x1b[32mpass\x1b[0m ·[8mhidden");
    }
}
