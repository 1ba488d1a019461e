// SPDX-License-Identifier: MIT OR Apache-2.0
//! Argument slots that the target does not have: the helpers refuse them, in programs of every type.

use super::args::{NO_OPTION, set_no_option, socket};
use super::{Context, ENTRY, EXIT};
use crate::bpf::Seen;
use nix::libc;
use std::os::fd::AsRawFd;

/// Content of a variable that a helper must not write to (bpf/bounds.bpf.h).
pub const UNTOUCHED: u64 = 0x0123_4567_89ab_cdef;

/// The last slot of a target: its number, and mask and value of what is in it.
#[derive(Clone, Copy)]
pub struct Last {
    pub slot: u64,
    pub mask: u64,
    pub value: u64,
}

/// Checks what a program got that asked for the last slot of its target and for slots beyond it. `runs`: how
/// often it must have run.
pub fn stays_within(t: &mut Context, who: &str, seen: &Seen, runs: u64, last: Last) {
    let count = last.slot + 1;
    t.checks.eq(format!("{who}: runs"), seen.runs, runs);
    t.checks.eq(format!("{who}: bpf_get_func_arg_cnt()"), seen.arg_cnt, count);
    t.checks.same(
        format!("{who}: bpf_get_func_arg({}) and the value", last.slot),
        (seen.arg[0] as i64, seen.func_arg[0] & last.mask),
        (0, last.value),
    );
    let beyond = [count, count + 1, 32, u32::MAX.into()];
    for (at, slot) in beyond.into_iter().enumerate() {
        let answer = (seen.arg[at + 1] as i64, format!("{:#x}", seen.func_arg[at + 1]));
        let expected = (-i64::from(libc::EINVAL), format!("{UNTOUCHED:#x}"));
        t.checks.same(format!("{who}: bpf_get_func_arg({slot}) and the value"), answer, expected);
    }
}

/// Checks the result of bpf_get_func_ret() in a program, and the value that it gave, which is an int.
pub fn gives(t: &mut Context, who: &str, seen: &Seen, value: i32) {
    let answer = (seen.func_ret_err, seen.func_ret as i32);
    t.checks.same(format!("{who}: bpf_get_func_ret() and the value"), answer, (0, value));
}

/// Checks that an fentry program gets no return value, and that its variable was left alone.
fn gives_nothing(t: &mut Context, who: &str, seen: &Seen) {
    let answer = (seen.func_ret_err, format!("{:#x}", seen.func_ret));
    let expected = (-i64::from(libc::EOPNOTSUPP), format!("{UNTOUCHED:#x}"));
    t.checks.same(format!("{who}: bpf_get_func_ret() and the value"), answer, expected);
}

/// Checks both runs of a session. `value` is what the function returns.
pub fn session_stays_within(t: &mut Context, who: &str, seen: &[Seen; 2], runs: u64, last: Last, value: i32) {
    for (at, side, value) in [(ENTRY, "entry", 0), (EXIT, "exit", value)] {
        let who = format!("{who}, {side}");
        stays_within(t, &who, &seen[at], runs, last);
        gives(t, &who, &seen[at], value);
    }
}

/// Checks both runs of a session that leaves a cookie.
pub fn cookie_stays_within(t: &mut Context, who: &str, seen: &[Seen; 2], runs: u64, last: Last, value: i32) {
    session_stays_within(t, who, seen, runs, last, value);
    t.checks.hex(format!("{who}: cookie at entry"), seen[ENTRY].cookie, 0);
    t.checks.hex(format!("{who}: cookie at exit"), seen[EXIT].cookie, UNTOUCHED);
}

/// Checks one call that ran all of them. The session that is second leaves a cookie.
fn all_stay_within(
    t: &mut Context,
    [fentry, fexit]: [&Seen; 2],
    [session, with_cookie]: [&[Seen; 2]; 2],
    last: Last,
    value: i32,
) {
    stays_within(t, "fentry", fentry, 1, last);
    gives_nothing(t, "fentry", fentry);
    stays_within(t, "fexit", fexit, 1, last);
    gives(t, "fexit", fexit, value);
    session_stays_within(t, "session", session, 1, last, value);
    cookie_stays_within(t, "session with a cookie", with_cookie, 1, last, value);
}

pub fn beyond_the_arguments(t: &mut Context) -> Result<(), String> {
    const LAST: Last = Last { slot: 6, mask: 0xffff_ffff, value: 7 };
    // The program attached last runs first: each has one with a cookie before it.
    let mut links = Vec::new();
    for program in ["fentry_beyond", "session_beyond", "fmod_beyond", "fexit_beyond", "cookie_beyond"] {
        links.push(t.attach(program)?);
    }
    // In the later calls the stack still has what the first one left there.
    for _ in 0..3 {
        t.reset();
        t.call_modify_return_tests()?;
        let seen = t.seen();
        stays_within(t, "fmod_ret", &seen.fmod_beyond_seen, 1, LAST);
        gives(t, "fmod_ret", &seen.fmod_beyond_seen, 0);
        let plain = [&seen.fentry_beyond_seen, &seen.fexit_beyond_seen];
        all_stay_within(t, plain, [&seen.session_beyond_seen, &seen.cookie_beyond_seen], LAST, 29);
    }
    Ok(())
}

pub fn struct_slots(t: &mut Context) -> Result<(), String> {
    const LAST: Last = Last { slot: 5, mask: 0xffff_ffff, value: 4 };
    let (socket, value) = (socket()?, 1);
    let mut links = Vec::new();
    for program in ["fentry_struct", "session_struct", "fexit_struct", "cookie_struct"] {
        links.push(t.attach(program)?);
    }
    t.reset();
    set_no_option(&socket, &value);
    let (seen, value) = (t.seen(), -libc::ENOPROTOOPT);
    let plain = [&seen.fentry_struct_seen, &seen.fexit_struct_seen];
    all_stay_within(t, plain, [&seen.session_struct_seen, &seen.cookie_struct_seen], LAST, value);
    Ok(())
}

pub fn nine_slots(t: &mut Context) -> Result<(), String> {
    // The last argument is a pointer of the kernel, which is not known here.
    const LAST: Last = Last { slot: 8, mask: 0, value: 0 };
    let mut links = Vec::new();
    for program in ["fentry_nine", "session_nine", "fexit_nine", "cookie_nine"] {
        links.push(t.attach(program)?);
    }
    t.reset();
    // SAFETY: nothing is mapped: a length of 0 is refused.
    let mapped = unsafe {
        libc::mmap(std::ptr::null_mut(), 0, libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    t.checks.eq("mmap(2) of nothing", mapped == libc::MAP_FAILED, true);
    let (seen, value) = (t.seen(), -libc::EINVAL);
    let plain = [&seen.fentry_nine_seen, &seen.fexit_nine_seen];
    all_stay_within(t, plain, [&seen.session_nine_seen, &seen.cookie_nine_seen], LAST, value);
    Ok(())
}

pub fn struct_slots_on_stack(t: &mut Context) -> Result<(), String> {
    // The second word of a sockptr_t: its lowest bit says that the first is an address of the kernel.
    const LAST: Last = Last { slot: 6, mask: 1, value: 0 };
    let (socket, mut option, mut len) = (socket()?, 0u32, 4);
    let mut links = Vec::new();
    for program in
        ["fentry_struct_stack", "session_struct_stack", "fexit_struct_stack", "cookie_struct_stack"]
    {
        links.push(t.attach(program)?);
    }
    t.reset();
    // SAFETY: value and length are ours, and the length is that of the value.
    unsafe {
        let option = (&raw mut option).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, NO_OPTION, option, &raw mut len)
    };
    let (seen, value) = (t.seen(), -libc::ENOPROTOOPT);
    let plain = [&seen.fentry_struct_stack_seen, &seen.fexit_struct_stack_seen];
    all_stay_within(t, plain, [&seen.session_struct_stack_seen, &seen.cookie_struct_stack_seen], LAST, value);
    Ok(())
}
