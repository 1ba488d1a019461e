// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run needs from this host, what is missing, and a command that fixes it.
//!
//! [`examine`] checks everything for `doctor`, versions included. [`require`] checks only what a run cannot
//! start without and takes milliseconds. Neither changes the host; `scripts/setup.sh` does, and names the
//! same tools.

mod resources;
mod sandbox;
mod tools;

use std::time::Duration;

use crate::process::find_program;
use resources::{disk, kvm, memory};
use sandbox::{subordinate_ids, user_namespaces};
use tools::{judge, look_briefly, look_closely, wanted};
use vmtest_base::error::{Error, Result};
use vmtest_base::program;

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

/// What a tool or a property of the host is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Compiling the harness itself.
    Harness,
    /// Isolating builds and guests from the host and the network.
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
    /// Space for kernels and guests.
    Storage,
    /// Running guests at native speed.
    Acceleration,
}

impl Need {
    /// Name in the table.
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

    /// Whether any run with this toolchain may need it. `src:` and `debian:` kernels are one source among
    /// several, and emulation works everywhere, so a host without these is not broken.
    fn always(self) -> bool {
        !matches!(self, Need::Archive | Need::Acceleration)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Present and new enough.
    Ok,
    /// Some runs will fail, or be slow.
    Warning,
    /// Runs will fail.
    #[serde(rename = "lacking")]
    Missing,
}

impl Status {
    /// Text in the table.
    pub fn label(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Missing => "MISSING",
        }
    }
}

/// The result of one check. `doctor --json` prints these fields in this order.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// Name of the program, file or property.
    pub name: &'static str,
    /// Its version or value; `None` if it is missing.
    pub found: Option<String>,
    /// Smallest version or value that is good enough; `None` if any is.
    pub minimum: Option<String>,
    /// What it is for, in a few words.
    pub why: &'static str,
    /// What fails without it.
    pub needed_for: Vec<Need>,
    #[serde(rename = "verdict")]
    pub status: Status,
    /// What is wrong, if anything.
    pub problem: Option<String>,
    /// One command or action that fixes it; `None` if nothing is wrong.
    #[serde(rename = "mend")]
    pub fix: Option<String>,
}

/// Installs what the harness needs.
const SETUP: &str = "scripts/setup.sh";
/// Also installs what `--toolchain host` needs.
const SETUP_HOST: &str = "scripts/setup.sh --toolchain-host";

/// A fix with the place of the script in it, so that it can be pasted.
fn located(fix: &str) -> String {
    fix.strip_prefix(SETUP).map_or_else(|| fix.to_owned(), |options| program::setup() + options)
}

/// Longest time that a program may take to print its version, or the sandbox to start, so that a broken
/// wrapper script cannot hang us.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// All needs of a run with this toolchain.
fn needs_of(toolchain: Toolchain) -> &'static [Need] {
    use Need::*;
    match toolchain {
        Toolchain::Image => &[Harness, Sandbox, BuildRoot, Archive, Source, Runner, Storage, Acceleration],
        Toolchain::Host => {
            &[Harness, Archive, Source, Runner, HostBuild, HostBoot, HostVng, Storage, Acceleration]
        }
    }
}

/// An installation has the harness and the runner already.
fn without_cargo(mut needs: Vec<Need>, installed: bool) -> Vec<Need> {
    needs.retain(|need| !installed || !matches!(need, Need::Harness | Need::Runner));
    needs
}

/// Checks everything that runs with this toolchain may need, versions included. Takes about 0.2 s: all checks
/// run in parallel.
pub fn examine(toolchain: Toolchain) -> Vec<Check> {
    let needs = &without_cargo(needs_of(toolchain).to_vec(), program::installation().is_some())[..];
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

/// Checks only what is indispensable for these needs, in 10 ms: does not run programs to get their versions,
/// but does start the sandbox.
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

/// An error that lists what is missing, if anything. A program or file that [`examine`] only warns about is
/// an error here if it is missing: the run requested it by naming its need.
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
    let next = if fixes.is_empty() {
        format!("see `{}`", program::command("doctor"))
    } else {
        fixes.join("; then ")
    };
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
