// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use vmtest_record::samples::{self, run as run_of};

const DAY: &str = "2026-11-21";
const PANIC: &str = "Kernel panic - not syncing: x";

fn entry(more: &str) -> Result<Expectation, String> {
    let text = format!("reason = 'known'\nlink = 'docs/x.md'\n{more}");
    let has_day = more.contains("expires");
    let text = if has_day { text } else { format!("{text}\nexpires = '2026-11-21'") };
    Expectation::new(&toml::from_str(&text).map_err(|error| error.to_string())?, DAY)
}

fn cell(subtest: &str, outcome: Outcome, class: Class, reason: &str) -> Cell {
    Cell { reason: reason.to_owned(), ..vmtest_record::samples::cell("k", subtest, outcome, class) }
}

fn after(entries: &[Expectation], cells: Vec<Cell>) -> (RunResult, Vec<ExpectRecord>) {
    let mut run = run_of(cells);
    let records = apply(entries, &[], &mut run);
    run.conclude(None);
    (run, records)
}

#[test]
fn exactly_the_declared_outcome_is_covered() {
    let all = [
        (Outcome::Fail, Class::TestFailed),
        (Outcome::Crash, Class::Panic),
        (Outcome::Timeout, Class::Hang),
        (Outcome::Missing, Class::Incomplete),
        (Outcome::Notrun, Class::KernelBuild),
        (Outcome::Flaky, Class::Flaky),
    ];
    // A run with only known failures is not a pass.
    let beside = |one: Cell| vec![one, cell("z", Outcome::Pass, Class::Pass, "")];
    for (declared, _) in all {
        let known = entry(&format!("test = 'basic/a'\nsays = 'it'\noutcome = '{}'", declared.name()))
            .expect("an entry");
        for (outcome, class) in all {
            let (run, records) =
                after(std::slice::from_ref(&known), beside(cell("a", outcome, class, "it broke")));
            let covered = outcome == declared;
            assert_eq!(run.exit_code.code() == 0, covered, "{declared:?} {outcome:?}");
            assert_eq!(run.cells[0].outcome == Outcome::Xfail, covered);
            assert_eq!(records[0].covered, u64::from(covered));
            assert_eq!(records[0].state, if covered { "used" } else { "unused" });
        }
        for (outcome, class) in [
            (Outcome::Fail, Class::Host),
            (Outcome::Fail, Class::Splat),
            (Outcome::Skip, Class::Incomplete),
            (Outcome::Notrun, Class::Interrupted),
            (Outcome::Notrun, Class::Host),
            (Outcome::Missing, Class::Host),
            (Outcome::Missing, Class::Panic),
        ] {
            let (run, _) = after(std::slice::from_ref(&known), beside(cell("a", outcome, class, "it broke")));
            assert_eq!(
                (run.cells[0].outcome, run.exit_code.code()),
                (outcome, class.code()),
                "{declared:?} {outcome:?}"
            );
        }
    }
}

#[test]
fn what_the_cell_says_has_to_fit_and_so_has_its_place() {
    let known = entry("test = 'basic/a'\nkernel = 'k'\noutcome = 'fail'\nsays = 'EINVAL'").expect("an entry");
    let fail = |subtest: &str, reason: &str| cell(subtest, Outcome::Fail, Class::TestFailed, reason);
    let (run, records) =
        after(&[known], vec![fail("a", "-EINVAL"), fail("a", "-EPERM"), fail("b", "-EINVAL")]);
    let outcomes: Vec<Outcome> = run.cells.iter().map(|cell| cell.outcome).collect();
    assert_eq!(outcomes, [Outcome::Xfail, Outcome::Fail, Outcome::Fail]);
    assert_eq!((records[0].covered, run.exit_code.code()), (1, 1));
    let seen = run.cells[0].expected.as_ref().expect("it says what was seen");
    assert_eq!((seen.outcome, seen.class), (Outcome::Fail, Class::TestFailed));
    assert!(run.cells[0].reason.contains("-EINVAL") && run.cells[0].reason.contains("docs/x.md"));
}

#[test]
fn an_entry_ends_and_a_pass_is_told() {
    let fail =
        || vec![cell("a", Outcome::Fail, Class::TestFailed, "x"), cell("b", Outcome::Pass, Class::Pass, "")];
    let last = entry("test = 'basic/*'\noutcome = 'fail'\nexpires = '2026-11-21'").expect("an entry");
    let (run, records) = after(&[last], fail());
    assert_eq!((run.exit_code.code(), records[0].state.as_str()), (0, "used, and passes"));
    assert!(run.cells[1].reason.starts_with("unexpected pass"), "{}", run.cells[1].reason);
    let over = entry("test = 'basic/*'\noutcome = 'fail'\nexpires = '2026-11-20'").expect("an entry");
    let (run, records) = after(&[over], fail());
    assert_eq!((run.exit_code.code(), records[0].state.as_str()), (1, "expired"));
    assert!(news(&records, &[], true)[0].contains("expired on 2026-11-20"));
    let other = entry("test = 'other/*'\noutcome = 'fail'").expect("an entry");
    let (_, records) = after(&[other], fail());
    assert!(news(&records, &[], true)[0].contains("matches no failure"));
    assert!(news(&records, &[], false).is_empty(), "another part may have it");
}

#[test]
fn a_known_death_covers_its_boot_and_no_other() {
    let known = entry("test = 'basic/a'\noutcome = 'crash'\nsays = 'not syncing: x'").expect("an entry");
    let dead = |reason: &str| {
        let before = cell("z", Outcome::Pass, Class::Pass, "");
        let mut run = run_of(vec![cell("a", Outcome::Crash, Class::Panic, reason), before]);
        let mut boot = samples::boot("k", Class::Panic);
        (boot.variant, boot.suite) = (run.cells[0].variant.clone(), run.cells[0].suite.clone());
        boot.reason = reason.to_owned();
        run.boots = vec![boot];
        run
    };
    let mut run = dead(PANIC);
    apply(std::slice::from_ref(&known), &[], &mut run);
    run.conclude(None);
    assert_eq!((run.exit_code.code(), run.boots[0].expected.is_some()), (0, true));
    let mut run = dead("Kernel panic - not syncing: another");
    apply(std::slice::from_ref(&known), &[], &mut run);
    run.conclude(None);
    assert_eq!(run.exit_code.code(), Class::Panic.code());
    // The same, but in another suite on the same kernel.
    let mut run = dead(PANIC);
    run.boots[0].suite = "other".to_owned();
    apply(std::slice::from_ref(&known), &[], &mut run);
    run.conclude(None);
    assert_eq!(run.exit_code.code(), Class::Panic.code());
    // Cells lost to the death must be declared separately.
    let mut run = dead(PANIC);
    run.cells.push(cell("b", Outcome::Missing, Class::Incomplete, "never reported"));
    apply(&[known], &[], &mut run);
    run.conclude(None);
    assert_eq!(run.exit_code.code(), Class::Incomplete.code());
}

#[test]
fn an_entry_that_makes_no_sense_is_refused() {
    for (text, why) in [
        ("outcome = 'fail'", "matches everything"),
        ("test = '*'\noutcome = 'fail'", "matches everything"),
        ("test = 'a'\noutcome = 'skip'", "allow_skip"),
        ("test = 'a'\noutcome = 'pass'", "expected one of"),
        ("test = 'a'\noutcome = 'crash'", "`says`"),
        ("test = 'a'\noutcome = 'timeout'", "`says`"),
        ("test = 'a'\noutcome = 'fail'\nsays = '.*'", "matches everything"),
        ("test = 'a'\noutcome = 'fail'\nsays = '('", "says"),
        ("test = 'a'\noutcome = 'fail'\nexpires = 'soon'", "not a date"),
        ("test = '['\noutcome = 'fail'", "["),
    ] {
        let error = entry(text).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn required_cells_are_there_and_passed() {
    let globs: CellGlobs = toml::from_str("test = 'basic/a'").expect("globs");
    let state = |cells: Vec<Cell>, whole: bool| {
        let mut run = run_of(cells);
        let required = require(std::slice::from_ref(&globs), &mut run, whole);
        run.conclude(None);
        (required[0].state.clone(), run.exit_code.code())
    };
    let pass = || cell("a", Outcome::Pass, Class::Pass, "");
    assert_eq!(state(vec![pass()], true), ("met".into(), 0));
    assert_eq!(state(vec![cell("b", Outcome::Pass, Class::Pass, "")], true), ("unmet".into(), 3));
    assert_eq!(state(vec![cell("b", Outcome::Pass, Class::Pass, "")], false), ("not here".into(), 0));
    for (outcome, class) in
        [(Outcome::Skip, Class::Pass), (Outcome::Xfail, Class::Pass), (Outcome::Notrun, Class::Pass)]
    {
        let other = Cell { required: false, ..cell("a", outcome, class, "") };
        assert_eq!(state(vec![pass(), other], true), ("unmet".into(), 3), "{outcome:?}");
    }
    assert_eq!(state(vec![cell("a", Outcome::Fail, Class::TestFailed, "")], true), ("unmet".into(), 1));
}

#[test]
fn what_is_required_is_never_a_known_failure() {
    let known = [entry("test = 'basic/*'\noutcome = 'fail'").expect("an entry")];
    let required =
        [CellPattern::new(&toml::from_str("test = 'basic/a'").expect("globs")).expect("a pattern")];
    let fail = |subtest: &str| cell(subtest, Outcome::Fail, Class::TestFailed, "x");
    let mut run = run_of(vec![fail("a"), fail("b")]);
    let records = apply(&known, &required, &mut run);
    assert_eq!(
        run.cells.iter().map(|cell| cell.outcome).collect::<Vec<_>>(),
        [Outcome::Fail, Outcome::Xfail]
    );
    assert_eq!(records[0].covered, 1);
}

#[test]
fn parts_add_up() {
    let known = [entry("test = 'basic/*'\noutcome = 'fail'").expect("an entry")];
    let (_, mut one) = after(&known, vec![cell("a", Outcome::Pass, Class::Pass, "")]);
    let (_, other) = after(&known, vec![cell("b", Outcome::Fail, Class::TestFailed, "x")]);
    let whole =
        vec![cell("a", Outcome::Pass, Class::Pass, ""), cell("b", Outcome::Fail, Class::TestFailed, "x")];
    let (_, whole) = after(&known, whole);
    add(&mut one, &other);
    assert_eq!(one, whole);
}
