// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chooses which of the kernel's own tests run, from the request, the tests in the tree and its deny list.
//! Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vmtest_protocol::TestName;

use crate::own::compile;
use vmtest_base::error::{Error, Result};
use vmtest_guest::judge::{Chosen, star_matches};

/// The default selection: sessions, and other users of trampolines. Subtests follow a slash.
pub const DEFAULT: [&str; 17] = [
    "fsession_test",
    "tracing_failure",
    "kprobe_multi_test/session",
    "kprobe_multi_test/session_cookie",
    "uprobe_multi_test/session",
    "uprobe_multi_test/session_cookie",
    "uprobe_multi_test/session_cookie_recursive",
    "get_func_ip_test",
    "get_func_args_test",
    "fentry_test",
    "fexit_test",
    "fentry_fexit",
    "modify_return",
    "fexit_bpf2bpf",
    "trampoline_count",
    "bpf_cookie",
    "recursion",
];

/// The word that marks a test as a benchmark, which measures and does not judge.
pub const BENCHMARK: &str = "bench";

/// A line of a deny list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    pub test: String,
    /// Pattern of its subtests; `None` for the whole test.
    pub subtest: Option<String>,
    /// The comment in the list; may be empty.
    pub why: String,
}

/// Parses a `DENYLIST` of the tree.
pub fn deny_list(text: &str) -> Vec<Denied> {
    let line = |line: &str| {
        let (pattern, why) = line.split_once('#').unwrap_or((line, ""));
        let pattern = pattern.trim();
        let (test, subtest) = match pattern.split_once('/') {
            Some((test, subtest)) => (test, Some(subtest.to_owned())),
            None => (pattern, None),
        };
        let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
        (!test.is_empty()).then(|| Denied { test: test.to_owned(), subtest, why })
    };
    text.lines().filter_map(line).collect()
}

/// The tests to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Tests to build and run, sorted by name.
    pub chosen: Vec<Chosen>,
    /// Requested tests that are on the tree's deny list, with its reason.
    pub denied: Vec<(TestName, String)>,
    /// Requested tests that the tree does not have.
    pub absent: Vec<TestName>,
}

/// The properties of a tree that the choice depends on.
#[derive(Clone, Copy)]
pub struct Offer<'a> {
    /// Maps a test to the file that defines it.
    pub tests: &'a BTreeMap<String, String>,
    /// Whether the tests of a file have benchmark subtests.
    pub measures: &'a dyn Fn(&str) -> bool,
    pub deny: &'a [Denied],
}

/// Checks the `--test` globs for this suite.
///
/// # Errors
/// Class `Usage` for a pattern that `test_progs` does not support.
pub fn check(globs: &[String]) -> Result<()> {
    for glob in globs {
        let (test, subtest) = split(glob);
        compile(test)?;
        if let Some(bad) = subtest.unwrap_or_default().chars().find(|c| "?[]{},\\\"".contains(*c)) {
            return Err(Error::usage(format!(
                "--test {glob}: test_progs does not support `{bad}` in a subtest"
            ))
            .next("`*` matches any text"));
        }
    }
    Ok(())
}

fn split(glob: &str) -> (&str, Option<&str>) {
    match glob.split_once('/') {
        Some((test, "*")) => (test, None),
        Some((test, subtest)) => (test, Some(subtest)),
        None => (glob, None),
    }
}

/// Chooses the tests. `elsewhere`: whether another suite has tests that match a glob; if so, it is not
/// reported as absent here.
///
/// # Errors
/// Class `Usage` for a malformed glob.
pub fn choose(
    globs: &[String],
    offer: Offer<'_>,
    ignore_deny_list: bool,
    elsewhere: &dyn Fn(&str) -> bool,
) -> Result<Choice> {
    let default: Vec<String> = DEFAULT.iter().map(|name| (*name).to_owned()).collect();
    let globs = if globs.is_empty() { &default } else { globs };
    check(globs)?;
    let mut choice = Choice::default();
    let wanted = wanted(globs, offer, elsewhere, &mut choice.absent)?;
    for (name, subtests) in wanted {
        let lines: Vec<&Denied> =
            offer.deny.iter().filter(|line| !ignore_deny_list && star_matches(&line.test, name)).collect();
        let denied = |line: &Denied| {
            let why = if line.why.is_empty() { String::new() } else { format!(": {}", line.why) };
            format!("on the tree's deny list{why}; --ignore-denylist runs it")
        };
        if let Some(line) = lines.iter().find(|line| line.subtest.is_none()) {
            choice.denied.push((TestName { test: name.to_owned(), subtest: String::new() }, denied(line)));
            continue;
        }
        let mut deny: Vec<String> = Vec::new();
        for line in lines {
            let Some(pattern) = &line.subtest else { continue };
            choice.denied.push((TestName { test: name.to_owned(), subtest: pattern.clone() }, denied(line)));
            deny.push(pattern.clone());
        }
        let Some(file) = offer.tests.get(name) else { continue };
        let measured = subtests.iter().any(|pattern| pattern.contains(BENCHMARK));
        if (offer.measures)(file) && !measured && !name.contains(BENCHMARK) {
            deny.push(format!("*{BENCHMARK}*"));
        }
        choice.chosen.push(Chosen { name: name.to_owned(), file: file.clone(), subtests, deny });
    }
    Ok(choice)
}

/// The tests that the globs choose, each with its subtest patterns; an empty list means all subtests.
fn wanted<'a>(
    globs: &[String],
    offer: Offer<'a>,
    elsewhere: &dyn Fn(&str) -> bool,
    absent: &mut Vec<TestName>,
) -> Result<BTreeMap<&'a str, Vec<String>>> {
    let mut wanted: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut whole: Vec<&str> = Vec::new();
    for glob in globs {
        let (test, subtest) = split(glob);
        let matcher = compile(test)?.compile_matcher();
        let named = |name: &str| !name.contains(BENCHMARK) || test.contains(BENCHMARK);
        let hits: Vec<&str> = offer
            .tests
            .keys()
            .map(String::as_str)
            .filter(|name| matcher.is_match(name) && named(name))
            .collect();
        if hits.is_empty() && !elsewhere(glob) {
            let name = TestName { test: test.to_owned(), subtest: subtest.unwrap_or_default().to_owned() };
            if !absent.contains(&name) {
                absent.push(name);
            }
        }
        for name in hits {
            let patterns = wanted.entry(name).or_default();
            match subtest {
                None => whole.push(name),
                Some(subtest) if !patterns.iter().any(|known| known == subtest) => {
                    patterns.push(subtest.to_owned());
                }
                Some(_) => {}
            }
        }
    }
    for name in whole {
        wanted.entry(name).or_default().clear();
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests;
