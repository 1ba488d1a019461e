// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use std::collections::BTreeMap;
use vmtest_base::error::Class;
use vmtest_record::diff::*;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{Cell, Kernel, PhaseRecord, RunResult, SplatRecord};
use vmtest_record::samples::{boot, cell, run};

const SLOWER: Slower = Slower { percent: 50, at_least_ms: 1000, counts: false };

fn compared(old: &RunResult, new: &RunResult) -> Diff {
    let none = BTreeMap::new();
    compare(Side { run: old, options: &none }, Side { run: new, options: &none }, SLOWER)
}

type One = (Outcome, Class, bool);
const PASS: One = (Outcome::Pass, Class::Pass, true);
const FAIL: One = (Outcome::Fail, Class::TestFailed, true);
const CRASH: One = (Outcome::Crash, Class::Panic, true);
const SKIP: One = (Outcome::Skip, Class::Incomplete, true);
const ALLOWED: One = (Outcome::Skip, Class::Pass, false);
const MISSING: One = (Outcome::Missing, Class::Incomplete, true);
const NOTRUN: One = (Outcome::Notrun, Class::KernelBuild, true);
const FLAKY: One = (Outcome::Flaky, Class::Flaky, true);
const ALLOWED_FLAKY: One = (Outcome::Flaky, Class::Pass, true);
const XFAIL: One = (Outcome::Xfail, Class::Pass, true);

fn with(one: Option<One>) -> RunResult {
    let mut cells = vec![cell("k", "same", Outcome::Pass, Class::Pass)];
    if let Some((outcome, class, required)) = one {
        cells.push(Cell { required, ..cell("k", "a", outcome, class) });
    }
    run(cells)
}

#[test]
fn whatever_was_right_and_is_not_right_now_is_worse() {
    let change = |was: Option<One>, is: Option<One>| {
        let diff = compared(&with(was), &with(is));
        assert!(diff.tests.len() <= 1, "{diff:?}");
        let change = diff.tests.first().map(|test| test.change);
        assert_eq!(diff.worse, change.is_some_and(Change::is_worse), "{diff:?}");
        change
    };
    for bad in [FAIL, CRASH, SKIP, MISSING, NOTRUN] {
        assert_eq!(change(Some(PASS), Some(bad)), Some(Change::Fails), "{bad:?}");
        assert_eq!(change(Some(ALLOWED), Some(bad)), Some(Change::Fails), "{bad:?}");
        assert_eq!(change(None, Some(bad)), Some(Change::Fails), "{bad:?}");
        assert_eq!(change(Some(bad), Some(PASS)), Some(Change::Fixed), "{bad:?}");
        assert_eq!(change(Some(bad), Some(bad)), None, "{bad:?}");
        assert_eq!(change(Some(bad), None), Some(Change::Vanished), "{bad:?}");
    }
    assert_eq!(change(Some(PASS), None), Some(Change::Vanished));
    assert_eq!(change(Some(ALLOWED), None), Some(Change::Differs));
    assert_eq!(change(Some(PASS), Some(ALLOWED)), Some(Change::Unasked));
    assert_eq!(change(Some(PASS), Some(XFAIL)), Some(Change::Unasked));
    assert_eq!(change(Some(PASS), Some(FLAKY)), Some(Change::Flaky));
    assert_eq!(change(Some(PASS), Some(ALLOWED_FLAKY)), Some(Change::Flaky));
    assert_eq!(change(Some(FAIL), Some(CRASH)), Some(Change::Worse));
    assert_eq!(change(Some(SKIP), Some(FAIL)), Some(Change::Worse));
    assert_eq!(change(Some(CRASH), Some(FAIL)), Some(Change::Differs));
    assert_eq!(change(Some(FAIL), Some(XFAIL)), Some(Change::Differs));
    assert_eq!(change(None, Some(PASS)), Some(Change::Added));
    assert_eq!(change(Some(PASS), Some(PASS)), None);
}

#[test]
fn what_befalls_the_guest_and_the_run_is_compared_as_well() {
    let fine = with(None);
    let mut dies = with(None);
    dies.boots = vec![boot("k", Class::Panic)];
    dies.conclude(None);
    let diff = compared(&fine, &dies);
    assert!(diff.worse && diff.tests[0].change == Change::Fails, "{diff:?}");
    let diff = compared(&dies, &fine);
    assert!(!diff.worse && diff.tests[0].change == Change::Fixed, "{diff:?}");
    assert!(compared(&run(Vec::new()), &run(Vec::new())).worse, "two runs of nothing");
    let mut stopped = with(None);
    stopped.conclude(Some(Class::Interrupted));
    assert!(compared(&fine, &stopped).worse);
    let splat =
        |title: &str| SplatRecord { kernel: "k".into(), title: title.into(), ..SplatRecord::default() };
    let (mut one, mut other) = (with(None), with(None));
    one.splats = vec![splat("WARNING: CPU: 0 at a.c:17")];
    other.splats = vec![splat("WARNING: CPU: 1 at a.c:18")];
    assert!(!compared(&one, &other).worse, "its numbers tell nothing");
    other.splats.push(splat("WARNING: CPU: 1 at b.c:1"));
    let diff = compared(&one, &other);
    assert!(diff.worse && diff.new_splats.len() == 1, "{diff:?}");
    assert_eq!(compared(&other, &one).gone_splats.len(), 1);
}

#[test]
fn cells_of_another_column_are_other_cells() {
    let one = |variant: &str, boot: &str| {
        let cell = cell("k", "a", Outcome::Pass, Class::Pass);
        run(vec![Cell { variant: variant.into(), boot: boot.into(), ..cell }])
    };
    assert!(!compared(&one("debug", "vng"), &one("debug", "vng")).worse);
    for other in [one("default", "vng"), one("debug", "direct")] {
        let diff = compared(&one("debug", "vng"), &other);
        assert!(diff.worse && diff.compared == 0, "{diff:?}");
    }
}

#[test]
fn the_one_kernel_of_each_run_is_compared_and_said() {
    let named = |ids: &[&str]| run(ids.iter().map(|id| cell(id, "a", Outcome::Pass, Class::Pass)).collect());
    let diff = compared(&named(&["k+v1"]), &named(&["k+v2"]));
    assert!(!diff.worse && diff.compared == 1, "{diff:?}");
    assert!(render(&diff).contains("k+v1 then and k+v2 now"), "{}", render(&diff));
    // With more than one kernel in each run it is unknown which ones belong together.
    let diff = compared(&named(&["k", "k+v1"]), &named(&["k", "k+v2"]));
    assert!(diff.worse && diff.paired.is_none(), "{diff:?}");
}

#[test]
fn a_phase_is_slower_by_a_share_and_by_a_least() {
    let took = |duration_ms: u64, cached: bool| {
        let mut run = with(None);
        let phase = PhaseRecord {
            name: "boot".into(),
            kernel: "k (direct)".into(),
            started_ms: 0,
            duration_ms,
            cached,
        };
        run.phases = vec![phase];
        run
    };
    let slower = |was: u64, is: u64| compared(&took(was, false), &took(is, false)).slower.len();
    assert_eq!((slower(10_000, 14_999), slower(10_000, 15_000)), (0, 1));
    assert_eq!((slower(100, 1_099), slower(100, 1_100), slower(0, 0)), (0, 1, 0));
    assert!(compared(&took(1, true), &took(99_999, false)).slower.is_empty());
    let none = BTreeMap::new();
    let (old, new) = (took(1_000, false), took(9_000, false));
    let (old, new) = (Side { run: &old, options: &none }, Side { run: &new, options: &none });
    assert!(!compare(old, new, SLOWER).worse && compare(old, new, Slower { counts: true, ..SLOWER }).worse);
}

#[test]
fn what_the_runs_were_made_with_is_told() {
    let made = |gcc: &str, release: &str, option: &str| {
        let mut run = with(None);
        run.tools = [("gcc".to_owned(), gcc.to_owned())].into();
        run.kernels = vec![Kernel { id: "k".into(), release: release.into(), ..Kernel::default() }];
        run.boots = vec![boot("k", Class::Pass)];
        let options =
            [("BPF", option), ("X86", "y")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let options = Options::from(options);
        (run, BTreeMap::from([(("k".to_owned(), "default".to_owned()), options)]))
    };
    let (old, old_options) = made("gcc 14", "6.18.1", "y");
    let (new, new_options) = made("gcc 15", "6.18.2", "n");
    let side = |run, options| Side { run, options };
    let mut new = new;
    new.boots[0].features = [("asked by a newer runner".to_owned(), "yes".to_owned())].into();
    let diff = compare(side(&old, &old_options), side(&new, &new_options), SLOWER);
    let names: Vec<&str> = diff.settings.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["release", "CONFIG_BPF", "gcc"]);
    assert!(!diff.worse);
    let text = render(&diff);
    assert!(
        text.contains("CONFIG_BPF of k/default: y then, nothing now")
            && text.ends_with("every test as it was\n"),
        "{text}"
    );
}
