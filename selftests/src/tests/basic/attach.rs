// SPDX-License-Identifier: MIT OR Apache-2.0
//! Other ways to attach a session and to call its target.

use super::{Context, ENTRY, EXIT};
use crate::bpf::{FSESSION, Link};
use crate::syscall;
use crate::tests::told;
use nix::errno::Errno;

/// Calls the target of `one_arg`, and checks how often that ran at each side.
fn runs_in_a_call(t: &mut Context, when: &str, runs: u64) -> Result<(), String> {
    t.reset();
    t.call_fentry_tests()?;
    let seen = t.seen().one_arg_seen;
    t.checks.same(format!("runs {when}"), (seen[ENTRY].runs, seen[EXIT].runs), (runs, runs));
    Ok(())
}

pub fn raw_tracepoint_open(t: &mut Context) -> Result<(), String> {
    let program = t.session.fd("one_arg")?;
    let open = || syscall::raw_tracepoint_open(program).map(Link::from);
    for time in ["", "once more, after it was closed: "] {
        let link = open();
        t.checks.eq(format!("{time}opening it"), told(&link, "opened"), "opened".to_owned());
        if let Ok(link) = &link {
            let info = syscall::link_info(link).map_err(|errno| format!("info of the link: {errno}"))?;
            // SAFETY: integers; the kernel filled in this member for a link of a tracing program.
            let attach_type = unsafe { info.__bindgen_anon_1.tracing.attach_type };
            t.checks.eq(format!("{time}its attach type"), i64::from(attach_type), FSESSION);
        }
        runs_in_a_call(t, "while it is open", 1)?;
        t.checks.eq(format!("{time}opening it again"), told(&open(), "opened"), Errno::EBUSY.to_string());
        t.refused(&format!("{time}a link for it"), "one_arg", Errno::EBUSY)?;
        runs_in_a_call(t, "after that", 1)?;
        drop(link);
        runs_in_a_call(t, "once it is closed", 0)?;
    }
    Ok(())
}

pub fn test_run_of_session(t: &mut Context) -> Result<(), String> {
    let value = t.session.test_run("one_arg")?;
    t.checks.eq("value of a test run before it is attached", value, 0);
    t.checks.same("runs in it", t.seen().one_arg_seen.map(|seen| seen.runs), [0, 0]);
    let _link = t.attach("one_arg")?;
    for call in 1..=3 {
        t.checks.eq("value of a test run", t.session.test_run("one_arg")?, 0);
        let seen = t.seen().one_arg_seen;
        t.checks.same("runs so far", (seen[ENTRY].runs, seen[EXIT].runs), (call, call));
        t.checks.same("arguments", seen.map(|seen| seen.arg[0] as u32), [1, 1]);
        t.checks.eq("return value at exit", seen[EXIT].ret as i32, 2);
    }
    Ok(())
}
