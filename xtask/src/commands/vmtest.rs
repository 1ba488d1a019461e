// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask vmtest`: the main job. Check everything that can be checked at once, open every report file, then run
//! the columns side by side, and tell.

use std::fmt::Write as _;
use std::path::Path;

use vmtest_protocol::Listed;

use crate::cli::{BootArg, VmtestArgs};
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
use crate::kernel::{maintained, source, variant};
use crate::lane;
use crate::plain;
use crate::plan::{self, Plan, Purpose, Unit};
use crate::report::export::{self, Story};
use crate::report::phases::Phases;
use crate::report::{log::Log, progress};
use crate::result::{RunResult, SCHEMA};
use crate::shop::Shop;
use crate::suite::Runner;
use crate::suite::program::Program;
use crate::tools;
use crate::unit::UnitResult;
use crate::vm::Boot;
use crate::vm::accel::Kind;
use crate::vm::machine::{Demands, Machine};
use crate::workdir::{Cache, RunDir, write_file};

/// Runs it; the class decides the exit code.
///
/// # Errors
/// Everything that stops a run before it has cells.
pub fn run(args: &VmtestArgs, project: &Path) -> Result<Class> {
    if let Some(file) = &args.matrix {
        return matrix::run(args, file, project);
    }
    let mut plan = Plan::new(args)?;
    // Before anything is asked of the host: it may be a typo.
    for name in &plan.programs {
        Program::load(project, name)?;
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
        return dry_run(&ctx, &plan, &shop, &meanings);
    }
    let outputs = args.output.open(args.json.as_deref())?;
    let baseline = args.baseline.open()?;
    let run_dir = RunDir::create(args.out.as_deref())?;
    ctx.bus.add(Box::new(Log::create(&run_dir.path.join("log"))?));
    write_plan(&run_dir, &plan, &meanings, &shop)?;
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

/// What is tested of one kernel; nothing where there is no series.
fn patches_line(columns: &[&Meaning]) -> String {
    let of = columns.first().map_or(0, |column| column.of);
    let what = match columns {
        _ if of == 0 => return String::new(),
        [one] => format!("{} of {of}", one.on_top),
        [_, one] => format!("none, then {} of {of}", one.on_top),
        [.., last] => format!("none, 1 .. {} of {of}", last.on_top),
        [] => return String::new(),
    };
    format!("patches  {what}: {} column(s)\n", columns.len())
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

fn write_plan(run_dir: &RunDir, plan: &Plan, meanings: &[Meaning], shop: &Shop<'_>) -> Result<()> {
    let columns: Vec<_> = plan
        .units
        .iter()
        .zip(meanings)
        .map(|(unit, Meaning { resolved, on_top, of })| {
            serde_json::json!({
                "spec": unit.spec.to_string(), "kernel": resolved.id, "variant": unit.variant,
                "because": resolved.description, "patches": on_top, "of": of, "role": unit.role,
            })
        })
        .collect();
    let plan = serde_json::json!({
        "schema": SCHEMA,
        "run": run_dir.id,
        "command": command_line(),
        "columns": columns,
        "series": shop.series.as_ref().map(|series| series.patches.iter().map(|patch| patch.subject.clone()).collect::<Vec<_>>()),
        "suites": suites(plan),
        "tests": plan.filter.globs(),
        "accel": { "kind": shop.accel.kind.name(), "reason": shop.accel.reason },
        "cpus": plan.cpus,
        "repeat": plan.repeat.rounds,
        "until_fail": plan.repeat.until_fail,
        "retries": plan.retries,
        "vms": plan.vms,
        "make": { "jobs": plan.make.jobs, "limit_s": plan.make.limit.as_secs() },
    });
    write_file(&run_dir.path.join("plan.json"), format!("{plan:#}\n"))
}

fn suites(plan: &Plan) -> Vec<&str> {
    let both = [plan.own.then_some("own"), plan.upstream.map(|_| "upstream")];
    both.into_iter().flatten().chain(plan.programs.iter().map(String::as_str)).collect()
}

fn dry_run(ctx: &Context, plan: &Plan, shop: &Shop<'_>, meanings: &[Meaning]) -> Result<Class> {
    let mut text = String::new();
    let mut meanings = meanings.iter();
    for lane in lane::split(&plan.units) {
        let columns: Vec<&Meaning> = meanings.by_ref().take(lane.len()).collect();
        let (Some(unit), Some(Meaning { resolved, .. })) = (lane.first(), columns.first()) else { continue };
        let state = if resolved.cached { "in the cache" } else { "to be fetched" };
        let _ = writeln!(text, "kernel   {} ({state})", resolved.id);
        let _ = writeln!(text, "         {}", resolved.description);
        if let Some(variant) = &unit.variant {
            let variant = variant::load(&ctx.project.join("kconfig"), variant)?;
            let slowdown = variant.slowdown;
            let limits = if slowdown > 1 {
                format!(" (its limits are {slowdown} times as long)")
            } else {
                String::new()
            };
            let _ = writeln!(text, "variant  {}{limits}: {}", variant.name, variant.about);
        }
        let _ = write!(text, "{}", patches_line(&columns));
    }
    if let Some(series) = &shop.series {
        let _ = writeln!(text, "series   {} ({} patches)", series.name, series.patches.len());
    }
    let _ = writeln!(text, "accel    {}: {}", shop.accel.kind.name(), shop.accel.reason);
    let limits = plan.limits(shop.accel.kind, 1);
    let _ = writeln!(
        text,
        "limits   first byte {} s, boot {} s, idle {} s, run {} s, shutdown {} s",
        limits.first_byte.as_secs(),
        limits.boot.as_secs(),
        limits.idle.as_secs(),
        limits.run.as_secs(),
        limits.shutdown.as_secs()
    );
    let repeat = plan.repeat.text(limits.run);
    if !repeat.is_empty() {
        let _ = writeln!(text, "repeat   {repeat}");
    }
    for program in &shop.programs {
        let _ =
            writeln!(text, "suite    {}: {} ({} results)", program.name, program.about, program.tests.len());
    }
    if plan.upstream.is_some() {
        let _ = writeln!(text, "upstream --test is matched with the tests of the tree when that is there");
    }
    if !plan.own {
        // The runner is needed all the same, and has no part in what is chosen.
    } else if Runner::is_cached(ctx) {
        let (runner, chosen) = shop.runner()?;
        let _ = writeln!(text, "tests    {} of {}", chosen.len(), runner.listed.len());
        text.push_str(&machine_lines(plan, shop, &runner.demands(chosen)));
    } else {
        let _ = writeln!(text, "tests    the runner is not built yet; --test is checked when it is");
    }
    let _ = writeln!(text, "cache    {}", ctx.cache.root().display());
    print(&text)?;
    Ok(Class::Pass)
}

/// What guests run on as far as the subtests decide that.
fn machine_lines(plan: &Plan, shop: &Shop<'_>, demands: &Demands) -> String {
    let mut text = String::new();
    // The boot is known only once there is a kernel; a direct one is what the subtests can change.
    let boot = if plan.boot == BootArg::Vng { Boot::Vng } else { Boot::Direct };
    // The version of QEMU is not asked for: it may have to be built.
    let machine = Machine::of(plan.cpus, boot, demands, (u32::MAX, 0));
    let where_ = if plan.boot == BootArg::Auto { " in a direct boot" } else { "" };
    let _ = writeln!(text, "cpus     {}{where_}: {}", machine.cpus, machine.cpus_reason);
    if shop.accel.kind == Kind::Tcg && demands.single_thread.is_some() {
        let _ = writeln!(text, "thread   {}: {}", machine.tcg_thread, machine.tcg_thread_reason);
    }
    text
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
