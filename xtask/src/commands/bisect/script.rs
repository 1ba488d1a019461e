// SPDX-License-Identifier: MIT OR Apache-2.0
//! The body of a plain `git bisect run`: one kernel, one verdict, and an exit code that git understands.
//!
//! git interprets 0 as old, 125 as a skip, any other code below 128 as new, and stops at 128 and above. So
//! anything that is not a verdict must become 128, including a panic of this program, which exits with 101.

use crate::commands::bisect::question;
use std::path::Path;

use crate::commands::bisect::{Args, context, request};
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::program;
use vmtest_engine::bisect::axis::Axis;
use vmtest_engine::bisect::hunt::Hunt;
use vmtest_engine::bisect::question::Asked;
use vmtest_engine::bisect::search::{Ends, Purpose, Trust, Verdict};
use vmtest_engine::bisect::state;
use vmtest_engine::plan::Plan;
use vmtest_engine::prepare::prepare;
use vmtest_engine::request::Request;
use vmtest_engine::resources::Resources;
use vmtest_host::process::shell_word;
use vmtest_host::store::RunDir;
use vmtest_report::log::Log;

/// Exit code for anything that is not a verdict: git stops.
const STOP: u8 = 128;

/// The command line for `git bisect run`, including the one that starts the bisection.
///
/// # Errors
/// Class `Usage` if git cannot bisect this, or the question requires a whole bisection.
pub fn line(args: &Args, axis: &Axis, ends: &Ends, project: &Path) -> Result<String> {
    let Axis::Commits { repo } = axis else {
        return Err(Error::usage("--script works only with commits").why("git bisects nothing else"));
    };
    needs_no_end(args)?;
    let question = question(args)?;
    let me = std::env::current_exe()
        .map_err(|error| Error::host("cannot find this program's own path").why(error))?;
    let mut words = match program::installation() {
        Some(_) => Vec::new(),
        None => vec![format!("CARGO_MANIFEST_DIR={}", shell_word(&project.join("xtask").to_string_lossy()))],
    };
    words.extend([
        shell_word(&me.to_string_lossy()),
        "bisect".to_owned(),
        "--judge".to_owned(),
        "git:.@HEAD".to_owned(),
        "--class".to_owned(),
        question.asked.name().to_owned(),
        "--runs".to_owned(),
        args.runs.to_string(),
    ]);
    if let Some(title) = &question.title {
        words.extend(["--title".to_owned(), shell_word(title)]);
    }
    if question.find_fix {
        words.push("--find-fix".to_owned());
    }
    if let Some(mirror) = &args.mirror {
        words.extend(["--mirror".to_owned(), shell_word(mirror)]);
    }
    let request = Request { kernels: Vec::new(), ..request(args, "")? };
    words.extend(request.words().iter().map(|word| shell_word(word)));
    let guard =
        format!("{}; code=$?; case $code in 0|1|125) exit $code;; *) exit {STOP};; esac", words.join(" "));
    let terms = if question.find_fix { " --term-old=broken --term-new=fixed" } else { "" };
    Ok(format!(
        "cd {} && git bisect start{terms} {} {} && git bisect run sh -c {}\n",
        shell_word(&repo.to_string_lossy()),
        ends.new,
        ends.old,
        quoted(&guard)
    ))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Rejects questions that depend on the endpoints, which are unknown when a single kernel is judged.
fn needs_no_end(args: &Args) -> Result<()> {
    if args.title.is_some() || matches!(args.class, Asked::Fail) {
        return Ok(());
    }
    Err(Error::usage(format!("--class {} needs --title here", args.class.name()))
        .why("each kernel is judged alone: without a title, any other crash or warning would count")
        .next("describe the expected one with --title REGEX"))
}

/// Judges one kernel; returns an exit code for git.
pub fn judge(args: &Args, spec: &str, project: &Path) -> u8 {
    match verdict(args, spec, project) {
        Ok(Verdict::Skip | Verdict::Never) => 125,
        Ok(verdict) => u8::from((verdict == Verdict::Bad) != args.find_fix),
        Err(error) => {
            use std::io::Write;
            // A closed standard error is ignored.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            STOP
        }
    }
}

fn verdict(args: &Args, spec: &str, project: &Path) -> Result<Verdict> {
    needs_no_end(args)?;
    let question = question(args)?;
    let ctx = context(args.mirror.as_deref(), project)?;
    let spec = crate::commands::bisect::absolute_spec(&ctx, spec)?;
    let request = request(args, &spec)?;
    let prepared = prepare(&ctx, Plan::new(&request)?)?;
    let repo = match spec.parse()? {
        vmtest_kernel::spec::KernelSpec::Git { repo, rev } => (repo, rev),
        other => {
            return Err(Error::usage(format!("--judge {other} is not a commit")).next("use git:PATH@REV"));
        }
    };
    let commits = vmtest_kernel::source::Commits::open(&ctx, &repo.0)?;
    let commit = commits.commit(&repo.1)?;
    let run_dir = RunDir::create(args.out.as_deref())?;
    let mut record = state::Record {
        schema: state::SCHEMA,
        run: run_dir.id.clone(),
        command: crate::commands::typed::command_line(),
        request,
        mirror: args.mirror.clone(),
        suite: String::new(),
        axis: Axis::Commits { repo: commits.repo },
        ends: Ends { old: String::new(), new: String::new(), bases: Vec::new() },
        question,
        // The failure rate of a bad kernel is unknown, so all runs must be good.
        trust: Trust { runs: args.runs, confidence: args.confidence },
        history: 1,
        steps: Vec::new(),
        report: None,
    };
    let resources = Resources::open(&ctx, &prepared)?;
    record.suite = crate::commands::bisect::suite_key(&resources)?;
    ctx.bus.add(Box::new(Log::append(&run_dir.path.join("log"))?));
    let mut hunt = Hunt::new(&resources, record, &run_dir)?;
    loop {
        let search = hunt.record.search();
        let runs = search.runs.get(&commit).cloned().unwrap_or_default();
        if let Some(verdict) = hunt.record.trust.settle(&runs, args.runs) {
            let last = hunt.record.steps.last();
            // A problem of this host is not a reason to skip a commit.
            return match last.filter(|step| step.class == Class::Host && verdict == Verdict::Skip) {
                Some(step) => Err(Error::host("this kernel cannot be tested here").why(step.why.clone())),
                None => Ok(verdict),
            };
        }
        hunt.step(&search, &commit, 1, Purpose::Narrow)?;
    }
}
