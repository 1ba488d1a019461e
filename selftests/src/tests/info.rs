// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own information about a session's link and program, from bpf(2) and in /proc. Tools show no
//! more than that.

mod iterate;

use super::{Context, Subtest, subtests};
use crate::bpf::{FSESSION, Link, Unloaded};
use crate::syscall;
use iterate::*;
use libbpf_rs::libbpf_sys as sys;
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;

subtests! { "info":
    Normal of_link ["no_kfunc"] needs PlainSessions
        "bpf_link_info of a session has its type and attach type, its program, its target and its attach cookie.";
    Normal of_link_to_program ["target_program"]
        "bpf_link_info of a session on a BPF program names that program as target.";
    Normal of_link_in_proc ["no_kfunc"] needs PlainSessions
        "/proc/self/fdinfo of a session's link says the same as bpf_link_info.";
    Normal of_program ["slow"] needs PlainSessions
        "bpf_prog_info of a session has its type and target, and counts two runs a call.";
    Normal in_link_iterator ["iterate_links", "one_arg", "two_args"] on [SeveralCpus]
        "While sessions come and go, the iterator over links shows each with its id and its program.";
}

const ATTACH_COOKIE: u64 = 0x1122_3344_5566_7788;

fn link_info(link: &Link) -> Result<sys::bpf_link_info, String> {
    syscall::link_info(link).map_err(|errno| format!("info of the link: {errno}"))
}

/// ID of the vmlinux BTF, which contains targets that are kernel functions.
fn vmlinux_btf_id() -> Result<u32, String> {
    let id = syscall::vmlinux_btf_id().map_err(|errno| format!("the loaded BTFs: {errno}"))?;
    id.ok_or("no BTF is called vmlinux".to_owned())
}

fn of_link(t: &mut Context) -> Result<(), String> {
    let (program, btf) = (t.session.info("no_kfunc")?, vmlinux_btf_id()?);
    for cookie in [ATTACH_COOKIE, 0] {
        let link = t.attach_with_cookie("no_kfunc", cookie)?;
        let info = link_info(&link)?;
        // SAFETY: integers; the kernel filled in this member if the type is the one checked below.
        let tracing = unsafe { info.__bindgen_anon_1.tracing };
        t.checks.eq("type (BPF_LINK_TYPE_TRACING)", info.type_, sys::BPF_LINK_TYPE_TRACING);
        t.checks.eq("prog_id", info.prog_id, program.id);
        t.checks.eq("attach_type (BPF_TRACE_FSESSION)", i64::from(tracing.attach_type), FSESSION);
        t.checks.eq("target_obj_id (the kernel's BTF)", tracing.target_obj_id, btf);
        t.checks.eq("target_btf_id (bpf_fentry_test1)", tracing.target_btf_id, t.features.target_id()?);
        t.checks.hex("cookie", tracing.cookie, cookie);
    }
    Ok(())
}

fn of_link_to_program(t: &mut Context) -> Result<(), String> {
    let target = t.session.info("target_program")?;
    let mut object = Unloaded::open()?;
    object.set_target("on_program", t.session.fd("target_program")?, c"target_program")?;
    object.choose("on_program")?;
    let session = object.load().map_err(|errno| format!("load a session on a BPF program: {errno}"))?;
    let program = session.info("on_program")?;
    let link = session.attach("on_program", ATTACH_COOKIE)?;
    let link = link.map_err(|errno| format!("attach to a BPF program: {errno}"))?;
    let info = link_info(&link)?;
    // SAFETY: as above.
    let tracing = unsafe { info.__bindgen_anon_1.tracing };
    t.checks.eq("type (BPF_LINK_TYPE_TRACING)", info.type_, sys::BPF_LINK_TYPE_TRACING);
    t.checks.eq("prog_id", info.prog_id, program.id);
    t.checks.eq("attach_type (BPF_TRACE_FSESSION)", i64::from(tracing.attach_type), FSESSION);
    t.checks.eq("target_obj_id (the program)", tracing.target_obj_id, target.id);
    t.checks.state(
        "target_btf_id (its function)",
        format!("{}, as for the session itself", program.attach_btf_id),
        tracing.target_btf_id.to_string(),
        tracing.target_btf_id != 0 && tracing.target_btf_id == program.attach_btf_id,
    );
    t.checks.hex("cookie", tracing.cookie, ATTACH_COOKIE);
    Ok(())
}

/// Parses lines of `name: value`.
fn fields(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim())).collect()
}

fn of_link_in_proc(t: &mut Context) -> Result<(), String> {
    let program = t.session.info("no_kfunc")?;
    let link = t.attach_with_cookie("no_kfunc", ATTACH_COOKIE)?;
    let info = link_info(&link)?;
    // SAFETY: as above.
    let tracing = unsafe { info.__bindgen_anon_1.tracing };
    let path = format!("/proc/self/fdinfo/{}", link.fd().as_raw_fd());
    let text = std::fs::read_to_string(&path).map_err(|err| format!("{path}: {err}"))?;
    let fields = fields(&text);
    let tag: String = program.tag.iter().map(|byte| format!("{byte:02x}")).collect();
    for (name, value) in [
        ("link_type", "tracing".to_owned()),
        ("link_id", info.id.to_string()),
        ("prog_tag", tag),
        ("prog_id", program.id.to_string()),
        ("attach_type", FSESSION.to_string()),
        ("target_obj_id", tracing.target_obj_id.to_string()),
        ("target_btf_id", tracing.target_btf_id.to_string()),
        ("cookie", ATTACH_COOKIE.to_string()),
    ] {
        t.checks.eq(name, *fields.get(name).unwrap_or(&"no such line"), value.as_str());
    }
    Ok(())
}

/// The expected counters of a session after statistics were enabled.
pub struct Counted {
    pub id: u32,
    /// Runs before, plus those that must have been added.
    pub runs: u64,
}

/// Calls the target of `slow` until the kernel has measured a nonzero time: only then do tools show its
/// counters.
pub fn count_slow_runs(t: &mut Context) -> Result<Counted, String> {
    const MAX_CALLS: u64 = 2000;
    let _stats = crate::bpf::enable_stats().map_err(|errno| format!("BPF_ENABLE_STATS: {errno}"))?;
    let before = t.session.info("slow")?;
    let _link = t.attach("slow")?;
    for call in 1..=MAX_CALLS {
        t.call_fentry_tests()?;
        if t.session.info("slow")?.run_time_ns > before.run_time_ns {
            return Ok(Counted { id: before.id, runs: before.run_cnt + 2 * call });
        }
    }
    Err(format!("run_time_ns stays {} in {MAX_CALLS} calls of a slow program", before.run_time_ns))
}

fn of_program(t: &mut Context) -> Result<(), String> {
    let before = t.session.info("slow")?;
    t.checks.eq("type (BPF_PROG_TYPE_TRACING)", before.type_, sys::BPF_PROG_TYPE_TRACING);
    t.checks.eq("attach_btf_id (bpf_fentry_test1)", before.attach_btf_id, t.features.target_id()?);
    t.checks.eq("attach_btf_obj_id (the kernel's BTF)", before.attach_btf_obj_id, vmlinux_btf_id()?);
    let counted = count_slow_runs(t)?;
    let after = t.session.info("slow")?;
    t.checks.eq("run_cnt, two runs a call", after.run_cnt, counted.runs);
    t.checks.eq(
        "runs that the program itself counted",
        t.seen().slow_seen.runs,
        counted.runs - before.run_cnt,
    );
    Ok(())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn lines_are_names_and_values() {
        let fields = fields("pos:\t0\nlink_type:\ttracing\nrubbish\ncookie:\t12\n");
        assert_eq!(fields.get("link_type"), Some(&"tracing"));
        assert_eq!((fields.get("cookie"), fields.get("rubbish")), (Some(&"12"), None));
    }
}
