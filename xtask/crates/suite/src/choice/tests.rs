// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

fn tests() -> BTreeMap<String, String> {
    ["fsession_test", "tracing_failure", "kprobe_multi_test", "uprobe_multi_test", "varlen", "tailcalls"]
        .iter()
        .map(|name| ((*name).to_owned(), (*name).to_owned()))
        .chain([("kprobe_multi_bench_attach".to_owned(), "kprobe_multi_test".to_owned())])
        .collect()
}

fn chosen(globs: &[&str], ignore: bool) -> Choice {
    let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
    let deny = deny_list("# TEMPORARY\nvarlen    # sums\n\ntailcalls/tailcall_bpf2bpf*\t\t# no\tmixing\n");
    let tests = tests();
    let offer = Offer { tests: &tests, measures: &|file| file == "uprobe_multi_test", deny: &deny };
    choose(&globs, offer, ignore, &|glob| glob == "basic/*").expect("well-formed")
}

fn names(choice: &Choice) -> Vec<&str> {
    choice.chosen.iter().map(|chosen| chosen.name.as_str()).collect()
}

#[test]
fn globs_choose_tests_and_subtests() {
    let some = chosen(&["fsession_test", "tracing_failure/*", "uprobe_multi_test/session*"], false);
    assert_eq!(names(&some), ["fsession_test", "tracing_failure", "uprobe_multi_test"]);
    assert!(some.chosen[0].is_whole() && some.chosen[1].is_whole() && !some.chosen[2].is_whole());
    assert!(some.chosen[2].wants("session_cookie") && !some.chosen[2].wants("skel_api"));
    assert_eq!(chosen(&["uprobe_multi_test/session", "uprobe_multi_test"], true).chosen[0].subtests, [""; 0]);
}

#[test]
fn what_the_tree_lacks_is_absent_unless_another_suite_has_it() {
    let some = chosen(&["nope", "fsession_test/x", "none*/y", "basic/*"], false);
    let absent: Vec<String> = some.absent.iter().map(TestName::path).collect();
    assert_eq!((names(&some), absent), (vec!["fsession_test"], vec!["nope".into(), "none*/y".to_owned()]));
    let default = chosen(&[], false);
    assert!(default.absent.iter().any(|name| name.test == "fexit_bpf2bpf"));
    assert_eq!(default.chosen.len(), 4);
}

#[test]
fn benchmarks_run_only_when_they_are_named() {
    assert!(!names(&chosen(&["*"], true)).contains(&"kprobe_multi_bench_attach"));
    assert_eq!(names(&chosen(&["*bench*"], true)), ["kprobe_multi_bench_attach"]);
    let uprobe = chosen(&["uprobe_multi_test"], true);
    assert!(!uprobe.chosen[0].wants("bench_usdt") && !uprobe.chosen[0].is_whole());
    assert!(chosen(&["uprobe_multi_test/bench_usdt"], true).chosen[0].wants("bench_usdt"));
}

#[test]
fn the_deny_list_is_honoured_and_shown() {
    let some = chosen(&["varlen", "tailcalls"], false);
    assert_eq!(names(&some), ["tailcalls"]);
    assert!(!some.chosen[0].wants("tailcall_bpf2bpf_1") && some.chosen[0].wants("tailcall_1"));
    let denied: Vec<String> = some.denied.iter().map(|(name, _)| name.path()).collect();
    assert_eq!(denied, ["tailcalls/tailcall_bpf2bpf*", "varlen"]);
    assert!(some.denied[1].1.contains("sums"));
    let all = chosen(&["varlen", "tailcalls"], true);
    assert_eq!((all.chosen.len(), all.denied.len()), (2, 0));
    assert!(all.chosen[0].is_whole());
}

#[test]
fn patterns_that_test_progs_does_not_know_are_refused() {
    for glob in ["a/b?", "a/{b,c}", "a/b,c", "["] {
        assert!(check(&[glob.to_owned()]).is_err(), "{glob}");
    }
    assert!(check(&["fs*_test/*cookie*".to_owned()]).is_ok());
    assert!(star_matches("a*c", "abc") && !star_matches("a.c", "abc") && star_matches("*", ""));
}
