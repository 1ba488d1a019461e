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
    assert_eq!(verdict.seen.iter().map(|check| check.ok).collect::<Vec<_>>(), [true, false, true]);
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

#[test]
fn a_failure_is_shown_with_what_held_around_it() {
    let mut all = checks(&[true; 40]);
    all.eq("it", 0, 1);
    for _ in 0..40 {
        all.eq("after", 1, 1);
    }
    let seen = all.verdict(None).seen;
    assert_eq!(seen.len(), 1 + MAX_BESIDE);
    assert_eq!(seen.iter().position(|check| !check.ok), Some(MAX_BESIDE / 2));
}

/// What a reporter sends of so many expectations, of which the last fails.
fn sent(pace: Pace, held: usize) -> Vec<Vec<Check>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut checks = Checks::reported(Reporter::new(pace, move |batch| drop(sender.send(batch))));
    for n in 0..held {
        checks.eq(n.to_string(), 1, 1);
    }
    checks.eq("last", 0, 1);
    drop(checks);
    receiver.iter().collect()
}

#[test]
fn the_first_are_sent_at_once_and_a_failure_with_those_before_it() {
    let batches = sent(Pace::First, 100);
    let first: Vec<&str> = batches.iter().take(Reporter::FIRST).map(|one| one[0].what.as_str()).collect();
    assert_eq!(first, (0..Reporter::FIRST).map(|n| n.to_string()).collect::<Vec<_>>());
    let last = batches.last().expect("the failure");
    assert_eq!((last.len(), last.last().map(|check| check.ok)), (Reporter::LAST, Some(false)));
    assert!(batches.len() < 20, "not each of the others: {}", batches.len());
    assert_eq!(sent(Pace::Later, 5).concat().len(), 6);
    assert!(sent(Pace::Later, 5).len() <= 2);
    assert_eq!(sent(Pace::Each, 100).len(), 101);
}
