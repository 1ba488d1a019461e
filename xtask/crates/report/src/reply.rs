// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answer to a series as a mail that can be sent as it is: headers, the sentence, a line for each patch.

use crate::mail::{without_directories, wrap};
use crate::series;
use vmtest_base::error::Class;
use vmtest_record::run::RunResult;
use vmtest_record::series::{Letter, PatchRecord, SeriesRecord, Verdict};

/// Most lines of a check that are quoted for one patch.
const CHECK_LINES: usize = 6;

/// The mail. `from`: who answers, as `Name <address>`.
pub fn render(run: &RunResult, from: &str) -> String {
    let told = run.series.first();
    let mut lines = told.map_or_else(Vec::new, |series| headers(series, from));
    lines.push(String::new());
    lines.extend(wrap(&series::answer(run), "", 8));
    lines.push(String::new());
    for patch in told.into_iter().flat_map(|series| &series.patches) {
        lines.extend(entry(told.map_or(0, |series| series.patches.len()), patch));
    }
    if let Some(series) = told {
        lines.push(String::new());
        lines.extend(wrap(&tested_on(run, series), "", 3));
        // Whoever reads the tag believes that everything passed, not only that nothing got worse.
        if series.verdict == Verdict::Good && run.exit_code == Class::Pass && run.is_all_pass() {
            lines.extend([String::new(), format!("Tested-by: {from}")]);
        }
    }
    without_directories(&lines.join("\n")) + "\n"
}

fn headers(series: &SeriesRecord, from: &str) -> Vec<String> {
    let first = series.patches.first();
    let letter = series.letter.clone().unwrap_or_else(|| Letter {
        subject: first.map(|patch| patch.info.subject.clone()).unwrap_or_default(),
        author: first.map(|patch| patch.info.author.clone()).unwrap_or_default(),
        message_id: first.map(|patch| patch.info.message_id.clone()).unwrap_or_default(),
    });
    // A subject or a name of an untrusted mail must not add a header.
    let line = |text: &str| text.replace(char::is_control, " ");
    let mut lines = vec![format!("From: {}", line(from))];
    if !letter.author.is_empty() {
        lines.push(format!("To: {}", line(&letter.author)));
    }
    let subject = line(&letter.subject);
    let again = if subject.to_ascii_lowercase().starts_with("re:") { "" } else { "Re: " };
    lines.push(format!("Subject: {again}{subject}"));
    if !letter.message_id.is_empty() {
        let id = line(&letter.message_id);
        lines.extend([format!("In-Reply-To: <{id}>"), format!("References: <{id}>")]);
    }
    lines.extend(["MIME-Version: 1.0", "Content-Type: text/plain; charset=UTF-8"].map(str::to_owned));
    lines
}

/// The quoted subject of a patch, its result, and what the checks found.
fn entry(count: usize, patch: &PatchRecord) -> Vec<String> {
    let mut lines = wrap(&format!("> {}/{count} {}", patch.number, patch.info.subject), "", 1);
    lines.extend(wrap(&series::result(patch), "", 4));
    for check in patch.checks.values().filter(|check| !check.lines.is_empty()) {
        let more = check.lines.len().saturating_sub(CHECK_LINES);
        lines.extend(check.lines.iter().take(CHECK_LINES).flat_map(|line| wrap(line, "    ", 1)));
        if more > 0 {
            lines.push(format!("    and {more} more"));
        }
    }
    lines.push(String::new());
    lines
}

/// `Tested on src:6.18.15 (default), emulated: 121 tests in each of 4 kernels.`
fn tested_on(run: &RunResult, series: &SeriesRecord) -> String {
    let base = if series.base.is_empty() { &series.kernel } else { &series.base };
    let variant = if series.variant.is_empty() { String::new() } else { format!(" ({})", series.variant) };
    let tests = run.cells.iter().filter(|cell| cell.kernel == series.kernel).count();
    let emulated = run.boots.iter().any(|boot| boot.accel == "tcg");
    let how = if emulated { "emulated" } else { "with KVM" };
    format!("Tested on {base}{variant}, {how}: {} kernels, {tests} tests on the last.", run.kernels.len())
}
