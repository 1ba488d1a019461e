// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the plan: each subtest in a process of its own, which says how it ended.
//!
//! A process for each, because then a panic, a signal or a forgotten link of one subtest ends with it. BPF programs
//! are loaded before, once for all: descriptors and the memory shared with the programs are inherited, and reading the
//! kernel's BTF again for each subtest would take longer than the subtests.

use crate::bpf::{self, Session};
use crate::check::Checks;
use crate::features::{Features, Profile};
use crate::kmsg::Kmsg;
use crate::params::Params;
use crate::port::cut;
use crate::support::{self, Needs, Support};
use crate::tests::{self, Context, Subtest};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::fs::File;
use std::io::{self, Write};
use std::time::Instant;
use vmtest_protocol::{End, Event, GuestOutcome, Plan, SelfTest, Splat};

/// Sends events, still without a stamp, to the supervisor.
struct Events(File);

impl Events {
    fn send(&self, event: &Event) -> io::Result<()> {
        let mut text = serde_json::to_vec(event)?;
        text.push(b'\n');
        (&self.0).write_all(&text)
    }
}

/// What all subtests of a run share.
struct Run<'a> {
    params: &'a Params,
    features: &'a Features,
    profile: Profile,
    /// The programs of the whole plan; `None` if one of them was refused.
    shared: Option<Session>,
}

/// Runs everything that the host asked for.
pub fn run(params: &Params, features: Features, pipe: File) -> io::Result<()> {
    let events = Events(pipe);
    let plan = tests::plan(params);
    events.send(&Event::Plan(Plan { tests: plan.iter().map(|test| test.name()).collect() }))?;
    bpf::collect_log();

    let mut supports = Supports { params, features: &features, asked: Vec::new() };
    let can_run: Vec<&Subtest> =
        plan.iter().copied().filter(|test| supports.get(test.needs) == Support::Yes).collect();
    let shared = load_all(&can_run);
    let run = Run { params, profile: Profile::of(&features), features: &features, shared };
    let mut kmsg = Kmsg::open();
    for test in plan {
        events.send(&Event::Start(test.name()))?;
        match supports.get(test.needs) {
            Support::No(reason) => events.send(&end(test, GuestOutcome::Skip, reason, String::new()))?,
            Support::Broken(reason, log) => events.send(&end(test, GuestOutcome::Fail, reason, log))?,
            Support::Yes => run_in_child(test, &run, &events)?,
        }
        for title in kmsg.complaints() {
            events.send(&Event::Splat(Splat { name: test.name(), title }))?;
        }
    }
    Ok(())
}

/// What the kernel answered, asked once for each need.
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

/// Loads the programs of the subtests that can run at once. `None` if one of them is refused: then each subtest loads its own,
/// so that the refusal is the verdict of those that need the program.
fn load_all(plan: &[&Subtest]) -> Option<Session> {
    let mut names: Vec<&str> = plan.iter().flat_map(|test| test.all_programs()).collect();
    names.sort_unstable();
    names.dedup();
    let session = Session::load(&names).ok();
    bpf::take_log();
    session
}

/// The end of a subtest that did not run.
fn end(test: &Subtest, outcome: GuestOutcome, reason: String, log: String) -> Event {
    Event::End(End {
        name: test.name(),
        outcome,
        reason,
        checks: 0,
        seen: Vec::new(),
        measured: String::new(),
        duration_us: 0,
        log: cut(log),
    })
}

/// Runs a subtest in a child, which sends the `end` itself; sends it in its stead when the child could not.
fn run_in_child(test: &'static Subtest, run: &Run, events: &Events) -> io::Result<()> {
    let started = Instant::now();
    // SAFETY: this process has one thread.
    let status = match unsafe { fork() }? {
        ForkResult::Child => {
            let sent = child(test, run, events, started);
            leave(if sent.is_ok() { 0 } else { 1 })
        }
        ForkResult::Parent { child } => waitpid(child, None)?,
    };
    let how = match status {
        WaitStatus::Exited(_, 0) => return Ok(()),
        WaitStatus::Signaled(_, signal, _) => format!("its process died of {signal}"),
        other => format!("its process ended without a word: {other:?}"),
    };
    events.send(&end(test, GuestOutcome::Fail, how, String::new()))
}

/// The life of a subtest's process.
fn child(test: &'static Subtest, run: &Run, events: &Events, started: Instant) -> io::Result<()> {
    // Else an orphan keeps the pipe open, and the supervisor would wait for it.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    let pipe = Events(events.0.try_clone()?);
    std::panic::set_hook(Box::new(move |info| {
        let sent = pipe.send(&end(test, GuestOutcome::Fail, format!("panic: {info}"), bpf::take_log()));
        leave(if sent.is_ok() { 0 } else { 1 });
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
    let mut checks = Checks::default();
    let trouble = trouble.or_else(|| {
        let session = session?;
        session.reset(nix::unistd::getpid().as_raw() as u32);
        (test.run)(&mut Context {
            session,
            checks: &mut checks,
            profile: &run.profile,
            features: run.features,
            bpftool: run.params.bpftool.as_deref().unwrap_or_default(),
        })
        .err()
    });
    if run.params.self_test == Some(SelfTest::Turned) {
        checks.turn_round();
    }
    let verdict = checks.verdict(trouble);
    events.send(&Event::End(End {
        name: test.name(),
        outcome: verdict.outcome,
        reason: verdict.reason,
        checks: verdict.checks,
        seen: verdict.seen,
        measured: verdict.measured,
        duration_us: started.elapsed().as_micros() as u64,
        log: cut(bpf::take_log()),
    }))
}

/// Ends this process at once: what an orderly exit would flush and free is shared with its parent.
pub fn leave(status: i32) -> ! {
    // SAFETY: ends the process; nothing of it is used afterwards.
    unsafe { nix::libc::_exit(status) }
}
