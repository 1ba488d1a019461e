// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bisection: the search itself ([`search`]), what it goes through ([`axis`]), what each kernel is asked ([`question`]),
//! its steps ([`hunt`]), what is stored between them ([`state`]), and the answer.

pub mod answer;
pub mod axis;
pub mod hunt;
pub mod question;
pub mod search;
pub mod state;
