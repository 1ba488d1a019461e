// SPDX-License-Identifier: MIT OR Apache-2.0
//! A patch series in the record: what each patch did. [`crate::attribution`] fills it in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use vmtest_base::error::Class;

/// What a mail or a commit says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PatchInfo {
    /// Subject without `[PATCH ..]`.
    pub subject: String,
    /// `Name <address>`; empty for a plain diff.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// Message ID of its mail, without brackets; empty without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message_id: String,
    /// Hash of the commit, for a range; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub commit: String,
    /// Paths that it changes, without duplicates.
    pub files: Vec<String>,
}

/// The mail that a reply to a series answers: its cover letter, else its first patch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Letter {
    /// With `[PATCH ..]`.
    pub subject: String,
    /// `Name <address>`.
    pub author: String,
    /// Without brackets; empty without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message_id: String,
}

/// Whether something was reached and worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It worked.
    Yes,
    /// It failed.
    No,
    /// It was not reached, or it is only known for the whole series.
    #[default]
    Unknown,
}

/// The result of a check that needs no guest, such as checkpatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its result.
    pub state: CheckState,
    /// The result in a few words: `adds 2 compiler warnings`; or that it was not checked.
    pub summary: String,
    /// What it found, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// How long it took.
    pub duration_ms: u64,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// Nothing to report.
    Clean,
    /// Something to know that does not speak against the patch, such as a changed type.
    Info,
    /// Advice, such as a line that is too long. It does not speak against merging.
    Advice,
    /// Something that speaks against the patch.
    Bad,
    /// It could not run, so the result is not known.
    Unknown,
}

/// Checks without whose result a series is not judged. The others only inform.
pub const DECIDING_CHECKS: [&str; 2] = ["warnings", "uapi"];

/// One patch of a series.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PatchRecord {
    /// Its number, from 1.
    pub number: usize,
    /// What it says of itself.
    #[serde(flatten)]
    pub info: PatchInfo,
    /// ID of the kernel with the patches up to this one; empty if that was not tested.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernel: String,
    /// Whether it applies after the patches before it.
    pub applies: State,
    /// Whether the kernel up to this patch builds.
    pub builds: State,
    /// Whether that kernel boots and survives its tests.
    pub boots: State,
    /// First line of the reason for a `no`; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// The same failure was there before this patch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inherited: bool,
    /// Tests that pass from this patch on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixes: Vec<String>,
    /// Tests that passed before this patch and do not pass with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breaks: Vec<String>,
    /// Results of `review`, by name of the check.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, Check>,
}

/// The answer to: may this be merged?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every patch applies, builds, boots, breaks nothing, and the tests pass that did not fail without it.
    Good,
    /// A patch fails at one of these.
    Bad,
    /// The evidence for either is missing.
    #[default]
    Unjudged,
}

/// A check that counts for the run: where it is.
#[derive(Debug, Clone, Copy)]
pub struct CountedCheck<'a> {
    /// The patch.
    pub patch: &'a PatchRecord,
    /// Its name.
    pub name: &'a str,
    /// Its result.
    pub check: &'a Check,
}

/// A series on one kernel in one variant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SeriesRecord {
    /// Name of its directory, mailbox or range.
    pub name: String,
    /// The mail that a reply answers; absent for patches without mails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letter: Option<Letter>,
    /// ID of the kernel with the whole series.
    pub kernel: String,
    /// Name of the variant.
    pub variant: String,
    /// ID of the kernel without it; empty if that was not tested.
    pub base: String,
    /// The answer.
    pub verdict: Verdict,
    /// Why it is not judged; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unjudged: String,
    /// Tests that fail with the whole series, and did not fail like that without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fails: Vec<String>,
    /// Tests that fail in the same way without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_before: Vec<String>,
    /// Its patches, in order.
    pub patches: Vec<PatchRecord>,
}

impl SeriesRecord {
    /// The checks that count, of all its patches.
    pub fn checks_that_count(&self) -> impl Iterator<Item = (Class, CountedCheck<'_>)> {
        self.patches.iter().flat_map(PatchRecord::checks_that_count)
    }
}

impl PatchRecord {
    /// Checks that speak against it, or that must have a result and have none, with their exit class.
    fn checks_that_count(&self) -> impl Iterator<Item = (Class, CountedCheck<'_>)> {
        self.checks.iter().filter_map(|(name, check)| {
            let class = match check.state {
                CheckState::Bad => Class::TestFailed,
                CheckState::Unknown if DECIDING_CHECKS.contains(&name.as_str()) => Class::Incomplete,
                CheckState::Unknown | CheckState::Clean | CheckState::Info | CheckState::Advice => {
                    return None;
                }
            };
            Some((class, CountedCheck { patch: self, name, check }))
        })
    }

    /// A check without whose result the patch is not judged, and that has none.
    pub fn missing_check(&self) -> Option<&str> {
        let is_missing = |(name, check): &(&String, &Check)| {
            DECIDING_CHECKS.contains(&name.as_str()) && check.state == CheckState::Unknown
        };
        self.checks.iter().find(is_missing).map(|(name, _)| name.as_str())
    }

    /// Whether this patch, and not one before it, fails at something.
    pub fn is_bad(&self) -> bool {
        let stages = [self.applies, self.builds, self.boots];
        (stages.contains(&State::No) && !self.inherited)
            || !self.breaks.is_empty()
            || self.checks.values().any(|check| check.state == CheckState::Bad)
    }
}
