// SPDX-License-Identifier: MIT OR Apache-2.0
use std::fs;

use super::*;

/// A directory with what both an installation and a checkout have.
fn with_files() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().canonicalize().expect("resolved").join("a root");
    for below in ["bin", "kconfig", "images", "xtask", "target/debug/deps"] {
        fs::create_dir_all(root.join(below)).expect("made");
    }
    (dir, root)
}

#[test]
fn a_checkout_is_found_from_the_binary_in_its_target_directory() {
    let (_dir, root) = with_files();
    let binary = root.join("target/debug/deps/xtask");
    checkout_of(&binary, None).expect_err("a workspace without the package xtask");
    fs::write(root.join("xtask/Cargo.toml"), "").expect("written");
    assert_eq!(checkout_of(&binary, None).expect("found"), root);
    let (_dir, other) = with_files();
    // cargo names the checkout of what it runs, wherever the target directory is.
    assert_eq!(checkout_of(Path::new("/t/debug/xtask"), Some(&other.join("xtask"))).expect("told"), other);
    // A program that cargo runs for another project inherits that project's directory.
    assert_eq!(checkout_of(&binary, Some(&other.join("images"))).expect("found"), root);
    let copied = checkout_of(&root.join("bin/xtask"), None).expect_err("it was copied");
    assert_eq!(copied.class.code(), 2, "{copied}");
    assert!(copied.next.expect("a way out").contains("cargo xtask install"));
}

#[test]
fn a_version_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let version = Version {
        version: "0.1.0".to_owned(),
        revision: "abc+changes".to_owned(),
        date: "2026-11-27".to_owned(),
        harness: "h".to_owned(),
        content: "c".to_owned(),
    };
    fs::write(dir.path().join(VERSION_FILE), version.text()).expect("written");
    assert_eq!(Version::read(dir.path()).expect("read"), version);
    fs::write(dir.path().join(VERSION_FILE), version.text().replace("harness h\n", "harness \n"))
        .expect("written");
    assert!(Version::read(dir.path()).expect_err("damaged").to_string().contains("no `harness`"));
}
