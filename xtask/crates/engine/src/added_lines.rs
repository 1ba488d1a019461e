// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which of the lines that a series adds were run by which tests: from the counters that the guests of a column reported.
//!
//! How it could be wrong: a test whose guest died has reported nothing, and what ran outside of all tests counts for none. Both
//! make a line `not run` that did run; neither makes one `run` that did not.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::DeflateDecoder;
use std::io::Read as _;
use vmtest_protocol::{Event, Line, base64};

use crate::bootable::Bootable;
use crate::resources::Resources;
use vmtest_base::beneath;
use vmtest_base::error::{Error, Result};
use vmtest_base::thread::join;
use vmtest_guest::events::MAX_BYTES;
use vmtest_host::sandbox::Tools;
use vmtest_host::store::RunDir;
use vmtest_kernel::build::NOTES;
use vmtest_kernel::coverage::{Added, Executed, Reader, added, is_kernel_code, why_not_kernel};
use vmtest_kernel::patched::PatchedTree;
use vmtest_record::column::ColumnResult;
use vmtest_record::coverage::{Coverage, CoveredFile, CoveredLine, LineState};
use vmtest_record::run::BootRecord;

/// Largest data file.
const LARGEST: u64 = 64 << 20;

/// The data files of each test, by its name.
type Counted = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// The coverage of a kernel that counts lines; `None` for any other, and without a series.
pub fn measure(
    resources: &Resources<'_>,
    bootable: &Bootable,
    results: &[ColumnResult],
    run_dir: &RunDir,
) -> Option<Coverage> {
    let counts = bootable.config.as_ref()?.get("GCOV_KERNEL").map(String::as_str) == Some("y");
    let (tree, _) = bootable.tree.as_ref().filter(|(tree, _)| counts && tree.series().is_some())?;
    let measured = resources.tools().and_then(|tools| {
        let mut counted = Counted::new();
        for result in results {
            for boot in result.boot.iter().chain(&result.again) {
                collect(&run_dir.path, boot, &mut counted)?;
            }
        }
        let phase = resources.ctx.bus.phase("coverage", tree.id());
        let covered = of_tree(tools, tree, &bootable.dir, &counted, |done, all| {
            phase.progress(done, all, "tests");
        })?;
        phase.finish();
        Ok(covered)
    });
    Some(measured.unwrap_or_else(|error| {
        // A program that failed says why in its last line.
        let said = error.detail.last().map(|line| format!(": {line}")).unwrap_or_default();
        Coverage { problem: format!("{}{said}", error.summary()), ..Coverage::default() }
    }))
}

fn of_tree(
    tools: &Tools,
    tree: &PatchedTree,
    kernel: &Path,
    counted: &Counted,
    progress: impl Fn(u64, u64) + Sync,
) -> Result<Coverage> {
    let added = added(tree)?;
    let notes = kernel.join(NOTES);
    let reader = Reader::new(tools, &notes)?;
    let compiled: Vec<String> = reader.files().collect();
    // Without any counter each line is there, and did not run.
    let lines = reader.read_all()?;
    if !compiled.is_empty() && counted.is_empty() {
        return Err(Error::host("no guest reported which lines ran")
            .why("the kernel has counters, and no event with them arrived"));
    }
    let ran = read(tools, &notes, counted, &progress)?;
    let file = |(path, added): (&String, &Option<Vec<Added>>)| {
        judged(path, added.as_deref(), &compiled, &lines, &ran)
    };
    Ok(Coverage {
        tests: counted.keys().cloned().collect(),
        files: added.iter().map(file).collect(),
        problem: String::new(),
    })
}

/// What each test ran, in the order of their names. gcov is a program of one thread, and takes a third of a second for a test.
fn read(
    tools: &Tools,
    notes: &Path,
    counted: &Counted,
    progress: &(impl Fn(u64, u64) + Sync),
) -> Result<Vec<Executed>> {
    let all: Vec<_> = counted.values().collect();
    let done = AtomicU64::new(0);
    let some = |tests: &[&BTreeMap<String, Vec<u8>>]| -> Result<Vec<Executed>> {
        let reader = Reader::new(tools, notes)?;
        let one = |data: &&BTreeMap<String, Vec<u8>>| {
            progress(done.fetch_add(1, Ordering::Relaxed), all.len() as u64);
            reader.read(data)
        };
        tests.iter().map(one).collect()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let parts = std::thread::scope(|scope| {
        let each = all.chunks(all.len().div_ceil(threads).max(1)).map(|tests| scope.spawn(|| some(tests)));
        let each: Vec<_> = each.collect();
        each.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    Ok(parts.into_iter().flatten().collect())
}

/// The added lines of a file. `lines`: all that have code; `ran`: what each test ran.
fn judged(
    path: &str,
    added: Option<&[Added]>,
    compiled: &[String],
    lines: &Executed,
    ran: &[Executed],
) -> CoveredFile {
    let (outside, why) = match (added, why_not_kernel(path)) {
        (None, _) => (Some(LineState::Unknown), "git changed it in another way than its hunks say"),
        (_, Some(why)) => (Some(LineState::NotCompiled), why),
        _ if is_kernel_code(path) && !compiled.iter().any(|file| file == path) => {
            (Some(LineState::NotCompiled), "not part of this configuration")
        }
        _ if path.ends_with(".S") => (Some(LineState::Unknown), "gcov does not count assembly"),
        _ if !lines.contains_key(path) => (None, "none of the counted files has code of it"),
        _ => (None, ""),
    };
    let line = |one: &Added| {
        let has = |executed: &&Executed| executed.get(path).and_then(|lines| lines.get(&one.line)).copied();
        let who = ran.iter().enumerate().filter(|(_, executed)| has(executed) == Some(true));
        let tests: Vec<usize> = if outside.is_some() { Vec::new() } else { who.map(|(at, _)| at).collect() };
        let state = match (outside, has(&lines)) {
            (Some(outside), _) => outside,
            (None, _) if !tests.is_empty() => LineState::Run,
            (None, Some(_)) => LineState::NotRun,
            (None, None) => LineState::NoCode,
        };
        // A record has no control characters.
        let text = one.text.replace('\t', "        ");
        CoveredLine { line: one.line, patch: one.patch, text, state, tests }
    };
    let lines = added.unwrap_or_default().iter().map(line).collect();
    CoveredFile { path: path.to_owned(), why: why.to_owned(), unknown: added.is_none(), lines }
}

/// Adds what a guest reported.
fn collect(run: &Path, boot: &BootRecord, counted: &mut Counted) -> Result<()> {
    let events = Path::new(&boot.directory).join("events.jsonl");
    if !beneath::is_file(run, &events) {
        return Ok(());
    }
    let bytes = beneath::read_up_to(run, &events, MAX_BYTES as u64)?;
    let damaged = |why: String| Error::host("the counters of a guest are damaged").why(why);
    let (mut packed, mut pieces) = (Vec::new(), 0);
    for line in bytes.split(|byte| *byte == b'\n') {
        // Every irregular line is a fault of the run already.
        let Ok(Line { event: Event::Counters(one), .. }) = serde_json::from_slice(line) else { continue };
        pieces += 1;
        let piece = base64::decode(&one.data).filter(|_| one.part == pieces);
        let place = || format!("piece {} of {} of {}", one.part, one.parts, one.object);
        packed.extend(piece.ok_or_else(|| damaged(place()))?);
        if one.part == one.parts {
            let mut data = Vec::new();
            let read = DeflateDecoder::new(&packed[..]).take(LARGEST).read_to_end(&mut data);
            read.map_err(|error| damaged(format!("{}: {error}", place())))?;
            (packed, pieces) = (Vec::new(), 0);
            let name = named(&boot.suite, &one.name.path());
            // Of several rounds, and of several attempts, the last one counts.
            counted.entry(name).or_default().insert(one.object, data);
        }
    }
    Ok(())
}

/// A test with its suite, unless it is our own; empty for the time before the first one.
fn named(suite: &str, path: &str) -> String {
    let path = path.trim_start_matches('/');
    if path.is_empty() || suite == "own" { path.to_owned() } else { format!("{suite}: {path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executed(lines: &[(u64, bool)]) -> Executed {
        Executed::from([("kernel/a.c".to_owned(), lines.iter().copied().collect())])
    }

    fn states(path: &str, compiled: &[String]) -> (Vec<LineState>, Vec<Vec<usize>>, String) {
        let one = |line| Added { line, patch: 1, text: String::new() };
        let added = [one(1), one(2), one(3)];
        let all = executed(&[(1, false), (2, false)]);
        let ran = [executed(&[(1, false), (2, false)]), executed(&[(1, true), (2, false)])];
        let file = judged(path, Some(&added), compiled, &all, &ran);
        let tests = file.lines.iter().map(|line| line.tests.clone()).collect();
        (file.lines.iter().map(|line| line.state).collect(), tests, file.why)
    }

    #[test]
    fn each_line_has_a_state_with_its_evidence() {
        let compiled = ["kernel/a.c".to_owned()];
        let (state, tests, why) = states("kernel/a.c", &compiled);
        assert_eq!(state, [LineState::Run, LineState::NotRun, LineState::NoCode]);
        assert_eq!((tests, why.as_str()), (vec![vec![1], vec![], vec![]], ""));
        for (path, why) in [
            ("kernel/b.c", "not part of this configuration"),
            ("arch/arm64/net/a.c", "another architecture"),
            ("tools/lib/bpf/a.c", "not part of the kernel"),
            ("Makefile", "not a source file"),
        ] {
            let (state, _, seen) = states(path, &compiled);
            assert_eq!((state, seen.as_str()), (vec![LineState::NotCompiled; 3], why), "{path}");
        }
        let (state, _, why) = states("include/linux/a.h", &compiled);
        assert_eq!(
            (state, &why[..]),
            (vec![LineState::NoCode; 3], "none of the counted files has code of it")
        );
        let unknown = judged("kernel/a.c", None, &compiled, &Executed::new(), &[]);
        assert!(unknown.unknown && unknown.why.contains("another way"), "{unknown:?}");
        let mut coverage = Coverage { files: vec![unknown], ..Coverage::default() };
        assert!(coverage.unknown().is_some_and(|why| why.contains("another way")));
        // Lines are only taken away.
        coverage.files = vec![judged("tools/a.c", Some(&[]), &compiled, &Executed::new(), &[])];
        assert_eq!(coverage.unknown(), None);
    }

    #[test]
    fn tests_of_other_suites_are_told_apart() {
        assert_eq!(named("own", "basic/args"), "basic/args");
        assert_eq!(named("upstream", "fsession_test"), "upstream: fsession_test");
        assert_eq!(named("upstream", "/"), "");
    }
}
