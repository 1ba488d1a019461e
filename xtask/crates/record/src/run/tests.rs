// SPDX-License-Identifier: MIT OR Apache-2.0
//! The exit code that follows from cells and boots.

use super::*;
use crate::outcome::Outcome;

fn cell(class: Class) -> Cell {
    Cell { variant: "v".into(), ..crate::samples::cell("k", "a", Outcome::Pass, class) }
}

fn boot_record(class: Class) -> BootRecord {
    BootRecord { variant: "v".into(), ..crate::samples::boot("k", class) }
}

#[test]
fn a_guest_whose_subtests_ran_again_is_told_by_them() {
    let mut run = RunResult::empty("", Vec::new());
    run.cells = vec![cell(Class::Flaky)];
    run.boots = vec![BootRecord { retried: true, ..boot_record(Class::Panic) }, boot_record(Class::Pass)];
    run.conclude(None);
    assert_eq!((run.exit_code.code(), run.boots[0].class), (5, Class::Panic));
    run.boots.push(boot_record(Class::Splat));
    run.conclude(None);
    assert_eq!(run.exit_code.code(), 4);
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
fn no_run_is_a_pass_without_a_test_that_passed_by_itself() {
    let mut all = Vec::new();
    for outcome in OUTCOMES {
        for class in PRECEDENCE {
            for (required, kernel) in [(true, "judged"), (false, "judged"), (true, "base"), (false, "base")] {
                all.push(Cell { outcome, required, kernel: kernel.into(), ..cell(class) });
            }
        }
    }
    let plain = |cell: &Cell| {
        (cell.outcome, cell.class, cell.required, cell.kernel == "judged")
            == (Outcome::Pass, Class::Pass, true, true)
    };
    let code = |cells: &[&Cell]| {
        let mut run = RunResult::empty("", Vec::new());
        let kernel = |id: &str, role| Kernel { id: id.into(), role, ..Kernel::default() };
        run.kernels = vec![kernel("base", Some(Role::Base)), kernel("judged", None)];
        run.cells = cells.iter().map(|cell| (*cell).clone()).collect();
        run.conclude(None);
        (run.exit_code.code(), run.has_no_evidence())
    };
    assert_eq!(all.iter().filter(|cell| plain(cell)).count(), 1);
    let without: Vec<&Cell> = all.iter().filter(|cell| !plain(cell)).collect();
    for one in &without {
        assert_ne!(code(&[one]).0, 0, "{one:?}");
        for other in without.iter().filter(|cell| matches!(cell.class, Class::Pass | Class::Incomplete)) {
            assert_ne!(code(&[one, other]).0, 0, "{one:?} {other:?}");
        }
    }
    let allowed = Cell { outcome: Outcome::Skip, required: false, ..cell(Class::Pass) };
    assert_eq!(code(&[&allowed]), (3, true));
    assert_eq!(code(&[&allowed, &Cell { outcome: Outcome::Flaky, ..cell(Class::Pass) }]), (3, true));
    let pass = Cell { kernel: "judged".into(), ..cell(Class::Pass) };
    assert_eq!(code(&[&allowed, &pass]), (0, false));
}

#[test]
fn nothing_at_all_is_not_a_pass_and_the_first_class_wins() {
    let mut run = RunResult::empty("", Vec::new());
    run.conclude(None);
    assert_eq!(run.exit_code.code(), Class::Usage.code());
    run.cells =
        vec![cell(Class::Pass), cell(Class::Incomplete), cell(Class::TestFailed), cell(Class::Incomplete)];
    run.conclude(None);
    assert_eq!((run.exit_code.code(), run.classes[&Class::Incomplete]), (1, 2));
    run.conclude(Some(Class::Interrupted));
    assert_eq!(run.exit_code.code(), 130);
}
