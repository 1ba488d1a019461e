// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest's console means: one table of rules, and how far the boot came. Pure; works on bytes, because a dying
//! kernel does not write UTF-8.

use std::sync::LazyLock;

use memchr::memchr;
use regex::bytes::Regex;

/// Longest line looked at as one. A longer one is looked at in pieces, so that what a kernel says behind megabytes without
/// an end of line is not lost.
const MAX_LINE: usize = 4096;
/// Bytes that two pieces of a long line share: what is cut at the end of one is whole in the next.
const OVERLAP: usize = 512;
/// Most hits kept. A death is always kept.
const MOST_HITS: usize = 50;
/// Hits whose surroundings are kept.
const MOST_REPORTS: usize = 10;
/// Lines kept in front of a hit, and most lines of its report.
const LINES_BEFORE: usize = 4;
const LINES_OF_REPORT: usize = 70;
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
    /// The line, without time stamp and control characters. For a panic that only follows from a splat (a lockup that
    /// somebody wants to be a panic) the splat's, and what the panic said behind it.
    pub title: String,
    /// Line number on the console, from 1.
    pub line: u64,
    /// The subtest that was running when it arrived, as far as anybody knew then; empty for none. Console and events have no
    /// common order: a complaint at the end of one subtest may be taken for one of the next.
    pub during: String,
    /// A few lines before it, the line itself, and the report that follows; empty where enough of others is kept.
    pub report: Vec<String>,
}

/// The line with which kernel/panic.c begins.
const PANIC: &str = r"^Kernel panic - not syncing";

/// What a panic says that only follows from what a detector said before it: that names the cause, the panic only the wish.
#[expect(clippy::unwrap_used, reason = "a constant pattern; the tests compile it")]
static FOLLOWS: LazyLock<Regex> = LazyLock::new(|| {
    let by = "softlockup: hung tasks|Hard LOCKUP|hung_task: blocked tasks|RCU Stall|.*panic_on_warn set|.*panic_on_oom";
    Regex::new(&format!("{PANIC}: ({by})")).unwrap()
});

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
        (Death, PANIC),
        // arch/x86/kernel/dumpstack.c: "Oops: int3: 0000 [#1] SMP", and fault.c's first lines before it
        (
            Death,
            r"^Oops: |^BUG: unable to handle|^BUG: kernel NULL pointer|^general protection fault|^invalid opcode: |^divide error: ",
        ),
        // include/asm-generic/bug.h and lib/bug.c; arch/x86/kernel/traps.c names the stack whose guard page was hit
        (Death, r"kernel BUG at |^PANIC: double fault|^(BUG: .* )?stack guard page was hit"),
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

/// A time stamp behind other text: who wrote before left its line open.
#[expect(clippy::unwrap_used, reason = "a constant pattern")]
static INNER_STAMP: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\[ *\d+\.\d{6}\](\[ *[TC]\d+\])? ").unwrap());

/// What the rules say of a text without its time stamp, for example of a title.
pub fn severity(text: &str) -> Option<Severity> {
    RULES.iter().find(|rule| rule.pattern.is_match(text.as_bytes())).map(|rule| rule.severity)
}

/// Whose report the lines that come now belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    No,
    Splat(usize),
    Death,
}

/// Reads a console as it comes.
#[derive(Debug)]
pub struct Scanner {
    line: Vec<u8>,
    number: u64,
    open: Open,
    reports: usize,
    death: Option<Hit>,
    /// A panic was announced; an oops alone may still be printing.
    pub panicked: bool,
    /// Splats that were counted and not kept.
    pub dropped: u64,
    /// The subtest that runs now, for the hits to come.
    pub now: String,
    /// How far the guest came.
    pub progress: Progress,
    hits: Vec<Hit>,
    /// How often a kernel announced itself; more than once is a reboot.
    pub kernels: u32,
    tail: std::collections::VecDeque<String>,
    /// What comes next is the rest of a long line.
    long: bool,
}

impl Default for Scanner {
    fn default() -> Scanner {
        Scanner {
            line: Vec::new(),
            number: 0,
            open: Open::No,
            reports: 0,
            death: None,
            panicked: false,
            dropped: 0,
            now: String::new(),
            progress: Progress::Silent,
            hits: Vec::new(),
            kernels: 0,
            tail: std::collections::VecDeque::new(),
            long: false,
        }
    }
}

impl Scanner {
    /// Takes bytes as they arrive.
    pub fn feed(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.progress = self.progress.max(Progress::Firmware);
        }
        let mut rest = bytes;
        while let Some(at) = memchr(b'\n', rest) {
            self.push(&rest[..at]);
            self.end_line();
            rest = &rest[at + 1..];
        }
        self.push(rest);
    }

    fn push(&mut self, bytes: &[u8]) {
        // Always cut at the same places, in whatever pieces the bytes arrive.
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = (MAX_LINE - self.line.len()).min(rest.len());
            self.line.extend_from_slice(&rest[..room]);
            rest = &rest[room..];
            if self.line.len() == MAX_LINE {
                let line = std::mem::take(&mut self.line);
                self.look(&line);
                self.long = true;
                self.line = line;
                self.line.drain(..MAX_LINE - OVERLAP);
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
        self.death.as_ref()
    }

    /// The complaints of a kernel that lives on, as many as are kept.
    pub fn splats(&self) -> impl Iterator<Item = &Hit> {
        self.hits.iter()
    }

    /// The last lines, cleaned.
    pub fn tail(&self, most: usize) -> Vec<String> {
        self.tail.iter().skip(self.tail.len().saturating_sub(most)).cloned().collect()
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.number += 1;
        self.look(&line);
        self.long = false;
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(clean(&line));
        self.line = line;
        self.line.clear();
    }

    /// A line, or a piece of a long one.
    fn look(&mut self, line: &[u8]) {
        // In the middle of a long line only a time stamp begins anything.
        if self.long && memchr(b'[', line).is_none() {
            return;
        }
        let shown = clean(line);
        match self.open {
            Open::No => {}
            Open::Splat(at) => self.hits[at].report.push(shown.clone()),
            Open::Death => self.death.iter_mut().for_each(|death| death.report.push(shown.clone())),
        }
        let first = STAMP.find(line).map_or(0, |stamp| stamp.end());
        let inner = INNER_STAMP.find_iter(&line[first..]).map(|stamp| first + stamp.end());
        for start in std::iter::once(first).chain(inner) {
            self.message(&line[start..], &shown);
        }
        let length = match self.open {
            Open::No => 0,
            Open::Splat(at) => self.hits[at].report.len(),
            Open::Death => self.death.as_ref().map_or(0, |death| death.report.len()),
        };
        if length >= LINES_OF_REPORT || shown.contains("---[ end ") {
            self.open = Open::No;
        }
    }

    /// What follows a time stamp.
    fn message(&mut self, text: &[u8], shown: &str) {
        if text.starts_with(b"Linux version ") {
            self.kernels += 1;
            self.progress = self.progress.max(Progress::Kernel);
        } else if text.starts_with(b"Run ") && text.windows(16).any(|part| part == b" as init process") {
            self.progress = self.progress.max(Progress::Init);
        }
        let Some(rule) = RULES.iter().find(|rule| rule.pattern.is_match(text)) else { return };
        self.panicked |= text.starts_with(b"Kernel panic - not syncing");
        let mut hit = Hit {
            severity: rule.severity,
            title: clean(text),
            line: self.number,
            during: self.now.clone(),
            report: Vec::new(),
        };
        match rule.severity {
            Severity::Splat if self.hits.len() >= MOST_HITS => self.dropped += 1,
            Severity::Splat => {
                if self.open == Open::No && self.reports < MOST_REPORTS {
                    self.reports += 1;
                    hit.report = self.surroundings(shown);
                    self.open = Open::Splat(self.hits.len());
                }
                self.hits.push(hit);
            }
            // What follows, an oops of the same death or the panic, stands in its report.
            Severity::Death if self.death.is_some() => {}
            Severity::Death => {
                hit.report = match self.open {
                    Open::Splat(at) => self.hits[at].report.clone(),
                    Open::No | Open::Death => self.surroundings(shown),
                };
                if let Some(cause) = self.hits.last().filter(|_| FOLLOWS.is_match(text)) {
                    hit.title = format!("{} ({})", cause.title, hit.title);
                    if self.open == Open::No && !cause.report.is_empty() {
                        hit.report = [&cause.report[..], &hit.report[..]].concat();
                    }
                }
                self.death = Some(hit);
                self.open = Open::Death;
            }
        }
    }

    fn surroundings(&self, line: &str) -> Vec<String> {
        let before = self.tail.iter().skip(self.tail.len().saturating_sub(LINES_BEFORE)).cloned();
        before.chain([line.to_owned()]).collect()
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
            let scanner = scan(line);
            assert!(scanner.death().is_none() && scanner.splats().next().is_none(), "{line}");
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
        assert!(
            scan("said: [1.5] Kernel panic - not syncing: x\n").death().is_none(),
            "no time stamp of the kernel"
        );
    }

    #[test]
    fn a_death_after_more_splats_than_are_kept_is_a_death() {
        let splats = "[    1.000000] WARNING: CPU: 0 PID: 1 at x\n".repeat(MOST_HITS + 5);
        let scanner = scan(&format!("{splats}[    2.000000] Kernel panic - not syncing: y\n"));
        assert_eq!(scanner.death().map(|death| death.title.as_str()), Some("Kernel panic - not syncing: y"));
        assert_eq!((scanner.splats().count(), scanner.dropped), (MOST_HITS, 5));
    }

    #[test]
    fn a_report_has_what_stands_around_it() {
        let mut text: String = (0..9).map(|n| format!("[    0.{n}00000] before {n}\n")).collect();
        text.push_str("[    1.0] BUG: kernel NULL pointer dereference, address: 0\n[    1.0] Oops: Oops: 0002 [#1] SMP\n");
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
        assert!(
            scan(line).death().is_some_and(|death| death.title.starts_with("BUG: TASK stack guard page"))
        );
    }
}
