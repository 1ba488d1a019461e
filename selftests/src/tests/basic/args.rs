// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments of every width and at every position, and the return value after them, at entry and exit.

use super::{Context, ENTRY, EXIT};
use crate::bpf::Seen;
use nix::libc;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

const INT: u64 = 0xffff_ffff;
const SHORT: u64 = 0xffff;
const CHAR: u64 = 0xff;
const BIT: u64 = 1;
const WHOLE: u64 = u64::MAX;
/// An option that does not exist: a call with it returns -ENOPROTOOPT.
pub const NO_OPTION: libc::c_int = 0x7777;

/// Checks the arguments at entry and exit: mask and value of each slot. The upper bits of a narrow argument
/// are undefined.
fn args_are(t: &mut Context, seen: &[Seen; 2], slots: &[(u64, u64)]) {
    for (at, name) in [(ENTRY, "entry"), (EXIT, "exit")] {
        t.checks.eq(format!("{name} runs"), seen[at].runs, 1);
        for (slot, &(mask, value)) in slots.iter().enumerate() {
            t.checks.hex(format!("slot {slot} at {name}"), seen[at].arg[slot] & mask, value);
        }
    }
}

/// Checks that a slot contains an address at entry and the same one at exit. Returns it.
fn is_address(t: &mut Context, seen: &[Seen; 2], slot: usize) -> u64 {
    let address = seen[ENTRY].arg[slot];
    t.checks.state(format!("slot {slot} at entry"), "an address", format!("{address:#x}"), address != 0);
    t.checks.hex(format!("slot {slot} at exit"), seen[EXIT].arg[slot], address);
    address
}

/// Checks the value after the arguments: 0 at entry, an int at exit.
pub fn returns(t: &mut Context, seen: &[Seen; 2], value: i32) {
    t.checks.eq("return value at entry", seen[ENTRY].ret, 0);
    t.checks.eq("return value at exit", seen[EXIT].ret as i32, value);
}

pub fn args_1(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("one_arg")?;
    t.call_fentry_tests()?;
    args_are(t, &t.seen().one_arg_seen, &[(INT, 1)]);
    Ok(())
}

pub fn args_2(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("two_args")?;
    t.call_fentry_tests()?;
    let seen = t.seen().two_args_seen;
    args_are(t, &seen, &[(INT, 2), (WHOLE, 3)]);
    returns(t, &seen, 5);
    Ok(())
}

pub fn args_3_char(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("three_args")?;
    t.call_fentry_tests()?;
    let seen = t.seen().three_args_seen;
    args_are(t, &seen, &[(CHAR, 4), (INT, 5), (WHOLE, 6)]);
    returns(t, &seen, 15);
    Ok(())
}

pub fn args_4_pointer(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("four_args")?;
    t.call_fentry_tests()?;
    let seen = t.seen().four_args_seen;
    args_are(t, &seen, &[(WHOLE, 7), (CHAR, 8), (INT, 9), (WHOLE, 10)]);
    returns(t, &seen, 34);
    Ok(())
}

pub fn args_5_short(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("five_args")?;
    t.call_fentry_tests()?;
    let seen = t.seen().five_args_seen;
    args_are(t, &seen, &[(WHOLE, 11), (WHOLE, 12), (SHORT, 13), (INT, 14), (WHOLE, 15)]);
    returns(t, &seen, 65);
    Ok(())
}

pub fn args_6(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("six_args")?;
    t.call_fentry_tests()?;
    let seen = t.seen().six_args_seen;
    args_are(t, &seen, &[(WHOLE, 16), (WHOLE, 17), (SHORT, 18), (INT, 19), (WHOLE, 20), (WHOLE, 21)]);
    returns(t, &seen, 111);
    Ok(())
}

pub fn args_7_stack(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("seven_args")?;
    t.call_modify_return_tests()?;
    let seen = t.seen().seven_args_seen;
    let b = is_address(t, &seen, 1);
    args_are(t, &seen, &[(INT, 1), (WHOLE, b), (SHORT, 3), (INT, 4), (WHOLE, 5), (CHAR, 6), (INT, 7)]);
    returns(t, &seen, 29);
    Ok(())
}

pub fn args_7_futex(t: &mut Context) -> Result<(), String> {
    /// Passed in place of a timeout: for FUTEX_WAKE the kernel treats it as a number.
    const NUMBER: usize = 0x1234;
    const LAST: u32 = 0x89ab_cdef;
    let (word, other) = (0u32, 0u32);
    let (word, other) = (&raw const word, &raw const other);
    let wake = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    let _link = t.attach("futex_args")?;
    t.reset();
    // SAFETY: two words of ours; nothing waits on the first, and the second is not accessed.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word, wake, 3, NUMBER, other, LAST) };
    let seen = t.seen().futex_args_seen;
    t.checks.eq("woken", woken, 0);
    let slots = [
        (WHOLE, word as u64),
        (INT, wake as u64),
        (INT, 3),
        (WHOLE, 0),
        (WHOLE, other as u64),
        (INT, NUMBER as u64),
        (INT, LAST.into()),
    ];
    args_are(t, &seen, &slots);
    returns(t, &seen, 0);
    Ok(())
}

pub fn args_9_stack(t: &mut Context) -> Result<(), String> {
    const LEN: usize = 0x2000;
    let file = File::open("/proc/self/exe").map_err(|err| format!("/proc/self/exe: {err}"))?;
    let _link = t.attach("mmap_args")?;
    t.reset();
    // SAFETY: a new mapping of our own, which is not used.
    let mapped = unsafe {
        libc::mmap(std::ptr::null_mut(), LEN, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0x5000)
    };
    let seen = t.seen().mmap_args_seen;
    let (file, populate, uf) = (is_address(t, &seen, 0), is_address(t, &seen, 7), is_address(t, &seen, 8));
    let in_registers = [
        (WHOLE, file),
        (WHOLE, 0),
        (WHOLE, LEN as u64),
        (WHOLE, libc::PROT_READ as u64),
        (WHOLE, libc::MAP_PRIVATE as u64),
        (WHOLE, 0),
    ];
    args_are(t, &seen, &[&in_registers[..], &[(WHOLE, 5), (WHOLE, populate), (WHOLE, uf)]].concat());
    t.checks.state("the two last", "differ", format!("{populate:#x}, {uf:#x}"), populate != uf);
    t.checks.hex("return value at entry", seen[ENTRY].ret, 0);
    t.checks.hex("return value at exit", seen[EXIT].ret, mapped as u64);
    Ok(())
}

pub fn arg_struct_pointer(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("pointer_arg")?;
    t.call_fentry_tests()?;
    let seen = t.seen().pointer_arg_seen;
    let pointer = is_address(t, &seen, 0);
    args_are(t, &seen, &[(WHOLE, pointer)]);
    returns(t, &seen, 0);
    Ok(())
}

/// A socket for the option functions; its kind does not matter.
pub fn socket() -> Result<UnixDatagram, String> {
    UnixDatagram::unbound().map_err(|err| format!("socket: {err}"))
}

/// Sets an option that does not exist; only the address of the value matters.
pub fn set_no_option(socket: &UnixDatagram, value: &u32) -> i32 {
    // SAFETY: the value has the given length.
    unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, NO_OPTION, (&raw const *value).cast(), 4)
    }
}

pub fn arg_bool(t: &mut Context) -> Result<(), String> {
    let (socket, value) = (socket()?, 1);
    let _link = t.attach("do_setsockopt_args")?;
    t.reset();
    set_no_option(&socket, &value);
    let seen = t.seen().do_setsockopt_args_seen;
    let sock = is_address(t, &seen, 0);
    let address = &raw const value as u64;
    let (level, option) = (libc::SOL_SOCKET as u64, NO_OPTION as u64);
    // compat is a bool, and false in a 64-bit process; the 16-byte struct fills the last registers.
    let slots = [(WHOLE, sock), (CHAR, 0), (INT, level), (INT, option), (WHOLE, address), (BIT, 0), (INT, 4)];
    args_are(t, &seen, &slots);
    Ok(())
}

pub fn struct_16_in_registers(t: &mut Context) -> Result<(), String> {
    let (socket, value) = (socket()?, 1);
    let _link = t.attach("setsockopt_args")?;
    t.reset();
    set_no_option(&socket, &value);
    let seen = t.seen().setsockopt_args_seen;
    let sock = is_address(t, &seen, 0);
    let address = &raw const value as u64;
    let (level, option) = (libc::SOL_SOCKET as u64, NO_OPTION as u64);
    args_are(t, &seen, &[(WHOLE, sock), (INT, level), (INT, option), (WHOLE, address), (BIT, 0), (INT, 4)]);
    Ok(())
}

pub fn negative_value(t: &mut Context) -> Result<(), String> {
    let (socket, value) = (socket()?, 1);
    let _link = t.attach("setsockopt_args")?;
    t.reset();
    t.checks.eq("setsockopt of no option", set_no_option(&socket, &value), -1);
    returns(t, &t.seen().setsockopt_args_seen, -libc::ENOPROTOOPT);
    Ok(())
}

pub fn struct_16_on_stack(t: &mut Context) -> Result<(), String> {
    let (socket, mut value, mut len) = (socket()?, 0u32, 4);
    let (value, len) = (&raw mut value, &raw mut len);
    let _link = t.attach("getsockopt_args")?;
    t.reset();
    // SAFETY: value and length are ours, and the length is that of the value.
    unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, NO_OPTION, value.cast(), len) };
    let seen = t.seen().getsockopt_args_seen;
    let sk = is_address(t, &seen, 0);
    let (level, option) = (libc::SOL_SOCKET as u64, NO_OPTION as u64);
    // The second struct needs two registers but only one is left.
    let slots = [
        (WHOLE, sk),
        (INT, level),
        (INT, option),
        (WHOLE, value as u64),
        (BIT, 0),
        (WHOLE, len as u64),
        (BIT, 0),
    ];
    args_are(t, &seen, &slots);
    returns(t, &seen, -libc::ENOPROTOOPT);
    Ok(())
}

pub fn struct_4(t: &mut Context) -> Result<(), String> {
    const UID: u32 = 54321;
    let _link = t.attach("alloc_uid_args")?;
    t.reset();
    // Only affects the process of this subtest; the effective UID and with it all privileges stay.
    let (real, root) = (nix::unistd::Uid::from_raw(UID), nix::unistd::Uid::from_raw(0));
    nix::unistd::setresuid(real, root, root).map_err(|errno| format!("setresuid: {errno}"))?;
    let seen = t.seen().alloc_uid_args_seen;
    args_are(t, &seen, &[(INT, UID.into())]);
    t.checks.hex("return value at entry", seen[ENTRY].ret, 0);
    let user = seen[EXIT].ret;
    t.checks.state("return value at exit", "an address", format!("{user:#x}"), user != 0);
    Ok(())
}

pub fn no_args(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("on_setsid")?;
    // Not ksys_sync: some compilers inline it into its only caller.
    let session = nix::unistd::setsid().map_err(|errno| format!("setsid: {errno}"))?;
    let seen = t.seen().setsid_seen;
    args_are(t, &seen, &[]);
    returns(t, &seen, session.as_raw());
    t.checks.eq("bpf_get_func_arg_cnt() at entry", seen[ENTRY].arg_cnt, 0);
    t.checks.eq("bpf_get_func_arg_cnt() at exit", seen[EXIT].arg_cnt, 0);
    Ok(())
}

pub fn void_function(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("on_fd_install")?;
    // The link got a descriptor as well.
    t.reset();
    // Not dup(2): it is in the same file as fd_install(), which clang inlines there.
    let file = File::open("/proc/self/exe").map_err(|err| format!("/proc/self/exe: {err}"))?;
    let seen = t.seen().fd_install_seen;
    let pointer = is_address(t, &seen, 1);
    args_are(t, &seen, &[(INT, file.as_raw_fd() as u64), (WHOLE, pointer)]);
    Ok(())
}

/// Checks what the helpers returned about the arguments of bpf_modify_return_test2.
fn helpers_are_right(t: &mut Context, who: &str, seen: &Seen) {
    t.checks.eq(format!("{who}: runs"), seen.runs, 1);
    t.checks.eq(format!("{who}: bpf_get_func_arg_cnt()"), seen.arg_cnt, 7);
    for (arg, mask, value) in
        [(0, INT, 1), (2, SHORT, 3), (3, INT, 4), (4, WHOLE, 5), (5, CHAR, 6), (6, INT, 7)]
    {
        t.checks.eq(format!("{who}: bpf_get_func_arg({arg})"), seen.func_arg[arg] & mask, value);
    }
}

pub fn arg_helpers(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("helpers")?;
    t.call_modify_return_tests()?;
    let seen = t.seen().helpers_seen;
    helpers_are_right(t, "entry", &seen[ENTRY]);
    helpers_are_right(t, "exit", &seen[EXIT]);
    Ok(())
}

pub fn arg_helpers_of_neighbours(t: &mut Context) -> Result<(), String> {
    let mut links = Vec::new();
    for program in ["fentry_helpers", "helpers", "fmod_helpers", "cookie_helpers", "fexit_helpers"] {
        links.push(t.attach(program)?);
    }
    t.call_modify_return_tests()?;
    let seen = t.seen();
    helpers_are_right(t, "fentry", &seen.fentry_helpers_seen);
    helpers_are_right(t, "fmod_ret", &seen.fmod_helpers_seen);
    helpers_are_right(t, "fexit", &seen.fexit_helpers_seen);
    for (name, session) in
        [("session", seen.helpers_seen), ("session with a cookie", seen.cookie_helpers_seen)]
    {
        helpers_are_right(t, &format!("{name}, entry"), &session[ENTRY]);
        helpers_are_right(t, &format!("{name}, exit"), &session[EXIT]);
        t.checks.eq(format!("{name}: bpf_get_func_ret() at exit"), session[EXIT].func_ret as i32, 29);
    }
    t.checks.eq("fexit: bpf_get_func_ret()", seen.fexit_helpers_seen.func_ret as i32, 29);
    let ip = seen.fentry_helpers_seen.ip;
    t.checks.state("fentry: bpf_get_func_ip()", "an address", format!("{ip:#x}"), ip != 0);
    t.checks.hex("the cookie at exit", seen.cookie_helpers_seen[EXIT].cookie, ip);
    t.checks.hex("fexit: bpf_get_func_ip()", seen.fexit_helpers_seen.ip, ip);
    Ok(())
}
