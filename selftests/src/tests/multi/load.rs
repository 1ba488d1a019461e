// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links to many functions come and go while one thread calls them without pause. One caller, because then a
//! program's counters are exact and each call knows the value that its entry left.

use super::{Context, ENTRY, EXIT, Runs, TARGETS, attach, ids, load, sums};
use crate::bpf::{self, Copy, Kind};
use crate::features::InFlight;
use crate::leftovers::Counts;
use crate::load::{Course, LIMIT, together};
use crate::syscall;
use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::sleep;
use std::time::{Duration, Instant};
use vmtest_protocol::Effort;

/// Time between two changes, in which most calls are not disturbed by either.
const PAUSE: Duration = Duration::from_millis(20);
const CALLER: &str = "call_fentry_tests";

fn duration(effort: Effort) -> Duration {
    Duration::from_secs(if effort == Effort::Soak { 30 } else { 3 })
}

/// Calls without pause until it is over; returns how often.
fn call(caller: c_int, course: &Course) -> Result<u64, String> {
    let mut calls = 0;
    while !course.is_over() {
        bpf::test_run(caller).map_err(|errno| format!("test run: {errno}"))?;
        calls += 1;
    }
    Ok(calls)
}

/// Declares the known bug of kernels whose trampolines jump over a detached program, if all else is right.
fn may_be_without_entry(t: &mut Context, else_right: bool) {
    if t.profile.in_flight == Some(InFlight::OfTheDetached) && else_right {
        t.checks.expect_failure(
            "calls that begin while a link is detached run its exit without its entry \
             (docs/findings/exit-without-entry.md)",
        );
    }
}

/// Checks the number of exits without an entry. The one caller has one call under way at a time, so each
/// detach can cause one.
fn without_entry(t: &mut Context, empty: u64, detaches: u64) {
    t.checks.state(
        format!("exits without their entry, with one caller and {detaches} links detached"),
        format!("at most {detaches}"),
        empty.to_string(),
        empty <= detaches,
    );
}

pub fn calls_while_detaching(t: &mut Context) -> Result<(), String> {
    const LEAST: u64 = 5;
    let (program, targets) = (load(t, "multi_counts")?, ids(TARGETS)?);
    let caller = t.session.fd(CALLER)?;
    let time = duration(t.effort);
    let mut detaches = 0;
    let calls = together(
        1,
        |_, course| call(caller, course),
        |_| {
            let started = Instant::now();
            while started.elapsed() < time || detaches < LEAST {
                let link = attach(&program, &targets)?;
                sleep(PAUSE);
                drop(link);
                detaches += 1;
                sleep(PAUSE);
            }
            Ok(())
        },
    )?;
    let tally = t.seen().multi_tally;
    let whole = tally.exits - tally.empty;
    let most_whole = whole <= tally.entries && whole + detaches >= tally.entries;
    may_be_without_entry(t, tally.entries > detaches && most_whole && tally.found + tally.foreign == 0);
    t.checks.state("calls", "more than changes", calls[0].to_string(), calls[0] > 2 * detaches);
    t.checks.state(
        format!("entries in {} calls of {} functions", calls[0], TARGETS.len()),
        "some",
        tally.entries.to_string(),
        tally.entries > detaches,
    );
    t.checks.eq("entries that found something in their cookie", tally.found, 0);
    t.checks.eq("exits that found what no entry left", tally.foreign, 0);
    t.checks.state(
        format!("exits with their entry, of {} entries", tally.entries),
        format!("all but at most {detaches}"),
        whole.to_string(),
        most_whole,
    );
    without_entry(t, tally.empty, detaches);
    Ok(())
}

/// Attaches and detaches until it is over, and counts how often. Returns how an attach was refused.
fn churn<T>(
    course: &Course,
    detaches: &AtomicU64,
    mut attach: impl FnMut(u64) -> Result<T, String>,
) -> Option<String> {
    while !course.is_over() {
        match attach(detaches.load(SeqCst)) {
            Ok(link) => drop(link),
            Err(refused) => return Some(refused),
        }
        detaches.fetch_add(1, SeqCst);
    }
    None
}

/// Values that a program found in session cookies and should not have, and exits without an entry.
fn wrong(seen: &Runs) -> (u64, u64) {
    let found: u64 = seen[ENTRY].iter().map(|seen| seen.cookie).sum();
    let foreign: u64 = seen[EXIT].iter().map(|seen| seen.foreign).sum();
    (found + foreign, seen[EXIT].iter().map(|seen| seen.empty).sum())
}

pub fn stress(t: &mut Context) -> Result<(), String> {
    /// Links that each thread makes at least.
    const LEAST: u64 = 3;
    const PLAIN: [(&str, Kind); 4] = [
        ("one_arg", Kind::Fsession),
        ("no_kfunc", Kind::Fsession),
        ("plain_fentry", Kind::Fentry),
        ("plain_fexit", Kind::Fexit),
    ];
    let counts = Counts::before()?;
    let many: [Copy; 2] = [load(t, "multi_1")?, load(t, "multi_2")?];
    let targets = ids(TARGETS)?;
    let mut plain = Vec::new();
    for (name, kind) in PLAIN {
        plain.push((t.session.fd(name)?, kind.attach_type()));
    }
    let (caller, time) = (t.session.fd(CALLER)?, duration(t.effort));
    let mut calls = 0;
    let detaches: Vec<AtomicU64> = (0..many.len() + plain.len()).map(|_| AtomicU64::new(0)).collect();
    let fewest = || detaches.iter().map(|count| count.load(SeqCst)).min().unwrap_or(0);
    let refused = together(
        many.len() + plain.len(),
        |n, course| {
            let Some(program) = many.get(n) else {
                let (fd, attach_type) = plain[n - many.len()];
                let attach = |_| syscall::link_create(fd, attach_type, 0).map_err(|errno| errno.to_string());
                return Ok(churn(course, &detaches[n], attach));
            };
            // Another set of functions each time: some images change for both links, some for one.
            Ok(churn(course, &detaches[n], |round| attach(program, &targets[round as usize % 4..])))
        },
        |_| {
            let started = Instant::now();
            while started.elapsed() < time || (fewest() < LEAST && started.elapsed() < LIMIT) {
                bpf::test_run(caller).map_err(|errno| format!("test run: {errno}"))?;
                calls += 1;
            }
            Ok(())
        },
    )?;
    let seen = t.seen();
    let records = [&seen.multi_1_seen, &seen.multi_2_seen].map(wrong);
    let (found, empty) = records.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let refused: Vec<String> = refused.into_iter().flatten().collect();
    let (fewest, detaches) = (fewest(), detaches[0].load(SeqCst) + detaches[1].load(SeqCst));
    let runs = (sums(&seen.multi_1_seen), sums(&seen.multi_2_seen));
    let some = runs.0.0.min(runs.0.1).min(runs.1.0).min(runs.1.1) > 0;
    may_be_without_entry(t, some && found == 0 && refused.is_empty() && fewest >= LEAST);
    t.checks.eq("attaches that were refused", refused.join("; "), String::new());
    t.checks.state("links of each thread", format!("at least {LEAST}"), fewest.to_string(), fewest >= LEAST);
    t.checks.state(format!("entries and exits of both in {calls} calls"), "some", format!("{runs:?}"), some);
    t.checks.eq("values of others in session cookies, added up", found, 0);
    without_entry(t, empty, detaches);
    drop(many);
    t.reset();
    t.call_fentry_tests()?;
    let seen = t.seen();
    let late = (sums(&seen.multi_1_seen), sums(&seen.multi_2_seen), seen.no_kfunc_seen.runs);
    t.checks.same("runs once all are detached", late, ((0, 0), (0, 0), 0));
    counts.state_as_before(t.checks)
}
