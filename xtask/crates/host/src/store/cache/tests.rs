// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entries that are made, used, locked and damaged.

use super::*;
use crate::store::CacheKind;

fn cache(dir: &Path) -> Cache {
    Cache::at(dir.to_owned()).expect("a temporary directory can be written")
}

#[test]
fn a_failed_entry_leaves_nothing() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let cache = cache(dir.path());
    let bus = Bus::new(Vec::new());
    let failed = cache.get_or_make(&bus, CacheKind::Source, "k", |at| {
        fs::write(at.join("half"), "x").on("cannot write", at)?;
        Err(Error::host("no"))
    });
    assert!(failed.is_err());
    assert!(cache.get(CacheKind::Source, "k").is_none());
    assert_eq!(fs::read_dir(dir.path().join("tmp")).expect("tmp").count(), 0);
    let (_, there) = cache.get_or_make(&bus, CacheKind::Source, "k", |_| Ok(())).expect("made");
    assert!(!there);
    let (_, there) =
        cache.get_or_make(&bus, CacheKind::Source, "k", |_| Err(Error::host("again"))).expect("kept");
    assert!(there);
}

#[test]
fn only_leftovers_without_an_owner_go() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let cache = cache(dir.path());
    let owned = cache.scratch().expect("scratch");
    let dead = dir.path().join("tmp/t-dead");
    create_dir(&dead).expect("made");
    let leftovers = || cache.leftovers(FRESH);
    assert!(leftovers().is_empty(), "a new one may belong to someone who has not locked it yet");
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    File::open(&dead).and_then(|dir| dir.set_modified(long_ago)).expect("times can be set");
    File::open(owned.path()).and_then(|dir| dir.set_modified(long_ago)).expect("times can be set");
    assert_eq!(leftovers().into_iter().map(|(path, _)| path).collect::<Vec<_>>(), [dead.as_path()]);
    fs::create_dir_all(dead.join("a/b")).and_then(|()| fs::write(dead.join("a/c"), "x")).expect("written");
    fs::set_permissions(dead.join("a"), fs::Permissions::from_mode(0o500)).expect("modes can be set");
    remove_tree(&dead);
    assert!(owned.path().exists() && !dead.exists());
}

#[test]
fn what_somebody_uses_or_makes_is_not_taken_away() {
    let dir = tempfile::tempdir().expect("temporary directory");
    // Two caches act as two processes: each opens its own files, so their locks conflict.
    let (one, other) = (cache(dir.path()), cache(dir.path()));
    let bus = Bus::new(Vec::new());
    one.get_or_make(&bus, CacheKind::Kernel, "k", |_| Ok(())).expect("made");
    assert!(other.is_used(CacheKind::Kernel, "k"));
    assert!(other.take_away(CacheKind::Kernel, "k").expect("looked").is_none());
    drop(one);
    assert!(!other.is_used(CacheKind::Kernel, "k"));
    let lock = other.lock(&bus, CacheKind::Kernel, "k").expect("free");
    assert!(
        other.is_used(CacheKind::Kernel, "k")
            && other.take_away(CacheKind::Kernel, "k").expect("looked").is_none()
    );
    drop(lock);
    let doomed = other.take_away(CacheKind::Kernel, "k").expect("looked").expect("free");
    assert!(other.get(CacheKind::Kernel, "k").is_none(), "away at once, before it is removed");
    assert_eq!(other.leftovers(Duration::ZERO).len(), 0, "it has an owner");
    doomed.remove();
    assert_eq!(fs::read_dir(dir.path().join("tmp")).expect("tmp").count(), 0);
    assert_eq!(fs::read_dir(dir.path().join("locks")).expect("locks").count(), 0);
}

#[test]
fn a_replaced_entry_is_used_as_the_new_one() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (one, other) = (cache(dir.path()), cache(dir.path()));
    for text in ["old", "new"] {
        let scratch = one.scratch().expect("scratch");
        fs::write(scratch.path().join("file"), text).expect("written");
        let kept = scratch.keep_as(&one.path(CacheKind::Suite, "k")).expect("kept");
        assert_eq!(fs::read_to_string(kept.join("file")).expect("read"), text);
    }
    assert!(other.take_away(CacheKind::Suite, "k").expect("looked").is_none());
    assert_eq!(fs::read_dir(dir.path().join("tmp")).expect("tmp").count(), 0);
}
