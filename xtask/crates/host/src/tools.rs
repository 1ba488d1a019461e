// SPDX-License-Identifier: MIT OR Apache-2.0
//! Versions of the tools that build and boot: for the record, for keys, and for features that depend on them.

use std::collections::BTreeMap;
use std::process::Command;

use crate::context::Context;
use crate::process::Job;
use crate::sandbox::{Sandbox, Tools};
use crate::store::CacheKind;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::{create_dir, read_text, write_file};
use vmtest_base::interrupt;
use vmtest_base::key::Key;
use vmtest_base::program;

const ASKED: [(&str, &str); 7] = [
    ("make", "--version"),
    ("gcc", "--version"),
    ("clang", "--version"),
    ("ld", "--version"),
    ("pahole", "--version"),
    ("ccache", "--version"),
    (QEMU, "--version"),
];
const QEMU: &str = "qemu-system-x86_64";

/// Maps names to the first line of `--version`; missing tools are left out. Runs them only once per set of
/// tools.
///
/// # Errors
/// If interrupted, or if the result cannot be stored.
pub fn versions(ctx: &Context, tools: &Tools) -> Result<BTreeMap<String, String>> {
    let stored = ctx.cache.path(CacheKind::Tools, tools.key().as_str());
    if let Some(known) = read_text(&stored).ok().and_then(|text| serde_json::from_str(&text).ok()) {
        return Ok(known);
    }
    let sandbox = Sandbox::new(tools);
    let found: BTreeMap<String, String> = ASKED
        .iter()
        .filter_map(|(name, flag)| {
            let mut command = sandbox.command(name);
            command.arg(flag);
            Some(((*name).to_owned(), first_line(command)?))
        })
        .collect();
    // An interruption also makes the tools fail; do not store that as their absence.
    interrupt::check()?;
    create_dir(&ctx.cache.path(CacheKind::Tools, ""))?;
    // Not written next to its final path, where a killed run would leave the temporary file forever.
    let scratch = ctx.cache.scratch()?;
    let made = scratch.path().join("versions");
    // A map of strings: serializing it cannot fail.
    write_file(&made, serde_json::to_vec(&found).unwrap_or_default())?;
    std::fs::rename(&made, &stored).on("cannot rename into place", &stored)?;
    Ok(found)
}

/// Major and minor version of QEMU.
///
/// # Errors
/// Class `Host` if it is missing or prints no version.
pub fn qemu_version(ctx: &Context, tools: &Tools) -> Result<(u32, u32)> {
    let versions = versions(ctx, tools)?;
    versions.get(QEMU).and_then(|line| version_in(line)).ok_or_else(|| {
        Error::host(format!("cannot determine the version of {QEMU}"))
            .next(format!("`{}` says what is missing", program::command("doctor --toolchain host")))
    })
}

/// Key of the host's own tools: their versions.
pub fn host_key() -> Key {
    let mut key = Key::of("host tools 1");
    for (name, flag) in ASKED {
        let mut command = Command::new(name);
        command.arg(flag).env("LC_ALL", "C.UTF-8");
        key = key.field(name, first_line(command).unwrap_or_default());
    }
    key.finish()
}

/// Version line of the host's own virtme-ng; empty if it is not installed. It is not part of [`host_key`], since it
/// builds no kernel.
pub fn host_vng() -> String {
    let mut command = Command::new("vng");
    command.arg("--version").env("LC_ALL", "C.UTF-8");
    first_line(command).unwrap_or_default()
}

fn first_line(command: Command) -> Option<String> {
    let done = Job::new(command).run().ok().filter(crate::process::Finished::success)?;
    done.stdout.lines().next().map(str::to_owned)
}

/// The first `N.N` in a line.
fn version_in(line: &str) -> Option<(u32, u32)> {
    line.split(|c: char| !(c.is_ascii_digit() || c == '.')).find_map(|word| {
        let mut numbers = word.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_real_lines() {
        let line = "QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)";
        assert_eq!(version_in(line), Some((10, 0)));
        assert_eq!(version_in("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"), Some((7, 2)));
        assert_eq!(version_in("no version"), None);
    }
}
