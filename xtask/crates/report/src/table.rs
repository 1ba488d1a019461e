// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exporter: the matrix as a table for a terminal of 80 columns, followed by what a reader needs next: the
//! reason and the log of everything that did not pass, the classes with their counts, where the run is and
//! how to repeat it.

use std::fmt::Write as _;

use crate::layout::{Look, WIDTH, flush, wrapped};
use crate::steps;
use crate::story::Story;
use vmtest_base::error::{Class, PRECEDENCE};
use vmtest_record::findings;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{Cell, Kernel, Role, RunResult, SplatRecord};

/// Most log lines shown for one cell.
const LOG_LINES: usize = 12;
/// Follows an outcome that differs from the one it is compared with.
const CHANGED: &str = "*";
/// Most splats that are shown, and most lines of each.
const MAX_SPLATS: usize = 6;
const SPLAT_LINES: usize = 18;
/// Most cells whose log is shown; the rest is in run.json.
const DETAILED: usize = 10;

/// A column: a kernel in a variant.
#[derive(PartialEq, Eq, Clone)]
struct TableColumn<'a> {
    kernel: &'a str,
    variant: &'a str,
    boot: &'a str,
}

impl<'a> TableColumn<'a> {
    fn of(cell: &'a Cell) -> TableColumn<'a> {
        TableColumn { kernel: &cell.kernel, variant: &cell.variant, boot: &cell.boot }
    }

    fn has(&self, cell: &Cell) -> bool {
        TableColumn::of(cell) == *self
    }

    /// How it was booted is included only if that distinguishes it from another column.
    fn name(&self, run: &RunResult) -> String {
        let variant = if self.variant.is_empty() || self.variant == "default" { "" } else { self.variant };
        let slash = if variant.is_empty() { "" } else { "/" };
        let other = |cell: &Cell| {
            (&cell.kernel[..], &cell.variant[..]) == (self.kernel, self.variant) && cell.boot != self.boot
        };
        let boot = if !self.boot.is_empty() && run.cells.iter().any(other) {
            format!(" ({})", self.boot)
        } else {
            String::new()
        };
        format!("{}{slash}{variant}{boot}", self.kernel)
    }
}

pub fn render(story: &Story<'_>, look: Look) -> String {
    let Story { run, directory, compared, .. } = *story;
    let mut text = String::new();
    if steps::applies(run) {
        steps::render(&mut text, run, look);
    } else {
        matrix(&mut text, run, look);
        comparison(&mut text, run);
    }
    if let Some(own) = findings::own_tests(run) {
        let _ = write!(text, "\n{}{}", flush(&own.what), wrapped(&own.list()));
    }
    figures(&mut text, run);
    details(&mut text, run, look);
    boots(&mut text, run);
    splats(&mut text, run);
    for note in notes(run) {
        let _ = writeln!(text, "\nthe series: {note}");
    }
    if let Some(diff) = compared {
        let _ = write!(text, "\n{}", crate::diff::render(diff));
    }
    let _ = writeln!(text, "\nrun:    {directory}");
    text.push_str(&repetitions(run));
    let _ = writeln!(text, "repeat: {}", run.command.join(" "));
    let _ = writeln!(text, "{}", verdict(story));
    text
}

/// The last line of a run. Compared with an earlier run, the comparison decides, and the result of the run
/// itself is added.
pub fn verdict(story: &Story<'_>) -> String {
    let classes = classes(story.run);
    match story.compared {
        None => classes,
        Some(diff) => {
            let code = story.exit_class().code();
            format!("exit {code}: {}; by itself {classes}", crate::diff::line(diff))
        }
    }
}

/// Notes about the series of this run, each once.
pub fn notes(run: &RunResult) -> Vec<&str> {
    let mut notes: Vec<&str> = Vec::new();
    for note in run.kernels.iter().flat_map(|kernel| &kernel.notes) {
        if !notes.contains(&note.as_str()) {
            notes.push(note);
        }
    }
    notes
}

/// How often subtests ran, if more than once.
fn repetitions(run: &RunResult) -> String {
    let times = || run.cells.iter().map(|cell| cell.attempts).filter(|attempts| *attempts > 0);
    match (times().min(), times().max()) {
        (Some(least), Some(most)) if most > 1 && least == most => format!("ran:    {most} times each\n"),
        (Some(least), Some(most)) if most > 1 => format!("ran:    {least} to {most} times each\n"),
        _ => String::new(),
    }
}

fn columns(run: &RunResult) -> Vec<TableColumn<'_>> {
    let mut columns = Vec::new();
    for cell in &run.cells {
        let column = TableColumn::of(cell);
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    columns
}

fn rows(run: &RunResult) -> Vec<(&str, &str)> {
    let mut rows = Vec::new();
    for cell in &run.cells {
        let row = (cell.test.as_str(), cell.subtest.as_str());
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}

fn matrix(text: &mut String, run: &RunResult, look: Look) {
    let columns = columns(run);
    let rows = rows(run);
    if rows.is_empty() {
        return;
    }
    let widest_row = rows.iter().map(|(test, subtest)| test.len() + 1 + subtest.len()).max().unwrap_or(0);
    let names: Vec<String> = columns.iter().map(|column| column.name(run)).collect();
    let widest_name = names.iter().map(String::len).max().unwrap_or(0).max("missing".len());
    // If the kernel names do not fit side by side, they become numbers that are explained above the table.
    let numbered = widest_row.min(44) + columns.len() * (widest_name + 2) > WIDTH;
    // A mark follows the outcome.
    let widest_word = "missing".len() + usize::from(run.cells.iter().any(|cell| cell.was.is_some()));
    let column_width = if numbered { widest_word + 2 } else { widest_name.max(widest_word) + 2 };
    let room = WIDTH.saturating_sub(columns.len() * column_width).max(24);
    let label_width = widest_row.min(room);
    if numbered {
        for (index, name) in names.iter().enumerate() {
            let _ = writeln!(text, "[{}] {name}", index + 1);
        }
        text.push('\n');
    }
    let heads = names
        .iter()
        .enumerate()
        .map(|(index, name)| if numbered { format!("[{}]", index + 1) } else { name.clone() });
    let heads: String = heads.map(|head| format!("  {head:<width$}", width = column_width - 2)).collect();
    let _ = writeln!(text, "{:label_width$}{}", "", heads.trim_end());
    for (test, subtest) in rows {
        let _ = write!(text, "{:label_width$}", shortened(&name_of(test, subtest), label_width));
        let mut line = String::new();
        for column in &columns {
            let found = run
                .cells
                .iter()
                .find(|cell| cell.test == test && cell.subtest == subtest && column.has(cell));
            let changed = if found.is_some_and(|cell| cell.was.is_some()) { CHANGED } else { "" };
            let word = format!("{}{changed}", found.map_or("-", |cell| cell.outcome.name()));
            let padding = column_width - 2 - word.len().min(column_width - 2);
            let _ = write!(line, "  {}{:padding$}", painted(&word, found.map(|cell| cell.outcome), look), "");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    legend(text, run);
}

fn name_of(test: &str, subtest: &str) -> String {
    if subtest.is_empty() { test.to_owned() } else { format!("{test}/{subtest}") }
}

fn legend(text: &mut String, run: &RunResult) {
    let mut seen: Vec<Outcome> = run.cells.iter().map(|cell| cell.outcome).collect();
    seen.sort_unstable();
    seen.dedup();
    let meaning = |outcome: Outcome| match outcome {
        Outcome::Pass => "every expectation held",
        Outcome::Fail => "an expectation did not hold",
        Outcome::Skip => "feature not supported, and correctly rejected",
        Outcome::Missing => "planned, never reported",
        Outcome::Crash => "the kernel or the runner died during it",
        Outcome::Timeout => "did not finish in time",
        Outcome::Flaky => "passed only on a repeat",
        Outcome::Xfail => "a known bug, declared",
        Outcome::Notrun => "not run (an earlier step failed, or not applicable here)",
    };
    text.push('\n');
    for outcome in seen {
        let _ = writeln!(text, "{:8}{}", outcome.name(), meaning(outcome));
    }
    if run.cells.iter().any(|cell| cell.was.is_some()) {
        let _ = writeln!(text, "{CHANGED:8}another outcome than on the unpatched kernel");
    }
}

/// For each kernel with a base: how many cells changed, and how.
fn comparison(text: &mut String, run: &RunResult) {
    let based = |kernel: &&Kernel| {
        let base = run.kernels.iter().find(|base| Some(&base.id) == kernel.compared_to.as_ref());
        base.is_some_and(|base| base.role == Some(Role::Base))
    };
    let mut told: Vec<&str> = Vec::new();
    for kernel in run.kernels.iter().filter(based) {
        if told.contains(&kernel.id.as_str()) {
            continue;
        }
        told.push(&kernel.id);
        let cells: Vec<&Cell> = run.cells.iter().filter(|cell| cell.kernel == kernel.id).collect();
        let mut ways: Vec<(Outcome, Outcome)> =
            cells.iter().filter_map(|cell| Some((cell.was?, cell.outcome))).collect();
        ways.sort_unstable();
        let counted = ways.chunk_by(|a, b| a == b).map(|same| {
            let (was, is) = same[0];
            format!("{} from {} to {}", same.len(), was.name(), is.name())
        });
        let counted: Vec<String> = counted.collect();
        let how = if counted.is_empty() { "none".to_owned() } else { counted.join(", ") };
        let base = kernel.compared_to.as_deref().unwrap_or_default();
        let line = format!("changed from {base} to {}, of {} cells: {how}", kernel.id, cells.len());
        let _ = write!(text, "\n{}", flush(&line));
    }
}

/// What tests measured, column by column, except for intermediate patches.
fn figures(text: &mut String, run: &RunResult) {
    let is_step =
        |id: &str| run.kernels.iter().any(|kernel| kernel.id == id && kernel.role == Some(Role::Step));
    for column in columns(run).iter().filter(|column| !is_step(column.kernel)) {
        let of_column = |cell: &&Cell| !cell.measured.is_empty() && column.has(cell);
        let cells: Vec<&Cell> = run.cells.iter().filter(of_column).collect();
        if cells.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\nmeasured on {}", column.name(run));
        let width = cells.iter().map(|cell| cell.path().len()).max().unwrap_or(0);
        for cell in cells {
            let _ = writeln!(text, "    {:width$}  {}", cell.path(), cell.measured);
        }
    }
}

fn details(text: &mut String, run: &RunResult, look: Look) {
    let bad: Vec<&Cell> = run
        .cells
        .iter()
        .filter(|cell| cell.outcome != Outcome::Pass && !steps::is_background(run, cell))
        .collect();
    // Each reason once for all cells that share it: a kernel without the feature has dozens.
    let mut told: Vec<(&str, &str, &str)> = Vec::new();
    let mut shown = 0;
    for cell in &bad {
        let key = reason_key(run, cell);
        if told.contains(&key) {
            continue;
        }
        told.push(key);
        let same = bad.iter().filter(|other| reason_key(run, other) == key);
        let more = same.count() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let word = painted(cell.outcome.name(), Some(cell.outcome), look);
        let _ = writeln!(text, "\n{word} {}", cell.path());
        let _ = writeln!(text, "    on {}{more}", TableColumn::of(cell).name(run));
        let reason = if cell.reason.is_empty() { "no reason was given" } else { &cell.reason };
        text.push_str(&wrapped(reason));
        if shown < DETAILED && cell.outcome != Outcome::Skip {
            shown += 1;
            let lines: Vec<&str> = cell.log.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
                let _ = writeln!(text, "    | {line}");
            }
        }
    }
}

/// The key for reasons that are shown once. A patch that does not apply is the reason in every later column.
fn reason_key<'a>(run: &RunResult, cell: &'a Cell) -> (&'a str, &'a str, &'a str) {
    let column = if steps::applies(run) { "" } else { cell.kernel.as_str() };
    (column, cell.variant.as_str(), cell.reason.as_str())
}

fn boots(text: &mut String, run: &RunResult) {
    for boot in &run.boots {
        let class = boot.class;
        if class == Class::Pass {
            continue;
        }
        let suite = if boot.suite == "own" { String::new() } else { format!(", suite {}", boot.suite) };
        let attempt = boot.attempt.map_or_else(String::new, |attempt| format!(", attempt {attempt}"));
        let retried = if boot.retried { "; its lost tests were rerun" } else { "" };
        let _ =
            writeln!(text, "\n{} ({}{suite}{attempt}): {}{retried}", boot.kernel, boot.boot, class.label());
        text.push_str(&wrapped(&boot.reason));
        for line in &boot.before_kill {
            text.push_str(&wrapped(line));
        }
        // If the report of a splat follows, it is more useful than the last lines.
        let told =
            |splat: &&SplatRecord| (splat.variant_id(), splat.attempt) == (boot.variant_id(), boot.attempt);
        if !run.splats.iter().filter(told).any(|splat| !splat.lines.is_empty()) {
            for line in &boot.console_tail {
                let _ = writeln!(text, "    | {line}");
            }
        }
        let _ = writeln!(text, "    console and events: {}", boot.directory);
    }
}

/// Kernel warnings, each title of a kernel once. A warning that repeats every few seconds differs only in its
/// numbers.
fn splats(text: &mut String, run: &RunResult) {
    let mut told: Vec<(&str, &str, String)> = Vec::new();
    for splat in &run.splats {
        let title = splat.title.replace(|c: char| c.is_ascii_digit(), "");
        let key = (splat.kernel.as_str(), splat.variant.as_str(), title);
        if told.contains(&key) {
            continue;
        }
        told.push(key);
        if told.len() > MAX_SPLATS {
            continue;
        }
        let allowed = splat.allowed.as_ref().map_or_else(String::new, |why| format!(" (allowed: {why})"));
        text.push('\n');
        text.push_str(&flush(&format!("{}: {}{allowed}", splat.severity, splat.title)));
        let during =
            if splat.during.is_empty() { String::new() } else { format!(" during {}", splat.during) };
        let _ = writeln!(text, "    on {}{during}", splat.kernel);
        let lines =
            if splat.stack.is_empty() { around(&splat.lines, &splat.title) } else { &splat.stack[..] };
        let more = lines.len().saturating_sub(SPLAT_LINES);
        for line in lines.iter().take(SPLAT_LINES) {
            let _ = writeln!(text, "    | {line}");
        }
        if more > 0 {
            let _ = writeln!(text, "    | .. and {more} lines in run.json");
        }
        if !splat.no_stack.is_empty() {
            text.push_str(&wrapped(&format!("not decoded: {}", splat.no_stack)));
        }
    }
    if told.len() > MAX_SPLATS {
        let _ = writeln!(text, "\nand {} other kernel warnings in run.json", told.len() - MAX_SPLATS);
    }
    for entry in run.allowed_splats.iter().filter(|entry| entry.state != "used") {
        let what = match entry.state.as_str() {
            "expired" => format!("allowed nothing since {}, and fits {} splats", entry.expires, entry.splats),
            _ => "fits nothing in this run".to_owned(),
        };
        let line =
            format!("--allow-splats: {:?} ({}) is {}: it {what}", entry.title, entry.reason, entry.state);
        let _ = write!(text, "\n{}", flush(&line));
    }
}

/// A report, starting at its title.
fn around<'a>(lines: &'a [String], title: &str) -> &'a [String] {
    let start = lines.iter().position(|line| line.contains(title)).unwrap_or(0);
    &lines[start..]
}

/// The last line of a run: every class with its count, the one that decides first.
pub fn classes(run: &RunResult) -> String {
    let counted = PRECEDENCE.into_iter().filter_map(|class| {
        let count = run.classes.get(&class)?;
        Some(format!("{} {count}", class.label()))
    });
    let counted: Vec<String> = counted.collect();
    let not_quite = |outcome: Outcome, word: &str| {
        let count =
            run.cells.iter().filter(|cell| cell.class == Class::Pass && cell.outcome == outcome).count();
        Some(format!("{count} {word}")).filter(|_| count > 0)
    };
    // These must not hide behind the word "pass", which is last.
    let among = [
        not_quite(Outcome::Skip, "allowed skips"),
        not_quite(Outcome::Xfail, "xfail"),
        not_quite(Outcome::Flaky, "allowed flaky"),
        not_quite(Outcome::Notrun, "not run and not required"),
    ];
    let among: Vec<String> = among.into_iter().flatten().collect();
    let among = if among.is_empty() { String::new() } else { format!(" ({} among them)", among.join(", ")) };
    let counted = if counted.is_empty() { "nothing was judged".to_owned() } else { counted.join(", ") };
    let aside = run.cells.iter().filter(|cell| !cell.counts()).count();
    let aside = if aside > 0 { format!("; {aside} only to compare with") } else { String::new() };
    let why = if run.has_no_evidence() { format!("; {}", findings::NO_PLAIN_PASS) } else { String::new() };
    format!("exit {}: {counted}{among}{aside}{why}", run.exit_code.code())
}

fn painted(word: &str, outcome: Option<Outcome>, look: Look) -> String {
    let colour = match outcome {
        Some(Outcome::Pass) => "32",
        Some(Outcome::Fail | Outcome::Crash | Outcome::Timeout | Outcome::Missing) => "31",
        Some(Outcome::Skip | Outcome::Flaky | Outcome::Xfail | Outcome::Notrun) => "33",
        None => return word.to_owned(),
    };
    if look.colour { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() }
}

fn shortened(label: &str, width: usize) -> String {
    if label.chars().count() <= width {
        return label.to_owned();
    }
    let kept: String = label.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests;
