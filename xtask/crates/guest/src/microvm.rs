// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments of a direct boot: QEMU, the kernel's PVH entry (or a bzImage), an initramfs. Pure.
//!
//! No file sharing and no modules: the fastest way to a first process, and it boots any distribution's image.
//! With one CPU the machine is a microvm without PCI and ACPI. Without ACPI the kernel cannot discover more
//! CPUs (it sees one, whatever `-smp` says), and with ACPI a microvm hangs at TSC calibration or resets
//! (measured, 7.3.4 under QEMU 10). So with more than one CPU the machine is a q35, which boots half as fast.

use std::path::Path;

use crate::spec::{ICOUNT, VmSpec, common_params, qemu_value, qmp_socket};
use vmtest_host::accel::Kind;

/// The guest's serial port that carries events; ttyS0 is the console.
pub const EVENT_PORT: &str = "ttyS1";

/// Paths as QEMU sees them.
#[derive(Debug, Clone, Copy)]
pub struct Paths<'a> {
    /// Directory of the kernel.
    pub kernel: &'a Path,
    /// Directory of `initramfs.cpio`.
    pub initramfs: &'a Path,
    /// Directory with the FIFO `events`.
    pub vm: &'a Path,
}

/// The kernel command line.
pub fn cmdline(spec: &VmSpec) -> String {
    let mut words = common_params(spec, EVENT_PORT);
    // Print from the first instruction on, so that an early death leaves a message.
    words.extend(["console=ttyS0", "earlyprintk=serial,ttyS0,115200"].map(str::to_owned));
    words.join(" ")
}

/// QEMU's arguments, without the program.
pub fn args(spec: &VmSpec, paths: Paths<'_>) -> Vec<String> {
    let file = |dir: &Path, name: &str| dir.join(name).to_string_lossy().into_owned();
    let mut args: Vec<String> = Vec::new();
    let mut push = |words: &[&str]| args.extend(words.iter().map(|word| (*word).to_owned()));
    push(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"]);
    // acpi=off doubles the throughput of the emulated UART.
    push(&["-machine", if spec.cpus == 1 { "microvm,acpi=off,rtc=on" } else { "q35" }]);
    match spec.accel {
        Kind::Kvm => push(&["-accel", "kvm", "-cpu", spec.cpu.as_deref().unwrap_or("host")]),
        Kind::Tcg => {
            let accel = format!("tcg,thread={}", spec.tcg_thread);
            push(&["-accel", &accel, "-cpu", spec.cpu.as_deref().unwrap_or("max")]);
            if spec.icount {
                push(&["-icount", ICOUNT]);
            }
        }
    }
    push(&["-m", &format!("{}M", spec.memory_mib), "-smp", &spec.cpus.to_string()]);
    push(&[
        "-kernel",
        &file(paths.kernel, &spec.kernel),
        "-initrd",
        &file(paths.initramfs, "initramfs.cpio"),
    ]);
    push(&["-append", &cmdline(spec)]);
    push(&["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
    let events = format!("file,id=events,path={}", qemu_value(&file(paths.vm, "events")));
    push(&["-chardev", &events, "-device", "isa-serial,index=1,chardev=events"]);
    if let Some(socket) = qmp_socket(paths.vm) {
        push(&["-qmp", &format!("unix:{},server=on,wait=off", qemu_value(&socket))]);
    }
    if spec.gdb {
        let socket = format!("unix:{},server=on,wait=off", file(paths.vm, "gdb"));
        push(&["-S", "-gdb", &socket]);
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Boot;
    use crate::spec::example;

    #[test]
    fn a_microvm_has_one_cpu() {
        let paths = Paths { kernel: Path::new("/k"), initramfs: Path::new("/i"), vm: Path::new("/v") };
        let machine = |cpus| {
            let args = args(&crate::spec::VmSpec { cpus, ..example(Boot::Direct) }, paths);
            args.iter().position(|arg| arg == "-machine").map(|at| args[at + 1].clone())
        };
        assert_eq!(machine(1).as_deref(), Some("microvm,acpi=off,rtc=on"));
        assert_eq!(machine(2).as_deref(), Some("q35"));
    }

    #[test]
    fn what_makes_a_console_evidence_comes_after_the_users_words() {
        let line = cmdline(&crate::spec::VmSpec { append: vec!["theirs".into()], ..example(Boot::Direct) });
        let (before, ours) = line.split_once("theirs").expect("it is there");
        assert_eq!(before, "");
        for word in
            ["ignore_loglevel", "panic=-1", "oops=panic", "reboot=t", "console=ttyS0", "earlyprintk=serial"]
        {
            assert!(ours.contains(&format!(" {word}")), "{word}: {line}");
        }
    }

    #[test]
    fn events_have_a_port_of_their_own() {
        let paths =
            Paths { kernel: Path::new("/kernel"), initramfs: Path::new("/initramfs"), vm: Path::new("/a,b") };
        let args = args(&example(Boot::Direct), paths);
        assert!(args.iter().any(|arg| arg == "file,id=events,path=/a,,b/events"));
        assert!(args.iter().any(|arg| arg == "isa-serial,index=1,chardev=events"));
        assert!(args.windows(2).any(|two| two[0] == "-accel" && two[1] == "tcg,thread=multi"));
        assert!(args.iter().any(|arg| arg == "-no-reboot"), "a panic must end QEMU, not start over");
    }
}
