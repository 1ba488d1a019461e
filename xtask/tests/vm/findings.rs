// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands of docs/findings, as their pages have them: a reader who follows a page sees what it says.

use std::fs;
use std::path::PathBuf;

use super::vmtest;

/// How the commands of each page end, in their order: 3 for a known bug alone, 0 if another test passes
/// as well.
const ENDS: [(&str, &[i32]); 12] = [
    ("call-depth-in-ftrace-trampolines", &[21]),
    ("context-argument-in-multi", &[3]),
    ("detach-without-memory", &[4, 4]),
    ("exit-without-entry", &[3]),
    ("full-trampoline", &[21, 4, 0]),
    ("noreturn-leak", &[3]),
    ("null-return-at-entry", &[3, 21]),
    ("second-program-tail-calls", &[3, 1]),
    ("sleepable-kprobe", &[3]),
    ("tail-call-into-cookie", &[3]),
    ("throw-through-trampoline", &[0, 21]),
    ("unsettled-link", &[3]),
];

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/findings")
}

/// The words behind `cargo xtask vmtest` of each command below "To reproduce".
fn commands(page: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(directory().join(format!("{page}.md"))).expect("the page");
    let (_, text) = text.split_once("**To reproduce.**").expect("how to reproduce it");
    let code: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let code = code.join("\n").replace("\\\n", " ");
    let words = |line: &str| {
        let words = line.strip_prefix("cargo xtask vmtest ").expect("a command of ours").split_whitespace();
        words.map(|word| word.trim_matches('\'').to_owned()).collect()
    };
    code.lines().map(words).collect()
}

#[test]
fn each_page_has_commands_and_each_command_an_end() {
    let mut pages: Vec<String> = fs::read_dir(directory())
        .expect("the pages")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".md").map(str::to_owned))
        .collect();
    pages.sort();
    assert_eq!(pages, ENDS.map(|(page, _)| page));
    for (page, ends) in ENDS {
        assert_eq!(commands(page).len(), ends.len(), "{page}");
    }
}

#[test]
#[ignore = "takes an hour with its kernels: cargo xtask test --slow"]
fn each_command_ends_as_its_page_says() {
    let mut wrong = Vec::new();
    for (page, ends) in ENDS {
        for (at, (words, end)) in commands(page).iter().zip(ends).enumerate() {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let ran = vmtest(&format!("finding-{page}-{at}"), &words);
            let named = |cell: &serde_json::Value| {
                let reason = cell["reason"].as_str().unwrap_or("");
                cell["outcome"] == "xfail" && reason.contains(&format!("docs/findings/{page}.md"))
            };
            let is_named = ran.run()["cells"].as_array().is_some_and(|cells| cells.iter().any(named));
            if ran.code != *end || (*end == 3 && !is_named) {
                wrong.push(format!("{page}, command {}: exit {} instead of {end}", at + 1, ran.code));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
