// SPDX-License-Identifier: MIT OR Apache-2.0
//! run.json and what follows from it. No I/O except loading.

#![warn(missing_docs)]

pub mod allow_list;
pub mod attribution;
pub mod bisection;
pub mod clean;
pub mod column;
pub mod console_rules;
pub mod coverage;
pub mod diff;
pub mod findings;
pub mod flaws;
pub mod ids;
pub mod load;
pub mod matrix;
pub mod outcome;
pub mod reference_columns;
pub mod retries;
pub mod run;
#[cfg(any(test, feature = "testing"))]
pub mod samples;
pub mod series;
