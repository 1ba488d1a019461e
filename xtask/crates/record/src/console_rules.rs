// SPDX-License-Identifier: MIT OR Apache-2.0
//! Classifies a console line on its own: where its messages begin, who wrote them, and how severe a title is.
//!
//! The warnings themselves are a table shared with the runner ([`vmtest_protocol::complaints`]).

use std::sync::LazyLock;

use memchr::memchr;
use regex::bytes::{Regex, RegexBuilder};
use vmtest_protocol::{LAST_WORD, complaints};

pub use vmtest_protocol::complaints::Severity;

/// First line of a BUG() or WARN() report (include/linux/printk.h).
pub const CUT_HERE: &str = "------------[ cut here ]------------";
/// How a stack trace starts: on x86, elsewhere, and the registers of a CPU in kernel mode.
pub const TRACES: [&str; 4] = ["Call Trace:", "Call trace:", "Backtrace:", "RIP: 0010:"];
/// Prefix of the last line of a BUG() or WARN() report.
pub const END: &str = "---[ end ";
/// Prefix of the title of a trace that belongs to no known warning.
pub const UNEXPLAINED: &str = "unexplained stack trace";

/// Matches a text that every relevant line contains: few lines do, and only those are examined closely.
#[expect(clippy::unwrap_used, reason = "constant patterns; the tests compile them")]
pub static WORTH_A_LOOK: LazyLock<Regex> = LazyLock::new(|| {
    let rules = complaints::RULES.iter().map(complaints::Rule::literal);
    let others = [" [#", "Linux version ", " as init process", LAST_WORD, CUT_HERE, END];
    let texts: Vec<String> = rules.chain(others).chain(TRACES.iter().copied()).map(regex::escape).collect();
    RegexBuilder::new(&texts.join("|")).unicode(false).build().unwrap()
});

/// Marks a line as the kernel's: `[    1.234567]`, `[T12]`, `[  C1]`, the date that dmesg prints instead;
/// `<4>` if the log level is shown; `Nov 27 12:00:00 host kernel: `.
#[expect(clippy::unwrap_used, reason = "a constant pattern")]
pub static STAMP: LazyLock<Regex> = LazyLock::new(|| {
    let syslog = r"(?:\w{3} [ \d]\d [\d:]{8}|\d{4}-\d\d-\d\d[T ][\d:.,+Z-]+) (?:\S+ kernel: )?";
    let of_kernel = r"<\d+>|\[ *\d+\.\d+\]|\[ *[TC]\d+\]|\[\w{3} \w{3} [ \d]\d [\d:]{8} \d{4}\]";
    RegexBuilder::new(&format!(r"^\s*(?:{syslog})?(?:(?:{of_kernel})\s*)*")).unicode(false).build().unwrap()
});

/// A time stamp after other text, when the previous writer did not end its line. Its number has six decimals,
/// or is padded with blanks.
#[expect(clippy::unwrap_used, reason = "a constant pattern")]
pub static INNER_STAMP: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"\[(?: *\d+\.\d{6}| +\d+\.\d+)\](?:\[ *[TC]\d+\])? ";
    RegexBuilder::new(pattern).unicode(false).build().unwrap()
});

/// How severe a title is.
pub fn severity(title: &str) -> Option<Severity> {
    complaints::severity(title)
}

/// Whether a console line is a kernel warning, as far as a line on its own can tell.
pub fn complains(line: &str) -> bool {
    let line = line.as_bytes();
    let found = |message: Message<'_>| complaints::find(message.text, message.of_kernel);
    WORTH_A_LOOK.is_match(line)
        && messages(line).filter_map(found).any(|found| found.kind.severity().is_some())
}

/// One message in a line.
pub struct Message<'a> {
    /// Up to the end of the line or a carriage return; another CPU's time stamp may be in the middle of it.
    pub text: &'a [u8],
    /// Its offset in the line.
    pub at: usize,
    /// Whether the kernel wrote it; false if unknown.
    pub of_kernel: bool,
}

/// The messages of a line: at its start, after each carriage return, and after each time stamp.
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
