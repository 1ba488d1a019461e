// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bisect.json`: everything that a bisection knows, written after each run of a kernel, so that it can be killed at
//! any
//! moment and go on. And the verdicts of kernels that were asked before, in the cache.

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

/// Version of `bisect.json`. One that is not known is not gone on with.
pub const SCHEMA: u32 = 2;
/// The file in the run's directory.
pub const FILE: &str = "bisect.json";

/// `bisect.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name of the run.
    pub run: String,
    /// The command line.
    pub command: Vec<String>,
    /// What every kernel is run with.
    pub request: Request,
    /// `--mirror`.
    pub mirror: Option<String>,
    /// Key of the runner and the configuration: verdicts of others are not mixed with these.
    pub suite: String,
    /// What is searched.
    pub axis: Axis,
    /// From where to where.
    pub ends: Ends,
    /// What is asked.
    pub question: Question,
    /// How much it takes to believe.
    pub trust: Trust,
    /// Kernels between the ends, the new end included.
    pub history: usize,
    /// Every run so far, in order.
    pub steps: Vec<StoredStep>,
    /// The answer; absent as long as there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Bisection>,
}

/// One run of one kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredStep {
    /// Counts from 1; those that were forgotten leave a gap.
    pub number: usize,
    /// Which kernel.
    pub id: String,
    /// What people call it.
    pub known: Known,
    /// What it came to.
    pub verdict: Verdict,
    /// Why.
    pub why: String,
    /// Exit class of that; 0 of a good one.
    pub class: Class,
    /// Why it was asked.
    pub purpose: String,
    /// Directory of its `run.json`, consoles and events. Below the run's, unless it is of an earlier bisection.
    pub directory: PathBuf,
    /// It is of an earlier bisection.
    pub cached: bool,
    /// Guests that were started.
    pub boots: usize,
    /// Seconds that it took to have the kernel.
    pub built_s: f64,
    /// Seconds that it ran.
    pub ran_s: f64,
}

impl Record {
    /// The search as far as it is.
    pub fn search(&self) -> Search {
        let mut runs: BTreeMap<String, Vec<Verdict>> = BTreeMap::new();
        for step in &self.steps {
            runs.entry(step.id.clone()).or_default().push(step.verdict);
        }
        Search { ends: self.ends.clone(), find_fix: self.question.find_fix, trust: self.trust, runs }
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::host(format!("cannot write {FILE}")).why(error))?;
        write_file(&dir.join(FILE), text)
    }
}

/// Opens a bisection that was begun: a directory, the name of a run, or `latest`. What this host is to blame for is
/// forgotten, and so tried again.
///
/// # Errors
/// Class `Usage` where there is none that can go on.
pub fn resume(which: &Path) -> Result<(Record, RunDir)> {
    let named = runs_dir().map(|runs| runs.join(which)).ok().filter(|path| path.join(FILE).is_file());
    let path = if which.join(FILE).is_file() { Some(which.to_owned()) } else { named };
    let path = path.and_then(|path| path.canonicalize().ok()).ok_or_else(|| {
        Error::usage(format!("--resume {}: no bisection to resume", which.display()))
            .why(format!("it is neither a directory with a {FILE} nor the name of such a run"))
            .next("give the directory that the bisection printed")
    })?;
    // Before its record is read: nobody else writes it then.
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

/// Runs of one kernel with one set of tests, whoever asked for them and whatever was asked: cells, not verdicts.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Runs {
    runs: Vec<Run>,
}

/// One of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// `run.json` of it.
    pub result: RunResult,
    /// Where its console and events are.
    pub directory: PathBuf,
}

const KIND: CacheKind = CacheKind::Verdicts;

fn load(ctx: &Context, key: &Key) -> Runs {
    let text = read_text(&ctx.cache.path(KIND, key.as_str())).unwrap_or_default();
    let mut known: Runs = serde_json::from_str(&text).unwrap_or_default();
    // A verdict without its evidence is hearsay.
    known.runs.retain(|run| run.directory.join("run.json").is_file());
    known
}

/// The run number `at` (from 0) of the kernel and tests that this key stands for, if it was made before.
pub fn known_run(ctx: &Context, key: &Key, at: usize) -> Option<Run> {
    load(ctx, key).runs.into_iter().nth(at)
}

/// Keeps a run for others.
///
/// # Errors
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
