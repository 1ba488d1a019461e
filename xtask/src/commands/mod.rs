// SPDX-License-Identifier: MIT OR Apache-2.0
//! One module per subcommand: the order of its steps, and nothing that another command needs too.

pub mod doctor;
pub mod sources;
