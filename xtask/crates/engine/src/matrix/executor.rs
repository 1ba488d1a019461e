// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--executor`: a command that runs one job somewhere else and leaves a run directory: a batch system, ssh.
//! It is split into words once and started without a shell, so names and paths are never interpreted by one.
//!
//! Its record is trusted only if it is a run of exactly this job of exactly this matrix, and if the command
//! exited with the exit code in the record. In any other case the job counts as not run (30), and never as a
//! pass.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::matrix::join::{self, Frame, Gap, Part};
use vmtest_base::error::{Class, Error, Result};
use vmtest_host::process::Job;
use vmtest_record::load;
use vmtest_record::matrix::Axes;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::RunResult;

/// Default time limit of a command in seconds: two hours, as needed by the slowest variant.
pub const LIMIT_S: u32 = 7200;

/// The command, split into words.
#[derive(Debug, Clone)]
pub struct Executor {
    words: Vec<String>,
    limit: Duration,
}

/// Values of the placeholders in a word.
struct Values<'a> {
    cell: &'a str,
    out: &'a str,
    matrix: &'a str,
}

impl Executor {
    /// Splits the command.
    ///
    /// # Errors
    /// Class `Usage` for an unclosed quote, and for a command that does not contain the job.
    pub fn new(command: &str, limit_s: Option<u32>) -> Result<Executor> {
        let wrong = |why: &str| {
            Error::usage(format!("--executor `{}` cannot be used", command.escape_debug()))
                .why(why)
                .next("for example --executor 'ssh big ./one-cell {cell} {out}'")
        };
        let words = shlex::split(command).ok_or_else(|| wrong("a quote is not closed"))?;
        let Some(program) = words.first() else { return Err(wrong("it is empty")) };
        if program.contains('{') {
            return Err(wrong("the program must be the same for every job"));
        }
        if !words.iter().any(|word| word.contains("{cell}")) {
            return Err(wrong("it does not say which job to run: {cell} is missing"));
        }
        let limit = Duration::from_secs(limit_s.unwrap_or(LIMIT_S).into());
        Ok(Executor { words, limit })
    }

    fn command(&self, values: &Values<'_>) -> Command {
        let mut words = self.words.iter().map(|word| filled(word, values));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        // For scripts that prefer the environment to arguments.
        command
            .env("VMTEST_CELL", values.cell)
            .env("VMTEST_OUT", values.out)
            .env("VMTEST_MATRIX", values.matrix);
        command
    }

    /// Runs one job. `out`: where the command must leave its run, which does not exist yet; `log`: for its
    /// output.
    pub fn run(
        &self,
        frame: &Frame,
        axes: &Axes,
        matrix: &Path,
        out: &Path,
        log: PathBuf,
    ) -> std::result::Result<Part, Gap> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (out_text, matrix) = (text(out), text(matrix));
        let command = self.command(&Values { cell: &axes.id, out: &out_text, matrix: &matrix });
        let done = Job::new(command).log(log).deadline(self.limit).run();
        let gap = |why: String| Gap { outcome: Outcome::Notrun, class: Class::Host, reason: why };
        let done = match done {
            Ok(done) => done,
            Err(error) if matches!(error.class, Class::Interrupted | Class::Terminated) => {
                return Err(Gap { outcome: Outcome::Notrun, class: error.class, reason: error.summary() });
            }
            Err(error) => return Err(gap(format!("the executor failed: {}", error.summary()))),
        };
        let how = || {
            let last = done.tail.last().map(|line| format!("; it said: {line}")).unwrap_or_default();
            format!("the executor {}{last}", vmtest_host::process::ended(done.status))
        };
        let run = load::read(out)
            .map_err(|error| gap(format!("{} and left no run: {}", how(), error.summary())))?;
        if done.status.code() != Some(run.exit_code.code().into()) {
            return Err(gap(format!("{}, but its run says {}", how(), run.exit_code.code())));
        }
        let name = format!("the run of {}", axes.id);
        let part = Part { name, run };
        join::check(frame, &part).map_err(|error| gap(error.summary()))?;
        if !is_of(&part.run, &axes.id) {
            return Err(gap(format!("the executor left a run of something other than {}", axes.id)));
        }
        Ok(part)
    }
}

/// Whether a run contains this job and nothing else.
fn is_of(run: &RunResult, id: &str) -> bool {
    run.matrix.as_ref().is_some_and(|matrix| matches!(&matrix.jobs[..], [job] if job.id == id))
}

/// A word with its placeholders replaced. Replaced text is not expanded again.
fn filled(word: &str, values: &Values<'_>) -> String {
    let known = [("{cell}", values.cell), ("{out}", values.out), ("{matrix}", values.matrix)];
    let mut text = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('{') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        match known.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, value)) => {
                text.push_str(value);
                rest = &rest[name.len()..];
            }
            None => {
                text.push('{');
                rest = &rest[1..];
            }
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &str, out: &str) -> Vec<String> {
        let executor = Executor::new(command, None).expect("a command");
        let command = executor.command(&Values { cell: "a--b", out, matrix: "/m.toml" });
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn words_are_words_whatever_is_put_into_them() {
        assert_eq!(words("run {cell}", "/o"), ["run", "a--b"]);
        assert_eq!(words("run 'x {cell} y' --out={out}", "/o o"), ["run", "x a--b y", "--out=/o o"]);
        // Replaced text is not expanded again, and no shell sees it.
        assert_eq!(words("run {out} {cell}", "/{cell}; rm $HOME"), ["run", "/{cell}; rm $HOME", "a--b"]);
        assert_eq!(words(r#"run "{cell}" {other} \{ '{'"#, "/o"), ["run", "a--b", "{other}", "{", "{"]);
        assert_eq!(words("run {matrix}{cell}{cell}", "/o"), ["run", "/m.tomla--ba--b"]);
    }

    #[test]
    fn a_command_that_cannot_do_is_refused() {
        for (command, why) in [
            ("", "empty"),
            ("run 'x", "quote"),
            ("run it", "{cell} is missing"),
            ("{cell} x", "the program must be the same"),
        ] {
            let error = Executor::new(command, None).expect_err(command);
            assert_eq!(error.class, Class::Usage);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
