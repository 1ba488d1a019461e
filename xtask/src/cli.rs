// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line as typed: clap structs only. `plan` decides what it means.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{FromArgMatches, Parser, Subcommand};

use vmtest_base::program;

mod named;

pub use named::command;

/// Builds, boots and tests a kernel patch series, and prints a matrix of results.
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
    /// Fetch, patch, build, boot and test kernels: the main job.
    Vmtest(Box<crate::commands::vmtest::args::VmtestArgs>),
    /// Review a patch series: test each patch, and say whether it can be merged.
    Review(Box<crate::commands::review::Args>),
    /// Show which of the lines that a series adds no test runs.
    Coverage(Box<crate::commands::coverage::Args>),
    /// Run the jobs of a matrix file.
    #[command(subcommand)]
    Matrix(MatrixCommand),
    /// Find the first bad (or fixed) commit, patch or released kernel.
    Bisect(Box<crate::commands::bisect::Args>),
    /// Show, compare, export or merge finished runs, offline.
    Report(crate::commands::report::Args),
    /// Print the jobs of a matrix for a CI system.
    CiMatrix(crate::commands::ci_matrix::Args),
    /// List the kernels available from the Debian archive.
    Sources(crate::commands::sources::Args),
    /// Check this host and print the command that fixes each problem.
    Doctor(crate::commands::doctor::Args),
    /// Show the cache and prune entries unused for a long time.
    Cache(crate::commands::cache::Args),
    /// Remove runs or the cache.
    Clean(crate::commands::clean::Args),
    /// Print shell completions.
    Completions(crate::commands::completions::CompletionArgs),
    /// Write man pages.
    Man(crate::commands::completions::ManArgs),
    /// Test the harness itself: format, lints, unit tests, commands, virtual machines.
    Test(crate::commands::test::Args),
    /// Pack the program with everything that it needs into a tarball.
    Dist(crate::commands::dist::Args),
    /// Install the program for this user, as `kmatrix`.
    Install(crate::commands::install::Args),
}

/// What to do with a matrix file.
#[derive(Debug, Subcommand)]
pub enum MatrixCommand {
    /// Run the jobs of a matrix file.
    Run(Box<crate::commands::matrix::args::MatrixRun>),
}

/// Options that only make sense together with another one: command, option, the other one.
///
/// clap's `requires` is silently dropped if something on the command line conflicts with the other option,
/// and the option would be ignored: `--build-only --kernel ..`.
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

/// Parses a command line.
///
/// # Errors
/// What is wrong with it; clap prints that and exits with 2.
pub fn parse<I: IntoIterator<Item = OsString>>(words: I) -> Result<Cli, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(self::words(words))?;
    let named = match matches.subcommand() {
        Some(("matrix", below)) => below.subcommand().map(|(_, given)| ("vmtest", given)),
        named => named,
    };
    if let Some((name, given)) = named {
        if program::installation().is_some() && named::DEVELOPER.contains(&name) {
            let why =
                format!("`{name}` needs a checkout of the project: `{} {name}` there", program::IN_CHECKOUT);
            return Err(command.error(ErrorKind::InvalidSubcommand, why));
        }
        let typed = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
        let alone = ONLY_WITH.iter().find(|(of, id, other)| *of == name && typed(id) && !typed(other));
        if let Some((_, id, other)) = alone {
            let long = |id: &str| {
                let found = command.find_subcommand(name)?.get_arguments().find(|one| one.get_id() == id)?;
                found.get_long().map(str::to_owned)
            };
            let (option, other) = (long(id).unwrap_or_default(), long(other).unwrap_or_default());
            let why = format!("--{option} is only valid with --{other}");
            return Err(command.error(ErrorKind::MissingRequiredArgument, why));
        }
    }
    Cli::from_arg_matches(&matches)
}

/// The words of a command line, with `vmtest` where no command is named. `cargo xtask` alone shows the help.
pub fn words<I: IntoIterator<Item = OsString>>(words: I) -> Vec<OsString> {
    const HELP: [&str; 4] = ["-h", "--help", "-V", "--version"];
    let mut words: Vec<OsString> = words.into_iter().collect();
    let command = command();
    let is_command = |word: &str| HELP.contains(&word) || command.find_subcommand(word).is_some();
    let program = words.first().map(|word| Path::new(word).file_name() == Some(program::NAME.as_ref()));
    let named = words.get(1).map(|word| word.to_str().is_some_and(is_command));
    if named.map_or(program == Some(true), |named| !named) {
        words.insert(1, "vmtest".into());
    }
    words
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use vmtest_engine::request::Request;

    /// Every option of `vmtest` with a value that it takes, and where it is honoured: a plain run, a matrix run here, one that
    /// only builds, one by an executor, a list of subtests, a look inside a guest.
    const OPTIONS: [(&str, &[&str], &str); 56] = [
        ("kernel", &["src:6.18"], "pi"),
        ("patches", &["p"], "pi"),
        ("with-base", &[], "pi"),
        ("each-patch", &[], "pi"),
        ("first-n", &["1"], "pi"),
        ("variant", &["debug"], "pi"),
        ("kconfig", &["f"], "pi"),
        ("config", &["f"], "pi"),
        ("toolchain", &["host"], "pmbxli"),
        ("make-jobs", &["1"], "pmbi"),
        ("mirror", &["u"], "pmbxli"),
        ("suite", &["own"], "pi"),
        ("test", &["basic"], "p"),
        ("ignore-denylist", &[], "p"),
        ("suite-tree", &["src:7.3"], "p"),
        ("rerun-failed", &["latest"], "p"),
        ("effort", &["quick"], "p"),
        ("allow-splats", &["f"], "p"),
        ("allow-skip", &["*"], "p"),
        ("self-test", &[], "p"),
        ("boot", &["vng"], "pi"),
        ("accel", &["tcg"], "pmbxli"),
        ("append", &["x"], "pi"),
        ("provoke", &[], "p"),
        ("sysctl", &["k=v"], "pi"),
        ("cpus", &["2"], "pi"),
        ("cpu-model", &["max"], "pi"),
        ("memory", &["1G"], "pi"),
        ("timeout", &["idle=1"], "pmbi"),
        ("vms", &["1"], "pmx"),
        ("repeat", &["2"], "p"),
        ("until-fail", &[], "p"),
        ("retries", &["1"], "p"),
        ("allow-flaky", &[], ""),
        ("fail-fast", &[], "pm"),
        ("matrix", &["m.toml"], "pmbx"),
        ("cell", &["x"], "mbx"),
        ("shard", &["1/2"], "mbx"),
        ("build-only", &[], "mb"),
        ("executor", &["run {cell} {out}"], "mx"),
        ("executor-limit", &["5"], "x"),
        ("quiet", &[], "pmbxli"),
        ("verbose", &[], "pmbxli"),
        ("output", &["html=f"], "pmx"),
        ("rows", &["all"], "pmx"),
        ("baseline", &["latest"], "pmx"),
        ("json", &["f"], "pmxli"),
        ("out", &["d"], "pmbxi"),
        ("keep", &["1"], "pmbxli"),
        ("run-size", &["1M"], "pmbxi"),
        ("dry-run", &[], "pmxi"),
        ("list", &[], "pl"),
        ("shell", &[], "p"),
        ("exec", &["true"], "pi"),
        ("share", &["d"], "i"),
        ("gdb", &[], "p"),
    ];

    /// The options that select each of these modes.
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

    /// With any other option, and whatever that conflicts with.
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
            // An executor in turn needs a matrix.
            assert!(typed(&whole).is_ok() || with == "executor", "{whole:?}");
        }
    }

    #[test]
    fn clap_finds_no_contradiction() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_can_be_suggested() {
        let cli = Cli::command();
        let names: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(names, crate::commands::COMMANDS);
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
            "--provoke",
            "--suite upstream --ignore-denylist --suite-tree src:7.3 --make-jobs 7 --repeat 4 --until-fail",
            "--kconfig /boot/config",
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

    /// Commands without subcommands.
    fn leaves(command: &clap::Command) -> Vec<&clap::Command> {
        let below: Vec<_> = command.get_subcommands().flat_map(leaves).collect();
        if below.is_empty() { vec![command] } else { below }
    }

    /// The whole help of every command at 80 columns; examples to be pasted are narrow enough that clap never
    /// wraps them.
    #[test]
    fn no_line_of_a_help_is_wider_than_80_columns() {
        fn below(command: &mut clap::Command, parents: &str) {
            let name = format!("{parents} {}", command.get_name());
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in text.lines() {
                assert!(line.chars().count() <= 76, "{name}: {line}");
            }
            for help in [command.render_help(), command.render_long_help()] {
                for line in help.to_string().lines() {
                    assert!(line.chars().count() <= 80, "{name}: {line}");
                }
            }
            command.get_subcommands_mut().for_each(|command| below(command, &name));
        }
        let mut cli = command().term_width(80);
        cli.build();
        below(&mut cli, "");
    }

    /// Both helps of `vmtest` and `matrix run` at 80 and 100 columns, as files; `VMTEST_BLESS=1` writes them.
    #[test]
    fn help_is_as_it_was_last_read() {
        for width in [80, 100] {
            let mut cli = command().term_width(width);
            cli.build();
            let vmtest = cli.find_subcommand_mut("vmtest").expect("there");
            let (short, long) = (vmtest.render_help().to_string(), vmtest.render_long_help().to_string());
            assert!(short.lines().count() <= 40, "{} lines\n{short}", short.lines().count());
            let headings = ["What to test:", "Which tests:", "Guest:", "Build:", "Output:"];
            headings.iter().for_each(|heading| assert!(long.contains(heading), "{heading}"));
            let run = cli.find_subcommand_mut("matrix").and_then(|matrix| matrix.find_subcommand_mut("run"));
            let run = run.expect("there").render_long_help().to_string();
            assert!(run.contains("Matrix:") && !run.contains("--kernel") && !long.contains("--shard"));
            for (name, text) in [("vmtest-h", short), ("vmtest-help", long), ("matrix-run-help", run)] {
                let file = format!("{}/src/cli/help/{name}-{width}.txt", env!("CARGO_MANIFEST_DIR"));
                if std::env::var_os("VMTEST_BLESS").is_some() {
                    std::fs::write(&file, &text).expect("written");
                }
                let before = std::fs::read_to_string(&file).unwrap_or_default();
                assert_eq!(text, before, "{file}; VMTEST_BLESS=1 writes it");
            }
        }
    }

    #[test]
    fn a_matrix_has_a_command_of_its_own_and_the_old_form() {
        let new = typed(&["matrix", "run", "m.toml", "--shard", "1/2"]).expect("read").command;
        let old = typed(&["vmtest", "--matrix", "m.toml", "--shard", "1/2"]).expect("read").command;
        match (new, old) {
            (Command::Matrix(MatrixCommand::Run(new)), Command::Vmtest(old)) => {
                assert_eq!(format!("{:?}", new.0), format!("{old:?}"));
            }
            other => panic!("{other:?}"),
        }
        for words in
            [&["--kernel", "src:6.18"][..], &["tree:."], &["--executor-limit", "5"], &["--test", "x"]]
        {
            assert!(typed(&[&["matrix", "run", "m.toml"], words].concat()).is_err(), "{words:?}");
        }
        assert!(typed(&["matrix", "run"]).is_err());
    }

    /// Every command that outputs data also has JSON output.
    #[test]
    fn every_command_that_has_data_has_json() {
        let mut cli = Cli::command();
        cli.build();
        // These print their own formats, or the output of other programs.
        let without = ["export", "completions", "man", "test", "dist", "install", "ci-matrix", "merge"];
        for command in leaves(&cli).into_iter().filter(|command| !without.contains(&command.get_name())) {
            let has = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
            assert!(has, "{}", command.get_name());
        }
    }
}

#[cfg(test)]
mod plan_tests;
