// SPDX-License-Identifier: MIT OR Apache-2.0
//! `coverage`: which added lines no test runs.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;

use flate2::Compression;
use flate2::write::GzEncoder;
use vmtest_protocol::base64;

use crate::support::{Done, World, text};

/// gcov as far as the harness looks: with counters, line 2 ran.
pub const GCOV: &str = r#"#!/bin/sh
shift
for name; do
    if [ -e "$name" ]; then ran=some; else ran=none; fi
    cp "$HOME/$ran.json.gz" "$name.gcov.json.gz" || exit
done
"#;

/// What gcov says of a file whose lines 2 and 3 have code.
fn document(ran: u64) -> Vec<u8> {
    let line = |at: u64| serde_json::json!({ "line_number": at, "count": u64::from(at == ran) });
    let file = serde_json::json!({ "file": "/src/kernel/fake.c", "lines": [line(2), line(3)] });
    let text = serde_json::json!({ "files": [file] }).to_string();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(text.as_bytes()).expect("written");
    packed.finish().expect("written")
}

/// Puts a gcov into a world. Returns what its guests need to report these counters, for [`World::lists`].
pub fn counting(world: &World, counters: Option<&str>, gcov: &str) -> String {
    for (name, ran) in [("some", 2), ("none", 0)] {
        fs::write(world.path(&format!("home/{name}.json.gz")), document(ran)).expect("written");
    }
    let program = world.write("bin/gcov", gcov);
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("it can be run");
    // A stored block of deflate.
    let packed = counters.map(|lines| {
        let length = u16::try_from(lines.len()).expect("short");
        let head = [&[1][..], &length.to_le_bytes(), &(!length).to_le_bytes()].concat();
        base64::encode(&[&head[..], lines.as_bytes()].concat())
    });
    packed.map(|data| format!("counters={data}\n")).unwrap_or_default()
}

fn world(counters: Option<&str>, gcov: &str) -> World {
    let world = World::new();
    let counters = counting(&world, counters, gcov);
    world.lists(&["basic/first"], &format!("features=',\"gcov\":\"yes\"'\n{counters}"));
    world
}

/// A series of two for the tree: three lines, of which the second patch changes one.
fn series(world: &World) {
    let mail = |number: u32, body: &str| {
        format!(
            "From: A <a@example.org>\nSubject: [PATCH {number}/2] fake: patch {number}\n\nIt does.\n---\n\
             diff --git a/kernel/fake.c b/kernel/fake.c\n--- a/kernel/fake.c\n+++ b/kernel/fake.c\n{body}--\n2.39.0\n"
        )
    };
    let first =
        "@@ -1,3 +1,6 @@\n int first;\n+int run;\n+int idle;\n+/* A comment. */\n int second;\n int third;\n";
    let second =
        "@@ -1,5 +1,5 @@\n int first;\n int run;\n-int idle;\n+int never;\n /* A comment. */\n int second;\n";
    world.write("outgoing/0001-a.patch", &mail(1, first));
    world.write("outgoing/0002-b.patch", &mail(2, second));
}

fn coverage(world: &World, words: &[&str]) -> Done {
    let on = format!("tree:{}", world.tree("linux", "guest: pass").display());
    let first =
        ["coverage", "--toolchain", "host", "--accel", "tcg", "--boot", "direct", "outgoing", "--on", &on];
    world.start(world.command(&[&first[..], words].concat())).done()
}

#[test]
fn each_added_line_has_a_state_a_patch_and_its_tests() {
    let world = world(Some("2"), GCOV);
    series(&world);
    let done = coverage(&world, &["--output", "lcov=added.info"]);
    done.exits(0).says(&[
        "3 added lines: 1 run, 1 not run, 1 no code",
        "1/2 fake: patch 1: 2 added lines: 1 run, 1 no code",
        "not run: kernel/fake.c:3 (patch 2)\n    int never;",
    ]);
    assert_eq!(
        world.read("added.info").lines().skip(1).collect::<Vec<_>>(),
        ["SF:kernel/fake.c", "DA:2,1", "DA:3,0", "LF:2", "LH:1", "end_of_record"]
    );
    let run = done.json();
    let covered = &run["kernels"][0]["coverage"];
    assert_eq!(covered["tests"], serde_json::json!(["basic/first"]), "{covered:#}");
    let state = |at: usize| text(&covered["files"][0]["lines"][at]["state"]);
    assert_eq!([state(0), state(1), state(2)], ["run", "not-run", "no-code"].map(str::to_owned));
    assert_eq!(run["cells"][0]["variant"], "coverage");
    crate::support::schema::is_valid(run);
    world.is_clean();
}

#[test]
fn without_a_result_it_does_not_pass() {
    for (counters, gcov, why) in [
        (None, GCOV, "no guest reported which lines ran"),
        (Some("2"), "#!/bin/sh\nexit 1\n", "gcov cannot read the counters"),
        (Some("2"), "#!/bin/sh\n", "gcov.json.gz"),
        (
            Some("2"),
            &format!("{GCOV}[ $ran = none ] || echo 0.gcda: stamp mismatch with notes file >&2\n"),
            "stamp mismatch",
        ),
    ] {
        let world = world(counters, gcov);
        series(&world);
        coverage(&world, &[]).exits(3).says(&["not known which lines ran: ", why]);
        world.is_clean();
    }
}

#[test]
fn what_is_not_compiled_is_told_apart() {
    let world = world(None, GCOV);
    world.write(
        "outgoing/0001-tool.patch",
        "From: A <a@example.org>\nSubject: [PATCH] tools: a file\n\nNew.\n---\n\
         diff --git a/tools/new.c b/tools/new.c\nnew file mode 100644\n--- /dev/null\n+++ b/tools/new.c\n@@ -0,0 +1,2 @@\n\
         +int one;\n+int two;\n--\n2.39.0\n",
    );
    coverage(&world, &[])
        .exits(0)
        .says(&["2 added lines: 2 not compiled", "not part of the kernel (2): tools/new.c"]);
}

#[test]
fn what_asks_for_something_else_is_refused() {
    let world = world(None, GCOV);
    series(&world);
    coverage(&world, &["--variant", "debug"])
        .refuses(2, &["coverage cannot be combined with --variant", "next: "]);
    coverage(&world, &["--shell"]).refuses(2, &["coverage cannot be combined with --shell"]);
    let on = format!("--on={}", world.path("linux").display());
    let none = world.start(world.command(&["coverage", &on])).done();
    none.refuses(2, &["no series was named", "next: "]);
    coverage(&world, &["LLVM=1"]).refuses(2, &["LLVM=1 is not supported", "--variant coverage", "next: "]);
}
