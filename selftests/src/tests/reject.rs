// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must be refused, with its errno and what the verifier says: programs that may not be sessions, and callers of the
//! session kfuncs that are none.

use super::{Context, Subtest, subtests};
use crate::bpf::{self, Copy, Kind, Refusal};
use crate::features::{COOKIE, IS_RETURN, NORETURN, NOTRACE};
use nix::errno::Errno;

subtests! { "reject":
    Normal kfuncs_of_fentry_program []
        "The session kfuncs are refused in fentry and fexit programs.";
    Normal kfuncs_of_tracepoint_program []
        "They are refused in tracepoint and perf event programs, also in those that pretend to have a session's attach type.";
    Normal return_value []
        "A session that returns anything but 0 is refused when it is loaded.";
    Normal noreturn_function []
        "A session on a function that never returns is refused when it is loaded.";
    Normal notrace_function ["no_kfunc"]
        "Attaching to a function that cannot be traced fails with -EBUSY each time, and leaves nothing behind.";
}

/// States that loading is refused with `errno`, and that the verifier's log says `message`.
fn refused(t: &mut Context, what: &str, answer: &Result<Copy, Refusal>, errno: Errno, message: &str) {
    let ok =
        answer.as_ref().is_err_and(|refusal| refusal.errno == errno as i32 && refusal.log.contains(message));
    let seen = answer.as_ref().map_or_else(Refusal::to_string, |_| "loaded".to_owned());
    t.checks.state(what, format!("{errno}, log with {message:?}"), seen, ok);
}

/// States that no program of this kind may call either kfunc.
fn may_call_neither(t: &mut Context, what: &str, kind: Kind) -> Result<(), String> {
    let target = if kind.is_tracing() { t.features.target_id()? } else { 0 };
    for kfunc in [IS_RETURN, COOKIE] {
        let answer = bpf::load_minimal(kind, target, &[t.features.func_id(kfunc)?]);
        let message = format!("calling kernel function {kfunc} is not allowed");
        refused(t, &format!("{kfunc}() in {what}"), &answer, Errno::EACCES, &message);
    }
    Ok(())
}

fn kfuncs_of_fentry_program(t: &mut Context) -> Result<(), String> {
    may_call_neither(t, "an fentry program", Kind::Fentry)?;
    may_call_neither(t, "an fexit program", Kind::Fexit)
}

fn kfuncs_of_tracepoint_program(t: &mut Context) -> Result<(), String> {
    for pretended in [None, Some(Kind::KprobeSession), Some(Kind::UprobeSession), Some(Kind::Fsession)] {
        let as_what = pretended.map(|kind| format!(" loaded with the attach type of {kind:?}"));
        let as_what = as_what.unwrap_or_default();
        let attach_type = pretended.map_or(0, Kind::attach_type);
        may_call_neither(t, &format!("a tracepoint program{as_what}"), Kind::Tracepoint(attach_type))?;
        may_call_neither(t, &format!("a perf event program{as_what}"), Kind::PerfEvent(attach_type))?;
    }
    Ok(())
}

fn return_value(t: &mut Context) -> Result<(), String> {
    let target = t.features.target_id()?;
    let loaded = bpf::load_returning(Kind::Fsession, target, 0);
    t.checks.eq(
        "a session that returns 0",
        loaded.map_or_else(|r| r.to_string(), |_| "loaded".into()),
        "loaded".into(),
    );
    for value in [1, -1, i32::MIN] {
        let answer = bpf::load_returning(Kind::Fsession, target, value);
        let what = format!("a session that returns {value}");
        refused(t, &what, &answer, Errno::EINVAL, "should have been in [0, 0]");
    }
    Ok(())
}

fn noreturn_function(t: &mut Context) -> Result<(), String> {
    let target = t.features.func_id(NORETURN)?;
    let answer = bpf::load_minimal(Kind::Fsession, target, &[]);
    refused(t, "a session on do_exit", &answer, Errno::EINVAL, "__noreturn function");
    // What fails is the exit: at entry of the same function a program may run.
    let answer = bpf::load_minimal(Kind::Fentry, target, &[]);
    let seen = answer.as_ref().map_or_else(Refusal::to_string, |_| "loaded".to_owned());
    t.checks.eq("an fentry program on do_exit", seen, "loaded".to_owned());
    Ok(())
}

/// More failures than a target can have links: what one of them leaves behind adds up.
const FAILURES: usize = 50;

fn notrace_function(t: &mut Context) -> Result<(), String> {
    let target = t.features.func_id(NOTRACE)?;
    let program = bpf::load_minimal(Kind::Fsession, target, &[]).map_err(|refusal| refusal.to_string())?;
    let attach = || program.attach(0).map_or_else(|errno| errno.to_string(), |_| "attached".to_owned());
    let seen: Vec<String> = (0..FAILURES).map(|_| attach()).collect();
    let other = seen.iter().position(|seen| *seen != Errno::EBUSY.to_string());
    let shown = other.map_or_else(
        || format!("{} of {FAILURES} times", Errno::EBUSY),
        |at| format!("{} at attempt {}", seen[at], at + 1),
    );
    t.checks.eq(
        "attaching a session to bpf_spin_lock",
        shown,
        format!("{} of {FAILURES} times", Errno::EBUSY),
    );
    // The last reference to what its target keeps goes with the program; a kernel that left a link there complains.
    drop(program);
    let _link = t.attach("no_kfunc")?;
    t.call_fentry_tests()?;
    t.checks.eq("runs of a session elsewhere, after one call", t.seen().no_kfunc_seen.runs, 2);
    Ok(())
}
