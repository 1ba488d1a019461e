// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options of `vmtest`. What they mean is decided in `plan`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use vmtest_protocol::{Effort, SelfTest};

use crate::commands::effort;
use vmtest_base::error::EXIT_CODES_HELP;
use vmtest_engine::matrix::Shard;
use vmtest_engine::request::{BootChoice, Purpose, Request, Suite};

/// What a matrix says for each of its jobs.
const MATRIX_DECIDES: [&str; 29] = [
    "kernels",
    "patches",
    "with_base",
    "each_patch",
    "first_n",
    "variants",
    "suites",
    "tests",
    "ignore_denylist",
    "effort",
    "repeat",
    "until_fail",
    "retries",
    "allow_flaky",
    "allow_splats",
    "boot",
    "allow_skip",
    "config",
    "append",
    "sysctls",
    "cpus",
    "cpu_model",
    "memory",
    "list",
    "shell",
    "exec",
    "gdb",
    "self_test",
    "look_inside",
];

/// What a guest without tests has no use for.
const ABOUT_TESTS: [&str; 9] = [
    "tests",
    "ignore_denylist",
    "effort",
    "allow_splats",
    "allow_skip",
    "vms",
    "fail_fast",
    "outputs",
    "baseline",
];

/// What a list of subtests does not depend on.
const ABOUT_A_RUN: [&str; 35] = [
    "kernels",
    "patches",
    "with_base",
    "each_patch",
    "first_n",
    "variants",
    "suites",
    "tests",
    "ignore_denylist",
    "effort",
    "repeat",
    "until_fail",
    "retries",
    "allow_flaky",
    "allow_splats",
    "boot",
    "allow_skip",
    "config",
    "append",
    "sysctls",
    "cpus",
    "cpu_model",
    "memory",
    "timeouts",
    "make_jobs",
    "vms",
    "fail_fast",
    "outputs",
    "baseline",
    "out",
    "run_size",
    "dry_run",
    "gdb",
    "self_test",
    "look_inside",
];

const EXAMPLES: &str = "\
Examples:
  cargo xtask vmtest                                     6.18 with the project's own series, every subtest
  cargo xtask vmtest --kernel tree:../linux             your tree, as it is now
  cargo xtask vmtest --kernel src:6.18 --patches my/     a released kernel with a series
  cargo xtask vmtest --each-patch                        the same, and what each patch of the series does
  cargo xtask vmtest --kernel debian:7.0.13 --kernel debian:6.19.11 --test 'basic/*'
  cargo xtask vmtest --suite upstream --variant upstream --test fsession_test   tests of the tree itself
  cargo xtask vmtest --kernel tree:. --exec 'cat /proc/version'

Kernels:
  src:VERSION      source from the Debian archive (6.18, 7.3.4)
  debian:VERSION   prebuilt image from there (7.0.13; debian:7.0.13/amd64 for another flavour)
  tree:PATH        your tree, a snapshot of it; it is never written to
  git:PATH@REV     a commit of your repository; git:PATH@A..B the commits A..B as a series on A
  tar:FILE         a source tarball
  image:FILE       a bzImage or vmlinux
";

/// Fetch, patch, build, boot, test.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n{EXIT_CODES_HELP}"))]
pub struct VmtestArgs {
    /// Run the jobs of this file: kernels, series, variants, suites and boots, and what is known of them (docs/matrix.md).
    /// Each kernel is built once, and guests run side by side as cores and memory allow
    #[arg(long, value_name = "FILE", conflicts_with_all = MATRIX_DECIDES)]
    pub matrix: Option<PathBuf>,
    /// Only this job of the matrix, by the name that `ci-matrix` gives it; repeatable
    #[arg(long = "cell", value_name = "ID")]
    pub cells: Vec<String>,
    /// Only the I-th of N parts of the matrix; each job is in exactly one, and neighbours in the file stay together
    #[arg(long, value_name = "I/N", conflicts_with = "cells")]
    pub shard: Option<Shard>,
    /// Fetch, patch, configure and build what the jobs need, and start no guest: for a CI system that builds once and runs
    /// the jobs on many machines with that cache
    #[arg(long, conflicts_with_all = ["executor", "json", "dry_run", "vms", "fail_fast", "outputs", "baseline"])]
    pub build_only: bool,
    /// Hand each job to this command, which runs it and leaves a run directory. It is split into words as a shell would,
    /// and run without one; {cell}, {out} and {matrix} are replaced within a word
    #[arg(long, value_name = "CMD", conflicts_with_all = ["timeouts", "make_jobs", "fail_fast"])]
    pub executor: Option<String>,
    /// Limit for one command of --executor [default: 7200]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "SECONDS")]
    pub executor_limit: Option<u32>,
    /// Kernel to test, as it is; repeatable [default: src:6.18, with --patches fsession unless other patches are named]
    #[arg(long = "kernel", short = 'k', value_name = "SPEC")]
    pub kernels: Vec<String>,
    /// Series to apply: a directory of *.patch or with a quilt `series`, an mbox or a whole thread, one patch (all of them also
    /// as .gz or .xz), the short name of a series in patches/ of this project (fsession), or the message id or lore address of a mail, which b4 fetches; repeatable, in order
    #[arg(long = "patches", short = 'p', value_name = "PATH|NAME|ID")]
    pub patches: Vec<PathBuf>,
    /// Put the unpatched kernel before each patched one, and mark each cell that changed. What tests say there does not
    /// count; that it builds, boots and survives does
    #[arg(long)]
    pub with_base: bool,
    /// Test the kernel without the series, with its first patch, the first two .. and all, and say where tests start to
    /// pass and which patch breaks what worked. Before the last column only that counts, and how the kernels fare
    #[arg(long, conflicts_with = "with_base")]
    pub each_patch: bool,
    /// Only the first K patches of the series
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "K")]
    pub first_n: Option<u32>,
    /// Build variant from kconfig/; repeatable [default: default]
    #[arg(long = "variant", value_name = "NAME")]
    pub variants: Vec<String>,
    /// Suite to run: own, upstream (the tree's own test_progs), or a directory of selftests/suites/; repeatable
    #[arg(long = "suite", value_parser = clap::builder::NonEmptyStringValueParser::new().map(Suite::from), default_value = "own", value_name = "SUITE")]
    pub suites: Vec<Suite>,
    /// Subtests to run: a glob of test/subtest, or a test's name; repeatable [default: all]
    #[arg(long = "test", short = 't', value_name = "GLOB")]
    pub tests: Vec<String>,
    /// Run what is on the deny lists of the tree as well (suite upstream)
    #[arg(long)]
    pub ignore_denylist: bool,
    /// How much to run
    #[arg(long, value_parser = effort(), default_value = "normal", value_name = "EFFORT")]
    pub effort: Effort,
    /// Run what was chosen N times in one boot: a subtest passes if it does so every time
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N", conflicts_with = "look_inside")]
    pub repeat: Option<u32>,
    /// Repeat in one boot until a subtest fails or the kernel complains: at most --repeat times [1000], and nothing is
    /// started after four fifths of the run limit. To pass takes one whole round
    #[arg(long, conflicts_with = "look_inside")]
    pub until_fail: bool,
    /// Run what failed or was lost again in a fresh guest, up to N times. What passes only then is `flaky` (5), no pass
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10), value_name = "N")]
    #[arg(conflicts_with_all = ["look_inside", "gdb", "repeat", "until_fail", "self_test"])]
    pub retries: Option<u32>,
    /// What is flaky does not count, unless the kernel died in a guest that lost it
    #[arg(long)]
    pub allow_flaky: bool,
    /// Complaints of kernels that do not fail the run: a TOML file of [[allow]] with title (a regular expression), reason and
    /// expires (YYYY-MM-DD). Never a panic or an oops
    #[arg(long, value_name = "FILE")]
    pub allow_splats: Option<PathBuf>,
    /// How the guest starts; auto: vng for what is built here, direct for images
    #[arg(long, value_enum, default_value = "auto")]
    pub boot: BootChoice,
    /// Accelerator; auto: KVM where it really works
    #[arg(long, value_enum, default_value = "auto")]
    pub accel: vmtest_host::accel::AccelChoice,
    /// Whose compilers and QEMU: the build root's, sandboxed, or the host's
    #[arg(long, value_enum, default_value = "image")]
    pub toolchain: vmtest_host::doctor::Toolchain,
    /// Cells whose skip does not count; globs of kernel and test; repeatable
    #[arg(long = "allow-skip", value_name = "[KERNEL=]GLOB")]
    pub allow_skip: Vec<String>,
    /// Further kconfig fragment, after the variant's; repeatable
    #[arg(long = "config", value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Further kernel parameter; repeatable. What silences the kernel (quiet, console=, panic= ..) is refused
    #[arg(long = "append", value_name = "ARG", allow_hyphen_values = true)]
    pub append: Vec<String>,
    /// Sysctl set in the guest before the first test; repeatable
    #[arg(long = "sysctl", value_name = "K=V")]
    pub sysctls: Vec<String>,
    /// Virtual CPUs [default: 2; 1 in a direct boot of subtests that need no more, which then takes the faster microvm]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64), value_name = "N")]
    pub cpus: Option<u32>,
    /// QEMU's CPU model, where a bug or a mitigation wants a certain one [default: the variant's, else the host's under
    /// KVM and `max` without]
    #[arg(long, value_name = "MODEL")]
    pub cpu_model: Option<String>,
    /// Guest memory: 512M, 2G [default: the variant's, else 512M]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Limit for a phase (first-byte, boot, idle, run, shutdown; build: one make); repeatable
    #[arg(long = "timeout", value_name = "PHASE=SECONDS")]
    pub timeouts: Vec<String>,
    /// Jobs that make runs at once [default: CPUs + 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024), value_name = "N")]
    pub make_jobs: Option<u32>,
    /// Guests that run at once [default: CPUs / 2, at least 1; of a matrix as many as cores and memory allow]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256), value_name = "N")]
    pub vms: Option<u32>,
    /// Start no further guest after the first one that is not all pass
    #[arg(long)]
    pub fail_fast: bool,
    /// Reports of this run.
    #[command(flatten)]
    pub output: crate::commands::output::OutputArgs,
    /// What it is compared with.
    #[command(flatten)]
    pub baseline: crate::commands::baseline::BaselineArgs,
    /// Write run.json here as well, or what would be done with --dry-run; with `-` to standard output,
    /// in place of the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Directory of this run; must be new or empty [default: one below the state directory]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Runs that are kept below the state directory; older ones are removed, but neither `latest` nor one under way
    #[arg(long, default_value_t = vmtest_host::store::KEPT_RUNS, value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(value_name = "N")]
    pub keep: u32,
    /// Size of this run's directory once it is over: the middle of its largest logs is cut out (500M) [default: 50M]
    #[arg(long, value_name = "SIZE", value_parser = vmtest_base::size::parse)]
    pub run_size: Option<u64>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// List the subtests and what each proves
    #[arg(long, conflicts_with_all = ABOUT_A_RUN)]
    pub list: bool,
    /// An interactive shell in the guest: same kernel, same root
    #[arg(long, group = "look_inside", conflicts_with_all = ABOUT_TESTS)]
    pub shell: bool,
    /// Run a shell command in the guest instead of the suite: exit 0 if it succeeds, 1 if it fails
    #[arg(long, value_name = "CMD", group = "look_inside", conflicts_with_all = ABOUT_TESTS)]
    pub exec: Option<String>,
    /// Stop before the first instruction and print the gdb line
    #[arg(long, conflicts_with = "look_inside")]
    pub gdb: bool,
    /// Damage the suite on purpose; then all must fail. `turned` (also without a value): one expectation of each subtest
    /// is turned round; `blind`: BPF programs see nothing
    #[arg(long, value_name = "HOW", value_parser = self_test(), num_args = 0..=1, require_equals = true, default_missing_value = "turned")]
    #[arg(conflicts_with = "look_inside")]
    pub self_test: Option<SelfTest>,
    /// Debian mirror, where the host's apt has none
    #[arg(long, env = "VMTEST_DEBIAN_MIRROR", value_name = "URL")]
    pub mirror: Option<String>,
}

impl VmtestArgs {
    /// What is asked for, without what is only about this invocation: reports, directories, the matrix file.
    pub fn request(&self) -> Request {
        // A new option is a compile error here until it is handled.
        let VmtestArgs {
            matrix: _,
            cells: _,
            shard: _,
            build_only: _,
            executor: _,
            executor_limit: _,
            kernels,
            patches,
            with_base,
            each_patch,
            first_n,
            variants,
            suites,
            ignore_denylist,
            tests,
            effort,
            repeat,
            until_fail,
            retries,
            allow_flaky,
            allow_splats,
            boot,
            accel,
            toolchain,
            allow_skip,
            config,
            append,
            sysctls,
            cpus,
            cpu_model,
            memory,
            timeouts,
            make_jobs,
            vms,
            fail_fast,
            output: _,
            baseline: _,
            json: _,
            out: _,
            keep: _,
            run_size: _,
            dry_run: _,
            list: _,
            shell,
            exec,
            gdb,
            self_test,
            mirror: _,
        } = self.clone();
        let purpose = match (exec, shell, gdb) {
            (Some(command), _, _) => Purpose::Exec(command),
            (None, true, _) => Purpose::Shell,
            (None, false, true) => Purpose::Gdb,
            (None, false, false) => Purpose::Test,
        };
        Request {
            kernels,
            patches,
            with_base,
            each_patch,
            first_n,
            variants,
            suites,
            ignore_denylist,
            tests,
            effort,
            repeat,
            until_fail,
            retries,
            allow_flaky,
            allow_splats,
            boot,
            accel,
            toolchain,
            allow_skip,
            config,
            append,
            sysctls,
            cpus,
            cpu_model,
            memory,
            timeouts,
            make_jobs,
            vms,
            fail_fast,
            purpose,
            self_test,
        }
    }
}

/// Words of `--self-test`, as with `--effort`.
fn self_test() -> impl TypedValueParser<Value = SelfTest> {
    let words = [
        PossibleValue::new("turned").help("One expectation of each subtest is turned round"),
        PossibleValue::new("blind").help("BPF programs see nothing"),
    ];
    PossibleValuesParser::new(words).try_map(|word| SelfTest::from_name(&word).ok_or("unknown damage"))
}
