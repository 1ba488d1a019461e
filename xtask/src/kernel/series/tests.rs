// SPDX-License-Identifier: MIT OR Apache-2.0
//! Series in the forms in which people have them, and what is no series.

use super::*;

const DIFF: &str = "diff --git a/kernel/x.c b/kernel/x.c\nindex 1..2 100644\n--- a/kernel/x.c\n+++ b/kernel/x.c\n\
                    @@ -1,2 +1,2 @@\n a\n--- b\n+++ c\n";

fn mail(subject: &str, body: &str) -> String {
    format!(
        "From 1111111111111111111111111111111111111111 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\n\
         Date: Mon, 1 Jan 2024 00:00:00 +0000\nSubject: {subject}\n\nWhy.\n---\n{body}-- \n2.47\n\n"
    )
}

fn directory(files: &[(&str, String)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    for (name, text) in files {
        fs::write(dir.path().join(name), text).expect("written");
    }
    dir
}

fn load_dir(files: &[(&str, String)]) -> Result<Series> {
    load(&[directory(files).path().to_owned()])
}

fn load_file(text: &str) -> Result<Series> {
    load(&[directory(&[("a.mbox", text.to_owned())]).path().join("a.mbox")])
}

fn refused(result: Result<Series>, class: Class, says: &str) {
    let error = result.expect_err(says);
    assert_eq!(error.class, class, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[test]
fn subjects_give_version_and_place() {
    let tags = Tags::of("[PATCH bpf-next v9 03/11] bpf: x [sic]");
    assert_eq!((tags.version, tags.place, tags.subject.as_str()), (9, Some((3, 11)), "bpf: x [sic]"));
    assert_eq!(Tags::of("[RFC][PATCHv2 0/2] y").version, 2);
    assert!(Tags::of("[RFC][PATCHv2 0/2] y").is_cover());
    assert!(Tags::of("Re: [PATCH 1/2] y").reply);
    assert_eq!(Tags::of("kernel/x: no brackets").place, None);
}

#[test]
fn a_line_of_a_hunk_is_no_header() {
    let files = parse_diff(DIFF);
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].hunks, [Hunk { line: 1, body: vec![" a".into(), "--- b".into(), "+++ c".into()] }]);
}

#[test]
fn renames_new_deleted_and_mode_only_files_are_seen() {
    let text = "diff --git a/old.c b/sub/new.c\nsimilarity index 100%\nrename from old.c\nrename to sub/new.c\n\
                diff --git a/run.sh b/run.sh\nold mode 100644\nnew mode 100755\n\
                diff --git a/e b/e\nnew file mode 100644\nindex 0..e69de29\n\
                diff --git a/gone b/gone\ndeleted file mode 100644\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n\
                --- a/plain\t2024-01-01\n+++ b/plain\t2024-01-02\n@@ -1 +1 @@\n-x\n+y\n";
    let pairs: Vec<_> = parse_diff(text).into_iter().map(|f| (f.old, f.new)).collect();
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(
        pairs,
        [
            (some("old.c"), some("sub/new.c")),
            (some("run.sh"), some("run.sh")),
            (None, some("e")),
            (some("gone"), None),
            (some("plain"), some("plain")),
        ]
    );
}

#[test]
fn a_directory_is_ordered_by_name_and_its_cover_letter_read() {
    let cover = mail("[PATCH 0/2] all", "base-commit: 0123456789012345678901234567890123456789\n");
    let series = load_dir(&[
        ("0002-b.patch", mail("[PATCH 2/2] b", DIFF)),
        ("0000-cover-letter.patch", cover),
        ("0001-a.patch", mail("[PATCH 1/2] a", DIFF)),
        ("notes.txt", "ignored".into()),
    ])
    .expect("a series");
    let subjects: Vec<_> = series.patches.iter().map(|patch| patch.subject.as_str()).collect();
    assert_eq!(subjects, ["a", "b"]);
    assert_eq!(series.base_commit.as_deref(), Some("0123456789012345678901234567890123456789"));
    assert!(series.patches[0].touches.contains("kernel/x.c"));
}

#[test]
fn an_mbox_is_ordered_by_number_and_replies_are_left_out() {
    let text = [
        mail("[PATCH v2 0/2] all", ""),
        mail("[PATCH v2 2/2] b", DIFF),
        mail("Re: [PATCH v2 1/2] a", "> diff --git a/x b/x\n"),
        mail("[PATCH v2 1/2] a", DIFF),
    ];
    let series = load_file(&text.concat()).expect("a series");
    let subjects: Vec<_> = series.patches.iter().map(|patch| patch.subject.as_str()).collect();
    assert_eq!(subjects, ["a", "b"]);
    assert_eq!(series.patches[0].label, "a.mbox, mail 4");
}

#[test]
fn what_is_no_whole_series_is_refused() {
    let (one, two) = (mail("[PATCH 1/3] a", DIFF), mail("[PATCH 2/3] b", DIFF));
    let does_not_apply = Class::SeriesDoesNotApply;
    refused(load_file(&[one.clone(), two.clone()].concat()), does_not_apply, "of 3 patches, 3 is missing");
    refused(load_file(&[one.clone(), one.clone()].concat()), does_not_apply, "1/3 twice");
    let mixed = [one.clone(), mail("[PATCH v2 1/3] a", DIFF)].concat();
    refused(load_file(&mixed), does_not_apply, "mixes versions 1 and 2");
    refused(load_file(&[one.clone(), mail("[PATCH 1/4] z", DIFF)].concat()), does_not_apply, "n/3, n/4");
    refused(load_file(&[one.clone(), mail("[PATCH] z", DIFF)].concat()), does_not_apply, "has no number");
    let covers = [mail("[PATCH 0/3] c", ""), mail("Re: [PATCH 0/3] c", "")].concat();
    refused(load_file(&covers), does_not_apply, "a cover letter and no patch");
    refused(load_dir(&[("1.patch", one), ("2.patch", two)]), does_not_apply, "of 3 patches, 3 is missing");
    refused(
        load_dir(&[
            ("v1-1.patch", mail("[PATCH 1/1] a", DIFF)),
            ("v2-1.patch", mail("[PATCH v2 1/1] a", DIFF)),
        ]),
        does_not_apply,
        "mixes versions",
    );
}

#[test]
fn nothing_there_is_usage_and_text_is_no_patch() {
    refused(load(&[PathBuf::from("/nonexistent/series")]), Class::Usage, "/nonexistent/series");
    refused(load_dir(&[("readme", "x".into())]), Class::Usage, "no *.patch");
    refused(load_file(" \n"), Class::Usage, "is empty");
    refused(load_file("\u{1f}x"), Class::SeriesDoesNotApply, "not a patch: no diff is in it");
    refused(load_file("<!doctype html>\n<html>x"), Class::SeriesDoesNotApply, "HTML page");
    refused(load_file(&mail("Re: x", "> diff --git a/x b/x\n")), Class::SeriesDoesNotApply, "only quoted");
}

#[test]
fn paths_outside_the_tree_are_refused_by_name() {
    for bad in ["a/../../etc/passwd", "/etc/passwd", "a/.git/hooks/x", "a//etc/x"] {
        let diff = format!("--- {bad}\n+++ {bad}\n@@ -1 +1 @@\n-x\n+y\n");
        let error = load_file(&mail("[PATCH] evil", &diff)).expect_err(bad);
        assert!(error.what.contains("is refused: it names"), "{error}");
    }
}

#[test]
fn bare_diffs_and_encoded_mails_are_read() {
    let series = load_file(DIFF).expect("a bare diff");
    assert_eq!(series.patches[0].subject, "a.mbox");
    assert!(series.patches[0].touches.contains("kernel/x.c"));
    let head = "From: A <a@example.org>\nSubject: [PATCH] x\nMIME-Version: 1.0\n\
                Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: ";
    let quoted = DIFF.replace('=', "=3D").replace("kernel", "k=\nernel");
    let series = load_file(&format!("{head}quoted-printable\n\nWhy.\n---\n{quoted}")).expect("readable");
    assert!(series.patches[0].touches.contains("kernel/x.c"));
    // "why\r\n---\r\ndiff --git a/e b/e\r\nnew file mode 100644\r\nindex 0000000..e69de29\r\n"
    let base64 = "d2h5DQotLS0NCmRpZmYgLS1naXQgYS9lIGIvZQ0KbmV3IGZpbGUgbW9kZSAxMDA2NDQNCmluZGV4IDAwMDAwMDAuLmU2OWRlMjkNCg==\n";
    let series = load_file(&format!("{head}base64\n\n{base64}")).expect("readable");
    assert_eq!(series.patches[0].touches.iter().collect::<Vec<_>>(), ["e"]);
    let series = load_file(&mail("[PATCH] crlf", DIFF).replace('\n', "\r\n")).expect("readable");
    assert!(series.patches[0].touches.contains("kernel/x.c"));
}
