// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::mutants;
use vmtest_record::run::Kernel;
use vmtest_record::samples::boot;
use vmtest_record::samples::cell;

fn column(cells: &[(&str, Outcome)]) -> ColumnResult {
    ColumnResult {
        kernel: Kernel { id: "k".into(), ..Kernel::default() },
        boot: None,
        again: Vec::new(),
        cells: cells.iter().map(|(name, outcome)| cell("k", name, *outcome, Class::Pass)).collect(),
        splats: Vec::new(),
    }
}

fn booted(cells: &[(&str, Outcome)]) -> ColumnResult {
    ColumnResult { boot: Some(boot("k", Class::Pass)), ..column(cells) }
}

fn columns<'a>(control: &'a ColumnResult, turned: &'a ColumnResult, blind: &'a ColumnResult) -> Columns<'a> {
    Columns { control, turned, blind, upstream: control, mutants: Vec::new() }
}

fn evidence(turned: Outcome, blind: Outcome) -> Vec<Evidence> {
    let control = column(&[("a", Outcome::Pass)]);
    let (turned, blind) = (column(&[("a", turned)]), column(&[("a", blind)]));
    subtests(&columns(&control, &turned, &blind))
}

#[test]
fn only_a_failure_shows_that_a_subtest_can_fail() {
    let upstream = booted(&[("a", Outcome::Pass)]);
    assert_eq!(class(&evidence(Outcome::Fail, Outcome::Fail), &upstream), Class::Pass);
    for other in [Outcome::Pass, Outcome::Crash, Outcome::Timeout, Outcome::Missing, Outcome::Skip] {
        assert_eq!(class(&evidence(Outcome::Fail, other), &upstream), Class::TestFailed, "{other:?}");
        assert_eq!(class(&evidence(other, Outcome::Fail), &upstream), Class::TestFailed, "{other:?}");
        let upstream = booted(&[("a", Outcome::Pass), ("b", other)]);
        let expected = if other == Outcome::Pass { Class::Pass } else { Class::Incomplete };
        assert_eq!(class(&evidence(Outcome::Fail, Outcome::Fail), &upstream), expected, "{other:?}");
    }
    for upstream in [booted(&[]), column(&[("a", Outcome::Pass)])] {
        assert_eq!(class(&evidence(Outcome::Fail, Outcome::Fail), &upstream), Class::Incomplete);
    }
}

/// How many of eight subtests are proven by a mutant that fails the first `failing` of them and names
/// `glob`.
fn counted(failing: usize, glob: &str) -> usize {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let of = |failing: usize| {
        let outcome = |at| if at < failing { Outcome::Fail } else { Outcome::Pass };
        let cells: Vec<_> = names.iter().enumerate().map(|(at, name)| (*name, outcome(at))).collect();
        column(&cells)
    };
    let (control, turned, blind, seen) = (of(0), of(8), of(0), of(failing));
    let mutant = mutants::samples::mutant(&[glob]);
    let mutants = vec![Seen { mutant: &mutant, control: &control, own: &seen, upstream: Some(&seen) }];
    let all = subtests(&Columns { mutants, ..columns(&control, &turned, &blind) });
    all.iter().filter(|one| one.unproven().is_empty()).count()
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
    let seen = subtests(&columns(&control, &none, &none));
    assert_eq!(seen[0].unproven().len(), 2);
    let seen = subtests(&columns(&none, &control, &control));
    assert_eq!(class(&seen, &booted(&[("a", Outcome::Pass)])), Class::Incomplete);
}
