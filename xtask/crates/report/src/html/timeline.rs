// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the time of a run went.

use maud::{Markup, html};

use crate::html::heads;
use vmtest_record::run::{PhaseRecord, RunResult};

/// A phase shorter than this share of the run, in thousandths, is not drawn.
const WORTH_A_ROW: u64 = 5;
const MOST: usize = 60;

/// The phases as bars over the time of the run.
pub(super) fn section(run: &RunResult) -> Markup {
    let total = run.phases.iter().map(|phase| phase.started_ms + phase.duration_ms).max().unwrap_or(0);
    if total == 0 {
        return html! {};
    }
    let drawn =
        |phase: &&PhaseRecord| !phase.cached && phase.duration_ms.saturating_mul(1000) / total >= WORTH_A_ROW;
    let mut phases: Vec<&PhaseRecord> = run.phases.iter().filter(drawn).collect();
    phases.sort_by_key(|phase| phase.started_ms);
    let share = |ms: u64| ms as f64 * 100.0 / total as f64;
    let bar = |phase: &PhaseRecord| {
        let (from, wide) = (share(phase.started_ms), share(phase.duration_ms).max(0.3));
        format!("margin-left:{from:.2}%;width:{wide:.2}%")
    };
    let seconds = |ms: u64| format!("{:.1}", ms as f64 / 1000.0);
    html! {
        section {
            details {
                summary { h2 { "Where the time went: " (seconds(total)) " s" } }
                div.scroll tabindex="0" role="region" aria-label="Timeline" {
                    table.timeline {
                        (heads(&["phase", "of", "seconds", "when"]))
                        tbody {
                            @for phase in phases.iter().take(MOST) {
                                tr {
                                    th scope="row" { (phase.name) } td { (phase.kernel) }
                                    td.number { (seconds(phase.duration_ms)) } td.when { span.bar style=(bar(phase)) {} }
                                }
                            }
                        }
                    }
                }
                p.meta {
                    (run.phases.len() - phases.len().min(MOST)) " phases were already done, or too short to show."
                }
            }
        }
    }
}
