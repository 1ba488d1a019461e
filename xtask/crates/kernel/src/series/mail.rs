// SPDX-License-Identifier: MIT OR Apache-2.0
//! Splits a file into mails, decodes each and finds the patch in it. git does the splitting and decoding: it
//! will apply the patches, so it must see the same as this reader.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::diff::{FileDiff, Lines, parse_stripped, unquote};
use crate::series::fields::Fields;
use crate::series::subject::Tags;
use crate::series::{Letter, Patch, neutral_git, stray, title};
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::files::write_file;
use vmtest_host::process::{Finished, Job, Stream};
use vmtest_host::reaper;

/// Most mails in one mailbox: a busy thread has a few hundred.
pub(super) const MAX_MAILS: usize = 5_000;

/// Time limit for git to split or decode; a mail takes milliseconds.
const GIT_LIMIT: Duration = Duration::from_secs(120);

/// A mail that may contain a patch.
#[derive(Debug, Clone)]
pub(super) struct Mail {
    pub(super) label: String,
    pub(super) tags: Tags,
    pub(super) author: String,
    pub(super) raw: Vec<u8>,
    pub(super) has_diff: bool,
    pub(super) looks_like: &'static str,
    pub(super) touches: BTreeSet<String>,
    pub(super) base_commit: Option<String>,
    pub(super) prerequisites: Vec<String>,
    /// Its subject with `[PATCH ..]`.
    pub(super) whole_subject: String,
    pub(super) fields: Fields,
    /// What git considers to be its diff.
    pub(super) diff: Vec<u8>,
    /// Whether a line of the message begins with `>`.
    pub(super) quotes: bool,
    /// Whether git cuts it off at a line that looks like the start of the next mail.
    pub(super) cut: bool,
    pub(super) strip: u32,
    pub(super) reverse: bool,
    pub(super) stray: Option<String>,
    /// Names of binary files that differ, if the diff has no data for them.
    pub(super) lost: Option<String>,
    pub(super) bare: Vec<String>,
}

impl Mail {
    pub(super) fn subject(&self) -> &str {
        &self.tags.subject
    }

    /// What a reply to it needs; `None` for a diff without a sender.
    pub(super) fn letter(&self) -> Option<Letter> {
        let (subject, author) = (self.whole_subject.clone(), self.author.clone());
        let message_id = self.fields.id.clone().unwrap_or_default();
        Some(Letter { subject, author, message_id }).filter(|letter| !letter.author.is_empty())
    }

    /// Its diff without anything after the signature, where a mailing list may have added text.
    pub(super) fn change(&self) -> &[u8] {
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

    pub(super) fn into_patch(self, at: usize, count: usize) -> Result<Patch> {
        let Mail { label, tags, author, raw, touches, fields, strip, reverse, stray, bare, .. } = self;
        let flowed = fields.flowed;
        let patch = Patch {
            diff: self.diff.clone(),
            label,
            subject: tags.subject,
            author,
            message_id: fields.id.unwrap_or_default(),
            commit: String::new(),
            raw,
            touches,
            strip,
            reverse,
            stray,
            bare,
            flowed,
            exact: None,
            ours: false,
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
pub(super) fn read_mails(file: &Path, bytes: &[u8], label: &str) -> Result<Vec<Mail>> {
    read_mails_stripped(file, bytes, label, 1)
}

pub(super) fn read_mails_stripped(file: &Path, bytes: &[u8], label: &str, strip: u32) -> Result<Vec<Mail>> {
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

/// An error in the input, with git's reason. Not a host error, since it is the same on every host.
fn refused_by_git(what: String, done: &Finished) -> Error {
    let error = Error::new(Class::SeriesDoesNotApply, what);
    match done.no_space() {
        Some(_) => done.error(error.what),
        None => error
            .why(format!("git says: {}", git_says(&done.tail)))
            .next("take the series from `b4 am` or `git format-patch`, or save the mail again"),
    }
}

/// git's first error in its last lines.
pub fn git_says(tail: &[String]) -> &str {
    let complaint = |line: &&String| line.starts_with("error: ") || line.starts_with("fatal: ");
    let line = tail.iter().find(complaint).or(tail.last()).map_or("nothing", String::as_str);
    line.trim_start_matches("error: ").trim_start_matches("fatal: ")
}

/// Decodes one mail. Adds headers to a file without any (`git diff`, quilt).
fn decode(dir: &Path, label: String, mut raw: Vec<u8>, strip: u32) -> Result<Mail> {
    let fields = Fields::of(&raw);
    let mut headers = mailinfo(dir, &label, &raw)?;
    let headless = !headers.contains_key("Email");
    if headless {
        let mut head = "From: unknown author <unknown@localhost>\n".to_owned();
        if !headers.contains_key("Subject") {
            head.push_str(&format!("Subject: {label}\n\n"));
        }
        // After the `From ` line of a mailbox, if there is one.
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
        author: if headless { String::new() } else { author(&headers) },
        has_diff: !files.is_empty(),
        looks_like,
        touches,
        base_commit: base_commit_in(&message).or_else(|| base_commit_in(&body)),
        prerequisites: [&message, &body].into_iter().flat_map(|text| prerequisites_in(text)).collect(),
        whole_subject: headers.get("Subject").cloned().unwrap_or_default(),
        quotes: message.lines().any(|line| line.starts_with('>')),
        cut: false,
        strip,
        reverse: false,
        stray: stray::stray(&body),
        // Text before the first diff is the message, unless the whole file is the output of diff.
        lost: stray::without_data(&body).or_else(|| stray::without_data(&message).filter(|_| headless)),
        bare: files.iter().filter_map(|file| file.bare.clone()).collect(),
        fields,
        raw,
        diff,
    })
}

/// `Name <address>`; empty if one of them is missing.
fn author(headers: &BTreeMap<String, String>) -> String {
    match (headers.get("Author"), headers.get("Email")) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        _ => String::new(),
    }
}

/// Paths in the diff according to git, so that no change is missed if git reads it differently. None if the
/// diff is damaged.
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
/// git never changes the bytes of the diff. It converts the message to UTF-8, but fails for an unknown
/// charset; such a mail is read again without conversion.
fn mailinfo(dir: &Path, label: &str, raw: &[u8]) -> Result<BTreeMap<String, String>> {
    let run = |more: &[&str]| {
        let mut command = neutral_git(dir);
        // Ignores headers in the body, which may be quoted from the mail that it replies to.
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
    // Prefer converted headers, except for those that are still encoded.
    let mut headers = pairs(&again);
    headers.extend(pairs(&done).into_iter().filter(|(_, value)| !value.contains("=?")));
    Ok(headers)
}

/// `prerequisite-patch-id: ID`, as `git format-patch --base` writes them.
fn prerequisites_in(text: &str) -> Vec<String> {
    let ids = text.lines().filter_map(|line| line.strip_prefix("prerequisite-patch-id:"));
    let is_id = |id: &&str| id.len() == 40 && id.bytes().all(|c| c.is_ascii_hexdigit());
    ids.map(str::trim).filter(is_id).map(str::to_owned).collect()
}

fn base_commit_in(text: &str) -> Option<String> {
    let commits = text.lines().filter_map(|line| line.strip_prefix("base-commit:"));
    commits
        .map(str::trim)
        .find(|id| id.len() >= 12 && id.bytes().all(|c| c.is_ascii_hexdigit()))
        .map(Into::into)
}
