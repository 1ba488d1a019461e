// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use vmtest_base::error::Class;
use vmtest_record::load::Consoles;
use vmtest_record::run::BootRecord;
use vmtest_record::samples::{boot, cell, run};

/// A page that is larger is slow to open, and to attach to a mail.
const MAX_BYTES: usize = 1024 * 1024;

#[test]
fn a_page_has_at_most_one_megabyte() {
    let mut run = run(Vec::new());
    let mut consoles = Consoles::new();
    for kernel in 0..100 {
        let id = format!("k{kernel}");
        for test in 0..100 {
            let one = cell(&id, &format!("t{test}"), Outcome::Fail, Class::TestFailed);
            run.cells.push(Cell { reason: "why ".repeat(20), log: "line of a log\n".repeat(2000), ..one });
        }
        run.kernels.push(Kernel {
            id: id.clone(),
            series: vec!["a subject".into(); 200],
            ..Kernel::default()
        });
        let guest = boot(&id, Class::Panic);
        run.boots.push(BootRecord { directory: id.clone(), ..guest });
        consoles.insert(id, "[    1.0] a line of a console that says something\n".repeat(10_000));
    }
    run.conclude(None);
    let text = render(&Story { consoles: &consoles, ..Story::of(&run, "/r") });
    assert!(text.len() > MAX_BYTES / 2 && text.len() < MAX_BYTES, "{}", text.len());
    for what in ["id=\"c0\"", "id=\"g0\"", "more details in run.json", "more guests in run.json"] {
        assert!(text.contains(what), "{what}");
    }
}

/// Two patches on a base: `a` breaks with the first, `b` failed before, and the second does not build.
fn series(last: Class) -> vmtest_record::run::RunResult {
    let mut run = run(Vec::new());
    for at in 0..3 {
        let id = format!("k{at}");
        let subjects = ["bpf: break a test", "bpf: break the build"];
        run.kernels.push(Kernel {
            id: id.clone(),
            series: subjects[..at].iter().map(|one| (*one).to_owned()).collect(),
            role: Some(vmtest_record::run::Role::Step).filter(|_| at < 2),
            compared_to: at.checked_sub(1).map(|before| format!("k{before}")),
            ..Kernel::default()
        });
        for name in ["a", "b", "c", "d"] {
            let one = match (at, name) {
                (2, _) if last == Class::KernelBuild => {
                    let reason =
                        "k2 does not build\n  because: a.c:1:2: error: x\n  | 1 | int x <".to_owned();
                    Cell { reason, ..cell(&id, name, Outcome::Notrun, last) }
                }
                (1.., "a" | "d") | (_, "b") => {
                    let reason = "runs: expected 2, seen 1 (1 of 3)".to_owned();
                    let unmet = vec![vmtest_record::run::Expectation {
                        what: "runs".into(),
                        expected: "2".into(),
                        seen: "1".into(),
                    }];
                    Cell { reason, unmet, ..cell(&id, name, Outcome::Fail, Class::TestFailed) }
                }
                _ => cell(&id, name, Outcome::Pass, Class::Pass),
            };
            run.cells.push(one);
        }
        if at < 2 || last == Class::Pass {
            run.boots.push(boot(&id, Class::Pass));
        }
    }
    vmtest_record::reference_columns::settle(&mut run);
    vmtest_record::attribution::settle(&mut run, None);
    run.conclude(None);
    run
}

#[test]
fn a_failure_that_was_there_before_is_shown_once() {
    let text = render(&Story::of(&series(Class::Pass), "/r"));
    assert!(
        text.contains("<h1 class=\"fail\">patch 1/2 &quot;bpf: break a test&quot; breaks 2 tests (basic/a, "),
        "{text}"
    );
    assert_eq!(
        text.matches("<strong><a href=\"#c4\">basic/a</a></strong> and 1 more test on 1/2 bpf").count(),
        1
    );
    // The failing cells of patch 2 lead to those of patch 1, without colour and details of their own.
    assert!(
        text.contains("<td class=\"fail\"><a href=\"#c4\"")
            && text.contains("<td class=\"aside\"><a href=\"#c4\"")
    );
    assert!(!text.contains("id=\"c8\""), "{text}");
    assert!(
        text.contains("New: it passed on k0.") && text.contains("Not new, they fail there as well: basic/b.")
    );
    assert!(text.contains("<p class=\"answer fail\">Merge: no</p>"), "{text}");
    assert!(text.contains("Not new: this kernel is without the series."), "{text}");
    let row = |name: &str| {
        let (before, _) = text.split_once(&format!("<th scope=\"row\">{name}</th>")).expect("a row");
        before.rsplit_once("<tr").expect("its start").1.to_owned()
    };
    // It fails as before: not loud, but not folded away either.
    assert_eq!(
        ["a", "b", "c", "d"].map(row),
        [" class=\"\">", " class=\"\">", " class=\"quiet\">", " class=\"\">"]
    );
    // Expected and seen are a table, and not a sentence as well.
    let detail =
        text.split("id=\"c4\"").nth(1).and_then(|rest| rest.split("</article>").next()).expect("details");
    assert!(detail.contains("<code>2</code>") && !detail.contains("expected 2"), "{detail}");
    assert!(
        detail.contains("vmtest --test basic/a</code>") && detail.contains("selftests/bpf/basic.bpf.h"),
        "{detail}"
    );
}

#[test]
fn a_patch_that_does_not_build_keeps_the_lines_of_the_compiler() {
    let text = render(&Story::of(&series(Class::KernelBuild), "/r"));
    assert!(text.contains("because: a.c:1:2: error: x\n  | 1 | int x &lt;</pre>"), "{text}");
    assert!(
        text.contains("<a href=\"#p0-2\">none of the 4 tests ran</a></strong> on 2/2 bpf: break the build"),
        "{text}"
    );
    assert!(
        text.contains("<a href=\"#p0-2\">2/2 bpf: break the build</a>") && text.contains("id=\"p0-2\""),
        "{text}"
    );
}

#[test]
fn a_check_leads_to_its_patch_and_its_title_does_not_repeat_it() {
    use vmtest_record::series::{Check, CheckState};
    let mut run = series(Class::Pass);
    let check = |state| Check {
        state,
        summary: "adds a warning".into(),
        lines: vec!["a.c:1: warning".into()],
        duration_ms: 0,
    };
    run.kernels[1].checks = [("warnings".to_owned(), check(CheckState::Bad))].into();
    run.kernels[2].same_as = Some("k1".into());
    run.kernels[2].checks = [("uapi".to_owned(), check(CheckState::Unknown))].into();
    vmtest_record::attribution::settle(&mut run, None);
    run.conclude(None);
    let text = render(&Story::of(&run, "/r"));
    let link = "<span class=\"badge fail\">fail</span> <strong><a href=\"#p0-1\">warnings</a></strong> \
                on 1/2 bpf: break a test<div class=\"reason\">adds a warning</div>\
                <pre tabindex=\"0\" aria-label=\"Output of the check\">a.c:1: warning</pre>";
    assert!(text.contains(link), "{text}");
    let unknown = "<span class=\"badge lost\">not checked</span> <strong><a href=\"#p0-2\">uapi</a></strong> \
                   on 2/2 bpf: break the build<div";
    assert!(text.contains(unknown), "{text}");
    assert!(text.contains("<td data-label=\"boots\">as 1/2</td>"), "{text}");
    assert!(
        text.contains("2/2 bpf: break the build was not booted: its kernel is the same as that of 1/2"),
        "{text}"
    );
}

#[test]
fn the_console_of_a_guest_in_which_a_test_failed_is_there_and_nothing_is_said_without_a_value() {
    let mut run = run(vec![cell("k", "a", Outcome::Fail, Class::TestFailed)]);
    run.boots.push(BootRecord { directory: "cells/k".into(), ..boot("k", Class::Pass) });
    run.conclude(None);
    let consoles = Consoles::from([("cells/k".to_owned(), "[    1.0] last words\n".to_owned())]);
    let text = render(&Story { consoles: &consoles, ..Story::of(&run, "/r") });
    assert!(
        text.contains("[    1.0] last words") && text.contains("<code>/r/cells/k/console.log</code>"),
        "{text}"
    );
    assert!(text.contains("<td>direct</td>") && text.contains("<td>tcg</td>"), "{text}");
    run.boots[0].directory = String::new();
    assert!(!render(&Story::of(&run, "/r")).contains("Whole console"));
}

#[test]
fn numbers_at_the_end_of_a_reason_are_explained_and_other_words_are_kept() {
    let counted = ["runs: expected 2, seen 1 (1 of 3)", "fails (one of many)", "a (1 of 2) b", ""];
    let expected =
        ["runs: expected 2, seen 1 (1 of 3 expectations failed)", "fails (one of many)", "a (1 of 2) b", ""];
    assert_eq!(counted.map(detail::counted), expected);
}

#[test]
fn a_plain_failure_is_not_purple_and_passing_tests_are_folded() {
    let mut run = run(vec![
        cell("k", "a", Outcome::Fail, Class::TestFailed),
        cell("k", "b", Outcome::Pass, Class::Pass),
    ]);
    let text = render(&Story::of(&run, "/r"));
    assert!(
        !text.contains("badge dead") && text.contains("id=\"filter-bad\" type=\"checkbox\" checked"),
        "{text}"
    );
    assert!(
        text.contains("<details class=\"group bad loud\" open>") && text.contains("<tr class=\"quiet\">"),
        "{text}"
    );
    run.cells.remove(0);
    run.conclude(None);
    let text = render(&Story::of(&run, "/r"));
    assert!(
        text.contains("<details class=\"group\">")
            && text.contains("1/1")
            && !text.contains("id=\"filter-bad\""),
        "{text}"
    );
}

#[test]
fn the_sources_of_our_tests_are_there() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../selftests/bpf");
    let names = std::fs::read_dir(dir)
        .expect("the BPF programs")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut groups: Vec<String> =
        names.filter_map(|name| Some(name.strip_suffix(".bpf.h")?.to_owned())).collect();
    // Programs that several groups use.
    let shared = ["vmtest", "bounds", "code", "tailcalls", "targets"];
    groups.retain(|group| !shared.contains(&&group[..]));
    groups.sort_unstable();
    assert_eq!(groups, detail::BPF_GROUPS);
}

#[test]
fn the_console_of_a_good_kernel_is_not_evidence() {
    let side = |verdict: &str| vmtest_record::bisection::Subject {
        verdict: verdict.into(),
        console: vec![format!("last words of the {verdict} one")],
        ..Default::default()
    };
    let report = vmtest_record::bisection::Bisection {
        before: vec![side("good")],
        after: Some(side("bad")),
        ..Default::default()
    };
    for text in [bisection_page(&report), crate::bisect::text(&report), crate::bisect::markdown(&report)] {
        assert!(text.contains("last words of the bad one") && !text.contains("of the good one"), "{text}");
    }
}
