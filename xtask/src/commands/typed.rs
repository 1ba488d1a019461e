// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line as it can be typed again, in any directory.

use std::any::TypeId;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::{Arg, Command};

use vmtest_base::places;
use vmtest_base::program::{self, shell_word};
use vmtest_engine::request::Request;
use vmtest_kernel::spec::KernelSpec;

/// Options whose values are files that a run writes: they may not exist yet.
const WRITTEN: [&str; 3] = ["out", "json", "dir"];

/// The command line of this process, and its definition; see [`remember`].
static TYPED: OnceLock<(Vec<String>, Command)> = OnceLock::new();

/// Remembers the command line of this process, which this definition accepted, for [`command_line`].
pub fn remember(mut command: Command, words: Vec<OsString>) {
    let words = words.into_iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    command.build();
    TYPED.get_or_init(|| (line(&command, words), command));
}

/// A command line that asks for this.
pub fn of_request(request: &Request) -> Vec<String> {
    let words = std::iter::once("vmtest".to_owned()).chain(request.words()).collect();
    TYPED.get().map(|(_, command)| line(command, words)).unwrap_or_default()
}

/// The name of the program and these words, with absolute paths and quoted.
fn line(command: &Command, words: Vec<String>) -> Vec<String> {
    let name: Vec<String> = match program::installation() {
        None => program::IN_CHECKOUT.split(' ').map(str::to_owned).collect(),
        // It is quoted already.
        Some(_) => vec![program::name().to_owned()],
    };
    let here = std::env::current_dir().unwrap_or_default();
    let words = absolute(command, words, &here);
    name.into_iter().chain(words.iter().map(|word| shell_word(word))).collect()
}

/// The command line of this process, each word quoted for a shell, with absolute paths.
pub fn command_line() -> Vec<String> {
    TYPED.get().map(|(line, _)| line.clone()).unwrap_or_default()
}

/// These words with absolute paths. They have been accepted by this command.
fn absolute(command: &Command, words: Vec<String>, here: &Path) -> Vec<String> {
    let (mut command, mut positional, mut only_values) = (command, 0, false);
    let mut words = words.into_iter();
    let mut out = Vec::new();
    while let Some(word) = words.next() {
        if only_values || !word.starts_with('-') || word == "-" {
            let below = command.find_subcommand(&word).filter(|_| !only_values && positional == 0);
            if let Some(below) = below {
                command = below;
                out.push(word);
                continue;
            }
            let all: Vec<&Arg> = command.get_positionals().collect();
            let arg = all.get(positional).or(all.last());
            out.push(arg.map_or_else(|| word.clone(), |arg| value(arg, &word, here)));
            positional += 1;
        } else if word == "--" {
            only_values = true;
            out.push(word);
        } else {
            let Some((arg, before, given)) = option(command, &word) else {
                out.push(word);
                continue;
            };
            match given {
                Some(given) => out.push(format!("{before}{}", value(arg, &given, here))),
                None => {
                    out.push(word);
                    let takes = arg.get_action().takes_values() && !arg.is_require_equals_set();
                    let next = if takes { words.next() } else { None };
                    out.extend(next.map(|word| value(arg, &word, here)));
                }
            }
        }
    }
    out
}

/// The option of a word, with its value and what stands before it if both are one word.
fn option<'a>(command: &'a Command, word: &str) -> Option<(&'a Arg, String, Option<String>)> {
    if let Some(long) = word.strip_prefix("--") {
        let (name, given) = long.split_once('=').map_or((long, None), |(name, given)| (name, Some(given)));
        let is = |arg: &&Arg| {
            arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
        };
        let arg = command.get_arguments().find(is)?;
        return Some((arg, format!("--{name}="), given.map(str::to_owned)));
    }
    // The first letter that takes a value has the rest of the word as its value.
    for (at, letter) in word.char_indices().skip(1) {
        let arg = command.get_arguments().find(|arg| arg.get_short() == Some(letter))?;
        let rest = &word[at + letter.len_utf8()..];
        if arg.get_action().takes_values() || rest.is_empty() {
            let given = rest.strip_prefix('=').unwrap_or(rest);
            let before = &word[..word.len() - given.len()];
            return Some((arg, before.to_owned(), Some(given.to_owned()).filter(|given| !given.is_empty())));
        }
    }
    None
}

/// A value with an absolute path, if it is one.
fn value(arg: &Arg, text: &str, here: &Path) -> String {
    let place = |path: &str| places::whole(here, Path::new(path)).to_string_lossy().into_owned();
    let id = arg.get_id().as_str();
    if text == "-" || text.starts_with('~') {
        return text.to_owned();
    }
    if let Ok(spec) = text.parse::<KernelSpec>() {
        return spec.absolute(here).to_string();
    }
    if id == "outputs" {
        return match text.split_once('=') {
            Some((format, file)) if file != "-" => format!("{format}={}", place(file)),
            _ => text.to_owned(),
        };
    }
    let is_path = arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
    // A series, a run or a kernel may have a name instead of a path.
    let may_be = is_path || arg.is_positional() || id == "kernels";
    if (is_path && WRITTEN.contains(&id)) || (may_be && here.join(text).exists()) {
        return place(text);
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn typed(line: &str, here: &Path) -> String {
        let mut command = crate::cli::Cli::command();
        command.build();
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        crate::cli::parse(std::iter::once("x".into()).chain(words.iter().map(Into::into))).expect("accepted");
        absolute(&command, words, here).join(" ").replace(&*here.to_string_lossy(), "HERE")
    }

    #[test]
    fn a_command_can_be_repeated_in_another_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["series", "basic", "f", "old", "m.toml"] {
            std::fs::write(dir.path().join(name), "").expect("written");
        }
        for name in ["below", "linux"] {
            std::fs::create_dir(dir.path().join(name)).expect("made");
        }
        for (line, expected) in [
            ("vmtest --kernel tree:below/../linux", "vmtest --kernel tree:HERE/linux"),
            ("vmtest -k tree:. -ktar:a.tar", "vmtest -k tree:HERE -ktar:HERE/a.tar"),
            ("vmtest --kernel=git:l@A..B", "vmtest --kernel=git:HERE/l@A..B"),
            ("vmtest --kernel git:.@HEAD~1", "vmtest --kernel git:HERE@HEAD~1"),
            ("vmtest -k src:6.18 -p fsession -p series", "vmtest -k src:6.18 -p fsession -p HERE/series"),
            // A test that has the name of a file is no file.
            ("vmtest --test basic --config f", "vmtest --test basic --config HERE/f"),
            ("vmtest --out new --output html=r.html", "vmtest --out HERE/new --output html=HERE/r.html"),
            ("vmtest --output mail=- --json -", "vmtest --output mail=- --json -"),
            ("vmtest --self-test --boot vng", "vmtest --self-test --boot vng"),
            ("vmtest --append -x -k tree:/l", "vmtest --append -x -k tree:/l"),
            ("vmtest --matrix m.toml --build-only", "vmtest --matrix HERE/m.toml --build-only"),
            ("report diff old latest", "report diff HERE/old latest"),
            ("report merge old series --out o", "report merge HERE/old HERE/series --out HERE/o"),
            ("bisect --good git:l@A --bad git:/l@B", "bisect --good git:HERE/l@A --bad git:/l@B"),
        ] {
            assert_eq!(typed(line, dir.path()), expected);
        }
    }
}
