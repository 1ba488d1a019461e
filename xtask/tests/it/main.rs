// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole command from its arguments to its exit code, without a virtual machine, a compiler or a network:
//! the real binary with fakes of everything that it starts (`support/`).

use vmtest_testing as support;

mod allowed;
mod architecture;
mod bisect;
mod bisect_reports;
mod cache;
mod coverage;
mod deaths;
mod diff;
mod disk;
mod docs;
mod evidence;
mod exports;
mod failures;
mod foreign;
mod forge;
mod from_raw;
mod guess;
mod input;
mod installed;
mod intake;
mod interfaces;
mod interop;
mod isolation;
mod lost_tests;
mod matrix;
mod matrix_expect;
mod mutants;
mod origins;
mod papers;
mod prepare;
mod programs;
mod repeat;
mod report;
mod retries;
mod review;
mod runs;
mod schema;
mod sealed;
mod series;
mod settings;
mod signals;
mod soak;
mod steps;
mod upstream;
mod workflows;
