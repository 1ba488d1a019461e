// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest's console means: one table of rules, and how far the boot came. Pure; works on bytes, because a dying
//! kernel does not write UTF-8.

use std::sync::LazyLock;

use regex::bytes::Regex;

/// Longest line looked at; the rest of a longer one is ignored.
const MAX_LINE: usize = 4096;
/// Most hits and last lines kept.
const MOST_HITS: usize = 50;
/// Last lines kept for the report.
const TAIL_LINES: usize = 40;

/// What a line says about the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The kernel lives on.
    Splat,
    /// The kernel is dead, or will be.
    Death,
}

/// How far a guest came, by its console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// Not a byte.
    Silent,
    /// Bytes, but no kernel yet.
    Firmware,
    /// The kernel speaks.
    Kernel,
    /// The first process was started.
    Init,
}

impl Progress {
    /// For the reason of a failed boot.
    pub fn text(self) -> &'static str {
        match self {
            Progress::Silent => "not a byte on the console",
            Progress::Firmware => "bytes on the console, but no kernel message",
            Progress::Kernel => "the kernel started, its first process did not",
            Progress::Init => "the first process started, the runner did not report",
        }
    }
}

/// A line that a rule matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// How bad.
    pub severity: Severity,
    /// The line, without time stamp and control characters.
    pub title: String,
    /// Line number on the console, from 1.
    pub line: u64,
}

struct Rule {
    severity: Severity,
    pattern: Regex,
}

/// Each rule matches a line without its time stamp. A death first: a line is counted once, by the first that matches.
#[expect(clippy::unwrap_used, reason = "constant patterns; the tests compile them")]
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    use Severity::{Death, Splat};
    let rules: [(Severity, &str); 9] = [
        // kernel/panic.c
        (Death, r"^Kernel panic - not syncing"),
        // arch/x86/kernel/dumpstack.c: "Oops: int3: 0000 [#1] SMP", and fault.c's first lines before it
        (
            Death,
            r"^Oops: |^BUG: unable to handle|^BUG: kernel NULL pointer|^general protection fault|^invalid opcode: |^divide error: ",
        ),
        // include/asm-generic/bug.h and lib/bug.c
        (Death, r"kernel BUG at |^PANIC: double fault|^stack guard page was hit"),
        (
            Splat,
            r"^(=+ )?(BUG|WARNING|INFO): (KASAN|KCSAN|KFENCE|KMSAN|UBSAN|possible |suspicious |inconsistent |sleeping |scheduling )",
        ),
        (Splat, r"^(BUG|WARNING|UBSAN|KASAN|KFENCE)[: ]"),
        // kernel/watchdog.c, kernel/hung_task.c, kernel/rcu/tree_stall.h
        (Splat, r"^watchdog: .*(soft lockup|hard LOCKUP)|^watchdog: BUG"),
        (
            Splat,
            r"^(rcu: )?INFO: (task .* blocked for more than|[_a-z]+ (self-)?detected (expedited )?stall)",
        ),
        (
            Splat,
            r"^(refcount_t: |list_(add|del) corruption|DEBUG_LOCKS_WARN_ON|\S+: page allocation failure)",
        ),
        (Splat, r"^Out of memory: Killed process|^Memory cgroup out of memory"),
    ];
    rules.map(|(severity, pattern)| Rule { severity, pattern: Regex::new(pattern).unwrap() }).into()
});

/// `[    1.234567]`, `[T12]`, `[  C1]` in front of a message; `<4>` where the log level is shown.
#[expect(clippy::unwrap_used, reason = "a constant pattern")]
static STAMP: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(<\d+>)?(\[[ \d.]*\]|\[ *[TC]\d+\]|\s)*").unwrap());

/// Reads a console as it comes.
#[derive(Debug)]
pub struct Scanner {
    line: Vec<u8>,
    number: u64,
    /// How far the guest came.
    pub progress: Progress,
    /// Lines that a rule matched.
    pub hits: Vec<Hit>,
    /// How often a kernel announced itself; more than once is a reboot.
    pub kernels: u32,
    tail: std::collections::VecDeque<String>,
}

impl Default for Scanner {
    fn default() -> Scanner {
        Scanner {
            line: Vec::new(),
            number: 0,
            progress: Progress::Silent,
            hits: Vec::new(),
            kernels: 0,
            tail: std::collections::VecDeque::new(),
        }
    }
}

impl Scanner {
    /// Takes bytes as they arrive.
    pub fn feed(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.progress = self.progress.max(Progress::Firmware);
        }
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line();
            } else if self.line.len() < MAX_LINE {
                self.line.push(*byte);
            }
        }
    }

    /// The console closed; a torn last line counts as well.
    pub fn close(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
    }

    /// The first line that says that the kernel died, if one does.
    pub fn death(&self) -> Option<&Hit> {
        self.hits.iter().find(|hit| hit.severity == Severity::Death)
    }

    /// The first complaint of a kernel that lives on.
    pub fn splats(&self) -> impl Iterator<Item = &Hit> {
        self.hits.iter().filter(|hit| hit.severity == Severity::Splat)
    }

    /// The last lines, cleaned.
    pub fn tail(&self, most: usize) -> Vec<String> {
        self.tail.iter().skip(self.tail.len().saturating_sub(most)).cloned().collect()
    }

    fn end_line(&mut self) {
        self.number += 1;
        let line = std::mem::take(&mut self.line);
        let rest = STAMP.find(&line).map_or(&line[..], |stamp| &line[stamp.end()..]);
        if rest.starts_with(b"Linux version ") {
            self.kernels += 1;
            self.progress = self.progress.max(Progress::Kernel);
        } else if rest.starts_with(b"Run ") && rest.windows(16).any(|part| part == b" as init process") {
            self.progress = self.progress.max(Progress::Init);
        }
        if let Some(rule) = RULES.iter().find(|rule| rule.pattern.is_match(rest)) {
            // A kernel that complains without end must not hide that it died.
            let first_death = rule.severity == Severity::Death && self.death().is_none();
            if self.hits.len() < MOST_HITS || first_death {
                self.hits.push(Hit { severity: rule.severity, title: clean(rest), line: self.number });
            }
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(clean(&line));
    }
}

fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown = |c: char| if c.is_control() && c != '\t' { '·' } else { c };
    text.trim_end().chars().take(300).map(shown).collect()
}

#[cfg(test)]
mod tests {
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
        ] {
            assert_eq!(scan(line).hits, [], "{line}");
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
}
