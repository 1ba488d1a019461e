// SPDX-License-Identifier: MIT OR Apache-2.0
//! Patches that apply, and why others do not.

use super::*;
use crate::kernel::series;

/// Three files: numbered lines, C-like code with tabs, a script.
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

/// Makes patches of changes to a copy of [`tree`]; each change is one commit.
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
    // The base is as it was.
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
    assert_says(&bench.fails(&texts), &["conflict: it makes c.c, which is there with other content"]);
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
    assert!(link_stays_inside("a/b/link", Path::new("../c")));
    assert!(link_stays_inside("link", Path::new("a/../b")));
    assert!(!link_stays_inside("a/link", Path::new("../../x")));
    assert!(!link_stays_inside("link", Path::new("/etc/passwd")));
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
