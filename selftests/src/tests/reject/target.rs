// SPDX-License-Identifier: MIT OR Apache-2.0
//! Targets that cannot have a session, and a session as target of an extension.

use super::{Context, loads, refused};
use crate::bpf::{self, Kind, Refusal, Unloaded};
use crate::features::{DENIED, NORETURN, NOTRACE, TARGET};
use nix::errno::Errno;

pub fn not_a_function(t: &mut Context) -> Result<(), String> {
    /// Larger than the IDs of any kernel, but still a valid number for one.
    const NO_TYPE: u32 = 0xf_fff0;
    let func = t.features.btf.funcs.get(TARGET).copied();
    let func = func.ok_or_else(|| format!("BTF has no function {TARGET}"))?;
    loads(t, "a session on a function", &bpf::load_minimal(Kind::Fsession, func.id, &[]));
    for (what, id, says) in [
        ("that function's prototype", func.proto, format!("attach_btf_id {} is not a function", func.proto)),
        ("a type that does not exist", NO_TYPE, format!("attach_btf_id {NO_TYPE} is invalid")),
        ("no type", 0, "Tracing programs must provide btf_id".to_owned()),
    ] {
        let answer = bpf::load_minimal(Kind::Fsession, id, &[]);
        refused(t, &format!("a session on {what}"), &answer, Errno::EINVAL, &says);
    }
    Ok(())
}

pub fn noreturn_function(t: &mut Context) -> Result<(), String> {
    let target = t.features.func_id(NORETURN)?;
    let answer = bpf::load_minimal(Kind::Fsession, target, &[]);
    refused(t, "a session on do_exit", &answer, Errno::EINVAL, "__noreturn function");
    // The exit is the problem: a program may run at the entry of the same function.
    loads(t, "an fentry program on do_exit", &bpf::load_minimal(Kind::Fentry, target, &[]));
    Ok(())
}

pub fn denied_function(t: &mut Context) -> Result<(), String> {
    let found: Vec<(&str, u32)> =
        DENIED.iter().filter_map(|&name| Some((name, t.features.func_id(name).ok()?))).collect();
    if found.is_empty() {
        return Err(format!("BTF has none of {}", DENIED.join(", ")));
    }
    for (name, id) in found {
        let answer = bpf::load_minimal(Kind::Fsession, id, &[]);
        let says = format!("Attaching tracing programs to function '{name}' is rejected");
        refused(t, &format!("a session on {name}"), &answer, Errno::EINVAL, &says);
    }
    Ok(())
}

/// More failures than the maximum number of links: anything left behind adds up.
const FAILURES: usize = 50;

pub fn notrace_function(t: &mut Context) -> Result<(), String> {
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
    // The last reference to the state of its target goes away with the program; a kernel that left a link
    // there warns.
    drop(program);
    let _link = t.attach("no_kfunc")?;
    t.call_fentry_tests()?;
    t.checks.eq("runs of a session elsewhere, after one call", t.seen().no_kfunc_seen.runs, 2);
    Ok(())
}

pub fn freplace_of_session(t: &mut Context) -> Result<(), String> {
    let mut object = Unloaded::open()?;
    object.set_target("subprog_replacement", t.session.fd("in_global_subprog")?, c"global_subprog")?;
    object.choose("subprog_replacement")?;
    bpf::take_log();
    let errno = object.load().err().map(|errno| errno as i32);
    let log = bpf::take_log();
    let (expected, says) = (Errno::EINVAL, "Cannot extend fentry/fexit/fsession");
    let seen = errno.map_or("loaded".to_owned(), |errno| Refusal { errno, log: log.clone() }.to_string());
    let ok = errno == Some(expected as i32) && log.contains(says);
    t.checks.state(
        "an extension of a session's subprogram",
        format!("{expected}, log with {says:?}"),
        seen,
        ok,
    );
    // It is intact: the session that was to be extended still runs.
    let _link = t.attach("in_global_subprog")?;
    t.call_fentry_tests()?;
    t.checks.same("its runs in one call", t.seen().global_subprog_seen.map(|seen| seen.runs), [1, 1]);
    Ok(())
}
