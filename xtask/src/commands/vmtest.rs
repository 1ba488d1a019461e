// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask vmtest`: the main job. Check everything that can be checked at once, open every report file, then run
//! the columns side by side, and tell.

use std::fmt::Write as _;
use std::path::Path;

use vmtest_protocol::Listed;

use self::args::VmtestArgs;
use crate::commands::{finish, look, print, start};
use crate::compare;
use crate::context::Context;
use crate::error::{Class, Error, Result};
use crate::host;
use crate::interrupt;
use crate::kernel::series::Series;
use crate::kernel::{maintained, source};
use crate::plain;
use crate::plan::{self, Plan, Unit};
use crate::report::phases::Phases;
use crate::request::Purpose;
use crate::result::RunResult;
use crate::shop::Shop;
use crate::suite::Runner;
use crate::suite::program::Program;
use crate::unit::UnitResult;
use crate::workdir::{RunDir, write_file};

pub mod args;
mod preview;

/// Runs it; the class decides the exit code.
///
/// # Errors
/// Everything that stops a run before it has cells.
pub fn run(args: &VmtestArgs, project: &Path) -> Result<Class> {
    let mut plan = Plan::new(&args.request())?;
    // Before anything is asked of the host: it may be a typo.
    for name in &plan.programs {
        Program::load(project, name)?;
    }
    let phases = Phases::default();
    let ctx = start::context(project, args.mirror.as_deref(), Some(Box::new(phases.clone())))?;
    if args.list {
        return list(&Runner::ensure(&ctx)?.listed, args.json.is_some());
    }
    let early = |error: &Error| finish::record_interruption(&ctx, args, &phases, error);
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
    let run_dir = start::run_dir(&ctx, args.out.as_deref())?;
    write_file(&run_dir.path.join("plan.json"), preview::written(&run_dir, &plan, &meanings, &shop))?;
    if plan.purpose != Purpose::Test && plan.purpose != Purpose::Gdb {
        let class = look::run(&shop, &plan.units[0], &run_dir)?;
        finish::tidy(&ctx, &run_dir, args.keep, args.run_size);
        return Ok(class);
    }
    let units = start::run_units(&shop, &plan.units, &run_dir).inspect_err(|error| {
        // A mistake that only the built runner could show: there is no run to keep.
        if error.class == Class::Usage {
            run_dir.discard();
        }
    })?;
    let result = conclude(&ctx, &shop, units, &phases, &run_dir)?;
    finish::finish(&ctx, (args.keep, args.run_size), &run_dir, &result, (outputs, baseline))
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
        None => finish::tool_versions(ctx, shop),
    };
    let mut result = RunResult {
        tools,
        phases: phases.records(),
        ..RunResult::empty(&run_dir.id, finish::command_line())
    };
    units.into_iter().for_each(|unit| unit.add_to(&mut result));
    result.allowed_splats = shop.allowed.records(&result.splats);
    compare::settle(&mut result);
    plain::record(&mut result);
    result.conclude(interrupt::requested());
    Ok(result)
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
