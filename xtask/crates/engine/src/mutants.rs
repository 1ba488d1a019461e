// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mutants: patches on top of the project's series that break it on purpose, each with what it breaks and
//! which subtests must notice. Loads and judges them; the judgement is pure.
//!
//! A mutant proves that a test can fail. So a cell counts as noticing only if the same cell passed without
//! the mutant, and a kernel that dies or prints a warning counts only if the mutant declares that: a typo
//! that panics the kernel would "break" every test and prove nothing about any of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use globset::GlobMatcher;
use vmtest_protocol::TestName;

use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::program;
use vmtest_kernel::series::{self, Series};
use vmtest_record::column::ColumnResult;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::Cell;
use vmtest_suite::own::compile;

/// Field in the patch's mail that says what it breaks.
const BREAKS: &str = "Breaks:";
/// Field that lists who must notice.
const NOTICED_BY: &str = "Noticed-by:";
/// Field that names the variant on which it can be noticed.
const VARIANT: &str = "Variant:";

/// A patch that breaks the series.
#[derive(Debug)]
pub struct Mutant {
    /// Its file name without `.patch`.
    pub name: String,
    pub series: Series,
    /// What it breaks, in words.
    pub breaks: String,
    /// All of these must be seen.
    pub signs: Vec<Sign>,
    /// The variant on which it is judged; `None` for the default one.
    pub variant: Option<String>,
}

/// A sign that a mutant was noticed.
#[derive(Debug)]
pub enum Sign {
    /// A subtest that matches does not pass.
    Subtest(String, GlobMatcher),
    /// The kernel prints a warning.
    Splat,
    /// The kernel dies.
    Panic,
    /// The kernel prints a warning or dies: a use after free may do either.
    Corruption,
    /// The guest does not finish in time.
    Hang,
}

impl Sign {
    fn parse(text: &str) -> Result<Sign> {
        Ok(match text {
            "splat" => Sign::Splat,
            "panic" => Sign::Panic,
            "corruption" => Sign::Corruption,
            "hang" => Sign::Hang,
            glob => Sign::Subtest(glob.to_owned(), compile(glob)?.compile_matcher()),
        })
    }

    /// As written in the patch.
    pub fn text(&self) -> &str {
        match self {
            Sign::Subtest(glob, _) => glob,
            Sign::Splat => "splat",
            Sign::Panic => "panic",
            Sign::Corruption => "corruption",
            Sign::Hang => "hang",
        }
    }
}

impl Mutant {
    /// Its name, with the variant if it has one.
    pub fn title(&self) -> String {
        let variant = self.variant.as_ref().map_or_else(String::new, |variant| format!(" ({variant})"));
        format!("{}{variant}", self.name)
    }

    /// Whether this subtest must notice it.
    pub fn names(&self, test: &str, subtest: &str) -> bool {
        self.signs.iter().any(|sign| matches!(sign, Sign::Subtest(_, glob) if matches(glob, test, subtest)))
    }
}

fn matches(glob: &GlobMatcher, test: &str, subtest: &str) -> bool {
    glob.is_match(format!("{test}/{subtest}")) || glob.is_match(test)
}

/// Loads all mutants in `dir`, or only the named ones.
///
/// # Errors
/// Class `Usage` if there are none, a name is unknown, or a file does not say what it breaks and who must
/// notice.
pub fn load(dir: &Path, only: &[String]) -> Result<Vec<Mutant>> {
    let shown = dir.display();
    let none = || Error::usage(format!("no mutants in {shown}")).next("use a checkout that has them");
    let Ok(entries) = fs::read_dir(dir) else { return Err(none()) };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.on("cannot list", dir)?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            files.push((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path));
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(none());
    }
    if let Some(unknown) = only.iter().find(|wanted| !files.iter().any(|(name, _)| name == *wanted)) {
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        return Err(Error::usage(format!("unknown mutant `{unknown}`"))
            .why(format!("available mutants: {}", names.join(", "))));
    }
    files.retain(|(name, _)| only.is_empty() || only.contains(name));
    files.into_iter().map(|(name, path)| read(name, &path)).collect()
}

fn read(name: String, path: &Path) -> Result<Mutant> {
    // It has the project's origin, like the series that it breaks.
    let mut series = series::Series { origin: None, ..series::load(&[path.to_owned()])? };
    series.name.clone_from(&name);
    let wrong = |why: String| {
        Error::usage(format!("{} is not a mutant", path.display()))
            .why(why)
            .next(format!("its mail needs the lines `{BREAKS} WHAT` and `{NOTICED_BY} GLOB[, GLOB]..`"))
    };
    let [patch] = series.patches.as_slice() else {
        return Err(wrong(format!("it holds {} patches", series.patches.len())));
    };
    let text = String::from_utf8_lossy(&patch.raw).into_owned();
    let breaks = field(&text, BREAKS).join(" ");
    if breaks.is_empty() {
        return Err(wrong(format!("it has no `{BREAKS}` line")));
    }
    let listed = field(&text, NOTICED_BY);
    let globs = listed.iter().flat_map(|line| line.split(',')).map(str::trim).filter(|glob| !glob.is_empty());
    let signs: Vec<Sign> = globs.map(Sign::parse).collect::<Result<_>>()?;
    if signs.is_empty() {
        return Err(wrong(format!("no `{NOTICED_BY}` line names anything")));
    }
    let variant = match field(&text, VARIANT).as_slice() {
        [] => None,
        [one] => Some(one.clone()).filter(|one| one != DEFAULT_VARIANT),
        more => {
            return Err(wrong(format!(
                "`{VARIANT}` names {} variants; a copy of it can name another",
                more.len()
            )));
        }
    };
    Ok(Mutant { name, series, breaks, signs, variant })
}

/// The variant that mutants are judged on unless they name another.
pub const DEFAULT_VARIANT: &str = "default";

/// The variants that mutants need, the default one first.
pub fn variants(mutants: &[Mutant]) -> Vec<String> {
    let named: BTreeSet<&String> = mutants.iter().filter_map(|mutant| mutant.variant.as_ref()).collect();
    std::iter::once(DEFAULT_VARIANT.to_owned()).chain(named.into_iter().cloned()).collect()
}

/// Values of a field in the mail of a patch, above the diff; an indented line continues the previous one.
fn field(mail: &str, name: &str) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    let mut inside = false;
    for line in
        mail.lines().map(str::trim_end).take_while(|line| *line != "---" && !line.starts_with("diff --git "))
    {
        let start = line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        if start {
            values.push(line[name.len()..].trim().to_owned());
        } else if let (true, true, Some(last)) = (inside, line.starts_with([' ', '\t']), values.last_mut()) {
            last.push(' ');
            last.push_str(line.trim());
        }
        inside = start || (inside && line.starts_with([' ', '\t']));
    }
    values.retain(|value| !value.is_empty());
    values
}

/// Rejects globs that no subtest matches: nothing would ever notice such a mutant.
///
/// # Errors
/// Class `Usage` for such a glob.
pub fn check(mutants: &[Mutant], subtests: &[TestName]) -> Result<()> {
    for mutant in mutants {
        for sign in &mutant.signs {
            let Sign::Subtest(text, glob) = sign else { continue };
            if !subtests.iter().any(|name| matches(glob, &name.test, &name.subtest)) {
                return Err(Error::usage(format!(
                    "{}: `{NOTICED_BY} {text}` matches no subtest",
                    mutant.name
                ))
                .next(format!(
                    "`{}` lists all subtests; `splat`, `panic`, `corruption` and `hang` are also valid",
                    program::command("vmtest --list")
                )));
            }
        }
    }
    Ok(())
}

/// The status of a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MutantStatus {
    /// Everything that had to notice did.
    Noticed,
    /// Something that had to notice did not.
    Unnoticed,
    /// It does not apply or build, so it is not a mutant of this series.
    Broken,
    /// Unknown; the class says why.
    NotJudged(Class),
}

impl MutantStatus {
    /// Text shown to users.
    pub fn name(self) -> &'static str {
        match self {
            MutantStatus::Noticed => "noticed",
            MutantStatus::Unnoticed => "UNNOTICED",
            MutantStatus::Broken => "BROKEN",
            MutantStatus::NotJudged(_) => "NOT JUDGED",
        }
    }

    /// The exit class.
    pub fn class(self) -> Class {
        match self {
            MutantStatus::Noticed => Class::Pass,
            MutantStatus::Unnoticed | MutantStatus::Broken => Class::TestFailed,
            // Without a verdict it cannot be a pass.
            MutantStatus::NotJudged(Class::Pass) => Class::Incomplete,
            MutantStatus::NotJudged(class) => class,
        }
    }
}

/// A verdict and its evidence.
#[derive(Debug)]
pub struct MutantResult {
    pub verdict: MutantStatus,
    /// Subtests that pass without the mutant but not with it.
    pub noticed_by: Vec<String>,
    /// What else happened to its kernel; empty if nothing did.
    pub kernel: String,
    /// Why it was not noticed; empty if it was.
    pub why: String,
}

/// The status of a mutant whose kernel was never booted, from its first cell.
fn not_booted(first: Option<&Cell>) -> (MutantStatus, String) {
    let status = match first.map_or(Class::Host, |cell| cell.class) {
        Class::SeriesDoesNotApply | Class::OptionLost | Class::KernelBuild => MutantStatus::Broken,
        other => MutantStatus::NotJudged(other),
    };
    (status, first.map_or("", |cell| cell.reason.as_str()).to_owned())
}

/// Whether a mutant declares that its guest may end like this; `None` if the harness or the user ended it.
fn declares(mutant: &Mutant, class: Class) -> Option<bool> {
    let says = |wanted: fn(&Sign) -> bool| mutant.signs.iter().any(wanted);
    match class {
        Class::Pass => Some(true),
        Class::Splat => Some(says(|sign| matches!(sign, Sign::Splat | Sign::Corruption))),
        Class::Panic => Some(says(|sign| matches!(sign, Sign::Panic | Sign::Corruption))),
        Class::Hang | Class::WallClock => Some(says(|sign| matches!(sign, Sign::Hang))),
        Class::GuestLost | Class::BootFailed | Class::RunnerDied => Some(false),
        _ => None,
    }
}

/// Judges a mutant by the results of its kernel and of the kernel without it (`control`).
pub fn judge(mutant: &Mutant, control: &ColumnResult, seen: &ColumnResult) -> MutantResult {
    let passed = |cell: &Cell| {
        control.cells.iter().any(|other| {
            (&other.test, &other.subtest) == (&cell.test, &cell.subtest) && other.outcome == Outcome::Pass
        })
    };
    let noticing: Vec<&Cell> =
        seen.cells.iter().filter(|cell| notices(cell.outcome) && passed(cell)).collect();
    let finding = |verdict, why: String| MutantResult {
        verdict,
        noticed_by: noticing.iter().map(|cell| cell.path()).collect(),
        kernel: match seen.boot.as_ref().filter(|boot| boot.class != Class::Pass) {
            Some(boot) => format!("{}: {}", boot.class.label(), boot.reason),
            None => String::new(),
        },
        why,
    };
    match control.boot.as_ref().map(|boot| boot.class) {
        Some(Class::Pass) => (),
        class => {
            let first = control.cells.first();
            let class = class.or(first.map(|cell| cell.class)).unwrap_or(Class::Host);
            return finding(MutantStatus::NotJudged(class), format!("without the mutant: {}", class.label()));
        }
    }
    let Some(boot) = &seen.boot else {
        let (status, reason) = not_booted(seen.cells.first());
        return finding(status, reason);
    };
    let class = boot.class;
    let Some(declared) = declares(mutant, class) else {
        return finding(MutantStatus::NotJudged(class), boot.reason.clone());
    };
    if !declared {
        let why = format!("`{NOTICED_BY}` does not declare what happened to its kernel");
        return finding(MutantStatus::Unnoticed, why);
    }
    let met = |sign: &Sign| match sign {
        Sign::Subtest(_, glob) => noticing.iter().any(|cell| matches(glob, &cell.test, &cell.subtest)),
        Sign::Splat => class == Class::Splat || seen.splats.iter().any(|splat| splat.severity == "splat"),
        Sign::Panic => class == Class::Panic,
        Sign::Corruption => matches!(class, Class::Splat | Class::Panic),
        Sign::Hang => matches!(class, Class::Hang | Class::WallClock),
    };
    let unmet: Vec<&str> = mutant.signs.iter().filter(|sign| !met(sign)).map(Sign::text).collect();
    if !unmet.is_empty() || mutant.signs.is_empty() {
        let unmet = if unmet.is_empty() {
            "nothing is declared to notice it".to_owned()
        } else {
            format!("not by {}", unmet.join(", "))
        };
        return finding(MutantStatus::Unnoticed, unmet);
    }
    finding(MutantStatus::Noticed, String::new())
}

/// Whether an outcome shows anything, given a pass without the mutant. `missing` and `notrun` never ran.
fn notices(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Fail
        | Outcome::Skip
        | Outcome::Crash
        | Outcome::Timeout
        | Outcome::Flaky
        | Outcome::Xfail => true,
        Outcome::Pass | Outcome::Missing | Outcome::Notrun => false,
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    pub(crate) fn mutant(signs: &[&str]) -> Mutant {
        Mutant {
            name: "m".into(),
            series: Series {
                name: "m".into(),
                patches: Vec::new(),
                base_commit: None,
                of: 0,
                origin: None,
                notes: Vec::new(),
                letter: None,
                prerequisites: Vec::new(),
            },
            breaks: "something".into(),
            signs: signs.iter().map(|sign| Sign::parse(sign).expect("a sign")).collect(),
            variant: None,
        }
    }
}

#[cfg(test)]
mod tests;
