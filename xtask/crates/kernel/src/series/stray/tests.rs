// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

const ONE: &str =
    "diff --git a/one.c b/one.c\nindex 1..2 100644\n--- a/one.c\n+++ b/one.c\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n";
const PLAIN: &str = "--- a/one.c\n+++ b/one.c\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n";
const TWO: &str = "diff --git a/two.c b/two.c\n--- a/two.c\n+++ b/two.c\n@@ -1 +1,2 @@\n a\n+b\n";
const STAT: &str = " two.c | 1 +\n 1 file changed, 1 insertion(+)\n\n";

#[test]
fn a_diff_in_the_message_in_the_remarks_or_after_the_signature_is_found() {
    let says = |diff: String, place: &str| {
        let found = stray(&diff);
        assert!(found.as_deref().is_some_and(|text| text.contains(place)), "{found:?} of {diff}");
    };
    let text = "\nwhich is why.\n\n";
    for one in [ONE, PLAIN, "diff --git a/one.c b/one.c\n", "--- a/one.c\n+++ b/one.c\n@@ -1,9 +1,9 @@\n a\n"]
    {
        says(format!("{one}{text}---\n{STAT}{TWO}"), "one.c is in its message");
        says(format!("{one}{text}Signed-off-by: A <a@b>\n\n{TWO}"), "one.c is in its message");
    }
    says(format!("---\nv2: as here:\n{ONE}\n{STAT}{TWO}"), "one.c is above its list of changed files");
    says(format!("---\n{STAT}{TWO}-- \n2.47\n\n{ONE}"), "one.c is below its signature");
    says(format!("{TWO}-- \n2.47\n\n{PLAIN}"), "one.c is below its signature");
}

#[test]
fn a_patch_as_git_writes_it_has_none() {
    // The removed lines `- ` and `--` look like a signature and a separator.
    let odd = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,4 +1,2 @@\n a\n-- \n---\n+--- a/y\n-\n";
    for diff in [
        format!("---\n{STAT}{ONE}{TWO}-- \n2.47\n\n"),
        format!("---\n{STAT}{odd}{TWO}-- \n2.47\n"),
        format!("{PLAIN}{TWO}"),
        format!("---\nremarks\n\n{STAT}{TWO}"),
        format!("---\n{STAT}diff --git a/run.sh b/run.sh\nold mode 100644\nnew mode 100755\n{TWO}"),
        String::new(),
    ] {
        assert_eq!(stray(&diff), None, "{diff}");
    }
}

#[test]
fn a_binary_file_without_data_is_found_where_git_says_nothing() {
    let plain = format!("diff -ruN a/bin b/bin\nBinary files a/bin and b/bin differ\n{PLAIN}");
    assert_eq!(without_data(&plain).as_deref(), Some("a/bin and b/bin"));
    let harmless = [
        "diff --git a/bin b/bin\nBinary files a/bin and b/bin differ\n",
        " Binary files a/x and b/x differ\n",
    ];
    assert!(harmless.iter().all(|diff| without_data(diff).is_none()));
}
