// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which kernels the Debian archive lists, and in which order to try them. Pure: apt fetches and verifies the lists,
//! this reads them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// Suites that are looked at, in the order of preference: name in the archive, name for people.
pub const SUITES: [(&str, &str); 3] =
    [("trixie", "stable"), ("trixie-backports", "backports"), ("testing", "testing")];

/// Every kernel that the archive lists.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Index {
    /// The mirror it was read from.
    pub mirror: String,
    /// When, in seconds since 1970.
    pub read_at: u64,
    /// Sources, unordered.
    pub sources: Vec<SourceRelease>,
    /// Prebuilt images, unordered.
    pub images: Vec<ImageRelease>,
}

/// In which form a source comes.
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
    /// How it comes.
    pub form: Form,
    /// Name for people of the suite that has it.
    pub suite: String,
    /// Of the file to download.
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
    /// Package that holds the vmlinuz: `linux-binary-..` of newer versions, `linux-image-..` of older ones.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Package of the same version that holds the configuration, when that is another and is listed.
    pub config_package: Option<String>,
    /// Signed for secure boot; an unsigned one is taken only where nothing else is.
    pub signed: bool,
    /// Name for people of the suite that has it.
    pub suite: String,
    /// Of the package.
    pub sha256: String,
    /// Bytes to download.
    pub size: u64,
}

/// Compares two Debian version strings the way dpkg does (epochs aside: kernels have none).
pub fn compare_versions(left: &str, right: &str) -> Ordering {
    // `~` sorts before the end of the string, the end before letters, letters before the rest.
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    };
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    let starts_with_text = |text: &[u8]| text.first().is_some_and(|byte| !byte.is_ascii_digit());
    while !left.is_empty() || !right.is_empty() {
        while starts_with_text(left) || starts_with_text(right) {
            match weight(left.first()).cmp(&weight(right.first())) {
                Ordering::Equal => (left, right) = (&left[1..], &right[1..]),
                different => return different,
            }
        }
        let (number_left, number_right) = (take_number(&mut left), take_number(&mut right));
        // Of two numbers without leading zeros the longer is the larger.
        match number_left.len().cmp(&number_right.len()).then(number_left.cmp(number_right)) {
            Ordering::Equal => (),
            different => return different,
        }
    }
    Ordering::Equal
}

/// Cuts the leading digits off, and gives them without leading zeros.
fn take_number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
    &digits[zeros..]
}

/// Whether an upstream version is `wanted` or one of its point releases: 6.1 has 6.1.5 and not 6.18.
pub fn matches(upstream: &str, wanted: &str) -> bool {
    upstream.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn suite_rank(suite: &str) -> usize {
    SUITES.iter().position(|(_, name)| *name == suite).unwrap_or(SUITES.len())
}

impl Index {
    /// Sources that `wanted` may mean, in the order to try: newest version first, of one version the plain tarball
    /// first, then the newest package.
    pub fn sources_for(&self, wanted: &str) -> Vec<&SourceRelease> {
        let mut found: Vec<_> =
            self.sources.iter().filter(|release| matches(&release.upstream, wanted)).collect();
        found.sort_by(|a, b| {
            compare_versions(&b.upstream, &a.upstream)
                .then(a.form.cmp(&b.form))
                .then_with(|| compare_versions(&b.version, &a.version))
                .then_with(|| suite_rank(&a.suite).cmp(&suite_rank(&b.suite)))
        });
        // Revisions of one version share the tarball, and a suite may repeat what another has.
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
        let mut all: Vec<&str> =
            sources.chain(self.images.iter().map(|image| image.upstream.as_str())).collect();
        all.sort_by(|a, b| compare_versions(b, a));
        all.dedup();
        all
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

/// The stanzas of kernels. A whole list has 60 MB, so a regex finds them: it is compiled with optimisation even in a
/// debug build, and a loop of our own is not.
fn stanzas(text: &str) -> impl Iterator<Item = &str> {
    STANZAS.find_iter(text).map(|found| {
        let rest = &text[found.start()..];
        rest.split_once("\n\n").map_or(rest, |(stanza, _)| stanza)
    })
}

/// A field of one line.
fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// `6.18.15` of `6.18.15-1~bpo13+1`.
fn upstream_of(version: &str) -> Option<&str> {
    let upstream = version.rsplit_once('-')?.0;
    upstream.starts_with(|c: char| c.is_ascii_digit()).then_some(upstream)
}

/// Adds the kernels of a `Sources` list.
pub fn read_sources(text: &str, suite: &str, index: &mut Index) {
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

/// Adds the kernels of a `Packages` list.
pub fn read_packages(text: &str, suite: &str, index: &mut Index) {
    let mut bases = BTreeMap::new();
    let mut images = Vec::new();
    for stanza in stanzas(text) {
        let fields = || {
            let size: u64 = field(stanza, "Size")?.parse().ok()?;
            Some((field(stanza, "Package")?, field(stanza, "Version")?, field(stanza, "SHA256")?, size))
        };
        let Some((package, version, sha256, size)) = fields() else { continue };
        if package.starts_with("linux-source-") {
            if let Some(upstream) = upstream_of(version) {
                index.sources.push(SourceRelease {
                    upstream: upstream.to_owned(),
                    version: version.to_owned(),
                    form: Form::Package(package.to_owned()),
                    suite: suite.to_owned(),
                    sha256: sha256.to_owned(),
                    size,
                });
            }
            continue;
        }
        let Some(name) = IMAGE.captures(package) else { continue };
        let release = format!("{}-{}", &name[3], &name[5]);
        if &name[1] == "base" {
            bases.insert((release, version.to_owned()), package.to_owned());
            continue;
        }
        // From 6.19 on the image is an empty package that depends on the one with the kernel in it.
        let hollow = &name[1] == "image"
            && field(stanza, "Depends").is_some_and(|depends| depends.contains("linux-binary-"));
        if hollow {
            continue;
        }
        let own_config = &name[1] == "image";
        let image = ImageRelease {
            upstream: name[4].to_owned(),
            flavour: name[5].to_owned(),
            package: package.to_owned(),
            version: version.to_owned(),
            config_package: None,
            signed: name.get(2).is_none() && name.get(6).is_none(),
            suite: suite.to_owned(),
            sha256: sha256.to_owned(),
            size,
        };
        images.push((release, own_config, image));
    }
    for (release, own_config, mut image) in images {
        if !own_config {
            image.config_package = bases.get(&(release, image.version.clone())).cloned();
        }
        index.images.push(image);
    }
}

/// The mirror of Debian's main archive in what `apt-get indextargets --format '$(ORIGIN)|$(CODENAME)|$(REPO_URI)'`
/// printed. An origin that was never downloaded stays unexpanded; then the path has to do.
pub fn pick_mirror(targets: &str) -> Option<String> {
    let rows: Vec<(&str, &str, &str)> = targets
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, '|');
            Some((parts.next()?, parts.next()?, parts.next()?.trim()))
        })
        .filter(|(_, _, uri)| !uri.is_empty() && !uri.contains("security") && !uri.starts_with("cdrom:"))
        .collect();
    let main = rows.iter().find(|(origin, codename, _)| *origin == "Debian" && !codename.contains('-'));
    let any = || rows.iter().find(|(origin, _, _)| *origin == "Debian");
    let by_path = || {
        rows.iter().find(|(origin, _, uri)| {
            (origin.is_empty() || origin.starts_with('$')) && uri.trim_end_matches('/').ends_with("/debian")
        })
    };
    main.or_else(any).or_else(by_path).map(|(_, _, uri)| uri.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Cut from the lists of trixie-backports and trixie, 2026-11-21.
    const SOURCES: &str = "\
Package: linux-apfs-rw
Version: 0.3.14-1
Checksums-Sha256:
 aa 1 linux-apfs-rw_0.3.14.orig.tar.gz

Package: linux
Binary: bpftool, linux-source-6.18
 linux-image-6.18.15+deb13-armmp
Version: 6.18.15-1~bpo13+1
Files:
 058c74935487581b319197a053adb68f 157422084 linux_6.18.15.orig.tar.xz
Checksums-Sha256:
 b3bb191e2a309680cd7990bc7c2d1df6016fcae41aa479fbecef12f69d74a616 204594 linux_6.18.15-1~bpo13+1.dsc
 fdf4c4d487c95b17a41cb38003faef86669e532a44fe702eb31a3390b6a60cca 157422084 linux_6.18.15.orig.tar.xz
Homepage: https://www.kernel.org/

Package: linux
Version: 7.3.4-1~bpo13+1
Checksums-Sha256:
 9894ebada187044287613061502d9131dfd600ea4cd03f7028541d7cf44000df 165838432 linux_7.3.4.orig.tar.xz
";

    const PACKAGES: &str = "\
Package: linux-source-7.3
Source: linux
Version: 7.3.4-1~bpo13+1
Depends: binutils, xz-utils
Size: 166780612
SHA256: 703e369ddd4cce971452f5a593ee55df3a5c10c83caf0fa0df039633ed181ee3

Package: linux-image-7.2.12+deb13-cloud-amd64
Version: 7.2.12-1~bpo13+1
Depends: kmod, linux-binary-7.2.12+deb13-cloud-amd64 (= 7.2.12-1~bpo13+1)
Size: 1924
SHA256: 07

Package: linux-binary-7.2.12+deb13-cloud-amd64
Version: 7.2.12-1~bpo13+1
Depends: linux-base-7.2.12+deb13-cloud-amd64 (= 7.2.12-1~bpo13+1)
Size: 13149508
SHA256: 7e

Package: linux-binary-unsigned-7.2.12+deb13-cloud-amd64
Version: 7.2.12-1~bpo13+1
Size: 13149500
SHA256: 7f

Package: linux-base-7.2.12+deb13-cloud-amd64
Version: 7.2.12-1~bpo13+1
Size: 1025208
SHA256: e0

Package: linux-image-6.18.15+deb13-cloud-amd64
Version: 6.18.15-1~bpo13+1
Replaces: linux-image-6.18.15+deb13-cloud-amd64-unsigned
Depends: kmod, linux-base-6.18.15+deb13-cloud-amd64 (= 6.18.15-1~bpo13+1)
Size: 49146196
SHA256: 5a

Package: linux-image-6.18.15+deb13-cloud-amd64-dbg
Version: 6.18.15-1~bpo13+1
Size: 1
SHA256: 5b

Package: linux-image-amd64
Version: 7.2.12-1~bpo13+1
Size: 1
SHA256: 5c
";

    fn index() -> Index {
        let mut index = Index::default();
        read_sources(SOURCES, "backports", &mut index);
        read_packages(PACKAGES, "backports", &mut index);
        index
    }

    #[test]
    fn sources_are_found_in_both_forms_tarball_first() {
        let index = index();
        let found: Vec<_> = index.sources_for("7.3").into_iter().map(|s| (&s.form, s.size)).collect();
        let package = Form::Package("linux-source-7.3".to_owned());
        assert_eq!(found, [(&Form::Tarball, 165_838_432), (&package, 166_780_612)]);
        let older = index.sources_for("6.18");
        assert_eq!(older[0].upstream, "6.18.15");
        assert!(older[0].sha256.starts_with("fdf4c4d4"), "the tarball's, not the .dsc's");
        assert!(index.sources_for("6.1").is_empty(), "6.18 is no 6.1");
    }

    #[test]
    fn images_are_taken_from_the_package_that_holds_the_kernel() {
        let index = index();
        let found = index.images_for("7.2.12", "cloud-amd64");
        assert_eq!(found.len(), 2, "the hollow package is left out");
        assert_eq!(found[0].package, "linux-binary-7.2.12+deb13-cloud-amd64", "signed first");
        assert_eq!(found[0].config_package.as_deref(), Some("linux-base-7.2.12+deb13-cloud-amd64"));
        let old = index.images_for("6.18", "cloud-amd64");
        assert_eq!((old.len(), old[0].config_package.as_ref()), (1, None));
        assert!(index.images_for("6.18", "amd64").is_empty());
    }

    #[test]
    fn versions_are_compared_as_dpkg_does() {
        let mut versions = [
            "6.18.15-1",
            "6.18.5-1",
            "6.18.15-1~bpo13+1",
            "7.0~rc3-1",
            "7.0-1",
            "6.18.15-1+b1",
            "6.18.15-10",
        ];
        versions.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(
            versions,
            [
                "6.18.5-1",
                "6.18.15-1~bpo13+1",
                "6.18.15-1",
                "6.18.15-1+b1",
                "6.18.15-10",
                "7.0~rc3-1",
                "7.0-1"
            ]
        );
        assert_eq!(compare_versions("1.02", "1.2"), Ordering::Equal);
    }

    #[test]
    fn the_hosts_main_mirror_is_picked() {
        let host = "\
Debian|bookworm-security|http://mirror.example/debian-security/
Debian|bookworm-updates|http://mirror.example/debian/
Debian|bookworm|http://main.example/debian/
. nodistro|nodistro|https://third.example/node_20.x/
";
        assert_eq!(pick_mirror(host).as_deref(), Some("http://main.example/debian"));
        let never_updated = "$(ORIGIN)|$(CODENAME)|http://mirror.example/debian/";
        assert_eq!(pick_mirror(never_updated).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(pick_mirror("Ubuntu|noble|http://archive.example/ubuntu/"), None);
    }
}
