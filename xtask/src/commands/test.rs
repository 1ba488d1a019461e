// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask test`: the harness tests itself. Cheap steps come first: format, lints, unit tests, whole
//! commands with fake tools, third-party programs; then real virtual machines.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::commands::mutants;
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::interrupt;
use vmtest_engine::request::Request;
use vmtest_host::process::{Group, ended};

const EXAMPLES: &str = "\
Examples:
  cargo xtask test            everything; virtual machines take a while
  cargo xtask test --fast     needs cargo and nothing else
  cargo xtask test --interop
  cargo xtask test --mutants --only m01
  cargo xtask test --failures --row panic";

/// Test the harness itself: format, lints, unit tests, commands, virtual machines
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only tests that need nothing but cargo: no virtual machine, kernel or other program
    #[arg(long, conflicts_with_all = ["vm", "interop"])]
    fast: bool,
    /// Only tests with other programs: reports, completions, man pages and workflows in a browser, shells,
    /// validators and linters. `scripts/setup.sh --tests` installs them
    #[arg(long, conflicts_with = "vm")]
    interop: bool,
    /// Only tests in virtual machines
    #[arg(long)]
    vm: bool,
    /// Only the mutants in patches/mutants/: each breaks the project's series, and the subtests that it names
    /// must fail
    #[arg(long, conflicts_with_all = ["fast", "interop", "vm"])]
    mutants: bool,
    /// All mutants, and the suite broken on purpose. Writes docs/evidence/coverage.md, the evidence that each subtest
    /// can fail
    #[arg(long, conflicts_with_all = ["fast", "interop", "vm", "mutants"])]
    coverage: bool,
    /// Only runs that are killed at random: N with fake tools, and N/20 with real guests
    #[arg(long, value_name = "N", conflicts_with_all = ["fast", "interop", "vm", "mutants", "coverage"])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    soak: Option<u32>,
    /// Cause every kind of guest death for real and write docs/evidence/failures.md. Builds a `faults` kernel; takes
    /// an hour
    #[arg(long, conflicts_with_all = ["fast", "interop", "vm", "mutants", "coverage", "soak"])]
    failures: bool,
    /// Only the commands of docs/findings: each must end as its page says. Builds two kernels; takes an hour
    #[arg(long, conflicts_with_all = ["fast", "interop", "vm", "mutants", "coverage", "soak", "failures"])]
    slow: bool,
    /// Only this row of docs/evidence/failures.md; repeatable
    #[arg(long, value_name = "NAME")]
    row: Vec<String>,
    /// How often to run the racy rows
    #[arg(long, value_name = "N", default_value_t = 20)]
    times: u32,
    /// Only this mutant (its file without .patch); repeatable
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Toolchain for mutants and coverage, as for vmtest
    #[arg(long, value_enum, default_value = "image")]
    toolchain: vmtest_host::doctor::Toolchain,
    /// Accelerator for mutants and coverage, as for vmtest
    #[arg(long, value_enum, default_value = "auto")]
    accel: vmtest_host::accel::AccelChoice,
    /// Debian mirror for mutants and coverage, if the host's apt has none configured
    #[arg(long, env = "VMTEST_DEBIAN_MIRROR", value_name = "URL")]
    mirror: Option<String>,
}

/// Runs all steps, and stops at the first one that fails.
///
/// # Errors
/// Class `TestFailed` with the step.
pub fn run(args: &Args, project: &Path) -> Result<Class> {
    let Args {
        fast,
        interop,
        vm,
        mutants,
        coverage,
        soak: rounds,
        failures,
        slow,
        row,
        times,
        only,
        toolchain,
        accel,
        mirror,
    } = args;
    if *mutants || *coverage {
        let request = Request { toolchain: *toolchain, accel: *accel, ..Request::default() };
        return mutants::run(only, *coverage, &request, mirror.as_deref(), project);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    if *failures {
        return failures_page(&cargo, row, *times, project);
    }
    if *slow {
        let words = ["test", "--locked", "--test", "vm", "findings", "--", "--ignored", "--nocapture"];
        let mut command = Command::new(&cargo);
        command.args(words).current_dir(project);
        step("commands of the findings", command)?;
        return Ok(Class::Pass);
    }
    if let Some(rounds) = rounds {
        return soak(&cargo, *rounds, project);
    }
    let all = !(*fast || *interop || *vm);
    steps(&cargo, [all || *fast, all || *interop, all || *vm], project)
}

/// Runs the requested kinds of tests, step by step.
fn steps(cargo: &OsStr, [fast, interop, vm]: [bool; 3], project: &Path) -> Result<Class> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (commands, guests) = (threads(WAITING * cores), threads(cores.min(GUESTS)));
    let setup = project.join("scripts/setup.sh").into_os_string();
    // The default members are tested together, with the same features of their dependencies as in the build
    // of `cargo xtask` itself, so that the harness is compiled once. Adding the guest's runner would change
    // the features of the crates that both use.
    let steps: [(&str, bool, &OsStr, &[&str]); 7] = [
        ("other programs", interop, &setup, &["--check", "--tests"]),
        ("format", fast, cargo, &["fmt", "--all", "--check"]),
        (
            "lints",
            fast,
            cargo,
            &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"],
        ),
        ("unit tests and whole commands", fast, cargo, &["test", "--locked", "--", &commands]),
        ("tests of the runner", fast, cargo, &["test", "--locked", "--package", "vmtest-runner"]),
        ("other programs", interop, cargo, &[&IT[..], &["interop", "--", "--ignored", &commands]].concat()),
        ("virtual machines", vm, cargo, &["test", "--locked", "--test", "vm", "--", &guests]),
    ];
    for (name, wanted, program, words) in steps {
        if !wanted {
            continue;
        }
        let mut command = Command::new(program);
        command.args(words).current_dir(project);
        step(name, command)?;
    }
    Ok(Class::Pass)
}

/// Tests of whole commands.
const IT: [&str; 4] = ["test", "--locked", "--test", "it"];
/// Parallel tests per core: a whole command spends half of its time waiting for its fake tools and the disk.
const WAITING: usize = 2;
/// Most parallel tests with guests, given as many cores. A guest with two CPUs uses 0.8 of a core (it waits
/// for grace periods), and a build has phases with a single process. Not more, because the time limits assume
/// that a guest has its cores.
const GUESTS: usize = 2;

fn threads(count: usize) -> String {
    format!("--test-threads={count}")
}

fn soak(cargo: &OsStr, rounds: u32, project: &Path) -> Result<Class> {
    let package = ["test", "--locked"];
    for (name, words) in [
        ("soak with fake tools", ["--test", "it", "soak"]),
        ("soak with real guests", ["--test", "vm", "soak"]),
    ] {
        let mut command = Command::new(cargo);
        command.args(package).args(words).args(["--", "--nocapture"]).current_dir(project);
        command.env("VMTEST_SOAK_RUNS", rounds.to_string());
        command.env("VMTEST_SOAK_BOOTS", (rounds / 20).max(1).to_string());
        step(name, command)?;
    }
    Ok(Class::Pass)
}

/// The rows are declared with the tests, and so is the program that writes the page.
fn failures_page(cargo: &OsStr, rows: &[String], times: u32, project: &Path) -> Result<Class> {
    let mut command = Command::new(cargo);
    command.args([
        "run",
        "--quiet",
        "--locked",
        "--package",
        "vmtest-testing",
        "--",
        "--times",
        &times.to_string(),
    ]);
    command.args(rows).current_dir(project);
    step("failures", command)?;
    Ok(Class::Pass)
}

fn step(name: &str, command: Command) -> Result<()> {
    // Their own output is the report, so it is passed through.
    let mut child = Group::spawn_interactive(command)?;
    loop {
        if let Some(status) = child.try_wait()? {
            if status.success() {
                return Ok(());
            }
            return Err(Error::new(Class::TestFailed, format!("{name} failed")).why(format!(
                "`{}` {}",
                child.shown(),
                ended(status)
            )));
        }
        interrupt::check()?;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
