// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bisection: the search itself ([`search`]), the history that it searches ([`axis`]), the question for
//! each kernel ([`question`]), its steps ([`hunt`]), the state stored between them ([`state`]), and the
//! answer.

pub mod answer;
pub mod axis;
pub mod hunt;
pub mod question;
pub mod search;
pub mod state;
