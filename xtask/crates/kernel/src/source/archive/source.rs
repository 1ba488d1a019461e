// SPDX-License-Identifier: MIT OR Apache-2.0
//! `src:VERSION`: source from the archive, either upstream's tarball or Debian's source package of that
//! version.

use std::path::{Path, PathBuf};

use crate::source::archive::apt::Archive;
use crate::source::archive::candidate::{Candidate, Presence, entries, first_present, went_away, without};
use crate::source::archive::index::{Form, Index, SourceRelease};
use crate::source::archive::package::{Picked, extract};
use crate::source::archive::version::{compare_versions, matches, newest_first};
use crate::source::{self, Resolved, SourceTree, unpack};
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::files::read_text;
use vmtest_base::interrupt;
use vmtest_base::key::Key;
use vmtest_base::program;
use vmtest_base::similar;
use vmtest_host::context::Context;
use vmtest_host::store::CacheKind;

/// The first word of this file is the version that the project's own series is made for.
const SERIES_BASE: &str = "patches/fsession-6.18/base";

impl Candidate for SourceRelease {
    const KIND: CacheKind = CacheKind::Source;

    fn entry(&self) -> String {
        let form = match self.form {
            Form::Tarball => "tarball",
            Form::Package(_) => "package",
        };
        format!("debian-{form}-{}-{}", self.upstream, &self.sha256[..12.min(self.sha256.len())])
    }

    fn describe(&self) -> String {
        match &self.form {
            Form::Tarball => format!("upstream tarball of linux {} in {}", self.version, self.suite),
            Form::Package(name) => {
                format!("package {name} {} in {}, with Debian's patches", self.version, self.suite)
            }
        }
    }

    fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// Upstream version in the name of an entry, see [`Candidate::entry`].
fn upstream_of_entry(name: &str) -> Option<&str> {
    let (_form, rest) = name.strip_prefix("debian-")?.split_once('-')?;
    Some(rest.rsplit_once('-')?.0)
}

/// The cached source of exactly this version, which needs neither index nor network.
pub(super) fn cached_source(ctx: &Context, upstream: &str) -> Option<String> {
    let names = entries(ctx, SourceRelease::KIND).into_iter();
    // "package" < "tarball": prefers the upstream tarball.
    names.filter(|name| upstream_of_entry(name) == Some(upstream)).max()
}

/// The newest cached version that `wanted` may mean, for a host that cannot reach the archive.
fn newest_cached(ctx: &Context, wanted: &str) -> Option<Choice> {
    let names = entries(ctx, SourceRelease::KIND);
    let versions = names.iter().filter_map(|name| upstream_of_entry(name));
    let upstream = versions.filter(|found| matches(found, wanted)).max_by(|a, b| compare_versions(a, b))?;
    Some(Choice::Cached { entry: cached_source(ctx, upstream)?, upstream: upstream.to_owned() })
}

/// The version that the project's series is for, if `wanted` may mean that.
fn series_base(ctx: &Context, wanted: &str) -> Option<String> {
    let text = read_text(&ctx.project.join(SERIES_BASE)).ok()?;
    let base = text.split_whitespace().next()?;
    matches(base, wanted).then(|| base.to_owned())
}

/// What a `src:` spec means.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    /// A cache entry.
    Cached { entry: String, upstream: String },
    /// Releases to try, in this order; never empty.
    Try { releases: Vec<SourceRelease>, why: &'static str },
}

/// Checks the cache first, then the archive's index, then the cache for any matching version.
fn choose(
    ctx: &Context,
    wanted: &str,
    index: impl FnOnce() -> Result<Index>,
    absent: impl FnOnce() -> Vec<String>,
) -> Result<Choice> {
    let base = series_base(ctx, wanted);
    let exact = base.as_deref().unwrap_or(wanted);
    if let Some(entry) = cached_source(ctx, exact) {
        return Ok(Choice::Cached { entry, upstream: exact.to_owned() });
    }
    match index() {
        Ok(index) => choose_release(ctx, wanted, base.as_deref(), &index, &absent()),
        Err(error) if error.class == Class::Host => {
            let Some(cached) = newest_cached(ctx, wanted) else { return Err(error) };
            ctx.bus.warn(format!("using the cached src:{wanted}: {}", error.summary()));
            Ok(cached)
        }
        Err(error) => Err(error),
    }
}

fn choose_release(
    ctx: &Context,
    wanted: &str,
    base: Option<&str>,
    index: &Index,
    absent: &[String],
) -> Result<Choice> {
    let mut releases = Vec::new();
    let mut why = "newest of that series";
    if let Some(base) = base {
        releases = without(absent, index.sources_for(base));
        if releases.is_empty() {
            ctx.bus.note(format!("{SERIES_BASE} names {base}, which is no longer in the archive"));
        } else {
            why = "base of the project's series";
        }
    }
    for release in without(absent, index.sources_for(wanted)) {
        if !releases.contains(&release) {
            releases.push(release);
        }
    }
    let Some(first) = releases.first() else { return Err(no_such_source(wanted, index)) };
    if first.upstream == wanted {
        why = "as requested";
    }
    Ok(Choice::Try { releases, why })
}

fn no_such_source(wanted: &str, index: &Index) -> Error {
    let here = newest_first(index.sources.iter().map(|release| release.upstream.as_str()));
    Error::host(format!("cannot find source of kernel {wanted} in the Debian archive"))
        .why(format!("available on {}: {}", index.mirror, here.join(", ")))
        .next(similar::or(
            wanted,
            &here,
            &format!(
                "use one of these, a tarball as tar:FILE, or a repository as git:PATH@REV; `{}` lists all",
                program::command("sources")
            ),
        ))
}

/// The newest release of this series, or of all, that the archive lists; if it cannot be reached, that is in the cache.
///
/// # Errors
/// If there is none.
pub(crate) fn newest(ctx: &Context, series: Option<&str>) -> Result<String> {
    let found = |versions: &mut dyn Iterator<Item = &str>| {
        // `7.0~rc3` is not a release.
        let released = |version: &&str| version.chars().all(|c| c.is_ascii_digit() || c == '.');
        let wanted =
            versions.filter(released).filter(|version| series.is_none_or(|series| matches(version, series)));
        newest_first(wanted).first().map(|version| (*version).to_owned())
    };
    match Archive::new(ctx).index() {
        Ok(index) => {
            let listed = found(&mut index.sources.iter().map(|release| release.upstream.as_str()));
            listed.ok_or_else(|| no_such_source(series.unwrap_or("latest"), &index))
        }
        Err(error) if error.class == Class::Host => {
            let names = entries(ctx, SourceRelease::KIND);
            let version = found(&mut names.iter().filter_map(|name| upstream_of_entry(name)));
            let Some(version) = version else { return Err(error) };
            ctx.bus.warn(format!("{version} is the newest in the cache: {}", error.summary()));
            Ok(version)
        }
        Err(error) => Err(error),
    }
}

/// Resolves `src:WANTED`.
///
/// # Errors
/// If the archive cannot be reached, or has no such version.
pub(crate) fn resolve_source(ctx: &Context, wanted: &str) -> Result<Resolved> {
    let archive = Archive::new(ctx);
    let choice = choose(ctx, wanted, || archive.index(), || archive.absent())?;
    let (upstream, description, cached) = match &choice {
        Choice::Cached { upstream, entry } => {
            (upstream, format!("kernel {upstream} of the Debian archive, cached ({entry})"), true)
        }
        Choice::Try { releases, why } => {
            let first = &releases[0];
            let cached = ctx.cache.get(SourceRelease::KIND, &first.entry()).is_some();
            (&first.upstream, format!("{}; {why}", first.describe()), cached)
        }
    };
    Ok(Resolved {
        id: format!("src:{upstream}"),
        description,
        cached,
        path: None,
        state: String::new(),
        commits: 0,
        choice: source::Choice::Source(wanted.to_owned(), choice),
    })
}

/// Fetches the source that `src:WANTED` was resolved to: the first candidate that the mirror really has.
///
/// # Errors
/// If a download or the disk fails, or if the source was removed from the cache and is no longer in the
/// archive.
pub(crate) fn fetch_source(ctx: &Context, wanted: &str, choice: &Choice) -> Result<SourceTree> {
    let archive = Archive::new(ctx);
    match choice {
        Choice::Cached { entry, upstream } => match ctx.cache.get(SourceRelease::KIND, entry) {
            Some(dir) => Ok(tree(upstream, entry, dir)),
            None => {
                went_away(ctx, SourceRelease::KIND, entry)?;
                // The same version again, since it is in the name of the column.
                let again = choose(ctx, upstream, || archive.index(), || archive.absent())?;
                fetch_source(ctx, upstream, &again)
            }
        },
        Choice::Try { releases, why } => {
            ctx.bus.note(format!("src:{wanted} is {}; {why}", releases[0].describe()));
            let get = |release: &SourceRelease, dir: &Path| get_source(&archive, release, dir);
            let (release, dir) = first_present(&archive, &format!("src:{wanted}"), releases, get)?;
            Ok(tree(&release.upstream, &release.entry(), dir))
        }
    }
}

fn tree(upstream: &str, entry: &str, dir: PathBuf) -> SourceTree {
    SourceTree {
        id: format!("src:{upstream}"),
        dir,
        key: Key::of("source archive 1").field("entry", entry).finish(),
        lineage: Key::of("archive lineage 1").field("version", upstream).finish(),
        origin: None,
        base_commit: None,
    }
}

/// Downloads a release and unpacks it into `dir`.
fn get_source(archive: &Archive<'_>, release: &SourceRelease, dir: &Path) -> Result<Presence> {
    let ctx = archive.ctx;
    let id = format!("src:{}", release.upstream);
    let scratch = ctx.cache.scratch()?;
    let tarball_package = format!("linux={}", release.version);
    let args: Vec<String> = match &release.form {
        Form::Tarball => {
            ["source", "--download-only", "--tar-only", &tarball_package].map(str::to_owned).into()
        }
        Form::Package(name) => vec!["download".to_owned(), format!("{name}={}", release.version)],
    };
    let Some(file) =
        archive.download(scratch.path(), &args, release.size, Some(&release.sha256), &release.describe())?
    else {
        return Ok(Presence::Absent);
    };
    interrupt::check()?;
    match &release.form {
        Form::Tarball => drop(unpack(ctx, &file, dir, &id)?),
        Form::Package(_) => {
            extract(&file, scratch.path(), inner_tarball)?;
            unpack(ctx, &scratch.path().join("source.tar"), dir, &id)?;
        }
    }
    Ok(Presence::Present)
}

/// The tarball inside a package `linux-source-X.Y`.
fn inner_tarball(members: &[&str]) -> Option<Vec<Picked>> {
    let wanted = |name: &str| name.contains("/usr/src/linux-source-") && name.contains(".tar.");
    let found = members.iter().find(|name| wanted(name))?;
    Some(vec![((*found).to_owned(), "source.tar")])
}

#[cfg(test)]
mod tests;
