// SPDX-License-Identifier: MIT OR Apache-2.0

use std::fs;

use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::*;
use crate::source::samples::{context, git, kernel_repo, listing};
use crate::source::tree::manifest::Held;
use std::os::unix::fs::PermissionsExt;
use vmtest_base::files::read_text;
use vmtest_base::key::hash_bytes;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = everything(dir)
        .expect("listed")
        .into_iter()
        .map(|path| String::from_utf8(path).expect("text"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_snapshot_holds_what_git_would_and_follows_the_tree() {
    let (dir, ctx) = context();
    let top = kernel_repo(&dir.path().join("linux"));
    fs::write(top.join("kernel/new.c"), "new\n").expect("written");
    fs::write(top.join("kernel/new.o"), "object\n").expect("written");
    std::os::unix::fs::symlink("Makefile", top.join("link")).expect("linked");
    fs::write(top.join("tool.sh"), "#!\n").expect("written");
    fs::set_permissions(top.join("tool.sh"), fs::Permissions::from_mode(0o755)).expect("mode");
    let before = listing(&top);
    let first = fetch(&ctx, &top).expect("snapshot");
    let expected = [".gitignore", "Makefile", "kernel/new.c", "kernel/trampoline.c", "link", "tool.sh"];
    assert_eq!(names(&first.dir), expected, "tracked and untracked, not ignored");
    for name in expected {
        let visible = |dir: &Path| {
            let mut opened = Top::open(dir).expect("opened");
            stamp(&mut opened, Path::new(name)).expect("read").expect("a file").visible()
        };
        assert_eq!(visible(&first.dir), visible(&top), "{name}");
    }
    assert_eq!(listing(&top), before, "nothing was written to the user's tree");
    let again = fetch(&ctx, &top).expect("snapshot");
    assert_eq!((&again.key, &again.lineage), (&first.key, &first.lineage));

    let held = dir.path().join("held");
    fs::hard_link(first.dir.join("kernel/trampoline.c"), &held).expect("linked");
    fs::write(top.join("kernel/trampoline.c"), "int changed;\n").expect("written");
    fs::remove_file(top.join("tool.sh")).expect("removed");
    fs::remove_file(top.join("link")).expect("removed");
    create_dir(&top.join("link")).expect("made");
    fs::write(top.join("link/inside"), "x").expect("written");
    let next = fetch(&ctx, &top).expect("snapshot");
    assert_ne!(next.key, first.key);
    assert_eq!(next.lineage, first.lineage);
    assert_eq!(read_text(&next.dir.join("kernel/trampoline.c")).expect("read"), "int changed;\n");
    assert_eq!(read_text(&held).expect("read"), "int a;\n", "replaced, not written to");
    assert!(!next.dir.join("tool.sh").exists() && next.dir.join("link/inside").exists());

    // An interrupted update leaves no manifest; the next one lists the existing files.
    let home = next.dir.parent().expect("has a parent").to_owned();
    fs::remove_file(home.join("manifest")).expect("removed");
    fs::write(next.dir.join("stray"), "x").expect("written");
    let mended = fetch(&ctx, &top).expect("snapshot");
    assert_eq!(mended.key, next.key);
    assert!(!mended.dir.join("stray").exists());
}

#[test]
fn trees_without_git_and_linked_worktrees_work() {
    let (dir, ctx) = context();
    let top = kernel_repo(&dir.path().join("linux"));
    let linked = dir.path().join("linked");
    git(&top, &["worktree", "add", "-q", &linked.to_string_lossy(), "HEAD"]);
    let before = listing(&top);
    let snapshot = fetch(&ctx, &linked).expect("snapshot");
    assert_eq!(names(&snapshot.dir), [".gitignore", "Makefile", "kernel/trampoline.c"]);
    assert_eq!(listing(&top), before);
    fs::remove_dir_all(top.join(".git")).expect("removed");
    fs::write(top.join("kernel/x.o"), "object").expect("written");
    let snapshot = fetch(&ctx, &top).expect("snapshot");
    assert_eq!(names(&snapshot.dir), [".gitignore", "Makefile", "kernel/trampoline.c"]);
    fs::write(top.join(".gitignore"), "/*\n!/debian\n").expect("written");
    let snapshot = fetch(&ctx, &top).expect("snapshot");
    assert!(snapshot.dir.join("Makefile").exists(), "Debian's .gitignore hides everything");
}

#[test]
fn what_is_no_kernel_tree_is_a_usage_error() {
    let (dir, _ctx) = context();
    let top = kernel_repo(&dir.path().join("linux"));
    for (path, says) in [(top.join("kernel"), "name the top"), (dir.path().join("none"), "No such file")] {
        let error = checked(&path).expect_err("no tree");
        assert_eq!(error.class, vmtest_base::error::Class::Usage);
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let entry = |path: &str, mode| Entry {
        path: path.into(),
        stamp: Stamp { mode, size: 0, mtime: (0, 0), ctime: (0, 0), inode: (0, 0) },
    };
    let mut entries =
        vec![entry("a", SYMLINK), entry("a-b", 0o100_644), entry("a/b", 0o100_644), entry("a0", 0o100_644)];
    drop_below_symlinks(&mut entries);
    let left: Vec<_> = entries.iter().map(|entry| entry.path.as_slice()).collect();
    assert_eq!(left, [&b"a"[..], b"a-b", b"a0"]);
    let held: Vec<_> =
        entries.into_iter().map(|entry| Held { entry, hash: hash_bytes(b"content"), fresh: false }).collect();
    assert_eq!(manifest::parse(&manifest::write(&held)), Some(held));
}

#[test]
fn another_checkout_of_the_same_content_has_the_same_key() {
    let (dir, ctx) = context();
    let top = kernel_repo(&dir.path().join("linux"));
    let other = kernel_repo(&dir.path().join("elsewhere"));
    let key = |top: &Path| fetch(&ctx, top).expect("snapshot").key;
    let first = key(&top);
    let old = TimeSpec::new(1_000_000_000, 5);
    let file = other.join("kernel/trampoline.c");
    utimensat(nix::fcntl::AT_FDCWD, &file, &old, &old, UtimensatFlags::NoFollowSymlink).expect("a time");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o664)).expect("mode");
    assert_eq!(key(&other), first, "times, the path and a umask are no content");
    // The same size and mtime as before.
    let before = fs::metadata(&file).expect("read").modified().expect("a time");
    fs::write(&file, "int b;\n").expect("written");
    fs::File::options().write(true).open(&file).expect("opened").set_modified(before).expect("a time");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("mode");
    let changed = key(&other);
    assert_ne!(changed, first, "content");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("mode");
    assert_ne!(key(&other), changed, "what git keeps of a mode");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("mode");
    fs::write(&file, "int a;\n").expect("written");
    assert_eq!(key(&other), first, "back again");
    std::os::unix::fs::symlink("Makefile", other.join("link")).expect("linked");
    let linked = key(&other);
    fs::remove_file(other.join("link")).expect("removed");
    std::os::unix::fs::symlink(".gitignore", other.join("link")).expect("linked");
    assert_ne!(key(&other), linked, "where a link leads");
}

/// A manifest of an earlier version has no hashes.
#[test]
fn a_list_that_is_not_whole_is_read_again() {
    let (dir, ctx) = context();
    let top = kernel_repo(&dir.path().join("linux"));
    let first = fetch(&ctx, &top).expect("snapshot");
    let list = first.dir.parent().expect("has a parent").join("manifest");
    let whole = fs::read(&list).expect("read");
    for broken in [&b"100644 5 1.2 Makefile\0"[..], &whole[..whole.len() / 2], b""] {
        fs::write(&list, broken).expect("written");
        assert_eq!(fetch(&ctx, &top).expect("snapshot").key, first.key);
        let read = manifest::parse(&fs::read(&list).expect("read")).expect("whole");
        assert_eq!(manifest::key(&read), first.key);
    }
}

#[test]
fn an_edit_that_keeps_size_and_time_is_seen() {
    let (dir, ctx) = context();
    let top = kernel_repo(&dir.path().join("linux"));
    let file = top.join("kernel/trampoline.c");
    let edit = |text: &str| {
        let time = fs::metadata(&file).and_then(|stat| stat.modified()).expect("a time");
        fs::write(&file, text).expect("written");
        fs::File::options().write(true).open(&file).expect("opened").set_modified(time).expect("a time");
    };
    let first = fetch(&ctx, &top).expect("snapshot");
    // Immediately: the stamps may be the same.
    edit("int b;\n");
    let second = fetch(&ctx, &top).expect("snapshot");
    assert_ne!(second.key, first.key);
    // And again once no stamp is fresh.
    std::thread::sleep(std::time::Duration::from_millis(3100));
    assert_eq!(fetch(&ctx, &top).expect("snapshot").key, second.key);
    let list = first.dir.parent().expect("has a parent").join("manifest");
    let held = manifest::parse(&fs::read(&list).expect("read")).expect("whole");
    assert!(held.iter().all(|held| !held.fresh), "read again, and old by then");
    let inode = |dir: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(dir).expect("read"));
    let before = inode(&second.dir.join("Makefile"));
    edit("int c;\n");
    // A file that only seems to have changed is kept, since later stages have links to it.
    let time = fs::metadata(top.join("Makefile")).and_then(|stat| stat.modified()).expect("a time");
    fs::File::options()
        .write(true)
        .open(top.join("Makefile"))
        .expect("opened")
        .set_modified(time)
        .expect("a time");
    let third = fetch(&ctx, &top).expect("snapshot");
    assert_ne!(third.key, second.key);
    assert_eq!(read_text(&third.dir.join("kernel/trampoline.c")).expect("read"), "int c;\n");
    assert_eq!(inode(&third.dir.join("Makefile")), before);
}

#[test]
fn an_index_in_parts_and_files_that_are_not_checked_out_are_read() {
    let (dir, ctx) = context();
    let top = kernel_repo(&dir.path().join("linux"));
    fs::write(top.join("kernel/tracked.o"), "x").expect("written");
    fs::create_dir(top.join("drivers")).expect("made");
    fs::write(top.join("drivers/.gitignore"), "*.gen\n").expect("written");
    fs::write(top.join("drivers/a.c"), "x").expect("written");
    git(&top, &["add", "-f", "."]);
    git(&top, &["commit", "-qm", "two"]);
    fs::write(top.join(".git/info/exclude"), "private\n").expect("written");
    fs::write(top.join("private"), "x").expect("written");
    fs::write(top.join("kernel/other.o"), "x").expect("written");
    let expected = [
        ".gitignore",
        "Makefile",
        "drivers/.gitignore",
        "drivers/a.c",
        "kernel/trampoline.c",
        "kernel/tracked.o",
    ];
    git(&top, &["update-index", "--split-index"]);
    assert_eq!(names(&fetch(&ctx, &top).expect("snapshot").dir), {
        let mut sorted = expected;
        sorted.sort_unstable();
        sorted
    });
    git(&top, &["update-index", "--no-split-index"]);
    git(&top, &["sparse-checkout", "set", "--cone", "--sparse-index", "kernel"]);
    assert!(!top.join("drivers").exists());
    let sparse = names(&fetch(&ctx, &top).expect("snapshot").dir);
    assert_eq!(sparse, [".gitignore", "Makefile", "kernel/tracked.o", "kernel/trampoline.c"]);
}

#[test]
fn a_tree_has_a_size() {
    let (dir, ctx) = context();
    let top = kernel_repo(&dir.path().join("linux"));
    fs::File::create(top.join("hole")).and_then(|file| file.set_len(1 << 40)).expect("sparse");
    let error = fetch(&ctx, &top).expect_err("too large");
    assert_eq!(error.class, vmtest_base::error::Class::Usage);
    assert!(error.to_string().contains("hole has 1024 GiB"), "{error}");
    fs::write(top.join(".gitignore"), "*.o\nhole\n").expect("written");
    fetch(&ctx, &top).expect("ignored");
}
