// SPDX-License-Identifier: MIT OR Apache-2.0
//! `-q` and `-v`: how much a run prints.

use vmtest_base::event::Sink;
use vmtest_report::progress;

/// How much a run prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verbosity {
    /// Only warnings and the result.
    Quiet,
    /// Progress and the result.
    #[default]
    Normal,
    /// Also each test.
    Verbose,
}

impl Verbosity {
    /// The display of progress.
    pub fn sink(self) -> Box<dyn Sink> {
        match self {
            Verbosity::Quiet => progress::warnings(),
            Verbosity::Normal => progress::sink(),
            Verbosity::Verbose => progress::each_test(),
        }
    }
}

/// `-q` and `-v`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct VerbosityArgs {
    /// Print only warnings and the result, with passing tests counted
    #[arg(long, short = 'q', conflicts_with = "verbose")]
    quiet: bool,
    /// Print each test as it ends
    #[arg(long, short = 'v')]
    verbose: bool,
}

impl VerbosityArgs {
    /// The level.
    pub fn level(self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        }
    }
}
