// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answers of a kernel that cannot run sessions, or not all of them: no such attach type, no JIT, the JIT
//! disabled. On a kernel that can, the same programs must load and run.
//!
//! Only here does a subtest declare itself a skip: after it has checked that the rejection is exactly the
//! documented one.

use super::{Context, Subtest, subtests};
use crate::bpf::{self, Copy, ENOTSUPP, Kind, Refusal, errno_text};
use crate::features::{FSESSION, RCU_KFUNCS};
use crate::support::{self, NO_KFUNC, Support};

subtests! { "unsupported":
    Quick minimal_session [] needs Nothing
        "A session that does nothing loads, or is refused in the one way that is documented for this kernel.";
    Normal compiled_or_interpreted ["no_kfunc"] needs PlainSessions
        "A session that calls no kfunc runs twice a call, compiled or interpreted as the sysctl says.";
    Normal kfunc_without_jit [] needs Nothing
        "A kfunc call is refused without a JIT, in a session as in a plain fentry program, and loads with one.";
}

fn minimal_session(t: &mut Context) -> Result<(), String> {
    let answer = bpf::load_minimal(Kind::Fsession, t.features.target_id()?, &[]);
    let expected = support::expected_of_session(t.features);
    let support = support::plain_sessions(t.features)?;
    t.checks.state(
        "loading a session that does nothing",
        expected,
        describe(&answer),
        !matches!(support, Support::Broken(..)),
    );
    skip_without(t, support);
    Ok(())
}

/// The checks so far are all that this kernel can show.
fn skip_without(t: &mut Context, support: Support) {
    if let Support::No(reason) = support {
        t.checks.skip(reason);
    }
}

fn describe(answer: &Result<Copy, Refusal>) -> String {
    answer.as_ref().map_or_else(Refusal::to_string, |_| "loaded".to_owned())
}

fn compiled_or_interpreted(t: &mut Context) -> Result<(), String> {
    let name = |jited: bool| if jited { "compiled" } else { "interpreted" };
    let jited = t.session.is_jited("no_kfunc")?;
    t.checks.eq(
        format!("the program, when {}", t.features.jit_state()),
        name(jited),
        name(t.features.jit_is_on()),
    );
    let _link = t.attach("no_kfunc")?;
    t.call_fentry_tests()?;
    t.checks.eq("runs after one call", t.seen().no_kfunc_seen.runs, 2);
    Ok(())
}

fn kfunc_without_jit(t: &mut Context) -> Result<(), String> {
    // Kfuncs that any program may call: the session kfuncs would be rejected in fentry for another reason.
    let kfuncs = RCU_KFUNCS.map(|name| t.features.func_id(name));
    let [lock, unlock] = kfuncs;
    let kfuncs = [lock?, unlock?];
    kfunc_call(t, "fentry", Kind::Fentry, &kfuncs)?;
    // Without the attach type, or with a JIT that does not support it, a session is rejected for that reason.
    let support = support::plain_sessions(t.features)?;
    match support {
        Support::Yes => kfunc_call(t, "fsession", Kind::Fsession, &kfuncs),
        Support::No(_) => {
            skip_without(t, support);
            Ok(())
        }
        Support::Broken(reason, log) => Err(format!("{FSESSION}: {reason} {log}")),
    }
}

/// Checks the result of loading a program with a kfunc call.
fn kfunc_call(t: &mut Context, what: &str, kind: Kind, kfuncs: &[u32]) -> Result<(), String> {
    let answer = bpf::load_minimal(kind, t.features.target_id()?, kfuncs);
    let (expected, ok) = match (t.features.jit_is_on(), &answer) {
        (true, answer) => ("loaded".to_owned(), answer.is_ok()),
        (false, answer) => (
            format!("{} and {NO_KFUNC:?}", errno_text(ENOTSUPP)),
            answer.as_ref().is_err_and(support::is_without_jit),
        ),
    };
    let state = t.features.jit_state();
    t.checks.state(format!("a kfunc call in {what}, when {state}"), expected, describe(&answer), ok);
    Ok(())
}
