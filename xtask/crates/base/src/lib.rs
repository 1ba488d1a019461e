// SPDX-License-Identifier: MIT OR Apache-2.0
//! Basics that every crate of the harness uses: errors, events, text, keys, dates, sizes. Starts no process.

pub mod beneath;
pub mod condition;
pub mod date;
pub mod dotconfig;
pub mod duration;
pub mod error;
pub mod event;
pub mod files;
pub mod installation;
pub mod interrupt;
pub mod key;
pub mod places;
pub mod program;
pub mod sanitize;
pub mod similar;
pub mod size;
pub mod thread;
