// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask completions` and `cargo xtask man`: what is written about the command line, from its definition.

use std::path::PathBuf;

use clap_complete::Shell;

use crate::commands::print;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::{create_dir, write_file};

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

/// As the program is called, and not its alias: a command's name has no space in it.
const PROGRAM: &str = "xtask";

/// Behind `cargo xtask` complete as behind `xtask`, and as before behind everything else of cargo.
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

/// zsh's completion of cargo asks a function of this name about a command that it does not know.
const ZSH_CARGO: &str = "\n_cargo-xtask() { _xtask \"$@\" }\n";

/// fish is asked again, about the same line without `cargo`.
const FISH_CARGO: &str = r"
function __fish_cargo_xtask
    complete -C (string replace -r '^\s*cargo\s+' '' -- (commandline -cp))
end
complete -c cargo -n '__fish_seen_subcommand_from xtask' -f -a '(__fish_cargo_xtask)'
";

/// Prints them, for this command line.
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
    clap_complete::generate(shell, &mut command.name(PROGRAM).bin_name(PROGRAM), PROGRAM, &mut script);
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

/// Writes them for this command line, and says which.
///
/// # Errors
/// When the directory cannot be written.
pub fn man(args: &ManArgs, command: clap::Command) -> Result<()> {
    let ManArgs { dir } = args;
    create_dir(dir)?;
    let mut pages = Vec::new();
    collect(command.name(PROGRAM), PROGRAM.to_owned(), "cargo xtask".to_owned(), &mut pages)?;
    let mut text = String::new();
    for (name, page) in pages {
        let path = dir.join(format!("{name}.1"));
        write_file(&path, page)?;
        text.push_str(&format!("{}\n", path.display()));
    }
    print(&text)
}

/// A command's page, and those of the commands below it. `called` is what one types.
fn collect(
    command: clap::Command,
    name: String,
    called: String,
    pages: &mut Vec<(String, String)>,
) -> Result<()> {
    for below in command.get_subcommands() {
        let word = below.get_name();
        collect(below.clone(), format!("{name}-{word}"), format!("{called} {word}"), pages)?;
    }
    let mut page = Vec::new();
    // A page is called what `man` is asked for.
    let named = command.display_name(name.clone()).bin_name(called);
    clap_mangen::Man::new(named)
        .title(name.to_uppercase())
        .date(vmtest_base::date::today())
        .source(concat!("vmtest ", env!("CARGO_PKG_VERSION")))
        .manual("vmtest")
        .render(&mut page)
        .on("cannot write the page of", &name)
        .map_err(|error| Error::next_or(error, "report this: it is a bug in vmtest"))?;
    pages.push((name, tidy(&String::from_utf8_lossy(&page))));
    Ok(())
}

/// Takes away what man page readers complain of: a break on both sides of a blank line, which is a break itself, and
/// spaces at the ends of lines.
fn tidy(page: &str) -> String {
    let lines = page.replace("\n.br\n\n.br\n", "\n\n");
    lines.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}
