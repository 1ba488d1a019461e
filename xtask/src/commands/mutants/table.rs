// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exporter: the results of mutants, as a table for a terminal and as data.

use std::fmt::Write as _;

use vmtest_base::error::PRECEDENCE;
use vmtest_engine::mutants::{DEFAULT_VARIANT, Mutant, MutantResult, MutantStatus, Sign};
use vmtest_report::layout::{Look, flush};

/// Most subtests that a line names.
const NAMED: usize = 6;

/// One block for each mutant, and the count of each verdict.
pub fn render(findings: &[(&Mutant, MutantResult)], directory: &str, exit_code: u8, look: Look) -> String {
    let mut text = String::new();
    for (mutant, finding) in findings {
        let colour = if finding.verdict == MutantStatus::Noticed { "32" } else { "31" };
        let word = finding.verdict.name();
        let _ = match look.colour {
            true => writeln!(text, "\x1b[{colour}m{word}\x1b[0m {}", mutant.name),
            false => writeln!(text, "{word} {}", mutant.name),
        };
        let named: Vec<&str> = finding.noticed_by.iter().take(NAMED).map(String::as_str).collect();
        let more = finding.noticed_by.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let by = if named.is_empty() { "no subtest".to_owned() } else { named.join(", ") };
        let mut line = |name: &str, what: &str| {
            for (at, part) in what.lines().enumerate() {
                let name = if at == 0 { name } else { "" };
                text.push_str(&flush(&format!("    {name:9}{part}")));
            }
        };
        line("breaks", &mutant.breaks);
        if let Some(variant) = &mutant.variant {
            line("variant", variant);
        }
        line("noticed", &format!("by {by}{more}"));
        if !finding.kernel.is_empty() {
            line("kernel", &finding.kernel);
        }
        if !finding.why.is_empty() {
            line("but", &finding.why);
        }
        text.push('\n');
    }
    let _ = writeln!(text, "run:    {directory}");
    let verdicts = PRECEDENCE.into_iter().flat_map(|class| {
        let same = findings.iter().filter(move |(_, finding)| finding.verdict.class() == class);
        let mut names: Vec<&str> = same.map(|(_, finding)| finding.verdict.name()).collect();
        names.sort_unstable();
        let count = |same: &[&str]| format!("{} {}", same[0].to_lowercase(), same.len());
        names.chunk_by(|a, b| a == b).map(count).collect::<Vec<_>>()
    });
    let verdicts: Vec<String> = verdicts.collect();
    let _ = writeln!(text, "exit {exit_code}: {}", verdicts.join(", "));
    text
}

/// The results as JSON.
pub fn json(
    findings: &[(&Mutant, MutantResult)],
    run: &str,
    kernel: &str,
    exit_code: u8,
) -> serde_json::Value {
    let one = |(mutant, finding): &(&Mutant, MutantResult)| {
        serde_json::json!({
            "name": mutant.name,
            "breaks": mutant.breaks,
            "variant": mutant.variant.as_deref().unwrap_or(DEFAULT_VARIANT),
            "expected": mutant.signs.iter().map(Sign::text).collect::<Vec<_>>(),
            "verdict": finding.verdict.name().to_lowercase(),
            "class": finding.verdict.class().code(),
            "noticed_by": finding.noticed_by,
            "kernel": finding.kernel,
            "why": finding.why,
        })
    };
    serde_json::json!({
        "schema": 1,
        "run": run,
        "kernel": kernel,
        "exit_code": exit_code,
        "mutants": findings.iter().map(one).collect::<Vec<_>>(),
    })
}
