// SPDX-License-Identifier: MIT OR Apache-2.0
//! `A..B` as a series: the difference of each commit to its parent, made from their trees. Commit messages
//! are only shown: `git am` would apply a diff in a message.

use std::fs;

use crate::series::{Patch, Series, refuse_paths_outside};
use crate::source::git::place::{WALK, run};
use crate::source::git::{Commits, Repo, ours, succeeded};
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::interrupt;
use vmtest_host::context::Context;
use vmtest_host::process::Job;

/// A commit of a range.
#[derive(Debug, Clone)]
pub(super) struct Commit {
    id: String,
    parent: String,
    author: String,
    subject: String,
}

impl Commit {
    fn shown(&self) -> String {
        format!("{} \"{}\"", &self.id[..12], self.subject)
    }
}

/// The commits of a series.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    name: String,
    pub(super) base: String,
    /// Commits that change files, oldest first.
    pub(super) commits: Vec<Commit>,
    /// Commits without changes: `b4 prep` keeps the cover letter in one.
    empty: Vec<Commit>,
}

impl Range {
    /// Checks that it is a series: A is an ancestor of B, at least one commit changes a file, and there are
    /// no merges.
    pub(super) fn of(repo: &Repo, from: &str, to: &str) -> Result<Range> {
        let (first, last) = (repo.commit(from)?, repo.commit(to)?);
        let name = format!("{from}..{to}");
        let no =
            |why: String| Error::usage(format!("{name} in {} is not a series", repo.path.display())).why(why);
        if repo.desk.ask(&["merge-base", "--is-ancestor", &first, &last])?.is_err() {
            return Err(no(format!("{from} is not an ancestor of {to}"))
                .next(format!("rebase {to} onto {from}, or use `git merge-base {from} {to}` as the base")));
        }
        let span = format!("{first}..{last}");
        let merges = repo.desk.ask(&["rev-list", "--count", "--min-parents=2", &span])?.map_err(&no)?;
        if merges != "0" {
            return Err(no(format!("it has {merges} merge(s), and a merge is not a patch"))
                .next(format!("test the result as git:{}@{to}, or rebase it", repo.path.display())));
        }
        // The tree of the base, then each commit with its tree and parents.
        let tree = repo.desk.ask(&["rev-parse", "--verify", &format!("{first}^{{tree}}")])?;
        let mut tree = tree.map_err(&no)?;
        let format = "--format=%H%x01%T%x01%P%x01%an <%ae>%x01%s";
        let words = ["log", "--reverse", "--topo-order", "--no-show-signature", format, &span];
        let listed = repo.desk.ask(&words)?.map_err(&no)?;
        let (mut commits, mut empty) = (Vec::new(), Vec::new());
        for line in listed.lines() {
            let fields: Vec<&str> = line.splitn(5, '\u{1}').collect();
            let [id, its_tree, parents, author, subject] = fields[..] else {
                return Err(no(format!("git listed a commit as {line:?}")));
            };
            let own = |text: &str| text.to_owned();
            let commit =
                Commit { id: own(id), parent: own(parents), author: own(author), subject: own(subject) };
            // Without merges each commit comes right after its parent.
            if tree == its_tree {
                empty.push(commit)
            } else {
                commits.push(commit)
            }
            tree = own(its_tree);
        }
        match (commits.first(), empty.first()) {
            (Some(_), _) => Ok(Range { name, base: first, commits, empty }),
            (None, Some(commit)) => {
                Err(no(format!("none of its commits changes a file, for example {}", commit.shown())))
            }
            (None, None) => Err(no("it has no commits".to_owned())),
        }
    }

    /// Describes it for a dry run.
    pub(super) fn describe(&self, repo: &Repo) -> String {
        let last = self.commits.last().map(Commit::shown).unwrap_or_default();
        let base = format!("{} \"{}\"", &self.base[..12], repo.subject(&self.base));
        let empty = self.left_out().map(|text| format!("; {text}")).unwrap_or_default();
        format!("{} commit(s) up to {last} on top of {base}{empty}", self.commits.len())
    }

    /// Names the commits that are not tested, if any.
    fn left_out(&self) -> Option<String> {
        let shown: Vec<String> = self.empty.iter().map(Commit::shown).collect();
        (!shown.is_empty()).then(|| format!("left out, because it changes no file: {}", shown.join(", ")))
    }

    pub(super) fn series(&self, ctx: &Context, repo: &Repo) -> Result<Series> {
        if let Some(text) = self.left_out() {
            ctx.bus.note(format!("{}: {text}", self.name));
        }
        let scratch = ctx.cache.scratch()?;
        let file = scratch.path().join("diff");
        let mut patches = Vec::new();
        for commit in &self.commits {
            interrupt::check()?;
            let what = || format!("cannot read what {} changes", commit.shown());
            let mut diff = repo.desk.git();
            diff.args(["-c", "core.quotePath=false", "diff-tree", "-p", "--binary", "--full-index"]);
            diff.args(["--no-renames", "--no-ext-diff", "--no-textconv", "--no-color"]);
            diff.arg(format!("--output={}", file.display())).args([&commit.parent, &commit.id]);
            succeeded(run(Job::new(diff), WALK)?, what())?;
            let diff = fs::read(&file).on("cannot read", &file)?;
            let mut raw = repo.desk.git();
            raw.args([
                "-c",
                "core.quotePath=false",
                "diff-tree",
                "-r",
                "--raw",
                "--no-renames",
                "--no-abbrev",
            ]);
            raw.args([&self.base, &commit.id]);
            let exact = succeeded(run(Job::new(raw), WALK)?, what())?.stdout;
            if let Some(line) = exact.lines().find(|line| {
                line.split('\t')
                    .next()
                    .is_some_and(|fields| fields.contains(" 160000 ") || fields.starts_with(":160000"))
            }) {
                let path = line.split('\t').next_back().unwrap_or_default();
                let text = format!("{} is refused: it changes the submodule {path}", commit.shown());
                return Err(Error::new(Class::SeriesDoesNotApply, text)
                    .why("a kernel is built from its own tree, without submodules"));
            }
            patches.push(Patch::of_commit(&commit.id, &commit.author, &commit.subject, &diff, exact));
        }
        refuse_paths_outside(&patches)?;
        let of = patches.len();
        Ok(Series {
            name: self.name.clone(),
            patches,
            base_commit: None,
            of,
            origin: None,
            notes: Vec::new(),
            letter: None,
            prerequisites: Vec::new(),
        })
    }
}

impl Commits {
    /// The newest of the last commits before `rev` after which all of these patches are applied, by their patch
    /// IDs; `None` if one of them is not among the last thousand.
    ///
    /// # Errors
    /// What git reports.
    pub fn with_patches(&self, rev: &str, ids: &[String]) -> Result<Option<String>> {
        let log = self.ask(&["log", "-p", "--no-merges", "--no-ext-diff", "-n", "1000", rev])?;
        let log = succeeded(log, "git cannot read the history")?;
        let mut command = ours(&self.clone);
        command.args(["patch-id", "--stable"]);
        let told =
            succeeded(run(Job::new(command).input(log.stdout), WALK)?, "git cannot tell patches apart")?;
        // Newest first: the first of them that is met contains the others, or they are not in one line.
        let found: Vec<(&str, &str)> = told.stdout.lines().filter_map(|line| line.split_once(' ')).collect();
        let all = ids.iter().all(|id| found.iter().any(|(other, _)| other == id));
        let newest = found.iter().find(|(id, _)| ids.iter().any(|other| other == id));
        Ok(newest.filter(|_| all).map(|(_, commit)| (*commit).to_owned()))
    }
}
