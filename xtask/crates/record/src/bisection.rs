// SPDX-License-Identifier: MIT OR Apache-2.0
//! The record of a bisection that has ended, or been interrupted.

use serde::{Deserialize, Serialize};

use vmtest_base::error::Class;

/// Result of a bisection.
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
    pub exit_code: Class,
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

    /// How often it ran, in front of why; empty where it did not.
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

/// Steps in a row with the same kernel and verdict.
pub fn runs(path: &[Step]) -> impl Iterator<Item = &[Step]> {
    path.chunk_by(|a, b| (&a.name, &a.verdict, &a.purpose) == (&b.name, &b.verdict, &b.purpose))
}
