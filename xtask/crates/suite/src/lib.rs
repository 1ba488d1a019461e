// SPDX-License-Identifier: MIT OR Apache-2.0
//! Suites: our own runner, `test_progs` of the kernel tree, programs that print KTAP.

pub mod choice;
pub mod own;
pub mod program;
pub mod sources;
pub mod upstream;
