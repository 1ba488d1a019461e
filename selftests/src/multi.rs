// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links of one program to many functions, by raw bpf(2): libbpf does not know them.

use crate::bpf::{Copy, FSESSION_MULTI, Link};
use crate::syscall;
use libbpf_rs::libbpf_sys as sys;
use nix::errno::Errno;
use nix::libc;
use std::ffi::c_int;
use std::os::fd::AsRawFd;

/// BPF_LINK_CREATE, as the kernel lays it out for links to many functions.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Request {
    pub prog_fd: u32,
    pub target_fd: u32,
    pub attach_type: u32,
    pub flags: u32,
    /// Address of the BTF IDs of the functions.
    pub ids: u64,
    /// Address of the attach cookies; 0: none.
    pub cookies: u64,
    /// How many functions.
    pub cnt: u32,
    pub rest: u32,
}

impl Request {
    /// `ids` and `cookies` must live until it is used.
    pub fn new(program: &Copy, ids: &[u32], cookies: Option<&[u64]>) -> Self {
        Self {
            prog_fd: program.raw() as u32,
            attach_type: FSESSION_MULTI,
            ids: ids.as_ptr() as u64,
            cookies: cookies.map_or(0, |cookies| cookies.as_ptr() as u64),
            cnt: ids.len() as u32,
            ..Self::default()
        }
    }

    /// Creates the link. The kernel itself checks addresses: one that is wrong is an errno.
    pub fn create(&self) -> Result<Link, Errno> {
        // SAFETY: the request has the given size, and the kernel only reads what it points to.
        let ret = unsafe {
            libc::syscall(libc::SYS_bpf, sys::BPF_LINK_CREATE, std::ptr::from_ref(self), size_of::<Self>())
        };
        Errno::result(ret).map(|fd| Link::own(fd as c_int))
    }
}

/// Attaches a program to these functions, with one attach cookie for each.
pub fn attach(program: &Copy, ids: &[u32], cookies: Option<&[u64]>) -> Result<Link, Errno> {
    if cookies.is_some_and(|cookies| cookies.len() != ids.len()) {
        return Err(Errno::UnknownErrno); // nothing that the kernel says
    }
    Request::new(program, ids, cookies).create()
}

/// bpf_link_info of such a link; the addresses of arrays are in and out.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Info {
    pub link_type: u32,
    pub id: u32,
    pub prog_id: u32,
    pub gap: u32,
    pub attach_type: u32,
    /// In: places in the arrays; out: functions of the link.
    pub count: u32,
    pub btf_obj_id: u32,
    pub padding: u32,
    pub ids: u64,
    pub addrs: u64,
    pub cookies: u64,
}

/// BPF_LINK_TYPE_TRACING_MULTI
pub const LINK_TYPE: u32 = 15;

/// The functions of a link: BTF ID, address and attach cookie of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Functions {
    pub ids: Vec<u32>,
    pub addrs: Vec<u64>,
    pub cookies: Vec<u64>,
}

/// What the kernel says about a link, without its functions.
pub fn info(link: &Link) -> Result<Info, Errno> {
    fill(link, Info::default())
}

/// Fills in a request for information.
pub fn fill(link: &Link, mut info: Info) -> Result<Info, Errno> {
    // SAFETY: integers; the kernel checks the addresses of arrays, which the caller keeps alive.
    unsafe { syscall::info(link.fd().as_raw_fd(), &mut info) }?;
    Ok(info)
}

/// The first functions of a link, as many as there are `places` for: how the kernel answers, and what it
/// filled in. Places that it left alone are ~0.
pub fn functions(link: &Link, places: usize) -> (Result<Info, Errno>, Functions) {
    let mut found = Functions { ids: vec![!0; places], addrs: vec![!0; places], cookies: vec![!0; places] };
    let request = Info {
        count: places as u32,
        ids: found.ids.as_mut_ptr() as u64,
        addrs: found.addrs.as_mut_ptr() as u64,
        cookies: found.cookies.as_mut_ptr() as u64,
        ..Info::default()
    };
    (fill(link, request), found)
}
