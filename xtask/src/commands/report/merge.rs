// SPDX-License-Identifier: MIT OR Apache-2.0
//! `report merge`: merges the runs of shards of a matrix into one run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::commands::baseline::BaselineArgs;
use crate::commands::output::OutputArgs;
use crate::commands::{finish, start, typed};
use crate::verbosity::Verbosity;
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::files::write_file;
use vmtest_engine::matrix::join::{self, Frame, Part};
use vmtest_engine::matrix::{Matrix, expect, files, keys};
use vmtest_engine::replay;
use vmtest_host::context::Context;
use vmtest_host::store::{self, RUN_BYTES, RunDir};
use vmtest_record::load::{FILE, Stored};
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{RunResult, SCHEMA};

const EXAMPLES: &str = "\
Examples:
  cargo xtask report merge job-1/ job-2/ job-3/ --out whole
  cargo xtask report merge all-jobs/ --matrix matrix.toml \\
      --output html=report.html";

/// Merge the runs of parts of a matrix into one
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Run directories, or directories that contain run directories
    #[arg(required = true, value_name = "DIR", value_parser = crate::commands::path())]
    dirs: Vec<PathBuf>,
    /// Matrix that the runs must belong to [default: the one recorded in the first run]
    #[arg(long, value_name = "FILE", value_parser = crate::commands::path())]
    matrix: Option<PathBuf>,
    /// Directory for the merged run; must be new or empty [default: a new one below the state directory]
    #[arg(long, value_name = "DIR", value_parser = crate::commands::path())]
    out: Option<PathBuf>,
    /// Also write run.json to this file
    #[arg(long, value_name = "FILE", value_parser = crate::commands::path())]
    json: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    baseline: BaselineArgs,
    /// Number of runs to keep below the state directory
    #[arg(long, default_value_t = store::KEPT_RUNS, value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(value_name = "N")]
    keep: u32,
    /// Maximum size of the merged run directory [default: 50M for each part]
    #[arg(long, value_name = "SIZE", value_parser = vmtest_base::size::parse)]
    run_size: Option<u64>,
}

/// Merges them, after judging the bytes of their guests again; the class decides the exit code.
///
/// # Errors
/// Class `Usage` for shards that do not belong together, class `Host` for a record that cannot be trusted.
pub fn run(args: &Args, project: &Path) -> Result<Class> {
    let ctx = start::context(project, None, Verbosity::Normal, None)?;
    let stored = open(&ctx, &args.dirs)?;
    let parts: Vec<Part> = stored
        .iter()
        .map(|one| Part { name: one.dir.display().to_string(), run: one.result.clone() })
        .collect();
    let frame = match (&args.matrix, parts.first()) {
        (Some(file), _) => frame(file, project)?,
        (None, Some(part)) => Frame::of(part)?,
        (None, None) => {
            return Err(Error::usage("nothing to merge")
                .why(format!("none of these directories contains a {FILE}"))
                .next("with --matrix FILE, the missing cells are listed"));
        }
    };
    say_tools(&ctx, &stored);
    let phases: Vec<_> = stored.iter().flat_map(|one| one.result.phases.clone()).collect();
    let mut result = join::join(&frame, parts, &BTreeMap::new())?;
    let outputs = (args.output.open(args.json.as_deref())?, args.baseline.open()?);
    let run_dir = start::run_dir(&ctx, args.out.as_deref())?;
    let copied = stored.iter().try_for_each(|one| {
        files::adopt(&one.dir, &one.result, &run_dir)?;
        judge_again(&ctx, one, &run_dir)
    });
    copied.inspect_err(|_| run_dir.discard())?;
    write_plan(&run_dir, &frame, &stored)?;
    result.run.clone_from(&run_dir.id);
    result.command = typed::command_line();
    result.phases = phases;
    tell(&ctx, &result);
    let size = args.run_size.unwrap_or(RUN_BYTES * stored.len().max(1) as u64);
    finish::finish(&ctx, (args.keep, Some(size)), &run_dir, &result, outputs)
}

/// Rejects a record that does not follow from the bytes of its guests. Reads the copied bytes, so no
/// untrusted link is followed.
///
/// How it could be wrong: whoever writes the record writes the bytes as well. This detects damage in transit,
/// and harnesses that disagree; it does not detect a malicious machine.
fn judge_again(ctx: &Context, part: &Stored, run_dir: &RunDir) -> Result<()> {
    let copied = Stored { dir: run_dir.path.clone(), result: part.result.clone() };
    let judged = replay::check_what_is_there(&copied)
        .map_err(|error| error.within(format!("{} cannot be merged", part.dir.display())))?;
    for one in judged.left_out {
        ctx.bus.warn(format!("{}: not re-judged: {one}", part.dir.display()));
    }
    Ok(())
}

/// The runs in these directories. A directory without a run is not an error: its jobs are missing, and will
/// be listed.
fn open(ctx: &Context, dirs: &[PathBuf]) -> Result<Vec<Stored>> {
    let mut found = Vec::new();
    for dir in dirs {
        if !dir.is_dir() {
            return Err(Error::usage(format!("{} is not a directory", dir.display())));
        }
        if dir.join(FILE).is_file() {
            found.push(Stored::open(dir)?);
            continue;
        }
        let mut below: Vec<PathBuf> = std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.join(FILE).is_file() && !path.is_symlink())
            .collect();
        below.sort();
        if below.is_empty() {
            ctx.bus.warn(format!("{} contains no {FILE}: its cells are missing", dir.display()));
        }
        for path in below {
            found.push(Stored::open(&path)?);
        }
    }
    Ok(found)
}

/// What must be present according to the file.
fn frame(file: &Path, project: &Path) -> Result<Frame> {
    let matrix = Matrix::load(file, project)?;
    let harness = keys::harness(project)?;
    let all: Vec<_> = matrix.jobs.iter().map(|job| job.axes.clone()).collect();
    Ok(Frame {
        key: keys::matrix(&matrix, &harness).to_string(),
        harness: harness.to_string(),
        wanted: all.iter().map(|axes| axes.id.clone()).collect(),
        all,
        required: matrix.required.iter().map(|pattern| pattern.text.clone()).collect(),
        expected: expect::untouched(&matrix.expected),
    })
}

fn write_plan(run_dir: &RunDir, frame: &Frame, parts: &[Stored]) -> Result<()> {
    let parts: Vec<_> = parts
        .iter()
        .map(|one| serde_json::json!({ "run": one.result.run, "command": one.result.command }))
        .collect();
    let plan = serde_json::json!({
        "schema": SCHEMA,
        "run": run_dir.id,
        "command": typed::command_line(),
        "matrix": { "key": frame.key, "harness": frame.harness, "all": frame.all, "jobs": frame.wanted },
        "parts": parts,
    });
    write_file(&run_dir.path.join("plan.json"), format!("{plan:#}\n"))
}

/// Machines with different tools may get different results; the merged record has room for one version only.
fn say_tools(ctx: &Context, parts: &[Stored]) {
    let mut versions: BTreeMap<&str, (&str, &Path)> = BTreeMap::new();
    for part in parts {
        for (name, version) in &part.result.tools {
            let (known, at) = *versions.entry(name).or_insert((version, &part.dir));
            if known != version {
                ctx.bus.warn(format!(
                    "{name} is {known} in {} and {version} in {}; the merged run records the first",
                    at.display(),
                    part.dir.display()
                ));
            }
        }
    }
}

fn tell(ctx: &Context, result: &RunResult) {
    let missing =
        result.cells.iter().filter(|cell| cell.test == join::STAND_IN && cell.outcome == Outcome::Missing);
    let names: Vec<&str> = missing.map(|cell| cell.subtest.as_str()).collect();
    if !names.is_empty() {
        ctx.bus.warn(format!("no run found for {}: {}", count(names.len()), names.join(", ")));
    }
    for text in result.matrix.iter().flat_map(|found| expect::news(&found.expected, &found.required, true)) {
        ctx.bus.warn(text);
    }
}

fn count(jobs: usize) -> String {
    if jobs == 1 { "one cell of the matrix".to_owned() } else { format!("{jobs} cells of the matrix") }
}
