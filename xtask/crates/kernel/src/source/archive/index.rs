// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which kernels the Debian archive lists, and in which order to try them. Pure: apt fetches and verifies the
//! lists, this module parses them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::source::archive::version::{compare_versions, matches, newest_first};
use vmtest_host::debian_mirror::SUITES;

/// Every kernel that the archive lists.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Index {
    /// The mirror it was read from.
    pub mirror: String,
    /// When, in seconds since 1970.
    pub read_at: u64,
    /// Sources, unordered.
    pub sources: Vec<SourceRelease>,
    /// Prebuilt images, unordered.
    pub images: Vec<ImageRelease>,
}

/// How a source is packaged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// The upstream tarball of the source package `linux`.
    Tarball,
    /// The tarball inside the binary package of this name: upstream with Debian's patches.
    Package(String),
}

/// One version of the kernel's source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRelease {
    /// Upstream version: `6.18.15`.
    pub upstream: String,
    /// Version of the package: `6.18.15-1~bpo13+1`.
    pub version: String,
    /// How it is packaged.
    pub form: Form,
    /// Name of its suite for users.
    pub suite: String,
    /// Hash of the file to download.
    pub sha256: String,
    /// Bytes to download.
    pub size: u64,
}

/// One prebuilt image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRelease {
    /// Upstream version: `7.0.13`.
    pub upstream: String,
    /// `cloud-amd64`, `amd64` ..
    pub flavour: String,
    /// Package with the vmlinuz: `linux-binary-..` for newer versions, `linux-image-..` for older ones.
    pub package: String,
    pub version: String,
    /// Package of the same version with the configuration, if that is a separate one and listed.
    pub config_package: Option<String>,
    /// Signed for secure boot. Within a suite, an unsigned one is used only if there is no signed one.
    pub signed: bool,
    /// Name of its suite for users.
    pub suite: String,
    /// Hash of the package.
    pub sha256: String,
    /// Bytes to download.
    pub size: u64,
}

fn suite_rank(suite: &str) -> usize {
    SUITES.iter().position(|(_, name)| *name == suite).unwrap_or(SUITES.len())
}

impl Index {
    /// Sources that `wanted` may mean, in the order to try: newest version first; within a version the
    /// upstream tarball first, then the newest package.
    pub fn sources_for(&self, wanted: &str) -> Vec<&SourceRelease> {
        let mut found: Vec<_> =
            self.sources.iter().filter(|release| matches(&release.upstream, wanted)).collect();
        found.sort_by(|a, b| {
            compare_versions(&b.upstream, &a.upstream)
                .then(a.form.cmp(&b.form))
                .then_with(|| compare_versions(&b.version, &a.version))
                .then_with(|| suite_rank(&a.suite).cmp(&suite_rank(&b.suite)))
        });
        // Revisions of one version share the tarball, and several suites may have the same file.
        let mut seen = std::collections::HashSet::new();
        found.retain(|release| seen.insert(&release.sha256));
        found
    }

    /// Images that `wanted` may mean, in the order to try: newest version first, then by suite, signed first.
    pub fn images_for(&self, wanted: &str, flavour: &str) -> Vec<&ImageRelease> {
        let mut found: Vec<_> = self
            .images
            .iter()
            .filter(|image| image.flavour == flavour && matches(&image.upstream, wanted))
            .collect();
        found.sort_by(|a, b| {
            compare_versions(&b.upstream, &a.upstream)
                .then_with(|| suite_rank(&a.suite).cmp(&suite_rank(&b.suite)))
                .then_with(|| b.signed.cmp(&a.signed))
                .then_with(|| compare_versions(&b.version, &a.version))
        });
        found
    }

    /// Every upstream version that is listed in any form, newest first.
    pub fn versions(&self) -> Vec<&str> {
        let sources = self.sources.iter().map(|release| release.upstream.as_str());
        newest_first(sources.chain(self.images.iter().map(|image| image.upstream.as_str())))
    }
}

static STANZAS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)^Package: linux(?:-(?:source|image|binary|base)-\S+)?$").expect("a valid pattern")
});

static IMAGE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^linux-(image|binary|base)-(unsigned-)?((\d+(?:\.\d+)+)(?:\+[a-z0-9.]+)?)-((?:[a-z0-9]+-)*amd64)(-unsigned)?$",
    )
    .expect("a valid pattern")
});

/// The stanzas of kernels. A list has 60 MB, so a regex finds them: the regex crate is optimized even in a
/// debug build, a loop of our own is not.
fn stanzas(text: &str) -> impl Iterator<Item = &str> {
    STANZAS.find_iter(text).map(|found| {
        let rest = &text[found.start()..];
        rest.split_once("\n\n").map_or(rest, |(stanza, _)| stanza)
    })
}

/// A single-line field.
fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// `6.18.15` in `6.18.15-1~bpo13+1`.
fn upstream_of(version: &str) -> Option<&str> {
    let upstream = version.rsplit_once('-')?.0;
    upstream.starts_with(|c: char| c.is_ascii_digit()).then_some(upstream)
}

/// Adds the kernels of a `Sources` list.
pub(super) fn read_sources(text: &str, suite: &str, index: &mut Index) {
    for stanza in stanzas(text).filter(|stanza| field(stanza, "Package") == Some("linux")) {
        let Some(version) = field(stanza, "Version") else { continue };
        let Some(upstream) = upstream_of(version) else { continue };
        let sums = stanza.lines().skip_while(|line| !line.starts_with("Checksums-Sha256:")).skip(1);
        let tarball = sums.take_while(|line| line.starts_with(' ')).find_map(|line| {
            let mut words = line.split_whitespace();
            let (sum, size, name) = (words.next()?, words.next()?, words.next()?);
            name.contains(".orig.tar.").then(|| Some((sum, size.parse().ok()?)))?
        });
        let Some((sha256, size)) = tarball else { continue };
        index.sources.push(SourceRelease {
            upstream: upstream.to_owned(),
            version: version.to_owned(),
            form: Form::Tarball,
            suite: suite.to_owned(),
            sha256: sha256.to_owned(),
            size,
        });
    }
}

/// The relevant fields of a binary package's stanza.
struct Package<'a> {
    name: &'a str,
    version: &'a str,
    sha256: &'a str,
    size: u64,
    depends: &'a str,
}

impl<'a> Package<'a> {
    /// `None` for a stanza with a missing field.
    fn read(stanza: &'a str) -> Option<Package<'a>> {
        Some(Package {
            name: field(stanza, "Package")?,
            version: field(stanza, "Version")?,
            sha256: field(stanza, "SHA256")?,
            size: field(stanza, "Size")?.parse().ok()?,
            depends: field(stanza, "Depends").unwrap_or_default(),
        })
    }

    /// The release, if the package contains the kernel's source.
    fn source(&self, suite: &str) -> Option<SourceRelease> {
        Some(SourceRelease {
            upstream: upstream_of(self.version)?.to_owned(),
            version: self.version.to_owned(),
            form: Form::Package(self.name.to_owned()),
            suite: suite.to_owned(),
            sha256: self.sha256.to_owned(),
            size: self.size,
        })
    }
}

/// Adds the kernels of a `Packages` list.
pub(super) fn read_packages(text: &str, suite: &str, index: &mut Index) {
    // Packages `linux-base-..` with the configuration, by release and version.
    let mut bases = BTreeMap::new();
    // Images without a configuration, by the same key.
    let mut bare = Vec::new();
    for package in stanzas(text).filter_map(Package::read) {
        if package.name.starts_with("linux-source-") {
            index.sources.extend(package.source(suite));
            continue;
        }
        let Some(name) = IMAGE.captures(package.name) else { continue };
        let key = (format!("{}-{}", &name[3], &name[5]), package.version.to_owned());
        let kind = &name[1];
        if kind == "base" {
            bases.insert(key, package.name.to_owned());
            continue;
        }
        // From 6.19 on this package is empty and depends on the one with the kernel.
        if kind == "image" && package.depends.contains("linux-binary-") {
            continue;
        }
        let image = ImageRelease {
            upstream: name[4].to_owned(),
            flavour: name[5].to_owned(),
            package: package.name.to_owned(),
            version: package.version.to_owned(),
            config_package: None,
            signed: name.get(2).is_none() && name.get(6).is_none(),
            suite: suite.to_owned(),
            sha256: package.sha256.to_owned(),
            size: package.size,
        };
        if kind == "image" {
            index.images.push(image);
        } else {
            bare.push((key, image));
        }
    }
    for (key, image) in bare {
        index.images.push(ImageRelease { config_package: bases.get(&key).cloned(), ..image });
    }
}

#[cfg(test)]
mod tests;
