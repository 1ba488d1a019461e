// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a patch series: a directory of `*.patch` files, a quilt directory, an mbox or a whole thread, one
//! patch, or a list of these. Puts it in order, rejects input that is not a series, and determines which
//! files it touches. [`crate::patch`] applies it.

mod directory;
mod fields;
mod mail;
mod order;
mod read;
mod stray;
mod subject;
mod thread;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::series::directory::Found;
use crate::series::mail::{Mail, read_mails, read_mails_stripped};
use crate::series::order::{into_series, order_directory, order_mbox};
use crate::series::thread::Chosen;
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::key::{Key, KeyBuilder};
use vmtest_host::store::origin_name;

pub use crate::diff::{FileDiff, parse_diff};
pub use crate::series::mail::git_says;
pub use vmtest_host::clean_env::git as neutral_git;

/// A remark about how a series was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// For information only.
    Plain(String),
    /// Important: the tested patches differ from what a reader of the mails would expect.
    Loud(String),
}

impl Note {
    fn plain(text: impl Into<String>) -> Note {
        Note::Plain(text.into())
    }

    fn loud(text: impl Into<String>) -> Note {
        Note::Loud(text.into())
    }

    pub fn text(&self) -> &str {
        match self {
            Note::Plain(text) | Note::Loud(text) => text,
        }
    }

    /// Whether it mentions a file of this name.
    fn names(&self, file: &str) -> bool {
        self.text().split([' ', ',', '(']).any(|word| word == file)
    }
}

/// Whether a directory has patches that [`load`] finds.
pub(crate) fn is_directory(dir: &Path) -> bool {
    directory::look(dir).is_ok()
}

/// Whether a file holds patches, by its name or its first bytes.
pub(crate) fn is_file(file: &Path) -> bool {
    let named = matches!(directory::kind(file), Some("patch" | "mbox" | "mbx" | "diff" | "eml"));
    named || read::start(file).is_ok_and(|start| looks_like_patch(&start))
}

/// Whether this is the beginning of a mail, a mailbox or a diff.
fn looks_like_patch(start: &str) -> bool {
    start.starts_with("From ") || start.lines().any(|line| line.starts_with("diff --git "))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Name of the directory or file; several are joined with `+`.
    pub name: String,
    /// At least one, in the order of application.
    pub patches: Vec<Patch>,
    /// From the `base-commit:` line, if there is one.
    pub base_commit: Option<String>,
    /// Number of patches in the whole series; these are the first ones or all of them.
    pub of: usize,
    /// Origin of an untrusted series: what its builds leave behind is used only for the same origin. `None`
    /// for the project's own.
    pub origin: Option<Key>,
    /// Ignored parts of the input, and oddities in it.
    pub notes: Vec<Note>,
    /// The mail that a reply answers: the cover letter, else the first patch; `None` without a mail.
    pub letter: Option<Box<Letter>>,
    /// Patch IDs of the patches between the base commit and the series (`prerequisite-patch-id:`).
    pub prerequisites: Vec<String>,
}

/// Headers of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// With `[PATCH ..]`.
    pub subject: String,
    /// `Name <address>`.
    pub author: String,
    /// Without brackets; empty without one.
    pub message_id: String,
}

/// One mail with a diff, or one commit of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// File name, or the mbox and the number of the mail in it.
    pub label: String,
    /// Subject without `[PATCH ..]`.
    pub subject: String,
    /// `Name <address>`; empty for a diff without a mail.
    pub author: String,
    /// Message ID of its mail; empty without one.
    pub message_id: String,
    /// Hash of the commit, for a range; empty for a mail.
    pub commit: String,
    /// The mail as `git am` gets it.
    pub raw: Vec<u8>,
    /// What git considers to be its diff.
    pub diff: Vec<u8>,
    /// Paths in the diff; both paths of a rename.
    pub touches: BTreeSet<String>,
    /// Directories to strip from the paths of its diff: 1, unless a quilt `series` says otherwise.
    pub strip: u32,
    /// Whether to revert it instead, as a quilt `series` can request.
    pub reverse: bool,
    /// A diff in an unexpected place of the mail, as the end of a sentence; `None` for most mails.
    pub stray: Option<String>,
    /// Paths that are the same before and after, so without prefixes such as a/ and b/.
    pub bare: Vec<String>,
    /// Whether the mail program may have joined lines (`format=flowed`).
    pub flowed: bool,
    /// `None` for a mail. For a commit of a range: the output of `git diff-tree --raw` between the base and
    /// the commit. Then `raw` is not a mail: the diff after its first `---` is applied byte by byte, and the
    /// result must differ from the base in exactly this way.
    pub exact: Option<String>,
    /// Whether it belongs to a series that this project maintains.
    pub ours: bool,
}

impl Patch {
    /// The diff of a commit, with a few headers for readers.
    pub fn of_commit(commit: &str, author: &str, subject: &str, diff: &[u8], exact: String) -> Patch {
        let line = |text: &str| text.replace(char::is_control, " ");
        let (author, subject) = (line(author), line(subject));
        let head = format!("From: {author}\nSubject: {subject}\n\ncommit {commit}\n---\n");
        let files = parse_diff(&String::from_utf8_lossy(diff));
        Patch {
            label: commit[..12.min(commit.len())].to_owned(),
            subject,
            author,
            message_id: String::new(),
            commit: commit.to_owned(),
            raw: [head.as_bytes(), diff].concat(),
            diff: diff.to_owned(),
            touches: files.iter().flat_map(FileDiff::paths).map(str::to_owned).collect(),
            strip: 1,
            reverse: false,
            stray: None,
            bare: Vec::new(),
            flowed: false,
            exact: Some(exact),
            ours: false,
        }
    }

    /// The diff of a commit, as git wrote it.
    pub fn exact_diff(&self) -> &[u8] {
        const MARK: &[u8] = b"\n---\n";
        let at = self.raw.windows(MARK.len()).position(|bytes| bytes == MARK);
        at.map_or(&[], |at| &self.raw[at + MARK.len()..])
    }
}

impl Series {
    /// Its first `count` patches, under a name that says so; `None` for no patches.
    pub fn first(&self, count: usize) -> Option<Series> {
        let patches: Vec<Patch> = self.patches.iter().take(count).cloned().collect();
        let name = format!("{}@{}/{}", self.name, patches.len(), self.of);
        Some(Series { name, patches, ..self.clone() }).filter(|series| !series.patches.is_empty())
    }

    /// The project's own patches before the first untrusted one; `None` unless there are both.
    pub(crate) fn before_a_stranger(&self) -> Option<Series> {
        let ours = self.patches.iter().take_while(|patch| patch.ours).count();
        let first = (ours < self.patches.len()).then(|| self.first(ours)).flatten()?;
        Some(Series { origin: None, ..first })
    }

    /// The important notes.
    pub fn loud(&self) -> impl Iterator<Item = &str> {
        self.notes.iter().filter(|note| matches!(note, Note::Loud(_))).map(Note::text)
    }

    /// Appends another series.
    pub fn and(mut self, more: &Series) -> Series {
        self.name = format!("{}+{}", self.name, more.name);
        self.patches.extend(more.patches.iter().cloned());
        self.notes.extend(more.notes.iter().cloned());
        self.of = self.patches.len();
        self.origin = match (self.origin, &more.origin) {
            (Some(mine), Some(theirs)) => Some(
                Key::of("origins 1").field("first", mine.as_str()).field("second", theirs.as_str()).finish(),
            ),
            (mine, theirs) => mine.or_else(|| theirs.clone()),
        };
        self
    }

    /// The files below a directory that it touches, without duplicates.
    pub fn files_below(&self, dir: &str) -> Vec<String> {
        let all = self.patches.iter().flat_map(|patch| &patch.touches);
        all.filter(|path| path.starts_with(dir)).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Hash of everything in it that can change the result of applying it.
    pub fn key(&self) -> Key {
        let begun = Key::of("series-1");
        let add = |key: KeyBuilder, patch: &Patch| {
            let key = match &patch.exact {
                None => key.field("patch", &patch.raw),
                Some(exact) => key.field("commit", &patch.raw).field("exact", exact),
            };
            match (patch.strip, patch.reverse) {
                (1, false) => key,
                how => key.field("how", format!("{how:?}")),
            }
        };
        self.patches.iter().fold(begun, add).finish()
    }
}

/// A path to read patches from.
#[derive(Debug, Clone)]
pub struct Place {
    /// A directory of `*.patch` files, an mbox or one patch.
    pub path: PathBuf,
    /// Its name; `None` for the name of the directory or file.
    pub name: Option<String>,
}

/// Reads a series from these paths, in this order; see [`load_named`].
pub fn load(paths: &[PathBuf]) -> Result<Series> {
    load_named(&paths.iter().map(|path| Place { path: path.clone(), name: None }).collect::<Vec<_>>())
}

/// Reads a series from these places, in this order.
///
/// # Errors
/// Class `Usage` for a path that is missing or empty; [`Class::SeriesDoesNotApply`] for input that is not a
/// series: no diff, missing or duplicate patches, mixed versions, a path outside the tree.
pub fn load_named(places: &[Place]) -> Result<Series> {
    let mut patches = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut base_commit = None;
    let mut origin: Option<KeyBuilder> = None;
    let mut notes = Vec::new();
    let (mut letter, mut prerequisites) = (None, Vec::new());
    for Place { path, name } in places {
        if name.is_none() {
            // Identified by path: the next version of a series has the same path, another series usually a
            // different one.
            let full = path.canonicalize().unwrap_or_else(|_| path.clone());
            let begun = origin.unwrap_or_else(|| Key::of("series origin 1"));
            origin = Some(begun.field("path", origin_name(&full)));
        }
        let mut part = load_one(path)?;
        part.patches.iter_mut().for_each(|patch| patch.ours = name.is_some());
        base_commit = base_commit.or(part.base_commit);
        letter = letter.or(part.letter);
        prerequisites.extend(part.prerequisites);
        patches.extend(part.patches);
        notes.extend(part.notes);
        names.push(name.clone().unwrap_or(part.name));
    }
    if patches.is_empty() {
        return Err(Error::usage("cannot read a series: no path was given"));
    }
    refuse_paths_outside(&patches)?;
    let of = patches.len();
    for (at, patch) in patches.iter().enumerate() {
        if let Some(stray) = &patch.stray {
            let who = title(at, of, patch);
            notes.push(Note::loud(format!("{who}: {stray}; git applies it, so it is tested as well")));
        }
    }
    let origin = origin.map(KeyBuilder::finish);
    Ok(Series { name: names.join("+"), patches, base_commit, of, origin, notes, letter, prerequisites })
}

/// Refuses patches that name a path outside of a kernel tree.
///
/// # Errors
/// [`Class::SeriesDoesNotApply`] with the patch and the path.
pub fn refuse_paths_outside(patches: &[Patch]) -> Result<()> {
    for (at, patch) in patches.iter().enumerate() {
        if let Some(bad) = patch.touches.iter().find(|path| !is_inside_tree(path)) {
            let who = title(at, patches.len(), patch);
            return Err(Error::new(
                Class::SeriesDoesNotApply,
                format!("{who} is refused: it names {bad:?}, which is not a path inside a kernel tree"),
            )
            .next("check where this patch comes from; none of it was applied"));
        }
    }
    Ok(())
}

/// `patch 3 of 12 (0003-foo.patch, "subject")`; `at` counts from 0.
pub fn title(at: usize, count: usize, patch: &Patch) -> String {
    format!("patch {} of {count} ({}, {:?})", at + 1, patch.label, patch.subject)
}

fn load_one(path: &Path) -> Result<Series> {
    let shown = path.display().to_string();
    let meta = fs::metadata(path).map_err(|error| {
        let hint = "name a directory of *.patch files, an mbox or one patch";
        Error::usage(format!("cannot read the series {shown}")).why(error).next(hint)
    })?;
    if !meta.is_dir() {
        if file_name(path) == directory::LIST {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            // A quilt list, unless it is a mail with that file name.
            if let Ok(listed) = directory::quilt(dir, path) {
                return quilt(dir, listed);
            }
        }
        return mailbox(&shown, stem(path), read_mails(path, &read::named(path)?, &file_name(path))?);
    }
    match directory::look(path)? {
        Found::Quilt(listed, notes) => quilt(path, (listed, notes)),
        Found::Mailbox(file) => mailbox(
            &file.display().to_string(),
            stem(&file),
            read_mails(&file, &read::found(&file)?, &file_name(&file))?,
        ),
        Found::Patches(files, notes) => {
            let mut mails = Vec::new();
            for file in &files {
                mails.extend(read_mails(file, &read::found(file)?, &file_name(file))?);
            }
            let mut series = order_directory(&shown, whole_name(path)?, mails)?;
            series.notes.splice(0..0, notes);
            Ok(series)
        }
    }
}

/// Name of a directory, resolved first because of `.` and `..`.
fn whole_name(dir: &Path) -> Result<String> {
    Ok(file_name(&fs::canonicalize(dir).on("cannot resolve", dir)?))
}

/// Reads the patches of a quilt `series` file in its order; numbers in subjects are ignored.
fn quilt(dir: &Path, (listed, notes): (Vec<directory::Listed>, Vec<Note>)) -> Result<Series> {
    let mut mails = Vec::new();
    for one in &listed {
        let file = dir.join(&one.name);
        let read = read_mails_stripped(&file, &read::found(&file)?, &one.name, one.strip)?;
        if one.reverse && read.len() > 1 {
            return Err(Error::usage(format!("{} cannot be reverted", file.display()))
                .why(format!("it holds {} mails, and `series` says -R", read.len()))
                .next("split it into one file per patch"));
        }
        mails.extend(read.into_iter().map(|mail| Mail { reverse: one.reverse, ..mail }));
    }
    into_series(whole_name(dir)?, Chosen::of(mails, notes))
}

/// Reads a mailbox. A single mail is used even if it is a reply.
fn mailbox(shown: &str, name: String, mails: Vec<Mail>) -> Result<Series> {
    if mails.len() > 1 {
        return order_mbox(shown, name, mails);
    }
    let mut notes = Vec::new();
    if let Some(mail) = mails.iter().find(|mail| mail.tags.reply && mail.has_diff) {
        notes.push(Note::loud(format!(
            "{} ({:?}) is a reply: its diff is tested because {shown} has nothing else",
            mail.label, mail.tags.subject
        )));
    }
    if mails.iter().any(|mail| mail.tags.is_cover()) {
        // Reports the error for a lone cover letter.
        return order_mbox(shown, name, mails);
    }
    into_series(name, Chosen::of(mails, notes))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn stem(path: &Path) -> String {
    let stem = |path: &Path| PathBuf::from(path.file_stem().unwrap_or(path.as_os_str()));
    let packed = path.extension().is_some_and(|ending| read::PACKED.iter().any(|packed| ending == *packed));
    let whole = if packed { stem(&stem(path)) } else { stem(path) };
    whole.to_string_lossy().into_owned()
}

/// Whether a path of a diff stays inside the tree and out of git's own directory.
fn is_inside_tree(path: &str) -> bool {
    let odd =
        |part: &str| part.is_empty() || part == "." || part == ".." || part.eq_ignore_ascii_case(".git");
    !path.split('/').any(odd) && !path.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
