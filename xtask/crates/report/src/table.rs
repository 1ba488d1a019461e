// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exporter: the matrix as a table for a terminal of 80 columns, followed by what a reader needs next: the
//! reason and the log of everything that did not pass, the classes with their counts, where the run is and
//! how to repeat it.

use std::fmt::Write as _;
use std::path::Path;

use crate::layout::{Look, Rows, flush, indented, wrapped};
use crate::story::Story;
use crate::summary::{self, failed_stages};
use crate::table::matrix::{TableColumn, columns, painted};
use crate::{coverage, flaws, names, steps};
use vmtest_base::error::{Class, PRECEDENCE};
use vmtest_base::program;
use vmtest_record::findings;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{BootRecord, Cell, Expectation, Kernel, Role, RunResult, SplatRecord};

mod matrix;

/// Most log lines shown for one cell.
const LOG_LINES: usize = 12;
/// Most reasons, and most expectations of one, where rows are folded.
const FOLDED: usize = 5;
const UNMET: usize = 3;
/// Most splats that are shown, and most lines of each.
const MAX_SPLATS: usize = 6;
const SPLAT_LINES: usize = 18;
/// Most cells whose log is shown; the rest is in run.json.
const DETAILED: usize = 10;

/// The whole report.
pub fn render(story: &Story<'_>, look: Look) -> String {
    let Story { run, directory, compared, .. } = *story;
    let mut text = String::new();
    let folded = look.rows == Rows::Failed;
    if steps::applies(run) {
        steps::render(&mut text, run, look);
    } else {
        matrix::render(&mut text, run, look);
        comparison(&mut text, run);
    }
    flaws::render(&mut text, run);
    coverage::render(&mut text, run);
    if let Some(own) = findings::own_tests(run) {
        let files = if folded { String::new() } else { wrapped(&own.list()) };
        let _ = write!(text, "\n{}{files}", flush(&own.what));
    }
    if !folded || run.exit_code == Class::Pass {
        figures(&mut text, run);
    }
    details(&mut text, story, look);
    boots(&mut text, run);
    splats(&mut text, run);
    for note in notes(run) {
        let _ = writeln!(text, "\nthe series: {note}");
    }
    if let Some(diff) = compared {
        let _ = write!(text, "\n{}", crate::diff::render(diff));
    }
    summary::render(&mut text, story, look);
    let _ = writeln!(text, "run:    {directory}");
    text.push_str(&repetitions(run));
    let _ = writeln!(text, "repeat: {}", run.command.join(" "));
    let _ = writeln!(text, "{}", verdict(story));
    text.trim_start_matches('\n').to_owned()
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

fn details(text: &mut String, story: &Story<'_>, look: Look) {
    let run = story.run;
    let stages = failed_stages(run);
    // The guest's own report says the same, and more.
    let told = |cell: &Cell| {
        let boot = |boot: &BootRecord| boot.class == cell.class && boot.variant_id() == cell.variant_id();
        stages.iter().any(|stage| stage.has(cell)) && run.boots.iter().any(boot)
    };
    let is_told =
        |cell: &&Cell| cell.outcome != Outcome::Pass && !steps::is_background(run, cell) && !told(cell);
    let bad: Vec<&Cell> = run.cells.iter().filter(is_told).collect();
    // Each reason once for all cells that share it: a kernel without the feature has dozens.
    let mut firsts: Vec<&Cell> = Vec::new();
    for cell in &bad {
        if !firsts.iter().any(|first| reason_key(run, first) == reason_key(run, cell)) {
            firsts.push(cell);
        }
    }
    let limit = if look.rows == Rows::All { usize::MAX } else { FOLDED };
    let named = look.rows == Rows::All || columns(run).len() > 1;
    let mut shown = 0;
    for cell in firsts.iter().take(limit) {
        let more = bad.iter().filter(|other| reason_key(run, other) == reason_key(run, cell)).count() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let stage = stages.iter().find(|stage| stage.has(cell) && stage.cells > 1);
        let (what, more) = match stage {
            Some(stage) => {
                let what = format!("{} ({} tests not run)", cell.class.label(), stage.cells);
                (look.paint(&what, "31"), String::new())
            }
            None => {
                let word = painted(cell.outcome.name(), Some(cell.outcome), look);
                (format!("{word} {}", cell.path()), more)
            }
        };
        if named {
            let _ = writeln!(text, "\n{what}\n    on {}{more}", TableColumn::of(cell).name(run));
        } else {
            let _ = writeln!(text, "\n{what}{more}");
        }
        text.push_str(&reason(cell, story, look));
        if shown < DETAILED && cell.outcome != Outcome::Skip {
            shown += 1;
            let lines: Vec<&str> = cell.log.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
                let _ = writeln!(text, "    | {line}");
            }
        }
    }
    if firsts.len() > limit {
        let _ = writeln!(text, "\n{} more reasons: {}", firsts.len() - limit, show(story));
    }
}

/// Why a cell did not pass; if several expectations did not hold, each on its own line. Then some that did:
/// what a dead guest still reported, or what is around a failure.
fn reason(cell: &Cell, story: &Story<'_>, look: Look) -> String {
    let line = |one: &Expectation| format!("{}: expected {}, seen {}", one.what, one.expected, one.seen);
    let limit = if look.rows == Rows::All { usize::MAX } else { UNMET };
    let died = matches!(cell.outcome, Outcome::Crash | Outcome::Timeout);
    let mut text = String::new();
    let listed = cell.unmet.len() > 1 || died;
    let why = cell.unmet.iter().fold(cell.reason.clone(), |why, one| why.replacen(&line(one), "", 1));
    let why = why.trim_matches([' ', ';', ':']);
    if !listed {
        let reason = if cell.reason.is_empty() { "no reason was given" } else { &cell.reason };
        text.push_str(&indented(reason, "    ", look.width));
    } else if (died || cell.outcome == Outcome::Xfail) && !why.is_empty() {
        text.push_str(&indented(why, "    ", look.width));
    }
    let unmet = cell.unmet.iter().filter(|_| listed);
    text.extend(unmet.take(limit).map(|one| indented(&line(one), "    ", look.width)));
    if listed && cell.unmet.len() > limit {
        let _ = writeln!(text, "    {} more: {}", cell.unmet.len() - limit, show(story));
    }
    if died || cell.outcome == Outcome::Fail {
        // Before a death the last ones count.
        let from = if died { cell.held.len().saturating_sub(limit) } else { 0 };
        let held = |one: &Expectation| format!("held: {}: {}", one.what, one.seen);
        let shown = cell.held[from..].iter().take(limit);
        text.extend(shown.map(|one| indented(&held(one), "    ", look.width)));
    }
    text
}

/// The command that shows everything.
fn show(story: &Story<'_>) -> String {
    let in_its_place = Path::new(story.directory).ends_with(&story.run.run);
    let run = if in_its_place { &story.run.run } else { story.directory };
    program::command(&format!("report show {run} --rows all"))
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
        let _ = writeln!(
            text,
            "\n{} ({}{suite}{attempt}): {}{retried}",
            names::kernel(run, &boot.kernel),
            boot.boot,
            class.label()
        );
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
    let as_before = run.exit_code == Class::Pass && !run.is_all_pass();
    let aside = if as_before { format!("{aside}; the same without the series") } else { aside };
    let why = if run.has_no_evidence() { format!("; {}", findings::NO_PLAIN_PASS) } else { String::new() };
    format!("exit {}: {counted}{among}{aside}{why}", run.exit_code.code())
}

#[cfg(test)]
mod screens;
#[cfg(test)]
mod tests;
