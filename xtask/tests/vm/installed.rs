// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tarball of `cargo xtask dist` where there is no cargo, no compiler and no checkout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Covered by an empty directory: the checkout with its target directory, and everything of Rust.
fn hidden() -> Vec<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME").expect("a home"));
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the checkout").to_owned();
    let rust = [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")];
    let rust = rust.map(|(name, below)| std::env::var_os(name).map_or(home.join(below), PathBuf::from));
    rust.into_iter().chain([checkout]).filter(|dir| dir.is_dir()).collect()
}

/// A PATH with all programs of the host but these.
fn without(programs: &[&str], bin: &Path) {
    fs::create_dir_all(bin).expect("made");
    for dir in ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let unwanted =
                programs.iter().any(|program| name == *program || name.starts_with(&format!("{program}-")));
            if !unwanted {
                // The first one on PATH counts.
                let _ = std::os::unix::fs::symlink(entry.path(), bin.join(name));
            }
        }
    }
}

#[test]
fn m_the_tarball_tests_a_kernel_without_cargo_clang_and_checkout() {
    let dir = tempfile::Builder::new().prefix("kmatrix-vm").tempdir_in("/var/tmp").expect("a directory");
    let tarball = dir.path().join("k.tar.xz");
    let made = super::xtask(&["dist", "--out", tarball.to_str().expect("a plain name")]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let unpacked = Command::new("tar").arg("-xf").arg(&tarball).arg("-C").arg(dir.path()).status();
    assert!(unpacked.expect("tar").success());
    let root = dir.path().join(format!("kmatrix-{}", env!("CARGO_PKG_VERSION")));
    let bin = dir.path().join("path");
    without(
        &["cargo", "rustc", "rustup", "clang", "cc", "gcc", "x86_64-linux-gnu-gcc", "make", "pkg-config"],
        &bin,
    );
    let (run, home) = (dir.path().join("run"), std::env::var_os("HOME").expect("a home"));
    let mut command = Command::new("bwrap");
    command.args(["--dev-bind", "/", "/"]);
    // The harness opens a sandbox in this one; root needs its rights for that.
    if nix::unistd::geteuid().is_root() {
        command.args(["--cap-add", "ALL"]);
    }
    for place in hidden() {
        command.arg("--tmpfs").arg(place);
    }
    command.arg("--chdir").arg(dir.path()).arg("--").arg(root.join("bin/kmatrix"));
    command.args(["vmtest", "--kernel", &super::images().0, "-t", "basic", "--out"]).arg(&run);
    command.env_clear().env("PATH", &bin).env("HOME", home).env("CI", "true");
    for name in ["VMTEST_CACHE_DIR", "XDG_CACHE_HOME", "VMTEST_DEBIAN_MIRROR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let output = command.output().expect("bwrap");
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    println!("{said}");
    assert_eq!(output.status.code(), Some(0), "{said}");
    let text = fs::read_to_string(run.join("run.json")).expect("run.json");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let cells = json["cells"].as_array().expect("cells");
    assert!(cells.len() > 20 && cells.iter().all(|cell| cell["outcome"] == "pass"), "{cells:?}");
    assert_eq!(json["command"][0], root.join("bin/kmatrix").to_str().expect("a plain name"));
}
