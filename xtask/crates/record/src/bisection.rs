// SPDX-License-Identifier: MIT OR Apache-2.0
//! The record of a finished or interrupted bisection.

use serde::{Deserialize, Serialize};

use vmtest_base::error::Class;

/// The result of a bisection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bisection {
    /// Version of this structure.
    pub schema: u32,
    /// Name of the run.
    pub run: String,
    /// Its directory.
    pub directory: String,
    /// The command line.
    pub command: String,
    /// The question in words: `first bad commit: basic/x: fail`.
    pub question: String,
    /// `found`, `hidden` (by skips), `wrong end`, `an end cannot be judged`; `interrupted` or `not at its
    /// end` if the bisection can be resumed.
    pub answer: String,
    /// The kind of thing that was searched for: `first bad commit`.
    pub looked_for: String,
    /// Searched for the first good one: the old endpoint is bad.
    pub find_fix: bool,
    /// The answer in a sentence.
    pub summary: String,
    /// The culprit; absent unless it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Subject>,
    /// The newest ones before it whose verdict differs; if an endpoint is wrong, that endpoint.
    pub before: Vec<Subject>,
    /// The oldest known to have the verdict of the new endpoint: the culprit, or the end of the remaining
    /// range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Subject>,
    /// The candidates, if skips hide which of them is the culprit.
    pub among: Vec<Subject>,
    /// Notes on how reliable the result is.
    pub notes: Vec<String>,
    /// Every kernel that was tested, in order.
    pub path: Vec<Step>,
    /// Number of kernels between the endpoints, including the new one.
    pub history: usize,
    /// Guests that were started for it.
    pub boots: usize,
    /// Seconds spent on building and running kernels, over all parts of the bisection.
    pub duration_s: f64,
    /// The directory to pass to `--resume`, if the bisection can be resumed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resume: String,
    /// The exit code of the process.
    pub exit_code: Class,
}

/// A kernel that is part of the answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Subject {
    /// Short name.
    pub name: String,
    /// Hash of a commit; empty for anything else.
    pub commit: String,
    /// Subject line of a commit or patch.
    pub subject: String,
    /// Author of the commit or patch.
    pub author: String,
    /// Date of the commit or patch.
    pub date: String,
    /// `good`, `bad`, `skip`; empty if it was not tested.
    pub verdict: String,
    /// Reason for the verdict.
    pub why: String,
    /// How often it ran, and how often it was bad.
    pub runs: [usize; 2],
    /// Directory of the run that shows it; empty without one.
    pub directory: String,
    /// Consoles and events of that run.
    pub files: Vec<String>,
    /// Last lines of its console.
    pub console: Vec<String>,
    /// The command that reproduces it.
    pub again: String,
}

impl Subject {
    /// Name and subject in one line.
    pub fn line(&self) -> String {
        if self.subject.is_empty() { self.name.clone() } else { format!("{} ({})", self.name, self.subject) }
    }

    /// The lines of its console that show something. A good kernel's last lines are only its shutdown.
    pub fn evidence(&self) -> &[String] {
        if self.verdict == "good" { &[] } else { &self.console }
    }

    /// How often it ran, as a prefix of the reason; empty if it did not run.
    pub fn times(&self) -> String {
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
    /// Name of the kernel.
    pub name: String,
    /// Its subject line.
    pub subject: String,
    /// `good`, `bad`, `skip`.
    pub verdict: String,
    /// Reason for the verdict.
    pub why: String,
    /// Why it was tested: `end`, `search`, `confirm`.
    pub purpose: String,
    /// The verdict was taken from an earlier bisection.
    pub cached: bool,
    /// Duration in seconds.
    pub duration_s: f64,
    /// Its position in the history, from 0 at the old endpoint; with merges, in topological order. `None` in
    /// records written before this field existed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<usize>,
}

/// Groups consecutive steps with the same kernel, verdict and purpose.
pub fn runs(path: &[Step]) -> impl Iterator<Item = &[Step]> {
    path.chunk_by(|a, b| (&a.name, &a.verdict, &a.purpose) == (&b.name, &b.verdict, &b.purpose))
}
