// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a user sees at the end of a run, on terminals of 80 and 120 columns and in a pipe. The runs in `screens/` were recorded from
//! real and fake guests (flaky, panicking, each-patch), one of them with the failing cells of a `--self-test`;
//! `VMTEST_BLESS=1` rewrites the screens beside them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::layout::{Look, Rows};
use crate::story::Story;
use vmtest_base::sanitize::with_colours;
use vmtest_record::load;
use vmtest_record::run::RunResult;

const RUNS: [&str; 9] = [
    "passing",
    "failing",
    "failing-on-two",
    "each-patch",
    "not-applying",
    "not-building",
    "not-booting",
    "panicking",
    "flaky",
];

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("screens").join(name)
}

fn run(name: &str) -> RunResult {
    let text = fs::read_to_string(place(&format!("{name}.json"))).expect("a record");
    let mut run: RunResult = serde_json::from_str(&text).expect("a record of this version");
    load::check(&run).expect("a record that agrees with itself");
    vmtest_record::attribution::settle(&mut run, None);
    run
}

fn screen(run: &RunResult, look: Look) -> String {
    let directory = format!("/home/u/.local/state/vmtest/runs/{}", run.run);
    super::render(&Story::of(run, &directory), look)
}

#[test]
fn every_screen_is_as_it_was() {
    let pipe = ("pipe", Look::PLAIN);
    let looks = [80, 120].into_iter().flat_map(|width| {
        let look = Look { colour: false, width, rows: Rows::Failed };
        [(format!("{width}"), look), (format!("{width}-colour"), Look { colour: true, ..look })]
    });
    let looks: Vec<(String, Look)> = looks.chain([(pipe.0.to_owned(), pipe.1)]).collect();
    for name in RUNS {
        for (kind, look) in &looks {
            let shown = screen(&run(name), *look);
            let file = place(&format!("{name}-{kind}.txt"));
            if std::env::var_os("VMTEST_BLESS").is_some() {
                fs::write(&file, &shown).expect("written");
            }
            let expected = fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(shown, expected, "{}: VMTEST_BLESS=1 rewrites it", file.display());
        }
    }
}

/// Without the colours, and without the lines that are pasted as they are.
fn drawn(text: &str) -> Vec<String> {
    let plain = text.split('\x1b').map(|part| match part.strip_prefix('[') {
        Some(rest) => rest.split_once('m').map_or("", |(_, text)| text),
        None => part,
    });
    let plain: String = plain.collect();
    let pasted =
        |line: &&str| !["run:    ", "repeat: ", "    | "].iter().any(|start| line.starts_with(start));
    plain.lines().filter(pasted).map(str::to_owned).collect()
}

#[test]
fn screens_fit_and_end_with_the_finding() {
    for name in RUNS {
        let run = run(name);
        for width in [80, 120] {
            let look = Look { colour: true, width, rows: Rows::Failed };
            let shown = screen(&run, look);
            for line in drawn(&shown) {
                let one_word = line.trim_start().split(' ').count() == 1;
                assert!(one_word || line.chars().count() <= width, "{name}: {line}");
            }
            assert_eq!(
                with_colours(&shown),
                shown,
                "{name}: nothing of it is removed on the way to the terminal"
            );
            let plain = screen(&run, Look { colour: false, ..look });
            assert_eq!(drawn(&shown), drawn(&plain), "{name}: colours change nothing else");
            let end = plain.lines().rev().take_while(|line| !line.is_empty()).count();
            let finding = plain.lines().rev().nth(end - 1).expect("a finding");
            assert_eq!(finding.starts_with("PASSED: "), run.exit_code.code() == 0, "{name}: {finding}");
        }
    }
}

#[test]
fn a_failed_stage_is_one_line_and_no_row() {
    for name in ["not-applying", "not-building", "not-booting"] {
        for rows in [Rows::All, Rows::Failed] {
            let shown = screen(&run(name), Look { rows, ..Look::PLAIN });
            assert!(!shown.contains("notrun"), "{name}:\n{shown}");
            let lines = shown.lines().filter(|line| line.starts_with("FAILED: ")).count();
            assert_eq!(lines, 1, "{name}:\n{shown}");
            // The guest says more about a boot.
            let told = shown.contains("(12 tests not run)") || name == "not-booting";
            assert!(told, "{name}:\n{shown}");
        }
    }
}
