// SPDX-License-Identifier: MIT OR Apache-2.0
//! The duties of an init: mounts before the tests, power off after them.
//!
//! Under virtme-ng most mounts exist already; what is there is left alone.

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use std::path::Path;

/// Where, what, with which options. In the order of mounting; /proc first, because it tells what is mounted.
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

/// Mounts what is missing. Failures are returned as text and are no reason to stop: a kernel without, say, debugfs
/// can still run most tests, and those that need it say so.
pub fn mount_all() -> Vec<String> {
    let mut failed = Vec::new();
    for &(target, kind, options) in MOUNTS {
        let mounted = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        if mounted.lines().any(|line| line.split(' ').nth(1) == Some(target)) {
            continue;
        }
        if !Path::new(target).exists() {
            // In sysfs it is the kernel that makes mount points; elsewhere a failure shows in the mount.
            let _ = std::fs::create_dir_all(target);
        }
        if let Err(errno) = mount(Some(kind), target, Some(kind), MsFlags::empty(), options) {
            failed.push(format!("mount {kind} on {target}: {errno}"));
        }
    }
    failed
}

/// Gives the process a console when the kernel found none to give it, so that nobody writes into a file that happens
/// to get descriptor 2.
pub fn ensure_console() {
    use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
    if Path::new("/proc/self/fd/2").exists() {
        return;
    }
    let Ok(console) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/console") else { return };
    // Best effort: without a console there is nobody to complain to.
    let _ = dup2_stdin(&console).and_then(|()| dup2_stdout(&console)).and_then(|()| dup2_stderr(&console));
}

/// Ends the guest; does not return unless the kernel refuses.
///
/// PID 1 resets the machine (`-no-reboot` makes that QEMU's end, and it works without ACPI). Under virtme-ng another
/// init runs, and power-off is what its QEMU is set up for.
pub fn end() {
    nix::unistd::sync();
    let how =
        if nix::unistd::getpid().as_raw() == 1 { RebootMode::RB_AUTOBOOT } else { RebootMode::RB_POWER_OFF };
    // Nothing is left to do about a refusal: the host sees a guest that said `done` and stayed.
    let _ = reboot(how);
}
