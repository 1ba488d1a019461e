// SPDX-License-Identifier: MIT OR Apache-2.0
//! Known flaws of kernels: which kernels of a run have them. A test that shows one names its page in its reason,
//! `docs/findings/NAME.md`. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::outcome::Outcome;
use crate::run::{Cell, RunResult};

/// Where the pages are, as reasons write it.
const PAGES: &str = "docs/findings/";

/// Whether a kernel has a flaw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A test shows it.
    Yes,
    /// Each test that shows it on another kernel passes.
    No,
    /// One of these tests did not run, or failed in another way.
    Unknown,
}

/// A flaw that at least one kernel of a run has.
#[derive(Debug, PartialEq, Eq)]
pub struct Flaw<'a> {
    /// Name of its page.
    pub name: &'a str,
    /// Every judged kernel, by version, and whether it has the flaw.
    pub kernels: Vec<(&'a str, Shown)>,
}

impl Flaw<'_> {
    /// Kernels at which it appears and disappears: `(ID, whether it has the flaw)`. A kernel that is not known to
    /// have it, or not to have it, changes nothing.
    pub fn changes(&self) -> Vec<(&str, bool)> {
        let mut changes: Vec<(&str, bool)> = Vec::new();
        for (kernel, shown) in self.kernels.iter().filter(|(_, shown)| *shown != Shown::Unknown) {
            let bad = *shown == Shown::Yes;
            if changes.last().map_or(bad, |(_, last)| *last != bad) {
                changes.push((kernel, bad));
            }
        }
        changes
    }
}

/// The flaw that a reason names.
fn named(reason: &str) -> Option<&str> {
    let rest = &reason[reason.find(PAGES)? + PAGES.len()..];
    rest.find(".md").map(|end| &rest[..end]).filter(|name| !name.is_empty())
}

/// All flaws that the kernels of a run have, by name.
///
/// How it could be wrong: a test that shows two flaws passes on a kernel without either, and is one flaw where it
/// does not pass.
pub fn flaws(run: &RunResult) -> Vec<Flaw<'_>> {
    let judged = |id: &str| run.kernels.iter().any(|kernel| kernel.id == id && kernel.role.is_none());
    let mut tests: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for cell in run.cells.iter().filter(|cell| cell.outcome == Outcome::Xfail && judged(&cell.kernel)) {
        if let Some(name) = named(&cell.reason) {
            tests.entry(name).or_default().insert(cell.path());
        }
    }
    let mut kernels: Vec<&str> = Vec::new();
    for kernel in run.kernels.iter().filter(|kernel| kernel.role.is_none()) {
        if !kernels.contains(&kernel.id.as_str()) {
            kernels.push(&kernel.id);
        }
    }
    kernels.sort_by_key(|id| version(id));
    let states = |name: &str, tests: &BTreeSet<String>| {
        kernels.iter().map(|kernel| (*kernel, shown(run, (name, tests), kernel))).collect()
    };
    tests.iter().map(|(name, tests)| Flaw { name, kernels: states(name, tests) }).collect()
}

/// Whether a kernel has the flaw of this name, which these tests show.
fn shown(run: &RunResult, (name, tests): (&str, &BTreeSet<String>), kernel: &str) -> Shown {
    let of = |test: &str| {
        run.cells.iter().filter(|cell| cell.kernel == kernel && cell.path() == test).collect::<Vec<_>>()
    };
    let all: Vec<Vec<&Cell>> = tests.iter().map(|test| of(test)).collect();
    let shows = |cell: &&&Cell| cell.outcome == Outcome::Xfail && named(&cell.reason) == Some(name);
    if all.iter().flatten().any(|cell| shows(&cell)) {
        return Shown::Yes;
    }
    let passes =
        |cells: &Vec<&Cell>| !cells.is_empty() && cells.iter().all(|cell| cell.outcome == Outcome::Pass);
    if all.iter().all(passes) { Shown::No } else { Shown::Unknown }
}

/// The numbers of the version in a kernel's ID: 7.2.11 comes after 7.2.9.
fn version(id: &str) -> Vec<u64> {
    let text = id.split_once(':').map_or(id, |(_, text)| text);
    let text = text.split(|c: char| !(c.is_ascii_digit() || c == '.')).next().unwrap_or_default();
    text.split('.').map(|number| number.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Kernel;
    use crate::samples;
    use vmtest_base::error::Class;

    fn run(found: &[(&str, Outcome, &str)]) -> RunResult {
        let cell = |(kernel, outcome, reason): &(&str, Outcome, &str)| Cell {
            reason: (*reason).into(),
            ..samples::cell(kernel, "one", *outcome, Class::Pass)
        };
        let mut run = samples::run(found.iter().map(cell).collect());
        let kernel = |(id, ..): &(&str, Outcome, &str)| Kernel { id: (*id).into(), ..Kernel::default() };
        run.kernels = found.iter().map(kernel).collect();
        run
    }

    #[test]
    fn a_flaw_has_its_first_bad_and_first_good_kernel() {
        let known = "it leaks (docs/findings/a-leak.md): expected 0";
        let run = run(&[
            ("debian:7.2.11", Outcome::Xfail, known),
            ("debian:7.2.9", Outcome::Pass, ""),
            ("debian:7.2.10", Outcome::Skip, "absent"),
            ("debian:7.3.4", Outcome::Pass, ""),
            ("debian:7.2.12", Outcome::Fail, "something else"),
        ]);
        let found = flaws(&run);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "a-leak");
        let states: Vec<Shown> = found[0].kernels.iter().map(|(_, shown)| *shown).collect();
        assert_eq!(states, [Shown::No, Shown::Unknown, Shown::Yes, Shown::Unknown, Shown::No]);
        assert_eq!(found[0].changes(), [("debian:7.2.11", true), ("debian:7.3.4", false)]);
    }

    #[test]
    fn what_no_test_shows_is_no_flaw() {
        assert_eq!(flaws(&run(&[("debian:7.0.4", Outcome::Xfail, "a bug without a page")])), []);
        assert_eq!(flaws(&run(&[("debian:7.0.4", Outcome::Fail, "docs/findings/a.md")])), []);
    }
}
