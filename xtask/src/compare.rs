// SPDX-License-Identifier: MIT OR Apache-2.0
//! Columns that are there to compare with: which cells of theirs count, and what changed from one to the next. Pure.
//!
//! Such a column (`role`: the base of `--with-base`, a step of `--each-patch`) answers "and before?". What its tests say
//! is information: a kernel without the feature skips, half of a series may fail. Three things count all the same, or a
//! run could pass without evidence: whatever happens to the kernel itself (it does not build, boot or survive, it
//! complains) and to the harness; a test that had passed in an earlier column; and everything where the column that is
//! to be judged is not there.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Class;
use crate::result::{Cell, Kernel, Outcome, Role, RunResult};

/// Decides which cells count, and notes in each what it was before.
pub fn settle(run: &mut RunResult) {
    let chains = chains(&run.kernels);
    let mut places: BTreeMap<(String, String, String, String), usize> = BTreeMap::new();
    for (at, cell) in run.cells.iter().enumerate() {
        let Cell { kernel, variant, test, subtest, .. } = cell;
        places.insert((kernel.clone(), variant.clone(), test.clone(), subtest.clone()), at);
    }
    for chain in chains.iter().filter(|chain| chain.len() > 1) {
        let rows: BTreeSet<_> = places
            .keys()
            .filter(|(kernel, ..)| chain.iter().any(|(id, _)| id == kernel))
            .map(|(_, variant, test, subtest)| (variant, test, subtest))
            .collect();
        for (variant, test, subtest) in rows {
            let (mut known, mut worked) = (None, false);
            for (id, role) in chain {
                let place = (id.clone(), variant.clone(), test.clone(), subtest.clone());
                let Some(cell) = places.get(&place).and_then(|at| run.cells.get_mut(*at)) else {
                    continue;
                };
                // Nothing ran, so nothing is known of it; why not counts.
                if cell.outcome == Outcome::Notrun {
                    continue;
                }
                cell.was = known.filter(|known| *known != cell.outcome);
                if role.is_some() && !worked && says_a_test(cell.class()) {
                    cell.required = false;
                }
                worked |= cell.outcome == Outcome::Pass;
                known = Some(cell.outcome);
            }
        }
    }
}

/// Whether this is what a test found, and not what happened to the kernel or the harness.
fn says_a_test(class: Class) -> bool {
    matches!(class, Class::TestFailed | Class::Incomplete | Class::Flaky)
}

/// Columns that belong together, first to last; only those that end in one that is judged as a whole.
fn chains(kernels: &[Kernel]) -> Vec<Vec<(String, Option<Role>)>> {
    let judged = kernels.iter().filter(|kernel| kernel.role.is_none());
    let chain = |last: &Kernel| {
        let mut chain = vec![(last.id.clone(), last.role)];
        let mut before = last.compared_to.clone();
        while let Some(kernel) = before.and_then(|id| kernels.iter().find(|kernel| kernel.id == id)) {
            // A file that somebody else wrote may go in circles.
            if chain.iter().any(|(id, _)| *id == kernel.id) {
                break;
            }
            chain.push((kernel.id.clone(), kernel.role));
            before = kernel.compared_to.clone();
        }
        chain.reverse();
        chain
    };
    let mut chains: Vec<_> = judged.map(chain).collect();
    // One kernel in two variants is one chain: its cells are told apart by their variant.
    chains.dedup();
    chains
}

/// How far a kernel came before its tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It went through.
    Ok,
    /// It did not.
    Failed(Class),
    /// It never came to that.
    Unknown,
}

/// Whether a column was built, and whether its boot went through.
pub fn stages(run: &RunResult, kernel: &Kernel) -> (Stage, Stage) {
    if let Some(boot) = run.boots.iter().find(|boot| boot.kernel == kernel.id) {
        let class = Class::from_code(boot.class).unwrap_or(Class::Host);
        return (Stage::Ok, if class == Class::Pass { Stage::Ok } else { Stage::Failed(class) });
    }
    let mut classes = run.cells.iter().filter(|cell| cell.kernel == kernel.id).map(Cell::class);
    let build = match classes.next() {
        Some(class @ (Class::SeriesDoesNotApply | Class::OptionLost | Class::KernelBuild)) => {
            Stage::Failed(class)
        }
        // Built, and then something else came between.
        _ if !kernel.release.is_empty() => Stage::Ok,
        _ => Stage::Unknown,
    };
    (build, Stage::Unknown)
}

/// What a column did to something that the columns before it knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It had worked, and does not any more.
    Breaks,
    /// It had not worked, and does now.
    Starts,
    /// It does not work in another way than before.
    Differs,
}

/// What happened to this cell; `None` where it is as it was, or nobody knows how it was.
pub fn change(cell: &Cell) -> Option<Change> {
    match (cell.was?, cell.outcome) {
        (Outcome::Pass, _) => Some(Change::Breaks),
        (_, Outcome::Pass) => Some(Change::Starts),
        _ => Some(Change::Differs),
    }
}

/// Where a stage broke or was mended, column by column.
pub fn stage_changes(stages: impl IntoIterator<Item = Stage>) -> Vec<Option<Change>> {
    let mut known = None;
    let change = |stage: Stage| {
        let ok = match stage {
            Stage::Ok => true,
            Stage::Failed(_) => false,
            Stage::Unknown => return None,
        };
        match (known.replace(ok), ok) {
            (Some(true), false) => Some(Change::Breaks),
            (Some(false), true) => Some(Change::Starts),
            _ => None,
        }
    };
    stages.into_iter().map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests_support::{cell, run};

    /// A run of one subtest: `base`, steps and at last the judged column.
    fn steps(outcomes: &[(Outcome, Class)]) -> RunResult {
        let mut run = run(Vec::new());
        for (at, (outcome, class)) in outcomes.iter().enumerate() {
            let id = format!("k@{at}");
            run.cells.push(cell(&id, "x", *outcome, *class));
            run.kernels.push(Kernel {
                id,
                role: Some(Role::Step).filter(|_| at + 1 < outcomes.len()),
                compared_to: at.checked_sub(1).map(|before| format!("k@{before}")),
                ..Kernel::default()
            });
        }
        settle(&mut run);
        run.conclude(None);
        run
    }

    const PASS: (Outcome, Class) = (Outcome::Pass, Class::Pass);
    const SKIP: (Outcome, Class) = (Outcome::Skip, Class::Incomplete);
    const FAIL: (Outcome, Class) = (Outcome::Fail, Class::TestFailed);
    const UNBUILT: (Outcome, Class) = (Outcome::Notrun, Class::KernelBuild);
    const MISSING: (Outcome, Class) = (Outcome::Missing, Class::Incomplete);

    fn changes(run: &RunResult) -> Vec<Option<Change>> {
        run.cells.iter().map(change).collect()
    }

    #[test]
    fn half_a_series_may_skip_and_fail_if_the_whole_passes() {
        let run = steps(&[SKIP, SKIP, FAIL, PASS]);
        assert_eq!(run.exit_code, 0);
        assert_eq!(run.classes, [(0, 1)].into());
        assert_eq!(changes(&run), [None, None, Some(Change::Differs), Some(Change::Starts)]);
        assert_eq!(run.cells[3].was, Some(Outcome::Fail));
        assert_eq!(run.cells.iter().filter(|cell| cell.required).count(), 1);
        // What the cell is stays in its class: who adds up classes finds no pass that was none.
        assert_eq!(run.cells[2].class, 1);
    }

    #[test]
    fn the_last_column_is_judged_as_any_other() {
        assert_eq!(steps(&[SKIP, SKIP, SKIP]).exit_code, 3);
        assert_eq!(steps(&[SKIP, PASS, SKIP]).exit_code, 3);
        assert_eq!(steps(&[SKIP, FAIL]).exit_code, 1);
        assert_eq!(steps(&[PASS, MISSING]).exit_code, 3);
        assert_eq!(steps(&[PASS, FAIL]).cells[1].was, Some(Outcome::Pass));
    }

    #[test]
    fn what_worked_before_counts_wherever_it_breaks() {
        for broken in [SKIP, FAIL, MISSING] {
            let run = steps(&[PASS, broken, broken, PASS]);
            assert_eq!(run.exit_code, broken.1.code(), "{broken:?}");
            assert_eq!(run.classes[&broken.1.code()], 2);
            // One patch broke it, one mended it.
            assert_eq!(changes(&run), [None, Some(Change::Breaks), None, Some(Change::Starts)]);
        }
        // Also when a column between does not know.
        let run = steps(&[PASS, UNBUILT, FAIL, PASS]);
        assert_eq!(run.exit_code, 1);
        assert_eq!(changes(&run), [None, None, Some(Change::Breaks), Some(Change::Starts)]);
    }

    #[test]
    fn what_happens_to_the_kernel_counts_in_every_column() {
        assert_eq!(steps(&[UNBUILT, PASS]).exit_code, 12);
        assert_eq!(steps(&[SKIP, UNBUILT, PASS]).exit_code, 12);
        assert_eq!(steps(&[(Outcome::Crash, Class::Panic), PASS]).exit_code, 21);
        assert_eq!(steps(&[(Outcome::Notrun, Class::BootFailed), PASS]).exit_code, 20);
        assert_eq!(steps(&[(Outcome::Fail, Class::Host), PASS]).exit_code, 30);
        assert_eq!(steps(&[UNBUILT, PASS]).cells[1].was, None, "nobody knows what it was");
    }

    #[test]
    fn without_the_column_to_judge_nothing_is_excused() {
        let mut run = steps(&[SKIP, PASS]);
        run.kernels.pop();
        run.cells.pop();
        run.cells[0].required = true;
        settle(&mut run);
        run.conclude(None);
        assert_eq!(run.exit_code, 3);
    }

    #[test]
    fn variants_are_compared_with_themselves() {
        let mut run = steps(&[SKIP, PASS]);
        let mut other = run.cells.clone();
        other.iter_mut().for_each(|cell| {
            cell.variant = "nojit".into();
            cell.was = None;
            cell.required = true;
        });
        other[1].outcome = Outcome::Skip;
        other[1].class = 3;
        run.cells.extend(other);
        let kernels = run.kernels.clone();
        run.kernels.extend(kernels);
        settle(&mut run);
        run.conclude(None);
        assert_eq!((run.exit_code, run.cells[3].was), (3, None));
    }

    #[test]
    fn a_stage_is_broken_once() {
        use Stage::{Failed, Ok, Unknown};
        let failed = Failed(Class::KernelBuild);
        let changes = stage_changes([Ok, failed, Unknown, failed, Ok, Ok]);
        assert_eq!(changes, [None, Some(Change::Breaks), None, None, Some(Change::Starts), None]);
    }
}
