// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arrays of tail callees: maps of the object, by name.

use super::{Session, Unloaded, check};
use libbpf_rs::skel::OpenSkel;
use libbpf_rs::{AsRawLibbpf, libbpf_sys as sys};
use nix::errno::Errno;
use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

/// A map of an object, which must outlive the result.
fn find(object: NonNull<sys::bpf_object>, name: &CStr) -> Result<NonNull<sys::bpf_map>, String> {
    // SAFETY: an object that is alive, and a string; libbpf only compares it.
    let map = unsafe { sys::bpf_object__find_map_by_name(object.as_ptr(), name.as_ptr()) };
    NonNull::new(map).ok_or_else(|| format!("the object has no map {}", name.to_string_lossy()))
}

impl Unloaded {
    /// Uses an existing map instead of a new one.
    pub fn reuse_map(&mut self, name: &CStr, fd: c_int) -> Result<(), String> {
        let map = find(self.0.skel.open_object().as_libbpf_object(), name)?;
        // SAFETY: a map of an open object, which lives in `skel`; libbpf duplicates the descriptor.
        check(unsafe { sys::bpf_map__reuse_fd(map.as_ptr(), fd) })
            .map(drop)
            .map_err(|errno| format!("reuse {}: {errno}", name.to_string_lossy()))
    }
}

impl Session {
    /// Descriptor of a map, owned by the object.
    pub fn map_fd(&self, name: &CStr) -> Result<c_int, String> {
        let map = find(self.skel.open_object().as_libbpf_object(), name)?;
        // SAFETY: a map of an object that lives in `skel`.
        check(unsafe { sys::bpf_map__fd(map.as_ptr()) })
            .map_err(|errno| format!("map {}: {errno}", name.to_string_lossy()))
    }

    /// Makes a program the only one in an array of callees. Where it is refused, the array is empty.
    pub fn set_callee_of(&self, map: &CStr, program: &str) -> Result<Result<(), Errno>, String> {
        let (map, key, value) = (self.map_fd(map)?, 0u32, self.fd(program)?);
        // SAFETY: the key has the size of the map's definition.
        match check(unsafe { sys::bpf_map_delete_elem(map, (&raw const key).cast()) }) {
            Ok(_) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(format!("empty an array of callees: {errno}")),
        }
        // SAFETY: key and value have the sizes of the map's definition.
        let ret =
            unsafe { sys::bpf_map_update_elem(map, (&raw const key).cast(), (&raw const value).cast(), 0) };
        Ok(check(ret).map(drop))
    }
}
