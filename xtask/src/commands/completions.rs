// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask completions` and `cargo xtask man`: generated from the definition of the command line.

use std::path::PathBuf;

use clap_complete::Shell;

use crate::commands::print;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::{create_dir, write_file};
use vmtest_base::installation::Version;
use vmtest_base::program;

const COMPLETION_EXAMPLES: &str = "\
Examples:
  cargo xtask completions bash \\
      > ~/.local/share/bash-completion/completions/xtask
  cargo xtask completions zsh > ~/.zfunc/_xtask
  cargo xtask completions fish > ~/.config/fish/completions/xtask.fish

They complete both `xtask` and `cargo xtask`. For the latter, source the
bash file in ~/.bashrc and the fish file in ~/.config/fish/config.fish:
these shells look up `cargo` and find cargo's own completions.";

/// Print shell completions
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETION_EXAMPLES)]
pub struct CompletionArgs {
    /// Shell to complete for
    #[arg(value_enum)]
    shell: Shells,
}

/// Shells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shells {
    Bash,
    Zsh,
    Fish,
}

/// The name of the program, not of its cargo alias: a command name cannot contain a space.
fn program_name() -> &'static str {
    if program::installation().is_some() { program::NAME } else { "xtask" }
}

/// Completes `cargo xtask` like `xtask`, and everything else of cargo as before.
const BASH_CARGO: &str = r#"
_cargo_xtask() {
    if [[ ${COMP_WORDS[1]-} == xtask && $COMP_CWORD -ge 2 ]]; then
        COMP_WORDS=("${COMP_WORDS[@]:1}")
        COMP_CWORD=$((COMP_CWORD - 1))
        _xtask xtask "$2" "${COMP_WORDS[COMP_CWORD - 1]}"
    elif declare -F _cargo >/dev/null; then
        _cargo "$@"
    fi
}
complete -F _cargo_xtask -o bashdefault -o default cargo
"#;

/// For a subcommand that it does not know, zsh's completion of cargo calls a function of this name.
const ZSH_CARGO: &str = "\n_cargo-xtask() { _xtask \"$@\" }\n";

/// Makes fish complete the same line without `cargo`.
const FISH_CARGO: &str = r"
function __fish_cargo_xtask
    complete -C (string replace -r '^\s*cargo\s+' '' -- (commandline -cp))
end
complete -c cargo -n '__fish_seen_subcommand_from xtask' -f -a '(__fish_cargo_xtask)'
";

/// Prints the completions for this command line.
///
/// # Errors
/// When standard output cannot be written.
pub fn completions(args: &CompletionArgs, command: clap::Command) -> Result<()> {
    let CompletionArgs { shell } = args;
    let (shell, more) = match shell {
        Shells::Bash => (Shell::Bash, BASH_CARGO),
        Shells::Zsh => (Shell::Zsh, ZSH_CARGO),
        Shells::Fish => (Shell::Fish, FISH_CARGO),
    };
    let mut script = Vec::new();
    let name = program_name();
    clap_complete::generate(shell, &mut command.name(name).bin_name(name), name, &mut script);
    let more = if program::installation().is_some() { "" } else { more };
    print(&(String::from_utf8_lossy(&script).into_owned() + more))
}

const MAN_EXAMPLES: &str = "\
Examples:
  cargo xtask man --dir ~/.local/share/man/man1
  cargo xtask man --dir man

One page for each command: man xtask-vmtest, man xtask-report-diff.";

/// Write man pages
#[derive(Debug, clap::Args)]
#[command(after_help = MAN_EXAMPLES)]
pub struct ManArgs {
    /// Output directory; created if missing
    #[arg(long, value_name = "DIR", value_parser = crate::commands::path())]
    dir: PathBuf,
}

/// Writes the man pages for this command line, and prints their names.
///
/// # Errors
/// When the directory cannot be written.
pub fn man(args: &ManArgs, command: clap::Command) -> Result<()> {
    let ManArgs { dir } = args;
    create_dir(dir)?;
    let mut pages = Vec::new();
    let name = program_name();
    let (called, date) = match program::installation() {
        None => (program::IN_CHECKOUT, vmtest_base::date::today()),
        Some(root) => (program::NAME, Version::read(root)?.date),
    };
    collect(command.name(name), name.to_owned(), called.to_owned(), &date, &mut pages)?;
    let mut text = String::new();
    for (name, page) in pages {
        let path = dir.join(format!("{name}.1"));
        write_file(&path, page)?;
        text.push_str(&format!("{}\n", path.display()));
    }
    print(&text)
}

/// The page of a command, and those of its subcommands. `called` is what users type.
fn collect(
    command: clap::Command,
    name: String,
    called: String,
    date: &str,
    pages: &mut Vec<(String, String)>,
) -> Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        let word = below.get_name();
        collect(below.clone(), format!("{name}-{word}"), format!("{called} {word}"), date, pages)?;
    }
    let mut page = Vec::new();
    let command = as_page(command);
    // The page is named as it is passed to `man`.
    let named = command.display_name(name.clone()).bin_name(called);
    clap_mangen::Man::new(named)
        .title(name.to_uppercase())
        .date(date)
        .source(concat!("vmtest ", env!("CARGO_PKG_VERSION")))
        .manual("vmtest")
        .render(&mut page)
        .on("cannot write the page of", &name)
        .map_err(|error| Error::next_or(error, "report this: it is a bug in vmtest"))?;
    pages.push((name, tidy(&String::from_utf8_lossy(&page))));
    Ok(())
}

/// A command as its page shows it: every option with its text, and the examples, which a help has at its top, at the end.
fn as_page(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| arg.hide_short_help(false));
    let Some(examples) = command.get_before_help().map(ToString::to_string) else { return command };
    let rest = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string);
    let rest = rest.unwrap_or_default();
    command
        .before_help(None::<&str>)
        .before_long_help(None::<&str>)
        .after_long_help(format!("{examples}\n\n{rest}"))
}

/// Removes what man page linters warn about: breaks around a blank line, which is itself a break, and
/// trailing spaces.
fn tidy(page: &str) -> String {
    let lines = page.replace("\n.br\n\n.br\n", "\n\n");
    lines.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}
