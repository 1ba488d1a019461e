// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages that a kernel prints when something is wrong: one table, for the host's view of the console and
//! the runner's view of the kernel log. Pure. Works on bytes, because a dying kernel does not write valid
//! UTF-8.
//!
//! The patterns are text with `*` as a wildcard, not regular expressions: the runner matches each log record
//! under emulation, where compiling a hundred regular expressions would slow down the boot too much. A rule
//! is only compared where a message starts, so most comparisons end at the first byte.
//!
//! How it could be wrong: both readers miss a warning that is not in the table. There are two safety nets:
//! the host counts a stack trace that belongs to no known message, and the kernel's taint is judged.

/// How severe a kernel warning is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The kernel keeps running.
    Splat,
    /// The kernel is dead, or about to die.
    Death,
}

/// The meaning of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Looks like a warning, but is not one.
    Note,
    /// Has a stack trace, but is not a warning.
    Traced,
    /// Part of a report that starts with another line; a warning if that line was not seen.
    Part,
    /// A warning; the kernel keeps running.
    Splat,
    /// The kernel is dying; more may follow.
    Death,
    /// The final message of a kernel.
    Panic,
}

impl Kind {
    /// The severity; `None` if it is not a warning.
    pub const fn severity(self) -> Option<Severity> {
        match self {
            Kind::Note | Kind::Traced => None,
            Kind::Part | Kind::Splat => Some(Severity::Splat),
            Kind::Death | Kind::Panic => Some(Severity::Death),
        }
    }
}

/// Where a rule is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the start of a message, also after a prefix such as `rcu: `.
    Start,
    /// The same, but only in a line that is known to be the kernel's, because programs print such text as
    /// well.
    OfKernel,
    /// Anywhere in a line: only the kernel prints this text, and a previous writer may not have ended its
    /// line.
    Anywhere,
}

/// A rule of the table.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    kind: Kind,
    place: Place,
    /// Text of the line from there on; `*` matches any text.
    pattern: &'static str,
}

impl Rule {
    const fn anywhere(self) -> Rule {
        Rule { place: Place::Anywhere, ..self }
    }

    const fn of_kernel(self) -> Rule {
        Rule { place: Place::OfKernel, ..self }
    }

    /// The longest literal text of the pattern: every line that the rule matches contains it.
    pub fn literal(&self) -> &'static str {
        self.pattern.split('*').max_by_key(|part| part.len()).unwrap_or_default()
    }
}

const fn note(pattern: &'static str) -> Rule {
    Rule { kind: Kind::Note, place: Place::Start, pattern }
}

const fn traced(pattern: &'static str) -> Rule {
    Rule { kind: Kind::Traced, place: Place::Start, pattern }
}

const fn part(pattern: &'static str) -> Rule {
    Rule { kind: Kind::Part, place: Place::Start, pattern }
}

const fn splat(pattern: &'static str) -> Rule {
    Rule { kind: Kind::Splat, place: Place::Start, pattern }
}

const fn death(pattern: &'static str) -> Rule {
    Rule { kind: Kind::Death, place: Place::Start, pattern }
}

const fn panic(pattern: &'static str) -> Rule {
    Rule { kind: Kind::Panic, place: Place::Start, pattern }
}

/// Prefix of a panic message (kernel/panic.c).
pub const PANIC: &str = "Kernel panic - not syncing";

/// All rules. The first match decides, so exceptions come before the general rule.
pub const RULES: &[Rule] = &[
    // Final messages: kernel/panic.c; faults before the traps are set up (arch/x86/mm/extable.c, head_32.S),
    // after which the kernel halts for ever; the decompressor.
    panic(PANIC).anywhere(),
    panic("PANIC: early exception").anywhere(),
    panic("BUG: Int *: CR2 "),
    panic("-- System halted"),
    panic("Fixing recursive fault but reboot is needed!"),
    // Deaths: arch/x86/mm/fault.c, kernel/traps.c, kernel/dumpstack.c; lib/bug.c and
    // include/asm-generic/bug.h. The line with `[#1]` is handled by `is_die_line`.
    death("BUG: unable to handle").anywhere(),
    death("BUG: Unable to handle").anywhere(),
    death("BUG: kernel NULL pointer dereference").anywhere(),
    death("BUG: Kernel NULL pointer dereference").anywhere(),
    death("BUG: invalid or fatal FRED event"),
    death("BUG: *stack guard page was hit"),
    death("BUG: failure at *:*/*()!"),
    death("kernel BUG at ").anywhere(),
    death("Kernel BUG at "),
    death("PANIC: double fault").anywhere(),
    death("general protection fault, probably for ").anywhere(),
    death("general protection fault: "),
    death("Oops: ").of_kernel(),
    // Other architectures: arm64, riscv, mips, loongarch.
    death("Unable to handle kernel "),
    death("Internal error: Oops"),
    death("Insufficient stack space to handle exception!"),
    death("Oops [#"),
    death("Oops[#"),
    death("Kernel bug detected[#"),
    // WARN(), in both formats: kernel/panic.c before and since 6.18.
    splat("WARNING: CPU: * PID: ").anywhere(),
    splat("WARNING: *:* at *, CPU#").anywhere(),
    splat("WARNING: *.c:* at *+0x"),
    splat("WARNING: *.h:* at *+0x"),
    splat("------------[ ftrace bug ]------------"),
    // The sanitizers: mm/kasan, mm/kfence, mm/kmsan, kernel/kcsan, lib/ubsan.c.
    splat("BUG: KASAN: ").anywhere(),
    splat("BUG: KFENCE: ").anywhere(),
    splat("BUG: KMSAN: ").anywhere(),
    splat("BUG: KCSAN: ").anywhere(),
    splat("UBSAN: * in ").anywhere(),
    splat("KCSAN: assert:"),
    part("KASAN: "),
    part("KFENCE: "),
    // kernel/locking/lockdep.c; older kernels put each title into `[ .. ]` and printed INFO or BUG where
    // newer ones print WARNING.
    splat("WARNING: possible * detected"),
    splat("WARNING: inconsistent lock state"),
    splat("WARNING: *-safe -> *-unsafe lock order detected"),
    splat("WARNING: suspicious RCU usage"),
    splat("WARNING: bad unlock balance detected"),
    splat("WARNING: bad contention detected"),
    splat("WARNING: held lock freed"),
    splat("WARNING: Nested lock was not taken"),
    splat("WARNING: lock held when returning to user space"),
    splat("WARNING: *still has locks held"),
    splat("WARNING: chain_key collision"),
    splat("WARNING: lock correctness validator"),
    splat("INFO: possible * detected"),
    splat("INFO: inconsistent lock state"),
    splat("INFO: *-safe -> *-unsafe lock order detected"),
    splat("INFO: suspicious RCU usage"),
    splat("INFO: trying to register non-static key"),
    splat("BUG: Invalid wait context"),
    splat("BUG: bad unlock balance detected"),
    splat("BUG: bad contention detected"),
    splat("BUG: held lock freed"),
    splat("BUG: Nested lock was not taken"),
    splat("BUG: lock held when returning to user space"),
    splat("BUG: lock held at task exit time"),
    splat("BUG: *still has locks held"),
    splat("BUG: MAX_LOCK"),
    splat("BUG: MAX_STACK_TRACE_ENTRIES too low"),
    splat("BUG: looking up invalid subclass"),
    splat("BUG: key * has not been registered!"),
    splat("BUG: spinlock * on CPU#"),
    splat("BUG: rwlock * on CPU#"),
    splat("DEBUG_LOCKS_WARN_ON("),
    part("turning off the locking correctness validator"),
    // kernel/sched, kernel/workqueue.c, kernel/softirq.c, lib/smp_processor_id.c.
    splat("BUG: scheduling while atomic"),
    splat("BUG: scheduling in a non-blocking section"),
    splat("BUG: sleeping function called from invalid context"),
    splat("BUG: assuming * context at "),
    splat("BUG: using * in preemptible "),
    splat("BUG: workqueue lockup"),
    splat("BUG: workqueue leaked "),
    splat("bad: scheduling from the idle thread"),
    splat("schedule_timeout: wrong timeout value"),
    splat("huh, entered * with preempt_count "),
    part("note: * exited with preempt_count "),
    part("note: * exited with irqs disabled"),
    // kernel/watchdog.c, kernel/hung_task.c, kernel/rcu: tree_stall.h and tasks.h, kernel/smp.c.
    splat("BUG: soft lockup").anywhere(),
    splat("Watchdog detected hard LOCKUP"),
    splat("CPU*: Watchdog detected hard LOCKUP"),
    splat("NMI watchdog: *detected hard LOCKUP"),
    splat("NMI watchdog: BUG: "),
    splat("INFO: task * blocked for more than "),
    splat("INFO: task * blocked in I/O wait for more than "),
    splat("INFO: task * can't die for more than "),
    part("INFO: task * blocked on "),
    // The name of a task may contain a newline.
    splat("INFO: task ").of_kernel(),
    splat("INFO: rcu*detected *stall"),
    part("rcu_* kthread starved for "),
    part("rcu_* kthread timer wakeup didn't happen for "),
    splat("csd: Detected non-responsive CSD lock"),
    part("csd: CSD lock (#"),
    // mm: slub.c, page_alloc.c, memory.c, oom_kill.c, kmemleak.c, usercopy.c, debug.c. The OOM killer prints
    // its trace before its title.
    splat("BUG: Bad page "),
    splat("BUG: Bad rss-counter state "),
    splat("BUG: non-zero pgtables_bytes "),
    splat("BUG: non-zero nr_p"),
    splat("BUG: memory leak"),
    splat("BUG: mempool element poison mismatch"),
    splat("BUG: Dentry * still in use "),
    splat("BUG * (*ainted*): "),
    splat("Slab corruption"),
    splat("slab error in "),
    splat("kmem_cache_destroy *: Slab cache still has objects"),
    splat("page allocation failure: order:").anywhere(),
    splat("page allocation stalls for ").anywhere(),
    traced("invoked oom-killer: gfp_mask=").anywhere(),
    splat("Out of memory: Kill* process "),
    splat("Memory cgroup out of memory: Kill* process "),
    splat("kmemleak: * new suspected memory leak"),
    splat("kmemleak: Cannot insert "),
    part("unreferenced object 0x"),
    note("page dumped because: migration failure"),
    note("page dumped because: unmovable page"),
    part("page dumped because: "),
    part("bad pmd "),
    part("bad pud "),
    part("bad p4d "),
    part("bad pgd "),
    part("usercopy: Kernel memory "),
    part("Kernel memory exposure attempt detected"),
    part("Kernel memory overwrite attempt detected"),
    splat("Checked W+X mappings: FAILED"),
    // lib: refcount.c, list_debug.c, debugobjects.c, kobject.c, string_helpers.c, ref_tracker.c.
    splat("refcount_t: "),
    splat("list_add corruption"),
    splat("list_add double add"),
    splat("list_del corruption"),
    splat("ODEBUG: * object type: "),
    splat("kobject_add_internal failed for "),
    splat("kobject (*): tried to init an initialized object"),
    splat("percpu ref (*) <= 0"),
    splat("detected buffer overflow"),
    part("ref_tracker: * has * users at"),
    splat("ref_tracker: reference already released"),
    // kernel/cfi.c, arch/x86/kernel: cet.c, cpu, nmi; arch/x86/mm/extable.c, mm/fault.c;
    // arch/x86/kernel/cpu/mce.
    splat("CFI failure at ").anywhere(),
    splat("CFI failure (target: "),
    splat("Missing ENDBR: "),
    splat("unchecked MSR access error: ").anywhere(),
    splat("MSR access error: "),
    splat("[Hardware Error]: "),
    splat("Machine check events logged"),
    part("kernel tried to execute "),
    part("unable to execute userspace code"),
    part("Thread overran stack, or stack corrupted"),
    // kernel/irq/spurious.c
    splat("irq *: nobody cared"),
    part("Disabling IRQ #"),
    // kernel/bpf/core.c
    splat("BPF private stack overflow/underflow detected"),
    // fs and net.
    splat("sysfs: cannot create duplicate filename"),
    splat("VFS: Busy inodes after unmount"),
    splat("sysctl table check failed"),
    splat("sysctl duplicate entry"),
    splat("unregister_netdevice: waiting for "),
    splat("hw csum failure"),
    // arch/x86/kernel/unwind_frame.c and unwind_orc.c: the unwinder found an invalid stack.
    splat("WARNING: kernel stack "),
    splat("WARNING: stack recursion "),
    splat("WARNING: stack going in the wrong direction"),
    splat("WARNING: can't access "),
    // Stack traces that were requested, or that follow a memory allocation with a size from user space.
    traced("sysrq: Show "),
    traced("SysRq : Show "),
    traced("FAULT_INJECTION: forcing a failure"),
    traced("FAULT_FLAG_ALLOW_RETRY missing"),
    traced("vmalloc error: ").anywhere(),
    traced("vmalloc: allocation failure").anywhere(),
    traced("percpu: allocation failed"),
    traced("====[ backtrace testing ]"),
    // Advice about the machine, the configuration and deprecated features.
    note("WARNING: Unprivileged eBPF is enabled"),
    note("WARNING: *eprecat"),
    note("WARNING: *itigation"),
    note("WARNING: *MITIGATION_"),
    note("WARNING: *Spectre"),
    note("WARNING: *spectre"),
    note("WARNING: *etbleed"),
    note("WARNING: *BIOS"),
    note("WARNING: *irmware"),
    note("WARNING: *erformance"),
    note("WARNING: *command line"),
    note("WARNING: *prohibited"),
    note("WARNING: *no longer supported"),
    note("WARNING: *will be removed"),
    note("WARNING: See http"),
    note("WARNING: CPU does not support "),
    note("WARNING: kernel not compiled with "),
    note("WARNING: SMP operation may be unreliable"),
    note("WARNING: This combination of AMD"),
    note("WARNING: Forcing PAE"),
    note("WARNING: PAE disabled"),
    note("WARNING: Ancient bootloader"),
    note("WARNING: workqueue cpumask"),
    note("WARNING: fbcon: "),
    note("WARNING: memory leak will occur if overlay removed"),
    note("WARNING: trying to remove a running interface"),
    note("WARNING: Requested queue_map_"),
    note("WARNING: no IRQ resource flags"),
    note("WARNING: Your 'console="),
    note("WARNING: polling idle"),
    note("WARNING: mapping "),
    note("WARNING: bogus zero IO-APIC"),
    // Any other line that starts with these words.
    splat("WARNING:").of_kernel(),
    splat("BUG:").of_kernel(),
];

/// A line that matched a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its meaning.
    pub kind: Kind,
    /// Where its title starts: at the start of the message, or in the middle of an unfinished line.
    pub start: usize,
    /// Where the rule matched.
    pub at: usize,
}

/// Matches a message, given without its time stamp. `of_kernel`: it is known that the kernel wrote it, not a
/// program that writes to the same console.
pub fn find(message: &[u8], of_kernel: bool) -> Option<Found> {
    let first = at_starts(message, of_kernel);
    // A death may follow any text.
    match anywhere(message) {
        Some(inner) if first.is_none_or(|first| first.kind < Kind::Death && inner.kind >= Kind::Death) => {
            Some(inner)
        }
        _ => first,
    }
}

/// How severe a title is, if the kernel wrote it.
pub fn severity(title: &str) -> Option<Severity> {
    find(title.as_bytes(), true).and_then(|found| found.kind.severity())
}

/// Prefixes of the names of programs that write to the kernel log while a system starts, without `[pid]`
/// after them. On a console they look like a subsystem; the log distinguishes them.
const PROGRAMS: [&str; 13] = [
    "virtme",
    "vmtest",
    "systemd",
    "dracut",
    "cloud-init",
    "ignition",
    "initramfs",
    "plymouth",
    "udev",
    "init:",
    "sh:",
    "bash:",
    "mount:",
];

/// Most prefixes before a message: `rcu: `, `smp: csd: `.
const MAX_PREFIXES: usize = 3;

/// Matches the rules wherever a message may start.
fn at_starts(message: &[u8], of_kernel: bool) -> Option<Found> {
    let start = message.len() - message.trim_ascii_start().len();
    let mut at = start;
    for _ in 0..=MAX_PREFIXES {
        let begin = at + frame(&message[at..]);
        let text = &message[begin..];
        let wanted = |rule: &&Rule| fits(rule.pattern, text) && (of_kernel || rule.place != Place::OfKernel);
        if let Some(rule) = RULES.iter().find(wanted) {
            return Some(Found { kind: rule.kind, start, at: begin });
        }
        match prefix(&message[at..]) {
            0 => break,
            length => at += length,
        }
    }
    is_die_line(message).then_some(Found { kind: Kind::Death, start, at: start })
}

/// Indices of the rules that are matched anywhere. They are tried at every byte, but there are few of them.
const ANYWHERE: [usize; anywhere_rules()] = {
    let mut found = [0; anywhere_rules()];
    let (mut at, mut next) = (0, 0);
    while at < RULES.len() {
        if matches!(RULES[at].place, Place::Anywhere) {
            found[next] = at;
            next += 1;
        }
        at += 1;
    }
    found
};

const fn anywhere_rules() -> usize {
    let (mut at, mut count) = (0, 0);
    while at < RULES.len() {
        count += matches!(RULES[at].place, Place::Anywhere) as usize;
        at += 1;
    }
    count
}

/// First bytes of those rules: few positions of a line have one.
const BEGINS: [bool; 256] = {
    let mut begins = [false; 256];
    let mut at = 0;
    while at < ANYWHERE.len() {
        begins[RULES[ANYWHERE[at]].pattern.as_bytes()[0] as usize] = true;
        at += 1;
    }
    begins
};

/// Matches at every position of a line; returns the most severe match.
fn anywhere(message: &[u8]) -> Option<Found> {
    let mut worst: Option<Found> = None;
    for (at, byte) in message.iter().enumerate() {
        if !BEGINS[usize::from(*byte)] {
            continue;
        }
        let mut rules = ANYWHERE.iter().map(|at| &RULES[*at]);
        let Some(rule) = rules.find(|rule| fits(rule.pattern, &message[at..])) else { continue };
        if worst.is_none_or(|worst| worst.kind < rule.kind) {
            // `Web Content: page allocation failure`: a prefix with blanks belongs to the same message.
            let start = if message[..at].ends_with(b": ") { 0 } else { at };
            worst = Some(Found { kind: rule.kind, start, at });
        }
    }
    worst
}

/// Whether a text starts with a pattern.
fn fits(pattern: &str, text: &[u8]) -> bool {
    // Checked first, because most rules differ here.
    if pattern.as_bytes().first() != text.first() {
        return false;
    }
    let mut parts = pattern.split('*').map(str::as_bytes);
    let mut rest = parts.next().and_then(|part| text.strip_prefix(part));
    for part in parts {
        rest = rest.and_then(|rest| {
            let at = rest.windows(part.len()).position(|window| window == part)?;
            Some(&rest[at + part.len()..])
        });
    }
    rest.is_some()
}

/// The first line of die(): `general protection fault: 0000 [#1] SMP`, for any fault, with or without an
/// `Oops: ` prefix.
fn is_die_line(text: &[u8]) -> bool {
    const MARK: &[u8] = b" [#";
    // Few lines contain a `#`; `unexpected #NM exception: 0000 [#1]` contains two.
    let Some(hash) = text.iter().rposition(|byte| *byte == b'#') else { return false };
    let Some(at) = hash.checked_sub(MARK.len() - 1).filter(|at| text[*at..].starts_with(MARK)) else {
        return false;
    };
    let count = text[at + MARK.len()..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let code = text[..at].iter().rev().take_while(|byte| byte.is_ascii_hexdigit()).count();
    (1..=4).contains(&count)
        && text.get(at + MARK.len() + count) == Some(&b']')
        && (4..=16).contains(&code)
        && text[..at - code].ends_with(b": ")
}

/// Length of the frame of a lockdep title: `[ `, or `====== ` on the same line.
fn frame(text: &[u8]) -> usize {
    let line = text.iter().take_while(|byte| **byte == b'=').count();
    let line = if line > 0 && text.get(line) == Some(&b' ') { line + 1 } else { 0 };
    line + if text[line..].starts_with(b"[ ") { 2 } else { 0 }
}

/// Length of a subsystem's prefix (`pr_fmt`), a word and `: `; 0 without a prefix. `sh[7]: ` belongs to a
/// program.
fn prefix(text: &[u8]) -> usize {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./:+#,@".contains(byte);
    let length = text.iter().take_while(|byte| word(byte)).count();
    let is_prefix = length > 1 && text[length - 1] == b':' && text.get(length) == Some(&b' ');
    let is_program = PROGRAMS.iter().any(|name| text.starts_with(name.as_bytes()));
    if is_prefix && !is_program { length + 1 } else { 0 }
}

#[cfg(test)]
mod tests;
