// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments of a boot through virtme-ng. Pure.
//!
//! vng runs with `--verbose`, or it drops the kernel's console; its exit status and standard output are never
//! used: without udev in the root it always exits with 255 and runs the script on the console. The verdict
//! comes from our own port.

use std::path::Path;

use vmtest_protocol::VIRTIO_PORT;

use crate::spec::{ICOUNT, Task, VmSpec, common_params, qemu_value, qmp_socket};
use vmtest_host::accel::Kind;

/// Paths as vng sees them. vng passes some of them to a shell unquoted, so none may contain special
/// characters; in the sandbox they are fixed.
#[derive(Debug, Clone, Copy)]
pub struct Paths<'a> {
    /// Directory of the kernel.
    pub kernel: &'a Path,
    pub runner: &'a Path,
    /// Directory with the FIFO `events`.
    pub vm: &'a Path,
}

/// Whether this path is safe to pass to vng.
pub fn is_plain(path: &Path) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./+:@%".contains(c);
    path.to_str().is_some_and(|text| text.chars().all(plain))
}

/// vng's arguments, without the program.
pub fn args(spec: &VmSpec, paths: Paths<'_>) -> Vec<String> {
    let file = |dir: &Path, name: &str| dir.join(name).to_string_lossy().into_owned();
    let mut args: Vec<String> = Vec::new();
    let mut push = |words: &[&str]| args.extend(words.iter().map(|word| (*word).to_owned()));
    push(&["--verbose", "--run", &file(paths.kernel, &spec.kernel)]);
    push(&["--cpus", &spec.cpus.to_string(), "--memory", &format!("{}M", spec.memory_mib)]);
    // virtiofsd of Debian 13 produced a guest whose processes all die of SIGSEGV, and microvm needs virtiofs.
    push(&["--force-9p", "--disable-microvm"]);
    // Values that begin with a dash need the `=` form.
    if spec.accel == Kind::Tcg {
        push(&["--disable-kvm"]);
        push(&[&format!("--qemu-opts=-accel tcg,thread={}", spec.tcg_thread)]);
        if spec.icount {
            push(&[&format!("--qemu-opts=-icount {ICOUNT}")]);
        }
    }
    if let Some(cpu) = &spec.cpu {
        push(&[&format!("--qemu-opts=-cpu {cpu}")]);
    }
    // A kernel without CONFIG_BLOCK finds no root unless it has a name; this is virtme's 9p tag.
    push(&["--append", "root=/dev/root"]);
    for param in common_params(spec, VIRTIO_PORT) {
        push(&["--append", &param]);
    }
    // Uses vng's own virtio-serial controller; a plain isa-serial would become ttyS0.
    let events = qemu_value(&file(paths.vm, "events"));
    push(&[&format!("--qemu-opts=-chardev file,id=events,path={events}")]);
    push(&[&format!("--qemu-opts=-device virtserialport,chardev=events,name={VIRTIO_PORT}")]);
    if let Some(socket) = qmp_socket(paths.vm) {
        push(&[&format!("--qemu-opts=-qmp unix:{},server=on,wait=off", qemu_value(&socket))]);
    }
    if spec.gdb {
        let socket = file(paths.vm, "gdb");
        push(&[&format!("--qemu-opts=-S -gdb unix:{socket},server=on,wait=off")]);
    }
    if let Some(share) = &spec.share {
        push(&["--cwd", &share.seen_at]);
        // Everything else of the root is read-only.
        if share.writable {
            push(&[&format!("--rwdir={0}={0}", share.seen_at)]);
        }
    }
    if spec.task != Task::Shell {
        push(&["--exec", &paths.runner.to_string_lossy()]);
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Boot;
    use crate::spec::example;

    #[test]
    fn the_event_port_rides_on_vngs_controller() {
        let paths =
            Paths { kernel: Path::new("/kernel"), runner: Path::new("/suite/r"), vm: Path::new("/vm") };
        let args = args(&example(Boot::Vng), paths);
        assert!(args.contains(&"--qemu-opts=-chardev file,id=events,path=/vm/events".to_owned()));
        assert!(
            args.contains(&"--qemu-opts=-device virtserialport,chardev=events,name=vmtest.events".to_owned())
        );
        assert!(args.contains(&"--disable-kvm".to_owned()));
        assert!(!args.iter().any(|arg| arg.contains("isa-serial")));
        assert!(args.windows(2).any(|two| two[0] == "--exec" && two[1] == "/suite/r"));
    }

    #[test]
    fn a_shared_directory_is_where_the_guest_starts_and_writable_only_if_said() {
        let paths =
            Paths { kernel: Path::new("/kernel"), runner: Path::new("/suite/r"), vm: Path::new("/vm") };
        let words = |writable| {
            let share = Some(crate::spec::Share { seen_at: "/src".into(), writable });
            args(&VmSpec { share, ..example(Boot::Vng) }, paths)
        };
        for (writable, mounts) in [(false, 0), (true, 1)] {
            let words = words(writable);
            assert!(words.windows(2).any(|two| two == ["--cwd", "/src"]), "{words:?}");
            assert_eq!(words.iter().filter(|word| *word == "--rwdir=/src=/src").count(), mounts);
        }
    }

    #[test]
    fn paths_that_a_shell_would_read_are_refused() {
        assert!(is_plain(Path::new("/a/b-1.c")));
        for bad in ["/a b", "/$(x)", "/a;b", "/a\nb", "/a'b"] {
            assert!(!is_plain(Path::new(bad)), "{bad:?}");
        }
    }
}
