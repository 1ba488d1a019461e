// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::run::Kernel;
use crate::samples::boot;
use crate::samples::cell;
use crate::samples::run;

fn bad(run: &RunResult) -> usize {
    columns(run).iter().flat_map(|column| &column.findings).filter(|finding| finding.verdict.is_bad()).count()
}

const OUTCOMES: [Outcome; 9] = [
    Outcome::Pass,
    Outcome::Fail,
    Outcome::Skip,
    Outcome::Missing,
    Outcome::Crash,
    Outcome::Timeout,
    Outcome::Flaky,
    Outcome::Xfail,
    Outcome::Notrun,
];

#[test]
fn something_is_bad_exactly_when_the_exit_code_is_not_0() {
    for class in PRECEDENCE {
        for outcome in OUTCOMES {
            let good = || cell("k", "a", Outcome::Pass, Class::Pass);
            let one = run(vec![good(), cell("k", "b", outcome, class)]);
            if one.exit_code.code() != 0 {
                assert!(bad(&one) > 0, "{class:?} {outcome:?}");
            }
            // A record whose classes are better than its outcomes is not a pass either.
            let hollow =
                matches!(outcome, Outcome::Fail | Outcome::Missing | Outcome::Crash | Outcome::Timeout);
            if class == Class::Pass {
                assert_eq!(bad(&one) > 0, hollow, "{outcome:?}");
            }
            let mut aside = run(vec![good(), Cell { required: false, ..cell("k", "b", outcome, class) }]);
            aside.conclude(None);
            if class != Class::Pass {
                assert_eq!((bad(&aside), aside.exit_code.code()), (0, 0), "{class:?} {outcome:?}");
            }
        }
        let mut run = run(vec![cell("k", "a", Outcome::Pass, Class::Pass)]);
        run.boots = vec![boot("k", class)];
        run.conclude(None);
        assert_eq!(bad(&run) > 0, class != Class::Pass, "a boot with {class:?}");
    }
}

#[test]
fn the_tests_of_a_series_are_told_once_with_their_files() {
    let mut run = run(vec![cell("k", "a", Outcome::Pass, Class::Pass)]);
    assert_eq!(own_tests(&run), None);
    let files: Vec<String> = (0..9).map(|at| format!("tools/testing/selftests/bpf/{at}.c")).collect();
    let kernel = |files: &[String]| Kernel { tests_changed: files.to_vec(), ..Kernel::default() };
    run.kernels = vec![kernel(&files[..1])];
    let told = own_tests(&run).expect("some");
    assert!(told.what.contains(" 1 file of") && told.what.ends_with("no suite of this run uses them"));
    run.kernels.push(kernel(&files));
    run.boots = vec![BootRecord { suite: "upstream".into(), ..boot("k", Class::Pass) }];
    let told = own_tests(&run).expect("some");
    assert!(told.what.ends_with("changes 9 files of the tree's BPF tests"), "{}", told.what);
    assert!(told.list().ends_with("bpf/7.c and 1 more"), "{}", told.list());
}

#[test]
fn nothing_and_an_interruption_are_told() {
    let nothing = run(Vec::new());
    assert_eq!((bad(&nothing), columns(&nothing)[0].findings[0].reason), (1, "nothing was judged"));
    let mut run = run(vec![cell("k", "a", Outcome::Pass, Class::Pass)]);
    run.conclude(Some(Class::Interrupted));
    let columns = columns(&run);
    let last = &columns[1].findings[0];
    assert_eq!(
        (columns[1].name(), last.verdict, last.word),
        ("run".to_owned(), TestStatus::Error, "interrupted")
    );
    assert_eq!(last.why(), "interrupted: no reason was given");
    assert_eq!(reasons(&columns).len(), 1);
}
