// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exporter: the evidence that the subtests can fail, as the page docs/evidence/coverage.md.

use std::fmt::Write as _;

use vmtest_engine::coverage::{Evidence, Noticed, Noticing};

/// What a page was made from.
pub struct Source<'a> {
    /// Column without damage.
    pub kernel: &'a str,
    pub accel: &'a str,
    /// Name of the run.
    pub run: &'a str,
}

/// The page. Its only timestamp is the name of the run, so it changes only when the evidence does.
pub fn page(subtests: &[Evidence], mutants: &[Noticing], source: &Source<'_>) -> String {
    let Source { kernel, accel, run } = source;
    let mut text = format!(
        "<!-- SPDX-License-Identifier: MIT OR Apache-2.0 -->\n\
         # What shows that the tests can fail\n\n\
         Written by `cargo xtask test --coverage` (run {run}, {kernel}, {accel}); not by hand.\n\n\
         Each subtest of the own suite passes on that kernel, and was then run with something broken on purpose:\n\n\
         - *turned*: one of its expectations is turned round. It shows that they decide the verdict.\n\
         - *blind*: its BPF programs see nothing, and programs made of instructions do nothing.\n\
         - *mutants*: the series with one more patch, which breaks it (`patches/mutants/`). One that fails more than a quarter\n\
         of all counts only for the subtests that it names.\n\n\
         `fail` is what has to come of it; `-` is a pass. A crash or a time limit does not count. Each subtest needs `fail` when\n\
         turned, and by programs that see nothing or by a mutant. {} subtests, {} of them without that.\n\n\
         | subtest | turned | blind | mutants |\n|---|---|---|---|\n",
        subtests.len(),
        subtests.iter().filter(|one| !one.unproven().is_empty()).count(),
    );
    let word = |fails: bool| if fails { "fail" } else { "-" };
    for one in subtests {
        let mutants = match one.mutants.len() {
            0 => "-".to_owned(),
            // Some mutants break everything; their names say nothing about this subtest.
            count @ 6.. => format!("{}, and {} more", one.mutants[..4].join(", "), count - 4),
            _ => one.mutants.join(", "),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {mutants} |",
            one.name.path(),
            word(one.turned),
            word(one.blind)
        );
    }
    for one in subtests.iter().filter(|one| !one.unproven().is_empty()) {
        let _ = writeln!(text, "\n**{}**: {}.", one.name.path(), one.unproven().join("; "));
    }
    text.push_str(
        "\n## What each suite notices\n\n\
         Cells that pass without the mutant and fail with it, of the own suite and of the tree's own `fsession_test`\n\
         (`--suite upstream`), and what happened to the kernel. A mutant with a variant in parentheses is compared with the series\n\
         on that variant.\n\n\
         | mutant | breaks | own | upstream |\n|---|---|---|---|\n",
    );
    for one in mutants {
        let upstream = one.upstream.as_ref().map_or_else(|| "not run".to_owned(), noticed);
        let own = noticed(&one.own);
        let _ = writeln!(text, "| {} | {} | {own} | {upstream} |", one.mutant, plain(&one.breaks));
    }
    text
}

fn noticed(noticed: &Noticed) -> String {
    match noticed.otherwise.as_str() {
        "" => noticed.failed.to_string(),
        otherwise => format!("{}; {}", noticed.failed, plain(otherwise)),
    }
}

/// Text inside a table cell.
fn plain(text: &str) -> String {
    text.lines().next().unwrap_or_default().replace('|', "\\|")
}

/// What is unproven, one line each, for a terminal.
pub fn unproven(subtests: &[Evidence], upstream: &str) -> String {
    let mut text = String::new();
    for one in subtests.iter().filter(|one| !one.unproven().is_empty()) {
        let _ = writeln!(text, "UNPROVEN {}: {}", one.name.path(), one.unproven().join("; "));
    }
    if !upstream.is_empty() {
        let _ = writeln!(text, "UNPROVEN upstream: without a mutant {upstream}");
    }
    text
}
