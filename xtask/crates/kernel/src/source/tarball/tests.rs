// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tarballs that are complete, damaged or hostile.

use std::fs::File;
use std::time::{Duration, Instant};

use tar::EntryType;

use super::*;
use crate::source::tarball::members::TOO_MUCH;

fn finished(status: i32, tail: &[&str]) -> Finished {
    Finished {
        status: std::os::unix::process::ExitStatusExt::from_raw(status << 8),
        tail: tail.iter().map(|&line| line.to_owned()).collect(),
        stdout: String::new(),
        command: "apt-get download x".to_owned(),
    }
}

#[test]
fn a_full_disk_is_told_in_one_line() {
    // Output of apt-get and dpkg-deb on a full tmpfs.
    for line in [
        "E: You don't have enough free space in .",
        "  Error writing to file - write (28: No space left on device)",
        "dpkg-deb (subprocess): lzma write error: No space left on device",
    ] {
        let said = ["Get:1 x", "Ign:1 x", line, "NOTICE: packaging is maintained elsewhere"];
        let error = succeeded(finished(100, &said), "cannot download x").expect_err("full");
        assert_eq!(error.detail, [line.trim()]);
        assert!(error.next.is_some_and(|next| next.contains("free some space")));
        assert!(had_space(&finished(0, &said), "cannot read lists").is_err(), "whatever the status");
    }
    assert!(succeeded(finished(0, &["tar: No space left, as a file is named"]), "x").is_ok());
    let other = succeeded(finished(2, &["no such file"]), "x").expect_err("failed");
    assert_eq!((other.detail.len(), other.next), (1, None));
}

/// A member of a tarball: type, name, content or link target.
type Member<'a> = (EntryType, &'a str, &'a str);

/// A tarball of a kernel and these members. Names are written unchanged.
fn tarball(at: &Path, members: &[Member<'_>]) {
    let mut builder = tar::Builder::new(File::create(at).expect("made"));
    let kernel = [
        (EntryType::Directory, "linux/", ""),
        (EntryType::Regular, "linux/Makefile", "VERSION = 6\nPATCHLEVEL = 18\n"),
    ];
    for (kind, name, content) in kernel.iter().chain(members) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o6755);
        header.set_mtime(1_000_000_000);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        let is_file = *kind == EntryType::Regular;
        if !is_file {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_size(if is_file { content.len() as u64 } else { 0 });
        header.set_cksum();
        builder.append(&header, if is_file { content.as_bytes() } else { b"" }).expect("written");
    }
    builder.finish().expect("written");
}

#[test]
fn only_files_directories_and_links_that_stay_inside_are_unpacked() {
    use EntryType::{Block, Char, Fifo, Link, Regular, Symlink};
    let (dir, ctx) = crate::source::samples::context();
    let file = dir.path().join("x.tar");
    let good: &[Member<'_>] = &[
        (Regular, "linux/deep/dir/file", "text"),
        (Symlink, "linux/deep/up", "../Makefile"),
        (Symlink, "linux/dangling", "nothing"),
        (Link, "linux/hard", "linux/deep/dir/file"),
        (Regular, "linux/deep/dir/file", "newer"),
    ];
    tarball(&file, good);
    let tree = fetch(&ctx, &file).expect("unpacked");
    assert_eq!(read_text(&tree.dir.join("deep/dir/file")).expect("read"), "newer");
    assert_eq!(read_text(&tree.dir.join("hard")).expect("read"), "text");
    assert_eq!(fs::read_link(tree.dir.join("deep/up")).expect("a link"), Path::new("../Makefile"));
    let stat = fs::metadata(tree.dir.join("deep/dir/file")).expect("there");
    assert_eq!((stat.mode() & 0o7777, stat.mtime()), (0o755, 1_000_000_000), "no setuid");
    let home = dir.path().join("home");
    fs::create_dir(&home).expect("made");
    let home = home.to_str().expect("text");
    let bad: [(&[Member<'_>], &str); 14] = [
        (&[(Char, "linux/dev", "")], "linux/dev is a device"),
        (&[(Block, "linux/dev", "")], "linux/dev is a device"),
        (&[(Fifo, "linux/pipe", "")], "linux/pipe is a FIFO"),
        (&[(Regular, "linux/../../out", "x")], "not a path inside"),
        (&[(Regular, "/etc/out", "x")], "not a path inside"),
        (&[(Symlink, "linux/key", "/etc/passwd")], "leads out of it, to /etc/passwd"),
        (&[(Symlink, "linux/key", "../../x")], "leads out of it"),
        (&[(Symlink, "linux/l", "."), (Symlink, "linux/key", "l/l/../../../..")], "leads out of it"),
        (&[(Symlink, "linux/way", home), (Regular, "linux/way/out", "x")], "below a link"),
        (&[(Symlink, "linux/file", home), (Regular, "linux/file", "x")], "occurs twice"),
        (&[(Regular, "linux/file", "x"), (Symlink, "linux/file", home)], "occurs twice"),
        (&[(Link, "linux/key", "/etc/passwd")], "hard link to something outside it"),
        (&[(Link, "linux/key", "linux/../../x")], "hard link to something outside it"),
        (&[(Symlink, "linux/Makefile2", "Makefile"), (Link, "linux/key", "linux/Makefile2")], "hard link"),
    ];
    for (members, says) in bad {
        tarball(&file, members);
        let error = fetch(&ctx, &file).expect_err(says);
        assert!(error.to_string().contains(says), "{error} is not {says}");
        assert_eq!(error.class.code(), 2, "{error}");
    }
    assert_eq!(fs::read_dir(home).expect("listed").count(), 0, "nothing was written outside");
}

#[test]
fn a_makefile_that_is_a_link_is_no_kernel() {
    let (dir, ctx) = crate::source::samples::context();
    let file = dir.path().join("x.tar");
    let mut builder = tar::Builder::new(File::create(&file).expect("made"));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "linux/Makefile", "other").expect("written");
    builder.finish().expect("written");
    let error = fetch(&ctx, &file).expect_err("refused").to_string();
    assert!(error.contains("is not kernel source"), "{error}");
}

#[test]
fn what_has_no_end_is_refused_before_it_is_written() {
    let (dir, ctx) = crate::source::samples::context();
    let file = dir.path().join("x.tar");
    for kind in [EntryType::Regular, EntryType::GNULongName, EntryType::XHeader] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path("linux/large").expect("short");
        header.set_size(1 << 40);
        header.set_cksum();
        fs::write(&file, header.as_bytes()).expect("written");
        File::options().write(true).open(&file).expect("opened").set_len(1 << 32).expect("sparse");
        let begun = Instant::now();
        // Calls `unpack`, which does not hash the whole file first.
        let error = unpack(&ctx, &file, &dir.path().join(format!("{kind:?}")), "x").expect_err("refused");
        assert!(error.to_string().contains(TOO_MUCH), "{kind:?}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn every_compression_is_undone_and_padding_is_no_failure() {
    let (dir, ctx) = crate::source::samples::context();
    let plain = dir.path().join("x.tar");
    tarball(&plain, &[(EntryType::Regular, "linux/file", "text")]);
    // More than fits into a pipe.
    let length = fs::metadata(&plain).expect("there").len();
    File::options()
        .write(true)
        .open(&plain)
        .and_then(|file| file.set_len(length + (1 << 20)))
        .expect("longer");
    for program in ["cat", "gzip", "bzip2", "xz", "zstd"] {
        let packed = dir.path().join(format!("x.tar.{program}"));
        let mut command = std::process::Command::new(program);
        let words: &[&str] = if program == "cat" { &[] } else { &["-c"] };
        command.args(words).arg(&plain).stdout(File::create(&packed).expect("made"));
        if !command.status().is_ok_and(|status| status.success()) {
            continue;
        }
        let tree = fetch(&ctx, &packed).expect(program);
        assert_eq!(read_text(&tree.dir.join("file")).expect("read"), "text");
    }
}

#[test]
fn a_damaged_archive_is_told_by_its_program() {
    let (dir, ctx) = crate::source::samples::context();
    let file = dir.path().join("x.tar.xz");
    fs::write(&file, b"\xfd7zXZ\0\0\x04nothing of the kind").expect("written");
    let error = fetch(&ctx, &file).expect_err("damaged");
    assert!(error.to_string().contains("`xz` says"), "{error}");
    fs::write(&file, "just text\n").expect("written");
    fetch(&ctx, &file).expect_err("no tarball");
}

#[test]
fn an_edit_that_keeps_size_and_time_is_seen() {
    let (dir, ctx) = crate::source::samples::context();
    let file = dir.path().join("x.tar");
    fs::write(&file, "one").expect("written");
    let time = fs::metadata(&file).and_then(|stat| stat.modified()).expect("a time");
    let first = remembered_hash(&ctx, &file).expect("read");
    std::thread::sleep(Duration::from_millis(3100));
    assert_eq!(remembered_hash(&ctx, &file).expect("read"), first);
    assert!(memo(&ctx, &file).expect("read").is_some_and(|memo| memo.exists()), "remembered by now");
    fs::write(&file, "two").expect("written");
    File::options().write(true).open(&file).expect("opened").set_modified(time).expect("a time");
    assert_ne!(remembered_hash(&ctx, &file).expect("read"), first);
}

#[test]
fn a_tarball_is_named_without_its_compression() {
    assert_eq!(stem(Path::new("/x/linux-6.18.15.tar.xz")), "linux-6.18.15");
    assert_eq!(stem(Path::new("linux-7.3.tgz")), "linux-7.3");
    assert_eq!(stem(Path::new("snapshot")), "snapshot");
}
