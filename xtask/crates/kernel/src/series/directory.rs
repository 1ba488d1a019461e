// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the series in a directory: the patches listed in quilt's `series` file, else `*.patch` in the order
//! of their names, else the only mailbox.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::series::{Note, read};
use vmtest_base::error::{Error, IoContext, Result};

/// Most files of a directory that are listed.
const MAX_FILES: usize = 100_000;
/// Longest `series` file.
const MAX_LIST: u64 = 8 << 20;
/// Name of quilt's list.
pub(super) const LIST: &str = "series";

/// The series in a directory.
#[derive(Debug)]
pub(super) enum Found {
    /// Patches in a quilt list.
    Quilt(Vec<Listed>, Vec<Note>),
    /// Patch files, in order.
    Patches(Vec<PathBuf>, Vec<Note>),
    /// The only mailbox.
    Mailbox(PathBuf),
}

/// A line of a `series` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// As it is listed.
    pub name: String,
    /// `-pN`: directories to strip from the paths of its diff.
    pub strip: u32,
    /// `-R`: revert it instead.
    pub reverse: bool,
}

/// Finds the series in a directory. Ignores other files, but notes those that look like patches.
pub(super) fn look(dir: &Path) -> Result<Found> {
    let shown = dir.display();
    let (mut patches, mut boxes) = (Vec::new(), Vec::new());
    for (at, entry) in fs::read_dir(dir).on("cannot list", dir)?.enumerate() {
        if at >= MAX_FILES {
            return Err(Error::usage(format!("{shown} holds more than {MAX_FILES} files"))
                .next("name a directory that holds only the series"));
        }
        let file = entry.on("cannot list", dir)?.path();
        match kind(&file) {
            Some("patch") => patches.push(file),
            Some("mbox" | "mbx") => boxes.push(file),
            _ => (),
        }
    }
    patches.sort_by(|one, other| by_number(&crate::series::file_name(one), &crate::series::file_name(other)));
    boxes.sort();
    let list = dir.join(LIST);
    if list.is_file() {
        let (listed, mut notes) = quilt(dir, &list)?;
        let taken: BTreeSet<PathBuf> = listed.iter().map(|one| dir.join(&one.name)).collect();
        let others =
            patches.iter().filter(|file| !taken.contains(*file)).map(|file| crate::series::file_name(file));
        let others: Vec<String> = others.filter(|name| !notes.iter().any(|note| note.names(name))).collect();
        if !others.is_empty() {
            let what = format!("left out: {} ({} does not list it)", others.join(", "), list.display());
            notes.push(Note::plain(what));
        }
        return Ok(Found::Quilt(listed, notes));
    }
    match (patches.is_empty(), boxes.as_slice()) {
        (false, others) => {
            let note = |file: &PathBuf| {
                Note::plain(format!(
                    "left out: {} (there are patch files next to it)",
                    crate::series::file_name(file)
                ))
            };
            Ok(Found::Patches(patches, others.iter().map(note).collect()))
        }
        (true, [one]) => Ok(Found::Mailbox(one.clone())),
        (true, []) => Err(Error::usage(format!("there is no *.patch in the directory {shown}"))
            .why("and no `series` file and no *.mbx or *.mbox")
            .next("`git format-patch -o DIR BASE..` writes a series into a directory")),
        (true, several) => {
            let names: Vec<String> = several.iter().map(|file| crate::series::file_name(file)).collect();
            Err(Error::usage(format!("the directory {shown} holds {} mailboxes", names.len()))
                .why(names.join(", "))
                .next("name one of them"))
        }
    }
}

/// The extension of a name, without that of compression.
pub(super) fn kind(file: &Path) -> Option<&str> {
    let ending = file.extension()?.to_str()?;
    if read::PACKED.contains(&ending) {
        Path::new(file.file_stem()?).extension()?.to_str()
    } else {
        Some(ending)
    }
}

/// Reads a `series` file. The notes list its disabled patches.
pub(super) fn quilt(dir: &Path, list: &Path) -> Result<(Vec<Listed>, Vec<Note>)> {
    if fs::metadata(list).on("cannot read", list)?.len() > MAX_LIST {
        return Err(Error::usage(format!("{} is not a list of patches: it is too long", list.display())));
    }
    let text = fs::read(list).on("cannot read", list)?;
    let (mut listed, mut disabled) = (Vec::new(), Vec::new());
    for (at, line) in String::from_utf8_lossy(&text).lines().enumerate() {
        let wrong = |why: String| {
            Error::usage(format!("{}:{}: {why}", list.display(), at + 1)).next(
                "a line is `NAME [-pN] [-R]`, with the name of a file in that directory; `#` starts a comment",
            )
        };
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else { continue };
        if let Some(rest) = name.strip_prefix('#') {
            let name = if rest.is_empty() { words.next().unwrap_or_default() } else { rest };
            if is_inside(name) && dir.join(name).is_file() {
                disabled.push(name.to_owned());
            }
            continue;
        }
        if !is_inside(name) {
            return Err(wrong(format!("{name:?} is not a file in that directory")));
        }
        if !dir.join(name).is_file() {
            return Err(wrong(format!("{name} is missing")));
        }
        let mut one = Listed { name: name.to_owned(), strip: 1, reverse: false };
        while let Some(word) = words.next() {
            match word {
                _ if word.starts_with('#') => break,
                "-R" | "--reverse" => one.reverse = true,
                // quilt writes this for diffs between a/ and b/.
                "-pab" => one.strip = 1,
                _ => {
                    let digits = word.strip_prefix("-p").or(word.strip_prefix("--strip="));
                    let digits = digits
                        .map(|digits| if digits.is_empty() { words.next().unwrap_or("") } else { digits });
                    let strip = digits.and_then(|digits| digits.parse().ok()).filter(|strip| *strip <= 16);
                    one.strip = strip.ok_or_else(|| wrong(format!("{word} is not supported")))?;
                }
            }
        }
        listed.push(one);
    }
    let mut notes = Vec::new();
    if !disabled.is_empty() {
        let what = format!("left out: {} (disabled in {})", disabled.join(", "), list.display());
        notes.push(Note::plain(what));
    }
    if listed.is_empty() {
        return Err(Error::usage(format!("{} lists no patch", list.display()))
            .next("add the names of the patches, one per line"));
    }
    Ok((listed, notes))
}

/// Whether a name stays below its directory.
fn is_inside(name: &str) -> bool {
    !name.is_empty()
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Natural order, with 9 before 10: compares numbers by value and everything else by character.
pub(super) fn by_number(one: &str, other: &str) -> Ordering {
    let (mut a, mut b) = (one, other);
    loop {
        let number = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (in_a, in_b) = (number(a), number(b));
        if in_a > 0 && in_b > 0 {
            let (x, y) = (a[..in_a].trim_start_matches('0'), b[..in_b].trim_start_matches('0'));
            match x.len().cmp(&y.len()).then_with(|| x.cmp(y)) {
                Ordering::Equal => (a, b) = (&a[in_a..], &b[in_b..]),
                decided => return decided,
            }
            continue;
        }
        let (mut rest_a, mut rest_b) = (a.chars(), b.chars());
        match (rest_a.next(), rest_b.next()) {
            // They can still differ in leading zeros.
            (None, None) => return one.cmp(other),
            (x, y) if x == y => (a, b) = (rest_a.as_str(), rest_b.as_str()),
            (x, y) => return x.cmp(&y),
        }
    }
}

/// The version in a file name of `git format-patch -vN`; 1 without `-vN`, `None` for other names.
pub(super) fn version_of(name: &str) -> Option<u32> {
    let (version, rest) = match name.strip_prefix('v').and_then(|rest| rest.split_once('-')) {
        Some((digits, rest)) => (digits.parse().ok()?, rest),
        None => (1, name),
    };
    let numbered =
        rest.len() > 5 && rest.as_bytes()[..4].iter().all(u8::is_ascii_digit) && rest[4..].starts_with('-');
    numbered.then_some(version)
}

#[cfg(test)]
mod tests;
