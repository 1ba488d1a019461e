// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run needs of this host, what is missing, and the one command that fixes it.
//!
//! [`examine`] checks everything, versions included, for `doctor`. [`require`] checks only what a run cannot start without
//! and takes milliseconds. Neither changes the host: `scripts/setup.sh` does, and names the same things.

mod resources;
mod sandbox;
mod tools;

use std::time::Duration;

use crate::process::find_program;
use resources::{disk, kvm, memory};
use sandbox::{subordinate_ids, user_namespaces};
use tools::{judge, look_briefly, look_closely, wanted};
use vmtest_base::error::{Error, Result};

/// Whose compilers, pahole and QEMU are used.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Toolchain {
    /// Those of the build root, in the sandbox
    #[default]
    Image,
    /// Those of this host, without a sandbox
    Host,
}

/// What something is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Compiling the harness itself.
    Harness,
    /// Closing builds and guests off from the host and the network.
    Sandbox,
    /// Making the build root.
    BuildRoot,
    /// Fetching `src:` and `debian:` kernels.
    Archive,
    /// Reading `tree:`, `git:` and `tar:` kernels, applying series.
    Source,
    /// Building the runner and its BPF programs.
    Runner,
    /// Building kernels with `--toolchain host`.
    HostBuild,
    /// Booting with `--toolchain host`.
    HostBoot,
    /// `--boot vng` with `--toolchain host`.
    HostVng,
    /// Room for kernels and guests.
    Storage,
    /// Guests at the speed of the processor.
    Acceleration,
}

impl Need {
    /// What a reader of the table sees.
    pub fn label(self) -> &'static str {
        match self {
            Need::Harness => "harness",
            Need::Sandbox => "sandbox",
            Need::BuildRoot => "build root",
            Need::Archive => "archive",
            Need::Source => "source",
            Need::Runner => "runner",
            Need::HostBuild => "host build",
            Need::HostBoot => "host boot",
            Need::HostVng => "host vng",
            Need::Storage => "room",
            Need::Acceleration => "speed",
        }
    }

    /// Whether every run with this toolchain may come to need it. `src:` and `debian:` kernels are one source among
    /// several, and emulation works everywhere: a host without these is no broken host.
    fn always(self) -> bool {
        !matches!(self, Need::Archive | Need::Acceleration)
    }
}

/// Result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is there and new enough.
    Ok,
    /// Some runs will fail, or be slow.
    Warning,
    /// Runs will fail.
    #[serde(rename = "lacking")]
    Missing,
}

impl Status {
    /// What a reader of the table sees.
    pub fn label(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Missing => "MISSING",
        }
    }
}

/// One thing that was looked at. The fields, in this order, are what `doctor --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// Name of the program, file or property.
    pub name: &'static str,
    /// Its version or value; `None` when it is not there.
    pub found: Option<String>,
    /// Smallest version or value that will do; `None` when any does.
    pub minimum: Option<String>,
    /// What it is for, in a few words.
    pub why: &'static str,
    /// What fails without it.
    pub needed_for: Vec<Need>,
    #[serde(rename = "verdict")]
    pub status: Status,
    /// What is wrong with it; `None` when nothing is.
    pub problem: Option<String>,
    /// The one command, or the one thing to do; `None` when nothing is wrong.
    #[serde(rename = "mend")]
    pub fix: Option<String>,
}

/// Installs what the harness needs.
const SETUP: &str = "scripts/setup.sh";
/// Installs what `--toolchain host` needs, too.
const SETUP_HOST: &str = "scripts/setup.sh --toolchain-host";

/// Longest time that a program may take to print its version, or the sandbox to open. A broken shim must not hang us.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// Every need of a run with this toolchain.
fn needs_of(toolchain: Toolchain) -> &'static [Need] {
    use Need::*;
    match toolchain {
        Toolchain::Image => &[Harness, Sandbox, BuildRoot, Archive, Source, Runner, Storage, Acceleration],
        Toolchain::Host => {
            &[Harness, Archive, Source, Runner, HostBuild, HostBoot, HostVng, Storage, Acceleration]
        }
    }
}

/// Checks everything that runs with this toolchain may need, versions included. About 0.2 s: programs run in parallel.
pub fn examine(toolchain: Toolchain) -> Vec<Check> {
    let needs = needs_of(toolchain);
    let mut looks: Vec<Box<dyn FnOnce() -> Check + Send>> = Vec::new();
    for tool in wanted(needs) {
        looks.push(Box::new(move || judge(tool, needs, look_closely(&tool.look))));
    }
    if needs.contains(&Need::Sandbox) {
        looks.push(Box::new(user_namespaces));
    }
    if needs.contains(&Need::BuildRoot) && !is_root() {
        looks.push(Box::new(subordinate_ids));
    }
    looks.push(Box::new(disk));
    looks.push(Box::new(memory));
    looks.push(Box::new(kvm));
    std::thread::scope(|scope| {
        let running: Vec<_> = looks.into_iter().map(|look| scope.spawn(look)).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Checks only what these needs cannot do without, and runs no program for its version: 10 ms. The sandbox is
/// really opened.
///
/// # Errors
/// A host error that lists everything that is missing, each with its fix.
pub fn require(needs: &[Need]) -> Result<()> {
    let mut checks: Vec<Check> = wanted(needs)
        .filter(|tool| !tool.optional)
        .map(|tool| judge(tool, needs, look_briefly(&tool.look)))
        .collect();
    if needs.contains(&Need::Sandbox) && find_program("bwrap").is_some() {
        checks.push(user_namespaces());
    }
    if needs.contains(&Need::BuildRoot) && !is_root() {
        checks.push(subordinate_ids());
    }
    if needs.contains(&Need::Storage) {
        checks.push(disk());
    }
    refuse(&checks)
}

/// An error that lists what is missing. What [`examine`] only warns of counts here when it is a program or a file: the run
/// asked for it by naming its need.
fn refuse(checks: &[Check]) -> Result<()> {
    let stops = |check: &&Check| match check.status {
        Status::Ok => false,
        Status::Missing => true,
        Status::Warning => check.found.is_none(),
    };
    let missing: Vec<&Check> = checks.iter().filter(stops).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let lines = missing.iter().map(|check| {
        let problem = check.problem.as_deref().unwrap_or("is not there");
        format!("{} ({}): {problem}", check.name, check.why)
    });
    let mut fixes: Vec<&str> = missing.iter().filter_map(|check| check.fix.as_deref()).collect();
    fixes.dedup();
    let next = if fixes.is_empty() { "see `cargo xtask doctor`".to_owned() } else { fixes.join("; then ") };
    let what = match missing.len() {
        1 => format!("this host has no usable {}", first.name),
        many => format!("this host is missing {many} things that the run needs"),
    };
    Err(Error::host(what).detail(lines).next(next))
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[cfg(test)]
mod tests;
