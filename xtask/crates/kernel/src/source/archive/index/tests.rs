// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

// Excerpts of the lists of trixie-backports and trixie, 2026-11-21.
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
    assert!(index.sources_for("6.1").is_empty(), "6.18 is not 6.1");
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
