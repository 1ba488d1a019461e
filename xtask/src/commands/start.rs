// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the commands that test kernels have in common: what every stage needs, what the host must have, what can be wrong
//! with the command line, and the columns side by side.

use std::path::Path;

use crate::context::Context;
use crate::error::{Class, Error, Result};
use crate::event::{Bus, Sink};
use crate::host::{Need, Toolchain};
use crate::image::BuildRoot;
use crate::interrupt;
use crate::kernel::spec::KernelSpec;
use crate::kernel::{config, source, variant};
use crate::lane::{self, join};
use crate::launch;
use crate::plan::{Plan, Unit};
use crate::report::{log::Log, progress};
use crate::request::BootChoice;
use crate::shop::Shop;
use crate::suite::Runner;
use crate::unit::UnitResult;
use crate::workdir::{Cache, RunDir};

/// What the host must have for this plan.
pub fn needs(plan: &Plan, ctx: &Context) -> Vec<Need> {
    let mut needs = vec![Need::Storage];
    let archive = |unit: &Unit| matches!(unit.spec, KernelSpec::Src(_) | KernelSpec::Debian { .. });
    if plan.units.iter().any(archive) {
        needs.push(Need::Archive);
    }
    if plan.units.iter().any(|unit| unit.spec.has_source()) {
        needs.push(Need::Source);
    }
    match plan.toolchain {
        Toolchain::Image => {
            needs.push(Need::Sandbox);
            if !BuildRoot::is_cached(ctx) {
                needs.push(Need::BuildRoot);
            }
        }
        Toolchain::Host => {
            needs.push(Need::HostBoot);
            let builds = plan.units.iter().any(|unit| unit.spec.has_source());
            if builds {
                needs.push(Need::HostBuild);
            }
            // `auto` takes vng for what is built here, and would miss it only after the build.
            if plan.boot == BootChoice::Vng || (plan.boot == BootChoice::Auto && builds) {
                needs.push(Need::HostVng);
            }
        }
    }
    if !Runner::is_cached(ctx) {
        needs.push(Need::Runner);
    }
    needs
}

/// Fragments and variants that can be read.
///
/// # Errors
/// Class `Usage`.
pub fn check_configurations(ctx: &Context, plan: &Plan) -> Result<()> {
    for path in &plan.config {
        std::fs::read_to_string(path).map_err(|error| {
            Error::usage(format!("--config {} cannot be read", path.display())).why(error)
        })?;
    }
    for unit in &plan.units {
        let load = |name: &String| variant::load(&ctx.project.join("kconfig"), name);
        let variant = unit.variant.as_ref().map(load).transpose()?;
        if let Some(variant) = &variant {
            let fragments: Vec<_> = variant.fragments.iter().chain(&plan.config).cloned().collect();
            config::read(&fragments)?;
        }
        launch::check_cmdline(plan, unit, variant.as_ref())?;
    }
    Ok(())
}

/// Everything that can be wrong with what was typed and can be seen without work. Returns what each spec means.
///
/// # Errors
/// Class `Usage`, and `Host` where the archive cannot be asked.
pub fn check_inputs(ctx: &Context, plan: &mut Plan) -> Result<Vec<source::Resolved>> {
    check_configurations(ctx, plan)?;
    let mut resolved: Vec<source::Resolved> =
        plan.units.iter().map(|unit| source::resolve(ctx, &unit.spec)).collect::<Result<_>>()?;
    let ids = source::unique_ids(&resolved);
    for ((one, id), unit) in resolved.iter_mut().zip(ids).zip(&mut plan.units) {
        unit.label = Some(id.clone()).filter(|id| *id != one.id);
        one.id = id;
    }
    for (at, (unit, one)) in plan.units.iter().zip(&resolved).enumerate() {
        let before = plan.units.iter().zip(&resolved).take(at);
        // Cells are told apart by this name, and so are the directories of their consoles.
        let same = before.filter(|(other, _)| other.spec != unit.spec).find(|(_, other)| other.id == one.id);
        if let Some((other, _)) = same {
            return Err(Error::usage(format!("two kernels would both be the column {}", one.id))
                .why(format!("{} and {} have the same name", other.spec, unit.spec))
                .next("test them in two runs, or give their directories different names"));
        }
    }
    Ok(resolved)
}

/// Runs all columns to their end.
///
/// # Errors
/// Class `Usage` for a mistake that only the built runner could show.
pub fn run_units(shop: &Shop<'_>, units: &[Unit], run_dir: &RunDir) -> Result<Vec<UnitResult>> {
    std::thread::scope(|scope| {
        // Ahead of everything: a glob without a match should not wait for a kernel.
        let runner = scope.spawn(|| shop.runner().map(|_| ()));
        let lanes: Vec<_> = lane::split(units).collect();
        // All of them before the first runs, which may wait for the others.
        let promises: Vec<_> = lanes
            .iter()
            .map(|lane| lane.first().filter(|unit| unit.spec.has_source()).map(|_| shop.lenders.promise()))
            .collect();
        let lanes: Vec<_> = lanes
            .into_iter()
            .zip(promises)
            .enumerate()
            .map(|(place, (lane, promise))| {
                scope.spawn(move || lane::run(shop, lane, promise.map(|promise| (place, promise)), run_dir))
            })
            .collect();
        if let Err(error) = join(runner) {
            if error.class == Class::Usage {
                interrupt::abandon();
                lanes.into_iter().for_each(|lane| drop(lane.join()));
                return Err(error);
            }
        }
        Ok(lanes.into_iter().flat_map(join).collect())
    })
}

/// What every stage needs. Events go to the progress display and to `more`.
///
/// # Errors
/// When there is no place for the cache.
pub fn context(project: &Path, mirror: Option<&str>, more: Option<Box<dyn Sink>>) -> Result<Context> {
    let bus = Bus::new(std::iter::once(progress::sink()).chain(more).collect());
    Ok(Context { cache: Cache::open()?, bus, project: project.to_owned(), mirror: mirror.map(str::to_owned) })
}

/// A new directory for a run, to whose log all events go from now on.
///
/// # Errors
/// When it cannot be written, or is not empty.
pub fn run_dir(ctx: &Context, out: Option<&Path>) -> Result<RunDir> {
    let run_dir = RunDir::create(out)?;
    ctx.bus.add(Box::new(Log::create(&run_dir.path.join("log"))?));
    Ok(run_dir)
}
