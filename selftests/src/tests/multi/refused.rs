// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a session on many functions is refused for. A refusal leaves nothing attached.

use super::{Context, TARGETS, attach, found, ids, load, nothing_stays, runs_in_one_call, told};
use crate::bpf::{self, Kind, Unloaded};
use crate::features::{DENIED, NORETURN, NOTRACE, TARGET};
use crate::insn::{self, CTX, Insn};
use crate::multi::{self, Request};
use nix::errno::Errno;

/// Functions that return a struct; each kernel has one of them.
const RETURN_STRUCT: [&str; 2] = ["tnum_const", "current_time"];
/// The placeholder that such programs are verified for. It exists while the kernel boots.
const PLACEHOLDER: &str = "bpf_multi_func";

/// What cannot have a session: what it is, its ID, the errno.
fn bad_functions() -> Result<Vec<(String, u32, Errno)>, String> {
    let mut names = vec![NORETURN, NOTRACE, PLACEHOLDER, TARGET];
    names.extend(DENIED);
    names.extend(RETURN_STRUCT);
    let known = found(&names)?.funcs;
    let one_of = |names: &[&str]| match names.iter().find(|name| known.contains_key(**name)) {
        Some(name) => Ok((*name).to_owned()),
        None => Err(format!("BTF has none of {}", names.join(", "))),
    };
    let mut bad = Vec::new();
    for (what, name, errno) in [
        ("which never returns", one_of(&[NORETURN])?, Errno::EINVAL),
        ("which trampolines themselves call", one_of(&DENIED)?, Errno::EINVAL),
        ("which returns a struct", one_of(&RETURN_STRUCT)?, Errno::EINVAL),
        ("which cannot be traced", one_of(&[NOTRACE])?, Errno::ENOENT),
        ("which is a placeholder", one_of(&[PLACEHOLDER])?, Errno::ENOENT),
    ] {
        bad.push((format!("{name}, {what}"), known[&name].id, errno));
    }
    let proto = known.get(TARGET).ok_or_else(|| format!("BTF has no function {TARGET}"))?.proto;
    bad.push(("a prototype, which is not a function".to_owned(), proto, Errno::EINVAL));
    bad.push(("id 0".to_owned(), 0, Errno::EINVAL));
    bad.push(("an id that does not exist".to_owned(), u32::MAX, Errno::EINVAL));
    Ok(bad)
}

pub fn function_refused(t: &mut Context) -> Result<(), String> {
    let (program, good) = (load(t, "multi_1")?, ids([TARGETS[0], TARGETS[1]])?);
    let mut bad = bad_functions()?;
    bad.push(("a function that is named twice".to_owned(), good[0], Errno::EINVAL));
    for (what, id, errno) in bad {
        for set in [[good[0], good[1], id], [id, good[0], good[1]]] {
            let link = multi::attach(&program, &set, None);
            let place = if set[0] == id { "before" } else { "after" };
            t.checks.eq(format!("{what}, {place} two others"), told(&link), errno.to_string());
        }
        nothing_stays(t, &what, &program, &good)?;
    }
    Ok(())
}

/// Most functions of one link (MAX_TRACING_MULTI_CNT).
const MOST: u32 = 1 << 20;
/// An address that no process has anything at.
const NOWHERE: u64 = 8;

pub fn request_refused(t: &mut Context) -> Result<(), String> {
    let (program, good) = (load(t, "multi_1")?, ids([TARGETS[0], TARGETS[1]])?);
    let request = Request::new(&program, &good, None);
    let plain = bpf::Kind::Fsession.attach_type();
    for (what, request, errno) in [
        ("no function", Request { cnt: 0, ..request }, Errno::EINVAL),
        ("more functions than a link may have", Request { cnt: MOST + 1, ..request }, Errno::E2BIG),
        ("a flag", Request { flags: 1, ..request }, Errno::EINVAL),
        ("a target_fd", Request { target_fd: 1, ..request }, Errno::EINVAL),
        ("the attach type of a session on one", Request { attach_type: plain, ..request }, Errno::EINVAL),
        (
            "fexit.multi's attach type",
            Request { attach_type: request.attach_type - 1, ..request },
            Errno::EINVAL,
        ),
        ("no ids", Request { ids: 0, ..request }, Errno::EINVAL),
        ("ids at a wrong address", Request { ids: NOWHERE, ..request }, Errno::EFAULT),
        ("cookies at a wrong address", Request { cookies: NOWHERE, ..request }, Errno::EFAULT),
    ] {
        t.checks.eq(what, told(&request.create()), errno.to_string());
        nothing_stays(t, what, &program, &good)?;
    }
    Ok(())
}

pub fn attached_twice(t: &mut Context) -> Result<(), String> {
    let (program, targets) = (load(t, "multi_1")?, ids(TARGETS)?);
    let link = attach(&program, &targets[..2])?;
    for (what, set) in [
        ("the same functions", &targets[..2]),
        ("one of them and others", &targets[1..4]),
        ("others and one of them", &[targets[4], targets[0]]),
    ] {
        let again = multi::attach(&program, set, None);
        t.checks.eq(format!("once more on {what}"), told(&again), Errno::EBUSY.to_string());
        drop(again);
        t.checks.same(format!("{what}: runs after that"), runs_in_one_call(t)?, (2, 2));
    }
    drop(link);
    nothing_stays(t, "once the first is gone", &program, &targets[..2])
}

pub fn context_access(t: &mut Context) -> Result<(), String> {
    let load = |code: &[Insn]| bpf::load_code(Kind::FsessionMulti, 0, code);
    super::super::reject::loads(t, "a session that leaves its context alone", &load(&[]));
    for (what, off, code, message) in [
        ("read the first word", 0, vec![insn::load(2, CTX, 0)], "doesn't have 1-th argument"),
        ("read the second word", 8, vec![insn::load(2, CTX, 8)], "doesn't have 2-th argument"),
        ("read the word before it", -8, vec![insn::load(2, CTX, -8)], ""),
        ("write to the first word", 0, vec![insn::set(2, 1), insn::store(CTX, 0, 2)], ""),
    ] {
        let access = format!("invalid bpf_context access off={off} size=8");
        let answer = load(&code);
        let refusal = answer.as_ref().err();
        let ok = refusal.is_some_and(|refusal| {
            refusal.errno == Errno::EACCES as i32
                && refusal.log.contains(message)
                && refusal.log.contains(&access)
        });
        t.checks.state(
            what,
            format!("{}, log with {message:?} and {access:?}", Errno::EACCES),
            refusal.map_or("loaded".to_owned(), ToString::to_string),
            ok,
        );
    }
    Ok(())
}

pub fn argument_tagged_as_context(t: &mut Context) -> Result<(), String> {
    let link = t.attach("in_global_subprog")?;
    t.call_fentry_tests()?;
    let seen = t.seen().global_subprog_seen.map(|seen| seen.runs);
    t.checks.same("runs of the subprogram in a session on one function", seen, [1, 1]);
    drop(link);

    bpf::take_log();
    let mut object = Unloaded::open()?;
    object.set_kind("multi_arg_ctx", Kind::FsessionMulti)?;
    object.choose("multi_arg_ctx")?;
    let loaded = object.load();
    let log = bpf::take_log();
    if loaded.is_err() && log.contains("arg#0 should be void pointer") && seen == [1, 1] {
        t.checks.expect_failure(
            "a session on many functions may not hand its context to a global subprogram, as one on one function may \
             (docs/findings/context-argument-in-multi.md)",
        );
    }
    let log: Vec<&str> =
        log.lines().filter(|line| line.contains("arg#0 ") || line.contains("Caller ")).collect();
    let said = loaded.as_ref().map_or_else(|errno| format!("{errno}, log {log:?}"), |_| "loaded".to_owned());
    t.checks.eq("a session on many functions with the same subprogram", said, "loaded".to_owned());
    let Ok(session) = loaded else { return Ok(()) };
    session.reset(std::process::id());
    let program = session.loaded("multi_arg_ctx", Kind::FsessionMulti)?;
    let _link = attach(&program, &ids([TARGETS[0], TARGETS[1]])?)?;
    t.call_fentry_tests()?;
    let seen = session.globals().global_subprog_seen.map(|seen| seen.runs);
    t.checks.same("runs of the subprogram in a session on two functions", seen, [2, 2]);
    Ok(())
}
