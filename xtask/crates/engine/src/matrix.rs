// SPDX-License-Identifier: MIT OR Apache-2.0
//! `matrix.toml`: kernels × series × variants × suites × boot, as one run, as jobs of a CI system, or as
//! shards that are merged. A *job* is one of each: a unit of work for one machine. Its cells are the leaves,
//! as in any run.
//!
//! A job is planned like a `vmtest` command line with that kernel, series, variant, boot and suite, and
//! results in the same cells; it depends on nothing else in the matrix. So it does not matter which jobs run
//! in parallel, or on which machine.

pub mod executor;
pub mod expect;
pub mod file;
pub mod files;
pub mod job;
pub mod join;
pub mod keys;
pub mod pattern;
pub mod times;

pub use crate::matrix::file::Matrix;
pub use crate::matrix::job::Job;
pub use crate::matrix::job::Shard;
