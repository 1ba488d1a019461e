// SPDX-License-Identifier: MIT OR Apache-2.0
//! Targets that cannot have a session, and a session as target of an extension.

use super::{Context, loads, refused};
use crate::bpf::{self, Kind, Refusal, Unloaded};
use crate::features::{DENIED, LSM_HOOK, NORETURN, NOTRACE, RETURNS_STRUCT, TARGET};
use crate::insn::{self, CTX, FRAME, Insn};
use crate::syscall::{self, LinkCreate};
use crate::tests::load_alone;
use libbpf_rs::libbpf_sys as sys;
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

pub fn struct_returned(t: &mut Context) -> Result<(), String> {
    let target = t.features.func_id(RETURNS_STRUCT)?;
    for kind in [Kind::Fentry, Kind::Fexit, Kind::Fsession] {
        let answer = bpf::load_minimal(kind, target, &[]);
        let says = format!("The function {RETURNS_STRUCT} return type STRUCT is unsupported.");
        refused(t, &format!("{kind:?} on {RETURNS_STRUCT}"), &answer, Errno::EINVAL, &says);
    }
    Ok(())
}

/// Helpers that read what a trampoline has put next to the context, with the registers that each needs.
fn trampoline_helpers() -> [(&'static str, Vec<Insn>); 4] {
    let value = |register| [insn::copy(register, FRAME), insn::add(register, -8)];
    let room = [insn::set(0, 0), insn::store(FRAME, -8, 0)];
    let call = |number| vec![insn::call_helper(number)];
    [
        ("bpf_get_func_ip", call(sys::BPF_FUNC_get_func_ip)),
        ("bpf_get_func_arg_cnt", call(sys::BPF_FUNC_get_func_arg_cnt)),
        ("bpf_get_func_ret", [&room[..], &value(2), &call(sys::BPF_FUNC_get_func_ret)].concat()),
        (
            "bpf_get_func_arg",
            [&room[..], &[insn::set(2, 0)], &value(3), &call(sys::BPF_FUNC_get_func_arg)].concat(),
        ),
    ]
}

/// The number of the context's register does not change, and neither do these programs.
const _: () = assert!(CTX == 1);

/// Whether a program was refused because it is of the wrong kind for a helper.
fn is_of_the_wrong_kind(refusal: &Refusal) -> bool {
    let ways =
        ["program of this type cannot use helper", "supported only for", "not supported for program type"];
    ways.iter().any(|says| refusal.log.contains(says))
}

pub fn helpers_without_trampoline(t: &mut Context) -> Result<(), String> {
    let target = t.features.target_id()?;
    for (helper, code) in trampoline_helpers() {
        let answer = bpf::load_code(Kind::Fsession, target, &code);
        loads(t, &format!("{helper}() in a session"), &answer);
        let mut kinds = vec![("a raw tracepoint program", Kind::RawTracepoint(0), 0)];
        if let Ok(hook) = t.features.func_id(LSM_HOOK) {
            kinds.push(("an LSM program of a cgroup", Kind::LsmCgroup, hook));
        }
        for (what, kind, target) in kinds {
            let answer = bpf::load_code(kind, target, &code);
            let ok = answer.as_ref().is_err_and(is_of_the_wrong_kind);
            t.checks.state(format!("{helper}() in {what}"), "refused", super::told(&answer), ok);
        }
    }
    for program in ["iter_func_ret", "iter_func_arg", "iter_func_ip"] {
        let answer = load_alone(program)?;
        let ok = answer.as_ref().is_err_and(is_of_the_wrong_kind);
        t.checks.state(format!("loading {program}"), "refused", crate::tests::told(&answer), ok);
    }
    Ok(())
}

pub fn link_create_arguments(t: &mut Context) -> Result<(), String> {
    let program = t.session.fd("one_arg")?;
    let target = t.features.target_id()?;
    let good = LinkCreate { program, attach_type: sys::BPF_TRACE_FSESSION, ..LinkCreate::default() };
    let of = |attach_type| LinkCreate { attach_type, ..good };
    for (what, asked) in [
        ("a target without a program", LinkCreate { target_btf_id: target, ..good }),
        ("a program as target, which none was loaded for", LinkCreate { target_fd: program, ..good }),
        ("the attach type of fexit", of(sys::BPF_TRACE_FEXIT)),
        ("the attach type of fentry", of(sys::BPF_TRACE_FENTRY)),
        ("no attach type", of(0)),
    ] {
        let answer = syscall::link_create_with(asked)
            .map_or_else(|errno| errno.to_string(), |_| "attached".to_owned());
        t.checks.eq(what, answer, Errno::EINVAL.to_string());
        t.reset();
        t.call_fentry_tests()?;
        t.checks.same(format!("{what}: runs"), t.seen().one_arg_seen.map(|seen| seen.runs), [0, 0]);
    }
    let _link = syscall::link_create_with(good).map_err(|errno| format!("attach: {errno}"))?;
    t.call_fentry_tests()?;
    t.checks.same("runs, attached as it should be", t.seen().one_arg_seen.map(|seen| seen.runs), [1, 1]);
    Ok(())
}
