// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shared by the text reports: width, wrapping, colours.

use std::io::IsTerminal;

/// Maximum line width.
pub const WIDTH: usize = 80;
/// How a report is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub colour: bool,
}

impl Look {
    /// For the standard output of this process.
    pub fn of_stdout() -> Look {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Look { colour: std::io::stdout().is_terminal() && !refused }
    }
}

/// Indented; every line fits the width unless a single word is longer.
pub fn wrapped(reason: &str) -> String {
    let options =
        textwrap::Options::new(WIDTH).initial_indent("    ").subsequent_indent("    ").break_words(false);
    reason
        .lines()
        .flat_map(|line| textwrap::wrap(line, &options))
        .map(|line| line.into_owned() + "\n")
        .collect()
}

/// The first line wrapped without indentation; the rest unchanged.
pub fn flush(what: &str) -> String {
    let (line, rest) = what.split_once('\n').unwrap_or((what, ""));
    let options = textwrap::Options::new(WIDTH).subsequent_indent("    ").break_words(false);
    let mut text: String =
        textwrap::wrap(line, &options).into_iter().map(|line| line.into_owned() + "\n").collect();
    text.push_str(rest);
    text
}
