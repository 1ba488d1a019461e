// SPDX-License-Identifier: MIT OR Apache-2.0
//! `git:PATH@REV` and `git:PATH@A..B`. The user's repository is only read, and git never sees its
//! configuration, which may be untrusted and can name commands: see [`place`]. A bare repository in the cache
//! borrows its objects, and everything that writes (an index, a checkout) happens there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::source::git::place::{Desk, LOOK_UP, Place, WALK, alternate, is_id, run};
use crate::source::tarball::succeeded;
use crate::source::{Choice, Fetched, MAX_FILE, MAX_TREE, Resolved, SourceTree, kernel_version, short_name};
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::files::{create_dir, read_text, write_file};
use vmtest_base::interrupt;
use vmtest_base::key::Key;
use vmtest_base::similar;
use vmtest_host::clean_env;
use vmtest_host::context::Context;
use vmtest_host::process::{Finished, Job};
use vmtest_host::store::{Cache, CacheKind, SEAL, remove_tree};

pub(super) mod place;
mod range;
mod refs;

pub(crate) use range::Range;

/// Leaves file contents as they were committed: the tree's own attributes must not change any byte.
const ATTRIBUTES: &str = "* -text !eol !filter !ident !working-tree-encoding\n";

/// A git command on the repository in the cache.
fn ours(clone: &Path) -> Command {
    let mut command = clean_env::git(clone);
    command.arg("--git-dir").arg(clone);
    command
}

/// The user's repository.
pub(super) struct Repo {
    /// The absolute path that the user named.
    path: PathBuf,
    place: Place,
    lineage: Key,
    cache: Cache,
    desk: Desk,
}

impl Repo {
    pub(super) fn open(cache: &Cache, path: &Path) -> Result<Repo> {
        let no = |why: String| {
            Error::usage(format!("{} is not a git repository", path.display()))
                .why(why)
                .next("name the repository of a kernel; a tree without one is tree:PATH")
        };
        let path = path.canonicalize().map_err(|error| no(error.to_string()))?;
        if path.as_os_str().as_encoded_bytes().contains(&b'\n') {
            return Err(no("its path contains a newline".to_owned()).next("use a path without one"));
        }
        if !path.is_dir() {
            return Err(no("it is not a directory".to_owned()));
        }
        let place = Place::find(cache, &path)?.map_err(no)?;
        // The common directory, so that linked worktrees of one repository share their objects.
        let common = place.common.as_os_str().as_encoded_bytes();
        let lineage = Key::of("git lineage 1").field("repository", common).finish();
        let desk = place.desk(cache)?;
        Ok(Repo { path, place, lineage, cache: cache.clone(), desk })
    }

    pub(super) fn commit(&self, rev: &str) -> Result<String> {
        let wanted = format!("{rev}^{{commit}}");
        let words = ["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted];
        let said = if is_id(rev) {
            self.desk.ask(&words)?
        } else {
            self.place.desk_with_refs(&self.cache, rev.contains("@{"))?.ask(&words)?
        };
        said.map_err(|said| {
            let next =
                "`git rev-parse --verify REV` must print one there; if it is elsewhere, fetch it first";
            let error = Error::usage(format!("`{rev}` is not a commit in {}", self.path.display()))
                .next(similar::or(rev, self.names(), next));
            if said.is_empty() { error } else { error.why(said) }
        })
    }

    /// The branch that is checked out; `None` if HEAD is detached.
    pub(super) fn branch(&self) -> Option<String> {
        let desk = self.place.desk_with_refs(&self.cache, false).ok()?;
        desk.ask(&["symbolic-ref", "--quiet", "--short", "HEAD"]).ok()?.ok()
    }

    /// Names of branches and tags; empty if they cannot be read.
    fn names(&self) -> Vec<String> {
        let words = ["for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", "refs/tags"];
        let listed = self.place.desk_with_refs(&self.cache, false).and_then(|desk| desk.ask(&words));
        listed.ok().and_then(|said| said.ok()).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn subject(&self, commit: &str) -> String {
        let asked = self.desk.ask(&["log", "-1", "--format=%s", "--no-show-signature", commit]);
        asked.ok().and_then(std::result::Result::ok).unwrap_or_default()
    }

    /// The repository in the cache that borrows this one's objects. Nothing is copied, so later commits are
    /// visible there at once.
    fn clone_in_cache(&self, ctx: &Context) -> Result<PathBuf> {
        let (clone, _) = ctx.cache.get_or_make(&ctx.bus, CacheKind::Git, self.lineage.as_str(), |dir| {
            let mut command = clean_env::git(dir);
            command.args(["init", "--quiet", "--bare", "--template="]);
            command.arg(format!("--object-format={}", self.place.format)).arg(dir);
            run(Job::new(command), LOOK_UP)?.ok("cannot make a repository in the cache")?;
            for below in ["objects/info", "info"] {
                create_dir(&dir.join(below))?;
            }
            let alternates = dir.join("objects/info/alternates");
            fs::write(&alternates, alternate(&self.place.objects)).on("cannot write", &alternates)
        })?;
        // Entries of earlier versions do not have the file.
        let attributes = clone.join("info/attributes");
        if read_text(&attributes).ok().as_deref() != Some(ATTRIBUTES) {
            create_dir(&clone.join("info"))?;
            write_file(&attributes, ATTRIBUTES)?;
        }
        // A shallow repository lists the commits without parents here.
        match self.place.shallow()? {
            Some(shallow) => write_file(&clone.join("shallow"), shallow)?,
            None => drop(fs::remove_file(clone.join("shallow"))),
        }
        Ok(clone)
    }

    fn id(&self, commit: &str) -> String {
        let name = short_name(&self.path);
        format!("git:{}@{}", name.trim_end_matches(".git"), &commit[..12.min(commit.len())])
    }

    /// The content of a commit in the cache.
    fn source(&self, ctx: &Context, commit: &str) -> Result<SourceTree> {
        let id = self.id(commit);
        let clone = self.clone_in_cache(ctx)?;
        let (dir, cached) =
            ctx.cache.get_or_make(&ctx.bus, CacheKind::Source, &entry(&self.lineage, commit), |dir| {
                let phase = ctx.bus.phase("checkout", &id);
                check_out(ctx, &clone, &self.lineage, commit, dir)
                    .map_err(|error| self.absent_objects(error))?;
                if kernel_version(dir).is_none() {
                    return Err(Error::usage(format!("{id} is not a kernel")).why(
                        "that commit has no Makefile with VERSION and PATCHLEVEL in its top directory",
                    ));
                }
                phase.finish();
                Ok(())
            })?;
        if !cached {
            write_file(&clone.join("vmtest-last"), commit)?;
        }
        Ok(SourceTree {
            id,
            dir,
            key: Key::of("source commit 1").field("commit", commit).finish(),
            lineage: self.lineage.clone(),
            origin: Some(crate::source::origin(&self.path)),
            base_commit: Some(commit.to_owned()),
        })
    }

    /// In a partial clone, git would fetch missing objects with a command that the repository names. Here it
    /// does not.
    fn absent_objects(&self, error: Error) -> Error {
        if !self.place.is_partial() || error.next.is_some() {
            return error;
        }
        error.why("it is a partial clone, and some of its objects were never fetched").next(format!(
            "the harness fetches nothing; `git -C {} checkout REV` gets the objects of a commit",
            self.path.display()
        ))
    }
}

/// The error if one of these is not a commit in the repository at `path`; `None` if all of them are.
pub(crate) fn unknown_commit(ctx: &Context, path: &Path, revs: &[&String]) -> Result<Option<Error>> {
    let looked = Repo::open(&ctx.cache, path)
        .and_then(|repo| revs.iter().try_for_each(|rev| repo.commit(rev).map(drop)));
    match looked {
        Ok(()) => Ok(None),
        Err(error) if error.class == Class::Usage => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

/// Name of a cache entry. Includes the repository: another one may have a forged object under the same commit
/// ID.
fn entry(lineage: &Key, commit: &str) -> String {
    format!("git-{commit}-{lineage}")
}

/// Fills `dir` with a commit. A bisection visits dozens of commits of one repository, so the files of the
/// previous one are hard-linked and only the differences are written: 2 s and some directories instead of 1.6
/// GB.
fn check_out(ctx: &Context, clone: &Path, lineage: &Key, commit: &str, dir: &Path) -> Result<()> {
    let scratch = ctx.cache.scratch()?;
    let index = scratch.path().join("index");
    let git = || {
        let mut command = ours(clone);
        command.env("GIT_INDEX_FILE", &index).arg("--work-tree").arg(dir).current_dir(dir);
        command
    };
    let ask = |command: Command, what: &str| {
        let what = format!("cannot {what} {commit}");
        succeeded(run(Job::new(command), WALK)?, what)
    };
    let mut sizes = git();
    sizes.args(["ls-tree", "-r", "--long", "--full-tree", commit]);
    if let Some(why) = too_large(&ask(sizes, "list the files of")?.stdout) {
        return Err(Error::usage(format!("{commit} is too large for a kernel")).why(why));
    }
    let mut read = git();
    read.args(["read-tree", commit]);
    ask(read, "read the tree of")?;
    interrupt::check()?;
    let previous = read_text(&clone.join("vmtest-last")).ok();
    let neighbour =
        previous.and_then(|old| Some((ctx.cache.get(CacheKind::Source, &entry(lineage, &old))?, old)));
    // Damaged files would be linked into the new entry.
    let neighbour = neighbour.filter(|(dir, _)| ctx.cache.verify(&ctx.bus, dir).is_ok());
    let neighbour = neighbour.and_then(|(dir, old)| {
        let mut diff = git();
        diff.args(["diff-tree", "-r", "--no-renames", "--name-status", &old, commit]);
        // Fails if the old commit is gone: it was garbage-collected, or the path is another repository now.
        let changes = ask(diff, "compare with").ok()?.stdout;
        (changes.len() + (1 << 20) <= vmtest_host::process::MAX_OUTPUT).then_some((dir, changes))
    });
    interrupt::check()?;
    let Some((old_dir, changes)) = neighbour else {
        let mut all = git();
        all.args(["checkout-index", "--all", "--force"]);
        ask(all, "check out")?;
        return Ok(());
    };
    let mut link = clean_env::command("cp");
    link.args(["--archive", "--link", "--no-target-directory"]).arg(&old_dir).arg(dir);
    succeeded(Job::new(link).run()?, format!("cannot link {}", old_dir.display()))?;
    // The seal of the previous entry.
    let _ = fs::remove_file(dir.join(SEAL));
    interrupt::check()?;
    // core.quotePath makes git quote unusual names, so each fits on one line; checkout-index --stdin accepts
    // that.
    let wanted = remove_changed(dir, &changes)?;
    let mut some = git();
    some.args(["checkout-index", "--force", "--stdin"]);
    let done = run(Job::new(some).input(wanted), WALK)?;
    succeeded(done, format!("cannot check out {commit}"))?;
    Ok(())
}

/// Removes the files that `git diff-tree --name-status` lists. Returns the names of those to write again, one
/// per line.
fn remove_changed(dir: &Path, changes: &str) -> Result<String> {
    let changes: Vec<(&str, &str)> = changes.lines().filter_map(|line| line.split_once('\t')).collect();
    // Deleted paths first: a directory may have been replaced by a file, or a symlink by a directory.
    for (_, name) in changes.iter().filter(|(status, _)| *status == "D") {
        remove(dir, &dir.join(unquote(name)))?;
    }
    let mut wanted = String::new();
    for (_, name) in changes.iter().filter(|(status, _)| *status != "D") {
        remove(dir, &dir.join(unquote(name)))?;
        wanted.push_str(name);
        wanted.push('\n');
    }
    Ok(wanted)
}

/// Why a listing by `ls-tree --long` is too large for a kernel: a few kilobytes of objects can expand to
/// terabytes.
fn too_large(listing: &str) -> Option<String> {
    if listing.len() + (1 << 20) > vmtest_host::process::MAX_OUTPUT {
        return Some("it has too many files".to_owned());
    }
    let mut total = 0_u64;
    for (fields, path) in listing.lines().filter_map(|line| line.split_once('\t')) {
        let size = fields.rsplit(' ').next().and_then(|size| size.parse().ok()).unwrap_or(0_u64);
        total = total.saturating_add(size);
        if size > MAX_FILE || total > MAX_TREE {
            return Some(format!("with {path} it has {} GiB", total >> 30));
        }
    }
    None
}

/// Removes `path` and the directories above it that are now empty, since git does not track empty ones.
fn remove(dir: &Path, path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => (),
        Err(error) if vmtest_base::beneath::gone(&error) => (),
        // Everything that git tracks below it is already removed.
        Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => remove_tree(path),
        Err(error) => return Err(error).on("cannot remove", path),
    }
    let mut parent = path.parent();
    while let Some(above) = parent.filter(|above| *above != dir && fs::remove_dir(above).is_ok()) {
        parent = above.parent();
    }
    Ok(())
}

/// Undoes git's C quoting of unusual names.
pub(super) fn unquote(name: &str) -> OsString {
    let Some(inner) = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) else {
        return name.into();
    };
    let mut bytes = Vec::new();
    let mut rest = inner.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(first @ b'0'..=b'3') => {
                let digits = [first, rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                bytes.push(digits.iter().fold(0_u8, |value, digit| value.wrapping_mul(8) + (digit & 7)));
            }
            Some(b'n') => bytes.push(b'\n'),
            Some(b't') => bytes.push(b'\t'),
            Some(other) => bytes.push(other),
            None => (),
        }
    }
    OsString::from_vec(bytes)
}

pub(super) fn resolve(ctx: &Context, path: &Path, rev: &str) -> Result<Resolved> {
    let repo = Repo::open(&ctx.cache, path)?;
    let commit = repo.commit(rev)?;
    Ok(Resolved {
        id: repo.id(&commit),
        description: format!("{rev} is {} \"{}\"", &commit[..12], repo.subject(&commit)),
        cached: ctx.cache.get(CacheKind::Source, &entry(&repo.lineage, &commit)).is_some(),
        path: None,
        state: String::new(),
        commits: 0,
        choice: Choice::Commit(path.to_owned(), commit),
    })
}

pub(super) fn resolve_range(ctx: &Context, path: &Path, from: &str, to: &str) -> Result<Resolved> {
    let repo = Repo::open(&ctx.cache, path)?;
    let range = Range::of(&repo, from, to)?;
    Ok(Resolved {
        id: repo.id(&range.base),
        description: range.describe(&repo),
        cached: ctx.cache.get(CacheKind::Source, &entry(&repo.lineage, &range.base)).is_some(),
        path: None,
        state: String::new(),
        commits: range.commits.len(),
        choice: Choice::Range(path.to_owned(), range),
    })
}

pub(super) fn fetch(ctx: &Context, repo: &Path, rev: &str) -> Result<SourceTree> {
    let repo = Repo::open(&ctx.cache, repo)?;
    let commit = repo.commit(rev)?;
    repo.source(ctx, &commit)
}

pub(super) fn fetch_range(ctx: &Context, repo: &Path, range: &Range) -> Result<Fetched> {
    let repo = Repo::open(&ctx.cache, repo)?;
    let base = repo.source(ctx, &range.base)?;
    let series = range.series(ctx, &repo).map_err(|error| repo.absent_objects(error))?;
    Ok(Fetched::Range { base, series })
}

/// The history between two commits. Uses the repository in the cache, so that nothing is written to the
/// user's.
#[derive(Debug)]
pub struct Commits {
    /// The repository, absolute.
    pub repo: PathBuf,
    cache: Cache,
    clone: PathBuf,
    known: Mutex<BTreeMap<(String, String), bool>>,
}

/// Author, date and subject of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// First line of its message.
    pub subject: String,
    /// Name and address.
    pub author: String,
    /// Day of the author's date.
    pub date: String,
}

impl Commits {
    /// Opens a repository to read its history.
    ///
    /// # Errors
    /// Class `Usage` if it is not a repository.
    pub fn open(ctx: &Context, repo: &Path) -> Result<Commits> {
        let repo = Repo::open(&ctx.cache, repo)?;
        let clone = repo.clone_in_cache(ctx)?;
        Ok(Commits { repo: repo.path, cache: repo.cache, clone, known: Mutex::default() })
    }

    /// The full ID of a commit.
    ///
    /// # Errors
    /// Class `Usage` if there is no such commit.
    pub fn commit(&self, rev: &str) -> Result<String> {
        Repo::open(&self.cache, &self.repo)?.commit(rev)
    }

    /// Tags of releases (`v7.1`, `v7.1-rc3`), the newest first; none if they cannot be read.
    pub fn releases(&self) -> Vec<String> {
        let sorted = ["-c", "versionsort.suffix=-rc", "tag", "--list", "v[0-9]*", "--sort=-version:refname"];
        let said = Repo::open(&self.cache, &self.repo)
            .and_then(|repo| repo.place.desk_with_refs(&repo.cache, false)?.ask(&sorted));
        said.ok().and_then(std::result::Result::ok).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn ask(&self, words: &[&str]) -> Result<Finished> {
        let mut command = ours(&self.clone);
        command.args(words);
        run(Job::new(command), WALK)
    }

    /// `new` and its ancestors, without ancestors of any of `olds`, in the order in which `git bisect`
    /// prefers them, which handles merges.
    pub fn between(&self, new: &str, olds: &[String]) -> Result<Vec<String>> {
        let mut words = vec!["rev-list", "--bisect-all", new, "--not"];
        words.extend(olds.iter().map(String::as_str));
        let listed = self.ask(&words)?.ok(format!("cannot list the commits up to {new}"))?.stdout;
        Ok(listed.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
    }

    /// The same commits in topological order, oldest first: each comes after all of its parents.
    pub fn line(&self, new: &str, old: &str) -> Result<Vec<String>> {
        let words = ["rev-list", "--topo-order", "--reverse", new, "--not", old];
        let listed = self.ask(&words)?.ok(format!("cannot list the commits up to {new}"))?.stdout;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    /// Whether `old` is `new` or one of its ancestors.
    pub fn precedes(&self, old: &str, new: &str) -> Result<bool> {
        let pair = (old.to_owned(), new.to_owned());
        if old == new {
            return Ok(true);
        }
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = known().get(&pair) {
            return Ok(*answer);
        }
        let asked = self.ask(&["merge-base", "--is-ancestor", old, new])?;
        let answer = match asked.status.code() {
            Some(0) => true,
            Some(1) => false,
            _ => return Err(asked.error(format!("cannot determine whether {old} is an ancestor of {new}"))),
        };
        known().insert(pair, answer);
        Ok(answer)
    }

    /// The merge bases of two commits.
    ///
    /// # Errors
    /// Class `Usage` if they have no common ancestor.
    pub fn merge_bases(&self, one: &str, other: &str) -> Result<Vec<String>> {
        let asked = self.ask(&["merge-base", "--all", one, other])?;
        let bases: Vec<String> = asked.stdout.lines().map(str::to_owned).collect();
        if bases.is_empty() {
            return Err(Error::usage(format!("{one} and {other} have no common ancestor"))
                .why("there is no history between them to search"));
        }
        Ok(bases)
    }

    /// Author, date and subject of a commit.
    pub fn about(&self, commit: &str) -> Result<About> {
        let format = "--format=%s%n%an <%ae>%n%ad";
        let words = ["log", "-1", "--no-show-signature", "--date=short", format, commit];
        let said = self.ask(&words)?.ok(format!("cannot read {commit}"))?.stdout;
        let mut lines = said.lines().map(str::to_owned);
        let mut line = || lines.next().unwrap_or_default();
        Ok(About { subject: line(), author: line(), date: line() })
    }
}

#[cfg(test)]
mod tests;
