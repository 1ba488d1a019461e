// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a bootable kernel to a guest that ran: the virtual machine, the command that starts it, and one retry
//! if KVM cannot run ordinary kernels or QEMU fails.

use crate::cmdline::{BPFTOOL_MOUNT, fits, settings};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bootable::{Bootable, Bpftool};
use crate::plan::DEFAULT_MEMORY_MIB;
use crate::request::Purpose;
use crate::resources::Resources;
use crate::share::{SHARE_MOUNT, Share};
use vmtest_base::error::{Error, Result};
use vmtest_base::files::{create_dir, nonce, write_file};
use vmtest_guest::console::Scanner;
use vmtest_guest::events::Stream;
use vmtest_guest::machine::{Demands, Machine};
use vmtest_guest::observed::{End, Limits, Observed};
use vmtest_guest::session::{self, Channel, ConsoleOn};
use vmtest_guest::spec::{self, BUNDLE_MOUNT, Boot, Task, VmSpec, WISHES};
use vmtest_guest::{judge, microvm, virtme};
use vmtest_host::accel::{Accel, AccelChoice, Kind};
use vmtest_host::sandbox::{ON_PATH, Sandbox, Tools};
use vmtest_host::slots::Demand;
use vmtest_host::tools;
use vmtest_host::virtme_ng::VNG_MOUNT;
use vmtest_kernel::bpftool::{self, BPFTOOL};
use vmtest_record::load;
use vmtest_suite::own::RUNNER;

/// A guest to be started: which kernel, how, on what machine, for which task.
pub struct Launch<'a> {
    /// What all columns share.
    pub resources: &'a Resources<'a>,
    pub bootable: &'a Bootable,
    /// How it is booted.
    pub boot: Boot,
    /// Its CPUs and emulator threads.
    pub machine: &'a Machine,
    /// What it is to do.
    pub task: Task,
}

impl Launch<'_> {
    /// Starts the guest and watches it to its end; its bytes go to `store`. Retries once, with a warning, if
    /// the guest never printed anything through no fault of its own: under TCG if KVM is not usable (on some
    /// hosts ordinary kernels hang silently or QEMU fails an assertion), or in the same way if QEMU fails an
    /// assertion without KVM.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn with_fallback(
        &self,
        store: &Path,
        watch: impl FnMut(&Stream, &Scanner),
    ) -> Result<(Observed, Accel)> {
        let (seen, accel) = self.twice(store, watch)?;
        // After the last start, which may have moved the directory away. Needed to compare runs.
        let kept = self.bootable.config_text().map(|text| write_file(&store.join(load::CONFIG), text));
        if let Some(Err(error)) = kept {
            // A warning only: the results of the guest are worth more.
            self.warn(&format!("its configuration was not saved: {}", error.summary()));
        }
        Ok((seen, accel))
    }

    fn twice(&self, store: &Path, mut watch: impl FnMut(&Stream, &Scanner)) -> Result<(Observed, Accel)> {
        let (resources, accel) = (self.resources, self.resources.accel.clone());
        let seen = self.start(accel.kind, store, &mut watch)?;
        let died = judge::emulator_died(&seen).filter(|_| seen.stream.hello.is_none());
        let may_emulate = accel.kind == Kind::Kvm && resources.plan.accel != AccelChoice::Kvm;
        // Keep what was seen of the first try as evidence.
        let keep_as = |suffix: &str| {
            let _ = std::fs::rename(store, PathBuf::from(format!("{}-{suffix}", store.display())));
        };
        let why = match (died, may_emulate) {
            (Some(line), true) => format!("QEMU died under KVM before the guest's first output: {line}"),
            (None, true) if seen.end == End::NoFirstByte => {
                let limit = limits(resources, self.bootable, Kind::Kvm).first_byte.as_secs();
                format!("no output under KVM within {limit} s")
            }
            (Some(line), false) => {
                self.warn(&format!(
                    "the emulator died before the guest's first output: {line}. Retrying once"
                ));
                keep_as("emulator-died");
                return Ok((self.start(accel.kind, store, &mut watch)?, accel));
            }
            (None, _) => return Ok((seen, accel)),
        };
        self.warn(&format!("{why}; /dev/kvm does not run ordinary kernels here. Retrying without KVM"));
        keep_as("kvm");
        let seen = self.start(Kind::Tcg, store, &mut watch)?;
        Ok((seen, Accel { kind: Kind::Tcg, reason: format!("{why}; retried without KVM") }))
    }

    fn warn(&self, what: &str) {
        self.resources.ctx.bus.warn(format!("{}: {what}", self.bootable.kernel.id));
    }

    /// Starts the guest once and watches it to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, kind: Kind, store: &Path, watch: impl FnMut(&Stream, &Scanner)) -> Result<Observed> {
        let Launch { resources, bootable, boot, .. } = self;
        create_dir(store)?;
        let nonce = nonce();
        let channel = Channel::create()?;
        let mut spec = self.vm_spec(kind, &nonce)?;
        if let Task::Upstream { wishes, .. } = &spec.task {
            let text = serde_json::to_vec(wishes)
                .map_err(|error| Error::host("cannot write the guest's request").why(error))?;
            write_file(&channel.dir().join(WISHES), text)?;
            let sandbox = Sandbox::new(resources.tools()?).read_only(channel.dir(), "/vm");
            spec.wishes = Some(sandbox.see(&format!("/vm/{WISHES}")).to_string_lossy().into_owned());
        }
        let command = command(resources, bootable, &spec, &channel)?;
        if spec.gdb {
            announce_gdb(resources, bootable, &channel);
        }
        let console_on = if *boot == Boot::Direct { ConsoleOn::Stdout } else { ConsoleOn::Stderr };
        let seen_at = Sandbox::new(resources.tools()?).writable(channel.dir(), "/vm").see("/vm");
        let limits = self.limits(kind);
        let guest = session::Start { command, console_on, channel, seen_at, nonce, limits, store };
        session::run(guest, watch)
    }

    fn limits(&self, kind: Kind) -> Limits {
        let mut limits = limits(self.resources, self.bootable, kind);
        if self.resources.plan.purpose != Purpose::Test {
            // An interactive user decides when to stop.
            limits.run = std::time::Duration::from_secs(365 * 24 * 3600);
            limits.idle = limits.run;
        }
        if self.resources.plan.purpose == Purpose::Gdb {
            (limits.first_byte, limits.boot) = (limits.run, limits.run);
        }
        limits
    }
}

fn announce_gdb(resources: &Resources<'_>, bootable: &Bootable, channel: &Channel) {
    resources.ctx.bus.note(format!(
        "the guest waits for gdb: gdb {} -ex 'target remote {}'",
        vmtest_host::process::shell_word(&bootable.dir.join(&bootable.file).to_string_lossy()),
        channel.dir().join("gdb").display()
    ));
}

/// The machine for guests of this kind.
///
/// # Errors
/// When the runner or the tools are not available.
pub fn machine(resources: &Resources<'_>, boot: Boot) -> Result<Machine> {
    let demands = match resources.plan.purpose {
        Purpose::Test | Purpose::Gdb => {
            let (runner, chosen) = resources.runner()?;
            runner.demands(chosen)
        }
        Purpose::Exec(_) | Purpose::Shell => Demands::default(),
    };
    let qemu = tools::qemu_version(resources.ctx, resources.tools()?)?;
    Ok(Machine::of(resources.plan.cpus, boot, &demands, qemu))
}

/// Time limits of a guest with this kernel.
pub fn limits(resources: &Resources<'_>, bootable: &Bootable, accel: Kind) -> Limits {
    resources.plan.limits(accel, bootable.slowdown())
}

/// The host resources that a guest needs: an emulator with a single thread keeps one core busy.
pub fn demand(resources: &Resources<'_>, bootable: &Bootable, machine: &Machine) -> Demand {
    let single = resources.accel.kind == Kind::Tcg && machine.tcg_thread == "single";
    Demand {
        cores: if single { 1 } else { machine.cpus },
        memory_mib: u64::from(memory_mib(resources, bootable)) + EMULATOR_MIB,
    }
}

/// Memory that QEMU needs in addition to the guest's: a generous estimate, because it varies between builds.
const EMULATOR_MIB: u64 = 256;

fn memory_mib(resources: &Resources<'_>, bootable: &Bootable) -> u32 {
    let of_variant = bootable.variant.as_ref().and_then(|variant| variant.memory_mib);
    resources.plan.memory_mib.or(of_variant).unwrap_or(DEFAULT_MEMORY_MIB)
}

impl Launch<'_> {
    /// The specification of the virtual machine.
    ///
    /// # Errors
    /// Class `Usage` if its kernel command line would be truncated.
    pub fn vm_spec(&self, kind: Kind, nonce: &str) -> Result<VmSpec> {
        let Launch { resources, bootable, boot, machine, task } = self;
        let variant = bootable.variant.as_ref();
        let (append, sysctls) = settings(resources.plan, variant);
        let mut spec = VmSpec {
            boot: *boot,
            kernel: bootable.file.clone(),
            cpus: machine.cpus,
            memory_mib: memory_mib(resources, bootable),
            accel: kind,
            tcg_thread: machine.tcg_thread,
            icount: machine.icount && kind == Kind::Tcg,
            cpu: resources.plan.cpu_model.clone().or_else(|| variant.and_then(|variant| variant.cpu.clone())),
            append,
            sysctls,
            bpftool: self.bpftool_in_guest()?,
            // Its path is known once the guest has its directory.
            wishes: None,
            nonce: nonce.to_owned(),
            task: task.clone(),
            share: self.shared()?,
            gdb: resources.plan.purpose == Purpose::Gdb,
        };
        match (fits(&spec), &mut spec.task) {
            // Indices say the same in fewer characters.
            (Err(_), Task::Tests { names, places, .. }) if !places.is_empty() => names.clear(),
            (fits, _) => fits?,
        }
        fits(&spec)?;
        check_words(&spec)?;
        Ok(spec)
    }

    /// The directory that a guest without tests shares, as it sees it; `None` without one.
    fn shared(&self) -> Result<Option<spec::Share>> {
        let Some(share) = share(self.resources, self.boot)? else { return Ok(None) };
        let sandbox = Sandbox::new(self.resources.tools()?).read_only(&share.dir, SHARE_MOUNT);
        let seen_at = sandbox.see(SHARE_MOUNT);
        Ok(Some(spec::Share { seen_at: seen_at.to_string_lossy().into_owned(), writable: share.writable }))
    }

    /// Where the guest finds its bpftool; `None` without one.
    fn bpftool_in_guest(&self) -> Result<Option<String>> {
        let Launch { resources, bootable, boot, task, .. } = self;
        Ok(match (&bootable.bpftool, boot, task) {
            (Bpftool::In(dir), Boot::Vng, Task::Tests { .. }) => {
                let sandbox = Sandbox::new(resources.tools()?).read_only(dir, BPFTOOL_MOUNT);
                Some(sandbox.see(&format!("{BPFTOOL_MOUNT}/{BPFTOOL}")).to_string_lossy().into_owned())
            }
            (Bpftool::In(_), Boot::Direct, _) if bpftool::is_static(resources.tools()?) => {
                Some(format!("/{}", vmtest_host::initramfs::BPFTOOL_ENTRY))
            }
            _ => None,
        })
    }
}

/// The directory of the host that a guest sees: that of `--share`, or the tree that is tested.
///
/// # Errors
/// Class `Usage` for a guest that has no root of its own to see it in.
fn share(resources: &Resources<'_>, boot: Boot) -> Result<Option<Share>> {
    let plan = resources.plan;
    if !matches!(plan.purpose, Purpose::Shell | Purpose::Exec(_)) {
        return Ok(None);
    }
    match (&plan.share, boot) {
        (Some(share), Boot::Vng) => Ok(Some(share.clone())),
        (Some(_), Boot::Direct) => Err(Error::usage("--share needs a boot through vng")
            .why("a guest that is booted directly has only an initramfs")
            .next("leave out --boot direct, and test a kernel that is built here")),
        (None, Boot::Vng) => Ok(plan.columns.first().and_then(|column| Share::of_tree(&column.spec))),
        (None, Boot::Direct) => Ok(None),
    }
}

/// Rejects words that the kernel would split, wherever they came from (a path, a glob): after a blank, the
/// rest would be another parameter.
fn check_words(spec: &VmSpec) -> Result<()> {
    let words = spec::common_params(spec, "port");
    let Some(word) = words.iter().find(|word| !word.chars().all(|c| c.is_ascii_graphic() && c != '"')) else {
        return Ok(());
    };
    Err(Error::usage(format!("{word:?} cannot be passed to a kernel"))
        .why("it contains a space, a quote or a non-ASCII character, at which the kernel would split it")
        .next("use test globs without these, and keep the cache at a plain path (VMTEST_CACHE_DIR)"))
}

/// The command that starts this guest.
///
/// # Errors
/// When something that it needs is not available.
pub fn command(
    resources: &Resources<'_>,
    bootable: &Bootable,
    spec: &VmSpec,
    channel: &Channel,
) -> Result<Command> {
    let (runner, _) = resources.runner()?;
    let tools = resources.tools()?;
    let mut sandbox = Sandbox::new(tools);
    let bpftool = match (&bootable.bpftool, &spec.bpftool) {
        (Bpftool::In(dir), Some(_)) => Some(dir),
        _ => None,
    };
    if let (Some(dir), Boot::Vng) = (bpftool, spec.boot) {
        sandbox = sandbox.read_only(dir, BPFTOOL_MOUNT);
    }
    if let Some(share) = share(resources, spec.boot)? {
        sandbox = match share.writable {
            true => sandbox.writable(share.dir, SHARE_MOUNT),
            false => sandbox.read_only(share.dir, SHARE_MOUNT),
        };
    }
    // A guest through vng boots from the build root, and finds it in PATH.
    let inspects = matches!(spec.task, Task::Shell | Task::Exec(_));
    if let (Bpftool::In(dir), Boot::Vng, true, Tools::Image(_)) =
        (&bootable.bpftool, spec.boot, inspects, tools)
    {
        sandbox = sandbox.read_only(dir, ON_PATH);
    }
    sandbox = sandbox
        .read_only(&bootable.dir, "/kernel")
        .read_only(&runner.dir, "/suite")
        .writable(channel.dir(), "/vm")
        .kvm(spec.accel == Kind::Kvm);
    if let Task::Upstream { bundle, .. } = &spec.task {
        sandbox = sandbox.read_only(bundle, BUNDLE_MOUNT);
    }
    if spec.task == Task::Shell {
        sandbox = sandbox.terminal();
    }
    match spec.boot {
        Boot::Direct => direct_command(resources, bpftool, spec, sandbox),
        Boot::Vng => vng_command(resources, spec, sandbox),
    }
}

fn direct_command(
    resources: &Resources<'_>,
    bpftool: Option<&PathBuf>,
    spec: &VmSpec,
    sandbox: Sandbox<'_>,
) -> Result<Command> {
    let (runner, _) = resources.runner()?;
    let with_shell = !matches!(spec.task, Task::Tests { .. });
    let bpftool = bpftool.map(|dir| dir.join(BPFTOOL));
    let tools = resources.tools()?;
    let initramfs = vmtest_host::initramfs::initramfs(
        resources.ctx,
        tools,
        &runner.path(),
        bpftool.as_deref(),
        with_shell,
    )?;
    let sandbox = sandbox.read_only(initramfs, "/initramfs");
    let (kernel, initramfs, vm) = (sandbox.see("/kernel"), sandbox.see("/initramfs"), sandbox.see("/vm"));
    let mut command = sandbox.command("qemu-system-x86_64");
    command.args(microvm::args(spec, microvm::Paths { kernel: &kernel, initramfs: &initramfs, vm: &vm }));
    Ok(command)
}

fn vng_command(resources: &Resources<'_>, spec: &VmSpec, mut sandbox: Sandbox<'_>) -> Result<Command> {
    if let Some(vng) = resources.vng()? {
        // udev in the root would add seconds to each boot, and vng works without it.
        sandbox = sandbox.read_only(&vng.dir, VNG_MOUNT).path_first(format!("{VNG_MOUNT}/bin"));
    }
    let (kernel, vm) = (sandbox.see("/kernel"), sandbox.see("/vm"));
    let runner = sandbox.see(&format!("/suite/{RUNNER}"));
    for path in [&kernel, &vm, &runner] {
        if !virtme::is_plain(path) {
            return Err(Error::host(format!("vng cannot use the path {}", path.display()))
                .why("vng passes it to a shell without quoting")
                .next(
                    "leave out --toolchain host, use --boot direct, or move the cache with VMTEST_CACHE_DIR",
                ));
        }
    }
    let mut command = sandbox.command("vng");
    command.args(virtme::args(spec, virtme::Paths { kernel: &kernel, runner: &runner, vm: &vm }));
    Ok(command)
}
