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

/// An error or a note as shown: on a terminal, lines break between words. Lines with a command stay whole, for pasting, and so does
/// the output of other programs.
pub fn message(text: &str, columns: Option<usize>) -> String {
    let Some(width) = columns else { return text.to_owned() };
    let line = |line: &str| -> String {
        let indent = line.len() - line.trim_start().len() + 2;
        if line.contains('`') || line.trim_start().starts_with('|') {
            return format!("{line}\n");
        }
        let rest = " ".repeat(indent);
        let options = textwrap::Options::new(width).subsequent_indent(&rest).break_words(false);
        let options = options.word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::wrap(line, options).into_iter().map(|line| line.into_owned() + "\n").collect()
    };
    text.lines().map(line).collect::<String>().trim_end().to_owned()
}

/// Columns of the terminal that standard error is.
pub fn columns_of_stderr() -> Option<usize> {
    let stderr = std::io::stderr();
    let size = terminal_size::terminal_size_of(&stderr).filter(|_| stderr.is_terminal());
    size.map(|(width, _)| usize::from(width.0).clamp(*TERMINAL.start(), *TERMINAL.end()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_breaks_between_words_on_a_terminal_and_its_commands_do_not() {
        let why =
            "  because: there is no such file or directory; the working directory is not in a kernel tree";
        let next = "  next: use `cargo xtask vmtest --kernel tree:/a/long/path/to/a/kernel --test cookie` or another kernel";
        let text = format!(
            "`../linx` is not a kernel\n{why}\n  | a line of the log, of another program, that is as wide as it is wide\n{next}"
        );
        assert_eq!(message(&text, None), text);
        let wrapped = message(&text, Some(80));
        let flowing = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(flowing(&wrapped), flowing(&text));
        assert_eq!(wrapped.lines().count(), 5, "{wrapped}");
        assert!(wrapped.contains("\n    kernel tree\n") && wrapped.ends_with(next), "{wrapped}");
    }
}
