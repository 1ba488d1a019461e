// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interprets a guest's console: which lines the kernel wrote, which of them are warnings, and how far the
//! boot got. Pure. Works on bytes, because a dying kernel does not write valid UTF-8.
//!
//! The warnings are a table shared with the runner ([`vmtest_protocol::complaints`]). Texts that a program
//! may also print (`WARNING: ..`) count only in a kernel line: one with a time stamp, a log level or the
//! printing thread, or one prefixed with `kernel: ` by a syslog daemon. A fallback catches what the table
//! misses: a stack trace or `[ cut here ]` that belongs to no known warning is a splat itself.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::{memchr, memmem};
use regex::bytes::{Regex, RegexBuilder};
use vmtest_protocol::LAST_WORD;
use vmtest_protocol::complaints::{self, Kind};
use vmtest_record::console_rules::{
    CUT_HERE, END, INNER_STAMP, Message, STAMP, Severity, TRACES, UNEXPLAINED, WORTH_A_LOOK, messages,
};

/// Longest line scanned as one. Longer lines are scanned in pieces, so that kernel output after megabytes
/// without a newline is not lost.
const MAX_LINE: usize = 4096;
/// Bytes that two consecutive pieces of a long line share, so that text cut at the end of one is whole in the
/// next.
const OVERLAP: usize = 512;
/// Most hits kept. A death is always kept.
const MAX_HITS: usize = 50;
/// Most hits whose surrounding lines are kept.
const MAX_REPORTS: usize = 10;
/// Lines kept in front of a hit, and most lines of its report.
const LINES_BEFORE: usize = 4;
const LINES_OF_REPORT: usize = 70;
/// Last lines kept for the report.
const TAIL_LINES: usize = 40;

/// A trace within this many lines of a warning, or of a line that continues its report, belongs to that
/// warning.
const OWN: u64 = 80;
/// The reason must follow `[ cut here ]` within this many lines.
const CUT: u64 = 30;
/// The first frame must follow the title of a stack trace within this many lines.
const FRAMES: u64 = 12;
/// Lines about the machine between a kernel message and its stack trace.
const HEADER: [&str; 8] = [
    "CPU: ",
    "Hardware name: ",
    "Tainted: ",
    "Workqueue: ",
    "Modules linked in: ",
    "Sched_ext: ",
    "<TASK>",
    "<IRQ>",
];
/// Frames of the code that prints the trace.
const PRINTERS: [&str; 6] =
    ["dump_stack", "__dump_stack", "show_stack", "show_trace_log_lvl", "dump_trace", "__show_regs"];

/// How far a guest got, judging by its console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// No output.
    Silent,
    /// Output, but no kernel yet.
    Firmware,
    /// The kernel printed its version.
    Kernel,
    /// The first process was started.
    Init,
}

impl Progress {
    /// Used in the reason of a failed boot.
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
    pub severity: Severity,
    /// The line, without time stamp and control characters. If a panic only follows from a splat (such as a
    /// lockup with `panic_on_*` set), the splat's title and the panic's text.
    pub title: String,
    /// Line number on the console, from 1.
    pub line: u64,
    /// The subtest that was running when it arrived, as far as known then; empty for none. Console and events
    /// are not ordered relative to each other: a warning at the end of one subtest may be attributed to the
    /// next.
    pub during: String,
    /// A few lines before it, the line itself, and the report that follows; empty once `MAX_REPORTS` others
    /// are kept.
    pub report: Vec<String>,
}

/// Panics that only follow from a detector's report. The report names the cause; the panic only names the
/// setting.
#[expect(clippy::unwrap_used, reason = "a constant pattern; the tests compile it")]
static FOLLOWS: LazyLock<Regex> = LazyLock::new(|| {
    let by = r"softlockup: hung tasks|Hard LOCKUP|hung_task: blocked tasks|RCU Stall|workqueue: |scheduling while atomic|.* set \.\.\.|.*panic_on_oom";
    Regex::new(&format!("{}: ({by})", complaints::PANIC)).unwrap()
});

/// Lines that continue a report, however long it gets: frames, and lists of tasks, locks and workqueues.
#[expect(clippy::unwrap_used, reason = "a constant pattern; the tests compile it")]
static CONTINUES: LazyLock<Regex> = LazyLock::new(|| {
    let texts = r"\+0x|task:|locks? held by | pwq |pool |in-flight: |pending: |workqueue |Showing ";
    RegexBuilder::new(texts).unicode(false).build().unwrap()
});

/// Terminal escape sequences: colours and cursor movement.
#[expect(clippy::unwrap_used, reason = "a constant pattern")]
static ESCAPE: LazyLock<Regex> =
    LazyLock::new(|| RegexBuilder::new(r"\x1b\[[\d;?]*[A-Za-z]").unicode(false).build().unwrap());

/// Which report the following lines belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    No,
    Splat(usize),
    Death,
}

/// Scans a console as the bytes arrive.
#[derive(Debug)]
pub struct Scanner {
    line: Vec<u8>,
    number: u64,
    open: Open,
    reports: usize,
    death: Option<Hit>,
    /// The kernel printed its final message (a panic, or a fault before it could handle any). After an oops
    /// alone it may still be printing.
    pub panicked: bool,
    /// Splats that were counted but not kept.
    pub dropped: u64,
    /// The subtest that is running now; recorded in new hits.
    pub now: String,
    /// How far the guest got.
    pub progress: Progress,
    hits: Vec<Hit>,
    /// How often a kernel printed its version; more than once means a reboot.
    pub kernels: u32,
    /// The runner's [`LAST_WORD`] was seen.
    pub last_word: bool,
    /// Raw lines; they are cleaned only when needed, which is rarely.
    tail: std::collections::VecDeque<Vec<u8>>,
    /// Bytes of a long line that precede the next piece.
    before: usize,
    /// Offset of the last warning in its line: it may be in both pieces, or follow two message prefixes.
    last: Option<usize>,
    /// Up to this line, a stack trace belongs to an earlier message.
    own_until: u64,
    /// Line of a `[ cut here ]` whose reason has not followed yet.
    cut: Option<u64>,
    /// A stack trace that belongs to no known message and whose frames have not arrived yet.
    trace: Option<Trace>,
}

/// A stack trace without a known reason.
#[derive(Debug)]
struct Trace {
    line: u64,
    of_kernel: bool,
    /// The last kernel message before it.
    behind: String,
    report: Vec<String>,
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
            last_word: false,
            tail: std::collections::VecDeque::new(),
            before: 0,
            last: None,
            own_until: 0,
            cut: None,
            trace: None,
        }
    }
}

impl Scanner {
    /// Scans bytes as they arrive.
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
        // Always cut at the same offsets, no matter how the bytes are split on arrival.
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = (MAX_LINE - self.line.len()).min(rest.len());
            self.line.extend_from_slice(&rest[..room]);
            rest = &rest[room..];
            if self.line.len() == MAX_LINE {
                let line = std::mem::take(&mut self.line);
                self.look(&line);
                self.before += MAX_LINE - OVERLAP;
                self.line = line;
                self.line.drain(..MAX_LINE - OVERLAP);
            }
        }
    }

    /// The console closed; an incomplete last line counts as well.
    pub fn close(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.give_up_on_traces(true);
    }

    /// The first line that reports the death of the kernel, if any.
    pub fn death(&self) -> Option<&Hit> {
        self.death.as_ref()
    }

    /// Warnings of a kernel that kept running, as many as are kept.
    pub fn splats(&self) -> impl Iterator<Item = &Hit> {
        self.hits.iter()
    }

    /// The last lines, cleaned.
    pub fn tail(&self, most: usize) -> Vec<String> {
        self.tail.iter().skip(self.tail.len().saturating_sub(most)).map(|line| clean(line)).collect()
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.number += 1;
        self.look(&line);
        (self.before, self.last) = (0, None);
        // Reuse the buffer of the line that is dropped.
        let free = if self.tail.len() == TAIL_LINES { self.tail.pop_front() } else { None };
        self.tail.push_back(line);
        self.line = free.unwrap_or_default();
        self.line.clear();
    }

    /// Scans a line, or a piece of a long one.
    fn look(&mut self, line: &[u8]) {
        let line = match memchr(0x1b, line) {
            Some(_) => ESCAPE.replace_all(line, &b""[..]),
            None => Cow::Borrowed(line),
        };
        let is_worth_it = WORTH_A_LOOK.is_match(&line);
        let is_of_a_report = self.open != Open::No || self.number <= self.own_until;
        if !is_worth_it && !is_of_a_report && self.trace.is_none() && self.cut.is_none() {
            return;
        }
        let shown = clean(&line);
        match self.open {
            Open::No => {}
            Open::Splat(at) => self.hits[at].report.push(shown.clone()),
            Open::Death => self.death.iter_mut().for_each(|death| death.report.push(shown.clone())),
        }
        if is_worth_it {
            messages(&line).for_each(|message| self.message(&message, &shown));
        }
        let is_end = is_worth_it && memmem::find(&line, END.as_bytes()).is_some();
        self.follow_traces(&line, &shown, is_end);
        let length = match self.open {
            Open::No => 0,
            Open::Splat(at) => self.hits[at].report.len(),
            Open::Death => self.death.as_ref().map_or(0, |death| death.report.len()),
        };
        if length >= LINES_OF_REPORT || is_end {
            self.open = Open::No;
        }
    }

    fn message(&mut self, message: &Message<'_>, shown: &str) {
        let text = message.text;
        if text.starts_with(b"Linux version ") {
            self.kernels += 1;
            self.progress = self.progress.max(Progress::Kernel);
        } else if text.starts_with(LAST_WORD.as_bytes()) {
            self.last_word = true;
        } else if text.starts_with(b"Run ") && memmem::find(text, b" as init process").is_some() {
            self.progress = self.progress.max(Progress::Init);
        }
        let bare = text.trim_ascii_start();
        if TRACES.iter().any(|trace| bare.starts_with(trace.as_bytes())) {
            self.begin_trace(message.of_kernel, shown);
        } else if bare.starts_with(CUT_HERE.as_bytes()) && self.death.is_none() {
            self.cut = Some(self.number);
        }
        let Some(found) = complaints::find(text, message.of_kernel) else { return };
        let at = self.before + message.at + found.at;
        if self.last.replace(at) == Some(at) {
            return;
        }
        if found.kind == Kind::Note {
            return;
        }
        let is_own = self.number <= self.own_until;
        self.own_until = self.number + OWN;
        let Some(severity) = found.kind.severity().filter(|_| !(found.kind == Kind::Part && is_own)) else {
            return;
        };
        (self.cut, self.trace) = (None, None);
        self.panicked |= found.kind == Kind::Panic;
        // Text that another CPU printed into the middle of the line is not part of the title.
        let title = &text[found.start..];
        let end = INNER_STAMP.find(title).map_or(title.len(), |stamp| stamp.start());
        self.hit(severity, clean(title[..end].trim_ascii_start()), self.number, |scanner| {
            scanner.surroundings(shown)
        });
    }

    /// Counts a warning.
    fn hit(
        &mut self,
        severity: Severity,
        title: String,
        line: u64,
        report: impl Fn(&Scanner) -> Vec<String>,
    ) {
        let mut hit = Hit { severity, title, line, during: self.now.clone(), report: Vec::new() };
        match severity {
            Severity::Splat if self.hits.len() >= MAX_HITS => self.dropped += 1,
            Severity::Splat => {
                if self.open == Open::No && self.reports < MAX_REPORTS {
                    self.reports += 1;
                    hit.report = report(self);
                    self.open = Open::Splat(self.hits.len());
                }
                self.hits.push(hit);
            }
            // A later oops or panic of the same death is part of its report.
            Severity::Death if self.death.is_some() => {}
            Severity::Death => {
                hit.report = match self.open {
                    Open::Splat(at) => self.hits[at].report.clone(),
                    Open::No | Open::Death => report(self),
                };
                if let Some(cause) = self.hits.last().filter(|_| FOLLOWS.is_match(hit.title.as_bytes())) {
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

    /// A stack trace begins: it belongs to an earlier message, or its reason is unknown.
    fn begin_trace(&mut self, of_kernel: bool, shown: &str) {
        if self.number <= self.own_until || self.trace.is_some() || self.death.is_some() {
            return;
        }
        let bare = |line: &str| {
            let stamp = STAMP.find(line.as_bytes()).map_or(0, |stamp| stamp.end());
            line.get(stamp..).unwrap_or_default().trim().to_owned()
        };
        let said = |line: &Vec<u8>| {
            let text = bare(&clean(line));
            let speaks = text.chars().any(char::is_alphanumeric) && !text.contains(CUT_HERE);
            (speaks && !HEADER.iter().any(|header| text.starts_with(header))).then_some(text)
        };
        let behind =
            self.tail.iter().rev().take(LINES_BEFORE + HEADER.len()).find_map(said).unwrap_or_default();
        let report = self.surroundings(shown);
        self.trace = Some(Trace { line: self.number, of_kernel, behind, report });
    }

    /// Handles frames of traces and the end of a report.
    fn follow_traces(&mut self, line: &[u8], shown: &str, is_end: bool) {
        if self.number <= self.own_until && CONTINUES.is_match(line) {
            self.own_until = self.number + OWN;
        }
        if let Some(trace) = &mut self.trace {
            if trace.line != self.number {
                trace.report.push(shown.to_owned());
            }
            if let Some(function) = function(shown) {
                self.unexplained(&function);
            }
        }
        if is_end {
            self.own_until = 0;
        }
        self.give_up_on_traces(is_end);
    }

    /// Counts a trace without frames, and a `[ cut here ]` that nothing known followed.
    fn give_up_on_traces(&mut self, is_end: bool) {
        if self.trace.as_ref().is_some_and(|trace| is_end || self.number > trace.line + FRAMES) {
            // Without a time stamp and without a frame, a program printed it.
            if self.trace.as_ref().is_some_and(|trace| trace.of_kernel) {
                self.unexplained("");
            }
            self.trace = None;
        }
        if self.cut.is_some_and(|cut| is_end || self.number > cut + CUT) {
            let behind = CUT_HERE.to_owned();
            self.trace = Some(Trace {
                line: self.cut.unwrap_or(self.number),
                of_kernel: true,
                behind,
                report: Vec::new(),
            });
            self.unexplained("");
        }
    }

    /// The fallback for everything that is not in the table.
    fn unexplained(&mut self, function: &str) {
        let Some(trace) = self.trace.take() else { return };
        self.cut = None;
        let place = if function.is_empty() { String::new() } else { format!(" in {function}") };
        let behind =
            if trace.behind.is_empty() { String::new() } else { format!(", after {:?}", trace.behind) };
        self.own_until = self.number + OWN;
        self.hit(Severity::Splat, format!("{UNEXPLAINED}{place}{behind}"), trace.line, |_| {
            trace.report.clone()
        });
    }

    fn surroundings(&self, line: &str) -> Vec<String> {
        let mut lines = self.tail(LINES_BEFORE);
        lines.push(line.to_owned());
        lines
    }
}

/// The function of a frame (`name+0x1/0x2`), unless it belongs to the printing of the trace.
fn function(line: &str) -> Option<String> {
    let (before, behind) = line.split_once("+0x")?;
    let offset = behind.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    let name = before.rsplit([' ', ':', '\t']).next()?;
    let is_frame = offset.starts_with("/0x") && !name.is_empty() && !before.trim_end().ends_with('?');
    let before = before.trim_end_matches(name).trim_end();
    let printer = PRINTERS
        .iter()
        .any(|printer| name.split('.').next() == Some(printer) || name.starts_with("dump_stack"));
    (is_frame && !before.ends_with('?') && !printer).then(|| name.to_owned())
}

fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown = |c: char| if c.is_control() && c != '\t' { '·' } else { c };
    text.trim_end().chars().take(300).map(shown).collect()
}

#[cfg(test)]
mod tests;
