// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vmtest --matrix`: the jobs of a matrix side by side, here or by a command that takes them elsewhere. Each job is a part
//! of its own, and they are joined by the rules by which parts of several machines are.

mod elsewhere;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::cli::VmtestArgs;
use crate::commands::output::Outputs;
use crate::commands::report::diff::Baseline;
use crate::commands::vmtest::{self, preview};
use crate::commands::{print, start};
use crate::context::Context;
use crate::error::{Class, Error, PRECEDENCE, Result};
use crate::event::Bus;
use crate::gate::{self, Room};
use crate::github;
use crate::host::{self, Need};
use crate::interrupt;
use crate::kernel::maintained;
use crate::kernel::series::Series;
use crate::kernel::source::{self, Resolved};
use crate::lane::join as join_thread;
use crate::matrix::executor::Executor;
use crate::matrix::join::{self, Frame, Part};
use crate::matrix::times::{self, Times};
use crate::matrix::{Job, Matrix, expect, keys};
use crate::plain;
use crate::plan::{Plan, Unit};
use crate::report::log::Log;
use crate::report::phases::Phases;
use crate::report::progress;
use crate::request::Request;
use crate::result::{JobRecord, MatrixRecord, RunResult, SCHEMA};
use crate::shop::{Common, Shop};
use crate::suite::program;
use crate::unit::{self, Material, UnitResult};
use crate::workdir::{Cache, RunDir, write_file};

/// A job and what it stands for.
struct Planned<'a> {
    job: &'a Job,
    plan: Plan,
    weight: u64,
}

/// Runs it; the class decides the exit code.
///
/// # Errors
/// Everything that stops a run before it has cells.
pub fn run(args: &VmtestArgs, file: &Path, project: &Path) -> Result<Class> {
    let matrix = Matrix::load(file, project)?;
    let executor = args.executor.as_deref().map(|cmd| Executor::new(cmd, args.executor_limit)).transpose()?;
    let times = times::load();
    let common = args.request();
    // All of them: a mistake in the file must not wait for the machine that gets it.
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
        return preview::tell(
            &listing(&plans, &chosen, &times),
            &data(&plans, &chosen, &times),
            args.json.as_deref(),
        );
    }
    let phases = Phases::default();
    let bus = Bus::new(vec![progress::sink(), Box::new(phases.clone())]);
    let ctx =
        Context { cache: Cache::open()?, bus, project: project.to_owned(), mirror: args.mirror.clone() };
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
    vmtest::finish(&ctx, (args.keep, args.run_size), &run_dir, &result, outputs)
}

fn plan<'a>(job: &'a Job, common: &Request, project: &Path, times: &Times) -> Result<Planned<'a>> {
    let plan = job.request(common).and_then(|request| Plan::new(&request));
    let plan = plan.and_then(|plan| {
        plan.programs.iter().try_for_each(|name| program::load(project, name).map(|_| ()))?;
        Ok(plan)
    });
    let plan = plan.map_err(|error| error.within(format!("the job {} cannot be", job.axes.id)))?;
    Ok(Planned { job, plan, weight: times::expected(times, &job.axes.id) })
}

/// Names of the jobs that are to run.
fn choose(matrix: &Matrix, args: &VmtestArgs) -> Result<Vec<String>> {
    let named = matrix.named(&args.cells)?;
    let range = args.shard.map_or(0..named.len(), |shard| shard.places(named.len()));
    if let (true, Some(shard)) = (range.is_empty(), args.shard) {
        return Err(Error::usage(format!("there is no job in shard {shard}"))
            .why(format!("{} has {} jobs", matrix.path.display(), named.len()))
            .next("take fewer shards: `cargo xtask ci-matrix --shards N` never names an empty one"));
    }
    Ok(named[range].iter().map(|job| job.axes.id.clone()).collect())
}

fn listing(plans: &[Planned<'_>], chosen: &[String], times: &Times) -> String {
    let mut text = String::new();
    for one in plans.iter().filter(|one| chosen.contains(&one.job.axes.id)) {
        let last = times.get(&one.job.axes.id).map(|time| format!("  {} s the last time", time / 1000));
        let _ = writeln!(text, "cell     {}{}", one.job.axes.id, last.unwrap_or_default());
    }
    let _ = writeln!(text, "jobs     {} of {}", chosen.len(), plans.len());
    text
}

/// The same as data. It has what a run's `plan.json` has of a single run only in part: each job is planned for itself.
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
        "{} jobs in {} s; their guests one after the other: {} s",
        jobs.count(),
        begun.elapsed().as_secs(),
        guests / 1000
    ));
}

fn remember(ctx: &Context, result: &RunResult) {
    // A guest may end within the first millisecond, as the fake ones of the tests do: whether there was one is not a question
    // of how long it took. A job that never came to a guest is as unknown as before.
    let guests = |job: &&JobRecord| result.boots.iter().any(|boot| job.owns(boot.column()));
    let jobs = result.matrix.iter().flat_map(|matrix| &matrix.jobs).filter(guests);
    let new: Times = jobs.map(|job| (job.id.clone(), job.duration_ms)).collect();
    if let Err(error) = times::remember(new) {
        ctx.bus.warn(format!("how long the jobs took is not remembered: {}", error.summary()));
    }
}

type Reports = (Outputs, Option<Baseline>);
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
        let run_dir = RunDir::create(self.args.out.as_deref())?;
        self.ctx.bus.add(Box::new(Log::create(&run_dir.path.join("log"))?));
        let frame = self.frame;
        let plan = serde_json::json!({
            "schema": SCHEMA,
            "run": run_dir.id,
            "command": vmtest::command_line(),
            "matrix": {
                "key": frame.key, "harness": frame.harness, "all": frame.all, "jobs": frame.wanted,
                "shard": self.args.shard.map(|shard| shard.to_string()),
            },
        });
        write_file(&run_dir.path.join("plan.json"), format!("{plan:#}\n"))?;
        Ok((run_dir, outputs))
    }

    /// On this machine.
    fn here(&self, mine: Vec<Planned<'_>>) -> Result<Came> {
        let (mine, series) = self.check(mine)?;
        let shops = self.shops(&mine, &series)?;
        let (run_dir, outputs) = self.open()?;
        let lane = |lane: &[usize]| self.lane(lane, &mine, &shops, &run_dir);
        let parts = side_by_side(&mine, &shops, &lane).inspect_err(|error| {
            // A mistake that only the built runner could show: there is no run to keep.
            if error.class == Class::Usage {
                run_dir.discard();
            }
        })?;
        let tools = match (interrupt::requested(), shops.first()) {
            (None, Some(shop)) => vmtest::tool_versions(self.ctx, shop),
            _ => BTreeMap::new(),
        };
        let mut result = join::join(self.frame, parts, &BTreeMap::new())?;
        result.tools = tools;
        self.sign(&mut result, &run_dir);
        Ok((result, run_dir, outputs))
    }

    /// `--build-only`: what the jobs need is in the cache afterwards. The class is that of the worst build.
    fn build(&self, mine: Vec<Planned<'_>>) -> Result<Class> {
        let (mine, series) = self.check(mine)?;
        let shops = self.shops(&mine, &series)?;
        let run_dir = RunDir::create(self.args.out.as_deref())?;
        self.ctx.bus.add(Box::new(Log::create(&run_dir.path.join("log"))?));
        let lane = |lane: &[usize]| {
            let Some((shop, unit)) = first(lane, &mine, &shops) else { return Vec::new() };
            let material = unit::material(shop, unit);
            let jobs =
                lane.iter().filter_map(|at| Some((&mine[*at], &shops[*at], mine[*at].plan.units.first()?)));
            jobs.map(|(one, shop, unit)| {
                let tools = shop.tools().and_then(|_| shop.vng()).map(|_| ());
                let built = unit::build(shop, unit, &material, &run_dir);
                (
                    one.job.axes.id.clone(),
                    built.kernel().id.clone(),
                    tools.err().or_else(|| built.error().cloned()),
                )
            })
            .collect()
        };
        let built = side_by_side(&mine, &shops, &lane)?;
        let mut text = String::new();
        let mut classes = Vec::new();
        for (job, kernel, error) in &built {
            let how = error.as_ref().map_or_else(|| format!("built {kernel}"), |error| format!("{error}"));
            let _ = writeln!(text, "{job}: {how}");
            classes.push(error.as_ref().map_or(Class::Pass, |error| error.class));
        }
        github::text_follows();
        print(&text)?;
        start::tidy(self.ctx, &run_dir, self.args.keep, self.args.run_size);
        Ok(PRECEDENCE.into_iter().find(|class| classes.contains(class)).unwrap_or(Class::Usage))
    }

    /// What can be wrong and can be seen without work.
    fn check<'b>(&self, mut mine: Vec<Planned<'b>>) -> Result<(Vec<Planned<'b>>, Vec<Option<Series>>)> {
        let ctx = self.ctx;
        let mut needs: Vec<Need> = Vec::new();
        for need in mine.iter().flat_map(|one| start::needs(&one.plan, ctx)) {
            if !needs.contains(&need) {
                needs.push(need);
            }
        }
        let early = |error: &Error| vmtest::record_interruption(ctx, self.args, self.phases, error);
        host::require(&needs).inspect_err(early)?;
        for one in &mine {
            start::check_configurations(ctx, &one.plan)?;
        }
        let series = mine.iter().map(|one| maintained::load(ctx, &one.plan.patches));
        let series: Vec<Option<Series>> = series.collect::<Result<_>>().inspect_err(early)?;
        self.label(&mut mine, &series).inspect_err(early)?;
        Ok((mine, series))
    }

    fn shops<'b>(&'b self, mine: &'b [Planned<'_>], series: &[Option<Series>]) -> Result<Vec<Shop<'b>>> {
        let common = Common::new(self.args.accel, self.room())?;
        let shop = |(one, series): (&'b Planned<'_>, &Option<Series>)| {
            Shop::beside(self.ctx, &one.plan, series.clone(), Arc::clone(&common), one.weight)
        };
        mine.iter().zip(series).map(shop).collect()
    }

    fn sign(&self, result: &mut RunResult, run_dir: &RunDir) {
        result.run.clone_from(&run_dir.id);
        result.command = vmtest::command_line();
        result.phases.extend(self.phases.records());
        if let Some(matrix) = &mut result.matrix {
            matrix.shard = self.args.shard.map(|shard| shard.to_string());
        }
        plain::record(result);
        if let Some(class) = interrupt::requested() {
            result.conclude(Some(class));
        }
    }

    /// `--vms`, or as many as there are cores for; memory counts in any case.
    fn room(&self) -> Room {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory_mib = gate::memory_for_guests();
        match self.args.vms {
            Some(vms) => Room { holders: vms as usize, cores: None, memory_mib },
            None => Room { holders: cores, cores: u32::try_from(cores).ok(), memory_mib },
        }
    }

    /// Gives each kernel the name of its column. It is the same in each part of the matrix, or parts could not be joined.
    fn label(&self, mine: &mut [Planned<'_>], series: &[Option<Series>]) -> Result<()> {
        let mut specs = Vec::new();
        for job in &self.matrix.jobs {
            if !specs.contains(&job.kernel) {
                specs.push(job.kernel.clone());
            }
        }
        let mut known: Vec<(usize, Resolved)> = Vec::new();
        for (at, spec) in specs.iter().enumerate() {
            match source::resolve(self.ctx, spec) {
                Ok(resolved) => known.push((at, resolved)),
                Err(error) if mine.iter().any(|one| one.job.kernel == *spec) => return Err(error),
                // Another machine has it.
                Err(_) => (),
            }
        }
        let (places, resolved): (Vec<usize>, Vec<Resolved>) = known.into_iter().unzip();
        let ids = source::unique_ids(&resolved);
        let mut columns: BTreeMap<String, String> = BTreeMap::new();
        for (one, series) in mine.iter_mut().zip(series) {
            let place = places.iter().position(|at| specs[*at] == one.job.kernel);
            let Some((resolved, id)) = place.map(|place| (&resolved[place], &ids[place])) else { continue };
            for unit in &mut one.plan.units {
                unit.label = Some(id.clone()).filter(|id| *id != resolved.id);
            }
            let name = series.as_ref().map_or_else(String::new, |series| format!("+{}", series.name));
            let axes = &one.job.axes;
            let from = format!("{} with series {}", axes.kernel, axes.series);
            let column = format!("{id}{name} {} {} {}", axes.variant, axes.boot, axes.suite);
            if let Some(other) = columns.insert(column, from.clone()) {
                return Err(Error::usage(format!("two kernels would both be the column {id}{name}"))
                    .why(format!("{other}, and {from}"))
                    .next("take one of them out, or give their directories or series different names"));
            }
        }
        Ok(())
    }

    fn lane(&self, lane: &[usize], mine: &[Planned<'_>], shops: &[Shop<'_>], run_dir: &RunDir) -> Vec<Part> {
        let Some((first, unit)) = first(lane, mine, shops) else { return Vec::new() };
        // Once for all of them: a tree that is edited meanwhile must not differ from job to job.
        let material = unit::material(first, unit);
        std::thread::scope(|scope| {
            let jobs: Vec<_> = lane
                .iter()
                .filter_map(|at| Some((&mine[*at], &shops[*at], mine[*at].plan.units.first()?)))
                .map(|(one, shop, unit)| {
                    let built = unit::build(shop, unit, &material, run_dir);
                    let material = &material;
                    scope.spawn(move || {
                        let units = unit::boot(shop, unit, &built, run_dir);
                        self.part(one.job, shop, units, material)
                    })
                })
                .collect();
            jobs.into_iter().map(join_thread).collect()
        })
    }

    /// A job that ran, as a run of its own.
    fn part(&self, job: &Job, shop: &Shop<'_>, units: Vec<UnitResult>, material: &Result<Material>) -> Part {
        let (source, series) = match material {
            Ok(Material::Source(tree, series)) => (tree.key.to_string(), series.as_ref().map(Series::key)),
            Ok(Material::Prebuilt(image)) => (image.key.to_string(), None),
            Err(_) => (String::new(), None),
        };
        let mut run = RunResult::empty("", Vec::new());
        units.into_iter().for_each(|unit| unit.add_to(&mut run));
        let axes = &job.axes;
        if axes.boot != "auto" {
            // What never came to a boot would have come to this one.
            run.cells
                .iter_mut()
                .filter(|cell| cell.boot.is_empty())
                .for_each(|cell| cell.boot.clone_from(&axes.boot));
        }
        run.allowed_splats = shop.allowed.records(&run.splats);
        plain::record(&mut run);
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

/// The first job of a lane, and its unit.
fn first<'a, 'b>(
    lane: &[usize],
    mine: &'a [Planned<'_>],
    shops: &'a [Shop<'b>],
) -> Option<(&'a Shop<'b>, &'a Unit)> {
    let at = *lane.first()?;
    Some((&shops[at], mine[at].plan.units.first()?))
}

/// All jobs to their end. Those of one kernel build are a lane: they share it and wait for it together.
fn side_by_side<T: Send>(
    mine: &[Planned<'_>],
    shops: &[Shop<'_>],
    run: &(impl Fn(&[usize]) -> Vec<T> + Sync),
) -> Result<Vec<T>> {
    let mut lanes: Vec<Vec<usize>> = Vec::new();
    for (at, one) in mine.iter().enumerate() {
        let same = |lane: &&mut Vec<usize>| {
            let other = mine[lane[0]].job;
            (&other.kernel, &other.series, &other.variant)
                == (&one.job.kernel, &one.job.series, &one.job.variant)
        };
        match lanes.iter_mut().find(same) {
            Some(lane) => lane.push(at),
            None => lanes.push(vec![at]),
        }
    }
    let weight = |lane: &Vec<usize>| lane.iter().map(|at| mine[*at].weight).sum::<u64>();
    lanes.sort_by_key(|lane| std::cmp::Reverse(weight(lane)));
    std::thread::scope(|scope| {
        let runner = scope.spawn(|| shops.iter().try_for_each(|shop| shop.runner().map(|_| ())));
        let lanes: Vec<_> = lanes
            .iter_mut()
            .map(|lane| {
                lane.sort_by_key(|at| std::cmp::Reverse(mine[*at].weight));
                scope.spawn(|| run(lane))
            })
            .collect();
        if let Err(error) = join_thread(runner) {
            if error.class == Class::Usage {
                interrupt::abandon();
                lanes.into_iter().for_each(|lane| drop(lane.join()));
                return Err(error);
            }
        }
        Ok(lanes.into_iter().flat_map(join_thread).collect())
    })
}
