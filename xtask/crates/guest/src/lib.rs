// SPDX-License-Identifier: MIT OR Apache-2.0
//! One virtual machine: starting it, watching it and judging it.

pub mod console;
pub mod events;
pub mod judge;
pub mod ktap;
pub mod last_words;
pub mod machine;
pub mod microvm;
pub mod observed;
pub mod session;
pub mod spec;
pub mod test_progs;
pub mod virtme;
pub mod watchdog;
