// SPDX-License-Identifier: MIT OR Apache-2.0
//! The columns of one kernel in one variant, in their order: its base and the steps of its series share an object
//! directory, so each is built from what the one before left, and boots while the next is built.

use crate::error::Result;
use crate::lender::Promise;
use crate::plan::Unit;
use crate::result::Kernel;
use crate::shop::Shop;
use crate::unit::{self, Material, UnitResult};
use crate::workdir::RunDir;

/// Columns that belong together.
pub fn split(units: &[Unit]) -> impl Iterator<Item = &[Unit]> {
    units.chunk_by(|a, b| (&a.spec, &a.variant) == (&b.spec, &b.variant))
}

/// Runs the columns of one lane to their end.
pub fn run(
    shop: &Shop<'_>,
    lane: &[Unit],
    lends: Option<(usize, Promise<'_>)>,
    run_dir: &RunDir,
) -> Vec<UnitResult> {
    let (Some(first), Some(last)) = (lane.first(), lane.last()) else { return Vec::new() };
    // Once for all of them: a tree that is edited meanwhile must not differ from column to column.
    let material = unit::material(shop, first);
    if let Some((place, promise)) = lends {
        lend(shop, last, &material, place, promise);
    }
    let mut results: Vec<Vec<UnitResult>> = std::thread::scope(|scope| {
        let booted: Vec<_> = lane
            .iter()
            .map(|unit| {
                let built = unit::build(shop, unit, &material, run_dir);
                scope.spawn(move || unit::boot(shop, unit, &built, run_dir))
            })
            .collect();
        booted.into_iter().map(crate::thread::join).collect()
    });
    for at in 1..results.len() {
        let before = results[at - 1].first().map(|result| result.kernel.id.clone());
        if lane[at - 1].role.is_some() {
            results[at].iter_mut().for_each(|result| result.kernel.compared_to.clone_from(&before));
        }
    }
    results.into_iter().flatten().collect()
}

/// Tells whose bpftool a kernel without a tree may borrow: that of the whole series, long before it is built.
fn lend(shop: &Shop<'_>, unit: &Unit, material: &Result<Material>, place: usize, promise: Promise<'_>) {
    let borrows = |unit: &Unit| !unit.spec.has_source();
    let Ok(Material::Source(tree, series)) = material else { return };
    if !shop.plan.units.iter().any(borrows) {
        return;
    }
    let mut kernel = Kernel::default();
    let tree = unit::patched(shop, unit, tree.clone(), series.as_ref(), &mut kernel);
    if let Err(error) = tree.and_then(|tree| promise.keep(place, tree)) {
        // A series that does not apply is said in its column.
        shop.ctx.bus.note(format!("{}: no bpftool of it for kernels without a tree: {error}", kernel.id));
    }
}
