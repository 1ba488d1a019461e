// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exporter: what a bisection came to, as text for a terminal and as Markdown for a mail or an issue. The data is the
//! report itself.

use std::fmt::Write as _;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::html;
use super::table::flush;
use crate::error::{Error, Result};
use crate::plain;

/// Formats of it.
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
    /// When it cannot be written as JSON.
    pub fn render(self, report: &Report) -> Result<String> {
        Ok(match self {
            Format::Text => plain::plain(&text(report)),
            Format::Json => json(report)?,
            Format::Markdown => plain::plain(&markdown(report)),
            Format::Html => plain::plain(&html::bisection_page(report)),
        })
    }
}

fn json(report: &Report) -> Result<String> {
    let text = serde_json::to_string_pretty(report);
    Ok(text.map_err(|error| Error::host("cannot write the report as JSON").why(error))? + "\n")
}

/// What a bisection came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Version of this structure.
    pub schema: u32,
    /// Name of the run.
    pub run: String,
    /// Its directory.
    pub directory: String,
    /// The command line.
    pub command: String,
    /// The question, for people: `first bad commit: basic/x: fail`.
    pub question: String,
    /// `found`, `hidden` (skips hide it), `wrong end`, `an end cannot be judged`; `interrupted` or `not at its end` of a
    /// bisection that can go on.
    pub answer: String,
    /// What kind of thing was looked for: `first bad commit`.
    pub looked_for: String,
    /// The first good one was looked for: the old end is bad.
    pub find_fix: bool,
    /// The answer in a sentence.
    pub summary: String,
    /// The culprit; absent unless it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Subject>,
    /// The newest ones before it that are known to be different; of an end that is wrong, it.
    pub before: Vec<Subject>,
    /// The oldest that is known to be like the new end: the culprit, or the end of the range that is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Subject>,
    /// One of these is it, where skips hide which.
    pub among: Vec<Subject>,
    /// What is worth knowing of how sure that is.
    pub notes: Vec<String>,
    /// Every kernel that was asked, in order.
    pub path: Vec<Step>,
    /// Kernels of the history between the ends, the new end included.
    pub history: usize,
    /// Guests that were started for it.
    pub boots: usize,
    /// Seconds that kernels took to be made and to run, over all parts of it.
    pub duration_s: f64,
    /// The directory to go on with, where there is something to go on with.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resume: String,
    /// What the process exits with.
    pub exit_code: u8,
}

/// A kernel of the answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Subject {
    /// Short name.
    pub name: String,
    /// Hash of a commit; empty elsewhere.
    pub commit: String,
    /// Subject of a commit or patch.
    pub subject: String,
    /// Author of it.
    pub author: String,
    /// Its day.
    pub date: String,
    /// `good`, `bad`, `skip`; empty where it was not asked.
    pub verdict: String,
    /// Why.
    pub why: String,
    /// How often it ran, and how often it was bad.
    pub runs: [usize; 2],
    /// Directory of the run that shows it; empty where none does.
    pub directory: String,
    /// Consoles and events of that run.
    pub files: Vec<String>,
    /// Last lines of its console.
    pub console: Vec<String>,
    /// The command to see it again.
    pub again: String,
}

impl Subject {
    /// One line.
    pub fn line(&self) -> String {
        if self.subject.is_empty() { self.name.clone() } else { format!("{} ({})", self.name, self.subject) }
    }

    fn times(&self) -> String {
        match self.runs {
            [0, _] => String::new(),
            [1, _] => "1 run: ".to_owned(),
            [runs, 0] => format!("{runs} runs: "),
            [runs, bad] => format!("{bad} of {runs} runs: "),
        }
    }
}

/// One run of one kernel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// Which kernel.
    pub name: String,
    /// Its subject.
    pub subject: String,
    /// `good`, `bad`, `skip`.
    pub verdict: String,
    /// Why.
    pub why: String,
    /// Why it was asked: `end`, `search`, `confirm`.
    pub purpose: String,
    /// The verdict is of an earlier bisection.
    pub cached: bool,
    /// Seconds.
    pub duration_s: f64,
    /// Its place in the history, from 0 at the old end; with merges, in an order in which parents come first. `None` in
    /// a record from before this was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<usize>,
}

/// Path lines with the same kernel and verdict are one.
pub(super) fn runs(path: &[Step]) -> impl Iterator<Item = &[Step]> {
    path.chunk_by(|a, b| (&a.name, &a.verdict, &a.purpose) == (&b.name, &b.verdict, &b.purpose))
}

fn cost(report: &Report) -> String {
    let mut names: Vec<&str> = report.path.iter().map(|step| step.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let again = report.path.iter().filter(|step| step.cached).count();
    let again = if again > 0 { format!(", {again} verdict(s) known before") } else { String::new() };
    let (of, boots) = (report.history, report.boots);
    format!("{} of {of} kernels asked, {boots} boot(s), {:.0} s{again}", names.len(), report.duration_s)
}

/// For a terminal.
pub fn text(report: &Report) -> String {
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
        for console in one.console.iter().rev().take(5).rev() {
            // As it came: a console line that is broken anew cannot be searched for.
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
        let _ = writeln!(text, "go on:  {}", report.resume);
    }
    let _ = writeln!(text, "exit {}: {}", report.exit_code, report.answer);
    text
}

/// A table's cell cannot hold these.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// For a mail or an issue.
pub fn markdown(report: &Report) -> String {
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
        if !one.console.is_empty() {
            text.push_str("\nEnd of its console:\n\n");
            for line in &one.console {
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
mod tests {
    use super::*;

    fn report() -> Report {
        let subject = |name: &str, verdict: &str, why: &str| Subject {
            name: name.into(),
            subject: format!("bpf: {name}"),
            verdict: verdict.into(),
            why: why.into(),
            runs: [1, 0],
            directory: "/runs/x/steps/1".into(),
            again: "cargo xtask vmtest --kernel x".into(),
            ..Subject::default()
        };
        let step = |name: &str, verdict: &str| Step {
            name: name.into(),
            verdict: verdict.into(),
            why: "a | b".into(),
            purpose: "end".into(),
            ..Step::default()
        };
        Report {
            summary: "first bad commit: bbb (bpf: bbb)".into(),
            question: "First bad commit".into(),
            answer: "found".into(),
            directory: "/runs/x".into(),
            first: Some(Subject { commit: "bbbbbb".into(), author: "A <a@b>".into(), ..Subject::default() }),
            before: vec![subject("aaa", "good", "all 3 tests passed")],
            after: Some(subject("bbb", "bad", "basic/x fail: it ran twice")),
            path: vec![step("bbb", "bad"), step("aaa", "good"), step("aaa", "good")],
            history: 9,
            boots: 3,
            duration_s: 12.3,
            notes: vec!["a note".into()],
            ..Report::default()
        }
    }

    #[test]
    fn the_text_tells_the_culprit_first_and_the_code_last() {
        let text = text(&report());
        assert!(
            text.starts_with("first bad commit: bbb (bpf: bbb)\n    commit  bbbbbb\n    author  A <a@b>\n"),
            "{text}"
        );
        assert!(text.ends_with("note: a note\n\nrun:    /runs/x\nexit 0: found\n"), "{text}");
        assert!(text.contains("path: 2 of 9 kernels asked, 3 boot(s), 12 s\n"), "{text}");
        assert!(text.contains("end     good x2 aaa\n"), "{text}");
        assert!(text.contains("bad bbb (bpf: bbb)\n    1 run: basic/x fail: it ran twice\n"), "{text}");
    }

    #[test]
    fn markdown_has_whole_tables() {
        let text = markdown(&report());
        assert!(text.contains("| end | good | 2 | aaa | a \\| b |\n"), "{text}");
        assert!(text.contains("- Commit: bbbbbb\n") && text.contains("## bad bbb (bpf: bbb)\n"), "{text}");
    }
}
