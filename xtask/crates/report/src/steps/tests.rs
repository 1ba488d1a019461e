// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::layout::WIDTH;
use vmtest_base::error::Class;
use vmtest_record::samples::boot;
use vmtest_record::samples::cell;
use vmtest_record::samples::run;

fn kernel(at: usize, of: usize) -> Kernel {
    Kernel {
        id: if at == 0 { "src:6.18.15".into() } else { format!("src:6.18.15+fsession@{at}/{of}") },
        release: "6.18.15".into(),
        series: (1..=at).map(|number| format!("bpf: subject of patch {number}")).collect(),
        role: Some(Role::Step).filter(|_| at < of),
        compared_to: at.checked_sub(1).map(|before| kernel(before, of).id),
        ..Kernel::default()
    }
}

/// A series in which patch 2 makes everything pass, 3 breaks the build, and 4 breaks one test
/// permanently.
fn example(patches: usize) -> RunResult {
    let mut run = run(Vec::new());
    for at in 0..=patches {
        let kernel = kernel(at, patches);
        for name in ["runs_twice", "a_subtest_with_a_name_that_nobody_would_ever_give_it"] {
            let (outcome, class) = match at {
                0 | 1 => (Outcome::Skip, Class::Incomplete),
                3 => (Outcome::Notrun, Class::KernelBuild),
                4.. if name == "runs_twice" => (Outcome::Fail, Class::TestFailed),
                _ => (Outcome::Pass, Class::Pass),
            };
            run.cells.push(cell(&kernel.id, name, outcome, class));
        }
        if at != 3 {
            run.boots.push(boot(&kernel.id, Class::Pass));
        }
        run.kernels
            .push(Kernel { release: if at == 3 { String::new() } else { kernel.release.clone() }, ..kernel });
    }
    reference_columns::settle(&mut run);
    run.conclude(None);
    run
}

fn rendered(run: &RunResult) -> String {
    let mut run = run.clone();
    vmtest_record::attribution::settle(&mut run, None);
    let mut text = String::new();
    render(&mut text, &run, Look::PLAIN);
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{line}");
        assert_eq!(line, line.trim_end());
    }
    text
}

#[test]
fn the_table_shows_where_it_starts_and_what_breaks() {
    let text = rendered(&example(5));
    let table: Vec<&str> = text
        .lines()
        .filter(|line| ["build", "boot", "basic"].iter().any(|name| line.starts_with(name)))
        .collect();
    assert!(table[0].starts_with("build") && table[0].ends_with("ok ok ok F! ok ok"), "{}", table[0]);
    assert!(table[1].starts_with("boot") && table[1].ends_with("ok ok ok -  ok ok"), "{}", table[1]);
    assert!(
        table[2].starts_with("basic/runs_twice") && table[2].ends_with(".  .  P* -  F! F"),
        "{}",
        table[2]
    );
    assert!(table[3].ends_with(".  .  P* -  P  P"), "{}", table[3]);
    for line in [
        "   3  bpf: subject of patch 3",
        "patch 3/5 \"bpf: subject of patch 3\" breaks the build: kernel build failed",
        "patch 4/5 \"bpf: subject of patch 4\" breaks 1 test (basic/runs_twice)",
        "patch 4/5 \"bpf: subject of patch 4\" builds again",
    ] {
        assert!(text.lines().any(|seen| seen == line), "{line}\n{text}");
    }
    assert!(text.contains("patch 2/5 \"bpf: subject of patch 2\" lets 2 tests (basic/runs_twice,"), "{text}");
    assert!(text.contains("* starts to pass   ! breaks what worked"));
}

#[test]
fn a_long_series_is_cut_into_tables_that_fit() {
    let text = rendered(&example(40));
    assert!(text.matches("\nbuild").count() > 1, "{text}");
    for number in 0..=40 {
        let number = if number == 0 { "base".to_owned() } else { number.to_string() };
        let heads = text.lines().filter(|line| line.split_whitespace().any(|word| word == number));
        assert!(heads.count() >= 2, "{number} in the list and above a column\n{text}");
    }
    rendered(&example(120));
}

#[test]
fn a_boot_that_dies_is_broken_once() {
    let mut run = example(2);
    run.boots[1].class = Class::Panic;
    run.boots[2].class = Class::Panic;
    let text = rendered(&run);
    assert!(
        text.contains("patch 1/2 \"bpf: subject of patch 1\" breaks the boot: kernel panic or oops"),
        "{text}"
    );
    assert!(text.contains("patch 2/2 \"bpf: subject of patch 2\" fails like the kernel before it"), "{text}");
}

#[test]
fn a_series_that_changes_nothing_says_so() {
    let mut run = example(2);
    run.cells.iter_mut().for_each(|cell| {
        cell.outcome = Outcome::Skip;
        cell.was = None;
    });
    assert!(rendered(&run).ends_with("no patch lets a test pass, and none breaks one\n"));
}
