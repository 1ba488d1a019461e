// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reference columns: which of their cells count, and what changed from one column to the next. Pure.
//!
//! A reference column (`role`: the base of `--with-base`, a step of `--each-patch`) shows the state before a
//! change. Its test results are informational: a kernel without the feature skips, half a series may fail.
//! Three things count anyway, or a run could pass without evidence: problems of the kernel itself (it does
//! not build, boot or survive, it prints warnings) or of the harness; a test that passed in an earlier
//! column, even if it is missing now; and everything if the column to be judged is missing.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::ColumnId;
use crate::outcome::Outcome;
use crate::run::{Cell, Kernel, Role, RunResult};
use vmtest_base::error::Class;

/// Decides which cells count, and records in each its previous outcome. A test that passed in an earlier
/// column and is missing from a later one that ran gets a `missing` cell there, and that counts.
///
/// An earlier column is one of the same kernel in the same variant: its base, or a step of its series. Two
/// kernels that the user names are never compared, in any order: an older tree does not have all the tests of
/// a newer one.
///
/// How it could be wrong: a series that renames or removes a subtest on purpose exits with 3, and the reader
/// of the report decides. A test that never passed can vanish unnoticed; there was no evidence to lose.
pub fn settle(run: &mut RunResult) {
    let chains = chains(&run.kernels);
    let mut places: BTreeMap<(String, Row), usize> = BTreeMap::new();
    for (at, cell) in run.cells.iter().enumerate() {
        places.insert((cell.kernel.clone(), Row::of(cell)), at);
    }
    for chain in chains.iter().filter(|chain| chain.len() > 1) {
        let of_chain = |kernel: &String| chain.iter().any(|(id, _)| id == kernel);
        let rows = places.keys().filter(|(kernel, _)| of_chain(kernel)).map(|(_, row)| row.clone());
        for row in rows.collect::<BTreeSet<Row>>() {
            let mut known = None;
            // The cell of the last pass.
            let mut passed: Option<Cell> = None;
            for (id, role) in chain {
                let Some(cell) = places.get(&(id.clone(), row.clone())).and_then(|at| run.cells.get_mut(*at))
                else {
                    if let Some(cell) = passed.as_ref().and_then(|passed| gone(run, id, passed)) {
                        let was = known.replace(Outcome::Missing).filter(|known| *known != Outcome::Missing);
                        run.cells.push(Cell { was, ..cell });
                    }
                    continue;
                };
                // Nothing ran, so the outcome is unknown; the reason still counts.
                if cell.outcome == Outcome::Notrun {
                    if let Some(passed) = passed.as_ref().filter(|_| cell.class == Class::Pass) {
                        // Its own tree excludes it: a series cannot excuse itself from a test.
                        cell.reason =
                            format!("{}, and does not run here: {}", passed_on(passed), cell.reason);
                        cell.class = Class::Incomplete;
                        cell.required = true;
                        cell.was = known;
                    }
                    continue;
                }
                cell.was = known.filter(|known| *known != cell.outcome);
                if role.is_some() && passed.is_none() && says_a_test(cell.class) {
                    cell.required = false;
                }
                if cell.outcome == Outcome::Pass {
                    passed = Some(cell.clone());
                }
                known = Some(cell.outcome);
            }
        }
    }
}

/// A row of the matrix in one variant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    variant: String,
    suite: String,
    test: String,
    subtest: String,
}

impl Row {
    fn of(cell: &Cell) -> Row {
        let Cell { variant, suite, test, subtest, .. } = cell.clone();
        Row { variant, suite, test, subtest }
    }
}

fn passed_on(cell: &Cell) -> String {
    format!("{} passed on {}", cell.path(), cell.kernel)
}

/// A cell for a row that passed earlier and is missing from this column. `None` if the suite never ran there:
/// a cell that counts already says which stage failed.
fn gone(run: &RunResult, kernel: &str, passed: &Cell) -> Option<Cell> {
    let column = ColumnId { kernel, ..passed.column().any_boot() };
    let boot = run.boots.iter().find(|boot| boot.column().any_boot() == column);
    let mut cells = run.cells.iter().filter(|cell| cell.column().any_boot() == column);
    let stopped = |cell: &Cell| cell.outcome == Outcome::Notrun && cell.class != Class::Pass;
    if boot.is_none() && cells.clone().any(stopped) {
        return None;
    }
    // `review` runs the tree's own tests only without the series and with all of it.
    let is_step = run.kernels.iter().any(|one| one.id == kernel && one.role == Some(Role::Step));
    if boot.is_none() && is_step && cells.clone().next().is_none() {
        return None;
    }
    // The result of the test as a whole may explain it.
    let whole = cells.find(|cell| cell.test == passed.test && cell.subtest.is_empty());
    let why = match whole.filter(|whole| whole.outcome != Outcome::Pass) {
        Some(whole) => format!("{} as a whole is {}: {}", whole.test, whole.outcome.name(), whole.reason),
        None => "nothing reported it".to_owned(),
    };
    Some(Cell {
        kernel: kernel.to_owned(),
        boot: boot.map_or_else(|| passed.boot.clone(), |boot| boot.boot.clone()),
        accel: boot.map_or_else(|| passed.accel.clone(), |boot| boot.accel.clone()),
        outcome: Outcome::Missing,
        reason: format!("{}, and is gone here: {why}", passed_on(passed)),
        required: true,
        attempts: 0,
        duration_ms: 0,
        class: Class::Incomplete,
        measured: String::new(),
        enforced: None,
        expected: None,
        tries: Vec::new(),
        unmet: Vec::new(),
        held: Vec::new(),
        log: String::new(),
        ..passed.clone()
    })
}

/// Whether this is a test result, as opposed to a problem of the kernel or the harness.
fn says_a_test(class: Class) -> bool {
    matches!(class, Class::TestFailed | Class::Incomplete | Class::Flaky)
}

/// Columns that belong together, first to last; only chains that end in a column that is judged as a whole.
fn chains(kernels: &[Kernel]) -> Vec<Vec<(String, Option<Role>)>> {
    let judged = kernels.iter().filter(|kernel| kernel.role.is_none());
    let names =
        |chain: Vec<&Kernel>| chain.into_iter().map(|one| (one.id.clone(), one.role)).collect::<Vec<_>>();
    let mut chains: Vec<_> = Vec::new();
    for chain in judged.map(|last| names(chain(kernels, last))) {
        // One kernel in two variants is one chain: the variant distinguishes its cells.
        if !chains.contains(&chain) {
            chains.push(chain);
        }
    }
    chains
}

/// The columns that `last` is compared with, first to last, and itself at the end.
pub(crate) fn chain<'a>(kernels: &'a [Kernel], last: &'a Kernel) -> Vec<&'a Kernel> {
    let mut chain = vec![last];
    let mut before = last.compared_to.as_ref();
    while let Some(kernel) = before.and_then(|id| kernels.iter().find(|kernel| kernel.id == *id)) {
        // An untrusted record may contain a cycle.
        if chain.iter().any(|one| one.id == kernel.id) {
            break;
        }
        chain.push(kernel);
        before = kernel.compared_to.as_ref();
    }
    chain.reverse();
    chain
}

/// How far a kernel got before its tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The stage succeeded.
    Ok,
    /// The stage failed.
    Failed(Class),
    /// The stage was never reached.
    Unknown,
}

/// Whether a column was built, and whether it booted.
pub fn stages(run: &RunResult, kernel: &Kernel) -> (Stage, Stage) {
    if let Some(boot) = run.boots.iter().find(|boot| boot.kernel == kernel.id) {
        let class = boot.class;
        return (Stage::Ok, if class == Class::Pass { Stage::Ok } else { Stage::Failed(class) });
    }
    let mut classes = run.cells.iter().filter(|cell| cell.kernel == kernel.id).map(|cell| cell.class);
    let build = match classes.next() {
        Some(class @ (Class::SeriesDoesNotApply | Class::OptionLost | Class::KernelBuild)) => {
            Stage::Failed(class)
        }
        // Built, but interrupted before the boot.
        _ if !kernel.release.is_empty() => Stage::Ok,
        _ => Stage::Unknown,
    };
    (build, Stage::Unknown)
}

/// How a column differs from the columns before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It worked before and no longer does.
    Breaks,
    /// It did not work before and does now.
    Starts,
    /// It fails in a different way than before.
    Differs,
}

/// How this cell changed; `None` if it did not, or if its previous outcome is unknown.
pub fn change(cell: &Cell) -> Option<Change> {
    match (cell.was?, cell.outcome) {
        (Outcome::Pass, _) => Some(Change::Breaks),
        (_, Outcome::Pass) => Some(Change::Starts),
        _ => Some(Change::Differs),
    }
}

/// Where a stage broke or was fixed, column by column.
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
mod tests;
