// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that a person or a program reads. Two extension points: *sinks* see each event as it happens,
//! *exporters* turn the final model into text and do not depend on files, flags or virtual machines.

pub mod bisect;
pub mod coverage;
pub mod diff;

pub mod escape;
mod flaws;
pub mod format;

pub mod github;
pub mod html;
pub mod junit;
pub mod ktap;
pub mod layout;
pub mod log;
pub mod mail;
pub mod markdown;
pub mod names;

pub mod phases;
pub mod progress;
pub mod reply;
pub mod series;
pub mod steps;
pub mod story;
pub mod summary;
pub mod table;
