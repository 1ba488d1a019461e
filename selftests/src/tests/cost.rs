// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cost of calling a function with programs attached to it. For information: no result is too slow. The
//! subtests check that exactly the timed calls were seen; otherwise the measurement would be of something
//! else.
//!
//! Time under emulation differs between runs by tens of percent, whatever the spread in one run. Where the host
//! runs the group alone, the emulator's clock counts instructions, which are the same in each run.

use super::{Context, Subtest, subtests};
use std::thread::sleep;
use std::time::Duration;

/// Name of this group.
pub const GROUP: &str = "cost";

subtests! { "cost":
    Normal nothing ["cost_caller"] "Time of a call of a function that nothing is attached to.";
    Normal fentry_and_fexit ["cost_caller", "cost_fentry", "cost_fexit"]
        "The same with an fentry and an fexit program, which see each call once each.";
    Normal session ["cost_caller", "cost_session"] "The same with a session, which sees each call twice.";
    Normal session_with_cookie ["cost_caller", "cost_session_with_cookie"]
        "The same with a session that counts its runs of a call in its cookie.";
    Normal kprobe_session ["cost_caller", "cost_kprobe_session"]
        "The same with a session of kprobes, which sees each call twice.";
}

const CALLER: &str = "cost_caller";
/// Odd, so that one of them is the median.
const ROUNDS: usize = 7;
/// Minimum duration of a round: a dozen ticks, if the kernel's clock is tick-based.
const SHORTEST_NS: u64 = 50_000_000;
/// Calls of the first round, which warms up and determines how many calls make a long round.
const FEW: u32 = 1_000;
/// Most calls of a round: half of the limit of bpf_loop().
const MOST: u32 = 1 << 22;

/// Makes some calls, and checks that each was made and that programs ran `runs` times in each. Returns the
/// nanoseconds.
fn round(t: &mut Context, calls: u32, runs: u64) -> Result<u64, String> {
    t.session.set(|globals| {
        (globals.cost_calls, globals.cost_called, globals.cost_runs) = (calls, 0, 0);
    });
    t.session.test_run(CALLER)?;
    let seen = t.seen();
    let counted = (seen.cost_called, seen.cost_runs);
    t.checks.same("calls and runs", counted, (calls.into(), runs * u64::from(calls)));
    Ok(seen.cost_ns)
}

/// Times rounds of calls.
fn take_time(t: &mut Context, runs: u64) -> Result<(), String> {
    /// Attaching leaves work for the kernel, which would take its share of the first rounds.
    const SETTLE: Duration = Duration::from_millis(300);
    const BETWEEN: Duration = Duration::from_millis(10);
    let mut calls = FEW;
    while round(t, calls, runs)? < SHORTEST_NS && calls < MOST {
        calls = (calls * 4).min(MOST);
    }
    let icount = t.icount;
    let pause = |time| {
        if icount {
            sleep(time)
        }
    };
    if icount {
        wait_for_clock()?;
    }
    pause(SETTLE);
    let one = |_| {
        pause(BETWEEN);
        round(t, calls, runs)
    };
    let mut rounds = (0..ROUNDS).map(one).collect::<Result<Vec<_>, _>>()?;
    rounds.sort_unstable();
    t.checks.state("shortest round", "some time", format!("{} ns", rounds[0]), rounds[0] > 0);
    t.checks.measured(if icount { instructions(&rounds, calls) } else { figure(&rounds, calls) });
    Ok(())
}

/// Waits until the kernel has measured the frequency of its clock once more, a second or two after it booted:
/// until then a nanosecond is another number of instructions.
fn wait_for_clock() -> Result<(), String> {
    const UPTIME: f64 = 6.0;
    let uptime = || {
        let text = std::fs::read_to_string("/proc/uptime").map_err(|err| format!("/proc/uptime: {err}"))?;
        let seconds = text.split(' ').next().and_then(|word| word.parse::<f64>().ok());
        seconds.ok_or_else(|| format!("/proc/uptime: {text}"))
    };
    while uptime()? < UPTIME {
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Median, shortest and longest of sorted rounds, per call.
fn figure(rounds: &[u64], calls: u32) -> String {
    let of_a_call = |at: usize| rounds[at] as f64 / f64::from(calls);
    let last = rounds.len() - 1;
    let (shortest, longest) = (of_a_call(0), of_a_call(last));
    format!("{:.1} ns a call ({shortest:.1} to {longest:.1} in this run; others differ)", of_a_call(last / 2))
}

/// The same in instructions.
fn instructions(rounds: &[u64], calls: u32) -> String {
    let of_a_call = |at: usize| rounds[at] as f64 / f64::from(calls);
    let last = rounds.len() - 1;
    let (fewest, most) = (of_a_call(0), of_a_call(last));
    format!("{:.0} instructions a call (counted: {fewest:.0} to {most:.0})", of_a_call(last / 2))
}

fn nothing(t: &mut Context) -> Result<(), String> {
    take_time(t, 0)
}

fn fentry_and_fexit(t: &mut Context) -> Result<(), String> {
    let _links = (t.attach("cost_fentry")?, t.attach("cost_fexit")?);
    take_time(t, 2)
}

fn session(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("cost_session")?;
    take_time(t, 2)
}

fn session_with_cookie(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("cost_session_with_cookie")?;
    take_time(t, 2)?;
    t.checks.eq("cookie after the last run", t.seen().cost_cookie, 2);
    Ok(())
}

fn kprobe_session(t: &mut Context) -> Result<(), String> {
    let _link = t.session.attach_probe("cost_kprobe_session")?;
    take_time(t, 2)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_figure_is_of_one_call() {
        let rounds = [1_000, 20_500, 300_000];
        assert_eq!(figure(&rounds, 1_000), "20.5 ns a call (1.0 to 300.0 in this run; others differ)");
        assert_eq!(instructions(&rounds, 1_000), "20 instructions a call (counted: 1 to 300)");
    }
}
