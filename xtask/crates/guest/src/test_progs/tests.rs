// SPDX-License-Identifier: MIT OR Apache-2.0
//! Output of `test_progs`, complete and damaged.

use super::*;

const GOOD: &str = "#1/1     fsession_test/fsession_basic:OK\n#1/2     fsession_test/fsession_reattach:OK\n\
                    #1       fsession_test:OK\nSummary: 1/2 PASSED, 0 SKIPPED, 0 FAILED\n";

fn good(text: &str) -> Report {
    read("fsession_test", text, true, Some(0))
}

#[test]
fn a_whole_run_has_no_doubt_and_one_cut_anywhere_has() {
    let report = good(GOOD);
    assert_eq!(report.doubts, [""; 0]);
    assert_eq!(report.subtests.len(), 2);
    assert_eq!(report.subtests[1].name, "fsession_reattach");
    // Without its last newline it is still complete.
    for cut in 0..GOOD.len() - 1 {
        assert!(!good(&GOOD[..cut]).doubts.is_empty(), "cut at {cut}");
    }
}

/// Captured from `test_progs` of 6.18.15 with the series in a guest: a whole test, chosen subtests with the
/// gaps that they leave, a test without subtests whose watchdog printed a message.
const CAPTURED: [(&str, &str, bool, usize); 3] = [
    ("fsession_test", include_str!("fsession_test.txt"), true, 4),
    ("kprobe_multi_test", include_str!("kprobe_multi_test.txt"), false, 2),
    ("trampoline_count", include_str!("trampoline_count.txt"), true, 0),
];

#[test]
fn real_output_is_read_whole_and_doubted_when_it_is_cut() {
    for (test, text, whole, subtests) in CAPTURED {
        let report = read(test, text, whole, Some(0));
        assert_eq!((report.doubts.len(), report.subtests.len()), (0, subtests), "{report:?}");
        assert_eq!(report.whole, Some(Said::Ok));
        for cut in 0..text.len() - 1 {
            assert!(!read(test, &text[..cut], whole, Some(0)).doubts.is_empty(), "{test} cut at {cut}");
        }
        assert!(!read("another_test", text, whole, Some(0)).doubts.is_empty());
    }
}

#[test]
fn every_line_that_is_left_out_or_doubled_is_noticed() {
    let lines: Vec<&str> = GOOD.lines().collect();
    for at in 0..lines.len() {
        let mut less = lines.clone();
        less.remove(at);
        assert!(!good(&less.join("\n")).doubts.is_empty(), "without line {at}");
        let mut more = lines.clone();
        more.insert(at, lines[at]);
        assert!(!good(&more.join("\n")).doubts.is_empty(), "with line {at} twice");
    }
}

#[test]
fn the_summary_of_newer_trees_is_read() {
    // As printed by 7.3.4.
    let text = "#6/1     fsession_test/fsession_test:OK\n#6/2     fsession_test/fsession_reattach:OK\n\
                #6/3     fsession_test/fsession_cookie:OK\n#6       fsession_test:OK\n\
                Summary: 1/3 PASSED, 0 SKIPPED, 0/0 FAILED\n";
    let doubts = |text: &str| read("fsession_test", text, true, Some(0)).doubts;
    assert_eq!(doubts(text), [""; 0]);
    for wrong in ["0 SKIPPED (1 not built)", "1 SKIPPED", "0/1 FAILED", "1/0 FAILED", "0/99999999999 FAILED"]
    {
        let part = if wrong.contains("FAILED") { "0/0 FAILED" } else { "0 SKIPPED" };
        assert_ne!(doubts(&text.replace(part, wrong)), [""; 0], "{wrong}");
    }
}

#[test]
fn counts_and_status_must_agree() {
    for (from, to) in [
        ("1/2 PASSED", "1/3 PASSED"),
        ("1/2 PASSED", "2/2 PASSED"),
        ("0 FAILED", "1 FAILED"),
        ("0 SKIPPED", "1 SKIPPED"),
        ("basic:OK", "basic:FAIL"),
        ("basic:OK", "basic:SKIP"),
        ("fsession_test:OK", "fsession_test:SKIP"),
        ("fsession_test:OK", "fsession_test:FAIL"),
        ("fsession_test:OK", "fsession_test:OK (SKIP: 1/2)"),
        ("#1/2  ", "#1/3  "),
        ("#1/2  ", "#1/1  "),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        assert!(!good(&text).doubts.is_empty(), "{to}");
    }
    for exit in [None, Some(1), Some(2), Some(255)] {
        assert!(!read("fsession_test", GOOD, true, exit).doubts.is_empty(), "{exit:?}");
    }
}

#[test]
fn a_failing_test_is_printed_twice_and_read_once() {
    let text = "bpf_testmod.ko is already unloaded.\ntest_fsession:FAIL:entry unexpected entry: actual 0 != expected 1\n\
                #7/1     fsession_test/a: b/c:FAIL\n#7/2     fsession_test/d:OK\n#7       fsession_test:FAIL\n\n\
                All error logs:\ntest_fsession:FAIL:entry unexpected entry: actual 0 != expected 1\n\
                #7/1     fsession_test/a: b/c:FAIL\n#7       fsession_test:FAIL\n\
                Summary: 0/1 PASSED, 0 SKIPPED, 1 FAILED\n";
    let report = read("fsession_test", text, true, Some(1));
    assert_eq!(report.doubts, [""; 0]);
    assert_eq!(report.subtests.len(), 2);
    assert_eq!((report.subtests[0].name.as_str(), report.subtests[0].said), ("a: b/c", Said::Fail));
    assert!(report.subtests[0].log.contains("actual 0 != expected 1"));
    assert_eq!(report.subtests[1].log, "");
}

#[test]
fn all_skipped_exits_with_0_and_is_no_ok() {
    let text = "#1/1     fsession_test/a:SKIP\n#1/2     fsession_test/b:SKIP\n#1       fsession_test:SKIP\n\
                Summary: 1/0 PASSED, 2 SKIPPED, 0 FAILED\n";
    let report = good(text);
    assert_eq!((report.doubts.len(), report.whole), (0, Some(Said::Skip)));
    assert!(report.subtests.iter().all(|subtest| subtest.said == Said::Skip));
    let text = "WARNING! Selftests relying on bpf_testmod.ko will be skipped.\n#1/1     t/a:OK\n#1/2     t/b:SKIP\n\
                #1       t:OK (SKIP: 1/2)\nSummary: 1/1 PASSED, 1 SKIPPED, 0 FAILED\n";
    let report = read("t", text, true, Some(0));
    assert_eq!((report.doubts.len(), report.whole), (0, Some(Said::SomeSkipped(1, 2))));
    assert!(report.without_testmod);
}

#[test]
fn a_filter_leaves_holes_that_are_none() {
    let text = "#1/9     t/session:OK\n#1/10    t/session_cookie:OK\n#1       t:OK\n\
                Summary: 1/2 PASSED, 0 SKIPPED, 0 FAILED\n";
    assert!(read("t", text, false, Some(0)).doubts.is_empty());
    assert!(!read("t", text, true, Some(0)).doubts.is_empty());
    // If nothing ran, the summary's count is the only evidence.
    let none = read("t", "#1       t:OK\nSummary: 1/0 PASSED, 0 SKIPPED, 0 FAILED\n", false, Some(0));
    assert!(none.doubts.is_empty() && none.subtests.is_empty());
}

#[test]
fn a_log_that_looks_like_results_of_another_test_is_a_log() {
    let text = "#3/1     other/x:OK\n#3       other:OK\n#1/1     t/a:OK\n#1       t:OK\n\
                Summary: 1/1 PASSED, 0 SKIPPED, 0 FAILED\n";
    let report = read("t", text, true, Some(0));
    assert_eq!((report.subtests.len(), report.doubts.len()), (1, 0));
    assert!(report.subtests[0].log.contains("other"));
}

#[test]
fn a_crash_is_never_a_whole_run() {
    let text = "#1       t:FAIL\nCaught signal #11!\nStack trace:\n./test_progs(crash_handler+0x2c)[0x55]\n";
    let report = read("t", text, true, None);
    assert!(!report.doubts.is_empty());
    assert!(report.log.contains("Caught signal #11!"));
}

#[test]
fn two_subtests_of_one_name_are_told_apart() {
    let text = "#1/1     t/kernel:OK\n#1/2     t/modules:OK\n#1/3     t/kernel:OK\n#1       t:OK\n\
                Summary: 1/3 PASSED, 0 SKIPPED, 0 FAILED\n";
    let report = read("t", text, true, Some(0));
    let names: Vec<&str> = report.subtests.iter().map(|subtest| subtest.name.as_str()).collect();
    assert_eq!((names, report.doubts.len()), (vec!["kernel", "modules", "kernel #3"], 0));
}
