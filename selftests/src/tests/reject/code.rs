// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a session's code must not do: return a value, write to its context, access memory around it.

use super::{Context, loads, refused, refused_somehow};
use crate::bpf::{self, Kind};
use crate::features::{NO_SLEEP, OF_TASK, TARGET, TRUSTED_TASK};
use crate::insn::{self, CTX, Insn};
use nix::errno::Errno;

/// Offsets in the context of a session on a function with one argument.
const ARGUMENT: i16 = 0;
const RETURN_VALUE: i16 = 8;
const BEHIND: i16 = 16;
/// The word before it, which belongs to the trampoline.
const BEFORE: i16 = -8;

pub fn return_value(t: &mut Context) -> Result<(), String> {
    let target = t.features.target_id()?;
    loads(t, "a session that returns 0", &bpf::load_returning(Kind::Fsession, target, 0));
    for value in [1, -1, i32::MIN] {
        let answer = bpf::load_returning(Kind::Fsession, target, value);
        let what = format!("a session that returns {value}");
        refused(t, &what, &answer, Errno::EINVAL, "should have been in [0, 0]");
    }
    Ok(())
}

/// Checks that a session must not do this to its context at `offset`.
fn no_access(t: &mut Context, what: &str, offset: i16, code: &[Insn]) -> Result<(), String> {
    let answer = bpf::load_code(Kind::Fsession, t.features.target_id()?, code);
    let message = format!("invalid bpf_context access off={offset} size=8");
    refused(t, what, &answer, Errno::EACCES, &message);
    Ok(())
}

fn read(offset: i16) -> [Insn; 1] {
    [insn::load(2, CTX, offset)]
}

fn write(offset: i16) -> [Insn; 2] {
    [insn::set(2, 1), insn::store(CTX, offset, 2)]
}

pub fn context_write(t: &mut Context) -> Result<(), String> {
    let target = t.features.target_id()?;
    for (what, offset) in [("the argument", ARGUMENT), ("the return value", RETURN_VALUE)] {
        let answer = bpf::load_code(Kind::Fsession, target, &read(offset));
        loads(t, &format!("reading {what}"), &answer);
        no_access(t, &format!("writing {what}"), offset, &write(offset))?;
    }
    Ok(())
}

pub fn sleepable_where_none_may_sleep(t: &mut Context) -> Result<(), String> {
    let (may, must_not) = (t.features.target_id()?, t.features.func_id(NO_SLEEP)?);
    for kind in [Kind::Fentry, Kind::Fsession] {
        let what = format!("a sleepable {kind:?} program on");
        loads(t, &format!("{what} {TARGET}"), &bpf::load_sleepable(kind, may));
        let answer = bpf::load_sleepable(kind, must_not);
        let message = format!("{NO_SLEEP} is not sleepable");
        refused(t, &format!("{what} {NO_SLEEP}"), &answer, Errno::EINVAL, &message);
    }
    Ok(())
}

pub fn untrusted_argument(t: &mut Context) -> Result<(), String> {
    let target = t.features.func_id(OF_TASK)?;
    let call = insn::call(t.features.func_id(TRUSTED_TASK)?);
    for kind in [Kind::Fentry, Kind::Fsession] {
        let read = insn::load(CTX, CTX, ARGUMENT);
        loads(t, &format!("{kind:?}: reading the task"), &bpf::load_code(kind, target, &[read]));
        let answer = bpf::load_code(kind, target, &[read, call]);
        let ways = [
            (Errno::EINVAL, "R1 must be a rcu pointer"),
            (Errno::EINVAL, "R1 must be referenced or trusted"),
        ];
        refused_somehow(t, &format!("{kind:?}: bpf_task_acquire(task)"), &answer, &ways);
    }
    Ok(())
}

pub fn context_bounds(t: &mut Context) -> Result<(), String> {
    for (what, offset) in [("the word before the context", BEFORE), ("what is behind the value", BEHIND)] {
        no_access(t, &format!("reading {what}"), offset, &read(offset))?;
        no_access(t, &format!("writing {what}"), offset, &write(offset))?;
    }
    // Only programs that run at the exit have a return value.
    let target = t.features.target_id()?;
    let answer = bpf::load_code(Kind::Fentry, target, &read(RETURN_VALUE));
    let message = "func 'bpf_fentry_test1' doesn't have 2-th argument";
    refused(t, "reading the return value in an fentry program", &answer, Errno::EACCES, message);
    loads(t, "reading it in an fexit program", &bpf::load_code(Kind::Fexit, target, &read(RETURN_VALUE)));
    Ok(())
}
