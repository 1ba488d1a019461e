// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole command from its arguments to its exit code, without a virtual machine, a compiler or a network: the real
//! binary with fakes of everything that it starts (`support/`).

mod allowed;
mod bisect;
mod bisect_reports;
mod browser;
mod cache;
mod deaths;
mod diff;
mod disk;
mod evidence;
mod exports;
mod failures;
mod foreign;
mod forge;
mod from_raw;
mod input;
mod intake;
mod interfaces;
mod isolation;
mod junit;
mod lost_tests;
mod matrix;
mod matrix_expect;
mod mutants;
mod origins;
#[path = "../failures/page.rs"]
mod page;
mod papers;
mod prepare;
mod programs;
mod repeat;
mod report;
mod retries;
#[path = "../failures/rows.rs"]
mod rows;
#[path = "../failures/run.rs"]
mod run;
mod runs;
mod schema;
mod sealed;
mod series;
mod signals;
mod soak;
mod steps;
#[path = "../support/mod.rs"]
mod support;
mod upstream;
mod workflows;
