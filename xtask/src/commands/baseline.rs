// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--baseline` of commands that report a run: an earlier run to compare with.

use std::path::{Path, PathBuf};

use vmtest_base::error::Result;
use vmtest_record::diff::{self, Diff, Side, Slower};
use vmtest_record::load::{self, Stored};
use vmtest_record::run::RunResult;

/// Options of commands that report a run and compare it with an earlier one.
#[derive(Debug, Clone, clap::Args)]
pub struct BaselineArgs {
    /// Compare with an earlier run (`latest`, `-2`, its name or its directory) and exit with 0 if nothing got worse: tests
    /// that already failed there do not count
    #[arg(long, value_name = "RUN", allow_negative_numbers = true, value_parser = crate::commands::path())]
    baseline: Option<PathBuf>,
}

/// An earlier run, loaded before the long work.
#[derive(Debug)]
pub struct Baseline {
    stored: Stored,
}

impl BaselineArgs {
    /// Opens the baseline, if one was given.
    ///
    /// # Errors
    /// When it does not exist or cannot be trusted.
    pub fn open(&self) -> Result<Option<Baseline>> {
        let stored = self.baseline.as_deref().map(Stored::open).transpose()?;
        Ok(stored.map(|stored| Baseline { stored }))
    }
}

impl Baseline {
    /// Compares a run with it; slower phases are reported but do not count.
    pub fn compare(&self, dir: &Path, run: &RunResult) -> Diff {
        let (old, new) = (self.stored.options(), load::options(dir, run));
        diff::compare(
            Side { run: &self.stored.result, options: &old },
            Side { run, options: &new },
            Slower::USUAL,
        )
    }
}
