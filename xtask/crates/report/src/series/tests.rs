// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use vmtest_record::series::{Check, PatchInfo};

fn patch(number: usize) -> PatchRecord {
    PatchRecord {
        number,
        info: PatchInfo { subject: format!("bpf: subject {number}"), ..PatchInfo::default() },
        kernel: format!("k{number}"),
        applies: State::Yes,
        builds: State::Yes,
        boots: State::Yes,
        ..PatchRecord::default()
    }
}

fn series(patches: Vec<PatchRecord>) -> SeriesRecord {
    let bad = patches.iter().any(PatchRecord::is_bad);
    SeriesRecord {
        verdict: if bad { Verdict::Bad } else { Verdict::Good },
        patches,
        ..SeriesRecord::default()
    }
}

fn names(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("cookie/test_{number}")).collect()
}

#[test]
fn the_sentence_says_which_patch_breaks_what_and_what_is_fine() {
    let broken = PatchRecord { breaks: names(8), ..patch(2) };
    assert_eq!(
        sentence(&series(vec![patch(1), broken.clone(), patch(3)])),
        "patch 2/3 \"bpf: subject 2\" breaks 8 tests (cookie/test_1, cookie/test_2, cookie/test_3, ..); \
         patches 1 and 3 are fine; all build and boot"
    );
    let unbuilt = PatchRecord {
        builds: State::No,
        boots: State::Unknown,
        because: "kernel/bpf/a.c:1:2: error: x".into(),
        ..patch(4)
    };
    assert_eq!(
        sentence(&series(vec![patch(1), broken, patch(3), unbuilt.clone()])),
        "patch 2/4 \"bpf: subject 2\" breaks 8 tests (cookie/test_1, cookie/test_2, cookie/test_3, ..); \
         patch 4 breaks the build: kernel/bpf/a.c:1:2: error: x; patches 1 and 3 are fine"
    );
    let after = PatchRecord { number: 5, inherited: true, ..unbuilt.clone() };
    let text = sentence(&series(vec![patch(1), patch(2), patch(3), unbuilt, after]));
    assert!(text.ends_with("; patches 1 to 3 are fine"), "{text}");
    let mut more = series(vec![patch(1), PatchRecord { breaks: names(1), ..patch(2) }]);
    more.fails = vec!["cookie/test_1".into(), "upstream: fsession".into()];
    let text = sentence(&more);
    assert!(text.contains("; the whole series fails 1 test (upstream: fsession); patch 1 is fine"), "{text}");
    let alone = PatchRecord { breaks: names(1), ..patch(1) };
    assert_eq!(
        sentence(&series(vec![alone])),
        "patch 1/1 \"bpf: subject 1\" breaks 1 test (cookie/test_1); it builds and boots"
    );
}

#[test]
fn a_good_series_is_said_to_be_good_and_an_unjudged_one_is_not() {
    let helps = PatchRecord { fixes: names(2), ..patch(2) };
    let mut good = series(vec![patch(1), helps]);
    assert_eq!(
        sentence(&good),
        "all 2 patches apply, build and boot, and none breaks a test; 2 tests start to pass"
    );
    good.verdict = Verdict::Unjudged;
    good.unjudged = "patch 1: no result".into();
    let text = sentence(&good);
    assert!(text.starts_with("the series is not judged: patch 1: no result"), "{text}");
}

#[test]
fn checks_and_stages_are_in_the_row_of_their_patch() {
    let check =
        |state, summary: &str| Check { state, summary: summary.into(), lines: Vec::new(), duration_ms: 1 };
    let mut one = patch(1);
    assert_eq!(result(&one), "fine");
    one.checks.insert("btf".into(), check(CheckState::Info, "changes 1 type"));
    assert_eq!(result(&one), "changes 1 type");
    one.checks.insert("warnings".into(), check(CheckState::Bad, "adds 2 compiler warnings"));
    assert_eq!(result(&one), "adds 2 compiler warnings; changes 1 type");
    let text = sentence(&series(vec![one]));
    assert!(text.starts_with("patch 1/1 \"bpf: subject 1\" adds 2 compiler warnings; it builds"), "{text}");
    let stuck = PatchRecord {
        applies: State::No,
        builds: State::Unknown,
        boots: State::Unknown,
        because: "patch 2 of 3 (2.patch, \"x\") does not apply: kernel/a.c: wrong base".into(),
        ..patch(2)
    };
    assert_eq!(result(&stuck), "does not apply: kernel/a.c: wrong base");
    let untried =
        PatchRecord { applies: State::Unknown, builds: State::Unknown, boots: State::Unknown, ..patch(3) };
    assert_eq!(result(&untried), "not tested");
}

#[test]
fn the_story_of_a_patch_names_a_group_with_many_tests_once() {
    let fixes = [names(34), vec!["tools/link_show".to_owned(), "tools/link".to_owned()]].concat();
    let helps = PatchRecord { fixes, ..patch(1) };
    assert_eq!(
        story(&series(vec![helps])),
        ["patch 1/1 \"bpf: subject 1\" lets 36 tests (cookie/* 34, tools/link_show, tools/link) pass"]
    );
}

#[test]
fn numbers_are_read_as_a_person_would_write_them() {
    assert_eq!(numbers(&[1]), "1");
    assert_eq!(numbers(&[1, 2]), "1 and 2");
    assert_eq!(numbers(&[1, 2, 3, 4, 6]), "1 to 4 and 6");
    assert_eq!(numbers(&[1, 3, 5]), "1, 3 and 5");
}
