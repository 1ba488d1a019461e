// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parses the output of the kernel's own `test_progs`, run for one test, into results of that test and its
//! subtests. Pure.
//!
//! The output is made for humans, and an incomplete run can easily look like a pass: a process that exits
//! with 0 may have skipped everything, a failing test is printed twice, a log may contain lines that look
//! like results. So a [`Report`] also lists inconsistencies ([`Report::doubts`]); with a doubt, nothing in it
//! passes.

use std::sync::LazyLock;

use regex::Regex;
use vmtest_protocol::OUTPUT_CUT;

/// The verdict of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// `OK`
    Ok,
    /// `FAIL`
    Fail,
    /// `SKIP`
    Skip,
    /// `OK (SKIP: x/y)`: some subtests were skipped.
    SomeSkipped(u32, u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subtest {
    /// Its number in the test, from 1.
    pub number: u32,
    /// Its name, which may contain blanks, colons and slashes.
    pub name: String,
    pub said: Said,
    /// What was printed between the previous result line and this one.
    pub log: String,
}

/// The last line of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    pub passed: u32,
    pub subtests_passed: u32,
    /// Subtests, and tests as a whole, that were skipped.
    pub skipped: u32,
    /// Chosen tests that are not in the binary; 0 if the line does not say.
    pub not_built: u32,
    pub failed: u32,
    /// Subtests with an error; `None` if the line does not say.
    pub subtests_failed: Option<u32>,
}

/// What one run of `test_progs` reported.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Subtests in the order of the output.
    pub subtests: Vec<Subtest>,
    /// The test as a whole; `None` without such a line.
    pub whole: Option<Said>,
    /// The last line; `None` if it is missing.
    pub summary: Option<Summary>,
    /// What was printed outside of any subtest.
    pub log: String,
    /// The kernel could not load `bpf_testmod`, so the tests that need it are skipped.
    pub without_testmod: bool,
    pub doubts: Vec<String>,
}

#[expect(clippy::unwrap_used, reason = "constant patterns; the tests compile them")]
static RESULT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^#(\d+)(?:/(\d+))?\s+(.*):(OK|FAIL|SKIP|OK \(SKIP: (\d+)/(\d+)\))$").unwrap()
});
#[expect(clippy::unwrap_used, reason = "constant patterns; the tests compile them")]
static SUMMARY: LazyLock<Regex> =
    // Up to 6.18 `0 FAILED`; 7.3 adds the subtests, and the listed tests that the binary does not contain.
    LazyLock::new(|| {
        Regex::new(
            r"^Summary: (\d+)/(\d+) PASSED, (\d+) SKIPPED(?: \((\d+) not built\))?, (\d+)(?:/(\d+))? FAILED$",
        )
        .unwrap()
    });
/// After this line the results of failing tests are printed again.
const AGAIN: &str = "All error logs:";
const NO_TESTMOD: &str = "WARNING! Selftests relying on bpf_testmod.ko will be skipped.";

/// Parses the output of a run of `test` alone. `whole` means that all of its subtests had to run, so that
/// their numbers may not have gaps; `exit` is the exit status, `None` if a signal or the time limit ended it.
pub fn read(test: &str, text: &str, whole: bool, exit: Option<i32>) -> Report {
    let mut report = Report::default();
    let mut log = String::new();
    let mut again = false;
    for line in text.lines() {
        if let Some(summary) = summary(line) {
            if report.summary.replace(summary).is_some() {
                report.doubt("it has two summaries");
            }
            continue;
        }
        if again {
            continue;
        }
        if line == AGAIN {
            again = true;
            continue;
        }
        if line == NO_TESTMOD {
            report.without_testmod = true;
        }
        if line == OUTPUT_CUT {
            report.doubt("it printed more than is kept");
        }
        match result(test, line) {
            Some((None, _, said)) => {
                if report.whole.replace(said).is_some() {
                    report.doubt(format!("{test} is reported twice"));
                }
                report.log.push_str(&std::mem::take(&mut log));
            }
            Some((Some(number), name, said)) => {
                if report.whole.is_some() {
                    report.doubt(format!("subtest {number} comes after the end of {test}"));
                }
                let name = report.unique(name, number);
                report.subtests.push(Subtest { number, name, said, log: std::mem::take(&mut log) });
            }
            None => {
                log.push_str(line);
                log.push('\n');
            }
        }
    }
    report.log.push_str(&log);
    report.check(test, whole, exit);
    report
}

/// A result line: the number of the subtest (`None` for the test as a whole), its name, its verdict. Result
/// lines of another test are treated as log lines.
fn result<'a>(test: &str, line: &'a str) -> Option<(Option<u32>, &'a str, Said)> {
    let found = RESULT.captures(line)?;
    let number = |at: usize| found.get(at).and_then(|text| text.as_str().parse::<u32>().ok());
    let said = match found.get(4)?.as_str() {
        "OK" => Said::Ok,
        "FAIL" => Said::Fail,
        "SKIP" => Said::Skip,
        _ => Said::SomeSkipped(number(5)?, number(6)?),
    };
    let name = found.get(3)?.as_str();
    match found.get(2) {
        None => (name == test).then_some((None, "", said)),
        Some(_) => {
            let subtest = name.strip_prefix(test)?.strip_prefix('/')?;
            Some((Some(number(2)?), subtest, said))
        }
    }
}

fn summary(line: &str) -> Option<Summary> {
    let found = SUMMARY.captures(line)?;
    // A number that is too long to parse does not make a summary.
    let number = |at: usize| found.get(at).map(|text| text.as_str().parse::<u32>()).transpose().ok();
    Some(Summary {
        passed: number(1)??,
        subtests_passed: number(2)??,
        skipped: number(3)??,
        not_built: number(4)?.unwrap_or_default(),
        failed: number(5)??,
        subtests_failed: number(6)?,
    })
}

impl Report {
    fn doubt(&mut self, what: impl Into<String>) {
        self.doubts.push(what.into());
    }

    /// Makes the name unique: some tests use one name for two subtests.
    fn unique(&self, name: &str, number: u32) -> String {
        if self.subtests.iter().any(|other| other.name == name) {
            format!("{name} #{number}")
        } else {
            name.to_owned()
        }
    }

    fn count(&self, said: Said) -> u32 {
        self.subtests.iter().filter(|subtest| subtest.said == said).count() as u32
    }

    fn check(&mut self, test: &str, whole: bool, exit: Option<i32>) {
        self.check_numbers(whole);
        if self.subtests.iter().any(|subtest| matches!(subtest.said, Said::SomeSkipped(..))) {
            self.doubt("a subtest speaks of subtests");
        }
        let Some(said) = self.whole else {
            return self.doubt(format!("it says nothing of {test} as a whole"));
        };
        let Some(summary) = self.summary else { return self.doubt("its summary is missing") };
        self.check_summary(test, said, &summary);
        match exit {
            Some(0) if said == Said::Fail => self.doubt(format!("it exited with 0, and {test} is FAIL")),
            Some(0) => {}
            Some(1) if said == Said::Fail => {}
            Some(status) => self.doubt(format!("it exited with {status}, and {test} is not FAIL")),
            None => self.doubt("it did not finish"),
        }
    }

    /// Each subtest once and in order; all of them when the whole test was run.
    fn check_numbers(&mut self, whole: bool) {
        let numbers: Vec<u32> = self.subtests.iter().map(|subtest| subtest.number).collect();
        for pair in numbers.windows(2) {
            if pair[1] == pair[0] {
                self.doubt(format!("subtest {} is reported twice", pair[0]));
            } else if pair[1] < pair[0] {
                self.doubt(format!("subtest {} comes after subtest {}", pair[1], pair[0]));
            }
        }
        if whole {
            let mut expected = 1;
            for number in numbers {
                if number > expected {
                    self.doubt(format!("subtest {expected} is not reported"));
                }
                expected = number + 1;
            }
        }
    }

    /// The summary counts what is printed, and agrees with the test as a whole.
    fn check_summary(&mut self, test: &str, said: Said, summary: &Summary) {
        let (ok, skipped, failed) = (self.count(Said::Ok), self.count(Said::Skip), self.count(Said::Fail));
        let fails = u32::from(said == Said::Fail);
        if (summary.passed, summary.failed) != (1 - fails, fails) {
            self.doubt(format!(
                "the summary counts {} tests passed and {} failed, and {test} is {}",
                summary.passed,
                summary.failed,
                if fails == 1 { "FAIL" } else { "not" }
            ));
        }
        if summary.subtests_passed != ok {
            self.doubt(format!(
                "the summary counts {} subtests passed, {ok} are printed",
                summary.subtests_passed
            ));
        }
        if let Some(counted) = summary.subtests_failed.filter(|counted| *counted != failed) {
            self.doubt(format!("the summary counts {counted} subtests failed, {failed} are printed"));
        }
        if summary.not_built > 0 {
            self.doubt(format!("{} of the requested tests are not built", summary.not_built));
        }
        // A test as a whole may add skips of its own.
        if summary.skipped < skipped {
            self.doubt(format!("the summary counts {} skipped, {skipped} are printed", summary.skipped));
        }
        if failed > 0 && said != Said::Fail {
            self.doubt(format!("a subtest failed, and {test} did not"));
        }
        match said {
            Said::Ok if summary.skipped > 0 => self.doubt(format!("{test} is OK, and something was skipped")),
            Said::Skip if ok > 0 => self.doubt(format!("{test} is SKIP, and {ok} of its subtests are OK")),
            Said::SomeSkipped(some, _) if some != summary.skipped => {
                self.doubt(format!("{test} counts {some} skipped, the summary {}", summary.skipped));
            }
            Said::Ok | Said::Skip | Said::Fail | Said::SomeSkipped(..) => {}
        }
    }
}

#[cfg(test)]
mod tests;
