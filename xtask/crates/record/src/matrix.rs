// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the record of a matrix, or of a part of one, has besides what any run has. Parts are joined by it.

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use vmtest_base::error::Class;
use vmtest_base::key::Key;

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
    pub class: Class,
    /// Reason, link and last day of the entry.
    pub why: String,
}

/// Where a job stands in the matrix, each as the file writes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Axes {
    /// Name of the job: stable, and safe as the name of a file or a job.
    pub id: String,
    /// `src:6.18`
    pub kernel: String,
    /// Several are joined by `+`; `none` without one.
    pub series: String,
    /// `image` for a kernel that is not built here.
    pub variant: String,
    /// `auto`, `vng` or `direct`.
    pub boot: String,
    /// `own`, `upstream` or a program's name.
    pub suite: String,
}

impl Axes {
    /// With its name made of the rest.
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

/// A word of letters, digits, dots and single dashes. Where more than the colon behind a scheme was lost, a hash of the text
/// keeps words apart that would be the same.
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
