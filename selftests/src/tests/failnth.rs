// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each allocation of an operation on sessions fails once. The operation then fails with -ENOMEM and leaves
//! nothing behind, or it works as a whole.

use super::basic::load_on_program;
use super::multi::{self, sums};
use super::{Context, Subtest, subtests};
use crate::bpf::{self, ENOTSUPP, Kind, Link, errno_text};
use crate::fail_nth::{FailNth, Walk};
use crate::features::InFlight;
use crate::kmsg;
use crate::leftovers::Counts;
use crate::load::wait_until;
use nix::errno::Errno;
use nix::libc;
use std::cell::RefCell;
use std::time::Duration;

subtests! { "failnth":
    Normal attach ["one_arg"] on [FailNth]
        "Attaching a session fails whole or works whole, whichever of its allocations fails.";
    Normal attach_to_program ["target_program"] on [FailNth]
        "The same for a session on a BPF program.";
    Normal update ["one_arg", "cookie_1"] on [FailNth]
        "When an allocation fails while a second session is attached, the first goes on.";
    Normal load ["one_arg"] on [FailNth]
        "Loading a session fails whole or gives a program that attaches and runs, whichever allocation fails.";
    Normal detach ["one_arg"] on [FailNth]
        "A link that is closed while an allocation fails is gone, and its program does not run any more.";
    Normal attach_multi ["multi_1"] needs MultiSessions on [FailNth]
        "Attaching a session to four functions attaches it to all of them or to none, whichever allocation fails.";
    Normal update_multi ["multi_1", "multi_2", "one_arg"] needs MultiSessions on [FailNth]
        "The same where some of the functions have links already: those go on.";
    Normal detach_multi ["multi_1"] needs MultiSessions on [FailNth]
        "A link to four functions that is closed while an allocation fails is gone from all of them.";
}

/// Targets of a link to many functions: each of them adds its own allocations.
const MANY: [&str; 4] = ["bpf_fentry_test1", "bpf_fentry_test2", "bpf_fentry_test3", "bpf_fentry_test4"];

/// What is in the system: links and programs.
fn objects() -> Result<(usize, usize), String> {
    let text = |errno| format!("counting links and programs: {errno}");
    Ok((bpf::link_ids().map_err(text)?.len(), bpf::program_ids().map_err(text)?.len()))
}

/// Checks that the numbers of links and programs return to what they were.
fn no_objects_stay(before: (usize, usize)) -> Result<(), String> {
    wait_until(Duration::from_secs(5), || objects().is_ok_and(|now| now == before));
    let now = objects()?;
    if now == before { Ok(()) } else { Err(format!("{now:?} links and programs, {before:?} before")) }
}

/// `Ok` if two values are equal.
fn is<T: PartialEq + std::fmt::Debug>(what: &str, seen: T, expected: T) -> Result<(), String> {
    if seen == expected { Ok(()) } else { Err(format!("{what}: {seen:?} instead of {expected:?}")) }
}

/// Entries and exits of `one_arg` in one call.
fn runs(t: &Context) -> Result<[u64; 2], String> {
    t.reset();
    t.call_fentry_tests()?;
    Ok(t.seen().one_arg_seen.map(|seen| seen.runs))
}

/// Checks what a walk saw. `least`: allocations that an operation of this kind makes at least.
fn expect(t: &mut Context, walk: &Walk, least: u32, errors: &[String]) {
    t.checks.state(
        "allocations that failed one after the other",
        format!("at least {least}"),
        walk.to_string(),
        walk.points >= least,
    );
    t.checks.eq("what was wrong after one of them", walk.wrong.join("; "), String::new());
    let other: Vec<&str> =
        walk.failed.keys().filter(|seen| !errors.contains(seen)).map(String::as_str).collect();
    t.checks.eq(format!("errors other than {}", errors.join(" and ")), other.join("; "), String::new());
    t.checks.measured(walk.to_string());
}

fn enomem() -> String {
    Errno::ENOMEM.to_string()
}

fn attach(t: &mut Context) -> Result<(), String> {
    let counts = Counts::before()?;
    let fault = FailNth::open()?;
    let before = objects()?;
    // Once without a failure: pages of this process that the call needs are then present.
    drop(t.attach("one_arg")?);
    let program = t.session.loaded("one_arg", Kind::Fsession)?;
    let walk = fault.walk(
        || program.attach(0),
        |link| {
            let expected = if link.is_ok() { [1, 1] } else { [0, 0] };
            is("runs", runs(t)?, expected)?;
            drop(link);
            let link = program.attach(0).map_err(|errno| format!("attaching then: {errno}"))?;
            is("runs of a session that is attached then", runs(t)?, [1, 1])?;
            drop(link);
            is("runs at the end", runs(t)?, [0, 0])?;
            no_objects_stay(before)
        },
    )?;
    expect(t, &walk, 20, &[enomem()]);
    counts.state_as_before(t.checks)
}

fn attach_to_program(t: &mut Context) -> Result<(), String> {
    let counts = Counts::before()?;
    let fault = FailNth::open()?;
    // A session attaches to a program once; after a failure the same may try again.
    let session = RefCell::new(load_on_program(t)?);
    let before = objects()?;
    t.session.test_run("target_program")?;
    let walk = fault.walk(
        || session.borrow().attach("on_program", 0)?.map_err(|errno| errno.to_string()),
        |link| {
            let seen = {
                let session = session.borrow();
                session.reset(std::process::id());
                is("value of the target", t.session.test_run("target_program")?, 42)?;
                session.globals().on_program_seen.map(|seen| seen.runs)
            };
            is("runs", seen, if link.is_ok() { [1, 1] } else { [0, 0] })?;
            if link.is_ok() {
                drop(link);
                let another = load_on_program(t)?;
                session.replace(another);
            }
            is("value of the target at the end", t.session.test_run("target_program")?, 42)?;
            no_objects_stay(before)
        },
    )?;
    drop(session);
    expect(t, &walk, 10, &[enomem()]);
    counts.state_as_before(t.checks)
}

fn update(t: &mut Context) -> Result<(), String> {
    let counts = Counts::before()?;
    let fault = FailNth::open()?;
    let first = t.attach("cookie_1")?;
    let before = objects()?;
    drop(t.attach("one_arg")?);
    let program = t.session.loaded("one_arg", Kind::Fsession)?;
    let both =
        |t: &Context| -> Result<_, String> { Ok((runs(t)?, t.seen().cookie_1_seen.map(|seen| seen.runs))) };
    let walk = fault.walk(
        || program.attach(0),
        |link| {
            let expected = if link.is_ok() { [1, 1] } else { [0, 0] };
            is("runs of both", both(t)?, (expected, [1, 1]))?;
            drop(link);
            let link = program.attach(0).map_err(|errno| format!("attaching then: {errno}"))?;
            is("runs of both, attached then", both(t)?, ([1, 1], [1, 1]))?;
            drop(link);
            is("runs of both at the end", both(t)?, ([0, 0], [1, 1]))?;
            no_objects_stay(before)
        },
    )?;
    drop(first);
    expect(t, &walk, 10, &[enomem()]);
    counts.state_as_before(t.checks)
}

fn load(t: &mut Context) -> Result<(), String> {
    let counts = Counts::before()?;
    let fault = FailNth::open()?;
    let target = t.features.target_id()?;
    drop(t.session.copy("one_arg", target)?);
    let before = objects()?;
    let walk = fault.walk(
        // The pages of a log could fail as well, and are not what is tested.
        || t.session.copy_without_log("one_arg", target),
        |program| {
            if let Ok(program) = program {
                let link = program.attach(0).map_err(|errno| format!("attaching it: {errno}"))?;
                is("runs of it", runs(t)?, [1, 1])?;
                drop(link);
            }
            is("runs at the end", runs(t)?, [0, 0])?;
            no_objects_stay(before)
        },
    )?;
    // The verifier says EFAULT or EINVAL in some places where it runs out of memory. A program that cannot be
    // compiled is ENOTSUPP: no interpreter can run it, because it calls kfuncs.
    let errors = [ENOTSUPP, libc::ENOMEM, libc::EFAULT, libc::EINVAL].map(errno_text);
    expect(t, &walk, 50, &errors);
    counts.state_as_before(t.checks)
}

/// Declares what kernels get wrong. `false`: this guest would not survive it, which was not asked for. `attach`
/// and `runs` show before that the link works and can be closed.
fn may_fail_to_detach<R: PartialEq + std::fmt::Debug>(
    t: &mut Context,
    attach: impl FnOnce(&Context) -> Result<Link, String>,
    runs: impl Fn(&Context) -> Result<R, String>,
    (attached, detached): (R, R),
) -> Result<bool, String> {
    let link = attach(t)?;
    is("runs with a link", runs(t)?, attached)?;
    drop(link);
    is("runs without it, as no allocation failed", runs(t)?, detached)?;
    let then = match t.profile.in_flight {
        Some(InFlight::OfTheDetached) => "a function of a link to many may take no other link any more",
        Some(InFlight::OfEveryProgram) | None => "the program goes on running",
    };
    t.checks.expect_failure(format!(
        "detaching allocates; when that fails the kernel warns and forgets the link, and {then} \
         (docs/findings/detach-without-memory.md)"
    ));
    if !t.provoke {
        t.checks.eq(
            "closing a link while an allocation fails",
            "not tried: the kernel would be corrupted",
            "tried",
        );
    }
    Ok(t.provoke)
}

fn detach(t: &mut Context) -> Result<(), String> {
    if !may_fail_to_detach(t, |t| t.attach("one_arg"), runs, ([1, 1], [0, 0]))? {
        return Ok(());
    }
    let counts = Counts::before()?;
    let (fault, taint) = (FailNth::open()?, kmsg::tainted());
    let program = t.session.loaded("one_arg", Kind::Fsession)?;
    let link = RefCell::new(Some(t.attach("one_arg")?));
    let walk = fault.walk(
        || -> Result<(), Errno> {
            drop(link.take());
            Ok(())
        },
        |_| {
            is("runs once the link is closed", runs(t)?, [0, 0])?;
            link.replace(Some(program.attach(0).map_err(|errno| format!("attaching then: {errno}"))?));
            is("runs of a session that is attached then", runs(t)?, [1, 1])
        },
    )?;
    drop(link);
    expect(t, &walk, 5, &[enomem()]);
    t.checks.same("taint of the kernel after that", kmsg::tainted(), taint);
    counts.state_as_before(t.checks)
}

/// Entries and exits of `multi_1`, of `multi_2` and of `one_arg` in one call of each function.
type All = ((u64, u64), (u64, u64), [u64; 2]);

fn all_runs(t: &Context) -> Result<All, String> {
    let one = runs(t)?;
    let seen = t.seen();
    Ok((sums(&seen.multi_1_seen), sums(&seen.multi_2_seen), one))
}

/// Attaches `multi_1` to all functions while allocations fail; the others run as often as `beside` says.
fn walk_of_many(t: &Context, fault: &FailNth, beside: ((u64, u64), [u64; 2])) -> Result<Walk, String> {
    let (program, targets) = (multi::load(t, "multi_1")?, multi::ids(MANY)?);
    let count = targets.len() as u64;
    let cookies: Vec<u64> = (0..count).collect();
    let attach = || crate::multi::attach(&program, &targets, Some(&cookies));
    let expected = |attached: bool| {
        let own = if attached { (count, count) } else { (0, 0) };
        (own, beside.0, beside.1)
    };
    drop(attach().map_err(|errno| format!("attach: {errno}"))?);
    let before = objects()?;
    fault.walk(attach, |link| {
        is("runs", all_runs(t)?, expected(link.is_ok()))?;
        drop(link);
        let link = attach().map_err(|errno| format!("attaching then: {errno}"))?;
        is("runs, attached then", all_runs(t)?, expected(true))?;
        drop(link);
        is("runs at the end", all_runs(t)?, expected(false))?;
        no_objects_stay(before)
    })
}

fn attach_multi(t: &mut Context) -> Result<(), String> {
    let counts = Counts::before()?;
    let fault = FailNth::open()?;
    let walk = walk_of_many(t, &fault, ((0, 0), [0, 0]))?;
    expect(t, &walk, 30, &[enomem()]);
    counts.state_as_before(t.checks)
}

fn update_multi(t: &mut Context) -> Result<(), String> {
    let counts = Counts::before()?;
    let fault = FailNth::open()?;
    let targets = multi::ids(MANY)?;
    let beside = (multi::attach(&multi::load(t, "multi_2")?, &targets[..2])?, t.attach("one_arg")?);
    let walk = walk_of_many(t, &fault, ((2, 2), [1, 1]))?;
    drop(beside);
    expect(t, &walk, 30, &[enomem()]);
    counts.state_as_before(t.checks)
}

fn detach_multi(t: &mut Context) -> Result<(), String> {
    let counts = Counts::before()?;
    let (program, targets) = (multi::load(t, "multi_1")?, multi::ids(MANY)?);
    let count = targets.len() as u64;
    let attach = |_: &Context| multi::attach(&program, &targets);
    if !may_fail_to_detach(t, attach, multi::runs_in_one_call, ((count, count), (0, 0)))? {
        return Ok(());
    }
    let (fault, taint) = (FailNth::open()?, kmsg::tainted());
    let link = RefCell::new(Some(multi::attach(&program, &targets)?));
    let walk = fault.walk(
        || -> Result<(), Errno> {
            drop(link.take());
            Ok(())
        },
        |_| {
            is("runs once the link is closed", multi::runs_in_one_call(t)?, (0, 0))?;
            link.replace(Some(multi::attach(&program, &targets)?));
            is("runs of a link that is attached then", multi::runs_in_one_call(t)?, (count, count))
        },
    )?;
    drop((link, program));
    expect(t, &walk, 5, &[enomem()]);
    t.checks.same("taint of the kernel after that", kmsg::tainted(), taint);
    counts.state_as_before(t.checks)
}
