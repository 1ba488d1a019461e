// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where make, clang, virtme-ng and QEMU run: in the build root, under bubblewrap, without network, with an
//! empty home directory, and with only the required directories mounted at fixed paths. Or, with `--toolchain
//! host`, directly on the host.
//!
//! Killing the sandbox kills every process in it: it is a PID namespace and dies with its parent. `filter`
//! restricts its system calls, `bounds` its resources.

mod bounds;
mod filter;

use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::build_root::{BuildRoot, MOUNT_POINTS};
use vmtest_base::key::Key;

/// Whose tools build and boot.
#[derive(Debug, Clone)]
pub enum Tools {
    /// Those of the build root, in the sandbox.
    Image(BuildRoot),
    /// The host's own, without a sandbox. The key is a hash of their versions.
    Host(Key),
}

impl Tools {
    /// Hash of the tools' versions.
    pub fn key(&self) -> &Key {
        match self {
            Tools::Image(root) => &root.key,
            Tools::Host(key) => key,
        }
    }
}

#[derive(Debug, Clone)]
struct Mount {
    host: PathBuf,
    inside: &'static str,
    writable: bool,
}

/// A directory that every Debian has empty and first in PATH, also in a guest that boots from the build root.
pub const ON_PATH: &str = "/usr/local/sbin";

/// The mounts, environment and permissions of one command.
#[derive(Debug, Clone)]
pub struct Sandbox<'a> {
    tools: &'a Tools,
    mounts: Vec<Mount>,
    env: Vec<(String, String)>,
    kvm: bool,
    terminal: bool,
    network: bool,
    path_first: Vec<String>,
}

impl<'a> Sandbox<'a> {
    /// A sandbox with nothing mounted yet.
    pub fn new(tools: &'a Tools) -> Sandbox<'a> {
        Sandbox {
            tools,
            mounts: Vec::new(),
            env: Vec::new(),
            kvm: false,
            terminal: false,
            network: false,
            path_first: Vec::new(),
        }
    }

    /// Mounts a directory of the host at one of the [`MOUNT_POINTS`], read-only.
    pub fn read_only(self, host: impl Into<PathBuf>, inside: &'static str) -> Self {
        self.mount(host.into(), inside, false)
    }

    /// Mounts a directory of the host at one of the [`MOUNT_POINTS`], writable.
    pub fn writable(self, host: impl Into<PathBuf>, inside: &'static str) -> Self {
        self.mount(host.into(), inside, true)
    }

    fn mount(mut self, host: PathBuf, inside: &'static str, writable: bool) -> Self {
        let exists = MOUNT_POINTS.contains(&inside) || inside == ON_PATH;
        debug_assert!(exists, "{inside} does not exist in the build root");
        self.mounts.push(Mount { host, inside, writable });
        self
    }

    /// Sets a variable. In the build root, nothing of the caller's environment is passed on.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Puts a directory, as seen from inside, at the front of PATH.
    pub fn path_first(mut self, dir: impl Into<String>) -> Self {
        self.path_first.push(dir.into());
        self
    }

    /// Gives access to /dev/kvm.
    pub fn kvm(mut self, yes: bool) -> Self {
        self.kvm = yes;
        self
    }

    /// Keeps the controlling terminal, for an interactive child.
    pub fn terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// Gives it the host's network: only for a program that downloads and does not execute the result.
    pub fn network(mut self) -> Self {
        self.network = true;
        self
    }

    /// The path of a mounted file as the child sees it: the same fixed path on every host in the build root,
    /// the real path with the host's tools.
    pub fn see(&self, inside: &str) -> PathBuf {
        match self.tools {
            Tools::Image(_) => PathBuf::from(inside),
            Tools::Host(_) => {
                let found = self.mounts.iter().find_map(|mount| {
                    let below = Path::new(inside).strip_prefix(mount.inside).ok()?;
                    Some(if below.as_os_str().is_empty() {
                        mount.host.clone()
                    } else {
                        mount.host.join(below)
                    })
                });
                found.unwrap_or_else(|| PathBuf::from(inside))
            }
        }
    }

    /// A command that runs `program` in this sandbox. The caller adds the arguments.
    pub fn command(&self, program: &str) -> Command {
        match self.tools {
            Tools::Image(root) => self.in_root(root, program),
            Tools::Host(_) => self.on_host(program),
        }
    }

    fn in_root(&self, root: &BuildRoot, program: &str) -> Command {
        let mut options = self.options(root);
        options.extend(user_namespace(root).iter().map(OsString::from));
        let mut command = match bwrap(&options) {
            Ok(command) => command,
            // Reported when the command is spawned.
            Err(error) => {
                let mut command = Command::new("bwrap");
                let mut error = Some(error);
                // SAFETY: `take` calls no system function and does not allocate.
                unsafe {
                    command.pre_exec(move || Err(error.take().unwrap_or_else(std::io::Error::last_os_error)));
                }
                command
            }
        };
        command.arg("--").args(bounds::within_processes()).arg(program);
        command
    }

    /// Options of bwrap, without the program and its arguments.
    fn options(&self, root: &BuildRoot) -> Vec<OsString> {
        let mut options = Vec::new();
        let mut add = |words: &[&dyn AsRef<std::ffi::OsStr>]| {
            options.extend(words.iter().map(|word| word.as_ref().to_owned()));
        };
        add(&[&"--ro-bind", &root.dir, &"/", &"--proc", &"/proc", &"--dev", &"/dev"]);
        for (place, size) in bounds::sizes() {
            add(&[&"--size", &size.to_string(), &"--tmpfs", &place]);
        }
        // Root could write to these, and they affect the whole host: core_pattern starts programs outside of
        // any sandbox.
        for file in ["/proc/sys", "/proc/sysrq-trigger"] {
            add(&[&"--ro-bind-try", &file, &file]);
        }
        for file in HIDDEN_FILES.map(|name| Path::new("/proc").join(name)).iter().filter(|file| file.exists())
        {
            add(&[&"--ro-bind", &"/dev/null", file]);
        }
        for dir in
            HIDDEN_DIRECTORIES.map(|name| Path::new("/proc").join(name)).iter().filter(|dir| dir.is_dir())
        {
            add(&[&"--perms", &"0555", &"--size", &"4096", &"--tmpfs", dir, &"--remount-ro", dir]);
        }
        for mount in &self.mounts {
            add(&[&if mount.writable { "--bind" } else { "--ro-bind" }, &mount.host, &mount.inside]);
        }
        if self.kvm {
            add(&[&"--dev-bind", &"/dev/kvm", &"/dev/kvm"]);
        }
        // Regular files in /dev would use unlimited memory. /dev/shm is a separate mount.
        add(&[&"--remount-ro", &"/dev"]);
        if self.network {
            // This host's resolver, not that of the day when the build root was made.
            add(&[&"--ro-bind-try", &"/etc/resolv.conf", &"/etc/resolv.conf"]);
            add(&[&"--ro-bind-try", &"/etc/hosts", &"/etc/hosts"]);
        } else {
            add(&[&"--unshare-net"]);
        }
        // bwrap drops capabilities by itself only for ordinary users; root would keep them.
        add(&[&"--unshare-pid", &"--unshare-ipc", &"--unshare-uts", &"--unshare-cgroup-try"]);
        add(&[&"--die-with-parent", &"--cap-drop", &"ALL"]);
        if !self.terminal {
            // Without it a child could inject characters into the caller's terminal.
            add(&[&"--new-session"]);
        }
        self.environment(&mut options);
        options
    }

    /// A clean environment, and where the program starts.
    fn environment(&self, options: &mut Vec<OsString>) {
        let mut add = |words: &[&dyn AsRef<std::ffi::OsStr>]| {
            options.extend(words.iter().map(|word| word.as_ref().to_owned()));
        };
        add(&[&"--clearenv"]);
        let mut path = self.path_first.join(":");
        if !path.is_empty() {
            path.push(':');
        }
        path.push_str("/usr/sbin:/usr/bin");
        add(&[&"--setenv", &"PATH", &path, &"--setenv", &"HOME", &"/tmp", &"--setenv", &"TMPDIR", &"/tmp"]);
        add(&[&"--setenv", &"LC_ALL", &"C.UTF-8"]);
        if let Some(term) = std::env::var("TERM").ok().filter(|_| self.terminal) {
            add(&[&"--setenv", &"TERM", &term]);
        }
        for (name, value) in &self.env {
            add(&[&"--setenv", name, value]);
        }
        add(&[&"--chdir", &"/tmp"]);
    }

    fn on_host(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // The caller's KBUILD_OUTPUT, MAKEFLAGS or virtme-ng settings would change what is built and booted.
        command.env_clear();
        for name in ["HOME", "USER", "LOGNAME", "TERM", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let mut path = std::ffi::OsString::from(self.path_first.join(":"));
        if !path.is_empty() {
            path.push(":");
        }
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command.env("PATH", path).env("LC_ALL", "C.UTF-8");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Files in /proc that describe the whole host, and that no tool in the sandbox reads.
const HIDDEN_FILES: [&str; 27] = [
    "buddyinfo",
    "cmdline",
    "consoles",
    "diskstats",
    "interrupts",
    "iomem",
    "ioports",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "mdstat",
    "modules",
    "pagetypeinfo",
    "partitions",
    "sched_debug",
    "schedstat",
    "slabinfo",
    "swaps",
    "timer_list",
    "vmallocinfo",
    "zoneinfo",
];
/// Directories in /proc, for the same reason. Root could write to the first ones.
const HIDDEN_DIRECTORIES: [&str; 8] = ["pressure", "irq", "acpi", "asound", "bus", "driver", "fs", "scsi"];

/// bwrap with these options, the filters and the limits. The options are passed in a file: processes inside
/// can read the command line of their first process, which is bwrap, and it would reveal paths of this host.
fn bwrap(options: &[OsString]) -> std::io::Result<Command> {
    let mut text = Vec::new();
    for option in options {
        text.extend(option.as_bytes());
        text.push(0);
    }
    let mut command = Command::new("bwrap");
    // Processes inside can also read its environment, which may hold secrets such as a CI system's tokens.
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    let mut files = vec![in_memory(&text)?];
    command.arg("--args").arg(files[0].as_raw_fd().to_string());
    for program in filter::programs().map_err(std::io::Error::other)? {
        let file = in_memory(&program)?;
        command.arg("--add-seccomp-fd").arg(file.as_raw_fd().to_string());
        files.push(file);
    }
    // SAFETY: fcntl(2) and keyctl(2) are async-signal-safe, and nothing here allocates.
    unsafe {
        command.pre_exec(move || {
            for file in &files {
                fcntl(file, FcntlArg::F_SETFD(FdFlag::empty()))?;
            }
            // Replaces the caller's session keyring with an empty one. The filter denies all system calls on
            // keys; this is for what the kernel looks up by itself. Failure is ignored: the kernel may have
            // no keys, or a quota is reached.
            libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, 0);
            Ok(())
        });
    }
    bounds::apply(&mut command);
    Ok(command)
}

/// KEYCTL_JOIN_SESSION_KEYRING of keyctl(2).
const JOIN_SESSION_KEYRING: libc::c_ulong = 1;

/// An anonymous file that is closed on exec unless its flag is cleared.
fn in_memory(content: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"vmtest", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}

/// The bwrap options for a user namespace that work on this host. Ordinary users always get one; with one,
/// root is not root of the host any more. If bwrap can, it also forbids further user namespaces inside, as
/// the filter does. Tried with the real build root, since root in a user namespace may not be able to enter
/// the directories above it.
fn user_namespace(root: &BuildRoot) -> &'static [&'static str] {
    static FOUND: OnceLock<&'static [&'static str]> = OnceLock::new();
    const WAYS: [&[&str]; 2] = [&["--unshare-user", "--disable-userns"], &["--unshare-user"]];
    FOUND.get_or_init(|| {
        let works = |way: &&[&str]| {
            let mut options: Vec<OsString> = ["--ro-bind".into(), root.dir.clone().into(), "/".into()].into();
            options.extend(["--proc", "/proc", "--dev", "/dev", "--unshare-pid"].map(OsString::from));
            options.extend(way.iter().map(OsString::from));
            let Ok(mut command) = bwrap(&options) else { return false };
            command.args(["--", "/usr/bin/true"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        WAYS.into_iter().find(works).unwrap_or_default()
    })
}

/// Removes what this process created for its sandboxes.
pub fn finish() {
    bounds::finish();
}

#[cfg(test)]
mod tests;
