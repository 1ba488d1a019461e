// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sessions on LSM hooks. LSM programs run in the same trampoline, and call the helpers that are inlined for
//! tracing programs.

use super::{Context, ENTRY};
use crate::tests::basic::beyond::{Last, cookie_stays_within, gives, session_stays_within, stays_within};
use nix::errno::Errno;
use nix::unistd::{Pid, getpgid};

const WHOLE: u64 = u64::MAX;

pub fn lsm_hook(t: &mut Context) -> Result<(), String> {
    let _probe = t.session.attach_probe("lsm_int")?;
    let mut links = Vec::new();
    for program in ["session_on_lsm_int", "fexit_on_lsm_int", "cookie_on_lsm_int"] {
        links.push(t.attach(program)?);
    }
    let this = Pid::this();
    for (denies, value) in [(0, 0), (1, -(Errno::EACCES as i32)), (0, 0)] {
        t.reset();
        t.session.set(|globals| globals.lsm_value = denies);
        let got = getpgid(Some(this)).map_or_else(|errno| errno.to_string(), |_| "allowed".to_owned());
        let expected = if denies == 0 { "allowed".to_owned() } else { Errno::EACCES.to_string() };
        t.checks.eq("getpgid(2)", got, expected);
        let seen = t.seen();
        let task = seen.session_on_lsm_int_seen[ENTRY].func_arg[0];
        t.checks.state("the task", "an address", format!("{task:#x}"), task >> 63 == 1);
        let last = Last { slot: 0, mask: WHOLE, value: task };
        stays_within(t, "LSM program", &seen.lsm_int_seen, 1, last);
        gives(t, "LSM program", &seen.lsm_int_seen, 0);
        stays_within(t, "fexit", &seen.fexit_on_lsm_int_seen, 1, last);
        gives(t, "fexit", &seen.fexit_on_lsm_int_seen, value);
        session_stays_within(t, "session", &seen.session_on_lsm_int_seen, 1, last, value);
        cookie_stays_within(t, "session with a cookie", &seen.cookie_on_lsm_int_seen, 1, last, value);
    }
    Ok(())
}

pub fn lsm_void_hook(t: &mut Context) -> Result<(), String> {
    let _probe = t.session.attach_probe("lsm_void")?;
    let mut links = Vec::new();
    for program in ["session_on_lsm_void", "fexit_on_lsm_void", "cookie_on_lsm_void"] {
        links.push(t.attach(program)?);
    }
    t.reset();
    // The hook is called for each inode of a process in /proc on the way, more than once.
    std::fs::metadata("/proc/self/status").map_err(|err| format!("/proc/self/status: {err}"))?;
    let seen = t.seen();
    let runs = seen.session_on_lsm_void_seen[ENTRY].runs;
    t.checks.state("calls of the hook", "at least 1", runs.to_string(), runs > 0);
    let inode = seen.session_on_lsm_void_seen[ENTRY].func_arg[0];
    t.checks.state("the inode", "an address", format!("{inode:#x}"), inode >> 63 == 1);
    let last = Last { slot: 1, mask: WHOLE, value: inode };
    // It returns nothing, so the value at exit is undefined: but it is the same for all.
    let value = seen.fexit_on_lsm_void_seen.func_ret as i32;
    stays_within(t, "LSM program", &seen.lsm_void_seen, runs, last);
    gives(t, "LSM program", &seen.lsm_void_seen, value);
    stays_within(t, "fexit", &seen.fexit_on_lsm_void_seen, runs, last);
    session_stays_within(t, "session", &seen.session_on_lsm_void_seen, runs, last, value);
    cookie_stays_within(t, "session with a cookie", &seen.cookie_on_lsm_void_seen, runs, last, value);
    Ok(())
}
