// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel command line of a guest: its parameters, and whether it fits, as far as that is known before
//! the build.

use crate::plan::{Column, MAX_ROUNDS, Plan};
use crate::request::{BootChoice, Purpose};
use vmtest_base::error::{Error, Result};
use vmtest_base::files::nonce;
use vmtest_guest::microvm;
use vmtest_guest::spec::{Boot, MAX_CMDLINE, Task, VmSpec};
use vmtest_host::accel::Kind;
use vmtest_kernel::bpftool::BPFTOOL;
use vmtest_kernel::variant::Variant;

/// Where a guest sees the bpftool of its tree.
pub const BPFTOOL_MOUNT: &str = "/obj";

/// Kernel parameters and sysctls of a guest: those of its variant, then the user's.
pub fn settings(plan: &Plan, variant: Option<&Variant>) -> (Vec<String>, Vec<String>) {
    let of_variant = |variant: &Variant| {
        let sysctls = variant.sysctls.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (variant.cmdline.clone(), sysctls)
    };
    let (mut append, mut sysctls): (Vec<String>, Vec<String>) = variant.map(of_variant).unwrap_or_default();
    append.extend(plan.append.iter().cloned());
    sysctls.extend(plan.sysctls.iter().cloned());
    (append, sysctls)
}

/// Rejects a kernel command line that would be truncated. vng adds about 700 characters.
pub fn fits(spec: &VmSpec) -> Result<()> {
    let length = microvm::cmdline(spec).len() + if spec.boot == Boot::Vng { 750 } else { 0 };
    if length < MAX_CMDLINE {
        return Ok(());
    }
    Err(Error::usage(format!("the kernel command line would be {length} characters long"))
        .why(format!("the kernel truncates it at {MAX_CMDLINE}"))
        .next("use a shorter --exec, or fewer --append and --sysctl; variants may add some, too"))
}

/// The same check before the build, as far as possible: subtests can always be given by index.
///
/// # Errors
/// Class `Usage` if it would be truncated.
pub fn check_cmdline(plan: &Plan, column: &Column, variant: Option<&Variant>) -> Result<()> {
    let (append, sysctls) = settings(plan, variant);
    let boot = match plan.boot {
        BootChoice::Direct => Boot::Direct,
        BootChoice::Auto if !column.spec.has_source() => Boot::Direct,
        BootChoice::Auto | BootChoice::Vng => Boot::Vng,
    };
    let task = match &plan.purpose {
        Purpose::Exec(command) => Task::Exec(command.clone()),
        Purpose::Shell => Task::Shell,
        Purpose::Test | Purpose::Gdb => Task::Tests {
            names: Vec::new(),
            places: "f".repeat(MAX_PLACES),
            effort: plan.effort,
            self_test: column.self_test,
            rounds: MAX_ROUNDS,
            until_fail: None,
        },
    };
    fits(&VmSpec {
        boot,
        kernel: String::new(),
        cpus: 1,
        memory_mib: 0,
        accel: Kind::Tcg,
        tcg_thread: "single",
        icount: true,
        cpu: None,
        append,
        sysctls,
        bpftool: Some(format!("{BPFTOOL_MOUNT}/{BPFTOOL}")),
        wishes: None,
        nonce: nonce(),
        task,
        share: None,
        gdb: false,
    })
}

/// Room for the indices of a suite's subtests: twice as many characters as are needed today.
const MAX_PLACES: usize = 64;
