// SPDX-License-Identifier: MIT OR Apache-2.0
//! From user input to a bootable kernel. Each stage is a type that can only be made from the previous one,
//! and carries the key of everything that went into it.

pub mod b4;
pub mod bpftool;
pub mod build;
pub mod build_id;
pub mod build_log;
pub mod checks;
pub mod config;
pub mod coverage;
pub mod diff;
pub mod executed;
pub mod guess;
pub mod kconfig;
pub mod maintained;
pub mod make_mark;
pub mod patch;
pub mod patched;
pub mod reserved;
pub mod series;
pub mod source;
pub mod source_view;
pub mod spec;
pub mod variant;
