// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every way to die: declared once, caused, and recorded in docs/evidence/failures.md.

pub mod page;
pub mod rows;
pub mod run;
