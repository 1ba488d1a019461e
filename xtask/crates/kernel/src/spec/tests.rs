// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

#[test]
fn every_form_survives_a_round_trip() {
    for text in [
        "src:6.18",
        "debian:7.0.13",
        "debian:7.0.13/amd64",
        "tree:/a b/linux",
        "git:/l@v6.18",
        "git:/l@ome/linux@HEAD~2",
        "git:/l@A..B",
        "tar:/x.tar.xz",
        "image:vmlinux",
    ] {
        assert_eq!(text.parse::<KernelSpec>().expect(text).to_string(), text);
    }
}

#[test]
fn mistakes_are_usage_errors_that_name_the_forms() {
    for text in [
        "6.18",
        "src:",
        "src:six",
        "src:../x",
        "src:6",
        "debian:7.0.13/$x",
        "git:/l",
        "git:/l@a..",
        "git:@b",
        "svn:x",
    ] {
        let error = text.parse::<KernelSpec>().expect_err(text);
        assert_eq!(error.class, vmtest_base::error::Class::Usage);
        assert!(error.to_string().contains("tree:PATH"), "{error}");
    }
    let error = ".".parse::<KernelSpec>().expect_err("no scheme");
    assert_eq!(error.next.as_deref(), Some("did you mean `tree:.`?"));
}
