// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use vmtest_base::error::Class;
use vmtest_record::bisection::Step;
use vmtest_record::bisection::Subject;

fn report() -> Bisection {
    let subject = |name: &str, verdict: &str, why: &str| Subject {
        name: name.into(),
        subject: format!("bpf: {name}"),
        verdict: verdict.into(),
        why: why.into(),
        runs: [1, 0],
        directory: "/runs/x/steps/1".into(),
        again: "cargo xtask vmtest --kernel x".into(),
        ..Subject::default()
    };
    let step = |name: &str, verdict: &str| Step {
        name: name.into(),
        verdict: verdict.into(),
        why: "a | b".into(),
        purpose: "end".into(),
        ..Step::default()
    };
    Bisection {
        summary: "first bad commit: bbb (bpf: bbb)".into(),
        question: "First bad commit".into(),
        answer: "found".into(),
        directory: "/runs/x".into(),
        first: Some(Subject { commit: "bbbbbb".into(), author: "A <a@b>".into(), ..Subject::default() }),
        before: vec![subject("aaa", "good", "all 3 tests passed")],
        after: Some(subject("bbb", "bad", "basic/x fail: it ran twice")),
        path: vec![step("bbb", "bad"), step("aaa", "good"), step("aaa", "good")],
        history: 9,
        boots: 3,
        duration_s: 12.3,
        exit_code: Class::Pass,
        notes: vec!["a note".into()],
        ..Bisection::default()
    }
}

#[test]
fn the_text_tells_the_culprit_first_and_the_code_last() {
    let text = text(&report());
    assert!(
        text.starts_with("first bad commit: bbb (bpf: bbb)\n    commit  bbbbbb\n    author  A <a@b>\n"),
        "{text}"
    );
    assert!(text.ends_with("note: a note\n\nrun:    /runs/x\nexit 0: found\n"), "{text}");
    assert!(text.contains("path: 2 of 10 kernels tested, 3 boot(s), 12 s\n"), "{text}");
    assert!(text.contains("end     good x2 aaa\n"), "{text}");
    assert!(text.contains("bad bbb (bpf: bbb)\n    1 run: basic/x fail: it ran twice\n"), "{text}");
}

#[test]
fn markdown_has_whole_tables() {
    let text = markdown(&report());
    assert!(text.contains("| end | good | 2 | aaa | a \\| b |\n"), "{text}");
    assert!(text.contains("- Commit: bbbbbb\n") && text.contains("## bad bbb (bpf: bbb)\n"), "{text}");
}
