// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::run::Role;
use crate::samples::{boot, cell, run as sample};
use crate::series::{Check, CheckState};
use State::{No, Unknown, Yes};

fn kernel(at: usize, of: usize) -> Kernel {
    let series: Vec<String> = (1..=at).map(|number| format!("subject {number}")).collect();
    let patches = (1..=at).map(|number| PatchInfo {
        subject: format!("subject {number}"),
        author: "A <a@example.org>".into(),
        ..PatchInfo::default()
    });
    Kernel {
        id: format!("base+s@{at}/{of}"),
        release: "6.18".into(),
        patches: patches.collect(),
        series,
        role: Some(Role::Step).filter(|_| at < of),
        compared_to: at.checked_sub(1).map(|before| kernel(before, of).id),
        ..Kernel::default()
    }
}

/// A run of each patch. `column(count)` says how the kernel with that many patches did: its class, and the
/// outcomes of tests `a` and `b`.
fn each(of: usize, column: impl Fn(usize) -> (Class, [Outcome; 2])) -> RunResult {
    let mut run = sample(Vec::new());
    for at in 0..=of {
        let (class, outcomes) = column(at);
        let mut kernel = kernel(at, of);
        let before_boot =
            matches!(class, Class::SeriesDoesNotApply | Class::KernelBuild | Class::OptionLost | Class::Host);
        for (name, outcome) in ["a", "b"].into_iter().zip(outcomes) {
            let class = match outcome {
                Outcome::Pass => Class::Pass,
                Outcome::Notrun | Outcome::Crash => class,
                Outcome::Skip => Class::Incomplete,
                _ => Class::TestFailed,
            };
            let reason = format!("patch 2 of {of} (2.patch, \"x\") does not apply: wrong base");
            let reason = if class == Class::SeriesDoesNotApply { reason } else { "a reason".into() };
            run.cells.push(Cell { reason, ..cell(&kernel.id, name, outcome, class) });
        }
        if before_boot {
            kernel.release.clear();
        } else {
            run.boots.push(boot(&kernel.id, class));
        }
        run.kernels.push(kernel);
    }
    reference_columns::settle(&mut run);
    run.conclude(None);
    settle(&mut run, None);
    run
}

const PASS: [Outcome; 2] = [Outcome::Pass; 2];
const NOTRUN: [Outcome; 2] = [Outcome::Notrun; 2];

fn only(run: &RunResult) -> &SeriesRecord {
    assert_eq!(run.series.len(), 1);
    &run.series[0]
}

fn states(series: &SeriesRecord) -> Vec<[State; 3]> {
    series.patches.iter().map(|patch| [patch.applies, patch.builds, patch.boots]).collect()
}

#[test]
fn a_patch_that_breaks_a_test_is_named_and_the_next_one_inherits_it() {
    let run = each(3, |at| (Class::Pass, if at < 2 { PASS } else { [Outcome::Pass, Outcome::Fail] }));
    let series = only(&run);
    assert_eq!((series.verdict, series.fails.as_slice()), (Verdict::Bad, &["basic/b".to_owned()][..]));
    let bad: Vec<bool> = series.patches.iter().map(PatchRecord::is_bad).collect();
    assert_eq!(bad, [false, true, false]);
    assert_eq!(series.patches[1].breaks, ["basic/b"]);
    assert_eq!(states(series), [[Yes; 3]; 3]);
    assert_eq!(
        (series.patches[0].info.author.as_str(), series.base.as_str()),
        ("A <a@example.org>", "base+s@0/3")
    );
    // The failure counts once in every report.
    let columns = findings::columns(&run);
    let bad: usize = columns.iter().map(|column| column.count(findings::TestStatus::Failed)).sum();
    assert_eq!(bad, 1);
    let told: Vec<String> = columns[3]
        .findings
        .iter()
        .filter(|one| one.already_on.is_some())
        .map(findings::Finding::why)
        .collect();
    assert_eq!(told, ["it failed already on base+s@2/3"]);
}

#[test]
fn what_failed_without_the_series_is_not_its_failure() {
    let run = each(2, |_| (Class::Pass, [Outcome::Pass, Outcome::Fail]));
    let series = only(&run);
    assert_eq!(series.verdict, Verdict::Good);
    assert_eq!((series.fails.len(), series.failed_before.as_slice()), (0, &["basic/b".to_owned()][..]));
    assert_eq!(run.exit_code, Class::TestFailed, "the run still says that a test fails");
    // A failure that differs from the one before is its own.
    let run =
        each(2, |at| (Class::Pass, [Outcome::Pass, if at < 2 { Outcome::Skip } else { Outcome::Fail }]));
    assert_eq!((only(&run).verdict, only(&run).fails.len()), (Verdict::Bad, 1));
}

#[test]
fn every_stage_is_attributed_to_the_patch_that_breaks_it() {
    let built = each(3, |at| if at == 2 { (Class::KernelBuild, NOTRUN) } else { (Class::Pass, PASS) });
    assert_eq!(states(only(&built)), [[Yes; 3], [Yes, No, Unknown], [Yes; 3]]);
    assert_eq!(only(&built).verdict, Verdict::Bad, "a bisection would stop at it");
    let dead = each(3, |at| if at >= 2 { (Class::Panic, [Outcome::Crash; 2]) } else { (Class::Pass, PASS) });
    assert_eq!(states(only(&dead)), [[Yes; 3], [Yes, Yes, No], [Yes, Yes, No]]);
    let inherited: Vec<bool> = only(&dead).patches.iter().map(|patch| patch.inherited).collect();
    assert_eq!(inherited, [false, false, true]);
    let stuck = each(3, |at| if at >= 2 { (Class::SeriesDoesNotApply, NOTRUN) } else { (Class::Pass, PASS) });
    let unknown = [Unknown; 3];
    assert_eq!(states(only(&stuck)), [[Yes; 3], [No, Unknown, Unknown], unknown]);
    assert_eq!(only(&stuck).verdict, Verdict::Bad);
}

#[test]
fn nothing_is_good_without_evidence() {
    let good = each(2, |_| (Class::Pass, PASS));
    assert_eq!(only(&good).verdict, Verdict::Good);
    // The base dies in the same way, the host failed, nothing passed, or it was interrupted.
    let base = each(2, |_| (Class::Panic, [Outcome::Crash; 2]));
    assert_eq!(only(&base).verdict, Verdict::Unjudged);
    let host = each(2, |at| if at == 1 { (Class::Host, NOTRUN) } else { (Class::Pass, PASS) });
    assert_eq!(
        (only(&host).verdict, only(&host).unjudged.as_str()),
        (Verdict::Unjudged, "patch 1: no result")
    );
    let skips = each(2, |_| (Class::Pass, [Outcome::Skip; 2]));
    assert_ne!(only(&skips).verdict, Verdict::Good);
    let mut stopped = good.clone();
    settle(&mut stopped, Some(Class::Interrupted));
    assert_eq!(only(&stopped).verdict, Verdict::Unjudged);
    // A single kernel: nothing shows whose failure it is.
    let mut alone = each(1, |_| (Class::Pass, [Outcome::Pass, Outcome::Fail]));
    alone.kernels.remove(0);
    alone.cells.retain(|cell| cell.kernel != "base+s@0/1");
    settle(&mut alone, None);
    assert_eq!(only(&alone).verdict, Verdict::Unjudged);
}

#[test]
fn a_check_speaks_against_a_patch_only_if_it_is_bad() {
    let check = |state| Check { state, summary: "x".into(), lines: Vec::new(), duration_ms: 1 };
    let verdict = |name: &str, state| {
        let mut run = each(2, |_| (Class::Pass, PASS));
        run.series[0].patches[1].checks.insert(name.into(), check(state));
        settle(&mut run, None);
        assert_eq!(only(&run).patches[1].checks.len(), 1, "checks survive");
        only(&run).verdict
    };
    assert_eq!(verdict("warnings", CheckState::Bad), Verdict::Bad);
    assert_eq!(verdict("warnings", CheckState::Unknown), Verdict::Unjudged);
    for state in [CheckState::Clean, CheckState::Info, CheckState::Advice, CheckState::Unknown] {
        assert_eq!(verdict("checkpatch", state), Verdict::Good, "{state:?}");
    }
}

#[test]
fn a_check_decides_the_exit_code_and_is_in_the_findings() {
    let with = |name: &str, state| {
        let mut run = each(2, |_| (Class::Pass, PASS));
        let check = Check { state, summary: "x".into(), lines: vec!["a line".into()], duration_ms: 1 };
        run.series[0].patches[1].checks.insert(name.into(), check);
        settle(&mut run, None);
        run.conclude(None);
        let bad = findings::columns(&run).into_iter().flat_map(|column| column.findings);
        let bad: Vec<String> = bad.filter(|one| one.verdict.is_bad()).map(|one| one.path()).collect();
        (run.exit_code, bad)
    };
    let found = vec!["subject 2/warnings".to_owned()];
    assert_eq!(with("warnings", CheckState::Bad), (Class::TestFailed, found.clone()));
    assert_eq!(with("warnings", CheckState::Unknown), (Class::Incomplete, found));
    for state in [CheckState::Info, CheckState::Advice, CheckState::Clean, CheckState::Unknown] {
        assert_eq!(with("checkpatch", state), (Class::Pass, Vec::new()), "{state:?}");
    }
}

#[test]
fn patches_that_were_not_tested_one_by_one_are_not_called_good() {
    let mut run = each(2, |_| (Class::Pass, PASS));
    // Without the step between them, as in --with-base.
    run.kernels.retain(|kernel| kernel.id != "base+s@1/2");
    run.cells.retain(|cell| cell.kernel != "base+s@1/2");
    run.boots.retain(|boot| boot.kernel != "base+s@1/2");
    run.kernels[0].role = Some(Role::Base);
    run.kernels[1].compared_to = Some("base+s@0/2".into());
    settle(&mut run, None);
    assert_eq!(only(&run).verdict, Verdict::Unjudged);
    assert_eq!(only(&run).unjudged, "patch 1 was not tested by itself");
}
