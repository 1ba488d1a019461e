// SPDX-License-Identifier: MIT OR Apache-2.0
//! bpf(2) without libbpf. If the kernel rejects a call, libbpf may try another one and return its errno, but
//! a test must check the kernel's answer to the original call.

use crate::bpf::Link;
use libbpf_rs::libbpf_sys as sys;
use nix::errno::Errno;
use nix::libc;
use std::ffi::{CStr, c_int};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// # Safety
/// The pointers in the attributes must be valid for the given lengths.
unsafe fn bpf(command: sys::bpf_cmd, attr: &sys::bpf_attr) -> Result<c_int, Errno> {
    // SAFETY: the attributes have the given size; the caller guarantees the rest.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attr, size_of_val(attr)) };
    Errno::result(ret).map(|ret| ret as c_int)
}

/// BPF_LINK_CREATE of a tracing program for the target that it was loaded for.
pub fn link_create(program: c_int, attach_type: sys::bpf_attach_type, cookie: u64) -> Result<OwnedFd, Errno> {
    let mut attr = sys::bpf_attr::default();
    attr.link_create.__bindgen_anon_1.prog_fd = program as u32;
    attr.link_create.attach_type = attach_type;
    attr.link_create.__bindgen_anon_3.tracing.cookie = cookie;
    // SAFETY: contains no pointers, and nothing else owns the descriptor.
    unsafe { bpf(sys::BPF_LINK_CREATE, &attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// BPF_LINK_CREATE of a tracing program for a function of another BPF program.
pub fn link_create_for(
    program: c_int,
    attach_type: sys::bpf_attach_type,
    target: c_int,
    btf_id: u32,
) -> Result<OwnedFd, Errno> {
    let mut attr = sys::bpf_attr::default();
    attr.link_create.__bindgen_anon_1.prog_fd = program as u32;
    attr.link_create.__bindgen_anon_2.target_fd = target as u32;
    attr.link_create.attach_type = attach_type;
    attr.link_create.__bindgen_anon_3.tracing.target_btf_id = btf_id;
    // SAFETY: contains no pointers, and nothing else owns the descriptor.
    unsafe { bpf(sys::BPF_LINK_CREATE, &attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// BPF_RAW_TRACEPOINT_OPEN of a tracing program, which is the older way to attach it.
pub fn raw_tracepoint_open(program: c_int) -> Result<OwnedFd, Errno> {
    let mut attr = sys::bpf_attr::default();
    attr.raw_tracepoint.prog_fd = program as u32;
    // SAFETY: contains no pointers, because such a program has no name of a tracepoint; nothing else owns the
    // descriptor.
    unsafe { bpf(sys::BPF_RAW_TRACEPOINT_OPEN, &attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// BPF_ITER_CREATE for the link of an iterator.
pub fn iter_create(link: &Link) -> Result<File, Errno> {
    let mut attr = sys::bpf_attr::default();
    attr.iter_create.link_fd = link.fd().as_raw_fd() as u32;
    // SAFETY: contains no pointers, and nothing else owns the descriptor.
    unsafe { bpf(sys::BPF_ITER_CREATE, &attr).map(|fd| File::from(OwnedFd::from_raw_fd(fd))) }
}

/// BPF_LINK_UPDATE to another program. With `old`, only if that is the current one (BPF_F_REPLACE).
pub fn link_update(link: &Link, new: c_int, old: Option<c_int>) -> Result<(), Errno> {
    let mut attr = sys::bpf_attr::default();
    attr.link_update.link_fd = link.fd().as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = new as u32;
    if let Some(old) = old {
        attr.link_update.flags = sys::BPF_F_REPLACE;
        attr.link_update.__bindgen_anon_2.old_prog_fd = old as u32;
    }
    // SAFETY: contains no pointers.
    unsafe { bpf(sys::BPF_LINK_UPDATE, &attr) }.map(drop)
}

/// BPF_LINK_DETACH.
pub fn link_detach(link: &Link) -> Result<(), Errno> {
    let mut attr = sys::bpf_attr::default();
    attr.link_detach.link_fd = link.fd().as_raw_fd() as u32;
    // SAFETY: contains no pointers.
    unsafe { bpf(sys::BPF_LINK_DETACH, &attr) }.map(drop)
}

/// BPF_OBJ_GET_INFO_BY_FD.
///
/// # Safety
/// `T` must be the kernel's structure for this kind of object, and every bit pattern must be valid for it;
/// its pointers must be valid for the given lengths.
pub unsafe fn info<T>(fd: c_int, info: &mut T) -> Result<(), Errno> {
    let mut attr = sys::bpf_attr::default();
    attr.info.bpf_fd = fd as u32;
    attr.info.info_len = size_of::<T>() as u32;
    attr.info.info = &raw mut *info as u64;
    // SAFETY: `info` has the given size; the caller guarantees its contents.
    unsafe { bpf(sys::BPF_OBJ_GET_INFO_BY_FD, &attr) }.map(drop)
}

/// The kernel's information about a link.
pub fn link_info(link: &Link) -> Result<sys::bpf_link_info, Errno> {
    let mut found = sys::bpf_link_info::default();
    // SAFETY: integers, and unions of them; requests no arrays.
    unsafe { info(link.fd().as_raw_fd(), &mut found) }?;
    Ok(found)
}

/// The kernel's information about a program.
pub fn program_info(fd: c_int) -> Result<sys::bpf_prog_info, Errno> {
    let mut found = sys::bpf_prog_info::default();
    // SAFETY: integers; requests no arrays.
    unsafe { info(fd, &mut found) }?;
    Ok(found)
}

/// ID of the vmlinux BTF among all loaded ones; `None` if no BTF has that name.
pub fn vmlinux_btf_id() -> Result<Option<u32>, Errno> {
    let mut id = 0;
    loop {
        let mut next = 0;
        // SAFETY: writes one integer.
        match unsafe { sys::bpf_btf_get_next_id(id, &mut next) } {
            0 => id = next,
            ret if Errno::from_raw(-ret) == Errno::ENOENT => return Ok(None),
            ret => return Err(Errno::from_raw(-ret)),
        }
        // SAFETY: takes no pointer.
        let fd = unsafe { sys::bpf_btf_get_fd_by_id(id) };
        if fd < 0 {
            continue; // gone in the meantime
        }
        // SAFETY: nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut name = [0u8; 64];
        let mut found = sys::bpf_btf_info {
            name: name.as_mut_ptr() as u64,
            name_len: name.len() as u32,
            ..Default::default()
        };
        // SAFETY: integers, one of them the address of an array of the given length; requests no BTF.
        unsafe { info(fd.as_raw_fd(), &mut found) }?;
        if found.kernel_btf != 0 && CStr::from_bytes_until_nul(&name) == Ok(c"vmlinux") {
            return Ok(Some(id));
        }
    }
}
