// SPDX-License-Identifier: MIT OR Apache-2.0
//! Return values that are special: a pointer, none at all, that of a BPF program, and one asked for in
//! subprograms.

use super::beyond::gives;
use super::{Context, ENTRY, EXIT};
use crate::tests::load_for;
use nix::unistd::{Pid, getpgid};
use std::fs::File;

pub fn return_pointer(t: &mut Context) -> Result<(), String> {
    const CALLS: u64 = 10;
    let this = Pid::this();
    let _link = t.attach("checked_pointer")?;
    for call in 1..=CALLS {
        getpgid(Some(this)).map_err(|errno| format!("getpgid: {errno}"))?;
        let seen = t.seen().checked_pointer_seen;
        let (entry, exit) = (seen[ENTRY], seen[EXIT]);
        t.checks.same(format!("runs after call {call}"), (entry.runs, exit.runs), (call, call));
        t.checks.hex("pointer at entry", entry.ret, 0);
        t.checks.same("bpf_get_func_ret() at entry", (entry.func_ret_err, entry.func_ret), (0, 0));
        t.checks.same("bpf_get_func_ret() at exit", (exit.func_ret_err, exit.func_ret), (0, exit.ret));
        let shown = format!("{:#x}", exit.ret);
        t.checks.state("pointer at exit", "an address of the kernel", shown, exit.ret >> 63 == 1);
        t.checks.eq("pid of the task at exit", exit.arg[0], this.as_raw() as u64);
        let shown = format!("{:#x}", exit.value);
        t.checks.state("bpf_task_pt_regs() at exit", "an address", shown, exit.value != 0);
        t.checks.hex("what a helper got at entry", entry.value, 0);
    }
    let entry = t.seen().checked_pointer_seen[ENTRY];
    t.checks.eq("upper halves at entry, added up", entry.arg[1], 0);
    Ok(())
}

pub fn void_return_slot(t: &mut Context) -> Result<(), String> {
    let _links = (t.attach("void_return")?, t.attach("void_fexit")?);
    t.reset();
    // Not dup(2): it is in the same file as fd_install(), which clang inlines there.
    let _file = File::open("/proc/self/exe").map_err(|err| format!("/proc/self/exe: {err}"))?;
    let (session, fexit) = (t.seen().void_return_seen, t.seen().void_fexit_seen);
    let runs = (session[ENTRY].runs, session[EXIT].runs, fexit.runs);
    t.checks.same("runs at entry, at exit and of fexit", runs, (1, 1, 1));
    t.checks.same("at entry", (session[ENTRY].func_ret_err, session[ENTRY].func_ret), (0, 0));
    let at_exit = (session[EXIT].func_ret_err, session[EXIT].func_ret);
    t.checks.same("at exit, as in fexit", at_exit, (fexit.func_ret_err, fexit.func_ret));
    t.checks.eq("the helper in fexit", fexit.func_ret_err, 0);
    Ok(())
}

pub fn value_of_program(t: &mut Context) -> Result<(), String> {
    let session = load_for("behind_five", t.session.fd("target_program")?, c"target_program")?;
    let _link =
        session.attach("behind_five", 0)?.map_err(|errno| format!("attach to a BPF program: {errno}"))?;
    for call in 1..=2 {
        t.checks.eq("what the target returns", t.session.test_run("target_program")?, 42);
        let seen = session.globals().behind_five_seen;
        t.checks.same("runs", seen.map(|seen| seen.runs), [call; 2]);
        t.checks.same("bpf_get_func_arg_cnt()", seen.map(|seen| seen.arg_cnt), [5; 2]);
        t.checks.eq("the word behind the arguments at entry", seen[ENTRY].ret, 0);
        t.checks.eq("the word behind the arguments at exit", seen[EXIT].ret as i32, 42);
    }
    Ok(())
}

pub fn value_in_subprograms(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("value_in_subprogs")?;
    for call in 1..=2 {
        t.call_fentry_tests()?;
        let seen = t.seen();
        for (which, seen) in [("static", seen.value_in_static_seen), ("global", seen.value_in_global_seen)] {
            t.checks.same(format!("{which}: runs"), seen.map(|seen| seen.runs), [call; 2]);
            gives(t, &format!("{which}, entry"), &seen[ENTRY], 0);
            gives(t, &format!("{which}, exit"), &seen[EXIT], 2);
        }
        let counts = seen.value_in_global_seen.map(|seen| seen.arg_cnt);
        t.checks.same("global: bpf_get_func_arg_cnt()", counts, [1; 2]);
    }
    Ok(())
}
