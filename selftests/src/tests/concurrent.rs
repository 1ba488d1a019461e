// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many calls at once: each has its own cookie, on several CPUs and on one. Each subtest proves that calls overlapped.

use super::{CALL_FENTRY_TESTS, Context, ENTRY, EXIT, Subtest, subtests};
use crate::bpf::{self, Call, Globals, Tally};
use crate::load::{self, Sleeper};
use nix::errno::Errno;
use nix::libc;
use nix::unistd::gettid;
use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

subtests! { "concurrent":
    Normal own_cookie_on_each_cpu ["tally_1", "tally_2"] on [SeveralCpus]
        "Of 100,000 calls, from a thread on each CPU, every exit reads what the entry of its own call wrote.";
    Normal four_threads_on_one_cpu ["blocking", "blocking_body"]
        "Runs and recursion_misses add up, and an exit whose entry was left out reads 0, never another call's value.";
    Quick two_asleep_on_one_cpu ["tally_1"]
        "Two calls asleep in the target on one CPU have a cookie each, whichever wakes first.";
    Normal other_cpu_at_exit ["migrated"] on [SeveralCpus]
        "The cookie stays with a call that ends on another CPU than it began on.";
}

/// States that no run of a session found anything of another call, or of another session.
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

/// Memory that takes long to protect. Whoever does that holds the lock of the address space.
struct Memory(NonNull<libc::c_void>);

// SAFETY: a mapping of this process; nobody looks into it but the kernel.
unsafe impl Sync for Memory {}

impl Memory {
    const SIZE: usize = 8 << 20;

    fn new() -> Result<Self, String> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), Self::SIZE, access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(format!("mmap: {}", Errno::last()));
        }
        // SAFETY: the mapping just made. Of huge pages there would be too few; a kernel without them refuses, and need
        // not be told.
        unsafe {
            libc::madvise(start, Self::SIZE, libc::MADV_NOHUGEPAGE);
            start.cast::<u8>().write_bytes(1, Self::SIZE);
        }
        NonNull::new(start).map(Self).ok_or_else(|| "mmap gave address 0".to_owned())
    }

    /// Holds the lock for as long as it takes to change every page.
    fn hold_lock(&self) {
        for access in [libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE] {
            // SAFETY: nobody reads or writes this memory. It cannot fail, and then would only not take long.
            unsafe { libc::mprotect(self.0.as_ptr(), Self::SIZE, access) };
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: ours, and not used any more.
        unsafe { libc::munmap(self.0.as_ptr(), Self::SIZE) };
    }
}

/// The entry run sleeps until it gets the lock of the address space, which another thread mostly holds. Meanwhile the
/// others come by on the same CPU: their entry runs are left out, as the program runs there already. A second program
/// makes them sleep in turn, as a body would, until the first is done: then their exit runs come without an entry.
fn four_threads_on_one_cpu(t: &mut Context) -> Result<(), String> {
    const THREADS: usize = 4;
    const ENOUGH: u64 = 50;
    // On one CPU the thread that holds the lock has to be caught in the middle of it: 25 came in 20 s on a busy host.
    const PATIENCE: Duration = Duration::from_secs(120);
    let memory = Memory::new()?;
    let word = 7_u64;
    t.session.set(|globals| globals.user_address = &raw const word as u64);
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
    let _links = (t.attach("blocking_body")?, t.attach("blocking")?);
    let cpus = load::cpus();
    let body = |n: usize, course: &load::Course| {
        let Some(&[tid, value, entered]) = places.get(n) else {
            while !course.is_over() {
                memory.hold_lock();
            }
            return Ok(0);
        };
        load::pin(cpus[0])?;
        tid.store(gettid().as_raw() as u64, SeqCst);
        let mut calls = 0;
        while !course.is_over() {
            calls += 1;
            value.store((n as u64 + 1) << 56 | calls, SeqCst);
            entered.store(0, SeqCst);
            bpf::test_run(caller).map_err(|errno| format!("test run of {CALL_FENTRY_TESTS}: {errno}"))?;
            // Else the first of those that got the lock is in its next entry run before another one comes to its exit.
            std::thread::sleep(Duration::from_millis(1));
        }
        tid.store(0, SeqCst);
        Ok(calls)
    };
    let empty = t.session.word(offset_of!(Globals, blocking_tally) + offset_of!(Tally, empty));
    let enough = |_: &load::Course| {
        load::wait_until(PATIENCE, || empty.load(SeqCst) >= ENOUGH);
        Ok(())
    };
    let calls: u64 = load::together(THREADS + 1, body, enough)?.iter().sum();
    let tally = t.seen().blocking_tally;
    let misses = t.session.stats("blocking")?.misses - before;
    let least = |what: &str, seen: u64, least: u64, t: &mut Context| {
        t.checks.state(what, format!("at least {least}"), seen.to_string(), seen >= least);
    };
    least("calls", calls, ENOUGH, t);
    least("runs left out", misses, ENOUGH, t);
    least("exits whose entry was left out, which found 0", tally.empty, ENOUGH, t);
    t.checks.eq(
        format!("entries + exits + recursion_misses of {calls} calls"),
        tally.entries + tally.exits + misses,
        2 * calls,
    );
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
