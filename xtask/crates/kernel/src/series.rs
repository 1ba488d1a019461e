// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a patch series: a directory of `*.patch`, a quilt directory, an mbox or a whole thread, one patch, or several of them
//! one after the other. Puts it in order, refuses what is no series, and says which files it touches. Applying it is
//! [`crate::patch`].
//!
//! Splitting and decoding mail is git's work: it is git that applies the patches, and it must see what was read here.

mod directory;
mod fields;
mod read;
mod stray;
mod subject;
mod thread;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::series::directory::Found;
use crate::series::fields::Fields;
use crate::series::subject::Tags;
use crate::series::thread::{Chosen, Kind};

use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::files::write_file;
use vmtest_base::key::{Key, KeyBuilder};
use vmtest_host::process::{Finished, Job, Stream};
use vmtest_host::reaper;
use vmtest_host::store::origin_name;

pub use vmtest_host::clean_env::git as neutral_git;

/// Most mails of one mailbox: a busy thread has some hundred.
const MAX_MAILS: usize = 5_000;
/// How long git may take to split or decode: it needs milliseconds for a mail.
const GIT_LIMIT: Duration = Duration::from_secs(120);

/// Something to say of how a series was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// For whoever wonders.
    Plain(String),
    /// For everybody: what is tested is not what a reader of the mails would think.
    Loud(String),
}

impl Note {
    fn plain(text: impl Into<String>) -> Note {
        Note::Plain(text.into())
    }

    fn loud(text: impl Into<String>) -> Note {
        Note::Loud(text.into())
    }

    /// What it says.
    pub fn text(&self) -> &str {
        match self {
            Note::Plain(text) | Note::Loud(text) => text,
        }
    }

    /// Whether a file of this name is in it.
    fn names(&self, file: &str) -> bool {
        self.text().split([' ', ',', '(']).any(|word| word == file)
    }
}

/// Ordered patches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// From the name of the directory or file; several are joined by `+`.
    pub name: String,
    /// At least one, in the order of application.
    pub patches: Vec<Patch>,
    /// What the `base-commit:` line says; `None` where there is none.
    pub base_commit: Option<String>,
    /// How many patches the whole series has, of which these are the first or all.
    pub of: usize,
    /// Whose it is, where it is not the project's own: what its builds leave behind is used for the same origin alone.
    pub origin: Option<Key>,
    /// What was left out of the files that it was read from, and what is odd about them.
    pub notes: Vec<Note>,
}

/// One mail with a diff in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// File name, or the mbox and the number of the mail in it.
    pub label: String,
    /// Subject without `[PATCH ..]`.
    pub subject: String,
    /// The mail as `git am` gets it.
    pub raw: Vec<u8>,
    /// Paths that the diff names, of a rename both.
    pub touches: BTreeSet<String>,
    /// Directories that are taken off the paths of its diff: 1, unless a quilt `series` says otherwise.
    pub strip: u32,
    /// It is taken out and not put in, as a quilt `series` may say.
    pub reverse: bool,
    /// A diff in it that does not stand where that of a patch does, as the end of a sentence; `None` for most.
    pub stray: Option<String>,
    /// Paths that have the same name before and after, nothing like a/ and b/ in front.
    pub bare: Vec<String>,
    /// The mail program may have joined lines (`format=flowed`).
    pub flowed: bool,
    /// `None` for a mail. Of a commit of a range: what `git diff --raw` between the tree below the series and the
    /// commit says. Then `raw` is no mail: the diff behind its first `---` is applied byte by byte, and the result must
    /// differ from the base in exactly this.
    pub exact: Option<String>,
}

impl Patch {
    /// The diff of a commit, with the few headers that people want to see.
    pub fn of_commit(commit: &str, author: &str, subject: &str, diff: &[u8], exact: String) -> Patch {
        let line = |text: &str| text.replace(char::is_control, " ");
        let (author, subject) = (line(author), line(subject));
        let head = format!("From: {author}\nSubject: {subject}\n\ncommit {commit}\n---\n");
        let files = parse_diff(&String::from_utf8_lossy(diff));
        Patch {
            label: commit[..12.min(commit.len())].to_owned(),
            subject,
            raw: [head.as_bytes(), diff].concat(),
            touches: files.iter().flat_map(FileDiff::paths).map(str::to_owned).collect(),
            strip: 1,
            reverse: false,
            stray: None,
            bare: Vec::new(),
            flowed: false,
            exact: Some(exact),
        }
    }

    /// The diff of a patch that is a commit, as git wrote it.
    pub fn exact_diff(&self) -> &[u8] {
        const MARK: &[u8] = b"\n---\n";
        let at = self.raw.windows(MARK.len()).position(|bytes| bytes == MARK);
        at.map_or(&[], |at| &self.raw[at + MARK.len()..])
    }
}

impl Series {
    /// Its first patches, under a name that says so. `None` of nothing.
    pub fn first(&self, count: usize) -> Option<Series> {
        let patches: Vec<Patch> = self.patches.iter().take(count).cloned().collect();
        let name = format!("{}@{}/{}", self.name, patches.len(), self.of);
        Some(Series { name, patches, ..self.clone() }).filter(|series| !series.patches.is_empty())
    }

    /// What everybody who reads the result should know of it.
    pub fn loud(&self) -> impl Iterator<Item = &str> {
        self.notes.iter().filter(|note| matches!(note, Note::Loud(_))).map(Note::text)
    }

    /// Another series on top, as one.
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

    /// Files below this directory that it touches, each once.
    pub fn files_below(&self, dir: &str) -> Vec<String> {
        let all = self.patches.iter().flat_map(|patch| &patch.touches);
        all.filter(|path| path.starts_with(dir)).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Hash of everything in it that can change the outcome.
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

/// A place that patches are read from.
#[derive(Debug, Clone)]
pub struct Place {
    /// A directory of `*.patch`, an mbox or one patch.
    pub path: PathBuf,
    /// What it is called; `None`: the name of the directory or file.
    pub name: Option<String>,
}

/// Reads a series from these paths, in this order; see [`load_named`].
///
/// # Errors
/// Those of [`load_named`].
pub fn load(paths: &[PathBuf]) -> Result<Series> {
    load_named(&paths.iter().map(|path| Place { path: path.clone(), name: None }).collect::<Vec<_>>())
}

/// Reads a series from these places, in this order.
///
/// # Errors
/// Usage for a path that is missing or empty; [`Class::SeriesDoesNotApply`] for one that is no series: no diff in it,
/// gaps, duplicates, two versions mixed, a path outside the tree.
pub fn load_named(places: &[Place]) -> Result<Series> {
    let mut patches = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut base_commit = None;
    let mut origin: Option<KeyBuilder> = None;
    let mut notes = Vec::new();
    for Place { path, name } in places {
        if name.is_none() {
            // By its path: the next version of a series comes to the same place, another one's to another.
            let full = path.canonicalize().unwrap_or_else(|_| path.clone());
            let begun = origin.unwrap_or_else(|| Key::of("series origin 1"));
            origin = Some(begun.field("path", origin_name(&full)));
        }
        let part = load_one(path)?;
        base_commit = base_commit.or(part.base_commit);
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
    Ok(Series { name: names.join("+"), patches, base_commit, of, origin, notes })
}

/// Refuses patches that name a path which is not inside of a kernel tree.
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
            // Quilt's list, unless it is a mail of that name.
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

/// Name of a directory; `.` and `..` have none of their own.
fn whole_name(dir: &Path) -> Result<String> {
    Ok(file_name(&fs::canonicalize(dir).on("cannot resolve", dir)?))
}

/// Reads what a quilt `series` lists: in that order, whatever the subjects say.
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
    let base_commit = mails.iter().find_map(|mail| mail.base_commit.clone());
    into_series(whole_name(dir)?, Chosen { patches: mails, notes, base_commit })
}

/// Reads a mailbox. A single mail is what was asked for, also if it is a reply.
fn mailbox(shown: &str, name: String, mut mails: Vec<Mail>) -> Result<Series> {
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
        // Says so.
        return order_mbox(shown, name, mails);
    }
    let base_commit = mails.iter_mut().find_map(|mail| mail.base_commit.clone());
    into_series(name, Chosen { patches: mails, notes, base_commit })
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

/// A mail before it is known to be a patch.
#[derive(Debug, Clone)]
struct Mail {
    label: String,
    tags: Tags,
    raw: Vec<u8>,
    has_diff: bool,
    looks_like: &'static str,
    touches: BTreeSet<String>,
    base_commit: Option<String>,
    fields: Fields,
    /// What git takes for its diff.
    diff: Vec<u8>,
    /// A line of it begins with `>`.
    quotes: bool,
    /// A line in it looks like the beginning of the next mail, and git ends it there.
    cut: bool,
    strip: u32,
    reverse: bool,
    stray: Option<String>,
    /// A binary file of which the diff only says that it differs.
    lost: Option<String>,
    bare: Vec<String>,
}

impl Mail {
    fn subject(&self) -> &str {
        &self.tags.subject
    }

    /// Its diff without what follows the signature, which a list may have added to.
    fn change(&self) -> &[u8] {
        let mut inside = Lines::default();
        let (mut end, mut seen) = (0, false);
        for line in self.diff.split_inclusive(|byte| *byte == b'\n') {
            let text = String::from_utf8_lossy(line);
            let text = text.trim_end_matches(['\r', '\n']);
            let counted = inside.take(text);
            if seen && !counted && text.trim_end() == "--" {
                break;
            }
            seen |= counted;
            end += line.len();
        }
        self.diff[..end].trim_ascii_end()
    }

    fn into_patch(self, at: usize, count: usize) -> Result<Patch> {
        let Mail { label, tags, raw, touches, fields, strip, reverse, stray, bare, .. } = self;
        let flowed = fields.flowed;
        let patch = Patch {
            label,
            subject: tags.subject,
            raw,
            touches,
            strip,
            reverse,
            stray,
            bare,
            flowed,
            exact: None,
        };
        let refused = |why: &str| {
            let what = format!("{} does not apply: not a patch: {why}", title(at, count, &patch));
            Error::new(Class::SeriesDoesNotApply, what)
        };
        if self.cut {
            return Err(refused(
                "a line in it that begins with \"From \" ends the mail, so git says: Patch is empty",
            )
            .next("put a `>` in front of that line, as `git format-patch --pretty=mboxrd` does"));
        }
        if let Some(names) = self.lost {
            let why = format!("the binary files {names} differ, but the diff has no data: git ignores them");
            return Err(refused(&why).next("recreate it with `git format-patch` or `git diff --binary`"));
        }
        if !self.has_diff {
            return Err(refused(self.looks_like).next(
                "use the output of `git format-patch` or `b4 am`; a web page or a quoted reply is not a patch",
            ));
        }
        Ok(patch)
    }
}

/// Splits a file into mails and decodes each.
fn read_mails(file: &Path, bytes: &[u8], label: &str) -> Result<Vec<Mail>> {
    read_mails_stripped(file, bytes, label, 1)
}

fn read_mails_stripped(file: &Path, bytes: &[u8], label: &str, strip: u32) -> Result<Vec<Mail>> {
    let shown = file.display();
    if memchr::memmem::find_iter(bytes, b"\nFrom ").count() >= MAX_MAILS {
        return Err(Error::usage(format!("{shown} holds more than {MAX_MAILS} mails"))
            .next("give a mailbox with one thread: `b4 am MESSAGE-ID` fetches a series"));
    }
    let dir = reaper::temporary_directory()?;
    let inbox = dir.path().join("in");
    write_file(&inbox, bytes)?;
    let mut split = neutral_git(dir.path());
    split.args(["mailsplit", "-b", "-d6", "-o."]).arg(&inbox);
    let done = Job::new(split).deadline(GIT_LIMIT).run()?;
    if !done.success() {
        return Err(refused_by_git(format!("{shown} cannot be split into mails"), &done));
    }
    let count: usize = done.stdout.trim().parse().unwrap_or(0);
    let mut mails: Vec<Mail> = Vec::new();
    for number in 1..=count {
        let raw = dir.path().join(format!("{number:06}"));
        let raw = fs::read(&raw).on("cannot read", &raw)?;
        let begins = number == 1 || Fields::of(&raw).is_mail;
        match mails.last_mut().filter(|_| !begins) {
            Some(before) => before.cut = true,
            None => {
                let label = if count == 1 { label.to_owned() } else { format!("{label}, mail {number}") };
                mails.push(decode(dir.path(), label, raw, strip)?);
            }
        }
    }
    Ok(mails)
}

/// An error of what was read, with the reason that git gives: no host reads it better.
fn refused_by_git(what: String, done: &Finished) -> Error {
    let error = Error::new(Class::SeriesDoesNotApply, what);
    match done.no_space() {
        Some(_) => done.error(error.what),
        None => error
            .why(format!("git says: {}", git_says(&done.tail)))
            .next("take the series from `b4 am` or `git format-patch`, or save the mail again"),
    }
}

/// The first complaint of git among its last lines.
pub fn git_says(tail: &[String]) -> &str {
    let complaint = |line: &&String| line.starts_with("error: ") || line.starts_with("fatal: ");
    let line = tail.iter().find(complaint).or(tail.last()).map_or("nothing", String::as_str);
    line.trim_start_matches("error: ").trim_start_matches("fatal: ")
}

/// Decodes one mail; what lacks the head of a mail (`git diff`, quilt) gets one.
fn decode(dir: &Path, label: String, mut raw: Vec<u8>, strip: u32) -> Result<Mail> {
    let fields = Fields::of(&raw);
    let mut headers = mailinfo(dir, &label, &raw)?;
    let headless = !headers.contains_key("Email");
    if headless {
        let mut head = "From: unknown author <unknown@localhost>\n".to_owned();
        if !headers.contains_key("Subject") {
            head.push_str(&format!("Subject: {label}\n\n"));
        }
        // Below the line that begins a mail in a mailbox, if there is one.
        let first = raw.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let at = if fields.is_mail && raw.starts_with(b"From ") { first } else { 0 };
        raw.splice(at..at, head.into_bytes());
        headers = mailinfo(dir, &label, &raw)?;
    }
    let bytes = |name: &str| -> Result<Vec<u8>> {
        let path = dir.join(name);
        fs::read(&path).on("cannot read", &path)
    };
    let (message, diff) = (bytes("message")?, bytes("diff")?);
    let (message, body) = (String::from_utf8_lossy(&message), String::from_utf8_lossy(&diff));
    let files = parse_stripped(&body, strip);
    let all = format!("{message}\n{body}").to_lowercase();
    let looks_like = if all.contains("<html") {
        "it is an HTML page without a diff"
    } else if all.lines().any(|line| line.starts_with("> diff --git ") || line.starts_with("> +++ ")) {
        "its diff is only quoted"
    } else {
        "it has no diff"
    };
    let mut touches: BTreeSet<String> = files.iter().flat_map(FileDiff::paths).map(str::to_owned).collect();
    if !files.is_empty() {
        touches.extend(named_by_git(dir, strip)?);
    }
    Ok(Mail {
        label,
        tags: Tags::of(headers.get("Subject").map_or("", String::as_str)),
        has_diff: !files.is_empty(),
        looks_like,
        touches,
        base_commit: base_commit_in(&message).or_else(|| base_commit_in(&body)),
        quotes: message.lines().any(|line| line.starts_with('>')),
        cut: false,
        strip,
        reverse: false,
        stray: stray::stray(&body),
        // What stands above the first diff is a message, unless the whole is the output of diff.
        lost: stray::without_data(&body).or_else(|| stray::without_data(&message).filter(|_| headless)),
        bare: files.iter().filter_map(|file| file.bare.clone()).collect(),
        fields,
        raw,
        diff,
    })
}

/// Paths of the diff as git reads it: what git would change and this reader does not see would be lost. Of a diff that
/// is damaged there are none.
fn named_by_git(dir: &Path, strip: u32) -> Result<Vec<String>> {
    let mut command = neutral_git(dir);
    command.args(["apply", "--numstat", &format!("-p{strip}"), "diff"]);
    let mut names = Vec::new();
    let done = Job::new(command).deadline(GIT_LIMIT).on_line(|stream, line| {
        // Added, removed, path.
        if let (Stream::Out, Some(name)) = (stream, line.splitn(3, '\t').nth(2)) {
            names.push(unquote(name));
        }
    });
    done.run()?;
    Ok(names)
}

/// Writes `message` and `diff` into `dir`; returns the headers.
///
/// The bytes of a diff stay as they are in any case. Of the message git makes UTF-8, and gives up at a charset that does not
/// exist; such a mail is read once more without that.
fn mailinfo(dir: &Path, label: &str, raw: &[u8]) -> Result<BTreeMap<String, String>> {
    let run = |more: &[&str]| {
        let mut command = neutral_git(dir);
        // Not the fields in the body of a mail, which may be those of the mail that it answers.
        command.args(["mailinfo", "-k", "--no-inbody-headers", "--quoted-cr=strip"]).args(more);
        command.args(["message", "diff"]);
        Job::new(command).input(raw).deadline(GIT_LIMIT).run()
    };
    let pairs = |done: &Finished| -> BTreeMap<String, String> {
        let pairs = done.stdout.lines().filter_map(|line| line.split_once(": "));
        pairs.filter(|(_, value)| !value.trim().is_empty()).map(|(k, v)| (k.into(), v.into())).collect()
    };
    let done = run(&[])?;
    if done.success() {
        return Ok(pairs(&done));
    }
    let again = run(&["-n"])?;
    if !again.success() {
        return Err(refused_by_git(format!("{label} cannot be decoded as a mail"), &again));
    }
    // What could be converted is better than bytes; what could not be still has its encoding.
    let mut headers = pairs(&again);
    headers.extend(pairs(&done).into_iter().filter(|(_, value)| !value.contains("=?")));
    Ok(headers)
}

fn base_commit_in(text: &str) -> Option<String> {
    let commits = text.lines().filter_map(|line| line.strip_prefix("base-commit:"));
    commits
        .map(str::trim)
        .find(|id| id.len() >= 12 && id.bytes().all(|c| c.is_ascii_hexdigit()))
        .map(Into::into)
}

/// A directory is applied in the order of its file names; numbers in subjects only serve to notice what is missing.
fn order_directory(shown: &str, name: String, mails: Vec<Mail>) -> Result<Series> {
    let chosen = thread::choose(shown, mails, Kind::Directory)?;
    let mut groups: BTreeMap<(u32, u32), Vec<&Mail>> = BTreeMap::new();
    for mail in &chosen.patches {
        if let Some((_, total)) = mail.tags.place {
            groups.entry((mail.tags.version, total)).or_default().push(mail);
        }
    }
    thread::refuse_mixed_versions(shown, &chosen.patches)?;
    for ((_, total), group) in groups {
        check_numbers(shown, total, &group)?;
    }
    into_series(name, chosen)
}

/// An mbox comes in any order, with replies: the numbers decide.
fn order_mbox(shown: &str, name: String, mails: Vec<Mail>) -> Result<Series> {
    let mut chosen = thread::choose(shown, mails, Kind::Mailbox)?;
    let patches = &mut chosen.patches;
    let numbered = patches.iter().filter(|mail| mail.tags.place.is_some()).count();
    if numbered == 0 {
        return into_series(name, chosen);
    }
    if let Some(odd) = patches.iter().find(|mail| mail.tags.place.is_none()) {
        let what = format!(
            "cannot order {shown}: {} ({:?}) has no number, but others do",
            odd.label, odd.tags.subject
        );
        return Err(
            Error::new(Class::SeriesDoesNotApply, what).next("remove it, or give a directory of patches")
        );
    }
    let totals: BTreeSet<u32> = patches.iter().filter_map(|m| m.tags.place).map(|(_, total)| total).collect();
    let total = totals.iter().next().copied().unwrap_or(0);
    if totals.len() > 1 {
        let listed: Vec<String> = totals.iter().map(|total| format!("n/{total}")).collect();
        let what = format!("cannot order {shown}: it holds more than one series ({})", listed.join(", "));
        return Err(Error::new(Class::SeriesDoesNotApply, what).next("give one mbox per series, in order"));
    }
    let checked = check_numbers(shown, total, &patches.iter().collect::<Vec<_>>());
    checked.map_err(|error| error.detail(chosen.notes.iter().map(|note| note.text().to_owned())))?;
    patches.sort_by_key(|mail| mail.tags.place);
    into_series(name, chosen)
}

fn into_series(name: String, chosen: Chosen) -> Result<Series> {
    let Chosen { patches: mails, notes, base_commit } = chosen;
    let count = mails.len();
    let patches: Result<Vec<Patch>> =
        mails.into_iter().enumerate().map(|(at, mail)| mail.into_patch(at, count)).collect();
    Ok(Series { name, patches: patches?, base_commit, of: count, origin: None, notes })
}

fn check_numbers(shown: &str, total: u32, mails: &[&Mail]) -> Result<()> {
    let mut labels: BTreeMap<u32, &str> = BTreeMap::new();
    for mail in mails {
        let number = mail.tags.place.map_or(0, |(number, _)| number);
        if let Some(first) = labels.insert(number, &mail.label) {
            let what = format!("{shown} holds patch {number}/{total} twice");
            return Err(Error::new(Class::SeriesDoesNotApply, what)
                .why(format!("{first} and {}", mail.label))
                .next("remove one of them"));
        }
    }
    let missing = thread::missing(total, &labels.keys().copied().collect());
    if !missing.is_empty() {
        let what = format!("{shown} is incomplete: of {total} patches, {missing} is missing");
        return Err(Error::new(Class::SeriesDoesNotApply, what)
            .next("add the missing patches; to leave them out on purpose, name the patch files one by one"));
    }
    Ok(())
}

/// Whether a path of a diff stays inside the tree, and out of git's own directory.
fn is_inside_tree(path: &str) -> bool {
    let odd =
        |part: &str| part.is_empty() || part == "." || part == ".." || part.eq_ignore_ascii_case(".git");
    !path.split('/').any(odd) && !path.chars().any(char::is_control)
}

/// What a diff does to one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileDiff {
    /// Path before; `None` for a new file.
    pub old: Option<String>,
    /// Path after; `None` for a deleted one.
    pub new: Option<String>,
    /// Where each hunk begins in the old file, and its lines.
    pub hunks: Vec<Hunk>,
    /// The whole path, where it is the same before and after: no a/ and b/ in front.
    pub bare: Option<String>,
    /// A path as the diff has it, with everything in front.
    pub full: String,
}

/// One `@@` of a diff.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hunk {
    /// First line in the old file.
    pub line: u64,
    /// Its lines with their signs.
    pub body: Vec<String>,
}

impl FileDiff {
    /// Both paths, where they differ.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let new = self.new.iter().filter(|new| Some(*new) != self.old.as_ref());
        self.old.iter().chain(new).map(String::as_str)
    }

    /// The name by which git speaks of it.
    pub fn name(&self) -> &str {
        self.old.as_deref().or(self.new.as_deref()).unwrap_or_default()
    }
}

/// Counts the lines of hunks, so that none of them can pass for a header.
#[derive(Debug, Default)]
struct Lines {
    old: u64,
    new: u64,
}

impl Lines {
    /// Takes the next line of a diff; whether it belongs to a hunk. The `@@` itself does.
    fn take(&mut self, line: &str) -> bool {
        if self.old > 0 || self.new > 0 {
            match line.as_bytes().first() {
                Some(b'-') => self.old = self.old.saturating_sub(1),
                Some(b'+') => self.new = self.new.saturating_sub(1),
                Some(b' ') | None => {
                    (self.old, self.new) = (self.old.saturating_sub(1), self.new.saturating_sub(1));
                }
                Some(b'\\') => (),
                // A damaged hunk: git will say so.
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

/// The path that a line begins to change, where it is a header: `diff --git`, or `---` with a `+++` below.
fn header_pair(line: &str, next: Option<&str>) -> Option<String> {
    let (old, new) = match line.strip_prefix("diff --git ") {
        Some(names) => git_names(names, 1).unwrap_or_default(),
        // Without a `+++` it is the line under a commit message.
        None => (side(line.strip_prefix("--- ")?, 1), side(next?.strip_prefix("+++ ")?, 1)),
    };
    Some(old.or(new).unwrap_or_else(|| "a file without a name".to_owned()))
}

/// Reads the headers and hunks of a unified diff, as git does for `git am`.
pub fn parse_diff(text: &str) -> Vec<FileDiff> {
    parse_stripped(text, 1)
}

/// The same with so many directories taken off each path.
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
            // Without a `+++` it is the line under a commit message.
            let Some(plus) = lines.peek().and_then(|next| next.strip_prefix("+++ ")) else { continue };
            let (old, new) = (side(after, strip), side(plus, strip));
            let (bare, full) = whole_names((side(after, 0), side(plus, 0)));
            lines.next();
            // A plain diff has no `diff --git` to begin a file.
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
            // These have nothing like a/ in front, so git takes one directory less off them.
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

/// The path that is the same on both sides, and one of the two.
fn whole_names((old, new): (Option<String>, Option<String>)) -> (Option<String>, String) {
    let bare = old.clone().filter(|old| Some(old) == new.as_ref());
    (bare, old.or(new).unwrap_or_default())
}

/// The two names after `diff --git`, of which git makes sure that they are the same but for the first directory unless
/// other headers follow.
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

/// The path on a `---` or `+++` line without its first directories, as git takes it; `None` for /dev/null.
fn side(text: &str, strip: u32) -> Option<String> {
    let text = text.split('\t').next().unwrap_or_default().trim_end();
    let path = unquote(text);
    (path != "/dev/null").then(|| stripped(&path, strip))
}

/// An absolute path keeps its slash, so that it is refused by name.
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

/// Undoes git's quoting of names with odd characters in them.
fn unquote(text: &str) -> String {
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
