// SPDX-License-Identifier: MIT OR Apache-2.0
//! This program: its installation, and how the user called it.
//!
//! An installation has the program in `bin/kmatrix`, and beside `bin` the same directories as a checkout. Everything else runs
//! in a checkout, as `cargo xtask`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Name of an installed program.
pub const NAME: &str = "kmatrix";
/// What a checkout's program is called.
pub const IN_CHECKOUT: &str = "cargo xtask";
/// Describes an installation.
pub const VERSION_FILE: &str = "VERSION";

/// Where the program is, and what it is called in everything that it prints.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Program {
    /// Directory of the installation; `None` in a checkout.
    installation: Option<PathBuf>,
    name: String,
}

fn this() -> &'static Program {
    static THIS: OnceLock<Program> = OnceLock::new();
    THIS.get_or_init(|| {
        let real = std::env::current_exe().and_then(std::fs::canonicalize).unwrap_or_default();
        Program::new(&real, std::env::args_os().next().as_deref())
    })
}

impl Program {
    /// `real` is the path of the binary without links, `typed` the first word of its command line.
    fn new(real: &Path, typed: Option<&OsStr>) -> Program {
        let Some(installation) = installation_of(real) else {
            return Program { installation: None, name: IN_CHECKOUT.to_owned() };
        };
        let typed = typed.map(Path::new);
        // A name without a slash was found on PATH, and will be again.
        let name = match typed.filter(|path| path.file_name() == Some(OsStr::new(NAME))) {
            Some(path) if path == Path::new(NAME) => NAME.to_owned(),
            Some(path) => {
                let whole = std::path::absolute(path).unwrap_or_else(|_| real.to_owned());
                let plain: PathBuf = whole.components().collect();
                shell_word(&plain.to_string_lossy())
            }
            None => shell_word(&real.to_string_lossy()),
        };
        Program { installation: Some(installation), name }
    }
}

/// The installation that a binary belongs to.
fn installation_of(real: &Path) -> Option<PathBuf> {
    let bin = real.parent().filter(|_| real.file_name() == Some(OsStr::new(NAME)))?;
    let root = bin.parent().filter(|_| bin.file_name() == Some(OsStr::new("bin")))?;
    (root.join(VERSION_FILE).is_file() && is_project(root)).then(|| root.to_owned())
}

/// Whether a directory has the files of the project.
pub fn is_project(dir: &Path) -> bool {
    ["kconfig", "images"].iter().all(|name| dir.join(name).is_dir())
}

/// What commands of this program begin with: `cargo xtask`, `kmatrix`, or the path of an installed program that is not on PATH,
/// quoted for a shell.
pub fn name() -> &'static str {
    &this().name
}

/// `cargo xtask WORDS` or `kmatrix WORDS`.
pub fn command(words: &str) -> String {
    format!("{} {words}", name())
}

/// Directory of the installation that this program belongs to; `None` in a checkout.
pub fn installation() -> Option<&'static Path> {
    this().installation.as_deref()
}

/// The script that installs what a run needs, as a command.
pub fn setup() -> String {
    let script = "scripts/setup.sh";
    installation().map_or_else(|| script.to_owned(), |root| shell_word(&root.join(script).to_string_lossy()))
}

/// One word for a shell, quoted only if it must be.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests;
