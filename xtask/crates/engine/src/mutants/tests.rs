// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::mutants::samples::mutant;
use vmtest_record::run::Kernel;
use vmtest_record::samples::boot;
use vmtest_record::samples::cell;

const MAIL: &str = "From: A <a@example.org>\nSubject: [PATCH] bpf: lose the cookie\n\nOn purpose.\n\n\
                    Breaks: the cookie of a session is\n that of another\nNoticed-by: basic/cookie*, splat\n\
                    noticed-by: other\nNot: this\n  nor this\n---\nNoticed-by: after/the/line\n";

#[test]
fn fields_are_read_from_the_mail_alone() {
    assert_eq!(field(MAIL, BREAKS), ["the cookie of a session is that of another"]);
    assert_eq!(field(MAIL, NOTICED_BY), ["basic/cookie*, splat", "other"]);
    assert_eq!(field("Breaks:\n", BREAKS), [""; 0]);
}

/// A column with these outcomes of `basic/a` and `basic/b`, and this class of the boot.
fn column(outcomes: [Outcome; 2], class: Class) -> ColumnResult {
    let cells = ["a", "b"].into_iter().zip(outcomes).map(|(name, outcome)| cell("k", name, outcome, class));
    ColumnResult {
        kernel: Kernel::default(),
        boot: Some(boot("k", class)),
        again: Vec::new(),
        cells: cells.collect(),
        splats: Vec::new(),
    }
}

fn verdict(signs: &[&str], outcomes: [Outcome; 2], class: Class) -> MutantStatus {
    let control = column([Outcome::Pass, Outcome::Pass], Class::Pass);
    judge(&mutant(signs), &control, &column(outcomes, class)).verdict
}

use Outcome::{Crash, Fail, Missing, Notrun, Pass, Skip, Timeout};

#[test]
fn each_glob_needs_a_cell_that_does_not_pass_any_more() {
    for outcome in [Fail, Skip, Timeout] {
        assert_eq!(verdict(&["basic/a"], [outcome, Pass], Class::Pass), MutantStatus::Noticed);
    }
    assert_eq!(verdict(&["basic"], [Pass, Fail], Class::Pass), MutantStatus::Noticed);
    assert_eq!(verdict(&["basic/a", "basic/b"], [Fail, Pass], Class::Pass), MutantStatus::Unnoticed);
    assert_eq!(verdict(&["basic/a"], [Pass, Fail], Class::Pass), MutantStatus::Unnoticed);
    assert_eq!(verdict(&["basic/*"], [Pass, Pass], Class::Pass), MutantStatus::Unnoticed);
    assert_eq!(verdict(&[], [Fail, Fail], Class::Pass), MutantStatus::Unnoticed);
    for never_ran in [Missing, Notrun] {
        assert_eq!(verdict(&["basic/*"], [never_ran, never_ran], Class::Pass), MutantStatus::Unnoticed);
    }
}

#[test]
fn a_kernel_that_dies_or_complains_counts_only_where_that_was_said() {
    assert_eq!(verdict(&["basic/a"], [Crash, Missing], Class::Panic), MutantStatus::Unnoticed);
    assert_eq!(verdict(&["panic"], [Crash, Missing], Class::Panic), MutantStatus::Noticed);
    assert_eq!(verdict(&["panic", "basic/b"], [Crash, Missing], Class::Panic), MutantStatus::Unnoticed);
    assert_eq!(verdict(&["panic"], [Fail, Pass], Class::Pass), MutantStatus::Unnoticed);
    assert_eq!(verdict(&["corruption"], [Crash, Missing], Class::Panic), MutantStatus::Noticed);
    assert_eq!(verdict(&["corruption"], [Pass, Pass], Class::Splat), MutantStatus::Noticed);
    assert_eq!(verdict(&["corruption"], [Fail, Fail], Class::Pass), MutantStatus::Unnoticed);
    assert_eq!(verdict(&["corruption"], [Crash, Missing], Class::GuestLost), MutantStatus::Unnoticed);
    assert_eq!(verdict(&["basic/a"], [Fail, Pass], Class::Splat), MutantStatus::Unnoticed);
    assert_eq!(verdict(&["splat"], [Pass, Pass], Class::Splat), MutantStatus::Noticed);
    assert_eq!(verdict(&["hang"], [Timeout, Missing], Class::Hang), MutantStatus::Noticed);
    for class in [Class::GuestLost, Class::BootFailed, Class::RunnerDied] {
        assert_eq!(verdict(&["panic", "hang", "basic/*"], [Crash, Crash], class), MutantStatus::Unnoticed);
    }
}

#[test]
fn what_did_not_pass_without_the_mutant_proves_nothing() {
    let control = column([Skip, Pass], Class::Pass);
    let seen = column([Fail, Pass], Class::Pass);
    assert_eq!(judge(&mutant(&["basic/*"]), &control, &seen).verdict, MutantStatus::Unnoticed);
    let control = column([Crash, Missing], Class::Panic);
    assert_eq!(judge(&mutant(&["basic/*"]), &control, &seen).verdict, MutantStatus::NotJudged(Class::Panic));
}

#[test]
fn what_was_never_built_or_judged_is_never_noticed() {
    let control = column([Pass, Pass], Class::Pass);
    for (class, verdict) in [
        (Class::KernelBuild, MutantStatus::Broken),
        (Class::SeriesDoesNotApply, MutantStatus::Broken),
        (Class::Host, MutantStatus::NotJudged(Class::Host)),
        (Class::Interrupted, MutantStatus::NotJudged(Class::Interrupted)),
    ] {
        let mut seen = column([Notrun, Notrun], class);
        seen.boot = None;
        assert_eq!(judge(&mutant(&["basic/*"]), &control, &seen).verdict, verdict);
        assert_ne!(verdict.class(), Class::Pass);
    }
    assert_eq!(verdict(&["basic/*"], [Fail, Fail], Class::Host), MutantStatus::NotJudged(Class::Host));
    assert_eq!(MutantStatus::NotJudged(Class::Pass).class(), Class::Incomplete);
}

#[test]
fn a_glob_has_to_match_a_subtest() {
    let subtests = [TestName { test: "basic".into(), subtest: "a".into() }];
    check(&[mutant(&["basic/*", "basic", "panic"])], &subtests).expect("they match");
    let error = check(&[mutant(&["basic/b"])], &subtests).expect_err("no match").to_string();
    assert!(error.contains("m: `Noticed-by: basic/b` matches no subtest"), "{error}");
}
