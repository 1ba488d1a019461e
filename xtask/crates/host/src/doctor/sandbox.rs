// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the sandbox starts, and whether mmdebstrap can use subordinate user ids.

use std::path::Path;
use std::process::Command;

use super::{Check, Need, PROBE_LIMIT, SETUP, Status, is_root};
use crate::process::{Job, find_program};

/// Starts a sandbox like the one for builds and guests, with an empty command.
pub(super) fn user_namespaces() -> Check {
    let mut check = Check {
        name: "user namespaces",
        found: None,
        minimum: None,
        why: "the sandbox opens (tried)",
        needed_for: vec![Need::Sandbox],
        status: Status::Ok,
        problem: None,
        fix: None,
    };
    let said = match try_sandbox() {
        Ok(()) => {
            check.found = Some("yes".to_owned());
            return check;
        }
        Err(said) => said,
    };
    check.status = Status::Missing;
    check.fix = Some(fix_sandbox(&Limits::read()).to_owned());
    check.problem = Some(said);
    check
}

/// The error is bwrap's message.
fn try_sandbox() -> std::result::Result<(), String> {
    let Some(bwrap) = find_program("bwrap") else { return Err("bwrap is not on PATH".to_owned()) };
    let mut command = Command::new(bwrap);
    command.args(["--ro-bind", "/", "/", "--unshare-pid", "--unshare-net", "--die-with-parent"]);
    command.args(["--proc", "/proc", "--dev", "/dev", "true"]).env("LC_ALL", "C");
    match Job::new(command).deadline(PROBE_LIMIT).run() {
        Ok(done) if done.success() => Ok(()),
        Ok(done) => {
            Err(done.tail.last().cloned().unwrap_or_else(|| "bwrap fails without a message".to_owned()))
        }
        Err(error) => Err(error.summary()),
    }
}

/// What can forbid user namespaces. `None` if this kernel has no such setting or it cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Limits {
    /// bwrap is not installed.
    pub(super) no_bwrap: bool,
    /// Root needs no user namespace.
    pub(super) root: bool,
    /// kernel.apparmor_restrict_unprivileged_userns (Ubuntu since 23.10).
    pub(super) apparmor: Option<u64>,
    /// kernel.unprivileged_userns_clone (Debian's and Arch's kernels).
    pub(super) clone: Option<u64>,
    /// user.max_user_namespaces.
    pub(super) max: Option<u64>,
}

impl Limits {
    fn read() -> Limits {
        let sysctl = |path: &str| {
            let text = std::fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?;
            text.trim().parse().ok()
        };
        Limits {
            no_bwrap: find_program("bwrap").is_none(),
            root: is_root(),
            apparmor: sysctl("kernel/apparmor_restrict_unprivileged_userns"),
            clone: sysctl("kernel/unprivileged_userns_clone"),
            max: sysctl("user/max_user_namespaces"),
        }
    }
}

/// A command that makes the sandbox work on such a host.
pub(super) fn fix_sandbox(limits: &Limits) -> &'static str {
    if limits.no_bwrap {
        SETUP
    } else if !limits.root && limits.clone == Some(0) {
        "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    } else if !limits.root && limits.apparmor.is_some_and(|value| value != 0) {
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    } else if !limits.root && limits.max == Some(0) {
        "sudo sysctl -w user.max_user_namespaces=15000"
    } else {
        // No setting of this host forbids it, so probably a container around us does.
        "start the container with --privileged, or go without a sandbox: --toolchain host"
    }
}

/// Whether mmdebstrap can use subordinate user ids.
pub(super) fn subordinate_ids() -> Check {
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    let user = user.unwrap_or_else(|| uid.to_string());
    let missing = ["/etc/subuid", "/etc/subgid"].into_iter().find(|file| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        !has_range(&text, &user, uid.as_raw())
    });
    Check {
        name: "subordinate ids",
        found: missing.is_none().then(|| "yes".to_owned()),
        minimum: None,
        why: "gives mmdebstrap users of its own",
        needed_for: vec![Need::BuildRoot],
        status: if missing.is_some() { Status::Missing } else { Status::Ok },
        problem: missing.map(|file| format!("{user} has no range in {file}")),
        fix: missing
            .map(|_| format!("sudo usermod --add-subuids 200000-265535 --add-subgids 200000-265535 {user}")),
    }
}

/// Whether a file like /etc/subuid gives this user at least 65,536 ids, as many as a Debian system has.
pub(super) fn has_range(text: &str, user: &str, uid: u32) -> bool {
    text.lines().any(|line| {
        let mut parts = line.trim().split(':');
        let owner = parts.next().unwrap_or_default();
        let count = parts.nth(1).and_then(|count| count.parse::<u64>().ok());
        (owner == user || owner == uid.to_string()) && count.is_some_and(|count| count >= 65_536)
    })
}
