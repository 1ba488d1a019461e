// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which kernels of a run have which known flaw, as a table for the terminal, Markdown and HTML.

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::escape::markdown;
use crate::layout::wrapped;
use vmtest_record::flaws::{Flaw, Shown, flaws};
use vmtest_record::run::RunResult;

/// Fewest kernels that make a table worth its room.
const KERNELS: usize = 3;

/// The flaws of the kernels of a run; empty for a run of one or two kernels.
fn of(run: &RunResult) -> Vec<Flaw<'_>> {
    let mut all = flaws(run);
    all.retain(|flaw| flaw.kernels.len() >= KERNELS);
    all
}

/// `first bad debian:7.2.11, first good debian:7.3.4`
fn history(flaw: &Flaw<'_>) -> String {
    let change = |(kernel, bad): (&str, bool)| format!("first {} {kernel}", if bad { "bad" } else { "good" });
    flaw.changes().into_iter().map(change).collect::<Vec<_>>().join(", ")
}

/// The table; each flaw has a letter.
pub fn render(text: &mut String, run: &RunResult) {
    let all = of(run);
    let Some(first) = all.first() else { return };
    let letters: Vec<char> = ('A'..='Z').take(all.len()).collect();
    text.push_str("\nknown flaws (x: it has it, -: it does not, ?: not judged)\n");
    for (flaw, letter) in all.iter().zip(&letters) {
        text.push_str(&wrapped(&format!("{letter} {}: {}", flaw.name, history(flaw))));
    }
    let width = first.kernels.iter().map(|(kernel, _)| kernel.len()).max().unwrap_or(0);
    let heads: Vec<String> = letters.iter().map(char::to_string).collect();
    let _ = writeln!(text, "    {:width$}  {}", "", heads.join(" "));
    for (at, (kernel, _)) in first.kernels.iter().enumerate() {
        let marks: Vec<&str> = all.iter().map(|flaw| mark(flaw.kernels[at].1)).collect();
        let _ = writeln!(text, "    {kernel:width$}  {}", marks.join(" "));
    }
}

/// The same for Markdown.
pub fn render_markdown(text: &mut String, run: &RunResult) {
    let all = of(run);
    let Some(first) = all.first() else { return };
    text.push_str("\n| known flaw |");
    for (kernel, _) in &first.kernels {
        let _ = write!(text, " {} |", markdown(kernel));
    }
    let _ = writeln!(text, " history |\n|---|{}---|", "---|".repeat(first.kernels.len()));
    for flaw in &all {
        let marks: Vec<&str> = flaw.kernels.iter().map(|(_, shown)| mark(*shown)).collect();
        let (name, history) = (markdown(flaw.name), markdown(&history(flaw)));
        let _ = writeln!(text, "| {name} | {} | {history} |", marks.join(" | "));
    }
}

/// The same for the page.
pub fn section(run: &RunResult) -> Markup {
    let all = of(run);
    html! {
        @if let Some(first) = all.first() {
            section aria-labelledby="flaws-title" {
                h2 #flaws-title { "Known flaws" }
                p.meta { "x: the kernel has it, -: it does not, ?: not judged" }
                div.scroll tabindex="0" role="region" aria-label="Known flaws of each kernel" {
                    table.plain {
                        thead {
                            tr {
                                th scope="col" { "kernel" }
                                @for flaw in &all { th scope="col" { (flaw.name) } }
                            }
                        }
                        tbody {
                            @for (at, (kernel, _)) in first.kernels.iter().enumerate() {
                                tr {
                                    th scope="row" { (kernel) }
                                    @for flaw in &all { td { (mark(flaw.kernels[at].1)) } }
                                }
                            }
                            tr {
                                th scope="row" { "history" }
                                @for flaw in &all { td { (history(flaw)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn mark(shown: Shown) -> &'static str {
    match shown {
        Shown::Yes => "x",
        Shown::No => "-",
        Shown::Unknown => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmtest_base::error::Class;
    use vmtest_record::outcome::Outcome;
    use vmtest_record::run::Kernel;
    use vmtest_record::samples;

    #[test]
    fn kernels_and_flaws_make_a_table() {
        let outcomes = [("debian:7.0.4", Outcome::Pass), ("debian:7.2.11", Outcome::Xfail)];
        let cell = |(kernel, outcome): &(&str, Outcome)| {
            let mut cell = samples::cell(kernel, "one", *outcome, Class::Pass);
            cell.reason = "it leaks (docs/findings/a-leak.md)".into();
            cell
        };
        let mut run = samples::run(outcomes.iter().map(cell).collect());
        let kernel = |id: &str| Kernel { id: id.into(), ..Kernel::default() };
        run.kernels = vec![kernel("debian:7.2.11"), kernel("debian:7.0.4")];
        let mut text = String::new();
        render(&mut text, &run);
        assert_eq!(text, "", "two kernels");
        run.kernels.push(kernel("debian:6.12.1"));
        render(&mut text, &run);
        let lines: Vec<&str> = text.lines().skip(2).map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "    A a-leak: first bad debian:7.2.11",
                "                   A",
                "    debian:6.12.1  ?",
                "    debian:7.0.4   -",
                "    debian:7.2.11  x",
            ]
        );
        text.clear();
        render_markdown(&mut text, &run);
        let page = section(&run).into_string();
        let row = "<th scope=\"row\">debian:7.2.11</th><td>x</td>";
        assert!(page.contains(row) && page.contains("<td>first bad debian:7.2.11</td>"), "{page}");
        assert!(text.ends_with("| a-leak | ? | - | x | first bad debian:7.2.11 |\n"), "{text}");
    }
}
