// SPDX-License-Identifier: MIT OR Apache-2.0
//! Judges a finished run again from the bytes that its guests sent: the record must follow from them.
//!
//! What the harness knew when it judged a guest is stored next to its raw bytes (`brief.json`): how the guest
//! ended, what was planned, what was allowed; for an external suite also which of its tests were chosen and
//! what it reported before.
//!
//! How it could be wrong: tampering with both the record and the bytes is not detected; neither is a cell
//! that claims `missing` or `notrun` for a test that no guest was to run, but that is not a pass.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vmtest_protocol::TestName;

use vmtest_base::condition::Condition;
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::files::write_file;
use vmtest_base::{beneath, sanitize};
use vmtest_guest::console::Scanner;
use vmtest_guest::events::Stream;
use vmtest_guest::judge::{CellBase, ExternalSuite, JudgeInput, Judged, Rounds, SuiteInput, Terms, judge};
use vmtest_guest::observed::{End, Observed};
use vmtest_record::allow_list::Allowed;
use vmtest_record::ids::ColumnId;
use vmtest_record::load::{MAX_BYTES, Stored, below};
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{BootRecord, Cell, RunResult};

/// Version of the file. 2: with the build ID, and guests prove that the console was working.
const SCHEMA: u32 = 2;
/// Its name, next to the raw bytes.
pub const FILE: &str = "brief.json";
/// Names of the suites on the command line.
const OWN: &str = "own";
const UPSTREAM: &str = "upstream";
/// Most differences that an error lists.
const MAX_TOLD: usize = 10;

/// What the harness knew about a guest besides its bytes, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedInput {
    schema: u32,
    nonce: String,
    end: End,
    complaint: String,
    truncated: bool,
    /// How many bytes of the console and of the events were judged; later ones are answers to queries.
    judged: [u64; 2],
    planned: Vec<TestName>,
    may_skip: Vec<TestName>,
    /// How often each had to run; absent with `--until-fail`.
    rounds: Option<u32>,
    release: String,
    build_id: String,
    emulator: Option<String>,
    /// Titles of warnings that were allowed.
    allowed: Vec<String>,
    /// What is needed to interpret an external suite; absent for our own.
    #[serde(default, rename = "foreign", skip_serializing_if = "Option::is_none")]
    external: Option<ExternalSuite>,
}

impl SavedInput {
    /// What is needed to judge this guest again. The cell names of an external suite come from its program.
    pub fn of(input: &JudgeInput<'_>, seen: &Observed, judged: &Judged) -> SavedInput {
        let JudgeInput { base: _, terms, conditions: _, suite, may_skip } = input;
        let (planned, rounds, external) = match suite {
            SuiteInput::Own { planned, rounds } => (planned.to_vec(), *rounds, None),
            SuiteInput::External(suite) => {
                let names = judged.cells.iter().map(Cell::name).collect();
                (names, Rounds::Exactly(1), Some((*suite).clone()))
            }
        };
        let allowed = judged.splats.iter().filter(|splat| splat.allowed.is_some());
        SavedInput {
            schema: SCHEMA,
            nonce: seen.stream.nonce().to_owned(),
            end: seen.end,
            complaint: seen.complaint.clone(),
            truncated: seen.truncated,
            judged: seen.judged,
            may_skip: planned.iter().filter(|name| may_skip(name)).cloned().collect(),
            planned,
            rounds: match rounds {
                Rounds::Exactly(rounds) => Some(rounds),
                Rounds::UntilFail => None,
            },
            release: terms.release.to_owned(),
            build_id: terms.build_id.to_owned(),
            emulator: terms.emulator.map(str::to_owned),
            allowed: allowed.map(|splat| splat.title.clone()).collect(),
            external,
        }
    }

    /// Writes it next to the bytes.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, store: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self);
        let text = text.map_err(|error| Error::host(format!("cannot write {FILE}")).why(error))?;
        write_file(&store.join(FILE), text)
    }

    /// Reads it.
    ///
    /// # Errors
    /// Class `Host` if it is missing or has another version.
    fn read(dir: &Path) -> Result<SavedInput> {
        let saved: SavedInput = serde_json::from_str(&beneath::read_text_up_to(dir, FILE, MAX_BYTES)?)
            .map_err(|error| not_again(dir, error.to_string()))?;
        match saved.schema {
            SCHEMA => Ok(saved),
            other => {
                let why = format!("the schema of its {FILE} is {other}; this version supports only {SCHEMA}");
                Err(not_again(dir, why))
            }
        }
    }

    /// Why a guest cannot be judged again; `None` if it can.
    fn cannot(&self, boot: &BootRecord, boots: &[BootRecord]) -> Option<String> {
        if (boot.suite == OWN) != self.external.is_none() {
            return Some(format!("suite {}, but its {FILE} belongs to another", boot.suite));
        }
        self.external.as_ref()?;
        // Merging attempts of whole tests needs the cells of each, and the record stores only the result.
        if boots.iter().filter(|one| one.column() == boot.column()).count() > 1 {
            return Some(format!("suite {}, tried again as a whole", boot.suite));
        }
        self.truncated.then(|| format!("suite {}, whose output was cut to keep the run small", boot.suite))
    }

    /// Reads the bytes of the guest again.
    fn observed(&self, dir: &Path) -> Result<Observed> {
        let read = |name: &str, judged: u64| -> Result<Vec<u8>> {
            let mut bytes = beneath::read_up_to(dir, name, MAX_BYTES)?;
            let judged = usize::try_from(judged).unwrap_or(usize::MAX);
            // A file that was truncated to limit the size of the run is shorter, or contains a mark that no
            // guest writes.
            if !self.truncated && bytes.len() < judged {
                let why = format!("{name} has {} bytes of {judged} that were judged", bytes.len());
                return Err(not_again(dir, why));
            }
            bytes.truncate(judged);
            Ok(bytes)
        };
        let mut console = Scanner::default();
        console.feed(&read("console.log", self.judged[0])?);
        console.close();
        let mut stream = Stream::new(self.nonce.clone());
        stream.feed(&read("events.jsonl", self.judged[1])?);
        stream.close();
        let complaint = self.complaint.clone();
        Ok(Observed { stream, console, complaint, ..Observed::new(self.end, self.truncated) })
    }

    /// Judges the guest with the inputs of that time.
    fn judge(&self, boot: &BootRecord, seen: &Observed) -> Result<Judged> {
        let conditions: Vec<Condition> = boot
            .conditions
            .iter()
            .map(|one| Condition::new(&one.what, &one.read, &one.wanted, one.must))
            .collect::<Result<_>>()?;
        let rounds = self.rounds.map_or(Rounds::UntilFail, Rounds::Exactly);
        let input = JudgeInput {
            base: CellBase {
                kernel: boot.kernel.clone(),
                variant: boot.variant.clone(),
                boot: boot.boot.clone(),
                accel: boot.accel.clone(),
                suite: boot.suite.clone(),
                enforced: None,
            },
            terms: Terms {
                release: &self.release,
                build_id: &self.build_id,
                allowed: &Allowed::exactly(&self.allowed),
                emulator: self.emulator.as_deref(),
            },
            conditions: &conditions,
            suite: match &self.external {
                None => SuiteInput::Own { planned: &self.planned, rounds },
                Some(suite) => SuiteInput::External(suite),
            },
            may_skip: &|name| self.may_skip.contains(name),
        };
        Ok(judge(&input, seen))
    }
}

fn not_again(dir: &Path, why: String) -> Error {
    Error::host(format!("cannot re-judge {}", dir.display())).why(why)
}

/// The result of judging a run again.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Number of guests judged.
    pub guests: usize,
    /// Number of their cells.
    pub cells: usize,
    /// Guests that were not judged, with the reason.
    pub left_out: Vec<String>,
}

/// Judges every guest of a run again.
///
/// # Errors
/// Class `Host` if the record contradicts its bytes, or some of them are missing.
pub fn check(stored: &Stored) -> Result<Replayed> {
    check_with(stored, false)
}

/// The same for the bytes that exist: a run whose logs were truncated to limit its size is not a
/// contradiction.
///
/// # Errors
/// Class `Host` if the record contradicts its bytes.
pub fn check_what_is_there(stored: &Stored) -> Result<Replayed> {
    check_with(stored, true)
}

fn check_with(stored: &Stored, lenient: bool) -> Result<Replayed> {
    let mut done = Replayed::default();
    let mut differ: Vec<String> = Vec::new();
    let mut told: BTreeSet<(ColumnId<'_>, String)> = BTreeSet::new();
    let mut left_out: Vec<&BootRecord> = Vec::new();
    for boot in &stored.result.boots {
        let is_saved = beneath::is_file(&stored.dir, Path::new(&boot.directory).join(FILE));
        let Some(dir) = below(&stored.dir, &boot.directory).filter(|_| is_saved) else {
            left_out.push(boot);
            done.left_out.push(format!("{}: made by an older version", boot.directory));
            continue;
        };
        let saved = SavedInput::read(&dir)?;
        if let Some(why) = saved.cannot(boot, &stored.result.boots) {
            left_out.push(boot);
            done.left_out.push(format!("{}: {why}", boot.directory));
            continue;
        }
        let again = saved.observed(&dir).and_then(|seen| Ok((saved.judge(boot, &seen)?, seen)));
        let (judged, seen) = match again {
            Err(error) if lenient => {
                left_out.push(boot);
                done.left_out.push(format!("{}: {}", boot.directory, error.summary()));
                continue;
            }
            again => again?,
        };
        done.guests += 1;
        done.cells += judged.cells.len();
        differ.extend(other_ids(&stored.result, boot, &saved, &seen));
        differ.extend(differences(&stored.result, boot, &judged));
        for cell in judged.cells {
            told.insert((boot.column(), sanitize::line(&cell.path())));
        }
    }
    // A test that never ran has no bytes; neither does one that the tree does not have, which counts.
    let silent = |cell: &Cell| match said(cell, 1) {
        (Outcome::Notrun, ..) => true,
        (Outcome::Missing, class, _) => cell.suite == UPSTREAM && class == Class::Incomplete,
        _ => false,
    };
    // Cells of a guest that was left out cannot be checked.
    let known = |cell: &&Cell| !silent(cell) && !left_out.iter().any(|boot| boot.column() == cell.column());
    for cell in stored.result.cells.iter().filter(known) {
        if !told.contains(&(cell.column(), cell.path())) && !is_copied(&stored.result, cell) {
            let outcome = cell.outcome.name();
            differ.push(format!("{} on {}: {outcome}, but no guest reported it", cell.path(), cell.kernel));
        }
    }
    if differ.is_empty() {
        return Ok(done);
    }
    let more = differ.len().saturating_sub(MAX_TOLD);
    let what = format!("{} contradicts the output of its guests", stored.dir.display());
    let error = Error::host(what).detail(differ.into_iter().take(MAX_TOLD));
    Err(if more > 0 { error.detail([format!("and {more} more")]) } else { error })
}

/// Whether a cell is that of an earlier kernel that is the same byte for byte, with the same outcome.
fn is_copied(run: &RunResult, cell: &Cell) -> bool {
    let kernel = run.kernels.iter().find(|kernel| kernel.id == cell.kernel);
    let Some(same_as) = kernel.and_then(|kernel| kernel.same_as.as_ref()) else { return false };
    let is_same = |other: &&Cell| {
        let here = ColumnId { kernel: same_as, ..cell.column() };
        (other.column(), other.path(), other.outcome) == (here, cell.path(), cell.outcome)
    };
    run.cells.iter().any(|other| is_same(&other))
}

/// Build IDs in the record that differ from those by which this guest was judged.
fn other_ids(run: &RunResult, boot: &BootRecord, saved: &SavedInput, seen: &Observed) -> Vec<String> {
    // A column may have several kernels, one for each variant.
    let mut of_column = run.kernels.iter().filter(|kernel| kernel.id == boot.kernel);
    let started = of_column.any(|kernel| kernel.build_id == saved.build_id);
    let said = seen.stream.hello.as_ref().map(|hello| sanitize::lines(&hello.build_id)).unwrap_or_default();
    let mut differ = Vec::new();
    if !started {
        let known = &saved.build_id;
        differ
            .push(format!("{}: started with build ID {known:?}, which is not in the record", boot.directory));
    }
    if boot.build_id != said {
        let recorded = &boot.build_id;
        differ.push(format!("{}: build ID {recorded:?}, but its guest reported {said:?}", boot.directory));
    }
    differ
}

/// Differences between the record of this guest and its bytes.
fn differences(run: &RunResult, boot: &BootRecord, judged: &Judged) -> Vec<String> {
    let Judged { verdict, cells, .. } = judged;
    let mut differ = Vec::new();
    if (boot.class, &boot.reason) != (verdict.class, &sanitize::lines(&verdict.reason)) {
        differ.push(format!(
            "{}: class {} ({}), but its raw output says {} ({})",
            boot.directory,
            boot.class.code(),
            boot.reason,
            verdict.class.code(),
            verdict.reason
        ));
    }
    let number = boot.attempt.unwrap_or(1);
    for cell in cells {
        let path = sanitize::line(&cell.path());
        let same = |one: &&Cell| one.column() == boot.column() && one.path() == path;
        let Some(recorded) = run.cells.iter().find(same) else {
            differ.push(format!("{path} on {}: not in the record", boot.kernel));
            continue;
        };
        let says = said(recorded, number);
        let is = (cell.outcome, cell.class, sanitize::lines(&cell.reason));
        // A matrix that declares or requires a cell changes its class and reason.
        let same = if run.matrix.is_some() { says.0 == is.0 } else { says == is };
        if !same {
            differ.push(format!(
                "{path} on {}: {} ({}), but its guest reported {} ({})",
                boot.kernel,
                says.0.name(),
                says.2,
                is.0.name(),
                is.2
            ));
        }
    }
    differ
}

/// The recorded result of a cell in one attempt, before a matrix or --allow-flaky changed it.
fn said(cell: &Cell, number: u32) -> (Outcome, Class, String) {
    if let Some(one) = cell.tries.iter().find(|one| one.number == number) {
        return (one.outcome, one.class, one.reason.clone());
    }
    match &cell.expected {
        Some(expected) => (expected.outcome, expected.class, expected.why.clone()),
        None => (cell.outcome, cell.class, cell.reason.clone()),
    }
}
