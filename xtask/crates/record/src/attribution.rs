// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each patch of a series did, read off the columns of a run. Pure.
//!
//! A failure belongs to the series only if the kernel without it does not fail in the same way. Without such
//! a column, a failure is not judged: nothing shows whose it is.

use crate::findings;
use crate::outcome::Outcome;
use crate::reference_columns::{self, Change};
use crate::run::{Cell, Kernel, RunResult};
use crate::series::{PatchInfo, PatchRecord, SeriesRecord, State, Verdict};
use vmtest_base::error::Class;

/// Fills in the series of a run; after [`reference_columns::settle`]. `interrupted`: why the run ended early.
pub fn settle(run: &mut RunResult, interrupted: Option<Class>) {
    let known = std::mem::take(&mut run.series);
    let mut all = Vec::new();
    for kernel in run.kernels.iter().filter(|kernel| kernel.role.is_none() && !kernel.series.is_empty()) {
        for variant in variants(run, kernel) {
            let before = known.iter().find(|one| one.kernel == kernel.id && one.variant == variant);
            let mut record = judged(run, kernel, &variant, before);
            if let Some(class) = interrupted.filter(|_| record.verdict != Verdict::Bad) {
                (record.verdict, record.unjudged) = (Verdict::Unjudged, class.label().to_owned());
            }
            if !all.contains(&record) {
                all.push(record);
            }
        }
    }
    run.series = all;
}

/// Variants in which a kernel has cells.
fn variants(run: &RunResult, kernel: &Kernel) -> Vec<String> {
    let mut variants: Vec<String> = Vec::new();
    for cell in run.cells.iter().filter(|cell| cell.kernel == kernel.id) {
        if !variants.contains(&cell.variant) {
            variants.push(cell.variant.clone());
        }
    }
    variants
}

/// `before`: the record of the same series in a run that is judged again.
fn judged(run: &RunResult, last: &Kernel, variant: &str, before: Option<&SeriesRecord>) -> SeriesRecord {
    let chain = reference_columns::chain(&run.kernels, last);
    let column = |count: usize| chain.iter().copied().find(|kernel| kernel.series.len() == count);
    // Without any step there may still be a base, which is one column before the whole series.
    let base = column(0).filter(|base| base.role.is_some());
    let name = last.id.rsplit_once('+').map_or(last.id.as_str(), |(_, name)| name);
    let mut record = SeriesRecord {
        name: name.to_owned(),
        kernel: last.id.clone(),
        variant: variant.to_owned(),
        base: base.map(|base| base.id.clone()).unwrap_or_default(),
        letter: last.letter.clone().or_else(|| before?.letter.clone()),
        ..SeriesRecord::default()
    };
    let mut previous = base.map(|base| Stages::of(run, base, variant));
    let whole = Stages::of(run, last, variant);
    for at in 0..last.series.len() {
        let old = before.and_then(|record| record.patches.get(at));
        let info = last.patches.get(at).cloned().or_else(|| Some(old?.info.clone()));
        let mut patch = PatchRecord {
            number: at + 1,
            info: info
                .unwrap_or_else(|| PatchInfo { subject: last.series[at].clone(), ..PatchInfo::default() }),
            checks: old.map(|old| old.checks.clone()).unwrap_or_default(),
            ..PatchRecord::default()
        };
        match column(at + 1) {
            Some(kernel) => {
                if !kernel.checks.is_empty() {
                    patch.checks.clone_from(&kernel.checks);
                }
                let stages = Stages::of(run, kernel, variant);
                patch.inherited = previous.as_ref().is_some_and(|before| before.fails_like(&stages));
                tests(run, kernel, variant, previous.is_some(), &mut patch);
                (patch.kernel, patch.builds, patch.boots) = (kernel.id.clone(), stages.builds, stages.boots);
                if [stages.builds, stages.boots].contains(&State::No) {
                    patch.because.clone_from(&stages.because);
                }
                previous = Some(stages);
            }
            // The next column does not differ by one patch only.
            None => previous = None,
        }
        patch.applies = match whole.fails_to_apply {
            Some(number) if number > at + 1 => State::Yes,
            Some(number) if number == at + 1 => State::No,
            Some(_) => State::Unknown,
            // Only what applies is built.
            None if patch.builds != State::Unknown || whole.builds != State::Unknown => State::Yes,
            None => State::Unknown,
        };
        if patch.applies == State::No {
            patch.because.clone_from(&whole.because);
        }
        record.patches.push(patch);
    }
    compare(run, last, base, variant, &mut record);
    (record.verdict, record.unjudged) = verdict(run, &record, &whole);
    record
}

/// How far a column got.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stages {
    /// Number of the patch that does not apply.
    fails_to_apply: Option<usize>,
    builds: State,
    boots: State,
    class: Class,
    because: String,
}

impl Stages {
    fn of(run: &RunResult, kernel: &Kernel, variant: &str) -> Stages {
        let booted = kernel.same_as.as_ref().unwrap_or(&kernel.id);
        let is_here = |id: &str, its: &str| (id == kernel.id || id == booted) && its == variant;
        let mut boots = run.boots.iter().filter(|boot| is_here(&boot.kernel, &boot.variant)).peekable();
        let mut stages = Stages {
            fails_to_apply: None,
            builds: State::Unknown,
            boots: State::Unknown,
            class: Class::Pass,
            because: String::new(),
        };
        let line = |reason: &str| reason.lines().next().unwrap_or_default().to_owned();
        let told = |class: Class, reason: &str| match reason.is_empty() {
            true => class.label().to_owned(),
            false => line(reason),
        };
        if boots.peek().is_some() {
            (stages.builds, stages.boots) = (State::Yes, State::Yes);
            // A boot whose tests ran again is superseded; the host's failures say nothing of the kernel.
            for boot in boots.filter(|boot| boot.class != Class::Pass && !boot.retried) {
                if stages.boots == State::No {
                    break;
                }
                let of_host = is_of_the_host(boot.class);
                stages.boots = if of_host { State::Unknown } else { State::No };
                (stages.class, stages.because) =
                    (boot.class, format!("{}: {}", boot.class.label(), line(&boot.reason)));
                if boot.reason.is_empty() {
                    stages.because = boot.class.label().to_owned();
                }
            }
            return stages;
        }
        let cell = run.cells.iter().find(|cell| cell.kernel == kernel.id && cell.variant == variant);
        match cell.map(|cell| (cell.class, &cell.reason)) {
            Some((class @ Class::SeriesDoesNotApply, reason)) => {
                (stages.class, stages.because) = (class, line(reason));
                stages.fails_to_apply = Some(patch_number(reason).unwrap_or(kernel.series.len()));
            }
            Some((class @ (Class::KernelBuild | Class::OptionLost), reason)) => {
                (stages.class, stages.builds) = (class, State::No);
                stages.because =
                    findings::compiler_error(reason).map_or_else(|| told(class, reason), str::to_owned);
            }
            // Built, but interrupted before the boot, or nothing runs on it.
            found if !kernel.release.is_empty() => {
                stages.builds = State::Yes;
                stages.because = found.map(|(_, reason)| line(reason)).unwrap_or_default();
            }
            Some((class, reason)) => (stages.class, stages.because) = (class, line(reason)),
            None => (),
        }
        stages
    }

    /// Whether both fail at the same stage in the same way.
    fn fails_like(&self, other: &Stages) -> bool {
        let fails = |stages: &Stages| stages.builds == State::No || stages.boots == State::No;
        fails(self)
            && fails(other)
            && (self.builds, self.boots, self.class) == (other.builds, other.boots, other.class)
    }
}

/// Whether a class says something of the machine or the user, and nothing of the kernel.
fn is_of_the_host(class: Class) -> bool {
    matches!(class, Class::Host | Class::Interrupted | Class::Terminated | Class::Usage | Class::SuiteBuild)
}

/// The number in `patch 3 of 12 (..) does not apply`.
fn patch_number(reason: &str) -> Option<usize> {
    reason.strip_prefix("patch ")?.split(' ').next()?.parse().ok()
}

/// Name of a test, with its suite if that is not our own.
fn name(cell: &Cell) -> String {
    if cell.suite == "own" { cell.path() } else { format!("{}: {}", cell.suite, cell.path()) }
}

fn cells<'a>(run: &'a RunResult, kernel: &'a Kernel, variant: &'a str) -> impl Iterator<Item = &'a Cell> {
    run.cells.iter().filter(move |cell| cell.kernel == kernel.id && cell.variant == variant)
}

/// Which tests changed with a patch. `adjacent`: the column before differs from this one by this patch only.
fn tests(run: &RunResult, kernel: &Kernel, variant: &str, adjacent: bool, patch: &mut PatchRecord) {
    if !adjacent {
        return;
    }
    for cell in cells(run, kernel, variant) {
        match reference_columns::change(cell) {
            Some(Change::Breaks) if findings::verdict(cell).is_bad() => patch.breaks.push(name(cell)),
            Some(Change::Starts) => patch.fixes.push(name(cell)),
            _ => (),
        }
    }
}

/// Which failures of the whole series are its own. A failure that a patch caused is listed there as well.
fn compare(run: &RunResult, last: &Kernel, base: Option<&Kernel>, variant: &str, record: &mut SeriesRecord) {
    for cell in cells(run, last, variant).filter(|cell| findings::verdict(cell).is_bad()) {
        // The stage that stopped it is in the record of its patch.
        if cell.outcome == Outcome::Notrun && cell.class != Class::Incomplete {
            continue;
        }
        let before = base.and_then(|base| {
            let same = |other: &&Cell| (&other.suite, other.path()) == (&cell.suite, cell.path());
            cells(run, base, variant).find(same)
        });
        match before {
            Some(before) if before.outcome == cell.outcome => record.failed_before.push(name(cell)),
            _ => record.fails.push(name(cell)),
        }
    }
}

fn verdict(run: &RunResult, record: &SeriesRecord, last: &Stages) -> (Verdict, String) {
    let unjudged = |why: String| (Verdict::Unjudged, why);
    if record.patches.iter().any(PatchRecord::is_bad) {
        return (Verdict::Bad, String::new());
    }
    if last.builds != State::Yes || last.boots != State::Yes {
        let base_fails = record.patches.last().is_some_and(|patch| patch.inherited);
        let why = if base_fails { "it fails without the series as well" } else { "no result" };
        let why = if last.because.is_empty() { why.to_owned() } else { format!("{why}: {}", last.because) };
        let known = [last.builds, last.boots].contains(&State::No) && !record.base.is_empty() && !base_fails;
        return if known { (Verdict::Bad, String::new()) } else { unjudged(why) };
    }
    if !record.fails.is_empty() {
        return match record.base.is_empty() {
            true => unjudged("tests fail, and the kernel without the series was not tested".to_owned()),
            false => (Verdict::Bad, String::new()),
        };
    }
    if let Some(patch) = record.patches.iter().find(|patch| patch.kernel.is_empty()) {
        return unjudged(format!("patch {} was not tested by itself", patch.number));
    }
    let untested = |patch: &&PatchRecord| (patch.builds, patch.boots) != (State::Yes, State::Yes);
    if let Some(patch) = record.patches.iter().find(untested) {
        let why = if patch.inherited { "it failed before as well" } else { "no result" };
        return unjudged(format!("patch {}: {why}", patch.number));
    }
    let missing = record.patches.iter().find_map(|patch| Some((patch.number, patch.missing_check()?)));
    if let Some((patch, check)) = missing {
        return unjudged(format!("patch {patch}: {check} could not run"));
    }
    let passed = |cell: &Cell| {
        (cell.kernel == record.kernel && cell.variant == record.variant)
            && (cell.outcome, cell.class, cell.required) == (Outcome::Pass, Class::Pass, true)
    };
    if !run.cells.iter().any(passed) {
        return unjudged(findings::NO_PLAIN_PASS.to_owned());
    }
    (Verdict::Good, String::new())
}

#[cfg(test)]
mod tests;
