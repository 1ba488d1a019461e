// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which of the lines that a series adds were run by which tests.

use serde::{Deserialize, Serialize};

/// What is known of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineState {
    /// At least one test ran it, or it ran before the first one.
    Run,
    /// It has code, and none of the tests ran it.
    NotRun,
    /// The compiler made no code of it: a comment, a declaration, the second line of a statement.
    NoCode,
    /// Its file is not compiled for this kernel.
    NotCompiled,
    /// Nothing counts it: assembly.
    Unknown,
}

impl LineState {
    /// All states, in the order of reports.
    pub const ALL: [LineState; 5] =
        [LineState::Run, LineState::NotRun, LineState::NoCode, LineState::NotCompiled, LineState::Unknown];

    /// In the words of a report.
    pub fn name(self) -> &'static str {
        match self {
            LineState::Run => "run",
            LineState::NotRun => "not run",
            LineState::NoCode => "no code",
            LineState::NotCompiled => "not compiled",
            LineState::Unknown => "unknown",
        }
    }
}

/// An added line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoveredLine {
    /// Its number in the file with the whole series, from 1.
    pub line: u64,
    /// Number of the patch that adds it, from 1.
    pub patch: usize,
    /// Its text.
    pub text: String,
    /// What is known of it.
    pub state: LineState,
    /// Indices of the tests that run it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<usize>,
}

/// The added lines of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoveredFile {
    /// Below the tree.
    pub path: String,
    /// Why its lines are not compiled or unknown; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// It is not known which of its lines are added.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// In their order.
    pub lines: Vec<CoveredLine>,
}

/// The added lines of a series on one kernel, and who ran them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Tests that reported counters, as `test/subtest`, with the suite in front if it is not our own; the empty name
    /// stands for the time before the first test.
    pub tests: Vec<String>,
    /// In the order of their paths.
    pub files: Vec<CoveredFile>,
    /// Why nothing is known; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub problem: String,
}

impl Coverage {
    /// All lines, with their files.
    pub fn lines(&self) -> impl Iterator<Item = (&CoveredFile, &CoveredLine)> {
        self.files.iter().flat_map(|file| file.lines.iter().map(move |line| (file, line)))
    }

    /// Why it is not known which added lines ran, of the whole series or of a file; `None` if it is. Assembly,
    /// which nothing counts, is left out.
    pub fn unknown(&self) -> Option<&str> {
        if !self.problem.is_empty() {
            return Some(&self.problem);
        }
        self.files.iter().find(|file| file.unknown).map(|file| file.why.as_str())
    }
}
