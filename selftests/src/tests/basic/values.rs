// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values that are not there, or have an unusual shape: arguments behind the last, structs by value, the return
//! value of a function that returns nothing or a pointer, and the cookie in subprograms and callbacks.

use super::args::{set_no_option, socket};
use super::{Context, ENTRY, EXIT, Seen, returns};
use crate::bpf;
use crate::tests::{load_alone, told};
use nix::libc;

/// What the programs put where a helper must not write.
const UNTOUCHED: u64 = 0x55aa_55aa_55aa_55aa;

/// Checks what a program got that asked for arguments behind the last.
fn got_nothing(t: &mut Context, who: &str, seen: &Seen, count: u64) {
    t.checks.eq(format!("{who}: runs"), seen.runs, 1);
    t.checks.eq(format!("{who}: bpf_get_func_arg_cnt()"), seen.arg_cnt, count);
    let errors: Vec<i64> = seen.arg[..5].iter().map(|&err| err as i64).collect();
    t.checks.same(format!("{who}: bpf_get_func_arg()"), errors, vec![-i64::from(libc::EINVAL); 5]);
    let values = &seen.func_arg[..5];
    t.checks.same(format!("{who}: the values"), values.to_vec(), vec![UNTOUCHED; 5]);
}

pub fn args_behind_the_last(t: &mut Context) -> Result<(), String> {
    let all = ["beyond_fentry", "beyond_cookie", "beyond_fexit", "beyond_session", "beyond_fmod"];
    let _links = all.map(|name| t.attach(name)).into_iter().collect::<Result<Vec<_>, _>>()?;
    t.call_modify_return_tests()?;
    let seen = t.seen();
    for (who, seen) in [
        ("fentry", seen.beyond_fentry_seen),
        ("fmod_ret", seen.beyond_fmod_seen),
        ("fexit", seen.beyond_fexit_seen),
        ("session, entry", seen.beyond_session_seen[ENTRY]),
        ("session, exit", seen.beyond_session_seen[EXIT]),
        ("session with a cookie, entry", seen.beyond_cookie_seen[ENTRY]),
        ("session with a cookie, exit", seen.beyond_cookie_seen[EXIT]),
    ] {
        got_nothing(t, who, &seen, 7);
    }
    t.checks.hex("the cookie at exit", seen.beyond_cookie_seen[EXIT].cookie, u64::MAX);
    Ok(())
}

pub fn struct_by_value_in_helpers(t: &mut Context) -> Result<(), String> {
    let (socket, value) = (socket()?, 1);
    let _links = (t.attach("struct_fexit")?, t.attach("struct_session")?);
    t.reset();
    set_no_option(&socket, &value);
    let seen = t.seen();
    let failed = -libc::ENOPROTOOPT;
    for (who, seen, ret) in [
        ("session, entry", seen.struct_session_seen[ENTRY], 0),
        ("session, exit", seen.struct_session_seen[EXIT], failed),
        ("fexit", seen.struct_fexit_seen, failed),
    ] {
        got_nothing(t, who, &seen, 6);
        t.checks.hex(format!("{who}: first half of the struct"), seen.func_arg[6], &raw const value as u64);
        t.checks.eq(format!("{who}: what follows it"), seen.func_arg[7] as i32, 4);
        t.checks.eq(format!("{who}: bpf_get_func_ret()"), seen.func_ret_err, 0);
        t.checks.eq(format!("{who}: the value"), seen.func_ret as i32, ret);
    }
    t.checks.hex("the cookie at exit", seen.struct_session_seen[EXIT].cookie, 0x5ca1_ab1e);
    Ok(())
}

pub fn slot_of_void_function(t: &mut Context) -> Result<(), String> {
    // The answer to fexit decides: both may read it, or neither.
    let answer = |name: &str| {
        load_alone(name).map(|answer| {
            answer.map_or_else(|refusal| bpf::errno_text(refusal.errno), |_| "loaded".to_owned())
        })
    };
    t.checks.eq("loading a session that reads it", answer("void_slot")?, answer("void_slot_fexit")?);
    let _link = t.attach("on_fd_install")?;
    t.reset();
    let _file = std::fs::File::open("/proc/self/status").map_err(|err| err.to_string())?;
    let runs = t.seen().fd_install_seen.map(|seen| seen.runs);
    t.checks.same("runs of a session on fd_install", runs, [1, 1]);
    Ok(())
}

/// getpgid(2) looks up the process.
fn getpgid(pid: i32) -> i32 {
    // SAFETY: takes no pointer.
    unsafe { libc::getpgid(pid) }
}

/// The ID of a process that does not exist: larger than the maximum.
const NO_PROCESS: i32 = 0x4000_0000;

pub fn returned_pointer(t: &mut Context) -> Result<(), String> {
    let me = std::process::id();
    let _link = t.attach("pointer_checked")?;
    for (what, pid, found) in [("a process", me as i32, true), ("no process", NO_PROCESS, false)] {
        t.reset();
        t.checks.eq(format!("{what}: getpgid() finds it"), getpgid(pid) >= 0, found);
        let seen = t.seen().pointer_checked_seen;
        t.checks.same(format!("{what}: runs"), seen.map(|seen| seen.runs), [1, 1]);
        t.checks.same(
            format!("{what}: at entry, ID and registers"),
            (seen[ENTRY].value, seen[ENTRY].ret),
            (0, 0),
        );
        let expected = if found { (u64::from(me), 1) } else { (0, 0) };
        let at_exit = (seen[EXIT].value, seen[EXIT].ret);
        t.checks.same(format!("{what}: at exit, ID and registers"), at_exit, expected);
    }
    Ok(())
}

/// The verifier's message for the use of a pointer that may be NULL.
const MAY_BE_NULL: &str = "ptr_or_null_";

pub fn returned_pointer_unchecked(t: &mut Context) -> Result<(), String> {
    match load_alone("pointer_unchecked")? {
        Err(refusal) => {
            let ok = refusal.errno == libc::EACCES && refusal.log.contains(MAY_BE_NULL);
            t.checks.state("reading through it", format!("EACCES, {MAY_BE_NULL:?}"), refusal.to_string(), ok);
        }
        // The verifier has it read with a fault handler: nothing is there at entry.
        Ok(session) => {
            session.reset(std::process::id());
            let _link =
                session.attach("pointer_unchecked", 0)?.map_err(|errno| format!("attach: {errno}"))?;
            getpgid(std::process::id() as i32);
            let seen = session.globals().pointer_unchecked_seen;
            t.checks.same("runs", seen.map(|seen| seen.runs), [1, 1]);
            t.checks.eq("what it reads at entry", seen[ENTRY].value, 0);
            t.checks.eq("what it reads at exit", seen[EXIT].value, u64::from(std::process::id()));
        }
    }
    let _link = t.attach("pointer_checked")?;
    getpgid(std::process::id() as i32);
    let runs = t.seen().pointer_checked_seen.map(|seen| seen.runs);
    t.checks.same("runs of a session that checks it", runs, [1, 1]);
    Ok(())
}

pub fn returned_pointer_in_helper(t: &mut Context) -> Result<(), String> {
    let answer = load_alone("pointer_in_helper")?;
    if answer.is_ok() {
        t.checks.expect_failure(
            "the verifier takes the returned pointer for one that is not NULL, and it is 0 at entry: a helper that \
             gets it brings down the kernel (docs/findings/null-return-at-entry.md)",
        );
    }
    let ok = answer.as_ref().is_err_and(|refusal| refusal.log.contains(MAY_BE_NULL));
    t.checks.state("giving it to a helper", format!("refused, {MAY_BE_NULL:?}"), told(&answer), ok);
    if let (Ok(session), true) = (answer, t.provoke) {
        session.reset(std::process::id());
        let _link = session.attach("pointer_in_helper", 0)?.map_err(|errno| format!("attach: {errno}"))?;
        getpgid(std::process::id() as i32);
        let runs = session.globals().pointer_in_helper_seen.map(|seen| seen.runs);
        t.checks.same("runs", runs, [1, 1]);
    }
    let _link = t.attach("pointer_checked")?;
    getpgid(std::process::id() as i32);
    let seen = t.seen().pointer_checked_seen;
    t.checks.eq("a helper gives something for a checked one", seen[EXIT].ret, 1);
    Ok(())
}

pub fn func_ret_in_subprograms(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("func_ret_in_subprogs")?;
    t.call_fentry_tests()?;
    let seen = t.seen();
    for (who, seen) in [("static", seen.func_ret_static_seen), ("global", seen.func_ret_global_seen)] {
        t.checks.same(format!("{who}: runs"), seen.map(|seen| seen.runs), [1, 1]);
        t.checks.same(format!("{who}: bpf_get_func_ret()"), seen.map(|seen| seen.func_ret_err), [0, 0]);
        t.checks.eq(format!("{who}: the value at entry"), seen[ENTRY].func_ret, 0);
        t.checks.eq(format!("{who}: the value at exit"), seen[EXIT].func_ret as i32, 2);
    }
    Ok(())
}

pub fn cookie_in_callback(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("in_loop")?;
    for _ in 0..3 {
        t.reset();
        t.call_fentry_tests()?;
        let seen = t.seen().in_loop_seen;
        t.checks.same(
            "cookie before and after the loop, entry",
            (seen[ENTRY].cookie, seen[ENTRY].value),
            (0, 0xa0a),
        );
        t.checks.same(
            "cookie before and after the loop, exit",
            (seen[EXIT].cookie, seen[EXIT].value),
            (0xa0a, 0x1414),
        );
    }
    Ok(())
}

pub fn cookie_between_big_frames(t: &mut Context) -> Result<(), String> {
    /// What the subprogram adds to the cookie, and what it and its caller return.
    const ADDED: u64 = (5 + 7) + (5 + 29);
    const RETURNED: u64 = (5 + 3) + (1000 + 27);
    let _link = t.attach("big_frames")?;
    for _ in 0..3 {
        t.reset();
        t.call_fentry_tests()?;
        let seen = t.seen().big_frames_seen;
        for (at, name, before) in [(ENTRY, "entry", 0), (EXIT, "exit", ADDED)] {
            let found = (seen[at].cookie, seen[at].ret, seen[at].value);
            t.checks.same(
                format!("cookie, frames, cookie at {name}"),
                found,
                (before, RETURNED, before + ADDED),
            );
        }
    }
    Ok(())
}

pub fn test_run_of_itself(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("one_arg")?;
    t.checks.same("BPF_PROG_TEST_RUN of a session", t.session.test_run("one_arg"), Ok(0));
    let seen = t.seen().one_arg_seen;
    t.checks.same("its runs", seen.map(|seen| seen.runs), [1, 1]);
    returns(t, &seen, 2);
    Ok(())
}

pub fn raw_tracepoint_open(t: &mut Context) -> Result<(), String> {
    let link = t.session.raw_tracepoint_open("one_arg")?;
    let what = |answer: &Result<crate::bpf::Link, nix::errno::Errno>| {
        answer.as_ref().map_or_else(|errno| errno.to_string(), |_| "attached".to_owned())
    };
    t.checks.eq("attaching", what(&link), "attached".to_owned());
    t.call_fentry_tests()?;
    t.checks.same("runs of a call", t.seen().one_arg_seen.map(|seen| seen.runs), [1, 1]);
    let again = t.session.raw_tracepoint_open("one_arg")?;
    t.checks.eq("attaching it again", what(&again), nix::errno::Errno::EBUSY.to_string());
    drop(link);
    t.reset();
    t.call_fentry_tests()?;
    t.checks.same("runs once it is detached", t.seen().one_arg_seen.map(|seen| seen.runs), [0, 0]);
    let link = t.session.raw_tracepoint_open("one_arg")?;
    t.checks.eq("attaching it once more", what(&link), "attached".to_owned());
    t.call_fentry_tests()?;
    t.checks.same("runs of a call", t.seen().one_arg_seen.map(|seen| seen.runs), [1, 1]);
    Ok(())
}
