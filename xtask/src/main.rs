// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask`: parse, call, print the error, return the code.

mod commands;
mod context;
mod error;
mod event;
mod guest;
mod host;
mod image;
mod interrupt;
mod kernel;
mod proc;
mod result;
mod sandbox;
mod suite;
mod tools;
mod vm;
mod workdir;

fn main() {}
