// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the reason why a patch did not apply: wrong base, conflict, already applied, damaged.

use std::fs;
use std::path::Path;

use crate::diff::{FileDiff, Hunk, parse_diff, parse_stripped};
use crate::patch::failure;
use crate::patch::repo::{Repo, TAKEN_OUT};
use crate::series::{Patch, Series, git_says, title};
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::files::write_file;
use vmtest_host::process::Finished;

/// Most lines of a rejected hunk that an error shows.
const SHOWN_HUNK_LINES: usize = 20;

/// The diff of the failed patch, in the scratch repository.
const FAILED: &str = ".git/failed.patch";

/// A patch that made no commit. The repository is in the state where `git am` stopped.
pub(super) struct Failed<'a> {
    pub(super) repo: &'a Repo,
    pub(super) base_dir: &'a Path,
    pub(super) base_commit: Option<&'a str>,
    pub(super) series: &'a Series,
    /// Index of the patch, from 0.
    pub(super) at: usize,
    /// The output of `git am`.
    pub(super) am: &'a Finished,
}

impl Failed<'_> {
    pub(super) fn diagnose(&self) -> Error {
        let (Ok(error) | Err(error)) = self.diagnose_or_fail();
        match self.patch().stray.is_some() && error.class == Class::SeriesDoesNotApply {
            true => error.next("indent the diff that must not be applied, and recreate the mail"),
            false => error,
        }
    }

    fn patch(&self) -> &Patch {
        &self.series.patches[self.at]
    }

    fn error(&self, why: &str) -> Error {
        failure(self.series, self.at, why)
    }

    fn diagnose_or_fail(&self) -> Result<Error> {
        let (repo, patch, am) = (self.repo, self.patch(), self.am);
        if am.no_space().is_some() {
            return Ok(am.error("cannot apply the series"));
        }
        let decoded = repo.dir.join(if patch.reverse { TAKEN_OUT } else { ".git/rebase-apply/patch" });
        let Ok(bytes) = fs::read(&decoded) else {
            let why = format!("git cannot read it as a mail: {}", git_says(&am.tail));
            return Ok(self.error(&why).detail(am.tail.clone()));
        };
        write_file(&repo.dir.join(FAILED), &bytes)?;
        if !patch.reverse {
            // `--quit` instead of `--abort` keeps the patches before this one.
            repo.git(&["am", "--quit"])?;
        }
        repo.git(&["reset", "--hard", "--quiet"])?.ok("cannot look at the failed patch")?;
        let files = parse_stripped(&String::from_utf8_lossy(&bytes), patch.strip);
        if files.is_empty() {
            return Ok(self.error("not a patch: it has no diff"));
        }
        let checked = self.git_apply(&["--check"])?;
        if checked.success() {
            let why = format!("git rejects the mail although its diff applies: {}", git_says(&am.tail));
            return Ok(self.error(&why).detail(am.tail.clone()));
        }
        match self.known_cause(&bytes, &files, &checked)? {
            Some(error) => Ok(error),
            None => self.rejected_hunk(&files, checked),
        }
    }

    /// `git apply` of the failed patch, in its own direction.
    fn git_apply(&self, options: &[&str]) -> Result<Finished> {
        let strip = format!("-p{}", self.patch().strip);
        let mut args = vec!["apply", strip.as_str()];
        args.extend(options.iter().filter(|option| **option != "--reverse"));
        // Reversing a reversed patch means applying it.
        if self.patch().reverse != options.contains(&"--reverse") {
            args.push("--reverse");
        }
        args.push(FAILED);
        self.repo.git(&args)
    }

    /// A cause other than a wrong base or a conflict.
    fn known_cause(&self, diff: &[u8], files: &[FileDiff], checked: &Finished) -> Result<Option<Error>> {
        let (series, at) = (self.series, self.at);
        if let Some(error) = without_content(series, at, &checked.tail) {
            return Ok(Some(error));
        }
        if let Some(line) = checked.tail.iter().find(|line| is_damage(line)) {
            let line = line.trim_start_matches("error: ");
            let error = self.error(&format!("the diff is damaged: {line}")).detail(line_around(diff, line));
            return Ok(Some(error.next(
                "a mail program wrapped or cut it: take the series from `b4 am` or `git format-patch`",
            )));
        }
        if self.git_apply(&["--check", "--reverse"])?.success() {
            return Ok(Some(already_applied(series, at, files)));
        }
        if self.git_apply(&["--check", "--ignore-whitespace"])?.success() {
            let why = "the diff is damaged: it differs from the tree only in white space";
            return Ok(Some(self.error(why).next(
                "a mail program changed tabs or spaces: take the series from `b4 am` or `git format-patch`",
            )));
        }
        Ok(misplaced(self.base_dir, series, at, files))
    }

    /// Wrong base or conflict, with the first rejected hunk.
    fn rejected_hunk(&self, files: &[FileDiff], checked: Finished) -> Result<Error> {
        let (repo, patch) = (self.repo, self.patch());
        if patch.reverse {
            let why = format!("it cannot be reverted (`-R`): {}", git_says(&checked.tail));
            return Ok(self.error(&why).detail(checked.tail));
        }
        let strip = format!("-p{}", patch.strip);
        let rejected = repo.git_says(&["apply", "--reject", "--verbose", &strip, FAILED])?;
        let outcome = Outcome::read(files, &rejected, |path| {
            // `--reject` may have created this file, so check the state before it.
            repo.git(&["cat-file", "-e", &format!("HEAD:{path}")]).is_ok_and(|done| done.success())
        });
        let mut error = outcome.error(self.series, self.at, self.base_commit, git_says(&checked.tail));
        if error.detail.is_empty() {
            error = error.detail(checked.tail);
        }
        Ok(error)
    }
}

/// The error for a diff that says that a file changes, but not how.
fn without_content(series: &Series, at: usize, said: &[String]) -> Option<Error> {
    let find = |phrase: &str| said.iter().find(|line| line.contains(phrase));
    if let Some(line) = find("cannot apply binary patch") {
        let why = format!("the diff of a binary file has no data: {}", git_says(std::slice::from_ref(line)));
        return Some(
            failure(series, at, &why).next("recreate it with `git format-patch` or `git diff --binary`"),
        );
    }
    let line = find("removal patch leaves file contents")?;
    let file = said
        .iter()
        .filter_map(|line| line.strip_prefix("error: ")?.strip_suffix(": patch does not apply"))
        .next();
    let why = format!(
        "it deletes {} without its content: {}",
        file.unwrap_or("a file"),
        git_says(std::slice::from_ref(line))
    );
    Some(failure(series, at, &why).next("recreate it without -D (--irreversible-delete)"))
}

/// The error for a diff in which all paths have too many or too few directories for `-pN`.
fn misplaced(base_dir: &Path, series: &Series, at: usize, files: &[FileDiff]) -> Option<Error> {
    let strip = series.patches[at].strip;
    let there = |path: &str| !path.is_empty() && base_dir.join(path).is_file();
    // With one of git's prefixes, including those of `diff.mnemonicPrefix`, the path is right and the file is
    // just missing. Only files that already exist can be searched for.
    let usual = |full: &str| ["a/", "b/", "c/", "i/", "o/", "w/"].iter().any(|front| full.starts_with(front));
    let odd = |file: &&FileDiff| file.old.is_some() && (strip != 1 || !usual(&file.full));
    let first = files.iter().find(odd)?;
    let old = first.old.as_deref()?;
    let below = |full: &str, skip: usize| full.splitn(skip + 1, '/').nth(skip).unwrap_or_default().to_owned();
    let all_there = |skip: &usize| files.iter().filter(odd).all(|file| there(&below(&file.full, *skip)));
    let right =
        (0..first.full.split('/').count()).filter(|skip| *skip as u64 != u64::from(strip)).find(all_there)?;
    let why =
        format!("its paths do not start with a/ and b/: {} means {}", first.full, below(&first.full, right));
    let error =
        failure(series, at, &why).why(format!("with -p{strip} it is {old}, which is not in this tree"));
    Some(error.next(format!(
        "recreate it with `git format-patch --default-prefix`, or list it in a file `series` as `NAME -p{right}`"
    )))
}

/// git's messages about a diff with broken syntax.
fn is_damage(line: &str) -> bool {
    ["corrupt patch at", "patch fragment without header", "patch with only garbage", "No valid patches"]
        .iter()
        .any(|phrase| line.contains(phrase))
}

/// The line named in "corrupt patch at line N", with the lines around it.
fn line_around(diff: &[u8], said: &str) -> Vec<String> {
    let digits: String =
        said.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    let Some(number) = digits.parse::<usize>().ok() else { return Vec::new() };
    let text = String::from_utf8_lossy(diff);
    let lines = text.lines().enumerate().skip(number.saturating_sub(3)).take(4);
    lines.map(|(at, line)| format!("{:4} {line}", at + 1)).collect()
}

fn already_applied(series: &Series, at: usize, files: &[FileDiff]) -> Error {
    let mine = changes(files.to_vec());
    let twin = series.patches[..at].iter().position(|patch| changes(diff_of(patch)) == mine);
    if let Some(twin) = twin {
        let who = title(twin, series.of, &series.patches[twin]);
        return failure(series, at, &format!("already applied: {who} is the same change"))
            .next("remove one of the two");
    }
    failure(series, at, "already applied: the tree holds this change")
        .next("drop this patch, or use a base without it")
}

/// The diff of a mail; empty for an encoded mail, which then never matches another patch.
fn diff_of(patch: &Patch) -> Vec<FileDiff> {
    parse_diff(&String::from_utf8_lossy(&patch.raw))
}

/// A diff without its line numbers.
fn changes(mut files: Vec<FileDiff>) -> Vec<FileDiff> {
    for hunk in files.iter_mut().flat_map(|file| file.hunks.iter_mut()) {
        hunk.line = 0;
    }
    files
}

/// How much of a patch applies, from the output of `git apply --reject --verbose`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    hunks: usize,
    applied: usize,
    /// Files to change that do not exist.
    absent: Vec<String>,
    /// Files to create that exist.
    present: Vec<String>,
    /// First rejected hunk: file, number from 1, number of hunks of that file, the hunk.
    first: Option<(String, usize, usize, Hunk)>,
}

impl Outcome {
    fn read(files: &[FileDiff], said: &[String], is_there: impl Fn(&str) -> bool) -> Outcome {
        let mut outcome =
            Outcome { hunks: files.iter().map(|file| file.hunks.len()).sum(), ..Outcome::default() };
        for file in files {
            // A file that an earlier part of the same diff creates or moves here exists by then.
            let made =
                |path: &String| files.iter().any(|other| other.new.as_ref() == Some(path) && other != file);
            match (&file.old, &file.new) {
                (Some(old), _) if !is_there(old) && !made(old) => outcome.absent.push(old.clone()),
                (old, Some(new)) if Some(new) != old.as_ref() && is_there(new) => {
                    let removed =
                        files.iter().any(|other| other.old.as_ref() == Some(new) && other.new.is_none());
                    if !removed {
                        outcome.present.push(new.clone());
                    }
                }
                _ => (),
            }
        }
        let mut file: Option<&FileDiff> = None;
        for line in said {
            if let Some(named) =
                line.strip_prefix("Applying patch ").and_then(|rest| rest.split_once(" with "))
            {
                // A rename is shown as "old => new", shortened if they share directories.
                let is_it = |file: &&FileDiff| file.name() == named.0 || file.new.as_deref() == Some(named.0);
                file = files.iter().find(is_it).or_else(|| renamed(files, named.0));
            } else if let Some(name) =
                line.strip_prefix("Applied patch ").and_then(|rest| rest.strip_suffix(" cleanly."))
            {
                let is_it = |file: &&FileDiff| file.name() == name || file.new.as_deref() == Some(name);
                let found = files.iter().find(is_it).or_else(|| renamed(files, name));
                outcome.applied += found.map_or(0, |file| file.hunks.len());
            } else if line.starts_with("Hunk #") && line.ends_with(" applied cleanly.") {
                outcome.applied += 1;
            } else if let Some(number) = line.strip_prefix("Rejected hunk #") {
                let number: usize = number.trim_end_matches('.').parse().unwrap_or(1);
                if let (None, Some(file)) = (&outcome.first, file) {
                    let hunk = file.hunks.get(number.saturating_sub(1)).cloned().unwrap_or_default();
                    outcome.first = Some((file.name().to_owned(), number, file.hunks.len(), hunk));
                }
            }
        }
        outcome
    }

    /// The error for this outcome. `said` is git's reason.
    fn error(self, series: &Series, at: usize, base_commit: Option<&str>, said: &str) -> Error {
        let Outcome { hunks, applied, absent, present, first } = self;
        let place = first
            .as_ref()
            .map(|(file, number, of, hunk)| format!("{file} hunk {number} of {of} (line {})", hunk.line));
        let asked = series.base_commit.as_deref();
        let other_base =
            asked.zip(base_commit).filter(|(asked, is)| !is.starts_with(asked) && !asked.starts_with(is));
        let mut error = if let Some(path) = absent.first() {
            let more = match absent.len() {
                1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            failure(series, at, &format!("wrong base: {path} is not in this tree{more}"))
        } else if let Some(path) = present.first() {
            failure(
                series,
                at,
                &format!("conflict: it creates {path}, which already exists with other content"),
            )
        } else {
            let named = place.is_some();
            let place = place.unwrap_or_else(|| format!("git says: {said}"));
            match (applied, other_base) {
                _ if !named => failure(series, at, &place),
                (0, _) => failure(series, at, &format!("wrong base: no hunk of it applies, first {place}")),
                (_, Some(_)) => failure(series, at, &format!("wrong base: {place}")),
                (_, None) => failure(series, at, &format!("conflict: {place}")),
            }
        };
        if applied > 0 {
            error = error.why(format!("{applied} of its {hunks} hunks apply"));
        }
        if let Some((_, _, _, hunk)) = first {
            let more = hunk.body.len().saturating_sub(SHOWN_HUNK_LINES);
            error = error.detail(hunk.body.into_iter().take(SHOWN_HUNK_LINES));
            if more > 0 {
                error = error.detail([format!(".. {more} more lines")]);
            }
        }
        match (other_base, asked, base_commit) {
            (Some((asked, is)), ..) => error
                .why(format!("the series is made for commit {asked}, the tree is {is}"))
                .next(format!("use the series' own base, for example git:PATH@{asked}")),
            (None, Some(asked), None) => error
                .why(format!("the series is made for commit {asked}; the commit of this tree is unknown"))
                .next(format!(
                    "use the series' own base, for example git:PATH@{asked}, or rebase the series"
                )),
            _ => error.next("rebase the series onto this kernel, or choose the kernel that it was made for"),
        }
    }
}

/// Finds a rename. git shortens "dir/old.c => dir/new.c" to "dir/{old.c => new.c}".
pub(super) fn renamed<'a>(files: &'a [FileDiff], shown: &str) -> Option<&'a FileDiff> {
    let (old, new) = match (shown.split_once('{'), shown.split_once('}')) {
        (Some((before, _)), Some((_, after))) => {
            let (from, to) = shown[before.len() + 1..shown.len() - after.len() - 1].split_once(" => ")?;
            let join = |middle: &str| format!("{before}{middle}{after}").replace("//", "/");
            (join(from), join(to))
        }
        _ => shown.split_once(" => ").map(|(old, new)| (old.to_owned(), new.to_owned()))?,
    };
    files.iter().find(|file| file.old.as_ref() == Some(&old) && file.new.as_ref() == Some(&new))
}
