// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

fn checks(held: &[bool]) -> Checks {
    let mut checks = Checks::default();
    for &ok in held {
        checks.eq("x", u32::from(ok), 1);
    }
    checks
}

#[test]
fn nothing_checked_is_never_a_pass() {
    assert_eq!(checks(&[]).verdict(None).outcome, GuestOutcome::Fail);
    assert_eq!(checks(&[true]).verdict(None).outcome, GuestOutcome::Pass);
}

#[test]
fn a_failure_says_what_was_expected_and_seen() {
    let verdict = checks(&[true, false, true]).verdict(None);
    assert_eq!(verdict.outcome, GuestOutcome::Fail);
    assert_eq!(verdict.reason, "x: expected 1, seen 0 (1 of 3)");
    assert_eq!(verdict.seen.len(), 1);
}

#[test]
fn a_figure_is_kept_only_of_a_pass() {
    for (held, kept) in [(true, "7 ns"), (false, "")] {
        let mut checks = checks(&[held]);
        checks.measured("7 ns");
        assert_eq!(checks.verdict(None).measured, kept);
    }
}

#[test]
fn trouble_is_a_failure_even_when_all_held() {
    assert_eq!(checks(&[true]).verdict(Some("no link".into())).outcome, GuestOutcome::Fail);
}

#[test]
fn turned_round_nothing_passes() {
    for held in [&[][..], &[true], &[false], &[true, true], &[true, false], &[false, true]] {
        for (bug, skip) in [(false, false), (true, false), (false, true)] {
            let mut checks = checks(held);
            if bug {
                checks.expect_failure("known");
            }
            if skip {
                checks.skip("absent");
            }
            checks.turn_round();
            assert_eq!(checks.verdict(None).outcome, GuestOutcome::Fail, "{held:?} {bug} {skip}");
        }
    }
}

#[test]
fn a_skip_needs_expectations_that_held() {
    for (held, expected) in [
        (&[true][..], GuestOutcome::Skip),
        (&[], GuestOutcome::Fail),
        (&[false], GuestOutcome::Fail),
        (&[true, false], GuestOutcome::Fail),
    ] {
        let mut checks = checks(held);
        checks.skip("absent");
        assert_eq!(checks.verdict(None).outcome, expected, "{held:?}");
    }
    let mut checks = checks(&[true]);
    checks.skip("absent");
    assert_eq!(checks.verdict(Some("no BTF".into())).outcome, GuestOutcome::Fail);
}

#[test]
fn a_known_bug_is_xfail_and_its_absence_is_told() {
    let mut known = checks(&[false]);
    known.expect_failure("mainline bug");
    assert_eq!(known.verdict(None).outcome, GuestOutcome::Xfail);
    let mut gone = checks(&[true]);
    gone.expect_failure("mainline bug");
    let verdict = gone.verdict(None);
    assert_eq!(verdict.outcome, GuestOutcome::Pass);
    assert!(verdict.reason.starts_with("unexpected pass"));
}

#[test]
fn a_known_bug_of_one_expectation_excuses_no_other() {
    let verdict = |bug: Option<&str>, of_it: bool, other: bool| {
        let mut checks = checks(&[other]);
        checks.state_with_bug(bug, "of it", "1", "0", of_it);
        checks.verdict(None)
    };
    let known = verdict(Some("known"), false, true);
    assert_eq!((known.outcome, known.reason.as_str()), (GuestOutcome::Xfail, "known"));
    for (bug, of_it, other, outcome) in [
        (Some("known"), true, true, GuestOutcome::Pass),
        (Some("known"), true, false, GuestOutcome::Fail),
        (Some("known"), false, false, GuestOutcome::Fail),
        (None, false, true, GuestOutcome::Fail),
    ] {
        assert_eq!(verdict(bug, of_it, other).outcome, outcome, "{bug:?} {of_it} {other}");
    }
    assert!(verdict(Some("known"), false, false).reason.starts_with("x: "));
    assert_eq!(verdict(Some("known"), true, true).reason, "");
    let mut turned = checks(&[true]);
    turned.state_with_bug(Some("known"), "of it", "1", "0", false);
    turned.turn_round();
    assert_eq!(turned.verdict(None).outcome, GuestOutcome::Fail);
}
