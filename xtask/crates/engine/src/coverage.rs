// SPDX-License-Identifier: MIT OR Apache-2.0
//! Proves that the subtests can fail: with two ways of damaging the suite itself, and with the mutants of the
//! series; and shows which of the mutants the tree's own session test notices. Pure.
//!
//! A subtest is proven to fail when it should by a broken kernel, or by BPF programs that record nothing. A
//! flipped expectation (`turned`) is required in addition: it shows that the expectation decides the verdict,
//! but says nothing about a kernel.

use vmtest_protocol::TestName;

use crate::mutants::Mutant;
use vmtest_base::error::Class;
use vmtest_record::column::ColumnResult;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::Cell;

/// The column without damage, the two with a damaged suite, and the mutants.
pub struct Columns<'a> {
    /// Series and suite unchanged.
    pub control: &'a ColumnResult,
    /// One expectation of each subtest is flipped.
    pub turned: &'a ColumnResult,
    /// BPF programs that record nothing.
    pub blind: &'a ColumnResult,
    /// The tree's own session test, without damage.
    pub upstream: &'a ColumnResult,
    /// The columns of the mutants.
    pub mutants: Vec<Seen<'a>>,
}

/// The results of both suites with a mutant.
pub struct Seen<'a> {
    pub mutant: &'a Mutant,
    /// Our own suite without the mutant, on the same variant.
    pub control: &'a ColumnResult,
    /// Our own suite.
    pub own: &'a ColumnResult,
    /// The tree's own session test, which runs on the default variant only.
    pub upstream: Option<&'a ColumnResult>,
}

/// The evidence that one subtest can fail.
#[derive(Debug, PartialEq)]
pub struct Evidence {
    pub name: TestName,
    /// Its outcome without damage.
    pub control: Outcome,
    /// Whether it fails with a flipped expectation.
    pub turned: bool,
    /// Whether it fails when the BPF programs record nothing.
    pub blind: bool,
    /// Mutants that make it fail and say something about it; see [`tells`].
    pub mutants: Vec<String>,
}

impl Evidence {
    /// What is unproven; empty if it is proven to fail when it should.
    pub fn unproven(&self) -> Vec<&'static str> {
        let checks = [
            (self.control != Outcome::Pass, "it does not pass without damage"),
            (!self.turned, "it passes with an expectation inverted"),
            (
                !self.blind && self.mutants.is_empty(),
                "no mutant makes it fail, and neither do blind programs",
            ),
        ];
        checks.into_iter().filter(|(unproven, _)| *unproven).map(|(_, why)| why).collect()
    }
}

/// The results of both suites for one mutant.
#[derive(Debug, PartialEq)]
pub struct Noticing {
    pub mutant: String,
    pub breaks: String,
    /// Our own suite.
    pub own: Noticed,
    /// The tree's own session test; `None` if it was not run.
    pub upstream: Option<Noticed>,
}

/// The result of one suite for one mutant.
#[derive(Debug, PartialEq)]
pub struct Noticed {
    /// Number of cells that pass without the mutant and fail with it.
    pub failed: usize,
    /// What happened to the kernel, or why it was never booted; empty if all went well.
    pub otherwise: String,
}

fn fails(cell: &Cell) -> bool {
    // A crash or a time limit shows that the kernel is broken, not that this subtest checked anything.
    cell.outcome == Outcome::Fail
}

fn same(a: &Cell, b: &Cell) -> bool {
    (&a.suite, &a.test, &a.subtest) == (&b.suite, &b.test, &b.subtest)
}

/// A mutant that fails at most one in this many subtests says something about each of them.
const BROAD: usize = 4;

/// Whether a failure with this mutant says something about the subtest: the mutant names it, or leaves most
/// other subtests alone. A kernel that rejects every session fails all subtests that use one, which says
/// nothing about what they check.
fn tells(mutant: &Mutant, seen: &ColumnResult, cell: &Cell) -> bool {
    let failed = seen.cells.iter().filter(|cell| fails(cell)).count();
    failed * BROAD <= seen.cells.len() || mutant.names(&cell.test, &cell.subtest)
}

/// The evidence for each subtest of our own suite, in order, except those that this kernel may skip: they test
/// what it does not have.
pub fn subtests(columns: &Columns<'_>) -> Vec<Evidence> {
    let fails_in = |column: &ColumnResult, cell: &Cell| {
        column.cells.iter().any(|other| same(cell, other) && fails(other))
    };
    let passes_in = |column: &ColumnResult, cell: &Cell| {
        column.cells.iter().any(|other| same(cell, other) && other.outcome == Outcome::Pass)
    };
    let optional = |cell: &Cell| cell.outcome == Outcome::Skip && !cell.required;
    let own = columns.control.cells.iter().filter(|cell| cell.suite == "own" && !optional(cell));
    own.map(|cell| Evidence {
        name: cell.name(),
        control: cell.outcome,
        turned: fails_in(columns.turned, cell),
        blind: fails_in(columns.blind, cell),
        mutants: columns
            .mutants
            .iter()
            .filter(|seen| passes_in(seen.control, cell))
            .filter(|seen| fails_in(seen.own, cell) && tells(seen.mutant, seen.own, cell))
            .map(|seen| seen.mutant.title())
            .collect(),
    })
    .collect()
}

/// The results for each mutant.
pub fn suites(columns: &Columns<'_>) -> Vec<Noticing> {
    let both = columns.mutants.iter().map(|seen| Noticing {
        mutant: seen.mutant.title(),
        breaks: seen.mutant.breaks.clone(),
        own: noticed(seen.control, seen.own),
        upstream: seen.upstream.map(|upstream| noticed(columns.upstream, upstream)),
    });
    both.collect()
}

fn noticed(control: &ColumnResult, seen: &ColumnResult) -> Noticed {
    let passed =
        |cell: &Cell| control.cells.iter().any(|other| same(cell, other) && other.outcome == Outcome::Pass);
    let otherwise = match &seen.boot {
        Some(boot) if boot.class == Class::Pass => String::new(),
        Some(boot) => format!("{}: {}", boot.class.label(), boot.reason),
        None => format!("not run: {}", seen.cells.first().map_or("no cell", |cell| cell.reason.as_str())),
    };
    Noticed { failed: seen.cells.iter().filter(|cell| fails(cell) && passed(cell)).count(), otherwise }
}

/// What is wrong with the tree's own test without a mutant, in which case its results with mutants mean
/// nothing. Empty if all is well.
pub fn upstream_unproven(control: &ColumnResult) -> String {
    let bad = |cell: &Cell| cell.outcome != Outcome::Pass;
    match (&control.boot, control.cells.iter().find(|cell| bad(cell))) {
        (_, Some(cell)) => format!("{} is {}: {}", cell.path(), cell.outcome.name(), cell.reason),
        (Some(boot), _) if boot.class != Class::Pass => boot.reason.clone(),
        (Some(_), None) if !control.cells.is_empty() => String::new(),
        _ => "it reports nothing".to_owned(),
    }
}

/// The class of the result; without any subtest it is not a pass.
pub fn class(subtests: &[Evidence], upstream: &ColumnResult) -> Class {
    match subtests {
        [] => Class::Incomplete,
        some if some.iter().any(|one| !one.unproven().is_empty()) => Class::TestFailed,
        _ if !upstream_unproven(upstream).is_empty() => Class::Incomplete,
        _ => Class::Pass,
    }
}

#[cfg(test)]
mod tests;
