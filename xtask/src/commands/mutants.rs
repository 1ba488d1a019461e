// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask test --mutants`: does the suite notice when the series is broken? Runs the default kernel,
//! and the same with each mutant on top, through the same stages as `vmtest`, with direct boot.

mod coverage_page;
mod table;

use std::path::Path;
use std::sync::Arc;

use crate::verbosity::Verbosity;
use vmtest_protocol::SelfTest;

use crate::commands::{finish, print, start};
use coverage_page as report;
use coverage_page::Source;
use vmtest_base::error::{Class, Error, PRECEDENCE, Result};
use vmtest_base::files::write_file;
use vmtest_base::interrupt;
use vmtest_engine::build_chain;
use vmtest_engine::column::ColumnResult;
use vmtest_engine::coverage::{self, Columns, Seen};
use vmtest_engine::mutants::{self, Mutant, MutantResult};
use vmtest_engine::plan::{Column, Plan};
use vmtest_engine::prepare::{Prepared, prepare};
use vmtest_engine::request::{BootChoice, Request, Suite};
use vmtest_engine::resources::Resources;
use vmtest_host::context::Context;
use vmtest_host::store::{KEPT_RUNS, RunDir};
use vmtest_kernel::maintained::MUTANTS;
use vmtest_report::layout::Look;

/// Runs all mutants, or those named in `only`. `common` has the toolchain and the accelerator.
/// `with_coverage` also damages the suite on purpose, and writes docs/evidence/coverage.md.
///
/// # Errors
/// Everything that stops a run before it has kernels.
pub fn run(
    only: &[String],
    with_coverage: bool,
    common: &Request,
    mirror: Option<&str>,
    project: &Path,
) -> Result<Class> {
    let mutants = mutants::load(&project.join("patches").join(MUTANTS), only)?;
    // Direct boot takes a third of the time of vng, and no mutant is about booting.
    let variants = mutants::variants(&mutants);
    let request = Request { boot: BootChoice::Direct, variants, ..common.clone() };
    let ctx = start::context(project, mirror, Verbosity::Normal, None)?;
    let prepared = prepare(&ctx, Plan::new(&request)?)?;
    // The series itself on each variant, the default one first.
    let controls = prepared.plan.columns.clone();
    if controls.is_empty() {
        return Err(Error::usage("no kernel to modify"));
    }
    let damages: &[SelfTest] = if with_coverage { &[SelfTest::Turned, SelfTest::Blind] } else { &[] };
    let columns = columns(&controls, damages, &mutants)?;
    let resources = Resources::open(&ctx, &prepared)?;
    // Before building any kernel: a glob without a match is a mistake in the mutant.
    mutants::check(&mutants, resources.runner()?.1)?;
    let run_dir = start::run_dir(&ctx, None)?;
    let results = build_chain::run(&resources, &columns, &run_dir)?;
    // Columns are identified by their index.
    if results.len() != columns.len() {
        return Err(Error::host(format!("{} of {} columns were run", results.len(), columns.len())));
    }
    let (undamaged, others) = results.split_at(controls.len());
    let control = &undamaged[0];
    let (damaged, seen) = others.split_at(damages.len());
    let without = mutants.iter().map(|mutant| Ok(&undamaged[place(&controls, mutant)?]));
    let without: Vec<&ColumnResult> = without.collect::<Result<_>>()?;
    let judged = |((mutant, control), seen)| (mutant, mutants::judge(mutant, control, seen));
    let findings: Vec<(&Mutant, MutantResult)> =
        mutants.iter().zip(without.iter().copied()).zip(seen).map(judged).collect();
    let mut class = interrupt::requested().unwrap_or_else(|| worst(&findings, mutants.len()));
    let mut unproven = String::new();
    if let [turned, blind] = damaged {
        // The tree's own test is run on the default variant only.
        let on_default =
            |(mutant, column): (&Mutant, &Column)| mutant.variant.is_none().then(|| column.clone());
        let of_mutants = &columns[controls.len() + damages.len()..];
        let kernels: Vec<Column> = std::iter::once(columns[0].clone())
            .chain(mutants.iter().zip(of_mutants).filter_map(on_default))
            .collect();
        let upstream = of_upstream(&ctx, common, &prepared, &kernels, &run_dir)?;
        let [upstream_control, upstream @ ..] = &upstream[..] else {
            return Err(Error::host("the tree's own tests were not run"));
        };
        let mut upstream = upstream.iter();
        let seen = mutants.iter().zip(without.iter().copied()).zip(seen);
        let mutants = seen.map(|((mutant, control), own)| {
            let upstream = if mutant.variant.is_none() { upstream.next() } else { None };
            Seen { mutant, control, own, upstream }
        });
        let mutants = mutants.collect();
        let evidence = Columns { control, turned, blind, mutants, upstream: upstream_control };
        let found;
        (unproven, found) = write_coverage(&evidence, &run_dir, project)?;
        if class == Class::Pass {
            class = found;
        }
    }
    let data = table::json(&findings, &run_dir.id, &control.kernel.id, class.code());
    write_file(&run_dir.path.join("mutants.json"), format!("{data:#}\n"))?;
    finish::tidy(&ctx, &run_dir, KEPT_RUNS, None);
    print(&unproven)?;
    let place = run_dir.path.display().to_string();
    print(&table::render(&findings, &place, class.code(), Look::of_stdout(None)))?;
    Ok(class)
}

/// The series itself on each variant, the first with the suite damaged in each of these ways, and with each
/// mutant on top.
fn columns(controls: &[Column], damages: &[SelfTest], mutants: &[Mutant]) -> Result<Vec<Column>> {
    let with = |mutant: &Mutant| {
        let control = controls[place(controls, mutant)?].clone();
        Ok(Column { on_top: Some(Arc::new(mutant.series.clone())), ..control })
    };
    let damaged = |how: &SelfTest| Column {
        self_test: Some(*how),
        label: Some(how.name().to_owned()),
        ..controls[0].clone()
    };
    let mut columns = controls.to_vec();
    columns.extend(damages.iter().map(damaged));
    columns.extend(mutants.iter().map(with).collect::<Result<Vec<_>>>()?);
    Ok(columns)
}

/// The index of the column that a mutant is compared with.
///
/// # Errors
/// Class `Host` if its variant was not prepared.
fn place(controls: &[Column], mutant: &Mutant) -> Result<usize> {
    let Some(variant) = &mutant.variant else { return Ok(0) };
    let found = controls.iter().position(|column| column.variant.as_ref() == Some(variant));
    found.ok_or_else(|| Error::host(format!("mutant {}: variant {variant} was not planned", mutant.name)))
}

/// Writes coverage.md; returns the lines about what is unproven, and their class.
fn write_coverage(evidence: &Columns<'_>, run_dir: &RunDir, project: &Path) -> Result<(String, Class)> {
    let (control, upstream) = (evidence.control, evidence.upstream);
    let subtests = coverage::subtests(evidence);
    let source = Source { kernel: &control.kernel.id, accel: accel_of(control), run: &run_dir.id };
    let page = report::page(&subtests, &coverage::suites(evidence), &source);
    write_file(&run_dir.path.join("coverage.md"), &page)?;
    // An interrupted run or one without a boot proves nothing, so it leaves the page unchanged.
    if interrupt::requested().is_none() && control.boot.is_some() {
        write_file(&project.join("docs/evidence/coverage.md"), &page)?;
    }
    let unproven = report::unproven(&subtests, &coverage::upstream_unproven(upstream));
    Ok((unproven, coverage::class(&subtests, upstream)))
}

/// The class that decides the exit code: a mutant without a finding was not noticed.
fn worst(findings: &[(&Mutant, MutantResult)], mutants: usize) -> Class {
    if findings.is_empty() || findings.len() != mutants {
        return Class::Host;
    }
    let classes: Vec<Class> = findings.iter().map(|(_, finding)| finding.verdict.class()).collect();
    PRECEDENCE.into_iter().find(|class| classes.contains(class)).unwrap_or(Class::Host)
}

fn accel_of(column: &ColumnResult) -> &str {
    column.boot.as_ref().map_or("not booted", |boot| boot.accel.as_str())
}

/// The tree's own session test.
const UPSTREAM_TEST: &str = "fsession_test";

/// Runs the tree's own session test on these kernels, which have been built by then; one result for each.
/// Unlike our own suite it needs virtme-ng, and it is never damaged.
fn of_upstream(
    ctx: &Context,
    common: &Request,
    prepared: &Prepared,
    columns: &[Column],
    run_dir: &RunDir,
) -> Result<Vec<ColumnResult>> {
    let request = Request {
        boot: BootChoice::Vng,
        suites: vec![Suite::Upstream],
        tests: vec![UPSTREAM_TEST.to_owned()],
        ..common.clone()
    };
    let prepared = prepared.for_plan(ctx, Plan::new(&request)?)?;
    let results = build_chain::run(&Resources::open(ctx, &prepared)?, columns, run_dir)?;
    // Columns are identified by their index.
    if results.len() != columns.len() {
        return Err(Error::host(format!(
            "the tree's own tests ran on {} of {} kernels",
            results.len(),
            columns.len()
        )));
    }
    Ok(results)
}
