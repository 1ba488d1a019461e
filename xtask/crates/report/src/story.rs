// SPDX-License-Identifier: MIT OR Apache-2.0
//! The input of a report.

use vmtest_base::error::Class;
use vmtest_record::bisection;
use vmtest_record::diff::Diff;
use vmtest_record::load::Consoles;
use vmtest_record::run::RunResult;

/// A run, and what is shown next to it.
#[derive(Debug, Clone, Copy)]
pub struct Story<'a> {
    pub run: &'a RunResult,
    pub directory: &'a str,
    /// The comparison with an earlier run, if requested.
    pub compared: Option<&'a Diff>,
    /// Consoles of its guests; empty if no requested format shows them.
    pub consoles: &'a Consoles,
    /// A bisection to show next to it, if requested.
    pub bisection: Option<&'a bisection::Bisection>,
}

impl<'a> Story<'a> {
    /// A run on its own.
    pub fn of(run: &'a RunResult, directory: &'a str) -> Story<'a> {
        static NONE: Consoles = Consoles::new();
        Story { run, directory, compared: None, consoles: &NONE, bisection: None }
    }
}

impl Story<'_> {
    /// The exit class of a process that reports this. Compared with an earlier run, it depends on whether
    /// anything got worse, but an interruption remains one.
    pub fn exit_class(&self) -> Class {
        let own = self.run.exit_code;
        match self.compared {
            _ if matches!(own, Class::Interrupted | Class::Terminated) => own,
            None => own,
            // Two runs without evidence are equally good, but not a pass.
            Some(diff) if !diff.worse && self.run.has_plain_pass() => Class::Pass,
            Some(_) if own == Class::Pass => Class::TestFailed,
            Some(_) => own,
        }
    }
}
