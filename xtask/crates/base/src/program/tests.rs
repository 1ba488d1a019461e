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

fn named(real: &Path, typed: &str) -> String {
    Program::new(real, Some(OsStr::new(typed))).name
}

#[test]
fn an_installed_program_has_the_name_that_was_typed() {
    let (_dir, root) = with_files();
    let real = root.join("bin/kmatrix");
    assert_eq!(Program::new(&real, None), Program { installation: None, name: IN_CHECKOUT.to_owned() });
    fs::write(root.join(VERSION_FILE), "").expect("written");
    assert_eq!(named(&real, "kmatrix"), "kmatrix");
    let here = std::env::current_dir().expect("a directory");
    assert_eq!(named(&real, "./bin/kmatrix"), shell_word(&here.join("bin/kmatrix").to_string_lossy()));
    assert_eq!(named(&real, "/a b/kmatrix"), "'/a b/kmatrix'");
    // argv[0] is whatever the caller says; a name that starts nothing is not printed.
    assert_eq!(named(&real, "-bash"), shell_word(&real.to_string_lossy()));
    assert_eq!(Program::new(&real, None).installation, Some(root.clone()));
    for elsewhere in ["bin/xtask", "kmatrix", "bin/bin/kmatrix"] {
        assert_eq!(named(&root.join(elsewhere), "kmatrix"), IN_CHECKOUT, "{elsewhere}");
    }
    fs::remove_dir(root.join("kconfig")).expect("removed");
    assert_eq!(named(&real, "kmatrix"), IN_CHECKOUT);
}
