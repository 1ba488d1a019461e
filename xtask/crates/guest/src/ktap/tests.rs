// SPDX-License-Identifier: MIT OR Apache-2.0
//! KTAP reports, whole and damaged.

use super::*;

fn names(report: &Report) -> Vec<(&str, Said)> {
    report.leaves.iter().map(|leaf| (leaf.name.as_str(), leaf.said)).collect()
}

/// As the kselftest harness prints it.
const FLAT: &str = "TAP version 13\n1..4\n# Starting 4 tests\nok 1 global.opens\n# expected 3 (3)\n\
                    not ok 2 global.reads\nok 3 - global.waits # SKIP no such device\nok 4 # XFAIL global.old\n\
                    # Totals: pass:1 fail:1 xfail:1 xpass:0 skip:1 error:0\n";
/// Indented by two spaces per level, as in the kernel's documentation.
const NESTED: &str = "KTAP version 1\n1..2\n  KTAP version 1\n  # Subtest: list\n  1..2\n  ok 1 list_add\n\
                      \x20   KTAP version 1\n    1..1\n    ok 1 inner\n  ok 2 list_del\n# list: pass:2\nok 1 list\n\
                      ok 2 alone\n";

#[test]
fn results_of_one_level() {
    let report = read(FLAT);
    assert_eq!(report.doubts, [""; 0]);
    assert_eq!(
        names(&report),
        [
            ("global.opens", Said::Ok),
            ("global.reads", Said::NotOk),
            ("global.waits", Said::Skip),
            ("global.old", Said::Xfail),
        ]
    );
    assert_eq!(report.leaves[2].reason, "no such device");
    assert_eq!(report.leaves[1].log, "# expected 3 (3)\n");
}

#[test]
fn nested_results_have_their_parents_names() {
    let report = read(NESTED);
    assert_eq!(report.doubts, [""; 0]);
    assert_eq!(
        names(&report),
        [("list/list_add", Said::Ok), ("list/list_del/inner", Said::Ok), ("alone", Said::Ok)]
    );
}

#[test]
fn a_report_cut_anywhere_is_doubtful() {
    for whole in [FLAT, NESTED, KUNIT] {
        let end = whole.rfind("ok ").expect("a last result") + 4;
        for cut in (0..end).filter(|cut| whole.is_char_boundary(*cut)) {
            assert!(!read(&whole[..cut]).doubts.is_empty(), "{:?}", &whole[..cut]);
        }
    }
}

#[test]
fn what_does_not_fit_together_is_doubtful() {
    for (text, doubt) in [
        ("", "no version line"),
        ("1..1\nok 1 a\n", "no version line"),
        ("KTAP version 1\n1..0\n", "plans nothing"),
        ("KTAP version 1\n1..0 # no device\n", "plans nothing"),
        ("1..0 # SKIP no device\n", "no version line"),
        ("KTAP version 1\n1..0 # SKIP no device\nok 1 a\n", "plans nothing"),
        ("KTAP version 1\n1..0 # SKIP no device\nKTAP version 1\n1..1\nok 1 a\n", "begins twice"),
        ("KTAP version 1\n1..2\nok 1 a\nKTAP version 1\n1..1\nok 1 b\n", "begins twice"),
        ("KTAP version 1\n1..1\nok 1 a\nKTAP version 1\n1..1\nok 1 a\n", "a is reported twice"),
        ("KTAP version 1\n1..1\n    # Subtest: x\n    ok 1 a\nok 1 b\n", "below b calls itself x"),
        ("KTAP version 1\n1..1\n    KTAP version 1\nok 1 b\n", "b has no plan"),
        ("KTAP version 1\n1..1\n    1..0\nok 1 b\n", "b plans nothing"),
        (
            "TAP version 13\n1..1\n# TAP version 13\n# 1..1\n# not ok 1 a\nok 1 b\n",
            "printed a result that is not",
        ),
        ("TAP version 13\n1..1\n# Bail out! no memory\nok 1 b\n", "printed a result that is not"),
        ("KTAP version 1\nok 1 a\n", "has no plan"),
        ("KTAP version 1\n1..2\nok 1 a\n", "plans 2 results and has 1"),
        ("KTAP version 1\n1..1\nok 1 a\nok 2 b\n", "plans 1 results and has 2"),
        ("KTAP version 1\n1..2\nok 1 a\nok 3 b\n", "b is number 3, after 1"),
        ("KTAP version 1\n1..2\nok 1 a\nok 2 a\n", "a is reported twice"),
        (
            "KTAP version 1\n1..1\n    1..3\n    ok 1 a (3)\n    ok 2 a\n    ok 3 a\nok 1 b\n",
            "a is reported twice",
        ),
        ("KTAP version 1\n1..1\nok a\n", "a is number none"),
        ("KTAP version 1\n1..1\n1..1\nok 1 a\n", "two plans"),
        ("KTAP version 1\nKTAP version 1\n1..1\nok 1 a\n", "begins twice"),
        ("KTAP version 1\n1..1\nok 1 a\nBail out! no memory\n", "it gave up: no memory"),
        (
            "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  not ok 1 a\nok 1 b\n",
            "b is ok, and something below",
        ),
        ("KTAP version 1\n1..1\n      ok 1 a\nok 1 b\n", "is nested without a parent"),
    ] {
        let report = read(text);
        assert!(report.doubts.iter().any(|said| said.contains(doubt)), "{text:?}: {:?}", report.doubts);
    }
}

/// KUnit's own example as shown by debugfs: one test has parameters, and their number is not announced.
const KUNIT: &str = "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: example\n    1..4\n\
                     \x20   # example_simple_test: initializing\n    ok 1 example_simple_test\n\
                     \x20   ok 2 example_skip_test # SKIP this test should be skipped\n\
                     \x20       KTAP version 1\n\n        # Subtest: example_params_test\n\
                     \x20       ok 1 example value 3\n\
                     \x20       ok 2 example value 0 # SKIP unsupported param value 0\n\
                     \x20       ok 3 example value 3\n\
                     \x20   # example_params_test: pass:2 fail:0 skip:1 total:3\n    ok 3 example_params_test\n\
                     \x20   # example_slow_test.speed: slow\n    ok 4 example_slow_test\n\
                     # example: initializing suite\n# example: pass:3 fail:0 skip:1 total:4\n\
                     # Totals: pass:3 fail:0 skip:2 total:5\nok 1 example\n";

#[test]
fn kunit_is_read_as_debugfs_and_the_log_of_the_kernel_show_it() {
    let expected = [
        ("example/example_simple_test", Said::Ok),
        ("example/example_skip_test", Said::Skip),
        ("example/example_params_test/example value 3", Said::Ok),
        ("example/example_params_test/example value 0", Said::Skip),
        ("example/example_params_test/example value 3 (3)", Said::Ok),
        ("example/example_slow_test", Said::Ok),
    ];
    let behind = |prefix: &str| -> String { KUNIT.lines().map(|line| format!("{prefix}{line}\n")).collect() };
    let boot = "[    0.060000] printk: console [mc-1] enabled\n";
    let old = KUNIT
        .replace("    ", "\t")
        .replace("\tKTAP version 1\n", "")
        .replace("KTAP version 1", "TAP version 14");
    for text in [
        KUNIT.to_owned(),
        format!("{boot}{}{boot}", behind("[    0.060000] ")),
        behind("<6>[   12.345678] "),
        behind("[    0.060000][    T1] "),
        behind("[Fri Nov 27 14:43:31 2026] "),
        behind("kern  :info  : [    0.060000] "),
        behind(" "),
        KUNIT.replace("    ", "  "),
        KUNIT.replace('\n', "\r\n"),
        old.replace("ok 1 example_simple", "ok 1 - example_simple"),
    ] {
        let report = read(&text);
        assert_eq!(report.doubts, [""; 0], "{text}");
        assert_eq!(names(&report), expected, "{text}");
        assert_eq!(report.leaves[1].reason, "this test should be skipped");
    }
    // One after the other, as `cat /sys/kernel/debug/kunit/*/results` shows them.
    let two = read(&(KUNIT.to_owned() + &KUNIT.replace(" example\n", " other\n")));
    assert_eq!((two.doubts.len(), two.leaves.len()), (0, 12), "{:?}", two.doubts);
    assert_eq!(two.leaves[6].name, "other/example_simple_test");
    let failed = read(&KUNIT.replace("        ok 1", "        not ok 1"));
    assert!(failed.doubts[0].contains("something below it is not"), "{:?}", failed.doubts);
}

#[test]
fn nothing_that_is_to_run_is_a_skip() {
    let whole = read("TAP version 13\n1..0 # SKIP this machine has no such device\n");
    assert_eq!((whole.doubts.len(), whole.leaves.len()), (0, 0));
    assert_eq!(whole.skipped.as_deref(), Some("this machine has no such device"));
    assert_eq!(read("TAP version 13\n1..0 # Skipped: x\n").skipped.as_deref(), Some("x"));
    for parent in ["ok 1 a", "ok 1 a # SKIP none"] {
        let below =
            read(&format!("KTAP version 1\n1..1\n    KTAP version 1\n    1..0 # SKIP none\n{parent}\n"));
        assert_eq!(below.doubts, [""; 0]);
        assert_eq!((names(&below), &below.leaves[0].reason[..]), (vec![("a", Said::Skip)], "none"));
    }
    let failed = read("KTAP version 1\n1..1\n    KTAP version 1\n    1..0 # SKIP none\nnot ok 1 a\n");
    assert_eq!(names(&failed), [("a", Said::NotOk)]);
}

#[test]
fn a_directive_is_found_wherever_it_stands() {
    let one = |line: &str| {
        let report = read(&format!("KTAP version 1\n1..1\n{line}\n"));
        assert_eq!(report.doubts, [""; 0], "{line}");
        let leaf = report.leaves.into_iter().next().expect("a leaf");
        (leaf.name, leaf.said, leaf.reason)
    };
    let is = |name: &str, said, reason: &str| (name.to_owned(), said, reason.to_owned());
    for (line, expected) in [
        ("ok 1 a # SKIP", is("a", Said::Skip, "")),
        ("ok 1 a #SKIP why", is("a", Said::Skip, "why")),
        ("ok 1 a # skipped: why not", is("a", Said::Skip, "why not")),
        ("ok 1 # SKIP", is("1", Said::Skip, "")),
        ("ok 1 a # b # SKIP why", is("a # b", Said::Skip, "why")),
        ("ok 1 a #12", is("a #12", Said::Ok, "")),
        ("ok 1 a # rcode=0", is("a", Said::Ok, "")),
        ("ok 1 - a #  took 3 s", is("a", Said::Ok, "")),
        ("not ok 1 - a # exit=1", is("a", Said::NotOk, "exit=1")),
        ("not ok 1 a # TODO later", is("a", Said::Xfail, "later")),
        ("ok 1 a # XFAIL known", is("a", Said::Xfail, "known")),
        ("ok 1 a # XPASS known", is("a", Said::Ok, "known")),
        ("not ok 1 a # XPASS known", is("a", Said::NotOk, "known")),
        ("ok 1 a # error none", is("a", Said::NotOk, "none")),
        ("ok 1", is("1", Said::Ok, "")),
    ] {
        assert_eq!(one(line), expected, "{line}");
    }
}

#[test]
fn a_runner_quotes_what_it_ran() {
    let text = "TAP version 13\n1..2\n# timeout set to 45\n# selftests: x: one\n# TAP version 13\n# 1..2\n# ok 1 a\n\
                # ok 2 b # SKIP none\n# # Totals: pass:1\nok 1 selftests: x: one\n# selftests: x: two\n# TAP version 13\n\
                # 1..0 # SKIP no device\nok 2 selftests: x: two # SKIP\n";
    let report = read(text);
    assert_eq!(report.doubts, [""; 0]);
    assert_eq!(names(&report), [("selftests: x: one", Said::Ok), ("selftests: x: two", Said::Skip)]);
}

#[test]
fn a_parent_that_fails_by_itself_is_a_result() {
    let report = read("KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  ok 1 a\nnot ok 1 b\n");
    assert_eq!(names(&report), [("b/a", Said::Ok), ("b", Said::NotOk)]);
    assert_eq!(report.doubts, [""; 0]);
}

#[test]
fn a_log_is_no_result() {
    let report = read("KTAP version 1\n1..1\nokay 1 x\nnot okay\nok 1 a\n");
    assert_eq!(
        (names(&report), report.leaves[0].log.as_str()),
        (vec![("a", Said::Ok)], "okay 1 x\nnot okay\n")
    );
}

#[test]
fn a_timeout_is_a_failure_whatever_stands_before_it() {
    assert_eq!(names(&read("KTAP version 1\n1..1\nok 1 a # TIMEOUT 45 s\n")), [("a", Said::NotOk)]);
}
