// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sessions combined with other programs on the same function: trampoline programs of every kind, kprobes,
//! the function tracer, and sessions on BPF programs.

mod full;
mod lsm;
mod programs;

use super::{Attached, Context, ENTRY, EXIT, Subtest, subtests, walk};
use crate::bpf::{self, Link, Session, Unloaded};
use full::*;
use lsm::*;
use nix::errno::Errno;
use programs::*;
use std::ffi::CStr;
use std::os::fd::RawFd;
use std::path::Path;

subtests! { "mixed":
    Quick three_kinds_every_order ["plain_fentry", "plain_fexit", "one_arg"]
        "fentry, fexit and a session on one function each run, in all six orders of attaching.";
    Normal order_of_sessions ["cookie_1", "cookie_2", "cookie_3"]
        "Of several sessions the one attached last runs first, at entry and at exit.";
    Normal override_seen_at_exit ["override_value", "session_1", "fexit_1"]
        "When fmod_ret overrides the function, the exit run sees the overriding value and the body does not run.";
    Normal override_without_cookie ["override_value", "around_body"]
        "The exit run of a session without a cookie knows that it is one, and sees the overriding value.";
    Normal three_of_each_kind
        ["fentry_1", "fentry_2", "fentry_3", "fmod_1", "fmod_2", "fmod_3", "fexit_1", "fexit_2", "fexit_3",
         "session_1", "session_2", "session_3"]
        "Three fentry, fmod_ret, fexit and sessions on one function each run and see the same.";
    Normal detach_any_one ["fentry_1", "fmod_1", "fexit_1", "session_1", "session_2"]
        "Whichever of several programs is detached, the others go on.";
    Normal filled_up ["one_arg"]
        "A function takes as many links as BTF says, a session counting twice: one place takes a fentry only, none nothing.";
    Normal filled_up_with_cookies ["identified", "with_ip"]
        "As many sessions with session cookie, attach cookie and func_ip as fit: none sees the cookie of another.";
    Normal filled_up_with_all_kinds ["around_body"]
        "fentry, fmod_ret, fexit and sessions share the links of a function: with one left, a session is refused.";
    Normal same_program_twice ["one_arg"] "Attaching a session twice to its function is refused with -EBUSY.";
    Normal plain_program_twice ["fentry_1", "fmod_1", "fexit_1", "session_1"]
        "Beside a session, attaching a fentry, fmod_ret or fexit program twice is refused with -EBUSY.";
    Normal order_after_detach ["cookie_1", "cookie_2", "cookie_3"]
        "A session that was detached and attached again is the first of all at both sides.";
    Normal lsm_hook ["lsm_int", "session_on_lsm_int", "cookie_on_lsm_int", "fexit_on_lsm_int"] needs SessionsAndLsm
        "LSM programs beside sessions on a hook that returns an int have the right helpers, and their value is seen at exit.";
    Normal lsm_void_hook ["lsm_void", "session_on_lsm_void", "cookie_on_lsm_void", "fexit_on_lsm_void"]
        needs SessionsAndLsm
        "LSM programs behind the exit runs of sessions, on a hook that returns nothing, have the right helpers.";
    Normal target_with_tail_calls []
        "A session on a BPF program that tail calls itself, or on its subprogram, runs as often as that and does not disturb it.";
    Normal second_program_with_tail_calls []
        "A second session for a BPF program with tail calls attaches, and the first can be detached.";
    Normal exception_through_fentry ["throwing_target"]
        "An exception passes through a BPF program that has an fentry program.";
    Normal exception_through_fexit ["throwing_target"]
        "An exception passes through a BPF program that has an fexit program, which then does not run.";
    Normal exception_through_session ["throwing_target"]
        "An exception passes through a BPF program that has a session, whose exit then does not run.";
    Normal on_extension ["target_program"]
        "A session on an extension runs when that replaces a function of a BPF program.";
    Normal with_kprobe ["on_kprobe", "one_arg"] "A kprobe and a session on one function both run.";
    Normal with_kretprobe ["on_kretprobe", "one_arg"] "A kretprobe and a session on one function both run.";
    Normal with_kprobe_session ["on_kprobe_session", "cookie_1"]
        "A kprobe session and a session on one function both run and have a cookie each.";
    Normal with_function_tracer ["one_arg"] "A session runs while the function tracer is off, on and off again.";
    Normal on_fentry_program ["plain_fentry"] "A session on a fentry program runs when that does.";
    Normal nested_session_refused ["plain_fentry", "no_kfunc"]
        "A session on a session on another program, fentry or session, is refused when it is loaded.";
    Normal not_with_freplace ["target_program"]
        "freplace and a session on one function of a BPF program exclude each other with -EBUSY, either way.";
}

fn three_kinds_every_order(t: &mut Context) -> Result<(), String> {
    const PROGRAMS: [&str; 3] = ["plain_fentry", "plain_fexit", "one_arg"];
    let mut attached = Attached::default();
    for order in walk(PROGRAMS.len()) {
        attached.become_order(t, &PROGRAMS, &order)?;
        t.reset();
        t.call_fentry_tests()?;
        let names: Vec<&str> = order.iter().map(|&n| PROGRAMS[n]).collect();
        let (seen, who) = (t.seen(), names.join(", "));
        let runs = [
            seen.plain_fentry_seen,
            seen.plain_fexit_seen,
            seen.one_arg_seen[ENTRY],
            seen.one_arg_seen[EXIT],
        ];
        t.checks.same(format!("{who}: runs"), runs.map(|seen| seen.runs), [1; 4]);
        t.checks.eq(format!("{who}: value seen by fexit"), seen.plain_fexit_seen.func_ret as i32, 2);
        t.checks.eq(format!("{who}: value seen by the session"), seen.one_arg_seen[EXIT].ret as i32, 2);
        let at_entry = seen.plain_fentry_seen.order.max(seen.one_arg_seen[ENTRY].order);
        let at_exit = seen.plain_fexit_seen.order.min(seen.one_arg_seen[EXIT].order);
        t.checks.eq(format!("{who}: last place at entry"), at_entry, 2);
        t.checks.eq(format!("{who}: first place at exit"), at_exit, 3);
    }
    Ok(())
}

fn order_of_sessions(t: &mut Context) -> Result<(), String> {
    let programs = ["cookie_2", "cookie_3", "cookie_1"];
    let _links = programs.iter().map(|name| t.attach(name)).collect::<Result<Vec<_>, _>>()?;
    t.call_fentry_tests()?;
    let seen = t.seen();
    let in_order = [seen.cookie_2_seen, seen.cookie_3_seen, seen.cookie_1_seen];
    t.checks.same(
        "places at entry, in order of attaching",
        in_order.map(|seen| seen[ENTRY].order),
        [3, 2, 1],
    );
    t.checks.same("places at exit, in order of attaching", in_order.map(|seen| seen[EXIT].order), [6, 5, 4]);
    Ok(())
}

fn override_seen_at_exit(t: &mut Context) -> Result<(), String> {
    const VALUE: i32 = -77;
    let _links = (t.attach("session_1")?, t.attach("override_value")?, t.attach("fexit_1")?);
    t.reset();
    t.session.set(|globals| globals.override_with = VALUE);
    let got = t.call_modify_return_tests()?;
    let seen = t.seen();
    t.checks.eq("fmod_ret runs", seen.override_seen.runs, 1);
    t.checks.eq("value at entry", seen.session_1_seen[ENTRY].func_ret, 0);
    t.checks.eq("value at exit", seen.session_1_seen[EXIT].func_ret as i32, VALUE);
    t.checks.eq("cookie at exit", seen.session_1_seen[EXIT].cookie, seen.session_1_seen[ENTRY].order);
    t.checks.eq("value seen by fexit", seen.fexit_1_seen.func_ret as i32, VALUE);
    // bpf_modify_return_test2 still runs, changes b and returns 29.
    t.checks.eq("calls that changed b", got >> 16, 1);
    t.checks.eq("sum of the values", (got & 0xffff) as i16, (VALUE + 29) as i16);
    Ok(())
}

fn override_without_cookie(t: &mut Context) -> Result<(), String> {
    const VALUE: i32 = -88;
    let _links = (t.attach("around_body")?, t.attach("override_value")?);
    for _ in 0..2 {
        t.reset();
        t.session.set(|globals| globals.override_with = VALUE);
        let got = t.call_modify_return_tests()?;
        let seen = t.seen().body_seen;
        t.checks.eq("fmod_ret runs", t.seen().override_seen.runs, 1);
        t.checks.same("runs at entry and at exit", seen.map(|seen| seen.runs), [1, 1]);
        t.checks.same("*b at both", seen.map(|seen| seen.value), [2, 2]);
        t.checks.same("value at both", seen.map(|seen| seen.ret as i32), [0, VALUE]);
        t.checks.eq("sum of the values", (got & 0xffff) as i16, (VALUE + 29) as i16);
    }
    Ok(())
}

fn order_after_detach(t: &mut Context) -> Result<(), String> {
    let programs = ["cookie_1", "cookie_2", "cookie_3"];
    let mut links = programs.iter().map(|name| t.attach(name).map(Some)).collect::<Result<Vec<_>, _>>()?;
    // The place of each, once this one was detached and attached again.
    for (moved, places) in [(1, [3, 1, 2]), (0, [1, 2, 3]), (0, [1, 2, 3]), (2, [2, 3, 1])] {
        links[moved] = None;
        links[moved] = Some(t.attach(programs[moved])?);
        t.reset();
        t.call_fentry_tests()?;
        let seen = t.seen();
        let all = [seen.cookie_1_seen, seen.cookie_2_seen, seen.cookie_3_seen];
        let again = programs[moved];
        t.checks.same(format!("{again} again: places at entry"), all.map(|seen| seen[ENTRY].order), places);
        let at_exit = all.map(|seen| seen[EXIT].order);
        t.checks.same(format!("{again} again: places at exit"), at_exit, places.map(|place| place + 3));
    }
    Ok(())
}

fn plain_program_twice(t: &mut Context) -> Result<(), String> {
    const PROGRAMS: [&str; 4] = ["fentry_1", "fmod_1", "fexit_1", "session_1"];
    let _links = PROGRAMS.iter().map(|name| t.attach(name)).collect::<Result<Vec<_>, _>>()?;
    for program in PROGRAMS {
        t.refused(&format!("attaching {program} again"), program, Errno::EBUSY)?;
    }
    t.reset();
    t.call_modify_return_tests()?;
    let seen = t.seen();
    let session = seen.session_1_seen;
    t.checks.same(
        format!("runs of {}", PROGRAMS.join(", ")),
        [
            seen.fentry_1_seen.runs,
            seen.fmod_1_seen.runs,
            seen.fexit_1_seen.runs,
            session[ENTRY].runs,
            session[EXIT].runs,
        ],
        [1; 5],
    );
    Ok(())
}

fn three_of_each_kind(t: &mut Context) -> Result<(), String> {
    let mut links = Vec::new();
    for n in 1..=3 {
        for kind in ["session", "fexit", "fmod", "fentry"] {
            links.push(t.attach(&format!("{kind}_{n}"))?);
        }
    }
    t.reset();
    t.call_modify_return_tests()?;
    let seen = t.seen();
    let entry = [seen.fentry_1_seen, seen.fentry_2_seen, seen.fentry_3_seen];
    let fmod = [seen.fmod_1_seen, seen.fmod_2_seen, seen.fmod_3_seen];
    let exit = [seen.fexit_1_seen, seen.fexit_2_seen, seen.fexit_3_seen];
    let sessions = [seen.session_1_seen, seen.session_2_seen, seen.session_3_seen];
    for (kind, seen) in [("fentry", entry), ("fmod_ret", fmod), ("fexit", exit)] {
        t.checks.same(format!("{kind}: runs"), seen.map(|seen| seen.runs), [1; 3]);
        t.checks.same(format!("{kind}: argument"), seen.map(|seen| seen.arg[0] as u32), [1; 3]);
    }
    t.checks.same("fexit: value", exit.map(|seen| seen.func_ret as i32), [4; 3]);
    for (at, name, value) in [(ENTRY, "entry", 0), (EXIT, "exit", 4)] {
        t.checks.same(format!("sessions, {name}: runs"), sessions.map(|seen| seen[at].runs), [1; 3]);
        t.checks.same(
            format!("sessions, {name}: argument"),
            sessions.map(|seen| seen[at].arg[0] as u32),
            [1; 3],
        );
        t.checks.same(
            format!("sessions, {name}: value"),
            sessions.map(|seen| seen[at].func_ret as i32),
            [value; 3],
        );
    }
    let given = sessions.map(|seen| seen[ENTRY].order);
    t.checks.same("sessions: cookies at exit", sessions.map(|seen| seen[EXIT].cookie), given);
    Ok(())
}

fn detach_any_one(t: &mut Context) -> Result<(), String> {
    const PROGRAMS: [&str; 5] = ["fentry_1", "session_1", "fmod_1", "session_2", "fexit_1"];
    let mut links = PROGRAMS.iter().map(|name| t.attach(name).map(Some)).collect::<Result<Vec<_>, _>>()?;
    for gone in 0..PROGRAMS.len() {
        links[gone] = None;
        t.reset();
        t.call_modify_return_tests()?;
        let seen = t.seen();
        let runs = [
            seen.fentry_1_seen.runs,
            seen.session_1_seen[ENTRY].runs + seen.session_1_seen[EXIT].runs,
            seen.fmod_1_seen.runs,
            seen.session_2_seen[ENTRY].runs + seen.session_2_seen[EXIT].runs,
            seen.fexit_1_seen.runs,
        ];
        let mut expected = [1, 2, 1, 2, 1];
        expected[gone] = 0;
        t.checks.same(format!("runs of {} without {}", PROGRAMS.join(", "), PROGRAMS[gone]), runs, expected);
        links[gone] = Some(t.attach(PROGRAMS[gone])?);
    }
    Ok(())
}

/// Checks that the first program still runs in a call.
fn first_goes_on(t: &mut Context) -> Result<(), String> {
    t.reset();
    t.call_fentry_tests()?;
    let seen = t.seen().one_arg_seen;
    t.checks.same("runs of the first session in a call", (seen[ENTRY].runs, seen[EXIT].runs), (1, 1));
    t.checks.eq("value seen by the first session", seen[EXIT].ret as i32, 2);
    Ok(())
}

fn same_program_twice(t: &mut Context) -> Result<(), String> {
    let link = t.attach("one_arg")?;
    t.refused("attaching it again", "one_arg", Errno::EBUSY)?;
    first_goes_on(t)?;
    drop(link);
    let _link = t.attach("one_arg")?;
    first_goes_on(t)
}

fn with_kprobe(t: &mut Context) -> Result<(), String> {
    for probe_first in [true, false] {
        let _links = both(t, "on_kprobe", probe_first)?;
        first_goes_on(t)?;
        t.checks.eq("kprobe runs", t.seen().kprobe_seen.runs, 1);
    }
    Ok(())
}

fn with_kretprobe(t: &mut Context) -> Result<(), String> {
    for probe_first in [true, false] {
        let _links = both(t, "on_kretprobe", probe_first)?;
        first_goes_on(t)?;
        t.checks.eq("kretprobe runs", t.seen().kretprobe_seen.runs, 1);
    }
    Ok(())
}

/// Attaches a probe and the session, in either order.
fn both(t: &Context, probe: &str, probe_first: bool) -> Result<(bpf::Probe, Link), String> {
    if probe_first {
        return Ok((t.session.attach_probe(probe)?, t.attach("one_arg")?));
    }
    let link = t.attach("one_arg")?;
    Ok((t.session.attach_probe(probe)?, link))
}

fn with_kprobe_session(t: &mut Context) -> Result<(), String> {
    const GIVEN: u64 = 0x77;
    let _links = (t.session.attach_probe("on_kprobe_session")?, t.attach("cookie_1")?);
    t.reset();
    t.session.set(|globals| globals.give = [GIVEN; 5]);
    t.call_fentry_tests()?;
    let seen = t.seen();
    for (who, seen, given) in
        [("session", seen.cookie_1_seen, GIVEN), ("kprobe session", seen.kprobe_session_seen, 0xabcdef)]
    {
        t.checks.same(format!("{who}: runs"), (seen[ENTRY].runs, seen[EXIT].runs), (1, 1));
        t.checks.hex(format!("{who}: cookie at exit"), seen[EXIT].cookie, given);
    }
    Ok(())
}

fn with_function_tracer(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("one_arg")?;
    first_goes_on(t)?;
    // A single function: switching the tracing of all of them takes seconds when emulated.
    set_tracing("set_ftrace_filter", "bpf_fentry_test1")?;
    let traced = set_tracing("current_tracer", "function");
    let with = first_goes_on(t);
    let trace = std::fs::read_to_string(Path::new(TRACING).join("trace")).unwrap_or_default();
    // Regardless of the result: nothing may stay enabled for the next subtest.
    let off = set_tracing("current_tracer", "nop").and(set_tracing("set_ftrace_filter", ""));
    traced.and(with).and(off)?;
    let lines = trace.lines().filter(|line| line.contains("bpf_fentry_test1")).count();
    t.checks.eq("calls in the function tracer's buffer", lines, 1);
    first_goes_on(t)
}

const TRACING: &str = "/sys/kernel/tracing";

fn set_tracing(file: &str, value: &str) -> Result<(), String> {
    let path = Path::new(TRACING).join(file);
    std::fs::write(&path, value).map_err(|err| format!("write {value:?} to {}: {err}", path.display()))
}

/// Loads the session `name` for a BPF program.
fn load_on(name: &str, target: RawFd, function: &CStr) -> Result<Result<Session, Errno>, String> {
    let mut object = Unloaded::open()?;
    object.set_target(name, target, function)?;
    object.choose(name)?;
    Ok(object.load())
}

/// Loads a session for the fentry program.
fn load_on_fentry(t: &Context) -> Result<Session, String> {
    load_on("on_tracing_program", t.session.fd("plain_fentry")?, c"plain_fentry")?
        .map_err(|errno| format!("load a session on a fentry program: {errno}"))
}

fn on_fentry_program(t: &mut Context) -> Result<(), String> {
    let session = load_on_fentry(t)?;
    session.reset(std::process::id());
    let _links = (
        session
            .attach("on_tracing_program", 0)?
            .map_err(|errno| format!("attach to a fentry program: {errno}"))?,
        t.attach("plain_fentry")?,
    );
    t.call_fentry_tests()?;
    let seen = session.globals().on_tracing_seen;
    t.checks.eq("runs of the fentry program", t.seen().plain_fentry_seen.runs, 1);
    t.checks.same("runs of the session on it", (seen[ENTRY].runs, seen[EXIT].runs), (1, 1));
    Ok(())
}

fn nested_session_refused(t: &mut Context) -> Result<(), String> {
    let on_a_session = load_on("on_tracing_program", t.session.fd("no_kfunc")?, c"no_kfunc")?
        .map_err(|errno| format!("load a session on a session: {errno}"))?;
    for (what, first) in [("an fentry program", load_on_fentry(t)?), ("a session", on_a_session)] {
        bpf::take_log();
        let second = load_on("on_session", first.fd("on_tracing_program")?, c"on_tracing_program")?;
        let log = bpf::take_log();
        let seen = second.map_or_else(|errno| errno.to_string(), |_| "loaded".to_owned());
        t.checks.eq(format!("loading a session on a session on {what}"), seen, Errno::EINVAL.to_string());
        let line = log.lines().find(|line| line.contains("Cannot nest"));
        t.checks.state("the verifier", "Cannot nest ..", line.unwrap_or("no such line"), line.is_some());
    }
    Ok(())
}

fn not_with_freplace(t: &mut Context) -> Result<(), String> {
    for (first, second) in [("on_replaceable", "replacement"), ("replacement", "on_replaceable")] {
        // Loaded anew for each order: a program whose target is a BPF program attaches only once.
        let mut object = Unloaded::open()?;
        for program in [first, second] {
            object.set_target(program, t.session.fd("target_program")?, c"replaceable")?;
            object.choose(program)?;
        }
        let session = object.load().map_err(|errno| format!("load {first} and {second}: {errno}"))?;
        session.reset(std::process::id());
        let _link = session.attach(first, 0)?.map_err(|errno| format!("attach {first}: {errno}"))?;
        let seen =
            session.attach(second, 0)?.map_or_else(|errno| errno.to_string(), |_| "attached".to_owned());
        t.checks.eq(format!("attaching {second} where {first} is"), seen, Errno::EBUSY.to_string());
        let (value, runs) = if first == "replacement" { (43, [0, 0]) } else { (42, [1, 1]) };
        t.checks.eq(format!("value with {first}"), t.session.test_run("target_program")?, value);
        let seen = session.globals().on_replaceable_seen;
        t.checks.same(format!("runs with {first}"), seen.map(|seen| seen.runs), runs);
    }
    Ok(())
}
