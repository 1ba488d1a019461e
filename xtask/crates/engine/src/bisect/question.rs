// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is asked of each kernel, and what the cells of one run of it answer. Pure.
//!
//! Bad and good both need evidence. Bad: the asked tests came to what was asked for, and to nothing else. Good: they
//! ran,
//! and did not. Everything between is a skip with its reason, or another bug on the way would become the culprit.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use clap::ValueEnum;
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::bisect::search::Verdict;
use vmtest_base::error::{Class, Error, Result};
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{BootRecord, Cell, RunResult};

/// What a bad kernel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asked {
    /// A test does not pass: it fails, or the kernel lacks what it needs
    Fail,
    /// The kernel dies: a panic or an oops
    Panic,
    /// The guest says nothing any more
    Hang,
    /// The kernel complains: a warning, a sanitizer, lockdep
    Splat,
    /// The kernel does not build
    Build,
}

impl Asked {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Asked::Fail => "fail",
            Asked::Panic => "panic",
            Asked::Hang => "hang",
            Asked::Splat => "splat",
            Asked::Build => "build",
        }
    }
}

/// The question, as it is kept in `bisect.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Question {
    /// What a bad kernel does.
    pub asked: Asked,
    /// Globs of tests; empty: all.
    pub tests: Vec<String>,
    /// What its title has to be like; `None`: like that of the end that fails.
    pub title: Option<String>,
    /// The first good one is looked for.
    pub find_fix: bool,
    /// [`shape`] of the title at the end that fails; `None` until that is known, or where `title` says it, or for
    /// tests:
    /// what they say is theirs to word.
    pub sought: Option<String>,
    /// Tests that pass at the end that does not fail; empty until that is known, and where no test is asked for.
    pub passes: BTreeSet<String>,
}

/// What one run of a kernel came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The verdict.
    pub verdict: Verdict,
    /// Why.
    pub why: String,
    /// Title of what was seen; empty where nothing was.
    pub title: String,
    /// Its class; of a good one `Pass`.
    pub class: Class,
}

impl Finding {
    fn good(why: String) -> Finding {
        Finding { verdict: Verdict::Good, why, title: String::new(), class: Class::Pass }
    }

    fn bad(class: Class, title: &str, why: String) -> Finding {
        Finding { verdict: Verdict::Bad, why, title: title.to_owned(), class }
    }

    fn skip(class: Class, why: String) -> Finding {
        // What happens before a guest runs happens again; a boot may go better the next time.
        let verdict = match class {
            Class::SeriesDoesNotApply | Class::OptionLost | Class::KernelBuild | Class::SuiteBuild => {
                Verdict::Never
            }
            _ => Verdict::Skip,
        };
        Finding { verdict, why, title: String::new(), class }
    }
}

/// A title without what differs from one run to the next: numbers and addresses.
pub fn shape(title: &str) -> String {
    static NUMBERS: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\b0x[0-9a-fA-F]+\b|\b[0-9a-fA-F]{8,}\b|[0-9]+").ok());
    NUMBERS.as_ref().map_or_else(|| title.to_owned(), |numbers| numbers.replace_all(title, "#").into_owned())
}

impl Question {
    /// The regular expression of `--title`.
    ///
    /// # Errors
    /// Class `Usage`.
    pub fn title_regex(&self) -> Result<Option<Regex>> {
        let compile = |text: &String| {
            Regex::new(text)
                .map_err(|error| Error::usage(format!("--title {text} is no regular expression")).why(error))
        };
        self.title.as_ref().map(compile).transpose()
    }

    fn is_sought(&self, titles: &[&str]) -> bool {
        match (self.title_regex(), &self.sought) {
            (Ok(Some(regex)), _) => titles.iter().any(|title| regex.is_match(title)),
            (Ok(None), Some(sought)) => titles.iter().any(|title| shape(title) == *sought),
            (Ok(None), None) => true,
            // It was compiled before anything ran.
            (Err(_), _) => false,
        }
    }

    /// Keeps what later runs are compared with, from a first run of one of the ends.
    pub fn learn(&mut self, finding: &Finding, run: &RunResult) {
        let has_title = match self.asked {
            Asked::Panic | Asked::Hang | Asked::Splat | Asked::Build => true,
            Asked::Fail => false,
        };
        if finding.verdict == Verdict::Bad && has_title && self.title.is_none() && self.sought.is_none() {
            self.sought = Some(shape(&finding.title));
        }
        if finding.verdict == Verdict::Good && !has_title && self.passes.is_empty() {
            let passed = run.cells.iter().filter(|cell| cell.outcome == Outcome::Pass);
            self.passes = passed.map(name).collect();
        }
    }

    /// What the cells of one run answer.
    ///
    /// # Errors
    /// The interruption, which is no verdict.
    pub fn judge(&self, run: &RunResult) -> Result<Finding> {
        let ended = run.cells.iter().map(|cell| cell.class).chain(run.boots.iter().map(|boot| boot.class));
        if let Some(class) =
            ended.into_iter().find(|class| matches!(class, Class::Interrupted | Class::Terminated))
        {
            return Err(Error::new(class, class.label()));
        }
        // What was never to run says nothing, for or against.
        let cells: Vec<&Cell> = run
            .cells
            .iter()
            .filter(|cell| !(cell.outcome == Outcome::Notrun && !cell.required && cell.class == Class::Pass))
            .collect();
        Ok(match self.asked {
            Asked::Fail => self.judge_fail(run, &cells),
            Asked::Panic => self.judge_end(run, &cells, Class::Panic),
            Asked::Hang => self.judge_end(run, &cells, Class::Hang),
            Asked::Splat => self.judge_splat(run, &cells),
            Asked::Build => self.judge_build(run, &cells),
        })
    }

    fn judge_fail(&self, run: &RunResult, cells: &[&Cell]) -> Finding {
        let told = |cell: &&Cell| match cell.outcome {
            Outcome::Fail => cell.class == Class::TestFailed,
            // The kernel lacks what the test needs: not what it is there for, and no pass. A flaky one failed once.
            Outcome::Skip | Outcome::Flaky => true,
            Outcome::Pass
            | Outcome::Xfail
            | Outcome::Missing
            | Outcome::Crash
            | Outcome::Timeout
            | Outcome::Notrun => false,
        };
        // A failure weighs more than a skip: it is shown first.
        let failed = cells.iter().copied().filter(told);
        let mut failed: Vec<&Cell> = failed.collect();
        failed.sort_by_key(|cell| cell.outcome != Outcome::Fail);
        if let Some(cell) = failed.iter().find(|cell| self.is_sought(&[&cell.reason, &cell.log])) {
            let more =
                if failed.len() > 1 { format!(" (and {} more)", failed.len() - 1) } else { String::new() };
            return Finding::bad(cell.class, &cell.reason, format!("{}{more}", what(cell)));
        }
        if let Some(cell) = failed.first() {
            return Finding::skip(cell.class, format!("something else: {}", what(cell)));
        }
        let open = |cell: &&&Cell| !matches!(cell.outcome, Outcome::Pass | Outcome::Xfail);
        if let Some(cell) = cells.iter().find(open) {
            return Finding::skip(worst(run, cell), unjudged(run, cell));
        }
        if let Some(boot) = broken_boot(run) {
            return Finding::skip(boot.class, boot.reason.clone());
        }
        let passed: BTreeSet<String> =
            cells.iter().filter(|cell| cell.outcome == Outcome::Pass).map(|cell| name(cell)).collect();
        if passed.is_empty() || run.boots.is_empty() {
            return Finding::skip(Class::Incomplete, "none of the asked tests ran".to_owned());
        }
        if let Some(lacking) = self.passes.difference(&passed).next() {
            return Finding::skip(
                Class::Incomplete,
                format!("{lacking}, which was asked for, is not among its tests"),
            );
        }
        Finding::good(counted(passed.len(), "passed"))
    }

    /// A kernel that dies or falls silent.
    fn judge_end(&self, run: &RunResult, cells: &[&Cell], wanted: Class) -> Finding {
        let Some(boot) = run.boots.iter().find(|boot| boot.class == wanted) else {
            return self.whole(run, cells, true);
        };
        let during = cells
            .iter()
            .find(|cell| matches!(cell.outcome, Outcome::Crash | Outcome::Timeout) && cell.class == wanted);
        if during.is_none() && !self.tests.is_empty() {
            return Finding::skip(wanted, format!("during none of the asked tests: {}", boot.reason));
        }
        if !self.is_sought(&[&boot.reason]) {
            return Finding::skip(wanted, format!("another one: {}", boot.reason));
        }
        let during = during.map(|cell| format!(" during {}", cell.path())).unwrap_or_default();
        let during = if boot.reason.ends_with(&during) { "" } else { &during };
        Finding::bad(wanted, &boot.reason, format!("{}{during}", boot.reason))
    }

    fn judge_splat(&self, run: &RunResult, cells: &[&Cell]) -> Finding {
        let splats: Vec<_> = run.splats.iter().filter(|splat| splat.severity == "splat").collect();
        if let Some(splat) = splats.iter().find(|splat| self.is_sought(&[&splat.title])) {
            let during =
                if splat.during.is_empty() { String::new() } else { format!(" during {}", splat.during) };
            return Finding::bad(Class::Splat, &splat.title, format!("{}{during}", splat.title));
        }
        // Many a detector reports once and is silent then.
        if let Some(splat) = splats.first() {
            return Finding::skip(Class::Splat, format!("another one: {}", splat.title));
        }
        self.whole(run, cells, false)
    }

    fn judge_build(&self, run: &RunResult, cells: &[&Cell]) -> Finding {
        if let Some(cell) = cells.iter().find(|cell| cell.class == Class::KernelBuild) {
            let title = compiler_error(&cell.reason);
            return if self.is_sought(&[&title]) {
                Finding::bad(Class::KernelBuild, &title, title.clone())
            } else {
                Finding::skip(Class::KernelBuild, format!("another one: {title}"))
            };
        }
        if let Some(cell) = cells.first() {
            return Finding::skip(cell.class, unjudged(run, cell));
        }
        match run.kernels.as_slice() {
            [kernel] if !kernel.release.is_empty() && !kernel.toolchain.is_empty() => {
                Finding::good(format!("it builds: {}", kernel.release))
            }
            _ => Finding::skip(Class::Incomplete, "it was never built".to_owned()),
        }
    }

    /// Good where nothing befell the kernel and every asked test came to an end of its own.
    fn whole(&self, run: &RunResult, cells: &[&Cell], with_splats: bool) -> Finding {
        let bad =
            |boot: &&BootRecord| !(boot.class == Class::Pass || (with_splats && boot.class == Class::Splat));
        if let Some(boot) = run.boots.iter().find(bad) {
            return Finding::skip(boot.class, boot.reason.clone());
        }
        let ended = |cell: &&&Cell| match cell.outcome {
            Outcome::Pass | Outcome::Skip | Outcome::Xfail | Outcome::Flaky => true,
            Outcome::Fail => cell.class == Class::TestFailed,
            Outcome::Missing | Outcome::Crash | Outcome::Timeout | Outcome::Notrun => false,
        };
        if let Some(cell) = cells.iter().find(|cell| !ended(cell)) {
            return Finding::skip(worst(run, cell), unjudged(run, cell));
        }
        if cells.is_empty() || run.boots.is_empty() {
            return Finding::skip(Class::Incomplete, "none of the asked tests ran".to_owned());
        }
        Finding::good(format!("{}, and nothing befell the kernel", counted(cells.len(), "ran to the end")))
    }
}

fn counted(count: usize, did: &str) -> String {
    match count {
        1 => format!("the test {did}"),
        _ => format!("all {count} tests {did}"),
    }
}

fn name(cell: &Cell) -> String {
    format!("{}:{}", cell.suite, cell.path())
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn what(cell: &Cell) -> String {
    format!("{} {}: {}", cell.path(), cell.outcome.name(), first_line(&cell.reason))
}

fn broken_boot(run: &RunResult) -> Option<&BootRecord> {
    run.boots.iter().find(|boot| !matches!(boot.class, Class::Pass | Class::Splat))
}

/// Class of what kept a cell from an answer: that of its boot says more than "missing".
fn worst(run: &RunResult, cell: &Cell) -> Class {
    broken_boot(run).map_or(cell.class, |boot| boot.class)
}

/// Why a cell says nothing.
fn unjudged(run: &RunResult, cell: &Cell) -> String {
    let boot = broken_boot(run).map(|boot| boot.reason.as_str());
    // An error of a stage: what failed, and its nearest cause.
    let lines: Vec<&str> = cell.reason.lines().take(2).map(str::trim).collect();
    let reason = boot.map_or_else(|| lines.join(" "), str::to_owned);
    format!("{}: {reason}", worst(run, cell).label())
}

/// The compiler's first error within the text of a failed build.
fn compiler_error(reason: &str) -> String {
    let because = reason.lines().find_map(|line| line.trim_start().strip_prefix("because: "));
    because.unwrap_or(first_line(reason)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmtest_record::run::Kernel;
    use vmtest_record::run::SplatRecord;
    use vmtest_record::samples::boot;
    use vmtest_record::samples::cell;
    use vmtest_record::samples::run;

    fn question(asked: Asked) -> Question {
        Question {
            asked,
            tests: vec!["basic".to_owned()],
            title: None,
            find_fix: false,
            sought: None,
            passes: BTreeSet::new(),
        }
    }

    /// One boot of this class with these cells.
    fn one(class: Class, cells: &[(Outcome, Class)]) -> RunResult {
        let cells = cells.iter().enumerate().map(|(at, (outcome, class))| {
            let mut cell = cell("k", &format!("t{at}"), *outcome, *class);
            cell.reason =
                if *outcome == Outcome::Pass { String::new() } else { "the session ran 1 times".into() };
            cell
        });
        let mut run = run(cells.collect());
        run.boots = vec![boot("k", class)];
        run.boots[0].reason =
            if class == Class::Pass { String::new() } else { "BUG: at 0x1234, line 17".into() };
        run
    }

    const PASS: (Outcome, Class) = (Outcome::Pass, Class::Pass);
    const FAIL: (Outcome, Class) = (Outcome::Fail, Class::TestFailed);
    const SKIP: (Outcome, Class) = (Outcome::Skip, Class::Incomplete);
    const MISSING: (Outcome, Class) = (Outcome::Missing, Class::Incomplete);
    const CRASH: (Outcome, Class) = (Outcome::Crash, Class::Panic);
    const TIMEOUT: (Outcome, Class) = (Outcome::Timeout, Class::Hang);
    const XFAIL: (Outcome, Class) = (Outcome::Xfail, Class::Pass);

    #[test]
    fn every_boot_and_cell_has_one_answer_to_each_question() {
        use Asked::{Fail, Hang, Panic, Splat};
        use Verdict::{Bad, Good, Skip};
        type Row<'a> = (Class, &'a [(Outcome, Class)], [Verdict; 4]);
        let rows: [Row<'_>; 19] = [
            //                                       fail  panic hang  splat
            (Class::Pass, &[PASS, PASS], [Good, Good, Good, Good]),
            (Class::Pass, &[PASS, FAIL], [Bad, Good, Good, Good]),
            (Class::Pass, &[PASS, SKIP], [Bad, Good, Good, Good]),
            (Class::Pass, &[PASS, XFAIL], [Good, Good, Good, Good]),
            (Class::Pass, &[XFAIL], [Skip, Good, Good, Good]),
            (Class::Pass, &[PASS, MISSING], [Skip, Skip, Skip, Skip]),
            (Class::Pass, &[], [Skip, Skip, Skip, Skip]),
            (Class::Splat, &[PASS], [Good, Good, Good, Skip]),
            (Class::Panic, &[PASS, CRASH], [Skip, Bad, Skip, Skip]),
            (Class::Panic, &[FAIL, CRASH], [Bad, Bad, Skip, Skip]),
            (Class::Panic, &[PASS, PASS], [Skip, Skip, Skip, Skip]),
            (Class::Panic, &[(Outcome::Notrun, Class::Panic)], [Skip, Skip, Skip, Skip]),
            (Class::Hang, &[PASS, TIMEOUT], [Skip, Skip, Bad, Skip]),
            (Class::Hang, &[PASS, PASS], [Skip, Skip, Skip, Skip]),
            (Class::WallClock, &[PASS, (Outcome::Timeout, Class::WallClock)], [Skip, Skip, Skip, Skip]),
            (Class::GuestLost, &[PASS, (Outcome::Crash, Class::GuestLost)], [Skip, Skip, Skip, Skip]),
            (Class::BootFailed, &[(Outcome::Notrun, Class::BootFailed)], [Skip, Skip, Skip, Skip]),
            (Class::RunnerDied, &[PASS, MISSING], [Skip, Skip, Skip, Skip]),
            (Class::Host, &[(Outcome::Fail, Class::Host)], [Skip, Skip, Skip, Skip]),
        ];
        for (class, cells, verdicts) in rows {
            for (asked, verdict) in [Fail, Panic, Hang, Splat].into_iter().zip(verdicts) {
                let finding = question(asked).judge(&one(class, cells)).expect("no interruption");
                assert_eq!(finding.verdict, verdict, "{class:?} {cells:?} {asked:?}: {}", finding.why);
                assert!(!finding.why.is_empty(), "{class:?} {cells:?} {asked:?}");
            }
        }
    }

    #[test]
    fn what_comes_before_the_boot_is_never_an_answer_but_to_its_own_question() {
        for (class, asked, verdict) in [
            (Class::KernelBuild, Asked::Fail, Verdict::Never),
            (Class::KernelBuild, Asked::Panic, Verdict::Never),
            (Class::KernelBuild, Asked::Build, Verdict::Bad),
            (Class::SeriesDoesNotApply, Asked::Build, Verdict::Never),
            (Class::OptionLost, Asked::Build, Verdict::Never),
            (Class::Host, Asked::Build, Verdict::Skip),
            (Class::Host, Asked::Fail, Verdict::Skip),
        ] {
            let mut run = one(class, &[(Outcome::Notrun, class)]);
            run.boots.clear();
            let finding = question(asked).judge(&run).expect("no interruption");
            assert_eq!(finding.verdict, verdict, "{class:?} {asked:?}: {}", finding.why);
        }
        let mut built = one(Class::Pass, &[]);
        built.boots.clear();
        assert_eq!(question(Asked::Build).judge(&built).expect("judged").verdict, Verdict::Skip);
        built.kernels = vec![Kernel { release: "6.18".into(), toolchain: "gcc".into(), ..Kernel::default() }];
        assert_eq!(question(Asked::Build).judge(&built).expect("judged").verdict, Verdict::Good);
    }

    #[test]
    fn an_interruption_is_no_verdict() {
        for asked in [Asked::Fail, Asked::Panic, Asked::Hang, Asked::Splat, Asked::Build] {
            let run = one(Class::Interrupted, &[PASS, (Outcome::Notrun, Class::Interrupted)]);
            assert_eq!(question(asked).judge(&run).expect_err("none").class, Class::Interrupted);
        }
    }

    #[test]
    fn another_bug_of_the_same_class_is_a_skip() {
        let run = one(Class::Panic, &[CRASH]);
        let mut asked = question(Asked::Panic);
        let finding = asked.judge(&run).expect("judged");
        asked.learn(&finding, &run);
        assert_eq!(asked.sought.as_deref(), Some("BUG: at #, line #"));
        let mut other = run.clone();
        other.boots[0].reason = "BUG: at 0xffff, line 21".into();
        assert_eq!(
            asked.judge(&other).expect("judged").verdict,
            Verdict::Bad,
            "numbers aside it is the same"
        );
        other.boots[0].reason = "general protection fault".into();
        let finding = asked.judge(&other).expect("judged");
        assert_eq!(
            (finding.verdict, finding.why.as_str()),
            (Verdict::Skip, "another one: general protection fault")
        );
        asked.title = Some("protection|BUG".into());
        assert_eq!(asked.judge(&other).expect("judged").verdict, Verdict::Bad, "--title overrules it");
        asked.title = Some("KASAN".into());
        assert_eq!(asked.judge(&run).expect("judged").verdict, Verdict::Skip);

        let splat = |title: &str| SplatRecord {
            kernel: "k".into(),
            variant: String::new(),
            title: title.into(),
            during: String::new(),
            severity: "splat".into(),
            attempt: None,
            allowed: None,
            lines: Vec::new(),
            stack: Vec::new(),
            no_stack: String::new(),
        };
        let mut run = one(Class::Splat, &[PASS]);
        run.splats = vec![splat("WARNING: at a.c:1"), splat("WARNING: at b.c:2")];
        let mut asked = question(Asked::Splat);
        asked.sought = Some(shape("WARNING: at b.c:77"));
        assert_eq!(asked.judge(&run).expect("judged").verdict, Verdict::Bad);
        run.splats.pop();
        assert_eq!(
            asked.judge(&run).expect("judged").verdict,
            Verdict::Skip,
            "the detector may be off by now"
        );

        let mut asked = question(Asked::Fail);
        asked.title = Some("ran 2 times".into());
        let finding = asked.judge(&one(Class::Pass, &[FAIL])).expect("judged");
        assert_eq!(finding.verdict, Verdict::Skip);
        assert!(finding.why.starts_with("something else"), "{}", finding.why);
    }

    #[test]
    fn a_panic_without_a_test_counts_only_where_none_is_asked_for() {
        let mut asked = question(Asked::Panic);
        asked.tests.clear();
        let run = one(Class::Panic, &[(Outcome::Notrun, Class::Panic)]);
        assert_eq!(asked.judge(&run).expect("judged").verdict, Verdict::Bad);
    }

    #[test]
    fn a_test_that_is_gone_is_no_pass() {
        let mut asked = question(Asked::Fail);
        let run = one(Class::Pass, &[PASS, PASS]);
        let finding = asked.judge(&run).expect("judged");
        asked.learn(&finding, &run);
        assert_eq!(asked.passes.len(), 2);
        assert_eq!(asked.judge(&run).expect("judged").verdict, Verdict::Good);
        assert_eq!(asked.judge(&one(Class::Pass, &[PASS])).expect("judged").verdict, Verdict::Skip);
    }

    #[test]
    fn cells_that_were_never_to_run_say_nothing() {
        let mut run = one(Class::Pass, &[PASS, (Outcome::Notrun, Class::Pass)]);
        run.cells[1].required = false;
        assert_eq!(question(Asked::Fail).judge(&run).expect("judged").verdict, Verdict::Good);
        run.cells.remove(0);
        assert_eq!(question(Asked::Fail).judge(&run).expect("judged").verdict, Verdict::Skip);
    }
}
