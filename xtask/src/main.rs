// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask`, or `kmatrix` if installed: parses the arguments, runs the command, prints the error, returns the exit code.

mod cli;

mod commands;

#[cfg(test)]
mod fuzz;

mod github;

mod settings;

mod verbosity;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::{Command, MatrixCommand};
use crate::commands::bisect::Exit;
use vmtest_base::error::{Class, Result};
use vmtest_base::event::Bus;
use vmtest_host::context::Context;
use vmtest_host::debian_mirror;
use vmtest_host::store::Cache;
use vmtest_report::layout;

fn main() -> ExitCode {
    let _log = github::begin();
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        // A usage error or help; a closed output is ignored.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let exit = prepared().and_then(|project| asking(&cli.command, &project)).unwrap_or_else(|error| {
        // A closed standard error is ignored.
        let text = format!("error: {}", vmtest_base::sanitize::lines(&error.to_string()));
        let _ = writeln!(std::io::stderr(), "{}", layout::message(&text, layout::columns_of_stderr()));
        Exit::Class(error.class)
    });
    vmtest_host::reaper::finish();
    vmtest_host::sandbox::finish();
    ExitCode::from(match exit {
        Exit::Class(class) => class.code(),
        Exit::Git(code) => code,
    })
}

/// What every command needs, and the directory of the project.
fn prepared() -> Result<PathBuf> {
    vmtest_host::process::close_to_children()?;
    vmtest_host::process::survive_large_files()?;
    vmtest_base::interrupt::listen()?;
    commands::typed::remember(cli::command(), cli::words(std::env::args_os()));
    vmtest_base::installation::project()
}

/// Runs a command, and once more if it only needed a Debian mirror and the user named one.
fn asking(command: &Command, project: &Path) -> Result<Exit> {
    match run(command, project) {
        Err(error) if debian_mirror::is_unknown(&error) && !is_dry_run(command) => {
            match settings::mirror::ask()? {
                true => run(command, project),
                false => Err(error),
            }
        }
        done => done,
    }
}

fn is_dry_run(command: &Command) -> bool {
    match command {
        Command::Vmtest(args) => args.dry_run,
        Command::Matrix(MatrixCommand::Run(args)) => args.0.dry_run,
        _ => false,
    }
}

fn run(command: &Command, project: &Path) -> Result<Exit> {
    let class = match command {
        Command::Bisect(args) => return commands::bisect::run(args, project),
        Command::Vmtest(args) => match &args.matrix {
            Some(file) => commands::matrix::run(args, file, project),
            None => commands::vmtest::run(args, project),
        },
        Command::Review(args) => commands::review::run(args, project),
        Command::Coverage(args) => commands::coverage::run(args, project),
        Command::Matrix(MatrixCommand::Run(args)) => match &args.0.matrix {
            Some(file) => commands::matrix::run(&args.0, file, project),
            None => commands::vmtest::run(&args.0, project),
        },
        Command::Sources(args) => {
            let bus = Bus::new(vec![vmtest_report::progress::sink()]);
            let ctx = Context {
                cache: Cache::open()?,
                bus,
                project: project.to_owned(),
                mirror: settings::Settings::read()?.mirror(None),
            };
            commands::sources::run(&ctx, args).map(|()| Class::Pass)
        }
        Command::Cache(args) => commands::cache::run(args).map(|()| Class::Pass),
        Command::Clean(args) => commands::clean::run(args).map(|()| Class::Pass),
        Command::CiMatrix(args) => commands::ci_matrix::run(args, project).map(|()| Class::Pass),
        Command::Doctor(args) => commands::doctor::run(args),
        Command::Report(args) => commands::report::run(args, project),
        Command::Completions(args) => {
            commands::completions::completions(args, cli::command()).map(|()| Class::Pass)
        }
        Command::Man(args) => commands::completions::man(args, cli::command()).map(|()| Class::Pass),
        Command::Test(args) => commands::test::run(args, project),
        Command::Dist(args) => commands::dist::run(args, project).map(|()| Class::Pass),
        Command::Install(args) => commands::install::run(args, project).map(|()| Class::Pass),
    };
    class.map(Exit::Class)
}
