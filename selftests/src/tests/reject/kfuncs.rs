// SPDX-License-Identifier: MIT OR Apache-2.0
//! Callers of the session kfuncs that are not sessions, and arguments that are not a context.

use super::{Context, loads, refused, refused_somehow};
use crate::bpf::{self, Kind, Unloaded};
use crate::features::{COOKIE, IS_RETURN, ITERATOR, LSM_HOOK, MODIFY_TARGET};
use crate::insn::{self, CTX, FRAME, Insn};
use libbpf_rs::libbpf_sys::{BPF_TRACE_KPROBE_MULTI, BPF_TRACE_UPROBE_MULTI, bpf_attach_type};
use nix::errno::Errno;

/// The verifier's message for a call that this program must not make.
fn not_allowed(kfunc: &str) -> String {
    format!("calling kernel function {kfunc} is not allowed")
}

/// Checks that no program of this kind may call either kfunc. `target` is the BTF ID of the function for
/// kinds that are loaded for one, otherwise 0.
fn may_call_neither(t: &mut Context, what: &str, kind: Kind, target: u32) -> Result<(), String> {
    for kfunc in [IS_RETURN, COOKIE] {
        let answer = bpf::load_minimal(kind, target, &[t.features.func_id(kfunc)?]);
        refused(t, &format!("{kfunc}() in {what}"), &answer, Errno::EACCES, &not_allowed(kfunc));
    }
    Ok(())
}

pub fn kfuncs_of_fentry_program(t: &mut Context) -> Result<(), String> {
    let target = t.features.target_id()?;
    may_call_neither(t, "an fentry program", Kind::Fentry, target)?;
    may_call_neither(t, "an fexit program", Kind::Fexit, target)
}

pub fn kfuncs_of_fmod_ret_program(t: &mut Context) -> Result<(), String> {
    let target = t.features.func_id(MODIFY_TARGET)?;
    let answer = bpf::load_minimal(Kind::FmodRet, target, &[]);
    loads(t, "an fmod_ret program without a call", &answer);
    may_call_neither(t, "an fmod_ret program", Kind::FmodRet, target)
}

/// Checks a program of this kind without an attach type, and with those of all sessions.
fn whatever_it_pretends(
    t: &mut Context,
    what: &str,
    kind: fn(bpf_attach_type) -> Kind,
) -> Result<(), String> {
    may_call_neither(t, what, kind(0), 0)?;
    for pretended in [Kind::KprobeSession, Kind::UprobeSession, Kind::Fsession] {
        let what = format!("{what} loaded with the attach type of {pretended:?}");
        may_call_neither(t, &what, kind(pretended.attach_type()), 0)?;
    }
    Ok(())
}

pub fn kfuncs_of_tracepoint_program(t: &mut Context) -> Result<(), String> {
    whatever_it_pretends(t, "a tracepoint program", Kind::Tracepoint)?;
    whatever_it_pretends(t, "a perf event program", Kind::PerfEvent)
}

pub fn kfuncs_of_raw_tracepoint_program(t: &mut Context) -> Result<(), String> {
    whatever_it_pretends(t, "a raw tracepoint program", Kind::RawTracepoint)?;
    // With BTF it is a tracing program like a session. Its target is a type, which libbpf looks up.
    for (program, kfunc) in [("raw_tp_is_return", IS_RETURN), ("raw_tp_cookie", COOKIE)] {
        let mut object = Unloaded::open()?;
        object.choose(program)?;
        bpf::take_log();
        let seen = object.load().map_or_else(|errno| errno.to_string(), |_| "loaded".to_owned());
        let log = bpf::take_log();
        t.checks.eq(format!("loading {program} (tp_btf)"), seen, Errno::EACCES.to_string());
        let message = not_allowed(kfunc);
        let line = log.lines().find(|line| line.contains(&message)).unwrap_or("no such line");
        t.checks.state("the verifier", message.clone(), line, log.contains(&message));
    }
    Ok(())
}

pub fn kfuncs_of_kprobe_program(t: &mut Context) -> Result<(), String> {
    may_call_neither(t, "a kprobe program", Kind::Kprobe(0), 0)?;
    may_call_neither(t, "a kprobe.multi program", Kind::Kprobe(BPF_TRACE_KPROBE_MULTI), 0)?;
    may_call_neither(t, "a uprobe.multi program", Kind::Kprobe(BPF_TRACE_UPROBE_MULTI), 0)?;
    let pretending = Kind::Kprobe(Kind::Fsession.attach_type());
    may_call_neither(t, "a kprobe program loaded with the attach type of Fsession", pretending, 0)
}

pub fn kfuncs_of_lsm_program(t: &mut Context) -> Result<(), String> {
    let target = t.features.func_id(LSM_HOOK)?;
    loads(t, "an LSM program without a call", &bpf::load_minimal(Kind::Lsm, target, &[]));
    may_call_neither(t, "an LSM program", Kind::Lsm, target)
}

pub fn kfuncs_of_iterator(t: &mut Context) -> Result<(), String> {
    let target = t.features.func_id(ITERATOR)?;
    loads(t, "an iterator without a call", &bpf::load_minimal(Kind::Iterator, target, &[]));
    may_call_neither(t, "an iterator", Kind::Iterator, target)
}

pub fn kfunc_argument(t: &mut Context) -> Result<(), String> {
    let target = t.features.target_id()?;
    for kfunc in [IS_RETURN, COOKIE] {
        let call = insn::call(t.features.func_id(kfunc)?);
        let load = |before: &[Insn]| bpf::load_code(Kind::Fsession, target, &[before, &[call]].concat());
        loads(t, &format!("{kfunc}(ctx)"), &load(&[]));
        // An initialized word of the stack: it can be read, but is not a context.
        let stack = [insn::set(0, 0), insn::store(FRAME, -8, 0), insn::copy(CTX, FRAME), insn::add(CTX, -8)];
        let what = format!("{kfunc}(a place on the stack)");
        refused(t, &what, &load(&stack), Errno::EINVAL, "expected pointer to ctx, but got fp");
        let what = format!("{kfunc}(ctx + 8)");
        let says = "dereference of modified ctx ptr R1 off=8 disallowed";
        refused(t, &what, &load(&[insn::add(CTX, 8)]), Errno::EACCES, says);
        let ways = [
            (Errno::EINVAL, "expected pointer to ctx, but got scalar"),
            // Where no kfunc accepts NULL unless it is declared to.
            (Errno::EACCES, "Possibly NULL pointer passed to trusted"),
        ];
        refused_somehow(t, &format!("{kfunc}(NULL)"), &load(&[insn::set(CTX, 0)]), &ways);
    }
    Ok(())
}
