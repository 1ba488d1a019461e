// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use vmtest_record::samples;

const KEY: &str = "m";

fn all() -> Vec<Axes> {
    ["src:1.0", "src:2.0", "src:3.0"].map(|kernel| Axes::new(kernel, "s", "v", "auto", "own")).to_vec()
}

fn frame() -> Frame {
    let (key, harness) = (KEY.to_owned(), "h".to_owned());
    let wanted = all().into_iter().map(|axes| axes.id).collect();
    Frame { key, harness, all: all(), wanted, required: Vec::new(), expected: Vec::new() }
}

/// A run of these jobs, each with one cell.
fn part(jobs: &[usize], outcome: Outcome, class: Class) -> Part {
    let all = all();
    let (mut cells, mut records) = (Vec::new(), Vec::new());
    for axes in jobs.iter().map(|at| &all[*at]) {
        let mut cell = samples::cell(&format!("{}+s", axes.kernel), "a", outcome, class);
        (cell.variant, cell.suite) = (axes.variant.clone(), axes.suite.clone());
        records.push(JobRecord {
            id: axes.id.clone(),
            key: keys::job(KEY, &axes.id).to_string(),
            kernel: cell.kernel.clone(),
            variant: axes.variant.clone(),
            boot: axes.boot.clone(),
            suite: axes.suite.clone(),
            source: format!("source of {}", axes.kernel),
            series: "series".to_owned(),
            cells: 1,
            duration_ms: 1,
            executor: None,
        });
        cells.push(cell);
    }
    let mut run = samples::run(cells);
    for record in &records {
        run.kernels.push(Kernel { id: record.kernel.clone(), ..Kernel::default() });
    }
    run.matrix = Some(MatrixRecord {
        key: KEY.to_owned(),
        harness: "h".to_owned(),
        all,
        jobs: records,
        ..MatrixRecord::default()
    });
    run.conclude(None);
    Part { name: format!("part {jobs:?}"), run }
}

fn pass(jobs: &[usize]) -> Part {
    part(jobs, Outcome::Pass, Class::Pass)
}

fn joined(parts: Vec<Part>) -> RunResult {
    join(&frame(), parts, &BTreeMap::new()).expect("they belong together")
}

#[track_caller]
fn refuses(parts: Vec<Part>, why: &str) {
    let error = join(&frame(), parts, &BTreeMap::new()).expect_err(why);
    assert_eq!(error.class, Class::Usage);
    assert!(error.to_string().contains(why), "{why:?} is not in {error}");
}

#[test]
fn in_whatever_order_they_come_it_is_the_same_run() {
    let one = joined(vec![pass(&[0, 1, 2])]);
    assert_eq!(one.exit_code.code(), 0);
    for parts in [vec![pass(&[2]), pass(&[0]), pass(&[1])], vec![pass(&[1, 2]), pass(&[0])]] {
        assert_eq!(joined(parts), one);
    }
}

#[test]
fn what_is_missing_is_named_and_never_a_pass() {
    let run = joined(vec![pass(&[0]), pass(&[2])]);
    assert_eq!(run.exit_code.code(), Class::Incomplete.code());
    let cell = run.cells.iter().find(|cell| cell.outcome == Outcome::Missing).expect("a cell for it");
    assert_eq!(cell.subtest, all()[1].id);
    assert_eq!(cell.kernel, "src:2.0+s");
    assert!(run.kernels.iter().any(|kernel| kernel.id == cell.kernel));
    // All jobs are missing.
    let run = join(&frame(), Vec::new(), &BTreeMap::new()).expect("joined");
    assert_eq!((run.exit_code.code(), run.cells.len()), (3, 3));
    // Only some jobs were wanted, and they are present.
    let part_of_it = Frame { wanted: vec![all()[0].id.clone()], ..frame() };
    let run = join(&part_of_it, vec![pass(&[0])], &BTreeMap::new()).expect("joined");
    assert_eq!((run.exit_code.code(), run.cells.len()), (0, 1));
    // A failure elsewhere takes precedence.
    assert_eq!(joined(vec![part(&[0], Outcome::Fail, Class::TestFailed)]).exit_code.code(), 1);
    let gap = Gap { outcome: Outcome::Notrun, class: Class::Host, reason: "no such host".to_owned() };
    let gaps = BTreeMap::from([(all()[1].id.clone(), gap)]);
    let run = join(&frame(), vec![pass(&[0, 2])], &gaps).expect("joined");
    assert_eq!((run.exit_code.code(), run.cells[1].outcome), (30, Outcome::Notrun));
}

#[test]
fn a_job_without_cells_is_missing_whatever_it_says() {
    let mut empty = pass(&[0, 1]);
    let id = all()[1].id.clone();
    empty.run.cells.retain(|cell| cell.kernel != "src:2.0+s");
    if let Some(matrix) = &mut empty.run.matrix {
        matrix.jobs[1].cells = 0;
    }
    empty.run.conclude(None);
    let run = joined(vec![empty, pass(&[2])]);
    assert_eq!(run.exit_code.code(), 3);
    assert!(run.cells.iter().any(|cell| cell.subtest == id && cell.outcome == Outcome::Missing));
}

#[test]
fn what_does_not_belong_together_is_refused() {
    refuses(vec![pass(&[0]), pass(&[0, 1])], "is already in part [0]");
    let changed = |change: &dyn Fn(&mut MatrixRecord)| {
        let mut part = pass(&[0]);
        change(part.run.matrix.as_mut().expect("a matrix"));
        part
    };
    refuses(vec![changed(&|matrix| matrix.key = "other".into())], "another matrix");
    refuses(vec![changed(&|matrix| matrix.harness = "other".into())], "version of the harness");
    refuses(vec![changed(&|matrix| drop(matrix.all.pop()))], "another matrix");
    refuses(vec![changed(&|matrix| matrix.jobs[0].id = all()[1].id.clone())], "key belongs to another job");
    refuses(vec![changed(&|matrix| matrix.jobs[0].id = "x".into())], "no such job");
    refuses(vec![changed(&|matrix| matrix.jobs[0].suite = "upstream".into())], "no such job");
    refuses(vec![changed(&|matrix| matrix.jobs[0].kernel = "x".into())], "belongs to 0 of its jobs");
    refuses(vec![changed(&|matrix| matrix.jobs[0].cells = 2)], "declares 2 cells");
    refuses(vec![changed(&|matrix| matrix.jobs.push(matrix.jobs[0].clone()))], "is in it twice");
    refuses(
        vec![changed(&|matrix| matrix.jobs[0].series = "others".into()), pass(&[1])],
        "series s differs from",
    );
    let mut plain = pass(&[0]);
    plain.run.matrix = None;
    refuses(vec![plain], "is not a run of a matrix");
    let mut twice = pass(&[0]);
    twice.run.cells.push(twice.run.cells[0].clone());
    refuses(vec![twice], "is in it twice");
}

#[test]
fn one_kernel_is_one_source_in_all_parts() {
    let mut frame = frame();
    frame.all[1] = Axes::new("src:1.0", "none", "v", "auto", "own");
    let set = |mut part: Part, source: &str| {
        let matrix = part.run.matrix.as_mut().expect("a matrix");
        matrix.all = frame.all.clone();
        let job = &mut matrix.jobs[0];
        if job.id == all()[1].id {
            job.id = frame.all[1].id.clone();
            job.key = keys::job(KEY, &job.id).to_string();
        }
        job.source = source.to_owned();
        part
    };
    let join =
        |a: &str, b: &str| join(&frame, vec![set(pass(&[0]), a), set(pass(&[1]), b)], &BTreeMap::new());
    assert!(join("x", "x").is_ok() && join("x", "").is_ok());
    let error = join("x", "y").expect_err("two states of one tree").to_string();
    assert!(error.contains("kernel src:1.0 differs from part [0]"), "{error}");
}

#[test]
fn a_record_that_was_changed_by_hand_is_refused() {
    let mut better = part(&[0], Outcome::Fail, Class::TestFailed);
    better.run.cells[0].class = Class::Pass;
    better.run.conclude(None);
    refuses(vec![better], "counts as a pass");
    let mut better = part(&[0], Outcome::Fail, Class::TestFailed);
    better.run.exit_code = Class::Pass;
    refuses(vec![better], "it records exit 0");
    for (outcome, class, required, fine) in [
        (Outcome::Skip, Class::Pass, true, false),
        (Outcome::Skip, Class::Pass, false, true),
        (Outcome::Notrun, Class::Pass, true, false),
        (Outcome::Missing, Class::Pass, false, false),
        (Outcome::Pass, Class::TestFailed, true, false),
        (Outcome::Xfail, Class::Pass, true, true),
    ] {
        let cell = Cell { required, ..vmtest_record::samples::cell("k", "a", outcome, class) };
        assert_eq!(is_possible(&cell), fine, "{outcome:?} {class:?} {required}");
    }
}

#[test]
fn an_interruption_of_a_part_is_one_of_the_whole() {
    let mut cut = part(&[0], Outcome::Notrun, Class::Interrupted);
    cut.run.conclude(Some(Class::Interrupted));
    assert_eq!(joined(vec![cut, pass(&[1, 2])]).exit_code.code(), 130);
}
