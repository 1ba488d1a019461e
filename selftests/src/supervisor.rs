// SPDX-License-Identifier: MIT OR Apache-2.0
//! Communicates with the host for all processes of the runner, and outlives the process that does the work.
//!
//! It owns the nonce, the sequence numbers and the port, so the host is informed however the worker ends.

use crate::coverage::Coverage;
use crate::features::{Features, Profile};
use crate::kmsg::{self, Kmsg};
use crate::params::Params;
use crate::port::Port;
use crate::{boot, exec, upstream, worker};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{ForkResult, Pid, fork, pipe};
use std::fs::{File, read_to_string};
use std::io::{self, BufRead, BufReader, Write};
use std::time::Instant;
use vmtest_protocol::{Done, Event, Hello, PROTOCOL, Splat, TestName, WorkerEnd, build_id};

/// Carries out the host's request, from the first event to the last.
pub fn run(params: &mut Params, started: Instant) -> io::Result<()> {
    let mut port = Port::open(&params.port, &params.nonce, started)?;
    // Before the features are read, because they must describe what the tests run on.
    if let Err(trouble) = set_sysctls(&params.sysctls) {
        params.trouble.get_or_insert(trouble);
    }
    let features = Features::read();
    port.send(Event::Hello(hello(&features)))?;
    let mut kmsg = Kmsg::open();
    for title in kmsg.complaints() {
        port.send(outside(title))?;
    }

    let mut counts = Counts::default();
    let mut coverage = params.coverage.then(Coverage::open);
    let mut relay = |event: Event| {
        counts.add(&event);
        if let Some(coverage) = &mut coverage {
            coverage.at(&event, &mut port)?;
        }
        let awaited = worker::answer(&event).is_some();
        port.send(event)?;
        if awaited {
            // A subtest may kill this machine, and the host must know which one it was, and how far it got.
            port.drain();
        }
        Ok(())
    };
    let worker = if let Some(command) = &params.exec {
        exec::run(command, |event| drop(relay(event)))
    } else if params.shell {
        exec::shell()
    } else if let Some(wishes) = &params.upstream {
        run_worker(|pipe, told| upstream::run_wishes(params, wishes, &mut kmsg, pipe, told), relay)?
    } else {
        run_worker(|pipe, told| worker::run(params, features, &mut kmsg, pipe, told, started), relay)?
    };
    let Counts { planned, ended } = counts;
    // Everything that the worker had loaded and attached is gone by now. The host learns about taint without
    // a log message from `done`.
    for title in kmsg.logged() {
        port.send(outside(title))?;
    }
    kmsg::last_word();
    port.send(Event::Done(Done { planned, ended, worker, tainted: kmsg::tainted() }))?;
    port.drain();
    Ok(())
}

/// A warning that does not belong to a subtest.
pub fn outside(title: String) -> Event {
    Event::Splat(Splat { name: TestName { test: String::new(), subtest: String::new() }, title })
}

#[derive(Default)]
struct Counts {
    planned: u32,
    ended: u32,
}

impl Counts {
    fn add(&mut self, event: &Event) {
        match event {
            Event::Plan(plan) => self.planned += plan.tests.len() as u32,
            Event::End(_) => self.ended += 1,
            Event::Hello(_)
            | Event::Start(_)
            | Event::Checked(_)
            | Event::Splat(_)
            | Event::Counters(_)
            | Event::Output(_)
            | Event::Done(_) => {}
        }
    }
}

/// Sets the sysctls before the tests.
fn set_sysctls(sysctls: &[(String, String)]) -> Result<(), String> {
    for (name, value) in sysctls {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        std::fs::write(&path, value).map_err(|err| format!("cannot set {name} to {value}: {path}: {err}"))?;
    }
    Ok(())
}

/// Forks the worker and relays its events until it ends. A byte sent back means that an event has left the
/// machine: only then does the subtest begin, or go on.
fn run_worker(
    work: impl FnOnce(File, File) -> io::Result<()>,
    mut relay: impl FnMut(Event) -> io::Result<()>,
) -> io::Result<WorkerEnd> {
    let (from_worker, to_us) = pipe()?;
    let (told, tell) = pipe()?;
    // SAFETY: this process has one thread.
    let worker = match unsafe { fork() }? {
        ForkResult::Child => {
            drop((from_worker, tell));
            let status = match work(File::from(to_us), File::from(told)) {
                Ok(()) => 0,
                Err(err) => {
                    crate::say(&format!("worker: {err}"));
                    1
                }
            };
            worker::leave(status)
        }
        ForkResult::Parent { child } => child,
    };
    drop((to_us, told));
    let mut tell = File::from(tell);
    for line in BufReader::new(File::from(from_worker)).lines() {
        // An invalid line was truncated by the death of the worker, which `done` reports.
        if let Ok(event) = serde_json::from_str(&line?) {
            let answer = worker::answer(&event);
            relay(event)?;
            if let Some(byte) = answer {
                // A worker that has died in the meantime needs no answer.
                let _ = tell.write_all(&[byte]);
            }
        }
    }
    wait_for(worker)
}

/// Waits for the worker; as init it also reaps orphans.
fn wait_for(worker: Pid) -> io::Result<WorkerEnd> {
    loop {
        match wait()? {
            WaitStatus::Exited(pid, code) if pid == worker => return Ok(WorkerEnd::Exited(code)),
            WaitStatus::Signaled(pid, signal, _) if pid == worker => {
                return Ok(WorkerEnd::Signaled(signal as i32));
            }
            _ => {}
        }
    }
}

fn hello(features: &Features) -> Hello {
    let file = |path: &str| read_to_string(path).unwrap_or_default().trim().to_owned();
    let memory = file("/proc/meminfo");
    let kib: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0);
    Hello {
        protocol: PROTOCOL,
        release: features.release.clone(),
        build_id: std::fs::read("/sys/kernel/notes")
            .ok()
            .and_then(|notes| build_id::of_notes(&notes))
            .unwrap_or_default(),
        cmdline: file("/proc/cmdline"),
        clocksource: file("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        memory_mib: kib / 1024,
        features: features.as_map(),
        profile: Profile::of(features).as_map(),
    }
}

/// Runs in the guest, and shuts it down.
pub fn run_guest(started: Instant) -> Result<(), String> {
    let failed = boot::mount_all();
    boot::ensure_console();
    for text in failed {
        crate::say(&text);
    }
    let cmdline = read_to_string("/proc/cmdline").map_err(|err| format!("/proc/cmdline: {err}"))?;
    let mut params =
        Params::parse(&cmdline).ok_or("the kernel command line names no run (vmtest.nonce, vmtest.port)")?;
    let result = run(&mut params, started);
    if let Err(err) = &result {
        crate::say(&format!("supervisor: {err}"));
    }
    boot::end();
    result.map_err(|err| err.to_string())
}
