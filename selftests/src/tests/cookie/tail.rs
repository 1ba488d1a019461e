// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tail calls from session to session: a callee has the place of the attached program's cookie.

use super::{Context, ENTRY, EXIT};
use crate::tests::{load_apart, told};
use nix::errno::Errno;

const KNOWN_BUG: &str = "mainline lets a session without a cookie tail call one with a cookie, whose slot is then argument 0 \
     (docs/findings/tail-call-into-cookie.md)";

pub fn tail_call_between_equals(t: &mut Context) -> Result<(), String> {
    for (map, callee) in [(c"cookie_callees", "cookie_callee"), (c"plain_callees", "plain_callee")] {
        let answer = told(&t.session.set_callee_of(map, callee)?, "accepted");
        t.checks.eq(format!("{callee} in the array of its equals"), answer, "accepted".to_owned());
    }
    let _links = (t.attach("cookie_caller")?, t.attach("plain_caller")?);
    t.call_fentry_tests()?;
    let seen = t.seen();
    for (who, seen) in [
        ("caller with a cookie", seen.cookie_caller_seen),
        ("its callee", seen.cookie_callee_seen),
        ("caller without", seen.plain_caller_seen),
        ("its callee", seen.plain_callee_seen),
    ] {
        t.checks.same(format!("{who}: runs"), seen.map(|seen| seen.runs), [1, 1]);
        t.checks.same(
            format!("{who}: runs that went on after the call"),
            seen.map(|seen| seen.value),
            [0, 0],
        );
    }
    for (who, seen) in [("with a cookie", seen.cookie_callee_seen), ("without", seen.plain_callee_seen)] {
        t.checks.same(format!("callee {who}: argument"), seen.map(|seen| seen.arg[0] as u32), [1, 1]);
        t.checks.same(format!("callee {who}: value"), seen.map(|seen| seen.ret as i32), [0, 2]);
    }
    let cookies = |at: usize| [seen.cookie_caller_seen[at].cookie, seen.cookie_callee_seen[at].cookie];
    t.checks.same("cookie of caller and callee at entry", cookies(ENTRY), [0, 0x10]);
    t.checks.same("cookie of caller and callee at exit", cookies(EXIT), [0x110, 0x120]);
    Ok(())
}

/// What a program without a cookie meets in an array whose programs have one. The other way round is refused
/// by the kernels that compare; elsewhere it is harmless.
fn harmless(t: &Context, done: &str) -> String {
    match t.profile.compares_cookies_of_callees {
        Some(false) => done.to_owned(),
        Some(true) | None => Errno::EINVAL.to_string(),
    }
}

pub fn plain_callee_of_cookie_caller(t: &mut Context) -> Result<(), String> {
    let answer = t.session.set_callee_of(c"cookie_callees", "plain_callee")?;
    let expected = harmless(t, "accepted");
    t.checks.eq("a session without a cookie as callee", told(&answer, "accepted"), expected);
    let _link = t.attach("cookie_caller")?;
    t.call_fentry_tests()?;
    let (caller, callee) = (t.seen().cookie_caller_seen, t.seen().plain_callee_seen);
    let went_on = u64::from(answer.is_err());
    t.checks.same("runs of the caller", caller.map(|seen| seen.runs), [1, 1]);
    t.checks.same("those that went on after the call", caller.map(|seen| seen.value), [went_on; 2]);
    t.checks.same("runs of the callee", callee.map(|seen| seen.runs), [1 - went_on; 2]);
    t.checks.same("cookie of the caller", caller.map(|seen| seen.cookie), [0, 0x10]);
    Ok(())
}

pub fn tail_call_refused_at_load(t: &mut Context) -> Result<(), String> {
    let compares = t.profile.compares_cookies_of_callees;
    for (map, owner, user) in [
        (c"plain_callees", "plain", "plain_user"),
        (c"cookie_callees", "cookie", "cookie_user"),
        (c"plain_callees", "plain", "cookie_user"),
        (c"cookie_callees", "cookie", "plain_user"),
    ] {
        let fd = t.session.map_fd(map)?;
        let loaded = load_apart(|object| {
            object.reuse_map(c"plain_callees", fd)?;
            object.choose(user)
        })?;
        let seen =
            loaded.map_or_else(|refusal| Errno::from_raw(refusal.errno).to_string(), |_| "loaded".into());
        let expected = match (user.starts_with(owner), owner) {
            (true, _) => "loaded".to_owned(),
            (false, "plain") => harmless(t, "loaded"),
            (false, _) => Errno::EINVAL.to_string(),
        };
        let bug = (compares == Some(false) && user == "plain_user").then_some(KNOWN_BUG);
        let ok = seen == expected;
        t.checks.state_with_bug(bug, format!("{user}, with callees of {owner} callers"), expected, seen, ok);
    }
    Ok(())
}

pub fn callee_of_another_function(t: &mut Context) -> Result<(), String> {
    for (map, callee) in
        [(c"cookie_callees", "cookie_callee_of_two"), (c"plain_callees", "plain_callee_of_two")]
    {
        let answer = t.session.set_callee_of(map, callee)?;
        t.checks.eq(format!("{callee} as callee"), told(&answer, "accepted"), Errno::EINVAL.to_string());
    }
    let _links = (t.attach("cookie_caller")?, t.attach("plain_caller")?);
    t.call_fentry_tests()?;
    for (who, seen) in
        [("with a cookie", t.seen().cookie_caller_seen), ("without", t.seen().plain_caller_seen)]
    {
        t.checks.same(format!("caller {who}: runs"), seen.map(|seen| seen.runs), [1, 1]);
        t.checks.same(format!("caller {who}: runs after the call"), seen.map(|seen| seen.value), [1, 1]);
    }
    Ok(())
}

pub fn callee_of_another_type(t: &mut Context) -> Result<(), String> {
    for (map, callee, expected) in [
        (c"fentry_callees", "plain_callee", Err(Errno::EINVAL)),
        (c"plain_callees", "fentry_callee", Err(Errno::EINVAL)),
        (c"fentry_callees", "fentry_callee", Ok(())),
    ] {
        let answer = t.session.set_callee_of(map, callee)?;
        let what = format!("{callee} in {}", map.to_string_lossy());
        t.checks.eq(what, told(&answer, "accepted"), told(&expected, "accepted"));
    }
    let _links = (t.attach("fentry_caller")?, t.attach("plain_caller")?);
    t.call_fentry_tests()?;
    let seen = t.seen();
    let fentry = (seen.fentry_caller_seen.runs, seen.fentry_callee_seen.runs, seen.fentry_caller_seen.value);
    t.checks.same("fentry: runs of caller and callee, and after the call", fentry, (1, 1, 0));
    let caller = seen.plain_caller_seen;
    t.checks.same("session: runs", caller.map(|seen| seen.runs), [1, 1]);
    t.checks.same("session: runs after the call", caller.map(|seen| seen.value), [1, 1]);
    Ok(())
}
