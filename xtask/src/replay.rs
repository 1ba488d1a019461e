// SPDX-License-Identifier: MIT OR Apache-2.0
//! A finished run judged once more, from the bytes that its guests sent: what a record says must follow from them.
//!
//! Beside the raw bytes of a guest lies what the harness knew when it judged them (`brief.json`): how the guest ended, what
//! was planned, what was allowed; of a program that speaks for itself also what was chosen of it and what the same program
//! reported before. How it could be wrong: who changes both the record and the bytes is not found out; nor is a cell that
//! says `missing` or `notrun` of a test that no guest was asked for, which is no pass.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use serde::{Deserialize, Serialize};
use vmtest_protocol::TestName;

use crate::allow::Allowed;
use crate::error::{Class, Error, Result};
use crate::files::write_file;
use crate::guest::Stream;
use crate::kernel::variant::Condition;
use crate::result::{self, BootRecord, Cell, CellBase, Outcome, Rounds, RunResult, Terms, Verdict};
use crate::stored::{MOST_BYTES, Stored, below};
use crate::suite::choice::Chosen;
use crate::suite::program::{self, Program};
use crate::suite::upstream::Known;
use crate::suite::verdict;
use crate::vm::console::Scanner;
use crate::vm::session::{End, Observed};
use crate::{conditions, confined, plain};

/// Version of a brief. 2: with the build id, and guests show that their console was heard.
const SCHEMA: u32 = 2;
/// Its name, beside the raw bytes.
pub const FILE: &str = "brief.json";
/// Suites, as they are asked for.
const OWN: &str = "own";
const UPSTREAM: &str = "upstream";
/// Differences that an error tells.
const MOST_TOLD: usize = 10;

/// What the harness knew of a guest besides its bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Brief {
    schema: u32,
    nonce: String,
    end: Ended,
    complaint: String,
    truncated: bool,
    /// Bytes of the console and of the events that were judged; what came later was asked for.
    judged: [u64; 2],
    planned: Vec<TestName>,
    may_skip: Vec<TestName>,
    /// How often each had to run; absent for until one fails.
    rounds: Option<u32>,
    release: String,
    build_id: String,
    emulator: Option<String>,
    /// Titles of complaints that were allowed.
    allowed: Vec<String>,
    /// What it takes to read another suite than the own; absent for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    foreign: Option<Foreign>,
}

/// A suite whose program speaks for itself: what is needed to understand it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Foreign {
    /// The tree's own tests.
    Upstream {
        /// Those that the guest was to run.
        chosen: Vec<Chosen>,
        /// What the same binary had reported before.
        known: Known,
    },
    /// A program of selftests/suites/.
    Program(Program),
}

/// [`End`], as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "how", content = "status", rename_all = "kebab-case")]
enum Ended {
    /// With a status as wait(2) gives it.
    Exited(i32),
    /// With the class of the interruption.
    Interrupted(u8),
    NoFirstByte,
    BootLimit,
    IdleLimit,
    RunLimit,
    ShutdownLimit,
    StayedDead,
}

impl Ended {
    fn of(end: End) -> Ended {
        match end {
            End::Exited(status) => Ended::Exited(status.into_raw()),
            End::Interrupted(class) => Ended::Interrupted(class.code()),
            End::NoFirstByte => Ended::NoFirstByte,
            End::BootLimit => Ended::BootLimit,
            End::IdleLimit => Ended::IdleLimit,
            End::RunLimit => Ended::RunLimit,
            End::ShutdownLimit => Ended::ShutdownLimit,
            End::StayedDead => Ended::StayedDead,
        }
    }

    fn meant(&self) -> End {
        match self {
            Ended::Exited(status) => End::Exited(ExitStatus::from_raw(*status)),
            Ended::Interrupted(class) => End::Interrupted(Class::from_code(*class).unwrap_or(Class::Host)),
            Ended::NoFirstByte => End::NoFirstByte,
            Ended::BootLimit => End::BootLimit,
            Ended::IdleLimit => End::IdleLimit,
            Ended::RunLimit => End::RunLimit,
            Ended::ShutdownLimit => End::ShutdownLimit,
            Ended::StayedDead => End::StayedDead,
        }
    }
}

impl Brief {
    /// What is known of a guest that is about to be judged.
    pub fn of(
        seen: &Observed,
        terms: &Terms<'_>,
        planned: &[TestName],
        rounds: Rounds,
        may_skip: result::MaySkip<'_>,
    ) -> Brief {
        let titles = seen.console.splats().map(|hit| &hit.title);
        let titles = titles.chain(seen.stream.splats.iter().map(|splat| &splat.title)).cloned();
        let titles = titles.chain(result::unexplained_taint(seen));
        Brief {
            schema: SCHEMA,
            nonce: seen.stream.nonce().to_owned(),
            end: Ended::of(seen.end),
            complaint: seen.complaint.clone(),
            truncated: seen.truncated,
            judged: seen.judged,
            planned: planned.to_vec(),
            may_skip: planned.iter().filter(|name| may_skip(name)).cloned().collect(),
            rounds: match rounds {
                Rounds::Exactly(rounds) => Some(rounds),
                Rounds::UntilFail => None,
            },
            release: terms.release.to_owned(),
            build_id: terms.build_id.to_owned(),
            emulator: terms.emulator.map(str::to_owned),
            allowed: titles.filter(|title| terms.allowed.allows(title).is_some()).collect(),
            foreign: None,
        }
    }

    /// The same of another suite, whose cells have names that its program gave them.
    pub fn of_foreign(self, foreign: Foreign, cells: &[Cell], may_skip: result::MaySkip<'_>) -> Brief {
        let name = |cell: &Cell| TestName { test: cell.test.clone(), subtest: cell.subtest.clone() };
        let planned: Vec<TestName> = cells.iter().map(name).collect();
        let may_skip = planned.iter().filter(|name| may_skip(name)).cloned().collect();
        Brief { planned, may_skip, foreign: Some(foreign), ..self }
    }
}

impl Brief {
    /// Why a guest cannot be judged again; `None` where it can.
    fn cannot(&self, boot: &BootRecord, boots: &[BootRecord]) -> Option<String> {
        if (boot.suite == OWN) != self.foreign.is_none() {
            return Some(format!("suite {}, and its {FILE} is of another", boot.suite));
        }
        self.foreign.as_ref()?;
        let column = |one: &BootRecord| {
            (&one.kernel, &one.variant, &one.boot, &one.suite)
                == (&boot.kernel, &boot.variant, &boot.boot, &boot.suite)
        };
        // Attempts of whole tests are joined by what each of them saw, and the record keeps no more than the sum.
        if boots.iter().filter(|one| column(one)).count() > 1 {
            return Some(format!("suite {}, tried again as a whole", boot.suite));
        }
        self.truncated.then(|| format!("suite {}, whose words were cut to keep the run small", boot.suite))
    }

    /// Writes it beside the bytes.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn leave(&self, store: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self);
        write_file(&store.join(FILE), text.map_err(|error| Error::host("cannot write a brief").why(error))?)
    }
}

/// What was judged again.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Guests.
    pub guests: usize,
    /// Cells of theirs.
    pub cells: usize,
    /// Guests that were not, with the reason.
    pub left_out: Vec<String>,
}

/// Judges every guest of a run again.
///
/// # Errors
/// Class `Host` where the record says something else than its bytes, or some of them are not there any more.
pub fn check(stored: &Stored) -> Result<Replayed> {
    check_with(stored, false)
}

/// The same as far as the bytes are there: a run whose logs were cut to keep it small is no contradiction.
///
/// # Errors
/// Class `Host` where the record says something else than its bytes.
pub fn check_what_is_there(stored: &Stored) -> Result<Replayed> {
    check_with(stored, true)
}

fn check_with(stored: &Stored, lenient: bool) -> Result<Replayed> {
    let mut done = Replayed::default();
    let mut differ: Vec<String> = Vec::new();
    let mut told: BTreeSet<(String, String, String, String, String)> = BTreeSet::new();
    let mut left_out: Vec<&BootRecord> = Vec::new();
    for boot in &stored.result.boots {
        let has_brief = confined::is_file(&stored.dir, Path::new(&boot.directory).join(FILE));
        let Some(dir) = below(&stored.dir, &boot.directory).filter(|_| has_brief) else {
            left_out.push(boot);
            done.left_out.push(format!("{}: of an older version", boot.directory));
            continue;
        };
        let brief = read_brief(&dir)?;
        if let Some(why) = brief.cannot(boot, &stored.result.boots) {
            left_out.push(boot);
            done.left_out.push(format!("{}: {why}", boot.directory));
            continue;
        }
        let (seen, verdict, cells) = match replay(&dir, &brief, boot) {
            Err(error) if lenient => {
                left_out.push(boot);
                done.left_out.push(format!("{}: {}", boot.directory, error.summary()));
                continue;
            }
            judged => judged?,
        };
        done.guests += 1;
        done.cells += cells.len();
        differ.extend(other_ids(&stored.result, boot, &brief, &seen));
        differ.extend(differences(&stored.result, boot, &verdict, &cells));
        for cell in cells {
            let path = plain::line(&cell.path());
            told.insert((cell.kernel, cell.variant, cell.boot, cell.suite, path));
        }
    }
    let of = |boot: &BootRecord, cell: &Cell| {
        (&boot.kernel, &boot.variant, &boot.boot, &boot.suite)
            == (&cell.kernel, &cell.variant, &cell.boot, &cell.suite)
    };
    // What never ran, no guest tells of; nor of what the tree has not, which counts.
    let silent = |cell: &Cell| match said(cell, 1) {
        (Outcome::Notrun, ..) => true,
        (Outcome::Missing, class, _) => cell.suite == UPSTREAM && class == Class::Incomplete.code(),
        _ => false,
    };
    // What may be of a guest that was left out is not known.
    let known = |cell: &&Cell| !silent(cell) && !left_out.iter().any(|boot| of(boot, cell));
    for cell in stored.result.cells.iter().filter(known) {
        let Cell { kernel, variant, boot, suite, .. } = cell.clone();
        if !told.contains(&(kernel, variant, boot, suite, cell.path())) {
            let outcome = cell.outcome.name();
            differ.push(format!("{} on {}: {outcome}, and no guest told of it", cell.path(), cell.kernel));
        }
    }
    if differ.is_empty() {
        return Ok(done);
    }
    let more = differ.len().saturating_sub(MOST_TOLD);
    let what = format!("{} says something else than what its guests said", stored.dir.display());
    let error = Error::host(what).detail(differ.into_iter().take(MOST_TOLD));
    Err(if more > 0 { error.detail([format!("and {more} more")]) } else { error })
}

/// What was known of a guest.
fn read_brief(dir: &Path) -> Result<Brief> {
    let no = |why: String| Error::host(format!("cannot judge {} again", dir.display())).why(why);
    let brief: Brief = serde_json::from_str(&confined::read_text_up_to(dir, FILE, MOST_BYTES)?)
        .map_err(|error| no(error.to_string()))?;
    if brief.schema != SCHEMA {
        return Err(no(format!(
            "the schema of its {FILE} is {}, and only {SCHEMA} is known here",
            brief.schema
        )));
    }
    Ok(brief)
}

/// Judges a guest as it was judged then.
fn replay(dir: &Path, brief: &Brief, boot: &BootRecord) -> Result<(Observed, Verdict, Vec<Cell>)> {
    let no = |why: String| Error::host(format!("cannot judge {} again", dir.display())).why(why);
    let read = |name: &str, judged: u64| -> Result<Vec<u8>> {
        let mut bytes = confined::read_up_to(dir, name, MOST_BYTES)?;
        let judged = usize::try_from(judged).unwrap_or(usize::MAX);
        // A file that was cut to keep the run small is shorter, or holds a mark that is in no guest's words.
        if !brief.truncated && bytes.len() < judged {
            return Err(no(format!("{name} has {} bytes of {judged} that were judged", bytes.len())));
        }
        bytes.truncate(judged);
        Ok(bytes)
    };
    let mut console = Scanner::default();
    console.feed(&read("console.log", brief.judged[0])?);
    console.close();
    let mut stream = Stream::new(brief.nonce.clone());
    stream.feed(&read("events.jsonl", brief.judged[1])?);
    stream.close();
    let seen = Observed {
        stream,
        console,
        complaint: brief.complaint.clone(),
        ..Observed::new(brief.end.meant(), brief.truncated)
    };
    let allowed = Allowed::exactly(&brief.allowed);
    let terms = Terms {
        release: &brief.release,
        build_id: &brief.build_id,
        allowed: &allowed,
        emulator: brief.emulator.as_deref(),
    };
    let verdict = result::judge_boot(&seen, &terms);
    let wanted: Vec<Condition> = boot
        .conditions
        .iter()
        .map(|one| Condition::new(&one.what, &one.read, &one.wanted, one.must))
        .collect::<Result<_>>()?;
    let found = seen
        .stream
        .hello
        .as_ref()
        .map(|hello| conditions::check(&wanted, &hello.features))
        .unwrap_or_default();
    let verdict = conditions::judge(&found, verdict);
    let base = CellBase {
        kernel: boot.kernel.clone(),
        variant: boot.variant.clone(),
        boot: boot.boot.clone(),
        accel: boot.accel.clone(),
        suite: boot.suite.clone(),
        enforced: conditions::enforced(&found),
    };
    let rounds = brief.rounds.map_or(Rounds::UntilFail, Rounds::Exactly);
    let may_skip = |name: &TestName| brief.may_skip.contains(name);
    let cells = match &brief.foreign {
        None => result::cells(&base, &brief.planned, &seen, &verdict, rounds, &may_skip),
        Some(Foreign::Upstream { chosen, known }) => {
            verdict::judge(&base, chosen, known, &seen, &verdict, &may_skip).cells
        }
        Some(Foreign::Program(program)) => program::judge(&base, program, &seen, &verdict, &may_skip),
    };
    Ok((seen, verdict, cells))
}

/// Build ids of the record that are not those by which this guest was judged.
fn other_ids(run: &RunResult, boot: &BootRecord, brief: &Brief, seen: &Observed) -> Vec<String> {
    // A column may have several kernels, one for each variant.
    let mut of_column = run.kernels.iter().filter(|kernel| kernel.id == boot.kernel);
    let started = of_column.any(|kernel| kernel.build_id == brief.build_id);
    let said = seen.stream.hello.as_ref().map(|hello| plain::plain(&hello.build_id)).unwrap_or_default();
    let mut differ = Vec::new();
    if !started {
        let known = &brief.build_id;
        differ.push(format!(
            "{}: started with build id {known:?}, which the record does not have",
            boot.directory
        ));
    }
    if boot.build_id != said {
        let recorded = &boot.build_id;
        differ.push(format!("{}: build id {recorded:?}, and its guest said {said:?}", boot.directory));
    }
    differ
}

/// What the record says of this guest and its bytes do not.
fn differences(run: &RunResult, boot: &BootRecord, verdict: &Verdict, cells: &[Cell]) -> Vec<String> {
    let mut differ = Vec::new();
    if (boot.class, &boot.reason) != (verdict.class.code(), &plain::plain(&verdict.reason)) {
        differ.push(format!(
            "{}: class {} ({}), and its bytes say {} ({})",
            boot.directory,
            boot.class,
            boot.reason,
            verdict.class.code(),
            verdict.reason
        ));
    }
    let number = boot.attempt.unwrap_or(1);
    for cell in cells {
        let path = plain::line(&cell.path());
        let same = |one: &&Cell| {
            (&one.kernel, &one.variant, &one.boot, &one.suite)
                == (&boot.kernel, &boot.variant, &boot.boot, &boot.suite)
                && one.path() == path
        };
        let Some(recorded) = run.cells.iter().find(same) else {
            differ.push(format!("{path} on {}: not in the record", boot.kernel));
            continue;
        };
        let says = said(recorded, number);
        let is = (cell.outcome, cell.class, plain::plain(&cell.reason));
        // What a matrix declares or requires makes another class and reason of what a guest said.
        let same = if run.matrix.is_some() { says.0 == is.0 } else { says == is };
        if !same {
            differ.push(format!(
                "{path} on {}: {} ({}), and its guest said {} ({})",
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

/// What a record says that a cell was in one attempt, before a matrix or --allow-flaky made something else of it.
fn said(cell: &Cell, number: u32) -> (Outcome, u8, String) {
    if let Some(one) = cell.tries.iter().find(|one| one.number == number) {
        return (one.outcome, one.class, one.reason.clone());
    }
    match &cell.expected {
        Some(expected) => (expected.outcome, expected.class, expected.why.clone()),
        None => (cell.outcome, cell.class, cell.reason.clone()),
    }
}
