// SPDX-License-Identifier: MIT OR Apache-2.0
//! Diffs that are easily misread.

use super::*;

const DIFF: &str = "diff --git a/kernel/x.c b/kernel/x.c\nindex 1..2 100644\n--- a/kernel/x.c\n+++ b/kernel/x.c\n\
                    @@ -1,2 +1,2 @@\n a\n--- b\n+++ c\n";

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
fn paths_are_taken_apart_as_git_does() {
    let text = "diff --git kernel/x.c kernel/x.c\n--- kernel/x.c\n+++ kernel/x.c\n@@ -1 +1 @@\n-a\n+b\n\
                diff --git i/kernel/y.c w/kernel/y.c\n--- i/kernel/y.c\n+++ w/kernel/y.c\n@@ -1 +1 @@\n-a\n+b\n";
    let files = parse_diff(text);
    assert_eq!((files[0].bare.as_deref(), files[0].name()), (Some("kernel/x.c"), "x.c"));
    assert_eq!((files[1].bare.as_deref(), files[1].name()), (None, "kernel/y.c"));
    assert_eq!(parse_stripped(text, 0)[0].name(), "kernel/x.c");
    assert_eq!(parse_stripped("--- a/b/x.c\n+++ a/b/x.c\n@@ -1 +1 @@\n-a\n+b\n", 2)[0].name(), "x.c");
    let renamed =
        "diff --git old/x.c new/y.c\nsimilarity index 100%\nrename from old/x.c\nrename to new/y.c\n";
    assert_eq!(parse_stripped(renamed, 0)[0].paths().collect::<Vec<_>>(), ["old/x.c", "new/y.c"]);
    // A truncated hunk ends where the next file begins.
    let cut = "--- a/x\n+++ b/x\n@@ -1,9 +1,9 @@\n a\ndiff --git a/y b/y\nnew file mode 100644\n";
    assert_eq!(parse_diff(cut).len(), 2);
}
