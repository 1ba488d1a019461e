// SPDX-License-Identifier: MIT OR Apache-2.0
//! Applies a series with git in a scratch repository that holds only the files which the series touches, and keeps
//! what it changed as an overlay over the untouched base tree. The user's repositories are never written.
//!
//! Success is the number of commits made: git's exit code says almost nothing (128 for a conflict, for junk and for a
//! dirty tree; 0 for a patch that was there already). A failure is diagnosed until it has a name.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use super::series::{FileDiff, Hunk, Patch, Series, neutral_git, parse_diff, title};
use crate::context::Context;
use crate::error::{Class, Error, IoContext, Result};
use crate::proc::{Finished, Job};
use crate::workdir::{Key, create_dir, read_text, write_file};

/// Lines of a rejected hunk that an error shows.
const SHOWN_HUNK_LINES: usize = 20;

/// What a series changes in its base tree.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// The cache entry: `files/<path>` with the new content and mode, `changed` and `deleted` with one path a line.
    pub dir: PathBuf,
    /// Paths below `files`, sorted; symbolic links among them stay inside the tree.
    pub changed: Vec<String>,
    /// Paths that are gone, sorted.
    pub deleted: Vec<String>,
    /// That of the series.
    pub origin: Option<Key>,
}

/// Applies `series` to the tree in `base_dir`, which is only read. `base_commit` is the commit that the tree is known
/// to be; `None` where it is not.
///
/// # Errors
/// [`Class::SeriesDoesNotApply`] with the patch, file and hunk, and what kind of failure it is.
pub fn apply(
    ctx: &Context,
    base_dir: &Path,
    base_key: &Key,
    base_commit: Option<&str>,
    series: &Series,
) -> Result<(Key, Overlay)> {
    let key = Key::of("overlay-1").field("base", base_key.as_str()).field("series", series.key().as_str());
    let key = key.finish();
    let phase = ctx.bus.phase("patch", &series.name);
    let (dir, cached) = ctx.cache.get_or_make(&ctx.bus, "overlay", key.as_str(), |dir| {
        let scratch = ctx.cache.scratch()?;
        make_overlay(scratch.path(), dir, base_dir, base_commit, series)
    })?;
    if cached {
        phase.cached()
    } else {
        phase.finish()
    }
    let list = |name: &str| -> Result<Vec<String>> {
        Ok(read_text(&dir.join(name))?.lines().map(str::to_owned).collect())
    };
    let (changed, deleted) = (list("changed")?, list("deleted")?);
    Ok((key, Overlay { dir, changed, deleted, origin: series.origin.clone() }))
}

/// Does the work of [`apply`] in `scratch`; what is to be kept goes into `out`.
fn make_overlay(
    scratch: &Path,
    out: &Path,
    base_dir: &Path,
    base_commit: Option<&str>,
    series: &Series,
) -> Result<()> {
    // Names of contents are compared with those of a commit, so they must be made in the same way.
    let ids = series.patches.iter().find_map(|patch| patch.exact.as_deref()?.split(' ').nth(2));
    let format = if ids.is_some_and(|id| id.len() == 64) { "sha256" } else { "sha1" };
    let repo = Repo::create(&scratch.join("repo"), format)?;
    let touched: BTreeSet<&str> =
        series.patches.iter().flat_map(|patch| patch.touches.iter().map(String::as_str)).collect();
    for path in &touched {
        copy_with_links(base_dir, &repo.dir, path)?;
    }
    repo.git(&["add", "--force", "--all", "."])?.ok("cannot record the base files")?;
    repo.git(&["commit", "--quiet", "--allow-empty", "--no-verify", "--message=base"])?
        .ok("cannot record the base files")?;
    repo.git(&["tag", "base"])?.ok("cannot mark the base files")?;

    let mails = scratch.join("mails");
    create_dir(&mails)?;
    let commits = series.patches.iter().take_while(|patch| patch.exact.is_some()).count();
    apply_commits(&repo, series, commits)?;
    let mut am: Vec<String> = AM.map(str::to_owned).into();
    for (at, patch) in series.patches.iter().enumerate().skip(commits) {
        let mail = mails.join(format!("{:06}", at + 1));
        fs::write(&mail, &patch.raw).on("cannot write", &mail)?;
        am.push(mail.to_string_lossy().into_owned());
    }
    if commits == series.patches.len() {
        return repo.keep_changes(out, &touched);
    }
    let done = repo.git(&am.iter().map(String::as_str).collect::<Vec<_>>())?;
    let trees = repo.git(&["log", "--reverse", "--format=%T", "HEAD"])?.ok("cannot count commits")?.stdout;
    let trees: Vec<&str> = trees.lines().collect();
    // Whatever git's exit code is: each patch must have made a commit that changes something.
    if let Some(at) = trees.windows(2).position(|pair| pair[0] == pair[1]) {
        return Err(failure(series, at, "it changes nothing")
            .next("drop it from the series, or look for what was lost on its way"));
    }
    let made = trees.len().saturating_sub(1);
    if made < series.patches.len() || !done.success() {
        let at = made.min(series.patches.len() - 1);
        return Err(diagnose(&repo, base_commit, series, at, &done));
    }
    repo.keep_changes(out, &touched)
}

/// Applies the first patches of a series, which are the commits of a range: as the diffs that git made of them, since a
/// mail loses things (ends of lines) and finds things that are not in the commit (a diff in its message). What comes
/// out is compared with the last commit.
fn apply_commits(repo: &Repo, series: &Series, count: usize) -> Result<()> {
    for (at, patch) in series.patches[..count].iter().enumerate() {
        let apply = repo.command(&["apply", "--index", "--binary", "--whitespace=nowarn", "-"]);
        let done = Job::new(apply).input(patch.exact_diff()).run()?;
        if !done.success() {
            return Err(failure(series, at, "git cannot apply the diff of this commit to its own parent")
                .detail(done.tail));
        }
        repo.git(&["commit", "--quiet", "--no-verify", "--message=a commit of the range"])?
            .ok("cannot record a commit of the range")?;
    }
    let Some(expected) = count.checked_sub(1).and_then(|last| series.patches[last].exact.as_deref()) else {
        return Ok(());
    };
    let diff = ["diff-tree", "-r", "--raw", "--no-renames", "--no-abbrev", "base", "HEAD"];
    let made = repo.git(&diff)?.ok("cannot list what the range changes")?.stdout;
    if made == expected {
        return Ok(());
    }
    let differs = made.lines().find(|line| !expected.lines().any(|other| other == *line));
    let lost = || expected.lines().find(|line| !made.lines().any(|other| other == *line));
    let line = differs.or_else(lost).unwrap_or_default();
    Err(failure(series, count - 1, "the result is not the tree of that commit")
        .why(format!("they differ in {}", line.split('\t').next_back().unwrap_or_default()))
        .next("test the commit itself: git:PATH@REV"))
}

/// No third way: it hides a patch that was applied already, and needs blobs that the scratch repository lacks.
const AM: [&str; 8] = [
    "am",
    "--quiet",
    "--no-3way",
    "--no-gpg-sign",
    "--keep-non-patch",
    "--quoted-cr=strip",
    "--patch-format=mbox",
    "--committer-date-is-author-date",
];

/// The scratch repository.
struct Repo {
    dir: PathBuf,
}

impl Repo {
    fn create(dir: &Path, format: &str) -> Result<Repo> {
        create_dir(dir)?;
        let repo = Repo { dir: dir.to_owned() };
        // An empty template: no hooks, and none of the host's.
        let format = format!("--object-format={format}");
        repo.git(&["init", "--quiet", "--template=", "--initial-branch=series", &format])?
            .ok("cannot make a scratch repository")?;
        create_dir(&dir.join(".git/info"))?;
        // A tree's or a series' own attributes must not change a byte on the way through git.
        write_file(
            &dir.join(".git/info/attributes"),
            "* -text !eol !filter !ident !working-tree-encoding\n",
        )?;
        Ok(repo)
    }

    fn git(&self, args: &[&str]) -> Result<Finished> {
        Job::new(self.command(args)).run()
    }

    /// Every line that git says, however many: [`Finished`] keeps only the last ones.
    fn git_says(&self, args: &[&str]) -> Result<Vec<String>> {
        let mut said = Vec::new();
        Job::new(self.command(args)).on_line(|_, line| said.push(line.to_owned())).run()?;
        Ok(said)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = neutral_git(&self.dir);
        for who in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{who}_NAME"), "vmtest")
                .env(format!("GIT_{who}_EMAIL"), "vmtest@localhost")
                .env(format!("GIT_{who}_DATE"), "1700000000 +0000");
        }
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.args(args);
        command
    }

    /// Copies what differs from the base into `out`.
    fn keep_changes(&self, out: &Path, touched: &BTreeSet<&str>) -> Result<()> {
        let diff = ["diff", "--raw", "--no-renames", "--no-abbrev", "base", "HEAD"];
        let diff = self.git(&diff)?.ok("cannot list what the series changes")?.stdout;
        let (mut changed, mut deleted) = (Vec::new(), Vec::new());
        create_dir(&out.join("files"))?;
        for line in diff.lines() {
            // :100644 100755 OLD NEW M<tab>path
            let Some((fields, path)) = line.split_once('\t') else { continue };
            if !touched.contains(path) {
                return Err(Error::host(format!("cannot keep the change of {path:?}"))
                    .why("git changed a file that the reader of diffs did not see"));
            }
            let mode = fields.split(' ').nth(1).unwrap_or_default();
            let (from, to) = (self.dir.join(path), out.join("files").join(path));
            if let (Some(parent), false) = (to.parent(), mode == "000000") {
                create_dir(parent)?;
            }
            match mode {
                "000000" => {
                    deleted.push(path.to_owned());
                    continue;
                }
                "100644" | "100755" => {
                    fs::copy(&from, &to).on("cannot copy", &from)?;
                    let bits = if mode == "100755" { 0o755 } else { 0o644 };
                    fs::set_permissions(&to, fs::Permissions::from_mode(bits))
                        .on("cannot set the mode of", &to)?;
                }
                "120000" => {
                    let target = fs::read_link(&from).on("cannot read the link", &from)?;
                    if !link_stays_inside(path, &target) {
                        let what = format!("the series is refused: its link {path} leads out of the tree");
                        return Err(Error::new(Class::SeriesDoesNotApply, what).why(target.display()));
                    }
                    symlink(&target, &to).on("cannot link", &to)?;
                }
                other => {
                    let what = format!("the series is refused: {path} has mode {other}, which is no file");
                    return Err(Error::new(Class::SeriesDoesNotApply, what));
                }
            }
            changed.push(path.to_owned());
        }
        let lines = |paths: &[String]| paths.iter().map(|path| format!("{path}\n")).collect::<String>();
        write_file(&out.join("changed"), lines(&changed))?;
        write_file(&out.join("deleted"), lines(&deleted))
    }
}

/// Nothing of the host's, and nothing that takes time.
const SETTINGS: [&str; 11] = [
    "core.hooksPath=/dev/null",
    "core.autocrlf=false",
    "core.fileMode=true",
    "core.symlinks=true",
    "core.quotePath=false",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "commit.gpgSign=false",
    "apply.whitespace=nowarn",
    "gc.auto=0",
    "maintenance.auto=false",
];

/// Copies one path; a symbolic link on the way to it is copied as a link, so that git sees what it is.
fn copy_with_links(from_dir: &Path, to_dir: &Path, path: &str) -> Result<()> {
    let (mut from, mut to) = (from_dir.to_owned(), to_dir.to_owned());
    for part in path.split('/') {
        from.push(part);
        to.push(part);
        // What is absent in the base is git's to complain about.
        let Ok(meta) = from.symlink_metadata() else { return Ok(()) };
        if meta.is_symlink() {
            if to.symlink_metadata().is_err() {
                let target = fs::read_link(&from).on("cannot read the link", &from)?;
                symlink(target, &to).on("cannot link", &to)?;
            }
            return Ok(());
        }
        if meta.is_dir() {
            create_dir(&to)?;
        } else {
            fs::copy(&from, &to).on("cannot copy", &from)?;
            let bits = if meta.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            fs::set_permissions(&to, fs::Permissions::from_mode(bits)).on("cannot set the mode of", &to)?;
            return Ok(());
        }
    }
    Ok(())
}

fn link_stays_inside(link: &str, target: &Path) -> bool {
    let mut depth = link.split('/').count() - 1;
    target.components().all(|part| match part {
        Component::ParentDir if depth == 0 => false,
        Component::ParentDir => {
            depth -= 1;
            true
        }
        Component::Normal(_) => {
            depth += 1;
            true
        }
        Component::CurDir => true,
        Component::RootDir | Component::Prefix(_) => false,
    })
}

fn failure(series: &Series, at: usize, why: &str) -> Error {
    let who = title(at, series.of, &series.patches[at]);
    Error::new(Class::SeriesDoesNotApply, format!("{who} does not apply: {why}"))
}

/// Finds out why patch `at` made no commit. The repository is where `git am` stopped.
fn diagnose(repo: &Repo, base_commit: Option<&str>, series: &Series, at: usize, am: &Finished) -> Error {
    match diagnose_or_fail(repo, base_commit, series, at, am) {
        Ok(error) | Err(error) => error,
    }
}

fn diagnose_or_fail(
    repo: &Repo,
    base_commit: Option<&str>,
    series: &Series,
    at: usize,
    am: &Finished,
) -> Result<Error> {
    let decoded = repo.dir.join(".git/rebase-apply/patch");
    let Ok(bytes) = fs::read(&decoded) else {
        return Ok(failure(series, at, "git cannot read it as a mail").detail(am.tail.clone()));
    };
    let diff_file = repo.dir.join(".git/failed.patch");
    write_file(&diff_file, &bytes)?;
    // `--quit` and not `--abort`: the patches before this one stay applied.
    repo.git(&["am", "--quit"])?;
    repo.git(&["reset", "--hard", "--quiet"])?.ok("cannot look at the failed patch")?;
    let git_apply = |options: &[&str]| -> Result<Finished> {
        let mut args = vec!["apply"];
        args.extend(options);
        args.push(".git/failed.patch");
        repo.git(&args)
    };
    let files = parse_diff(&String::from_utf8_lossy(&bytes));
    if files.is_empty() {
        return Ok(failure(series, at, "not a patch: no diff is in it"));
    }
    let checked = git_apply(&["--check"])?;
    if checked.success() {
        return Ok(
            failure(series, at, "git refuses the mail although its diff applies").detail(am.tail.clone())
        );
    }
    if let Some(line) = checked.tail.iter().find(|line| is_damage(line)) {
        let line = line.trim_start_matches("error: ");
        return Ok(failure(series, at, &format!("the diff is damaged: {line}"))
            .detail(line_around(&bytes, line))
            .next("a mail program wrapped or cut it: take the series from `b4 am` or `git format-patch`"));
    }
    if git_apply(&["--check", "--reverse"])?.success() {
        return Ok(already_applied(series, at, &files));
    }
    if git_apply(&["--check", "--ignore-whitespace"])?.success() {
        let why = "the diff is damaged: it differs from the tree only in white space";
        return Ok(failure(series, at, why).next(
            "a mail program changed tabs or spaces: take the series from `b4 am` or `git format-patch`",
        ));
    }
    let rejected = repo.git_says(&["apply", "--reject", "--verbose", ".git/failed.patch"])?;
    let outcome = Outcome::read(&files, &rejected, |path| {
        // `--reject` may have made a new file of this name; what counts is what was there before.
        repo.git(&["cat-file", "-e", &format!("HEAD:{path}")]).is_ok_and(|done| done.success())
    });
    let mut error = outcome.error(series, at, base_commit);
    if error.detail.is_empty() {
        error = error.detail(checked.tail);
    }
    Ok(error)
}

/// What git says of a diff whose syntax is broken.
fn is_damage(line: &str) -> bool {
    ["corrupt patch at", "patch fragment without header", "patch with only garbage", "No valid patches"]
        .iter()
        .any(|phrase| line.contains(phrase))
}

/// The line that "corrupt patch at line N" speaks of, with its neighbours.
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
        .next("leave this patch out, or take a base without it")
}

/// The diff of a mail; one that is not plain text has none, and is simply no twin.
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

/// What of a patch applies, as `git apply --reject --verbose` says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    hunks: usize,
    applied: usize,
    /// Files to change that are not there.
    absent: Vec<String>,
    /// Files to make that are there.
    present: Vec<String>,
    /// First rejected hunk: file, number from 1, hunks of the file, the hunk.
    first: Option<(String, usize, usize, Hunk)>,
}

impl Outcome {
    fn read(files: &[FileDiff], said: &[String], is_there: impl Fn(&str) -> bool) -> Outcome {
        let mut outcome =
            Outcome { hunks: files.iter().map(|file| file.hunks.len()).sum(), ..Outcome::default() };
        for file in files {
            // A file that an earlier part of the same diff makes, or moves here, is there by then.
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
                // A rename is shown as "old => new", shortened where they share directories.
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

    /// The one message.
    fn error(self, series: &Series, at: usize, base_commit: Option<&str>) -> Error {
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
            failure(series, at, &format!("conflict: it makes {path}, which is there with other content"))
        } else {
            let place = place.unwrap_or_else(|| "git names no hunk".to_owned());
            match (applied, other_base) {
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
                .why(format!(
                    "the series is made for commit {asked}; which commit this tree is, nobody knows"
                ))
                .next(format!(
                    "use the series' own base, for example git:PATH@{asked}, or rebase the series"
                )),
            _ => error.next("rebase the series onto this kernel, or choose the kernel that it was made for"),
        }
    }
}

/// Git shortens "dir/old.c => dir/new.c" to "dir/{old.c => new.c}".
fn renamed<'a>(files: &'a [FileDiff], shown: &str) -> Option<&'a FileDiff> {
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

#[cfg(test)]
mod tests;
