// SPDX-License-Identifier: MIT OR Apache-2.0
//! Merges the runs of shards of one matrix into the run that a single machine would have produced. Pure.
//!
//! All shards must belong to one matrix and one harness, contain each job at most once, and use the same
//! source for each kernel and the same patches for each series; each cell must belong to a job of its shard,
//! and each shard must have the exit code that follows from its cells. A job without cells is missing,
//! whatever its shard claims.
//!
//! How it could be wrong: a shard from an earlier day, with the same file and harness, is accepted as today's
//! if no other shard tests its kernel. Its source is in the record (`source`), and the user must supply the
//! shards of one run.

use std::collections::{BTreeMap, BTreeSet};

use crate::matrix::job::{NO_SERIES, NO_VARIANT};
use crate::matrix::{expect, keys};
use vmtest_base::error::{Class, Error, Result};
use vmtest_record::matrix::{Axes, CellGlobs, ExpectRecord, JobRecord, MatrixRecord};
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{AllowRecord, Cell, Kernel, RunResult, SCHEMA};

/// A run of some jobs.
#[derive(Debug)]
pub struct Part {
    /// Where it came from, for messages.
    pub name: String,
    pub run: RunResult,
}

/// What all shards must agree with.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Hash of the file and the harness.
    pub key: String,
    /// Hash of the harness.
    pub harness: String,
    pub all: Vec<Axes>,
    /// Names of the jobs that must be present.
    pub wanted: Vec<String>,
    /// `[[require]]`
    pub required: Vec<CellGlobs>,
    /// `[[expect]]`, with the state of each entry if nothing had run.
    pub expected: Vec<ExpectRecord>,
}

impl Frame {
    /// Takes the frame from the first shard.
    ///
    /// # Errors
    /// Class `Usage` if it does not belong to a matrix.
    pub fn of(part: &Part) -> Result<Frame> {
        let matrix = record(part)?;
        Ok(Frame {
            key: matrix.key.clone(),
            harness: matrix.harness.clone(),
            all: matrix.all.clone(),
            wanted: matrix.all.iter().map(|axes| axes.id.clone()).collect(),
            required: matrix.required.iter().map(|entry| entry.cells.clone()).collect(),
            expected: Vec::new(),
        })
    }
}

/// Why a job is missing.
#[derive(Debug, Clone)]
pub struct Gap {
    /// Outcome of the one cell that represents it.
    pub outcome: Outcome,
    pub class: Class,
    pub reason: String,
}

impl Gap {
    /// No run of it was given.
    fn missing() -> Gap {
        let reason = "no run of this job was given".to_owned();
        Gap { outcome: Outcome::Missing, class: Class::Incomplete, reason }
    }
}

fn record(part: &Part) -> Result<&MatrixRecord> {
    part.run.matrix.as_ref().ok_or_else(|| {
        Error::usage(format!("{} is not a run of a matrix", part.name))
            .next("only runs of `vmtest --matrix FILE` with --cell or --shard can be merged")
    })
}

fn refused(part: &Part, why: impl Into<String>) -> Error {
    Error::usage(format!("{} cannot be merged", part.name)).why(why.into())
}

/// Merges the shards. `gaps`: why jobs are missing, if known. The run does not have a name or a command yet.
///
/// # Errors
/// Class `Usage` for shards that do not belong together.
pub fn join(frame: &Frame, mut parts: Vec<Part>, gaps: &BTreeMap<String, Gap>) -> Result<RunResult> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for part in &parts {
        check(frame, part)?;
        for job in &record(part)?.jobs {
            if let Some(other) = seen.insert(job.id.clone(), part.name.clone()) {
                return Err(refused(part, format!("{} is already in {other}", job.id)));
            }
        }
    }
    one_source(frame, &parts)?;
    let place = |id: &str| frame.all.iter().position(|axes| axes.id == id);
    parts.sort_by_key(|part| part.run.matrix.as_ref()?.jobs.iter().filter_map(|job| place(&job.id)).min());
    let mut run = empty(frame);
    let mut jobs = Vec::new();
    let mut interrupted = None;
    for Part { run: part, .. } in parts {
        if matches!(part.exit_code, Class::Interrupted | Class::Terminated) {
            interrupted = interrupted.or(Some(part.exit_code));
        }
        let matrix = part.matrix.unwrap_or_default();
        jobs.extend(matrix.jobs.into_iter().filter(|job| job.cells > 0));
        if let Some(all) = &mut run.matrix {
            expect::add(&mut all.expected, &matrix.expected);
        }
        for kernel in part.kernels {
            if !run.kernels.contains(&kernel) {
                run.kernels.push(kernel);
            }
        }
        for (name, version) in part.tools {
            run.tools.entry(name).or_insert(version);
        }
        run.boots.extend(part.boots);
        run.cells.extend(part.cells.into_iter().filter(|cell| !is_made_here(cell)));
        run.splats.extend(part.splats);
        run.series.extend(part.series);
        run.proves.extend(part.proves);
        run.phases.extend(part.phases);
        add_allowed(&mut run.allowed_splats, part.allowed_splats);
    }
    for axes in frame.all.iter().filter(|axes| frame.wanted.contains(&axes.id)) {
        if !jobs.iter().any(|job| job.id == axes.id) {
            let gap = gaps.get(&axes.id).cloned().unwrap_or_else(Gap::missing);
            stand_in(&mut run, axes, &jobs, &frame.all, gap);
        }
    }
    if let Some(matrix) = &mut run.matrix {
        matrix.jobs = jobs;
    }
    settle(&mut run, frame, interrupted);
    vmtest_record::attribution::settle(&mut run, interrupted);
    arrange(&mut run);
    Ok(run)
}

/// Decides what requires all cells.
fn settle(run: &mut RunResult, frame: &Frame, interrupted: Option<Class>) {
    // Required cells that a wanted job did not produce are missing.
    let whole = frame.all.iter().all(|axes| frame.wanted.contains(&axes.id));
    let required = expect::require(&frame.required, &mut *run, whole);
    if let Some(cell) = run.cells.iter().find(|cell| expect::is_stand_in(cell)) {
        let (id, spec) = (cell.kernel.clone(), cell.kernel.clone());
        if !run.kernels.iter().any(|kernel| kernel.id == id) {
            run.kernels.push(Kernel { id, spec, ..Kernel::default() });
        }
    }
    if let Some(matrix) = &mut run.matrix {
        matrix.required = required;
    }
    run.conclude(interrupted);
}

fn empty(frame: &Frame) -> RunResult {
    RunResult {
        matrix: Some(MatrixRecord {
            key: frame.key.clone(),
            harness: frame.harness.clone(),
            all: frame.all.clone(),
            expected: frame.expected.clone(),
            ..MatrixRecord::default()
        }),
        ..RunResult::empty("", Vec::new())
    }
}

/// Checks that a shard belongs to this matrix and is consistent.
///
/// # Errors
/// Class `Usage`, with what is wrong.
pub fn check(frame: &Frame, part: &Part) -> Result<()> {
    let matrix = record(part)?;
    if part.run.schema != SCHEMA {
        return Err(refused(
            part,
            format!("its schema is {}; this version supports only {SCHEMA}", part.run.schema),
        ));
    }
    if matrix.harness != frame.harness {
        return Err(refused(part, "it was made by another version of the harness")
            .next("run all parts from one checkout, with the same uncommitted changes"));
    }
    if matrix.key != frame.key || matrix.all != frame.all {
        return Err(refused(part, "it belongs to another matrix, or to another version of the file"));
    }
    let mut count: BTreeMap<&str, u64> = BTreeMap::new();
    for job in &matrix.jobs {
        if !frame.all.iter().any(|axes| belongs(job, axes)) {
            return Err(refused(part, format!("the matrix has no such job: {}", job.id)));
        }
        if job.key != keys::job(&frame.key, &job.id).as_str() {
            return Err(refused(
                part,
                format!("it is not a run of {}: its key belongs to another job", job.id),
            ));
        }
        if count.insert(&job.id, 0).is_some() {
            return Err(refused(part, format!("{} is in it twice", job.id)));
        }
    }
    let mut names = BTreeSet::new();
    for cell in part.run.cells.iter().filter(|cell| !is_made_here(cell)) {
        let mine: Vec<&JobRecord> = matrix.jobs.iter().filter(|job| job.owns(cell.column())).collect();
        let name = || format!("{} on {} ({})", cell.path(), cell.kernel, cell.variant);
        let [job] = mine[..] else {
            return Err(refused(part, format!("{} belongs to {} of its jobs", name(), mine.len())));
        };
        *count.entry(&job.id).or_default() += 1;
        if !names.insert(cell.id()) {
            return Err(refused(part, format!("{} is in it twice", name())));
        }
        if !is_possible(cell) {
            return Err(refused(part, format!("{} is {} and counts as a pass", name(), cell.outcome.name())));
        }
    }
    if let Some(job) = matrix.jobs.iter().find(|job| count.get(job.id.as_str()) != Some(&job.cells)) {
        return Err(refused(part, format!("{} declares {} cells, but holds others", job.id, job.cells)));
    }
    vmtest_record::load::check(&part.run).map_err(|why| refused(part, why))
}

fn belongs(job: &JobRecord, axes: &Axes) -> bool {
    let variant = if axes.variant == NO_VARIANT { "" } else { &axes.variant };
    job.id == axes.id && job.variant == variant && job.suite == axes.suite && job.boot == axes.boot
}

/// Whether the class of a cell is consistent with its outcome: few bad outcomes may count as a pass.
fn is_possible(cell: &Cell) -> bool {
    let good = cell.class == Class::Pass;
    match cell.outcome {
        Outcome::Pass => good,
        // A matrix may require it to pass.
        Outcome::Xfail => good || cell.class == Class::Incomplete,
        Outcome::Flaky => true,
        Outcome::Skip | Outcome::Notrun => !good || !cell.required,
        Outcome::Fail | Outcome::Crash | Outcome::Timeout | Outcome::Missing => !good,
    }
}

/// A kernel in the file must have the same source in all shards, and a series the same patches.
fn one_source(frame: &Frame, parts: &[Part]) -> Result<()> {
    let mut known: BTreeMap<(&str, &str), (&str, &str)> = BTreeMap::new();
    let jobs = parts
        .iter()
        .flat_map(|part| part.run.matrix.iter().flat_map(|m| &m.jobs).map(move |job| (part, job)));
    for (part, job) in jobs {
        let Some(axes) = frame.all.iter().find(|axes| axes.id == job.id) else { continue };
        for (what, name, key) in
            [("kernel", &axes.kernel, &job.source), ("series", &axes.series, &job.series)]
        {
            if key.is_empty() {
                continue;
            }
            let (other, at) = *known.entry((what, name)).or_insert((key, &part.name));
            if other != key {
                return Err(refused(part, format!("{what} {name} differs from {at}"))
                    .next("merge runs that were started together"));
            }
        }
    }
    Ok(())
}

/// The cell that represents a missing job.
fn stand_in(run: &mut RunResult, axes: &Axes, jobs: &[JobRecord], all: &[Axes], gap: Gap) {
    // If another job has the same kernel, its column has the right name.
    let twin = all.iter().filter(|other| (&other.kernel, &other.series) == (&axes.kernel, &axes.series));
    let twin = twin.filter_map(|other| jobs.iter().find(|job| job.id == other.id)).next();
    let series = if axes.series == NO_SERIES { String::new() } else { format!("+{}", axes.series) };
    let kernel = twin.map_or_else(|| format!("{}{series}", axes.kernel), |job| job.kernel.clone());
    if !run.kernels.iter().any(|known| known.id == kernel) {
        let spec = axes.kernel.clone();
        run.kernels.push(Kernel { id: kernel.clone(), spec, ..Kernel::default() });
    }
    run.cells.push(Cell {
        kernel,
        variant: if axes.variant == NO_VARIANT { String::new() } else { axes.variant.clone() },
        boot: if axes.boot == "auto" { String::new() } else { axes.boot.clone() },
        accel: String::new(),
        suite: axes.suite.clone(),
        test: STAND_IN.to_owned(),
        subtest: axes.id.clone(),
        outcome: gap.outcome,
        reason: format!("{}: {}", axes.id, gap.reason),
        required: true,
        attempts: 0,
        duration_ms: 0,
        class: gap.class,
        was: None,
        measured: String::new(),
        unmet: Vec::new(),
        held: Vec::new(),
        log: String::new(),
        enforced: None,
        expected: None,
        tries: Vec::new(),
    });
}

/// Whether merging creates this cell, so it does not belong to a shard: the merged run may already contain
/// it.
fn is_made_here(cell: &Cell) -> bool {
    is_stand_in(cell) || expect::is_stand_in(cell)
}

/// Test name of the cell that represents a whole job; the subtest is the job's name.
pub const STAND_IN: &str = "job";

/// Whether a cell represents a missing job.
fn is_stand_in(cell: &Cell) -> bool {
    cell.test == STAND_IN && cell.attempts == 0 && matches!(cell.outcome, Outcome::Missing | Outcome::Notrun)
}

fn add_allowed(all: &mut Vec<AllowRecord>, part: Vec<AllowRecord>) {
    for new in part {
        let same = |old: &&mut AllowRecord| {
            (&old.title, &old.reason, &old.expires) == (&new.title, &new.reason, &new.expires)
        };
        match all.iter_mut().find(same) {
            Some(old) => {
                old.splats += new.splats;
                if old.state == "unused" || new.state == "expired" {
                    old.state = new.state;
                }
            }
            None => all.push(new),
        }
    }
}

/// Sorts everything into matrix order, regardless of which shard came first.
pub fn arrange(run: &mut RunResult) {
    let Some(matrix) = &mut run.matrix else { return };
    let place = |id: &str| matrix.all.iter().position(|axes| axes.id == id).unwrap_or(usize::MAX);
    matrix.jobs.sort_by_key(|job| place(&job.id));
    let jobs = &matrix.jobs;
    let of_cell = |cell: &Cell| match jobs.iter().find(|job| job.owns(cell.column())) {
        _ if is_stand_in(cell) => place(&cell.subtest),
        Some(job) => place(&job.id),
        None => usize::MAX,
    };
    run.cells.sort_by_key(of_cell);
    run.boots.sort_by_key(|boot| {
        let mine = |job: &&JobRecord| job.owns(boot.column());
        jobs.iter().find(mine).map_or(usize::MAX, |job| place(&job.id))
    });
    run.splats.sort_by_key(|splat| {
        let mine = |job: &&JobRecord| job.variant_id() == splat.variant_id();
        jobs.iter().find(mine).map_or(usize::MAX, |job| place(&job.id))
    });
    let cells = &run.cells;
    let first =
        |kernel: &Kernel| cells.iter().position(|cell| cell.kernel == kernel.id).unwrap_or(usize::MAX);
    run.kernels.sort_by_cached_key(|kernel| (first(kernel), kernel.toolchain.clone(), kernel.key.clone()));
}

#[cfg(test)]
mod tests;
