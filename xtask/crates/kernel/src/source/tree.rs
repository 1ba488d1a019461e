// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tree:PATH`: a snapshot of the user's tree in the cache, with all files that git tracks or does not
//! ignore. Mtimes are kept, so that a tree that was built in place can be built elsewhere and make rebuilds
//! only what changed.
//!
//! The tree may be untrusted. git lists its files without its configuration (see
//! [`crate::source::git::place`]), and no symlink is followed to reach a file: a path that leads out of the
//! tree is not part of it.
//!
//! Changes are detected by file metadata including the ctime, which no program can set. The key is a hash of
//! the contents, so it is the same for another checkout of the same state, for example on another CI machine.
//! A changed file is replaced and never modified in place, because later stages hold hard links to it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use vmtest_host::store::CacheKind;

use nix::sys::stat::FileStat;

use crate::source::git::place::{self, Desk, Place, WALK};
use crate::source::git::{Repo, unquote};
use crate::source::tree::snapshot::refresh;
use crate::source::{Choice, MAX_FILE, MAX_TREE, Resolved, SourceTree, kernel_version, short_name};
use vmtest_base::beneath::{self, Kind, Top};
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::create_dir;
use vmtest_base::interrupt;
use vmtest_base::key::Key;
use vmtest_host::context::Context;
use vmtest_host::process::{Job, Stream};

mod manifest;
mod snapshot;

const FILE_TYPE: u32 = 0o170_000;
const SYMLINK: u32 = 0o120_000;

/// Largest `.gitignore`, since git reads it as a whole.
const MAX_PATTERNS: i64 = 16 << 20;
/// Most names in a warning.
const SHOWN: usize = 5;

/// The fields that identify one state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Stamp {
    mode: u32,
    size: u64,
    mtime: (i64, i64),
    /// ctime, device and inode: an edit that keeps size and mtime changes one of them.
    ctime: (i64, i64),
    inode: (u64, u64),
}

impl Stamp {
    fn of(stat: &FileStat) -> Stamp {
        Stamp {
            mode: stat.st_mode,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            ctime: (stat.st_ctime, stat.st_ctime_nsec),
            inode: (stat.st_dev, stat.st_ino),
        }
    }

    /// The fields that a copy of the file shares.
    fn visible(&self) -> (u32, u64, (i64, i64)) {
        (self.mode, self.size, self.mtime)
    }

    /// Whether an edit after `now` could leave the stamp unchanged: file system clocks have ticks of up to
    /// two seconds.
    fn is_fresh(&self, now: SystemTime) -> bool {
        const TICK: i64 = 2;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.ctime.0.max(self.mtime.0) + TICK >= i64::try_from(now).unwrap_or(i64::MAX)
    }
}

/// A file of the tree, with its path below the top.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Entry {
    path: Vec<u8>,
    stamp: Stamp,
}

impl Entry {
    fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }
}

/// The stamp of a regular file or symlink; else its kind, or `None` if it does not exist.
fn stamp(top: &mut Top, path: &Path) -> Result<std::result::Result<Stamp, Option<Kind>>> {
    let stat = match top.stat(path) {
        Ok(stat) => stat,
        Err(error) if beneath::gone(&error) => return Ok(Err(None)),
        Err(error) => return Err(error).on("cannot read", path),
    };
    Ok(match Kind::of(stat.st_mode) {
        Kind::File | Kind::Link => Ok(Stamp::of(&stat)),
        kind => Err(Some(kind)),
    })
}

fn below(top: &Path, path: &[u8]) -> PathBuf {
    top.join(OsStr::from_bytes(path))
}

/// Rejects files on which git would block, or which are too large for it, before git runs. Warns about other
/// special files, which are left out.
fn look_for_traps(ctx: &Context, top: &Path) -> Result<()> {
    let mut special: Vec<String> = Vec::new();
    let mut trap = None;
    let mut opener = Top::open(top).on("cannot open", top)?;
    let walked = beneath::walk(top, Path::new(""), &mut |path, kind| {
        let name = path.file_name().unwrap_or_default();
        if path == Path::new(".git") {
            return Ok(false);
        }
        let for_git = name == ".gitignore" || path.iter().any(|part| part == ".git");
        match kind {
            Kind::Special(kind) if for_git => {
                trap = Some((path.to_owned(), format!("it is {kind}, and git would read it")));
                return Err(io::Error::other("a trap"));
            }
            Kind::Special(kind) => special.push(format!("{} ({kind})", path.display())),
            Kind::File if name == ".gitignore" && opener.stat(path)?.st_size > MAX_PATTERNS => {
                trap = Some((path.to_owned(), "it is too long for a list of patterns".to_owned()));
                return Err(io::Error::other("a trap"));
            }
            _ => (),
        }
        if interrupt::requested().is_some() {
            return Err(io::Error::from(io::ErrorKind::Interrupted));
        }
        Ok(kind == Kind::Dir)
    });
    interrupt::check()?;
    if let Some((path, why)) = trap {
        return Err(Error::usage(format!("the files of {} cannot be listed", top.display()))
            .why(format!("{}: {why}", path.display()))
            .next("remove it, or check where this tree comes from"));
    }
    walked.on("cannot list", top)?;
    warn_of(ctx, top, "are not files and are left out", &special);
    Ok(())
}

fn warn_of(ctx: &Context, top: &Path, what: &str, names: &[String]) {
    if !names.is_empty() {
        let shown = names[..SHOWN.min(names.len())].join(", ");
        let more = match names.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        ctx.bus.warn(format!("{}: {shown}{more} {what}", top.display()));
    }
}

/// Sorted paths of all files that belong to the tree.
fn list(ctx: &Context, top: &Path) -> Result<Vec<Vec<u8>>> {
    look_for_traps(ctx, top)?;
    let cannot = || Error::host(format!("cannot list the files of {}", top.display()));
    let excludes = place::users_excludes(&ctx.cache)?;
    let desk = match Place::of_worktree(&ctx.cache, top)? {
        Some(Ok(place)) => place.desk_with_index(&ctx.cache, excludes)?,
        Some(Err(why)) => {
            return Err(cannot().why(why).next("fix its .git, or remove it: a tree does not need one"));
        }
        None => {
            // Not a repository: use an empty one to process .gitignore files.
            let desk = Desk::empty(&ctx.cache, "sha1")?;
            desk.exclude(&excludes)?;
            desk
        }
    };
    let mut command = desk.git();
    command.arg("--work-tree").arg(top).args(["-c", "core.quotePath=true"]);
    command.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let mut paths: Vec<Vec<u8>> = Vec::new();
    let lines = |stream: Stream, line: &str| {
        if stream == Stream::Out {
            paths.push(unquote(line).into_vec());
        }
    };
    let done = place::run(Job::new(command).on_line(lines), WALK)?;
    if !done.success() {
        return Err(done.error(cannot().what));
    }
    if !paths.iter().any(|path| path == b"Makefile") {
        // Debian's source packages ship a .gitignore that hides everything but their own directory.
        ctx.bus.warn(format!("{}: its .gitignore hides the source, so all files are used", top.display()));
        paths = everything(top)?;
    }
    // A file in conflict is listed once per side.
    paths.sort_unstable();
    paths.dedup();
    Ok(paths)
}

/// Every file below a directory except `.git`.
fn everything(top: &Path) -> Result<Vec<Vec<u8>>> {
    let mut paths = Vec::new();
    beneath::walk(top, Path::new(""), &mut |path, kind| {
        if matches!(kind, Kind::File | Kind::Link) {
            paths.push(path.as_os_str().as_bytes().to_vec());
        }
        Ok(path != Path::new(".git"))
    })
    .on("cannot list", top)?;
    paths.retain(|path| path != b".git");
    Ok(paths)
}

/// The stamps of these paths in the same order. Uses several threads, since there are 90,000 of them.
fn stamps(ctx: &Context, top: &Path, paths: Vec<Vec<u8>>) -> Result<Vec<Entry>> {
    let threads = threads();
    let share = paths.len().div_ceil(threads).max(1);
    type Part = Result<(Vec<Entry>, Vec<String>)>;
    let parts: Vec<Part> = std::thread::scope(|scope| {
        let workers: Vec<_> = paths
            .chunks(share)
            .map(|paths| {
                scope.spawn(move || {
                    let mut opener = Top::open(top).on("cannot open", top)?;
                    let mut entries = Vec::with_capacity(paths.len());
                    let mut behind = Vec::new();
                    for path in paths {
                        let entry = |stamp| Entry { path: path.clone(), stamp };
                        let name = Path::new(OsStr::from_bytes(path));
                        match stamp(&mut opener, name)? {
                            Ok(stamp) => entries.push(entry(stamp)),
                            // A file that is reached through a symlink is not part of the tree.
                            Err(None) if below(top, path).symlink_metadata().is_ok() => {
                                behind.push(name.display().to_string());
                            }
                            Err(_) => (),
                        }
                    }
                    Ok((entries, behind))
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("stat does not panic")).collect()
    });
    let mut entries = Vec::with_capacity(paths.len());
    let mut behind = Vec::new();
    for part in parts {
        let (some, links) = part?;
        entries.extend(some);
        behind.extend(links);
    }
    warn_of(ctx, top, "are reached through a link and left out", &behind);
    drop_below_symlinks(&mut entries);
    refuse_too_much(top, &entries)?;
    Ok(entries)
}

/// Drops paths below a symlink: tracked paths of a directory that was replaced by a symlink. Writing them
/// into the snapshot would follow that symlink out of the cache.
fn drop_below_symlinks(entries: &mut Vec<Entry>) {
    let links: Vec<Vec<u8>> = entries
        .iter()
        .filter(|entry| entry.stamp.mode & FILE_TYPE == SYMLINK)
        .map(|entry| [&entry.path[..], b"/"].concat())
        .collect();
    for link in links {
        let begin = entries.partition_point(|entry| entry.path < link);
        let count = entries[begin..].iter().take_while(|entry| entry.path.starts_with(&link)).count();
        entries.drain(begin..begin + count);
    }
}

/// A sparse file of a terabyte takes no space in the tree, but all of it in a copy.
fn refuse_too_much(top: &Path, entries: &[Entry]) -> Result<()> {
    let cannot = || Error::usage(format!("tree:{} is too large", top.display()));
    let next = "remove what is not source, or list it in .gitignore or .git/info/exclude";
    if let Some(large) = entries.iter().find(|entry| entry.stamp.size > MAX_FILE) {
        let why = format!("{} has {} GiB", large.path().display(), large.stamp.size >> 30);
        return Err(cannot().why(why).next(next));
    }
    let total: u64 = entries.iter().map(|entry| entry.stamp.size).sum();
    if total > MAX_TREE {
        return Err(cannot().why(format!("its files have {} GiB", total >> 30)).next(next));
    }
    Ok(())
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).min(8)
}

fn checked(path: &Path) -> Result<(PathBuf, String)> {
    let no = |why: String| Error::usage(format!("tree:{} is not a kernel tree", path.display())).why(why);
    let top = path.canonicalize().map_err(|error| no(error.to_string()))?;
    if !top.is_dir() {
        return Err(
            no("it is not a directory".to_owned()).next("a tarball is tar:FILE, a kernel image image:FILE")
        );
    }
    if let Some(version) = kernel_version(&top) {
        return Ok((top, version));
    }
    let error = no("it has no Makefile with VERSION and PATCHLEVEL".to_owned());
    let inside = top.ancestors().skip(1).find(|above| kernel_version(above).is_some());
    Err(match inside {
        Some(above) => error.next(format!("name the top of the tree: tree:{}", above.display())),
        None => error.next("name the top directory of a kernel's source"),
    })
}

fn lineage(top: &Path) -> Key {
    Key::of("tree lineage 1").field("path", top.as_os_str().as_bytes()).finish()
}

pub(super) fn resolve(ctx: &Context, path: &Path) -> Result<Resolved> {
    let (top, version) = checked(path)?;
    let repo = if top.join(".git").exists() { Repo::open(&ctx.cache, &top).ok() } else { None };
    let commit = repo.as_ref().and_then(|repo| repo.commit("HEAD").ok());
    let state = repo.zip(commit.as_ref()).map(|(repo, commit)| state(ctx, &top, &repo, commit));
    let head = commit.map(|commit| format!(" at {}", &commit[..12])).unwrap_or_default();
    let home = ctx.cache.path(CacheKind::Trees, lineage(&top).as_str());
    Ok(Resolved {
        id: format!("tree:{}", short_name(&top)),
        description: format!("kernel {version}{head}, as it is in {}", top.display()),
        cached: home.join("manifest").exists(),
        path: Some(top.clone()),
        state: state.unwrap_or_default(),
        commits: 0,
        choice: Choice::Tree(top),
    })
}

/// `topic@9673a52 +2 files`: how the tree differs from a commit.
fn state(ctx: &Context, top: &Path, repo: &Repo, commit: &str) -> String {
    let branch = repo.branch().map(|branch| format!("{branch}@")).unwrap_or_default();
    let files = match changed(ctx, top, commit) {
        None | Some(0) => String::new(),
        Some(1) => " +1 file".to_owned(),
        Some(count) => format!(" +{count} files"),
    };
    format!("{branch}{}{files}", &commit[..7])
}

/// How many tracked files differ from a commit; `None` if git cannot tell.
fn changed(ctx: &Context, top: &Path, commit: &str) -> Option<usize> {
    let place = Place::of_worktree(&ctx.cache, top).ok()??.ok()?;
    let desk = place.desk_with_index(&ctx.cache, place::users_excludes(&ctx.cache).ok()?).ok()?;
    let mut command = desk.git();
    command.arg("--work-tree").arg(top);
    command.args(["diff", "--no-ext-diff", "--no-textconv", "--ignore-submodules", "--name-only", commit]);
    let done = place::run(Job::new(command), WALK).ok()?;
    done.success().then(|| done.stdout.lines().count())
}

pub(super) fn fetch(ctx: &Context, path: &Path) -> Result<SourceTree> {
    let (top, _) = checked(path)?;
    let lineage = lineage(&top);
    let id = format!("tree:{}", short_name(&top));
    let home = ctx.cache.path(CacheKind::Trees, lineage.as_str());
    let _lock = ctx.cache.lock(&ctx.bus, CacheKind::Trees, lineage.as_str())?;
    create_dir(&home.join("files"))?;
    ctx.cache.hold(&home);
    let phase = ctx.bus.phase("snapshot", &id);
    let wanted = stamps(ctx, &top, list(ctx, &top)?)?;
    interrupt::check()?;
    let (held, unchanged) = refresh(&top, &home, wanted, &phase)?;
    let key = manifest::key(&held);
    if unchanged {
        phase.cached()
    } else {
        phase.finish()
    }
    Ok(SourceTree {
        id,
        dir: home.join("files"),
        key,
        origin: Some(crate::source::origin(&top)),
        lineage,
        base_commit: None,
    })
}

#[cfg(test)]
mod tests;
