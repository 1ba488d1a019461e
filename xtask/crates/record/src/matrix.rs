// SPDX-License-Identifier: MIT OR Apache-2.0
//! The part of a record that only a matrix, or a shard of one, has. It is used to merge shards.

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use vmtest_base::error::Class;
use vmtest_base::key::Key;

/// One or more globs, one of which must match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Globs {
    /// `"debian:*"`
    One(String),
    /// `["debian:*", "src:7*"]`
    Several(Vec<String>),
}

impl Globs {
    /// All of the globs.
    pub fn all(&self) -> &[String] {
        match self {
            Globs::One(one) => std::slice::from_ref(one),
            Globs::Several(several) => several,
        }
    }
}

/// Selects cells; every given field must match.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellGlobs {
    /// Matches the name of the column: `src:6.18*+fsession`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Globs>,
    /// Matches the variant; an empty string matches a kernel that was not built here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<Globs>,
    /// `vng` or `direct`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Globs>,
    /// Matches the suite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<Globs>,
    /// Matches `test/subtest`, or `test` for a whole group, like `--test`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Globs>,
}

/// `matrix` of `run.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MatrixRecord {
    /// Hash of the matrix file and the harness.
    pub key: String,
    /// Hash of the harness alone: shards of two versions of it cannot be merged.
    pub harness: String,
    /// All jobs of the matrix in order, whether or not they ran here.
    pub all: Vec<Axes>,
    /// Which shard this is; absent for a whole matrix, for chosen cells and for merged shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// The jobs of this run, in the order of `all`.
    pub jobs: Vec<JobRecord>,
    /// The `[[expect]]` entries and their state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected: Vec<ExpectRecord>,
    /// The `[[require]]` entries and their state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<RequireRecord>,
}

/// A job of the matrix that is part of this run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Name of the job.
    pub id: String,
    /// Hash of the matrix key and the job's name.
    pub key: String,
    /// Kernel of its column; the next three fields complete the column.
    pub kernel: String,
    /// Variant of its cells.
    pub variant: String,
    /// `auto`, or the boot of all its cells.
    pub boot: String,
    /// Suite of its cells.
    pub suite: String,
    /// Key of the source or image, before series and configuration; empty if it was not available.
    pub source: String,
    /// Key of the series; empty without one.
    pub series: String,
    /// Number of cells.
    pub cells: u64,
    /// How long its guests took.
    pub duration_ms: u64,
    /// The command of `--executor` that ran it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<String>,
}

/// A known failure and its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExpectRecord {
    /// The cells it applies to.
    pub cells: CellGlobs,
    /// The expected outcome.
    pub outcome: Outcome,
    /// Text that the cell must contain; absent if any text will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    /// Why it is expected.
    pub reason: String,
    /// Link to where it is tracked.
    pub link: String,
    /// Its last valid day.
    pub expires: String,
    /// `used`, `unused`, `passes` (every cell it matches passes), `used, and passes`, `expired`.
    pub state: String,
    /// Number of cells that became `xfail` because of it.
    pub covered: u64,
    /// Number of cells that it matches and that passed.
    pub passes: u64,
}

/// Cells that must exist and pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequireRecord {
    /// The cells it applies to.
    pub cells: CellGlobs,
    /// `met`, `unmet`, or `not here` in a shard without any of them.
    pub state: String,
    /// Number of matching cells.
    pub found: u64,
    /// The cells that did not pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacking: Vec<String>,
}

/// The result of a cell before it became a known failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExpectedRecord {
    /// Its outcome.
    pub outcome: Outcome,
    /// Its exit class.
    pub class: Class,
    /// Reason, link and last day of the entry.
    pub why: String,
}

/// The coordinates of a job in the matrix, each as written in the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Axes {
    /// Name of the job: stable, and safe to use as a file name or CI job name.
    pub id: String,
    /// `src:6.18`
    pub kernel: String,
    /// Multiple series are joined by `+`; `none` without one.
    pub series: String,
    /// `image` for a kernel that is not built here.
    pub variant: String,
    /// `auto`, `vng` or `direct`.
    pub boot: String,
    /// `own`, `upstream` or the name of a program.
    pub suite: String,
}

impl Axes {
    /// Makes the coordinates; the name is derived from the rest.
    pub fn new(kernel: &str, series: &str, variant: &str, boot: &str, suite: &str) -> Axes {
        let id = [kernel, series, variant, boot, suite].map(slug).join("--");
        let own = str::to_owned;
        Axes {
            id,
            kernel: own(kernel),
            series: own(series),
            variant: own(variant),
            boot: own(boot),
            suite: own(suite),
        }
    }
}

/// Longest part of a name.
const MOST: usize = 40;

/// A word of letters, digits, dots and single dashes. If more was lost than the colon after a scheme, a hash
/// of the text keeps different inputs distinct.
fn slug(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut word = String::new();
    for c in text.chars() {
        match c {
            c if plain(c) || (c == '.' && word.ends_with(plain)) => word.push(c),
            _ if word.ends_with('-') || word.is_empty() => (),
            _ => word.push('-'),
        }
    }
    let trimmed = word.trim_matches(['-', '.']);
    let whole = trimmed.replacen('-', ":", 1) == text || trimmed == text;
    if whole && trimmed.len() <= MOST && !trimmed.is_empty() {
        return trimmed.to_owned();
    }
    let short: String = trimmed.chars().rev().take(MOST - 7).collect::<Vec<_>>().into_iter().rev().collect();
    let key = Key::of("slug").field("text", text).finish();
    format!("{}-{}", short.trim_matches(['-', '.']), &key.as_str()[..6]).trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_stable_and_tell_jobs_apart() {
        let id = |kernel: &str, series: &str| Axes::new(kernel, series, "default", "auto", "own").id;
        assert_eq!(id("src:6.18", "fsession"), "src-6.18--fsession--default--auto--own");
        assert_eq!(id("debian:7.0.13", "none"), "debian-7.0.13--none--default--auto--own");
        let hostile = [
            "tree:../../a b",
            "git:x@$(reboot)",
            "tar:/é.tar",
            "tree:a/b",
            "tree:a-b",
            "tree:.",
            "tree:a//b",
        ];
        let mut seen = std::collections::BTreeSet::new();
        for kernel in hostile {
            for series in ["none", "../p", "a+b", "a/b"] {
                let id = id(kernel, series);
                assert!(id.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)), "{id}");
                assert!(!id.starts_with(['-', '.']) && !id.contains("..") && id.len() < 200, "{id}");
                assert!(seen.insert(id.to_lowercase()), "{id} twice");
            }
        }
        let long = "x".repeat(500);
        assert!(slug(&long).len() <= MOST && slug(&long) != slug(&(long.clone() + "y")));
    }
}
