// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that a person or a program reads. Two plug points: *sinks* see each event as it happens, *exporters* turn
//! the final model into text and know nothing about files, flags or virtual machines.

pub mod bisect;
pub mod coverage;
pub mod diff;
mod escape;
pub mod export;
pub mod finding;
mod github;
pub mod html;
mod junit;
mod ktap;
pub mod layout;
pub mod log;
mod mail;
mod markdown;
pub mod mutants;
pub mod phases;
pub mod progress;
mod steps;
pub mod story;
pub mod table;
