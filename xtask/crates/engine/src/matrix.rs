// SPDX-License-Identifier: MIT OR Apache-2.0
//! `matrix.toml`: kernels × series × variants × suites × boot, as one run, as jobs of a CI system, and as parts that are
//! joined. A *job* is one of each: what one machine can be asked for. Its cells are the leaves, as anywhere.
//!
//! A job is planned like a command line of `vmtest` with that kernel, series, variant, boot and suite, and ends in the
//! same cells; it depends on nothing else in the matrix. So it does not matter which jobs run beside it, and on which
//! machine.

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
