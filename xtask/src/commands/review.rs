// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask review`: whether a series can be merged. Each patch is built, booted and tested like with
//! `vmtest --each-patch`, and checked without a guest; the answer is one line, and a mail with `--reply`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::commands::vmtest::args::VmtestArgs;
use crate::commands::{finish, print, start, target::Target, typed, vmtest};
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::interrupt;
use vmtest_engine::build_chain;
use vmtest_engine::column::ColumnResult;
use vmtest_engine::plan::{Column, Plan};
use vmtest_engine::prepare::{Prepared, prepare};
use vmtest_engine::request::{BootChoice, CheckName, Request, Suite};
use vmtest_engine::resources::Resources;
use vmtest_host::context::Context;
use vmtest_host::store::RunDir;
use vmtest_kernel::guess;
use vmtest_kernel::spec::KernelSpec;
use vmtest_report::phases::Phases;
use vmtest_report::{reply, series};

mod base;

const EXAMPLES: &str = "\
Examples:
  cargo xtask review outgoing/                 on the tree around
  cargo xtask review outgoing/ --on ../linux --reply reply.eml
  cargo xtask review v6.18..topic --on ../linux
  cargo xtask review fsession --skip uapi,btf
";

/// The tree's own tests of the files that a series touches.
const TESTS: &str = "tools/testing/selftests/bpf/prog_tests/";

/// Review a patch series: test each patch, and say whether it can be merged
#[derive(Debug, Clone, clap::Args)]
#[command(before_help = EXAMPLES)]
#[command(after_help = "The other options of vmtest work here as well: --help shows them.")]
pub struct Args {
    /// Parts that are left out
    #[arg(help_heading = "Review", long, value_name = "PART", value_enum, value_delimiter = ',')]
    skip: Vec<Part>,
    /// Compare with nothing: leave out the kernel without the series. A test that fails is then not judged
    #[arg(help_heading = "Review", long, value_name = "none", value_parser = ["none"])]
    base: Option<String>,
    /// Build with clang, as LLVM=1 does
    #[arg(help_heading = "Review", long)]
    llvm: bool,
    /// Write the answer as a mail that replies to the series; Tested-by only if everything required passed
    #[arg(help_heading = "Review", long, value_name = "FILE", value_parser = crate::commands::path())]
    reply: Option<PathBuf>,
    /// Who answers, as `Name <address>` [default: user.name and user.email of git]
    #[arg(help_heading = "Review", long, value_name = "NAME", requires = "reply")]
    from: Option<String>,
    /// What is tested, and how.
    #[command(flatten)]
    pub vmtest: VmtestArgs,
}

/// A part of a review that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// New compiler warnings of W=1
    Warnings,
    /// checkpatch --strict
    Checkpatch,
    /// Types and prototypes that changed
    Btf,
    /// Compatibility of the headers of user space
    Uapi,
    /// Functions whose code changed. Without it, a patch that changes nothing is booted as well
    Functions,
    /// The tree's own tests that the series touches
    Upstream,
    /// Boots, and all tests with them. Without it, a series is never answered with yes
    Boots,
}

impl Part {
    fn is(self, check: CheckName) -> bool {
        self.check() == Some(check)
    }

    fn check(self) -> Option<CheckName> {
        match self {
            Part::Warnings => Some(CheckName::Warnings),
            Part::Checkpatch => Some(CheckName::Checkpatch),
            Part::Btf => Some(CheckName::Btf),
            Part::Uapi => Some(CheckName::Uapi),
            Part::Functions => Some(CheckName::Functions),
            Part::Upstream | Part::Boots => None,
        }
    }
}

/// The command as it is shown: few options, since the rest is as in `vmtest`.
pub fn shown(command: clap::Command) -> clap::Command {
    of_a_series(command, &["skip", "base", "llvm", "reply", "from", "variants"])
}

/// A command for one series on its tree, as it is shown with these options.
pub fn of_a_series(command: clap::Command, own: &[&str]) -> clap::Command {
    const DAILY: [&str; 8] = ["words", "kernels", "tests", "outputs", "dry_run", "quiet", "verbose", "help"];
    command.mut_args(|arg| match arg.get_id().as_str() {
        "words" => arg.value_name("SERIES").help("Patches, mbox, message ID, address, name, or a range A..B"),
        "kernels" => arg.help("The tree that the series is for, also --on [default: found, and printed]"),
        id if DAILY.contains(&id) || own.contains(&id) => arg,
        _ => arg.hide_short_help(true),
    })
}

/// Runs it; the class decides the exit code.
///
/// # Errors
/// Everything that stops a run before it has cells.
pub fn run(args: &Args, project: &Path) -> Result<Class> {
    let options = &args.vmtest;
    refuse(args)?;
    let phases = Phases::default();
    let level = options.verbosity.level();
    let ctx = start::context(project, options.mirror.as_deref(), level, Some(Box::new(phases.clone())))?;
    let from = args.reply.as_ref().map(|_| args.from.clone().map_or_else(who, Ok)).transpose()?;
    let reply = args.reply.as_deref().map(|path| Target::open("--reply", path)).transpose()?;
    let (request, settings) = request(&ctx, args)?;
    let command = repeated(options, &request);
    let plan = Plan::new(&request)?;
    let early = |error: &Error| finish::record_interruption(&ctx, options, &phases, (&command, error));
    let prepared = prepare(&ctx, plan).inspect_err(early)?;
    let resources = Resources::open(&ctx, &prepared).inspect_err(early)?;
    if options.dry_run {
        return vmtest::preview_only(&resources, options, &command, &settings);
    }
    let reports = vmtest::reports(options)?;
    let run_dir = vmtest::run_dir(&resources, options, &command)?;
    let mut columns = build_chain::run(&resources, &prepared.plan.columns, &run_dir)?;
    if !args.skip.contains(&Part::Upstream) {
        columns.extend(touched_tests(&ctx, &request, &prepared, &columns, &run_dir)?);
    }
    let mut result = vmtest::conclude(&ctx, &resources, columns, &phases, (&run_dir, command));
    result.review = true;
    result.conclude(interrupt::requested());
    let class = finish::finish(&ctx, (options.keep, options.run_size), &run_dir, &result, reports)?;
    print(&format!("{}\n", series::answer(&result)))?;
    if let (Some(target), Some(from)) = (reply, from) {
        target.write(&reply::render(&result, &from))?;
    }
    Ok(class)
}

/// Rejects options of `vmtest` that ask for something else than a review.
fn refuse(args: &Args) -> Result<()> {
    let VmtestArgs {
        matrix, cells, shell, exec, gdb, list, with_base, self_test, rerun_failed, first_n, ..
    } = &args.vmtest;
    let other = [
        (matrix.is_some() || !cells.is_empty(), "--matrix"),
        (*shell, "--shell"),
        (exec.is_some(), "--exec"),
        (*gdb, "--gdb"),
        (*list, "--list"),
        (*with_base, "--with-base"),
        (self_test.is_some(), "--self-test"),
        (rerun_failed.is_some(), "--rerun-failed"),
        (first_n.is_some(), "--first-n"),
        (args.vmtest.variants.len() > 1, "more than one --variant"),
        (args.vmtest.kernels.len() > 1, "more than one tree"),
    ];
    match other.into_iter().find(|(given, _)| *given) {
        Some((_, option)) => Err(Error::usage(format!("a review cannot be combined with {option}"))
            .why("it tests each patch of one series on one tree")
            .next("use vmtest for anything else")),
        None => Ok(()),
    }
}

/// What is run, with the base that was found.
fn request(ctx: &Context, args: &Args) -> Result<(Request, Vec<crate::settings::Setting>)> {
    let mut options = args.vmtest.clone();
    if args.llvm {
        options.words.push("LLVM=1".to_owned());
    }
    let (mut request, settings) = on_its_base(ctx, &options)?;
    request.each_patch = true;
    request.without_base = args.base.is_some();
    request.build_only = args.skip.contains(&Part::Boots);
    request.checks = CheckName::ALL.to_vec();
    request.checks.retain(|check| !args.skip.iter().any(|part| part.is(*check)));
    Ok((request, settings))
}

/// A request for one series on the tree that it is for.
///
/// # Errors
/// Class `Usage` without a series, and what stops the search for its tree.
pub fn on_its_base(ctx: &Context, options: &VmtestArgs) -> Result<(Request, Vec<crate::settings::Setting>)> {
    let mut options = options.clone();
    // A range is one of the tree that --on names.
    if let ([range, rest @ ..], [on]) = (&options.words[..], &options.kernels[..]) {
        if let Some(spec) = range_of(ctx, range, on)? {
            (options.words, options.kernels) = (rest.to_vec(), vec![spec]);
        }
    }
    let (mut request, settings) = vmtest::words::request(ctx, &options)?;
    let is_range = request.kernels.iter().any(|kernel| kernel.contains(".."));
    if request.patches.is_empty() && !is_range {
        return Err(Error::usage("no series was named")
            .why("no patches, message ID or range was given")
            .next("name a directory of patches, an mbox, a message ID, or a range A..B"));
    }
    if !is_range {
        request.kernels = vec![base::find(ctx, &request)?.to_string()];
    }
    Ok((request, settings))
}

/// `git:TREE@A..B` for a word `A..B` that is no path and the tree of `--on`; `None` for other words.
fn range_of(ctx: &Context, word: &str, on: &str) -> Result<Option<String>> {
    let is_range = word.split_once("..").is_some_and(|(from, to)| !from.is_empty() && !to.is_empty());
    if !is_range || word.contains(':') || Path::new(word).exists() {
        return Ok(None);
    }
    Ok(match guess::kernel(ctx, on)? {
        KernelSpec::Tree(repo) | KernelSpec::Git { repo, .. } => {
            Some(format!("git:{}@{word}", repo.display()))
        }
        _ => None,
    })
}

/// The command line that repeats this, with the tree that was found.
pub fn repeated(options: &VmtestArgs, request: &Request) -> Vec<String> {
    let mut command = typed::command_line();
    let given = !options.kernels.is_empty();
    if let Some(kernel) = request.kernels.first().filter(|kernel| !given && !kernel.contains("..")) {
        command.extend(["--on".to_owned(), vmtest_base::program::shell_word(kernel)]);
    }
    command
}

/// Runs the tree's own tests that the series touches on the kernel with the whole series, and on the one
/// without it.
fn touched_tests(
    ctx: &Context,
    request: &Request,
    prepared: &Prepared,
    columns: &[ColumnResult],
    run_dir: &RunDir,
) -> Result<Vec<ColumnResult>> {
    let Some(last) = columns.last() else { return Ok(Vec::new()) };
    let tests = tests_of(last.kernel.patches.iter().flat_map(|patch| &patch.files));
    let booted = last.boot.is_some() || last.kernel.same_as.is_some();
    if tests.is_empty() || !booted || interrupt::requested().is_some() {
        return Ok(Vec::new());
    }
    let request = Request {
        boot: BootChoice::Vng,
        suites: vec![Suite::Upstream],
        tests,
        checks: Vec::new(),
        ..request.clone()
    };
    let prepared = prepared.for_plan(ctx, Plan::new(&request)?)?;
    let all = &prepared.plan.columns;
    let ends: Vec<Column> = match (request.without_base, &all[..]) {
        (false, [first, .., last]) => vec![first.clone(), last.clone()],
        _ => all.last().cloned().into_iter().collect(),
    };
    let mut results = build_chain::run(&Resources::open(ctx, &prepared)?, &ends, run_dir)?;
    // They are the kernels that have been tested already, with the patches in between.
    for result in &mut results {
        if let Some(known) = columns.iter().find(|column| column.kernel.id == result.kernel.id) {
            result.kernel = known.kernel.clone();
        }
    }
    Ok(results)
}

/// Names of the tree's tests whose files are among these.
fn tests_of<'a>(files: impl Iterator<Item = &'a String>) -> Vec<String> {
    let name =
        |file: &'a String| file.strip_prefix(TESTS)?.strip_suffix(".c").filter(|name| !name.contains('/'));
    let mut tests: Vec<String> = files.filter_map(name).map(str::to_owned).collect();
    tests.sort();
    tests.dedup();
    tests
}

/// The user as git knows them.
fn who() -> Result<String> {
    let ask = |name: &str| {
        let done = std::process::Command::new("git").args(["config", name]).output().ok()?;
        let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        Some(text).filter(|text| !text.is_empty())
    };
    match (ask("user.name"), ask("user.email")) {
        (Some(name), Some(address)) => Ok(format!("{name} <{address}>")),
        _ => Err(Error::usage("--reply needs a sender")
            .why("git has no user.name and user.email")
            .next("give --from 'Name <address>'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_files_of_tests_name_tests() {
        let files = [
            "tools/testing/selftests/bpf/prog_tests/fsession_test.c",
            "tools/testing/selftests/bpf/progs/fsession_test.c",
            "tools/testing/selftests/bpf/prog_tests/sub/x.c",
            "kernel/bpf/core.c",
        ];
        assert_eq!(tests_of(files.map(str::to_owned).iter()), ["fsession_test"]);
    }
}
