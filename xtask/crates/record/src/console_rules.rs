// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a line of a console says, without the lines around it: where its messages begin, whose they are, and how bad a title is.
//!
//! The complaints themselves are a table that the runner shares ([`vmtest_protocol::complaints`]).

use std::sync::LazyLock;

use memchr::memchr;
use regex::bytes::{Regex, RegexBuilder};
use vmtest_protocol::{LAST_WORD, complaints};

pub use vmtest_protocol::complaints::Severity;

/// With what BUG() and WARN() begin (include/linux/printk.h).
pub const CUT_HERE: &str = "------------[ cut here ]------------";
/// With what a stack trace begins: x86, others, and registers of a CPU that was in the kernel.
pub const TRACES: [&str; 4] = ["Call Trace:", "Call trace:", "Backtrace:", "RIP: 0010:"];
/// With what a report of BUG() and WARN() ends.
pub const END: &str = "---[ end ";
/// With what the title of a trace begins that belongs to nothing known.
pub const UNEXPLAINED: &str = "unexplained stack trace";

/// Text that every line has which means anything: few lines have one, and only those are looked at closely.
#[expect(clippy::unwrap_used, reason = "constant patterns; the tests compile them")]
pub static WORTH_A_LOOK: LazyLock<Regex> = LazyLock::new(|| {
    let rules = complaints::RULES.iter().map(complaints::Rule::literal);
    let others = [" [#", "Linux version ", " as init process", LAST_WORD, CUT_HERE, END];
    let texts: Vec<String> = rules.chain(others).chain(TRACES.iter().copied()).map(regex::escape).collect();
    RegexBuilder::new(&texts.join("|")).unicode(false).build().unwrap()
});

/// What makes a line the kernel's: `[    1.234567]`, `[T12]`, `[  C1]`, the date that dmesg makes of it; `<4>` where the log
/// level is shown; `Nov 27 12:00:00 host kernel: `.
#[expect(clippy::unwrap_used, reason = "a constant pattern")]
pub static STAMP: LazyLock<Regex> = LazyLock::new(|| {
    let syslog = r"(?:\w{3} [ \d]\d [\d:]{8}|\d{4}-\d\d-\d\d[T ][\d:.,+Z-]+) (?:\S+ kernel: )?";
    let of_kernel = r"<\d+>|\[ *\d+\.\d+\]|\[ *[TC]\d+\]|\[\w{3} \w{3} [ \d]\d [\d:]{8} \d{4}\]";
    RegexBuilder::new(&format!(r"^\s*(?:{syslog})?(?:(?:{of_kernel})\s*)*")).unicode(false).build().unwrap()
});

/// A time stamp behind other text: who wrote before left its line open. Its number has six digits, or blanks in front of it.
#[expect(clippy::unwrap_used, reason = "a constant pattern")]
pub static INNER_STAMP: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"\[(?: *\d+\.\d{6}| +\d+\.\d+)\](?:\[ *[TC]\d+\])? ";
    RegexBuilder::new(pattern).unicode(false).build().unwrap()
});

/// How bad a title is.
pub fn severity(title: &str) -> Option<Severity> {
    complaints::severity(title)
}

/// Whether a line of a console complains, as far as that can be said without the lines around it.
pub fn complains(line: &str) -> bool {
    let line = line.as_bytes();
    let found = |message: Message<'_>| complaints::find(message.text, message.of_kernel);
    WORTH_A_LOOK.is_match(line)
        && messages(line).filter_map(found).any(|found| found.kind.severity().is_some())
}

/// One message of a line.
pub struct Message<'a> {
    /// To the end of the line or a carriage return: another CPU's time stamp may stand in the middle of it.
    pub text: &'a [u8],
    /// Where it begins in the line.
    pub at: usize,
    /// Whether the kernel wrote it; where that is unknown, no.
    pub of_kernel: bool,
}

/// The messages of a line: from its beginning, behind each carriage return, and behind each time stamp.
pub fn messages(line: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let begins = std::iter::once(0).chain(memchr::memchr_iter(b'\r', line).map(|at| at + 1));
    let firsts = begins.map(|begin| {
        let stamp = STAMP.find(&line[begin..]).map_or(&b""[..], |stamp| stamp.as_bytes());
        let text = begin + stamp.len();
        let of_kernel =
            memchr(b'[', stamp).is_some() || stamp.starts_with(b"<") || stamp.ends_with(b"kernel: ");
        let end = memchr(b'\r', &line[text..]).map_or(line.len(), |at| text + at);
        Message { text: &line[text..end], at: text, of_kernel }
    });
    let inner = INNER_STAMP.find_iter(line).filter(|stamp| stamp.start() > 0);
    firsts.chain(inner.map(|stamp| Message { text: &line[stamp.end()..], at: stamp.end(), of_kernel: true }))
}
