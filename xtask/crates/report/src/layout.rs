// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shared by the text reports: width, wrapping, colours.

use std::io::IsTerminal;

use clap::ValueEnum;

/// Maximum line width of everything that is not drawn for a terminal.
pub const WIDTH: usize = 80;
/// Widths of a terminal that are used as they are: narrower ones wrap the lines, wider ones are hard to read.
const TERMINAL: std::ops::RangeInclusive<usize> = 80..=120;

/// Which rows of the matrix are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rows {
    /// Every test has a row.
    All,
    /// Tests that passed are counted by group.
    Failed,
}

/// How a report is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub colour: bool,
    /// Maximum line width.
    pub width: usize,
    pub rows: Rows,
}

impl Look {
    /// For a file or a pipe.
    pub const PLAIN: Look = Look { colour: false, width: WIDTH, rows: Rows::All };

    /// For the standard output of this process; `rows` is the user's choice.
    pub fn of_stdout(rows: Option<Rows>) -> Look {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal();
        let columns = terminal_size::terminal_size_of(&stdout).filter(|_| terminal);
        let columns = columns.map_or(WIDTH, |(width, _)| usize::from(width.0));
        let default = if terminal { Rows::Failed } else { Rows::All };
        Look {
            colour: terminal && !refused,
            width: columns.clamp(*TERMINAL.start(), *TERMINAL.end()),
            rows: rows.unwrap_or(default),
        }
    }

    /// The text in this colour of a terminal.
    pub fn paint(self, text: &str, colour: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Indented; every line fits the width unless a single word is longer.
pub fn wrapped(reason: &str) -> String {
    indented(reason, "    ", WIDTH)
}

/// The same with another indentation and width.
pub fn indented(reason: &str, indent: &str, width: usize) -> String {
    let options =
        textwrap::Options::new(width).initial_indent(indent).subsequent_indent(indent).break_words(false);
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
