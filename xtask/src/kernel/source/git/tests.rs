// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commits of a user's repository, which stays as it is.

use super::*;
use crate::kernel::source::tests_support::{context, git, kernel_repo, listing};

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
    assert!(commits.precedes(&root, &tip).expect("told") && commits.precedes(&tip, &tip).expect("told"));
    assert!(!commits.precedes(&at("side"), &at("main~1")).expect("told"));
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

    let Fetched::Range { base, patches, name } = fetch_range(&ctx, &repo, "HEAD~2", "HEAD").expect("range")
    else {
        panic!("a range")
    };
    assert_eq!((base.dir, patches.len(), name.as_str()), (one.dir, 2, "HEAD~2..HEAD"));
    assert_eq!(listing(&repo), before, "nothing was written to the user's repository");
}

#[test]
fn a_range_must_be_a_series() {
    let (dir, _ctx) = context();
    let repo = kernel_repo(&dir.path().join("linux"));
    git(&repo, &["checkout", "-qb", "side"]);
    git(&repo, &["commit", "-q", "--allow-empty", "-m", "side"]);
    git(&repo, &["checkout", "-qb", "other", "HEAD~1"]);
    git(&repo, &["commit", "-q", "--allow-empty", "-m", "other"]);
    let open = Repo::open(&repo).expect("a repository");
    let why = |from: &str, to: &str| range(&open, from, to).expect_err("no series").to_string();
    assert!(why("side", "other").contains("no ancestor"));
    assert!(why("side", "side").contains("no commit"));
    git(&repo, &["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    assert!(why("HEAD~1", "HEAD").contains("merge"));
    assert!(open.commit("nowhere").expect_err("unknown").to_string().contains("names no commit"));
    assert!(Repo::open(dir.path()).is_err());
}
