// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attaching and detaching often, under load, in vain, and when a process is killed. Each subtest checks that
//! nothing is left behind in the kernel.

use super::concurrent::nothing_foreign;
use super::in_flight::{Changes, PAUSE, some_were_in_flight};
use super::{Context, Subtest, subtests};
use crate::bpf::{self, Kind, Link};
use crate::features::NOTRACE;
use crate::leftovers::Counts;
use crate::load::{self, LIMIT, Sleeper};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe};
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::AtomicU32;
use std::thread::sleep;
use std::time::{Duration, Instant};
use vmtest_protocol::Effort;

subtests! { "stress":
    Normal attach_detach_under_load ["tally_1"] on [SeveralCpus, SingleThread]
        "A session is attached and detached again and again while every CPU calls its target.";
    Quick asleep_when_all_is_closed ["tally_1"]
        "A call sleeps in the target while link and program go away: it returns what it has to, without an exit run.";
    Normal leftovers_are_counted ["one_arg"]
        "What the other subtests here compare can differ: a session that stays attached is one more link, program, image and function.";
    Normal failed_attaches ["one_arg", "cookie_1", "cookie_2", "cookie_3", "cookie_4", "cookie_5"]
        "After 100 refused attaches of each kind a normal one works.";
    Normal pinned_link_survives ["one_arg", "no_kfunc"]
        "When a process is killed its pinned link stays, and the others go.";
}

/// Rounds of attach and detach: minimum, maximum, and duration.
struct Amount {
    least: u64,
    most: u64,
    time: Duration,
}

impl Amount {
    fn of(effort: Effort) -> Self {
        let accelerated =
            std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
                .is_ok_and(|name| name.trim() == "kvm-clock");
        let (least, most, time) = match effort {
            Effort::Soak if accelerated => (1_000, 1_000, 60),
            Effort::Soak => (50, 1_000, 60),
            Effort::Quick | Effort::Normal => (10, 50, 3),
        };
        Self { least, most, time: Duration::from_secs(time) }
    }

    fn is_done(&self, rounds: u64, started: Instant) -> bool {
        rounds >= self.most || (rounds >= self.least && started.elapsed() >= self.time)
    }
}

fn attach_detach_under_load(t: &mut Context) -> Result<(), String> {
    /// Caller whose runs show whether the session is attached.
    const PROBE: usize = 63;
    /// A run is left out where the session already runs on that CPU, in a thread that waits for its turn.
    const TRIES: u32 = 10;
    const TURN: Duration = Duration::from_millis(2);
    let counts = Counts::before()?;
    let (rule, before) = (t.in_flight()?, t.session.stats("tally_1")?.misses);
    let amount = Amount::of(t.effort);
    let (mut rounds, mut whole, mut probes, mut after_detach) = (0, 0, 0, 0);
    // Returns the runs of the session in one call.
    let mut probe = || {
        let before = t.seen().tally_1_tally.of_caller[PROBE];
        probes += 1;
        let _ = load::call(&AtomicU32::new(0), probes, PROBE as u32, None); // its result is checked elsewhere
        t.seen().tally_1_tally.of_caller[PROBE] - before
    };
    let calls = load::on_every_cpu(|course| {
        let started = Instant::now();
        while !amount.is_done(rounds, started) {
            rounds += 1;
            let link = course.change(|| t.attach("tally_1"))?;
            let mut is_whole = || {
                probe() == 2 || {
                    sleep(TURN);
                    false
                }
            };
            whole += u64::from((0..TRIES).any(|_| is_whole()));
            sleep(PAUSE);
            course.change(|| drop(link));
            after_detach += probe();
            sleep(PAUSE);
        }
        Ok(())
    })?;
    let tally = t.seen().tally_1_tally;
    let misses = t.session.stats("tally_1")?.misses - before;
    t.checks.state(
        "rounds of attach and detach",
        format!("at least {}", amount.least),
        rounds.to_string(),
        rounds >= amount.least,
    );
    some_were_in_flight(t, &calls, 2 * rounds);
    t.checks.eq("rounds in which a call while attached had both runs", whole, rounds);
    t.checks.eq("runs in one call after detach, in all rounds", after_detach, 0);
    nothing_foreign(t, "session", &tally);
    // The probe is a thread of its own, and never in flight during a change.
    Changes { rule, changes: 2 * rounds, threads: calls.threads }.state_alone(t, "session", &tally, misses);
    counts.state_as_before(t.checks)
}

fn asleep_when_all_is_closed(t: &mut Context) -> Result<(), String> {
    let counts = Counts::before()?;
    let program = t.session.twin("tally_1")?;
    let id = program.id().map_err(|errno| format!("info of the program: {errno}"))?;
    let link = program.attach(0).map_err(|errno| format!("attach: {errno}"))?;
    let [woken, interrupted] = [Sleeper::start(1, None)?, Sleeper::start(2, None)?];
    let tally = t.seen().tally_1_tally;
    t.checks.same("entries and exits while two calls sleep", (tally.entries, tally.exits), (2, 0));
    drop(link);
    drop(program);
    let is_gone = || bpf::program_ids().is_ok_and(|ids| !ids.contains(&id));
    t.checks.eq("the program's number disappears", load::wait_until(LIMIT, is_gone), true);
    let asleep = (woken.is_asleep(), interrupted.is_asleep());
    t.checks.same("both calls still sleep", asleep, (true, true));
    let returned = woken.wake()?;
    t.checks.same("what the call that is woken returns", returned, Ok(()));
    let returned = interrupted.interrupt()?;
    t.checks.same("what the call that a signal interrupts returns", returned, Err(Errno::EINTR));
    let tally = t.seen().tally_1_tally;
    t.checks.same("entries and exits after that", (tally.entries, tally.exits), (2, 0));
    counts.state_as_before(t.checks)
}

fn leftovers_are_counted(t: &mut Context) -> Result<(), String> {
    let counts = Counts::before()?;
    let program = t.session.twin("one_arg")?;
    let link = program.attach(0).map_err(|errno| format!("attach: {errno}"))?;
    t.call_fentry_tests()?;
    t.checks.same("runs in a call", t.seen().one_arg_seen.map(|seen| seen.runs), [1, 1]);
    let [more @ .., lines] = counts.more()?;
    t.checks.same("more links, programs, images of trampolines", more, [1; 3]);
    // Of a function with a trampoline some kernels write a second line.
    t.checks.state("more lines of enabled_functions", "1 or 2", lines.to_string(), (1..=2).contains(&lines));
    drop((link, program));
    counts.state_as_before(t.checks)
}

/// Tries 100 attaches, and checks that every one is rejected in this way.
fn all_refused(
    t: &mut Context,
    what: &str,
    expected: Errno,
    attach: impl Fn(&Context) -> Result<Result<Link, Errno>, String>,
) -> Result<(), String> {
    const TRIES: usize = 100;
    let mut refused = 0;
    let mut other = String::new();
    for _ in 0..TRIES {
        match attach(t)? {
            Err(errno) if errno == expected => refused += 1,
            Err(errno) => other = format!(", also {errno}"),
            Ok(_link) => other = ", also attached".to_owned(),
        }
    }
    t.checks.state(
        what,
        format!("{TRIES} times {expected}"),
        format!("{refused} times{other}"),
        refused == TRIES,
    );
    Ok(())
}

/// Checks that attaching works, and that the session runs twice per call.
fn normal_attach_works(t: &mut Context, when: &str) -> Result<(), String> {
    let _link = t.attach("one_arg")?;
    t.reset();
    t.call_fentry_tests()?;
    let runs = t.seen().one_arg_seen.map(|seen| seen.runs);
    t.checks.same(format!("{when}: runs of a session that is attached then"), runs, [1, 1]);
    Ok(())
}

fn failed_attaches(t: &mut Context) -> Result<(), String> {
    const COOKIES: [&str; 5] = ["cookie_1", "cookie_2", "cookie_3", "cookie_4", "cookie_5"];
    let counts = Counts::before()?;
    let once = t.attach("one_arg")?;
    all_refused(t, "the same program once more", Errno::EBUSY, |t| t.session.attach("one_arg", 0))?;
    drop(once);
    normal_attach_works(t, "after that")?;

    // Rejected at the last step, when the function's code would be patched.
    let id = t.features.func_id(NOTRACE)?;
    let program = bpf::load_minimal(Kind::Fsession, id, &[])
        .map_err(|refusal| format!("load a session for {NOTRACE}: {refusal}"))?;
    all_refused(t, "a function that cannot be traced", Errno::EBUSY, |_| Ok(program.attach(0)))?;
    drop(program);
    normal_attach_works(t, "after that of a function that cannot be traced")?;

    if let Some(limit) = t.profile.cookie_limit.map(|limit| limit as usize) {
        let more = *COOKIES.get(limit).ok_or("more cookies on one function than this test has programs")?;
        let full: Vec<Link> = COOKIES[..limit].iter().map(|name| t.attach(name)).collect::<Result<_, _>>()?;
        all_refused(t, "one more session with a cookie", Errno::E2BIG, |t| t.session.attach(more, 0))?;
        normal_attach_works(t, "beside as many with a cookie as can be")?;
        drop(full);
        normal_attach_works(t, "after those with a cookie")?;
    }

    let limit = t.profile.max_links.ok_or("BTF does not say how many links there can be")? as usize;
    let target = t.features.target_id()?;
    let copies: Vec<bpf::Copy> =
        (0..=limit / 2).map(|_| t.session.copy("one_arg", target)).collect::<Result<_, _>>()?;
    let [fit @ .., more] = copies.as_slice() else { return Err("no copies".to_owned()) };
    let full: Vec<Link> = fit
        .iter()
        .map(|copy| copy.attach(0).map_err(|errno| format!("attach a copy: {errno}")))
        .collect::<Result<_, _>>()?;
    all_refused(t, &format!("one more than {} sessions", fit.len()), Errno::E2BIG, |_| Ok(more.attach(0)))?;
    drop(full);
    normal_attach_works(t, "after those")?;
    drop(copies);
    counts.state_as_before(t.checks)
}

/// A process that holds a pinned link and another one, until it is killed.
struct Holder {
    pid: Pid,
    /// IDs of its links, the pinned one first.
    ids: [u32; 2],
}

impl Holder {
    fn start(t: &Context, pin: &CString) -> Result<Self, String> {
        let (read_end, write_end) = pipe().map_err(|errno| format!("pipe: {errno}"))?;
        // SAFETY: this process has one thread.
        match unsafe { fork() }.map_err(|errno| format!("fork: {errno}"))? {
            ForkResult::Child => {
                drop(read_end);
                let said = Self::live(t, pin, File::from(write_end));
                // Only reached after an error; the other side finds the pipe closed.
                drop(said);
                crate::worker::leave(1)
            }
            ForkResult::Parent { child } => {
                drop(write_end);
                let mut words = [0; 8];
                let told = File::from(read_end).read_exact(&mut words);
                let holder = |ids| Self { pid: child, ids };
                let [a, b, c, d, e, f, g, h] = words;
                match told {
                    Ok(()) => {
                        Ok(holder([u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]))
                    }
                    Err(_) => {
                        holder([0; 2]).kill()?;
                        Err("the process that was to hold links could not attach or pin them".to_owned())
                    }
                }
            }
        }
    }

    /// The main function of that process.
    fn live(t: &Context, pin: &CString, mut tell: File) -> Result<(), String> {
        let text = |errno: Errno| errno.to_string();
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(text)?;
        let (pinned, other) = (t.attach("one_arg")?, t.attach("no_kfunc")?);
        bpf::pin(&pinned, pin).map_err(text)?;
        let ids = [pinned.id().map_err(text)?, other.id().map_err(text)?];
        tell.write_all(&ids.map(u32::to_ne_bytes).concat()).map_err(|err| err.to_string())?;
        loop {
            nix::unistd::pause();
        }
    }

    fn kill(self) -> Result<(), String> {
        kill(self.pid, Signal::SIGKILL)
            .and_then(|()| waitpid(self.pid, None))
            .map(drop)
            .map_err(|errno| format!("kill: {errno}"))
    }
}

/// A file that is removed on drop.
struct Pin(CString);

impl Drop for Pin {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0.to_string_lossy().as_ref()); // it may be gone already
    }
}

/// Runs per call: of the session with a pinned link, at entry and at exit, and of the other one.
type Runs = ([u64; 2], u64);

fn runs_of_both(t: &Context) -> Result<Runs, String> {
    t.reset();
    t.call_fentry_tests()?;
    let seen = t.seen();
    Ok((seen.one_arg_seen.map(|seen| seen.runs), seen.no_kfunc_seen.runs))
}

/// Calls until the runs are these, up to the limit. The kernel defers the end of a released link, and its ID
/// disappears before it is detached.
fn wait_for_runs(t: &Context, wanted: Runs) -> Result<Runs, String> {
    let mut runs = runs_of_both(t)?;
    load::wait_until(LIMIT, || {
        // An error shows up in the runs that are checked.
        runs = runs_of_both(t).unwrap_or(runs);
        runs == wanted
    });
    Ok(runs)
}

fn pinned_link_survives(t: &mut Context) -> Result<(), String> {
    let counts = Counts::before()?;
    let pin =
        Pin(CString::new(format!("/sys/fs/bpf/stress-{}", std::process::id()))
            .map_err(|err| err.to_string())?);
    let holder = Holder::start(t, &pin.0)?;
    let [pinned, other] = holder.ids;
    let lives = |id: u32| bpf::link_ids().is_ok_and(|ids| ids.contains(&id));
    t.checks.same("runs of both while the process lives", runs_of_both(t)?, ([1, 1], 2));
    holder.kill()?;
    t.checks.same("runs of both once it is killed", wait_for_runs(t, ([1, 1], 0))?, ([1, 1], 0));
    t.checks.same("which of their links there are", (lives(pinned), lives(other)), (true, false));
    drop(pin);
    t.checks.same("runs of both once the one is unpinned", wait_for_runs(t, ([0, 0], 0))?, ([0, 0], 0));
    t.checks.same("which of their links there are", (lives(pinned), lives(other)), (false, false));
    counts.state_as_before(t.checks)
}
