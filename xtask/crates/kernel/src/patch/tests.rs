// SPDX-License-Identifier: MIT OR Apache-2.0
//! Patches that apply, and why others do not.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::patch::repo::link_stays_inside;
use crate::series;

/// Three files: numbered lines, C code with tabs, a script.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    create_dir(&dir.path().join("kernel/bpf")).expect("made");
    write(dir.path(), "kernel/a.c", &(1..=100).map(|n| format!("line {n}\n")).collect::<String>());
    write(dir.path(), "kernel/bpf/b.c", "int b(void)\n{\n\treturn 1;\n}\n");
    write(dir.path(), "run.sh", "#!/bin/sh\nexit 0\n");
    dir
}

fn write(dir: &Path, path: &str, text: &str) {
    let file = dir.join(path);
    create_dir(file.parent().expect("a parent")).expect("made");
    fs::write(file, text).expect("written");
}

fn replace(dir: &Path, path: &str, from: &str, to: &str) {
    let text = fs::read_to_string(dir.join(path)).expect("there");
    assert!(text.contains(from), "{from:?} is in {path}");
    write(dir, path, &text.replacen(from, to, 1));
}

/// Makes patches from changes to a copy of [`tree`], one commit per change.
fn patches(changes: &[&dyn Fn(&Path)]) -> Vec<String> {
    let dir = tree();
    let repo = Repo { dir: dir.path().to_owned() };
    let git = |args: &[&str]| repo.git(args).expect("git runs").ok("git").expect("git works").stdout;
    git(&["init", "--quiet", "--template="]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "base"]);
    let mut texts = Vec::new();
    for (at, change) in changes.iter().enumerate() {
        change(dir.path());
        git(&["add", "--all", "."]);
        git(&["commit", "--quiet", "-m", &format!("change {}", at + 1)]);
        texts.push(git(&["format-patch", "--stdout", "-M", "-1", "HEAD"]));
    }
    texts
}

struct Bench {
    base: tempfile::TempDir,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench { base: tree(), dir: tempfile::tempdir().expect("temporary directory") }
    }

    fn series(&self, texts: &[String]) -> Series {
        let paths: Vec<PathBuf> =
            (1..=texts.len()).map(|number| self.dir.path().join(format!("{number:04}-p.patch"))).collect();
        for (path, text) in paths.iter().zip(texts) {
            fs::write(path, text).expect("written");
        }
        series::load(&paths).expect("a series")
    }

    fn try_apply(&self, series: &Series, base_commit: Option<&str>) -> Result<PathBuf> {
        let scratch = tempfile::tempdir_in(self.dir.path()).expect("temporary directory").keep();
        let out = scratch.join("out");
        create_dir(&out).expect("made");
        make_overlay(&scratch, &out, self.base.path(), base_commit, series)?;
        Ok(out)
    }

    fn fails(&self, texts: &[String]) -> String {
        let error = self.try_apply(&self.series(texts), None).expect_err("does not apply");
        assert_eq!(error.class, Class::SeriesDoesNotApply, "{error}");
        error.to_string()
    }
}

fn assert_says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in:\n{error}");
    }
}

fn far_apart(dir: &Path) {
    for line in ["line 10\n", "line 50\n", "line 90\n"] {
        replace(dir, "kernel/a.c", line, "changed\n");
    }
}

fn one_line(dir: &Path) {
    replace(dir, "kernel/bpf/b.c", "return 1", "return 2");
}

#[test]
fn changes_new_deleted_renamed_and_executable_files_are_kept() {
    let bench = Bench::new();
    let texts = patches(&[
        &far_apart,
        &|dir| write(dir, "new/dir/c.c", "new\n"),
        &|dir| fs::rename(dir.join("kernel/bpf/b.c"), dir.join("kernel/bpf/renamed.c")).expect("renamed"),
        &|dir| {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(dir.join("run.sh"), mode).expect("mode set");
        },
        &|dir| fs::remove_file(dir.join("kernel/a.c")).expect("removed"),
    ]);
    let out = bench.try_apply(&bench.series(&texts), None).expect("applies");
    let text = |name: &str| fs::read_to_string(out.join(name)).expect(name);
    assert_eq!(text("changed"), "kernel/bpf/renamed.c\nnew/dir/c.c\nrun.sh\n");
    assert_eq!(text("deleted"), "kernel/a.c\nkernel/bpf/b.c\n");
    assert_eq!(text("files/new/dir/c.c"), "new\n");
    let mode = fs::metadata(out.join("files/run.sh")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    assert!(!out.join("files/kernel/a.c").exists());
    // The base is unchanged.
    assert!(bench.base.path().join("kernel/a.c").exists());
    assert!(!bench.base.path().join(".git").exists());
}

#[test]
fn a_conflict_names_patch_file_and_hunk() {
    let bench = Bench::new();
    replace(bench.base.path(), "kernel/a.c", "line 49\n", "other\n");
    let error = bench.fails(&patches(&[&one_line, &far_apart]));
    assert_says(
        &error,
        &[
            "patch 2 of 2 (0002-p.patch, \"change 2\") does not apply: conflict: kernel/a.c hunk 2 of 3 (line 47)",
            "2 of its 3 hunks apply",
            "| -line 50",
        ],
    );
}

#[test]
fn a_wrong_base_lacks_the_file_or_every_hunk() {
    let bench = Bench::new();
    write(bench.base.path(), "kernel/a.c", "nothing of it\n");
    let far = patches(&[&far_apart]);
    assert_says(
        &bench.fails(&far),
        &["wrong base: no hunk of it applies, first kernel/a.c hunk 1 of 3 (line 7)"],
    );
    fs::remove_file(bench.base.path().join("kernel/a.c")).expect("removed");
    assert_says(&bench.fails(&far), &["patch 1 of 1", "wrong base: kernel/a.c is not in this tree"]);
}

#[test]
fn a_known_other_base_is_named() {
    let bench = Bench::new();
    replace(bench.base.path(), "kernel/a.c", "line 49\n", "other\n");
    let mut series = bench.series(&patches(&[&far_apart]));
    series.base_commit = Some("a".repeat(40));
    let is = "b".repeat(40);
    let error = bench.try_apply(&series, Some(&is)).expect_err("does not apply").to_string();
    assert_says(
        &error,
        &["wrong base: kernel/a.c hunk 2 of 3", &is, &series.base_commit.clone().expect("set")],
    );
    let same = bench.try_apply(&series, series.base_commit.as_deref()).expect_err("does not apply");
    assert_says(&same.to_string(), &["conflict: kernel/a.c hunk 2 of 3"]);
}

#[test]
fn what_is_there_already_is_said_to_be() {
    let bench = Bench::new();
    one_line(bench.base.path());
    let texts = patches(&[&far_apart, &one_line]);
    assert_says(&bench.fails(&texts), &["patch 2 of 2", "already applied: the tree holds this change"]);
    let twice = [texts[0].clone(), texts[0].clone()];
    assert_says(
        &bench.fails(&twice),
        &["patch 2 of 2", "already applied: patch 1 of 2", "is the same change"],
    );
}

#[test]
fn a_new_file_that_is_there_is_told_apart() {
    let bench = Bench::new();
    let texts = patches(&[&|dir| write(dir, "c.c", "new\n")]);
    write(bench.base.path(), "c.c", "new\n");
    assert_says(&bench.fails(&texts), &["already applied"]);
    write(bench.base.path(), "c.c", "other\n");
    assert_says(&bench.fails(&texts), &["conflict: it creates c.c, which already exists with other content"]);
}

#[test]
fn a_damaged_diff_is_no_conflict() {
    let bench = Bench::new();
    let tabs = patches(&[&one_line])[0].replace('\t', "    ");
    assert_says(&bench.fails(&[tabs]), &["the diff is damaged", "only in white space"]);
    let wrapped = patches(&[&far_apart])[0].replace("\n line 11\n", "\n line\n11\n");
    assert_says(&bench.fails(&[wrapped]), &["the diff is damaged: corrupt patch at"]);
}

#[test]
fn a_rename_that_fails_names_its_hunk() {
    let bench = Bench::new();
    let texts = patches(&[&|dir| {
        fs::rename(dir.join("kernel/a.c"), dir.join("kernel/z.c")).expect("renamed");
        replace(dir, "kernel/z.c", "line 10\n", "ten\n");
        replace(dir, "kernel/z.c", "line 90\n", "ninety\n");
    }]);
    replace(bench.base.path(), "kernel/a.c", "line 89\n", "other\n");
    assert_says(&bench.fails(&texts), &["conflict: kernel/a.c hunk 2 of 2 (line 87)", "1 of its 2 hunks"]);
}

#[test]
fn links_stay_inside() {
    let links = [
        ("top", "."),
        ("dir", "a/b"),
        ("out", "/etc"),
        ("deep/up", ".."),
        ("loop", "loop"),
        ("file", "dir/x"),
    ];
    let link_at = |path: &str| links.iter().find(|(link, _)| *link == path).map(|(_, to)| PathBuf::from(to));
    let inside = |link: &str, target: &str| link_stays_inside(link, Path::new(target), &link_at);
    for (link, target) in [
        ("a/b/link", "../c"),
        ("link", "a/../b"),
        ("link", "."),
        ("a/link", ".."),
        ("link", "top"),
        ("link", "dir"),
        ("a/link", "../dir"),
        ("link", "deep/up"),
        ("link", "./a/./b/"),
    ] {
        assert!(inside(link, target), "{link} -> {target}");
    }
    for (link, target) in [
        ("a/link", "../../x"),
        ("link", "/etc/passwd"),
        ("link", ".."),
        ("secret", "top/top/../../../.."),
        ("secret", "top/.."),
        ("secret", "top/a"),
        ("a/secret", "../dir/../../.."),
        ("secret", "dir/x"),
        ("link", "out"),
        ("link", "out/passwd"),
        ("link", "deep/up/up"),
        ("link", "loop"),
        ("link", "file"),
        ("a/link", "../top/../x"),
    ] {
        assert!(!inside(link, target), "{link} -> {target}");
    }
    let bench = Bench::new();
    let texts = patches(&[&|dir| symlink("/etc/passwd", dir.join("evil")).expect("linked")]);
    assert_says(&bench.fails(&texts), &["its link evil leads out of the tree", "/etc/passwd"]);
    let through = patches(&[&|dir| symlink("kernel", dir.join("alias")).expect("linked")]);
    let out = bench.try_apply(&bench.series(&through), None).expect("applies");
    assert_eq!(fs::read_link(out.join("files/alias")).expect("a link"), Path::new("kernel"));
}

#[test]
fn a_patch_of_nothing_is_an_error() {
    let bench = Bench::new();
    let text =
        patches(&[&one_line])[0].replace("-\treturn 1;\n+\treturn 2;\n", "-\treturn 1;\n+\treturn 1;\n");
    assert_says(&bench.fails(&[text]), &["does not apply"]);
}

/// A mail with this message and diff.
fn mail(message: &str, diff: &str) -> String {
    format!(
        "From: A <a@example.org>\nSubject: [PATCH] x\n\n{message}---\n 1 file changed\n\n{diff}-- \n2.47\n"
    )
}

/// A diff that changes `return 1` to `return NUMBER`, with these paths before and after.
fn returns(old: &str, new: &str, number: u32) -> String {
    format!(
        "diff --git {old} {new}\n--- {old}\n+++ {new}\n@@ -1,4 +1,4 @@\n int b(void)\n {{\n-\treturn 1;\n+\treturn {number};\n }}\n"
    )
}

#[test]
fn a_mail_in_a_charset_that_does_not_exist_applies_byte_for_byte() {
    let bench = Bench::new();
    let diff =
        "diff --git a/n.c b/n.c\nnew file mode 100644\n--- /dev/null\n+++ b/n.c\n@@ -0,0 +1 @@\n+Zo\u{eb}\n";
    let text = format!("Content-Type: text/plain; charset=y\nMIME-Version: 1.0\n{}", mail("\u{eb}\n", diff));
    let out = bench.try_apply(&bench.series(&[text]), None).expect("applies");
    assert_eq!(fs::read_to_string(out.join("files/n.c")).expect("there"), "Zo\u{eb}\n");
}

#[test]
fn a_diff_without_prefixes_is_said_to_be_one() {
    let bench = Bench::new();
    let fails = |diff: &str| bench.fails(&[mail("", diff)]);
    let path = "kernel/bpf/b.c";
    let next = "git format-patch --default-prefix";
    assert_says(
        &fails(&returns(path, path, 2)),
        &["its diff has no a/ and b/ prefixes: kernel/bpf/b.c", next],
    );
    // Otherwise git would create it in a wrong place.
    let new = "diff --git kernel/new.c kernel/new.c\nnew file mode 100644\n--- /dev/null\n+++ kernel/new.c\n@@ -0,0 +1 @@\n+x\n";
    assert_says(&fails(new), &["no a/ and b/ prefixes: kernel/new.c"]);
    let top = "diff --git run.sh run.sh\nold mode 100644\nnew mode 100755\n";
    assert_says(&fails(top), &["no a/ and b/ prefixes: run.sh"]);
    let deep = returns("old/linux/kernel/bpf/b.c", "new/linux/kernel/bpf/b.c", 2);
    assert_says(
        &fails(&deep),
        &[
            "its paths do not start with a/ and b/: old/linux/kernel/bpf/b.c means kernel/bpf/b.c",
            next,
            "-p2",
        ],
    );
    for (old, new) in [("i/", "w/"), ("c/", "i/"), ("linux/", "linux/"), ("x.orig/", "x/"), ("./", "./")] {
        let diff = returns(&format!("{old}{path}"), &format!("{new}{path}"), 2);
        bench
            .try_apply(&bench.series(&[mail("", &diff)]), None)
            .unwrap_or_else(|error| panic!("{old}: {error}"));
    }
    // A missing file is a wrong base, even if another file has the rest of its path.
    write(bench.base.path(), "b.c", "other\n");
    fs::remove_file(bench.base.path().join(path)).expect("removed");
    assert_says(
        &fails(&returns("a/kernel/bpf/b.c", "b/kernel/bpf/b.c", 2)),
        &["wrong base: kernel/bpf/b.c is not in"],
    );
}

#[test]
fn what_git_refuses_has_the_reason_of_git_in_its_title() {
    let bench = Bench::new();
    write(bench.base.path(), "bin", "\u{1}\0");
    let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
    let binary =
        "diff --git a/bin b/bin\nindex 6dd4233..e10df69 100644\nBinary files a/bin and b/bin differ\n";
    let error = bench.fails(&[mail("", binary)]);
    assert_says(&error, &["next: recreate it with `git format-patch` or `git diff --binary`"]);
    assert_says(
        &first(error),
        &[
            "the diff of a binary file has no data: cannot apply binary patch to 'bin' without full index line",
        ],
    );
    let deleted =
        "diff --git a/kernel/bpf/b.c b/kernel/bpf/b.c\ndeleted file mode 100644\nindex 586ece7..0000000\n";
    let error = bench.fails(&[mail("", deleted)]);
    assert_says(&error, &["next: recreate it without -D (--irreversible-delete)"]);
    assert_says(
        &first(error),
        &["it deletes kernel/bpf/b.c without its content: removal patch leaves file contents"],
    );
    let no_author = mail("", &returns("a/kernel/bpf/b.c", "b/kernel/bpf/b.c", 2))
        .replace("Subject", "Date: sometime\nSubject");
    let error = bench.try_apply(&bench.series(&[no_author]), None).err();
    assert!(
        error.is_none_or(|error| error.class == Class::SeriesDoesNotApply && !error.what.contains("no hunk"))
    );
}

#[test]
fn a_diff_in_a_message_is_applied_as_git_does_and_named_where_it_fails() {
    let bench = Bench::new();
    let real = returns("a/kernel/bpf/b.c", "b/kernel/bpf/b.c", 2);
    let stray = "diff --git a/run.sh b/run.sh\n--- a/run.sh\n+++ b/run.sh\n@@ -1,2 +1,2 @@\n #!/bin/sh\n-exit 0\n+exit 1\n";
    let series = bench.series(&[mail(&format!("As here:\n\n{stray}\nso.\n"), &real)]);
    let out = bench.try_apply(&series, None).expect("applies");
    assert_eq!(fs::read_to_string(out.join("changed")).expect("there"), "kernel/bpf/b.c\nrun.sh\n");
    assert!(series.notes.iter().any(|note| note.text().contains("a diff of run.sh is in its message")));
    let other = stray.replace("-exit 0", "-exit 7");
    let error = bench.fails(&[mail(&format!("As here:\n\n{other}\nso.\n"), &real)]);
    assert_says(
        error.lines().next().unwrap_or_default(),
        &[
            "does not apply: a diff of run.sh is in its message, before the line `---`, and git applies that as well",
        ],
    );
    assert_says(&error, &["next: indent the diff that must not be applied"]);
}

#[test]
fn quilt_options_take_directories_off_and_patches_out() {
    let bench = Bench::new();
    let quilt = |list: &str| {
        let dir = tempfile::tempdir_in(bench.dir.path()).expect("temporary directory").keep();
        write(&dir, "series", list);
        write(&dir, "two.patch", &returns("a/kernel/bpf/b.c", "b/kernel/bpf/b.c", 2));
        write(
            &dir,
            "bare.patch",
            &returns("kernel/bpf/b.c", "kernel/bpf/b.c", 2)
                .replace("return 1", "return 2")
                .replace("+\treturn 2", "+\treturn 3"),
        );
        write(&dir, "deep.patch", &returns("x/y/kernel/bpf/b.c", "x/z/kernel/bpf/b.c", 4));
        write(
            &dir,
            "back.patch",
            &returns("kernel/bpf/b.c", "kernel/bpf/b.c", 4)
                .replace("return 4", "return 5")
                .replace("return 1", "return 4")
                .replace("+\treturn 5", "+\treturn 1"),
        );
        series::load(&[dir]).expect("a series")
    };
    let content = |list: &str| {
        let out = bench.try_apply(&quilt(list), None).unwrap_or_else(|error| panic!("{list}: {error}"));
        fs::read_to_string(out.join("files/kernel/bpf/b.c")).unwrap_or_default()
    };
    assert!(content("two.patch\n").contains("return 2"));
    assert!(content("two.patch\nbare.patch -p0\n").contains("return 3"));
    assert!(content("deep.patch -p2\n").contains("return 4"));
    // Reverting a patch of the same series leaves no change.
    assert_eq!(content("two.patch\ntwo.patch -R\n"), "");
    assert!(content("back.patch -p0 -R\n").contains("return 4"));
    let error = bench.try_apply(&quilt("two.patch -R\n"), None).expect_err("is not in");
    assert_eq!(error.class, Class::SeriesDoesNotApply, "{error}");
    let error = bench.try_apply(&quilt("deep.patch\n"), None).expect_err("too deep").to_string();
    assert_says(&error, &["x/y/kernel/bpf/b.c means kernel/bpf/b.c", "-p2"]);
}

#[test]
fn a_link_through_another_one_is_refused_whoever_made_that() {
    let bench = Bench::new();
    let chain: &[&dyn Fn(&Path)] = &[&|dir| {
        symlink(".", dir.join("l")).expect("linked");
        symlink("l/l/../../../..", dir.join("secret")).expect("linked");
    }];
    assert_says(&bench.fails(&patches(chain)), &["its link secret leads out of the tree", "l/l/../../../.."]);
    // The first symlink is already in the base tree.
    symlink(".", bench.base.path().join("top")).expect("linked");
    let later = patches(&[&|dir| symlink("../top/../x", dir.join("kernel/secret")).expect("linked")]);
    assert_says(&bench.fails(&later), &["its link kernel/secret leads out of the tree"]);
    symlink("/etc", bench.base.path().join("etc")).expect("linked");
    let last = patches(&[&|dir| symlink("etc", dir.join("secret")).expect("linked")]);
    assert_says(&bench.fails(&last), &["its link secret leads out of the tree"]);
    let fine = patches(&[&|dir| symlink("../top", dir.join("kernel/fine")).expect("linked")]);
    bench.try_apply(&bench.series(&fine), None).expect("stays inside");
}
