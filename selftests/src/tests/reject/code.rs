// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a session's code must not do: return a value, write to its context, access memory around it.

use super::{Context, loads, refused};
use crate::bpf::{self, Kind};
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

pub fn context_bounds(t: &mut Context) -> Result<(), String> {
    for (what, offset) in [("the word before the context", BEFORE), ("what is behind the value", BEHIND)] {
        no_access(t, &format!("reading {what}"), offset, &read(offset))?;
        no_access(t, &format!("writing {what}"), offset, &write(offset))?;
    }
    Ok(())
}
