// SPDX-License-Identifier: MIT OR Apache-2.0
//! The duties of an init: mounts before the tests, power-off after them.
//!
//! Under virtme-ng most mounts exist already; those are left alone.

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use std::path::Path;

/// Target, type and options, in mount order; /proc first, because it lists what is mounted.
const MOUNTS: &[(&str, &str, Option<&str>)] = &[
    ("/proc", "proc", None),
    ("/sys", "sysfs", None),
    ("/dev", "devtmpfs", None),
    ("/run", "tmpfs", Some("mode=0755")),
    ("/tmp", "tmpfs", None),
    ("/sys/kernel/debug", "debugfs", None),
    ("/sys/kernel/tracing", "tracefs", None),
    ("/sys/fs/bpf", "bpf", None),
    ("/sys/fs/cgroup", "cgroup2", None),
];

/// Mounts what is missing. Failures are returned as text and are not fatal: a kernel without, say, debugfs
/// can still run most tests, and those that need it report it.
pub fn mount_all() -> Vec<String> {
    let mut failed = Vec::new();
    for &(target, kind, options) in MOUNTS {
        let mounted = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        if mounted.lines().any(|line| line.split(' ').nth(1) == Some(target)) {
            continue;
        }
        if !Path::new(target).exists() {
            // In sysfs only the kernel creates mount points; elsewhere the mount reports the failure.
            let _ = std::fs::create_dir_all(target);
        }
        if let Err(errno) = mount(Some(kind), target, Some(kind), MsFlags::empty(), options) {
            failed.push(format!("mount {kind} on {target}: {errno}"));
        }
    }
    failed
}

/// Opens a console if the kernel found none for the process, so that nothing writes to a file that happens to
/// get descriptor 2.
pub fn ensure_console() {
    use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
    if Path::new("/proc/self/fd/2").exists() {
        return;
    }
    let Ok(console) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/console") else { return };
    // Best effort: without a console there is nowhere to report an error.
    let _ = dup2_stdin(&console).and_then(|()| dup2_stdout(&console)).and_then(|()| dup2_stderr(&console));
}

/// Ends the guest; only returns if the kernel refuses.
///
/// PID 1 resets the machine (with `-no-reboot` QEMU exits, and it works without ACPI). Under virtme-ng
/// another init runs, and its QEMU is set up for power-off.
pub fn end() {
    nix::unistd::sync();
    let how =
        if nix::unistd::getpid().as_raw() == 1 { RebootMode::RB_AUTOBOOT } else { RebootMode::RB_POWER_OFF };
    // Nothing can be done about an error: the host sees a guest that sent `done` and stayed.
    let _ = reboot(how);
}
