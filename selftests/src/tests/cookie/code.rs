// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where in a program the cookie is asked for, and how many places there are on a target.

use super::{Context, ENTRY, EXIT, GIVE, SESSIONS, each_has_its_own, give};
use nix::errno::Errno;

pub fn only_in_static_subprogram(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("only_in_static")?;
    for call in 1..=2 {
        t.call_fentry_tests()?;
        let seen = t.seen().only_in_static_seen;
        t.checks.same("runs", seen.map(|seen| seen.runs), [call; 2]);
        t.checks.same("cookie after each run", seen.map(|seen| seen.cookie), [3, 6]);
    }
    Ok(())
}

pub fn in_callback(t: &mut Context) -> Result<(), String> {
    /// Ten times 1 through the context, and ten times 0x100 through a pointer.
    const STEP: u64 = 0xa0a;
    let _link = t.attach("in_loop")?;
    for call in 1..=3 {
        t.call_fentry_tests()?;
        let seen = t.seen().in_loop_seen;
        t.checks.same("runs", seen.map(|seen| seen.runs), [call; 2]);
        t.checks.same("cookie before the loop", seen.map(|seen| seen.cookie), [0, STEP]);
        t.checks.same("cookie after the loop", seen.map(|seen| seen.value), [STEP, 2 * STEP]);
    }
    Ok(())
}

pub fn beside_big_frames(t: &mut Context) -> Result<(), String> {
    const STEP: u64 = (5 + 7) + (5 + 29);
    const SUM: u64 = (5 + 3) + 1027;
    let _link = t.attach("big_stack")?;
    for call in 1..=3 {
        t.call_fentry_tests()?;
        let seen = t.seen().big_stack_seen;
        t.checks.same("runs", seen.map(|seen| seen.runs), [call; 2]);
        t.checks.same("cookie before the subprogram", seen.map(|seen| seen.cookie), [0, STEP]);
        t.checks.same("cookie after it", seen.map(|seen| seen.arg[0]), [STEP, 2 * STEP]);
        t.checks.same("words of both frames", seen.map(|seen| seen.value), [SUM; 2]);
    }
    Ok(())
}

/// The sessions on bpf_fentry_test3, none of which asks for its address.
const NO_IP: [&str; 4] = ["no_ip_1", "no_ip_2", "no_ip_3", "no_ip_4"];

/// Calls their target, and checks the first `attached` of them. The attach cookie of each is its number.
fn without_ip_are_right(t: &mut Context, when: &str, attached: usize) -> Result<(), String> {
    give(t, GIVE);
    t.call_fentry_tests()?;
    let seen = t.seen();
    let all = [seen.no_ip_1_seen, seen.no_ip_2_seen, seen.no_ip_3_seen, seen.no_ip_4_seen];
    for (n, seen) in all.iter().enumerate().take(attached) {
        let who = format!("{when}: {}", NO_IP[n]);
        t.checks.same(format!("{who}: runs"), seen.map(|seen| seen.runs), [1, 1]);
        t.checks.hex(format!("{who}: cookie at entry"), seen[ENTRY].cookie, 0);
        t.checks.hex(format!("{who}: cookie at exit"), seen[EXIT].cookie, GIVE[n]);
        let arguments = seen.map(|seen| (seen.arg[0] as u8, seen.arg[1] as u32, seen.arg[2]));
        t.checks.same(format!("{who}: arguments"), arguments, [(4, 5, 6); 2]);
        t.checks.same(format!("{who}: value"), seen.map(|seen| seen.ret as i32), [0, 15]);
        t.checks.same(
            format!("{who}: attach cookie"),
            seen.map(|seen| seen.attach_cookie),
            [n as u64 + 1; 2],
        );
    }
    Ok(())
}

pub fn without_func_ip(t: &mut Context) -> Result<(), String> {
    let mut links = Vec::new();
    for (n, program) in NO_IP.iter().enumerate() {
        links.push(t.attach_with_cookie(program, n as u64 + 1)?);
        without_ip_are_right(t, &format!("{} attached", n + 1), n + 1)?;
    }
    let with_ip = t.attach("ip_of_3")?;
    without_ip_are_right(t, "beside one that asks for the address", NO_IP.len())?;
    let ip = t.seen().ip_of_3_seen;
    t.checks.state("that address", "not 0, in one run", format!("{:#x}, {}", ip.ip, ip.runs), {
        ip.ip != 0 && ip.runs == 1
    });
    drop(with_ip);
    without_ip_are_right(t, "once that is gone", NO_IP.len())
}

pub fn place_of_a_detached_one(t: &mut Context) -> Result<(), String> {
    const GONE: usize = 1;
    let limit = t.profile.cookie_limit.map_or(4, |limit| limit as usize);
    let mut links = Vec::new();
    for program in &SESSIONS[..limit] {
        links.push(Some(t.attach(program)?));
    }
    // Which errno it is does not depend on how many there are.
    t.refused("attaching one of them again", SESSIONS[GONE], Errno::EBUSY)?;
    let elsewhere = t.attach("cookie_other_function")?;
    each_has_its_own(t, "with one on another function", &(0..limit).collect::<Vec<_>>())?;
    let seen = t.seen().cookie_other_function_seen;
    t.checks.hex("cookie on the other function", seen[EXIT].cookie, GIVE[1]);
    drop(elsewhere);
    if t.profile.cookie_limit.is_some() {
        for _ in 0..50 {
            t.refused("attaching one too many", SESSIONS[limit], Errno::E2BIG)?;
        }
    }
    links[GONE] = None;
    let _other = t.attach(SESSIONS[limit])?;
    let now: Vec<usize> = (0..=limit).filter(|&n| n != GONE).collect();
    each_has_its_own(t, "with another in its place", &now)?;
    if t.profile.cookie_limit.is_some() {
        t.refused("attaching the one that was detached", SESSIONS[GONE], Errno::E2BIG)?;
    }
    each_has_its_own(t, "after that", &now)
}
