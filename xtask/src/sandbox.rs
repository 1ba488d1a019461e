// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where make, clang, virtme-ng and QEMU run: inside the build root, by bubblewrap, without network, with an empty
//! home, seeing only what is mounted for them at fixed paths. Or, with `--toolchain host`, straight on the host.
//!
//! One kill ends the whole tree: the sandbox is a process namespace, and dies with its parent.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::image::BuildRoot;
use crate::workdir::Key;

/// Whose tools build and boot.
#[derive(Debug, Clone)]
pub enum Tools {
    /// Those of the build root, in the sandbox.
    Image(BuildRoot),
    /// The host's own, without a sandbox. The key stands for their versions.
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

/// Mount points that exist in every build root. The root is mounted read-only, so no others can be made.
pub const MOUNT_POINTS: [&str; 8] =
    ["/src", "/obj", "/ccache", "/kernel", "/vm", "/suite", "/opt/vng", "/initramfs"];

#[derive(Debug, Clone)]
struct Mount {
    host: PathBuf,
    inside: &'static str,
    writable: bool,
}

/// One command's view of the world.
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

    /// Shows a directory of the host at one of the [`MOUNT_POINTS`], read-only.
    pub fn read_only(self, host: impl Into<PathBuf>, inside: &'static str) -> Self {
        self.mount(host.into(), inside, false)
    }

    /// Shows a directory of the host at one of the [`MOUNT_POINTS`], writable.
    pub fn writable(self, host: impl Into<PathBuf>, inside: &'static str) -> Self {
        self.mount(host.into(), inside, true)
    }

    fn mount(mut self, host: PathBuf, inside: &'static str, writable: bool) -> Self {
        debug_assert!(MOUNT_POINTS.contains(&inside), "{inside} does not exist in the build root");
        self.mounts.push(Mount { host, inside, writable });
        self
    }

    /// Sets a variable; nothing of the caller's environment is passed on.
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

    /// Keeps the terminal, for an interactive child.
    pub fn terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// Gives it the host's network: for a program that fetches, and runs nothing of what it fetched.
    pub fn network(mut self) -> Self {
        self.network = true;
        self
    }

    /// Where the child sees a path below one of the mounts: the same fixed path on every host in the build root, the
    /// real one with the host's tools.
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

    /// A command of this program in this sandbox; arguments are the caller's to add.
    pub fn command(&self, program: &str) -> Command {
        match self.tools {
            Tools::Image(root) => self.in_root(root, program),
            Tools::Host(_) => self.on_host(program),
        }
    }

    fn in_root(&self, root: &BuildRoot, program: &str) -> Command {
        let mut command = Command::new("bwrap");
        // bwrap itself is the first process in there, where anybody can read its environment: a CI system's tokens, for one.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.arg("--ro-bind").arg(&root.dir).arg("/");
        command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"]);
        // For root these are writable, and belong to the whole host: core_pattern starts programs outside of any sandbox.
        for file in ["/proc/sys", "/proc/sysrq-trigger"] {
            command.args(["--ro-bind-try", file, file]);
        }
        for mount in &self.mounts {
            command
                .arg(if mount.writable { "--bind" } else { "--ro-bind" })
                .arg(&mount.host)
                .arg(mount.inside);
        }
        if self.kvm {
            command.args(["--dev-bind", "/dev/kvm", "/dev/kvm"]);
        }
        if self.network {
            // The name service of this host, and not that of the day when the root was made.
            command.args(["--ro-bind-try", "/etc/resolv.conf", "/etc/resolv.conf"]);
            command.args(["--ro-bind-try", "/etc/hosts", "/etc/hosts"]);
        } else {
            command.arg("--unshare-net");
        }
        command.args([
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-uts",
            "--die-with-parent",
            // Root's would stay: bwrap drops them by itself only for others.
            "--cap-drop",
            "ALL",
        ]);
        if !self.terminal {
            // Without it a child could push characters into the caller's terminal.
            command.arg("--new-session");
        }
        command.arg("--clearenv");
        let mut path = self.path_first.join(":");
        if !path.is_empty() {
            path.push(':');
        }
        path.push_str("/usr/sbin:/usr/bin");
        command.args(["--setenv", "PATH", &path, "--setenv", "HOME", "/tmp", "--setenv", "TMPDIR", "/tmp"]);
        command.args(["--setenv", "LC_ALL", "C.UTF-8"]);
        if let Some(term) = std::env::var("TERM").ok().filter(|_| self.terminal) {
            command.args(["--setenv", "TERM", &term]);
        }
        for (name, value) in &self.env {
            command.args(["--setenv", name, value]);
        }
        command.args(["--chdir", "/tmp", "--", program]);
        command
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

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &Command) -> Vec<String> {
        command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect()
    }

    fn image() -> Tools {
        Tools::Image(BuildRoot { dir: "/cache/root".into(), key: Key::of("test").finish() })
    }

    #[test]
    fn the_sandbox_has_no_network_and_dies_with_its_parent() {
        let tools = image();
        let words =
            words(&Sandbox::new(&tools).read_only("/a", "/src").writable("/b", "/obj").command("make"));
        for needed in [
            "--unshare-net",
            "--unshare-pid",
            "--die-with-parent",
            "--clearenv",
            "--new-session",
            "--cap-drop",
        ] {
            assert!(words.iter().any(|word| word == needed), "{needed}");
        }
        assert!(words.windows(3).any(|three| three == ["--ro-bind", "/a", "/src"]));
        assert!(words.windows(3).any(|three| three == ["--bind", "/b", "/obj"]));
        assert_eq!(words.last().map(String::as_str), Some("make"));
    }

    #[test]
    fn a_network_has_to_be_asked_for() {
        let tools = image();
        let has = |sandbox: Sandbox<'_>| !words(&sandbox.command("b4")).contains(&"--unshare-net".to_owned());
        assert!(has(Sandbox::new(&tools).network()));
        assert!(!has(Sandbox::new(&tools).terminal().kvm(true)));
    }

    #[test]
    fn paths_are_fixed_inside_and_real_on_the_host() {
        let (inside, host) = (image(), Tools::Host(Key::of("test").finish()));
        assert_eq!(Sandbox::new(&inside).read_only("/a b", "/src").see("/src/x"), Path::new("/src/x"));
        assert_eq!(Sandbox::new(&host).read_only("/a b", "/src").see("/src/x"), Path::new("/a b/x"));
        assert_eq!(Sandbox::new(&host).read_only("/a b", "/src").see("/src"), Path::new("/a b"));
    }
}
