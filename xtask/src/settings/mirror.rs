// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks a user at a terminal for a Debian mirror, once: the answer goes into the settings.

use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::USER;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::{interrupt, places};

const QUESTION: &str = "\
This host's apt has no Debian mirror configured. The build root and kernels of the
archive come from one.
Address of a mirror, a directory with dists/ and pool/ (press Enter to stop): ";

/// Whether a user can answer: at a terminal, and not in CI.
fn may_ask() -> bool {
    let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    !ci && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for a mirror and saves it. `false` if nobody can be asked, or there is no answer.
///
/// # Errors
/// If interrupted, if the answer is not an address, or if it cannot be saved.
pub fn ask() -> Result<bool> {
    if !may_ask() {
        return Ok(false);
    }
    // A closed standard error is ignored.
    let _ = write!(std::io::stderr(), "{QUESTION}");
    let answer = interrupt::line()?;
    if answer.is_empty() {
        return Ok(false);
    }
    let file = save(&places::base_dir("XDG_CONFIG_HOME", ".config")?.join(USER), &mirror(&answer)?)?;
    let _ = writeln!(std::io::stderr(), "note: saved in {}", file.display());
    Ok(true)
}

/// The address of a mirror, in the form in which it can be compared and quoted.
fn mirror(answer: &str) -> Result<String> {
    let host = answer.strip_prefix("http://").or_else(|| answer.strip_prefix("https://"));
    let plain = |c: char| c.is_ascii_graphic() && !"\"'\\`".contains(c);
    match host {
        Some(host)
            if host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
                && host.chars().all(plain) =>
        {
            Ok(answer.trim_end_matches('/').to_owned())
        }
        _ => Err(Error::usage(format!("`{answer}` is not the address of a mirror"))
            .why("it must start with http:// or https://, and contain no spaces or quotes")
            .next("run the same command again")),
    }
}

/// Adds the mirror to the settings and keeps everything else in the file.
fn save(path: &Path, mirror: &str) -> Result<PathBuf> {
    let refused = |why: String| {
        Error::usage(format!("cannot add the mirror to {}", path.display()))
            .why(why)
            .next(format!("write this line into it: mirror = \"{mirror}\""))
    };
    let before = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(refused(error.to_string())),
    };
    let parsed = |text: &str| {
        text.parse::<toml::Table>().map_err(|error: toml::de::Error| refused(error.message().to_owned()))
    };
    let mut expected = parsed(&before)?;
    if expected.insert("mirror".to_owned(), mirror.into()).is_some() {
        return Err(refused("it already has a mirror".to_owned()));
    }
    let separator = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let line = format!("{separator}mirror = \"{mirror}\"\n");
    // Behind the header of a table it would mean something else.
    if parsed(&format!("{before}{line}"))? != expected {
        return Err(refused("its last part is a table".to_owned()));
    }
    if let Some(dir) = path.parent() {
        vmtest_base::files::create_dir(dir)?;
    }
    // Appended, not replaced: it may be a link, or have a mode of its own.
    let mut file = File::options().create(true).append(true).open(path).on("cannot open", path)?;
    file.write_all(line.as_bytes()).on("cannot write", path)?;
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_is_an_answer() {
        for (answer, saved) in [
            ("http://mirror.example/debian/", "http://mirror.example/debian"),
            ("https://mirror.example:8080/a", "https://mirror.example:8080/a"),
            ("http://[::1]/debian", "http://[::1]/debian"),
        ] {
            assert_eq!(mirror(answer).expect("an address"), saved);
        }
        for wrong in ["mirror.example/debian", "ftp://mirror.example", "http://", "http:///debian", "yes"] {
            assert!(mirror(wrong).is_err(), "{wrong}");
        }
        for wrong in ["http://a b", "http://a\"\nsuite = \"x", "http://a\u{1b}[2J"] {
            assert!(mirror(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_rest_of_the_file_is_kept_and_what_cannot_be_added_to_is_not_touched() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("below/kmatrix.toml");
        let line = "mirror = \"http://a/debian\"\n";
        save(&path, "http://a/debian").expect("made");
        assert_eq!(fs::read_to_string(&path).expect("there"), line);
        for before in ["# mine\ncpus = 2\n", "cpus = 2", "tests = [\n  'a',\n]\n"] {
            fs::write(&path, before).expect("written");
            save(&path, "http://a/debian").expect("added");
            assert_eq!(
                fs::read_to_string(&path).expect("there").trim_end(),
                format!("{}\n{line}", before.trim_end()).trim_end()
            );
        }
        for before in ["cpus = \n", "mirror = ''\n", "[other]\nkey = 1\n", "cpus = 2\n= 3"] {
            fs::write(&path, before).expect("written");
            assert!(save(&path, "http://a/debian").is_err(), "{before}");
            assert_eq!(fs::read_to_string(&path).expect("there"), before);
        }
    }
}
