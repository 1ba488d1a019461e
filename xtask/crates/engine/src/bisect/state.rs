// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bisect.json`: the whole state of a bisection, written after each run of a kernel, so that it can be
//! killed at any moment and resumed. Also the cached runs of kernels that were tested before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::bisect::axis::{Axis, Known};
use crate::bisect::question::Question;
use crate::bisect::search::{Ends, Search, Trust, Verdict};
use crate::request::Request;
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::files::{create_dir, read_text, write_file};
use vmtest_base::key::Key;
use vmtest_base::places::runs_dir;
use vmtest_host::context::Context;
use vmtest_host::store::{CacheKind, RunDir};
use vmtest_record::bisection::Bisection;
use vmtest_record::run::RunResult;

/// Version of `bisect.json`. An unknown version cannot be resumed.
pub const SCHEMA: u32 = 2;
/// The file in the run's directory.
pub const FILE: &str = "bisect.json";

/// `bisect.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    pub run: String,
    pub command: Vec<String>,
    /// The request that every kernel is run with.
    pub request: Request,
    /// `--mirror`.
    pub mirror: Option<String>,
    /// Key of the runner and the configuration: verdicts with another key are not mixed with these.
    pub suite: String,
    /// The history that is searched.
    pub axis: Axis,
    pub ends: Ends,
    /// The question for each kernel.
    pub question: Question,
    /// How much evidence a verdict requires.
    pub trust: Trust,
    /// Number of kernels between the endpoints, including the new one.
    pub history: usize,
    /// All runs so far, in order.
    pub steps: Vec<StoredStep>,
    /// The answer; absent until there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Bisection>,
}

/// One run of one kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredStep {
    /// Number of the step, from 1; forgotten steps leave a gap.
    pub number: usize,
    pub id: String,
    /// How the kernel is presented to users.
    pub known: Known,
    pub verdict: Verdict,
    pub why: String,
    /// Exit class of the result; 0 if good.
    pub class: Class,
    pub purpose: String,
    /// Directory of its `run.json`, consoles and events. Below the run's directory, unless an earlier
    /// bisection ran it.
    pub directory: PathBuf,
    /// The result was taken from an earlier bisection.
    pub cached: bool,
    /// Number of guests that were started.
    pub boots: usize,
    /// Seconds until the kernel was available.
    pub built_s: f64,
    /// Seconds that it ran.
    pub ran_s: f64,
}

impl Record {
    /// The search with the results so far.
    pub fn search(&self) -> Search {
        let mut runs: BTreeMap<String, Vec<Verdict>> = BTreeMap::new();
        for step in &self.steps {
            runs.entry(step.id.clone()).or_default().push(step.verdict);
        }
        Search { ends: self.ends.clone(), find_fix: self.question.find_fix, trust: self.trust, runs }
    }

    /// Writes it atomically.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::host(format!("cannot write {FILE}")).why(error))?;
        write_file(&dir.join(FILE), text)
    }
}

/// Reopens a bisection: a directory, the name of a run, or `latest`. Results that are due to this host are
/// dropped, and so tried again.
///
/// # Errors
/// Class `Usage` if there is no such bisection, or if it cannot be resumed.
pub fn resume(which: &Path) -> Result<(Record, RunDir)> {
    let named = runs_dir().map(|runs| runs.join(which)).ok().filter(|path| path.join(FILE).is_file());
    let path = if which.join(FILE).is_file() { Some(which.to_owned()) } else { named };
    let path = path.and_then(|path| path.canonicalize().ok()).ok_or_else(|| {
        Error::usage(format!("--resume {}: no bisection to resume", which.display()))
            .why(format!("it is neither a directory with a {FILE} nor the name of such a run"))
            .next("give the directory that the bisection printed")
    })?;
    // Before reading the record: from here on no other process writes it.
    let mut run_dir = RunDir::reopen(&path)?;
    let file = path.join(FILE);
    let no = |why: String| Error::usage(format!("cannot resume {}", file.display())).why(why);
    let mut record: Record =
        serde_json::from_str(&read_text(&file)?).map_err(|error| no(error.to_string()))?;
    if record.schema != SCHEMA {
        return Err(no(format!("its schema is {}; this version supports only {SCHEMA}", record.schema)));
    }
    record.steps.retain(|step| step.class != Class::Host);
    record.report = None;
    run_dir.id.clone_from(&record.run);
    Ok((record, run_dir))
}

/// Runs of one kernel with one set of tests, for any question: they are stored as cells, not verdicts.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Runs {
    runs: Vec<Run>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Its `run.json`.
    pub result: RunResult,
    /// Directory of its console and events.
    pub directory: PathBuf,
}

const KIND: CacheKind = CacheKind::Verdicts;

fn load(ctx: &Context, key: &Key) -> Runs {
    let text = read_text(&ctx.cache.path(KIND, key.as_str())).unwrap_or_default();
    let mut known: Runs = serde_json::from_str(&text).unwrap_or_default();
    // A verdict without evidence is useless.
    known.runs.retain(|run| run.directory.join("run.json").is_file());
    known
}

/// The run with number `at` (from 0) for this key, if there is one.
pub fn known_run(ctx: &Context, key: &Key, at: usize) -> Option<Run> {
    load(ctx, key).runs.into_iter().nth(at)
}

/// Stores a run for later bisections.
///
/// # Errors
/// When it cannot be written.
/// When the file system refuses.
pub fn keep_run(ctx: &Context, key: &Key, result: &RunResult, directory: &Path) -> Result<()> {
    let place = ctx.cache.path(KIND, key.as_str());
    let _lock = ctx.cache.lock(&ctx.bus, KIND, key.as_str())?;
    if let Some(kind) = place.parent() {
        create_dir(kind)?;
    }
    let mut known = load(ctx, key);
    known.runs.push(Run { result: result.clone(), directory: directory.to_owned() });
    let text =
        serde_json::to_string(&known).map_err(|error| Error::host("cannot keep a verdict").why(error))?;
    write_file(&place, text)
}
