// SPDX-License-Identifier: MIT OR Apache-2.0
//! `git:PATH@REV` and `git:PATH@A..B`. The user's repository is only read: a bare repository in the cache borrows its
//! objects, and everything that writes (an index, a checkout, patches) happens there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use xshell::{Cmd, Shell, cmd};

use super::tarball::succeeded;
use super::{Fetched, Resolved, SourceTree, kernel_version, short_name};
use crate::context::Context;
use crate::error::{Error, IoContext, Result};
use crate::interrupt;
use crate::proc::{Finished, Job};
use crate::workdir::{Key, create_dir, read_text, write_file};

/// Settings for reading a repository that may belong to someone else, without a trace in it.
const READ_ONLY: [(&str, &str); 4] =
    [("safe.directory", "*"), ("core.fsmonitor", "false"), ("gc.auto", "0"), ("maintenance.auto", "false")];

/// Set inside hooks and `git bisect run`; they would send every call to another repository.
const OVERRIDES: [&str; 7] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_PREFIX",
];

fn environment() -> Vec<(String, String)> {
    let mut pairs = vec![
        ("GIT_OPTIONAL_LOCKS".to_owned(), "0".to_owned()),
        ("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned()),
        ("GIT_CONFIG_COUNT".to_owned(), READ_ONLY.len().to_string()),
        ("LC_ALL".to_owned(), "C".to_owned()),
    ];
    for (number, (key, value)) in READ_ONLY.iter().enumerate() {
        pairs.push((format!("GIT_CONFIG_KEY_{number}"), (*key).to_owned()));
        pairs.push((format!("GIT_CONFIG_VALUE_{number}"), (*value).to_owned()));
    }
    pairs
}

/// A short query of a repository that is not ours.
pub(super) fn query<'a>(shell: &'a Shell, dir: &Path) -> Cmd<'a> {
    let mut command = cmd!(shell, "git -C {dir}").quiet().ignore_status().envs(environment());
    for name in OVERRIDES {
        command = command.env_remove(name);
    }
    command
}

/// A longer call on the repository in the cache; the user's settings (line ends, filters, patch formats) stay out.
fn ours(clone: &Path) -> Command {
    let mut command = Command::new("git");
    for name in OVERRIDES {
        command.env_remove(name);
    }
    command.envs(environment()).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.arg("--git-dir").arg(clone);
    command
}

pub(super) fn shell() -> Result<Shell> {
    Shell::new().map_err(|error| Error::host("cannot use the working directory").why(error))
}

/// What a query printed when it succeeded, else its complaint.
fn answer(command: Cmd<'_>) -> Result<std::result::Result<String, String>> {
    let shown = command.to_string();
    let output = command.output().map_err(|error| {
        Error::host(format!("cannot run `{shown}`")).why(error).next("install the package `git`")
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
}

/// The user's repository.
struct Repo {
    /// As it was named, absolute.
    path: PathBuf,
    objects: String,
    shallow: PathBuf,
    format: String,
    lineage: Key,
}

impl Repo {
    fn open(path: &Path) -> Result<Repo> {
        let no = |why: String| {
            Error::usage(format!("{} is no git repository", path.display()))
                .why(why)
                .next("name the repository of a kernel; a tree without one is tree:PATH")
        };
        let path = path.canonicalize().map_err(|error| no(error.to_string()))?;
        if path.as_os_str().as_encoded_bytes().contains(&b'\n') {
            return Err(no("git tells of it by lines, and there is a newline in its path".to_owned())
                .next("give it a path without one"));
        }
        let shell = shell()?;
        let asked = ["--path-format=absolute", "--git-path", "objects", "--git-path", "shallow"];
        let asked = query(&shell, &path)
            .arg("rev-parse")
            .args(asked)
            .args(["--git-common-dir", "--show-object-format"]);
        let text = answer(asked)?.map_err(no)?;
        let lines: Vec<&str> = text.lines().collect();
        let [objects, shallow, common, format] = lines.as_slice() else {
            return Err(Error::host(format!("cannot read the layout of {}", path.display()))
                .why(format!("git answered {text:?}"))
                .next("git 2.31 or newer is needed"));
        };
        // The common directory, so that linked worktrees of one repository share their objects.
        let lineage = Key::of("git lineage 1").field("repository", common).finish();
        Ok(Repo {
            path,
            objects: (*objects).to_owned(),
            shallow: PathBuf::from(shallow),
            format: (*format).to_owned(),
            lineage,
        })
    }

    fn commit(&self, rev: &str) -> Result<String> {
        let shell = shell()?;
        let wanted = format!("{rev}^{{commit}}");
        let asked = query(&shell, &self.path).args(["rev-parse", "--verify", "--quiet", "--end-of-options"]);
        answer(asked.arg(&wanted))?.map_err(|_| {
            Error::usage(format!("`{rev}` names no commit in {}", self.path.display()))
                .next("`git rev-parse --verify REV` there must print one; fetch it first if it is elsewhere")
        })
    }

    fn subject(&self, commit: &str) -> String {
        let Ok(shell) = shell() else { return String::new() };
        let asked =
            query(&shell, &self.path).args(["log", "-1", "--format=%s", "--no-show-signature", commit]);
        answer(asked).ok().and_then(std::result::Result::ok).unwrap_or_default()
    }

    /// The repository in the cache that borrows this one's objects: whatever is committed there later is seen here at
    /// once, since nothing is copied.
    fn clone_in_cache(&self, ctx: &Context) -> Result<PathBuf> {
        let (clone, _) = ctx.cache.get_or_make(&ctx.bus, "git", self.lineage.as_str(), |dir| {
            let mut command = Command::new("git");
            for name in OVERRIDES {
                command.env_remove(name);
            }
            command.envs(environment()).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
            command.args(["init", "--quiet", "--bare", "--template="]);
            command.arg(format!("--object-format={}", self.format)).arg(dir);
            Job::new(command).run()?.ok("cannot make a repository in the cache")?;
            create_dir(&dir.join("objects/info"))?;
            fs::write(dir.join("objects/info/alternates"), format!("{}\n", quote_alternate(&self.objects)))
                .on("cannot write", dir)
        })?;
        // A shallow repository has commits whose parents are absent, and says so here.
        if self.shallow.exists() {
            write_file(&clone.join("shallow"), read_text(&self.shallow)?)?;
        } else {
            let _ = fs::remove_file(clone.join("shallow"));
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
        let (dir, cached) = ctx.cache.get_or_make(&ctx.bus, "source", &entry(commit), |dir| {
            let phase = ctx.bus.phase("checkout", &id);
            check_out(ctx, &clone, commit, dir)?;
            if kernel_version(dir).is_none() {
                return Err(Error::usage(format!("{id} is no kernel"))
                    .why("that commit has no Makefile with VERSION and PATCHLEVEL in its top directory"));
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
            origin: Some(self.lineage.clone()),
            base_commit: Some(commit.to_owned()),
        })
    }
}

fn entry(commit: &str) -> String {
    format!("git-{commit}")
}

/// A path that begins with a quote or holds a newline must be quoted in an alternates file; others are taken as is.
fn quote_alternate(path: &str) -> String {
    if path.starts_with('"') || path.contains('\n') {
        format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
    } else {
        path.to_owned()
    }
}

/// Fills `dir` with a commit. A bisection visits dozens of commits of one repository, so the previous one is
/// hard-linked and only what differs is written: 2 s and some directories instead of 1.6 GB.
fn check_out(ctx: &Context, clone: &Path, commit: &str, dir: &Path) -> Result<()> {
    let scratch = ctx.cache.scratch()?;
    let index = scratch.path().join("index");
    let git = || {
        let mut command = ours(clone);
        command.env("GIT_INDEX_FILE", &index).arg("--work-tree").arg(dir).current_dir(dir);
        command
    };
    let run = |command: Command, what: &str| {
        let what = format!("cannot {what} {commit}");
        succeeded(Job::new(command).run()?, what)
    };
    let mut read = git();
    read.args(["read-tree", commit]);
    run(read, "read the tree of")?;
    interrupt::check()?;
    let previous = read_text(&clone.join("vmtest-last")).ok();
    let neighbour = previous.and_then(|old| Some((ctx.cache.get("source", &entry(&old))?, old)));
    let Some((old_dir, old)) = neighbour else {
        let mut all = git();
        all.args(["checkout-index", "--all", "--force"]);
        run(all, "check out")?;
        return Ok(());
    };
    let mut link = Command::new("cp");
    link.args(["--archive", "--link", "--no-target-directory"]).arg(&old_dir).arg(dir);
    succeeded(Job::new(link).run()?, format!("cannot link {}", old_dir.display()))?;
    interrupt::check()?;
    let mut diff = git();
    // Names are quoted, one a line, by core.quotePath; --stdin of checkout-index reads them back.
    diff.args(["diff-tree", "-r", "--no-renames", "--name-status", &old, commit]);
    let changes = run(diff, "compare with")?.stdout;
    if changes.len() + (1 << 20) > crate::proc::MAX_OUTPUT {
        return Err(Error::host(format!("cannot compare {old} with {commit}")).why("they differ in too much"));
    }
    let mut wanted = String::new();
    for (status, name) in changes.lines().filter_map(|line| line.split_once('\t')) {
        let path = dir.join(OsStr::new(&unquote(name)));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).on("cannot remove", &path);
            }
            _ => (),
        }
        if status == "D" {
            // Git keeps no empty directories.
            let mut parent = path.parent();
            while let Some(above) = parent.filter(|above| *above != dir && fs::remove_dir(above).is_ok()) {
                parent = above.parent();
            }
        } else {
            wanted.push_str(name);
            wanted.push('\n');
        }
    }
    let mut some = git();
    some.args(["checkout-index", "--force", "--stdin"]);
    let done = Job::new(some).input(wanted).run()?;
    succeeded(done, format!("cannot check out {commit}"))?;
    Ok(())
}

/// Undoes git's C quoting of unusual names.
fn unquote(name: &str) -> String {
    let Some(inner) = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) else {
        return name.to_owned();
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
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) fn resolve(ctx: &Context, repo: &Path, rev: &str) -> Result<Resolved> {
    let repo = Repo::open(repo)?;
    let commit = repo.commit(rev)?;
    Ok(Resolved {
        id: repo.id(&commit),
        description: format!("{rev} is {} \"{}\"", &commit[..12], repo.subject(&commit)),
        cached: ctx.cache.get("source", &entry(&commit)).is_some(),
        path: None,
        commits: 0,
    })
}

/// The two ends of a range, checked to be a series: A an ancestor of B, at least one commit, no merges.
fn range(repo: &Repo, from: &str, to: &str) -> Result<(String, String, u64)> {
    let (first, last) = (repo.commit(from)?, repo.commit(to)?);
    let no =
        |why: String| Error::usage(format!("{from}..{to} in {} is no series", repo.path.display())).why(why);
    let shell = shell()?;
    let ancestor = query(&shell, &repo.path).args(["merge-base", "--is-ancestor", &first, &last]);
    if answer(ancestor)?.is_err() {
        return Err(no(format!("{from} is no ancestor of {to}"))
            .next(format!("rebase {to} onto {from}, or use `git merge-base {from} {to}` as the base")));
    }
    let span = format!("{first}..{last}");
    let count = |extra: &[&str]| -> Result<u64> {
        let asked = query(&shell, &repo.path).args(["rev-list", "--count"]).args(extra).arg(&span);
        let text = answer(asked)?.map_err(&no)?;
        text.parse().map_err(|_| no(format!("git counted {text:?} commits")))
    };
    let merges = count(&["--merges"])?;
    if merges > 0 {
        return Err(no(format!("it holds {merges} merge(s), and a merge is no patch"))
            .next(format!("test the result as git:{}@{to}, or rebase it", repo.path.display())));
    }
    match count(&[])? {
        0 => Err(no("it holds no commit".to_owned())),
        commits => Ok((first, last, commits)),
    }
}

pub(super) fn resolve_range(ctx: &Context, repo: &Path, from: &str, to: &str) -> Result<Resolved> {
    let repo = Repo::open(repo)?;
    let (first, last, commits) = range(&repo, from, to)?;
    Ok(Resolved {
        id: repo.id(&first),
        description: format!(
            "{commits} commit(s) up to {} \"{}\" on top of {} \"{}\"",
            &last[..12],
            repo.subject(&last),
            &first[..12],
            repo.subject(&first)
        ),
        cached: ctx.cache.get("source", &entry(&first)).is_some(),
        path: None,
        commits: usize::try_from(commits).unwrap_or(usize::MAX),
    })
}

pub(super) fn fetch(ctx: &Context, repo: &Path, rev: &str) -> Result<SourceTree> {
    let repo = Repo::open(repo)?;
    let commit = repo.commit(rev)?;
    repo.source(ctx, &commit)
}

pub(super) fn fetch_range(ctx: &Context, repo: &Path, from: &str, to: &str) -> Result<Fetched> {
    let repo = Repo::open(repo)?;
    let (first, last, commits) = range(&repo, from, to)?;
    let base = repo.source(ctx, &first)?;
    let clone = repo.clone_in_cache(ctx)?;
    let name = format!("{first}-{last}");
    let (dir, _) = ctx.cache.get_or_make(&ctx.bus, "git-patches", &name, |dir| {
        let mut command = ours(&clone);
        command.args(["format-patch", "--quiet", "--no-signature", "--full-index", "--no-renames", "-o"]);
        command.arg(dir).arg(format!("{first}..{last}"));
        let done = Job::new(command).run()?;
        succeeded(done, format!("cannot write the patches of {from}..{to}"))?;
        Ok(())
    })?;
    let mut patches = Vec::new();
    for entry in fs::read_dir(&dir).on("cannot list", &dir)? {
        patches.push(entry.on("cannot list", &dir)?.path());
    }
    patches.sort();
    if patches.len() as u64 != commits {
        return Err(Error::host(format!("cannot turn {from}..{to} into patches")).why(format!(
            "git wrote {} patches for {commits} commits: an empty commit has none",
            patches.len()
        )));
    }
    Ok(Fetched::Range { base, patches, name: format!("{from}..{to}") })
}

/// The history between two commits, as git walks it; in the cache's clone, so that nothing is written to the user's
/// repository.
#[derive(Debug)]
pub struct Commits {
    /// The repository, absolute.
    pub repo: PathBuf,
    clone: PathBuf,
    known: Mutex<BTreeMap<(String, String), bool>>,
}

/// What a commit says of itself.
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
    /// Opens a repository for questions about its history.
    ///
    /// # Errors
    /// Class `Usage` where it is none.
    pub fn open(ctx: &Context, repo: &Path) -> Result<Commits> {
        let repo = Repo::open(repo)?;
        let clone = repo.clone_in_cache(ctx)?;
        Ok(Commits { repo: repo.path, clone, known: Mutex::default() })
    }

    /// The full name of a commit.
    ///
    /// # Errors
    /// Class `Usage` where there is none.
    pub fn commit(&self, rev: &str) -> Result<String> {
        Repo::open(&self.repo)?.commit(rev)
    }

    fn ask(&self, words: &[&str]) -> Result<Finished> {
        let mut command = ours(&self.clone);
        // Replaced objects are the user's view of the history, and a graft could hide a culprit.
        command.arg("--no-replace-objects").args(words);
        Job::new(command).run()
    }

    /// Ancestors of `new`, itself included, that are no ancestors of any of `olds`, in the order in which `git bisect`
    /// prefers them: it weighs merges.
    ///
    /// # Errors
    /// When git cannot walk them.
    pub fn between(&self, new: &str, olds: &[String]) -> Result<Vec<String>> {
        let mut words = vec!["rev-list", "--bisect-all", new, "--not"];
        words.extend(olds.iter().map(String::as_str));
        let listed = self.ask(&words)?.ok(format!("cannot list the commits up to {new}"))?.stdout;
        Ok(listed.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
    }

    /// The same commits in a line, oldest first: each stands behind all of its parents.
    ///
    /// # Errors
    /// When git cannot walk them.
    pub fn line(&self, new: &str, old: &str) -> Result<Vec<String>> {
        let words = ["rev-list", "--topo-order", "--reverse", new, "--not", old];
        let listed = self.ask(&words)?.ok(format!("cannot list the commits up to {new}"))?.stdout;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    /// Whether `old` is `new` or one of its ancestors.
    ///
    /// # Errors
    /// When git cannot tell.
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
            _ => return Err(asked.error(format!("cannot tell whether {old} is an ancestor of {new}"))),
        };
        known().insert(pair, answer);
        Ok(answer)
    }

    /// Where the histories of both part.
    ///
    /// # Errors
    /// Class `Usage` where they never met.
    pub fn merge_bases(&self, one: &str, other: &str) -> Result<Vec<String>> {
        let asked = self.ask(&["merge-base", "--all", one, other])?;
        let bases: Vec<String> = asked.stdout.lines().map(str::to_owned).collect();
        if bases.is_empty() {
            return Err(Error::usage(format!("{one} and {other} have no common ancestor"))
                .why("there is no history between them to search"));
        }
        Ok(bases)
    }

    /// What a commit says of itself.
    ///
    /// # Errors
    /// When git cannot read it.
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
