// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answer of one run, for every outcome of a cell and every way a boot can end.

use super::*;
use vmtest_record::run::Kernel;
use vmtest_record::run::SplatRecord;
use vmtest_record::samples::boot;
use vmtest_record::samples::cell;
use vmtest_record::samples::run;

fn question(asked: Asked) -> Question {
    Question {
        asked,
        tests: vec!["basic".to_owned()],
        title: None,
        find_fix: false,
        sought: None,
        passes: BTreeSet::new(),
    }
}

/// One boot of this class with these cells.
fn one(class: Class, cells: &[(Outcome, Class)]) -> RunResult {
    let cells = cells.iter().enumerate().map(|(at, (outcome, class))| {
        let mut cell = cell("k", &format!("t{at}"), *outcome, *class);
        cell.reason =
            if *outcome == Outcome::Pass { String::new() } else { "the session ran 1 times".into() };
        cell
    });
    let mut run = run(cells.collect());
    run.boots = vec![boot("k", class)];
    run.boots[0].reason = if class == Class::Pass { String::new() } else { "BUG: at 0x1234, line 17".into() };
    run
}

const PASS: (Outcome, Class) = (Outcome::Pass, Class::Pass);
const FAIL: (Outcome, Class) = (Outcome::Fail, Class::TestFailed);
const SKIP: (Outcome, Class) = (Outcome::Skip, Class::Incomplete);
const MISSING: (Outcome, Class) = (Outcome::Missing, Class::Incomplete);
const CRASH: (Outcome, Class) = (Outcome::Crash, Class::Panic);
const TIMEOUT: (Outcome, Class) = (Outcome::Timeout, Class::Hang);
const XFAIL: (Outcome, Class) = (Outcome::Xfail, Class::Pass);

#[test]
fn every_boot_and_cell_has_one_answer_to_each_question() {
    use Asked::{Fail, Hang, Panic, Splat};
    use Verdict::{Bad, Good, Skip};
    type Row<'a> = (Class, &'a [(Outcome, Class)], [Verdict; 4]);
    let rows: [Row<'_>; 19] = [
        //                                       fail  panic hang  splat
        (Class::Pass, &[PASS, PASS], [Good, Good, Good, Good]),
        (Class::Pass, &[PASS, FAIL], [Bad, Good, Good, Good]),
        (Class::Pass, &[PASS, SKIP], [Bad, Good, Good, Good]),
        (Class::Pass, &[PASS, XFAIL], [Good, Good, Good, Good]),
        (Class::Pass, &[XFAIL], [Skip, Good, Good, Good]),
        (Class::Pass, &[PASS, MISSING], [Skip, Skip, Skip, Skip]),
        (Class::Pass, &[], [Skip, Skip, Skip, Skip]),
        (Class::Splat, &[PASS], [Good, Good, Good, Skip]),
        (Class::Panic, &[PASS, CRASH], [Skip, Bad, Skip, Skip]),
        (Class::Panic, &[FAIL, CRASH], [Bad, Bad, Skip, Skip]),
        (Class::Panic, &[PASS, PASS], [Skip, Skip, Skip, Skip]),
        (Class::Panic, &[(Outcome::Notrun, Class::Panic)], [Skip, Skip, Skip, Skip]),
        (Class::Hang, &[PASS, TIMEOUT], [Skip, Skip, Bad, Skip]),
        (Class::Hang, &[PASS, PASS], [Skip, Skip, Skip, Skip]),
        (Class::WallClock, &[PASS, (Outcome::Timeout, Class::WallClock)], [Skip, Skip, Skip, Skip]),
        (Class::GuestLost, &[PASS, (Outcome::Crash, Class::GuestLost)], [Skip, Skip, Skip, Skip]),
        (Class::BootFailed, &[(Outcome::Notrun, Class::BootFailed)], [Skip, Skip, Skip, Skip]),
        (Class::RunnerDied, &[PASS, MISSING], [Skip, Skip, Skip, Skip]),
        (Class::Host, &[(Outcome::Fail, Class::Host)], [Skip, Skip, Skip, Skip]),
    ];
    for (class, cells, verdicts) in rows {
        for (asked, verdict) in [Fail, Panic, Hang, Splat].into_iter().zip(verdicts) {
            let finding = question(asked).judge(&one(class, cells)).expect("no interruption");
            assert_eq!(finding.verdict, verdict, "{class:?} {cells:?} {asked:?}: {}", finding.why);
            assert!(!finding.why.is_empty(), "{class:?} {cells:?} {asked:?}");
        }
    }
}

#[test]
fn what_comes_before_the_boot_is_never_an_answer_but_to_its_own_question() {
    for (class, asked, verdict) in [
        (Class::KernelBuild, Asked::Fail, Verdict::Never),
        (Class::KernelBuild, Asked::Panic, Verdict::Never),
        (Class::KernelBuild, Asked::Build, Verdict::Bad),
        (Class::SeriesDoesNotApply, Asked::Build, Verdict::Never),
        (Class::OptionLost, Asked::Build, Verdict::Never),
        (Class::Host, Asked::Build, Verdict::Skip),
        (Class::Host, Asked::Fail, Verdict::Skip),
    ] {
        let mut run = one(class, &[(Outcome::Notrun, class)]);
        run.boots.clear();
        let finding = question(asked).judge(&run).expect("no interruption");
        assert_eq!(finding.verdict, verdict, "{class:?} {asked:?}: {}", finding.why);
    }
    let mut built = one(Class::Pass, &[]);
    built.boots.clear();
    assert_eq!(question(Asked::Build).judge(&built).expect("judged").verdict, Verdict::Skip);
    built.kernels = vec![Kernel { release: "6.18".into(), toolchain: "gcc".into(), ..Kernel::default() }];
    assert_eq!(question(Asked::Build).judge(&built).expect("judged").verdict, Verdict::Good);
}

#[test]
fn an_interruption_is_no_verdict() {
    for asked in [Asked::Fail, Asked::Panic, Asked::Hang, Asked::Splat, Asked::Build] {
        let run = one(Class::Interrupted, &[PASS, (Outcome::Notrun, Class::Interrupted)]);
        assert_eq!(question(asked).judge(&run).expect_err("none").class, Class::Interrupted);
    }
}

#[test]
fn another_bug_of_the_same_class_is_a_skip() {
    let run = one(Class::Panic, &[CRASH]);
    let mut asked = question(Asked::Panic);
    let finding = asked.judge(&run).expect("judged");
    asked.learn(&finding, &run);
    assert_eq!(asked.sought.as_deref(), Some("BUG: at #, line #"));
    let mut other = run.clone();
    other.boots[0].reason = "BUG: at 0xffff, line 21".into();
    assert_eq!(asked.judge(&other).expect("judged").verdict, Verdict::Bad, "numbers aside it is the same");
    other.boots[0].reason = "general protection fault".into();
    let finding = asked.judge(&other).expect("judged");
    assert_eq!(
        (finding.verdict, finding.why.as_str()),
        (Verdict::Skip, "a different one: general protection fault")
    );
    asked.title = Some("protection|BUG".into());
    assert_eq!(asked.judge(&other).expect("judged").verdict, Verdict::Bad, "--title overrules it");
    asked.title = Some("KASAN".into());
    assert_eq!(asked.judge(&run).expect("judged").verdict, Verdict::Skip);

    let splat = |title: &str| SplatRecord {
        kernel: "k".into(),
        variant: String::new(),
        title: title.into(),
        during: String::new(),
        severity: "splat".into(),
        attempt: None,
        allowed: None,
        lines: Vec::new(),
        stack: Vec::new(),
        no_stack: String::new(),
    };
    let mut run = one(Class::Splat, &[PASS]);
    run.splats = vec![splat("WARNING: at a.c:1"), splat("WARNING: at b.c:2")];
    let mut asked = question(Asked::Splat);
    asked.sought = Some(shape("WARNING: at b.c:77"));
    assert_eq!(asked.judge(&run).expect("judged").verdict, Verdict::Bad);
    run.splats.pop();
    assert_eq!(asked.judge(&run).expect("judged").verdict, Verdict::Skip, "the detector may be off by now");

    let mut asked = question(Asked::Fail);
    asked.title = Some("ran 2 times".into());
    let finding = asked.judge(&one(Class::Pass, &[FAIL])).expect("judged");
    assert_eq!(finding.verdict, Verdict::Skip);
    assert!(finding.why.starts_with("a different failure"), "{}", finding.why);
}

#[test]
fn a_panic_without_a_test_counts_only_where_none_is_asked_for() {
    let mut asked = question(Asked::Panic);
    asked.tests.clear();
    let run = one(Class::Panic, &[(Outcome::Notrun, Class::Panic)]);
    assert_eq!(asked.judge(&run).expect("judged").verdict, Verdict::Bad);
}

#[test]
fn a_test_that_is_gone_is_no_pass() {
    let mut asked = question(Asked::Fail);
    let run = one(Class::Pass, &[PASS, PASS]);
    let finding = asked.judge(&run).expect("judged");
    asked.learn(&finding, &run);
    assert_eq!(asked.passes.len(), 2);
    assert_eq!(asked.judge(&run).expect("judged").verdict, Verdict::Good);
    assert_eq!(asked.judge(&one(Class::Pass, &[PASS])).expect("judged").verdict, Verdict::Skip);
}

#[test]
fn cells_that_were_never_to_run_say_nothing() {
    let mut run = one(Class::Pass, &[PASS, (Outcome::Notrun, Class::Pass)]);
    run.cells[1].required = false;
    assert_eq!(question(Asked::Fail).judge(&run).expect("judged").verdict, Verdict::Good);
    run.cells.remove(0);
    assert_eq!(question(Asked::Fail).judge(&run).expect("judged").verdict, Verdict::Skip);
}
