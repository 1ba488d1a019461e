// SPDX-License-Identifier: MIT OR Apache-2.0
//! KTAP (Documentation/dev-tools/ktap.rst of the kernel), as programs print it, to results. Pure.
//!
//! Only a whole report is believed: one version line, one plan that comes true, numbers without a hole, no name twice, a
//! parent that agrees with its children. Whatever does not fit is a doubt ([`Report::doubts`]), and with a doubt
//! nothing of it is a pass. Lines that are no KTAP are a log.

use std::collections::BTreeSet;

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
    versions: u32,
    planned: Option<u64>,
    seen: u64,
    names: BTreeSet<String>,
    /// Leaves of this level and below.
    leaves: Vec<Leaf>,
}

/// Reads what one program printed.
pub fn read(text: &str) -> Report {
    let mut reader = Reader { levels: vec![Level::default()], ..Reader::default() };
    for line in text.lines() {
        reader.line(line.trim_end());
    }
    while reader.levels.len() > 1 {
        reader.doubt("it ended inside of a nested test");
        reader.leave_open_level();
    }
    let top = reader.levels.pop().unwrap_or_default();
    reader.check(&top, "the report");
    if top.versions == 0 {
        reader.doubt("no version line: this is no KTAP");
    }
    Report { leaves: top.leaves, doubts: reader.doubts }
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
        let text = line.trim_start_matches(' ');
        let indent = line.len() - text.len();
        let depth = indent / 2;
        if let Some(why) = text.strip_prefix("Bail out!") {
            self.doubt(format!("it gave up:{why}"));
        } else if text.starts_with("KTAP version ") || text.starts_with("TAP version ") {
            self.version(depth);
        } else if let Some(count) = plan(text) {
            self.plan(depth, count);
        } else if let Some(found) = result(text) {
            self.result(depth, &found);
        } else {
            self.log.push_str(line);
            self.log.push('\n');
        }
    }

    fn version(&mut self, depth: usize) {
        if depth >= MAX_DEPTH {
            return self.doubt("it is nested too deeply");
        }
        match depth + 1 {
            open if open == self.levels.len() + 1 => self.levels.push(Level::default()),
            // Some programs print the version of a nested report without indenting it; they also print its plan so.
            open if open == self.levels.len() => (),
            _ => return self.doubt("a version line stands at a depth that nothing leads to"),
        }
        let doubled = self.levels.last_mut().is_some_and(|level| {
            level.versions += 1;
            level.versions > 1
        });
        if doubled {
            self.doubt("it begins twice");
        }
    }

    fn plan(&mut self, depth: usize, count: u64) {
        // A nested report may leave out its version line.
        if depth == self.levels.len() && depth < MAX_DEPTH {
            self.levels.push(Level { versions: 1, ..Level::default() });
        }
        if depth + 1 != self.levels.len() {
            return self.doubt("a plan stands at a depth that nothing leads to");
        }
        let again = self.levels.last_mut().is_some_and(|level| level.planned.replace(count).is_some());
        if again {
            self.doubt("it has two plans");
        }
    }

    fn result(&mut self, depth: usize, found: &Found<'_>) {
        self.results += 1;
        if self.results > MAX_RESULTS {
            return self.doubt("it has too many results");
        }
        if depth + 1 > self.levels.len() {
            return self
                .doubt(format!("the result {:?} stands at a depth that nothing leads to", found.name));
        }
        while self.levels.len() > depth + 2 {
            self.doubt("a nested test has no result of its own");
            self.leave_open_level();
        }
        let children = if self.levels.len() == depth + 2 { self.levels.pop() } else { None };
        let mut below = Vec::new();
        if let Some(children) = children {
            self.check(&children, found.name);
            below = children.leaves;
        }
        let failed_below = below.iter().any(|leaf| leaf.said == Said::NotOk);
        if failed_below && found.said == Said::Ok {
            self.doubt(format!("{} is ok, and something below it is not", found.name));
        }
        let own = below.is_empty() || (found.said == Said::NotOk && !failed_below);
        let leaf = own.then(|| Leaf {
            name: found.name.to_owned(),
            said: found.said,
            reason: found.reason.to_owned(),
            log: std::mem::take(&mut self.log),
        });
        let prefix = |leaf: Leaf| Leaf { name: format!("{}/{}", found.name, leaf.name), ..leaf };
        let Some(level) = self.levels.last_mut() else { return };
        level.seen += 1;
        let (expected, new) = (level.seen, level.names.insert(found.name.to_owned()));
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

/// `1..N`; with `# SKIP` behind it the whole program was skipped, which leaves a plan of nothing.
fn plan(text: &str) -> Option<u64> {
    let count = text.strip_prefix("1..")?;
    count.split_whitespace().next()?.parse().ok()
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
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    let rest = rest.trim_start();
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = rest.split_at(digits);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix("- ").unwrap_or(rest);
    let (name, directive) = match rest.split_once("# ") {
        Some((name, directive)) => (name.trim_end(), directive),
        None => (rest, ""),
    };
    let (word, reason) = directive.split_once(' ').unwrap_or((directive, ""));
    let said = match (ok, word.trim_end_matches(':').to_ascii_uppercase().as_str()) {
        (_, "SKIP") => Said::Skip,
        (_, "XFAIL" | "TODO") => Said::Xfail,
        (_, "TIMEOUT" | "ERROR") | (false, _) => Said::NotOk,
        (true, _) => Said::Ok,
    };
    let (name, reason) = if name.is_empty() { (reason, "") } else { (name, reason) };
    let reason = if said == Said::Ok { "" } else { reason };
    Some(Found { said, number: number.parse().ok(), name, reason })
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
    /// As KUnit prints it, with the time stamps of the console removed.
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
        for whole in [FLAT, NESTED] {
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
            ("KTAP version 1\n1..0 # SKIP no device\n", "plans nothing"),
            ("KTAP version 1\nok 1 a\n", "has no plan"),
            ("KTAP version 1\n1..2\nok 1 a\n", "plans 2 results and has 1"),
            ("KTAP version 1\n1..1\nok 1 a\nok 2 b\n", "plans 1 results and has 2"),
            ("KTAP version 1\n1..2\nok 1 a\nok 3 b\n", "b is number 3, after 1"),
            ("KTAP version 1\n1..2\nok 1 a\nok 2 a\n", "a is reported twice"),
            ("KTAP version 1\n1..1\nok a\n", "a is number none"),
            ("KTAP version 1\n1..1\n1..1\nok 1 a\n", "two plans"),
            ("KTAP version 1\nKTAP version 1\n1..1\nok 1 a\n", "begins twice"),
            ("KTAP version 1\n1..1\nok 1 a\nBail out! no memory\n", "it gave up: no memory"),
            (
                "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  not ok 1 a\nok 1 b\n",
                "b is ok, and something below",
            ),
            ("KTAP version 1\n1..1\n      ok 1 a\nok 1 b\n", "stands at a depth"),
        ] {
            let report = read(text);
            assert!(report.doubts.iter().any(|said| said.contains(doubt)), "{text:?}: {:?}", report.doubts);
        }
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
