// SPDX-License-Identifier: MIT OR Apache-2.0
//! Turns the end of a search into a report: the culprit or the remaining candidates, with the evidence of
//! both sides.

use std::path::{Path, PathBuf};

use crate::bisect::hunt::Hunt;
use crate::bisect::search::{Next, Trust, Verdict};
use crate::bisect::state::StoredStep;
use crate::request::Request;
use vmtest_base::beneath;
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::program;
use vmtest_record::bisection::{Bisection, Subject};
use vmtest_record::load;
use vmtest_record::run::RunResult;

/// The answer of a search that was stopped by something other than a person.
const UNFINISHED: &str = "not at its end";
/// Console lines that a report shows.
const CONSOLE: usize = 15;
/// Bytes at the end of a console from which these lines are taken.
const TAIL: u64 = 64 * 1024;

impl Hunt<'_> {
    /// The report of a finished search.
    ///
    /// # Errors
    /// When git cannot read a commit.
    pub fn report(&self, end: &Next) -> Result<Bisection> {
        let (record, mut report) = (&self.record, self.begun());
        let looked_for = report.looked_for.clone();
        let (answer, class) = match end {
            Next::Found { first, before } => {
                let culprit = self.subject(first)?;
                report.summary = format!("{looked_for}: {}", culprit.line());
                report.before = before.iter().map(|id| self.subject(id)).collect::<Result<_>>()?;
                report.after = Some(culprit.clone());
                report.first = Some(culprit);
                ("found", Class::Pass)
            }
            Next::Hidden { among, before } => {
                report.summary = format!(
                    "the {looked_for} is one of {}: the kernels in between are untestable",
                    among.len()
                );
                // In history order: the last one comes after all others, and is known to be new.
                let mut ordered: Vec<&String> = among.iter().collect();
                ordered.sort_by_key(|id| self.places.get(*id));
                report.among = ordered.iter().map(|id| self.subject(id)).collect::<Result<_>>()?;
                report.before = before.iter().map(|id| self.subject(id)).collect::<Result<_>>()?;
                report.after = among.last().map(|id| self.subject(id)).transpose()?;
                ("hidden", Class::Incomplete)
            }
            Next::WrongEnd { id, verdict } => {
                let subject = self.subject(id)?;
                let class = self.wrong_end(&mut report, id, *verdict, &subject);
                report.before = vec![subject];
                let judged = matches!(verdict, Verdict::Good | Verdict::Bad);
                (if judged { "wrong end" } else { "an end cannot be judged" }, class)
            }
            Next::Run { .. } => (UNFINISHED, Class::Host),
        };
        report.answer = answer.to_owned();
        report.exit_code = class;
        if class != Class::Pass {
            let open = record.steps.iter().any(|step| step.class == Class::Host);
            if open {
                report.resume = self.resume_command();
            }
        }
        self.notes(&mut report, end)?;
        Ok(report)
    }

    /// The report of a search that was stopped: never an answer.
    pub fn unfinished(&self, error: &Error) -> Bisection {
        let interrupted = matches!(error.class, Class::Interrupted | Class::Terminated);
        let asked = self.record.steps.len();
        Bisection {
            answer: if interrupted { "interrupted" } else { UNFINISHED }.to_owned(),
            summary: format!("no answer yet after {asked} kernel run(s): {}", error.summary()),
            resume: self.resume_command(),
            exit_code: error.class,
            ..self.begun()
        }
    }

    /// The command that resumes this search.
    pub fn resume_command(&self) -> String {
        program::command(&format!("bisect --resume {}", self.resume_word()))
    }

    /// The parts that every report has.
    fn begun(&self) -> Bisection {
        let record = &self.record;
        let noun = record.axis.noun();
        let looked_for = format!("first {} {noun}", if record.question.find_fix { "good" } else { "bad" });
        Bisection {
            schema: 1,
            run: record.run.clone(),
            directory: self.run_dir().path.display().to_string(),
            command: record.command.join(" "),
            question: self.question(&looked_for),
            looked_for,
            find_fix: record.question.find_fix,
            path: record.steps.iter().map(|step| self.told(step)).collect(),
            history: record.history,
            boots: record.steps.iter().map(|step| step.boots).sum(),
            duration_s: record.steps.iter().map(|step| step.built_s + step.ran_s).sum(),
            ..Bisection::default()
        }
    }

    fn told(&self, step: &StoredStep) -> vmtest_record::bisection::Step {
        vmtest_record::bisection::Step {
            name: step.known.name.clone(),
            subject: step.known.subject.clone(),
            verdict: step.verdict.name().to_owned(),
            why: step.why.clone(),
            purpose: step.purpose.clone(),
            cached: step.cached,
            duration_s: step.built_s + step.ran_s,
            place: self.places.get(&step.id).copied(),
        }
    }

    fn question(&self, looked_for: &str) -> String {
        let question = &self.record.question;
        let tests = if question.tests.is_empty() { "any test".to_owned() } else { question.tests.join(", ") };
        let title = question.title.as_ref().map(|title| format!(" matching {title}")).unwrap_or_default();
        let mut text = format!("{looked_for}: {tests}: {}{title}", question.asked.name());
        if let Some(first) = text.get(..1).map(str::to_uppercase) {
            text.replace_range(..1, &first);
        }
        text
    }

    fn wrong_end(&self, report: &mut Bisection, id: &str, verdict: Verdict, subject: &Subject) -> Class {
        let record = &self.record;
        let (ends, find_fix) = (&record.ends, record.question.find_fix);
        let which = match () {
            () if *id == ends.old => "--good".to_owned(),
            () if *id == ends.new => "--bad".to_owned(),
            () => "merge base of both endpoints".to_owned(),
        };
        let expected = if (*id == ends.new) == find_fix { "good" } else { "bad" };
        report.summary = match verdict {
            Verdict::Good | Verdict::Bad => {
                let fix = if find_fix { ", which --find-fix requires" } else { "" };
                format!(
                    "wrong endpoint: {} ({which}) is {}, not {expected}{fix}",
                    subject.line(),
                    verdict.name()
                )
            }
            Verdict::Skip | Verdict::Never => {
                format!("the endpoint {} ({which}) is untestable: {}", subject.line(), subject.why)
            }
        };
        match verdict {
            Verdict::Good if record.trust.runs == 1 => {
                report.notes.push("use --runs for flaky tests".to_owned());
                Class::Usage
            }
            Verdict::Good | Verdict::Bad => Class::Usage,
            Verdict::Skip | Verdict::Never => {
                let last = record.steps.iter().rfind(|step| step.id == *id);
                let class = last.map_or(Class::Host, |step| step.class);
                // A search without an answer is never a pass.
                if class == Class::Pass { Class::Incomplete } else { class }
            }
        }
    }

    fn notes(&self, report: &mut Bisection, end: &Next) -> Result<()> {
        let (search, record) = (self.record.search(), &self.record);
        if record.trust.runs > 1 && !matches!(end, Next::WrongEnd { .. }) {
            let (rate, needed) = (search.rate(), search.needed());
            report.notes.push(format!(
                "the end that fails does so in {:.0} % of its runs, by a careful estimate; a good verdict takes \
                 {needed} good run(s), which would have shown that with {:.2} %",
                100.0 * rate,
                100.0 * Trust::reached(rate, needed)
            ));
            if Trust::reached(rate, needed) < record.trust.confidence {
                report.notes.push(format!(
                    "that is less than --confidence {}: raise --runs above {}",
                    record.trust.confidence, record.trust.runs
                ));
            }
        }
        for id in search.disproved(&self.order)? {
            let known = self.known(&id)?;
            report.notes.push(format!(
                "{} passed by chance, or the bug was introduced twice: it contradicts a failure and does not count",
                known.line()
            ));
        }
        // A good verdict that a later run of the same kernel disproved.
        for (id, runs) in &search.runs {
            let first_bad = runs.iter().position(|run| *run == Verdict::Bad);
            if *id != search.failing_end() && first_bad.is_some_and(|at| at >= search.needed() as usize) {
                let known = self.known(id)?;
                report.notes.push(format!("{} passed at first and failed when tested again", known.line()));
            }
        }
        for base in record.ends.bases.iter().filter(|base| search.verdict(base) == Some(Verdict::Skip)) {
            let known = self.known(base)?;
            report.notes.push(format!("the merge base {} is untestable", known.line()));
        }
        if let Some(sought) = record.question.sought.as_ref().filter(|_| record.question.title.is_none()) {
            report.notes.push(format!("looked for the failure seen at the failing endpoint: {sought}"));
        }
        Ok(())
    }

    fn subject(&self, id: &str) -> Result<Subject> {
        let known = self.known(id)?;
        let steps: Vec<&StoredStep> = self.record.steps.iter().filter(|step| step.id == id).collect();
        let bad = steps.iter().filter(|step| step.verdict == Verdict::Bad).count();
        // A failing run shows more than the one after it.
        let shown = steps.iter().find(|step| step.verdict == Verdict::Bad).or(steps.last());
        let mut subject = Subject {
            name: known.name,
            commit: known.commit,
            subject: known.subject,
            author: known.author,
            date: known.date,
            runs: [steps.len(), bad],
            ..Subject::default()
        };
        let Some(step) = shown else { return Ok(subject) };
        let directory = self.run_dir().path.join(&step.directory);
        subject.verdict = step.verdict.name().to_owned();
        subject.why.clone_from(&step.why);
        (subject.files, subject.console) = evidence(&directory);
        subject.directory = directory.display().to_string();
        subject.again = self.again(id)?;
        Ok(subject)
    }

    /// The `vmtest` command that reproduces it.
    fn again(&self, id: &str) -> Result<String> {
        let axis = &self.record.axis;
        let mut words = vec![program::command("vmtest")];
        words.extend(axis.words(id)?);
        let mut request = Request { kernels: Vec::new(), ..self.record.request.clone() };
        if !axis.has_patches(id) {
            request.patches.clear();
        }
        words.extend(request.words().iter().map(|word| vmtest_host::process::shell_word(word)));
        Ok(words.join(" "))
    }
}

/// Consoles and events of a run, and the end of its first console.
fn evidence(directory: &Path) -> (Vec<String>, Vec<String>) {
    let text = beneath::read_text_up_to(directory, load::FILE, load::MAX_BYTES).unwrap_or_default();
    let run: Option<RunResult> = serde_json::from_str(&text).ok();
    let boots = run.map(|run| run.boots).unwrap_or_default();
    let place = |boot: &vmtest_record::run::BootRecord| directory.join(&boot.directory);
    let files: Vec<PathBuf> = boots
        .iter()
        .flat_map(|boot| ["console.log", "events.jsonl"].map(|name| place(boot).join(name)))
        .filter(|path| path.is_file())
        .collect();
    let console = boots.first().map(|boot| console_end(&place(boot).join("console.log"))).unwrap_or_default();
    (files.iter().map(|path| path.display().to_string()).collect(), console)
}

/// The end of a console, sanitized for a terminal.
fn console_end(path: &Path) -> Vec<String> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let bytes = beneath::last_bytes(dir, name, TAIL).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let plain = |line: &str| -> String {
        line.chars()
            .filter(|c| !c.is_control() || *c == '\t')
            .take(200)
            .collect::<String>()
            .trim_end()
            .to_owned()
    };
    let lines: Vec<String> = text.lines().map(plain).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(CONSOLE)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_is_cut_and_cleaned() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("console.log");
        let mut bytes = b"x\x1b[31m \xff y\r\n\r\n".repeat(20_000);
        bytes.extend_from_slice(b"last\r\n");
        std::fs::write(&path, bytes).expect("written");
        let lines = console_end(&path);
        assert_eq!((lines.len(), lines[CONSOLE - 1].as_str()), (CONSOLE, "last"));
        assert!(lines.iter().all(|line| !line.contains('\u{1b}')), "{lines:?}");
        assert!(console_end(&dir.path().join("nothing")).is_empty());
    }
}
