// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask vmtest`: the main job. Check everything that can be checked at once, open every report file, then run
//! the columns side by side, and tell.

use std::fmt::Write as _;
use std::path::Path;

use vmtest_protocol::Listed;

use crate::cli::VmtestArgs;
use crate::commands::output::Outputs;
use crate::commands::report::diff::Baseline;
use crate::commands::{look, matrix, print, start};
use crate::compare;
use crate::context::Context;
use crate::error::{Class, Error, Result};
use crate::event::Bus;
use crate::host;
use crate::interrupt;
use crate::kernel::series::Series;
use crate::kernel::{maintained, source};
use crate::plain;
use crate::plan::{self, Plan, Unit};
use crate::report::export::{self, Story};
use crate::report::phases::Phases;
use crate::report::{log::Log, progress};
use crate::request::Purpose;
use crate::result::RunResult;
use crate::shop::Shop;
use crate::suite::Runner;
use crate::suite::program;
use crate::tools;
use crate::unit::UnitResult;
use crate::workdir::{Cache, RunDir, write_file};

pub(super) mod preview;

/// Runs it; the class decides the exit code.
///
/// # Errors
/// Everything that stops a run before it has cells.
pub fn run(args: &VmtestArgs, project: &Path) -> Result<Class> {
    if let Some(file) = &args.matrix {
        return matrix::run(args, file, project);
    }
    let mut plan = Plan::new(&args.request())?;
    // Before anything is asked of the host: it may be a typo.
    for name in &plan.programs {
        program::load(project, name)?;
    }
    let phases = Phases::default();
    let bus = Bus::new(vec![progress::sink(), Box::new(phases.clone())]);
    let cache = Cache::open()?;
    let ctx = Context { cache, bus, project: project.to_owned(), mirror: args.mirror.clone() };
    if args.list {
        return list(&Runner::ensure(&ctx)?.listed, args.json.is_some());
    }
    let early = |error: &Error| record_interruption(&ctx, args, &phases, error);
    host::require(&start::needs(&plan, &ctx)).inspect_err(early)?;
    let series = maintained::load(&ctx, &plan.patches).inspect_err(early)?;
    let resolved = start::check_inputs(&ctx, &mut plan).inspect_err(early)?;
    let meanings = columns(&mut plan, &resolved, series.as_ref())?;
    let shop = Shop::open(&ctx, &plan, series).inspect_err(early)?;
    if args.dry_run {
        return preview::show(&ctx, &plan, &shop, &meanings, args.json.as_deref());
    }
    let outputs = args.output.open(args.json.as_deref())?;
    let baseline = args.baseline.open()?;
    let run_dir = RunDir::create(args.out.as_deref())?;
    ctx.bus.add(Box::new(Log::create(&run_dir.path.join("log"))?));
    write_file(&run_dir.path.join("plan.json"), preview::written(&run_dir, &plan, &meanings, &shop))?;
    if plan.purpose != Purpose::Test && plan.purpose != Purpose::Gdb {
        let class = look::run(&shop, &plan.units[0], &run_dir)?;
        start::tidy(&ctx, &run_dir, args.keep, args.run_size);
        return Ok(class);
    }
    let units = start::run_units(&shop, &plan.units, &run_dir).inspect_err(|error| {
        // A mistake that only the built runner could show: there is no run to keep.
        if error.class == Class::Usage {
            run_dir.discard();
        }
    })?;
    let result = conclude(&ctx, &shop, units, &phases, &run_dir)?;
    finish(&ctx, (args.keep, args.run_size), &run_dir, &result, (outputs, baseline))
}

/// What a column will be.
struct Meaning {
    /// Its kernel without patches.
    resolved: source::Resolved,
    /// Patches on top of that.
    on_top: usize,
    /// Patches of the whole series.
    of: usize,
}

/// Turns the kernels of the plan into columns, and says what each of them means.
fn columns(plan: &mut Plan, resolved: &[source::Resolved], series: Option<&Series>) -> Result<Vec<Meaning>> {
    let given = series.map_or(0, |series| series.patches.len());
    let count = |(unit, one): (&Unit, &source::Resolved)| match unit.spec.has_source() {
        true => one.commits + given,
        false => 0,
    };
    let patches: Vec<usize> = plan.units.iter().zip(resolved).map(count).collect();
    let columns = plan::expand(&plan.units, &patches, plan.columns, plan.first_n)?;
    let meaning = |(at, unit): &(usize, Unit)| Meaning {
        resolved: resolved[*at].clone(),
        on_top: unit.upto.count(patches[*at]),
        of: patches[*at],
    };
    let meanings = columns.iter().map(meaning).collect();
    plan.units = columns.into_iter().map(|(_, unit)| unit).collect();
    Ok(meanings)
}

fn conclude(
    ctx: &Context,
    shop: &Shop<'_>,
    units: Vec<UnitResult>,
    phases: &Phases,
    run_dir: &RunDir,
) -> Result<RunResult> {
    // Asking for versions would build what an interrupted run has not got.
    let tools = match interrupt::requested() {
        Some(_) => Default::default(),
        None => tool_versions(ctx, shop),
    };
    let mut result =
        RunResult { tools, phases: phases.records(), ..RunResult::empty(&run_dir.id, command_line()) };
    units.into_iter().for_each(|unit| unit.add_to(&mut result));
    result.allowed_splats = shop.allowed.records(&result.splats);
    compare::settle(&mut result);
    plain::record(&mut result);
    result.conclude(interrupt::requested());
    Ok(result)
}

/// A run that was interrupted before it knew its columns has a record as any other. Who reads it may not have seen the exit
/// code, and what failed to be written here changes nothing about that.
pub fn record_interruption(ctx: &Context, args: &VmtestArgs, phases: &Phases, error: &Error) {
    if args.dry_run || !matches!(error.class, Class::Interrupted | Class::Terminated) {
        return;
    }
    let Ok(run_dir) = RunDir::create(args.out.as_deref()) else { return };
    let mut result = RunResult { phases: phases.records(), ..RunResult::empty(&run_dir.id, command_line()) };
    result.conclude(interrupt::requested());
    if let (Ok(outputs), Ok(baseline)) = (args.output.open(args.json.as_deref()), args.baseline.open()) {
        let _ = finish(ctx, (args.keep, args.run_size), &run_dir, &result, (outputs, baseline));
    }
}

/// Writes what a run came to: its record first, then the reports that were asked for. Gives what the process ends with.
///
/// # Errors
/// When it cannot be written.
pub fn finish(
    ctx: &Context,
    (keep, run_size): (u32, Option<u64>),
    run_dir: &RunDir,
    result: &RunResult,
    (outputs, baseline): (Outputs, Option<Baseline>),
) -> Result<Class> {
    write_file(&run_dir.path.join("run.json"), export::json(result)?)?;
    run_dir.link_as_latest()?;
    start::tidy(ctx, run_dir, keep, run_size);
    let compared = baseline.map(|baseline| baseline.compare(&run_dir.path, result));
    let directory = run_dir.path.display().to_string();
    let outputs = outputs.with_ci();
    let consoles = outputs.consoles(&run_dir.path, result);
    let story = Story { compared: compared.as_ref(), consoles: &consoles, ..Story::of(result, &directory) };
    outputs.write(&story)?;
    Ok(story.exit_class())
}

/// Versions of what built and ran the kernels.
pub fn tool_versions(ctx: &Context, shop: &Shop<'_>) -> std::collections::BTreeMap<String, String> {
    let mut found = shop.tools().and_then(|tools| tools::versions(ctx, tools)).unwrap_or_default();
    found.insert("xtask".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    if let Some(version) = shop.vng_version() {
        found.insert("virtme-ng".to_owned(), version);
    }
    found
}

/// The command line, as it can be typed again.
pub fn command_line() -> Vec<String> {
    let words = std::env::args_os().skip(1).map(|word| crate::proc::shell_word(&word.to_string_lossy()));
    ["cargo".to_owned(), "xtask".to_owned()].into_iter().chain(words).collect()
}

fn list(listed: &[Listed], json: bool) -> Result<Class> {
    if json {
        let text = serde_json::to_string_pretty(listed);
        let text = text.map_err(|error| Error::host("cannot write the list as JSON").why(error))?;
        return print(&(text + "\n")).map(|()| Class::Pass);
    }
    let width = listed.iter().map(|listed| listed.name.path().len()).max().unwrap_or(0);
    let mut text = String::new();
    for listed in listed {
        let _ = writeln!(text, "{:width$}  {}", listed.name.path(), listed.about);
    }
    print(&text)?;
    Ok(Class::Pass)
}
