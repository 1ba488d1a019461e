// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the plan: each subtest in a separate process, which reports how it ended.
//!
//! Separate processes, so that a panic, a signal or a leaked link of one subtest ends with it. BPF programs
//! are loaded before, once for all: descriptors and the memory shared with the programs are inherited, and
//! reading the kernel's BTF again for each subtest would take longer than the subtests.

use crate::bpf::{self, Session};
use crate::check::{Checks, Pace, Reporter};
use crate::features::{Features, Profile};
use crate::kmsg::Kmsg;
use crate::load;
use crate::params::Params;
use crate::port::cut;
use crate::supervisor::outside;
use crate::support::{self, Needs, Support};
use crate::tests::{self, Context, Subtest};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Instant;
use vmtest_protocol::{Checked, End, Event, GuestOutcome, Plan, SelfTest, Splat, Start};

/// Sends events to the supervisor, which stamps them.
pub struct Events {
    /// Pipe to the supervisor.
    pub pipe: File,
    /// Pipe from the supervisor: a byte for each event that has left the machine, if the worker waits for it
    /// ([`answer`]).
    pub told: File,
    /// Current round of the plan, from 1.
    pub round: u32,
}

impl Events {
    /// Sends one event.
    pub fn send(&self, event: &Event) -> io::Result<()> {
        let mut text = serde_json::to_vec(event)?;
        text.push(b'\n');
        (&self.pipe).write_all(&text)
    }

    /// Reports that a subtest begins, and waits until the host can know: the subtest may kill the machine.
    pub fn begin(&self, start: Start) -> io::Result<()> {
        self.send_off(&Event::Start(start))
    }

    /// Sends one event, and waits until it has left the machine.
    fn send_off(&self, event: &Event) -> io::Result<()> {
        self.send(event)?;
        // A supervisor that is gone sends nothing, and there is nothing to wait for. The answer to an event of
        // a process that has died in the meantime is still in the pipe.
        let mut byte = [0];
        while (&self.told).read(&mut byte)? == 1 && Some(byte[0]) != answer(event) {}
        Ok(())
    }
}

/// What the supervisor sends back once this event has left the machine; `None` if nothing waits for that.
pub fn answer(event: &Event) -> Option<u8> {
    match event {
        Event::Start(_) => Some(b's'),
        Event::Checked(_) => Some(b'c'),
        Event::Hello(_)
        | Event::Plan(_)
        | Event::End(_)
        | Event::Splat(_)
        | Event::Counters(_)
        | Event::Output(_)
        | Event::Done(_) => None,
    }
}

/// What all subtests of a run share.
struct Run<'a> {
    params: &'a Params,
    features: &'a Features,
    profile: Profile,
    /// The programs of the whole plan; `None` if one of them was rejected.
    shared: Option<Session>,
}

/// Runs everything that the host requested. `started`: start time of the runner.
pub fn run(
    params: &Params,
    features: Features,
    kmsg: &mut Kmsg,
    pipe: File,
    told: File,
    started: Instant,
) -> io::Result<()> {
    let mut events = Events { pipe, told, round: 1 };
    let plan = tests::plan(params);
    events.send(&Event::Plan(Plan {
        tests: plan.iter().map(|test| test.name()).collect(),
        rounds: params.repeat,
        until_fail: params.until_fail,
    }))?;
    bpf::collect_log();

    let mut supports = Supports { params, features: &features, asked: Vec::new() };
    let can_run: Vec<&Subtest> =
        plan.iter().copied().filter(|test| supports.get(test.needs) == Support::Yes).collect();
    let shared = load_all(&can_run);
    let run = Run { params, profile: Profile::of(&features), features: &features, shared };
    for title in kmsg.complaints() {
        events.send(&outside(title))?;
    }
    for round in 1..=params.repeat {
        events.round = round;
        for &test in &plan {
            // Subtests that were not reported are missing for the host, unless there was a whole round
            // before.
            if params.time.is_some_and(|limit| started.elapsed() > limit) {
                return Ok(());
            }
            events.begin(Start { name: test.name(), round })?;
            let mut good = run_one(test, &mut supports, &run, &events)?;
            for title in kmsg.complaints() {
                good = false;
                events.send(&Event::Splat(Splat { name: test.name(), title }))?;
            }
            if params.until_fail && !good {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Runs a subtest, or reports why it does not run. Returns whether it did not fail.
fn run_one(test: &'static Subtest, supports: &mut Supports, run: &Run, events: &Events) -> io::Result<bool> {
    let (outcome, reason, log) = match supports.get(test.needs) {
        Support::No(reason) => (GuestOutcome::Skip, reason, String::new()),
        Support::Broken(reason, log) => (GuestOutcome::Fail, reason, log),
        Support::Yes => match test.lacks(load::cpus().len()) {
            Some(reason) => (GuestOutcome::Skip, reason, String::new()),
            None => return run_in_child(test, run, events),
        },
    };
    events.send(&end(test, events.round, outcome, reason, log))?;
    Ok(outcome != GuestOutcome::Fail)
}

/// The kernel's answers, probed once for each need.
struct Supports<'a> {
    params: &'a Params,
    features: &'a Features,
    asked: Vec<(Needs, Support)>,
}

impl Supports<'_> {
    fn get(&mut self, needs: Needs) -> Support {
        if let Some(trouble) = &self.params.trouble {
            return Support::Broken(trouble.clone(), String::new());
        }
        if let Some((_, known)) = self.asked.iter().find(|(asked, _)| *asked == needs) {
            return known.clone();
        }
        let support = support::ask(self.features, needs);
        self.asked.push((needs, support.clone()));
        support
    }
}

/// Loads the programs of all subtests that can run at once. `None` if one of them is rejected: then each
/// subtest loads its own, so that the rejection only affects those that need the program.
fn load_all(plan: &[&Subtest]) -> Option<Session> {
    let mut names: Vec<&str> = plan.iter().flat_map(|test| test.all_programs()).collect();
    names.sort_unstable();
    names.dedup();
    let session = Session::load(&names).ok();
    bpf::take_log();
    session
}

/// The `end` event of a subtest that did not run.
fn end(test: &Subtest, round: u32, outcome: GuestOutcome, reason: String, log: String) -> Event {
    Event::End(End {
        name: test.name(),
        round,
        outcome,
        reason,
        checks: 0,
        seen: Vec::new(),
        measured: String::new(),
        duration_us: 0,
        log: cut(log),
    })
}

/// Runs a subtest in a child, which sends the `end` event itself; sends it on its behalf if the child could
/// not. Returns whether it did not fail.
fn run_in_child(test: &'static Subtest, run: &Run, events: &Events) -> io::Result<bool> {
    let started = Instant::now();
    // SAFETY: this process has one thread.
    let status = match unsafe { fork() }? {
        ForkResult::Child => leave(match child(test, run, events, started) {
            Ok(GuestOutcome::Fail) => FAILED,
            Ok(GuestOutcome::Pass | GuestOutcome::Skip | GuestOutcome::Xfail) => 0,
            Err(_) => 1,
        }),
        ForkResult::Parent { child } => waitpid(child, None)?,
    };
    let how = match status {
        WaitStatus::Exited(_, 0) => return Ok(true),
        WaitStatus::Exited(_, FAILED) => return Ok(false),
        WaitStatus::Signaled(_, signal, _) => format!("its process died of {signal}"),
        other => format!("its process ended without a word: {other:?}"),
    };
    events.send(&end(test, events.round, GuestOutcome::Fail, how, String::new()))?;
    Ok(false)
}

/// Exit status of a subtest's process that has reported a failure.
const FAILED: i32 = 3;

/// The main function of a subtest's process.
fn child(test: &'static Subtest, run: &Run, events: &Events, started: Instant) -> io::Result<GuestOutcome> {
    // Otherwise an orphan would keep the pipe open, and the supervisor would wait for it.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    let pipe = Events { pipe: events.pipe.try_clone()?, told: events.told.try_clone()?, round: events.round };
    std::panic::set_hook(Box::new(move |info| {
        let text = format!("panic: {info}");
        let sent = pipe.send(&end(test, pipe.round, GuestOutcome::Fail, text, bpf::take_log()));
        leave(if sent.is_ok() { FAILED } else { 1 });
    }));
    if run.params.self_test == Some(SelfTest::Blind) {
        bpf::make_blind();
    }
    let own;
    let (session, trouble) = match &run.shared {
        Some(shared) => (Some(shared), None),
        None => match Session::load(&test.all_programs()) {
            Ok(session) => {
                own = session;
                (Some(&own), None)
            }
            Err(trouble) => (None, Some(trouble)),
        },
    };
    let mut checks = Checks::reported(reporter(test, run, events)?);
    let trouble = trouble.or_else(|| {
        let session = session?;
        session.reset(nix::unistd::getpid().as_raw() as u32);
        (test.run)(&mut Context {
            session,
            checks: &mut checks,
            profile: &run.profile,
            features: run.features,
            effort: run.params.effort,
            provoke: run.params.provoke,
            icount: run.params.icount,
            bpftool: run.params.bpftool.as_deref().unwrap_or_default(),
        })
        .err()
    });
    if run.params.self_test == Some(SelfTest::Turned) {
        checks.turn_round();
    }
    let verdict = checks.verdict(trouble);
    // Met expectations were reported in the first round, and thousands of repetitions must go through a
    // serial port.
    let again = events.round > 1 && verdict.outcome == GuestOutcome::Pass;
    let log = cut(bpf::take_log());
    events.send(&Event::End(End {
        name: test.name(),
        round: events.round,
        outcome: verdict.outcome,
        reason: verdict.reason,
        checks: verdict.checks,
        seen: if again { Vec::new() } else { verdict.seen },
        measured: verdict.measured,
        duration_us: started.elapsed().as_micros() as u64,
        log: if again { String::new() } else { log },
    }))?;
    Ok(verdict.outcome)
}

/// Reports what a subtest checks while it runs.
fn reporter(test: &'static Subtest, run: &Run, events: &Events) -> io::Result<Reporter> {
    let pipe = Events { pipe: events.pipe.try_clone()?, told: events.told.try_clone()?, round: events.round };
    let pace = match events.round {
        _ if run.params.provoke => Pace::Each,
        1 => Pace::First,
        _ => Pace::Later,
    };
    Ok(Reporter::new(pace, move |checks| {
        let checked = Event::Checked(Checked { name: test.name(), round: pipe.round, checks });
        // If the supervisor is gone, this process is about to be killed.
        let _ = pipe.send_off(&checked);
    }))
}

/// Ends this process at once: a regular exit would flush and free state shared with its parent.
pub fn leave(status: i32) -> ! {
    // SAFETY: ends the process; nothing is used afterwards.
    unsafe { nix::libc::_exit(status) }
}
