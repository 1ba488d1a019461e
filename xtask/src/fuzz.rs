// SPDX-License-Identifier: MIT OR Apache-2.0
//! Input from a guest, a patch or a tree may be anything. These tests use mutations of valid input, and
//! noise.
//!
//! `cargo xtask test` runs a few thousand cases each time; `VMTEST_FUZZ_CASES=1000000 cargo test -p xtask
//! fuzz` runs more. A failing input is minimized, and its seed is kept in `proptest-regressions/` next to the
//! sources and tried first from then on.

use std::cell::RefCell;
use std::process::Command;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use vmtest_base::error::Class;
use vmtest_guest::console::Scanner;
use vmtest_guest::events::Stream;
use vmtest_guest::judge::{CellBase, JudgeInput, Rounds, SuiteInput, Terms, judge};
use vmtest_guest::observed::{End, Limits, Observed};
use vmtest_guest::session::{self, Channel, ConsoleOn};
use vmtest_guest::{ktap, test_progs};
use vmtest_kernel::config::Requests;
use vmtest_kernel::series;
use vmtest_record::allow_list::Allowed;

/// Default number of cases per property: all of them take a few seconds.
const CASES: u32 = 8_000;
/// In CI: all of them take a quarter of a minute on two cores. `VMTEST_FUZZ_CASES` is for long runs.
const CASES_IN_CI: u32 = 20_000;

/// A test runner; `cost` is how much more expensive a case is than the cheapest ones.
fn runner(cost: u32) -> TestRunner {
    let asked = std::env::var("VMTEST_FUZZ_CASES").ok().and_then(|text| text.parse().ok());
    let usual = if std::env::var_os("CI").is_some() { CASES_IN_CI } else { CASES };
    let cases = (asked.unwrap_or(usual) / cost).max(20);
    TestRunner::new(Config {
        cases,
        max_shrink_iters: 20_000,
        source_file: Some(file!()),
        ..Config::default()
    })
}

/// One change to a text.
#[derive(Debug, Clone)]
enum Change {
    Cut(usize, usize),
    Double(usize, usize),
    Put(usize, Vec<u8>),
    Flip(usize, u8),
    End(usize),
    SwapLines(usize, usize),
    DropLine(usize),
    DoubleLine(usize),
}

fn change(words: &'static [&'static str]) -> impl Strategy<Value = Change> {
    let at = any::<usize>;
    prop_oneof![
        (at(), 0_usize..200).prop_map(|(at, length)| Change::Cut(at, length)),
        (at(), 0_usize..200).prop_map(|(at, length)| Change::Double(at, length)),
        (at(), prop::sample::select(words)).prop_map(|(at, word)| Change::Put(at, word.as_bytes().to_vec())),
        (at(), vec(any::<u8>(), 1..40)).prop_map(|(at, noise)| Change::Put(at, noise)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Flip(at, byte)),
        at().prop_map(Change::End),
        (at(), at()).prop_map(|(a, b)| Change::SwapLines(a, b)),
        at().prop_map(Change::DropLine),
        at().prop_map(Change::DoubleLine),
    ]
}

fn changed(seed: &str, changes: &[Change]) -> Vec<u8> {
    let mut bytes = seed.as_bytes().to_vec();
    for change in changes {
        let place = |at: usize, bytes: &[u8]| if bytes.is_empty() { 0 } else { at % bytes.len() };
        let lines = |bytes: &[u8]| -> Vec<Vec<u8>> {
            bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
        };
        match change {
            Change::Cut(at, length) => {
                let at = place(*at, &bytes);
                bytes.drain(at..(at + length).min(bytes.len()));
            }
            Change::Double(at, length) => {
                let at = place(*at, &bytes);
                let part = bytes[at..(at + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
            Change::Put(at, more) => {
                let at = place(*at, &bytes);
                bytes.splice(at..at, more.iter().copied());
            }
            Change::Flip(at, with) => {
                let at = place(*at, &bytes);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= with;
                }
            }
            Change::End(at) => bytes.truncate(place(*at, &bytes)),
            Change::SwapLines(..) | Change::DropLine(_) | Change::DoubleLine(_) if bytes.is_empty() => (),
            Change::SwapLines(a, b) => {
                let mut all = lines(&bytes);
                let count = all.len();
                all.swap(a % count, b % count);
                bytes = all.concat();
            }
            Change::DropLine(a) => {
                let mut all = lines(&bytes);
                all.remove(a % all.len());
                bytes = all.concat();
            }
            Change::DoubleLine(a) => {
                let mut all = lines(&bytes);
                let line = all[a % all.len()].clone();
                all.insert(a % all.len(), line);
                bytes = all.concat();
            }
        }
    }
    bytes
}

/// Mutations of a seed, and noise.
fn input(seed: &'static str, words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(change(words), 0..12).prop_map(move |changes| changed(seed, &changes)),
        1 => vec(prop::sample::select(words), 0..60).prop_map(|words| words.concat().into_bytes()),
        1 => vec(any::<u8>(), 0..4_000),
    ]
}

/// Feeds bytes in pieces of these lengths.
fn in_pieces(bytes: &[u8], lengths: &[usize], mut feed: impl FnMut(&[u8])) {
    let (mut rest, mut lengths) = (bytes, lengths.iter().cycle());
    while !rest.is_empty() {
        let length = lengths.next().map_or(rest.len(), |length| (*length).clamp(1, rest.len()));
        feed(&rest[..length]);
        rest = &rest[length..];
    }
}

const EVENTS: &str = r#"{"n":"abc","seq":0,"ms":1,"ev":"hello","protocol":PROTOCOL,"release":"7.3.4","cmdline":"","clocksource":"tsc","cpus":2,"memory_mib":480,"features":{"fsession":"yes"},"profile":{}}
{"n":"abc","seq":1,"ms":1,"ev":"plan","tests":[{"test":"basic","subtest":"a"},{"test":"basic","subtest":"b"}],"rounds":1}
{"n":"abc","seq":2,"ms":1,"ev":"start","test":"basic","subtest":"a","round":1}
{"n":"abc","seq":3,"ms":1,"ev":"output","fd":1,"text":"a line\n"}
{"n":"abc","seq":4,"ms":1,"ev":"end","test":"basic","subtest":"a","round":1,"outcome":"pass","reason":"","checks":2,"seen":[{"what":"runs","expected":"1","seen":"1","ok":true}],"duration_us":9,"log":""}
{"n":"abc","seq":5,"ms":1,"ev":"start","test":"basic","subtest":"b","round":1}
{"n":"abc","seq":6,"ms":1,"ev":"end","test":"basic","subtest":"b","round":1,"outcome":"pass","reason":"","checks":2,"seen":[],"duration_us":9,"log":""}
{"n":"abc","seq":7,"ms":1,"ev":"done","planned":2,"ended":2,"worker":{"how":"exited","code":0},"tainted":0}
"#;

const EVENT_WORDS: &[&str] = &[
    "{\"n\":\"abc\",",
    "\"seq\":8,",
    "\"ms\":1,",
    "\"ev\":\"done\"",
    "\"ev\":\"splat\",\"test\":\"a\",\"subtest\":\"b\",\"title\":\"x\"",
    "\"ev\":\"plan\",\"tests\":[]",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\n",
    "\r\n",
    "null",
    "-1",
    "18446744073709551615",
    "1e999",
    "\\ud800",
    "\\u0000",
    "../../..",
    "\u{1b}[2J",
    "abd",
    "4294967296",
    "true",
    ",",
    ":",
];

/// The text of a whole run with the current protocol version.
fn whole_events() -> &'static str {
    static TEXT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    TEXT.get_or_init(|| EVENTS.replace("PROTOCOL", &vmtest_protocol::PROTOCOL.to_string()))
}

/// A guest that ended by itself; tests replace its fields.
fn observed() -> Observed {
    let limit = Duration::from_secs(60);
    let limits = Limits { first_byte: limit, boot: limit, idle: limit, run: limit, shutdown: limit };
    let store = tempfile::tempdir().expect("temporary directory");
    let channel = Channel::create().expect("a FIFO");
    let command = Command::new("true");
    let seen_at = channel.dir().to_owned();
    let (console_on, nonce, store) = (ConsoleOn::Stdout, "abc".to_owned(), store.path());
    let guest = session::Start { command, console_on, channel, seen_at, nonce, limits, store };
    session::run(guest, |_, _| ()).expect("it ran")
}

#[test]
fn events_without_a_done_are_never_a_pass() {
    let seen = RefCell::new(observed());
    let allowed = Allowed::default();
    let input = JudgeInput {
        base: CellBase::default(),
        terms: Terms { release: "7.3.4", build_id: "", allowed: &allowed, emulator: None },
        conditions: &[],
        suite: SuiteInput::Own { planned: &[], rounds: Rounds::Exactly(1) },
        may_skip: &|_| false,
    };
    assert!(matches!(seen.borrow().end, End::Exited(_)));
    let strategy = (self::input(whole_events(), EVENT_WORDS), vec(1_usize..5_000, 1..4));
    let judged = |bytes: &[u8], lengths: &[usize]| {
        let mut seen = seen.borrow_mut();
        (seen.stream, seen.console) = (Stream::new("abc"), Scanner::default());
        seen.console.feed(format!("Linux version 7.3.4\n{}\n", vmtest_protocol::LAST_WORD).as_bytes());
        in_pieces(bytes, lengths, |piece| seen.stream.feed(piece));
        seen.stream.close();
        judge(&input, &seen).verdict.class
    };
    assert_eq!(judged(whole_events().as_bytes(), &[7]), Class::Pass, "the seed is right");
    let tried = runner(1).run(&strategy, |(bytes, lengths)| {
        let class = judged(&bytes, &lengths);
        let seen = seen.borrow();
        let stream = &seen.stream;
        prop_assert!(stream.faults.len() <= 20);
        prop_assert!(stream.ended.len() + stream.output.len() + stream.splats.len() <= bytes.len() / 30 + 1);
        let kept: usize = stream.output.iter().map(|output| output.text.len()).sum();
        prop_assert!(kept <= bytes.len() * 3, "no text grows by more than what stands for bad bytes");
        if class == Class::Pass {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            prop_assert!(last.contains("\"done\""), "{last}");
            prop_assert!(stream.done.is_some() && stream.faults.is_empty());
            prop_assert!(stream.plan.as_ref().is_some_and(|plan| plan.len() == stream.ended.len()));
        }
        Ok(())
    });
    tried.unwrap_or_else(|failure| panic!("{failure}"));
}

const CONSOLE: &str = "SeaBIOS (version 1.16.3)\r\n[    0.000000] Linux version 7.3.4 (a@b) #1 SMP\r\n[    0.500000] Run /init as init process\r\n\
[    1.000000] WARNING: CPU: 0 PID: 1 at kernel/bpf/trampoline.c:42 fake+0x1/0x2\r\n\
[    1.100000] ---[ end trace 0000000000000000 ]---\r\n[    1.200000][    T1] BUG: KASAN: slab-use-after-free in x+0x1/0x2\r\n\
[    2.000000] reboot: Restarting system\r\n";

const CONSOLE_WORDS: &[&str] = &[
    "\n",
    "\r\n",
    "[    1.0] ",
    "<4>",
    "WARNING: CPU: 0\n",
    "BUG: ",
    "Oops: int3: 0000 [#1]\n",
    "\u{1b}[2J",
    "\0",
    "Linux version ",
    "Kernel panic - not syncing: x\n",
    "[   T1] ",
    "INFO: task x blocked for more than 20 seconds\n",
];

#[test]
fn a_death_on_the_console_is_always_seen() {
    let strategy = (input(CONSOLE, CONSOLE_WORDS), vec(1_usize..5_000, 1..4), 0_usize..200);
    let tried = runner(2).run(&strategy, |(mut bytes, lengths, warnings)| {
        let scan = |bytes: &[u8], lengths: &[usize]| {
            let mut scanner = Scanner::default();
            in_pieces(bytes, lengths, |piece| scanner.feed(piece));
            scanner.close();
            scanner
        };
        let (whole, pieces) = (scan(&bytes, &[usize::MAX]), scan(&bytes, &lengths));
        let told = |scanner: &Scanner| {
            let splats: Vec<String> = scanner.splats().map(|hit| hit.title.clone()).collect();
            (scanner.death().map(|hit| hit.title.clone()), splats, scanner.progress, scanner.kernels)
        };
        prop_assert_eq!(told(&whole), told(&pieces), "however it arrives");
        let tail = whole.tail(1_000);
        let short = tail.iter().all(|line| line.chars().count() <= 300 && !line.contains('\x1b'));
        prop_assert!(short && tail.len() <= 40 && whole.splats().count() <= 50);
        // After any input: noise, and any number of warnings.
        bytes.extend(b"\nWARNING: again\n".repeat(warnings));
        bytes.extend_from_slice(b"\n[    9.000000] Kernel panic - not syncing: at last\n");
        prop_assert!(scan(&bytes, &lengths).death().is_some());
        Ok(())
    });
    tried.unwrap_or_else(|failure| panic!("{failure}"));
}

const KTAP: &str = "KTAP version 1\n1..3\n# a log line\nok 1 - first\nok 2 - second # SKIP not here\n    KTAP version 1\n    1..2\n    ok 1 - deep\n    \
not ok 2 - deeper # TODO known\nok 3 - third\n";
const KTAP_WORDS: &[&str] = &[
    "KTAP version 1\n",
    "TAP version 13\n",
    "1..3\n",
    "1..0\n",
    "1..18446744073709551616\n",
    "ok 1 - x\n",
    "not ok 2 - y\n",
    "    ",
    "  ",
    "# SKIP",
    "# TODO ",
    "# XFAIL",
    "Bail out!\n",
    "ok",
    "not ok 99999999999999999999 - z\n",
    "\n",
    "#",
    "\\#",
    "\t",
    "ok 4\n",
];

#[test]
fn ktap_that_is_not_whole_leaves_a_doubt() {
    let tried = runner(1).run(&input(KTAP, KTAP_WORDS), |bytes| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let report = ktap::read(&text);
        prop_assert!(report.leaves.len() <= 10_000 && report.doubts.len() <= 21);
        prop_assert!(report.leaves.len() <= text.lines().count());
        let kept: usize = report.leaves.iter().map(|leaf| leaf.log.len() + leaf.reason.len()).sum();
        prop_assert!(kept <= 2 * text.len() + 1_000);
        if report.doubts.is_empty() {
            prop_assert!(text.contains("TAP version"), "no version");
            prop_assert!(text.lines().any(|line| line.trim().starts_with("1..")), "no plan");
            prop_assert!(!text.lines().any(|line| line.starts_with("Bail out!")), "it gave up");
        }
        Ok(())
    });
    tried.unwrap_or_else(|failure| panic!("{failure}"));
}

const TEST_PROGS: &str = "#103/1     fsession_test/basic:OK\n#103/2     fsession_test/cookie:OK\nsome log\n#103/3     fsession_test/x: y:SKIP\n\
#103       fsession_test:OK (SKIP: 1/3)\nSummary: 1/2 PASSED, 1 SKIPPED, 0 FAILED\n";
const TEST_PROGS_WORDS: &[&str] = &[
    "#103/1     fsession_test/a:OK\n",
    "#103       fsession_test:OK\n",
    "#103       fsession_test:FAIL\n",
    ":SKIP\n",
    "OK (SKIP: 9/9)\n",
    "Summary: 1/0 PASSED, 0 SKIPPED, 0 FAILED\n",
    "Summary: 4294967296/1 PASSED, 0 SKIPPED, 0 FAILED\n",
    "All error logs:\n",
    "#",
    ":",
    "/",
    "#99999999999/1 x:OK\n",
    "\n",
    "#1 other:OK\n",
];

#[test]
fn test_progs_that_does_not_sum_up_leaves_a_doubt() {
    let strategy = (input(TEST_PROGS, TEST_PROGS_WORDS), any::<bool>(), prop::option::of(0..3_i32));
    let tried = runner(1).run(&strategy, |(bytes, whole, exit)| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let report = test_progs::read("fsession_test", &text, whole, exit);
        let kept: usize = report.subtests.iter().map(|one| one.log.len() + one.name.len()).sum();
        prop_assert!(kept + report.log.len() <= 2 * text.len() + 1_000);
        if report.doubts.is_empty() && report.whole == Some(test_progs::Said::Ok) {
            prop_assert!(text.lines().any(|line| line.starts_with("Summary: ")), "no summary");
            prop_assert_eq!(exit, Some(0));
            let failed = report.summary.map_or(0, |summary| summary.failed);
            prop_assert_eq!(failed, 0);
            prop_assert!(report.subtests.iter().all(|one| one.said != test_progs::Said::Fail));
        }
        Ok(())
    });
    tried.unwrap_or_else(|failure| panic!("{failure}"));
}

const CONFIG: &str = "# why\nCONFIG_BPF=y\nCONFIG_NR_CPUS=64\nCONFIG_X=\"a b\"\n# CONFIG_MODULES is not set\nCONFIG_BPF_JIT=y # why\n";
const CONFIG_WORDS: &[&str] = &[
    "CONFIG_",
    "=",
    "=y\n",
    "=n\n",
    "=m\n",
    "# CONFIG_A is not set\n",
    "\"",
    "\\",
    "\n",
    " ",
    "#",
    "is not set",
    "0x",
    "-1",
    "\u{feff}",
];

#[test]
fn what_is_accepted_as_a_fragment_is_asked_for_as_it_stands() {
    let tried = runner(1).run(&input(CONFIG, CONFIG_WORDS), |bytes| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let read = vmtest_base::dotconfig::parse(&text);
        prop_assert!(read.len() <= text.lines().count());
        let mut requests = Requests::default();
        if requests.add("fuzz", &text).is_ok() {
            let merged = requests.merged_text();
            let again = vmtest_base::dotconfig::parse(&merged);
            for request in requests.iter() {
                prop_assert!(
                    again.contains_key(&request.option),
                    "{} got lost in {merged:?}",
                    request.option
                );
            }
            prop_assert!(
                merged
                    .lines()
                    .all(|line| line.starts_with("CONFIG_") || line.starts_with('#') || line.is_empty())
            );
        }
        Ok(())
    });
    tried.unwrap_or_else(|failure| panic!("{failure}"));
}

const MBOX: &str = "From 1111111111111111111111111111111111111111 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\n\
Date: Mon, 1 Jan 2024 00:00:00 +0000\nSubject: [PATCH v2 1/2] bpf: x\n\nWhy.\n---\n kernel/x.c | 2 +-\n\ndiff --git a/kernel/x.c b/kernel/x.c\n\
index 1..2 100644\n--- a/kernel/x.c\n+++ b/kernel/x.c\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n-- \n2.47\n\n\
From 2222222222222222222222222222222222222222 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\n\
Date: Mon, 1 Jan 2024 00:00:00 +0000\nSubject: [PATCH v2 2/2] bpf: y\n\nWhy.\n---\ndiff --git a/old.c b/sub/new.c\nsimilarity index 100%\n\
rename from old.c\nrename to sub/new.c\ndiff --git \"a/q\\303\\244\" \"b/q\\303\\244\"\nnew file mode 100644\n--- /dev/null\n\
+++ \"b/q\\303\\244\"\n@@ -0,0 +1 @@\n+x\n-- \n2.47\n";
const MBOX_WORDS: &[&str] = &[
    "diff --git a/x b/x\n",
    "--- a/../../etc/passwd\n",
    "+++ /etc/passwd\n",
    "rename to ../x\n",
    "@@ -1,2 +1,2 @@\n",
    "@@ -18446744073709551615 +1 @@\n",
    "\"",
    "\\377",
    "\\",
    "From ",
    "Subject: [PATCH 9/2] z\n",
    "[PATCH v99999999999 0/0]",
    "[PATCH 1/4000000000] ",
    "Subject: AW: [PATCH v2 1/2] bpf: x\n",
    "Message-ID: <1@x>\n",
    "In-Reply-To: <1@x>\n",
    "Content-Type: text/plain; charset=y; format=flowed\n",
    "From 1111111111111111111111111111111111111111 Mon Sep 17 00:00:00 2001\n",
    "---\n",
    "Content-Transfer-Encoding: base64\n",
    "\n",
    "\r\n",
    "new file mode 120000\n",
    "GIT binary patch\n",
    "\0",
    "a/.git/hooks/x",
    "=?utf-8?q?=00?=",
    "> ",
    "-- \n",
];

#[test]
fn a_diff_names_no_path_that_the_reader_does_not_see() {
    let tried = runner(1).run(&input(MBOX, MBOX_WORDS), |bytes| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let files = series::parse_diff(&text);
        let hunks: usize = files.iter().flat_map(|file| &file.hunks).map(|hunk| hunk.body.len()).sum();
        prop_assert!(files.len() + hunks <= text.lines().count());
        let named: usize = files.iter().flat_map(series::FileDiff::paths).map(str::len).sum();
        prop_assert!(named <= 8 * text.len());
        Ok(())
    });
    tried.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn an_mbox_is_read_or_refused_and_every_path_stays_in_the_tree() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("a.mbox");
    // git parses each patch.
    let tried = runner(60).run(&input(MBOX, MBOX_WORDS), |bytes| {
        std::fs::write(&file, &bytes).expect("written");
        if let Ok(series) = series::load(std::slice::from_ref(&file)) {
            prop_assert!(!series.patches.is_empty());
            for path in series.patches.iter().flat_map(|patch| &patch.touches) {
                let odd = |part: &str| part.is_empty() || part == "." || part == ".." || part == ".git";
                prop_assert!(!path.starts_with('/') && !path.split('/').any(odd), "{path:?}");
            }
        }
        Ok(())
    });
    tried.unwrap_or_else(|failure| panic!("{failure}"));
}
