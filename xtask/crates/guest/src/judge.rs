// SPDX-License-Identifier: MIT OR Apache-2.0
//! Turns what was seen of a guest into a class, cells and splats. The only code that does, both for a guest
//! that just ended and when stored bytes are read again. Pure.
//!
//! Success is the last branch. A boot is trusted only if its runner sent `done`, all counts agree, no line is
//! missing and the console shows no death. A cell passes only if its own `end` says pass and at least one
//! expectation was checked.

mod boot;
mod cells;
mod conditions;
mod program;
mod splats;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use vmtest_protocol::TestName;

use crate::observed::Observed;
use vmtest_base::condition::Condition;
use vmtest_record::run::{Cell, ConditionRecord, SplatRecord};

pub use crate::judge::boot::Terms;
pub use crate::judge::boot::Verdict;
pub use crate::judge::boot::emulator_died;
pub use crate::judge::cells::CellBase;
pub use crate::judge::cells::MaySkip;
pub use crate::judge::cells::Rounds;
pub use crate::judge::cells::make_cell;
pub use crate::judge::cells::notrun;
pub use crate::judge::program::Program;
pub use crate::judge::upstream::Chosen;
pub use crate::judge::upstream::Known;
pub use crate::judge::upstream::star_matches;

/// What a guest is judged by, besides what was seen of it.
pub struct JudgeInput<'a> {
    /// What all of its cells have in common.
    pub base: CellBase,
    /// What its boot is judged by.
    pub terms: Terms<'a>,
    /// The conditions that its variant declares.
    pub conditions: &'a [Condition],
    /// The suite that ran in it.
    pub suite: SuiteInput<'a>,
    /// Cells that may be skipped.
    pub may_skip: MaySkip<'a>,
}

/// What is needed to interpret the output of a suite.
pub enum SuiteInput<'a> {
    /// Our own suite; its runner reports each subtest.
    Own {
        /// The subtests that were to run.
        planned: &'a [TestName],
        rounds: Rounds,
    },
    External(&'a ExternalSuite),
}

/// A suite whose program prints its own results: what is needed to interpret them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExternalSuite {
    /// The kernel tree's own tests.
    Upstream {
        /// The tests that the guest was to run.
        chosen: Vec<Chosen>,
        /// Subtests that the same binary reported in earlier runs.
        known: Known,
    },
    /// A program below selftests/suites/.
    Program(Program),
}

/// The outcome of a guest.
#[derive(Debug)]
pub struct Judged {
    /// The boot as a whole.
    pub verdict: Verdict,
    /// Whether the guest met the conditions of its variant; empty without conditions, and for a guest that
    /// never reported.
    pub conditions: Vec<ConditionRecord>,
    pub cells: Vec<Cell>,
    /// Kernel warnings, without decoded stacks.
    pub splats: Vec<SplatRecord>,
    /// Subtests that the tree's own tests reported without doubt; empty for other suites.
    pub reported: BTreeMap<String, BTreeSet<String>>,
}

/// Judges a guest.
pub fn judge(input: &JudgeInput<'_>, seen: &Observed) -> Judged {
    let JudgeInput { base, terms, conditions, suite, may_skip } = input;
    let hello = seen.stream.hello.as_ref();
    let conditions = hello.map(|hello| conditions::check(conditions, &hello.features)).unwrap_or_default();
    let verdict = conditions::judge(&conditions, boot::judge(seen, terms));
    let base = CellBase { enforced: conditions::enforced(&conditions), ..base.clone() };
    let (cells, reported) = match suite {
        SuiteInput::Own { planned, rounds } => {
            (cells::judge(&base, planned, seen, &verdict, *rounds, may_skip), BTreeMap::new())
        }
        SuiteInput::External(ExternalSuite::Upstream { chosen, known }) => {
            upstream::judge(&base, chosen, known, seen, &verdict, may_skip)
        }
        SuiteInput::External(ExternalSuite::Program(program)) => {
            (program::judge(&base, program, seen, &verdict, may_skip), BTreeMap::new())
        }
    };
    Judged { verdict, conditions, cells, splats: splats::of(&base, seen, terms.allowed), reported }
}

#[cfg(test)]
mod tests;
