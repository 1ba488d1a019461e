// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ways for a guest to die, caused on purpose; docs/evidence/failures.md shows the harness's verdict on each. They do
//! not test the kernel, so they run only if they are named.
//!
//! Most need the variant `faults`. A fault that should end the guest or this process, but does not, is a
//! failure.

use super::{Context, Subtest, subtests};
use crate::load;
use nix::libc;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::time::Duration;

pub const GROUP: &str = "faults";

subtests! { "faults":
    Normal lives [] needs Nothing
        "Nothing: it passes before a fault, and has to stay a pass.";
    Normal panic [] needs Nothing
        "The kernel panics.";
    Normal oops [] needs Nothing
        "The kernel reads through a null pointer.";
    Normal bug [] needs Nothing
        "The kernel runs into a BUG().";
    Normal stack [] needs Nothing
        "The kernel recurses until its stack is used up.";
    Normal warning [] needs Nothing
        "The kernel warns and lives on.";
    Normal kasan [] needs Nothing
        "The kernel reads memory that it has freed, and KASAN notices.";
    Normal ubsan [] needs Nothing
        "The kernel writes behind an array, and UBSAN notices.";
    Normal list [] needs Nothing
        "The kernel corrupts a list, and the check of lists notices.";
    Normal lockdep [] needs Nothing
        "The kernel returns to user space with a lock held, and lockdep notices.";
    Normal soft_lockup [] needs Nothing
        "A CPU spins in the kernel without ever letting another task run.";
    Normal rcu_stall [] needs Nothing
        "The same, while somebody waits for a grace period of RCU.";
    Normal hard_lockup [] needs Nothing on [SeveralCpus]
        "A CPU spins in the kernel with interrupts off.";
    Normal hung_task [] needs Nothing
        "A task sleeps for ever and takes no signal.";
    Normal oom [] needs Nothing
        "A process takes all memory, and the kernel kills it.";
    Normal triple_fault [] needs Nothing
        "The machine resets by a triple fault.";
    Normal restart [] needs Nothing
        "The machine restarts in good order in the middle of a test.";
    Normal power_off [] needs Nothing
        "The machine switches off in good order in the middle of a test.";
    Normal test_aborts [] needs Nothing
        "The process of a subtest dies of a signal.";
    Normal runner_dies [] needs Nothing
        "The process that runs the subtests dies of a signal.";
    Normal runner_hangs [] needs Nothing
        "A subtest never ends, and the kernel is well.";
    Normal flood [] needs Nothing
        "A process writes to the console for ever, as fast as the port takes it.";
    Normal binary [] needs Nothing
        "A process writes bytes that are no text to the console, and then the kernel panics.";
    Normal torn_event [] needs Nothing
        "Half an event is written to the port of the events, in a direct boot, and then the machine resets.";
    Normal by_chance [] needs Nothing
        "It fails in every second guest, by the guest's nonce.";
}

const DIRECT: &str = "/sys/kernel/debug/provoke-crash/DIRECT";

/// Triggers a fault through the kernel's own dump test module.
fn provoke(what: &str) -> Result<(), String> {
    fs::write(DIRECT, what)
        .map_err(|err| format!("cannot provoke {what}: {DIRECT}: {err}; --variant faults has it"))
}

/// The same for a fault that the kernel must not survive.
fn provoke_death(what: &str) -> Result<(), String> {
    provoke(what)?;
    Err(format!("the kernel survived {what}"))
}

/// The same for a fault that the kernel warns about and survives.
fn provoke_complaint(t: &mut Context, what: &str) -> Result<(), String> {
    t.checks.same(what, provoke(what), Ok(()));
    Ok(())
}

fn lives(t: &mut Context) -> Result<(), String> {
    t.checks.eq("still here", true, true);
    Ok(())
}

fn panic(_: &mut Context) -> Result<(), String> {
    provoke_death("PANIC")
}

fn oops(_: &mut Context) -> Result<(), String> {
    provoke_death("EXCEPTION")
}

fn bug(_: &mut Context) -> Result<(), String> {
    provoke_death("BUG")
}

fn stack(_: &mut Context) -> Result<(), String> {
    provoke_death("EXHAUST_STACK")
}

fn warning(t: &mut Context) -> Result<(), String> {
    provoke_complaint(t, "WARNING")
}

fn kasan(t: &mut Context) -> Result<(), String> {
    provoke_complaint(t, "READ_AFTER_FREE")
}

fn ubsan(t: &mut Context) -> Result<(), String> {
    provoke_complaint(t, "ARRAY_BOUNDS")
}

fn list(t: &mut Context) -> Result<(), String> {
    provoke_complaint(t, "CORRUPT_LIST_ADD")
}

fn lockdep(t: &mut Context) -> Result<(), String> {
    const WHAT: &[u8] = b"SPINLOCKUP";
    let file = OpenOptions::new()
        .write(true)
        .open(DIRECT)
        .map_err(|err| format!("cannot open {DIRECT}: {err}; --variant faults has it"))?;
    // A task that returns with a lock held must not sleep in the kernel: its next page fault would be fatal.
    // So a child does this, and how it ends does not matter.
    // SAFETY: the child makes three system calls and never returns.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: the buffers have the given lengths; `_exit` runs no code of this process.
        unsafe {
            // If its time slice ended in between, the scheduler would warn first, about something else.
            let first = libc::sched_param { sched_priority: 1 };
            libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first);
            let written = libc::write(file.as_raw_fd(), WHAT.as_ptr().cast(), WHAT.len());
            libc::_exit(i32::from(usize::try_from(written) != Ok(WHAT.len())));
        }
    }
    if child < 0 {
        return Err(format!("fork: {}", std::io::Error::last_os_error()));
    }
    let ended = waitpid(Pid::from_raw(child), None).map_err(|err| format!("waitpid: {err}"))?;
    let provoked = !matches!(ended, WaitStatus::Exited(_, code) if code != 0);
    t.checks.eq("the lock was taken", provoked, true);
    Ok(())
}

fn soft_lockup(_: &mut Context) -> Result<(), String> {
    provoke_death("SOFTLOCKUP")
}

fn rcu_stall(t: &mut Context) -> Result<(), String> {
    // Without a grace period in progress, it would go unnoticed that this CPU blocks them.
    std::thread::spawn(|| {
        loop {
            // SAFETY: a system call without pointers; it waits for a grace period.
            unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
        }
    });
    std::thread::sleep(Duration::from_millis(300));
    soft_lockup(t)
}

fn hard_lockup(_: &mut Context) -> Result<(), String> {
    // Not on the first CPU: if the load of the host made the local timers look broken, that one handles the
    // ticks of all.
    let last = load::cpus().last().copied().ok_or("no CPU")?;
    load::pin(last)?;
    provoke_death("HARDLOCKUP")
}

fn hung_task(_: &mut Context) -> Result<(), String> {
    provoke_death("HUNG_TASK")
}

fn oom(_: &mut Context) -> Result<(), String> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        // Write to it, or no memory would be allocated.
        all.push(vec![1; 1 << 20]);
    }
}

fn triple_fault(_: &mut Context) -> Result<(), String> {
    // With reboot=t, which every guest has, the kernel clears its interrupt table and triggers an interrupt.
    fs::write("/proc/sysrq-trigger", "b").map_err(|err| format!("/proc/sysrq-trigger: {err}"))?;
    Err("the machine survived".to_owned())
}

fn end_machine(how: RebootMode) -> Result<(), String> {
    match reboot(how) {
        Err(errno) => Err(format!("reboot: {errno}")),
    }
}

fn restart(_: &mut Context) -> Result<(), String> {
    end_machine(RebootMode::RB_AUTOBOOT)
}

fn power_off(_: &mut Context) -> Result<(), String> {
    end_machine(RebootMode::RB_POWER_OFF)
}

fn test_aborts(_: &mut Context) -> Result<(), String> {
    std::process::abort()
}

fn runner_dies(_: &mut Context) -> Result<(), String> {
    kill(nix::unistd::getppid(), Signal::SIGKILL).map_err(|errno| format!("kill: {errno}"))?;
    sleep_for_ever()
}

fn runner_hangs(_: &mut Context) -> Result<(), String> {
    sleep_for_ever()
}

fn sleep_for_ever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Writes directly to a device.
fn write_to(device: &str, bytes: &[u8]) -> Result<(), String> {
    let opened = OpenOptions::new().write(true).open(device);
    opened.and_then(|mut file| file.write_all(bytes)).map_err(|err| format!("{device}: {err}"))
}

const CONSOLE: &str = "/dev/console";

fn flood(_: &mut Context) -> Result<(), String> {
    let lines = b"a line of a flood, like so many others before it\n".repeat(80);
    loop {
        write_to(CONSOLE, &lines)?;
    }
}

fn binary(_: &mut Context) -> Result<(), String> {
    let bytes: Vec<u8> = (0..40_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    write_to(CONSOLE, &bytes)?;
    write_to(CONSOLE, b"\x1b[2J\xff\xfe a line that is never ended")?;
    provoke_death("PANIC")
}

fn torn_event(_: &mut Context) -> Result<(), String> {
    write_to("/dev/ttyS1", b"{\"n\":\"")?;
    // Give the output time to leave the port before the machine is gone.
    std::thread::sleep(Duration::from_millis(300));
    end_machine(RebootMode::RB_AUTOBOOT)
}

fn by_chance(t: &mut Context) -> Result<(), String> {
    let cmdline = fs::read_to_string("/proc/cmdline").map_err(|err| format!("/proc/cmdline: {err}"))?;
    let params = crate::params::Params::parse(&cmdline).ok_or("the command line names no run")?;
    let sum: u32 = params.nonce.bytes().map(u32::from).sum();
    t.checks.eq("sum of the nonce's digits, modulo 2", sum % 2, 0);
    Ok(())
}
