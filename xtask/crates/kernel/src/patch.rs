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
use std::time::Duration;

use crate::series::{
    FileDiff, Hunk, Patch, Series, git_says, neutral_git, parse_diff, parse_stripped, title,
};
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::files::{create_dir, read_text, write_file};
use vmtest_base::key::Key;
use vmtest_host::context::Context;
use vmtest_host::process::{Finished, Job};
use vmtest_host::store::CacheKind;

/// How long git may take over one call: a thousand patches need a minute.
const GIT_LIMIT: Duration = Duration::from_secs(600);
/// Links that a link may lead through, one after the other.
const MAX_LINKS: usize = 8;
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
/// to be; `None` where it is not. `whose`: origin of that tree; a repository can hold other bytes than its commits are named
/// after.
///
/// # Errors
/// [`Class::SeriesDoesNotApply`] with the patch, file and hunk, and what kind of failure it is.
pub fn apply(
    ctx: &Context,
    base_dir: &Path,
    base_key: &Key,
    base_commit: Option<&str>,
    whose: Option<&Key>,
    series: &Series,
) -> Result<(Key, Overlay)> {
    let key = Key::of("overlay-2").field("base", base_key.as_str()).field("series", series.key().as_str());
    let key = key.finish();
    let entry = match whose {
        Some(whose) => {
            Key::of("overlay 2").field("overlay", key.as_str()).field("whose", whose.as_str()).finish()
        }
        None => key.clone(),
    };
    let phase = ctx.bus.phase("patch", &series.name);
    let (dir, cached) = ctx.cache.get_or_make(&ctx.bus, CacheKind::Overlay, entry.as_str(), |dir| {
        ctx.cache.verify(&ctx.bus, base_dir)?;
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

    for (at, patch) in series.patches.iter().enumerate() {
        if let Some(path) = patch.bare.iter().find(|path| is_bare(base_dir, patch.strip, path)) {
            let why = format!("its diff has no a/ and b/ prefixes: {path}");
            return Err(failure(series, at, &why).why("git strips the first directory of each path").next(
                "recreate it with `git format-patch --default-prefix`, or `git -c diff.noprefix=false ..`; \
                 or list it in a file `series` as `NAME -p0`",
            ));
        }
    }
    let mails = scratch.join("mails");
    create_dir(&mails)?;
    let commits = series.patches.iter().take_while(|patch| patch.exact.is_some()).count();
    apply_commits(&repo, series, commits)?;
    if commits == series.patches.len() {
        return repo.keep_changes(base_dir, out, &touched);
    }
    let mut done = None;
    let alike = |one: &Patch, other: &Patch| one.strip == other.strip && !one.reverse && !other.reverse;
    let mut at = commits;
    for group in series.patches[commits..].chunk_by(alike) {
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
    let done = done.ok_or_else(|| Error::usage("the series has no patch"))?;
    let trees = repo.git(&["log", "--reverse", "--format=%T", "HEAD"])?.ok("cannot count commits")?.stdout;
    let trees: Vec<&str> = trees.lines().collect();
    // Whatever git's exit code is: each patch must have made a commit that changes something.
    if let Some(at) = trees.windows(2).position(|pair| pair[0] == pair[1]) {
        return Err(failure(series, at, "it changes nothing")
            .next("drop it from the series, or check whether part of it was lost"));
    }
    let (made, of) = (trees.len().saturating_sub(1), series.patches.len());
    if made < of || !done.success() {
        return Err(diagnose(&repo, base_dir, base_commit, series, made.min(of - 1), &done));
    }
    if made > of {
        let what =
            format!("the series {} does not apply: git made {made} commits of {of} patches", series.name);
        return Err(Error::new(Class::SeriesDoesNotApply, what)
            .why("one of its files holds more mails than were read")
            .next("put each patch in its own file"));
    }
    repo.keep_changes(base_dir, out, &touched)
}

/// Whether this path, the same before and after, is one of the tree with nothing in front: git would take off its first
/// directory and look for the rest, or make a new file in a wrong place.
fn is_bare(base_dir: &Path, strip: u32, path: &str) -> bool {
    strip == 1
        && match path.split_once('/') {
            Some((first, _)) => first != "." && base_dir.join(first).is_dir(),
            None => base_dir.join(path).symlink_metadata().is_ok(),
        }
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
///
/// `--no-utf8` leaves the message as it is, which is thrown away: git gives up at a charset that does not exist. It never
/// converts a diff.
const AM: [&str; 9] = [
    "am",
    "--quiet",
    "--no-3way",
    "--no-gpg-sign",
    "--keep-non-patch",
    "--no-utf8",
    "--quoted-cr=strip",
    "--patch-format=mbox",
    "--committer-date-is-author-date",
];

/// The diff of a patch that is taken out, in the scratch repository.
const TAKEN_OUT: &str = ".git/taken-out.patch";

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
        Job::new(self.command(args)).deadline(GIT_LIMIT).run()
    }

    /// Applies mails; each makes a commit.
    fn am(&self, mails: &[PathBuf], strip: u32) -> Result<Finished> {
        let mut command = self.command(&AM);
        command.arg(format!("-p{strip}")).args(mails);
        Job::new(command).deadline(GIT_LIMIT).run()
    }

    /// Takes out the patch of a mail, as one commit: `git am` knows no way back.
    fn take_out(&self, mail: &Path, patch: &Patch) -> Result<Finished> {
        let raw = fs::read(mail).on("cannot read", mail)?;
        let command = self.command(&["mailinfo", "-n", "--quoted-cr=strip", ".git/message", TAKEN_OUT]);
        let read = Job::new(command).input(raw).deadline(GIT_LIMIT).run()?;
        if !read.success() {
            return Ok(read);
        }
        let strip = format!("-p{}", patch.strip);
        let applied = self.git(&["apply", "--index", "--reverse", &strip, TAKEN_OUT])?;
        if !applied.success() {
            return Ok(applied);
        }
        self.git(&["commit", "--quiet", "--no-verify", "--allow-empty", "--message=taken out"])
    }

    /// Every line that git says, however many: [`Finished`] keeps only the last ones.
    fn git_says(&self, args: &[&str]) -> Result<Vec<String>> {
        let mut said = Vec::new();
        let job = Job::new(self.command(args)).deadline(GIT_LIMIT);
        job.on_line(|_, line| said.push(line.to_owned())).run()?;
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

    /// Where the link at this path of the patched tree leads; `None` for what is not a link.
    fn link_at(&self, base_dir: &Path, touched: &BTreeSet<&str>, path: &str) -> Option<PathBuf> {
        let (here, base) = (self.dir.join(path), base_dir.join(path));
        match here.symlink_metadata() {
            Ok(meta) if meta.is_symlink() => fs::read_link(here).ok(),
            Ok(_) => None,
            // What the series touches and is not here, it removed; all else is as it was.
            Err(_) if touched.contains(path) => None,
            Err(_) => fs::read_link(base).ok(),
        }
    }

    /// Copies what differs from the base into `out`.
    fn keep_changes(&self, base_dir: &Path, out: &Path, touched: &BTreeSet<&str>) -> Result<()> {
        let diff = ["diff", "--raw", "--no-renames", "--no-abbrev", "base", "HEAD"];
        let diff = self.git(&diff)?.ok("cannot list what the series changes")?.stdout;
        let (mut changed, mut deleted) = (Vec::new(), Vec::new());
        create_dir(&out.join("files"))?;
        for line in diff.lines() {
            // :100644 100755 OLD NEW M<tab>path
            let Some((fields, path)) = line.split_once('\t') else { continue };
            if !touched.contains(path) {
                return Err(Error::host(format!("cannot keep the change of {path:?}"))
                    .why("git changed a file that the diff parser did not see"));
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
                    let link_at = |path: &str| self.link_at(base_dir, touched, path);
                    if !link_stays_inside(path, &target, &link_at) {
                        let what = format!("the series is refused: its link {path} leads out of the tree");
                        return Err(Error::new(Class::SeriesDoesNotApply, what).why(target.display()));
                    }
                    symlink(&target, &to).on("cannot link", &to)?;
                }
                other => {
                    let what = format!("the series is refused: {path} has mode {other}, which is not a file");
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

/// Whether a link stays in the tree, whatever it leads through. `link_at` says where a link of the patched tree leads.
///
/// A directory on the way must not be a link: `..` behind one goes up from where that leads, and a link to the top of the
/// tree, harmless by itself, makes any number of them lead out. At its end there may be a link that stays inside itself.
fn link_stays_inside(link: &str, target: &Path, link_at: &dyn Fn(&str) -> Option<PathBuf>) -> bool {
    let (mut link, mut target) = (link.to_owned(), target.to_owned());
    for _ in 0..MAX_LINKS {
        let mut here: Vec<String> = link.split('/').map(str::to_owned).collect();
        here.pop();
        let mut last = None;
        for part in target.components() {
            if last.is_some() {
                return false;
            }
            match part {
                Component::CurDir => (),
                Component::ParentDir => {
                    if here.pop().is_none() {
                        return false;
                    }
                }
                Component::Normal(name) => {
                    // A name that is not text could not be compared with others.
                    let Some(name) = name.to_str() else { return false };
                    here.push(name.to_owned());
                    last = link_at(&here.join("/"));
                }
                Component::RootDir | Component::Prefix(_) => return false,
            }
        }
        match last {
            None => return true,
            Some(next) => (link, target) = (here.join("/"), next),
        }
    }
    false
}

fn failure(series: &Series, at: usize, why: &str) -> Error {
    let patch = &series.patches[at];
    let who = title(at, series.of, patch);
    let error = |why: &str| Error::new(Class::SeriesDoesNotApply, format!("{who} does not apply: {why}"));
    match &patch.stray {
        // The reader of the mail looks at the other diff.
        Some(stray) => error(&format!("{stray}, and git applies that as well; {why}")),
        None if patch.flowed => error(why).why("the mail says format=flowed: lines may have been joined"),
        None => error(why),
    }
}

/// Finds out why patch `at` made no commit. The repository is where `git am` stopped.
fn diagnose(
    repo: &Repo,
    base_dir: &Path,
    base_commit: Option<&str>,
    series: &Series,
    at: usize,
    am: &Finished,
) -> Error {
    let (Ok(error) | Err(error)) = diagnose_or_fail(repo, base_dir, base_commit, series, at, am);
    match series.patches[at].stray.is_some() && error.class == Class::SeriesDoesNotApply {
        true => error.next("indent the diff that must not be applied, and recreate the mail"),
        false => error,
    }
}

fn diagnose_or_fail(
    repo: &Repo,
    base_dir: &Path,
    base_commit: Option<&str>,
    series: &Series,
    at: usize,
    am: &Finished,
) -> Result<Error> {
    if am.no_space().is_some() {
        return Ok(am.error("cannot apply the series"));
    }
    let patch = &series.patches[at];
    let decoded = repo.dir.join(if patch.reverse { TAKEN_OUT } else { ".git/rebase-apply/patch" });
    let Ok(bytes) = fs::read(&decoded) else {
        let why = format!("git cannot read it as a mail: {}", git_says(&am.tail));
        return Ok(failure(series, at, &why).detail(am.tail.clone()));
    };
    let diff_file = repo.dir.join(".git/failed.patch");
    write_file(&diff_file, &bytes)?;
    if !patch.reverse {
        // `--quit` and not `--abort`: the patches before this one stay applied.
        repo.git(&["am", "--quit"])?;
    }
    repo.git(&["reset", "--hard", "--quiet"])?.ok("cannot look at the failed patch")?;
    let strip = format!("-p{}", patch.strip);
    let git_apply = |options: &[&str]| -> Result<Finished> {
        let mut args = vec!["apply", strip.as_str()];
        args.extend(options);
        // Back and back again is forth.
        if patch.reverse != options.contains(&"--reverse") {
            args.retain(|arg| *arg != "--reverse");
            args.push("--reverse");
        } else {
            args.retain(|arg| *arg != "--reverse");
        }
        args.push(".git/failed.patch");
        repo.git(&args)
    };
    let files = parse_stripped(&String::from_utf8_lossy(&bytes), patch.strip);
    if files.is_empty() {
        return Ok(failure(series, at, "not a patch: it has no diff"));
    }
    let checked = git_apply(&["--check"])?;
    if checked.success() {
        return Ok(failure(
            series,
            at,
            &format!("git rejects the mail although its diff applies: {}", git_says(&am.tail)),
        )
        .detail(am.tail.clone()));
    }
    if let Some(error) = without_content(series, at, &checked.tail) {
        return Ok(error);
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
    if let Some(error) = misplaced(base_dir, series, at, &files) {
        return Ok(error);
    }
    if patch.reverse {
        let why = format!("it cannot be reverted (`-R`): {}", git_says(&checked.tail));
        return Ok(failure(series, at, &why).detail(checked.tail));
    }
    let rejected = repo.git_says(&["apply", "--reject", "--verbose", &strip, ".git/failed.patch"])?;
    let outcome = Outcome::read(&files, &rejected, |path| {
        // `--reject` may have made a new file of this name; what counts is what was there before.
        repo.git(&["cat-file", "-e", &format!("HEAD:{path}")]).is_ok_and(|done| done.success())
    });
    let mut error = outcome.error(series, at, base_commit, git_says(&checked.tail));
    if error.detail.is_empty() {
        error = error.detail(checked.tail);
    }
    Ok(error)
}

/// What git says of a diff that says that a file changes and not how.
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

/// A diff whose paths have more, or fewer, directories in front than are taken off, all of them.
fn misplaced(base_dir: &Path, series: &Series, at: usize, files: &[FileDiff]) -> Option<Error> {
    let strip = series.patches[at].strip;
    let there = |path: &str| !path.is_empty() && base_dir.join(path).is_file();
    // What git puts in front, with `diff.mnemonicPrefix` too, is right: a file is missing. And only files that are to
    // change can be looked for.
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
    let error = failure(series, at, &why)
        .why(format!("with {strip} leading directories stripped it is {old}, which is not in this tree"));
    Some(error.next(format!(
        "recreate it with `git format-patch --default-prefix`, or list it in a file `series` as `NAME -p{right}`"
    )))
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
        .next("drop this patch, or use a base without it")
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
    /// `said` is what git gives as its reason.
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
