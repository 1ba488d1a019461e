// SPDX-License-Identifier: MIT OR Apache-2.0
//! What shows that the subtests can fail: two damages of the suite itself, and the mutants of the series. Pure.
//!
//! A subtest is shown to fail when it should by a broken kernel, or by programs that see nothing; that one of its
//! expectations decides its verdict (`turned`) is asked besides, since it would say nothing of a kernel.

use std::collections::BTreeMap;

use vmtest_protocol::TestName;

use crate::error::Class;
use crate::mutant::{Finding, Mutant};
use crate::result::{Cell, Outcome};
use crate::unit::UnitResult;

/// The column without any damage, the two with a damaged suite, and the mutants.
pub struct Columns<'a> {
    /// Series and suite as they are.
    pub control: &'a UnitResult,
    /// One expectation of each subtest turned round.
    pub turned: &'a UnitResult,
    /// Programs that see nothing.
    pub blind: &'a UnitResult,
    /// Each mutant, what became of it, and its column.
    pub mutants: Vec<(&'a Mutant, &'a Finding, &'a UnitResult)>,
}

/// What shows that one subtest can fail.
#[derive(Debug, PartialEq)]
pub struct Evidence {
    /// The subtest.
    pub name: TestName,
    /// What it came to without any damage.
    pub control: Outcome,
    /// Whether it fails with an expectation turned round.
    pub turned: bool,
    /// Whether it fails when the programs see nothing.
    pub blind: bool,
    /// Mutants under which it fails, of those that say something of it; see [`tells`].
    pub mutants: Vec<String>,
}

impl Evidence {
    /// What is lacking; empty where it is shown to fail when it should.
    pub fn lacks(&self) -> Vec<&'static str> {
        let lacking = [
            (self.control != Outcome::Pass, "it does not pass without damage"),
            (!self.turned, "it passes with an expectation turned round"),
            (!self.blind && self.mutants.is_empty(), "no mutant fails it, nor programs that see nothing"),
        ];
        lacking.into_iter().filter(|(lacks, _)| *lacks).map(|(_, why)| why).collect()
    }
}

/// What of a suite fails under a mutant.
#[derive(Debug, PartialEq)]
pub struct Noticing {
    /// The mutant.
    pub mutant: String,
    /// What it breaks.
    pub breaks: String,
    /// Cells that pass without it and fail with it, by suite.
    pub failed: BTreeMap<String, usize>,
    /// What befell its kernel besides; empty where nothing did.
    pub kernel: String,
}

fn fails(cell: &Cell) -> bool {
    // A crash or a time limit shows that the kernel is broken, not that this subtest looked.
    cell.outcome == Outcome::Fail
}

fn same(a: &Cell, b: &Cell) -> bool {
    (&a.suite, &a.test, &a.subtest) == (&b.suite, &b.test, &b.subtest)
}

/// Of so many subtests a mutant may fail one and still say something of each.
const BROAD: usize = 4;

/// Whether a failure under this mutant says something of the subtest: it is named there, or the mutant leaves most others
/// alone. A kernel that refuses every session fails all that use one, and shows nothing of what they look at.
fn tells(mutant: &Mutant, seen: &UnitResult, cell: &Cell) -> bool {
    let failed = seen.cells.iter().filter(|cell| fails(cell)).count();
    failed * BROAD <= seen.cells.len() || mutant.names(&cell.test, &cell.subtest)
}

/// One for each subtest of the own suite, in its order.
pub fn subtests(columns: &Columns<'_>) -> Vec<Evidence> {
    let fails_in =
        |column: &UnitResult, cell: &Cell| column.cells.iter().any(|other| same(cell, other) && fails(other));
    let own = columns.control.cells.iter().filter(|cell| cell.suite == "own");
    own.map(|cell| Evidence {
        name: TestName { test: cell.test.clone(), subtest: cell.subtest.clone() },
        control: cell.outcome,
        turned: fails_in(columns.turned, cell),
        blind: fails_in(columns.blind, cell),
        mutants: columns
            .mutants
            .iter()
            .filter(|(mutant, _, seen)| fails_in(seen, cell) && tells(mutant, seen, cell))
            .map(|(mutant, _, _)| mutant.name.clone())
            .collect(),
    })
    .collect()
}

/// One for each mutant.
pub fn suites(columns: &Columns<'_>) -> Vec<Noticing> {
    let passed = |cell: &Cell| {
        columns.control.cells.iter().any(|other| same(cell, other) && other.outcome == Outcome::Pass)
    };
    columns
        .mutants
        .iter()
        .map(|(mutant, finding, seen)| {
            let mut failed: BTreeMap<String, usize> =
                columns.control.cells.iter().map(|cell| (cell.suite.clone(), 0)).collect();
            for cell in seen.cells.iter().filter(|cell| fails(cell) && passed(cell)) {
                *failed.entry(cell.suite.clone()).or_default() += 1;
            }
            Noticing {
                mutant: mutant.name.clone(),
                breaks: mutant.breaks.clone(),
                failed,
                kernel: finding.kernel.clone(),
            }
        })
        .collect()
}

/// The class of what was found: no subtest at all is no coverage.
pub fn class(subtests: &[Evidence]) -> Class {
    match subtests {
        [] => Class::Incomplete,
        some if some.iter().any(|one| !one.lacks().is_empty()) => Class::TestFailed,
        _ => Class::Pass,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutant;
    use crate::result::Kernel;
    use crate::result::tests_support::cell;

    fn column(cells: &[(&str, Outcome)]) -> UnitResult {
        UnitResult {
            kernel: Kernel { id: "k".into(), ..Kernel::default() },
            boot: None,
            again: Vec::new(),
            cells: cells.iter().map(|(name, outcome)| cell("k", name, *outcome, Class::Pass)).collect(),
            splats: Vec::new(),
        }
    }

    fn evidence(turned: Outcome, blind: Outcome) -> Vec<Evidence> {
        let control = column(&[("a", Outcome::Pass)]);
        let (turned, blind) = (column(&[("a", turned)]), column(&[("a", blind)]));
        subtests(&Columns { control: &control, turned: &turned, blind: &blind, mutants: Vec::new() })
    }

    #[test]
    fn only_a_failure_shows_that_a_subtest_can_fail() {
        assert_eq!(class(&evidence(Outcome::Fail, Outcome::Fail)), Class::Pass);
        for other in [Outcome::Pass, Outcome::Crash, Outcome::Timeout, Outcome::Missing, Outcome::Skip] {
            assert_eq!(class(&evidence(Outcome::Fail, other)), Class::TestFailed, "{other:?}");
            assert_eq!(class(&evidence(other, Outcome::Fail)), Class::TestFailed, "{other:?}");
        }
    }

    /// How many of eight subtests are proven by a mutant that fails the first so many of them and names `glob`.
    fn counted(failing: usize, glob: &str) -> usize {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let of = |failing: usize| {
            let outcome = |at| if at < failing { Outcome::Fail } else { Outcome::Pass };
            let cells: Vec<_> = names.iter().enumerate().map(|(at, name)| (*name, outcome(at))).collect();
            column(&cells)
        };
        let (control, turned, blind, seen) = (of(0), of(8), of(0), of(failing));
        let mutant = mutant::tests_support::mutant(&[glob]);
        let finding = mutant::judge(&mutant, &control, &seen);
        let mutants = vec![(&mutant, &finding, &seen)];
        let all = subtests(&Columns { control: &control, turned: &turned, blind: &blind, mutants });
        all.iter().filter(|one| one.lacks().is_empty()).count()
    }

    #[test]
    fn a_mutant_that_breaks_nearly_everything_counts_only_where_it_is_named() {
        assert_eq!(counted(2, "panic"), 2);
        assert_eq!(counted(3, "panic"), 0);
        assert_eq!(counted(8, "basic/a"), 1);
        assert_eq!(counted(8, "basic"), 8);
    }

    #[test]
    fn a_column_that_never_ran_is_no_evidence() {
        let (control, none) = (column(&[("a", Outcome::Pass)]), column(&[]));
        let seen = subtests(&Columns { control: &control, turned: &none, blind: &none, mutants: Vec::new() });
        assert_eq!(seen[0].lacks().len(), 2);
        let seen =
            subtests(&Columns { control: &none, turned: &control, blind: &control, mutants: Vec::new() });
        assert_eq!(class(&seen), Class::Incomplete);
    }
}
