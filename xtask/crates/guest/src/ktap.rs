// SPDX-License-Identifier: MIT OR Apache-2.0
//! KTAP (Documentation/dev-tools/ktap.rst of the kernel) to results, as programs, kselftest and KUnit really print it: nested
//! by any indentation, also behind the time stamps of the kernel's log, several whole reports one after the other. Pure.
//!
//! Only a whole report is believed: a version line, a plan that comes true, numbers without a hole, no name twice (a nested
//! one gets its number behind it, so that a plan has to name both), a parent that agrees with its children. Whatever does not fit is a doubt ([`Report::doubts`]), and with a doubt
//! nothing of it is a pass. Lines that are no KTAP are a log.
//!
//! How it could be wrong: KUnit announces no number of parameters, so a nested report may come without a plan, and one of its
//! results can be lost on the way without a doubt. The plan of the suite names each result, and misses it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

/// What a result line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// `ok`
    Ok,
    /// `not ok`, also `# TIMEOUT` and `# ERROR`.
    NotOk,
    /// `# SKIP`, whatever stands before it.
    Skip,
    /// `# XFAIL`: a failure that was expected.
    Xfail,
}

/// A leaf: a result without results below it, or a parent that failed by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its name, below those of its parents, parted by slashes.
    pub name: String,
    /// How it ended.
    pub said: Said,
    /// What stands behind the directive; empty without one.
    pub reason: String,
    /// What was printed before its line and after the one before.
    pub log: String,
}

/// What a program said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// In their order.
    pub leaves: Vec<Leaf>,
    /// What does not fit together.
    pub doubts: Vec<String>,
    /// Why nothing was run, where the plan says so: `1..0 # SKIP why`. `None` where something was.
    pub skipped: Option<String>,
}

/// Deepest nesting that is read; more is a doubt.
const MAX_DEPTH: usize = 8;
/// Most results that are read; more is a doubt.
const MAX_RESULTS: usize = 10_000;
/// Most doubts that are kept.
const MAX_DOUBTS: usize = 20;

/// One level of nesting that is open.
#[derive(Debug, Default)]
struct Level {
    /// Columns that its lines are indented by.
    indent: usize,
    versions: u32,
    planned: Option<u64>,
    /// Why its plan is of nothing; `None` where it does not say.
    skipped: Option<String>,
    /// What `# Subtest:` calls it; empty without one.
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

/// What the kernel's log has in front of a line: a priority, a time (`dmesg`, `dmesg -T`, `dmesg -x`), a thread or CPU.
#[expect(clippy::unwrap_used, reason = "a constant pattern; the tests compile it")]
static LOG_PREFIX: LazyLock<Regex> = LazyLock::new(|| {
    let priority = r"(<\d+>|\w+ *:\w+ *: )?";
    let time = r"\[( *\d+\.\d+|\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4})\]";
    Regex::new(&format!(r"^{priority}{time}(\[ *[TC]\d+\])? ?")).unwrap()
});

/// Reads what one program printed.
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
        // A tab is one level: KUnit used them once.
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

    /// How far the innermost level that is open is indented.
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
        // Whole reports may follow one another, as in the results of several suites.
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
        // A nested report may leave out its version line.
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
        let children = if self.levels.len() == depth + 2 { self.levels.pop() } else { None };
        let (mut below, mut said, mut reason) = (Vec::new(), found.said, found.reason);
        let why;
        if let Some(mut children) = children {
            if !children.header.is_empty() && children.header != found.name {
                self.doubt(format!("what is below {} calls itself {}", found.name, children.header));
            }
            let nothing = children.seen == 0;
            match children.skipped.take().filter(|_| nothing) {
                Some(skipped) => {
                    why = skipped;
                    said = if said == Said::Ok { Said::Skip } else { said };
                    reason = if reason.is_empty() { &why } else { reason };
                }
                // Its own result says that it is over, so its plan may be missing.
                None if children.planned.is_none() && (!nothing || said != Said::Ok) => (),
                None => self.check(&children, found.name),
            }
            below = children.leaves;
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
        let leaf = own.then(|| Leaf { name: name.clone(), said, reason: reason.to_owned(), log });
        level.leaves.extend(below.into_iter().map(prefix));
        level.leaves.extend(leaf);
        if found.number != Some(expected) {
            self.doubt(format!("{} is number {}, after {}", found.name, shown(found.number), expected - 1));
        }
        if !new {
            self.doubt(format!("{} is reported twice", found.name));
        }
    }

    /// A level that nobody closed: what it holds stays, and the doubt was said.
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

/// `1..N`; with `# SKIP why` behind it nothing was run.
fn plan(text: &str) -> Option<(u64, Option<String>)> {
    let rest = text.strip_prefix("1..")?;
    let count = rest.split([' ', '#']).next()?.parse().ok()?;
    let directive = rest.split_once('#').map_or("", |(_, directive)| directive.trim());
    let (word, why) = directive.split_once(' ').unwrap_or((directive, ""));
    Some((count, is_skip(word).then(|| why.trim().to_owned())))
}

/// TAP takes any word that begins so, such as `skipped:`.
fn is_skip(word: &str) -> bool {
    word.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("skip"))
}

/// A failure of a program that another one ran, as the runner of kselftest shows it: behind `# `.
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

/// `ok 3 - name # SKIP reason`; the dash, and kselftest's `ok 3 # SKIP name`, are read as well.
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

/// Splits a description from its directive. A `#` may stand in either, so the first word behind one that is a directive
/// decides: a skip must not be taken for a pass because of what stands before it.
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
            // It passes, and that is news.
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
mod tests {
    use super::*;

    fn names(report: &Report) -> Vec<(&str, Said)> {
        report.leaves.iter().map(|leaf| (leaf.name.as_str(), leaf.said)).collect()
    }

    /// As kselftest's harness prints it.
    const FLAT: &str = "TAP version 13\n1..4\n# Starting 4 tests\nok 1 global.opens\n# expected 3 (3)\n\
                        not ok 2 global.reads\nok 3 - global.waits # SKIP no such device\nok 4 # XFAIL global.old\n\
                        # Totals: pass:1 fail:1 xfail:1 xpass:0 skip:1 error:0\n";
    /// With the two spaces a level that the kernel's documentation has.
    const NESTED: &str = "KTAP version 1\n1..2\n  KTAP version 1\n  # Subtest: list\n  1..2\n  ok 1 list_add\n\
                          \x20   KTAP version 1\n    1..1\n    ok 1 inner\n  ok 2 list_del\n# list: pass:2\nok 1 list\n\
                          ok 2 alone\n";

    #[test]
    fn results_of_one_level() {
        let report = read(FLAT);
        assert_eq!(report.doubts, [""; 0]);
        assert_eq!(
            names(&report),
            [
                ("global.opens", Said::Ok),
                ("global.reads", Said::NotOk),
                ("global.waits", Said::Skip),
                ("global.old", Said::Xfail),
            ]
        );
        assert_eq!(report.leaves[2].reason, "no such device");
        assert_eq!(report.leaves[1].log, "# expected 3 (3)\n");
    }

    #[test]
    fn nested_results_have_their_parents_names() {
        let report = read(NESTED);
        assert_eq!(report.doubts, [""; 0]);
        assert_eq!(
            names(&report),
            [("list/list_add", Said::Ok), ("list/list_del/inner", Said::Ok), ("alone", Said::Ok)]
        );
    }

    #[test]
    fn a_report_cut_anywhere_is_doubtful() {
        for whole in [FLAT, NESTED, KUNIT] {
            let end = whole.rfind("ok ").expect("a last result") + 4;
            for cut in (0..end).filter(|cut| whole.is_char_boundary(*cut)) {
                assert!(!read(&whole[..cut]).doubts.is_empty(), "{:?}", &whole[..cut]);
            }
        }
    }

    #[test]
    fn what_does_not_fit_together_is_doubtful() {
        for (text, doubt) in [
            ("", "no version line"),
            ("1..1\nok 1 a\n", "no version line"),
            ("KTAP version 1\n1..0\n", "plans nothing"),
            ("KTAP version 1\n1..0 # no device\n", "plans nothing"),
            ("1..0 # SKIP no device\n", "no version line"),
            ("KTAP version 1\n1..0 # SKIP no device\nok 1 a\n", "plans nothing"),
            ("KTAP version 1\n1..0 # SKIP no device\nKTAP version 1\n1..1\nok 1 a\n", "begins twice"),
            ("KTAP version 1\n1..2\nok 1 a\nKTAP version 1\n1..1\nok 1 b\n", "begins twice"),
            ("KTAP version 1\n1..1\nok 1 a\nKTAP version 1\n1..1\nok 1 a\n", "a is reported twice"),
            ("KTAP version 1\n1..1\n    # Subtest: x\n    ok 1 a\nok 1 b\n", "below b calls itself x"),
            ("KTAP version 1\n1..1\n    KTAP version 1\nok 1 b\n", "b has no plan"),
            ("KTAP version 1\n1..1\n    1..0\nok 1 b\n", "b plans nothing"),
            (
                "TAP version 13\n1..1\n# TAP version 13\n# 1..1\n# not ok 1 a\nok 1 b\n",
                "printed a result that is not",
            ),
            ("TAP version 13\n1..1\n# Bail out! no memory\nok 1 b\n", "printed a result that is not"),
            ("KTAP version 1\nok 1 a\n", "has no plan"),
            ("KTAP version 1\n1..2\nok 1 a\n", "plans 2 results and has 1"),
            ("KTAP version 1\n1..1\nok 1 a\nok 2 b\n", "plans 1 results and has 2"),
            ("KTAP version 1\n1..2\nok 1 a\nok 3 b\n", "b is number 3, after 1"),
            ("KTAP version 1\n1..2\nok 1 a\nok 2 a\n", "a is reported twice"),
            (
                "KTAP version 1\n1..1\n    1..3\n    ok 1 a (3)\n    ok 2 a\n    ok 3 a\nok 1 b\n",
                "a is reported twice",
            ),
            ("KTAP version 1\n1..1\nok a\n", "a is number none"),
            ("KTAP version 1\n1..1\n1..1\nok 1 a\n", "two plans"),
            ("KTAP version 1\nKTAP version 1\n1..1\nok 1 a\n", "begins twice"),
            ("KTAP version 1\n1..1\nok 1 a\nBail out! no memory\n", "it gave up: no memory"),
            (
                "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  not ok 1 a\nok 1 b\n",
                "b is ok, and something below",
            ),
            ("KTAP version 1\n1..1\n      ok 1 a\nok 1 b\n", "is nested without a parent"),
        ] {
            let report = read(text);
            assert!(report.doubts.iter().any(|said| said.contains(doubt)), "{text:?}: {:?}", report.doubts);
        }
    }

    /// KUnit's own example as debugfs shows it: one test with parameters, whose number is not announced.
    const KUNIT: &str = "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: example\n    1..4\n\
                         \x20   # example_simple_test: initializing\n    ok 1 example_simple_test\n\
                         \x20   ok 2 example_skip_test # SKIP this test should be skipped\n\
                         \x20       KTAP version 1\n\n        # Subtest: example_params_test\n\
                         \x20       ok 1 example value 3\n\
                         \x20       ok 2 example value 0 # SKIP unsupported param value 0\n\
                         \x20       ok 3 example value 3\n\
                         \x20   # example_params_test: pass:2 fail:0 skip:1 total:3\n    ok 3 example_params_test\n\
                         \x20   # example_slow_test.speed: slow\n    ok 4 example_slow_test\n\
                         # example: initializing suite\n# example: pass:3 fail:0 skip:1 total:4\n\
                         # Totals: pass:3 fail:0 skip:2 total:5\nok 1 example\n";

    #[test]
    fn kunit_is_read_as_debugfs_and_the_log_of_the_kernel_show_it() {
        let expected = [
            ("example/example_simple_test", Said::Ok),
            ("example/example_skip_test", Said::Skip),
            ("example/example_params_test/example value 3", Said::Ok),
            ("example/example_params_test/example value 0", Said::Skip),
            ("example/example_params_test/example value 3 (3)", Said::Ok),
            ("example/example_slow_test", Said::Ok),
        ];
        let behind =
            |prefix: &str| -> String { KUNIT.lines().map(|line| format!("{prefix}{line}\n")).collect() };
        let boot = "[    0.060000] printk: console [mc-1] enabled\n";
        let old = KUNIT
            .replace("    ", "\t")
            .replace("\tKTAP version 1\n", "")
            .replace("KTAP version 1", "TAP version 14");
        for text in [
            KUNIT.to_owned(),
            format!("{boot}{}{boot}", behind("[    0.060000] ")),
            behind("<6>[   12.345678] "),
            behind("[    0.060000][    T1] "),
            behind("[Fri Nov 27 14:43:31 2026] "),
            behind("kern  :info  : [    0.060000] "),
            behind(" "),
            KUNIT.replace("    ", "  "),
            KUNIT.replace('\n', "\r\n"),
            old.replace("ok 1 example_simple", "ok 1 - example_simple"),
        ] {
            let report = read(&text);
            assert_eq!(report.doubts, [""; 0], "{text}");
            assert_eq!(names(&report), expected, "{text}");
            assert_eq!(report.leaves[1].reason, "this test should be skipped");
        }
        // One after the other, as `cat /sys/kernel/debug/kunit/*/results` shows them.
        let two = read(&(KUNIT.to_owned() + &KUNIT.replace(" example\n", " other\n")));
        assert_eq!((two.doubts.len(), two.leaves.len()), (0, 12), "{:?}", two.doubts);
        assert_eq!(two.leaves[6].name, "other/example_simple_test");
        let failed = read(&KUNIT.replace("        ok 1", "        not ok 1"));
        assert!(failed.doubts[0].contains("something below it is not"), "{:?}", failed.doubts);
    }

    #[test]
    fn nothing_that_is_to_run_is_a_skip() {
        let whole = read("TAP version 13\n1..0 # SKIP this machine has no such device\n");
        assert_eq!((whole.doubts.len(), whole.leaves.len()), (0, 0));
        assert_eq!(whole.skipped.as_deref(), Some("this machine has no such device"));
        assert_eq!(read("TAP version 13\n1..0 # Skipped: x\n").skipped.as_deref(), Some("x"));
        for parent in ["ok 1 a", "ok 1 a # SKIP none"] {
            let below =
                read(&format!("KTAP version 1\n1..1\n    KTAP version 1\n    1..0 # SKIP none\n{parent}\n"));
            assert_eq!(below.doubts, [""; 0]);
            assert_eq!((names(&below), &below.leaves[0].reason[..]), (vec![("a", Said::Skip)], "none"));
        }
        let failed = read("KTAP version 1\n1..1\n    KTAP version 1\n    1..0 # SKIP none\nnot ok 1 a\n");
        assert_eq!(names(&failed), [("a", Said::NotOk)]);
    }

    #[test]
    fn a_directive_is_found_wherever_it_stands() {
        let one = |line: &str| {
            let report = read(&format!("KTAP version 1\n1..1\n{line}\n"));
            assert_eq!(report.doubts, [""; 0], "{line}");
            let leaf = report.leaves.into_iter().next().expect("a leaf");
            (leaf.name, leaf.said, leaf.reason)
        };
        let is = |name: &str, said, reason: &str| (name.to_owned(), said, reason.to_owned());
        for (line, expected) in [
            ("ok 1 a # SKIP", is("a", Said::Skip, "")),
            ("ok 1 a #SKIP why", is("a", Said::Skip, "why")),
            ("ok 1 a # skipped: why not", is("a", Said::Skip, "why not")),
            ("ok 1 # SKIP", is("1", Said::Skip, "")),
            ("ok 1 a # b # SKIP why", is("a # b", Said::Skip, "why")),
            ("ok 1 a #12", is("a #12", Said::Ok, "")),
            ("ok 1 a # rcode=0", is("a", Said::Ok, "")),
            ("ok 1 - a #  took 3 s", is("a", Said::Ok, "")),
            ("not ok 1 - a # exit=1", is("a", Said::NotOk, "exit=1")),
            ("not ok 1 a # TODO later", is("a", Said::Xfail, "later")),
            ("ok 1 a # XFAIL known", is("a", Said::Xfail, "known")),
            ("ok 1 a # XPASS known", is("a", Said::Ok, "known")),
            ("not ok 1 a # XPASS known", is("a", Said::NotOk, "known")),
            ("ok 1 a # error none", is("a", Said::NotOk, "none")),
            ("ok 1", is("1", Said::Ok, "")),
        ] {
            assert_eq!(one(line), expected, "{line}");
        }
    }

    #[test]
    fn a_runner_quotes_what_it_ran() {
        let text = "TAP version 13\n1..2\n# timeout set to 45\n# selftests: x: one\n# TAP version 13\n# 1..2\n# ok 1 a\n\
                    # ok 2 b # SKIP none\n# # Totals: pass:1\nok 1 selftests: x: one\n# selftests: x: two\n# TAP version 13\n\
                    # 1..0 # SKIP no device\nok 2 selftests: x: two # SKIP\n";
        let report = read(text);
        assert_eq!(report.doubts, [""; 0]);
        assert_eq!(names(&report), [("selftests: x: one", Said::Ok), ("selftests: x: two", Said::Skip)]);
    }

    #[test]
    fn a_parent_that_fails_by_itself_is_a_result() {
        let report = read("KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  ok 1 a\nnot ok 1 b\n");
        assert_eq!(names(&report), [("b/a", Said::Ok), ("b", Said::NotOk)]);
        assert_eq!(report.doubts, [""; 0]);
    }

    #[test]
    fn a_log_is_no_result() {
        let report = read("KTAP version 1\n1..1\nokay 1 x\nnot okay\nok 1 a\n");
        assert_eq!(
            (names(&report), report.leaves[0].log.as_str()),
            (vec![("a", Said::Ok)], "okay 1 x\nnot okay\n")
        );
    }

    #[test]
    fn a_timeout_is_a_failure_whatever_stands_before_it() {
        assert_eq!(names(&read("KTAP version 1\n1..1\nok 1 a # TIMEOUT 45 s\n")), [("a", Said::NotOk)]);
    }
}
