// SPDX-License-Identifier: MIT OR Apache-2.0
//! Consoles and how they are judged.

use super::*;

fn scan(text: &str) -> Scanner {
    let mut scanner = Scanner::default();
    scanner.feed(text.as_bytes());
    scanner.close();
    scanner
}

/// Captured from 7.3.4 under virtme-ng without root=.
const PANIC: &str = "[    0.000000] Linux version 7.3.4 (vmtest@vmtest) (gcc (Debian 14.2.0-19) 14.2.0) #1\r\n\
    [    0.946824] Run /opt/vng/virtme/guest/bin/virtme-ng-init as init process\r\n\
    [    0.947824] Kernel panic - not syncing: Requested init /opt/vng/virtme/guest/bin/virtme-ng-init failed (error -2).\r\n\
    [    0.948321] CPU: 0 UID: 0 PID: 1 Comm: swapper/0 Not tainted 7.3.4 #1 PREEMPTLAZY  \r\n";

#[test]
fn a_panic_is_a_death_with_a_title() {
    let scanner = scan(PANIC);
    let death = scanner.death().expect("a panic");
    assert!(death.title.starts_with("Kernel panic - not syncing: Requested init"));
    assert_eq!((death.line, scanner.kernels, scanner.progress), (3, 1, Progress::Init));
}

#[test]
fn deaths_and_splats_are_told_apart() {
    for line in [
        "[   12.345678][  T123] Oops: int3: 0000 [#1] SMP",
        "[    1.0] BUG: unable to handle page fault for address: ffffffffc0000000",
        "[    1.0] BUG: kernel NULL pointer dereference, address: 0000000000000008",
        "[    1.0] kernel BUG at drivers/misc/lkdtm/bugs.c:105!",
    ] {
        assert!(scan(line).death().is_some(), "{line}");
    }
    for line in [
        "[    4.0] WARNING: CPU: 1 PID: 77 at kernel/bpf/trampoline.c:512 x+0x1/0x2",
        "[    4.0] WARNING: kernel/bpf/trampoline.c:512 at x+0x1/0x2, CPU#1: r/77",
        "[    4.0] WARNING: possible recursive locking detected",
        "[    4.0] BUG: KASAN: slab-use-after-free in bpf_link_free+0x1/0x2",
        "[    4.0] BUG: sleeping function called from invalid context at kernel/locking/mutex.c:1",
        "[    4.0] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [runner:77]",
        "[    4.0] rcu: INFO: rcu_preempt self-detected stall on CPU",
        "[    4.0] INFO: task runner:77 blocked for more than 120 seconds.",
    ] {
        let scanner = scan(line);
        assert!(scanner.death().is_none() && scanner.splats().count() == 1, "{line}");
    }
}

#[test]
fn ordinary_lines_are_neither() {
    for line in [
        "[    0.5] x86/bugs: mitigations disabled",
        "[    0.5] Kernel command line: oops=panic panic=-1",
        "[    0.5] acpi PNP0A03:00: fail to add MMCONFIG information, can't access extended configuration space",
        "[    0.5] random: crng init done",
        "[    0.5] debug: WARNING is only a word here",
        // Advice, not warnings.
        "[    0.5] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible via Spectre v2 BHB attacks!",
        "[    0.5][   T77] WARNING: Unprivileged eBPF is enabled, data leaks possible via Spectre v2 BHB attacks!",
        "[    0.5] WARNING: The mand mount option has been deprecated and",
        "[    0.5] WARNING: the mand mount option is being deprecat",
        "[    0.5] Speculative Return Stack Overflow: WARNING: kernel not compiled with MITIGATION_SRSO.",
        "[    0.5] RETBleed: WARNING: Spectre v2 mitigation leaves CPU vulnerable to RETBleed attacks, data leaks possible!",
        "[    0.5] sysfs: WARNING: sysfs attribute x is deprecated and will be removed. y",
        "[    0.5] Warning: unable to open an initial console.",
        "[    0.5] workqueue: Round-robin CPU selection forced, expect performance impact",
        "[    0.5] clocksource: timekeeping watchdog on CPU0: Marking clocksource 'tsc' as unstable because the skew is too large:",
        "[    0.5] kasan: KernelAddressSanitizer initialized (generic)",
        "[    0.5] kfence: initialized - using 2097152 bytes for 255 objects",
        "[    0.5] ODEBUG: 12 of 12 active objects replaced",
        "[    0.5] mce: CPU supports 10 MCE banks",
        "[    0.5] Kernel command line: panic=-1 oops=panic softlockup_panic=1",
        "[    0.5] INFO: lockdep is turned off.",
        "[    0.5] rcu: INFO: Stall ended before state dump start",
        "[    0.5] reboot: System halted",
        // Printed by programs, with and without the kernel log in between.
        "BUG: no such thing, said a test",
        "WARNING: terminal is not fully functional",
        "Oops: try again",
        "fine\rBUG: said a program",
        "[    0.5] systemd[1]: WARNING: a unit is odd",
        "[    0.5] virtme-ng-init: WARNING: failed to run: \"systemd-tmpfiles\" --create (error: No such file or directory)",
        "[    0.5] systemd-udevd: BUG: a rule is odd",
        "[    0.5] udevd[77]: BUG: a rule is odd",
        "[    0.5] traps: runner[77] general protection fault ip:401000 sp:7ffc00000000 error:0 in runner[401000+1000]",
        "[    0.5] runner[77]: segfault at 0 ip 0000000000401000 sp 00007ffc00000000 error 4 in runner[401000+1000]",
        "Nov 27 12:00:00 host systemd[1]: BUG: said a program",
    ] {
        assert_eq!(judged(line), (Kind::Note, String::new()), "{line}");
    }
}

#[test]
fn bytes_that_are_no_text_and_endless_lines_are_survived() {
    let mut scanner = Scanner::default();
    for _ in 0..100 {
        scanner.feed(&[0xff, 0x00, 0x1b, b'[', 0xc3].repeat(1000));
    }
    scanner.feed(b"\n[    1.0] Kernel panic - not syncing: x");
    scanner.close();
    assert!(scanner.death().is_some());
    assert!(scanner.line.capacity() <= 2 * MAX_LINE);
}

#[test]
fn a_death_behind_a_line_that_was_never_ended_is_seen() {
    for before in [0, 1, 100, MAX_LINE - 20, MAX_LINE, MAX_LINE + 1, 3 * MAX_LINE - OVERLAP, 100_000] {
        let text = format!("{}[    1.123456][  T12] Kernel panic - not syncing: x\n", "x".repeat(before));
        for piece in [1, 7, 4096, 1 << 20] {
            let mut scanner = Scanner::default();
            text.as_bytes().chunks(piece).for_each(|bytes| scanner.feed(bytes));
            scanner.close();
            let title = scanner.death().map(|death| death.title.clone());
            assert_eq!(title.as_deref(), Some("Kernel panic - not syncing: x"), "{before} {piece}");
        }
    }
}

#[test]
fn a_death_after_more_splats_than_are_kept_is_a_death() {
    let splats = "[    1.000000] WARNING: CPU: 0 PID: 1 at x\n".repeat(MAX_HITS + 5);
    let scanner = scan(&format!("{splats}[    2.000000] Kernel panic - not syncing: y\n"));
    assert_eq!(scanner.death().map(|death| death.title.as_str()), Some("Kernel panic - not syncing: y"));
    assert_eq!((scanner.splats().count(), scanner.dropped), (MAX_HITS, 5));
}

#[test]
fn a_report_has_what_stands_around_it() {
    let mut text: String = (0..9).map(|n| format!("[    0.{n}00000] before {n}\n")).collect();
    text.push_str(
        "[    1.0] BUG: kernel NULL pointer dereference, address: 0\n[    1.0] Oops: Oops: 0002 [#1] SMP\n",
    );
    (0..20).for_each(|n| text.push_str(&format!("[    1.1]  frame_{n}+0x1/0x2\n")));
    text.push_str(
        "[    1.2] ---[ end trace 0000000000000000 ]---\n[    1.3] Kernel panic - not syncing: Fatal\n",
    );
    let scanner = scan(&text);
    let death = scanner.death().expect("it died");
    assert_eq!(death.title, "BUG: kernel NULL pointer dereference, address: 0");
    assert!(scanner.panicked);
    let lines = [death.report.first(), death.report.last()].map(|line| line.cloned().unwrap_or_default());
    assert!(lines[0].ends_with("before 5") && lines[1].contains("end trace"), "{:?}", death.report);
    assert_eq!(death.report.len(), LINES_BEFORE + 2 + 20 + 1);
    let endless = scan(&format!("[    1.0] WARNING: x\n{}", "[    1.1] more\n".repeat(1000)));
    assert_eq!(endless.splats().next().map(|hit| hit.report.len()), Some(LINES_OF_REPORT));
}

#[test]
fn a_panic_that_follows_from_a_detector_has_the_detectors_title() {
    let death = |text: &str| scan(text).death().expect("it died").title.clone();
    let lockup =
        "[    9.0] watchdog: BUG: soft lockup - CPU#0 stuck for 8s! [runner:77]\n[    9.1] Call Trace:\n";
    let panic = "[    9.2] Kernel panic - not syncing: softlockup: hung tasks\n";
    assert_eq!(
        death(&format!("{lockup}{panic}")),
        "watchdog: BUG: soft lockup - CPU#0 stuck for 8s! [runner:77] (Kernel panic - not syncing: softlockup: hung tasks)"
    );
    assert_eq!(death(panic), "Kernel panic - not syncing: softlockup: hung tasks");
    let other = "[    9.2] Kernel panic - not syncing: Fatal exception\n";
    assert_eq!(death(&format!("{lockup}{other}")), "Kernel panic - not syncing: Fatal exception");
}

#[test]
fn a_stack_that_overflows_is_a_death() {
    let line = "[    4.0] BUG: TASK stack guard page was hit at ffffc9000019bff8 (stack is ffffc9000019c000..ffffc900001a0000)";
    assert!(scan(line).death().is_some_and(|death| death.title.starts_with("BUG: TASK stack guard page")));
}

/// Messages of several kernel versions, in every form a console shows them: a name, the text, its severity,
/// its title.
const TEXTS: &[(&str, &str, Kind, &str)] = &[
    (
        "ansi",
        "\x1b[1;31m[   24.100000] Kernel panic - not syncing: coloured\x1b[0m\n",
        Kind::Panic,
        "Kernel panic - not syncing: coloured",
    ),
    (
        "ansi2",
        "[   24.100000] \x1b[0mBUG: KASAN: slab-out-of-bounds in x\n",
        Kind::Splat,
        "BUG: KASAN: slab-out-of-bounds in x",
    ),
    (
        "atomic-lf",
        "[   24.1] BUG: scheduling while atomic: runner/77/0x00000002\n",
        Kind::Splat,
        "BUG: scheduling while atomic: runner/77/0x00000002",
    ),
    (
        "badpage",
        "[   24.1] BUG: Bad page state in process runner  pfn:12345\n",
        Kind::Splat,
        "BUG: Bad page state in process runner  pfn:12345",
    ),
    (
        "badpage2",
        "[   24.1] page_owner tracks the page as freed\n\
         [   24.1] page dumped because: nonzero _refcount\n",
        Kind::Splat,
        "page dumped because: nonzero _refcount",
    ),
    (
        "cfi",
        "[   60.1] CFI failure at bpf_prog_test_run_tracing+0x1/0x2 (target: x+0x0/0x10; expected type: 0x12345678)\n",
        Kind::Splat,
        "CFI failure at bpf_prog_test_run_tracing+0x1/0x2 (target: x+0x0/0x10; expected type: 0x12345678)",
    ),
    (
        "cpuhang",
        "[   24.100000] smpboot: do_boot_cpu failed(-1) to wakeup CPU#1\n\
         [   24.100000] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!\n",
        Kind::Splat,
        "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!",
    ),
    (
        "ctl",
        "[   60.000000] WARNING: CPU: 1 PID: 77 at kernel/bpf/trampoline.c:512 x+0x1/0x2\n",
        Kind::Splat,
        "WARNING: CPU: 1 PID: 77 at kernel/bpf/trampoline.c:512 x+0x1/0x2",
    ),
    (
        "df-noPanic",
        "[   60.1] traps: PANIC: double fault, error_code: 0x0\n\
         [   60.1] double fault: 0000 [#1] PREEMPT SMP PTI\n\
         [   60.1] CPU: 1 PID: 77 Comm: runner Not tainted 6.6.1 #1\n",
        Kind::Death,
        "traps: PANIC: double fault, error_code: 0x0",
    ),
    (
        "df-old",
        "[   60.1] traps: PANIC: double fault, error_code: 0x0\n\
         [   60.1] double fault: 0000 [#1] PREEMPT SMP PTI\n\
         [   60.1] CPU: 1 PID: 77 Comm: runner Not tainted 6.6.1 #1\n\
         [   60.1] RIP: 0010:bpf_trampoline_6442494341+0x5/0x7e\n\
         [   60.1] Kernel panic - not syncing: Fatal exception in interrupt\n",
        Kind::Panic,
        "traps: PANIC: double fault, error_code: 0x0",
    ),
    (
        "early",
        "PANIC: early exception 0x0e IP 10:ffffffff8336a7d1 error 0 cr2 0xffff88807ffff000\n\
         [    0.000000] CPU: 0 UID: 0 PID: 0 Comm: swapper Not tainted 6.18.15 #1\n\
         [    0.000000] RIP: 0010:memblock_alloc_internal+0x1/0x2\n",
        Kind::Panic,
        "PANIC: early exception 0x0e IP 10:ffffffff8336a7d1 error 0 cr2 0xffff88807ffff000",
    ),
    (
        "earlyT",
        "[    0.000000] PANIC: early exception 0x0d IP 10:ffffffff82190d5b error 0 cr2 0xffff888001e1aff8\n",
        Kind::Panic,
        "PANIC: early exception 0x0d IP 10:ffffffff82190d5b error 0 cr2 0xffff888001e1aff8",
    ),
    (
        "endbr",
        "[   60.1] traps: Missing ENDBR: bpf_trampoline_6442494341+0x0/0x1000\n\
         [   60.1] ------------[ cut here ]------------\n\
         [   60.1] kernel BUG at arch/x86/kernel/cet.c:133!\n\
         [   60.1] Oops: invalid opcode: 0000 [#1] SMP NOPTI\n",
        Kind::Death,
        "kernel BUG at arch/x86/kernel/cet.c:133!",
    ),
    (
        "halted",
        "Decompressing Linux...\n\
         \n\
         Out of memory while allocating output buffer\n\
         \n\
         \x20-- System halted\n",
        Kind::Panic,
        "-- System halted",
    ),
    (
        "hardlock",
        "[  130.1] watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 1\n",
        Kind::Splat,
        "watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 1",
    ),
    (
        "hung",
        "[  130.1][   T31] INFO: task runner:101 blocked for more than 122 seconds.\n\
         [  130.1][   T31]       Not tainted 6.18.15 #1\n\
         [  130.1][   T31] \"echo 0 > /proc/sys/kernel/hung_task_timeout_secs\" disables this message.\n\
         [  130.1][   T31] task:runner          state:D stack:13480 pid:101   tgid:101   ppid:1      task_flags:0x400000 flags:0x00004002\n\
         [  130.1][   T31] INFO: task runner:101 is blocked on a mutex likely owned by task runner:102.\n",
        Kind::Splat,
        "INFO: task runner:101 blocked for more than 122 seconds.",
    ),
    (
        "inner6",
        "runner: starting[   24.100000] Kernel panic - not syncing: Fatal\n",
        Kind::Panic,
        "Kernel panic - not syncing: Fatal",
    ),
    (
        "invalidwait",
        "[   24.1] =============================\n\
         [   24.1] [ BUG: Invalid wait context ]\n\
         [   24.1] 6.18.15 #1 Not tainted\n\
         [   24.1] -----------------------------\n\
         [   24.1] runner/77 is trying to lock:\n",
        Kind::Splat,
        "[ BUG: Invalid wait context ]",
    ),
    (
        "iowait",
        "[  584.319520][   T31] INFO: task udevd:5612 blocked in I/O wait for more than 143 seconds.\n",
        Kind::Splat,
        "INFO: task udevd:5612 blocked in I/O wait for more than 143 seconds.",
    ),
    (
        "journald",
        "[   24.100000] systemd[1]: Freezing execution.\n\
         [   24.100000] kernel: BUG: unable to handle page fault\n",
        Kind::Death,
        "kernel: BUG: unable to handle page fault",
    ),
    (
        "kmemleak",
        "[   60.1] kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)\n",
        Kind::Splat,
        "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    ),
    (
        "lkdtm",
        "[   24.100000] lkdtm: attempting bad write\n\
         [   24.100000] Internal error: Oops\n",
        Kind::Death,
        "Internal error: Oops",
    ),
    (
        "lockdep-low",
        "[  130.1] BUG: MAX_LOCKDEP_CHAINS too low!\n\
         [  130.1] turning off the locking correctness validator.\n",
        Kind::Splat,
        "BUG: MAX_LOCKDEP_CHAINS too low!",
    ),
    (
        "locktorture",
        "[  130.1] =====================================\n\
         [  130.1] WARNING: bad unlock balance detected!\n\
         [  130.1] [ BUG: held lock freed! ]\n",
        Kind::Splat,
        "WARNING: bad unlock balance detected!",
    ),
    (
        "modlayout",
        "[   24.1] BUG: using smp_processor_id() in preemptible [00000000] code: runner/77\n",
        Kind::Splat,
        "BUG: using smp_processor_id() in preemptible [00000000] code: runner/77",
    ),
    (
        "msr",
        "[   60.1] unchecked MSR access error: WRMSR to 0x1d9 (tried to write 0x0000000000004000) at rIP: 0xffffffff81063d74 (native_write_msr+0x4/0x20)\n\
         [   60.1] Call Trace:\n\
         [   60.1]  <TASK>\n",
        Kind::Splat,
        "unchecked MSR access error: WRMSR to 0x1d9 (tried to write 0x0000000000004000) at rIP: 0xffffffff81063d74 (native_write_msr+0x4/0x20)",
    ),
    (
        "nmi-old",
        "[  130.1] NMI watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [swapper/0:1]\n",
        Kind::Splat,
        "NMI watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [swapper/0:1]",
    ),
    (
        "objdebug",
        "[   24.1] ODEBUG: free active (active state 0) object: ffff888 object type: timer_list hint: x+0x0/0x10\n",
        Kind::Splat,
        "ODEBUG: free active (active state 0) object: ffff888 object type: timer_list hint: x+0x0/0x10",
    ),
    (
        "oldlockdep",
        "[   24.1] =============================\n\
         [   24.1] [ INFO: suspicious RCU usage. ]\n\
         [   24.1] -----------------------------\n",
        Kind::Splat,
        "[ INFO: suspicious RCU usage. ]",
    ),
    (
        "panicIso",
        "[Fri Nov 27 12:00:00 2026] Kernel panic - not syncing: iso\n",
        Kind::Panic,
        "Kernel panic - not syncing: iso",
    ),
    (
        "panicLL",
        "<0>[   24.100000] Kernel panic - not syncing: x\n",
        Kind::Panic,
        "Kernel panic - not syncing: x",
    ),
    (
        "panicNoTime",
        "Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: x+0x1\n",
        Kind::Panic,
        "Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: x+0x1",
    ),
    (
        "panicPrefix",
        "test: starting[   24.1] Kernel panic - not syncing: Fatal\n",
        Kind::Panic,
        "Kernel panic - not syncing: Fatal",
    ),
    (
        "panicPrefix2",
        "test: startingKernel panic - not syncing: Fatal\n",
        Kind::Panic,
        "Kernel panic - not syncing: Fatal",
    ),
    (
        "panicT",
        "[   24.100000][   T12] Kernel panic - not syncing: Fatal exception in interrupt\n",
        Kind::Panic,
        "Kernel panic - not syncing: Fatal exception in interrupt",
    ),
    (
        "percpu",
        "[   24.1] unregister_netdevice: waiting for lo to become free. Usage count = 2\n",
        Kind::Splat,
        "unregister_netdevice: waiting for lo to become free. Usage count = 2",
    ),
    (
        "rcu-trace2",
        "[  130.1] rcu_tasks_wait_gp: rcu_tasks grace period number 9 (since boot) is 601230 jiffies old.\n\
         [  130.2] INFO: rcu_tasks_trace detected stalls on tasks:\n",
        Kind::Splat,
        "INFO: rcu_tasks_trace detected stalls on tasks:",
    ),
    (
        "rcutasks",
        "[  130.1] INFO: rcu_tasks detected stalls on tasks:\n\
         [  130.1] rcu_tasks_trace: rcu_tasks_trace grace period number 9 (since boot) is 601230 jiffies old.\n",
        Kind::Splat,
        "INFO: rcu_tasks detected stalls on tasks:",
    ),
    (
        "rtlockup",
        "[   24.100000] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [runner:77]\n\
         [   24.200000] Kernel panic - not syncing: softlockup: hung tasks\n",
        Kind::Panic,
        "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [runner:77] (Kernel panic - not syncing: softlockup: hung tasks)",
    ),
    (
        "splitcut",
        "[   60.100000] ------------[ cut here ]------------\n\
         [   60.100000] WARNING: CPU: 1 PID: 5[   60.100001] bpf: loaded\n\
         5 at kernel/bpf/trampoline.c:512 x+0x1/0x2\n",
        Kind::Splat,
        "WARNING: CPU: 1 PID: 5",
    ),
    (
        "stackseg",
        "[   60.1] stack segment: 0000 [#1] PREEMPT SMP PTI\n\
         [   60.1] CPU: 1 PID: 77 Comm: runner Not tainted 6.6.1 #1\n\
         [   60.1] ---[ end trace 0000000000000000 ]---\n",
        Kind::Death,
        "stack segment: 0000 [#1] PREEMPT SMP PTI",
    ),
    (
        "static-key",
        "[   60.100001][  T101] INFO: trying to register non-static key.\n\
         [   60.100002][  T101] The code is fine but needs lockdep annotation, or maybe\n\
         [   60.100003][  T101] you didn't initialize this object before use?\n\
         [   60.100004][  T101] turning off the locking correctness validator.\n\
         [   60.100005][  T101] CPU: 0 UID: 0 PID: 101 Comm: runner Not tainted 6.18.15 #1 PREEMPT(lazy)\n\
         [   60.100006][  T101] Call Trace:\n\
         [   60.100007][  T101]  <TASK>\n\
         [   60.100008][  T101]  dump_stack_lvl+0x5d/0x80\n\
         [   60.100009][  T101]  register_lock_class+0x4b2/0x4c0\n\
         [   60.100010][  T101]  </TASK>\n",
        Kind::Splat,
        "INFO: trying to register non-static key.",
    ),
    ("user-bug", "BUG: this line was printed by a program to /dev/console\n", Kind::Note, ""),
    (
        "user-warning",
        "WARNING: All config files need .conf: /etc/modprobe.d/blacklist, it will be ignored in a future release.\n",
        Kind::Note,
        "",
    ),
    (
        "name-with-an-end-of-line",
        "[  130.1][   T31] INFO: task \u{fffd}\n\
         [  130.1][   T31] x:18088 blocked for more than 143 seconds.\n\
         [  130.1][   T31] Call Trace:\n\
         [  130.1][   T31]  __schedule+0x1/0x2\n",
        Kind::Splat,
        "INFO: task \u{fffd}",
    ),
    (
        "said-again",
        "[  130.1][   T31] INFO: t\n\
         ** replaying previous printk message **\n\
         [  130.1][   T31] INFO: task udevd:5612 blocked in I/O wait for more than 143 seconds.\n",
        Kind::Splat,
        "INFO: task udevd:5612 blocked in I/O wait for more than 143 seconds.",
    ),
    (
        "machine-check",
        "[    9.1] mce: [Hardware Error]: CPU 0: Machine Check: 0 Bank 4: b200000000070f0f\n",
        Kind::Splat,
        "mce: [Hardware Error]: CPU 0: Machine Check: 0 Bank 4: b200000000070f0f",
    ),
    (
        "slab",
        "[    9.1] =============================================================================\n\
         [    9.1] BUG kmalloc-64 (Not tainted): Poison overwritten\n\
         [    9.1] -----------------------------------------------------------------------------\n\
         [    9.1] FIX kmalloc-64: Restoring Poison 0xffff888=0x6b\n",
        Kind::Splat,
        "BUG kmalloc-64 (Not tainted): Poison overwritten",
    ),
    (
        "csd",
        "[    9.1] smp: csd: Detected non-responsive CSD lock (#1) on CPU#0, waiting 5000000000 ns for CPU#01 x+0x0/0x1(0x0).\n\
         [    9.1] smp: csd: CSD lock (#1) unresponsive.\n",
        Kind::Splat,
        "smp: csd: Detected non-responsive CSD lock (#1) on CPU#0, waiting 5000000000 ns for CPU#01 x+0x0/0x1(0x0).",
    ),
    (
        "irq",
        "[    9.1] irq 9: nobody cared (try booting with the \"irqpoll\" option)\n\
         [    9.1] Call Trace:\n[    9.1]  <IRQ>\n[    9.1]  __report_bad_irq+0x30/0xa0\n\
         [    9.1] Disabling IRQ #9\n",
        Kind::Splat,
        "irq 9: nobody cared (try booting with the \"irqpoll\" option)",
    ),
    (
        "sysfs",
        "[    9.1] sysfs: cannot create duplicate filename '/devices/x'\n[    9.1] Call Trace:\n[    9.1]  sysfs_warn_dup+0x1/0x2\n\
         [    9.1] kobject: kobject_add_internal failed for x with -EEXIST, don't try to register things with the same name.\n",
        Kind::Splat,
        "sysfs: cannot create duplicate filename '/devices/x'",
    ),
    (
        "starved",
        "[    9.1] rcu: rcu_preempt kthread starved for 2602 jiffies! g9 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x0 ->cpu=0\n",
        Kind::Splat,
        "rcu: rcu_preempt kthread starved for 2602 jiffies! g9 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x0 ->cpu=0",
    ),
    (
        "busy-inodes",
        "[    9.1] VFS: Busy inodes after unmount of vda (ext4)\n",
        Kind::Splat,
        "VFS: Busy inodes after unmount of vda (ext4)",
    ),
    (
        "validator-alone",
        "[    9.1] turning off the locking correctness validator.\n",
        Kind::Splat,
        "turning off the locking correctness validator.",
    ),
    (
        "leak",
        "BUG: memory leak\nunreferenced object 0xffff888109f57600 (size 512):\n  backtrace:\n    [<ffffffff81000000>] x+0x1/0x2\n",
        Kind::Splat,
        "BUG: memory leak",
    ),
    (
        "killer",
        "[    9.1] Web Content invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n\
         [    9.1] Call Trace:\n[    9.1]  dump_header+0x1/0x2\n\
         [    9.1] Out of memory: Killed process 77 (runner) total-vm:1kB\n",
        Kind::Splat,
        "Out of memory: Killed process 77 (runner) total-vm:1kB",
    ),
    (
        "no-page",
        "[    9.1] Web Content: page allocation failure: order:9, mode:0x40dc0(GFP_KERNEL|__GFP_COMP|__GFP_ZERO)\n",
        Kind::Splat,
        "Web Content: page allocation failure: order:9, mode:0x40dc0(GFP_KERNEL|__GFP_COMP|__GFP_ZERO)",
    ),
];

/// The verdict on a console, and its title.
fn judged(text: &str) -> (Kind, String) {
    let scanner = scan(text);
    match (scanner.death(), scanner.splats().next()) {
        (Some(death), _) if scanner.panicked => (Kind::Panic, death.title.clone()),
        (Some(death), _) => (Kind::Death, death.title.clone()),
        (None, Some(splat)) => (Kind::Splat, splat.title.clone()),
        (None, None) => (Kind::Note, String::new()),
    }
}

#[test]
fn texts_of_real_kernels_come_to_what_they_are() {
    for (name, text, kind, title) in TEXTS {
        assert_eq!(judged(text), (*kind, (*title).to_owned()), "{name}");
        // The same with serial line endings, after the lines of a boot.
        let boot = "[    0.000000] Linux version 6.18.15\r\n[    0.500000] Run /init as init process\r\n";
        let text = format!("{boot}{}", text.replace('\n', "\r\n"));
        assert_eq!(judged(&text), (*kind, (*title).to_owned()), "{name}");
    }
}

/// Kernel lines, each with a time stamp.
fn stamped(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("[   24.100000][   T77] {line}\n")).collect()
}

fn titles(text: &str) -> Vec<String> {
    scan(text).splats().map(|hit| hit.title.clone()).collect()
}

#[test]
fn a_stack_trace_that_belongs_to_nothing_known_is_a_splat() {
    let header = ["CPU: 0 UID: 0 PID: 77 Comm: runner Not tainted 6.18.15 #1", "Hardware name: QEMU"];
    let frames =
        [" <TASK>", " dump_stack_lvl+0x5d/0x80", " ? odd+0x1/0x2", " bpf_odd.isra.0+0x4b2/0x4c0", " </TASK>"];
    let trace = |before: &[&str], begin: &str| stamped(&[before, &header, &[begin], &frames].concat());
    for begin in ["Call Trace:", "Call trace:", "Backtrace:"] {
        let odd = trace(&["bpf: this is odd"], begin);
        let title = "unexplained stack trace in bpf_odd.isra.0, after \"bpf: this is odd\"";
        assert_eq!(titles(&odd), [title], "{begin}");
        // The same without time stamps: a frame is enough.
        assert_eq!(titles(&odd.replace("[   24.100000][   T77] ", "")), [title], "{begin}");
        let scanner = scan(&odd);
        let report = &scanner.splats().next().expect("a splat").report;
        assert!(report.iter().any(|line| line.ends_with("bpf_odd.isra.0+0x4b2/0x4c0")), "{report:?}");
        assert!(report.iter().any(|line| line.ends_with("this is odd")), "{report:?}");
    }
    // Registers of a CPU in kernel mode, and of one in user mode.
    assert_eq!(titles(&stamped(&["RIP: 0010:odd+0x1/0x2"])), ["unexplained stack trace in odd"]);
    assert_eq!(titles(&stamped(&["RIP: 0033:0x401000"])), [""; 0]);
    // Incomplete: enough if it is a kernel line, not if a program printed it.
    assert_eq!(titles(&stamped(&["Call Trace:"])), ["unexplained stack trace"]);
    assert_eq!(titles("Call Trace:\nat main.c:1\n"), [""; 0]);
    // The trace has a known reason: a warning, a sysrq request, or a message that is not a warning.
    for known in [
        "WARNING: possible recursive locking detected",
        "sysrq: Show Blocked State",
        "runner: vmalloc error: size 0, page order 0, failed to allocate pages",
        "FAULT_INJECTION: forcing a failure.",
    ] {
        let count = usize::from(known.starts_with("WARNING"));
        assert_eq!(titles(&trace(&[known], "Call Trace:")).len(), count, "{known}");
    }
    // Advice has no trace, so a trace that follows it belongs to something else.
    let advice = "WARNING: Unprivileged eBPF is enabled, data leaks possible via Spectre v2 BHB attacks!";
    assert_eq!(titles(&trace(&[advice, "odd"], "Call Trace:")).len(), 1);
}

#[test]
fn a_report_that_was_announced_and_did_not_come_is_a_splat() {
    let noise = ["noise"; CUT as usize + 5];
    let cut = stamped(&["------------[ cut here ]------------"]);
    assert_eq!(titles(&format!("{cut}{}", stamped(&noise))).len(), 1);
    assert_eq!(titles(&cut), ["unexplained stack trace, after \"------------[ cut here ]------------\""]);
    assert_eq!(titles(&format!("{cut}{}", stamped(&["---[ end trace 0 ]---"]))).len(), 1);
    let said = stamped(&["it is not so", "WARNING: kernel/bpf/x.c:1 at x+0x1/0x2, CPU#1: runner/77"]);
    let rest = stamped(&["RIP: 0010:x+0x1/0x2", "Call Trace:", " x+0x1/0x2", "---[ end trace 0 ]---"]);
    assert_eq!(
        titles(&format!("{cut}{said}{rest}")),
        ["WARNING: kernel/bpf/x.c:1 at x+0x1/0x2, CPU#1: runner/77"]
    );
    // After the end of a report, a new trace belongs to something else.
    let other = stamped(&["Call Trace:", " other+0x1/0x2"]);
    assert_eq!(titles(&format!("{cut}{said}{rest}{other}")).len(), 2);
}

#[test]
fn a_long_report_is_one_complaint() {
    let mut lines = vec!["BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!"];
    lines.extend(["Showing busy workqueues and worker pools:"]);
    lines.extend(
        ["workqueue events: flags=0x0", "  pwq 2: cpus=0", "    in-flight: 9:x", "    pending: y"]
            .repeat(300),
    );
    lines.extend(["task:kworker/0:1 state:R", "Call Trace:", " x+0x1/0x2"].repeat(300));
    assert_eq!(titles(&stamped(&lines)), lines[..1]);
    let mut hung =
        vec!["INFO: task runner:101 blocked for more than 122 seconds.", "Call Trace:", " x+0x1/0x2"];
    hung.extend(
        ["Showing all locks held in the system:", "2 locks held by x/1:", " #0: ff (y){..}, at: z+0x1/0x2"]
            .repeat(99),
    );
    hung.extend([
        "Sending NMI from CPU 0 to CPUs 1:",
        "NMI backtrace for cpu 1",
        "RIP: 0010:x+0x1/0x2",
        "Call Trace:",
    ]);
    assert_eq!(titles(&stamped(&hung)), hung[..1]);
}

#[test]
fn floods_of_every_kind_are_bounded() {
    let trace = stamped(&["Call Trace:", " odd+0x1/0x2", "---[ end trace 0 ]---"]);
    let cut = stamped(&["------------[ cut here ]------------", "---[ end trace 0 ]---"]);
    for flood in [trace, cut, stamped(&["bpf: WARNING: odd"])] {
        let scanner = scan(&flood.repeat(MAX_HITS + 7));
        assert_eq!((scanner.splats().count(), scanner.dropped), (MAX_HITS, 7), "{flood}");
        let kept: usize = scanner.splats().map(|hit| hit.report.len()).sum();
        assert!(kept <= MAX_REPORTS * (LINES_OF_REPORT + 1), "{kept}");
    }
}

#[test]
fn whose_words_a_line_has_is_known_by_what_stands_before_them() {
    for of_kernel in [
        "[    1.000000] ",
        "[    1.000000][    T1] ",
        "[    1.000000][   C0] ",
        "<4>[    1.000000] ",
        "<4>",
        "[    T1] ",
        "\u{1b}[33m[    1.000000]\u{1b}[0m ",
        "[Fri Nov 27 12:00:00 2026] ",
        "Nov 27 12:00:00 host kernel: ",
        "Nov 27 12:00:00 host kernel: [    1.000000] ",
        "2026-11-27T12:00:00.123456+00:00 host kernel: ",
        "2026-11-27T12:00:00,123456+00:00 [    1.000000] ",
        "login: [    1.000000] ",
        "** 77 printk messages dropped ** [    1.000000] ",
        "fine\r[    1.000000] ",
        "[    1.000000] a line left open[    1.000001] ",
    ] {
        for said in ["WARNING: odd", "bpf: WARNING: odd", "reboot: [ BUG: odd ]", "BUG: odd"] {
            assert_eq!(titles(&format!("{of_kernel}{said}\r\n")), [said], "{of_kernel:?}");
        }
    }
    for of_others in
        ["", "fine\r", "Nov 27 12:00:00 host sshd[7]: ", "[1] ", "[info] ", "[    1.000000] sh[7]: ", "# "]
    {
        for said in ["WARNING: odd", "BUG: odd", "Oops: odd"] {
            assert_eq!(
                judged(&format!("{of_others}{said}\r\n")),
                (Kind::Note, String::new()),
                "{of_others:?}"
            );
        }
    }
    // Texts that only the kernel prints count without any of that.
    for said in
        ["BUG: kernel NULL pointer dereference, address: 0", "general protection fault: 0000 [#1] SMP"]
    {
        assert_eq!(judged(&format!("fine\r{said}\r\n")), (Kind::Death, said.to_owned()));
    }
    let open = "user text WARNING: CPU: 0 PID: 7 at a.c:1 f+0x1/0x2\n";
    assert_eq!(titles(open), ["WARNING: CPU: 0 PID: 7 at a.c:1 f+0x1/0x2"]);
}
