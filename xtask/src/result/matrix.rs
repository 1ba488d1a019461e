// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the record of a matrix, or of a part of one, has besides what any run has. Parts are joined by it.

use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::matrix::job::Axes;

/// One glob or several, of which one has to fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Globs {
    /// `"debian:*"`
    One(String),
    /// `["debian:*", "src:7*"]`
    Several(Vec<String>),
}

impl Globs {
    /// All of them.
    pub fn all(&self) -> &[String] {
        match self {
            Globs::One(one) => std::slice::from_ref(one),
            Globs::Several(several) => several,
        }
    }
}

/// Which cells, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellGlobs {
    /// Over the name of the column: `src:6.18*+fsession`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Globs>,
    /// Over the variant; empty text for a kernel that was not built here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<Globs>,
    /// `vng` or `direct`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Globs>,
    /// Over the suite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<Globs>,
    /// Over `test/subtest`, or over `test` for all of a group, like `--test`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Globs>,
}

/// `matrix` of `run.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MatrixRecord {
    /// Of the file, and of the harness.
    pub key: String,
    /// Of the harness alone: parts of two versions of it are no parts of one run.
    pub harness: String,
    /// Every job of the matrix, in its order, whether it ran here or not.
    pub all: Vec<Axes>,
    /// Which part this is; absent for all of it, for chosen cells and for parts that were joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// The jobs of this run, in the order of `all`.
    pub jobs: Vec<JobRecord>,
    /// `[[expect]]`, and what became of each entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected: Vec<ExpectRecord>,
    /// `[[require]]`, and what became of each entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<RequireRecord>,
}

/// A job of the matrix that is in this run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its name.
    pub id: String,
    /// Of the matrix and of its name.
    pub key: String,
    /// Its column: which cells are its own, together with the three below.
    pub kernel: String,
    /// Variant of its cells.
    pub variant: String,
    /// `auto`, or the boot of all its cells.
    pub boot: String,
    /// Suite of its cells.
    pub suite: String,
    /// Key of the source, or of the image, before series and configuration; empty where it was not had.
    pub source: String,
    /// Key of the series; empty without one.
    pub series: String,
    /// So many cells.
    pub cells: u64,
    /// How long its guests took.
    pub duration_ms: u64,
    /// What ran it, where that was a command of `--executor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<String>,
}

/// A known failure, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExpectRecord {
    /// Which cells.
    pub cells: CellGlobs,
    /// Which outcome.
    pub outcome: Outcome,
    /// What the cell has to say; absent where that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    /// Why.
    pub reason: String,
    /// Where it is known.
    pub link: String,
    /// Its last day.
    pub expires: String,
    /// `used`, `unused`, `passes` (what it fits passes), `used, and passes`, `expired`.
    pub state: String,
    /// Cells that became `xfail` by it.
    pub covered: u64,
    /// Cells that it fits and that passed.
    pub passes: u64,
}

/// Cells that have to be there and pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequireRecord {
    /// Which.
    pub cells: CellGlobs,
    /// `met`, `unmet`, or `not here` in a part of the matrix that has none of them.
    pub state: String,
    /// So many fit.
    pub found: u64,
    /// Those that did not pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacking: Vec<String>,
}

/// What a cell was before it became a known failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExpectedRecord {
    /// Its outcome.
    pub outcome: Outcome,
    /// Its exit class.
    pub class: u8,
    /// Reason, link and last day of the entry.
    pub why: String,
}
