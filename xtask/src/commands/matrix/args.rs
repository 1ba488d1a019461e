// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options of `matrix run`: those of `vmtest` that a matrix file does not decide.

use clap::Args;

use crate::commands::vmtest::args::{MATRIX_DECIDES, VmtestArgs};
use vmtest_base::error::EXIT_CODES_HELP;

/// `matrix run FILE`: `vmtest --matrix FILE` as a command of its own, with the same options.
#[derive(Debug, Clone)]
pub struct MatrixRun(pub VmtestArgs);

const MATRIX_EXAMPLES: &str = "\
Examples:
  cargo xtask matrix run matrix.toml
  cargo xtask matrix run matrix.toml --cell ID
  cargo xtask matrix run matrix.toml --shard 1/4 --out part-1

docs/matrix.md describes the file.";

impl Args for MatrixRun {
    fn augment_args(command: clap::Command) -> clap::Command {
        const OWN: [&str; 6] = ["matrix", "cells", "shard", "build_only", "executor", "executor_limit"];
        let command = VmtestArgs::augment_args(command).mut_args(|arg| {
            let (own, decided) = {
                let id = arg.get_id().as_str();
                (OWN.contains(&id), MATRIX_DECIDES.contains(&id))
            };
            if own { arg.hide(false) } else { arg.hide(decided) }
        });
        // A positional argument that is hidden is in conflict with the file, as each option that is.
        let command = command.mut_arg("matrix", |arg| arg.long(None).index(1).required(true));
        let command = command.mut_arg("words", |arg| arg.index(2));
        command
            .about("Run the jobs of a matrix file")
            .before_help(None)
            .after_help(MATRIX_EXAMPLES)
            .after_long_help(format!("{MATRIX_EXAMPLES}\n\n{EXIT_CODES_HELP}"))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for MatrixRun {
    fn from_arg_matches(matches: &clap::ArgMatches) -> std::result::Result<Self, clap::Error> {
        VmtestArgs::from_arg_matches(matches).map(MatrixRun)
    }

    fn update_from_arg_matches(
        &mut self,
        matches: &clap::ArgMatches,
    ) -> std::result::Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}
