// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links on the target change while calls are in flight. Which exit runs those calls lose depends on the
//! kernel; on every kernel an exit run reads the value of its own call or, if the entry did not run, 0.

use super::concurrent::nothing_foreign;
use super::{Context, Subtest, subtests};
use crate::bpf::Tally;
use crate::features::InFlight;
use crate::load::{self, Calls, Sleeper};
use nix::errno::Errno;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};
use vmtest_protocol::Effort;

subtests! { "in_flight":
    Quick session_attached_meanwhile ["tally_1", "tally_2"]
        "A session is attached while calls sleep in the target: their exits see their own value, or do not run.";
    Normal session_detached_meanwhile ["tally_1", "tally_2"]
        "One of two sessions is detached while calls sleep in the target: exits see their own value, or do not run.";
    Normal plain_links_change_meanwhile ["tally_1", "futex_fentry", "futex_fexit"]
        "fentry and fexit come and go while calls sleep in the target: exits see their own value, or do not run.";
    Normal links_change_under_load ["tally_1", "tally_2", "tally_3"] on [SeveralCpus, SingleThread]
        "While every CPU calls the target and sessions come and go, no exit sees a value of another call or session.";
}

/// Number of calls that sleep at once.
const SLEEPERS: u64 = 3;

/// Starts calls that sleep in the target, and checks that the session saw each of them start.
fn fall_asleep(t: &mut Context, when: &str) -> Result<Vec<Sleeper>, String> {
    let before = t.seen().tally_1_tally.entries;
    let sleepers: Vec<Sleeper> =
        (1..=SLEEPERS).map(|caller| Sleeper::start(caller as u32, None)).collect::<Result<_, _>>()?;
    let entries = t.seen().tally_1_tally.entries - before;
    t.checks.eq(format!("{when}: entries of calls that now sleep"), entries, SLEEPERS);
    Ok(sleepers)
}

/// Wakes them, and checks the results of their calls.
fn wake_up(t: &mut Context, when: &str, sleepers: Vec<Sleeper>) -> Result<(), String> {
    for sleeper in sleepers {
        let returned = sleeper.wake()?;
        t.checks.same(format!("{when}: what a call that slept returns"), returned, Ok(()));
    }
    Ok(())
}

/// Checks how many exits of sleeping calls ran for a session that stayed attached, by the kernel's rule.
fn exits_of_the_one_that_stays(t: &mut Context, when: &str, exits: u64) {
    let what = format!("{when}: exits of the session that stayed (profile: {})", t.profile.in_flight_rule());
    match t.profile.in_flight {
        Some(InFlight::OfEveryProgram) => t.checks.eq(what, exits, 0),
        Some(InFlight::OfTheDetached) => t.checks.eq(what, exits, SLEEPERS),
        None => t.checks.state(what, format!("at most {SLEEPERS}"), exits.to_string(), exits <= SLEEPERS),
    }
}

/// Checks how many of these exits ran for a session that was attached or detached: without an entry run they
/// read 0.
fn exits_of_the_other(t: &mut Context, when: &str, tally: &Tally) {
    let what = format!("{when}: exits of the other (profile: {})", t.profile.in_flight_rule());
    match t.profile.in_flight {
        Some(InFlight::OfEveryProgram) => t.checks.eq(what, tally.exits, 0),
        Some(InFlight::OfTheDetached) | None => {
            let seen = format!("{}, {} of them with 0", tally.exits, tally.empty);
            t.checks.state(what, format!("at most {SLEEPERS}"), seen, tally.exits <= SLEEPERS);
        }
    }
    nothing_foreign(t, &format!("{when}: the other"), tally);
}

/// Checks that a new call runs these sessions twice each.
fn next_call_is_whole(t: &mut Context, when: &str, others: bool) {
    let before = (t.seen().tally_1_tally, t.seen().tally_2_tally);
    let returned = load::call(&AtomicU32::new(0), 1, 9, None);
    t.checks.same(format!("{when}: what the next call returns"), returned, Err(Errno::EAGAIN));
    let after = (t.seen().tally_1_tally, t.seen().tally_2_tally);
    let runs = |before: &Tally, after: &Tally| (after.entries - before.entries, after.exits - before.exits);
    t.checks.same(format!("{when}: its runs of the session"), runs(&before.0, &after.0), (1, 1));
    let wanted = if others { (1, 1) } else { (0, 0) };
    t.checks.same(format!("{when}: its runs of the other"), runs(&before.1, &after.1), wanted);
    nothing_foreign(t, when, &after.0);
}

fn session_attached_meanwhile(t: &mut Context) -> Result<(), String> {
    const WHEN: &str = "attached";
    let _stays = t.attach("tally_1")?;
    let sleepers = fall_asleep(t, WHEN)?;
    let _comes = t.attach("tally_2")?;
    t.checks.eq("exits while all sleep", t.seen().tally_1_tally.exits, 0);
    wake_up(t, WHEN, sleepers)?;
    let seen = t.seen();
    exits_of_the_one_that_stays(t, WHEN, seen.tally_1_tally.exits);
    t.checks.eq("entries of the other", seen.tally_2_tally.entries, 0);
    exits_of_the_other(t, WHEN, &seen.tally_2_tally);
    next_call_is_whole(t, WHEN, true);
    t.checks.eq("exits of the session that stayed, which found 0", t.seen().tally_1_tally.empty, 0);
    Ok(())
}

fn session_detached_meanwhile(t: &mut Context) -> Result<(), String> {
    // The detached session is once after the other and once before it: then the other's cookie moves.
    for (when, order) in
        [("detached, the last", ["tally_1", "tally_2"]), ("detached, the first", ["tally_2", "tally_1"])]
    {
        t.reset();
        let [first, last] = order.map(|name| t.attach(name));
        let (stays, goes) = if order[0] == "tally_1" { (first?, last?) } else { (last?, first?) };
        let sleepers = fall_asleep(t, when)?;
        t.checks.eq(format!("{when}: entries of the other"), t.seen().tally_2_tally.entries, SLEEPERS);
        drop(goes);
        wake_up(t, when, sleepers)?;
        let seen = t.seen();
        exits_of_the_one_that_stays(t, when, seen.tally_1_tally.exits);
        exits_of_the_other(t, when, &seen.tally_2_tally);
        next_call_is_whole(t, when, false);
        let empty = t.seen().tally_1_tally.empty;
        t.checks.eq(format!("{when}: exits of the session that stayed, which found 0"), empty, 0);
        drop(stays);
    }
    Ok(())
}

fn plain_links_change_meanwhile(t: &mut Context) -> Result<(), String> {
    let _stays = t.attach("tally_1")?;
    let mut plain = None;
    for (when, program) in [
        ("fentry attached", Some("futex_fentry")),
        ("fentry detached", None),
        ("fexit attached", Some("futex_fexit")),
        ("fexit detached", None),
    ] {
        let sleepers = fall_asleep(t, when)?;
        let before = t.seen().tally_1_tally.exits;
        plain = match program {
            Some(program) => Some(t.attach(program)?),
            None => {
                drop(plain);
                None
            }
        };
        wake_up(t, when, sleepers)?;
        let exits = t.seen().tally_1_tally.exits - before;
        exits_of_the_one_that_stays(t, when, exits);
        next_call_is_whole(t, when, false);
    }
    let seen = t.seen();
    t.checks.eq("exits of the session, which found 0", seen.tally_1_tally.empty, 0);
    // Attached for one whole call each, and entered by those that were asleep when they were detached.
    t.checks.eq("runs of fentry", seen.futex_fentry_runs, 1 + SLEEPERS);
    let fexit = seen.futex_fexit_runs;
    t.checks.state("runs of fexit", "1 or more", fexit.to_string(), (1..=1 + 2 * SLEEPERS).contains(&fexit));
    Ok(())
}

/// Minimum time during which links change, and minimum number of changes.
fn amount(effort: Effort) -> (Duration, u64) {
    match effort {
        Effort::Quick | Effort::Normal => (Duration::from_secs(2), 8),
        Effort::Soak => (Duration::from_secs(30), 100),
    }
}

fn links_change_under_load(t: &mut Context) -> Result<(), String> {
    const CHANGING: [&str; 2] = ["tally_2", "tally_3"];
    const SESSIONS: [&str; 3] = ["tally_1", CHANGING[0], CHANGING[1]];
    let misses = |t: &Context| SESSIONS.map(|name| t.session.stats(name).map(|stats| stats.misses));
    let before = misses(t);
    let _stays = t.attach("tally_1")?;
    let (time, least) = amount(t.effort);
    let mut changes = 0;
    let calls = load::on_every_cpu(|course| {
        let started = Instant::now();
        let mut links = [const { None }; 2];
        while started.elapsed() < time || changes < least {
            // Attach both, then detach both: the position of each cookie changes with every step.
            let n = (changes % 2) as usize;
            links[n] = match links[n].take() {
                None => Some(course.change(|| t.attach(CHANGING[n]))?),
                link => course.change(|| {
                    drop(link);
                    None
                }),
            };
            changes += 1;
        }
        Ok(())
    })?;
    let Calls { threads, made, wrong, straddled } = calls;
    t.checks.eq("calls that returned something else than they had to", wrong, 0);
    t.checks.state(
        format!("calls under way during one of {changes} changes"),
        "some",
        straddled.to_string(),
        straddled > 0,
    );
    let seen = t.seen();
    let after = misses(t);
    let tallies = [seen.tally_1_tally, seen.tally_2_tally, seen.tally_3_tally];
    for (n, (before, after)) in before.into_iter().zip(after).enumerate() {
        let (name, tally, misses) = (SESSIONS[n], &tallies[n], after? - before?);
        nothing_foreign(t, name, tally);
        t.checks.state(format!("{name}: entries"), "some", tally.entries.to_string(), tally.entries > 0);
        // An exit without its entry is one whose entry was skipped, or that of a session that was attached in
        // the meantime.
        let may_be_empty = match t.profile.in_flight {
            Some(InFlight::OfEveryProgram) => misses,
            Some(InFlight::OfTheDetached) | None if n == 0 => misses,
            Some(InFlight::OfTheDetached) | None => misses + straddled,
        };
        let what = format!("{name}: exits that found 0");
        t.checks.state(
            what,
            format!("at most {may_be_empty}"),
            tally.empty.to_string(),
            tally.empty <= may_be_empty,
        );
        if n == 0 {
            // A thread has one call in flight when a change takes effect. How many exits that costs is
            // random.
            let most = match t.profile.in_flight {
                Some(InFlight::OfTheDetached) => 0,
                Some(InFlight::OfEveryProgram) | None => changes * threads,
            };
            let lost = (2 * made).checked_sub(tally.entries + tally.exits + misses);
            t.checks.state(
                format!(
                    "{name}: runs lost in {made} calls of {threads} threads, in {changes} changes (profile: {})",
                    t.profile.in_flight_rule()
                ),
                format!("0 to {most}"),
                lost.map_or("more runs than calls".to_owned(), |lost| lost.to_string()),
                lost.is_some_and(|lost| lost <= most),
            );
        }
    }
    Ok(())
}
