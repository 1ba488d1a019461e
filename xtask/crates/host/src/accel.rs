// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether guests run on KVM or are emulated. Observing the host is separate from judging the observation, so
//! that tests can judge every kind of host.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use vmtest_base::error::{Error, Result};

const DEVICE: &str = "/dev/kvm";
/// The only version since Linux 2.6.22. Documentation/virt/kvm/api.rst says to refuse any other.
const API_VERSION: i32 = 12;
const FIRMWARE: &str = "switch on VT-x or SVM in the firmware, or nested virtualization above";

/// The user's choice.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum AccelChoice {
    /// KVM where it is usable, else emulation
    #[default]
    Auto,
    /// KVM, or end with exit code 30
    Kvm,
    /// Emulation, also where KVM is usable
    Tcg,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The processor's virtualization.
    Kvm,
    /// QEMU's emulator.
    Tcg,
}

impl Kind {
    /// Name as in QEMU and in the records.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kvm => "kvm",
            Kind::Tcg => "tcg",
        }
    }
}

/// The decision and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accel {
    pub kind: Kind,
    /// For the record: the user's request, or the condition that failed.
    pub reason: String,
}

/// Decides, and looks at the host unless the user chose emulation.
///
/// # Errors
/// A host error if KVM is requested but not usable.
pub fn decide(choice: AccelChoice) -> Result<Accel> {
    match choice {
        AccelChoice::Tcg => Ok(Accel { kind: Kind::Tcg, reason: "requested".to_owned() }),
        AccelChoice::Auto | AccelChoice::Kvm => judge(choice, &observe()),
    }
}

/// The first step that failed on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// It cannot be opened for reading and writing.
    Open(Errno),
    /// It does not report its version.
    Version(Errno),
    /// It reports an unsupported version.
    OtherVersion(i32),
    /// It cannot create a virtual machine.
    CreateVm(Errno),
    /// The machine cannot create a virtual processor.
    CreateVcpu(Errno),
}

/// Observations about a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The step at which using the device failed; `None` if a machine with a processor could be created.
    pub obstacle: Option<Obstacle>,
    /// /proc/cpuinfo has `svm` or `vmx`.
    pub cpu_flag: bool,
}

/// Why KVM cannot be used, and how to fix that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// The condition that failed.
    pub why: String,
    pub fix: &'static str,
}

/// Observes this host: opens the device and creates a machine with a processor, both closed on return.
pub fn observe() -> Observed {
    // Lets tests pretend that KVM is usable on a host where it is not.
    #[cfg(debug_assertions)]
    if std::env::var_os("VMTEST_KVM_LOOKS_USABLE").is_some() {
        return Observed { obstacle: None, cpu_flag: true };
    }
    let cpu_flag = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| has_virtualization(&text));
    Observed { obstacle: try_device().err(), cpu_flag }
}

/// The reason why KVM is unusable on a host, or `None` if it is usable.
///
/// The device alone proves nothing: some hosts offer a software KVM (kvm_pvm, for example) that answers every
/// call, but in which an ordinary kernel hangs without any output. So the processor's flag is required as
/// well.
pub fn unusable(seen: &Observed) -> Option<Unusable> {
    const MODULE: &str = "sudo modprobe kvm_intel || sudo modprobe kvm_amd";
    let absent = |errno| matches!(errno, Errno::ENOENT | Errno::ENODEV | Errno::ENXIO);
    let (why, fix) = match seen.obstacle {
        None if seen.cpu_flag => return None,
        None => (
            "the device answers, as that of a software KVM in which ordinary kernels hang".to_owned(),
            FIRMWARE,
        ),
        Some(Obstacle::Open(errno @ (Errno::EACCES | Errno::EPERM))) => (
            format!("{DEVICE} may not be opened ({})", errno.desc()),
            "sudo usermod -aG kvm \"$USER\" and log in again",
        ),
        Some(Obstacle::Open(errno)) if absent(errno) => {
            (format!("{DEVICE} is not there ({}): its module is not loaded", errno.desc()), MODULE)
        }
        Some(Obstacle::Open(errno)) => (format!("{DEVICE} cannot be opened ({})", errno.desc()), MODULE),
        Some(Obstacle::Version(errno)) => {
            (format!("{DEVICE} does not report its version ({})", errno.desc()), MODULE)
        }
        Some(Obstacle::OtherVersion(version)) => {
            (format!("{DEVICE} speaks version {version}, not {API_VERSION}"), MODULE)
        }
        Some(Obstacle::CreateVm(Errno::EBUSY)) => (
            "another hypervisor holds the processor (KVM_CREATE_VM: busy)".to_owned(),
            "stop the other hypervisor (VirtualBox, VMware)",
        ),
        Some(Obstacle::CreateVm(errno)) => {
            (format!("no virtual machine can be made (KVM_CREATE_VM: {})", errno.desc()), FIRMWARE)
        }
        Some(Obstacle::CreateVcpu(errno)) => {
            (format!("no virtual processor can be made (KVM_CREATE_VCPU: {})", errno.desc()), FIRMWARE)
        }
    };
    if seen.cpu_flag {
        Some(Unusable { why, fix })
    } else {
        // Fixing only the device would just reveal the next obstacle.
        Some(Unusable { why: format!("/proc/cpuinfo has neither svm nor vmx; {why}"), fix: FIRMWARE })
    }
}

/// The accelerator for a choice on a host with these observations.
///
/// # Errors
/// A host error if KVM is requested but not usable.
pub fn judge(choice: AccelChoice, seen: &Observed) -> Result<Accel> {
    match (choice, unusable(seen)) {
        (AccelChoice::Tcg, _) => Ok(Accel { kind: Kind::Tcg, reason: "requested".to_owned() }),
        (AccelChoice::Kvm, Some(Unusable { why, fix })) => Err(Error::host("--accel kvm: KVM is not usable")
            .why(why)
            .next(format!("{fix}; or emulate: --accel tcg"))),
        (AccelChoice::Auto, Some(Unusable { why, fix })) => {
            Ok(Accel { kind: Kind::Tcg, reason: format!("KVM is not usable: {why}; {fix}") })
        }
        (AccelChoice::Kvm, None) => Ok(Accel { kind: Kind::Kvm, reason: "requested".to_owned() }),
        (AccelChoice::Auto, None) => Ok(Accel { kind: Kind::Kvm, reason: "KVM is usable".to_owned() }),
    }
}

/// Whether /proc/cpuinfo has `svm` or `vmx` among a processor's flags. The line `vmx flags` of newer kernels
/// lists details and does not count.
fn has_virtualization(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim() == "flags")
        .any(|(_, flags)| flags.split_ascii_whitespace().any(|flag| flag == "svm" || flag == "vmx"))
}

mod ioctl {
    //! The ioctls used to try the device. Each takes an integer: 0 for the first two, the id of the processor
    //! for the last.

    const KVM: u8 = 0xAE;

    nix::ioctl_write_int_bad!(
        /// `KVM_GET_API_VERSION`
        get_api_version, nix::request_code_none!(KVM, 0x00));
    nix::ioctl_write_int_bad!(
        /// `KVM_CREATE_VM`: returns a file descriptor.
        create_vm, nix::request_code_none!(KVM, 0x01));
    nix::ioctl_write_int_bad!(
        /// `KVM_CREATE_VCPU`: returns a file descriptor.
        create_vcpu, nix::request_code_none!(KVM, 0x41));
}

/// Creates a machine with a processor, and closes both.
fn try_device() -> std::result::Result<(), Obstacle> {
    let device =
        File::from(open(DEVICE, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(Obstacle::Open)?);
    // SAFETY: the call takes an integer and accesses no memory of ours; the descriptor is open.
    let version = unsafe { ioctl::get_api_version(device.as_raw_fd(), 0) }.map_err(Obstacle::Version)?;
    if version != API_VERSION {
        return Err(Obstacle::OtherVersion(version));
    }
    let machine = loop {
        // SAFETY: as above.
        match unsafe { ioctl::create_vm(device.as_raw_fd(), 0) } {
            // Creating a machine waits for other CPUs, and any signal interrupts that.
            Err(Errno::EINTR) => (),
            made => break made.map_err(Obstacle::CreateVm)?,
        }
    };
    // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
    let machine = unsafe { OwnedFd::from_raw_fd(machine) };
    // SAFETY: as for `get_api_version`.
    let processor = unsafe { ioctl::create_vcpu(machine.as_raw_fd(), 0) }.map_err(Obstacle::CreateVcpu)?;
    // SAFETY: as for the machine.
    drop(unsafe { OwnedFd::from_raw_fd(processor) });
    Ok(())
}

#[cfg(test)]
mod tests;
