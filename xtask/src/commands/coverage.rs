// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask coverage`: which of the lines that a series adds no test runs. A run of `vmtest` in the variant
//! `coverage`, whose kernels count lines; its reports say which ran.

use std::path::Path;

use crate::commands::vmtest::args::VmtestArgs;
use crate::commands::{finish, review, start, vmtest};
use vmtest_base::error::{Class, Error, Result};
use vmtest_engine::build_chain;
use vmtest_engine::plan::Plan;
use vmtest_engine::prepare::prepare;
use vmtest_engine::resources::Resources;
use vmtest_report::phases::Phases;

const EXAMPLES: &str = "\
Examples:
  cargo xtask coverage fsession
  cargo xtask coverage outgoing/ --on ../linux --output html=coverage.html
  cargo xtask coverage v6.18..topic --on ../linux --suite upstream -t fsession_test
  cargo xtask coverage fsession --output lcov=added.info
";

/// The variant whose kernels count lines.
const VARIANT: &str = "coverage";

/// Show which of the lines that a series adds no test runs
#[derive(Debug, Clone, clap::Args)]
#[command(before_help = EXAMPLES)]
#[command(after_help = "The other options of vmtest work here as well: --help shows them.")]
pub struct Args {
    /// What is tested, and how.
    #[command(flatten)]
    pub vmtest: VmtestArgs,
}

/// The command as it is shown: few options, since the rest is as in `vmtest`.
pub fn shown(command: clap::Command) -> clap::Command {
    review::of_a_series(command, &["suites"])
}

/// Runs it; the class decides the exit code. Without a result for a line, it is not a pass.
///
/// # Errors
/// Everything that stops a run before it has cells.
pub fn run(args: &Args, project: &Path) -> Result<Class> {
    let mut options = args.vmtest.clone();
    refuse(&options)?;
    options.variants = vec![VARIANT.to_owned()];
    let phases = Phases::default();
    let level = options.verbosity.level();
    let ctx = start::context(project, options.mirror.as_deref(), level, Some(Box::new(phases.clone())))?;
    let (request, settings) = review::on_its_base(&ctx, &options)?;
    let command = review::repeated(&options, &request);
    let early = |error: &Error| finish::record_interruption(&ctx, &options, &phases, (&command, error));
    let prepared = prepare(&ctx, Plan::new(&request)?).inspect_err(early)?;
    let resources = Resources::open(&ctx, &prepared).inspect_err(early)?;
    if options.dry_run {
        return vmtest::preview_only(&resources, &options, &command, &settings);
    }
    let reports = vmtest::reports(&options)?;
    let run_dir = vmtest::run_dir(&resources, &options, &command)?;
    let columns = build_chain::run(&resources, &prepared.plan.columns, &run_dir)?;
    let result = vmtest::conclude(&ctx, &resources, columns, &phases, (&run_dir, command));
    let class = finish::finish(&ctx, (options.keep, options.run_size), &run_dir, &result, reports)?;
    let counted = result.kernels.iter().any(|kernel| kernel.coverage.is_some());
    match class {
        Class::Pass if !counted => Err(Error::host("no kernel counted lines")
            .why(format!("kconfig/{VARIANT}.toml configures a kernel without CONFIG_GCOV_KERNEL"))),
        class => Ok(class),
    }
}

/// Rejects options of `vmtest` that ask for something else.
fn refuse(options: &VmtestArgs) -> Result<()> {
    let VmtestArgs { matrix, shell, exec, gdb, list, self_test, rerun_failed, variants, kconfig, .. } =
        options;
    let other = [
        (matrix.is_some(), "--matrix"),
        (*shell, "--shell"),
        (exec.is_some(), "--exec"),
        (*gdb, "--gdb"),
        (*list, "--list"),
        (self_test.is_some(), "--self-test"),
        (rerun_failed.is_some(), "--rerun-failed"),
        (!variants.is_empty(), "--variant"),
        (kconfig.is_some(), "--kconfig"),
        (options.kernels.len() > 1, "more than one tree"),
    ];
    match other.into_iter().find(|(given, _)| *given) {
        Some((_, option)) => Err(Error::usage(format!("coverage cannot be combined with {option}"))
            .why(format!("it runs tests of one series on one tree in the variant {VARIANT}"))
            .next("use vmtest for anything else")),
        None => Ok(()),
    }
}
