// SPDX-License-Identifier: MIT OR Apache-2.0
//! Selects the first of several matching releases that the mirror really has: lists can name files that are
//! gone.

use std::fs;
use std::path::{Path, PathBuf};

use crate::source::archive::apt::Archive;
use vmtest_base::error::{Error, Result};
use vmtest_base::interrupt;
use vmtest_host::context::Context;
use vmtest_host::debian_mirror::OTHER_WAYS;
use vmtest_host::store::CacheKind;

/// A release that can be downloaded.
pub(super) trait Candidate: Clone {
    /// Kind of its cache entry.
    const KIND: CacheKind;

    /// Name of its cache entry.
    fn entry(&self) -> String;

    /// Package, version and suite, for users.
    fn describe(&self) -> String;

    /// Hash of the file to download.
    fn sha256(&self) -> &str;
}

/// Whether the mirror has a listed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It was downloaded.
    Present,
    /// The mirror does not have it.
    Absent,
}

/// The releases that are not known to be missing from the mirror.
pub(super) fn without<C: Candidate>(absent: &[String], found: Vec<&C>) -> Vec<C> {
    found.into_iter().filter(|one| !absent.iter().any(|sum| sum == one.sha256())).cloned().collect()
}

/// Names of the cache entries of one kind.
pub(super) fn entries(ctx: &Context, kind: CacheKind) -> Vec<String> {
    let names = fs::read_dir(ctx.cache.path(kind, "")).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Handles an entry that existed when it was resolved but cannot be used now, because it was damaged or
/// pruned. Succeeds if it is gone, so that the caller can resolve again.
///
/// # Errors
/// If it still exists and would be found again.
pub(super) fn went_away(ctx: &Context, kind: CacheKind, entry: &str) -> Result<()> {
    ctx.cache.report_removed(&ctx.bus);
    let path = ctx.cache.path(kind, entry);
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(Error::host(format!("{} cannot be used and cannot be removed", path.display()))
        .next("remove it, then run the same command again"))
}

/// The first candidate that the mirror has, and its directory in the cache. `make` downloads one and fills
/// the directory.
///
/// # Errors
/// If the mirror has none of them, and those of `make`.
pub(super) fn first_present<'c, C: Candidate>(
    archive: &Archive<'_>,
    asked: &str,
    candidates: &'c [C],
    make: impl Fn(&C, &Path) -> Result<Presence>,
) -> Result<(&'c C, PathBuf)> {
    let ctx = archive.ctx;
    let absent = archive.absent();
    // Another column with the same kernel may have found out meanwhile that the mirror does not have one.
    let listed = candidates.iter().filter(|candidate| !absent.iter().any(|sum| sum == candidate.sha256()));
    for candidate in listed {
        interrupt::check()?;
        let mut presence = Presence::Present;
        let made = ctx.cache.get_or_make(&ctx.bus, C::KIND, &candidate.entry(), |dir| {
            presence = make(candidate, dir)?;
            match presence {
                Presence::Present => Ok(()),
                Presence::Absent => Err(Error::host("the mirror answers 404")),
            }
        });
        match (made, presence) {
            (Ok((dir, _)), _) => return Ok((candidate, dir)),
            (Err(_), Presence::Absent) => {
                ctx.bus.note(format!("the mirror lists {} but does not have it", candidate.describe()));
                archive.remember_absent(candidate.sha256())?;
            }
            (Err(error), Presence::Present) => return Err(error.within(format!("cannot get {asked}"))),
        }
    }
    Err(Error::host(format!("cannot get {asked}"))
        .why(format!("the mirror lists {} candidate(s) but has none of them", candidates.len()))
        .next(format!("choose another mirror with --mirror URL or VMTEST_DEBIAN_MIRROR, {OTHER_WAYS}")))
}
