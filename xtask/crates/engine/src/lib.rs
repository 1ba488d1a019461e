// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prepares, builds, boots and judges a request; matrices, bisections and mutants build on that.

mod added_lines;
pub mod bisect;
pub mod bootable;
pub mod bpftool_donor;
pub mod build_chain;
pub mod checks;
pub mod cmdline;
pub mod column;
pub mod coverage;
pub mod launch;
pub mod matrix;
pub mod mutants;
pub mod plan;
pub mod prepare;
pub mod replay;
pub mod request;
pub mod resources;
pub mod share;
pub mod stacktrace;
