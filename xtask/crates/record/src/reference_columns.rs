// SPDX-License-Identifier: MIT OR Apache-2.0
//! Columns that are there to compare with: which cells of theirs count, and what changed from one to the next. Pure.
//!
//! Such a column (`role`: the base of `--with-base`, a step of `--each-patch`) answers "and before?". What its tests say
//! is information: a kernel without the feature skips, half of a series may fail. Three things count all the same, or a
//! run could pass without evidence: whatever happens to the kernel itself (it does not build, boot or survive, it
//! complains) and to the harness; a test that had passed in an earlier column, also where it is gone; and everything where
//! the column that is to be judged is not there.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::ColumnId;
use crate::outcome::Outcome;
use crate::run::{Cell, Kernel, Role, RunResult};
use vmtest_base::error::Class;

/// Decides which cells count, and notes in each what it was before. A test that passed in an earlier column and is absent
/// from a later one that ran gets a `missing` cell there, and that counts.
///
/// An earlier column is one of the same kernel in the same variant: its base, or a step of its series. Two kernels that
/// the user names are not compared, in whatever order: an older tree never had all the tests of a newer one.
///
/// How it could be wrong: a series that renames a subtest or removes one on purpose ends with 3, and the reader of the
/// report decides. A test that never passed can vanish unnoticed; there was no evidence to lose.
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
            // Where it passed last.
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
                // Nothing ran, so nothing is known of it; why not counts.
                if cell.outcome == Outcome::Notrun {
                    if let Some(passed) = passed.as_ref().filter(|_| cell.class == Class::Pass) {
                        // Its own tree says that it need not run: a series cannot excuse itself from a test.
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

/// The cell of a row that passed and is absent from this column. `None` where the suite never ran there: a cell that
/// counts already says which stage failed.
fn gone(run: &RunResult, kernel: &str, passed: &Cell) -> Option<Cell> {
    let column = ColumnId { kernel, ..passed.column().any_boot() };
    let boot = run.boots.iter().find(|boot| boot.column().any_boot() == column);
    let mut cells = run.cells.iter().filter(|cell| cell.column().any_boot() == column);
    let stopped = |cell: &Cell| cell.outcome == Outcome::Notrun && cell.class != Class::Pass;
    if boot.is_none() && cells.clone().any(stopped) {
        return None;
    }
    // What the test as a whole came to may explain it.
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
        log: String::new(),
        ..passed.clone()
    })
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
    let mut chains: Vec<_> = Vec::new();
    for chain in judged.map(chain) {
        // One kernel in two variants is one chain: the variant distinguishes its cells.
        if !chains.contains(&chain) {
            chains.push(chain);
        }
    }
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
        let class = boot.class;
        return (Stage::Ok, if class == Class::Pass { Stage::Ok } else { Stage::Failed(class) });
    }
    let mut classes = run.cells.iter().filter(|cell| cell.kernel == kernel.id).map(|cell| cell.class);
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
