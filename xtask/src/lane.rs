// SPDX-License-Identifier: MIT OR Apache-2.0
//! The columns of one kernel in one variant, in their order: its base and the steps of its series share an object
//! directory, so each is built from what the one before left, and boots while the next is built.

use crate::plan::Unit;
use crate::shop::Shop;
use crate::unit::{self, UnitResult};
use crate::workdir::RunDir;

/// Columns that belong together.
pub fn split(units: &[Unit]) -> impl Iterator<Item = &[Unit]> {
    units.chunk_by(|a, b| (&a.spec, &a.variant) == (&b.spec, &b.variant))
}

/// Runs the columns of one lane to their end.
pub fn run(shop: &Shop<'_>, lane: &[Unit], run_dir: &RunDir) -> Vec<UnitResult> {
    let Some(first) = lane.first() else { return Vec::new() };
    // Once for all of them: a tree that is edited meanwhile must not differ from column to column.
    let material = unit::material(shop, first);
    let mut results: Vec<Vec<UnitResult>> = std::thread::scope(|scope| {
        let booted: Vec<_> = lane
            .iter()
            .map(|unit| {
                let built = unit::build(shop, unit, &material, run_dir);
                scope.spawn(move || unit::boot(shop, unit, &built, run_dir))
            })
            .collect();
        booted.into_iter().map(join).collect()
    });
    for at in 1..results.len() {
        let before = results[at - 1].first().map(|result| result.kernel.id.clone());
        if lane[at - 1].role.is_some() {
            results[at].iter_mut().for_each(|result| result.kernel.compared_to.clone_from(&before));
        }
    }
    results.into_iter().flatten().collect()
}

/// What a thread came to.
pub fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    // A panic of the harness is no verdict: it goes on as one, and the process ends with 101.
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
