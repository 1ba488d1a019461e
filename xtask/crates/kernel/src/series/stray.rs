// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds diffs outside of their usual place in a mail: in the message, in the notes below `---`, after the
//! signature. `git am` applies all of them, but a reader takes them for illustrations, so they deserve a
//! warning. The result of `git am` is tested anyway.
//!
//! Limits: it finds nothing in a mail without `---`, `Signed-off-by:` and signature, which looks like a bare
//! diff with text between its parts. And a mail with two attached patches looks like one with a stray diff.

use crate::diff::{Lines, header_pair};

/// The oddity in the diff of a mail as the end of a sentence; `None` for an ordinary diff. `diff` is what git
/// considers to be the diff: everything from the first line that can start a diff, or from the `---`.
pub(super) fn stray(diff: &str) -> Option<String> {
    let mut found: Option<(String, &'static str)> = None;
    // The first file header so far, and the marker line after it that shows that it was in a wrong place.
    let (mut first, mut ended): (Option<String>, Option<&'static str>) = (None, None);
    let mut signed = false;
    let mut inside = Lines::default();
    let mut lines = diff.lines().peekable();
    // Whether a `diff --git` line was seen that may be followed by `---` and `+++` of the same file.
    let mut open = false;
    while let Some(line) = lines.next() {
        if inside.take(line) {
            open = false;
            continue;
        }
        let text = line.trim_end();
        if let Some(name) = header_pair(line, lines.peek().copied()) {
            if !line.starts_with("diff --git ") && open {
                open = false;
                continue;
            }
            open = line.starts_with("diff --git ");
            if signed && found.is_none() {
                found = Some((name.clone(), "below its signature"));
            }
            match (&first, ended) {
                (Some(early), Some(place)) => found = found.or(Some((early.clone(), place))),
                (None, _) => first = Some(name),
                _ => (),
            }
        } else if text == "--" {
            signed = true;
        } else if first.is_some() && ended.is_none() {
            if text == "---" || line.starts_with("Signed-off-by: ") {
                ended = Some("in its message, before the line `---`");
            } else if is_summary(text) {
                ended = Some("above its list of changed files");
            }
        }
    }
    found.map(|(name, place)| format!("a diff of {name} is {place}"))
}

/// ` 2 files changed, 3 insertions(+)`.
fn is_summary(line: &str) -> bool {
    let mut words = line.strip_prefix(' ').unwrap_or_default().split([' ', ',']);
    words.next().is_some_and(|count| !count.is_empty() && count.bytes().all(|c| c.is_ascii_digit()))
        && words.next().is_some_and(|word| word == "file" || word == "files")
        && words.next() == Some("changed")
}

/// Files of which the diff only says `Binary files a/x and b/x differ`, without a git header: git silently
/// ignores them.
pub(super) fn without_data(diff: &str) -> Option<String> {
    let mut inside = Lines::default();
    let mut git = false;
    for line in diff.lines() {
        if inside.take(line) {
            git = false;
        } else if line.starts_with("diff ") {
            git = line.starts_with("diff --git ");
        } else if let Some(names) =
            line.strip_prefix("Binary files ").and_then(|rest| rest.strip_suffix(" differ"))
        {
            let is_path = |name: &str| name.contains('/') && !name.contains(' ');
            if !git && names.split_once(" and ").is_some_and(|(old, new)| is_path(old) && is_path(new)) {
                return Some(names.to_owned());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
