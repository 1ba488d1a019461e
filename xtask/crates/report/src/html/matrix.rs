// SPDX-License-Identifier: MIT OR Apache-2.0
//! The matrix: a fold for each group of tests, with its count, and the tests behind it.

use std::collections::BTreeMap;

use maud::{Markup, PreEscaped, html};

use crate::html::{MATRIX, Page, bounded, compared, more, tone};
use crate::names;
use vmtest_record::findings::{self, TestStatus};
use vmtest_record::ids::ColumnId;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{Cell, Role};

/// Groups of only one test are shown together if there are at least this many.
const FEW: usize = 3;

/// A test, and its cell in each column.
struct Row {
    name: String,
    cells: Vec<Option<usize>>,
    /// Something is wrong in this row.
    bad: bool,
    /// It fails in the last column in which it ran, perhaps as it did before.
    fails: bool,
    passed: bool,
}

impl Row {
    fn is_loud(&self) -> bool {
        self.bad || self.fails
    }
}

struct Group {
    name: String,
    rows: Vec<Row>,
}

/// The section with all suites.
pub(super) fn section(page: &Page<'_>) -> Markup {
    let run = page.story.run;
    let mut suites: Vec<&str> = Vec::new();
    for cell in &run.cells {
        place(&mut suites, &cell.suite[..]);
    }
    let parts: Vec<_> =
        suites.iter().map(|suite| (*suite, columns(page, suite), groups(page, suite))).collect();
    let bad = parts.iter().flat_map(|(.., groups)| groups).any(|group| group.rows.iter().any(Row::is_loud));
    html! {
        section #matrix tabindex="-1" aria-labelledby="matrix-title" {
            h2 #matrix-title { "Tests" }
            @if run.cells.is_empty() { p { strong { "Nothing was judged." } } }
            @else { (filters(bad)) (legend(page)) }
            @for (suite, columns, groups) in &parts {
                @if parts.len() > 1 { h3 { "Suite " (suite) } }
                @if let [only] = columns[..] { p.meta { "on " (page.column(only)) } }
                (cards(page, columns, groups, suites.len()))
            }
        }
    }
}

fn cards(page: &Page<'_>, columns: &[ColumnId<'_>], groups: &[Group], suites: usize) -> Markup {
    let (cards, shown) = bounded(groups.iter().map(|one| group(page, columns, one)), MATRIX / suites);
    let width: usize = columns.iter().map(|one| title(page, *one).chars().count().clamp(6, 16)).sum();
    html! {
        div.groups style={ "--w:" (13 + width / 2) "rem" } { (cards) }
        (more(groups.len(), shown, "groups of tests"))
    }
}

/// Explains the marks after outcomes, if there are any.
fn legend(page: &Page<'_>) -> Markup {
    let mut marks = Vec::new();
    if page.story.compared.is_some() {
        marks.push("▼ worse than in the earlier run, △ different reason there");
    }
    if page.story.run.cells.iter().any(|cell| cell.was.is_some()) {
        marks.push("* another outcome than in the column before");
    }
    if (0..page.story.run.cells.len()).any(|at| page.origin(at) != at) {
        marks.push("grey: as before, and leads to the first one");
    }
    html! { @if !marks.is_empty() { p.meta { (marks.join("; ")) } } }
}

fn filters(bad: bool) -> Markup {
    html! {
        form.filters role="search" aria-label="Filter of the tests" {
            label { "Search " input #filter-text type="search" placeholder="test, kernel, outcome or reason  ( / )"; }
            @if bad {
                label { input #filter-bad type="checkbox" checked; " Only what did not pass" }
            }
            span #filter-count role="status" aria-live="polite" {}
        }
    }
}

fn columns<'a>(page: &Page<'a>, suite: &str) -> Vec<ColumnId<'a>> {
    let mut columns = Vec::new();
    for cell in page.story.run.cells.iter().filter(|cell| cell.suite == suite) {
        place(&mut columns, cell.column());
    }
    columns
}

fn groups(page: &Page<'_>, suite: &str) -> Vec<Group> {
    let columns = columns(page, suite);
    let mut tests: Vec<Group> = Vec::new();
    let (mut of_test, mut of_row) = (BTreeMap::new(), BTreeMap::new());
    for (at, cell) in page.story.run.cells.iter().enumerate().filter(|(_, cell)| cell.suite == suite) {
        let group = *of_test.entry(&cell.test).or_insert_with(|| {
            tests.push(Group { name: cell.test.clone(), rows: Vec::new() });
            tests.len() - 1
        });
        let rows = &mut tests[group].rows;
        let row = *of_row.entry((&cell.test, &cell.subtest)).or_insert_with(|| {
            let cells = vec![None; columns.len()];
            rows.push(Row { name: cell.path(), cells, bad: false, fails: false, passed: false });
            rows.len() - 1
        });
        let Some(column) = columns.iter().position(|column| *column == cell.column()) else { continue };
        rows[row].cells[column].get_or_insert(at);
        let verdict = findings::verdict(cell);
        // A whole column that failed is one line above the matrix, and in its head.
        if page.stage(cell).is_none() {
            rows[row].bad |= verdict.is_bad();
            rows[row].fails = matches!(cell.outcome, Outcome::Fail | Outcome::Crash | Outcome::Timeout);
        }
        rows[row].passed |= verdict == TestStatus::Passed;
    }
    let (singles, mut groups): (Vec<_>, Vec<_>) = tests.into_iter().partition(|group| group.rows.len() == 1);
    let (few, rest) = if singles.len() < FEW { (singles, Vec::new()) } else { (Vec::new(), singles) };
    groups.extend(few);
    for Group { name, rows } in &mut groups {
        let prefix = format!("{name}/");
        rows.iter_mut().for_each(|row| row.name = row.name.replacen(&prefix, "", 1));
    }
    if !rest.is_empty() {
        let rows = rest.into_iter().flat_map(|group| group.rows).collect();
        groups.push(Group { name: "single tests".to_owned(), rows });
    }
    groups
}

/// Index of an item in a list; a new item is appended.
fn place<T: PartialEq>(list: &mut Vec<T>, one: T) -> usize {
    list.iter().position(|other| *other == one).unwrap_or_else(|| {
        list.push(one);
        list.len() - 1
    })
}

fn group(page: &Page<'_>, columns: &[ColumnId<'_>], group: &Group) -> Markup {
    let bad = group.rows.iter().any(|row| row.bad);
    let loud = group.rows.iter().any(Row::is_loud);
    let passed = group.rows.iter().filter(|row| row.passed && !row.is_loud()).count();
    let rows = group.rows.iter().map(|one| row(page, one, columns.len() > 1));
    let (rows, shown) = bounded(rows, MATRIX / 2);
    html! {
        details.group.bad[bad].loud[loud] open[loud] {
            summary { h3 { (group.name) } " " span.count { (passed) "/" (group.rows.len()) } }
            div.scroll role="region" aria-label={ "Tests of " (group.name) } tabindex="0" {
                table.matrix {
                    @if columns.len() > 1 {
                        thead { tr { th scope="col" { "test" } @for one in columns { (head(page, *one)) } } }
                    }
                    tbody { (rows) }
                }
            }
            (more(group.rows.len(), shown, "tests"))
        }
    }
}

/// The name of a column: a patch has a number, and the table of patches says the rest.
fn title(page: &Page<'_>, id: ColumnId<'_>) -> String {
    let run = page.story.run;
    let steps = run.kernels.iter().any(|kernel| kernel.role == Some(Role::Step));
    let short = page.kernel(id.kernel).filter(|_| steps).and_then(|kernel| match names::step(run, kernel) {
        Some((at, of)) => Some(format!("{at}/{of}")),
        None => kernel.role.map(|_| "base".to_owned()),
    });
    let name = short.unwrap_or_else(|| names::kernel(run, id.kernel));
    let variant = Some(id.variant).filter(|variant| !["", "default"].contains(variant));
    format!("{name}{}", variant.map(|variant| format!("/{variant}")).unwrap_or_default())
}

fn head(page: &Page<'_>, id: ColumnId<'_>) -> Markup {
    let failed = page.stages.iter().any(|stage| stage.cell.column() == id);
    html! {
        th scope="col" title=(page.column(id)) { (title(page, id)) @if failed { span.sub { "not run" } } }
    }
}

fn row(page: &Page<'_>, row: &Row, many: bool) -> Markup {
    html! {
        tr.quiet[!row.is_loud()] {
            th scope="row" { (row.name) }
            @for at in &row.cells { (cell(page, *at, many)) }
        }
    }
}

fn cell(page: &Page<'_>, at: Option<usize>, many: bool) -> Markup {
    let Some(at) = at else { return PreEscaped("<td class=\"none\">–</td>".to_owned()) };
    let cell: &Cell = &page.story.run.cells[at];
    let verdict = findings::verdict(cell);
    let word = cell.outcome.name();
    // Something that failed before, or a whole column, is loud in another place.
    let is_again = page.origin(at) != at;
    let tone = if is_again { "aside" } else { tone(verdict, word) };
    let mark = match (compared::of_cell(page.story, cell), cell.was) {
        (Some(change), _) if change.change.is_worse() => " ▼",
        (Some(_), _) => " △",
        (None, Some(_)) => " *",
        (None, None) => "",
    };
    match page.anchor(at) {
        Some(anchor) => {
            let why = cell.reason.chars().take(200).collect::<String>();
            let name = format!("{word}: {} on {}", cell.path(), cell.kernel);
            html! {
                td class=(tone) {
                    a href=(anchor) data-why=(why) aria-label=(name) title=[is_again.then_some("as before")] {
                        @if page.stage(cell).is_some() { "–" } @else { (word) (mark) }
                    }
                }
            }
        }
        None if many && word == "pass" => PreEscaped("<td title=\"pass\">✓</td>".to_owned()),
        None => html! { td class=(tone) { (word) } },
    }
}
