// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commits of a user's repository, which must stay unmodified.

use super::*;
use crate::source::samples::{context, git, kernel_repo, listing};

/// Resolves a range and fetches it.
fn range(ctx: &Context, repo: &Path, from: &str, to: &str) -> Result<Fetched> {
    match resolve_range(ctx, repo, from, to)?.choice {
        Choice::Range(path, range) => fetch_range(ctx, &path, &range),
        other => panic!("{other:?}"),
    }
}
use vmtest_host::store::SEAL;

#[test]
fn a_history_is_walked_as_git_bisect_walks_it() {
    let (dir, ctx) = context();
    let repo = kernel_repo(&dir.path().join("linux"));
    let empty = |message: &str| git(&repo, &["commit", "-q", "--allow-empty", "-m", message]);
    git(&repo, &["checkout", "-qb", "side"]);
    empty("side: one");
    empty("side: two");
    git(&repo, &["checkout", "-q", "main"]);
    empty("main: two");
    git(&repo, &["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    let before = listing(&repo);
    let commits = Commits::open(&ctx, &repo).expect("opened");
    let at = |rev: &str| commits.commit(rev).expect(rev);
    let (root, tip) = (at("main~2"), at("main"));
    let ranked = commits.between(&tip, std::slice::from_ref(&root)).expect("listed");
    assert_eq!((ranked.len(), ranked.contains(&root)), (4, false));
    assert_eq!(ranked[0], at("side"), "two behind it, two not");
    assert_eq!(ranked.last(), Some(&tip));
    let line = commits.line(&tip, &root).expect("listed");
    assert_eq!((line.len(), line.last()), (4, Some(&tip)));
    let place = |rev: &str| line.iter().position(|commit| *commit == at(rev)).expect(rev);
    assert!(place("side~1") < place("side"), "{line:?}");
    let rest = commits.between(&tip, &[root.clone(), at("side")]).expect("listed");
    assert_eq!(rest, [at("main~1"), tip.clone()]);
    assert!(
        commits.precedes(&root, &tip).expect("an answer") && commits.precedes(&tip, &tip).expect("an answer")
    );
    assert!(!commits.precedes(&at("side"), &at("main~1")).expect("an answer"));
    assert_eq!(commits.merge_bases(&at("side"), &at("main~1")).expect("one"), [root]);
    let about = commits.about(&at("side")).expect("read");
    assert_eq!((about.subject.as_str(), about.author.as_str()), ("side: two", "t <t@example.org>"));
    git(&repo, &["checkout", "-q", "--orphan", "other"]);
    empty("nothing in common");
    assert_eq!(commits.merge_bases(&at("other"), &tip).expect_err("none").class.code(), 2);
    git(&repo, &["checkout", "-q", "main"]);
    git(&repo, &["branch", "-qD", "other"]);
    let objects = |listing: &BTreeMap<PathBuf, (u64, i64, i64)>| {
        listing.keys().filter(|path| !path.starts_with(repo.join(".git"))).count()
    };
    assert_eq!(objects(&listing(&repo)), objects(&before));
}

#[test]
fn a_commit_that_unpacks_to_terabytes_is_refused_by_name() {
    let line = |size: &str, path: &str| format!("100644 blob {} {size:>7}\t{path}\n", "0".repeat(40));
    assert_eq!(too_large(&[line("12", "a"), line("-", "sub"), line("4294967296", "b")].concat()), None);
    let large = too_large(&[line("12", "a"), line("1099511627776", "b c")].concat());
    assert_eq!(large.as_deref(), Some("with b c it has 1024 GiB"));
    let many: String = (0..9).map(|number| line("4000000000", &number.to_string())).collect();
    assert!(too_large(&many).is_some());
}

#[test]
fn names_are_unquoted() {
    assert_eq!(unquote("a/b.c"), "a/b.c");
    assert_eq!(unquote(r#""a\303\244 \"b\".c""#), "aä \"b\".c");
}

#[test]
fn commits_are_checked_out_and_the_users_repository_stays_as_it_is() {
    let (dir, ctx) = context();
    let repo = kernel_repo(&dir.path().join("linux"));
    fs::write(repo.join("gone.c"), "x\n").expect("written");
    git(&repo, &["add", "-A"]);
    git(&repo, &["commit", "-qm", "two"]);
    fs::remove_file(repo.join("gone.c")).expect("removed");
    fs::write(repo.join("kernel/trampoline.c"), "int b;\n").expect("written");
    git(&repo, &["add", "-A"]);
    git(&repo, &["commit", "-qm", "three"]);
    let before = listing(&repo);
    let one = fetch(&ctx, &repo, "HEAD~2").expect("first");
    let two = fetch(&ctx, &repo, "HEAD~1").expect("second");
    let three = fetch(&ctx, &repo, "HEAD").expect("third");
    assert_eq!(read_text(&one.dir.join("kernel/trampoline.c")).expect("read"), "int a;\n");
    assert!(two.dir.join("gone.c").exists() && !three.dir.join("gone.c").exists());
    assert_eq!(read_text(&three.dir.join("kernel/trampoline.c")).expect("read"), "int b;\n");
    assert_eq!(read_text(&two.dir.join("kernel/trampoline.c")).expect("read"), "int a;\n", "not in place");
    assert_eq!((&one.lineage, one.key != two.key), (&three.lineage, true));
    assert_eq!(three.base_commit.as_deref().map(str::len), Some(40));
    assert!(resolve(&ctx, &repo, "HEAD").expect("resolved").cached);

    let Fetched::Range { base, series } = range(&ctx, &repo, "HEAD~2", "HEAD").expect("range") else {
        panic!("a range")
    };
    assert_eq!((base.dir, series.patches.len(), series.name.as_str()), (one.dir, 2, "HEAD~2..HEAD"));
    assert_eq!(listing(&repo), before, "nothing was written to the user's repository");
}

#[test]
fn a_range_must_be_a_series() {
    let (dir, ctx) = context();
    let repo = kernel_repo(&dir.path().join("linux"));
    git(&repo, &["checkout", "-qb", "side"]);
    git(&repo, &["commit", "-q", "--allow-empty", "-m", "side"]);
    git(&repo, &["checkout", "-qb", "other", "HEAD~1"]);
    git(&repo, &["commit", "-q", "--allow-empty", "-m", "other"]);
    let open = Repo::open(&ctx.cache, &repo).expect("a repository");
    let why = |from: &str, to: &str| Range::of(&open, from, to).expect_err("not a series").to_string();
    assert!(why("side", "other").contains("not an ancestor"));
    assert!(why("side", "side").contains("no commit"));
    assert!(why("side~1", "side").contains("none of its commits changes a file"));
    git(&repo, &["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    assert!(why("HEAD~1", "HEAD").contains("a merge is not a patch"));
    assert!(open.commit("nowhere").expect_err("unknown").to_string().contains("is not a commit"));
    assert!(Repo::open(&ctx.cache, dir.path()).is_err());
}

/// Ways to name a commit.
const REVISIONS: [&str; 17] = [
    "HEAD",
    "HEAD~2",
    "topic",
    "main",
    "origin/main",
    "origin",
    "v1",
    "packed-before",
    "@",
    "@{u}",
    "topic@{upstream}",
    "HEAD@{1}",
    "topic@{1}",
    "@{-1}",
    "FETCH_HEAD",
    "refs/bisect/bad",
    ":/two",
];

/// Revisions mean the same as in the repository itself.
#[test]
fn revisions_mean_what_they_mean_there() {
    let (dir, ctx) = context();
    let origin = kernel_repo(&dir.path().join("origin"));
    git(&origin, &["tag", "-a", "-m", "a tag", "v1"]);
    let repo = dir.path().join("linux");
    git(dir.path(), &["clone", "-q", "origin", "linux"]);
    git(&repo, &["checkout", "-qb", "topic", "--track", "origin/main"]);
    for subject in ["two", "three"] {
        git(&repo, &["commit", "-q", "--allow-empty", "-m", subject]);
    }
    git(&repo, &["pack-refs", "--all"]);
    git(&repo, &["update-ref", "refs/heads/packed-before", "HEAD~1"]);
    git(&repo, &["update-ref", "refs/bisect/bad", "HEAD"]);
    git(&repo, &["fetch", "-q", "origin", "main"]);
    let worktree = dir.path().join("worktree");
    git(&repo, &["worktree", "add", "-q", "--detach", &worktree.to_string_lossy(), "HEAD~1"]);
    let theirs = |at: &Path, rev: &str| {
        let output =
            Command::new("git").arg("-C").arg(at).args(["rev-parse", &format!("{rev}^{{commit}}")]).output();
        String::from_utf8(output.expect("git runs").stdout).expect("text").trim().to_owned()
    };
    let tip = theirs(&repo, "HEAD");
    let revs = REVISIONS.into_iter().chain([&tip[..9], &tip]);
    for (at, name) in [(&repo, "main"), (&worktree, "linked")] {
        let open = Repo::open(&ctx.cache, at).expect("a repository");
        for rev in revs.clone() {
            let expected = theirs(at, rev);
            let is = open.commit(rev);
            if expected.len() == 40 {
                assert_eq!(is.expect(rev), expected, "{rev} in the {name} one");
            } else {
                is.expect_err(rev);
            }
        }
    }
    let below = Repo::open(&ctx.cache, &repo.join("kernel")).expect("above it");
    assert_eq!(below.lineage, Repo::open(&ctx.cache, &worktree).expect("opened").lineage);
    assert_eq!(below.commit("HEAD").expect("there"), tip);
    let bare = Repo::open(&ctx.cache, &repo.join(".git")).expect("a bare one");
    assert_eq!(bare.commit("topic").expect("there"), tip);
}

#[test]
fn other_formats_of_objects_and_refs_are_read() {
    let (dir, ctx) = context();
    for format in
        [["--object-format=sha256", "--ref-format=files"], ["--object-format=sha1", "--ref-format=reftable"]]
    {
        let top = dir.path().join(format[0]);
        let repo = kernel_repo(&top);
        fs::remove_dir_all(repo.join(".git")).expect("removed");
        git(&repo, &["init", "-q", "-b", "main", format[0], format[1]]);
        git(&repo, &["add", "-A"]);
        git(&repo, &["commit", "-qm", "one"]);
        fs::write(repo.join("kernel/trampoline.c"), "int b;\n").expect("written");
        git(&repo, &["commit", "-qam", "two"]);
        let tree = fetch(&ctx, &repo, "main").expect("checked out");
        assert_eq!(read_text(&tree.dir.join("kernel/trampoline.c")).expect("read"), "int b;\n");
        let (base, overlay) = applied(&ctx, &repo, "HEAD~1", "main");
        assert_eq!(overlay.changed, ["kernel/trampoline.c"]);
        assert_eq!(read_text(&base.join("kernel/trampoline.c")).expect("read"), "int a;\n");
        crate::source::samples::snapshot(&ctx, &repo);
    }
}

/// Base and overlay of a range.
fn applied(ctx: &Context, repo: &Path, from: &str, to: &str) -> (PathBuf, crate::patch::Overlay) {
    let Fetched::Range { base, series } = range(ctx, repo, from, to).expect("a range") else {
        panic!("a range")
    };
    let overlay = apply(ctx, &base, &series).expect("applied");
    (base.dir, overlay)
}

fn apply(ctx: &Context, base: &SourceTree, series: &crate::series::Series) -> Result<crate::patch::Overlay> {
    let commit = base.base_commit.as_deref();
    let base = crate::patch::Base { dir: &base.dir, key: &base.key, commit, origin: None };
    Ok(crate::patch::apply(ctx, &base, series)?.1)
}

/// A repository whose last four commits are an empty one and three that would not survive being mailed.
fn odd_commits(at: &Path) -> PathBuf {
    let repo = kernel_repo(at);
    let write = |path: &str, bytes: &[u8]| fs::write(repo.join(path), bytes).expect("written");
    let commit = |message: &str| {
        git(&repo, &["add", "-A"]);
        git(
            &repo,
            &["commit", "-q", "--allow-empty", "--allow-empty-message", "--cleanup=verbatim", "-m", message],
        );
    };
    write("crlf.txt", b"one\r\ntwo\r\n");
    write("old-name.c", b"int same;\nint content;\nint here;\n");
    create_dir(&repo.join("was-dir")).expect("made");
    write("was-dir/file", b"x\n");
    write("was-file", b"x\n");
    write(
        ".gitattributes",
        b"*.txt text eol=crlf\n*.c ident filter=evil\nodd.c working-tree-encoding=UTF-16\n",
    );
    // Attributes of the test repository: contents are added unchanged.
    create_dir(&repo.join(".git/info")).expect("made");
    write(".git/info/attributes", b"* -text -filter -ident !working-tree-encoding\n");
    commit("base");
    commit("cover letter of b4 prep\n\nwith text\n");
    let message = "honest\n\ndiff --git a/kernel/trampoline.c b/kernel/trampoline.c\n--- a/kernel/trampoline.c\n\
                   +++ b/kernel/trampoline.c\n@@ -1 +1 @@\n-int a;\n+#error not in the commit\n---\nFrom: x\n";
    write("honest.c", b"int honest; /* $Id$ */\n");
    commit(message);
    write("crlf.txt", b"one\r\nthree\r\nno end");
    write("binary", &[0, 1, 2, 255, b'\n', 0]);
    fs::rename(repo.join("old-name.c"), repo.join("new name.c")).expect("renamed");
    commit("[media] binary, CRLF and a rename");
    fs::remove_dir_all(repo.join("was-dir")).expect("removed");
    write("was-dir", b"a file\n");
    fs::remove_file(repo.join("was-file")).expect("removed");
    create_dir(&repo.join("was-file")).expect("made");
    write("was-file/inside", b"x\n");
    std::os::unix::fs::symlink("Makefile", repo.join("link")).expect("linked");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(repo.join("honest.c"), executable).expect("mode");
    commit("");
    repo
}

#[test]
fn a_range_is_its_trees_and_a_message_is_only_shown() {
    let (dir, ctx) = context();
    let repo = odd_commits(&dir.path().join("linux"));
    let resolved = resolve_range(&ctx, &repo, "HEAD~4", "HEAD").expect("resolved");
    assert_eq!(resolved.commits, 3);
    assert!(resolved.description.contains("\"cover letter of b4 prep\""), "{}", resolved.description);
    let Fetched::Range { series, .. } = range(&ctx, &repo, "HEAD~4", "HEAD").expect("a range") else {
        panic!("a range")
    };
    let subjects: Vec<_> = series.patches.iter().map(|patch| patch.subject.as_str()).collect();
    assert_eq!(subjects, ["honest", "[media] binary, CRLF and a rename", ""]);
    let (base, overlay) = applied(&ctx, &repo, "HEAD~4", "HEAD");
    let changed = ["binary", "crlf.txt", "honest.c", "link", "new name.c", "was-dir", "was-file/inside"];
    assert_eq!(overlay.changed, changed);
    assert_eq!(overlay.deleted, ["old-name.c", "was-dir/file", "was-file"]);
    let read = |path: &str| fs::read(overlay.dir.join("files").join(path)).expect(path);
    assert_eq!(read("crlf.txt"), b"one\r\nthree\r\nno end");
    assert_eq!(read("binary"), [0, 1, 2, 255, b'\n', 0]);
    assert_eq!(read("honest.c"), b"int honest; /* $Id$ */\n");
    assert_eq!(fs::read(base.join("crlf.txt")).expect("read"), b"one\r\ntwo\r\n");
    // Checking out the commit itself gives the same content.
    let whole = fetch(&ctx, &repo, "HEAD").expect("checked out");
    for path in changed.into_iter().filter(|path| *path != "link") {
        assert_eq!(fs::read(whole.dir.join(path)).expect(path), read(path), "{path}");
    }
}

#[test]
fn a_range_that_comes_out_otherwise_does_not_pass_for_it() {
    let (dir, ctx) = context();
    let repo = kernel_repo(&dir.path().join("linux"));
    fs::write(repo.join("kernel/trampoline.c"), "int b;\n").expect("written");
    git(&repo, &["commit", "-qam", "two"]);
    let Fetched::Range { base, mut series } = range(&ctx, &repo, "HEAD~1", "HEAD").expect("a range") else {
        panic!("a range")
    };
    let key = series.key();
    let exact = series.patches[0].exact.take().expect("a commit");
    assert_ne!(series.key(), key, "a mail of the same bytes is another series");
    series.patches[0].exact = Some(exact.replace("kernel/trampoline.c", "kernel/other.c"));
    let error = apply(&ctx, &base, &series).expect_err("refused");
    assert_eq!(error.class.code(), 10);
    assert!(error.to_string().contains("not the tree of that commit"), "{error}");
}

#[test]
fn a_submodule_in_a_range_is_refused_by_name() {
    let (dir, ctx) = context();
    let repo = kernel_repo(&dir.path().join("linux"));
    let id = "0123456789012345678901234567890123456789";
    git(&repo, &["update-index", "--add", "--cacheinfo", &format!("160000,{id},sub/module")]);
    git(&repo, &["commit", "-qm", "a submodule"]);
    let error = range(&ctx, &repo, "HEAD~1", "HEAD").expect_err("refused");
    assert_eq!(error.class.code(), 10);
    assert!(error.to_string().contains("the submodule sub/module"), "{error}");
}

/// The previous entry in the cache only affects the time of a checkout, not the result.
#[test]
fn directories_files_and_links_change_places_whatever_the_neighbour_is() {
    let states: [&[(&str, &str)]; 5] = [
        &[("a/key", "x"), ("a/deep/er", "y"), ("l", "->Makefile")],
        &[("a", "a file"), ("l/inside", "z")],
        &[("a", "->kernel"), ("l", "x")],
        &[("a/key/more", "x"), ("l", "->kernel/trampoline.c")],
        &[("a/key", "->er"), ("a\u{e4} \"b\"\t.c", "odd"), ("l", "->Makefile")],
    ];
    let (dir, _ctx) = context();
    let repo = kernel_repo(&dir.path().join("linux"));
    for state in states {
        for name in ["a", "l", "a\u{e4} \"b\"\t.c"] {
            let path = repo.join(name);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
        for (path, content) in state {
            let path = repo.join(path);
            create_dir(path.parent().expect("a parent")).expect("made");
            match content.strip_prefix("->") {
                Some(target) => std::os::unix::fs::symlink(target, &path).expect("linked"),
                None => fs::write(&path, content).expect("written"),
            }
        }
        git(&repo, &["add", "-A"]);
        git(&repo, &["commit", "-qm", "state"]);
    }
    let content = |dir: &Path| -> BTreeMap<PathBuf, String> {
        let entries = walkdir::WalkDir::new(dir).min_depth(1).into_iter().map(|entry| entry.expect("listed"));
        let content = |entry: walkdir::DirEntry| {
            let path = entry.path();
            let is = if entry.path_is_symlink() {
                format!("->{}", fs::read_link(path).expect("read").display())
            } else if path.is_dir() {
                "/".to_owned()
            } else {
                read_text(path).expect("read")
            };
            (path.strip_prefix(dir).expect("below").to_owned(), is)
        };
        // The seal contains the times of its files.
        entries.filter(|entry| entry.file_name() != SEAL).map(content).collect()
    };
    let alone: Vec<_> = (0..states.len())
        .map(|back| {
            let (_dir, ctx) = context();
            content(&fetch(&ctx, &repo, &format!("HEAD~{back}")).expect("checked out").dir)
        })
        .collect();
    for (one, expected) in alone.iter().enumerate() {
        for other in 0..states.len() {
            let (_dir, ctx) = context();
            fetch(&ctx, &repo, &format!("HEAD~{other}")).expect("checked out");
            let tree = fetch(&ctx, &repo, &format!("HEAD~{one}")).expect("checked out beside a neighbour");
            assert_eq!(content(&tree.dir), *expected, "{one} after {other}");
        }
    }
}

#[test]
fn a_neighbour_that_the_repository_has_forgotten_is_no_hindrance() {
    let (dir, ctx) = context();
    let repo = kernel_repo(&dir.path().join("linux"));
    fetch(&ctx, &repo, "HEAD").expect("checked out");
    // As after a rebase and a garbage collection, or with a new clone at the same path.
    fs::write(repo.join("new.c"), "int x;\n").expect("written");
    git(&repo, &["add", "-A"]);
    git(&repo, &["commit", "-q", "--amend", "-m", "another history"]);
    git(&repo, &["reflog", "expire", "--expire=now", "--all"]);
    git(&repo, &["prune", "--expire=now"]);
    let tree = fetch(&ctx, &repo, "HEAD").expect("checked out");
    assert!(tree.dir.join("new.c").is_file() && tree.dir.join("Makefile").is_file());
}
