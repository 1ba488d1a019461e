// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the text reports have in common: their width, their wrapping, whether they have colours.

use std::io::IsTerminal;

/// Columns that everything fits into.
pub const WIDTH: usize = 80;
/// How it is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Whether the reader sees colours.
    pub colour: bool,
}

impl Look {
    /// For this process' standard output.
    pub fn of_stdout() -> Look {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Look { colour: std::io::stdout().is_terminal() && !refused }
    }
}

/// Indented, each line within the width unless one word alone is longer.
pub fn wrapped(reason: &str) -> String {
    let options =
        textwrap::Options::new(WIDTH).initial_indent("    ").subsequent_indent("    ").break_words(false);
    reason
        .lines()
        .flat_map(|line| textwrap::wrap(line, &options))
        .map(|line| line.into_owned() + "\n")
        .collect()
}

/// The first line wrapped, at the margin; what follows as it is.
pub fn flush(what: &str) -> String {
    let (line, rest) = what.split_once('\n').unwrap_or((what, ""));
    let options = textwrap::Options::new(WIDTH).subsequent_indent("    ").break_words(false);
    let mut text: String =
        textwrap::wrap(line, &options).into_iter().map(|line| line.into_owned() + "\n").collect();
    text.push_str(rest);
    text
}
