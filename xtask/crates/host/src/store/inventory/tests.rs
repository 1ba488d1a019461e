// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::store::CacheKind;
use std::fs::{self, File};
use std::path::PathBuf;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().expect("temporary directory") }
    }
    fn cache(&self) -> Cache {
        Cache::at(self.dir.path().to_owned()).expect("a cache")
    }
    fn entry(&self, kind: CacheKind, digit: &str, kib: usize, days: u64) -> PathBuf {
        let path = self.dir.path().join(kind.name()).join(digit.repeat(20));
        fs::create_dir_all(&path).expect("made");
        fs::write(path.join("file"), vec![1; kib * 1024]).expect("written");
        let then = SystemTime::now() - Duration::from_secs(days * 86_400);
        File::open(&path).and_then(|dir| dir.set_modified(then)).expect("times can be set");
        path
    }
    fn prune(&self, what: Prune, dry_run: bool) -> Pruned {
        let cache = self.cache();
        prune(&cache, Inventory::of(&cache).expect("read"), what, dry_run).expect("pruned")
    }
}

#[test]
fn the_ones_not_used_for_longest_go_first_and_what_is_used_stays() {
    let place = Place::new();
    place.entry(CacheKind::Kernel, "a", 100, 30);
    place.entry(CacheKind::Kernel, "b", 100, 20);
    place.entry(CacheKind::Objects, "c", 100, 10);
    place.entry(CacheKind::Runner, "d", 100, 1);
    let user = place.cache();
    assert!(user.hold(&user.path(CacheKind::Kernel, &"a".repeat(20))));
    File::open(user.path(CacheKind::Kernel, &"a".repeat(20)))
        .and_then(|dir| dir.set_modified(SystemTime::now() - Duration::from_secs(30 * 86_400)))
        .expect("times can be set");
    let would = place.prune(Prune::ToSize(230 * 1024), true);
    let did = place.prune(Prune::ToSize(230 * 1024), false);
    assert_eq!(would.removed, did.removed);
    assert_eq!(did.removed, [format!("kernel/{}", "b".repeat(20)), format!("objects/{}", "c".repeat(20))]);
    assert_eq!(did.in_use, [format!("kernel/{}", "a".repeat(20))]);
    assert_eq!(place.prune(Prune::OlderThan(Duration::from_secs(86_000)), false).removed.len(), 1);
    drop(user);
    assert_eq!(place.prune(Prune::All, false).removed, [format!("kernel/{}", "a".repeat(20))]);
    assert!(Inventory::of(&place.cache()).expect("read").entries.is_empty());
}

#[test]
fn a_file_with_several_names_is_counted_once_and_free_when_the_last_one_goes() {
    let place = Place::new();
    let source = place.entry(CacheKind::Trees, "a", 400, 9);
    let objects = place.entry(CacheKind::Objects, "b", 4, 5);
    fs::hard_link(source.join("file"), objects.join("link")).expect("linked");
    let inventory = Inventory::of(&place.cache()).expect("read");
    let bytes = |kind| inventory.by_kind()[kind].1;
    assert!(bytes(&CacheKind::Trees) >= 400 * 1024 && bytes(&CacheKind::Objects) < 100 * 1024);
    let total = inventory.total();
    // The older one frees next to nothing, so the other one has to be removed, too.
    let pruned = place.prune(Prune::ToSize(100 * 1024), false);
    assert_eq!((pruned.removed.len(), pruned.left), (2, 0));
    assert_eq!(pruned.freed, total);
}

#[test]
fn what_is_too_deep_for_a_path_is_counted_and_removed() {
    let place = Place::new();
    let entry = place.entry(CacheKind::Objects, "a", 1, 9);
    // Uses one cache: opening a second one would start to clean up in the background.
    let cache = place.cache();
    let before = Inventory::of(&cache).expect("read").total();
    crate::store::walk::tests::deep(&entry.join("obj"), 200, &"x".repeat(250));
    let dead = place.dir.path().join("tmp/t-dead");
    crate::store::walk::tests::deep(&dead, 200, &"x".repeat(250));
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    File::open(&dead).and_then(|dir| dir.set_modified(long_ago)).expect("times can be set");
    let inventory = Inventory::of(&cache).expect("read");
    let total = inventory.total();
    assert!(total >= before + 100_000, "{before} {total}");
    let pruned = prune(&cache, inventory, Prune::All, false).expect("pruned");
    assert_eq!((pruned.left, pruned.removed.len()), (0, 1));
    assert!(pruned.freed >= total - before);
    assert_eq!(fs::read_dir(place.dir.path().join("tmp")).expect("listed").count(), 0);
}

#[test]
fn what_is_not_ours_is_named_and_never_removed() {
    let place = Place::new();
    for mine in ["kernel/linux-6.18/vmlinux", "source/my-project/a.c", "photos/b.jpg", "tools/hammer"] {
        let path = place.dir.path().join(mine);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, "mine").expect("written");
    }
    let inventory = Inventory::of(&place.cache()).expect("read");
    assert_eq!(inventory.foreign, ["source/my-project", "kernel/linux-6.18", "tools/hammer", "photos"]);
    assert!(place.prune(Prune::All, false).removed.is_empty());
    assert!(place.dir.path().join("kernel/linux-6.18/vmlinux").exists());
    assert!(place.dir.path().join("photos/b.jpg").exists());
}

#[test]
fn a_full_disk_is_freed_of_what_was_not_used_for_longest() {
    let place = Place::new();
    for (digit, days) in [("a", 30), ("b", 20), ("c", 10), ("d", 0)] {
        place.entry(CacheKind::Objects, digit, 4, days);
    }
    let user = place.cache();
    assert!(user.hold(&user.path(CacheKind::Objects, &"b".repeat(20))));
    place.entry(CacheKind::Objects, "b", 4, 20);
    let left = || {
        let cache = place.cache();
        let names = Inventory::of(&cache).expect("read").entries.into_iter().map(|entry| entry.name);
        names.map(|name| name[..1].to_owned()).collect::<String>()
    };
    let cache = place.cache();
    // Each removed entry frees this much.
    let room = |each: u64| {
        let began = Inventory::of(&cache).expect("read").entries.len() as u64;
        let free = || {
            let entries = Inventory::of(&cache).expect("read").entries.len() as u64;
            ROOM - 1 + (began - entries) * each
        };
        make_room_until(&cache, &Bus::new(Vec::new()), ROOM, free).expect("room was made");
    };
    make_room_until(&cache, &Bus::new(Vec::new()), ROOM, || ROOM).expect("there was room");
    assert_eq!(left().len(), 4);
    room(SPARE + 1);
    assert_eq!(left(), "bcd", "the oldest was enough");
    room(0);
    assert_eq!(left(), "bd", "one is in use and the other was used a moment ago");
}
