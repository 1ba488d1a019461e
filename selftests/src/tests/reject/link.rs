// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the link of a session cannot do: switch to another program, or release its target before it is
//! closed.

use super::Context;
use crate::bpf::Link;
use crate::{syscall, tests};
use libbpf_rs::libbpf_sys as sys;
use nix::errno::Errno;

/// Calls the target once more, and checks how often the session ran in it.
fn runs_in_a_call(t: &mut Context, when: &str, runs: u64) -> Result<(), String> {
    t.reset();
    t.call_fentry_tests()?;
    t.checks.eq(format!("runs of the session in a call {when}"), t.seen().no_kfunc_seen.runs, runs);
    Ok(())
}

fn told(answer: Result<(), Errno>) -> String {
    answer.map_or_else(|errno| errno.to_string(), |()| "done".to_owned())
}

pub fn link_update(t: &mut Context) -> Result<(), String> {
    let link = t.attach("no_kfunc")?;
    let (present, other) = (t.session.fd("no_kfunc")?, t.session.fd("one_arg")?);
    for (how, old) in [("", None), (" in place of its own", Some(present))] {
        let answer = syscall::link_update(&link, other, old);
        t.checks.eq(format!("giving it another session{how}"), told(answer), Errno::EINVAL.to_string());
        runs_in_a_call(t, "after that", 2)?;
        let seen = t.seen().one_arg_seen;
        t.checks.same("runs of the other", seen.map(|seen| seen.runs), [0, 0]);
    }
    drop(link);
    runs_in_a_call(t, "once it is closed", 0)
}

pub fn link_detach(t: &mut Context) -> Result<(), String> {
    let link = t.attach("no_kfunc")?;
    let answer = syscall::link_detach(&link);
    t.checks.eq("detaching it", told(answer), Errno::EOPNOTSUPP.to_string());
    runs_in_a_call(t, "after that", 2)?;
    drop(link);
    runs_in_a_call(t, "once it is closed", 0)
}

pub fn link_create_arguments(t: &mut Context) -> Result<(), String> {
    let (session, fentry) = (t.session.fd("no_kfunc")?, t.session.fd("plain_fentry")?);
    let other = t.session.fd("target_program")?;
    let id = t.features.target_id()?;
    let create = |what: &str, program, attach_type, target, btf_id| {
        let link = syscall::link_create_for(program, attach_type, target, btf_id).map(Link::from);
        (what.to_owned(), tests::told(&link, "attached"))
    };
    const FSESSION: sys::bpf_attach_type = sys::BPF_TRACE_FSESSION;
    for (what, seen) in [
        create("a session with a BTF id", session, FSESSION, 0, id),
        create("a session with a program as target", session, FSESSION, other, 0),
        create("a session with a function of a program as target", session, FSESSION, other, 1),
        create("a session with attach type 0", session, 0, 0, 0),
        create("a session as fentry", session, sys::BPF_TRACE_FENTRY, 0, 0),
        create("a session as fexit", session, sys::BPF_TRACE_FEXIT, 0, 0),
        create("a session as fmod_ret", session, sys::BPF_MODIFY_RETURN, 0, 0),
        create("a session as kprobe.session", session, sys::BPF_TRACE_KPROBE_SESSION, 0, 0),
        create("fentry as a session", fentry, FSESSION, 0, 0),
    ] {
        t.checks.eq(format!("attaching {what}"), seen, Errno::EINVAL.to_string());
    }
    runs_in_a_call(t, "after that", 0)?;
    let link = t.attach("no_kfunc")?;
    runs_in_a_call(t, "once it is attached as it must be", 2)?;
    drop(link);
    runs_in_a_call(t, "once it is closed", 0)
}
