// SPDX-License-Identifier: MIT OR Apache-2.0
//! What to boot: the virtual machine, its kernel command line and its task, shared by both ways to start it
//! ([`virtme`](crate::virtme), [`microvm`](crate::microvm)).

use std::path::{Path, PathBuf};
use std::time::Duration;

use vmtest_protocol::{Effort, SelfTest, Upstream, base64, param};

use vmtest_host::accel::Kind;

/// How a guest is booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Boot {
    /// Through virtme-ng: the guest's `/` is the build root.
    Vng,
    /// QEMU microvm with an initramfs that contains the runner.
    Direct,
}

impl Boot {
    /// Default number of CPUs.
    pub fn default_cpus(self) -> u32 {
        match self {
            Boot::Vng => 2,
            // A microvm supports only one, see `microvm`.
            Boot::Direct => 1,
        }
    }

    /// `vng` or `direct`.
    pub fn name(self) -> &'static str {
        match self {
            Boot::Vng => "vng",
            Boot::Direct => "direct",
        }
    }
}

/// What the guest is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Run the suite: which subtests, effort, and what is damaged on purpose. With neither names nor places,
    /// all subtests of that effort run.
    Tests {
        /// Names `test/subtest`; empty if there are too many.
        names: Vec<String>,
        /// Their indices in the runner's list.
        places: String,
        effort: Effort,
        /// What to damage on purpose; `None` for nothing.
        self_test: Option<SelfTest>,
        rounds: u32,
        /// Stop at the first failure, and start nothing new after this time; `None`: run all rounds.
        until_fail: Option<Duration>,
    },
    /// Run tests of the tree's own `test_progs`.
    Upstream {
        /// The binary and its files, on the host.
        bundle: PathBuf,
        wishes: Upstream,
    },
    Exec(String),
    /// An interactive shell on the console.
    Shell,
}

/// Where a guest sees the bundle of [`Task::Upstream`].
pub const BUNDLE_MOUNT: &str = "/src";
/// Name below `/vm` of the file with the wishes of [`Task::Upstream`].
pub const WISHES: &str = "upstream.json";

/// A directory of the host, as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    pub seen_at: String,
    pub writable: bool,
}

/// One virtual machine.
#[derive(Debug, Clone)]
pub struct VmSpec {
    /// How it is booted.
    pub boot: Boot,
    /// File name of the kernel below `/kernel`.
    pub kernel: String,
    pub cpus: u32,
    pub memory_mib: u32,
    /// KVM or emulation.
    pub accel: Kind,
    /// `multi` or `single`; matters only for the emulator.
    pub tcg_thread: &'static str,
    /// Whether the emulator's clock counts instructions.
    pub icount: bool,
    /// CPU model; `None` means `host` under KVM and `max` when emulated.
    pub cpu: Option<String>,
    /// Kernel parameters of the variant and of `--append`.
    pub append: Vec<String>,
    /// `name=value` pairs that the runner sets before the first test.
    pub sysctls: Vec<String>,
    /// bpftool as the guest sees it; `None` without one.
    pub bpftool: Option<String>,
    /// The file of [`Task::Upstream`] as the guest sees it; `None` for other tasks.
    pub wishes: Option<String>,
    pub nonce: String,
    pub task: Task,
    /// A directory of the host; the guest starts in it.
    pub share: Option<Share>,
    /// Wait for gdb on a socket below `/vm`.
    pub gdb: bool,
}

/// The kernel's limit for its command line on x86 (COMMAND_LINE_SIZE, arch/x86/include/asm/setup.h).
pub const MAX_CMDLINE: usize = 2048;

/// Parameters of the variant and of `--append`, followed by those that every guest gets, each with its
/// reason. The kernel uses the last value of a parameter, so ours win; see
/// [`reserved`](vmtest_kernel::reserved).
pub fn common_params(spec: &VmSpec, port: &str) -> Vec<String> {
    let mut params = spec.append.clone();
    params.extend(
        [
            // Everything reaches the console, even if a configuration, a test or a sysctl changes the console
            // level.
            "ignore_loglevel",
            // Die loudly and at once: QEMU runs with -no-reboot, so an instant reboot makes it exit.
            "panic=-1",
            "oops=panic",
            // A triple fault needs neither ACPI nor a keyboard controller, and a microvm has neither.
            "reboot=t",
        ]
        .map(str::to_owned),
    );
    params.push(format!("{}={}", param::NONCE, spec.nonce));
    params.push(format!("{}={port}", param::PORT));
    match &spec.task {
        Task::Tests { names, places, effort, self_test, rounds, until_fail } => {
            if !names.is_empty() {
                params.push(format!("{}={}", param::TEST, names.join(",")));
            } else if !places.is_empty() {
                params.push(format!("{}={places}", param::PICK));
            }
            params.push(format!("{}={}", param::EFFORT, effort.name()));
            if *rounds != 1 {
                params.push(format!("{}={rounds}", param::REPEAT));
            }
            if let Some(time) = until_fail {
                params.push(format!("{}=1", param::UNTIL_FAIL));
                params.push(format!("{}={}", param::SECONDS, time.as_secs().max(1)));
            }
            params.extend(self_test.map(|how| format!("{}={}", param::SELF_TEST, how.name())));
        }
        Task::Upstream { .. } => {}
        Task::Exec(command) => {
            let command = match &spec.share {
                Some(share) => format!("cd '{}' || exit; {command}", share.seen_at),
                None => command.clone(),
            };
            params.push(format!("{}={}", param::EXEC, base64::encode(command.as_bytes())));
        }
        Task::Shell => params.push(format!("{}=1", param::SHELL)),
    }
    params.extend(spec.icount.then(|| format!("{}=1", param::ICOUNT)));
    params.extend(spec.bpftool.iter().map(|path| format!("{}={path}", param::BPFTOOL)));
    params.extend(spec.wishes.iter().map(|path| format!("{}={path}", param::UPSTREAM)));
    params.extend(spec.sysctls.iter().map(|sysctl| format!("{}={sysctl}", param::SYSCTL)));
    params
}

/// QEMU's `-icount`: one nanosecond of the guest for each instruction; while it is idle, time goes on as on the host.
pub const ICOUNT: &str = "shift=0";

/// Escapes a value inside a comma-separated QEMU option.
pub fn qemu_value(text: &str) -> String {
    text.replace(',', ",,")
}

/// Longest path of a socket (sockaddr_un, with its NUL byte); QEMU does not start with a longer one.
const LONGEST_SOCKET: usize = 107;

/// QEMU's QMP socket, used to query a hung guest; `None` if its path is too long, as with a deep TMPDIR and
/// host tools.
pub fn qmp_socket(vm: &Path) -> Option<String> {
    let longest = vm.join(crate::last_words::LONGEST_NAME);
    let path = vm.join(crate::last_words::QMP).to_string_lossy().into_owned();
    (longest.as_os_str().len() <= LONGEST_SOCKET).then_some(path)
}

#[cfg(test)]
pub(crate) fn example(boot: Boot) -> VmSpec {
    VmSpec {
        boot,
        kernel: "vmlinux".into(),
        cpus: 2,
        memory_mib: 512,
        accel: Kind::Tcg,
        tcg_thread: "multi",
        icount: false,
        cpu: None,
        append: vec!["mitigations=off".into()],
        sysctls: vec!["net.core.bpf_jit_harden=2".into()],
        bpftool: Some("/obj/bpftool".into()),
        wishes: None,
        nonce: "0123abcd".into(),
        task: Task::Tests {
            names: vec!["basic/*".into()],
            places: "c0".into(),
            effort: Effort::Quick,
            self_test: None,
            rounds: 1,
            until_fail: None,
        },
        share: None,
        gdb: false,
    }
}

#[cfg(test)]
mod tests;
