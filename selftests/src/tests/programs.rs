// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sessions next to what BPF programs do to each other: tail calls, extensions, exceptions, LSM programs.

use super::{Context, EXIT, Subtest, load_alone, subtests, told};
use crate::bpf::{self, Kind, Link, Session, Unloaded};
use crate::features::THROW;
use nix::errno::Errno;
use nix::libc;
use std::ffi::CStr;

subtests! { "programs":
    Normal tail_call_of_a_like ["tail_caller", "one_arg", "cookie_caller", "cookie_1"]
        "A session tail calls another one that is like it in using a cookie, and it runs at entry and at exit.";
    Normal tail_call_of_plain_refused ["cookie_caller", "one_arg", "cookie_1"]
        "A session without a cookie is refused as callee of one with a cookie, or is harmless there.";
    Quick tail_call_refused_at_load ["tail_caller", "plain_fexit"]
        "A session with a cookie is refused when it is loaded if its array is of sessions without one.";
    Normal session_in_array_of_fentry_refused ["fentry_caller", "one_arg"]
        "A session is refused as callee of an fentry program.";
    Normal target_with_tail_calls ["tail_calling_target"]
        "Sessions on a program that tail calls, and on its subprogram, change nothing of its work, and have their cookies.";
    Quick second_program_for_target ["tail_calling_target"]
        "A second session for a target with tail calls attaches, and the first can be detached after it is loaded.";
    Normal thrown_inside ["thrower"]
        "A session that throws an exception at entry still runs at exit, with its cookie.";
    Normal thrown_through_fentry ["throwing_target"]
        "An exception through a function with an fentry program reaches the program that it ends.";
    Quick thrown_through ["throwing_target"]
        "An exception through a function with a session reaches the program that it ends.";
    Quick throw_is_no_target ["one_arg"]
        "A session on bpf_throw(), which never returns, is refused, as on other functions that do not.";
    Normal on_extension ["target_program"]
        "A session on an extension (freplace) runs when that replaces a function.";
    Normal on_lsm_hook ["lsm_program", "on_hook", "plain_on_hook"] needs LsmSessions
        "Sessions on an LSM hook see what an LSM program returns, and its helpers are right next to their bits.";
}

/// Loads a session for a function of a loaded program.
fn load_on(name: &str, t: &Context, target: &str, function: &CStr) -> Result<Session, String> {
    let mut object = Unloaded::open()?;
    object.set_target(name, t.session.fd(target)?, function)?;
    object.choose(name)?;
    let session = object.load().map_err(|errno| format!("load {name}: {errno}"))?;
    session.reset(std::process::id());
    Ok(session)
}

/// Attaches the only program of a session that must attach.
fn attach(session: &Session, name: &str) -> Result<Link, String> {
    session.attach(name, 0)?.map_err(|errno| format!("attach {name}: {errno}"))
}

fn text(answer: &Result<(), Errno>) -> String {
    answer.map_or_else(|errno| errno.to_string(), |()| "accepted".to_owned())
}

fn tail_call_of_a_like(t: &mut Context) -> Result<(), String> {
    const GIVEN: u64 = 0x1234_5678;
    let plain = t.session.set_callee(c"callees", t.session.fd("one_arg")?)?;
    t.checks.eq("a plain callee of a plain session", text(&plain), "accepted".to_owned());
    let cookie = t.session.set_callee(c"callees_of_cookie", t.session.fd("cookie_1")?)?;
    t.checks.eq("a callee with a cookie of one with a cookie", text(&cookie), "accepted".to_owned());
    let _links = (t.attach("tail_caller")?, t.attach("cookie_caller")?);
    t.reset();
    t.session.set(|globals| globals.give = [GIVEN; 5]);
    t.call_fentry_tests()?;
    let seen = t.seen();
    for (who, seen) in [
        ("plain callee", seen.one_arg_seen),
        ("caller with a cookie", seen.cookie_caller_seen),
        ("its callee", seen.cookie_1_seen),
    ] {
        t.checks.same(format!("{who}: runs"), seen.map(|seen| seen.runs), [1, 1]);
    }
    t.checks.eq("value that the plain callee sees", seen.one_arg_seen[EXIT].ret as i32, 2);
    // Both use the cookie of the one that is attached.
    let cookies = [seen.cookie_caller_seen, seen.cookie_1_seen].map(|seen| seen.map(|seen| seen.cookie));
    t.checks.same("cookies of caller and callee", cookies, [[0, GIVEN]; 2]);
    Ok(())
}

fn tail_call_of_plain_refused(t: &mut Context) -> Result<(), String> {
    let answer = t.session.set_callee(c"callees_of_cookie", t.session.fd("one_arg")?)?;
    let compares = t.profile.compares_cookies_of_callees == Some(true);
    let expected = if compares { Errno::EINVAL.to_string() } else { "accepted".to_owned() };
    t.checks.eq("a plain callee of a session with a cookie", text(&answer), expected);
    let _link = t.attach("cookie_caller")?;
    t.reset();
    t.call_fentry_tests()?;
    let seen = t.seen();
    t.checks.same("runs of the caller", seen.cookie_caller_seen.map(|seen| seen.runs), [1, 1]);
    let runs = if compares { [0, 0] } else { [1, 1] };
    t.checks.same("runs of the callee", seen.one_arg_seen.map(|seen| seen.runs), runs);
    Ok(())
}

fn tail_call_refused_at_load(t: &mut Context) -> Result<(), String> {
    let mut object = Unloaded::open()?;
    object.choose("tail_caller")?;
    object.choose("late_cookie_caller")?;
    let answer = object.load();
    if answer.is_ok() && t.profile.compares_cookies_of_callees == Some(false) {
        t.checks.expect_failure(
            "mainline lets a session with a cookie into an array of sessions without one \
             (docs/findings/tail-call-into-cookie.md)",
        );
    }
    let answer = answer.map(drop);
    t.checks.eq("loading it", text(&answer), Errno::EINVAL.to_string());
    // Alone, either of them is fine, and so is the function.
    let alone = load_alone("late_cookie_caller")?;
    t.checks.eq("loading it alone", told(&alone), "loaded".to_owned());
    let _links = (t.attach("tail_caller")?, t.attach("plain_fexit")?);
    t.call_fentry_tests()?;
    t.checks.eq("runs of fexit next to the caller", t.seen().plain_fexit_seen.runs, 1);
    Ok(())
}

fn session_in_array_of_fentry_refused(t: &mut Context) -> Result<(), String> {
    let answer = t.session.set_callee(c"callees_of_fentry", t.session.fd("one_arg")?)?;
    t.checks.eq("a session as callee of fentry", text(&answer), Errno::EINVAL.to_string());
    let _links = (t.attach("fentry_caller")?, t.attach("one_arg")?);
    t.call_fentry_tests()?;
    t.checks.same("runs of the session, attached", t.seen().one_arg_seen.map(|seen| seen.runs), [1, 1]);
    Ok(())
}

/// Makes the target its own callee, and runs it: returned value, its runs, and those of its subprogram.
fn run_target(t: &Context) -> Result<(u32, u64, u64), String> {
    t.session.reset(std::process::id());
    let value = t.session.test_run_with_packet("tail_calling_target")?;
    let seen = t.seen();
    Ok((value, seen.target_runs, seen.subprog_runs))
}

fn target_with_tail_calls(t: &mut Context) -> Result<(), String> {
    /// Two calls of the subprogram in the first run and in each of the 33 tail calls that the kernel allows.
    const WORK: (u32, u64, u64) = (7, 34, 68);
    const SESSIONS: u64 = 3;
    let own = t.session.set_callee(c"callees_of_target", t.session.fd("tail_calling_target")?)?;
    t.checks.eq("the target as its own callee", text(&own), "accepted".to_owned());
    t.checks.same("value, runs, runs of the subprogram", run_target(t)?, WORK);
    for (function, calls) in [(c"tail_calling_subprog", 68), (c"tail_calling_target", 1)] {
        let mut sessions: Vec<(Session, Link)> = Vec::new();
        for count in 1..=SESSIONS {
            let session = load_on("on_tail_calling", t, "tail_calling_target", function)?;
            let answer = session.attach("on_tail_calling", 0)?;
            if is_flags_bug(t, count, &answer) {
                return Ok(());
            }
            let link = answer.map_err(|errno| format!("attach session {count} to {function:?}: {errno}"))?;
            sessions.push((session, link));
            t.checks.same(format!("the same with {count} sessions on {function:?}"), run_target(t)?, WORK);
        }
        for (at, (session, _link)) in sessions.iter().enumerate() {
            let seen = session.globals().on_tail_calling_seen;
            let runs = calls * (SESSIONS - at as u64);
            let who = format!("{function:?}, session {}", at + 1);
            t.checks.same(format!("{who}: runs"), seen.map(|seen| seen.runs), [runs, runs]);
            t.checks.same(format!("{who}: wrong cookies"), seen.map(|seen| seen.value), [0, 0]);
        }
    }
    Ok(())
}

/// Whether this is how a kernel shows that it forgot what its trampoline is like. Nothing may be detached from
/// such a target any more: it would run freed code.
fn is_flags_bug(t: &mut Context, count: u64, answer: &Result<Link, Errno>) -> bool {
    let is_bug = count > 1 && matches!(answer, Err(Errno::EBUSY));
    if is_bug {
        t.checks.expect_failure(
            "loading a second program for a target with tail calls makes the kernel forget how its trampoline is \
             entered (docs/findings/second-program-tail-calls.md)",
        );
        t.checks.eq(format!("attaching session {count}"), Errno::EBUSY.to_string(), "attached".to_owned());
    }
    is_bug
}

fn second_program_for_target(t: &mut Context) -> Result<(), String> {
    let own = t.session.set_callee(c"callees_of_target", t.session.fd("tail_calling_target")?)?;
    t.checks.eq("the target as its own callee", text(&own), "accepted".to_owned());
    let load = || load_on("on_tail_calling", t, "tail_calling_target", c"tail_calling_subprog");
    let first = load()?;
    let link = attach(&first, "on_tail_calling")?;
    let second = load()?;
    let answer = second.attach("on_tail_calling", 0)?;
    if is_flags_bug(t, 2, &answer) && !t.provoke {
        // The process' end would detach the first: it stays attached in bpffs.
        return keep(&link);
    }
    let attached = answer.as_ref().map(drop).map_err(|errno| *errno);
    t.checks.eq("attaching the second", text(&attached), "accepted".to_owned());
    drop((link, first));
    std::thread::sleep(std::time::Duration::from_millis(200));
    t.checks.same("value, runs, runs of the subprogram", run_target(t)?, (7, 34, 68));
    let seen = second.globals().on_tail_calling_seen;
    t.checks.same("runs of the second session", seen.map(|seen| seen.runs), [68, 68]);
    Ok(())
}

/// Pins a link, so that it is never detached.
fn keep(link: &Link) -> Result<(), String> {
    let path = std::ffi::CString::new(format!("/sys/fs/bpf/kept_{}", std::process::id())).unwrap_or_default();
    bpf::pin(link, &path).map_err(|errno| format!("pin a link that must stay: {errno}"))
}

fn thrown_inside(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("thrower")?;
    for throws in [0, 1] {
        t.reset();
        t.session.set(|globals| globals.throws = throws);
        t.call_fentry_tests()?;
        let seen = t.seen().thrower_seen;
        let what = if throws == 0 { "not thrown" } else { "thrown" };
        t.checks.same(format!("{what}: runs"), seen.map(|seen| seen.runs), [1, 1]);
        t.checks.same(format!("{what}: cookies"), seen.map(|seen| seen.cookie), [0, 0xfeed]);
        let ended = u64::from(1 - throws);
        t.checks.same(format!("{what}: runs that end"), seen.map(|seen| seen.value), [ended; 2]);
    }
    Ok(())
}

/// Runs the target, whose subprogram throws.
fn throw(t: &Context) -> Result<u32, String> {
    t.session.set(|globals| globals.throws = 1);
    let value = t.session.test_run("throwing_target");
    t.session.set(|globals| globals.throws = 0);
    value
}

fn thrown_through_fentry(t: &mut Context) -> Result<(), String> {
    let fentry = load_on("fentry_on_thrower", t, "throwing_target", c"throwing_subprog")?;
    let _link = attach(&fentry, "fentry_on_thrower")?;
    t.checks.eq("value without an exception", t.session.test_run("throwing_target")?, 2);
    t.checks.eq("value with one", throw(t)?, 7);
    t.checks.eq("runs of fentry", fentry.globals().fentry_on_thrower_seen.runs, 2);
    Ok(())
}

fn thrown_through(t: &mut Context) -> Result<(), String> {
    let session = load_on("on_thrower", t, "throwing_target", c"throwing_subprog")?;
    let link = attach(&session, "on_thrower")?;
    t.checks.eq("value without an exception", t.session.test_run("throwing_target")?, 2);
    let runs = session.globals().on_thrower_seen.map(|seen| seen.runs);
    t.checks.same("runs of the session", runs, [1, 1]);
    // What a kernel does is only known once it survived: fexit has died of it since 6.12.
    if t.provoke {
        t.checks.eq("value with one", throw(t)?, 7);
    } else {
        t.checks.expect_failure(
            "an exception through the trampoline of a session or fexit kills every kernel so far, and is not tried \
             (docs/findings/throw-through-trampoline.md)",
        );
        t.checks.eq("throwing through it", "not tried: the kernel would die", "tried");
    }
    drop(link);
    t.checks.eq("value with one, once it is detached", throw(t)?, 7);
    Ok(())
}

fn throw_is_no_target(t: &mut Context) -> Result<(), String> {
    let target = t.features.func_id(THROW)?;
    let fentry = bpf::load_minimal(Kind::Fentry, target, &[]);
    t.checks.eq("fentry on bpf_throw()", told(&fentry), "loaded".to_owned());
    for (what, kind) in [("a session", Kind::Fsession), ("fexit", Kind::Fexit)] {
        let answer = bpf::load_minimal(kind, target, &[]);
        if answer.is_ok() {
            t.checks.expect_failure(
                "bpf_throw() is not known as a function that does not return: its exit never runs, and the image of \
                 the trampoline is never freed (docs/findings/noreturn-leak.md)",
            );
        }
        let ok = answer.as_ref().is_err_and(|refusal| {
            refusal.errno == libc::EINVAL && refusal.log.contains("__noreturn function 'bpf_throw'")
        });
        t.checks.state(
            format!("{what} on bpf_throw()"),
            "EINVAL, \"__noreturn function\"",
            told(&answer),
            ok,
        );
    }
    let _link = t.attach("one_arg")?;
    t.call_fentry_tests()?;
    t.checks.same("runs of a session elsewhere", t.seen().one_arg_seen.map(|seen| seen.runs), [1, 1]);
    Ok(())
}

fn on_extension(t: &mut Context) -> Result<(), String> {
    let extension = load_on("extension", t, "target_program", c"replaceable")?;
    let mut object = Unloaded::open()?;
    object.set_target("on_extension", extension.fd("extension")?, c"extension")?;
    object.choose("on_extension")?;
    let session = object.load().map_err(|errno| format!("load a session on an extension: {errno}"))?;
    session.reset(std::process::id());
    let _link = attach(&session, "on_extension")?;
    let replaces = attach(&extension, "extension")?;
    t.checks.eq("value with the extension", t.session.test_run("target_program")?, 141);
    let seen = session.globals().on_extension_seen;
    t.checks.same("runs of the session", seen.map(|seen| seen.runs), [1, 1]);
    t.checks.same("its cookies", seen.map(|seen| seen.cookie), [0, 0x99]);
    drop(replaces);
    t.checks.eq("value without the extension", t.session.test_run("target_program")?, 42);
    let runs = session.globals().on_extension_seen.map(|seen| seen.runs);
    t.checks.same("runs after it is gone", runs, [1, 1]);
    Ok(())
}

fn on_lsm_hook(t: &mut Context) -> Result<(), String> {
    let me = std::process::id() as i32;
    let _links = (t.attach("plain_on_hook")?, t.attach("lsm_program")?, t.attach("on_hook")?);
    for returned in [0, -libc::EACCES] {
        t.reset();
        t.session.set(|globals| globals.lsm_returns = returned);
        // SAFETY: takes no pointer.
        let allowed = unsafe { libc::getpgid(me) } >= 0;
        let (seen, when) = (t.seen(), format!("LSM program returns {returned}"));
        t.checks.eq(format!("{when}: getpgid() succeeds"), allowed, returned == 0);
        for (who, seen) in [("session", seen.plain_on_hook_seen), ("with a cookie", seen.on_hook_seen)] {
            t.checks.same(format!("{when}: {who}: runs"), seen.map(|seen| seen.runs), [1, 1]);
            let values = seen.map(|seen| seen.ret as i32);
            t.checks.same(format!("{when}: {who}: values"), values, [0, returned]);
        }
        t.checks.same(format!("{when}: cookies"), seen.on_hook_seen.map(|seen| seen.cookie), [0, 0x77]);
        t.checks.same(format!("{when}: arguments"), seen.on_hook_seen.map(|seen| seen.arg_cnt), [1, 1]);
        let lsm = seen.lsm_seen;
        t.checks.same(format!("{when}: LSM program: runs, arguments"), (lsm.runs, lsm.arg_cnt), (1, 1));
        t.checks.hex(format!("{when}: LSM program: bpf_get_func_arg()"), lsm.func_arg[5], lsm.value);
        let errors = [lsm.arg[0], lsm.arg[1], lsm.arg[2], lsm.arg[3], lsm.arg[4]].map(|err| err as i64);
        t.checks.same(
            format!("{when}: LSM program: behind the last argument"),
            errors,
            [-i64::from(libc::EINVAL); 5],
        );
        t.checks.same(
            format!("{when}: LSM program: bpf_get_func_ret()"),
            (lsm.func_ret_err, lsm.func_ret as i32),
            (0, 0),
        );
    }
    Ok(())
}
