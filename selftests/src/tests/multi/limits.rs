// SPDX-License-Identifier: MIT OR Apache-2.0
//! As many links as a function takes, and as many functions as a link may have to have.

use super::{Context, TARGETS, attach, ids, load, runs_in_one_call, told, vmlinux};
use crate::bpf::{Copy, Link};
use crate::btf;
use crate::multi;
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

pub fn full_function(t: &mut Context) -> Result<(), String> {
    let places = t.profile.max_links.ok_or("BTF does not say BPF_MAX_TRAMP_LINKS")? as usize / 2;
    let [full, free] = ids([TARGETS[0], TARGETS[1]])?;
    let mut links: Vec<Link> =
        (0..places).map(|_| attach(&load(t, "multi_1")?, &[full])).collect::<Result<_, _>>()?;
    let all = places as u64;
    t.checks.same("runs in one call, with as many as BTF says", runs_in_one_call(t)?, (all, all));
    let program = load(t, "multi_1")?;
    for (what, set) in
        [("full and free", vec![full, free]), ("free and full", vec![free, full]), ("full", vec![full])]
    {
        let link = multi::attach(&program, &set, None);
        t.checks.eq(format!("one more: {what}"), told(&link), Errno::E2BIG.to_string());
        drop(link);
        t.checks.same(format!("runs after it was refused: {what}"), runs_in_one_call(t)?, (all, all));
    }
    t.refused("a session on the full function alone", "no_kfunc", Errno::E2BIG)?;
    links.pop();
    let plain = t.attach("no_kfunc")?;
    t.checks.same("runs with one detached", runs_in_one_call(t)?, (all - 1, all - 1));
    t.checks.eq("runs of a session in its place", t.seen().no_kfunc_seen.runs, 2);
    let link = multi::attach(&program, &[full, free], None);
    t.checks.eq("one more while it is there", told(&link), Errno::E2BIG.to_string());
    drop((link, plain));
    let link = multi::attach(&program, &[full, free], None);
    t.checks.eq("one more once it is gone", told(&link), "attached".to_owned());
    t.checks.same("runs with that on both functions", runs_in_one_call(t)?, (all + 1, all + 1));
    Ok(())
}

/// Beginnings of names of functions that are neither used by trampolines nor called all the time.
const PREFIXES: [&str; 16] = [
    "tcp_", "udp_", "ip_", "ip6_", "inet_", "ipv6_", "sock_", "vfs_", "ext4_", "proc_", "sysfs_", "kernfs_",
    "cgroup_", "netdev_", "rtnl_", "pci_",
];

/// BTF IDs of functions that ftrace can patch and whose name is unique.
fn candidates() -> Result<Vec<u32>, String> {
    const LIST: &str = "/sys/kernel/tracing/available_filter_functions";
    let text = std::fs::read_to_string(LIST).map_err(|err| format!("{LIST}: {err}"))?;
    let (mut names, mut again) = (BTreeSet::new(), BTreeSet::new());
    for name in text.lines().filter(|line| PREFIXES.iter().any(|prefix| line.starts_with(prefix))) {
        if name.contains([' ', '.']) || !names.insert(name.as_bytes()) {
            again.insert(name.as_bytes());
        }
    }
    btf::functions(&vmlinux()?, |name| names.contains(name) && !again.contains(name))
}

/// Those of the functions that take a link, up to `most`: halves whatever is refused.
fn attachable(program: &Copy, ids: &[u32], most: usize, found: &mut Vec<u32>) {
    if found.len() >= most || ids.is_empty() {
        return;
    }
    if multi::attach(program, ids, None).is_ok() {
        found.extend_from_slice(ids);
    } else if let (left, [_, ..]) = ids.split_at(ids.len() / 2)
        && !left.is_empty()
    {
        attachable(program, left, most, found);
        attachable(program, &ids[left.len()..], most, found);
    }
}

pub fn detach_cost(t: &mut Context) -> Result<(), String> {
    const SIZES: [usize; 4] = [1, 10, 100, 1000];
    const CHUNK: usize = 128;
    let (program, [target]) = (load(t, "multi_counts")?, ids([TARGETS[0]])?);
    let mut functions = vec![target];
    for chunk in candidates()?.chunks(CHUNK) {
        attachable(&program, chunk, SIZES[3], &mut functions);
    }
    functions.truncate(SIZES[3]);
    let mut figures = Vec::new();
    for size in SIZES.map(|size| size.min(functions.len())) {
        let started = Instant::now();
        let link = multi::attach(&program, &functions[..size], None);
        let attached = started.elapsed();
        t.checks.eq(format!("attach to {size}"), told(&link), "attached".to_owned());
        t.reset();
        t.call_fentry_tests()?;
        let entries = t.seen().multi_tally.entries;
        t.checks.state(
            format!("entries in a call of one of {size}"),
            "1 or more",
            entries.to_string(),
            entries > 0,
        );
        let started = Instant::now();
        drop(link);
        figures.push((size, attached, started.elapsed()));
        t.reset();
        t.call_fentry_tests()?;
        t.checks.eq(format!("entries after detach from {size}"), t.seen().multi_tally.entries, 0);
    }
    let ms = |time: Duration| time.as_millis().to_string();
    let column = |of: &dyn Fn(&(usize, Duration, Duration)) -> String| {
        figures.iter().map(of).collect::<Vec<_>>().join("/")
    };
    t.checks.measured(format!(
        "{} functions: attach {} ms, detach {} ms",
        column(&|row| row.0.to_string()),
        column(&|row| ms(row.1)),
        column(&|row| ms(row.2)),
    ));
    Ok(())
}
