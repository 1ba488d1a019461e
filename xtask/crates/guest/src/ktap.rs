// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parses KTAP (the kernel's Documentation/dev-tools/ktap.rst) as programs, kselftest and KUnit actually
//! print it: nested with any indentation, with kernel log time stamps, several complete reports in a row.
//! Pure.
//!
//! Only a complete report is trusted: a version line, a plan that matches, numbers without gaps, unique names
//! (a duplicate nested one gets its number appended, so that a plan must list both), parents that agree with
//! their children. Anything inconsistent is a doubt ([`Report::doubts`]), and with a doubt nothing in the
//! report passes. Lines that are not KTAP are log lines.
//!
//! How it could be wrong: KUnit does not announce the number of parameters, so a nested report may have no
//! plan, and one of its results can get lost without a doubt. The plan of the suite lists every result, so it
//! notices.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

/// The verdict of a result line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// `ok`
    Ok,
    /// `not ok`, also `# TIMEOUT` and `# ERROR`.
    NotOk,
    /// `# SKIP`, after either `ok` or `not ok`.
    Skip,
    /// `# XFAIL`: an expected failure.
    Xfail,
}

/// A leaf: a result without nested results, or a parent that failed on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its name, prefixed with the names of its parents, separated by slashes.
    pub name: String,
    pub said: Said,
    /// The text after the directive; empty without one.
    pub reason: String,
    /// What was printed between the previous result line and this one.
    pub log: String,
}

/// What a program reported.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// In the order of the output.
    pub leaves: Vec<Leaf>,
    pub doubts: Vec<String>,
    /// Why nothing ran, if the plan says so: `1..0 # SKIP why`. `None` if something ran.
    pub skipped: Option<String>,
}

/// Deepest nesting that is parsed; more is a doubt.
const MAX_DEPTH: usize = 8;
/// Most results that are parsed; more is a doubt.
const MAX_RESULTS: usize = 10_000;
/// Most doubts that are kept.
const MAX_DOUBTS: usize = 20;

/// One open level of nesting.
#[derive(Debug, Default)]
struct Level {
    /// Columns by which its lines are indented.
    indent: usize,
    versions: u32,
    planned: Option<u64>,
    /// Why its plan is empty; `None` if it does not say.
    skipped: Option<String>,
    /// The name from its `# Subtest:` line; empty without one.
    header: String,
    seen: u64,
    names: BTreeSet<String>,
    /// Leaves of this level and below.
    leaves: Vec<Leaf>,
}

impl Level {
    fn is_complete(&self) -> bool {
        self.versions == 1 && self.seen > 0 && self.planned == Some(self.seen)
    }
}

/// Prefixes of kernel log lines: a priority, a time (`dmesg`, `dmesg -T`, `dmesg -x`), a thread or CPU.
#[expect(clippy::unwrap_used, reason = "a constant pattern; the tests compile it")]
static LOG_PREFIX: LazyLock<Regex> = LazyLock::new(|| {
    let priority = r"(<\d+>|\w+ *:\w+ *: )?";
    let time = r"\[( *\d+\.\d+|\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4})\]";
    Regex::new(&format!(r"^{priority}{time}(\[ *[TC]\d+\])? ?")).unwrap()
});

/// Parses the output of one program.
pub fn read(text: &str) -> Report {
    let mut reader = Reader { levels: vec![Level::default()], ..Reader::default() };
    for line in text.lines() {
        let line = line.trim_end();
        let start = LOG_PREFIX.find(line).map_or(0, |prefix| prefix.end());
        reader.line(&line[start..]);
    }
    while reader.levels.len() > 1 {
        reader.doubt("it ended inside of a nested test");
        reader.leave_open_level();
    }
    let top = reader.levels.pop().unwrap_or_default();
    reader.check(&top, "the report");
    if top.versions == 0 {
        reader.doubt("no version line: this is not KTAP");
    }
    Report { leaves: top.leaves, doubts: reader.doubts, skipped: top.skipped }
}

#[derive(Debug, Default)]
struct Reader {
    levels: Vec<Level>,
    log: String,
    results: usize,
    doubts: Vec<String>,
}

impl Reader {
    fn doubt(&mut self, what: impl Into<String>) {
        if self.doubts.len() < MAX_DOUBTS {
            self.doubts.push(what.into());
        }
    }

    fn line(&mut self, line: &str) {
        let text = line.trim_start_matches([' ', '\t']);
        // A tab is one level: KUnit used to print them.
        let blanks = &line[..line.len() - text.len()];
        let indent = blanks.chars().map(|blank| if blank == '\t' { 4 } else { 1 }).sum();
        if let Some(why) = text.strip_prefix("Bail out!") {
            self.doubt(format!("it gave up:{why}"));
        } else if text.starts_with("KTAP version ") || text.starts_with("TAP version ") {
            self.version(indent);
        } else if let Some((count, skipped)) = plan(text) {
            self.plan(indent, count, skipped);
        } else if let Some(found) = result(text) {
            self.result(indent, &found);
        } else {
            if let Some(name) = text.strip_prefix("# Subtest: ") {
                self.header(indent, name);
            }
            self.log.push_str(line);
            self.log.push('\n');
        }
    }

    /// Indentation of the innermost open level.
    fn open(&self) -> usize {
        self.levels.last().map_or(0, |level| level.indent)
    }

    /// Opens a nested report if these lines are indented enough for one.
    fn nest(&mut self, indent: usize) -> bool {
        let nests = indent >= self.open() + 2 && self.levels.first().is_some_and(|top| top.versions > 0);
        if nests && self.levels.len() >= MAX_DEPTH {
            self.doubt("it is nested too deeply");
        } else if nests {
            self.levels.push(Level { indent, ..Level::default() });
        }
        nests
    }

    fn version(&mut self, indent: usize) {
        self.nest(indent);
        let nested = self.levels.len() > 1;
        let Some(level) = self.levels.last_mut() else { return };
        if !nested && level.versions == 0 && level.seen == 0 {
            level.indent = indent;
        }
        if indent != level.indent {
            return self.doubt("a version line is nested without a parent");
        }
        // Complete reports may follow one another, as in the results of several suites.
        if !nested && level.is_complete() {
            (level.planned, level.seen) = (None, 0);
            return;
        }
        level.versions += 1;
        if level.versions > 1 {
            self.doubt("it begins twice");
        }
    }

    fn header(&mut self, indent: usize, name: &str) {
        self.nest(indent);
        let nested = self.levels.len() > 1;
        if let Some(level) = self.levels.last_mut().filter(|level| nested && level.indent == indent) {
            level.header = name.trim().to_owned();
        }
    }

    fn plan(&mut self, indent: usize, count: u64, skipped: Option<String>) {
        // A nested report may omit its version line.
        self.nest(indent);
        let Some(level) = self.levels.last_mut() else { return };
        if indent != level.indent {
            return self.doubt("a plan is nested without a parent");
        }
        level.skipped = skipped;
        if level.planned.replace(count).is_some() {
            self.doubt("it has two plans");
        }
    }

    /// What the tests below a result say of it: all of them skipped make it a skip.
    fn close(&mut self, children: &mut Level, found: &Found<'_>, said: &mut Said, reason: &mut String) {
        if !children.header.is_empty() && children.header != found.name {
            self.doubt(format!("what is below {} calls itself {}", found.name, children.header));
        }
        let nothing = children.seen == 0;
        match children.skipped.take().filter(|_| nothing) {
            Some(skipped) => {
                *said = if *said == Said::Ok { Said::Skip } else { *said };
                *reason = if reason.is_empty() { skipped } else { std::mem::take(reason) };
            }
            // The result itself says that the level is over, so its plan may be missing.
            None if children.planned.is_none() && (!nothing || *said != Said::Ok) => (),
            None => self.check(children, found.name),
        }
    }

    fn result(&mut self, indent: usize, found: &Found<'_>) {
        self.results += 1;
        if self.results > MAX_RESULTS {
            return self.doubt("it has too many results");
        }
        let Some(depth) = self.levels.iter().rposition(|level| level.indent == indent) else {
            return self.doubt(format!("the result {:?} is nested without a parent", found.name));
        };
        while self.levels.len() > depth + 2 {
            self.doubt("a nested test has no result of its own");
            self.leave_open_level();
        }
        let (mut said, mut reason, mut below) = (found.said, found.reason.to_owned(), Vec::new());
        if self.levels.len() == depth + 2 {
            if let Some(mut children) = self.levels.pop() {
                self.close(&mut children, found, &mut said, &mut reason);
                below = children.leaves;
            }
        }
        let failed_below = below.iter().any(|leaf| leaf.said == Said::NotOk);
        if failed_below && said == Said::Ok {
            self.doubt(format!("{} is ok, and something below it is not", found.name));
        }
        if said == Said::Ok && self.log.lines().any(quotes_a_failure) {
            self.doubt(format!("{} is ok, and what it ran printed a result that is not", found.name));
        }
        let own = below.is_empty() || (said == Said::NotOk && !failed_below);
        let log = std::mem::take(&mut self.log);
        let nested = self.levels.len() > 1;
        let Some(level) = self.levels.last_mut() else { return };
        level.seen += 1;
        let expected = level.seen;
        // KUnit names parameters by their values, and two may be equal.
        let name = match found.number.filter(|_| nested && level.names.contains(found.name)) {
            Some(number) => format!("{} ({number})", found.name),
            None => found.name.to_owned(),
        };
        let new = level.names.insert(name.clone());
        let prefix = |leaf: Leaf| Leaf { name: format!("{name}/{}", leaf.name), ..leaf };
        let leaf = own.then(|| Leaf { name: name.clone(), said, reason, log });
        level.leaves.extend(below.into_iter().map(prefix));
        level.leaves.extend(leaf);
        if found.number != Some(expected) {
            self.doubt(format!("{} is number {}, after {}", found.name, shown(found.number), expected - 1));
        }
        if !new {
            self.doubt(format!("{} is reported twice", found.name));
        }
    }

    /// A level that was never closed: its leaves are kept, and the doubt has been recorded.
    fn leave_open_level(&mut self) {
        if let (Some(level), Some(outer)) = (self.levels.pop(), self.levels.last_mut()) {
            outer.leaves.extend(level.leaves);
        }
    }

    fn check(&mut self, level: &Level, what: &str) {
        match level.planned {
            None => self.doubt(format!("{what} has no plan")),
            Some(0) if level.seen == 0 && level.skipped.is_some() => (),
            Some(0) => self.doubt(format!("{what} plans nothing")),
            Some(planned) if planned != level.seen => {
                self.doubt(format!("{what} plans {planned} results and has {}", level.seen));
            }
            Some(_) => (),
        }
    }
}

fn shown(number: Option<u64>) -> String {
    number.map_or("none".to_owned(), |number| number.to_string())
}

/// `1..N`; with `# SKIP why` after it, nothing ran.
fn plan(text: &str) -> Option<(u64, Option<String>)> {
    let rest = text.strip_prefix("1..")?;
    let count = rest.split([' ', '#']).next()?.parse().ok()?;
    let directive = rest.split_once('#').map_or("", |(_, directive)| directive.trim());
    let (word, why) = directive.split_once(' ').unwrap_or((directive, ""));
    Some((count, is_skip(word).then(|| why.trim().to_owned())))
}

/// TAP allows any word that starts like this, such as `skipped:`.
fn is_skip(word: &str) -> bool {
    word.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("skip"))
}

/// A failure of a nested program, as the kselftest runner shows it: prefixed with `# `.
fn quotes_a_failure(line: &str) -> bool {
    let text = line.trim_start_matches(['#', ' ', '\t']);
    text.len() < line.len()
        && (text.starts_with("Bail out!") || result(text).is_some_and(|found| found.said == Said::NotOk))
}

struct Found<'a> {
    said: Said,
    number: Option<u64>,
    name: &'a str,
    reason: &'a str,
}

/// `ok 3 - name # SKIP reason`; the dash is optional, and kselftest's `ok 3 # SKIP name` is accepted.
fn result(text: &str) -> Option<Found<'_>> {
    let (ok, rest) = match text.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("ok")?),
    };
    if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
        return None;
    }
    let rest = rest.trim_start();
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = rest.split_at(digits);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix("- ").unwrap_or(rest);
    let (name, said, reason) = directive(ok, rest);
    let (name, reason) = if name.is_empty() { (reason, "") } else { (name, reason) };
    let name = if name.is_empty() { number } else { name };
    Some(Found { said, number: number.parse().ok(), name, reason })
}

/// Splits a description from its directive. Either may contain a `#`, so the first directive word after a `#`
/// decides: a skip must not count as a pass because of the text before it.
fn directive(ok: bool, text: &str) -> (&str, Said, &str) {
    let plain = if ok { Said::Ok } else { Said::NotOk };
    for (at, _) in text.match_indices('#') {
        let rest = text[at + 1..].trim_start();
        let (word, reason) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
        let upper = word.trim_end_matches(':').to_ascii_uppercase();
        let said = match upper.as_str() {
            _ if is_skip(word) => Said::Skip,
            "XFAIL" => Said::Xfail,
            _ if upper.starts_with("TODO") => Said::Xfail,
            "TIMEOUT" | "ERROR" => Said::NotOk,
            // It passes, and the unexpected pass is not an error.
            "XPASS" => plain,
            _ => continue,
        };
        return (text[..at].trim_end(), said, reason.trim());
    }
    match text.split_once("# ") {
        Some((name, data)) => (name.trim_end(), plain, if ok { "" } else { data.trim() }),
        None => (text, plain, ""),
    }
}

#[cfg(test)]
mod tests;
