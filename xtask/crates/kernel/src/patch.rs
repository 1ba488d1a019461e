// SPDX-License-Identifier: MIT OR Apache-2.0
//! Applies a series with git in a scratch repository that holds only the touched files, and keeps the changes
//! as an overlay over the unmodified base tree. The user's repositories are never written.
//!
//! Success means that git made the right number of commits: its exit code says almost nothing (128 for a
//! conflict, for junk and for a dirty tree; 0 for a patch that was already applied). A failure is diagnosed
//! to give a specific reason.

mod diagnose;
mod repo;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::patch::diagnose::Failed;
use crate::patch::repo::{Repo, copy_with_links};
use crate::series::{Patch, Series, title};
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::files::{create_dir, read_text};
use vmtest_base::key::Key;
use vmtest_host::context::Context;
use vmtest_host::process::{Finished, Job};
use vmtest_host::store::CacheKind;

/// What a series changes in its base tree.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// The cache entry: `files/<path>` with the new content and mode, `changed` and `deleted` with one path
    /// per line.
    pub dir: PathBuf,
    /// Paths below `files`, sorted. Symlinks among them do not leave the tree.
    pub changed: Vec<String>,
    /// Deleted paths, sorted.
    pub deleted: Vec<String>,
    /// Origin of the series.
    pub origin: Option<Key>,
}

/// The tree that a series is applied to. It is only read.
#[derive(Debug)]
pub struct Base<'a> {
    pub dir: &'a Path,
    /// Hash of its content.
    pub key: &'a Key,
    /// Its commit, if known.
    pub commit: Option<&'a str>,
    /// Its origin: an untrusted repository may contain other data than its commit IDs promise.
    pub origin: Option<&'a Key>,
}

/// Applies `series` to the tree in `base`.
///
/// # Errors
/// [`Class::SeriesDoesNotApply`] with the patch, file, hunk and kind of failure.
pub fn apply(ctx: &Context, base: &Base<'_>, series: &Series) -> Result<(Key, Overlay)> {
    let key = Key::of("overlay-2").field("base", base.key.as_str()).field("series", series.key().as_str());
    let key = key.finish();
    let entry = match base.origin {
        Some(whose) => {
            Key::of("overlay 2").field("overlay", key.as_str()).field("whose", whose.as_str()).finish()
        }
        None => key.clone(),
    };
    let phase = ctx.bus.phase("patch", &series.name);
    let (dir, cached) = ctx.cache.get_or_make(&ctx.bus, CacheKind::Overlay, entry.as_str(), |dir| {
        ctx.cache.verify(&ctx.bus, base.dir)?;
        let scratch = ctx.cache.scratch()?;
        make_overlay(scratch.path(), dir, base.dir, base.commit, series)
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

/// Does the work of [`apply`] in `scratch`; the result goes into `out`.
fn make_overlay(
    scratch: &Path,
    out: &Path,
    base_dir: &Path,
    base_commit: Option<&str>,
    series: &Series,
) -> Result<()> {
    // Blob IDs are compared with those of a commit, so they must use the same hash function.
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

    refuse_bare(base_dir, series)?;
    let commits = series.patches.iter().take_while(|patch| patch.exact.is_some()).count();
    apply_commits(&repo, series, commits)?;
    if commits == series.patches.len() {
        return repo.keep_changes(base_dir, out, &touched);
    }
    let mails = scratch.join("mails");
    create_dir(&mails)?;
    let done = apply_mails(&repo, series, commits, &mails)?;
    check_commits(&repo, base_dir, base_commit, series, &done)?;
    repo.keep_changes(base_dir, out, &touched)
}

/// Applies the mails, which are the patches from index `begin` on, until one fails.
fn apply_mails(repo: &Repo, series: &Series, begin: usize, mails: &Path) -> Result<Finished> {
    let mut done = None;
    let alike = |one: &Patch, other: &Patch| one.strip == other.strip && !one.reverse && !other.reverse;
    let mut at = begin;
    for group in series.patches[begin..].chunk_by(alike) {
        let mut files = Vec::new();
        for patch in group {
            at += 1;
            let mail = mails.join(format!("{at:06}"));
            fs::write(&mail, &patch.raw).on("cannot write", &mail)?;
            files.push(mail);
        }
        let ended = match group {
            [patch] if patch.reverse => repo.take_out(&files[0], patch)?,
            _ => repo.am(&files, group[0].strip)?,
        };
        let success = ended.success();
        done = Some(ended);
        if !success {
            break;
        }
    }
    done.ok_or_else(|| Error::usage("the series has no patch"))
}

/// Checks that each patch made a commit with a change, whatever git's exit code is.
fn check_commits(
    repo: &Repo,
    base_dir: &Path,
    base_commit: Option<&str>,
    series: &Series,
    done: &Finished,
) -> Result<()> {
    let trees = repo.git(&["log", "--reverse", "--format=%T", "HEAD"])?.ok("cannot count commits")?.stdout;
    let trees: Vec<&str> = trees.lines().collect();
    if let Some(at) = trees.windows(2).position(|pair| pair[0] == pair[1]) {
        return Err(failure(series, at, "it changes nothing")
            .next("drop it from the series, or check whether part of it was lost"));
    }
    let (made, of) = (trees.len().saturating_sub(1), series.patches.len());
    if made < of || !done.success() {
        let failed = Failed { repo, base_dir, base_commit, series, at: made.min(of - 1), am: done };
        return Err(failed.diagnose());
    }
    if made > of {
        let what =
            format!("the series {} does not apply: git made {made} commits of {of} patches", series.name);
        return Err(Error::new(Class::SeriesDoesNotApply, what)
            .why("one of its files holds more mails than were read")
            .next("put each patch in its own file"));
    }
    Ok(())
}

/// Refuses diffs without a/ and b/ that git would apply in a wrong place.
fn refuse_bare(base_dir: &Path, series: &Series) -> Result<()> {
    for (at, patch) in series.patches.iter().enumerate() {
        if let Some(path) = patch.bare.iter().find(|path| is_bare(base_dir, patch.strip, path)) {
            let why = format!("its diff has no a/ and b/ prefixes: {path}");
            return Err(failure(series, at, &why).why("git strips the first directory of each path").next(
                "recreate it with `git format-patch --default-prefix`, or `git -c diff.noprefix=false ..`; \
                 or list it in a file `series` as `NAME -p0`",
            ));
        }
    }
    Ok(())
}

/// Whether this path, which is the same before and after, is relative to the tree without any prefix: git
/// would strip its first directory and look for the rest, or create a new file in a wrong place.
fn is_bare(base_dir: &Path, strip: u32, path: &str) -> bool {
    strip == 1
        && match path.split_once('/') {
            Some((first, _)) => first != "." && base_dir.join(first).is_dir(),
            None => base_dir.join(path).symlink_metadata().is_ok(),
        }
}

/// Applies the first patches of a series, which are the commits of a range. Uses git's diffs, because a mail
/// loses line endings, and its message can contain a diff that is not part of the commit. The result is
/// compared with the last commit.
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

fn failure(series: &Series, at: usize, why: &str) -> Error {
    let patch = &series.patches[at];
    let who = title(at, series.of, patch);
    let error = |why: &str| Error::new(Class::SeriesDoesNotApply, format!("{who} does not apply: {why}"));
    match &patch.stray {
        // A reader of the mail would see only the other diff.
        Some(stray) => error(&format!("{stray}, and git applies that as well; {why}")),
        None if patch.flowed => error(why).why("the mail says format=flowed: lines may have been joined"),
        None => error(why),
    }
}

#[cfg(test)]
mod tests;
