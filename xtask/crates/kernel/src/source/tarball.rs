// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tar:FILE`, and unpacking of all other tarballs.

mod members;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::source::tarball::members::read_members;
use crate::source::{Choice, Resolved, SourceTree, kernel_version};
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::{create_dir, read_text, write_file};
use vmtest_base::interrupt;
use vmtest_base::key::{Key, hash_file};
use vmtest_host::context::Context;
use vmtest_host::process::{Finished, full_disk};
use vmtest_host::store::CacheKind;

/// Unpacks a kernel tarball into the empty directory `into`, without its top directory. Supports gzip, bzip2,
/// xz, zstd and no compression. Returns the SHA-256 of the file.
///
/// # Errors
/// Class `Usage` if the tarball is not exactly one directory with a kernel, or has members that no source
/// has; `Host` if it is damaged or the disk is full.
pub fn unpack(ctx: &Context, tarball: &Path, into: &Path, subject: &str) -> Result<String> {
    let phase = ctx.bus.phase("unpack", subject);
    let inner = into.join(".unpack");
    create_dir(&inner)?;
    let hash = read_members(tarball, &inner, |done| phase.progress(done, 0, ""))?;
    let mut tops = Vec::new();
    for entry in fs::read_dir(&inner).on("cannot list", &inner)? {
        tops.push(entry.on("cannot list", &inner)?.path());
    }
    let top = match tops.as_slice() {
        [top] if kernel_version(top).is_some() => top,
        found => {
            let names: Vec<_> = found
                .iter()
                .take(5)
                .filter_map(|path| path.file_name())
                .map(|n| n.to_string_lossy())
                .collect();
            return Err(Error::usage(format!("{} is not kernel source", tarball.display()))
                .why(format!(
                    "it should hold exactly one directory with a kernel's Makefile, but holds {} entries: {}",
                    found.len(),
                    names.join(", ")
                ))
                .next("use a tree with another layout as tree:PATH"));
        }
    };
    for entry in fs::read_dir(top).on("cannot list", top)? {
        let entry = entry.on("cannot list", top)?;
        fs::rename(entry.path(), into.join(entry.file_name())).on("cannot move", entry.path())?;
    }
    fs::remove_dir(top).on("cannot remove", top)?;
    fs::remove_dir(&inner).on("cannot remove", &inner)?;
    phase.finish();
    Ok(hash)
}

/// Returns the result if the child succeeded. The error for a full disk has a hint.
///
/// # Errors
/// A host error that starts with `what`.
pub fn succeeded(done: Finished, what: impl Into<String>) -> Result<Finished> {
    if done.success() {
        return Ok(done);
    }
    let what = what.into();
    had_space(&done, &what)?;
    done.ok(what)
}

/// Fails if a child reported a full disk, whatever its exit status: for apt-get that is only a warning.
///
/// # Errors
/// A host error that starts with `what` and shows only that line.
pub fn had_space(done: &Finished, what: &str) -> Result<()> {
    match done.no_space() {
        None => Ok(()),
        Some(line) => Err(full_disk(what, &done.command, line)),
    }
}

/// Where the hash of a file is remembered: keyed by its path and the fields that identify its state. `None`
/// for a file that was changed a moment ago, since another change may leave these fields as they are.
fn memo(ctx: &Context, file: &Path) -> Result<Option<PathBuf>> {
    const TICK: i64 = 2;
    let stat = fs::metadata(file).on("cannot read", file)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    if stat.ctime().max(stat.mtime()) + TICK >= i64::try_from(now).unwrap_or(i64::MAX) {
        return Ok(None);
    }
    let key = Key::of("file hash 2")
        .field("path", file.as_os_str().as_encoded_bytes())
        .field("size", stat.size().to_le_bytes())
        .field("mtime", format!("{}.{:09}", stat.mtime(), stat.mtime_nsec()))
        .field("ctime", format!("{}.{:09}", stat.ctime(), stat.ctime_nsec()))
        .field("inode", format!("{} {}", stat.dev(), stat.ino()))
        .finish();
    Ok(Some(ctx.cache.path(CacheKind::Hashes, key.as_str())))
}

/// Hash of a file's content, remembered if possible.
pub(super) fn remembered_hash(ctx: &Context, file: &Path) -> Result<String> {
    let memo = memo(ctx, file)?;
    if let Some(hash) = memo.as_ref().and_then(|memo| read_text(memo).ok()) {
        return Ok(hash);
    }
    let hash = hash_file(file)?;
    if let Some(memo) = memo {
        if let Some(parent) = memo.parent() {
            create_dir(parent)?;
        }
        write_file(&memo, &hash)?;
    }
    Ok(hash)
}

/// Fails if the file did not match its hash when it was used.
pub(super) fn same_content(file: &Path, hash: &str, seen: &str) -> Result<()> {
    if hash == seen {
        return Ok(());
    }
    Err(Error::host(format!("cannot use {}", file.display()))
        .why("it changed while it was read")
        .next("wait until nothing writes to it, then run this again"))
}

/// `linux-6.18.15` for `/x/linux-6.18.15.tar.xz`.
fn stem(file: &Path) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
    match name.find(".tar").or_else(|| name.rfind(".t")) {
        Some(end) if end > 0 => name[..end].to_owned(),
        _ => name,
    }
}

fn checked(file: &Path) -> Result<PathBuf> {
    let no = |why: String| Error::usage(format!("tar:{} cannot be used", file.display())).why(why);
    let path = file.canonicalize().map_err(|error| no(error.to_string()))?;
    if !path.is_file() {
        return Err(no("it is not a file".to_owned()).next("a directory is tree:PATH"));
    }
    Ok(path)
}

pub(super) fn resolve(ctx: &Context, file: &Path) -> Result<Resolved> {
    let path = checked(file)?;
    let size = fs::metadata(&path).on("cannot read", &path)?.len();
    // Hashing a tarball takes too long for a dry run: one without a remembered hash counts as not cached.
    let hash = memo(ctx, &path)?.and_then(|memo| read_text(&memo).ok());
    let cached = hash.is_some_and(|hash| ctx.cache.get(CacheKind::Source, &entry(&hash)).is_some());
    Ok(Resolved {
        id: format!("tar:{}", stem(&path)),
        description: format!("{} ({} MB)", path.display(), size / 1_000_000),
        cached,
        path: Some(path.clone()),
        state: String::new(),
        commits: 0,
        choice: Choice::Tarball(path),
    })
}

fn entry(hash: &str) -> String {
    format!("tar-{}", &hash[..20.min(hash.len())])
}

pub(super) fn fetch(ctx: &Context, file: &Path) -> Result<SourceTree> {
    let path = checked(file)?;
    let id = format!("tar:{}", stem(&path));
    let hash = remembered_hash(ctx, &path)?;
    interrupt::check()?;
    let (dir, _) = ctx.cache.get_or_make(&ctx.bus, CacheKind::Source, &entry(&hash), |dir| {
        let seen = unpack(ctx, &path, dir, &id)?;
        same_content(&path, &hash, &seen)
    })?;
    let key = Key::of("source tarball 1").field("sha256", &hash).finish();
    Ok(SourceTree { id, dir, lineage: key.clone(), origin: Some(key.clone()), key, base_commit: None })
}

#[cfg(test)]
mod tests;
