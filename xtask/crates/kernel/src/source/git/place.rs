// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layout of an untrusted repository, and a private git directory to run git on it.
//!
//! git runs commands that a repository's configuration names: to fetch missing objects, to watch files, to
//! filter contents, to show things. So it never sees that configuration. It gets a private directory that
//! borrows the objects, and everything else that a command needs (refs, an index) is copied there first. The
//! copies are made with plain reads of regular files with a size limit, and only well-formed data is passed
//! on.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fs, io};

use crate::source::git::refs::{Names, REFS, copy_files, is_of_one_worktree};
use vmtest_base::beneath::{self, Kind, Top};
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::files::create_dir;
use vmtest_host::clean_env;
use vmtest_host::process::{Finished, Job};
use vmtest_host::store::{Cache, Scratch};

/// Limit for `.git` files, `HEAD`, one ref.
pub(super) const SMALL: u64 = 4096;
/// Limit for a configuration, `info/exclude`.
const TEXT: u64 = 8 << 20;
/// Limit for an index. A kernel's has 10 MB.
const INDEX: u64 = 1 << 30;

/// Time limit for looking up a name.
pub(super) const LOOK_UP: Duration = Duration::from_secs(60);
/// Time limit for walking a history or reading a whole tree.
pub(in crate::source) const WALK: Duration = Duration::from_secs(15 * 60);

/// The directories and the formats of a repository.
#[derive(Debug, Clone)]
pub(in crate::source) struct Place {
    /// Holds `HEAD` and the index. A linked worktree has its own.
    git_dir: PathBuf,
    /// Refs, objects and configuration.
    pub(super) common: PathBuf,
    /// The objects, with all symlinks resolved.
    pub(super) objects: PathBuf,
    /// `sha1` or `sha256`.
    pub(super) format: String,
    reftable: bool,
    /// Configured remotes and upstream branches, for `@{upstream}`.
    tracking: Vec<(String, String)>,
}

/// Why a path is not a usable repository.
type Wrong = String;

fn wrong(path: &Path) -> impl Fn(io::Error) -> Wrong + '_ {
    move |error| format!("cannot read {}: {error}", path.display())
}

/// Reads one of git's small files as text without its line end.
fn line(dir: &Path, name: &str) -> io::Result<String> {
    let bytes = Top::open(dir)?.read(Path::new(name), SMALL)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned())
}

/// Writes a temporary file, so without syncing it.
pub(super) fn put(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, bytes).on("cannot write", path)
}

/// Whether it looks like a git directory, by git's own criteria.
fn is_git_dir(dir: &Path) -> bool {
    let there = |name: &str| dir.join(name).symlink_metadata().is_ok();
    there("HEAD") && (there("commondir") || (dir.join("objects").is_dir() && dir.join("refs").is_dir()))
}

impl Place {
    /// Finds the repository at a path or, like git, above it.
    pub(in crate::source) fn find(cache: &Cache, path: &Path) -> Result<std::result::Result<Place, Wrong>> {
        for dir in path.ancestors() {
            if let Some(found) = Place::of_worktree(cache, dir)? {
                return Ok(found);
            }
            if is_git_dir(dir) {
                return Place::at(cache, dir.to_owned());
            }
        }
        Ok(Err("it has no .git, and no directory above it has one".to_owned()))
    }

    /// The repository with this top directory; `None` without a `.git`.
    pub(in crate::source) fn of_worktree(
        cache: &Cache,
        top: &Path,
    ) -> Result<Option<std::result::Result<Place, Wrong>>> {
        let dot_git = top.join(".git");
        let Ok(stat) = dot_git.metadata() else {
            let dangling = dot_git.symlink_metadata().is_ok();
            return Ok(dangling.then(|| Err(format!("{} is a dangling link", dot_git.display()))));
        };
        if stat.is_dir() {
            return if is_git_dir(&dot_git) { Place::at(cache, dot_git).map(Some) } else { Ok(None) };
        }
        Ok(Some(match line(top, ".git").map_err(wrong(&dot_git)) {
            Err(why) => Err(why),
            Ok(text) => match text.strip_prefix("gitdir: ") {
                Some(dir) if is_git_dir(&top.join(dir)) => return Place::at(cache, top.join(dir)).map(Some),
                Some(dir) => Err(format!("{} names {dir}, which is not a git directory", dot_git.display())),
                None => Err(format!("{} does not name a git directory", dot_git.display())),
            },
        }))
    }

    fn at(cache: &Cache, git_dir: PathBuf) -> Result<std::result::Result<Place, Wrong>> {
        let read = || -> std::result::Result<(PathBuf, PathBuf, PathBuf), Wrong> {
            let git_dir = git_dir.canonicalize().map_err(wrong(&git_dir))?;
            let common = match line(&git_dir, "commondir") {
                Ok(dir) => git_dir.join(dir),
                Err(error) if error.kind() == io::ErrorKind::NotFound => git_dir.clone(),
                Err(error) => return Err(wrong(&git_dir.join("commondir"))(error)),
            };
            let common = common.canonicalize().map_err(wrong(&common))?;
            let objects = common.join("objects");
            let objects = objects.canonicalize().map_err(wrong(&objects))?;
            // git would block on a FIFO in there.
            beneath::walk(&objects, Path::new(""), &mut |path, kind| match kind {
                Kind::Special(name) => {
                    Err(io::Error::other(format!("{} is {name}", objects.join(path).display())))
                }
                _ => Ok(true),
            })
            .map_err(|error| format!("its objects cannot be read: {error}"))?;
            Ok((git_dir, common, objects))
        };
        let (git_dir, common, objects) = match read() {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        let settings = match settings(cache, &common)? {
            Ok(settings) => settings,
            Err(why) => return Ok(Err(why)),
        };
        let last = |name: &str| {
            settings.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.to_ascii_lowercase())
        };
        let format = last("extensions.objectformat").unwrap_or_else(|| "sha1".to_owned());
        let refs = last("extensions.refstorage").unwrap_or_else(|| "files".to_owned());
        if !["sha1", "sha256"].contains(&format.as_str()) || !["files", "reftable"].contains(&refs.as_str()) {
            return Ok(Err(format!("it keeps objects as {format:?} and refs as {refs:?}")));
        }
        let tracking = settings.into_iter().filter(|(key, _)| !key.starts_with("extensions.")).collect();
        Ok(Ok(Place { git_dir, common, objects, format, reftable: refs == "reftable", tracking }))
    }

    /// The commits of a shallow repository whose parents are missing.
    pub(super) fn shallow(&self) -> Result<Option<String>> {
        let file = self.common.join("shallow");
        let bytes = match Top::open(&self.common).and_then(|mut top| top.read(Path::new("shallow"), REFS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.on("cannot read", &file)?,
        };
        let text = String::from_utf8_lossy(&bytes);
        let ids: String = text.lines().filter(|id| is_id(id)).map(|id| format!("{id}\n")).collect();
        Ok(Some(ids))
    }

    /// A private git directory with these objects and nothing else.
    pub(in crate::source) fn desk(&self, cache: &Cache) -> Result<Desk> {
        let desk = Desk::empty(cache, &self.format)?;
        create_dir(&desk.dir().join("objects/info"))?;
        put(&desk.dir().join("objects/info/alternates"), alternate(&self.objects))?;
        if let Some(shallow) = self.shallow()? {
            put(&desk.dir().join("shallow"), shallow)?;
        }
        Ok(desk)
    }

    /// The same with refs and, if `logs` is set, reflogs.
    pub(super) fn desk_with_refs(&self, cache: &Cache, logs: bool) -> Result<Desk> {
        let desk = self.desk(cache)?;
        let dir = desk.dir();
        let mut names = Names::default();
        if self.reftable {
            if self.git_dir != self.common {
                return Err(Error::usage(format!("the refs of {} cannot be read", self.git_dir.display()))
                    .why("it is a linked worktree of a repository that keeps refs as a reftable")
                    .next(format!("name the repository itself: {}", self.common.display())));
            }
            copy_files(&self.common, Path::new("reftable"), &dir.join("reftable"))?;
        } else {
            names.read_packed(&self.common)?;
            let linked = self.git_dir != self.common;
            names.read_loose(&self.common, |name| !linked || !is_of_one_worktree(name))?;
            if linked {
                names.read_loose(&self.git_dir, is_of_one_worktree)?;
            }
        }
        names.read_heads(&self.git_dir)?;
        names.write(dir)?;
        if logs {
            copy_files(&self.common, Path::new("logs"), &dir.join("logs"))?;
            if self.git_dir != self.common {
                copy_files(&self.git_dir, Path::new("logs"), &dir.join("logs"))?;
            }
        }
        let mut config = config(&self.format, self.reftable);
        for (key, value) in &self.tracking {
            config.push_str(&setting(key, value).unwrap_or_default());
        }
        put(&dir.join("config"), config)?;
        Ok(desk)
    }

    /// The same with the index, and with the patterns of `info/exclude` after `excludes`.
    pub(in crate::source) fn desk_with_index(&self, cache: &Cache, mut excludes: Vec<u8>) -> Result<Desk> {
        let desk = self.desk(cache)?;
        let mut top = Top::open(&self.git_dir).on("cannot open", &self.git_dir)?;
        let mut names = vec![PathBuf::from("index")];
        for entry in fs::read_dir(&self.git_dir).on("cannot list", &self.git_dir)? {
            let name = entry.on("cannot list", &self.git_dir)?.file_name();
            // The rarely changing part of a split index.
            if name.as_bytes().starts_with(b"sharedindex.") {
                names.push(name.into());
            }
        }
        for name in names {
            match top.read(&name, INDEX) {
                Ok(bytes) => fs::write(desk.dir().join(&name), bytes).on("cannot write", desk.dir())?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                Err(error) => return Err(error).on("cannot read", self.git_dir.join(&name)),
            }
        }
        let file = Path::new("info/exclude");
        match Top::open(&self.common).and_then(|mut top| top.read(file, TEXT)) {
            Ok(bytes) => {
                excludes.push(b'\n');
                excludes.extend(bytes);
            }
            Err(error) if beneath::gone(&error) => (),
            Err(error) => return Err(error).on("cannot read", self.common.join(file)),
        }
        desk.exclude(&excludes)?;
        Ok(desk)
    }

    /// Whether objects may be missing because they were never fetched.
    pub(super) fn is_partial(&self) -> bool {
        let packs = fs::read_dir(self.objects.join("pack")).into_iter().flatten().flatten();
        packs.map(|entry| entry.path()).any(|path| path.extension() == Some(OsStr::new("promisor")))
    }
}

/// A private, temporary git directory to run git commands in.
pub(in crate::source) struct Desk {
    scratch: Scratch,
}

impl Desk {
    /// One without objects.
    pub(in crate::source) fn empty(cache: &Cache, format: &str) -> Result<Desk> {
        let desk = Desk { scratch: cache.scratch()? };
        for dir in ["objects", "refs", "info"] {
            create_dir(&desk.dir().join(dir))?;
        }
        put(&desk.dir().join("HEAD"), "ref: refs/heads/none\n")?;
        put(&desk.dir().join("config"), config(format, false))?;
        Ok(desk)
    }

    fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// Sets the patterns of files that are not listed.
    pub(in crate::source) fn exclude(&self, patterns: &[u8]) -> Result<()> {
        put(&self.dir().join("info/exclude"), patterns)
    }

    /// A git command on this directory, without arguments.
    pub(in crate::source) fn git(&self) -> Command {
        let mut command = clean_env::git(self.dir());
        command.arg("--git-dir").arg(self.dir());
        command
    }

    /// The output of git if it succeeds, else its errors.
    pub(super) fn ask(&self, words: &[&str]) -> Result<std::result::Result<String, String>> {
        let mut command = self.git();
        command.args(words);
        let limit = if words.first() == Some(&"rev-parse") { LOOK_UP } else { WALK };
        let done = run(Job::new(command), limit)?;
        Ok(if done.success() { Ok(done.stdout.trim().to_owned()) } else { Err(done.tail.join("\n")) })
    }
}

/// Runs git on an untrusted repository, with a time limit.
pub(in crate::source) fn run(job: Job<'_>, limit: Duration) -> Result<Finished> {
    job.deadline_of(limit, Class::Host).run().map_err(|error| match error.class {
        Class::Host if error.what.contains("did not end within") => error.next(
            "check for a pipe or a dead network mount in the tree, the repository and those it borrows from",
        ),
        _ => error,
    })
}

/// The line for a directory in an alternates file. Some paths must be quoted, for example with a newline.
pub(super) fn alternate(objects: &Path) -> Vec<u8> {
    let path = objects.as_os_str().as_bytes();
    let mut text = Vec::new();
    if path.starts_with(b"\"") || path.starts_with(b"#") || path.contains(&b'\n') {
        text.push(b'"');
        for byte in path {
            match byte {
                b'\\' | b'"' => text.extend([b'\\', *byte]),
                b'\n' => text.extend(b"\\n"),
                other => text.push(*other),
            }
        }
        text.push(b'"');
    } else {
        text.extend(path);
    }
    text.push(b'\n');
    text
}

/// The private directory's configuration, independent of the repository's.
fn config(format: &str, reftable: bool) -> String {
    let mut text =
        "[core]\n\tbare = true\n\tfsmonitor = false\n\tuntrackedCache = false\n\tlogAllRefUpdates = false\n\
                    \thooksPath = /dev/null\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"
            .to_owned();
    let mut extensions = String::new();
    if format != "sha1" {
        extensions.push_str(&format!("\tobjectFormat = {format}\n"));
    }
    if reftable {
        extensions.push_str("\trefStorage = reftable\n");
    }
    if !extensions.is_empty() {
        text.push_str(&format!("[core]\n\trepositoryFormatVersion = 1\n[extensions]\n{extensions}"));
    }
    text
}

/// The settings of a repository that affect how to read it, or what its branches track. Ignores includes.
fn settings(cache: &Cache, common: &Path) -> Result<std::result::Result<Vec<(String, String)>, Wrong>> {
    let file = common.join("config");
    let bytes = match Top::open(common).and_then(|mut top| top.read(Path::new("config"), TEXT)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(Vec::new())),
        Err(error) => return Ok(Err(wrong(&file)(error))),
    };
    let scratch = cache.scratch()?;
    let copy = scratch.path().join("theirs");
    put(&copy, bytes)?;
    let mut command = clean_env::git(scratch.path());
    command.args(["config", "--file", "theirs", "--no-includes", "--null", "--get-regexp"]);
    command.arg(r"^(extensions\.(objectformat|refstorage)|branch\..*\.(remote|merge)|remote\..*\.fetch)$");
    let done = run(Job::new(command), LOOK_UP)?;
    match done.status.code() {
        Some(0 | 1) => (),
        _ => return Ok(Err(format!("{} is damaged: {}", file.display(), done.tail.join("; ")))),
    }
    let pairs = done.stdout.trim_end_matches('\n').split('\0').filter_map(|pair| pair.split_once('\n'));
    Ok(Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()))
}

/// A setting of a branch or remote in configuration file syntax; `None` if it cannot be written.
fn setting(key: &str, value: &str) -> Option<String> {
    let (section, rest) = key.split_once('.')?;
    let (name, variable) = rest.rsplit_once('.')?;
    if name.chars().chain(value.chars()).any(char::is_control) {
        return None;
    }
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    Some(format!("[{section} \"{}\"]\n\t{variable} = \"{}\"\n", quoted(name), quoted(value)))
}

/// Whether this is a full object ID.
pub(super) fn is_id(text: &str) -> bool {
    [40, 64].contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The *caller's* own exclude patterns, from the user's git settings and not from any repository. Empty if
/// there are none.
pub(in crate::source) fn users_excludes(cache: &Cache) -> Result<Vec<u8>> {
    let scratch = cache.scratch()?;
    let mut command = clean_env::git(scratch.path());
    for name in ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"] {
        command.env_remove(name);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let Some(home) = home else { return Ok(Vec::new()) };
    let config_home = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let config_home = config_home.unwrap_or_else(|| home.join(".config"));
    command.env("HOME", &home).env("XDG_CONFIG_HOME", &config_home);
    command.args(["config", "--global", "--type=path", "--get", "core.excludesFile"]);
    let done = run(Job::new(command), LOOK_UP)?;
    let named = done.stdout.trim_end_matches('\n');
    let file = if done.success() && !named.is_empty() {
        PathBuf::from(named)
    } else {
        config_home.join("git/ignore")
    };
    let Ok(file) = file.canonicalize() else { return Ok(Vec::new()) };
    let (Some(dir), Some(name)) = (file.parent(), file.file_name()) else { return Ok(Vec::new()) };
    Top::open(dir).and_then(|mut top| top.read(Path::new(name), TEXT)).on("cannot read", &file)
}
