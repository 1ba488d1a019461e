// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a cell of the matrix ended.

use serde::{Deserialize, Serialize};

/// Outcome of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Every expectation held.
    Pass,
    /// An expectation did not hold.
    Fail,
    /// The kernel does not have the feature, and rejected it exactly as it must.
    Skip,
    /// Planned, and never reported.
    Missing,
    /// The kernel, the guest or the runner died during it.
    Crash,
    /// It did not end in time.
    Timeout,
    /// Passed only on a repeat.
    Flaky,
    /// A declared, known failure.
    Xfail,
    /// A stage before it failed.
    Notrun,
}

impl Outcome {
    /// As in `run.json`.
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
