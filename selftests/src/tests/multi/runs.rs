// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often a session on many functions runs, and what it sees.

use super::{Context, ENTRY, EXIT, Runs, TARGETS, addresses, attach, ids, load, positions, sums, told};
use crate::bpf::Copy;
use crate::multi;
use nix::errno::Errno;
use nix::libc;

/// Number of arguments, first argument unless it is an address, return value: of the calls of a test run.
const CALLS: [(u64, Option<u64>, u64); 10] = [
    (1, Some(1), 2),
    (2, Some(2), 5),
    (3, Some(4), 15),
    (4, Some(7), 34),
    (5, Some(11), 65),
    (6, Some(16), 111),
    (1, Some(0), 0),
    (1, None, 0),
    (1, None, 0),
    (1, Some(0), 0),
];

/// All arguments and return values above are ints or 0.
const INT: u64 = 0xffff_ffff;

pub fn once_per_function(t: &mut Context) -> Result<(), String> {
    let (program, targets) = (load(t, "multi_1")?, ids(TARGETS)?);
    let link = attach(&program, &targets)?;
    t.call_fentry_tests()?;
    let seen = t.seen().multi_1_seen;
    let addresses = addresses(TARGETS)?;
    for (n, (args, first, returned)) in CALLS.into_iter().enumerate() {
        let (entry, exit, name) = (seen[ENTRY][n], seen[EXIT][n], TARGETS[n]);
        t.checks.same(format!("{name}: entries and exits"), (entry.runs, exit.runs), (1, 1));
        t.checks.same(format!("{name}: entry before exit"), exit.order, entry.order + 1);
        t.checks.same(format!("{name}: bpf_get_func_arg_cnt()"), (entry.arg_cnt, exit.arg_cnt), (args, args));
        if let Some(first) = first {
            let seen = (entry.arg & INT, exit.arg & INT);
            t.checks.same(format!("{name}: first argument"), seen, (first, first));
        }
        let seen = (entry.func_ret, exit.func_ret & INT);
        t.checks.same(format!("{name}: bpf_get_func_ret()"), seen, (0, returned));
        let ips = format!("{:#x}, {:#x}", entry.ip, exit.ip);
        t.checks.eq(
            format!("{name}: bpf_get_func_ip(), which is its address in kallsyms"),
            ips,
            format!("{0:#x}, {0:#x}", addresses[n]),
        );
    }
    drop(link);
    t.reset();
    t.call_fentry_tests()?;
    t.checks.same("runs after the link is closed", sums(&t.seen().multi_1_seen), (0, 0));
    Ok(())
}

pub fn cookie_of_each_call(t: &mut Context) -> Result<(), String> {
    const ROUNDS: u64 = 100;
    let (program, targets) = (load(t, "multi_1")?, ids(TARGETS)?);
    let _link = attach(&program, &targets)?;
    for _ in 0..ROUNDS {
        t.call_fentry_tests()?;
    }
    let seen = t.seen().multi_1_seen;
    for (n, name) in TARGETS.into_iter().enumerate() {
        let (entry, exit) = (seen[ENTRY][n], seen[EXIT][n]);
        let runs = (entry.runs, exit.runs);
        t.checks.same(format!("{name}: entries and exits in {ROUNDS} calls"), runs, (ROUNDS, ROUNDS));
        t.checks.eq(format!("{name}: all that entries found in the cookie"), entry.cookie, 0);
        let wrong = exit.foreign + exit.empty;
        t.checks.eq(format!("{name}: exits that found another value than their entry left"), wrong, 0);
    }
    let mut values: Vec<u64> = (0..TARGETS.len()).map(|n| seen[ENTRY][n].value).collect();
    values.sort_unstable();
    values.dedup();
    t.checks.eq("different values that the last entries left", values.len(), TARGETS.len());
    Ok(())
}

pub fn attach_cookies(t: &mut Context) -> Result<(), String> {
    let (program, targets) = (load(t, "multi_1")?, ids(TARGETS)?);
    let mut named: Vec<(u32, u64)> = targets.into_iter().zip(positions(TARGETS.len())).collect();
    let order = |name: &str, named: &mut Vec<(u32, u64)>| match name {
        "ascending ids" => named.sort_unstable(),
        "descending ids" => named.sort_unstable_by(|a, b| b.cmp(a)),
        _ => named.rotate_left(3),
    };
    for name in ["ascending ids", "descending ids", "mixed ids"] {
        order(name, &mut named);
        let (ids, cookies): (Vec<u32>, Vec<u64>) = named.iter().copied().unzip();
        let link = multi::attach(&program, &ids, Some(&cookies));
        t.checks.eq(format!("{name}: attach"), told(&link), "attached".to_owned());
        t.reset();
        t.call_fentry_tests()?;
        own_records(t, name);
    }
    let link = multi::attach(&program, &targets, None);
    t.checks.eq("without attach cookies: attach", told(&link), "attached".to_owned());
    t.reset();
    t.call_fentry_tests()?;
    let seen = t.seen().multi_1_seen;
    let count = TARGETS.len() as u64;
    let runs = (seen[ENTRY][0].runs, seen[EXIT][0].runs);
    t.checks.same("without attach cookies: runs that found 0", runs, (count, count));
    Ok(())
}

/// Checks that each function's record has the number of arguments that only that function has: the program
/// keeps records by attach cookie.
fn own_records(t: &mut Context, when: &str) {
    let seen = t.seen().multi_1_seen;
    for at in [ENTRY, EXIT] {
        let own = |n: usize| (seen[at][n].runs, seen[at][n].arg_cnt, seen[at][n].attach_cookie);
        let found: Vec<_> = (0..TARGETS.len()).map(own).collect();
        let expected: Vec<_> = CALLS.iter().enumerate().map(|(n, call)| (1, call.0, n as u64)).collect();
        let side = if at == ENTRY { "entries" } else { "exits" };
        t.checks.same(format!("{when}: {side}, arguments and cookie of each function"), found, expected);
    }
}

/// Runs of each function, entries and exits added up.
fn by_function(seen: &Runs) -> Vec<u64> {
    (0..TARGETS.len()).map(|n| seen[ENTRY][n].runs + seen[EXIT][n].runs).collect()
}

/// Twice for each function in the range.
fn twice(range: std::ops::Range<usize>) -> Vec<u64> {
    (0..TARGETS.len()).map(|n| 2 * u64::from(range.contains(&n))).collect()
}

pub fn links_that_intersect(t: &mut Context) -> Result<(), String> {
    let (one, two, targets) = (load(t, "multi_1")?, load(t, "multi_2")?, ids(TARGETS)?);
    let cookies = positions(TARGETS.len());
    let on = |program: &Copy, range: std::ops::Range<usize>| {
        multi::attach(program, &targets[range.clone()], Some(&cookies[range]))
            .map_err(|errno| format!("attach: {errno}"))
    };
    for first_goes in [true, false] {
        let when = if first_goes { "the first goes first" } else { "the last goes first" };
        let (first, last) = (on(&one, 0..6)?, on(&two, 3..10)?);
        let mut expect = |what: &str, of_one, of_two| -> Result<(), String> {
            t.reset();
            t.call_fentry_tests()?;
            let seen = t.seen();
            let runs = (by_function(&seen.multi_1_seen), by_function(&seen.multi_2_seen));
            t.checks.same(format!("{when}: runs of both by function, {what}"), runs, (of_one, of_two));
            let foreign = [seen.multi_1_seen, seen.multi_2_seen]
                .iter()
                .flat_map(|seen| seen[EXIT])
                .map(|seen| seen.foreign + seen.empty)
                .sum::<u64>();
            t.checks.eq(format!("{when}: exits that found another value, {what}"), foreign, 0);
            Ok(())
        };
        expect("with both", twice(0..6), twice(3..10))?;
        if first_goes {
            drop(first);
            expect("with one", twice(0..0), twice(3..10))?;
            drop(last);
        } else {
            drop(last);
            expect("with one", twice(0..6), twice(0..0))?;
            drop(first);
        }
        expect("with none", twice(0..0), twice(0..0))?;
    }
    Ok(())
}

/// Runs of the programs on one function.
fn plain_runs(t: &Context) -> u64 {
    let seen = t.seen();
    seen.plain_fentry_seen.runs
        + seen.plain_fexit_seen.runs
        + seen.one_arg_seen[ENTRY].runs
        + seen.one_arg_seen[EXIT].runs
}

pub fn beside_plain_links(t: &mut Context) -> Result<(), String> {
    let (program, targets) = (load(t, "multi_1")?, ids(TARGETS)?);
    let count = TARGETS.len() as u64;
    for (plain, each) in [("plain_fentry", 1), ("plain_fexit", 1), ("one_arg", 2)] {
        for (comes, goes) in [(true, true), (true, false), (false, true), (false, false)] {
            let which = |first: bool| if first { "first" } else { "last" };
            let when = format!("{plain}, many attached {} and detached {}", which(comes), which(goes));
            let before = if comes { Some(attach(&program, &targets)?) } else { None };
            let one = t.attach(plain)?;
            let many = match before {
                Some(link) => link,
                None => attach(&program, &targets)?,
            };
            let mut expect = |what: &str, of_many: u64, of_one: u64| -> Result<(), String> {
                t.reset();
                t.call_fentry_tests()?;
                let runs = (sums(&t.seen().multi_1_seen), plain_runs(t));
                t.checks.same(format!("{when}: runs {what}"), runs, ((of_many, of_many), of_one));
                Ok(())
            };
            expect("with both", count, each)?;
            if goes {
                drop(many);
                expect("with one", 0, each)?;
                drop(one);
            } else {
                drop(one);
                expect("with one", count, 0)?;
                drop(many);
            }
            expect("with none", 0, 0)?;
        }
    }
    Ok(())
}

/// A system call that may be traced by sleepable programs, as all of them may.
const GETPGID: &str = "__x64_sys_getpgid";

pub fn sleepable_on_many(t: &mut Context) -> Result<(), String> {
    let program = t.session.for_many("multi_sleepable", true)?;
    let [test1, test2, getpgid] = ids([TARGETS[0], TARGETS[1], GETPGID])?;
    let refused = multi::attach(&program, &[test1, test2], None);
    t.checks.eq("with a function that must not sleep", told(&refused), Errno::EINVAL.to_string());
    drop(refused);
    let word = 0x5eed_u64;
    let call = |t: &mut Context| -> Result<(), String> {
        t.reset();
        t.session.set(|globals| globals.multi_user_word = &raw const word as u64);
        t.call_fentry_tests()?;
        // SAFETY: takes no pointer.
        unsafe { libc::getpgid(0) };
        Ok(())
    };
    call(t)?;
    t.checks.eq("runs after that", t.seen().multi_sleepable_seen[ENTRY].runs, 0);
    let link = multi::attach(&program, &[test1, getpgid], None);
    t.checks.eq("with two that may", told(&link), "attached".to_owned());
    call(t)?;
    let seen = t.seen().multi_sleepable_seen;
    for (at, name) in [(ENTRY, "entry"), (EXIT, "exit")] {
        t.checks.eq(format!("{name} runs"), seen[at].runs, 2);
        t.checks.eq(format!("bpf_copy_from_user() at {name}"), seen[at].func_ret_err, 0);
        t.checks.hex(format!("what it read at {name}"), seen[at].value, word);
    }
    Ok(())
}
