// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use vmtest_kernel::source::samples::context;
use vmtest_kernel::source::samples::git;
use vmtest_kernel::source::samples::kernel_repo;

#[test]
fn ends_that_have_no_history_between_them_are_refused_by_name() {
    let (dir, ctx) = context();
    let repo = kernel_repo(&dir.path().join("linux"));
    let other = kernel_repo(&dir.path().join("other"));
    git(&repo, &["commit", "-q", "--allow-empty", "-m", "two"]);
    let at = |repo: &PathBuf, rev: &str| format!("git:{}@{rev}", repo.display());
    let tree = format!("tree:{}", repo.display());
    for (good, bad, says) in [
        (at(&repo, "HEAD~1"), "debian:7.0.4".to_owned(), "of different kinds"),
        ("src:6.18".into(), "src:7.3".into(), "no known history between them"),
        ("src:6.18".into(), "src:6.18".into(), "no --patches are given"),
        ("debian:6.18.1".into(), "debian:7.0.4/amd64".into(), "of different flavours"),
        (at(&repo, "HEAD"), at(&repo, "HEAD"), "the same commit"),
        (at(&repo, "HEAD"), at(&repo, "HEAD~1"), "wrong way round"),
        (at(&repo, "HEAD"), at(&other, "HEAD"), "different repositories"),
        (at(&repo, "HEAD~1..HEAD"), at(&repo, "HEAD"), "not a range of commits"),
        ("image:/a".into(), "image:/a".into(), "an image is one finished kernel"),
        (tree.clone(), tree, "no --patches are given"),
        ("six".into(), "debian:7.0.4".into(), "is not a kernel"),
    ] {
        let error = Axis::between(&ctx, &good, &bad, None).expect_err("refused");
        assert_eq!(error.class.code(), 2, "{error}");
        assert!(error.to_string().contains(says), "{good} {bad}: {error}");
    }
}

#[test]
fn the_author_of_a_patch_is_in_its_head() {
    let mail = b"From 0123 Mon Sep 17\nFrom: A B <a@example.org>\nSubject: x\n\nFrom: somebody else\n";
    assert_eq!(from_line(mail).as_deref(), Some("A B <a@example.org>"));
    assert_eq!(from_line(b"Subject: x\n\nFrom: nobody\n"), None);
}
