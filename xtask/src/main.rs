// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask`: parse, call, print the error, return the code.

mod commands;
mod context;
mod error;
mod event;
mod host;
mod interrupt;
mod kernel;
mod proc;
mod vm;
mod workdir;

fn main() {}
