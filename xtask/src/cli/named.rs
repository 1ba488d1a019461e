// SPDX-License-Identifier: MIT OR Apache-2.0
//! The definition of the command line under the name that the program was called by. It is written for a checkout.

use clap::{Command, CommandFactory};

use crate::cli::Cli;
use vmtest_base::program::{self, IN_CHECKOUT, NAME};

/// Commands that need the sources of the project.
pub const DEVELOPER: [&str; 3] = ["test", "dist", "install"];

/// The command line of this program.
pub fn command() -> Command {
    let command = Cli::command()
        .mut_subcommand("vmtest", crate::commands::vmtest::args::shown)
        .mut_subcommand("review", crate::commands::review::shown)
        .mut_subcommand("coverage", crate::commands::coverage::shown);
    match program::installation() {
        None => command,
        Some(_) => installed(command, program::name()),
    }
}

/// The command line of an installed program that was called by this name.
fn installed(command: Command, called: &str) -> Command {
    let hidden = |command: Command, name: &&str| command.mut_subcommand(name, |below| below.hide(true));
    let command = DEVELOPER.iter().fold(command.name(NAME), hidden);
    renamed(command).bin_name(called)
}

/// With the short name in all texts: an example with a long path would be wrapped, and could not be pasted.
fn renamed(command: Command) -> Command {
    let text = |text: Option<&clap::builder::StyledStr>| {
        text.map(|text| text.to_string().replace(IN_CHECKOUT, NAME)).unwrap_or_default()
    };
    let [before, before_long, about, long, after, after_long] = [
        text(command.get_before_help()),
        text(command.get_before_long_help()),
        text(command.get_about()),
        text(command.get_long_about()),
        text(command.get_after_help()),
        text(command.get_after_long_help()),
    ];
    let command = command.about(about).before_help(before).after_help(after);
    let command = if before_long.is_empty() { command } else { command.before_long_help(before_long) };
    let command = if long.is_empty() { command } else { command.long_about(long) };
    let command = if after_long.is_empty() { command } else { command.after_long_help(after_long) };
    let command = command.mut_args(|arg| {
        let (help, long) = (text(arg.get_help()), text(arg.get_long_help()));
        let arg = if help.is_empty() { arg } else { arg.help(help) };
        if long.is_empty() { arg } else { arg.long_help(long) }
    });
    command.mut_subcommands(renamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn helps(command: &mut Command, all: &mut Vec<String>) {
        all.extend([command.render_help(), command.render_long_help()].map(|help| help.to_string()));
        for below in command.get_subcommands_mut() {
            helps(below, all);
        }
    }

    #[test]
    fn an_installed_program_does_not_name_the_checkouts_command() {
        let mut command = installed(Cli::command(), "/a/bin/kmatrix");
        command.build();
        command.clone().debug_assert();
        assert!(command.render_help().to_string().contains("Usage: /a/bin/kmatrix <COMMAND>"));
        let mut all = Vec::new();
        for below in command.get_subcommands_mut().filter(|below| !below.is_hide_set()) {
            helps(below, &mut all);
        }
        assert!(all.len() > 20, "{}", all.len());
        for help in &all {
            assert!(!help.contains(IN_CHECKOUT), "{help}");
            assert!(help.contains("Usage: /a/bin/kmatrix "), "{help}");
        }
        assert!(all.iter().any(|help| help.contains("\n  kmatrix vmtest ")));
    }

    #[test]
    fn an_installed_program_does_not_offer_what_needs_the_sources() {
        let help = installed(Cli::command(), NAME).render_help().to_string();
        let offered =
            |name: &&str| help.lines().any(|line| line.trim_start().starts_with(&format!("{name} ")));
        assert!(offered(&"vmtest") && !DEVELOPER.iter().any(offered), "{help}");
        let help = Cli::command().render_help().to_string();
        assert!(DEVELOPER.iter().all(|name| help.contains(&format!("\n  {name} "))), "{help}");
    }
}
