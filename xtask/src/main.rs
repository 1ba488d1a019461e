// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask`: parse, call, print the error, return the code.

mod cli;

mod commands;

#[cfg(test)]
mod fuzz;

mod github;

mod settings;

mod verbosity;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::{Cli, Command, MatrixCommand};
use crate::commands::bisect::Exit;
use vmtest_base::error::{Class, Result};
use vmtest_base::event::Bus;
use vmtest_host::context::Context;
use vmtest_host::store::Cache;

fn main() -> ExitCode {
    let _log = github::begin();
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        // A mistake, or a help that was asked for; nothing can be done about an output that is closed.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let exit = run(cli).unwrap_or_else(|error| {
        // Nothing can be done about a standard error that is closed.
        let _ = writeln!(std::io::stderr(), "error: {}", vmtest_base::sanitize::lines(&error.to_string()));
        Exit::Class(error.class)
    });
    vmtest_host::reaper::finish();
    vmtest_host::sandbox::finish();
    ExitCode::from(match exit {
        Exit::Class(class) => class.code(),
        Exit::Git(code) => code,
    })
}

fn run(cli: Cli) -> Result<Exit> {
    vmtest_host::process::close_to_children()?;
    vmtest_host::process::survive_large_files()?;
    vmtest_base::interrupt::listen()?;
    let project = project();
    let class = match cli.command {
        Command::Bisect(args) => return commands::bisect::run(&args, &project),
        Command::Vmtest(args) => match &args.matrix {
            Some(file) => commands::matrix::run(&args, file, &project),
            None => commands::vmtest::run(&args, &project),
        },
        Command::Matrix(MatrixCommand::Run(args)) => match &args.0.matrix {
            Some(file) => commands::matrix::run(&args.0, file, &project),
            None => commands::vmtest::run(&args.0, &project),
        },
        Command::Sources(args) => {
            let bus = Bus::new(vec![vmtest_report::progress::sink()]);
            let ctx = Context {
                cache: Cache::open()?,
                bus,
                project,
                mirror: settings::Settings::read()?.mirror(None),
            };
            commands::sources::run(&ctx, &args).map(|()| Class::Pass)
        }
        Command::Cache(args) => commands::cache::run(&args).map(|()| Class::Pass),
        Command::Clean(args) => commands::clean::run(&args).map(|()| Class::Pass),
        Command::CiMatrix(args) => commands::ci_matrix::run(&args, &project).map(|()| Class::Pass),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Report(args) => commands::report::run(&args, &project),
        Command::Completions(args) => {
            commands::completions::completions(&args, Cli::command()).map(|()| Class::Pass)
        }
        Command::Man(args) => commands::completions::man(&args, Cli::command()).map(|()| Class::Pass),
        Command::Test(args) => commands::test::run(&args, &project),
    };
    class.map(Exit::Class)
}

/// The checkout: cargo says where; a binary that was copied elsewhere remembers where it was built.
fn project() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let manifest = PathBuf::from(manifest);
    manifest.parent().map_or_else(|| manifest.clone(), std::path::Path::to_owned)
}
