// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own information about a link to many functions.

use super::{Context, TARGETS, addresses, found, ids, load, runs_in_one_call};
use crate::bpf::{FSESSION_MULTI, Link};
use crate::multi::{self, Info, LINK_TYPE};
use crate::syscall;
use nix::errno::Errno;
use std::os::fd::AsRawFd;

/// BTF ID and attach cookie of three functions, in the order in which the kernel keeps them: by ID.
fn three() -> Result<[(u32, u64); 3], String> {
    let [one, two, three] = ids([TARGETS[2], TARGETS[0], TARGETS[4]])?;
    let mut named = [(one, 0x1122_3344_5566_7788), (two, 2), (three, 0xffff_ffff_ffff_fff3)];
    named.sort_unstable();
    Ok(named)
}

/// Attaches `multi_1` to them, named in another order, and checks that this is the link that runs.
fn attach_three(t: &mut Context, named: &[(u32, u64); 3], with_cookies: bool) -> Result<(Link, u32), String> {
    let program = load(t, "multi_1")?;
    let [first, second, third] = *named;
    let (ids, cookies): (Vec<u32>, Vec<u64>) = [third, first, second].into_iter().unzip();
    let link = multi::attach(&program, &ids, with_cookies.then_some(&cookies))
        .map_err(|errno| format!("attach: {errno}"))?;
    t.checks.same("runs of the link", runs_in_one_call(t)?, (3, 3));
    let id = program.id().map_err(|errno| format!("info of the program: {errno}"))?;
    Ok((link, id))
}

/// The function of the kernel that fills in the functions of a link; older kernels only say that it is there.
const FILLS: &str = "bpf_tracing_multi_link_fill_link_info";

/// Whether the kernel says something about the functions of a link. If not, checks that it leaves all of it
/// alone, and makes the subtest a skip.
fn says_something(t: &mut Context, link: &Link) -> Result<bool, String> {
    if found(&[FILLS])?.funcs.contains_key(FILLS) {
        return Ok(true);
    }
    let (answer, functions) = multi::functions(link, 2);
    t.checks.same(
        "count and attach_type, left alone",
        answer.map(|info| (info.count, info.attach_type)),
        Ok((2, 0)),
    );
    t.checks.same("ids, left alone", functions.ids, vec![!0; 2]);
    t.checks.skip(format!(
        "BTF has no {FILLS}, and bpf_link_info says nothing about the functions of such a link"
    ));
    Ok(false)
}

/// Where ftrace patches a function: at its address, or behind the ENDBR there.
const PATCHED_AT: [u64; 2] = [0, 4];

pub fn link_info(t: &mut Context) -> Result<(), String> {
    let named = three()?;
    let names = [TARGETS[2], TARGETS[0], TARGETS[4]];
    let mut places: Vec<(u32, u64)> = ids(names)?.into_iter().zip(addresses(names)?).collect();
    places.sort_unstable();
    let btf = syscall::vmlinux_btf_id().map_err(|errno| format!("the loaded BTFs: {errno}"))?;
    for with_cookies in [true, false] {
        let (link, program) = attach_three(t, &named, with_cookies)?;
        let info = multi::info(&link).map_err(|errno| format!("info of the link: {errno}"))?;
        t.checks.eq("type (BPF_LINK_TYPE_TRACING_MULTI)", info.link_type, LINK_TYPE);
        t.checks.eq("prog_id", info.prog_id, program);
        if !says_something(t, &link)? {
            return Ok(());
        }
        t.checks.eq("attach_type (BPF_TRACE_FSESSION_MULTI)", info.attach_type, FSESSION_MULTI);
        t.checks.eq("count", info.count, 3);
        t.checks.same("btf_obj_id (the kernel's BTF)", Some(info.btf_obj_id), btf);
        let (answer, functions) = multi::functions(&link, 3);
        t.checks.same("asking for the functions", answer.map(|info| info.count), Ok(3));
        t.checks.same("ids", functions.ids, named.map(|(id, _)| id).to_vec());
        let offset = |(seen, (_, symbol)): (&u64, &(u32, u64))| seen.wrapping_sub(*symbol);
        let offsets: Vec<u64> = functions.addrs.iter().zip(&places).map(offset).collect();
        t.checks.state(
            "addrs, from the functions' addresses in kallsyms",
            "0, or 4 with an ENDBR",
            format!("{offsets:?}"),
            offsets.len() == 3 && offsets.iter().all(|offset| PATCHED_AT.contains(offset)),
        );
        let cookies = named.map(|(_, cookie)| if with_cookies { cookie } else { 0 });
        t.checks.same("cookies", functions.cookies, cookies.to_vec());
    }
    Ok(())
}

pub fn link_info_places(t: &mut Context) -> Result<(), String> {
    let named = three()?;
    let (link, _) = attach_three(t, &named, true)?;
    if !says_something(t, &link)? {
        return Ok(());
    }
    for places in [1, 2] {
        let (answer, functions) = multi::functions(&link, places);
        let answer = answer.map(|info| info.count);
        t.checks.same(format!("places for {places} of three"), answer, Err(Errno::ENOSPC));
        let ids: Vec<u32> = named[..places].iter().map(|(id, _)| *id).collect();
        t.checks.same(format!("the ids in {places}"), functions.ids, ids);
    }
    let (answer, functions) = multi::functions(&link, 4);
    t.checks.same("places for four", answer.map(|info| info.count), Ok(3));
    t.checks.eq("what is in the fourth", functions.ids[3], !0);
    let mut ids = [0u32; 3];
    let at = ids.as_mut_ptr() as u64;
    for (what, request, expected) in [
        ("an array without a number", Info { ids: at, ..Info::default() }, Errno::EINVAL),
        ("cookies without a number", Info { cookies: at, ..Info::default() }, Errno::EINVAL),
        ("an array at a wrong address", Info { ids: 8, count: 3, ..Info::default() }, Errno::EFAULT),
        ("addrs at a wrong address", Info { addrs: 8, count: 3, ..Info::default() }, Errno::EFAULT),
    ] {
        let answer = multi::fill(&link, request).map(|info| info.count);
        t.checks.same(what, answer, Err(expected));
    }
    Ok(())
}

pub fn link_in_proc(t: &mut Context) -> Result<(), String> {
    let named = three()?;
    let (link, program) = attach_three(t, &named, true)?;
    let path = format!("/proc/self/fdinfo/{}", link.fd().as_raw_fd());
    let text = std::fs::read_to_string(&path).map_err(|err| format!("{path}: {err}"))?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":"));
        line.unwrap_or("no such line").trim().to_owned()
    };
    for (name, expected) in [
        ("link_type", "tracing_multi".to_owned()),
        ("prog_id", program.to_string()),
        ("attach_type", FSESSION_MULTI.to_string()),
        ("cnt", "3".to_owned()),
    ] {
        t.checks.eq(name, value(name), expected);
    }
    let rows: Vec<Vec<&str>> = text
        .lines()
        .skip_while(|line| !line.starts_with("obj-id"))
        .skip(1)
        .map(|line| line.split_ascii_whitespace().skip(1).take(2).collect())
        .collect();
    let expected: Vec<Vec<String>> =
        named.iter().map(|(id, cookie)| vec![id.to_string(), cookie.to_string()]).collect();
    t.checks.state("id and cookie of each", format!("{expected:?}"), format!("{rows:?}"), rows == expected);
    Ok(())
}
