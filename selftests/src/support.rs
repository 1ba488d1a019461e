// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether this kernel supports what a subtest needs. If not, it must say so in the one documented way: only
//! then is the subtest a skip.
//!
//! The kernel is probed with programs of a few instructions; pure functions interpret its answers.

use crate::bpf::{self, Copy, ENOTSUPP, FilePlace, Kind, Refusal};
use crate::features::{
    self, FSESSION, FSESSION_MULTI, Features, IS_RETURN, KPROBE_SESSION, LSM_HOOK, TARGET, UPROBE_SESSION,
};
use nix::errno::Errno;
use nix::libc::{EINVAL, EOPNOTSUPP};

/// What a subtest requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// fsession programs that may call kfuncs.
    Sessions,
    /// fsession programs that call no kfunc: the interpreter can run those, too.
    PlainSessions,
    /// fsession programs that may call kfuncs, also on many functions at once (fsession.multi).
    MultiSessions,
    /// fsession programs that may call kfuncs, and LSM programs.
    SessionsAndLsm,
    /// The session kfuncs in kprobe sessions, with either prototype.
    KprobeSessions,
    /// The same in uprobe sessions.
    UprobeSessions,
    /// Nothing: the subtest itself checks how the kernel rejects programs.
    Nothing,
}

/// Whether a requirement is met.
#[derive(Debug, Clone, PartialEq)]
pub enum Support {
    Yes,
    /// The kernel does not support it and says so correctly: every subtest that needs it is a skip, for this
    /// reason.
    No(String),
    /// It should work, or should be rejected in another way: every subtest that needs it fails, for this
    /// reason; with a log.
    Broken(String, String),
}

/// The verifier's message for an fsession that the JIT does not support.
pub const NO_FSESSION: &str = "JIT does not support fsession";
/// The verifier's message for a kfunc call without a JIT.
pub const NO_KFUNC: &str = "JIT is required for calling kernel function";

/// The verifier's message for a tracing program without a target, which only some attach types may be.
const NO_TARGET: &str = "Tracing programs must provide btf_id";

/// Probes the kernel.
pub fn ask(features: &Features, needs: Needs) -> Support {
    if needs == Needs::Nothing {
        return Support::Yes;
    }
    if let Some(err) = &features.btf_error {
        return Support::Broken(err.clone(), String::new());
    }
    let asked = match needs {
        Needs::PlainSessions => plain_sessions(features),
        Needs::Sessions => match plain_sessions(features) {
            Ok(Support::Yes) => kfuncs(features, Kind::Fsession),
            other => other,
        },
        Needs::MultiSessions => match ask(features, Needs::Sessions) {
            Support::Yes => multi_sessions(features),
            other => Ok(other),
        },
        Needs::SessionsAndLsm => match plain_sessions(features) {
            Ok(Support::Yes) => match kfuncs(features, Kind::Fsession) {
                Ok(Support::Yes) => Ok(lsm(features)),
                other => other,
            },
            other => other,
        },
        Needs::KprobeSessions => probe_sessions(features, Kind::KprobeSession),
        Needs::UprobeSessions => probe_sessions(features, Kind::UprobeSession),
        Needs::Nothing => Ok(Support::Yes),
    };
    asked.unwrap_or_else(|trouble| Support::Broken(trouble, String::new()))
}

/// Loads an fsession that does nothing and calls no kfunc, and compares the answer with the BTF.
pub fn plain_sessions(features: &Features) -> Result<Support, String> {
    match features.btf.values.get(FSESSION) {
        None | Some(&bpf::FSESSION) => {}
        Some(other) => {
            return Err(format!("{FSESSION} is {other} here, and {} in the runner's libbpf", bpf::FSESSION));
        }
    }
    let answer = bpf::load_minimal(Kind::Fsession, features.target_id()?, &[]);
    Ok(judge_session(features.has(FSESSION), features.jit.is_some(), answer.map(drop)))
}

/// Loads a program of this kind that calls a session kfunc.
fn kfuncs(features: &Features, kind: Kind) -> Result<Support, String> {
    let target = if kind == Kind::Fsession { features.target_id()? } else { 0 };
    let answer = bpf::load_minimal(kind, target, &[features.func_id(IS_RETURN)?]);
    Ok(judge_kfunc(features, answer.map(drop)))
}

/// Loads a session on many functions that does nothing, and compares the answer with the BTF.
fn multi_sessions(features: &Features) -> Result<Support, String> {
    let value = features.btf.values.get(FSESSION_MULTI).copied();
    if value.is_some_and(|value| value != i64::from(bpf::FSESSION_MULTI)) {
        return Err(format!("{FSESSION_MULTI} is {value:?} here, and {} in the runner", bpf::FSESSION_MULTI));
    }
    let answer = bpf::load_minimal(Kind::FsessionMulti, 0, &[]);
    Ok(judge_multi(value.is_some(), answer.map(drop)))
}

/// Interprets the answer to loading a session on many functions, which names none of them yet. `has`: BTF has
/// the attach type.
fn judge_multi(has: bool, answer: Result<(), Refusal>) -> Support {
    let broken = |what: String, log: String| Support::Broken(what, log);
    match (has, answer) {
        (true, Ok(())) => Support::Yes,
        (true, Err(refusal)) => broken(
            format!(
                "BTF has {FSESSION_MULTI}, but a program of that type that does nothing is refused: {refusal}"
            ),
            refusal.log,
        ),
        (false, Err(refusal)) if refusal.errno == EINVAL && refusal.log.contains(NO_TARGET) => {
            Support::No(format!(
                "BTF has no {FSESSION_MULTI}, and such a program is refused with -EINVAL and {NO_TARGET:?}"
            ))
        }
        (false, Err(refusal)) => broken(
            format!(
                "BTF has no {FSESSION_MULTI}, but such a program is not refused with -EINVAL and {NO_TARGET:?}: {refusal}"
            ),
            refusal.log,
        ),
        (false, Ok(())) => {
            broken(format!("BTF has no {FSESSION_MULTI}, but such a program loads"), String::new())
        }
    }
}

/// Whether there are LSM programs. Where BTF has the hooks, the subtests load their own and report a rejection.
fn lsm(features: &Features) -> Support {
    if features.func_id(LSM_HOOK).is_ok() {
        return Support::Yes;
    }
    judge_lsm(bpf::load_minimal(Kind::Lsm, 0, &[]).map(drop))
}

/// Interprets the answer to loading an LSM program on a kernel whose BTF has no hooks: the program type must be unknown.
fn judge_lsm(answer: Result<(), Refusal>) -> Support {
    match answer {
        Err(refusal) if refusal.errno == EINVAL && says_nothing(&refusal.log) => Support::No(format!(
            "the kernel has no LSM programs: BTF has no {LSM_HOOK}, and such a program is refused with -EINVAL and an \
             empty log"
        )),
        Err(refusal) => Support::Broken(
            format!("BTF has no {LSM_HOOK}, but an LSM program is refused in another way: {refusal}"),
            refusal.log,
        ),
        Ok(()) => Support::Broken(format!("BTF has no {LSM_HOOK}, but an LSM program loads"), String::new()),
    }
}

fn probe_sessions(features: &Features, kind: Kind) -> Result<Support, String> {
    let name = if kind == Kind::KprobeSession { KPROBE_SESSION } else { UPROBE_SESSION };
    if features.has(name) {
        return kfuncs(features, kind);
    }
    let attached = match bpf::load_minimal(kind, 0, &[]) {
        Ok(program) => attach_probe(&program, kind),
        Err(refusal) => Err(Errno::from_raw(refusal.errno)),
    };
    Ok(match attached {
        Err(Errno::EINVAL) => {
            Support::No(format!("BTF has no {name}, and attaching such a program is refused with -EINVAL"))
        }
        Err(errno) => Support::Broken(
            format!("BTF has no {name}, but attaching such a program is not refused with -EINVAL: {errno}"),
            String::new(),
        ),
        Ok(()) => Support::Broken(format!("BTF has no {name}, but such a program attaches"), String::new()),
    })
}

fn attach_probe(program: &Copy, kind: Kind) -> Result<(), Errno> {
    if kind == Kind::KprobeSession {
        let target = std::ffi::CString::new(TARGET).unwrap_or_default();
        return program.attach_to_symbol(&target).map(drop);
    }
    // Its type is rejected before the location is checked.
    program.attach_to_file(&FilePlace { path: c"/proc/self/exe".into(), offset: 0 }).map(drop)
}

/// Interprets the answer to loading a session without a kfunc. `has`: BTF has the attach type. `jit`: there
/// is a JIT, enabled or not.
fn judge_session(has: bool, jit: bool, answer: Result<(), Refusal>) -> Support {
    let broken = |what: &str, log: String| Support::Broken(what.to_owned(), log);
    match (has, answer) {
        (true, Ok(())) if jit => Support::Yes,
        (true, Ok(())) => broken(
            "the kernel has no JIT (CONFIG_BPF_JIT), and an fsession program cannot run there, but it loads",
            String::new(),
        ),
        (true, Err(refusal)) if refusal.errno == EOPNOTSUPP && refusal.log.contains(NO_FSESSION) => {
            let why = format!("load is -EOPNOTSUPP, and the verifier says {NO_FSESSION:?}");
            // The JIT of x86_64 can, enabled or not.
            if jit {
                broken("the kernel has a JIT, and refuses sessions for want of one", why)
            } else {
                Support::No(format!("without a JIT: {why}"))
            }
        }
        (true, Err(refusal)) => Support::Broken(
            format!("BTF has {FSESSION}, but a program of that type that does nothing is refused: {refusal}"),
            refusal.log,
        ),
        (false, Err(refusal)) if refusal.errno == EINVAL && says_nothing(&refusal.log) => Support::No(
            format!("BTF has no {FSESSION}, and such a program is refused with -EINVAL and an empty log"),
        ),
        (false, Ok(())) => broken(&format!("BTF has no {FSESSION}, but such a program loads"), String::new()),
        (false, Err(refusal)) => Support::Broken(
            format!(
                "BTF has no {FSESSION}, but such a program is not refused with -EINVAL and an empty log: {refusal}"
            ),
            refusal.log,
        ),
    }
}

/// Interprets the answer to loading a program with a kfunc call. With the JIT enabled, a rejection means
/// nothing here: the subtests load their own programs and report it.
fn judge_kfunc(features: &Features, answer: Result<(), Refusal>) -> Support {
    let state = features.jit_state();
    match answer {
        _ if features.jit_is_on() => Support::Yes,
        Ok(()) => Support::Yes,
        Err(refusal) if is_without_jit(&refusal) => Support::No(format!(
            "{state}: a program with a kfunc call is refused with {}, and the verifier says {NO_KFUNC:?}",
            bpf::errno_text(ENOTSUPP)
        )),
        Err(refusal) => Support::Broken(
            format!("{state}, but a program with a kfunc call is refused in another way: {refusal}"),
            refusal.log,
        ),
    }
}

/// Whether this is the rejection of a kfunc call without a JIT.
pub fn is_without_jit(refusal: &Refusal) -> bool {
    refusal.errno == ENOTSUPP && refusal.log.contains(NO_KFUNC)
}

/// Whether a verifier's log contains no message: the instruction count is appended to any requested log.
fn says_nothing(log: &str) -> bool {
    log.lines().all(|line| line.is_empty() || line.starts_with("processed 0 insns"))
}

/// The expected result of loading an fsession that does nothing, in words.
pub fn expected_of_session(features: &features::Features) -> String {
    match (features.has(FSESSION), features.jit) {
        (false, _) => "EINVAL and an empty log: BTF has no such attach type".to_owned(),
        (true, None) => format!("EOPNOTSUPP and {NO_FSESSION:?}: there is no JIT"),
        (true, Some(_)) => format!("loaded, or EOPNOTSUPP and {NO_FSESSION:?}"),
    }
}

#[cfg(test)]
mod tests;
