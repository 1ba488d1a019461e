// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask`: parse, call, print the error, return the code.

mod allow;
mod bisect;
mod bisection;
mod bootable;
mod build_root;
mod clean_env;
mod cli;
mod cmdline;
mod commands;
mod compare;
mod condition;
mod confined;
mod console_rules;
mod context;
mod coverage;
mod date;
mod debian_mirror;
mod decode;
mod dotconfig;
mod error;
mod event;
mod files;
#[cfg(test)]
mod fuzz;
mod gate;
mod github;
mod guest;
mod host;
mod initramfs;
mod interrupt;
mod judge;
mod kernel;
mod key;
mod lane;
mod launch;
mod leftovers;
mod lender;
mod matrix;
mod mutant;
mod places;
mod plain;
mod plan;
mod prepare;
mod proc;
mod replay;
mod report;
mod request;
mod result;
mod retry;
mod sandbox;
mod shop;
mod stored;
mod suite;
mod thread;
mod tools;
mod unit;
mod virtme_ng;
mod vm;
mod workdir;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::{Cli, Command};
use crate::commands::bisect::Exit;
use crate::context::Context;
use crate::error::{Class, Result};
use crate::event::Bus;
use crate::workdir::Cache;

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
        let _ = writeln!(std::io::stderr(), "error: {}", plain::plain(&error.to_string()));
        Exit::Class(error.class)
    });
    leftovers::finish();
    sandbox::finish();
    ExitCode::from(match exit {
        Exit::Class(class) => class.code(),
        Exit::Git(code) => code,
    })
}

fn run(cli: Cli) -> Result<Exit> {
    proc::close_to_children()?;
    proc::survive_large_files()?;
    interrupt::listen()?;
    let project = project();
    let class = match cli.command {
        Command::Bisect(args) => return commands::bisect::run(&args, &project),
        Command::Vmtest(args) => match &args.matrix {
            Some(file) => commands::matrix::run(&args, file, &project),
            None => commands::vmtest::run(&args, &project),
        },
        Command::Sources(args) => {
            let bus = Bus::new(vec![report::progress::sink()]);
            let ctx = Context { cache: Cache::open()?, bus, project, mirror: None };
            commands::sources::run(&ctx, &args).map(|()| Class::Pass)
        }
        Command::Cache(args) => commands::cache::run(&args).map(|()| Class::Pass),
        Command::Clean(args) => commands::clean::run(&args).map(|()| Class::Pass),
        Command::CiMatrix(args) => commands::ci_matrix::run(&args, &project).map(|()| Class::Pass),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Report(args) => commands::report::run(&args, &project),
        Command::Completions(args) => {
            commands::papers::completions(&args, Cli::command()).map(|()| Class::Pass)
        }
        Command::Man(args) => commands::papers::man(&args, Cli::command()).map(|()| Class::Pass),
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
