// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sessions on many functions with one link (fsession.multi). The programs are compiled as sessions on one
//! function and loaded again.

mod info;
mod limits;
mod load;
mod refused;
mod runs;

use super::{Context, ENTRY, EXIT, Subtest, subtests};
use crate::bpf::{Copy, Link, MultiSeen};
use crate::btf::{self, Wanted};
use crate::multi;
use info::*;
use limits::*;
use load::*;
use nix::errno::Errno;
use refused::*;
use runs::*;

subtests! { "multi":
    Quick once_per_function ["multi_1"] needs MultiSessions
        "A session on ten functions runs once at the entry and once at the exit of each, with what belongs to that function.";
    Normal cookie_of_each_call ["multi_1"] needs MultiSessions
        "Each call of each function has a session cookie of its own: 0 at entry, and at exit what its entry left there.";
    Normal attach_cookies ["multi_1"] needs MultiSessions
        "Each function has its own attach cookie, in whatever order the functions are named, or none has one.";
    Normal links_that_intersect ["multi_1", "multi_2"] needs MultiSessions
        "Two links that share some functions run once for each of theirs; when one goes, the other stays.";
    Normal beside_plain_links ["multi_1", "plain_fentry", "plain_fexit", "one_arg"] needs MultiSessions
        "fentry, fexit or a session on one of the functions and the link on all run as often as they should, in all twelve orders.";
    Normal sleepable_on_many ["multi_sleepable"] needs MultiSessions
        "A sleepable session on two functions reads user memory at entry and exit; with one that must not sleep it is refused.";
    Normal function_refused ["multi_1"] needs MultiSessions
        "One function that cannot have a session makes the whole attach fail, and leaves nothing attached.";
    Normal request_refused ["multi_1"] needs MultiSessions
        "An attach with a wrong number, flag, type or address is refused, and leaves nothing attached.";
    Normal attached_twice ["multi_1"] needs MultiSessions
        "A program that is attached already is refused for any set of functions with one of them in it.";
    Normal context_access [] needs MultiSessions
        "A session on many functions may neither read nor write its context directly.";
    Normal argument_tagged_as_context ["in_global_subprog"] needs MultiSessions
        "A global subprogram that takes the context works in a session on many functions as in a session on one.";
    Normal full_function ["multi_1", "no_kfunc"] needs MultiSessions
        "A function takes as many links as BTF says; when it is full, a link to it and others attaches to none of them.";
    Normal link_info ["multi_1"] needs MultiSessions
        "bpf_link_info has type, program and number of functions, and for each its id, address and attach cookie.";
    Normal link_info_places ["multi_1"] needs MultiSessions
        "With too few places bpf_link_info fills those and fails with -ENOSPC; without a number it is refused.";
    Normal link_in_proc ["multi_1"] needs MultiSessions
        "/proc/self/fdinfo of the link has a line with id and attach cookie for each function.";
    Normal detach_cost ["multi_counts"] needs MultiSessions
        "Links to 1, 10, 100 and 1000 functions attach and detach; how long that takes is for information.";
    Normal calls_while_detaching ["multi_counts"] needs MultiSessions on [SeveralCpus, SingleThread]
        "While links to ten functions come and go, no more exits run without their entry than calls can be under way.";
    Normal stress ["multi_1", "multi_2", "multi_counts", "one_arg", "no_kfunc", "plain_fentry", "plain_fexit"]
        needs MultiSessions on [SeveralCpus, SingleThread]
        "Two links to many functions and four to one come and go at once under load, and leave nothing behind.";
}

/// Functions that only a test run calls, each once.
pub(super) const TARGETS: [&str; 10] = [
    "bpf_fentry_test1",
    "bpf_fentry_test2",
    "bpf_fentry_test3",
    "bpf_fentry_test4",
    "bpf_fentry_test5",
    "bpf_fentry_test6",
    "bpf_fentry_test7",
    "bpf_fentry_test8",
    "bpf_fentry_test9",
    "bpf_fentry_test10",
];

/// BTF IDs of functions that must exist.
pub(super) fn ids<const N: usize>(names: [&str; N]) -> Result<[u32; N], String> {
    let found = found(&names)?;
    let mut ids = [0; N];
    for (id, name) in ids.iter_mut().zip(names) {
        *id = found.funcs.get(name).ok_or_else(|| format!("BTF has no function {name}"))?.id;
    }
    Ok(ids)
}

/// What BTF says about functions.
fn found(names: &[&str]) -> Result<btf::Found, String> {
    btf::find(&vmlinux()?, &Wanted { funcs: names, ..Wanted::default() })
}

fn vmlinux() -> Result<Vec<u8>, String> {
    std::fs::read("/sys/kernel/btf/vmlinux").map_err(|err| format!("/sys/kernel/btf/vmlinux: {err}"))
}

/// Address of each function in kallsyms.
fn addresses<const N: usize>(names: [&str; N]) -> Result<[u64; N], String> {
    let symbols =
        std::fs::read_to_string("/proc/kallsyms").map_err(|err| format!("/proc/kallsyms: {err}"))?;
    let mut addresses = [0; N];
    for line in symbols.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(address), _, Some(symbol)) = (words.next(), words.next(), words.next()) else { continue };
        if let Some(n) = names.iter().position(|name| *name == symbol) {
            addresses[n] = u64::from_str_radix(address, 16).map_err(|_| format!("/proc/kallsyms: {line}"))?;
        }
    }
    match addresses.iter().position(|address| *address == 0) {
        Some(n) => Err(format!("/proc/kallsyms has no address of {}", names[n])),
        None => Ok(addresses),
    }
}

pub(super) fn load(t: &Context, program: &str) -> Result<Copy, String> {
    t.session.for_many(program, false)
}

/// Attach cookies that tell the programs which function it is: its position.
fn positions(count: usize) -> Vec<u64> {
    (0..count as u64).collect()
}

/// Attaches to functions that must take the link; their positions are their attach cookies.
pub(super) fn attach(program: &Copy, ids: &[u32]) -> Result<Link, String> {
    let cookies = positions(ids.len());
    multi::attach(program, ids, Some(&cookies))
        .map_err(|errno| format!("attach to {} functions: {errno}", ids.len()))
}

fn told(answer: &Result<Link, Errno>) -> String {
    answer.as_ref().map_or_else(Errno::to_string, |_| "attached".to_owned())
}

/// The records of a program.
pub(super) type Runs = [[MultiSeen; 16]; 2];

/// Entries and exits of a program over all functions.
pub(super) fn sums(seen: &Runs) -> (u64, u64) {
    let sum = |at: usize| seen[at].iter().map(|seen| seen.runs).sum();
    (sum(ENTRY), sum(EXIT))
}

/// Entries and exits of `multi_1` in one call of each function.
pub(super) fn runs_in_one_call(t: &Context) -> Result<(u64, u64), String> {
    t.reset();
    t.call_fentry_tests()?;
    Ok(sums(&t.seen().multi_1_seen))
}

/// Checks that a refused attach left nothing: `multi_1` does not run, and attaches to the same functions.
fn nothing_stays(t: &mut Context, what: &str, program: &Copy, ids: &[u32]) -> Result<(), String> {
    t.checks.same(format!("{what}: runs after that"), runs_in_one_call(t)?, (0, 0));
    let cookies = positions(ids.len());
    let link = multi::attach(program, ids, Some(&cookies));
    t.checks.eq(format!("{what}: attaching then"), told(&link), "attached".to_owned());
    let count = ids.len() as u64;
    t.checks.same(format!("{what}: runs then"), runs_in_one_call(t)?, (count, count));
    Ok(())
}
