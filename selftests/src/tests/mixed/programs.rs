// SPDX-License-Identifier: MIT OR Apache-2.0
//! BPF programs as targets: with tail calls, with exceptions, and as extensions.

use super::{Context, ENTRY, EXIT};
use crate::bpf::{self, Session};
use crate::tests::{load_for, told};
use nix::errno::Errno;
use std::ffi::CStr;

/// What a run of `tail_target` does, whatever is attached: its value, its runs, and those of its subprogram.
const TAIL_RUNS: (u32, u64, u64) = (7, 34, 68);

/// A program that tail calls itself. Each call makes another one, with a trampoline of its own.
fn tail_target() -> Result<Session, String> {
    let target = Session::load(&["tail_target"])?;
    target
        .set_callee_of(c"tail_callees", "tail_target")?
        .map_err(|errno| format!("tail_target as its own callee: {errno}"))?;
    Ok(target)
}

/// Runs it, and checks that nothing disturbs it.
fn run_tail_target(t: &mut Context, when: &str, target: &Session) -> Result<(), String> {
    target.reset(std::process::id());
    let value = bpf::test_run_with(target.fd("tail_target")?, &[0; 64])
        .map_err(|errno| format!("test run of a program with tail calls: {errno}"))?;
    let seen = target.globals();
    t.checks.same(
        format!("{when}: value, runs, runs of the subprogram"),
        (value, seen.tail_runs, seen.tail_sub_runs),
        TAIL_RUNS,
    );
    Ok(())
}

/// Checks how often a session on it ran since it was loaded.
fn ran(t: &mut Context, who: &str, session: &Session, runs: u64) {
    let seen = session.globals().on_tail_seen;
    t.checks.same(format!("{who}: runs"), seen.map(|seen| seen.runs), [runs; 2]);
    t.checks.same(format!("{who}: wrong cookies"), seen.map(|seen| seen.value), [0; 2]);
    let all = runs * (runs + 1) / 2;
    t.checks.same(format!("{who}: sums of the cookies"), seen.map(|seen| seen.cookie), [all; 2]);
}

pub fn target_with_tail_calls(t: &mut Context) -> Result<(), String> {
    let others: [(&CStr, u64); 2] = [(c"tail_sub", TAIL_RUNS.2), (c"tail_target", 1)];
    for (function, runs) in others {
        let target = tail_target()?;
        run_tail_target(t, "without a session", &target)?;
        let session = load_for("on_tail", target.fd("tail_target")?, function)?;
        let link = session.attach("on_tail", 0)?;
        let link = link.map_err(|errno| format!("attach to {}: {errno}", function.to_string_lossy()))?;
        let who = format!("session on {}", function.to_string_lossy());
        run_tail_target(t, &who, &target)?;
        ran(t, &who, &session, runs);
        drop(link);
        run_tail_target(t, "once it is detached", &target)?;
        ran(t, "once it is detached", &session, runs);
    }
    Ok(())
}

pub fn second_program_with_tail_calls(t: &mut Context) -> Result<(), String> {
    const KNOWN_BUG: &str = "loading another program for a target with tail calls overwrites what its trampoline knows: the \
         next change is -EBUSY (docs/findings/second-program-tail-calls.md)";
    let target = tail_target()?;
    let fd = target.fd("tail_target")?;
    let first = load_for("on_tail", fd, c"tail_sub")?;
    let link = first.attach("on_tail", 0)?.map_err(|errno| format!("attach the first: {errno}"))?;
    run_tail_target(t, "with one", &target)?;
    let second = load_for("on_tail", fd, c"tail_sub")?;
    let other = second.attach("on_tail", 0)?;
    // The series for 6.18 never had it; it is identified by its limit of cookies.
    let is_bug = t.profile.cookie_limit.is_none() && matches!(other, Err(Errno::EBUSY));
    let bug = is_bug.then_some(KNOWN_BUG);
    let seen = told(&other, "attached");
    t.checks.state_with_bug(bug, "attaching the second", "attached", seen, other.is_ok());
    if other.is_err() && !t.provoke {
        // Closing the first would leave its freed image in the target. Pinned, it survives this process.
        let path = format!("/sys/fs/bpf/vmtest-{}", std::process::id());
        let path = std::ffi::CString::new(path).map_err(|err| err.to_string())?;
        return bpf::pin(&link, &path).map_err(|errno| format!("pin the first: {errno}"));
    }
    run_tail_target(t, "with two", &target)?;
    ran(t, "first", &first, 2 * TAIL_RUNS.2);
    ran(t, "second", &second, TAIL_RUNS.2);
    drop(link);
    run_tail_target(t, "once the first is detached", &target)?;
    ran(t, "first", &first, 2 * TAIL_RUNS.2);
    ran(t, "second", &second, 2 * TAIL_RUNS.2);
    drop(other);
    run_tail_target(t, "once both are detached", &target)
}

/// The known bug of all kernels so far.
const THROWN_THROUGH: &str = "an exception that passes through the exit part of a trampoline ends in an oops \
                              (docs/findings/throw-through-trampoline.md)";

/// How often an exception is thrown.
const THROWN: u64 = 20;

/// Runs a target, with exceptions and without, while a program of the object is attached to a subprogram. `dies`:
/// kernels do not survive the exceptions, which are then only thrown if that was requested. Returns the records of
/// the program, and how often it was thrown through.
fn throw_through(t: &mut Context, program: &str, dies: bool) -> Result<(bpf::Globals, u64), String> {
    let target = t.session.fd("throwing_target")?;
    let session = load_for(program, target, c"throwing_sub")?;
    let _link = session.attach(program, 0)?.map_err(|errno| format!("attach {program}: {errno}"))?;
    t.checks.eq("value without an exception", t.session.test_run("throwing_target")?, 2);
    let times = if dies && !t.provoke { 0 } else { THROWN };
    if times == 0 {
        let seen = "not tried: the kernel would die";
        t.checks.state_with_bug(Some(THROWN_THROUGH), "throwing", "tried", seen, false);
    }
    t.session.set(|globals| globals.throwing = 1);
    for _ in 0..times {
        t.checks.eq("value with one", t.session.test_run("throwing_target")?, 7);
    }
    t.session.set(|globals| globals.throwing = 0);
    t.checks.eq("value without, after them", t.session.test_run("throwing_target")?, 2);
    Ok((session.globals(), times))
}

pub fn exception_through_fentry(t: &mut Context) -> Result<(), String> {
    let (seen, thrown) = throw_through(t, "fentry_on_thrower", false)?;
    t.checks.eq("runs of fentry", seen.fentry_on_thrower_seen.runs, 2 + thrown);
    Ok(())
}

pub fn exception_through_fexit(t: &mut Context) -> Result<(), String> {
    let (seen, _) = throw_through(t, "fexit_on_thrower", true)?;
    t.checks.eq("runs of fexit, without an exception", seen.fexit_on_thrower_seen.runs, 2);
    Ok(())
}

pub fn exception_through_session(t: &mut Context) -> Result<(), String> {
    let (seen, thrown) = throw_through(t, "session_on_thrower", true)?;
    let seen = seen.session_on_thrower_seen;
    t.checks.same("runs at entry and at exit", (seen[ENTRY].runs, seen[EXIT].runs), (2 + thrown, 2));
    Ok(())
}

pub fn on_extension(t: &mut Context) -> Result<(), String> {
    let extension = load_for("extension", t.session.fd("target_program")?, c"replaceable")?;
    let session = load_for("on_extension", extension.fd("extension")?, c"extension")?;
    let attached = |session: &Session, name: &str| -> Result<_, String> {
        session.attach(name, 0)?.map_err(|errno| format!("attach {name}: {errno}"))
    };
    let on_it = attached(&session, "on_extension")?;
    t.checks.eq("value before the extension is attached", t.session.test_run("target_program")?, 42);
    t.checks.same("runs until then", session.globals().on_extension_seen.map(|seen| seen.runs), [0, 0]);
    let link = attached(&extension, "extension")?;
    for call in 1..=2 {
        t.checks.eq("value with the extension", t.session.test_run("target_program")?, 141);
        let seen = session.globals().on_extension_seen;
        t.checks.same("runs of the session on it", seen.map(|seen| seen.runs), [call; 2]);
        t.checks.same("cookie", seen.map(|seen| seen.cookie), [0, 0x99]);
        let values = seen.map(|seen| (seen.func_ret_err, seen.func_ret as i32));
        t.checks.same("bpf_get_func_ret()", values, [(0, 0), (0, 141)]);
    }
    drop(on_it);
    t.checks.eq("value once the session is detached", t.session.test_run("target_program")?, 141);
    drop(link);
    t.checks.eq("value once the extension is detached", t.session.test_run("target_program")?, 42);
    t.checks.same("runs in the end", session.globals().on_extension_seen.map(|seen| seen.runs), [2, 2]);
    let again = told(&session.attach("on_extension", 0)?, "attached");
    t.checks.eq("attaching the session again", again, Errno::EINVAL.to_string());
    Ok(())
}
