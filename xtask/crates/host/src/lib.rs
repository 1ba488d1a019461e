// SPDX-License-Identifier: MIT OR Apache-2.0
//! This machine: processes, the cache, run directories, the sandbox and its build root, the accelerator, the
//! doctor.

pub mod accel;
pub mod build_root;
pub mod clean_env;
pub mod context;
pub mod debian_mirror;
pub mod doctor;
pub mod initramfs;
pub mod process;
pub mod reaper;
pub mod sandbox;
pub mod slots;
pub mod store;
pub mod tools;
pub mod virtme_ng;
