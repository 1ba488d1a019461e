// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a kernel that can boot to what the guest said.

pub mod accel;
