// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's request, read from the kernel command line.

use std::time::Duration;
use vmtest_protocol::{Effort, SelfTest, base64, param};

/// The host's request. Errors in it are stored in `trouble`, so that they can be reported as events.
#[derive(Debug, PartialEq)]
pub struct Params {
    /// Repeated in every event line.
    pub nonce: String,
    /// `ttyS1`, or the name of a virtio port.
    pub port: String,
    /// Globs of `test/subtest`; empty for all.
    pub tests: Vec<String>,
    /// Indices in the list of all subtests, which take precedence; `None`: not selected by index.
    pub pick: Option<String>,
    /// How much to run.
    pub effort: Effort,
    /// How often the whole plan is run; with `until_fail` the maximum.
    pub repeat: u32,
    /// Start nothing after the first failure.
    pub until_fail: bool,
    /// Start nothing later than this after the runner; `None`: no limit.
    pub time: Option<Duration>,
    /// What to damage on purpose; `None` for nothing.
    pub self_test: Option<SelfTest>,
    /// Also try what is known to kill or corrupt this kernel.
    pub provoke: bool,
    /// Report which lines ran.
    pub coverage: bool,
    /// Whether the clock counts instructions.
    pub icount: bool,
    /// Name and value, to set before the first test.
    pub sysctls: Vec<(String, String)>,
    /// bpftool of the tree under test; `None` if the host provides none.
    pub bpftool: Option<String>,
    /// File that selects the tests of an external suite; `None`: our own suite.
    pub upstream: Option<String>,
    /// Shell command to run instead of the tests.
    pub exec: Option<String>,
    /// Run an interactive shell instead of the tests.
    pub shell: bool,
    /// Why the request cannot be carried out.
    pub trouble: Option<String>,
}

impl Params {
    /// Parses a kernel command line. `None` without a nonce or a port: this machine was not booted for a run.
    pub fn parse(cmdline: &str) -> Option<Self> {
        let words = split(cmdline);
        let last = |key: &str| words.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
        let mut trouble = None;
        let mut complain = |text: String| {
            trouble.get_or_insert(text);
        };

        let effort = last(param::EFFORT).map_or(Effort::Normal, |word| {
            Effort::of_name(word).unwrap_or_else(|| {
                complain(format!("{}={word}: there is no such effort", param::EFFORT));
                Effort::Normal
            })
        });
        let self_test = last(param::SELF_TEST).and_then(|name| {
            let found = SelfTest::from_name(name);
            if found.is_none() {
                complain(format!("{}={name}: neither turned nor blind", param::SELF_TEST));
            }
            found
        });
        let mut number = |key: &str| -> Option<u32> {
            let number = last(key)?.parse().ok().filter(|&number| number > 0);
            if number.is_none() {
                complain(format!("{key}: not a number from 1"));
            }
            number
        };
        let (repeat, seconds) = (number(param::REPEAT).unwrap_or(1), number(param::SECONDS));
        let mut sysctls = Vec::new();
        for (_, setting) in words.iter().filter(|(k, _)| k == param::SYSCTL) {
            match setting.split_once('=') {
                Some((name, value)) => sysctls.push((name.to_owned(), value.to_owned())),
                None => complain(format!("{}={setting}: want name=value", param::SYSCTL)),
            }
        }
        let exec = last(param::EXEC).map(|text| match base64::decode(text) {
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            None => {
                complain(format!("{}: not base64", param::EXEC));
                String::new()
            }
        });
        let tests = last(param::TEST).unwrap_or_default();
        Some(Self {
            nonce: last(param::NONCE)?.to_owned(),
            port: last(param::PORT)?.to_owned(),
            tests: tests.split(',').filter(|glob| !glob.is_empty()).map(str::to_owned).collect(),
            pick: last(param::PICK).map(str::to_owned),
            effort,
            self_test,
            coverage: last(param::COVERAGE) == Some("1"),
            icount: last(param::ICOUNT) == Some("1"),
            provoke: last(param::PROVOKE) == Some("1"),
            repeat,
            until_fail: last(param::UNTIL_FAIL) == Some("1"),
            time: seconds.map(|seconds| Duration::from_secs(seconds.into())),
            sysctls,
            bpftool: last(param::BPFTOOL).map(str::to_owned),
            upstream: last(param::UPSTREAM).map(str::to_owned),
            exec,
            shell: last(param::SHELL) == Some("1"),
            trouble,
        })
    }
}

/// Splits a kernel command line into keys and values; double quotes protect blanks, as in the kernel.
fn split(cmdline: &str) -> Vec<(String, String)> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in cmdline.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_ascii_whitespace() && !quoted => words.push(String::new()),
            c => words.last_mut().expect("starts with one word and only grows").push(c),
        }
    }
    let pair = |word: String| match word.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (word, String::new()),
    };
    words.into_iter().filter(|word| !word.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests;
