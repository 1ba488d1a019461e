// SPDX-License-Identifier: MIT OR Apache-2.0
//! What guests say, read with suspicion: a guest under test may be broken, and its text is never trusted further than
//! this module. Pure; no IO.

pub mod ktap;
mod stream;
pub mod test_progs;

pub use stream::{MOST_EVENTS, Stream};
