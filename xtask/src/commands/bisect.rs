// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask bisect`: finds the first kernel where something no longer works. Gets the next kernel from
//! the search, runs it as `vmtest` would run a column, judges its cells, records the verdict, and repeats.

mod script;

use std::path::{Path, PathBuf};

use crate::verbosity::Verbosity;
use vmtest_protocol::Effort;

use crate::commands::output::{Outputs, Wish};
use crate::commands::{finish, print, start, typed};
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::files::write_file;
use vmtest_base::interrupt;
use vmtest_base::key::{Key, hash_file};
use vmtest_engine::bisect::axis::Axis;
use vmtest_engine::bisect::hunt::Hunt;
use vmtest_engine::bisect::question::{Asked, Question};
use vmtest_engine::bisect::search::Trust;
use vmtest_engine::bisect::state::{Record, SCHEMA};
use vmtest_engine::matrix::keys;
use vmtest_engine::plan::Plan;
use vmtest_engine::prepare::{Configuration, Prepared, prepare};
use vmtest_engine::request::{BootChoice, Request};
use vmtest_engine::resources::Resources;
use vmtest_host::context::Context;
use vmtest_host::sandbox::Tools;
use vmtest_host::store::{KEPT_RUNS, RunDir};
use vmtest_host::tools;
use vmtest_report::bisect::Format;
use vmtest_report::log::Log;

const EXAMPLES: &str = "\
Examples:
  cargo xtask bisect --good debian:6.16.3 --bad debian:7.2.12 --find-fix
  cargo xtask bisect --good git:../linux@A --bad git:../linux@B -t cookie
  cargo xtask bisect --good git:../linux@A --bad git:../linux@B \\
      --class panic --title 'NULL pointer'
  cargo xtask bisect --good src:6.18 --bad src:6.18 -p fsession --find-fix
  cargo xtask bisect --good git:../linux@A --bad git:../linux@B --runs 12
  cargo xtask bisect --good git:../linux@A --bad git:../linux@B \\
      --output html=bisect.html
  cargo xtask bisect --resume latest

--good and --bad are two commits of one repository, two archive images, or
the same kernel twice; then the patches of --patches are searched. --good is
always the earlier one, even with --find-fix, where it is the broken one.

Exit codes: 0 culprit found; 3 inconclusive: untestable kernels hide the
culprit; 2 usage error, or an endpoint that is not as stated; 30 host
problem; 130, 143 interrupted. An untestable endpoint returns its own code
(12, 20, ..). docs/bisect.md defines good, bad and skip.";

/// Find the first bad (or fixed) commit, patch or released kernel
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Earlier endpoint: a revision of the repository around, git:PATH@REV, debian:VERSION, or any kernel with source if
    /// --bad is the same
    #[arg(long, value_name = "SPEC", required_unless_present_any = ["resume", "judge"])]
    good: Option<String>,
    /// Later endpoint
    #[arg(long, value_name = "SPEC", required_unless_present_any = ["resume", "judge"])]
    bad: Option<String>,
    /// Tests to run: a test/subtest glob or a test name; repeatable [default: all]
    #[arg(long = "test", short = 't', value_name = "GLOB")]
    tests: Vec<String>,
    /// What a bad kernel does
    #[arg(long, value_enum, default_value = "fail")]
    class: Asked,
    /// Only a failure, crash or warning that matches [default: the one seen at the failing endpoint; for
    /// tests, any failure]
    #[arg(long, value_name = "REGEX")]
    title: Option<String>,
    /// Find the first good kernel: --good is still broken, --bad is fixed
    #[arg(long)]
    find_fix: bool,
    /// Series to apply to each commit; with the same kernel twice, the series to search
    #[arg(long = "patches", short = 'p', value_name = "PATH|NAME", value_parser = crate::commands::path())]
    patches: Vec<PathBuf>,
    /// Maximum runs per kernel. One failure makes it bad; good takes as many passes as --confidence requires
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000), default_value_t = 1, value_name = "N")]
    runs: u32,
    /// Required confidence in a good verdict, given how often the failing endpoint fails
    #[arg(long, default_value_t = 0.99, value_name = "P")]
    confidence: f64,
    /// Build variant from kconfig/
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Suite to run: own, upstream, or a directory of selftests/suites/
    #[arg(long, value_name = "SUITE")]
    suite: Option<String>,
    /// How much to run
    #[arg(long, value_parser = crate::commands::effort(), value_name = "EFFORT")]
    effort: Option<Effort>,
    /// How to boot guests
    #[arg(long, value_enum)]
    boot: Option<BootChoice>,
    /// Accelerator
    #[arg(long, value_enum)]
    accel: Option<vmtest_host::accel::AccelChoice>,
    /// Toolchain: image (sandboxed build root) or host
    #[arg(long, value_enum)]
    toolchain: Option<vmtest_host::doctor::Toolchain>,
    /// Additional kconfig fragment; repeatable
    #[arg(long, value_name = "FILE", value_parser = crate::commands::path())]
    config: Vec<PathBuf>,
    /// Additional kernel parameter; repeatable
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    append: Vec<String>,
    /// Sysctl to set in the guest before the first test; repeatable
    #[arg(long = "sysctl", value_name = "K=V")]
    sysctls: Vec<String>,
    /// Virtual CPUs
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Guest memory
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Limit for a phase, as for vmtest; repeatable
    #[arg(long = "timeout", value_name = "PHASE=TIME")]
    timeouts: Vec<String>,
    /// Parallel make jobs
    #[arg(long, value_name = "N")]
    make_jobs: Option<u32>,
    /// Write a report to a file, or to standard output instead of the text; repeatable: text, json, markdown,
    /// html
    #[arg(long = "output", value_name = "FORMAT[=FILE]", value_parser = Wish::<Format>::parse)]
    outputs: Vec<Wish<Format>>,
    /// Also write the report as JSON to this file; `-` writes it to standard output instead of the text
    #[arg(long, value_name = "FILE", value_parser = crate::commands::path())]
    json: Option<PathBuf>,
    /// Directory for this run; must be new or empty
    #[arg(long, value_name = "DIR", conflicts_with = "resume", value_parser = crate::commands::path())]
    out: Option<PathBuf>,
    /// Resume an unfinished bisection: its directory, its name or `latest`
    #[arg(long, value_name = "RUN", conflicts_with_all = ["good", "bad", "tests", "title", "find_fix", "patches"], value_parser = crate::commands::path())]
    #[arg(conflicts_with_all = ["variant", "suite", "effort", "boot", "accel", "toolchain", "config", "append"])]
    #[arg(conflicts_with_all = ["sysctls", "cpus", "memory", "timeouts", "make_jobs", "script"])]
    resume: Option<PathBuf>,
    /// Print the equivalent plain `git bisect run` command and do nothing else
    #[arg(long, conflicts_with_all = ["outputs", "json"])]
    script: bool,
    /// Judge one kernel for `git bisect run`: exit 0 old, 1 new, 125 untestable, 128 anything else
    #[arg(long, value_name = "SPEC", conflicts_with_all = ["good", "bad", "resume", "script", "json", "outputs"])]
    judge: Option<String>,
    /// Debian mirror to use if the host's apt has none configured
    #[arg(long, env = "VMTEST_DEBIAN_MIRROR", value_name = "URL")]
    mirror: Option<String>,
}

/// How this command exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// A class of the table.
    Class(Class),
    /// A code of `git bisect run`.
    Git(u8),
}

/// Runs the bisection.
///
/// # Errors
/// Everything that stops it before it has an answer.
pub fn run(args: &Args, project: &Path) -> Result<Exit> {
    if let Some(spec) = &args.judge {
        return Ok(Exit::Git(script::judge(args, spec, project)));
    }
    search(args, project).map(Exit::Class)
}

fn search(args: &Args, project: &Path) -> Result<Class> {
    let outputs = Outputs::open(&args.outputs, args.json.as_deref())?.with_ci();
    if let Some(which) = &args.resume {
        let (record, run_dir) = vmtest_engine::bisect::state::resume(which)?;
        let ctx = context(record.mirror.as_deref(), project)?;
        let prepared = prepare(&ctx, Plan::new(&record.request)?)?;
        record.axis.check(&ctx, prepared.series.as_ref())?;
        return hunt(&ctx, &prepared, record, &run_dir, outputs);
    }
    let (Some(good), Some(bad)) = (&args.good, &args.bad) else {
        return Err(Error::usage("--good and --bad are required"));
    };
    let question = question(args)?;
    let ctx = context(args.mirror.as_deref(), project)?;
    let (good, bad) = (absolute_spec(&ctx, good)?, absolute_spec(&ctx, bad)?);
    Axis::plausible(&good, &bad)?;
    let mut request = request(args, &bad)?;
    let prepared = prepare(&ctx, Plan::new(&request)?)?;
    let (axis, ends) = Axis::between(&ctx, &good, &bad, prepared.series.as_ref())?;
    if question.asked == Asked::Build && matches!(axis, Axis::Images { .. }) {
        return Err(Error::usage("--class build needs kernels with source").why("an image is not built here"));
    }
    if args.script {
        print(&script::line(args, &axis, &ends, project)?)?;
        return Ok(Class::Pass);
    }
    let history = {
        use vmtest_engine::bisect::search::History;
        axis.history(&ctx)?.between(&ends.new, std::slice::from_ref(&ends.old))?.len()
    };
    if let Axis::Commits { repo } = &axis {
        // Resolved, so that moved branches do not matter when it is resumed.
        request.kernels = vec![format!("git:{}@{}", repo.display(), ends.new)];
    }
    let trust = Trust { runs: args.runs, confidence: args.confidence };
    let mut record = Record {
        schema: SCHEMA,
        run: String::new(),
        command: typed::command_line(),
        request,
        mirror: args.mirror.clone(),
        suite: String::new(),
        axis,
        ends,
        question,
        trust,
        history,
        steps: Vec::new(),
        report: None,
    };
    let run_dir = RunDir::create(args.out.as_deref())?;
    record.run.clone_from(&run_dir.id);
    hunt(&ctx, &prepared, record, &run_dir, outputs)
}

fn hunt(
    ctx: &Context,
    prepared: &Prepared,
    mut record: Record,
    run_dir: &RunDir,
    outputs: Outputs<Format>,
) -> Result<Class> {
    let resources = Resources::open(ctx, prepared)?;
    // Before building any kernel: a glob without a match is a mistake.
    resources.runner().inspect_err(|error| {
        if error.class == Class::Usage && record.steps.is_empty() {
            run_dir.discard();
        }
    })?;
    let suite = suite_key(&resources)?;
    if !record.suite.is_empty() && record.suite != suite {
        return Err(Error::usage("cannot resume this bisection")
            .why("its tests, the configuration, the tools or the harness have changed since it started")
            .next("start a new one: it reuses the results that are still valid"));
    }
    record.suite = suite;
    ctx.bus.add(Box::new(Log::append(&run_dir.path.join("log"))?));
    record.save(&run_dir.path)?;
    // Right away: `--resume latest` is for a run that did not finish.
    run_dir.link_as_latest()?;
    let mut hunt = Hunt::new(&resources, record, run_dir)?;
    let end = match hunt.run() {
        Ok(end) => end,
        Err(error) => {
            if let Err(unwritten) = outputs.write(&hunt.unfinished(&error)) {
                ctx.bus.note(unwritten.to_string());
            }
            let resume = hunt.resume_command();
            return Err(match interrupt::requested() {
                Some(_) => error.next(resume),
                None => error.next_or(format!("fix that, then run {resume}")),
            });
        }
    };
    let report = hunt.report(&end)?;
    let class = report.exit_code;
    write_file(&run_dir.path.join("bisect.md"), Format::Markdown.render(&report)?)?;
    hunt.record.report = Some(report.clone());
    hunt.record.save(&run_dir.path)?;
    // It contains evidence of the answer, and of verdicts that other bisections may reuse; its size is
    // limited like that of any other run.
    finish::tidy(ctx, run_dir, KEPT_RUNS, None);
    outputs.write(&report)?;
    Ok(class)
}

/// Hash of what all kernels share and the verdicts depend on: the judge, the tests, the tools, the
/// configuration. Verdicts of a bisection with another hash are not reused.
fn suite_key(resources: &Resources<'_>) -> Result<String> {
    let (runner, _) = resources.runner()?;
    let tools = resources.tools()?;
    let mut key = Key::of("bisection 2")
        .field("judge", keys::judge(&resources.ctx.project)?.as_str())
        .field("runner", runner.dir.file_name().unwrap_or_default().as_encoded_bytes())
        .field("tools", tools.key().as_str())
        .field("accel", resources.accel.kind.name());
    if let Tools::Host(_) = tools {
        key = key.field("virtme-ng", tools::host_vng());
    }
    for program in resources.programs {
        key = key.field("program", files_of(&program.dir)?);
    }
    if let Some(name) = resources.plan.columns.first().and_then(|column| column.variant.as_deref()) {
        let Configuration { variant, requests } = resources.prepared.configuration(Some(name))?;
        key = key.field("config", requests.key().as_str());
        key = key.field("compiler", variant.compiler.name());
        key = variant.make.iter().fold(key, |key, setting| key.field("make", setting));
    }
    Ok(key.finish().to_string())
}

/// File names and contents of a program's directory.
fn files_of(dir: &Path) -> Result<String> {
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().flatten() {
        if entry.file_type().is_file() {
            files.push(format!("{} {}", entry.path().display(), hash_file(entry.path())?));
        }
    }
    Ok(files.join("\n"))
}

/// The question for each kernel.
fn question(args: &Args) -> Result<Question> {
    if !(args.confidence > 0.0 && args.confidence < 1.0) {
        return Err(Error::usage(format!("--confidence {} is not a probability", args.confidence))
            .why("it must be greater than 0 and less than 1")
            .next("use for example 0.99"));
    }
    let question = Question {
        asked: args.class,
        tests: args.tests.clone(),
        title: args.title.clone(),
        find_fix: args.find_fix,
        sought: None,
        passes: Default::default(),
    };
    question.title_regex()?;
    Ok(question)
}

/// The request for each kernel. Paths become absolute: a bisection may be resumed from another directory.
fn request(args: &Args, kernel: &str) -> Result<Request> {
    // A new option is a compile error here until it is handled.
    let Args {
        good: _,
        bad: _,
        tests,
        class: _,
        title: _,
        find_fix: _,
        patches,
        runs: _,
        confidence: _,
        variant,
        suite,
        effort,
        boot,
        accel,
        toolchain,
        config,
        append,
        sysctls,
        cpus,
        memory,
        timeouts,
        make_jobs,
        outputs: _,
        json: _,
        out: _,
        resume: _,
        script: _,
        judge: _,
        mirror: _,
    } = args;
    let default = Request::default();
    // A word that is not a path is the short name of a series.
    let of_series = |path: &PathBuf| if path.exists() { absolute(path) } else { Ok(path.clone()) };
    Ok(Request {
        kernels: vec![kernel.to_owned()],
        patches: patches.iter().map(of_series).collect::<Result<_>>()?,
        variants: variant.iter().cloned().collect(),
        suites: suite.clone().map_or(default.suites, |suite| vec![suite.into()]),
        tests: tests.clone(),
        effort: effort.unwrap_or(default.effort),
        boot: boot.unwrap_or_default(),
        accel: accel.unwrap_or_default(),
        toolchain: toolchain.unwrap_or_default(),
        config: config.iter().map(|path| absolute(path)).collect::<Result<_>>()?,
        append: append.clone(),
        sysctls: sysctls.clone(),
        cpus: *cpus,
        memory: memory.clone(),
        timeouts: timeouts.clone(),
        make_jobs: *make_jobs,
        ..Request::default()
    })
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).on("cannot resolve", path)
}

/// A kernel whose path does not depend on the working directory.
fn absolute_spec(ctx: &Context, spec: &str) -> Result<String> {
    let here = std::env::current_dir().on("cannot resolve", "the working directory")?;
    Ok(vmtest_kernel::guess::kernel(ctx, spec)?.absolute(&here).to_string())
}

fn context(mirror: Option<&str>, project: &Path) -> Result<Context> {
    start::context(project, mirror, Verbosity::Normal, None)
}
