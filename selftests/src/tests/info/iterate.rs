// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links that a BPF iterator sees while they are made and closed.

use super::Context;
use crate::bpf::Link;
use crate::features::InFlight;
use crate::syscall;
use libbpf_rs::libbpf_sys as sys;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TIME: Duration = Duration::from_secs(3);

/// Runs the iterator over all links once.
fn iterate(link: &Link) -> Result<(), String> {
    let mut file = syscall::iter_create(link).map_err(|errno| format!("BPF_ITER_CREATE: {errno}"))?;
    file.read_to_end(&mut Vec::new()).map(drop).map_err(|err| format!("run the iterator: {err}"))
}

pub fn in_link_iterator(t: &mut Context) -> Result<(), String> {
    let iterator = syscall::link_create(t.session.fd("iterate_links")?, sys::BPF_TRACE_ITER, 0)
        .map(Link::from)
        .map_err(|errno| format!("link of the iterator: {errno}"))?;
    let id = t.session.info("one_arg")?.id;
    t.session.set(|globals| globals.iterated = id);
    let stop = AtomicBool::new(false);
    let (mut changes, started) = (0u32, Instant::now());
    std::thread::scope(|scope| -> Result<(), String> {
        let reader = scope.spawn(|| -> Result<(), String> {
            while !stop.load(Ordering::Relaxed) {
                iterate(&iterator)?;
            }
            Ok(())
        });
        let changed = (|| -> Result<(), String> {
            while started.elapsed() < TIME {
                let _links = (t.attach("one_arg")?, t.attach("two_args")?);
                changes += 1;
            }
            Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        reader.join().map_err(|_| "the reader panicked".to_owned())??;
        changed
    })?;
    let during = t.seen().iteration;
    let shown = format!("{} of {}, in {changes} changes", during.sessions, during.links);
    t.checks.state("links of the session", "some", shown, during.sessions > 0 && changes > 0);
    t.checks.eq("links without a program", during.without_program, 0);
    // Fixed shortly before images of trampolines got their skips.
    let settled = t.profile.in_flight == Some(InFlight::OfTheDetached);
    let bug = (!settled).then_some(
        "the iterator shows links that are not complete yet, without an id (docs/findings/unsettled-link.md)",
    );
    let ok = during.without_id == 0;
    t.checks.state_with_bug(bug, "links without an id", "0", during.without_id.to_string(), ok);
    // A link that is complete is there.
    for links in 0..=1 {
        let _link = if links == 1 { Some(t.attach("one_arg")?) } else { None };
        t.session.set(|globals| globals.iteration.sessions = 0);
        iterate(&iterator)?;
        t.checks.eq(format!("links of the session, {links} being open"), t.seen().iteration.sessions, links);
    }
    Ok(())
}
