// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask vmtest`: the main job. Checks everything that can be checked up front, opens every report
//! file, then runs the columns in parallel, and reports.

use std::fmt::Write as _;
use std::path::Path;

use vmtest_protocol::Listed;

use crate::commands::{finish, inspect, print, start, typed};
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::files::write_file;
use vmtest_base::interrupt;
use vmtest_engine::build_chain;
use vmtest_engine::column::ColumnResult;
use vmtest_engine::plan::Plan;
use vmtest_engine::prepare::prepare;
use vmtest_engine::request::Purpose;
use vmtest_engine::resources::Resources;
use vmtest_host::context::Context;
use vmtest_host::store::RunDir;
use vmtest_record::attribution;
use vmtest_record::reference_columns;
use vmtest_record::run::RunResult;
use vmtest_report::phases::Phases;
use vmtest_suite::own::Runner;

pub mod args;
mod cost;
mod preview;
mod rerun;
pub mod words;

use crate::commands::vmtest::args::VmtestArgs;
use crate::settings::Setting;
use crate::verbosity::Verbosity;

/// Runs it; the class decides the exit code.
///
/// # Errors
/// Everything that stops a run before it has cells.
pub fn run(args: &VmtestArgs, project: &Path) -> Result<Class> {
    let phases = Phases::default();
    let ctx = start::context(
        project,
        args.mirror.as_deref(),
        args.verbosity.level(),
        Some(Box::new(phases.clone())),
    )?;
    let (request, settings) = match &args.rerun_failed {
        Some(run) => (rerun::request(&ctx, run)?, Vec::new()),
        None => words::request(&ctx, args)?,
    };
    // A word, the directory, `latest` and a settings file may mean something else by then, or somewhere else.
    let guessed = args.rerun_failed.is_some()
        || !args.words.is_empty()
        || !settings.is_empty()
        || args.kernels != request.kernels;
    let command = if guessed { typed::of_request(&request) } else { typed::command_line() };
    let plan = Plan::new(&request)?;
    if args.list {
        return list(&Runner::ensure(&ctx)?.listed, args.json.is_some());
    }
    let early = |error: &Error| finish::record_interruption(&ctx, args, &phases, (&command, error));
    let prepared = prepare(&ctx, plan).inspect_err(early)?;
    let (plan, resources) = (&prepared.plan, Resources::open(&ctx, &prepared).inspect_err(early)?);
    if args.dry_run {
        return preview_only(&resources, args, &command, &settings);
    }
    let reports = reports(args)?;
    let run_dir = run_dir(&resources, args, &command)?;
    if plan.purpose != Purpose::Test && plan.purpose != Purpose::Gdb {
        let class = inspect::run(&resources, &plan.columns[0], &run_dir)?;
        finish::tidy(&ctx, &run_dir, args.keep, args.run_size);
        return Ok(class);
    }
    let columns = build_chain::run(&resources, &plan.columns, &run_dir).inspect_err(|error| {
        // A mistake that only the built runner could reveal: there is no run to keep.
        if error.class == Class::Usage {
            run_dir.discard();
        }
    })?;
    let result = conclude(&ctx, &resources, columns, &phases, (&run_dir, command));
    finish::finish(&ctx, (args.keep, args.run_size), &run_dir, &result, reports)
}

/// Shows the plan and does nothing.
///
/// # Errors
/// When the real run would refuse these options.
pub fn preview_only(
    resources: &Resources<'_>,
    args: &VmtestArgs,
    command: &[String],
    settings: &[Setting],
) -> Result<Class> {
    // The plan goes where `--json` says, and nothing else is written.
    args.output.open(None)?;
    args.baseline.open()?;
    args.out.as_deref().map_or(Ok(()), RunDir::check_empty)?;
    preview::show(resources, command, settings, args.json.as_deref())
}

/// Opens every report before the long work.
///
/// # Errors
/// When one cannot be written.
pub fn reports(args: &VmtestArgs) -> Result<finish::Reports> {
    let quiet = args.verbosity.level() == Verbosity::Quiet;
    Ok((args.output.quiet(quiet).open(args.json.as_deref())?, args.baseline.open()?))
}

/// The directory of the run, with its plan.
///
/// # Errors
/// When it cannot be written.
pub fn run_dir(resources: &Resources<'_>, args: &VmtestArgs, command: &[String]) -> Result<RunDir> {
    let run_dir = start::run_dir(resources.ctx, args.out.as_deref())?;
    write_file(&run_dir.path.join("plan.json"), preview::written(&run_dir, resources, command))?;
    Ok(run_dir)
}

/// The record of a run with these columns.
pub fn conclude(
    ctx: &Context,
    resources: &Resources<'_>,
    columns: Vec<ColumnResult>,
    phases: &Phases,
    (run_dir, command): (&RunDir, Vec<String>),
) -> RunResult {
    // Getting the versions would build tools that an interrupted run does not have yet.
    let tools = match interrupt::requested() {
        Some(_) => Default::default(),
        None => finish::tool_versions(ctx, resources),
    };
    let mut result = RunResult { tools, phases: phases.records(), ..RunResult::empty(&run_dir.id, command) };
    columns.into_iter().for_each(|column| column.add_to(&mut result));
    result.allowed_splats = resources.allowed.records(&result.splats);
    result.proves = resources.proves(&result);
    reference_columns::settle(&mut result);
    attribution::settle(&mut result, interrupt::requested());
    vmtest_record::clean::clean(&mut result);
    result.conclude(interrupt::requested());
    result
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
