// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tar:FILE`, and unpacking for everything else that comes as a tarball.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Resolved, SourceTree, kernel_version};
use crate::context::Context;
use crate::error::{Error, IoContext, Result};
use crate::interrupt;
use crate::proc::{Finished, Job, full_disk};
use crate::workdir::{Key, create_dir, hash_file, read_text, write_file};

/// Unpacks a kernel tarball of any compression that tar knows into the empty directory `into`, without its top
/// directory.
///
/// # Errors
/// When tar fails, or the tarball is not exactly one directory with a kernel in it.
pub fn unpack(ctx: &Context, tarball: &Path, into: &Path, subject: &str) -> Result<()> {
    let phase = ctx.bus.phase("unpack", subject);
    let inner = into.join(".unpack");
    create_dir(&inner)?;
    let mut command = Command::new("tar");
    // Records have 10 KiB; a line each 20 MB is what progress needs.
    command.args([
        "--checkpoint=2000",
        "--checkpoint-action=echo=%u",
        "--no-same-owner",
        "--no-same-permissions",
    ]);
    command.arg("-xf").arg(tarball).arg("-C").arg(&inner);
    // All cores, where the archive was written in blocks.
    command.env("XZ_DEFAULTS", "-T0").env("ZSTD_NBTHREADS", "0");
    let done = Job::new(command)
        .on_line(|_, line| {
            let record = line.rsplit(' ').next().and_then(|word| word.parse::<u64>().ok());
            if let Some(record) = record {
                phase.progress(record * 10_240, 0, "");
            }
        })
        .run()?;
    succeeded(done, format!("cannot unpack {}", tarball.display()))?;
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
            return Err(Error::usage(format!("{} is no kernel source", tarball.display()))
                .why(format!(
                    "it should hold exactly one directory with a kernel's Makefile, and holds {} entries: {}",
                    found.len(),
                    names.join(", ")
                ))
                .next("a tree in another shape can be used as tree:PATH"));
        }
    };
    for entry in fs::read_dir(top).on("cannot list", top)? {
        let entry = entry.on("cannot list", top)?;
        fs::rename(entry.path(), into.join(entry.file_name())).on("cannot move", entry.path())?;
    }
    fs::remove_dir(top).on("cannot remove", top)?;
    fs::remove_dir(&inner).on("cannot remove", &inner)?;
    phase.finish();
    Ok(())
}

/// Itself when the child succeeded; a full disk gets its advice.
///
/// # Errors
/// A host error that opens with `what`.
pub fn succeeded(done: Finished, what: impl Into<String>) -> Result<Finished> {
    if done.success() {
        return Ok(done);
    }
    let what = what.into();
    had_space(&done, &what)?;
    done.ok(what)
}

/// Fails when a child complained of a full disk, whatever status it ended with: apt-get calls that a warning.
///
/// # Errors
/// A host error that opens with `what` and shows only the complaint.
pub fn had_space(done: &Finished, what: &str) -> Result<()> {
    match done.no_space() {
        None => Ok(()),
        Some(line) => Err(full_disk(what, &done.command, line)),
    }
}

/// Where the hash of a file is remembered, by its path, size and mtime.
fn memo(ctx: &Context, file: &Path) -> Result<PathBuf> {
    let stat = fs::metadata(file).on("cannot read", file)?;
    let key = Key::of("file hash 1")
        .field("path", file.as_os_str().as_encoded_bytes())
        .field("size", stat.size().to_le_bytes())
        .field("mtime", format!("{}.{:09}", stat.mtime(), stat.mtime_nsec()))
        .finish();
    Ok(ctx.cache.path("hashes", key.as_str()))
}

/// Hash of a file's content, from memory where it can be.
pub(super) fn remembered_hash(ctx: &Context, file: &Path) -> Result<String> {
    let memo = memo(ctx, file)?;
    if let Ok(hash) = read_text(&memo) {
        return Ok(hash);
    }
    let hash = hash_file(file)?;
    if let Some(parent) = memo.parent() {
        create_dir(parent)?;
    }
    write_file(&memo, &hash)?;
    Ok(hash)
}

/// `linux-6.18.15` of `/x/linux-6.18.15.tar.xz`.
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
        return Err(no("it is no file".to_owned()).next("a directory is tree:PATH"));
    }
    Ok(path)
}

pub(super) fn resolve(ctx: &Context, file: &Path) -> Result<Resolved> {
    let path = checked(file)?;
    let size = fs::metadata(&path).on("cannot read", &path)?.len();
    // Hashing a tarball takes longer than a dry run may: one that was never hashed is simply not cached.
    let cached =
        read_text(&memo(ctx, &path)?).is_ok_and(|hash| ctx.cache.get("source", &entry(&hash)).is_some());
    Ok(Resolved {
        id: format!("tar:{}", stem(&path)),
        description: format!("{} ({} MB)", path.display(), size / 1_000_000),
        cached,
        path: Some(path),
        commits: 0,
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
    let (dir, _) =
        ctx.cache.get_or_make(&ctx.bus, "source", &entry(&hash), |dir| unpack(ctx, &path, dir, &id))?;
    let key = Key::of("source tarball 1").field("sha256", &hash).finish();
    Ok(SourceTree { id, dir, lineage: key.clone(), origin: Some(key.clone()), key, base_commit: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(status: i32, tail: &[&str]) -> Finished {
        Finished {
            status: std::os::unix::process::ExitStatusExt::from_raw(status << 8),
            tail: tail.iter().map(|&line| line.to_owned()).collect(),
            stdout: String::new(),
            command: "apt-get download x".to_owned(),
        }
    }

    #[test]
    fn a_full_disk_is_told_in_one_line() {
        // What apt-get and dpkg-deb printed on a full tmpfs.
        for line in [
            "E: You don't have enough free space in .",
            "  Error writing to file - write (28: No space left on device)",
            "dpkg-deb (subprocess): lzma write error: No space left on device",
        ] {
            let said = ["Get:1 x", "Ign:1 x", line, "NOTICE: packaging is maintained elsewhere"];
            let error = succeeded(finished(100, &said), "cannot download x").expect_err("full");
            assert_eq!(error.detail, [line.trim()]);
            assert!(error.next.is_some_and(|next| next.contains("free some space")));
            assert!(had_space(&finished(0, &said), "cannot read lists").is_err(), "whatever the status");
        }
        assert!(succeeded(finished(0, &["tar: No space left, as a file is named"]), "x").is_ok());
        let other = succeeded(finished(2, &["no such file"]), "x").expect_err("failed");
        assert_eq!((other.detail.len(), other.next), (1, None));
    }

    #[test]
    fn a_tarball_is_named_without_its_compression() {
        assert_eq!(stem(Path::new("/x/linux-6.18.15.tar.xz")), "linux-6.18.15");
        assert_eq!(stem(Path::new("linux-7.3.tgz")), "linux-7.3");
        assert_eq!(stem(Path::new("snapshot")), "snapshot");
    }
}
