// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vmtest --matrix`: runs the jobs of a matrix in parallel, here or through a command that runs them
//! elsewhere. Each job is a shard, and they are merged by the same rules as shards from several machines.

pub mod args;
mod elsewhere;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::commands::finish::{self, Reports};
use crate::commands::typed;
use crate::commands::vmtest::args::VmtestArgs;
use crate::commands::{print, start, tell};
use crate::github;
use vmtest_base::error::{Class, Error, PRECEDENCE, Result};
use vmtest_base::files::write_file;
use vmtest_base::interrupt;
use vmtest_base::thread::join as join_thread;
use vmtest_engine::build_chain::{self, side_by_side};
use vmtest_engine::column::{self, ColumnResult, Material, Unbuilt};
use vmtest_engine::matrix::executor::Executor;
use vmtest_engine::matrix::join::{self, Frame, Part};
use vmtest_engine::matrix::times::{self, Times};
use vmtest_engine::matrix::{Job, Matrix, expect, keys};
use vmtest_engine::plan::{Column, Plan};
use vmtest_engine::prepare::{Prepared, prepare_all};
use vmtest_engine::request::Request;
use vmtest_engine::resources::{Common, Resources};
use vmtest_host::context::Context;
use vmtest_host::slots::{self, Capacity};
use vmtest_host::store::RunDir;
use vmtest_kernel::series::Series;
use vmtest_kernel::spec::KernelSpec;
use vmtest_record::matrix::{JobRecord, MatrixRecord};
use vmtest_record::run::{RunResult, SCHEMA};
use vmtest_report::phases::Phases;
use vmtest_suite::program;

/// A job and its plan.
struct Planned<'a> {
    job: &'a Job,
    plan: Plan,
    weight: u64,
}

/// A validated job, with everything that it names.
struct Checked<'a> {
    job: &'a Job,
    weight: u64,
    prepared: Prepared,
}

/// A job that runs here.
struct Ready<'a> {
    job: &'a Job,
    resources: Resources<'a>,
    column: &'a Column,
    weight: u64,
}

/// Runs the matrix; the class decides the exit code.
///
/// # Errors
/// Everything that stops a run before it has cells.
pub fn run(args: &VmtestArgs, file: &Path, project: &Path) -> Result<Class> {
    let matrix = Matrix::load(file, project)?;
    let executor = args.executor.as_deref().map(|cmd| Executor::new(cmd, args.executor_limit)).transpose()?;
    let times = times::load();
    let common = args.request();
    // All of them: a mistake in the file must not stay hidden until another machine runs the job.
    let plans: Vec<Planned<'_>> =
        matrix.jobs.iter().map(|job| plan(job, &common, project, &times)).collect::<Result<_>>()?;
    let chosen = choose(&matrix, args)?;
    let key = keys::harness(project)?;
    let frame = Frame {
        key: keys::matrix(&matrix, &key).to_string(),
        harness: key.to_string(),
        all: matrix.jobs.iter().map(|job| job.axes.clone()).collect(),
        wanted: chosen.clone(),
        required: matrix.required.iter().map(|pattern| pattern.text.clone()).collect(),
        expected: expect::untouched(&matrix.expected),
    };
    if args.dry_run {
        return tell(&listing(&plans, &chosen, &times), &data(&plans, &chosen, &times), args.json.as_deref());
    }
    let phases = Phases::default();
    let ctx = start::context(
        project,
        args.mirror.as_deref(),
        args.verbosity.level(),
        Some(Box::new(phases.clone())),
    )?;
    let begun = Instant::now();
    let mine: Vec<Planned<'_>> = plans.into_iter().filter(|one| chosen.contains(&one.job.axes.id)).collect();
    let run = Run { args, matrix: &matrix, frame: &frame, ctx: &ctx, phases: &phases };
    if args.build_only {
        return run.build(mine);
    }
    let (result, run_dir, outputs) = match &executor {
        Some(executor) => run.elsewhere(&mine, executor)?,
        None => run.here(mine)?,
    };
    for text in result.matrix.iter().flat_map(|found| {
        let whole = chosen.len() == matrix.jobs.len();
        expect::news(&found.expected, &found.required, whole)
    }) {
        ctx.bus.warn(text);
    }
    say_how_long(&ctx, &result, begun);
    remember(&ctx, &result);
    finish::finish(&ctx, (args.keep, args.run_size), &run_dir, &result, outputs)
}

fn plan<'a>(job: &'a Job, common: &Request, project: &Path, times: &Times) -> Result<Planned<'a>> {
    let plan = job.request(common).and_then(|request| Plan::new(&request));
    let plan = plan.and_then(|plan| {
        plan.programs.iter().try_for_each(|name| program::load(project, name).map(|_| ()))?;
        Ok(plan)
    });
    let plan = plan.map_err(|error| error.within(format!("job {} is invalid", job.axes.id)))?;
    Ok(Planned { job, plan, weight: times::expected(times, &job.axes.id) })
}

/// Names of the jobs to run.
fn choose(matrix: &Matrix, args: &VmtestArgs) -> Result<Vec<String>> {
    let named = matrix.named(&args.cells)?;
    let range = args.shard.map_or(0..named.len(), |shard| shard.places(named.len()));
    if let (true, Some(shard)) = (range.is_empty(), args.shard) {
        return Err(Error::usage(format!("shard {shard} has no jobs"))
            .why(format!("{} has {} jobs", matrix.path.display(), named.len()))
            .next(format!(
                "use fewer shards: `{}` never creates an empty one",
                vmtest_base::program::command("ci-matrix --shards N")
            )));
    }
    Ok(named[range].iter().map(|job| job.axes.id.clone()).collect())
}

fn listing(plans: &[Planned<'_>], chosen: &[String], times: &Times) -> String {
    let mut text = String::new();
    for one in plans.iter().filter(|one| chosen.contains(&one.job.axes.id)) {
        let last = times.get(&one.job.axes.id).map(|time| format!("  {} s last time", time / 1000));
        let _ = writeln!(text, "cell     {}{}", one.job.axes.id, last.unwrap_or_default());
    }
    let _ = writeln!(text, "jobs     {} of {}", chosen.len(), plans.len());
    text
}

/// The same as data. It covers only part of the `plan.json` of a single run, because each job is planned
/// separately.
fn data(plans: &[Planned<'_>], chosen: &[String], times: &Times) -> serde_json::Value {
    let jobs: Vec<_> = plans
        .iter()
        .filter(|one| chosen.contains(&one.job.axes.id))
        .map(|one| {
            let axes = &one.job.axes;
            serde_json::json!({ "id": axes.id, "kernel": axes.kernel, "series": axes.series, "variant": axes.variant,
                "boot": axes.boot, "suite": axes.suite, "last_ms": times.get(&axes.id) })
        })
        .collect();
    serde_json::json!({ "schema": SCHEMA, "dry_run": true, "jobs": jobs, "of": plans.len() })
}

fn say_how_long(ctx: &Context, result: &RunResult, begun: Instant) {
    let jobs = result.matrix.iter().flat_map(|matrix| &matrix.jobs);
    let guests: u64 = jobs.clone().map(|job| job.duration_ms).sum();
    ctx.bus.note(format!(
        "{} jobs in {} s; guest time {} s in total",
        jobs.count(),
        begun.elapsed().as_secs(),
        guests / 1000
    ));
}

fn remember(ctx: &Context, result: &RunResult) {
    // Whether there was a guest must not depend on how long it took: it may end within the first millisecond,
    // like the fake guests of the tests. A job without a guest is as unknown as before.
    let guests = |job: &&JobRecord| result.boots.iter().any(|boot| job.owns(boot.column()));
    let jobs = result.matrix.iter().flat_map(|matrix| &matrix.jobs).filter(guests);
    let new: Times = jobs.map(|job| (job.id.clone(), job.duration_ms)).collect();
    if let Err(error) = times::remember(new) {
        ctx.bus.warn(format!("cannot save how long the jobs took: {}", error.summary()));
    }
}

type Came = (RunResult, RunDir, Reports);

struct Run<'a> {
    args: &'a VmtestArgs,
    matrix: &'a Matrix,
    frame: &'a Frame,
    ctx: &'a Context,
    phases: &'a Phases,
}

impl Run<'_> {
    fn open(&self) -> Result<(RunDir, Reports)> {
        let outputs = (self.args.output.open(self.args.json.as_deref())?, self.args.baseline.open()?);
        let run_dir = start::run_dir(self.ctx, self.args.out.as_deref())?;
        let frame = self.frame;
        let plan = serde_json::json!({
            "schema": SCHEMA,
            "run": run_dir.id,
            "command": typed::command_line(),
            "matrix": {
                "key": frame.key, "harness": frame.harness, "all": frame.all, "jobs": frame.wanted,
                "shard": self.args.shard.map(|shard| shard.to_string()),
            },
        });
        write_file(&run_dir.path.join("plan.json"), format!("{plan:#}\n"))?;
        Ok((run_dir, outputs))
    }

    /// Runs the jobs on this machine.
    fn here(&self, mine: Vec<Planned<'_>>) -> Result<Came> {
        let checked = self.prepare(mine)?;
        let chains = chains(self.ready(&checked)?);
        let (run_dir, outputs) = self.open()?;
        let kernels = |chain: &Vec<Ready<'_>>, trees| self.kernels(chain, trees, &run_dir);
        let configured = |chain: &Vec<Ready<'_>>, trees| configured(chain, trees, &chains, &run_dir);
        let parts = side_by_side(&chains, || runner(&chains), |chain| trees(chain), configured, kernels);
        let parts = parts.inspect_err(|error| {
            // A mistake that only the built runner could reveal: there is no run to keep.
            if error.class == Class::Usage {
                run_dir.discard();
            }
        })?;
        let tools = match (interrupt::requested(), chains.iter().flatten().next()) {
            (None, Some(one)) => finish::tool_versions(self.ctx, &one.resources),
            _ => BTreeMap::new(),
        };
        let mut result = join::join(self.frame, parts, &BTreeMap::new())?;
        result.tools = tools;
        self.sign(&mut result, &run_dir);
        Ok((result, run_dir, outputs))
    }

    /// `--build-only`: fills the cache with everything that the jobs need. The class is that of the worst
    /// build.
    fn build(&self, mine: Vec<Planned<'_>>) -> Result<Class> {
        let checked = self.prepare(mine)?;
        let chains = chains(self.ready(&checked)?);
        let run_dir = start::run_dir(self.ctx, self.args.out.as_deref())?;
        let kernels = |chain: &Vec<Ready<'_>>, (_, trees): Trees| {
            let build = |(one, tree): (&Ready<'_>, Unbuilt)| {
                let tools = one.resources.tools().and_then(|_| one.resources.vng()).map(|_| ());
                let built = column::build(&one.resources, one.column, tree, &run_dir);
                let error = tools.err().or_else(|| built.error().cloned());
                (one.job.axes.id.clone(), built.kernel().id.clone(), error)
            };
            chain.iter().zip(trees).map(build).collect()
        };
        let configured = |chain: &Vec<Ready<'_>>, trees| configured(chain, trees, &chains, &run_dir);
        let built = side_by_side(&chains, || runner(&chains), |chain| trees(chain), configured, kernels)?;
        let mut text = String::new();
        let mut classes = Vec::new();
        for (job, kernel, error) in &built {
            let how = error.as_ref().map_or_else(|| format!("built {kernel}"), |error| format!("{error}"));
            let _ = writeln!(text, "{job}: {how}");
            classes.push(error.as_ref().map_or(Class::Pass, |error| error.class));
        }
        github::text_follows();
        print(&text)?;
        finish::tidy(self.ctx, &run_dir, self.args.keep, self.args.run_size);
        Ok(PRECEDENCE.into_iter().find(|class| classes.contains(class)).unwrap_or(Class::Usage))
    }

    fn prepare<'b>(&self, mine: Vec<Planned<'b>>) -> Result<Vec<Checked<'b>>> {
        let kernels: Vec<KernelSpec> = self.matrix.jobs.iter().map(|job| job.kernel.clone()).collect();
        let (jobs, plans): (Vec<_>, Vec<_>) =
            mine.into_iter().map(|one| ((one.job, one.weight), one.plan)).unzip();
        let prepared = prepare_all(self.ctx, plans, &kernels).inspect_err(|error| {
            finish::record_interruption(self.ctx, self.args, self.phases, (&typed::command_line(), error))
        })?;
        let checked = jobs.into_iter().zip(prepared);
        let checked: Vec<Checked<'_>> =
            checked.map(|((job, weight), prepared)| Checked { job, weight, prepared }).collect();
        refuse_same_columns(&checked)?;
        Ok(checked)
    }

    fn ready<'b>(&'b self, checked: &'b [Checked<'b>]) -> Result<Vec<Ready<'b>>> {
        let common = Common::new(self.args.accel, self.room())?;
        let mut ready = Vec::new();
        for Checked { job, weight, prepared } in checked {
            let resources = Resources::beside(self.ctx, prepared, Arc::clone(&common), *weight)?;
            if let Some(column) = prepared.plan.columns.first() {
                ready.push(Ready { job, resources, column, weight: *weight });
            }
        }
        Ok(ready)
    }

    fn sign(&self, result: &mut RunResult, run_dir: &RunDir) {
        result.run.clone_from(&run_dir.id);
        result.command = typed::command_line();
        result.phases.extend(self.phases.records());
        if let Some(matrix) = &mut result.matrix {
            matrix.shard = self.args.shard.map(|shard| shard.to_string());
        }
        vmtest_record::clean::clean(result);
        if let Some(class) = interrupt::requested() {
            result.conclude(Some(class));
        }
    }

    /// `--vms`, or as many as the cores allow; memory is limited in any case.
    fn room(&self) -> Capacity {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory_mib = slots::memory_for_guests();
        match self.args.vms {
            Some(vms) => Capacity { holders: vms as usize, cores: None, memory_mib },
            None => Capacity { holders: cores, cores: u32::try_from(cores).ok(), memory_mib },
        }
    }

    fn kernels(&self, chain: &[Ready<'_>], (material, trees): Trees, run_dir: &RunDir) -> Vec<Part> {
        let material = &material;
        std::thread::scope(|scope| {
            let jobs: Vec<_> = chain
                .iter()
                .zip(trees)
                .map(|(one, tree)| {
                    let built = column::build(&one.resources, one.column, tree, run_dir);
                    scope.spawn(move || {
                        let columns = column::boot(&one.resources, one.column, &built, run_dir);
                        self.part(one.job, &one.resources, columns, material)
                    })
                })
                .collect();
            jobs.into_iter().map(join_thread).collect()
        })
    }

    /// The run of a single job, as a shard.
    fn part(
        &self,
        job: &Job,
        resources: &Resources<'_>,
        columns: Vec<ColumnResult>,
        material: &Result<Material>,
    ) -> Part {
        let (source, series) = match material {
            Ok(Material::Source(tree, series)) => (tree.key.to_string(), series.as_ref().map(Series::key)),
            Ok(Material::Prebuilt(image)) => (image.key.to_string(), None),
            Err(_) => (String::new(), None),
        };
        let mut run = RunResult::empty("", Vec::new());
        columns.into_iter().for_each(|column| column.add_to(&mut run));
        let axes = &job.axes;
        if axes.boot != "auto" {
            // Cells that never booted would have been booted this way.
            run.cells
                .iter_mut()
                .filter(|cell| cell.boot.is_empty())
                .for_each(|cell| cell.boot.clone_from(&axes.boot));
        }
        run.allowed_splats = resources.allowed.records(&run.splats);
        run.proves = resources.proves(&run);
        vmtest_record::attribution::settle(&mut run, None);
        vmtest_record::clean::clean(&mut run);
        let expected = expect::apply(&self.matrix.expected, &self.matrix.required, &mut run);
        let record = JobRecord {
            id: axes.id.clone(),
            key: keys::job(&self.frame.key, &axes.id).to_string(),
            kernel: run.kernels.first().map(|kernel| kernel.id.clone()).unwrap_or_default(),
            variant: job.variant.clone().unwrap_or_default(),
            boot: axes.boot.clone(),
            suite: axes.suite.clone(),
            source,
            series: series.map_or_else(String::new, |key| key.to_string()),
            cells: run.cells.len() as u64,
            duration_ms: run.boots.iter().map(|boot| boot.duration_ms).sum(),
            executor: None,
        };
        let required = expect::require(&self.frame.required, &mut run, false);
        run.matrix = Some(MatrixRecord {
            key: self.frame.key.clone(),
            harness: self.frame.harness.clone(),
            all: self.frame.all.clone(),
            shard: None,
            jobs: vec![record],
            expected,
            required,
        });
        run.conclude(None);
        Part { name: axes.id.clone(), run }
    }
}

/// The source of a chain, and the patched tree of each of its jobs.
type Trees = (Result<Material>, Vec<Unbuilt>);

fn trees(chain: &[Ready<'_>]) -> Trees {
    let material = match chain.first() {
        // Once for all jobs: a tree that is edited in the meantime must not differ between them.
        Some(first) => column::material(&first.resources, first.column),
        None => Err(Error::host("no job")),
    };
    let trees = chain.iter().map(|one| column::patch(&one.resources, one.column, &material)).collect();
    (material, trees)
}

/// The same trees, without those that lose an option.
fn configured(
    chain: &[Ready<'_>],
    (material, trees): Trees,
    chains: &[Vec<Ready<'_>>],
    run_dir: &RunDir,
) -> Trees {
    let columns: Vec<_> = chain.iter().map(|one| (&one.resources, one.column)).collect();
    (material, build_chain::configure(&columns, trees, chains.len() == 1, run_dir))
}

/// Builds the runner and chooses the subtests of each job, to detect a glob without a match before building a
/// kernel.
fn runner(chains: &[Vec<Ready<'_>>]) -> Result<()> {
    chains.iter().flatten().try_for_each(|one| one.resources.runner().map(|_| ()))
}

/// Jobs with the same kernel build form a chain: they share the build and wait for it together. The longest
/// chain comes first.
fn chains(ready: Vec<Ready<'_>>) -> Vec<Vec<Ready<'_>>> {
    let mut chains: Vec<Vec<Ready<'_>>> = Vec::new();
    for one in ready {
        let same = |chain: &&mut Vec<Ready<'_>>| {
            let (other, job) = (chain[0].job, one.job);
            (&other.kernel, &other.series, &other.variant) == (&job.kernel, &job.series, &job.variant)
        };
        match chains.iter_mut().find(same) {
            Some(chain) => chain.push(one),
            None => chains.push(vec![one]),
        }
    }
    chains.sort_by_key(|chain| std::cmp::Reverse(chain.iter().map(|one| one.weight).sum::<u64>()));
    chains.iter_mut().for_each(|chain| chain.sort_by_key(|one| std::cmp::Reverse(one.weight)));
    chains
}

fn refuse_same_columns(checked: &[Checked<'_>]) -> Result<()> {
    let mut columns: BTreeMap<String, String> = BTreeMap::new();
    for Checked { job, prepared, .. } in checked {
        let Some(meaning) = prepared.meanings.first() else { continue };
        let (id, axes) = (&meaning.resolved.id, &job.axes);
        let name = prepared.series.as_ref().map_or_else(String::new, |series| format!("+{}", series.name));
        let from = format!("{} with series {}", axes.kernel, axes.series);
        let column = format!("{id}{name} {} {} {}", axes.variant, axes.boot, axes.suite);
        if let Some(other) = columns.insert(column, from.clone()) {
            return Err(Error::usage(format!("two kernels would both be column {id}{name}"))
                .why(format!("{other}, and {from}"))
                .next("remove one of them, or give their directories or series different names"));
        }
    }
    Ok(())
}
