// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may load a session: CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN, which includes both.

use super::{Context, told};
use crate::bpf::{self, Kind};
use nix::errno::Errno;
use nix::libc;

const SYS_ADMIN: u64 = 1 << 21;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

/// The kernel's layout (`linux/capability.h`); a mask has two words.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Words {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

fn call(number: libc::c_long, words: &mut [Words; 2]) -> Result<(), String> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    // SAFETY: a header, and as many words as its version says.
    let ret = unsafe { libc::syscall(number, &raw mut header, words.as_mut_ptr()) };
    Errno::result(ret).map(drop).map_err(|errno| format!("capabilities of this process: {errno}"))
}

/// Does something with only these of the relevant capabilities effective. The permitted set does not change,
/// so they are restored afterwards. Only affects the process of this subtest.
fn only_with<T>(capabilities: u64, what: impl FnOnce() -> T) -> Result<T, String> {
    let mut words = [Words::default(); 2];
    call(libc::SYS_capget, &mut words)?;
    let before = words;
    let off = !((SYS_ADMIN | PERFMON | BPF) & !capabilities);
    words[0].effective &= off as u32;
    words[1].effective &= (off >> 32) as u32;
    call(libc::SYS_capset, &mut words)?;
    let done = what();
    words = before;
    call(libc::SYS_capset, &mut words)?;
    Ok(done)
}

pub fn without_privileges(t: &mut Context) -> Result<(), String> {
    let target = t.features.target_id()?;
    for (who, capabilities, allowed) in [
        ("neither capability", 0, false),
        ("CAP_BPF alone", BPF, false),
        ("CAP_PERFMON alone", PERFMON, false),
        ("CAP_BPF and CAP_PERFMON", BPF | PERFMON, true),
        ("CAP_SYS_ADMIN", SYS_ADMIN, true),
    ] {
        let answer = only_with(capabilities, || bpf::load_minimal(Kind::Fsession, target, &[]))?;
        let refused = answer.as_ref().is_err_and(|refusal| refusal.errno == libc::EPERM);
        let expected = if allowed { "loaded".to_owned() } else { Errno::EPERM.to_string() };
        let ok = if allowed { answer.is_ok() } else { refused };
        t.checks.state(format!("loading a session with {who}"), expected, told(&answer), ok);
    }
    Ok(())
}
