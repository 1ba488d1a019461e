// SPDX-License-Identifier: MIT OR Apache-2.0
//! The session kfuncs in kprobe and uprobe sessions, which are older than fsession: a series that changes the
//! prototype of the kfuncs must not break them. They run on kernels without fsession, too. Also what every
//! kernel must still support, even without a JIT: other programs, regardless of sessions.

use super::{Context, ENTRY, EXIT, Subtest, subtests};
use crate::bpf::{self, FilePlace, Kind, Seen, Unloaded};
use crate::features::{COOKIE, FSESSION, IS_RETURN};
use crate::insn;
use crate::tests::{load_apart, told};
use libbpf_rs::libbpf_sys::BPF_TRACE_KPROBE_MULTI;
use nix::errno::Errno;
use std::hint::black_box;
use std::thread::sleep;
use std::time::{Duration, Instant};

subtests! { "elsewhere":
    Quick prototype_detected ["flavours"] needs KprobeSessions
        "Of two flavours of each session kfunc, old and new, the one resolves whose prototype BTF shows, and no other.";
    Normal kprobe_session_sides ["kprobe_sides"] needs KprobeSessions
        "In a session of kprobes bpf_session_is_return() is false once, then true once.";
    Normal kprobe_session_cookie ["kprobe_cookie"] needs KprobeSessions
        "In a session of kprobes the exit run reads what the entry run wrote, call by call.";
    Normal uprobe_session_sides ["uprobe_sides"] needs UprobeSessions
        "In a session of uprobes bpf_session_is_return() is false once, then true once.";
    Normal uprobe_session_cookie ["uprobe_cookie"] needs UprobeSessions
        "In a session of uprobes the exit run reads what the entry run wrote, call by call.";
    Normal sleepable_kprobe_refused [] needs KprobeSessions
        "A sleepable session of kprobes, or of one kprobe.multi, is refused when it is attached.";
    Normal extension_of_kprobe_session ["kprobe_in_parts"] needs KprobeSessions
        "An extension of a session of kprobes may ask bpf_session_is_return(), and gets the right answer, or is refused.";
    Normal wrong_is_return_refused [] needs KprobeSessions
        "A call of bpf_session_is_return() with the other prototype does not resolve, and is refused when it is loaded.";
    Normal wrong_cookie_refused [] needs KprobeSessions
        "A call of bpf_session_cookie() with the other prototype does not resolve, and is refused when it is loaded.";
    Quick rest_of_bpf [] needs Nothing
        "Sessions that are refused, or loaded and closed, leave no program behind, and other programs are verified and run as before.";
}

/// Enough that a leak cannot be hidden by objects of an earlier subtest that are still being freed.
const LOADS: usize = 50;
/// Time limit for the kernel to free them.
const LIMIT: Duration = Duration::from_secs(5);

/// The only subtest with a positive result on a kernel without a JIT, so that a run with nothing but
/// rejections can pass.
fn rest_of_bpf(t: &mut Context) -> Result<(), String> {
    let programs = || bpf::program_ids().map_err(|errno| format!("counting programs: {errno}"));
    // Neither needs a trampoline: without a JIT the interpreter runs it.
    let plain = bpf::load_returning(Kind::RawTracepoint(0), 0, 7)
        .map_err(|refusal| format!("load a raw tracepoint program: {refusal}"))?;
    let id = plain.id().map_err(|errno| format!("info of a raw tracepoint program: {errno}"))?;
    let (target, before) = (t.features.target_id()?, programs()?);
    t.checks.eq("a program that is loaded is among those counted", before.contains(&id), true);
    for _ in 0..LOADS {
        drop(bpf::load_minimal(Kind::Fsession, target, &[]));
    }
    let started = Instant::now();
    while programs()?.len() > before.len() && started.elapsed() < LIMIT {
        sleep(Duration::from_millis(50));
    }
    let (before, after) = (before.len(), programs()?.len());
    let what = format!("programs in the system after {LOADS} sessions");
    t.checks.state(what, format!("at most {before}"), after.to_string(), after <= before);
    let ran = plain.test_run().map_err(|errno| format!("test run of a raw tracepoint program: {errno}"))?;
    t.checks.eq("what a raw tracepoint program returns", ran, 7);
    // Reads an uninitialized register.
    let answer = bpf::load_code(Kind::RawTracepoint(0), 0, &[insn::copy(0, 2)]);
    let seen = answer.as_ref().map_or_else(ToString::to_string, |_| "loaded".to_owned());
    let ok = answer.is_err_and(|refusal| refusal.errno == Errno::EACCES as i32);
    t.checks.state("one that reads what nobody wrote", Errno::EACCES.to_string(), seen, ok);
    Ok(())
}

/// Target of the uprobes: it has its own symbol in this program, and is really called.
#[inline(never)]
extern "C" fn probed(value: u64) -> u64 {
    black_box(value).wrapping_add(1)
}

fn call_probed() -> Result<(), String> {
    // Through a pointer that is opaque to the compiler, which might otherwise call a copy of the function.
    let probed = black_box(probed as extern "C" fn(u64) -> u64);
    match probed(black_box(41)) {
        42 => Ok(()),
        other => Err(format!("the probed function returned {other} instead of 42")),
    }
}

/// The location of the target in the file of this program.
fn place_of_probed() -> Result<FilePlace, String> {
    let address = probed as *const () as u64;
    let maps = std::fs::read_to_string("/proc/self/maps").map_err(|err| format!("/proc/self/maps: {err}"))?;
    let offset = offset_in_file(&maps, address)
        .ok_or_else(|| format!("/proc/self/maps: {address:#x} is in no executable mapping of a file"))?;
    Ok(FilePlace { path: c"/proc/self/exe".into(), offset })
}

/// The kernel chooses where the program is mapped, and the offset of its code in the file differs from that
/// in memory, so the mapping must be looked up.
fn offset_in_file(maps: &str, address: u64) -> Option<u64> {
    maps.lines().find_map(|line| {
        // start-end perms offset dev inode path
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let (perms, offset) = (words.next()?, words.next()?);
        let has_file = words.nth(1)? != "0";
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (start, end) = (number(start)?, number(end)?);
        ((start..end).contains(&address) && perms.contains('x') && has_file)
            .then(|| number(offset).map(|offset| address - start + offset))?
    })
}

/// Number of parameters of a kfunc according to BTF: 0 is the old prototype, 1 the new.
fn parameters(t: &Context, kfunc: &str) -> Result<usize, String> {
    let func = t.features.btf.funcs.get(kfunc).ok_or_else(|| format!("BTF has no function {kfunc}"))?;
    match func.params {
        0 | 1 => Ok(func.params),
        other => Err(format!("BTF: {kfunc} has {other} parameters, neither 0 nor 1")),
    }
}

fn prototype_detected(t: &mut Context) -> Result<(), String> {
    let _probe = t.session.attach_probe("flavours")?;
    t.session.set(|globals| globals.resolved = u32::MAX);
    t.call_fentry_tests()?;
    let resolved = t.seen().resolved;
    for (kfunc, bits) in [(IS_RETURN, resolved & 3), (COOKIE, resolved >> 2)] {
        let (name, flavour) = match parameters(t, kfunc)? {
            0 => ("(void)", 1),
            _ => ("(void *ctx)", 2),
        };
        t.checks.eq(format!("flavours of {kfunc}{name} that resolve (1 old, 2 new)"), bits, flavour);
    }
    Ok(())
}

/// Checks that each of `calls` calls ran the session at entry, then at exit.
fn both_sides(t: &mut Context, seen: &[Seen; 2], calls: u64) {
    t.checks.eq(format!("entry runs after call {calls}"), seen[ENTRY].runs, calls);
    t.checks.eq(format!("exit runs after call {calls}"), seen[EXIT].runs, calls);
    t.checks.eq(format!("entry's place in call {calls}"), seen[ENTRY].order, 2 * calls - 1);
    t.checks.eq(format!("exit's place in call {calls}"), seen[EXIT].order, 2 * calls);
}

fn kprobe_session_sides(t: &mut Context) -> Result<(), String> {
    let probe = t.session.attach_probe("kprobe_sides")?;
    for call in 1..=3 {
        t.call_fentry_tests()?;
        both_sides(t, &t.seen().kprobe_sides_seen, call);
    }
    drop(probe);
    t.call_fentry_tests()?;
    let runs = t.seen().kprobe_sides_seen.map(|seen| seen.runs);
    t.checks.same("runs once it is detached", runs, [3, 3]);
    Ok(())
}

fn uprobe_session_sides(t: &mut Context) -> Result<(), String> {
    let probe = t.session.attach_uprobe_session("uprobe_sides", &place_of_probed()?)?;
    for call in 1..=3 {
        call_probed()?;
        both_sides(t, &t.seen().uprobe_sides_seen, call);
    }
    drop(probe);
    call_probed()?;
    let runs = t.seen().uprobe_sides_seen.map(|seen| seen.runs);
    t.checks.same("runs once it is detached", runs, [3, 3]);
    Ok(())
}

/// What the entry run leaves, call by call.
const LEFT: [u64; 3] = [0x1111_2222_3333_4444, u64::MAX, 1];

fn kprobe_session_cookie(t: &mut Context) -> Result<(), String> {
    let _probe = t.session.attach_probe("kprobe_cookie")?;
    for left in LEFT {
        t.reset();
        t.session.set(|globals| globals.leave_elsewhere = left);
        t.call_fentry_tests()?;
        cookie_came_through(t, &t.seen().kprobe_cookie_seen, left);
    }
    Ok(())
}

fn extension_of_kprobe_session(t: &mut Context) -> Result<(), String> {
    let _probe = t.session.attach_probe("kprobe_in_parts")?;
    t.call_fentry_tests()?;
    t.checks.eq("runs of the function that is to be replaced", t.seen().kprobe_part_seen.runs, 2);
    let target = t.session.fd("kprobe_in_parts")?;
    let loaded = load_apart(|object| {
        object.set_target("kprobe_extension", target, c"kprobe_part")?;
        object.choose("kprobe_extension")
    })?;
    // Mainline no longer allows the call since it has fsession. The series for 6.18, which does, has a limit of
    // cookies.
    let refused = t.features.has(FSESSION) && t.profile.cookie_limit.is_none();
    let seen = loaded.as_ref().map_or_else(ToString::to_string, |_| "loaded".to_owned());
    let as_refused = loaded.as_ref().is_err_and(|refusal| {
        refusal.errno == Errno::EACCES as i32 && refusal.log.contains("bpf_session_is_return is not allowed")
    });
    let expected = if refused { "EACCES, bpf_session_is_return is not allowed" } else { "loaded" };
    let ok = if refused { as_refused } else { loaded.is_ok() };
    t.checks.state("loading the extension", expected, seen, ok);
    let Ok(extension) = loaded else { return Ok(()) };
    let _link = extension.attach("kprobe_extension", 0)?.map_err(|errno| format!("attach: {errno}"))?;
    for call in 1..=2 {
        t.call_fentry_tests()?;
        let runs = extension.globals().kprobe_extension_seen.map(|seen| seen.runs);
        t.checks.same("runs of the extension at entry and exit", runs, [call; 2]);
    }
    t.checks.eq("runs of the function once it is replaced", t.seen().kprobe_part_seen.runs, 2);
    Ok(())
}

/// Attaches a program of this kind to the usual target, and says what came of it.
fn attached_to_target(answer: Result<bpf::Copy, bpf::Refusal>) -> String {
    match answer {
        Ok(program) => told(&program.attach_to_symbol(c"bpf_fentry_test1"), "attached"),
        Err(refusal) => format!("load: {refusal}"),
    }
}

fn sleepable_kprobe_refused(t: &mut Context) -> Result<(), String> {
    for (what, kind) in
        [("kprobe.session", Kind::KprobeSession), ("kprobe.multi", Kind::Kprobe(BPF_TRACE_KPROBE_MULTI))]
    {
        let seen = attached_to_target(bpf::load_minimal(kind, 0, &[]));
        t.checks.eq(format!("attaching {what}"), seen, "attached".to_owned());
        let seen = attached_to_target(bpf::load_sleepable(kind, 0));
        let (expected, what) = (Errno::EINVAL.to_string(), format!("attaching a sleepable {what}"));
        // Kernels that have fsession also have the fix.
        let bug = (!t.features.has(FSESSION)).then_some(SLEEPABLE);
        let ok = seen == expected;
        t.checks.state_with_bug(bug, what, expected, seen, ok);
    }
    Ok(())
}

const SLEEPABLE: &str =
    "sleepable programs attach to kprobes, where they must not sleep (docs/findings/sleepable-kprobe.md)";

fn uprobe_session_cookie(t: &mut Context) -> Result<(), String> {
    let place = place_of_probed()?;
    let _probe = t.session.attach_uprobe_session("uprobe_cookie", &place)?;
    for left in LEFT {
        t.reset();
        t.session.set(|globals| globals.leave_elsewhere = left);
        call_probed()?;
        cookie_came_through(t, &t.seen().uprobe_cookie_seen, left);
    }
    Ok(())
}

fn cookie_came_through(t: &mut Context, seen: &[Seen; 2], left: u64) {
    t.checks.same(format!("runs with {left:#x}"), (seen[ENTRY].runs, seen[EXIT].runs), (1, 1));
    t.checks.hex("cookie at exit", seen[EXIT].cookie, left);
}

fn wrong_is_return_refused(t: &mut Context) -> Result<(), String> {
    only_one_loads(t, IS_RETURN, ["is_return_old", "is_return_new"])
}

fn wrong_cookie_refused(t: &mut Context) -> Result<(), String> {
    only_one_loads(t, COOKIE, ["cookie_old", "cookie_new"])
}

/// Of two programs, which call the old and the new prototype, checks that only this kernel's loads.
fn only_one_loads(t: &mut Context, kfunc: &str, programs: [&str; 2]) -> Result<(), String> {
    let this = parameters(t, kfunc)?;
    let load = |program: &str| -> Result<(String, String), String> {
        let mut object = Unloaded::open()?;
        object.choose(program)?;
        bpf::take_log();
        let seen = object.load().map_or_else(|errno| errno.to_string(), |_| "loaded".to_owned());
        Ok((seen, bpf::take_log()))
    };
    let (seen, _) = load(programs[this])?;
    t.checks.eq(format!("loading {}, this kernel's prototype", programs[this]), seen, "loaded".to_owned());
    let wrong = programs[1 - this];
    let (seen, log) = load(wrong)?;
    t.checks.eq(format!("loading {wrong}, the other prototype"), seen, Errno::EINVAL.to_string());
    // libbpf replaces an unresolved call by a call of an invalid function number, and explains that in the
    // verifier's rejection.
    let expected = format!("kfunc '{kfunc}___{}' is referenced but wasn't resolved", ["new", "old"][this]);
    let line = log.lines().find(|line| line.contains("wasn't resolved")).unwrap_or("no such line").trim();
    t.checks.state("the verifier's log", expected.clone(), line, line == expected);
    Ok(())
}

#[cfg(test)]
mod unit {
    use super::*;

    const MAPS: &str = "\
55d0c0a00000-55d0c0a20000 r--p 00000000 00:1a 77 /suite/vmtest-runner
55d0c0a20000-55d0c0b00000 r-xp 0001f000 00:1a 77 /suite/vmtest-runner
7f0000000000-7f0000001000 rwxp 00000000 00:00 0
7ffd1c5fe000-7ffd1c600000 r-xp 00000000 00:00 0                          [vdso]
";

    #[test]
    fn an_offset_is_counted_from_the_beginning_of_the_file() {
        assert_eq!(offset_in_file(MAPS, 0x55d0c0a20010), Some(0x1f010));
        assert_eq!(offset_in_file(MAPS, 0x55d0c0afffff), Some(0xfefff));
        for nowhere in [0x55d0c0a00010, 0x55d0c0b00000, 0x7f0000000010, 0x7ffd1c5fe010, 0] {
            assert_eq!(offset_in_file(MAPS, nowhere), None, "{nowhere:#x}");
        }
    }

    #[test]
    fn the_target_is_found_in_this_very_file() {
        let place = place_of_probed().expect("it is mapped");
        let file = std::fs::read("/proc/self/exe").expect("readable");
        // SAFETY: the first bytes of an existing function.
        let code = unsafe { std::slice::from_raw_parts(probed as *const u8, 8) };
        assert_eq!(&file[place.offset as usize..][..8], code);
        call_probed().expect("it can be called");
    }
}
