// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a cell of the matrix ended.

use serde::{Deserialize, Serialize};

/// Outcome of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All expectations were met.
    Pass,
    /// An expectation was not met.
    Fail,
    /// The kernel does not have the feature, and rejected it exactly as it must.
    Skip,
    /// Planned, but never reported.
    Missing,
    /// The kernel, the guest or the runner died during it.
    Crash,
    /// It did not finish in time.
    Timeout,
    /// Passed only on a retry.
    Flaky,
    /// A known failure that was declared.
    Xfail,
    /// An earlier stage failed.
    Notrun,
}

impl Outcome {
    /// Its name in `run.json`.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Fail => "fail",
            Outcome::Skip => "skip",
            Outcome::Missing => "missing",
            Outcome::Crash => "crash",
            Outcome::Timeout => "timeout",
            Outcome::Flaky => "flaky",
            Outcome::Xfail => "xfail",
            Outcome::Notrun => "notrun",
        }
    }
}
