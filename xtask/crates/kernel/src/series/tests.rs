// SPDX-License-Identifier: MIT OR Apache-2.0
//! Series in all supported forms, and input that is not a series.

use super::*;
use crate::series::mail::MAX_MAILS;

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
    let two_of_four = [mail("[PATCH 1/4] a", DIFF), mail("[PATCH 2/4] b", DIFF)].concat();
    refused(load_file(&two_of_four), does_not_apply, "of 4 patches, 3, 4 are missing");
    let other = one.replace("+++ c", "+++ d");
    refused(load_file(&[one.clone(), other].concat()), does_not_apply, "1/3 twice");
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
    let silent = format!("Binary files a/bin and b/bin differ\n{DIFF}");
    refused(load_file(&silent), Class::SeriesDoesNotApply, "the binary files a/bin and b/bin differ");
    refused(load_file("\u{1f}x"), Class::SeriesDoesNotApply, "not a patch: it has no diff");
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

/// A mail of a thread with this body; message IDs are `<N@x>`.
fn threaded(id: &str, answers: &str, subject: &str, body: &str) -> String {
    let answers = if answers.is_empty() { String::new() } else { format!("In-Reply-To: <{answers}@x>\n") };
    format!(
        "From mboxrd@z Thu Jan  1 00:00:00 1970\nFrom: A <a@example.org>\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n\
         Message-ID: <{id}@x>\n{answers}Subject: {subject}\n\n{body}\n"
    )
}

fn diff_of(file: &str) -> String {
    format!("Why.\n---\n{}-- \n2.47\n", DIFF.replace("x.c", file))
}

/// A series of two patches with its cover letter, followed by these mails.
fn thread(more: &[String]) -> String {
    let first = [
        threaded("0", "", "[PATCH bpf-next v2 0/2] all", "Hello.\n"),
        threaded("2", "0", "[PATCH bpf-next v2 2/2] b", &diff_of("b.c")),
        threaded("1", "0", "[PATCH bpf-next v2 1/2] a", &diff_of("a.c")),
    ];
    first.concat() + &more.concat()
}

fn names(series: &Series) -> Vec<&str> {
    series.patches.iter().map(|patch| patch.subject.as_str()).collect()
}

fn said(series: &Series) -> String {
    series.notes.iter().map(|note| format!("{}\n", note.text())).collect()
}

#[test]
fn replies_are_left_out_with_the_reason_and_never_applied() {
    let quoted = "On Fri, A wrote:\n> diff --git a/kernel/a.c b/kernel/a.c\n> +++ b/x\nLooks good.\n";
    let fixup = diff_of("evil.c");
    let report = "syzbot ci has tested the following series\n\n[v2] all\n";
    for (answers, subject, body, why) in [
        ("1", "Re: [PATCH bpf-next v2 1/2] a", quoted, "it is a reply"),
        ("1", "Re: [PATCH bpf-next v2 1/2] a", &fixup, "it is a reply; the diff in it is not applied"),
        ("1", "AW: [PATCH bpf-next v2 1/2] a", &fixup, "it is a reply; the diff"),
        ("1", "[External] Re: [PATCH bpf-next v2 1/2] a", &fixup, "it is a reply"),
        ("1", "=?utf-8?B?5Zue5aSNOiBbUEFUQ0ggMS8yXSBh?=", &fixup, "it is a reply"),
        ("", "Fwd: [PATCH bpf-next v2 1/2] a", &fixup, "it is a reply"),
        ("0", "[syzbot ci] Re: all", report, "it is a reply"),
        ("1", "[PATCH bpf-next v2 1/2] a", quoted, "it has the same number as a.mbox, mail "),
        ("0", "Status of all", report, "it replies to another mail and is not marked as a patch"),
        ("0", "maybe like this?", &fixup, "is not marked as a patch; the diff in it is not applied"),
        ("gone", "kernel test robot", &fixup, "it replies to another mail and is not marked as a patch"),
        ("", "lost its head", &format!("{quoted}{fixup}"), "it quotes another mail"),
        ("", "[tree:branch 12/34] kernel/x.c:1: warning", report, "is not marked as a patch and has no diff"),
        (
            "1",
            "[PATCH] fixup! a",
            &fixup,
            "is not one of its numbered patches; the diff in it is not applied",
        ),
        ("1", "[PATCH bpf-next v2] a, but right", &fixup, "is not one of its numbered patches"),
        ("0", "[PATCH bpf-next v2 3/2] one more", &fixup, "beyond the end of the series; the diff"),
    ] {
        // At any place in the file.
        let reply = threaded("r", answers, subject, body);
        for text in [thread(std::slice::from_ref(&reply)), reply.clone() + &thread(&[])] {
            let series = load_file(&text).unwrap_or_else(|error| panic!("{subject}: {error}"));
            assert_eq!(names(&series), ["a", "b"], "{subject}");
            assert!(said(&series).contains("left out: a.mbox, mail "), "{subject}: {}", said(&series));
            assert!(said(&series).contains(why), "{subject}: {}", said(&series));
        }
    }
    let cut = thread(&[]).replace("[PATCH bpf-next v2 2/2] b", "[PATCH] fixup! a");
    let error = load_file(&cut).expect_err("a fixup in the place of a patch");
    assert!(error.what.contains("of 2 patches, 2 is missing"), "{error}");
    assert!(error.to_string().contains("left out: a.mbox, mail 2"), "{error}");
}

#[test]
fn a_cover_letter_is_never_applied_and_patches_without_numbers_are_not_guessed() {
    let cover = thread(&[]).replace("Hello.\n", &diff_of("cover.c"));
    let series = load_file(&cover).expect("a series");
    assert_eq!(names(&series), ["a", "b"]);
    assert!(
        matches!(&series.notes[..], [Note::Loud(text)] if text.contains("it is the cover letter; the diff"))
    );
    let alone = |second: &str| {
        threaded("1", "", "[PATCH] a", &diff_of("a.c")) + &threaded("2", "1", second, &diff_of("b.c"))
    };
    assert_eq!(names(&load_file(&alone("[PATCH] squash! a")).expect("a series")), ["a"]);
    refused(load_file(&alone("[PATCH] b")), Class::SeriesDoesNotApply, "(\"b\") replies to another patch");
    assert_eq!(names(&load_file(&alone("Re: [PATCH] a")).expect("a series")), ["a"]);
    // A patch that was named explicitly is tested, with a note that it is odd.
    let single = load_file(&threaded("1", "0", "Re: [PATCH] a", &diff_of("a.c"))).expect("a patch");
    assert!(
        matches!(&single.notes[..], [Note::Loud(text)] if text.contains("is a reply")),
        "{:?}",
        single.notes
    );
}

#[test]
fn the_same_mail_twice_is_one_and_two_of_one_number_are_refused() {
    let again = |id: &str, subject: &str, body: &str| thread(&[threaded(id, "0", subject, body)]);
    let subject = "[PATCH bpf-next v2 1/2] a";
    let footer = diff_of("a.c") + "_____\nlist mailing list\n";
    for text in [
        again("1", subject, &diff_of("a.c")),
        again("1", "[list] [PATCH bpf-next v2 1/2] a", &footer),
        again("9", subject, &footer),
    ] {
        let series = load_file(&text).expect("a series");
        assert_eq!(names(&series), ["a", "b"]);
        assert!(
            said(&series).contains("mail 4 (\"a\"): it is the same as a.mbox, mail 3"),
            "{}",
            said(&series)
        );
    }
    for id in ["1", "9"] {
        let error = load_file(&again(id, subject, &diff_of("other.c"))).expect_err("two of one number");
        assert!(error.what.contains("patch 1/2 twice"), "{error}");
        assert!(error.why[0].contains("a.mbox, mail 3 and a.mbox, mail 4"), "{error}");
    }
}

#[test]
fn of_two_versions_in_a_thread_the_newest_is_taken_if_it_is_whole() {
    let v3 =
        |id: &str, answers: &str, subject: &str| threaded(id, answers, subject, &diff_of(&format!("{id}.c")));
    let both = [v3("31", "0", "[PATCH bpf-next v3 1/2] a"), v3("32", "0", "[PATCH bpf-next v3 2/2] c")];
    let series = load_file(&thread(&both)).expect("a series");
    assert_eq!(names(&series), ["a", "c"]);
    assert!(
        matches!(&series.notes[..], [Note::Loud(text)]
        if text.contains("holds versions 2 and 3 of the series: version 3 is used")),
        "{:?}",
        series.notes
    );
    let refused =
        |more: &[String], says: &str| refused(load_file(&thread(more)), Class::SeriesDoesNotApply, says);
    refused(&both[..1], "mixes versions 2 and 3 of a series, and version 3 is incomplete: 2 is missing");
    refused(&[v3("31", "", "[PATCH bpf-next v3] a")], "version 3 is not numbered");
    let others = [v3("31", "", "[PATCH v3 1/2] x"), v3("32", "31", "[PATCH v3 2/2] y")];
    let one = threaded("1", "", "[PATCH] a", &diff_of("a.c"));
    let series = load_file(&(one + &v3("31", "1", "[PATCH v2] a"))).expect("a series");
    assert_eq!((names(&series), series.patches[0].touches.contains("kernel/31.c")), (vec!["a"], true));
    refused(&others, "they have no patch in common: they may be two series");
}

#[test]
fn a_charset_that_does_not_exist_changes_no_byte() {
    let body = "Zo\u{eb} \u{2026}\n---\n".to_owned() + &DIFF.replace("--- b\n", "--- \u{e4}\u{fffd}\n");
    for charset in [
        "y",
        "unknown-8bit",
        "x-user-defined",
        "utf8",
        "\"utf8\"",
        "utf-9",
        "",
        "\"y\"",
        "DEFAULT",
        "latin-one",
    ] {
        let head = format!(
            "From: =?{charset}?q?Zo=EB?= <a@example.org>\nSubject: =?utf-8?q?[PATCH]_=C3=A4?=\nMIME-Version: 1.0\n\
             Content-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: 8bit\n\n"
        );
        let series = load_file(&format!("{head}{body}")).unwrap_or_else(|error| panic!("{charset}: {error}"));
        assert_eq!(names(&series), ["\u{e4}"], "{charset}");
        assert!(series.patches[0].touches.contains("kernel/x.c"), "{charset}");
        let lone = format!("From: A <a@example.org>\nSubject: =?{charset}?q?[PATCH]_x?=\n\n{body}");
        assert_eq!(names(&load_file(&lone).expect(charset)), ["x"], "{charset}");
    }
    // However deeply it is nested, git either reads it or the mail is at fault, never the host.
    let mut deep = "From: A <a@example.org>\nSubject: [PATCH] x\n".to_owned();
    for at in 0..200 {
        deep += &format!("Content-Type: multipart/mixed; boundary=\"b{at}\"\n\n--b{at}\n");
    }
    let read = load_file(&format!("{deep}\n{DIFF}"));
    assert!(read.is_ok() || read.is_err_and(|error| error.class == Class::SeriesDoesNotApply));
}

#[test]
fn parts_of_a_mail_and_joined_lines_are_read_as_git_does() {
    let head = "From: A <a@example.org>\nSubject: [PATCH] x\nMIME-Version: 1.0\n";
    let multi = |kind: &str, diff: &str| {
        format!(
            "{head}Content-Type: multipart/{kind}; boundary=\"b\"\n\n--b\nContent-Type: text/plain\n\nWhy.\n---\n{diff}"
        )
    };
    let signed = multi("signed", DIFF)
        + "\n--b\nContent-Type: application/pgp-signature\n\n-----BEGIN PGP SIGNATURE-----\n--b--\n";
    let page = multi("alternative", DIFF) + "\n--b\nContent-Type: text/html\n\n<html>diff</html>\n--b--\n";
    let attached = multi("mixed", "")
        + "\n--b\nContent-Type: text/x-patch; name=\"x.patch\"\nContent-Disposition: attachment\n\n"
        + DIFF
        + "\n--b--\n";
    let stuffed: String = DIFF
        .lines()
        .map(|line| if line.starts_with(' ') { format!(" {line}\n") } else { format!("{line}\n") })
        .collect();
    let flowed = format!("{head}Content-Type: text/plain; format=flowed\n\nWhy.\n---\n{stuffed}");
    for text in [&signed, &page, &attached, &flowed] {
        let series = load_file(text).unwrap_or_else(|error| panic!("{error} of {text}"));
        assert!(series.patches[0].touches.contains("kernel/x.c"), "{text}");
        assert_eq!(series.patches[0].flowed, text == &flowed);
    }
}

#[test]
fn quilt_says_what_is_in_a_series_and_in_which_order() {
    let series = |list: &str| {
        load_dir(&[
            ("zebra.patch", DIFF.into()),
            ("apple.patch", DIFF.replace("x.c", "y.c")),
            ("broken.patch", DIFF.replace("x.c", "broken.c")),
            ("no-prefix.diff", DIFF.replace("a/kernel", "kernel").replace("b/kernel", "kernel")),
            ("series", list.into()),
        ])
    };
    let read =
        series("# the order\n\nzebra.patch\n  apple.patch -p1 # why\n#broken.patch\nno-prefix.diff -p0\n")
            .expect("a series");
    let labels: Vec<_> = read.patches.iter().map(|patch| patch.label.as_str()).collect();
    assert_eq!(labels, ["zebra.patch", "apple.patch", "no-prefix.diff"]);
    assert!(said(&read).contains("left out: broken.patch (disabled in "), "{}", said(&read));
    assert!(!said(&read).contains("does not list"), "{}", said(&read));
    assert!(read.patches[2].touches.contains("kernel/x.c") && read.patches[2].strip == 0);
    let read = series("apple.patch -R\r\n# broken.patch\n").expect("a series");
    assert!(read.patches.len() == 1 && read.patches[0].reverse);
    assert!(said(&read).contains("left out: zebra.patch ("), "{}", said(&read));
    assert_ne!(read.key(), series("apple.patch\n").expect("a series").key());
    for (list, says) in [
        ("# nothing\n", "lists no patch"),
        ("gone.patch\n", "series:1: gone.patch is missing"),
        ("../zebra.patch\n", "is not a file in that directory"),
        ("/etc/passwd\n", "is not a file in that directory"),
        ("zebra.patch -pfoo\n", "-pfoo is not supported"),
        ("zebra.patch --fuzz=3\n", "--fuzz=3 is not supported"),
        ("+guard zebra.patch\n", "+guard is missing"),
    ] {
        refused(series(list), Class::Usage, says);
    }
    // In a subdirectory; and given by the path of the list itself.
    let dir = directory(&[("series", "sub/x.patch\n".into())]);
    fs::create_dir(dir.path().join("sub")).expect("made");
    fs::write(dir.path().join("sub/x.patch"), DIFF).expect("written");
    for path in [dir.path().to_owned(), dir.path().join("series")] {
        assert_eq!(load(&[path]).expect("a series").patches[0].label, "sub/x.patch");
    }
}

#[test]
fn a_directory_counts_as_people_do_and_takes_what_b4_wrote() {
    let incremental =
        ["10-11", "9-10", "11-12"].map(|name| (format!("patch-6.18.{name}.patch"), DIFF.to_owned()));
    let files: Vec<(&str, String)> =
        incremental.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    let series = load_dir(&files).expect("a series");
    let labels: Vec<_> = series.patches.iter().map(|patch| patch.label.as_str()).collect();
    assert_eq!(labels, ["patch-6.18.9-10.patch", "patch-6.18.10-11.patch", "patch-6.18.11-12.patch"]);
    let mixed = [("0001-a.patch", DIFF.to_owned()), ("v2-0001-b.patch", DIFF.replace("x.c", "y.c"))];
    refused(load_dir(&mixed), Class::SeriesDoesNotApply, "mixes versions 1 and 2");
    let series = load_dir(&[("v2_a.mbx", thread(&[])), ("v2_a.cover", "Hello.\n".into())]).expect("a series");
    assert_eq!((series.name.as_str(), names(&series)), ("v2_a", vec!["a", "b"]));
    refused(load_dir(&[("a.mbx", thread(&[])), ("b.mbx", thread(&[]))]), Class::Usage, "holds 2 mailboxes");
    let beside =
        load_dir(&[("0001-a.patch", mail("[PATCH 1/1] a", DIFF)), ("b.mbx", thread(&[]))]).expect("a series");
    assert!(said(&beside).contains("left out: b.mbx"), "{}", said(&beside));
    let reply = [("1.patch", mail("[PATCH] a", DIFF)), ("2.patch", mail("Re: [PATCH] a", DIFF))];
    assert_eq!(names(&load_dir(&reply).expect("a series")), ["a"]);
}

#[test]
fn compressed_series_are_read_and_named_without_their_ending() {
    use std::io::Write;
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(thread(&[]).as_bytes()).expect("packed");
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 6);
    xz.write_all(DIFF.as_bytes()).expect("packed");
    let dir = directory(&[]);
    let file = |name: &str, bytes: Vec<u8>| {
        fs::write(dir.path().join(name), bytes).expect("written");
        load(&[dir.path().join(name)]).expect("a series")
    };
    let series = file("t.mbox.gz", gz.finish().expect("packed"));
    assert_eq!((series.name.as_str(), series.patches.len()), ("t", 2));
    let series = file("0001-x.patch.xz", xz.finish().expect("packed"));
    assert_eq!((series.name.as_str(), series.patches.len()), ("0001-x", 1));
    fs::remove_file(dir.path().join("t.mbox.gz")).expect("removed");
    assert_eq!(load(&[dir.path().to_owned()]).expect("a directory of them").patches.len(), 1);
}

#[test]
fn a_line_that_ends_a_mail_for_git_is_said_and_too_many_mails_are_refused() {
    let body = "From the very beginning this was wrong.\nFrom 1234567890abcdef1234567890abcdef12345678 Mon Sep 17 00:00:00 2001\n\
                is quoted.\n---\n";
    let first = threaded("1", "", "[PATCH 1/2] a", &format!("{body}{DIFF}"));
    let text = first.clone() + &threaded("2", "1", "[PATCH 2/2] b", &diff_of("b.c"));
    refused(
        load_file(&text),
        Class::SeriesDoesNotApply,
        "a line in it that begins with \"From \" ends the mail",
    );
    refused(load_file(&first.replace(" 1/2", "")), Class::SeriesDoesNotApply, "begins with \"From \"");
    // Harmless in a reply.
    let reply = threaded("9", "1", "Re: [PATCH bpf-next v2 1/2] a", body);
    assert_eq!(names(&load_file(&thread(&[reply])).expect("a series")), ["a", "b"]);
    let many = threaded("1", "", "[PATCH] a", "").repeat(MAX_MAILS + 1);
    refused(load_file(&many), Class::Usage, "holds more than 5000 mails");
}

#[test]
fn a_diff_that_does_not_stand_where_that_of_a_patch_does_is_said_loudly() {
    let stray = DIFF.replace("x.c", "hidden.c");
    let text = threaded(
        "1",
        "",
        "[PATCH] a",
        &format!("As here:\n\n{stray}\nthat is why.\n---\n 1 file changed\n\n{DIFF}-- \n2.47\n"),
    );
    let series = load_file(&text).expect("a patch");
    let loud = "a diff of kernel/hidden.c is in its message, before the line `---`; git applies it";
    assert!(matches!(&series.notes[..], [Note::Loud(text)] if text.contains(loud)), "{:?}", series.notes);
    assert!(series.patches[0].touches.contains("kernel/hidden.c"), "it is applied, so it is known");
    let indented: String = stray.lines().map(|line| format!("  {line}\n")).collect();
    for harmless in [indented.clone(), indented.replace("  ", "> ")] {
        let series = load_file(&text.replace(&stray, &harmless)).expect("a patch");
        assert!(series.notes.is_empty() && !series.patches[0].touches.contains("kernel/hidden.c"));
    }
}
