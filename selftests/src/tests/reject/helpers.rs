// SPDX-License-Identifier: MIT OR Apache-2.0
//! Helpers that a program must not call: those that read what a trampoline prepares, where there is no
//! trampoline, and storage of sockets in the functions that it consists of.

use super::{Context, loads, refused};
use crate::bpf::{ENOTSUPP, Refusal};
use crate::tests::load_alone;
use nix::errno::Errno;
use nix::libc;

/// The verifier's message for a helper that this type of program does not have.
const NO_HELPER: &str = "program of this type cannot use helper";
/// The same for bpf_get_func_ip(), whose errno has no name.
const ONLY_IN_TRAMPOLINES: &str = "supported only for fentry/fexit/";

/// Checks that bpf_get_func_ip() is refused in a program.
fn no_ip(t: &mut Context, program: &str) -> Result<(), String> {
    let answer = load_alone(program)?;
    let ok = answer
        .as_ref()
        .is_err_and(|refusal| refusal.errno == ENOTSUPP && refusal.log.contains(ONLY_IN_TRAMPOLINES));
    let expected = format!("ENOTSUPP ({ENOTSUPP}), log with {ONLY_IN_TRAMPOLINES:?}");
    t.checks.state(format!("loading {program}"), expected, super::told(&answer), ok);
    Ok(())
}

pub fn helpers_of_iterator(t: &mut Context) -> Result<(), String> {
    for program in ["iter_arg", "iter_arg_cnt", "iter_ret", "iter_attach_cookie"] {
        refused(t, &format!("loading {program}"), &load_alone(program)?, Errno::EINVAL, NO_HELPER);
    }
    no_ip(t, "iter_ip")?;
    loads(t, "an iterator without them", &load_alone("iterate_links")?);
    Ok(())
}

pub fn helpers_of_raw_tracepoint(t: &mut Context) -> Result<(), String> {
    refused(t, "loading raw_tp_ret", &load_alone("raw_tp_ret")?, Errno::EINVAL, NO_HELPER);
    no_ip(t, "raw_tp_ip")?;
    for program in ["raw_tp_arg", "raw_tp_arg_cnt"] {
        let answer = load_alone(program)?;
        let Ok(session) = &answer else {
            refused(t, &format!("loading {program}"), &answer, Errno::EINVAL, NO_HELPER);
            continue;
        };
        let _probe = session.attach_probe(program)?;
        // Passes through the tracepoint.
        std::thread::sleep(std::time::Duration::from_millis(1));
        let (count, arg) = (session.globals().raw_tp_arg_cnt_seen, session.globals().raw_tp_arg_seen);
        if program == "raw_tp_arg_cnt" {
            let seen = (count.runs > 0, count.arg_cnt);
            t.checks.same("bpf_get_func_arg_cnt() at a tracepoint: ran, count", seen, (true, 4));
            continue;
        }
        let seen = (arg.runs > 0, arg.arg[1] as i64, format!("{:#x}", arg.func_arg[1]));
        let expected = (true, 0, format!("{:#x}", arg.value));
        t.checks.same("bpf_get_func_arg(1) at a tracepoint: ran, error, value", seen, expected);
        let beyond = (arg.arg[4] as i64, arg.func_arg[4]);
        let expected = (-i64::from(libc::EINVAL), crate::tests::basic::beyond::UNTOUCHED);
        t.checks.same("bpf_get_func_arg(4) there", beyond, expected);
    }
    Ok(())
}

pub fn storage_in_itself(t: &mut Context) -> Result<(), String> {
    for program in ["storage_free", "storage_free_fexit"] {
        let answer = load_alone(program)?;
        refused(t, program, &answer, Errno::EINVAL, "helper call is not allowed in probe");
    }
    loads(t, "a session on tcp_v4_connect with storage of its socket", &load_alone("storage_connect")?);
    Ok(())
}

pub fn void_slot(t: &mut Context) -> Result<(), String> {
    for program in ["void_slot_fexit", "void_slot"] {
        let answer = load_alone(program)?;
        let message = "func 'fd_install' doesn't have 4-th argument";
        refused(t, &format!("loading {program}"), &answer, Errno::EACCES, message);
    }
    Ok(())
}

pub fn struct_return(t: &mut Context) -> Result<(), String> {
    for program in ["struct_return_fexit", "struct_return"] {
        let answer = load_alone(program)?;
        let message = "The function tnum_const return type STRUCT is unsupported.";
        refused(t, &format!("loading {program}"), &answer, Errno::EINVAL, message);
    }
    Ok(())
}

/// A program that the series for 6.18 refuses and mainline loads by mistake. The former is identified by its
/// limit of cookies.
fn refused_unless_known(
    t: &mut Context,
    program: &str,
    answer: Result<(), Refusal>,
    (errno, message): (Errno, &str),
    known_bug: &str,
) {
    let bug = t.profile.cookie_limit.is_none().then_some(known_bug);
    let ok =
        answer.as_ref().is_err_and(|refusal| refusal.errno == errno as i32 && refusal.log.contains(message));
    let expected = format!("{errno}, log with {message:?}");
    t.checks.state_with_bug(bug, format!("loading {program}"), expected, super::told(&answer), ok);
}

pub fn throw_function(t: &mut Context) -> Result<(), String> {
    loads(t, "an fentry program on bpf_throw", &load_alone("fentry_on_throw")?);
    refused_unless_known(
        t,
        "session_on_throw",
        load_alone("session_on_throw")?.map(drop),
        (Errno::EINVAL, "__noreturn function 'bpf_throw'"),
        "a session attaches to bpf_throw(), which does not return: its exit never runs, and the image of the \
         trampoline is never freed (docs/findings/noreturn-leak.md)",
    );
    Ok(())
}

/// Calls find_task_by_vpid() for this process.
fn find_this_task() -> Result<(), String> {
    // SAFETY: takes no pointer.
    let group = unsafe { libc::getpgid(std::process::id() as i32) };
    if group < 0 { Err(format!("getpgid: {}", Errno::last())) } else { Ok(()) }
}

pub fn unchecked_pointer(t: &mut Context) -> Result<(), String> {
    const KNOWN_BUG: &str = "a helper gets the pointer that the function will return, which is NULL at entry \
         (docs/findings/null-return-at-entry.md)";
    loads(t, "fexit that gives it to a helper", &load_alone("unchecked_helper_fexit")?);
    loads(t, "a session that gives an argument to one", &load_alone("unchecked_argument")?);
    let answer = load_alone("unchecked_helper")?;
    let loaded = answer.as_ref().ok();
    if let Some(session) = loaded.filter(|_| t.provoke) {
        let _link = session.attach("unchecked_helper", 0)?;
        find_this_task()?;
        let runs = session.globals().unchecked_helper_seen.map(|seen| seen.runs);
        t.checks.same("runs with NULL at entry", runs, [1, 1]);
    }
    let refusal = answer.map(drop);
    refused_unless_known(t, "unchecked_helper", refusal, (Errno::EACCES, "ptr_or_null_"), KNOWN_BUG);
    // Reading from it is harmless where it is allowed: it gives 0.
    let answer = load_alone("unchecked_read")?;
    let Ok(session) = &answer else {
        refused(t, "loading unchecked_read", &answer, Errno::EACCES, "invalid mem access 'ptr_or_null_'");
        return Ok(());
    };
    let _link = session.attach("unchecked_read", 0)?.map_err(|errno| format!("attach: {errno}"))?;
    find_this_task()?;
    let seen = session.globals().unchecked_read_seen;
    t.checks.same("runs of unchecked_read", seen.map(|seen| seen.runs), [1, 1]);
    let pid = u64::from(std::process::id());
    t.checks.same("the pid that it read", seen.map(|seen| seen.value), [0, pid]);
    Ok(())
}
