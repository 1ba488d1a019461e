// SPDX-License-Identifier: MIT OR Apache-2.0
//! The workflow files: what they promise. Linters check them in `interop`.

use std::fs;
use std::path::{Path, PathBuf};

pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the checkout")
}

pub fn workflows() -> Vec<PathBuf> {
    let entries = fs::read_dir(top().join(".github/workflows")).expect("workflows");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("listed").path()).collect();
    files.sort();
    assert!(files.len() > 1, "{files:?}");
    files
}

#[test]
fn only_the_forges_own_actions_by_commit_and_no_objects_in_caches() {
    // A tag can be moved; a commit cannot. The comment after it names the release for humans.
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
            // Values of a context must be passed in the environment: in a script they would be code.
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
