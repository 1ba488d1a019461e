// SPDX-License-Identifier: MIT OR Apache-2.0
//! The session cookie: eight separate bytes for each program and call, preserved from the entry run to the
//! exit run.

mod code;
mod tail;

use super::{Attached, Context, ENTRY, EXIT, Subtest, subtests, walk};
use crate::bpf::{self, Globals, Seen, Unloaded};
use code::*;
use nix::errno::Errno;
use std::fs::File;
use tail::*;

subtests! { "cookie":
    Quick reaches_exit ["cookie_1"] "What the entry run writes the exit run reads.";
    Normal zero_at_entry ["cookie_1"] "The cookie is 0 at each of 1,000 entries, although every exit leaves all ones.";
    Normal all_64_bits ["cookie_1"] "Each single bit of the cookie reaches the exit run, and no other does.";
    Normal attach_order ["cookie_1", "cookie_2", "cookie_3", "cookie_4"]
        "Four sessions have a cookie each, in every order of attaching.";
    Normal among_sessions_without ["cookie_1", "cookie_2", "one_arg", "no_kfunc"]
        "Sessions with and without a cookie do not disturb each other, in every order of attaching two and two.";
    Quick dead_calls ["cookie_1", "cookie_2", "cookie_3", "cookie_4", "dead_call_1", "dead_call_2"]
        "A session whose calls of the kfunc are dead code takes no cookie.";
    Normal fifth_session ["cookie_1", "cookie_2", "cookie_3", "cookie_4", "cookie_5"]
        "A fifth session with a cookie is refused or has its own, as this kernel's profile says.";
    Normal detach_in_every_place ["cookie_1", "cookie_2", "cookie_3", "cookie_4"]
        "When any one of four is detached, the others keep their cookies, and it comes back with an empty one.";
    Normal beside_stack_arguments ["cookie_stack_args"] "The cookie of a function with arguments on the stack.";
    Normal of_void_function ["cookie_void"] "The cookie of a function that returns nothing.";
    Normal of_two_functions ["cookie_1", "cookie_other_function"] "Sessions on two functions have a cookie each.";
    Normal sleepable_session ["cookie_sleepable"] "A sleepable session has a cookie.";
    Normal among_plain_programs ["cookie_1", "plain_fentry", "plain_fexit"]
        "fentry and fexit on the same function leave the cookie alone.";
    Normal second_word_refused [] "Writing behind the cookie is refused when the program is loaded.";
    Normal word_before_refused [] "Writing in front of the cookie is refused when the program is loaded.";
    Normal tail_call_refused ["tail_caller", "cookie_1", "plain_fexit"]
        "A session with a cookie is refused as callee of a session without one, whose argument it would change.";
    Normal tail_call_between_equals ["cookie_caller", "cookie_callee", "plain_caller", "plain_callee"]
        "A session can tail call one of its kind, at entry and at exit; both share one cookie if they have one.";
    Normal plain_callee_of_cookie_caller ["cookie_caller", "plain_callee"]
        "A session without a cookie is refused as callee of one with a cookie, where the kernel compares them.";
    Normal tail_call_refused_at_load ["cookie_caller", "plain_caller"]
        "A session is refused when it is loaded with an array whose callees it must not call.";
    Normal callee_of_another_type ["fentry_caller", "fentry_callee", "plain_caller", "plain_callee"]
        "fentry programs and sessions are refused as callees of each other.";
    Normal callee_of_another_function ["cookie_caller", "cookie_callee_of_two", "plain_caller", "plain_callee_of_two"]
        "A session for a function with other arguments is refused as callee, with and without a cookie.";
    Normal only_in_static_subprogram ["only_in_static"]
        "A session whose static subprogram alone asks for the cookie has one.";
    Normal in_callback ["in_loop"] "The cookie can be changed in a callback of bpf_loop(), in two ways.";
    Normal beside_big_frames ["big_stack"] "Two big stack frames leave the cookie alone, and it leaves them alone.";
    Normal without_func_ip ["no_ip_1", "no_ip_2", "no_ip_3", "no_ip_4", "ip_of_3"]
        "Four cookies on a target are right with and without a program that asks for its address.";
    Normal place_of_a_detached_one
        ["cookie_1", "cookie_2", "cookie_3", "cookie_4", "cookie_5", "cookie_other_function"]
        "Sessions that were refused take no place, one that is detached leaves its own, and each target has its own.";
}

/// The value for each session, by index.
const GIVE: [u64; 5] = [0x1111_2222_3333_4444, u64::MAX, 1, 0x8000_0000_0000_0001, 0xfedc_ba98_7654_3210];
const SESSIONS: [&str; 5] = ["cookie_1", "cookie_2", "cookie_3", "cookie_4", "cookie_5"];

/// Clears the records and sets what the sessions leave for their exit runs.
fn give(t: &Context, values: [u64; 5]) {
    t.reset();
    t.session.set(|globals| globals.give = values);
}

/// The records of each session, by index.
fn seen_by(globals: &Globals) -> [[Seen; 2]; 5] {
    [
        globals.cookie_1_seen,
        globals.cookie_2_seen,
        globals.cookie_3_seen,
        globals.cookie_4_seen,
        globals.cookie_5_seen,
    ]
}

/// Calls the target once, and checks that each of the sessions (by index) ran and found its own value at
/// exit.
fn each_has_its_own(t: &mut Context, when: &str, sessions: &[usize]) -> Result<(), String> {
    give(t, GIVE);
    t.call_fentry_tests()?;
    let seen = seen_by(&t.seen());
    for &n in sessions {
        is_right(t, &format!("{when}: {}", SESSIONS[n]), &seen[n], GIVE[n]);
    }
    Ok(())
}

/// Checks that a session ran once, and found an empty cookie at entry and `value` at exit.
fn is_right(t: &mut Context, who: &str, seen: &[Seen; 2], value: u64) {
    t.checks.same(format!("{who}: runs"), (seen[ENTRY].runs, seen[EXIT].runs), (1, 1));
    t.checks.hex(format!("{who}: cookie at entry"), seen[ENTRY].cookie, 0);
    t.checks.hex(format!("{who}: cookie at exit"), seen[EXIT].cookie, value);
}

fn reaches_exit(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("cookie_1")?;
    each_has_its_own(t, "first call", &[0])?;
    each_has_its_own(t, "second call", &[0])
}

fn zero_at_entry(t: &mut Context) -> Result<(), String> {
    const CALLS: u64 = 1_000;
    let _link = t.attach("cookie_1")?;
    give(t, [u64::MAX; 5]);
    for _ in 0..CALLS {
        t.call_fentry_tests()?;
    }
    let seen = t.seen().cookie_1_seen;
    t.checks.same("runs", (seen[ENTRY].runs, seen[EXIT].runs), (CALLS, CALLS));
    t.checks.eq("entries where it was not 0", seen[ENTRY].value, 0);
    t.checks.eq("exits where it was not what the entry left", seen[EXIT].value, 0);
    Ok(())
}

fn all_64_bits(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("cookie_1")?;
    for bit in 0..64 {
        give(t, [1 << bit; 5]);
        t.call_fentry_tests()?;
        t.checks.hex(format!("bit {bit} at exit"), t.seen().cookie_1_seen[EXIT].cookie, 1 << bit);
    }
    Ok(())
}

fn attach_order(t: &mut Context) -> Result<(), String> {
    let mut attached = Attached::default();
    for order in walk(4) {
        attached.become_order(t, &SESSIONS, &order)?;
        each_has_its_own(t, &format!("order {order:?}"), &order)?;
    }
    Ok(())
}

fn among_sessions_without(t: &mut Context) -> Result<(), String> {
    const PROGRAMS: [&str; 4] = ["cookie_1", "cookie_2", "one_arg", "no_kfunc"];
    let mut attached = Attached::default();
    for order in walk(PROGRAMS.len()) {
        attached.become_order(t, &PROGRAMS, &order)?;
        let when: String = order.iter().map(|&n| if n < 2 { 'C' } else { '-' }).collect();
        each_has_its_own(t, &when, &[0, 1])?;
        let seen = t.seen();
        let runs = (seen.one_arg_seen[ENTRY].runs, seen.one_arg_seen[EXIT].runs, seen.no_kfunc_seen.runs);
        t.checks.same(format!("{when}: runs of those without"), runs, (1, 1, 2));
    }
    Ok(())
}

fn dead_calls(t: &mut Context) -> Result<(), String> {
    let mut links = Vec::new();
    for program in ["cookie_1", "dead_call_1", "cookie_2", "cookie_3", "dead_call_2", "cookie_4"] {
        links.push(t.attach(program)?);
    }
    each_has_its_own(t, "with two dead calls", &[0, 1, 2, 3])?;
    let seen = t.seen();
    for (name, seen) in [("dead_call_1", seen.dead_call_1_seen), ("dead_call_2", seen.dead_call_2_seen)] {
        t.checks.same(format!("{name}: runs"), (seen[ENTRY].runs, seen[EXIT].runs), (1, 1));
    }
    Ok(())
}

fn fifth_session(t: &mut Context) -> Result<(), String> {
    let fits = t.profile.cookie_limit.map_or(4, |limit| limit as usize);
    let mut links = Vec::new();
    for program in &SESSIONS[..fits] {
        links.push(t.attach(program)?);
    }
    let profile = t.profile.cookie_rule();
    if t.profile.cookie_limit.is_some() {
        t.refused(&format!("attaching one more than {fits} ({profile})"), SESSIONS[fits], Errno::E2BIG)?;
        return each_has_its_own(t, "after the refusal", &(0..fits).collect::<Vec<_>>());
    }
    let link = t.session.attach(SESSIONS[fits], 0)?; // kept, so that it stays attached
    let seen = link.as_ref().map_or_else(|errno| errno.to_string(), |_| "attached".to_owned());
    t.checks.eq(format!("attaching one more than {fits} ({profile})"), seen, "attached".to_owned());
    each_has_its_own(t, "with all of them", &(0..=fits).collect::<Vec<_>>())
}

fn detach_in_every_place(t: &mut Context) -> Result<(), String> {
    let mut links = Vec::new();
    for program in &SESSIONS[..4] {
        links.push(Some(t.attach(program)?));
    }
    for gone in 0..4 {
        links[gone] = None;
        let rest: Vec<usize> = (0..4).filter(|&n| n != gone).collect();
        each_has_its_own(t, &format!("without {}", SESSIONS[gone]), &rest)?;
        t.checks.same(
            format!("runs of {} once it is detached", SESSIONS[gone]),
            seen_by(&t.seen())[gone].map(|seen| seen.runs),
            [0, 0],
        );
        links[gone] = Some(t.attach(SESSIONS[gone])?);
        each_has_its_own(t, &format!("with {} again", SESSIONS[gone]), &[0, 1, 2, 3])?;
    }
    Ok(())
}

fn beside_stack_arguments(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("cookie_stack_args")?;
    give(t, GIVE);
    let value = t.call_modify_return_tests()?;
    is_right(t, "session", &t.seen().cookie_stack_args_seen, GIVE[0]);
    t.checks.hex("what the caller got: both changed b, and 4 + 29", value.into(), 0x2_0021);
    Ok(())
}

fn of_void_function(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("cookie_void")?;
    give(t, GIVE);
    // Not dup(2): it is in the same file as fd_install(), which clang inlines there.
    let _file = File::open("/proc/self/exe").map_err(|err| format!("/proc/self/exe: {err}"))?;
    is_right(t, "session", &t.seen().cookie_void_seen, GIVE[1]);
    Ok(())
}

fn of_two_functions(t: &mut Context) -> Result<(), String> {
    let _links = (t.attach("cookie_1")?, t.attach("cookie_other_function")?);
    give(t, GIVE);
    t.call_fentry_tests()?;
    let seen = t.seen();
    is_right(t, "bpf_fentry_test1", &seen.cookie_1_seen, GIVE[0]);
    is_right(t, "bpf_fentry_test2", &seen.cookie_other_function_seen, GIVE[1]);
    Ok(())
}

fn sleepable_session(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("cookie_sleepable")?;
    t.call_fentry_tests()?;
    is_right(t, "session", &t.seen().cookie_sleepable_seen, 0x1_0000_0001);
    Ok(())
}

fn among_plain_programs(t: &mut Context) -> Result<(), String> {
    let _links = (t.attach("plain_fexit")?, t.attach("cookie_1")?, t.attach("plain_fentry")?);
    each_has_its_own(t, "session", &[0])?;
    let seen = t.seen();
    t.checks.eq("fentry runs", seen.plain_fentry_seen.runs, 1);
    t.checks.eq("fexit runs", seen.plain_fexit_seen.runs, 1);
    t.checks.eq("fexit: value", seen.plain_fexit_seen.func_ret as i32, 2);
    Ok(())
}

fn second_word_refused(t: &mut Context) -> Result<(), String> {
    load_is_refused(t, "second_word")
}

fn word_before_refused(t: &mut Context) -> Result<(), String> {
    load_is_refused(t, "word_before")
}

/// Checks that the verifier rejects a program, and that its message names the access.
fn load_is_refused(t: &mut Context, program: &str) -> Result<(), String> {
    let mut object = Unloaded::open()?;
    object.choose(program)?;
    bpf::take_log();
    let seen = object.load().map_or_else(|errno| errno.to_string(), |_| "loaded".to_owned());
    let log = bpf::take_log();
    t.checks.eq(format!("loading {program}"), seen, Errno::EACCES.to_string());
    let line = log.lines().find(|line| line.contains("invalid access to memory")).unwrap_or("no such line");
    t.checks.state(
        "the verifier",
        "invalid access to memory",
        line,
        log.contains("invalid access to memory"),
    );
    Ok(())
}

fn tail_call_refused(t: &mut Context) -> Result<(), String> {
    let answer = t.session.set_callee_of(c"callees", "cookie_1")?;
    if answer.is_ok() && t.profile.compares_cookies_of_callees == Some(false) {
        t.checks.expect_failure(
            "mainline lets a session without a cookie tail call one with a cookie, whose slot is then argument 0 \
             (docs/findings/tail-call-into-cookie.md)",
        );
    }
    let seen = answer.map_or_else(|errno| errno.to_string(), |()| "accepted".to_owned());
    t.checks.eq("a session with a cookie as callee", seen, Errno::EINVAL.to_string());
    // Where the damage is done: the function is called with the cookie instead of its argument.
    let _links = (t.attach("plain_fexit")?, t.attach("tail_caller")?);
    give(t, [0x4000; 5]);
    // The test run checks what its targets return, and fails with -EFAULT.
    let called = t.call_fentry_tests().map_or_else(|err| err, |()| "as it must be".to_owned());
    t.checks.eq("what the caller of bpf_fentry_test1(1) got", called, "as it must be".to_owned());
    let seen = t.seen().plain_fexit_seen;
    t.checks.eq("argument of the function, at exit", seen.arg[0] as u32, 1);
    t.checks.eq("its value, at exit", seen.func_ret as i32, 2);
    Ok(())
}
