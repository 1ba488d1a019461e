// SPDX-License-Identifier: MIT OR Apache-2.0
//! A series in words: the sentence that a maintainer needs, and a line for each patch. Every format takes
//! them from here.

use std::fmt::Write as _;

use vmtest_record::run::{Role, RunResult};
use vmtest_record::series::{CheckState, PatchRecord, SeriesRecord, State, Verdict};

/// Most tests that a sentence names.
const NAMED: usize = 3;
/// Most tests that the story of a patch names; groups of more than [`NAMED`] are one name.
const TOLD: usize = 40;

/// The worst verdict on the series of a run, and its sentence; `None` unless each patch was tested.
pub fn verdict(run: &RunResult) -> Option<(Verdict, String)> {
    worst(&told(run).collect::<Vec<_>>())
}

fn worst(told: &[&SeriesRecord]) -> Option<(Verdict, String)> {
    let of = |verdict: Verdict| told.iter().copied().find(|one| one.verdict == verdict);
    let worst = of(Verdict::Bad).or_else(|| of(Verdict::Unjudged));
    let one = worst.or(told.first().copied())?;
    let place = if worst.is_some() { place(told, one) } else { String::new() };
    Some((one.verdict, format!("{}{place}", sentence(one))))
}

/// The answer to whether a series can be merged, in one line.
pub fn answer(run: &RunResult) -> String {
    match worst(&run.series.iter().collect::<Vec<_>>()) {
        None => "merge: not judged, because no patch was tested".to_owned(),
        Some((Verdict::Good, sentence)) => format!("merge: yes, {sentence}"),
        Some((Verdict::Bad, sentence)) => format!("merge: no, because {sentence}"),
        Some((Verdict::Unjudged, sentence)) => {
            let why = sentence.strip_prefix("the series is not judged: ").unwrap_or(&sentence);
            format!("merge: not judged, because {why}")
        }
    }
}

/// Series of which each patch was tested.
pub fn told(run: &RunResult) -> impl Iterator<Item = &SeriesRecord> {
    let steps = run.kernels.iter().any(|kernel| kernel.role == Some(Role::Step));
    run.series.iter().filter(move |one| steps || one.patches.iter().any(|patch| !patch.checks.is_empty()))
}

/// Where it was found, if there are several places.
fn place(told: &[&SeriesRecord], one: &SeriesRecord) -> String {
    if told.len() < 2 {
        return String::new();
    }
    let variant = if one.variant.is_empty() { String::new() } else { format!("/{}", one.variant) };
    format!(" (on {}{variant})", one.kernel)
}

/// `patch 2/3 "bpf: mask the cookie index" breaks 8 tests (..); patches 1 and 3 are fine; all build and boot`.
pub fn sentence(series: &SeriesRecord) -> String {
    let bad: Vec<&PatchRecord> = series.patches.iter().filter(|patch| patch.is_bad()).collect();
    let mut parts: Vec<String> = Vec::new();
    for (at, patch) in bad.iter().enumerate() {
        let what = joined(&problems(patch, NAMED));
        parts.push(match at {
            0 => format!("{} {what}", title(series, patch)),
            _ => format!("patch {} {what}", patch.number),
        });
    }
    if parts.is_empty() {
        parts.push(match series.verdict {
            Verdict::Unjudged => format!("the series is not judged: {}", series.unjudged),
            Verdict::Bad => format!("the series fails {}", tests(&series.fails, NAMED)),
            Verdict::Good => good(series),
        });
    }
    if series.verdict == Verdict::Good {
        return parts.remove(0);
    }
    let caused = |name: &&String| bad.iter().any(|patch| patch.breaks.contains(name));
    let more: Vec<String> = series.fails.iter().filter(|name| !caused(name)).cloned().collect();
    if !bad.is_empty() && !more.is_empty() {
        parts.push(format!("the whole series fails {}", tests(&more, NAMED)));
    }
    let fine: Vec<usize> = series.patches.iter().filter(|one| is_fine(one)).map(|one| one.number).collect();
    if !fine.is_empty() && !bad.is_empty() {
        parts.push(if fine.len() == 1 {
            format!("patch {} is fine", fine[0])
        } else {
            format!("patches {} are fine", numbers(&fine))
        });
    }
    let all_work =
        |state: fn(&PatchRecord) -> State| series.patches.iter().all(|one| state(one) == State::Yes);
    let few = series.patches.len() < 2;
    match (all_work(|one| one.builds), all_work(|one| one.boots)) {
        (true, true) if few => parts.push("it builds and boots".to_owned()),
        (true, true) => parts.push("all build and boot".to_owned()),
        (true, false) if !few => parts.push("all build".to_owned()),
        _ => (),
    }
    parts.join("; ")
}

fn good(series: &SeriesRecord) -> String {
    let count = series.patches.len();
    let fixed: usize = series.patches.iter().map(|patch| patch.fixes.len()).sum();
    let who = match count {
        1 => "the patch applies, builds, boots and breaks no test".to_owned(),
        _ => format!("all {count} patches apply, build and boot, and none breaks a test"),
    };
    let fixed = match fixed {
        0 => String::new(),
        1 => "; 1 test starts to pass".to_owned(),
        many => format!("; {many} tests start to pass"),
    };
    let before = match series.failed_before.len() {
        0 => String::new(),
        1 => "; 1 test does not pass with or without it".to_owned(),
        many => format!("; {many} tests do not pass with or without it"),
    };
    format!("{who}{fixed}{before}")
}

/// `patch 2/3 "bpf: mask the cookie index"`.
pub fn title(series: &SeriesRecord, patch: &PatchRecord) -> String {
    format!("patch {}/{} \"{}\"", patch.number, series.patches.len(), patch.info.subject)
}

/// What is wrong with a patch: `breaks the build: ..`, `breaks 8 tests (..)`, `adds 2 compiler warnings`.
/// `named`: how many tests are named.
pub fn problems(patch: &PatchRecord, named: usize) -> Vec<String> {
    let mut problems = Vec::new();
    // A sentence has room for the error, and none for the compiler's advice.
    let because = if named > NAMED { &patch.because } else { patch.because.split(';').next().unwrap_or("") };
    let why = if because.is_empty() { String::new() } else { format!(": {because}") };
    if !patch.inherited {
        match (patch.applies, patch.builds, patch.boots) {
            (State::No, ..) => problems.push(format!("does not apply{}", does_not_apply(&patch.because))),
            (_, State::No, _) => problems.push(format!("breaks the build{why}")),
            (_, _, State::No) => problems.push(format!("breaks the boot{why}")),
            _ => (),
        }
    }
    if !patch.breaks.is_empty() {
        problems.push(format!("breaks {}", tests(&patch.breaks, named)));
    }
    let bad = patch.checks.values().filter(|check| check.state == CheckState::Bad);
    problems.extend(bad.map(|check| check.summary.clone()));
    problems
}

/// The file and the kind of mistake in a reason that names the patch again.
fn does_not_apply(because: &str) -> String {
    let Some((_, why)) = because.split_once(" does not apply: ") else {
        return if because.is_empty() { String::new() } else { format!(": {because}") };
    };
    format!(": {why}")
}

/// Whether everything that was tried with a patch worked.
pub fn is_fine(patch: &PatchRecord) -> bool {
    let known = [patch.applies, patch.builds].iter().all(|state| *state == State::Yes);
    let judged = known && patch.boots == State::Yes && patch.missing_check().is_none();
    judged && !patch.is_bad() && !patch.inherited
}

/// The result of a patch in a few words, for a row of a table.
pub fn result(patch: &PatchRecord) -> String {
    let mut parts = problems(patch, NAMED);
    if patch.inherited {
        parts.push("fails like the patch before it".to_owned());
    }
    match patch.fixes.len() {
        0 => (),
        1 => parts.push(format!("lets {} pass", patch.fixes[0])),
        many => parts.push(format!("lets {many} tests pass")),
    }
    let noted = patch
        .checks
        .values()
        .filter(|check| matches!(check.state, CheckState::Info | CheckState::Advice | CheckState::Unknown));
    parts.extend(noted.map(|check| check.summary.clone()));
    if parts.is_empty() {
        let unknown = [patch.applies, patch.builds, patch.boots].contains(&State::Unknown);
        parts.push(if unknown { "not tested" } else { "fine" }.to_owned());
    }
    parts.join("; ")
}

/// What each patch did, a paragraph for each that did something.
pub fn story(series: &SeriesRecord) -> Vec<String> {
    let mut told = Vec::new();
    let mut built = State::Unknown;
    for patch in &series.patches {
        let mut what = problems(patch, TOLD);
        if patch.inherited {
            what.push(format!("fails like the kernel before it: {}", patch.because));
        }
        if built == State::No && patch.builds == State::Yes {
            what.push("builds again".to_owned());
        }
        if !patch.fixes.is_empty() {
            what.push(format!("lets {} pass", tests(&patch.fixes, TOLD)));
        }
        built = patch.builds;
        told.extend(what.into_iter().map(|what| format!("{} {what}", title(series, patch))));
    }
    if !series.failed_before.is_empty() {
        let verb = if series.failed_before.len() == 1 { "does" } else { "do" };
        let which = tests(&series.failed_before, TOLD);
        told.push(format!("{which} {verb} not pass with or without the series"));
    }
    if told.is_empty() {
        told.push("no patch lets a test pass, and none breaks one".to_owned());
    }
    told
}

/// `8 tests (cookie/attach_order, cookie/max, ..)`: at most `named` names.
fn tests(names: &[String], named: usize) -> String {
    let mut text = format!("{} test{}", names.len(), if names.len() == 1 { "" } else { "s" });
    let names = &if named > NAMED { grouped(names) } else { names.to_vec() };
    if !names.is_empty() {
        let _ = write!(text, " ({}", names[..names.len().min(named)].join(", "));
        text.push_str(if names.len() > named { ", ..)" } else { ")" });
    }
    text
}

/// `basic/* 34, tools/link_show`: a group with many tests is one name.
fn grouped(names: &[String]) -> Vec<String> {
    let group = |name: &String| name.rsplit_once('/').map(|(group, _)| group.to_owned());
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_by_key(|name| names.iter().position(|other| group(other) == group(name)));
    let mut parts = Vec::new();
    for some in sorted.chunk_by(|a, b| group(a) == group(b)) {
        match (some, group(some[0])) {
            (some, Some(group)) if some.len() > NAMED => parts.push(format!("{group}/* {}", some.len())),
            (some, _) => parts.extend(some.iter().map(|name| (*name).clone())),
        }
    }
    parts
}

/// `a, b and c`.
fn joined(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// `1`, `1 and 3`, `1 to 4 and 6`.
fn numbers(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let mut parts = Vec::new();
    for run in runs {
        match run {
            [first, .., last] if last - first > 1 => parts.push(format!("{first} to {last}")),
            some => parts.extend(some.iter().map(usize::to_string)),
        }
    }
    joined(&parts)
}

#[cfg(test)]
mod tests;
