// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a report is about.

use vmtest_base::error::Class;
use vmtest_record::bisection;
use vmtest_record::diff::Diff;
use vmtest_record::load::Consoles;
use vmtest_record::run::RunResult;

/// A run, and what is shown beside it.
#[derive(Debug, Clone, Copy)]
pub struct Story<'a> {
    pub run: &'a RunResult,
    /// Where it is.
    pub directory: &'a str,
    /// What an earlier run has to do with it; `None` where nobody asked.
    pub compared: Option<&'a Diff>,
    /// Consoles of its guests; empty where no format that is asked for shows them.
    pub consoles: &'a Consoles,
    /// A bisection to show beside it; `None` where nobody asked.
    pub bisection: Option<&'a bisection::Bisection>,
}

impl<'a> Story<'a> {
    /// A run by itself.
    pub fn of(run: &'a RunResult, directory: &'a str) -> Story<'a> {
        static NONE: Consoles = Consoles::new();
        Story { run, directory, compared: None, consoles: &NONE, bisection: None }
    }
}

impl Story<'_> {
    /// What a process ends with that reports this. Beside an earlier run it is whether anything got worse, but an
    /// interruption stays one.
    pub fn exit_class(&self) -> Class {
        let own = self.run.exit_code;
        match self.compared {
            _ if matches!(own, Class::Interrupted | Class::Terminated) => own,
            None => own,
            // Two runs without evidence are as good as each other, and no pass.
            Some(diff) if !diff.worse && self.run.has_plain_pass() => Class::Pass,
            Some(_) if own == Class::Pass => Class::TestFailed,
            Some(_) => own,
        }
    }
}
