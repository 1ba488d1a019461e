// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line as it is typed: clap structs only. What it means is decided in `plan`.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use vmtest_protocol::{Effort, SelfTest};

use crate::error::EXIT_CODES_HELP;
use crate::matrix::Shard;
use crate::request::{BootChoice, Purpose, Request, Suite};

/// Tests kernel patch series: builds, boots, runs the selftests inside, and answers with a matrix.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fetch, patch, build, boot, test: the main job.
    Vmtest(Box<VmtestArgs>),
    /// Find the first bad commit, patch or released kernel, or the first good one.
    Bisect(Box<crate::commands::bisect::Args>),
    /// Re-read finished runs, offline.
    Report(crate::commands::report::Args),
    /// Print the jobs of a matrix for a CI system.
    CiMatrix(crate::commands::ci_matrix::Args),
    /// List the kernels that the Debian archive has.
    Sources(crate::commands::sources::Args),
    /// Say what this host has, lacks, and the command that mends it.
    Doctor(crate::commands::doctor::Args),
    /// Show what the cache holds, and remove what was not used for long.
    Cache(crate::commands::cache::Args),
    /// Remove runs or the cache.
    Clean(crate::commands::clean::Args),
    /// Print the completions of a shell.
    Completions(crate::commands::papers::CompletionArgs),
    /// Write man pages.
    Man(crate::commands::papers::ManArgs),
    /// Test the harness itself: format, lints, unit tests, whole commands, real virtual machines.
    Test(crate::commands::test::Args),
}

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

/// Options that mean something only beside another one: command, option, the other one.
///
/// clap's own `requires` says nothing where something on the command line is in conflict with the other one, and the option
/// would be ignored without a word: `--build-only --kernel ..`.
const ONLY_WITH: [(&str, &str, &str); 11] = [
    ("vmtest", "cells", "matrix"),
    ("vmtest", "shard", "matrix"),
    ("vmtest", "build_only", "matrix"),
    ("vmtest", "executor", "matrix"),
    ("vmtest", "executor_limit", "executor"),
    ("vmtest", "allow_flaky", "retries"),
    ("cache", "dry_run", "prune"),
    ("clean", "keep", "runs"),
    ("test", "row", "failures"),
    ("test", "times", "failures"),
    ("test", "only", "mutants"),
];

/// Reads a command line.
///
/// # Errors
/// What is wrong with it; clap prints that and ends with 2.
pub fn parse<I: IntoIterator<Item = std::ffi::OsString>>(words: I) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(words)?;
    if let Some((name, given)) = matches.subcommand() {
        let typed = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
        let alone = ONLY_WITH.iter().find(|(of, id, other)| *of == name && typed(id) && !typed(other));
        if let Some((_, id, other)) = alone {
            let long = |id: &str| {
                let found = command.find_subcommand(name)?.get_arguments().find(|one| one.get_id() == id)?;
                found.get_long().map(str::to_owned)
            };
            let (option, other) = (long(id).unwrap_or_default(), long(other).unwrap_or_default());
            let why = format!("--{option} means something only with --{other}");
            return Err(command.error(ErrorKind::MissingRequiredArgument, why));
        }
    }
    Cli::from_arg_matches(&matches)
}

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
    pub accel: crate::vm::accel::AccelChoice,
    /// Whose compilers and QEMU: the build root's, sandboxed, or the host's
    #[arg(long, value_enum, default_value = "image")]
    pub toolchain: crate::host::Toolchain,
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
    pub baseline: crate::commands::report::diff::BaselineArgs,
    /// Write run.json here as well, or what would be done with --dry-run; with `-` to standard output,
    /// in place of the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Directory of this run; must be new or empty [default: one below the state directory]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Runs that are kept below the state directory; older ones are removed, but neither `latest` nor one under way
    #[arg(long, default_value_t = crate::workdir::KEPT_RUNS, value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(value_name = "N")]
    pub keep: u32,
    /// Size of this run's directory once it is over: the middle of its largest logs is cut out (500M) [default: 50M]
    #[arg(long, value_name = "SIZE", value_parser = crate::commands::cache::bytes)]
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

/// Words of `--effort`, whose type the guest shares and which therefore knows nothing of clap.
pub fn effort() -> impl TypedValueParser<Value = Effort> {
    let words = [
        PossibleValue::new("quick").help("One look at each group"),
        PossibleValue::new("normal").help("Everything that ends within seconds"),
        PossibleValue::new("soak").help("The same, and stress in full: minutes"),
    ];
    PossibleValuesParser::new(words).try_map(|word| Effort::of_name(&word).ok_or("unknown effort"))
}

/// The same for `--self-test`.
fn self_test() -> impl TypedValueParser<Value = SelfTest> {
    let words = [
        PossibleValue::new("turned").help("One expectation of each subtest is turned round"),
        PossibleValue::new("blind").help("BPF programs see nothing"),
    ];
    PossibleValuesParser::new(words).try_map(|word| SelfTest::from_name(&word).ok_or("unknown damage"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Every option of `vmtest` with a value that it takes, and where it is honoured: a plain run, a matrix run here, one that
    /// only builds, one by an executor, a list of subtests, a look inside a guest.
    const OPTIONS: [(&str, &[&str], &str); 48] = [
        ("matrix", &["m.toml"], "pmbx"),
        ("cell", &["x"], "mbx"),
        ("shard", &["1/2"], "mbx"),
        ("build-only", &[], "mb"),
        ("executor", &["run {cell} {out}"], "mx"),
        ("executor-limit", &["5"], "x"),
        ("kernel", &["src:6.18"], "pi"),
        ("patches", &["p"], "pi"),
        ("with-base", &[], "pi"),
        ("each-patch", &[], "pi"),
        ("first-n", &["1"], "pi"),
        ("variant", &["debug"], "pi"),
        ("suite", &["own"], "pi"),
        ("test", &["basic"], "p"),
        ("ignore-denylist", &[], "p"),
        ("effort", &["quick"], "p"),
        ("repeat", &["2"], "p"),
        ("until-fail", &[], "p"),
        ("retries", &["1"], "p"),
        ("allow-flaky", &[], ""),
        ("allow-splats", &["f"], "p"),
        ("boot", &["vng"], "pi"),
        ("accel", &["tcg"], "pmbxli"),
        ("toolchain", &["host"], "pmbxli"),
        ("allow-skip", &["*"], "p"),
        ("config", &["f"], "pi"),
        ("append", &["x"], "pi"),
        ("sysctl", &["k=v"], "pi"),
        ("cpus", &["2"], "pi"),
        ("cpu-model", &["max"], "pi"),
        ("memory", &["1G"], "pi"),
        ("timeout", &["idle=1"], "pmbi"),
        ("make-jobs", &["1"], "pmbi"),
        ("vms", &["1"], "pmx"),
        ("fail-fast", &[], "pm"),
        ("output", &["html=f"], "pmx"),
        ("baseline", &["latest"], "pmx"),
        ("json", &["f"], "pmxli"),
        ("out", &["d"], "pmbxi"),
        ("keep", &["1"], "pmbxli"),
        ("run-size", &["1M"], "pmbxi"),
        ("dry-run", &[], "pmxi"),
        ("list", &[], "pl"),
        ("shell", &[], "p"),
        ("exec", &["true"], "pi"),
        ("gdb", &[], "p"),
        ("self-test", &[], "p"),
        ("mirror", &["u"], "pmbxli"),
    ];

    /// What makes each of these modes.
    const MODES: [(char, &[&str]); 6] = [
        ('p', &[]),
        ('m', &["--matrix", "m.toml"]),
        ('b', &["--matrix", "m.toml", "--build-only"]),
        ('x', &["--matrix", "m.toml", "--executor", "run {cell} {out}"]),
        ('l', &["--list"]),
        ('i', &["--exec", "true"]),
    ];

    fn typed(words: &[&str]) -> Result<Cli, clap::Error> {
        parse(["xtask"].into_iter().chain(words.iter().copied()).map(Into::into))
    }

    #[test]
    fn every_option_is_honoured_or_refused_in_every_mode() {
        let mut cli = Cli::command();
        cli.build();
        let vmtest = cli.find_subcommand("vmtest").expect("there");
        let known: Vec<&str> = vmtest.get_arguments().filter_map(clap::Arg::get_long).collect();
        let known: Vec<&str> = known.into_iter().filter(|long| *long != "help").collect();
        assert_eq!(OPTIONS.map(|(name, ..)| name).to_vec(), known, "a new option says where it is honoured");
        for (mode, words) in MODES {
            for (name, values, honoured) in OPTIONS {
                let long = format!("--{name}");
                if words.contains(&long.as_str()) {
                    continue;
                }
                let more: Vec<&str> = [&["vmtest"], words, &[&long], values].concat();
                let read = typed(&more);
                assert_eq!(read.is_ok(), honoured.contains(mode), "{more:?}: {:?}", read.err());
            }
        }
    }

    /// Whatever else is there, and whatever that is in conflict with.
    #[test]
    fn an_option_that_means_nothing_alone_is_refused_beside_any_other() {
        for (command, option, with) in ONLY_WITH {
            let mut cli = Cli::command();
            cli.build();
            let found = cli.find_subcommand(command).expect("there");
            let long = |id: &str| {
                let one = found.get_arguments().find(|one| one.get_id() == id).expect("there");
                (format!("--{}", one.get_long().expect("long")), one.get_action().takes_values())
            };
            let value = |name: &str| -> Vec<String> {
                let sample = OPTIONS.iter().find(|(known, ..)| format!("--{known}") == name);
                let one = vec![if name == "--prune" { "1d" } else { "1" }.to_owned()];
                sample.map_or(one, |(_, values, _)| values.iter().map(|value| (*value).to_owned()).collect())
            };
            let words = |(name, takes): (String, bool)| -> Vec<String> {
                let values = if takes { value(&name) } else { Vec::new() };
                std::iter::once(name).chain(values).collect()
            };
            let (alone, other) = (words(long(option)), words(long(with)));
            for more in found.get_arguments().filter(|one| one.get_long().is_some_and(|long| long != "help"))
            {
                let id = more.get_id().as_str();
                if [option, with].contains(&id) {
                    continue;
                }
                let all = [vec![command.to_owned()], alone.clone(), words(long(id))].concat();
                let all: Vec<&str> = all.iter().map(String::as_str).collect();
                assert!(typed(&all).is_err(), "{all:?}");
            }
            let whole = [vec![command.to_owned()], alone, other].concat();
            let whole: Vec<&str> = whole.iter().map(String::as_str).collect();
            // An executor needs its matrix in turn.
            assert!(typed(&whole).is_ok() || with == "executor", "{whole:?}");
        }
    }

    #[test]
    fn clap_finds_no_contradiction() {
        Cli::command().debug_assert();
    }

    fn requested(words: &[String]) -> Request {
        let typed = ["xtask", "vmtest"].into_iter().map(str::to_owned).chain(words.iter().cloned());
        match Cli::try_parse_from(typed).expect("clap accepts it").command {
            Command::Vmtest(args) => args.request(),
            _ => unreachable!("vmtest was typed"),
        }
    }

    #[test]
    fn a_request_and_its_words_are_the_same() {
        assert_eq!(requested(&[]), Request::default());
        assert!(Request::default().words().is_empty());
        let typed = [
            "--kernel tree:/l --kernel src:7.3 --variant nojit --suite own --suite tracefs --test basic/* --effort soak",
            "--patches a --patches b --with-base --first-n 3 --boot direct --accel tcg --toolchain host --fail-fast",
            "--each-patch --retries 2 --allow-flaky --allow-splats f --allow-skip debian:*=x --config f --vms 2",
            "--append a=b --append -x --sysctl kernel.x=1 --cpus 3 --cpu-model max --memory 2G --timeout boot=3",
            "--suite upstream --ignore-denylist --make-jobs 7 --repeat 4 --until-fail",
            "--shell",
            "--gdb",
            "--self-test",
            "--self-test=blind",
        ];
        let words = typed.iter().map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for words in words.chain([vec!["--exec".to_owned(), "cat /proc/version".to_owned()]]) {
            let request = requested(&words);
            assert_ne!(request, Request::default(), "{words:?}");
            assert_eq!(requested(&request.words()), request, "{words:?}");
            let text = serde_json::to_string(&request).expect("data");
            let read: Request = serde_json::from_str(&text).expect("read");
            assert_eq!(Request { self_test: request.self_test, ..read }, request, "{text}");
        }
    }

    /// Commands without commands below them.
    fn leaves(command: &clap::Command) -> Vec<&clap::Command> {
        let below: Vec<_> = command.get_subcommands().flat_map(leaves).collect();
        if below.is_empty() { vec![command] } else { below }
    }

    #[test]
    fn every_help_has_examples_that_can_be_typed() {
        let mut cli = Cli::command();
        cli.build();
        for command in leaves(&cli) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> = help
                .lines()
                .map(str::trim)
                .filter_map(|line| line.strip_prefix("cargo xtask "))
                .map(|line| line.split("   ").next().unwrap_or(line))
                .collect();
            assert!(help.contains("Examples:") && !examples.is_empty(), "{}: {help}", command.get_name());
            for example in examples {
                let words = example.split(" > ").next().unwrap_or(example).split_whitespace();
                let words = words.map(|word| word.trim_matches(['\'', '"']));
                let parsed = Cli::command().try_get_matches_from(["xtask"].into_iter().chain(words));
                // Quoted words with spaces are one argument for a shell, and several here.
                let quoted = example.contains('\'') || example.contains('"');
                assert!(
                    quoted || parsed.is_ok(),
                    "{example}: {}",
                    parsed.err().map_or_else(String::new, |e| e.to_string())
                );
            }
        }
    }

    /// What gives data gives it as JSON, too.
    #[test]
    fn every_command_that_has_data_has_json() {
        let mut cli = Cli::command();
        cli.build();
        // These print formats of their own, or what other programs say.
        let without = ["export", "completions", "man", "test", "ci-matrix", "merge"];
        for command in leaves(&cli).into_iter().filter(|command| !without.contains(&command.get_name())) {
            let has = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
            assert!(has, "{}", command.get_name());
        }
    }
}
