// SPDX-License-Identifier: MIT OR Apache-2.0
//! The matrix, one table for each suite, with its filters.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::escape::xml as escape;
use crate::html::{Page, compared, tone};
use vmtest_record::findings;
use vmtest_record::ids::ColumnId;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::Cell;

/// The section with all tables.
pub(super) fn section(text: &mut String, page: &Page<'_>) {
    let run = page.story.run;
    text.push_str(
        "<section id=\"matrix\" tabindex=\"-1\" aria-labelledby=\"matrix-title\">\n\
         <h2 id=\"matrix-title\">Matrix</h2>\n",
    );
    if run.cells.is_empty() {
        text.push_str("<p><strong>Nothing was judged.</strong></p>\n</section>\n");
        return;
    }
    filters(text, &run.cells);
    legend(text, page);
    let mut suites: Vec<&str> = Vec::new();
    for cell in &run.cells {
        if !suites.contains(&cell.suite.as_str()) {
            suites.push(&cell.suite);
        }
    }
    for suite in &suites {
        table(text, page, suite, suites.len() > 1);
    }
    text.push_str("</section>\n");
}

/// Explains the marks after outcomes, if there are any.
fn legend(text: &mut String, page: &Page<'_>) {
    let mut marks = Vec::new();
    if page.story.compared.is_some() {
        marks.push("▼ worse than in the earlier run, △ different reason there");
    }
    if page.story.run.cells.iter().any(|cell| cell.was.is_some()) {
        marks.push("* another outcome than in the column before");
    }
    if !marks.is_empty() {
        let _ = writeln!(text, "<p class=\"meta\">{}</p>", marks.join("; "));
    }
}

fn filters(text: &mut String, cells: &[Cell]) {
    let mut counts: BTreeMap<Outcome, usize> = BTreeMap::new();
    for cell in cells {
        *counts.entry(cell.outcome).or_default() += 1;
    }
    text.push_str(
        "<form class=\"filters\" role=\"search\" aria-label=\"Filter of the matrix\">\n\
         <label>Text <input type=\"search\" id=\"filter-text\" placeholder=\"test, kernel or reason  ( / )\">\
         </label>\n\
         <fieldset><legend>Rows with</legend>\n",
    );
    for (outcome, count) in &counts {
        let name = outcome.name();
        let _ = writeln!(
            text,
            "<label class=\"chip\"><input type=\"checkbox\" name=\"outcome\" value=\"{name}\" checked> \
             {name} <span class=\"count\">{count}</span></label>"
        );
    }
    text.push_str(
        "<button type=\"button\" id=\"filter-bad\">Only what did not pass</button>\n\
         <button type=\"button\" id=\"filter-all\">All</button>\n</fieldset>\n\
         <p id=\"filter-count\" role=\"status\" aria-live=\"polite\"></p>\n\
         <p class=\"keys\">Keys: arrows move between cells, Enter opens one, Esc closes it, / searches.</p>\n\
         </form>\n",
    );
}

fn table(text: &mut String, page: &Page<'_>, suite: &str, named: bool) {
    let cells: Vec<(usize, &Cell)> =
        page.story.run.cells.iter().enumerate().filter(|(_, cell)| cell.suite == suite).collect();
    let mut columns: Vec<ColumnId<'_>> = Vec::new();
    let mut rows: Vec<(&str, &str)> = Vec::new();
    let mut places: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for (at, cell) in &cells {
        let column = place(&mut columns, cell.column());
        let row = place(&mut rows, (&cell.test[..], &cell.subtest[..]));
        places.entry((row, column)).or_insert(*at);
    }
    let caption = if named { format!("Suite {suite}") } else { "Tests down, kernels across".to_owned() };
    let _ = write!(
        text,
        "<div class=\"scroll\" role=\"region\" aria-label=\"{0}\" tabindex=\"0\"><table class=\"matrix\">\
        <caption>{0}</caption>\n<thead><tr><th scope=\"col\">test</th>",
        escape(&caption)
    );
    for ColumnId { kernel, variant, boot, .. } in columns.iter().copied() {
        let variant = if variant.is_empty() || variant == "default" {
            String::new()
        } else {
            format!("<wbr>/{}", escape(variant))
        };
        let boot = if boot.is_empty() { "never booted".to_owned() } else { escape(boot) };
        let _ = write!(
            text,
            "<th scope=\"col\">{}{variant}<span class=\"sub\">{boot}</span></th>",
            escape(kernel).replace('+', "<wbr>+")
        );
    }
    text.push_str("</tr></thead>\n<tbody>\n");
    for (row, (test, subtest)) in rows.iter().enumerate() {
        let of_row: Vec<Option<usize>> =
            (0..columns.len()).map(|column| places.get(&(row, column)).copied()).collect();
        let outcomes: Vec<&str> =
            of_row.iter().flatten().map(|at| page.story.run.cells[*at].outcome.name()).collect();
        let name = if subtest.is_empty() { (*test).to_owned() } else { format!("{test}/{subtest}") };
        let _ = write!(
            text,
            "<tr data-outcomes=\"{}\"><th scope=\"row\">{}</th>",
            outcomes.join(" "),
            escape(&name).replace('/', "/<wbr>")
        );
        for at in of_row {
            cell(text, page, at);
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody></table></div>\n");
}

/// Index of an item in a list; a new item is appended.
fn place<T: PartialEq>(list: &mut Vec<T>, one: T) -> usize {
    list.iter().position(|other| *other == one).unwrap_or_else(|| {
        list.push(one);
        list.len() - 1
    })
}

fn cell(text: &mut String, page: &Page<'_>, at: Option<usize>) {
    let Some(at) = at else {
        text.push_str("<td class=\"none\">–</td>");
        return;
    };
    let cell = &page.story.run.cells[at];
    let (word, tone) = (cell.outcome.name(), tone(findings::verdict(cell), cell.outcome.name()));
    let mark = match (compared::of_cell(page.story, cell), cell.was) {
        (Some(change), _) if change.change.is_worse() => {
            " <span class=\"mark\" title=\"worse than in the earlier run\">▼</span>"
        }
        (Some(_), _) => " <span class=\"mark\" title=\"another outcome than in the earlier run\">△</span>",
        (None, Some(_)) => {
            " <span class=\"mark\" title=\"another outcome than in the column before\">*</span>"
        }
        (None, None) => "",
    };
    let _ = match page.anchor(at) {
        Some(anchor) => write!(
            text,
            "<td class=\"{tone}\"><a href=\"#{anchor}\" data-why=\"{}\" \
             aria-label=\"{word}: {} on {}\">{word}{mark}</a></td>",
            escape(&cell.reason.chars().take(200).collect::<String>()),
            escape(&cell.path()),
            escape(&cell.kernel)
        ),
        None => write!(text, "<td class=\"{tone}\">{word}</td>"),
    };
}
