// SPDX-License-Identifier: MIT OR Apache-2.0
//! `debian:VERSION[/FLAVOUR]`: a prebuilt image of the archive, with its configuration if available.

use std::fs;
use std::path::{Path, PathBuf};

use crate::source::archive::apt::Archive;
use crate::source::archive::candidate::{Candidate, Presence, entries, first_present, went_away, without};
use crate::source::archive::index::{ImageRelease, Index};
use crate::source::archive::package::{Picked, extract};
use crate::source::archive::version::{compare_versions, newest_first};
use crate::source::{self, Prebuilt, Resolved, release_of};
use crate::spec::{DEFAULT_FLAVOUR, KernelSpec};
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::key::Key;
use vmtest_base::program;
use vmtest_base::similar;
use vmtest_host::context::Context;
use vmtest_host::store::CacheKind;

impl Candidate for ImageRelease {
    const KIND: CacheKind = CacheKind::Image;

    fn entry(&self) -> String {
        format!("debian-{}-{}-{}", self.upstream, self.flavour, &self.sha256[..12.min(self.sha256.len())])
    }

    fn describe(&self) -> String {
        let unsigned = if self.signed { "" } else { ", unsigned" };
        format!("package {} {} in {}{unsigned}", self.package, self.version, self.suite)
    }

    fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// The cached image of exactly this version and flavour.
pub(super) fn cached_image(ctx: &Context, upstream: &str, flavour: &str) -> Option<String> {
    let prefix = format!("debian-{upstream}-{flavour}-");
    entries(ctx, ImageRelease::KIND)
        .into_iter()
        .filter(|name| name.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('-')))
        .max()
}

/// Versions of one flavour whose image is in the cache.
pub(super) fn cached_versions(ctx: &Context, flavour: &str) -> Vec<String> {
    let version = |name: &str| {
        let (version, rest) = name.strip_prefix("debian-")?.split_once('-')?;
        let (of, hash) = rest.rsplit_once('-')?;
        (of == flavour && !hash.is_empty()).then(|| version.to_owned())
    };
    entries(ctx, ImageRelease::KIND).iter().filter_map(|name| version(name)).collect()
}

fn image_id(upstream: &str, flavour: &str) -> String {
    KernelSpec::Debian { version: upstream.to_owned(), flavour: flavour.to_owned() }.to_string()
}

/// What a `debian:` spec means.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    /// A cache entry of exactly the requested version.
    Cached(String),
    /// Images to try, in this order; never empty.
    Try(Vec<ImageRelease>),
}

/// Checks the cache first, then the archive's index.
fn choose(archive: &Archive<'_>, wanted: &str, flavour: &str) -> Result<Choice> {
    if let Some(entry) = cached_image(archive.ctx, wanted, flavour) {
        return Ok(Choice::Cached(entry));
    }
    let index = archive.index()?;
    let found = without(&archive.absent(), index.images_for(wanted, flavour));
    if found.is_empty() { Err(no_such_image(wanted, flavour, &index)) } else { Ok(Choice::Try(found)) }
}

fn no_such_image(wanted: &str, flavour: &str, index: &Index) -> Error {
    let error = Error::host(format!("cannot find image {wanted} of flavour {flavour} in the Debian archive"));
    let of_flavour = index.images.iter().filter(|image| image.flavour == flavour);
    let versions = newest_first(of_flavour.map(|image| image.upstream.as_str()));
    if versions.is_empty() {
        let mut flavours: Vec<&str> = index.images.iter().map(|image| image.flavour.as_str()).collect();
        flavours.sort_unstable();
        flavours.dedup();
        let example = flavours.first().copied().unwrap_or(DEFAULT_FLAVOUR);
        return error
            .why(format!("available flavours: {}", flavours.join(", ")))
            .next(format!("name one of them: debian:{wanted}/{example}"));
    }
    // Show the versions closest to the missing one.
    let at = versions.partition_point(|version| compare_versions(version, wanted).is_gt());
    let near = &versions[at.saturating_sub(4)..versions.len().min(at + 4)];
    error.why(format!("closest available on {}: {}", index.mirror, near.join(", "))).next(similar::or(
        wanted,
        &versions,
        &format!(
            "use one of these, or your own kernel as image:FILE; `{}` lists all",
            program::command("sources")
        ),
    ))
}

/// Resolves `debian:WANTED/FLAVOUR`.
///
/// # Errors
/// If the archive cannot be reached, or has no such image.
pub(crate) fn resolve_image(ctx: &Context, wanted: &str, flavour: &str) -> Result<Resolved> {
    let choice = choose(&Archive::new(ctx), wanted, flavour)?;
    let (upstream, description, cached) = match &choice {
        Choice::Cached(entry) => {
            (wanted, format!("image {wanted} of the Debian archive, cached ({entry})"), true)
        }
        Choice::Try(images) => {
            let first = &images[0];
            let same = |image: &&ImageRelease| image.upstream == first.upstream && image.suite != first.suite;
            let others: Vec<&str> = images.iter().filter(same).map(|image| image.suite.as_str()).collect();
            let also =
                if others.is_empty() { String::new() } else { format!(" (also in {})", others.join(", ")) };
            let cached = ctx.cache.get(ImageRelease::KIND, &first.entry()).is_some();
            (first.upstream.as_str(), format!("{}{also}", first.describe()), cached)
        }
    };
    Ok(Resolved {
        id: image_id(upstream, flavour),
        description,
        cached,
        path: None,
        state: String::new(),
        commits: 0,
        choice: source::Choice::Image(wanted.to_owned(), flavour.to_owned(), choice),
    })
}

/// Fetches the image that `debian:WANTED/FLAVOUR` was resolved to.
///
/// # Errors
/// If a download or the disk fails, or if the image was removed from the cache and is no longer in the
/// archive.
pub(crate) fn fetch_image(ctx: &Context, wanted: &str, flavour: &str, choice: &Choice) -> Result<Prebuilt> {
    let archive = Archive::new(ctx);
    match choice {
        Choice::Cached(entry) => match ctx.cache.get(ImageRelease::KIND, entry) {
            Some(dir) => prebuilt(wanted, flavour, entry, &dir),
            None => {
                went_away(ctx, ImageRelease::KIND, entry)?;
                fetch_image(ctx, wanted, flavour, &choose(&archive, wanted, flavour)?)
            }
        },
        Choice::Try(images) => {
            let asked = image_id(wanted, flavour);
            ctx.bus.note(format!("{asked} is {}", images[0].describe()));
            let get = |image: &ImageRelease, dir: &Path| get_image(&archive, image, dir);
            let (image, dir) = first_present(&archive, &asked, images, get)?;
            prebuilt(&image.upstream, flavour, &image.entry(), &dir)
        }
    }
}

fn prebuilt(upstream: &str, flavour: &str, entry: &str, dir: &Path) -> Result<Prebuilt> {
    let image = dir.join("vmlinuz");
    Ok(Prebuilt {
        id: image_id(upstream, flavour),
        release: release_of(&image)?,
        image,
        config: Some(dir.join("config")).filter(|config| config.exists()),
        key: Key::of("image archive 1").field("entry", entry).finish(),
    })
}

/// Fills `dir` with `vmlinuz` and, if available, `config`.
fn get_image(archive: &Archive<'_>, image: &ImageRelease, dir: &Path) -> Result<Presence> {
    let kernel = |members: &[&str]| {
        Some(boot_files(members)).filter(|found| found.iter().any(|(_, name)| *name == "vmlinuz"))
    };
    let package = Package { name: &image.package, size: image.size, sha256: Some(&image.sha256) };
    if get_files(archive, image, &package, dir, kernel)? == Presence::Absent {
        return Ok(Presence::Absent);
    }
    if let Some(package) = &image.config_package {
        // Its size is not in the index, so the progress is a percentage. A kernel without its configuration
        // still boots.
        let package = Package { name: package, size: 0, sha256: None };
        get_files(archive, image, &package, dir, |members| Some(boot_files(members)))?;
    }
    if !dir.join("config").exists() {
        let text = format!("the archive has no configuration for {} {}", image.package, image.version);
        archive.ctx.bus.note(text);
    }
    Ok(Presence::Present)
}

/// A package of an image, as far as the index describes it.
struct Package<'a> {
    name: &'a str,
    size: u64,
    sha256: Option<&'a str>,
}

/// Downloads a package of the image's version and moves the files that `pick` selects into `dir`.
fn get_files(
    archive: &Archive<'_>,
    image: &ImageRelease,
    package: &Package<'_>,
    dir: &Path,
    pick: impl Fn(&[&str]) -> Option<Vec<Picked>>,
) -> Result<Presence> {
    let scratch = archive.ctx.cache.scratch()?;
    let args = ["download".to_owned(), format!("{}={}", package.name, image.version)];
    let what = format!("{} {}", package.name, image.version);
    let Some(file) = archive.download(scratch.path(), &args, package.size, package.sha256, &what)? else {
        return Ok(Presence::Absent);
    };
    extract(&file, scratch.path(), pick)?;
    for name in ["vmlinuz", "config"] {
        let from: PathBuf = scratch.path().join(name);
        if from.exists() {
            fs::rename(&from, dir.join(name)).on("cannot move", &from)?;
        }
    }
    Ok(Presence::Present)
}

/// The kernel, and its configuration if the package has it: in /boot in older packages, in /usr/lib/modules
/// from 7.2 on.
fn boot_files(members: &[&str]) -> Vec<Picked> {
    let within = |name: &str| name.starts_with("./boot/") || name.starts_with("./usr/lib/modules/");
    let find = |wanted: &str| {
        members.iter().find(|name| {
            let last = name.rsplit('/').next().unwrap_or_default();
            within(name)
                && (last == wanted
                    || last.starts_with(&format!("{wanted}-"))
                    || last == format!("{wanted}.unsigned"))
        })
    };
    let mut found = Vec::new();
    found.extend(find("vmlinuz").map(|name| ((*name).to_owned(), "vmlinuz")));
    found.extend(find("config").map(|name| ((*name).to_owned(), "config")));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_found_where_each_debian_version_put_them() {
        // From linux-image-6.12.107, linux-binary-7.2.12, linux-binary-unsigned-7.3.4 and linux-base-7.3.4.
        let old = [
            "./boot/",
            "./boot/System.map-6.12.107+deb13",
            "./boot/config-6.12.107+deb13",
            "./boot/vmlinuz-6.12.107+deb13",
        ];
        let names =
            |members: &[&str]| boot_files(members).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        assert_eq!(names(&old), ["vmlinuz", "config"]);
        assert_eq!(names(&["./usr/lib/modules/7.2.12+deb13-cloud-amd64/vmlinuz"]), ["vmlinuz"]);
        assert_eq!(names(&["./usr/lib/modules/7.3.4+deb13-cloud-amd64/vmlinuz.unsigned"]), ["vmlinuz"]);
        assert_eq!(
            names(&["./usr/lib/modules/7.3.4+deb13/System.map", "./usr/lib/modules/7.3.4+deb13/config"]),
            ["config"]
        );
        assert!(names(&["./usr/share/doc/x/config"]).is_empty());
    }
}
