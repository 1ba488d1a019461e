// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a command that makes a run ends: its record, its reports, and the disk space of runs.

use std::collections::BTreeMap;
use vmtest_base::places::runs_dir;

use crate::commands::baseline::Baseline;
use crate::commands::output::Outputs;
use crate::commands::vmtest::args::VmtestArgs;
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::files::write_file;
use vmtest_base::interrupt;
use vmtest_engine::resources::Resources;
use vmtest_host::context::Context;
use vmtest_host::store::{self, RUN_BYTES, RunDir};
use vmtest_host::tools;
use vmtest_record::run::RunResult;
use vmtest_report::format;
use vmtest_report::phases::Phases;
use vmtest_report::story::Story;

/// The requested reports and the run to compare with, opened before the long work.
pub type Reports = (Outputs, Option<Baseline>);

/// Writes the results of a run: its record first, then the requested reports. Returns the exit class.
///
/// # Errors
/// When they cannot be written.
pub fn finish(
    ctx: &Context,
    (keep, run_size): (u32, Option<u64>),
    run_dir: &RunDir,
    result: &RunResult,
    (outputs, baseline): Reports,
) -> Result<Class> {
    write_file(&run_dir.path.join("run.json"), format::json(result)?)?;
    run_dir.link_as_latest()?;
    tidy(ctx, run_dir, keep, run_size);
    let compared = baseline.map(|baseline| baseline.compare(&run_dir.path, result));
    let directory = run_dir.path.display().to_string();
    let outputs = outputs.with_ci();
    let consoles = outputs.consoles(&run_dir.path, result);
    let story = Story { compared: compared.as_ref(), consoles: &consoles, ..Story::of(result, &directory) };
    outputs.write(&story)?;
    Ok(story.exit_class())
}

/// A run that was interrupted before its columns were known gets a record like any other, because its reader
/// may not have seen the exit code. An error while writing it does not change the exit code.
pub fn record_interruption(
    ctx: &Context,
    args: &VmtestArgs,
    phases: &Phases,
    (command, error): (&[String], &Error),
) {
    if args.dry_run || !matches!(error.class, Class::Interrupted | Class::Terminated) {
        return;
    }
    let Ok(run_dir) = RunDir::create(args.out.as_deref()) else { return };
    let mut result =
        RunResult { phases: phases.records(), ..RunResult::empty(&run_dir.id, command.to_vec()) };
    result.conclude(interrupt::requested());
    if let (Ok(outputs), Ok(baseline)) = (args.output.open(args.json.as_deref()), args.baseline.open()) {
        let _ = finish(ctx, (args.keep, args.run_size), &run_dir, &result, (outputs, baseline));
    }
}

/// Enforces the size limits of runs once this one has its record. Errors do not change the verdict.
pub fn tidy(ctx: &Context, run_dir: &RunDir, keep: u32, run_size: Option<u64>) {
    let limit = run_size.unwrap_or(RUN_BYTES);
    match store::bound(&run_dir.path, limit) {
        Ok(cut) if cut.is_empty() => (),
        Ok(cut) => ctx.bus.note(format!(
            "the run is larger than {} MB: the middle of {} was removed; --run-size SIZE keeps more",
            limit >> 20,
            cut.join(", ")
        )),
        Err(error) => ctx.bus.warn(format!("the run's size was not reduced: {}", error.summary())),
    }
    let old = runs_dir().and_then(|runs| {
        store::bound_unfinished(&runs)?;
        store::keep_newest(&runs, usize::try_from(keep).unwrap_or(usize::MAX), true, false)
    });
    if let Err(error) = old {
        ctx.bus.warn(format!("old runs were not removed: {}", error.summary()));
    }
}

/// Versions of everything that built and ran the kernels.
pub fn tool_versions(ctx: &Context, resources: &Resources<'_>) -> BTreeMap<String, String> {
    let mut found = resources.tools().and_then(|tools| tools::versions(ctx, tools)).unwrap_or_default();
    found.insert("xtask".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    if let Some(version) = resources.vng_version() {
        found.insert("virtme-ng".to_owned(), version);
    }
    found
}
