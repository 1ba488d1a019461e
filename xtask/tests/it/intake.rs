// SPDX-License-Identifier: MIT OR Apache-2.0
//! Series as archives, mail programs and quilt produce them: exactly the given patches are tested, and a
//! message lists what was left out.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::{World, text};

/// A world with a tree, and its `--kernel`.
fn world() -> (World, String) {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    (world, spec)
}

/// A diff of `kernel/fake.c` that renames one of its variables.
fn diff(from: &str, to: &str) -> String {
    let line = |name: &str| match name == from {
        true => format!("-int {from};\n+int {to};\n"),
        false => format!(" int {name};\n"),
    };
    let body: String = ["first", "second", "third"].map(line).concat();
    format!(
        "diff --git a/kernel/fake.c b/kernel/fake.c\n--- a/kernel/fake.c\n+++ b/kernel/fake.c\n@@ -1,3 +1,3 @@\n{body}"
    )
}

fn mail(number: u32, more: &str, subject: &str, body: &str) -> String {
    format!(
        "From mboxrd@z Thu Jan  1 00:00:00 1970\nFrom: Ann <ann@example.org>\nDate: Thu, 1 Jan 2026 00:00:00 +0000\n\
         Message-ID: <{number}@example.org>\n{more}Subject: {subject}\n\n{body}\n"
    )
}

/// Two patches, the second on top of the first, with their cover letter.
fn thread() -> String {
    let second = diff("second", "other").replace(" int first;", " int best;");
    [
        mail(0, "", "[PATCH v2 0/2] names", "Hello.\n"),
        mail(2, "In-Reply-To: <0@example.org>\n", "[PATCH v2 2/2] two", &format!("---\n{second}-- \n2.47\n")),
        mail(
            1,
            "In-Reply-To: <0@example.org>\n",
            "[PATCH v2 1/2] one",
            &format!("---\n{}-- \n2.47\n", diff("first", "best")),
        ),
    ]
    .concat()
}

#[track_caller]
fn tested(world: &World, spec: &str, patches: &str, subjects: &[&str], says: &[&str]) {
    let done = world.run(&["--kernel", spec, "--patches", patches]);
    done.exits(0).says(says);
    assert_eq!(done.json()["kernels"][0]["series"], serde_json::json!(subjects), "{patches}");
}

#[test]
fn a_thread_with_replies_and_doubles_is_its_series() {
    let (world, spec) = world();
    let fixup = format!("What about:\n---\n{}", diff("third", "evil"));
    let reply = "In-Reply-To: <1@example.org>\n";
    for (at, (subject, why)) in [
        ("Re: [PATCH v2 1/2] one", "it is a reply; the diff in it is not applied"),
        ("AW: [PATCH v2 1/2] one", "it is a reply; the diff in it is not applied"),
        ("[External] Re: [PATCH v2 1/2] one", "it is a reply; the diff in it is not applied"),
        ("[syzbot ci] Re: names", "it is a reply; the diff in it is not applied"),
        ("[PATCH] fixup! one", "the diff in it is not applied"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = format!("thread{at}.mbox");
        world.write(&file, &(thread() + &mail(9, reply, subject, &fixup)));
        tested(&world, &spec, &file, &["one", "two"], &[&format!("left out: {file}, mail 4"), why]);
    }
    let again = thread() + &thread();
    world.write("twice.mbox", &again);
    tested(&world, &spec, "twice.mbox", &["one", "two"], &["it is the same as twice.mbox, mail 2"]);
    world.write("other.mbox", &again.replacen("best", "worst", 1));
    world.run(&["--kernel", &spec, "--patches", "other.mbox"]).exits(10).says(&["holds patch 2/2 twice"]);
    world.is_clean();
}

#[test]
fn mails_in_unknown_charsets_and_compressed_files_are_read() {
    let (world, spec) = world();
    let head = "MIME-Version: 1.0\nContent-Type: text/plain; charset=y\nContent-Transfer-Encoding: 8bit\n";
    let body = format!("Signed-off-by: Zo\u{eb} <z@example.org>\n---\n{}", diff("first", "best"));
    world.write("y.mbx", &mail(1, head, "[PATCH] one", &body));
    tested(&world, &spec, "y.mbx", &["one"], &[]);
    world.write("thread.mbox", &thread());
    // The host has xz to unpack sources.
    let packed = Command::new("xz").arg("-k").arg(world.path("thread.mbox")).stdin(Stdio::null()).status();
    assert!(packed.expect("xz runs").success());
    tested(&world, &spec, "thread.mbox.xz", &["one", "two"], &["linux+thread"]);
    let bytes = fs::read(world.path("thread.mbox.xz")).expect("packed");
    fs::write(world.path("cut.mbox.xz"), &bytes[..bytes.len() / 2]).expect("written");
    world
        .run(&["--kernel", &spec, "--patches", "cut.mbox.xz"])
        .refuses(2, &["cut.mbox.xz cannot be unpacked"]);
}

#[test]
fn quilt_and_b4_say_what_is_in_a_directory() {
    let (world, spec) = world();
    let dir = |name: &str| -> PathBuf { world.path(name) };
    world.write("quilt/zebra.patch", &diff("first", "best"));
    world.write("quilt/apple.patch", &diff("second", "other").replace(" int first;", " int best;"));
    world.write("quilt/broken.patch", &diff("third", "evil"));
    world.write("quilt/series", "zebra.patch\napple.patch\n#broken.patch\n");
    let done = world.run(&["--kernel", &spec, "--patches", "quilt"]);
    done.exits(0).says(&["left out: broken.patch (disabled in quilt/series)"]);
    assert_eq!(done.json()["kernels"][0]["series"], serde_json::json!(["zebra.patch", "apple.patch"]));
    world.write("quilt/series", "zebra.patch\nlost.patch\n");
    world
        .run(&["--kernel", &spec, "--patches", "quilt"])
        .refuses(2, &["quilt/series:2: lost.patch is missing"]);
    world.write("incr/patch-6.18.9-10.patch", &diff("first", "best"));
    let second = diff("second", "other").replace(" int first;", " int best;");
    world.write("incr/patch-6.18.10-11.patch", &second);
    let labels = ["patch-6.18.9-10.patch", "patch-6.18.10-11.patch"];
    tested(&world, &spec, "incr", &labels, &[]);
    world.write("b4/v2_names.mbx", &thread());
    world.write("b4/v2_names.cover", "Hello.\n");
    tested(&world, &spec, "b4", &["one", "two"], &["linux+v2_names"]);
    // Reading a pipe in a directory would block forever.
    nix::unistd::mkfifo(&dir("incr/0000.patch"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    world.run(&["--kernel", &spec, "--patches", "incr"]).refuses(2, &["0000.patch is not a file"]);
}

#[test]
fn a_diff_that_git_would_not_apply_has_the_reason_in_the_first_line() {
    let (world, spec) = world();
    let bare = diff("first", "best").replace("a/kernel", "kernel").replace("b/kernel", "kernel");
    let binary = "diff --git a/fake.does b/fake.does\nindex 6dd4233..e10df69 100644\nBinary files a/fake.does and b/fake.does differ\n";
    let deleted =
        "diff --git a/kernel/fake.c b/kernel/fake.c\ndeleted file mode 100644\nindex 586ece7..0000000\n";
    let line = "From 1234567890abcdef1234567890abcdef12345678 Mon Sep 17 00:00:00 2001\nis quoted.\n---\n";
    for (name, body, says) in [
        ("bare", bare.as_str(), "its diff has no a/ and b/ prefixes: kernel/fake.c"),
        ("binary", binary, "the diff of a binary file has no data: cannot apply binary patch to 'fake.does'"),
        (
            "deleted",
            deleted,
            "it deletes kernel/fake.c without its content: removal patch leaves file contents",
        ),
        (
            "line",
            &format!("{line}{}", diff("first", "best")),
            "a line in it that begins with \"From \" ends the mail",
        ),
    ] {
        world.write(&format!("{name}.mbx"), &mail(1, "", "[PATCH] one", &format!("---\n{body}")));
        let done = world.run(&["--kernel", &spec, "--patches", &format!("{name}.mbx")]);
        done.exits(10).says(&[says]);
    }
}

#[test]
fn a_diff_in_a_message_is_tested_and_said_in_every_report() {
    let (world, spec) = world();
    let stray = diff("third", "hidden");
    let real = diff("first", "best").replace(" int third;", " int hidden;");
    let message = format!("It shows with this change:\n\n{stray}\nwhich is why.\n---\n 1 file changed\n\n");
    world.write("one.mbx", &mail(1, "", "[PATCH] one", &format!("{message}{real}-- \n2.47\n")));
    let loud = "a diff of kernel/fake.c is in its message, before the line `---`; git applies it";
    let done = world.run(&["--kernel", &spec, "--patches", "one.mbx"]);
    done.exits(0).says(&["warning: ", loud]);
    assert!(text(&done.json()["kernels"][0]["notes"][0]).contains(loud), "{done}");
    assert!(done.stdout.contains("the series: patch 1 of 1 (one.mbx"), "{done}");
    // One that does not apply: the line to look at is not in the visible diff.
    world.write(
        "two.mbx",
        &mail(1, "", "[PATCH] one", &format!("{}{real}", message.replace("-int third", "-int fourth"))),
    );
    let says = "does not apply: a diff of kernel/fake.c is in its message, before the line `---`, and git applies that";
    world.run(&["--kernel", &spec, "--patches", "two.mbx"]).exits(10).says(&[says]);
}
