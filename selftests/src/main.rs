// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runner: init of a small guest, or a command in a larger one. Runs the subtests named on the kernel
//! command line and reports each one to the host. With `--list` it lists them, on any host.

mod boot;
mod bpf;
mod btf;
mod check;
mod coverage;
mod exec;
mod fail_nth;
mod features;
mod glob;
mod insn;
mod kmsg;
mod leftovers;
mod load;
mod multi;
mod params;
mod port;
mod supervisor;
mod support;
mod syscall;
mod tests;
mod upstream;
mod userfault;
mod worker;

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

/// Prints a message on the console for humans. The host reads events, not this.
///
/// In the guest it goes through the kernel log, as an error (`<3>`): it reaches the console intact and before
/// a reset, unlike text in a terminal's buffer.
pub fn say(text: &str) {
    let logged =
        std::process::id() == 1 && std::fs::write("/dev/kmsg", format!("<3>vmtest-runner: {text}\n")).is_ok();
    if !logged {
        // An error here cannot be reported any more.
        let _ = writeln!(std::io::stderr(), "vmtest-runner: {text}");
    }
}

fn list() -> Result<(), String> {
    let text = serde_json::to_string_pretty(&tests::listed()).map_err(|err| err.to_string())?;
    writeln!(std::io::stdout(), "{text}").map_err(|err| err.to_string())
}

/// Whether this process may mount file systems and shut down the machine: it is init, or the machine was
/// booted for a run.
fn in_guest() -> bool {
    std::process::id() == 1
        || std::fs::read_to_string("/proc/cmdline").is_ok_and(|text| params::Params::parse(&text).is_some())
}

fn main() -> ExitCode {
    let started = Instant::now();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some("--list") => list(),
        // The kernel passes unknown words to init.
        _ if in_guest() => supervisor::run_guest(started),
        _ => Err("runs in a guest that was booted for it; elsewhere only --list works".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            say(&text);
            ExitCode::from(2)
        }
    }
}
