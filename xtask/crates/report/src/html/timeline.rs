// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the time of a run went.

use std::fmt::Write as _;

use crate::escape::xml as escape;
use vmtest_record::run::{PhaseRecord, RunResult};

/// A phase shorter than this share of the run, in thousandths, is not drawn.
const WORTH_A_ROW: u64 = 5;
const MOST: usize = 60;

/// The phases as bars over the time of the run.
pub(super) fn section(text: &mut String, run: &RunResult) {
    let total = run.phases.iter().map(|phase| phase.started_ms + phase.duration_ms).max().unwrap_or(0);
    if total == 0 {
        return;
    }
    let drawn =
        |phase: &&PhaseRecord| !phase.cached && phase.duration_ms.saturating_mul(1000) / total >= WORTH_A_ROW;
    let mut phases: Vec<&PhaseRecord> = run.phases.iter().filter(drawn).collect();
    phases.sort_by_key(|phase| phase.started_ms);
    let _ = writeln!(
        text,
        "<section aria-labelledby=\"time-title\">\n<h2 id=\"time-title\">Where the time went: {:.1} s\
        </h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Timeline\">\
        <table class=\"timeline\"><thead><tr><th scope=\"col\">phase</th><th scope=\"col\">of</th>\
        <th scope=\"col\">seconds</th><th scope=\"col\">when</th></tr></thead>\n<tbody>",
        total as f64 / 1000.0
    );
    for phase in phases.iter().take(MOST) {
        let share = |ms: u64| ms as f64 * 100.0 / total as f64;
        let _ = writeln!(
            text,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"number\">{:.1}</td><td class=\"when\">\
            <span class=\"bar\" style=\"margin-left:{:.2}%;width:{:.2}%\"></span></td></tr>",
            escape(&phase.name),
            escape(&phase.kernel),
            phase.duration_ms as f64 / 1000.0,
            share(phase.started_ms),
            share(phase.duration_ms).max(0.3)
        );
    }
    let _ = writeln!(
        text,
        "</tbody></table></div>\n<p class=\"meta\">{} phases were already done, or too short to show.</p>\n\
        </section>",
        run.phases.len() - phases.len().min(MOST)
    );
}
