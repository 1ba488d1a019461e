// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads unified diffs the way `git am` does: files, hunks and names.

/// The change of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileDiff {
    /// Path before; `None` for a new file.
    pub old: Option<String>,
    /// Path after; `None` for a deleted file.
    pub new: Option<String>,
    pub hunks: Vec<Hunk>,
    /// The whole path, if it is the same before and after: then it has no a/ and b/ prefixes.
    pub bare: Option<String>,
    /// A path as it is in the diff, with all prefixes.
    pub full: String,
}

/// One `@@` hunk of a diff.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hunk {
    /// First line in the old file.
    pub line: u64,
    /// Its lines with their signs.
    pub body: Vec<String>,
}

impl FileDiff {
    /// The old and the new path, or only one if they are equal.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let new = self.new.iter().filter(|new| Some(*new) != self.old.as_ref());
        self.old.iter().chain(new).map(String::as_str)
    }

    /// The name that git uses for it in messages.
    pub fn name(&self) -> &str {
        self.old.as_deref().or(self.new.as_deref()).unwrap_or_default()
    }
}

/// Counts the lines of hunks, so that none of them is mistaken for a header.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    old: u64,
    new: u64,
}

impl Lines {
    /// Consumes the next line of a diff. Returns whether it belongs to a hunk, which includes its `@@` line.
    pub(crate) fn take(&mut self, line: &str) -> bool {
        if self.old > 0 || self.new > 0 {
            match line.as_bytes().first() {
                Some(b'-') => self.old = self.old.saturating_sub(1),
                Some(b'+') => self.new = self.new.saturating_sub(1),
                Some(b' ') | None => {
                    (self.old, self.new) = (self.old.saturating_sub(1), self.new.saturating_sub(1));
                }
                Some(b'\\') => (),
                // A damaged hunk, which git reports.
                _ => {
                    *self = Lines::default();
                    return self.take(line);
                }
            }
            return true;
        }
        if let Some((_, old, new)) = hunk_header(line) {
            *self = Lines { old, new };
            return true;
        }
        line.starts_with('\\')
    }
}

/// First line and number of old lines, number of new lines.
fn hunk_header(line: &str) -> Option<(u64, u64, u64)> {
    let mut words = line.strip_prefix("@@ -")?.split(' ');
    let range = |word: Option<&str>| -> Option<(u64, u64)> {
        let (start, count) = word?.split_once(',').unwrap_or((word?, "1"));
        Some((start.parse().ok()?, count.parse().ok()?))
    };
    let (line, old) = range(words.next())?;
    let (_, new) = range(words.next().and_then(|word| word.strip_prefix('+')))?;
    Some((line, old, new))
}

/// The path in a file header, which is `diff --git`, or `---` followed by `+++`.
pub(crate) fn header_pair(line: &str, next: Option<&str>) -> Option<String> {
    let (old, new) = match line.strip_prefix("diff --git ") {
        Some(names) => git_names(names, 1).unwrap_or_default(),
        // Without a `+++` it is the separator below a commit message.
        None => (side(line.strip_prefix("--- ")?, 1), side(next?.strip_prefix("+++ ")?, 1)),
    };
    Some(old.or(new).unwrap_or_else(|| "a file without a name".to_owned()))
}

/// Reads the headers and hunks of a unified diff as `git am` does.
pub fn parse_diff(text: &str) -> Vec<FileDiff> {
    parse_stripped(text, 1)
}

/// The same, but strips this many directories from each path.
pub fn parse_stripped(text: &str, strip: u32) -> Vec<FileDiff> {
    let mut files: Vec<FileDiff> = Vec::new();
    let mut inside = Lines::default();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if inside.take(line) {
            let Some(file) = files.last_mut() else { continue };
            match hunk_header(line) {
                Some((line, ..)) => file.hunks.push(Hunk { line, body: Vec::new() }),
                None => drop(file.hunks.last_mut().map(|hunk| hunk.body.push(line.to_owned()))),
            }
        } else if let Some(names) = line.strip_prefix("diff --git ") {
            let (old, new) = git_names(names, strip).unwrap_or_default();
            let (bare, full) = whole_names(git_names(names, 0).unwrap_or_default());
            files.push(FileDiff { old, new, hunks: Vec::new(), bare, full });
        } else if let Some(after) = line.strip_prefix("--- ") {
            // Without a `+++` it is the separator below a commit message.
            let Some(plus) = lines.peek().and_then(|next| next.strip_prefix("+++ ")) else { continue };
            let (old, new) = (side(after, strip), side(plus, strip));
            let (bare, full) = whole_names((side(after, 0), side(plus, 0)));
            lines.next();
            // A plain diff has no `diff --git` at the start of a file.
            match files.last_mut().filter(|file| file.hunks.is_empty()) {
                Some(file) => {
                    (file.old, file.new) = (old, new);
                    if !full.is_empty() {
                        (file.bare, file.full) = (bare.or(file.bare.take()), full);
                    }
                }
                None => files.push(FileDiff { old, new, hunks: Vec::new(), bare, full }),
            }
        } else if let Some(file) = files.last_mut().filter(|file| file.hunks.is_empty()) {
            // These paths have no a/ or b/ prefix, so git strips one directory less.
            let named = |after: &str| stripped(&unquote(after), strip.saturating_sub(1));
            if let Some(path) = line.strip_prefix("rename from ").or(line.strip_prefix("copy from ")) {
                file.old = Some(named(path));
            } else if let Some(path) = line.strip_prefix("rename to ").or(line.strip_prefix("copy to ")) {
                file.new = Some(named(path));
            } else if line.starts_with("new file mode ") {
                file.old = None;
            } else if line.starts_with("deleted file mode ") {
                file.new = None;
            }
        }
    }
    files
}

/// The path if it is the same on both sides, and one of the two paths.
fn whole_names((old, new): (Option<String>, Option<String>)) -> (Option<String>, String) {
    let bare = old.clone().filter(|old| Some(old) == new.as_ref());
    (bare, old.or(new).unwrap_or_default())
}

/// The two names after `diff --git`. Unless other headers follow, git requires that they differ only in the
/// first directory.
fn git_names(names: &str, strip: u32) -> Option<(Option<String>, Option<String>)> {
    let side = |text: &str| side(text, strip);
    if let Some(quoted) = names.strip_prefix('"') {
        let end = quoted.find("\" ")? + 2;
        return Some((side(&names[..end]), side(names[end..].trim_start())));
    }
    let middle = names.len() / 2;
    let halves = names.is_char_boundary(middle).then(|| names.split_at(middle));
    let halves = halves.and_then(|(old, new)| Some((old, new.strip_prefix(' ')?)));
    let below = |name: &str| name.split_once('/').map(|(_, below)| below.to_owned());
    match halves.filter(|(old, new)| old == new || below(old).is_some_and(|old| Some(old) == below(new))) {
        Some((old, new)) => Some((side(old), side(new))),
        None => names.split_once(" b/").map(|(old, new)| (side(old), side(&format!("b/{new}")))),
    }
}

/// The path on a `---` or `+++` line without its first directories, as git reads it; `None` for /dev/null.
fn side(text: &str, strip: u32) -> Option<String> {
    let text = text.split('\t').next().unwrap_or_default().trim_end();
    let path = unquote(text);
    (path != "/dev/null").then(|| stripped(&path, strip))
}

/// Strips directories. An absolute path keeps its leading slash, so that it is rejected later.
fn stripped(path: &str, strip: u32) -> String {
    let mut rest = path;
    for _ in 0..strip {
        rest = match rest.split_once('/') {
            Some(("", _)) | None => break,
            Some((_, below)) => below,
        };
    }
    rest.to_owned()
}

/// Undoes git's quoting of unusual file names.
pub(crate) fn unquote(text: &str) -> String {
    let Some(inside) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut bytes = Vec::new();
    let mut rest = inside.bytes();
    while let Some(byte) = rest.next() {
        let escaped = if byte == b'\\' { rest.next() } else { None };
        bytes.push(match escaped {
            None => byte,
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(first @ b'0'..=b'3') => {
                let mut digit = || rest.next().unwrap_or(b'0') & 7;
                (first & 7) << 6 | digit() << 3 | digit()
            }
            Some(other) => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
