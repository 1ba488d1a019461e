// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::source::samples::context;
use vmtest_base::files::create_dir;

fn release(upstream: &str, form: Form, sha256: &str) -> SourceRelease {
    SourceRelease {
        upstream: upstream.to_owned(),
        version: format!("{upstream}-1~bpo13+1"),
        form,
        suite: "backports".to_owned(),
        sha256: sha256.to_owned(),
        size: 1,
    }
}

fn keep(ctx: &Context, release: &SourceRelease) {
    create_dir(&ctx.cache.path(SourceRelease::KIND, &release.entry())).expect("made");
}

#[test]
fn cache_entries_tell_what_they_are_without_an_index() {
    let package = Form::Package("linux-source-7.3".to_owned());
    let release = release("7.3.4", package, "703e369ddd4cce971452f5a593ee55df");
    assert_eq!(upstream_of_entry(&release.entry()), Some("7.3.4"));
    assert_eq!(upstream_of_entry("git-1234"), None);
}

#[test]
fn without_an_index_the_cache_serves() {
    let (_dir, ctx) = context();
    let no_index = || Err(Error::host("cannot read the Debian archive's lists"));
    let error = choose(&ctx, "6.18", no_index, Vec::new).expect_err("the cache is empty");
    assert_eq!(error.what, "cannot read the Debian archive's lists");

    keep(&ctx, &release("6.18.5", Form::Tarball, "aa"));
    keep(&ctx, &release("6.18.15", Form::Package("linux-source-6.18".to_owned()), "bb"));
    keep(&ctx, &release("7.3.4", Form::Tarball, "cc"));
    match choose(&ctx, "6.18", no_index, Vec::new).expect("the newest of the series") {
        Choice::Cached { entry, upstream } => {
            assert_eq!((entry.as_str(), upstream.as_str()), ("debian-package-6.18.15-bb", "6.18.15"));
        }
        Choice::Try { .. } => panic!("nothing is left to download"),
    }
    choose(&ctx, "6.1", no_index, Vec::new).expect_err("6.18 is not 6.1");
    let mistake = || Err(Error::usage("`x` is not a mirror"));
    let error = choose(&ctx, "6.18", mistake, Vec::new).expect_err("what was typed wrong is said");
    assert_eq!(error.class, Class::Usage);
}

#[test]
fn what_is_cached_exactly_needs_no_index() {
    let (_dir, ctx) = context();
    keep(&ctx, &release("7.3.4", Form::Tarball, "cc"));
    keep(&ctx, &release("7.3.4", Form::Package("linux-source-7.3".to_owned()), "dd"));
    let index = || panic!("asked for the index");
    let choice = choose(&ctx, "7.3.4", index, Vec::new).expect("cached");
    assert!(matches!(choice, Choice::Cached { entry, .. } if entry == "debian-tarball-7.3.4-cc"));
}

#[test]
fn the_base_of_the_series_comes_first_while_the_mirror_has_it() {
    let (_dir, ctx) = context();
    let base = ctx.project.join(SERIES_BASE);
    create_dir(base.parent().expect("has a parent")).expect("made");
    std::fs::write(&base, "6.18.5 and more\n").expect("written");
    let sources = vec![release("6.18.15", Form::Tarball, "aa"), release("6.18.5", Form::Tarball, "bb")];
    let index = Index { sources, ..Index::default() };
    let order = |absent: Vec<String>| match choose(&ctx, "6.18", || Ok(index.clone()), || absent) {
        Ok(Choice::Try { releases, why }) => {
            (releases.into_iter().map(|release| release.upstream).collect::<Vec<_>>(), why)
        }
        other => panic!("{other:?}"),
    };
    let (versions, why) = order(Vec::new());
    assert_eq!((versions.join(" "), why), ("6.18.5 6.18.15".to_owned(), "base of the project's series"));
    let (versions, why) = order(vec!["bb".to_owned()]);
    assert_eq!((versions.join(" "), why), ("6.18.15".to_owned(), "newest of that series"));
    let error = choose(&ctx, "7.0", || Ok(index.clone()), Vec::new).expect_err("nothing of it");
    assert!(error.to_string().contains(": 6.18.15, 6.18.5"), "{error}");
}
