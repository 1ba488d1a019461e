// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs columns in parallel. First the trees of all columns, so that a failed fetch or a patch that does not
//! apply is found before the first make. Then their configurations, so that a lost option is found before
//! anything is compiled. Then kernels and guests. The columns of one kernel in one variant
//! form a chain: its base and the steps of its series share an object directory, so each build is incremental
//! and overlaps with the boot of the previous kernel.

use std::sync::Arc;

use crate::checks::{self, State};
use crate::column::{self, ColumnResult, Unbuilt};
use crate::plan::Column;
use crate::resources::Resources;
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::event::Kind;
use vmtest_base::interrupt;
use vmtest_base::thread::join;
use vmtest_host::store::RunDir;
use vmtest_kernel::series::Patch;
use vmtest_record::run::{Cell, Kernel, Role};

/// Splits columns into chains.
pub fn split(columns: &[Column]) -> impl Iterator<Item = &[Column]> {
    columns.chunk_by(|a, b| (&a.spec, &a.variant) == (&b.spec, &b.variant))
}

/// Runs all columns.
///
/// # Errors
/// Class `Usage` for a mistake that can only be detected with the built runner.
pub fn run(resources: &Resources<'_>, columns: &[Column], run_dir: &RunDir) -> Result<Vec<ColumnResult>> {
    let chains: Vec<(usize, &[Column])> = split(columns).enumerate().collect();
    let kernels_to_build = columns.iter().filter(|column| column.spec.has_source()).count();
    resources.ctx.bus.emit(Kind::Planned { kernels: kernels_to_build });
    // Detect a glob without a match before building a kernel.
    let runner = || resources.runner().map(|_| ());
    side_by_side(
        &chains,
        runner,
        |chain| trees(resources, *chain),
        |(_, chain), trees| {
            let columns: Vec<_> = chain.iter().map(|column| (resources, column)).collect();
            configure(&columns, without_vain_bases(chain, trees), chains.len() == 1, run_dir)
        },
        |(_, chain), trees| kernels(resources, chain, trees, run_dir),
    )
}

/// Runs chains in three steps, each for all chains in parallel: `trees` first, `configure` once all trees are
/// done, and then `kernels`.
///
/// # Errors
/// Class `Usage` from `runner`, which runs in parallel and stops the chains if it fails.
pub fn side_by_side<L: Sync, T: Send, R: Send>(
    chains: &[L],
    runner: impl FnOnce() -> Result<()> + Send,
    trees: impl Fn(&L) -> T + Sync,
    configure: impl Fn(&L, T) -> T + Sync,
    kernels: impl Fn(&L, T) -> Vec<R> + Sync,
) -> Result<Vec<R>> {
    std::thread::scope(|scope| {
        let runner = scope.spawn(runner);
        let booted = scope.spawn(|| {
            let trees = in_parallel(chains.iter().map(|chain| || trees(chain)));
            let ready = chains.iter().zip(trees);
            let ready = in_parallel(ready.map(|(chain, tree)| || configure(chain, tree)));
            let ready = chains.iter().zip(ready);
            let results = in_parallel(ready.map(|(chain, tree)| || kernels(chain, tree)));
            results.into_iter().flatten().collect()
        });
        if let Err(error) = join(runner) {
            if error.class == Class::Usage {
                interrupt::abandon();
                drop(booted.join());
                return Err(error);
            }
        }
        Ok(join(booted))
    })
}

/// Does each in its own thread.
fn in_parallel<R: Send, F: FnOnce() -> R + Send>(all: impl Iterator<Item = F>) -> Vec<R> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = all.map(|one| scope.spawn(one)).collect();
        threads.into_iter().map(join).collect()
    })
}

/// Configures the first kernel of a chain, unless it is `alone` and will be configured before anything is
/// compiled in any case; and the last, if its series may change the result.
pub fn configure(
    columns: &[(&Resources<'_>, &Column)],
    trees: Vec<Unbuilt>,
    alone: bool,
    run_dir: &RunDir,
) -> Vec<Unbuilt> {
    let last = trees.len().saturating_sub(1);
    let columns_and_trees = columns.iter().zip(trees).enumerate();
    let configured = columns_and_trees.map(|(at, ((resources, column), tree))| match at {
        0 if alone => tree,
        0 => column::configure(resources, column, tree, false, run_dir),
        _ if at == last && tree.changes_config() => column::configure(resources, column, tree, true, run_dir),
        _ => tree,
    });
    let configured: Vec<Unbuilt> = configured.collect();
    for (at, tree) in configured.iter().enumerate().filter(|_| interrupt::requested().is_none()) {
        let id = &tree.kernel().id;
        // A run of one kernel ends with this error, and jobs of a matrix have the same kernel.
        let is_new = !(alone && last == 0) && (at == 0 || configured[at - 1].kernel().id != *id);
        if let Some(error) = tree.tree().err().filter(|_| is_new) {
            let why = error.summary();
            let why = why.strip_prefix(&format!("{id}: ")).unwrap_or(&why);
            columns[at].0.ctx.bus.warn(format!("{id}: {why}"));
        }
    }
    configured
}

/// The patched trees of the columns of a chain.
fn trees(resources: &Resources<'_>, (place, chain): (usize, &[Column])) -> Vec<Unbuilt> {
    let (Some(first), Some(last)) = (chain.first(), chain.last()) else { return Vec::new() };
    // Once for all columns: a tree that is edited in the meantime must not differ between them.
    let material = column::material(resources, first);
    let trees: Vec<Unbuilt> =
        chain.iter().map(|column| column::patch(resources, column, &material)).collect();
    let borrows = |column: &Column| !column.spec.has_source();
    if last.spec.has_source() && resources.plan.columns.iter().any(borrows) {
        lend(resources, place, trees.last());
    }
    if let (Some(wanted), Some(Ok(Some(tree)))) = (&resources.plan.upstream, trees.last().map(Unbuilt::tree))
    {
        column::warn_of_absent_tests(resources, tree, wanted);
    }
    trees
}

/// Offers the bpftool of the tree with the whole series to kernels without a tree.
fn lend(resources: &Resources<'_>, place: usize, tree: Option<&Unbuilt>) {
    let Some(unbuilt) = tree else { return };
    let lent: Result<()> = unbuilt.tree().and_then(|tree| match tree {
        Some(tree) => resources.donors.offer(place, tree),
        None => Ok(()),
    });
    if let Err(error) = lent {
        // The error itself is reported in its column.
        let id = &unbuilt.kernel().id;
        resources.ctx.bus.note(format!("{id}: cannot build a bpftool for kernels without a tree: {error}"));
    }
}

/// Stops the base of a series that does not apply: there is nothing to compare it with.
fn without_vain_bases(chain: &[Column], trees: Vec<Unbuilt>) -> Vec<Unbuilt> {
    let lost = trees.last().is_some_and(Unbuilt::is_unpatchable);
    let stop = |(column, tree): (&Column, Unbuilt)| match column.role {
        Some(Role::Base) if lost => tree.stopped(Error::new(
            Class::SeriesDoesNotApply,
            "not built, because the series does not apply to it",
        )),
        _ => tree,
    };
    chain.iter().zip(trees).map(stop).collect()
}

/// Builds the columns of a chain one after the other, and boots each as soon as it is built.
fn kernels(
    resources: &Resources<'_>,
    chain: &[Column],
    trees: Vec<Unbuilt>,
    run_dir: &RunDir,
) -> Vec<ColumnResult> {
    let mut results = build_and_boot(resources, chain, trees, run_dir);
    for at in 1..results.len() {
        let before = results[at - 1].first().map(|result| result.kernel.id.clone());
        if chain[at - 1].role.is_some() {
            results[at].iter_mut().for_each(|result| result.kernel.compared_to.clone_from(&before));
        }
    }
    results.into_iter().flatten().collect()
}

/// With checks, each patch is also compared with the kernel before it, and a kernel that is the same as the
/// one before it is not booted again.
fn build_and_boot(
    resources: &Resources<'_>,
    chain: &[Column],
    trees: Vec<Unbuilt>,
    run_dir: &RunDir,
) -> Vec<Vec<ColumnResult>> {
    let patches: Vec<Option<Patch>> = trees.iter().map(|tree| tree.last_patch().cloned()).collect();
    let reviews = !resources.plan.checks.is_empty();
    std::thread::scope(|scope| {
        let mut started = Vec::new();
        let mut before: Option<Arc<State>> = None;
        for (at, (column, tree)) in chain.iter().zip(trees).enumerate() {
            let state = reviews.then(|| State::of(&tree));
            let built = column::build(resources, column, tree, run_dir);
            let (mut is_same, mut checks) = (false, None);
            if let Some(mut state) = state {
                let next = patches.get(at + 1).and_then(Option::as_ref);
                state.built(resources, column, &built, next, run_dir);
                let state = Arc::new(state);
                let before = before.replace(Arc::clone(&state));
                is_same = before.as_ref().is_some_and(|before| state.is_same_guest(before, resources));
                checks = Some(scope.spawn(move || checks::run(resources, before.as_deref(), &state)));
            }
            let guest = if is_same {
                Err(built.kernel().clone())
            } else {
                Ok(scope.spawn(move || column::boot(resources, column, &built, run_dir)))
            };
            started.push((guest, checks));
        }
        let mut results: Vec<Vec<ColumnResult>> = Vec::new();
        for (guest, checks) in started {
            let mut result = match guest {
                Ok(guest) => join(guest),
                Err(kernel) => same_results(results.last().map_or(&[], Vec::as_slice), &kernel),
            };
            let checks = checks.map(join).unwrap_or_default();
            result.iter_mut().for_each(|one| one.kernel.checks.clone_from(&checks));
            results.push(result);
        }
        results
    })
}

/// The results of the column before, for a kernel that is the same.
fn same_results(before: &[ColumnResult], kernel: &Kernel) -> Vec<ColumnResult> {
    let copy = |result: &ColumnResult| {
        let same_as = result.kernel.same_as.clone().unwrap_or_else(|| result.kernel.id.clone());
        let cell =
            |cell: &Cell| Cell { kernel: kernel.id.clone(), attempts: 0, duration_ms: 0, ..cell.clone() };
        ColumnResult {
            kernel: Kernel { same_as: Some(same_as), ..kernel.clone() },
            boot: None,
            again: Vec::new(),
            cells: result.cells.iter().map(cell).collect(),
            splats: Vec::new(),
        }
    };
    before.iter().map(copy).collect()
}
