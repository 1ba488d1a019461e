// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exporter: the result of a bisection, as text for a terminal and as Markdown for a mail or an issue. The
//! data is the report itself.

use std::fmt::Write as _;
use vmtest_record::bisection::runs;

use crate::html;
use crate::layout::flush;
use clap::ValueEnum;
use vmtest_base::error::{Error, Result};
use vmtest_base::sanitize;
use vmtest_record::bisection::Bisection;

/// Formats of a bisection report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// What bisect prints.
    Text,
    /// The report itself, as data.
    Json,
    /// For an issue, or the summary of a CI job.
    Markdown,
    /// One page with the picture, for a browser.
    Html,
}

impl Format {
    /// The report in this format.
    ///
    /// # Errors
    /// When it cannot be converted to JSON.
    pub fn render(self, report: &Bisection) -> Result<String> {
        Ok(match self {
            Format::Text => sanitize::lines(&text(report)),
            Format::Json => json(report)?,
            Format::Markdown => sanitize::lines(&markdown(report)),
            Format::Html => sanitize::lines(&html::bisection_page(report)),
        })
    }
}

fn json(report: &Bisection) -> Result<String> {
    let text = serde_json::to_string_pretty(report);
    Ok(text.map_err(|error| Error::host("cannot write the report as JSON").why(error))? + "\n")
}

fn cost(report: &Bisection) -> String {
    let mut names: Vec<&str> = report.path.iter().map(|step| step.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let again = report.path.iter().filter(|step| step.cached).count();
    let again = if again > 0 { format!(", {again} verdict(s) known before") } else { String::new() };
    // Between the ends, and the old end itself.
    let (of, boots) = (names.len().max(report.history + 1), report.boots);
    format!("{} of {of} kernels tested, {boots} boot(s), {:.0} s{again}", names.len(), report.duration_s)
}

/// For a terminal.
pub fn text(report: &Bisection) -> String {
    let mut text = String::new();
    let line = |text: &mut String, indent: usize, what: &str| {
        text.push_str(&flush(&format!("{:indent$}{what}", "")));
    };
    line(&mut text, 0, &report.summary);
    if let Some(first) = &report.first {
        for (name, value) in [("commit", &first.commit), ("author", &first.author), ("date", &first.date)] {
            if !value.is_empty() {
                line(&mut text, 4, &format!("{name:7} {value}"));
            }
        }
    }
    for one in &report.among {
        line(&mut text, 4, &format!("{:5} {}", one.verdict, one.line()));
        if one.verdict == "skip" {
            line(&mut text, 10, &one.why);
        }
    }
    for one in report.before.iter().chain(&report.after) {
        text.push('\n');
        line(&mut text, 0, &format!("{} {}", one.verdict, one.line()));
        line(&mut text, 4, &format!("{}{}", one.times(), one.why));
        for console in one.evidence().iter().rev().take(5).rev() {
            // Unwrapped: a console line that is broken differently cannot be searched for.
            let _ = writeln!(text, "    | {console}");
        }
        if !one.directory.is_empty() {
            let _ = writeln!(text, "    in {}", one.directory);
        }
        if !one.again.is_empty() {
            let _ = writeln!(text, "    see it again: {}", one.again);
        }
    }
    let _ = writeln!(text, "\npath: {}", cost(report));
    for run in runs(&report.path) {
        let Some(step) = run.first() else { continue };
        let times = if run.len() > 1 { format!(" x{}", run.len()) } else { String::new() };
        let about = if step.subject.is_empty() { String::new() } else { format!(" ({})", step.subject) };
        line(&mut text, 4, &format!("{:7} {:4}{times} {}{about}", step.purpose, step.verdict, step.name));
    }
    for note in &report.notes {
        line(&mut text, 0, &format!("note: {note}"));
    }
    let _ = writeln!(text, "\nrun:    {}", report.directory);
    if !report.resume.is_empty() {
        let _ = writeln!(text, "resume: {}", report.resume);
    }
    let _ = writeln!(text, "exit {}: {}", report.exit_code.code(), report.answer);
    text
}

/// Escapes what a table cell cannot contain.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// For a mail or an issue.
pub fn markdown(report: &Bisection) -> String {
    let mut text = format!("# {}\n\n{}\n\n", report.question, report.summary);
    if let Some(first) = &report.first {
        for (name, value) in [("Commit", &first.commit), ("Author", &first.author), ("Date", &first.date)] {
            if !value.is_empty() {
                let _ = writeln!(text, "- {name}: {value}");
            }
        }
        text.push('\n');
    }
    if !report.among.is_empty() {
        text.push_str("| verdict | kernel | why |\n|---|---|---|\n");
        for one in &report.among {
            let _ = writeln!(text, "| {} | {} | {} |", one.verdict, cell(&one.line()), cell(&one.why));
        }
        text.push('\n');
    }
    for one in report.before.iter().chain(&report.after) {
        let _ = writeln!(text, "## {} {}\n\n{}{}\n", one.verdict, one.line(), one.times(), one.why);
        if !one.again.is_empty() {
            let _ = writeln!(text, "See it again:\n\n    {}\n", one.again);
        }
        for file in &one.files {
            let _ = writeln!(text, "- `{file}`");
        }
        if !one.evidence().is_empty() {
            text.push_str("\nEnd of its console:\n\n");
            for line in one.evidence() {
                let _ = writeln!(text, "    {line}");
            }
        }
        text.push('\n');
    }
    let _ = writeln!(text, "## Path\n\n{}\n", cost(report));
    text.push_str("| | verdict | runs | kernel | why |\n|---|---|---|---|---|\n");
    for run in runs(&report.path) {
        let Some(step) = run.first() else { continue };
        let about = if step.subject.is_empty() { String::new() } else { format!(" ({})", step.subject) };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {}{} | {} |",
            step.purpose,
            step.verdict,
            run.len(),
            cell(&step.name),
            cell(&about),
            cell(&step.why)
        );
    }
    text.push('\n');
    for note in &report.notes {
        let _ = writeln!(text, "- {note}");
    }
    let _ = writeln!(text, "\n`{}`", report.command);
    text
}

#[cfg(test)]
mod tests;
