// SPDX-License-Identifier: MIT OR Apache-2.0
//! Seals of directories that were changed.

use super::*;
use std::time::SystemTime;

fn entry() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    fs::create_dir_all(dir.path().join("modules")).expect("made");
    fs::write(dir.path().join("vmlinux"), "0123456789").expect("written");
    fs::write(dir.path().join("modules/a.ko"), "a").expect("written");
    std::os::unix::fs::symlink("vmlinux", dir.path().join("link")).expect("linked");
    write(dir.path(), Scope::All).expect("sealed");
    dir
}

fn damaged(does: impl FnOnce(&Path)) -> String {
    let dir = entry();
    assert_eq!(check(dir.path()).expect("checked"), State::Whole);
    does(dir.path());
    match check(dir.path()).expect("checked") {
        State::Damaged(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn overwritten_bytes_show_also_when_size_and_mtime_are_as_they_were() {
    let why = damaged(|dir| {
        let path = dir.join("vmlinux");
        let then = path.metadata().and_then(|stat| stat.modified()).expect("there");
        // The kernel's timestamps have the granularity of a tick.
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&path, "0123FLIP89").expect("written");
        fs::File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_modified(then))
            .expect("times can be set");
    });
    assert_eq!(why, "vmlinux has another content");
}

#[test]
fn everything_else_that_can_befall_an_entry_shows() {
    let write = |path: PathBuf, text: &str| fs::write(path, text).expect("written");
    assert_eq!(damaged(|dir| write(dir.join("vmlinux"), "0123")), "vmlinux has another size");
    assert_eq!(damaged(|dir| write(dir.join("modules/b.ko"), "b")), "modules holds other names");
    assert_eq!(damaged(|dir| write(dir.join("more"), "")), " holds other names");
    assert_eq!(
        damaged(|dir| fs::remove_file(dir.join("modules/a.ko")).expect("removed")),
        "modules holds other names"
    );
    assert_eq!(
        damaged(|dir| {
            fs::remove_file(dir.join("link")).expect("removed");
            std::os::unix::fs::symlink("modules", dir.join("link")).expect("linked");
        }),
        "link has another content"
    );
    assert_eq!(damaged(|dir| write(dir.join(SEAL), "vmtest seal 1")), "its seal cannot be read");
    assert_eq!(
        damaged(|dir| {
            let mut bytes = fs::read(dir.join(SEAL)).expect("read");
            bytes[40] ^= 1;
            fs::write(dir.join(SEAL), bytes).expect("written");
        }),
        "its seal cannot be read"
    );
}

#[test]
fn a_copy_and_new_links_are_whole_and_sealed_anew() {
    let dir = entry();
    let before = fs::read(dir.path().join(SEAL)).expect("read");
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::hard_link(dir.path().join("vmlinux"), dir.path().with_extension("linked")).expect("linked");
    let _ = fs::File::open(dir.path()).and_then(|top| top.set_modified(SystemTime::UNIX_EPOCH));
    assert_eq!(check(dir.path()).expect("checked"), State::Whole);
    assert_ne!(fs::read(dir.path().join(SEAL)).expect("read"), before);
    let _ = fs::remove_file(dir.path().with_extension("linked"));
    fs::remove_file(dir.path().join(SEAL)).expect("removed");
    assert_eq!(check(dir.path()).expect("checked"), State::Unsealed);
}

#[test]
fn of_a_build_root_what_is_executed_is_sealed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let root = dir.path().join("root/usr");
    fs::create_dir_all(root.join("bin")).expect("made");
    for (name, mode) in [("bin/gcc", 0o755), ("libz.so.1", 0o644), ("copyright", 0o644)] {
        use std::os::unix::fs::PermissionsExt;
        fs::write(root.join(name), "x").expect("written");
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).expect("modes can be set");
    }
    fs::write(dir.path().join("key"), "k").expect("written");
    write(dir.path(), Scope::Executed).expect("sealed");
    for (name, whole) in [("usr/copyright", true), ("usr/libz.so.1", false), ("usr/bin/gcc", false)] {
        let path = dir.path().join("root").join(name);
        fs::write(&path, "longer").expect("written");
        assert_eq!(check(dir.path()).expect("checked") == State::Whole, whole, "{name}");
        fs::write(&path, "x").expect("written");
        assert_eq!(check(dir.path()).expect("checked"), State::Whole, "what is right again is right");
    }
    fs::write(root.join("bin/as"), "planted").expect("written");
    assert!(matches!(check(dir.path()).expect("checked"), State::Damaged(_)), "a program more");
}
