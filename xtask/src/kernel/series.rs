// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a patch series: a directory of `*.patch`, an mbox, one patch, or several of them one after the other. Puts it
//! in order, refuses what is no series, and says which files it touches. Applying it is [`super::patch`].
//!
//! Splitting and decoding mail is git's work: it is git that applies the patches, and it must see what was read here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Class, Error, IoContext, Result};
use crate::leftovers;
use crate::proc::Job;
use crate::workdir::{Key, KeyBuilder, write_file};

pub use crate::clean_env::git as neutral_git;

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

    /// Another series on top, as one.
    pub fn and(mut self, more: &Series) -> Series {
        self.name = format!("{}+{}", self.name, more.name);
        self.patches.extend(more.patches.iter().cloned());
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
        let add = |key: KeyBuilder, patch: &Patch| match &patch.exact {
            None => key.field("patch", &patch.raw),
            Some(exact) => key.field("commit", &patch.raw).field("exact", exact),
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
    for Place { path, name } in places {
        if name.is_none() {
            // By its path: the next version of a series comes to the same place, another one's to another.
            let full = path.canonicalize().unwrap_or_else(|_| path.clone());
            let begun = origin.unwrap_or_else(|| Key::of("series origin 1"));
            origin = Some(begun.field("path", full.as_os_str().as_encoded_bytes()));
        }
        let part = load_one(path)?;
        base_commit = base_commit.or(part.base_commit);
        patches.extend(part.patches);
        names.push(name.clone().unwrap_or(part.name));
    }
    if patches.is_empty() {
        return Err(Error::usage("cannot read a series: no path is given"));
    }
    refuse_paths_outside(&patches)?;
    let of = patches.len();
    let origin = origin.map(KeyBuilder::finish);
    Ok(Series { name: names.join("+"), patches, base_commit, of, origin })
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
                format!("{who} is refused: it names {bad:?}, which is no path inside a kernel tree"),
            )
            .next("look at where this patch comes from; nothing of it was applied"));
        }
    }
    Ok(())
}

/// `patch 3 of 12 (0003-foo.patch, "subject")`; `at` counts from 0.
pub fn title(at: usize, count: usize, patch: &Patch) -> String {
    format!("patch {} of {count} ({}, {:?})", at + 1, patch.label, patch.subject)
}

fn load_one(path: &Path) -> Result<Series> {
    let shown = path.display();
    let meta = fs::metadata(path).map_err(|error| {
        let hint = "name a directory of *.patch files, an mbox or one patch";
        Error::usage(format!("cannot read the series {shown}")).why(error).next(hint)
    })?;
    if !meta.is_dir() {
        let mails = read_mails(path, &file_name(path))?;
        return if let [only] = mails.as_slice() {
            let base_commit = only.base_commit.clone();
            let patch = only.clone().into_patch(0, 1)?;
            Ok(Series { name: stem(path), patches: vec![patch], base_commit, of: 1, origin: None })
        } else {
            order_mbox(&shown.to_string(), stem(path), mails)
        };
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).on("cannot list", path)? {
        let file = entry.on("cannot list", path)?.path();
        if file.extension().is_some_and(|extension| extension == "patch") {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(Error::usage(format!("there is no *.patch in the directory {shown}"))
            .next("`git format-patch -o DIR BASE..` writes a series into a directory"));
    }
    files.sort();
    let mut mails = Vec::new();
    for file in &files {
        mails.extend(read_mails(file, &file_name(file))?);
    }
    // `.` and `..` have no file name of their own.
    let whole = fs::canonicalize(path).on("cannot resolve", path)?;
    order_directory(&shown.to_string(), file_name(&whole), mails)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
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
}

/// What the brackets before a subject say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tags {
    /// `Re: `, so no patch of its own.
    reply: bool,
    /// 1 where no `vN` stands.
    version: u32,
    /// Number and total of `[PATCH 3/12]`.
    place: Option<(u32, u32)>,
    subject: String,
}

impl Tags {
    fn of(subject: &str) -> Tags {
        let mut rest = subject.trim();
        let mut tags = Tags { version: 1, ..Tags::default() };
        while rest.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("re:")) {
            tags.reply = true;
            rest = rest[3..].trim_start();
        }
        while let Some((inside, after)) = rest.strip_prefix('[').and_then(|open| open.split_once(']')) {
            for word in inside.split([' ', ',', '\t']) {
                if let Some((number, total)) = word.split_once('/') {
                    tags.place = number.parse().ok().zip(total.parse().ok()).or(tags.place);
                }
                let version = word.strip_prefix("PATCH").unwrap_or(word).strip_prefix(['v', 'V']);
                if let Some(version) = version.and_then(|digits| digits.parse().ok()) {
                    tags.version = version;
                }
            }
            rest = after.trim_start();
        }
        tags.subject = rest.to_owned();
        tags
    }

    fn is_cover(&self) -> bool {
        matches!(self.place, Some((0, _)))
    }
}

impl Mail {
    fn into_patch(self, at: usize, count: usize) -> Result<Patch> {
        let Mail { label, tags, raw, has_diff, looks_like, touches, base_commit: _ } = self;
        let patch = Patch { label, subject: tags.subject, raw, touches, exact: None };
        if !has_diff {
            let what = format!("{} does not apply: not a patch: {looks_like}", title(at, count, &patch));
            return Err(Error::new(Class::SeriesDoesNotApply, what).next(
                "give what `git format-patch` or `b4 am` wrote; a page or a quoted reply is no patch",
            ));
        }
        Ok(patch)
    }
}

/// Splits a file into mails and decodes each.
fn read_mails(file: &Path, label: &str) -> Result<Vec<Mail>> {
    let bytes = fs::read(file).on("cannot read", file)?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::usage(format!("{} is empty", file.display())).next("download or write it again"));
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(
            Error::usage(format!("{} is compressed", file.display())).next("unpack it with gunzip first")
        );
    }
    let dir = leftovers::temporary_directory()?;
    let inbox = dir.path().join("in");
    write_file(&inbox, &bytes)?;
    let mut split = neutral_git(dir.path());
    split.args(["mailsplit", "-b", "-d6", "-o."]).arg(&inbox);
    let what = || format!("cannot split {} into mails", file.display());
    let count: usize = Job::new(split).run()?.ok(what())?.stdout.trim().parse().unwrap_or(0);
    let mut mails = Vec::new();
    for number in 1..=count {
        let raw = dir.path().join(format!("{number:06}"));
        let raw = fs::read(&raw).on("cannot read", &raw)?;
        let label = if count == 1 { label.to_owned() } else { format!("{label}, mail {number}") };
        mails.push(decode(dir.path(), label, raw)?);
    }
    Ok(mails)
}

/// Decodes one mail; what lacks the head of a mail (`git diff`, quilt) gets one.
fn decode(dir: &Path, label: String, mut raw: Vec<u8>) -> Result<Mail> {
    let mut headers = mailinfo(dir, &raw)?;
    if !headers.contains_key("Email") {
        let mut head = "From: unknown author <unknown@localhost>\n".to_owned();
        if !headers.contains_key("Subject") {
            head.push_str(&format!("Subject: {label}\n\n"));
        }
        raw.splice(0..0, head.into_bytes());
        headers = mailinfo(dir, &raw)?;
    }
    let text = |name: &str| -> Result<String> {
        let path = dir.join(name);
        Ok(String::from_utf8_lossy(&fs::read(&path).on("cannot read", &path)?).into_owned())
    };
    let (message, body) = (text("message")?, text("diff")?);
    let files = parse_diff(&body);
    let all = format!("{message}\n{body}").to_lowercase();
    let looks_like = if all.contains("<html") {
        "it is an HTML page, no diff is in it"
    } else if all.lines().any(|line| line.starts_with("> diff --git ") || line.starts_with("> +++ ")) {
        "the diff in it is only quoted"
    } else {
        "no diff is in it"
    };
    Ok(Mail {
        label,
        tags: Tags::of(headers.get("Subject").map_or("", String::as_str)),
        raw,
        has_diff: !files.is_empty(),
        looks_like,
        touches: files.iter().flat_map(FileDiff::paths).map(str::to_owned).collect(),
        base_commit: base_commit_in(&message).or_else(|| base_commit_in(&body)),
    })
}

/// Writes `message` and `diff` into `dir`; returns the headers.
fn mailinfo(dir: &Path, raw: &[u8]) -> Result<BTreeMap<String, String>> {
    let mut command = neutral_git(dir);
    command.args(["mailinfo", "-k", "--quoted-cr=strip", "message", "diff"]);
    let done = Job::new(command).input(raw).run()?.ok("cannot decode a mail")?;
    let pairs = done.stdout.lines().filter_map(|line| line.split_once(": "));
    Ok(pairs.filter(|(_, value)| !value.trim().is_empty()).map(|(k, v)| (k.into(), v.into())).collect())
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
    let base_commit = mails.iter().find_map(|mail| mail.base_commit.clone());
    // format-patch writes the cover letter as 0000- or v2-0000-.
    let is_cover =
        |mail: &Mail| !mail.has_diff && (mail.tags.is_cover() || mail.label.contains("0000-cover-letter"));
    let patches: Vec<Mail> = mails.into_iter().filter(|mail| !is_cover(mail)).collect();
    if patches.is_empty() {
        return Err(only_a_cover_letter(shown));
    }
    let mut groups: BTreeMap<(u32, u32), Vec<&Mail>> = BTreeMap::new();
    for mail in &patches {
        if let Some((_, total)) = mail.tags.place {
            groups.entry((mail.tags.version, total)).or_default().push(mail);
        }
    }
    refuse_mixed_versions(shown, &patches)?;
    for ((_, total), group) in groups {
        check_numbers(shown, total, &group)?;
    }
    into_series(name, patches, base_commit)
}

/// An mbox comes in any order, with replies: the numbers decide.
fn order_mbox(shown: &str, name: String, mails: Vec<Mail>) -> Result<Series> {
    let base_commit = mails.iter().find_map(|mail| mail.base_commit.clone());
    let mut patches: Vec<Mail> = mails
        .into_iter()
        .filter(|mail| !mail.tags.reply && (mail.has_diff || !mail.tags.is_cover()))
        .collect();
    if patches.is_empty() {
        return Err(only_a_cover_letter(shown));
    }
    refuse_mixed_versions(shown, &patches)?;
    let numbered = patches.iter().filter(|mail| mail.tags.place.is_some()).count();
    if numbered == 0 {
        return into_series(name, patches, base_commit);
    }
    if let Some(odd) = patches.iter().find(|mail| mail.tags.place.is_none()) {
        let what = format!(
            "cannot order {shown}: {} ({:?}) has no number, others have",
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
        return Err(
            Error::new(Class::SeriesDoesNotApply, what).next("give one mbox for each, in their order")
        );
    }
    check_numbers(shown, total, &patches.iter().collect::<Vec<_>>())?;
    patches.sort_by_key(|mail| mail.tags.place);
    into_series(name, patches, base_commit)
}

fn into_series(name: String, mails: Vec<Mail>, base_commit: Option<String>) -> Result<Series> {
    let count = mails.len();
    let patches: Result<Vec<Patch>> =
        mails.into_iter().enumerate().map(|(at, mail)| mail.into_patch(at, count)).collect();
    Ok(Series { name, patches: patches?, base_commit, of: count, origin: None })
}

fn only_a_cover_letter(shown: &str) -> Error {
    Error::new(Class::SeriesDoesNotApply, format!("{shown} holds a cover letter and no patch"))
        .next("add the patches: `b4 am MESSAGE-ID` fetches a whole series as one mbox")
}

/// Versions are mixed when two of them have a patch in the same place or with the same subject.
fn refuse_mixed_versions(shown: &str, mails: &[Mail]) -> Result<()> {
    for (at, mail) in mails.iter().enumerate() {
        for other in &mails[..at] {
            let same_place = mail.tags.place.is_some() && mail.tags.place == other.tags.place;
            let same_subject = !mail.tags.subject.is_empty() && mail.tags.subject == other.tags.subject;
            if mail.tags.version != other.tags.version && (same_place || same_subject) {
                let what = format!("{shown} mixes versions {} and {}", other.tags.version, mail.tags.version);
                return Err(Error::new(Class::SeriesDoesNotApply, format!("{what} of a series"))
                    .why(format!("{} and {} are the same patch", other.label, mail.label))
                    .next("keep the patches of one version"));
            }
        }
    }
    Ok(())
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
    let missing: Vec<String> =
        (1..=total).filter(|number| !labels.contains_key(number)).map(|number| number.to_string()).collect();
    if !missing.is_empty() {
        let what = format!("{shown} is incomplete: of {total} patches, {} is missing", missing.join(", "));
        return Err(Error::new(Class::SeriesDoesNotApply, what)
            .next("add what is missing; or, to leave it out on purpose, name the patch files one by one"));
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

/// Reads the headers and hunks of a unified diff. Lines inside a hunk are counted, so that none of them can pass for a
/// header.
pub fn parse_diff(text: &str) -> Vec<FileDiff> {
    let mut files: Vec<FileDiff> = Vec::new();
    let (mut old_left, mut new_left) = (0_u64, 0_u64);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if old_left > 0 || new_left > 0 || line.starts_with('\\') {
            match line.as_bytes().first() {
                Some(b'-') => old_left = old_left.saturating_sub(1),
                Some(b'+') => new_left = new_left.saturating_sub(1),
                Some(b' ') | None => {
                    (old_left, new_left) = (old_left.saturating_sub(1), new_left.saturating_sub(1));
                }
                Some(b'\\') => (),
                // A damaged hunk: git will say so.
                _ => (old_left, new_left) = (0, 0),
            }
            if let Some(hunk) = files.last_mut().and_then(|file| file.hunks.last_mut()) {
                hunk.body.push(line.to_owned());
            }
        } else if let Some(names) = line.strip_prefix("diff --git ") {
            let (old, new) = git_names(names).unwrap_or_default();
            files.push(FileDiff { old, new, hunks: Vec::new() });
        } else if let Some(after) = line.strip_prefix("--- ") {
            // Without a `+++` it is the line under a commit message.
            let Some(plus) = lines.peek().and_then(|next| next.strip_prefix("+++ ")) else { continue };
            let (old, new) = (side(after), side(plus));
            lines.next();
            // A plain diff has no `diff --git` to begin a file.
            match files.last_mut().filter(|file| file.hunks.is_empty()) {
                Some(file) => (file.old, file.new) = (old, new),
                None => files.push(FileDiff { old, new, hunks: Vec::new() }),
            }
        } else if let Some(ranges) = line.strip_prefix("@@ -") {
            let Some(file) = files.last_mut() else { continue };
            let mut words = ranges.split(' ');
            let range = |word: Option<&str>| -> Option<(u64, u64)> {
                let (start, count) = word?.split_once(',').unwrap_or((word?, "1"));
                Some((start.parse().ok()?, count.parse().ok()?))
            };
            let old = range(words.next());
            let new = range(words.next().and_then(|word| word.strip_prefix('+')));
            if let (Some((line, old)), Some((_, new))) = (old, new) {
                (old_left, new_left) = (old, new);
                file.hunks.push(Hunk { line, body: Vec::new() });
            }
        } else if let Some(file) = files.last_mut().filter(|file| file.hunks.is_empty()) {
            let named = |after: &str| Some(unquote(after));
            if let Some(path) = line.strip_prefix("rename from ").or(line.strip_prefix("copy from ")) {
                file.old = named(path);
            } else if let Some(path) = line.strip_prefix("rename to ").or(line.strip_prefix("copy to ")) {
                file.new = named(path);
            } else if line.starts_with("new file mode ") {
                file.old = None;
            } else if line.starts_with("deleted file mode ") {
                file.new = None;
            }
        }
    }
    files
}

/// The two names after `diff --git`, of which git makes sure that they are the same but for the first directory unless
/// other headers follow.
fn git_names(names: &str) -> Option<(Option<String>, Option<String>)> {
    if let Some(quoted) = names.strip_prefix('"') {
        let end = quoted.find("\" ")? + 2;
        return Some((side(&names[..end]), side(names[end..].trim_start())));
    }
    let middle = names.len() / 2;
    let halves = names.is_char_boundary(middle).then(|| names.split_at(middle));
    let equal = halves.and_then(|(old, new)| Some((side(old)?, side(new.strip_prefix(' ')?)?)));
    match equal.filter(|(old, new)| old == new) {
        Some((old, new)) => Some((Some(old), Some(new))),
        None => names.split_once(" b/").map(|(old, new)| (side(old), Some(new.to_owned()))),
    }
}

/// The path on a `---` or `+++` line without its first directory, as `git am` takes it; `None` for /dev/null.
fn side(text: &str) -> Option<String> {
    let text = text.split('\t').next().unwrap_or_default().trim_end();
    let path = unquote(text);
    if path == "/dev/null" {
        return None;
    }
    // An absolute path keeps its slash, so that it is refused by name.
    match path.split_once('/') {
        Some(("", _)) | None => Some(path),
        Some((_, rest)) => Some(rest.to_owned()),
    }
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
