// SPDX-License-Identifier: MIT OR Apache-2.0
//! A function with as many sessions as possible: until its links are used up, or its trampoline's page is
//! full.

use super::{Context, ENTRY, EXIT, first_goes_on};
use crate::bpf::{self, Copy, Kind, Link};
use crate::features::{FSESSION_MULTI, MODIFY_TARGET};
use crate::tests::told;
use nix::errno::Errno;

/// Loads a program that does nothing, for the same target as `one_arg`. Each load makes another program,
/// which a new link needs, because a program attaches only once.
fn minimal(t: &Context, kind: Kind) -> Result<Copy, String> {
    bpf::load_minimal(kind, t.features.target_id()?, &[])
        .map_err(|refusal| format!("load a minimal program ({kind:?}): {refusal}"))
}

/// A target with many links. `one_arg` is the first.
struct Filled {
    /// Programs and links, in the order of attaching.
    links: Vec<(Option<Copy>, Link)>,
    /// How a session was rejected although links were left: with call depth tracking each call takes so much
    /// space that the trampoline's page fills up first.
    page_full: Option<Errno>,
}

/// Sessions that fit in a page at the least, with call depth tracking: 15 on kernels of mainline.
const FIT: usize = 12;

/// Fills the target of `one_arg` until `left` links are left; that program is the first one.
fn fill(t: &Context, left: u32) -> Result<Filled, String> {
    let places = t.profile.max_links.ok_or("BTF does not say BPF_MAX_TRAMP_LINKS")?;
    let mut filled = Filled { links: vec![(None, t.attach("one_arg")?)], page_full: None };
    let mut used = 2;
    while used + left < places {
        let (kind, takes) = if used + 2 + left <= places { (Kind::Fsession, 2) } else { (Kind::Fentry, 1) };
        let program = minimal(t, kind)?;
        match program.attach(0) {
            Ok(link) => filled.links.push((Some(program), link)),
            Err(errno) if t.profile.call_depth_tracking => {
                filled.page_full = Some(errno);
                break;
            }
            Err(errno) => return Err(format!("attach {kind:?} to place {used}: {errno}")),
        }
        used += takes;
    }
    Ok(filled)
}

/// Checks the result of attaching one more program of a kind. Returns its link if it attaches.
fn one_more(t: &mut Context, kind: Kind, expected: Result<(), Errno>) -> Result<Option<Link>, String> {
    let link = minimal(t, kind)?.attach(0);
    let text =
        |result: Result<(), Errno>| result.map_or_else(|errno| errno.to_string(), |()| "attached".to_owned());
    t.checks.eq(
        format!("attaching one more {kind:?}"),
        text(link.as_ref().map(drop).map_err(|errno| *errno)),
        text(expected),
    );
    Ok(link.ok())
}

/// Parameter that requests call depth tracking.
const TRACK: &str = "retbleed=stuff";

/// Declares the known bug of mainline. `false`: filling up a target would kill this kernel, which was not
/// requested.
fn may_fill_up(t: &mut Context) -> Result<bool, String> {
    let cmdline = std::fs::read_to_string("/proc/cmdline").map_err(|err| format!("/proc/cmdline: {err}"))?;
    let has = |word: &str| cmdline.split_ascii_whitespace().any(|found| found == word);
    if has(TRACK) {
        // Otherwise this kernel would seem to have passed with it.
        let tracking = t.profile.call_depth_tracking;
        t.checks.eq(format!("call depth tracking, with {TRACK}"), tracking, true);
    }
    // The series for long-term kernels counts the bytes. It is identified by its limit of cookies.
    if !t.profile.call_depth_tracking || t.profile.cookie_limit.is_some() {
        return Ok(true);
    }
    t.checks.expect_failure(
        "under call depth tracking mainline lets the trampoline outgrow its page: an oops at first, -EFAULT and a \
         warning where there is fsession.multi (docs/findings/full-trampoline.md)",
    );
    let may = t.features.has(FSESSION_MULTI) || t.provoke;
    if !may {
        t.checks.eq("filling up", "not tried: the kernel would die", "tried");
    }
    Ok(may)
}

pub fn filled_up(t: &mut Context) -> Result<(), String> {
    if !may_fill_up(t)? {
        return Ok(());
    }
    let mut filled = fill(t, 1)?;
    if let Some(errno) = filled.page_full {
        let links = filled.links.len();
        t.checks.state("links in a full page", format!("at least {FIT}"), links.to_string(), links >= FIT);
        let after = format!("a session after {links} links, the page being full");
        t.checks.eq(after, errno.to_string(), Errno::E2BIG.to_string());
        one_more(t, Kind::Fsession, Err(Errno::E2BIG))?;
        first_goes_on(t)?;
        filled.links.pop();
        let _last = one_more(t, Kind::Fsession, Ok(()))?;
        return first_goes_on(t);
    }
    one_more(t, Kind::Fsession, Err(Errno::E2BIG))?;
    first_goes_on(t)?;
    let last = one_more(t, Kind::Fentry, Ok(()))?;
    first_goes_on(t)?;
    one_more(t, Kind::Fsession, Err(Errno::E2BIG))?;
    one_more(t, Kind::Fentry, Err(Errno::E2BIG))?;
    first_goes_on(t)?;
    drop(last);
    one_more(t, Kind::Fentry, Ok(()))?;
    Ok(())
}

pub fn filled_up_with_cookies(t: &mut Context) -> Result<(), String> {
    const ALL: &str = "all attached";
    if !may_fill_up(t)? {
        return Ok(());
    }
    let sessions = t.profile.max_links.ok_or("BTF does not say BPF_MAX_TRAMP_LINKS")? / 2;
    let with_cookie = t.profile.cookie_limit.unwrap_or(sessions).min(sessions);

    let mut links = Vec::new();
    let mut end = ALL.to_owned();
    for id in 1..=sessions {
        let program = if id <= with_cookie { "identified" } else { "with_ip" };
        let copy = t.session.copy(program, t.features.target_id()?)?;
        match copy.attach(id.into()) {
            Ok(link) => links.push((copy, link)),
            Err(errno) => {
                end = errno.to_string();
                break;
            }
        }
    }
    // With call depth tracking the page may fill up first.
    let fits = end == ALL || t.profile.call_depth_tracking && end == Errno::E2BIG.to_string();
    let expected =
        if t.profile.call_depth_tracking { "all attached, or -E2BIG after at least 12" } else { ALL };
    t.checks.state(
        format!("filling with {sessions} sessions"),
        expected,
        format!("{end}, {} attached", links.len()),
        fits && links.len() >= FIT,
    );
    let attached = links.len() as u64;
    let identified = attached.min(with_cookie.into());
    for _ in 0..3 {
        t.reset();
        t.call_fentry_tests()?;
        let (seen, others) = (t.seen().identified_seen, t.seen().with_ip_seen);
        t.checks.same("runs of those with a cookie", seen.map(|seen| seen.runs), [identified; 2]);
        t.checks.same("runs of those without", others.map(|seen| seen.runs), [attached - identified; 2]);
        t.checks.eq("cookies that were not 0 at entry", seen[ENTRY].value, 0);
        t.checks.eq("cookies that were not the program's own at exit", seen[EXIT].value, 0);
    }
    Ok(())
}

/// Checks that `around_body`, the first session, still runs in a call of bpf_modify_return_test.
fn around_body_goes_on(t: &mut Context) -> Result<(), String> {
    t.reset();
    t.call_modify_return_tests()?;
    let seen = t.seen().body_seen;
    t.checks.same("runs of the first session", seen.map(|seen| seen.runs), [1, 1]);
    t.checks.same("value at both", seen.map(|seen| seen.ret as i32), [0, 4]);
    Ok(())
}

pub fn filled_up_with_all_kinds(t: &mut Context) -> Result<(), String> {
    const KINDS: [(Kind, u32); 4] =
        [(Kind::FmodRet, 1), (Kind::Fexit, 1), (Kind::Fsession, 2), (Kind::Fentry, 1)];
    if !may_fill_up(t)? {
        return Ok(());
    }
    let places = t.profile.max_links.ok_or("BTF does not say BPF_MAX_TRAMP_LINKS")?;
    let target = t.features.func_id(MODIFY_TARGET)?;
    let load = |kind: Kind| {
        bpf::load_minimal(kind, target, &[]).map_err(|refusal| format!("load {kind:?}: {refusal}"))
    };
    let mut links = vec![(None, t.attach("around_body")?)];
    let mut used = 2;
    for (kind, takes) in KINDS.into_iter().cycle() {
        if used + takes >= places {
            break;
        }
        let program = load(kind)?;
        match program.attach(0) {
            Ok(link) => links.push((Some(program), link)),
            // With call depth tracking the page is full first.
            Err(Errno::E2BIG) if t.profile.call_depth_tracking && links.len() >= FIT => {
                return around_body_goes_on(t);
            }
            Err(errno) => return Err(format!("attach {kind:?} to place {used}: {errno}")),
        }
        used += takes;
    }
    let mut one_more = |t: &mut Context, left: u32, kind: Kind, fits: bool| -> Result<(), String> {
        let program = load(kind)?;
        let link = program.attach(0);
        let expected = if fits { "attached".to_owned() } else { Errno::E2BIG.to_string() };
        let seen = told(&link, "attached");
        t.checks.eq(format!("one more {kind:?} with {left} of {places} left"), seen, expected);
        links.extend(link.ok().map(|link| (Some(program), link)));
        Ok(())
    };
    // Fill up so that exactly one is left.
    while used + 1 < places {
        one_more(t, places - used, Kind::Fentry, true)?;
        used += 1;
    }
    one_more(t, 1, Kind::Fsession, false)?;
    around_body_goes_on(t)?;
    one_more(t, 1, Kind::FmodRet, true)?;
    for (kind, _) in KINDS {
        one_more(t, 0, kind, false)?;
    }
    around_body_goes_on(t)
}
