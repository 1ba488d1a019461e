// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options of `vmtest`. `plan` decides what they mean.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use vmtest_protocol::{Effort, SelfTest, param};

use crate::commands::effort;
use crate::verbosity::VerbosityArgs;
use vmtest_base::error::EXIT_CODES_HELP;
use vmtest_engine::matrix::Shard;
use vmtest_engine::request::{BootChoice, Purpose, Request, Suite};

/// Options that a matrix sets for each of its jobs.
pub const MATRIX_DECIDES: [&str; 33] = [
    "words",
    "kernels",
    "patches",
    "with_base",
    "each_patch",
    "first_n",
    "variants",
    "suites",
    "tests",
    "ignore_denylist",
    "suite_tree",
    "effort",
    "repeat",
    "until_fail",
    "retries",
    "allow_flaky",
    "allow_splats",
    "boot",
    "allow_skip",
    "kconfig",
    "config",
    "append",
    "provoke",
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
const ABOUT_TESTS: [&str; 11] = [
    "tests",
    "ignore_denylist",
    "suite_tree",
    "effort",
    "allow_splats",
    "allow_skip",
    "vms",
    "fail_fast",
    "outputs",
    "rows",
    "baseline",
];

/// What a list of subtests does not depend on.
const ABOUT_A_RUN: [&str; 40] = [
    "words",
    "kernels",
    "patches",
    "with_base",
    "each_patch",
    "first_n",
    "variants",
    "suites",
    "tests",
    "ignore_denylist",
    "suite_tree",
    "effort",
    "repeat",
    "until_fail",
    "retries",
    "allow_flaky",
    "allow_splats",
    "boot",
    "allow_skip",
    "kconfig",
    "config",
    "append",
    "provoke",
    "sysctls",
    "cpus",
    "cpu_model",
    "memory",
    "timeouts",
    "make_jobs",
    "vms",
    "fail_fast",
    "outputs",
    "rows",
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
  cargo xtask vmtest                      the kernel tree around, or fsession
  cargo xtask vmtest -t basic -t cookie   some groups of tests
  cargo xtask vmtest ../linux             another tree, as it is
  cargo xtask vmtest v6.18..topic         each patch of a range
  cargo xtask vmtest 6.18 outgoing/       a series on a release
  cargo xtask vmtest debian:7.0.13        a kernel of Debian
  cargo xtask vmtest --exec 'cat /proc/version'
";

const KERNELS: &str = "\
Kernels:
  src:VERSION      source from the Debian archive (6.18, 7.3.4)
  debian:VERSION   prebuilt Debian image (7.0.13; debian:7.0.13/amd64 for
                   another flavour)
  tree:PATH        a snapshot of your tree, which is never written to
  git:PATH@REV     a commit of your repository; git:PATH@A..B applies the
                   commits A..B as a series on A
  tar:FILE         a source tarball
  image:FILE       a bzImage or vmlinux
Without a prefix, the kernel is guessed from what is on disk.
";

/// Examples come first; `-h` has only what is used daily.
const TEMPLATE: &str = "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// Options in `-h`, in a few words; `--help` has all of them in full.
const DAILY: [(&str, &str); 13] = [
    ("words", "A tree, commit, range, version, image or series"),
    ("kernels", "Kernel to test; repeatable"),
    ("patches", "Patches, mbox, message ID or address to apply"),
    ("each_patch", "Test after each patch of the series"),
    ("tests", "Tests to run, as a glob; repeatable"),
    ("suites", "own, upstream (test_progs) or another suite"),
    ("shell", "Open a shell in the guest"),
    ("exec", "Run a command in the guest instead of tests"),
    ("variants", "Variant from kconfig/ (debug, nojit, clang ..)"),
    ("quiet", "Print only warnings and the result"),
    ("verbose", "Print each test while it runs"),
    ("outputs", "Also write a report (html, junit, mail ..)"),
    ("dry_run", "Show what would be done without doing it"),
];

/// The command as it is shown.
pub fn shown(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| match DAILY.iter().find(|(id, _)| arg.get_id() == *id) {
        Some((_, short)) => {
            let long = arg.get_help().cloned().unwrap_or_default();
            arg.help(*short).long_help(long)
        }
        None => arg.hide_short_help(true),
    })
}

/// Fetch, patch, build, boot and test kernels
#[derive(Debug, Clone, Args)]
#[command(help_template = TEMPLATE, before_help = EXAMPLES, after_help = "--help shows all options.")]
#[command(after_long_help = format!("{KERNELS}\n{EXIT_CODES_HELP}"))]
pub struct VmtestArgs {
    /// A kernel or a series, guessed from what is on disk: a kernel tree, a commit or a range A..B (each patch is tested),
    /// a version (6.18, v6.18, 6.18.y, latest), a kernel image, a tarball, or patches. The guess is printed
    #[arg(help_heading = "What to test", value_name = "WHAT")]
    pub words: Vec<String>,
    /// Kernel to test; repeatable [default: src:6.18, with --patches fsession unless other patches are given]
    #[arg(help_heading = "What to test", long = "kernel", short = 'k', alias = "on", value_name = "SPEC")]
    pub kernels: Vec<String>,
    /// Series to apply: a directory of *.patch or a quilt `series`, an mbox, a thread or a single patch (also .gz or
    /// .xz), a series name from patches/ (fsession), or a message ID or lore address (fetched with b4); repeatable,
    /// applied in order
    #[arg(help_heading = "What to test", long = "patches", short = 'p', value_name = "PATH|NAME|ID", value_parser = crate::commands::path())]
    pub patches: Vec<PathBuf>,
    /// Also test each kernel without patches and mark every cell that changed. Test failures there do not count;
    /// build and boot failures do
    #[arg(help_heading = "What to test", long)]
    pub with_base: bool,
    /// Test the kernel with no patch, with the first patch, the first two, and so on. Shows where tests start to pass
    /// and which patch breaks one. In earlier columns only regressions and kernel failures count
    #[arg(help_heading = "What to test", long, conflicts_with = "with_base")]
    pub each_patch: bool,
    /// Apply only the first K patches of the series
    #[arg(help_heading = "What to test", long, value_parser = clap::value_parser!(u32).range(1..), value_name = "K")]
    pub first_n: Option<u32>,
    /// Build variant from kconfig/; repeatable [default: default]
    #[arg(help_heading = "Build", long = "variant", value_name = "NAME")]
    pub variants: Vec<String>,
    /// A whole .config as the base (of your own build, or /boot/config-VERSION) instead of a minimal one. The options that
    /// the variant needs are set on top of it, and verified
    #[arg(help_heading = "Build", long, value_name = "FILE", value_parser = crate::commands::path())]
    pub kconfig: Option<PathBuf>,
    /// Additional kconfig fragment, applied after the variant's; repeatable
    #[arg(help_heading = "Build", long = "config", value_name = "FILE", value_parser = crate::commands::path())]
    pub config: Vec<PathBuf>,
    /// Toolchain: image (sandboxed build root) or host
    #[arg(help_heading = "Build", long, value_enum, default_value = "image")]
    pub toolchain: vmtest_host::doctor::Toolchain,
    /// Parallel make jobs [default: CPUs + 1]
    #[arg(help_heading = "Build", long, short = 'j', value_parser = clap::value_parser!(u32).range(1..=1024), value_name = "N")]
    pub make_jobs: Option<u32>,
    /// Debian mirror to use if the host's apt has none configured
    #[arg(help_heading = "Build", long, env = "VMTEST_DEBIAN_MIRROR", value_name = "URL")]
    pub mirror: Option<String>,
    /// Suite to run: own, upstream (the tree's own test_progs) or a directory in selftests/suites/; repeatable
    /// [default: own]
    #[arg(help_heading = "Which tests", long = "suite", value_parser = clap::builder::NonEmptyStringValueParser::new().map(Suite::from), value_name = "SUITE")]
    pub suites: Vec<Suite>,
    /// Subtests to run: a test/subtest glob or a test name; repeatable [default: all]
    #[arg(help_heading = "Which tests", long = "test", short = 't', value_name = "GLOB")]
    pub tests: Vec<String>,
    /// Also run tests on the tree's deny lists (suite upstream)
    #[arg(help_heading = "Which tests", long)]
    pub ignore_denylist: bool,
    /// Tree whose own tests are built for each kernel, in place of those of its own tree (suite upstream)
    #[arg(help_heading = "Which tests", long, value_name = "SPEC")]
    pub suite_tree: Option<String>,
    /// Run what did not pass in an earlier run again, with that run's kernels and options
    #[arg(help_heading = "Tests", long, value_name = "RUN", num_args = 0..=1, default_missing_value = "latest")]
    #[arg(allow_negative_numbers = true, conflicts_with_all = MATRIX_DECIDES, conflicts_with = "matrix")]
    pub rerun_failed: Option<PathBuf>,
    /// How much to run
    #[arg(help_heading = "Which tests", long, value_parser = effort(), default_value = "normal", value_name = "EFFORT")]
    pub effort: Effort,
    /// Kernel warnings that do not fail the run: a TOML file of [[allow]] entries with title (a regular expression),
    /// reason and expires (YYYY-MM-DD). Never a panic or an oops
    #[arg(help_heading = "Which tests", long, value_name = "FILE", value_parser = crate::commands::path())]
    pub allow_splats: Option<PathBuf>,
    /// Cells that may be skipped, by globs of kernel and test; repeatable
    #[arg(help_heading = "Which tests", long = "allow-skip", value_name = "[KERNEL=]GLOB")]
    pub allow_skip: Vec<String>,
    /// Break the suite on purpose; every subtest must then fail. turned (the default value): invert one expectation
    /// of each subtest; blind: BPF programs see nothing
    #[arg(help_heading = "Which tests", long, value_name = "HOW", value_parser = self_test(), num_args = 0..=1, require_equals = true, default_missing_value = "turned")]
    #[arg(conflicts_with = "look_inside")]
    pub self_test: Option<SelfTest>,
    /// How to boot the guest; auto: vng for kernels built here, direct for images
    #[arg(help_heading = "Guest", long, value_enum, default_value = "auto")]
    pub boot: BootChoice,
    /// Accelerator; auto: KVM where it really works
    #[arg(help_heading = "Guest", long, value_enum, default_value = "auto")]
    pub accel: vmtest_host::accel::AccelChoice,
    /// Additional kernel parameter; repeatable. Parameters that silence the kernel (quiet, console=, panic=
    /// ..) are rejected
    #[arg(help_heading = "Guest", long = "append", value_name = "ARG", allow_hyphen_values = true)]
    pub append: Vec<String>,
    /// Also try what is known to kill or corrupt the kernel under test, and is otherwise an xfail without being tried:
    /// the same as --append vmtest.provoke=1
    #[arg(help_heading = "Which tests", long, conflicts_with = "look_inside")]
    pub provoke: bool,
    /// Sysctl to set in the guest before the first test; repeatable
    #[arg(help_heading = "Guest", long = "sysctl", value_name = "K=V")]
    pub sysctls: Vec<String>,
    /// Virtual CPUs [default: 2; 1 in a direct boot if the subtests need no more, which allows the faster
    /// microvm]
    #[arg(help_heading = "Guest", long, value_parser = clap::value_parser!(u32).range(1..=64), value_name = "N")]
    pub cpus: Option<u32>,
    /// QEMU CPU model, for a bug or mitigation that needs a specific one [default: the variant's, else `host`
    /// with KVM and `max` without]
    #[arg(help_heading = "Guest", long, value_name = "MODEL")]
    pub cpu_model: Option<String>,
    /// Guest memory: 512M, 2G [default: the variant's, else 512M]
    #[arg(help_heading = "Guest", long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Limit for a phase (first-byte, boot, idle, run, shutdown; build: one make): 90s, 5m, 1h; repeatable
    #[arg(help_heading = "Guest", long = "timeout", value_name = "PHASE=TIME")]
    pub timeouts: Vec<String>,
    /// Guests to run in parallel [default: CPUs / 2, at least 1; for a matrix as many as cores and memory
    /// allow]
    #[arg(help_heading = "Guest", long, value_parser = clap::value_parser!(u32).range(1..=256), value_name = "N")]
    pub vms: Option<u32>,
    /// Run the selected tests N times in one boot; a subtest must pass every time
    #[arg(help_heading = "Which tests", long, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N", conflicts_with = "look_inside")]
    pub repeat: Option<u32>,
    /// Repeat in one boot until a subtest fails or the kernel warns: at most --repeat times [1000], and
    /// nothing starts after 80 % of the run limit. A pass needs one full round
    #[arg(help_heading = "Which tests", long, conflicts_with = "look_inside")]
    pub until_fail: bool,
    /// Rerun failed or lost tests in a fresh guest, up to N times. A test that passes only on retry is `flaky` (exit
    /// code 5)
    #[arg(help_heading = "Which tests", long, value_parser = clap::value_parser!(u32).range(1..=10), value_name = "N")]
    #[arg(conflicts_with_all = ["look_inside", "gdb", "repeat", "until_fail", "self_test"])]
    pub retries: Option<u32>,
    /// Do not count flaky tests as failures, unless the kernel crashed
    #[arg(help_heading = "Which tests", long)]
    pub allow_flaky: bool,
    /// Start no more guests once one did not pass
    #[arg(help_heading = "Which tests", long)]
    pub fail_fast: bool,
    /// Run the jobs of this file (docs/matrix.md). Each kernel is built once; guests run in parallel as cores and
    /// memory allow
    #[arg(help_heading = "Matrix", hide = true, long, value_name = "FILE", conflicts_with_all = MATRIX_DECIDES, value_parser = crate::commands::path())]
    pub matrix: Option<PathBuf>,
    /// Run only this job of the matrix, by its name in `ci-matrix`; repeatable
    #[arg(help_heading = "Matrix", hide = true, long = "cell", value_name = "ID")]
    pub cells: Vec<String>,
    /// Run only part I of N of the matrix. Each job is in exactly one part; neighbours in the file stay together
    #[arg(help_heading = "Matrix", hide = true, long, value_name = "I/N", conflicts_with = "cells")]
    pub shard: Option<Shard>,
    /// Build everything that the jobs need and start no guest: for CI that builds once and then runs jobs on many
    /// machines with the same cache
    #[arg(help_heading = "Matrix", hide = true, long, conflicts_with_all = ["executor", "json", "dry_run", "vms", "fail_fast", "outputs", "rows", "baseline"])]
    pub build_only: bool,
    /// Pass each job to this command, which must leave a run directory. It is split like a shell command but run
    /// without a shell; {cell}, {out} and {matrix} are replaced
    #[arg(help_heading = "Matrix", hide = true, long, value_name = "CMD", conflicts_with_all = ["timeouts", "make_jobs", "fail_fast"])]
    pub executor: Option<String>,
    /// Time limit for each --executor command [default: 2h]
    #[arg(help_heading = "Matrix", hide = true, long, value_parser = vmtest_base::duration::parse_seconds, value_name = "TIME")]
    pub executor_limit: Option<u32>,
    /// How much is printed.
    #[command(flatten, next_help_heading = "Output")]
    pub verbosity: VerbosityArgs,
    /// Reports of this run.
    #[command(flatten, next_help_heading = "Output")]
    pub output: crate::commands::output::OutputArgs,
    /// What it is compared with.
    #[command(flatten, next_help_heading = "Output")]
    pub baseline: crate::commands::baseline::BaselineArgs,
    /// Also write run.json (or the plan, with --dry-run) to this file; `-` writes it to standard output instead of
    /// the table
    #[arg(help_heading = "Output", long, value_name = "FILE", value_parser = crate::commands::path())]
    pub json: Option<PathBuf>,
    /// Directory for this run; must be new or empty [default: a new one below the state directory]
    #[arg(help_heading = "Output", long, value_name = "DIR", value_parser = crate::commands::path())]
    pub out: Option<PathBuf>,
    /// Number of runs to keep below the state directory; `latest` and active runs are never removed
    #[arg(help_heading = "Output", long, default_value_t = vmtest_host::store::KEPT_RUNS, value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(value_name = "N")]
    pub keep: u32,
    /// Maximum size of the run directory: the middle of its largest logs is removed (500M) [default: 50M]
    #[arg(help_heading = "Output", long, value_name = "SIZE", value_parser = vmtest_base::size::parse)]
    pub run_size: Option<u64>,
    /// Show what would be done without doing it
    #[arg(help_heading = "Output", long, short = 'n')]
    pub dry_run: bool,
    /// List the subtests and what each one proves
    #[arg(help_heading = "Which tests", long, conflicts_with_all = ABOUT_A_RUN)]
    pub list: bool,
    /// Open an interactive shell in the guest: same kernel, same root
    #[arg(help_heading = "Guest", long, group = "look_inside", conflicts_with_all = ABOUT_TESTS)]
    pub shell: bool,
    /// Run a shell command in the guest instead of the tests: exit code 0 if it succeeds, 1 if it fails
    #[arg(help_heading = "Guest", long, value_name = "CMD", group = "look_inside", conflicts_with_all = ABOUT_TESTS)]
    pub exec: Option<String>,
    /// Directory of this host for the guest of --shell or --exec, which starts in it; read-only unless DIR:rw. Needs a
    /// boot through vng [default: the tree, if one is tested]
    #[arg(help_heading = "Look inside", long, value_name = "DIR[:rw]", requires = "look_inside")]
    pub share: Option<String>,
    /// Stop before the first instruction and print the gdb command line
    #[arg(help_heading = "Guest", long, conflicts_with = "look_inside")]
    pub gdb: bool,
}
impl VmtestArgs {
    /// The request, without anything that only concerns this invocation: reports, directories, the matrix
    /// file.
    pub fn request(&self) -> Request {
        // A new option is a compile error here until it is handled.
        let VmtestArgs {
            words: _,
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
            suite_tree,
            tests,
            rerun_failed: _,
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
            kconfig,
            config,
            mut append,
            provoke,
            sysctls,
            cpus,
            cpu_model,
            memory,
            timeouts,
            make_jobs,
            vms,
            fail_fast,
            verbosity: _,
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
            share,
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
        // As a parameter it is part of every repeat line, and of the key of each remembered verdict.
        append.extend(provoke.then(|| format!("{}=1", param::PROVOKE)));
        let suites = if suites.is_empty() { vec![Suite::Own] } else { suites };
        Request {
            kernels,
            patches,
            with_base,
            each_patch,
            without_base: false,
            first_n,
            variants,
            suites,
            ignore_denylist,
            suite_tree,
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
            kconfig,
            make: Vec::new(),
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
            share: share.clone(),
            checks: Vec::new(),
            build_only: false,
            self_test,
        }
    }
}

/// Values of `--self-test`; see [`effort`].
fn self_test() -> impl TypedValueParser<Value = SelfTest> {
    let words = [
        PossibleValue::new("turned").help("One expectation of each subtest is inverted"),
        PossibleValue::new("blind").help("BPF programs see nothing"),
    ];
    PossibleValuesParser::new(words).try_map(|word| SelfTest::from_name(&word).ok_or("unknown damage"))
}
