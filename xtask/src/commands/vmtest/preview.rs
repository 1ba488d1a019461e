// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run would do: `--dry-run`, in words or as data, and `plan.json` of a run.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::commands::tell;
use crate::commands::vmtest::cost::Cost;
use crate::settings::Setting;
use vmtest_base::error::{Class, Result};
use vmtest_engine::build_chain;
use vmtest_engine::plan::Plan;
use vmtest_engine::prepare::Meaning;
use vmtest_engine::request::BootChoice;
use vmtest_engine::resources::Resources;
use vmtest_guest::machine::{Demands, Machine};
use vmtest_guest::spec::Boot;
use vmtest_host::accel::Kind;
use vmtest_host::store::RunDir;
use vmtest_record::run::SCHEMA;
use vmtest_suite::own::Runner;

/// Prints the result of `--dry-run`.
pub(super) fn show(
    resources: &Resources<'_>,
    command: &[String],
    settings: &[Setting],
    to: Option<&Path>,
) -> Result<Class> {
    let mut text = text(resources)?;
    let cost = Cost::of(resources)?;
    text.push_str(&cost.line());
    settings.iter().for_each(|setting| text.push_str(&format!("setting  {setting}\n")));
    let mut data = json(resources, command);
    data["dry_run"] = true.into();
    data["settings"] = serde_json::json!(settings);
    data["cost"] = cost.json();
    // The plan of a run contains only globs; this adds the subtests, if the runner is cached and can list
    // them.
    data["chosen"] = chosen(resources)?.into();
    tell(&text, &data, to)
}

/// Subtests of our own suite that would run; `None` if that is not known yet, or the suite does not run.
fn chosen(resources: &Resources<'_>) -> Result<Option<Vec<String>>> {
    if !resources.plan.own || !Runner::is_cached(resources.ctx) {
        return Ok(None);
    }
    let (_, chosen) = resources.runner()?;
    Ok(Some(chosen.iter().map(|name| name.path()).collect()))
}

/// `plan.json` of a run.
pub(super) fn written(run_dir: &RunDir, resources: &Resources<'_>, command: &[String]) -> String {
    let mut plan = json(resources, command);
    plan["run"] = run_dir.id.as_str().into();
    format!("{plan:#}\n")
}

/// What would be done, as data.
fn json(resources: &Resources<'_>, command: &[String]) -> Value {
    let plan = resources.plan;
    let limits = plan.limits(resources.accel.kind, 1);
    let columns: Vec<_> = plan
        .columns
        .iter()
        .zip(&resources.prepared.meanings)
        .map(|(column, Meaning { resolved, on_top, of })| {
            serde_json::json!({
                "spec": column.spec.to_string(), "kernel": resolved.id, "variant": column.variant,
                "because": resolved.description, "cached": resolved.cached, "patches": on_top, "of": of, "role": column.role,
            })
        })
        .collect();
    serde_json::json!({
        "schema": SCHEMA,
        "command": command,
        "columns": columns,
        "series": resources.series.map(|series| series.patches.iter().map(|patch| patch.subject.clone()).collect::<Vec<_>>()),
        "suites": suites(plan),
        "tests": plan.filter.globs(),
        "accel": { "kind": resources.accel.kind.name(), "reason": resources.accel.reason },
        "limits_s": {
            "first_byte": limits.first_byte.as_secs(), "boot": limits.boot.as_secs(),
            "idle": limits.idle.as_secs(), "run": limits.run.as_secs(), "shutdown": limits.shutdown.as_secs(),
        },
        "cpus": plan.cpus,
        "repeat": plan.repeat.rounds,
        "until_fail": plan.repeat.until_fail,
        "retries": plan.retries,
        "vms": plan.vms,
        "make": { "jobs": plan.make.jobs, "limit_s": plan.make.limit.as_secs() },
    })
}

fn suites(plan: &Plan) -> Vec<&str> {
    let both = [plan.own.then_some("own"), plan.upstream.as_ref().map(|_| "upstream")];
    both.into_iter().flatten().chain(plan.programs.iter().map(String::as_str)).collect()
}

fn text(resources: &Resources<'_>) -> Result<String> {
    let (ctx, plan) = (resources.ctx, resources.plan);
    let mut text = String::new();
    let mut meanings = resources.prepared.meanings.iter();
    for chain in build_chain::split(&plan.columns) {
        let meant: Vec<&Meaning> = meanings.by_ref().take(chain.len()).collect();
        let (Some(column), Some(Meaning { resolved, .. })) = (chain.first(), meant.first()) else { continue };
        let state = if resolved.cached { "in the cache" } else { "to be downloaded" };
        let _ = writeln!(text, "kernel   {} ({state})", resolved.id);
        let _ = writeln!(text, "         {}", resolved.description);
        if let Some(variant) = &column.variant {
            let variant = &resources.prepared.configuration(Some(variant))?.variant;
            let slowdown = variant.slowdown;
            let limits = if slowdown > 1 {
                format!(" (its limits are {slowdown} times as long)")
            } else {
                String::new()
            };
            let _ = writeln!(text, "variant  {}{limits}: {}", variant.name, variant.about);
        }
        let _ = write!(text, "{}", patches_line(&meant));
    }
    if let Some(series) = resources.series {
        let _ = writeln!(text, "series   {} ({} patches)", series.name, series.patches.len());
    }
    let _ = writeln!(text, "accel    {}: {}", resources.accel.kind.name(), resources.accel.reason);
    let limits = plan.limits(resources.accel.kind, 1);
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
    for program in resources.programs {
        let _ =
            writeln!(text, "suite    {}: {} ({} results)", program.name, program.about, program.tests.len());
    }
    if plan.upstream.is_some() {
        let _ =
            writeln!(text, "upstream --test is matched against the tree's tests once the tree is available");
    }
    if !plan.own {
        // The runner is needed even if its suite is not chosen.
    } else if Runner::is_cached(ctx) {
        let (runner, chosen) = resources.runner()?;
        let _ = writeln!(text, "tests    {} of {}", chosen.len(), runner.listed.len());
        text.push_str(&machine_lines(plan, resources, &runner.demands(chosen)));
    } else {
        let _ = writeln!(text, "tests    the runner is not built yet; --test is checked once it is");
    }
    let _ = writeln!(text, "cache    {}", ctx.cache.root().display());
    Ok(text)
}

/// The patches that are tested on one kernel; empty without a series.
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

/// The properties of the guest that depend on the subtests.
fn machine_lines(plan: &Plan, resources: &Resources<'_>, demands: &Demands) -> String {
    let mut text = String::new();
    // The boot is known only once there is a kernel; the subtests can only affect a direct boot.
    let boot = if plan.boot == BootChoice::Vng { Boot::Vng } else { Boot::Direct };
    // Do not query the version of QEMU: it may have to be built first.
    let machine = Machine::of(plan.cpus, boot, demands, (u32::MAX, 0));
    let where_ = if plan.boot == BootChoice::Auto { " in a direct boot" } else { "" };
    let _ = writeln!(text, "cpus     {}{where_}: {}", machine.cpus, machine.cpus_reason);
    if resources.accel.kind == Kind::Tcg && demands.single_thread.is_some() {
        let _ = writeln!(text, "thread   {}: {}", machine.tcg_thread, machine.tcg_thread_reason);
    }
    text
}
