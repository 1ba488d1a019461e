// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many concurrent calls: each has its own cookie, on several CPUs and on one. Each subtest proves that calls
//! overlapped.

use super::{CALL_FENTRY_TESTS, Context, ENTRY, EXIT, Subtest, subtests};
use crate::bpf::{self, Call, Globals, Tally};
use crate::load::{self, Sleeper};
use crate::userfault::Pages;
use nix::errno::Errno;
use nix::unistd::gettid;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

subtests! { "concurrent":
    Normal own_cookie_on_each_cpu ["tally_1", "tally_2"] on [SeveralCpus]
        "Of 100,000 calls, from a thread on each CPU, every exit reads what the entry of its own call wrote.";
    Normal four_threads_on_one_cpu ["blocking", "blocking_body_0", "blocking_body_1", "blocking_body_2",
        "blocking_body_3"] on [Userfaultfd]
        "Runs and recursion_misses add up, and an exit whose entry was left out reads 0, never another call's value.";
    Quick two_asleep_on_one_cpu ["tally_1"]
        "Two calls asleep in the target on one CPU have a cookie each, whichever wakes first.";
    Normal other_cpu_at_exit ["migrated"] on [SeveralCpus]
        "The cookie stays with a call that ends on another CPU than it began on.";
}

/// Checks that no run of a session found a value of another call or another session.
pub(super) fn nothing_foreign(t: &mut Context, who: &str, tally: &Tally) {
    t.checks.eq(format!("{who}: entries that found something in the cookie"), tally.full, 0);
    let last = match tally.foreign {
        0 => String::new(),
        _ => format!(", the last {:#x} instead of {:#x}", tally.found, tally.instead_of),
    };
    let seen = format!("{}{last}", tally.foreign);
    t.checks.state(format!("{who}: exits that found another value"), "0", seen, tally.foreign == 0);
}

fn own_cookie_on_each_cpu(t: &mut Context) -> Result<(), String> {
    const CALLS: u64 = 100_000;
    const SESSIONS: [&str; 2] = ["tally_1", "tally_2"];
    let cpus = load::cpus();
    let share = CALLS / cpus.len() as u64;
    let calls = share * cpus.len() as u64;
    let misses = |t: &Context, name| t.session.stats(name).map(|stats| stats.misses);
    let before = [misses(t, SESSIONS[0])?, misses(t, SESSIONS[1])?];
    let _links = (t.attach(SESSIONS[0])?, t.attach(SESSIONS[1])?);
    let call_share = |n: usize, _: &load::Course| {
        load::pin(cpus[n])?;
        let word = AtomicU32::new(0);
        let wrong = |&val: &u32| load::call(&word, val, cpus[n] as u32, None) != Err(Errno::EAGAIN);
        Ok((1..=share as u32).filter(wrong).count())
    };
    let wrong = load::together(cpus.len(), call_share, |_| Ok(()))?;
    t.checks.eq("calls that returned something else than EAGAIN", wrong.iter().sum::<usize>(), 0);
    let seen = t.seen();
    for ((name, tally), before) in
        SESSIONS.into_iter().zip([seen.tally_1_tally, seen.tally_2_tally]).zip(before)
    {
        let misses = misses(t, name)? - before;
        t.checks.eq(format!("{name}: entries of {calls} calls"), tally.entries, calls);
        t.checks.eq(format!("{name}: exits of {calls} calls"), tally.exits, calls);
        t.checks.eq(format!("{name}: recursion_misses"), misses, 0);
        nothing_foreign(t, name, &tally);
        t.checks.eq(format!("{name}: exits that found 0"), tally.empty, 0);
        let least = cpus.iter().map(|&cpu| tally.of_caller[cpu % tally.of_caller.len()]).min();
        t.checks.eq(format!("{name}: runs of the CPU with the fewest"), least.unwrap_or(0), 2 * share);
        t.checks.eq(format!("{name}: runs on another CPU than the caller's"), tally.elsewhere, 0);
        t.checks.state(
            format!("{name}: calls that began while another was under way"),
            "some",
            tally.overlaps.to_string(),
            tally.overlaps > 0,
        );
    }
    Ok(())
}

/// When a thread makes its next call, and the number of its last call.
#[derive(Default)]
struct Turn {
    asked: AtomicU64,
    done: AtomicU64,
}

impl Turn {
    const TICK: Duration = Duration::from_micros(200);

    /// Waits for the next requested call; `None` when it is time to stop.
    fn next(&self, course: &load::Course) -> Option<u64> {
        while !course.is_over() {
            let call = self.asked.load(SeqCst);
            if call != self.done.load(SeqCst) {
                return Some(call);
            }
            std::thread::sleep(Self::TICK);
        }
        None
    }

    fn wait_until_done(&self) -> Result<(), String> {
        let started = Instant::now();
        while self.done.load(SeqCst) != self.asked.load(SeqCst) {
            if started.elapsed() > load::LIMIT {
                return Err("a call does not return".to_owned());
            }
            std::thread::sleep(Self::TICK);
        }
        Ok(())
    }
}

/// Four calls, with the roles of the threads rotated in each round. Page 0 is for the entry run, the others
/// for the bodies, one for each thread.
fn one_round(pages: &Pages, turns: &[Turn; 4], round: u64) -> Result<(), String> {
    let sleeps_for = |page: usize| match pages.wait(load::LIMIT)? {
        seen if seen == page => Ok(()),
        seen => Err(format!("a thread sleeps for page {seen} instead of {page}")),
    };
    let [first, second, third, fourth] = std::array::from_fn(|n| (n + round as usize) % 4);
    pages.empty()?;
    turns[first].asked.store(round, SeqCst);
    sleeps_for(0)?;
    for n in [second, third, fourth] {
        turns[n].asked.store(round, SeqCst);
        sleeps_for(1 + n)?;
    }
    pages.fill(1 + second)?;
    turns[second].wait_until_done()?;
    pages.fill(0)?;
    sleeps_for(1 + first)?;
    for n in [third, first, fourth] {
        pages.fill(1 + n)?;
        turns[n].wait_until_done()?;
    }
    Ok(())
}

/// The entry run of one call sleeps on a page that this test fills when it chooses to. In the meantime the
/// other threads make calls on the same CPU: their entry runs are skipped, because the program is already
/// running there. Additional programs make each call sleep after its entry, as a body would, so that the test
/// controls when each exit runs: one while the first entry still sleeps, which is skipped as well, the others
/// after it has finished, without an entry run of their own.
fn four_threads_on_one_cpu(t: &mut Context) -> Result<(), String> {
    const THREADS: usize = 4;
    const ROUNDS: u64 = 20;
    let pages = Pages::new(1 + THREADS)?;
    let address = pages.address(0);
    t.session.set(|globals| globals.user_address = address);
    let places: Vec<_> = (0..THREADS)
        .map(|n| offset_of!(Globals, calls) + n * size_of::<Call>())
        .map(|call| {
            [offset_of!(Call, tid), offset_of!(Call, value), offset_of!(Call, entered)]
                .map(|field| t.session.word(call + field))
        })
        .collect();
    let caller = t.session.fd(CALL_FENTRY_TESTS)?;
    let before = t.session.stats("blocking")?.misses;
    // The one attached last runs first.
    let bodies = ["blocking_body_0", "blocking_body_1", "blocking_body_2", "blocking_body_3"];
    let _bodies = bodies.map(|body| t.attach(body)).into_iter().collect::<Result<Vec<_>, _>>()?;
    let _link = t.attach("blocking")?;
    let cpu = load::cpus()[0];
    let turns: &[Turn; THREADS] = &Default::default();
    let body = |n: usize, course: &load::Course| {
        load::pin(cpu)?;
        let (turn, [tid, value, entered]) = (&turns[n], places[n]);
        tid.store(gettid().as_raw() as u64, SeqCst);
        while let Some(call) = turn.next(course) {
            value.store((n as u64 + 1) << 56 | call, SeqCst);
            entered.store(0, SeqCst);
            let returned = bpf::test_run(caller);
            turn.done.store(call, SeqCst);
            returned.map_err(|errno| format!("test run of {CALL_FENTRY_TESTS}: {errno}"))?;
        }
        tid.store(0, SeqCst);
        Ok(())
    };
    // It owns the pages: if it fails, they are freed, and nothing sleeps on one while we wait for the
    // threads.
    let rounds = move |_: &load::Course| {
        (1..=ROUNDS).try_for_each(|round| {
            one_round(&pages, turns, round).map_err(|why| format!("round {round} of {ROUNDS}: {why}"))
        })
    };
    if let Err(why) = load::together(THREADS, body, rounds) {
        let seen = t.seen();
        let (entries, unread) = (seen.blocking_tally.entries, seen.unread as i64);
        return Err(format!("{why}; {entries} entries so far, the last read that failed returned {unread}"));
    }
    let tally = t.seen().blocking_tally;
    let misses = t.session.stats("blocking")?.misses - before;
    let calls = ROUNDS * THREADS as u64;
    t.checks.eq(format!("entries of {calls} calls, one of four"), tally.entries, ROUNDS);
    t.checks.eq(
        "runs left out: three entries of four, and the exit during the first entry",
        misses,
        4 * ROUNDS,
    );
    t.checks.eq("exits, the one left out apart", tally.exits, 3 * ROUNDS);
    t.checks.eq("exits whose entry was left out, which found 0", tally.empty, 2 * ROUNDS);
    t.checks.eq("what the last read that failed returned", t.seen().unread, 0);
    t.checks.eq("exits that found 0 although their entry ran", t.seen().forgotten, 0);
    nothing_foreign(t, "session", &tally);
    Ok(())
}

fn two_asleep_on_one_cpu(t: &mut Context) -> Result<(), String> {
    let cpu = load::cpus()[0];
    let _link = t.attach("tally_1")?;
    for first_wakes_first in [true, false] {
        t.reset();
        let sleepers = [Sleeper::start(1, Some(cpu))?, Sleeper::start(2, Some(cpu))?];
        let order = if first_wakes_first { "first in, first out" } else { "first in, last out" };
        let runs = |t: &Context| (t.seen().tally_1_tally.entries, t.seen().tally_1_tally.exits);
        t.checks.same(format!("{order}: entries and exits while both sleep"), runs(t), (2, 0));
        let overlaps = t.seen().tally_1_tally.overlaps;
        t.checks.eq(format!("{order}: calls that began while the other slept"), overlaps, 1);
        let [a, b] = sleepers;
        let (soon, late) = if first_wakes_first { (a, b) } else { (b, a) };
        let woken = soon.wake()?;
        t.checks.same(format!("{order}: what the one that wakes first returns"), woken, Ok(()));
        t.checks.same(format!("{order}: entries and exits after the first"), runs(t), (2, 1));
        t.checks.eq(format!("{order}: the other still sleeps"), late.is_asleep(), true);
        let woken = late.wake()?;
        t.checks.same(format!("{order}: what the other returns"), woken, Ok(()));
        t.checks.same(format!("{order}: entries and exits after both"), runs(t), (2, 2));
        let tally = t.seen().tally_1_tally;
        t.checks.same(format!("{order}: runs of each"), (tally.of_caller[1], tally.of_caller[2]), (2, 2));
        nothing_foreign(t, order, &tally);
        t.checks.eq(format!("{order}: exits that found 0"), tally.empty, 0);
    }
    Ok(())
}

fn other_cpu_at_exit(t: &mut Context) -> Result<(), String> {
    const MOVES: u64 = 200;
    let cpus = load::cpus();
    let mut here = cpus[0];
    load::pin(here)?;
    let _link = t.attach("migrated")?;
    let (mut runs, mut cookies, mut moves) = (0, 0, 0);
    for call in 1..=MOVES {
        let there = if here == cpus[0] { cpus[1] } else { cpus[0] };
        let value = call << 32 | u64::from(!call as u32);
        t.reset();
        t.session.set(|globals| globals.give[0] = value);
        load::pin(there)?;
        let [entry, exit] = t.seen().migrated_seen;
        runs += u64::from((entry.runs, exit.runs, exit.ret) == (1, 1, 0));
        cookies += u64::from((entry.cookie, exit.cookie) == (0, value));
        moves += u64::from((entry.value, exit.value) == (here as u64, there as u64));
        here = there;
    }
    t.checks.eq(format!("calls of {MOVES} with one entry and one exit"), runs, MOVES);
    t.checks.eq("calls that ended on the other CPU", moves, MOVES);
    t.checks.eq("calls whose exit read what their entry wrote, and whose entry 0", cookies, MOVES);
    let last = t.seen().migrated_seen;
    t.checks.same("runs in the last call", (last[ENTRY].runs, last[EXIT].runs), (1, 1));
    Ok(())
}
