// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loads a finished run from its directory into the model that it was written from. A record that contradicts
//! itself is rejected: a truncated file must not turn into a pass. The record may come from another machine:
//! no link in its directory is followed, and only regular files of a bounded size are read.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::outcome::Outcome;
use crate::reference_columns;
use crate::run::{BootRecord, Cell, RunResult, SCHEMA};
use vmtest_base::beneath;
use vmtest_base::dotconfig::DotConfig;
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::places::runs_dir;
use vmtest_base::program;

/// File name of a bisection's record.
const BISECTION: &str = "bisect.json";
/// File name of a run's record.
pub const FILE: &str = "run.json";
/// Configuration of a guest's kernel, next to its console; missing if it is unknown.
pub const CONFIG: &str = "config";
/// Bytes that are read from the end of a console.
const MAX_OF_A_CONSOLE: u64 = 4 * 1024 * 1024;
/// Largest record that is read. A run of 200 kernels with all suites has 40 MB.
pub const MAX_BYTES: u64 = 512 * 1024 * 1024;

/// Consoles by the directories of their guests, as far as they exist.
pub type Consoles = BTreeMap<String, String>;

/// A finished run.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its directory.
    pub dir: PathBuf,
    /// Its record.
    pub result: RunResult,
}

impl Stored {
    /// Opens a run: `latest`, `-2` (the second last), its name, its directory, or its `run.json`.
    ///
    /// # Errors
    /// Class `Usage` if the run does not exist, class `Host` if its record cannot be trusted.
    pub fn open(which: &Path) -> Result<Stored> {
        let dir = find(which)?;
        let result = read(&dir)?;
        Ok(Stored { dir, result })
    }

    /// Configurations of its kernels, by kernel ID and variant.
    pub fn options(&self) -> BTreeMap<(String, String), DotConfig> {
        options(&self.dir, &self.result)
    }
}

/// Configurations of the kernels of a run in this directory, by kernel ID and variant, as far as they exist.
pub fn options(dir: &Path, run: &RunResult) -> BTreeMap<(String, String), DotConfig> {
    let of_boot = |boot: &BootRecord| {
        let text = beneath::read_text(dir, Path::new(&boot.directory).join(CONFIG)).ok()?;
        Some(((boot.kernel.clone(), boot.variant.clone()), vmtest_base::dotconfig::parse(&text)))
    };
    run.boots.iter().filter_map(of_boot).collect()
}

/// Consoles of the guests that did not pass, in which a test failed, or whose kernel printed a warning, by directory.
pub fn consoles(dir: &Path, run: &RunResult) -> Consoles {
    let complained = |boot: &BootRecord| {
        let failed = |cell: &Cell| cell.outcome == Outcome::Fail && cell.variant_id() == boot.variant_id();
        boot.class != Class::Pass
            || run.splats.iter().any(|splat| splat.variant_id() == boot.variant_id())
            || run.cells.iter().any(failed)
    };
    let of_boot = |boot: &BootRecord| {
        let path = Path::new(&boot.directory).join("console.log");
        // A guest may write arbitrary bytes.
        let bytes = beneath::last_bytes(dir, path, MAX_OF_A_CONSOLE).ok()?;
        Some((boot.directory.clone(), String::from_utf8_lossy(&bytes).into_owned()))
    };
    run.boots.iter().filter(|boot| complained(boot)).filter_map(of_boot).collect()
}

/// Loads the record of a bisection.
///
/// # Errors
/// Class `Usage` if the run does not exist, class `Host` if it cannot be read.
pub fn bisection(which: &Path) -> Result<crate::bisection::Bisection> {
    let named = runs_dir().map(|runs| runs.join(which));
    let places = [Some(which.to_owned()), named.ok()];
    let dir = places.into_iter().flatten().find(|dir| beneath::is_file(dir, BISECTION));
    let dir = dir.ok_or_else(|| Error::usage(format!("no such bisection: {}", which.display())))?;
    let no = |why: String| Error::host(format!("cannot draw {}", dir.join(BISECTION).display())).why(why);
    let text = beneath::read_text_up_to(&dir, BISECTION, MAX_BYTES)?;
    let record: Value = serde_json::from_str(&text).map_err(|error| no(error.to_string()))?;
    // The fields that are read here are the same in both; only the question for each kernel is stored
    // differently.
    if record["schema"] != 1 && record["schema"] != 2 {
        return Err(no(format!("its schema is {}, and only 1 and 2 are known here", record["schema"])));
    }
    serde_json::from_value(record["report"].clone()).map_err(|_| {
        no("it is not finished".to_owned())
            .next(format!("resume it with {}", program::command("bisect --resume")))
    })
}

/// A path below a run's directory; `None` for a name that leads out of it.
pub fn below(dir: &Path, name: &str) -> Option<PathBuf> {
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    (plain && !name.is_empty()).then(|| dir.join(name))
}

/// The directory of a run that left a record.
///
/// # Errors
/// Class `Usage` if the run does not exist.
pub fn find(which: &Path) -> Result<PathBuf> {
    let no = |why: String| Error::usage(format!("no such finished run: {}", which.display())).why(why);
    if which.file_name().is_some_and(|name| name == FILE)
        && which.symlink_metadata().is_ok_and(|stat| stat.is_file())
    {
        let dir = which.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return dir.canonicalize().on("cannot resolve", dir);
    }
    let runs = runs_dir().ok();
    if let Some(back) = which.to_str().and_then(|which| which.strip_prefix('-')?.parse::<usize>().ok()) {
        let all = runs.as_ref().map(|runs| finished(runs)).unwrap_or_default();
        let found = back.checked_sub(1).and_then(|back| all.into_iter().rev().nth(back));
        let found = found.ok_or_else(|| no("there are not that many finished runs".to_owned()))?;
        return found.canonicalize().on("cannot resolve", &found);
    }
    let named = runs.as_ref().map(|runs| runs.join(which));
    let places = [Some(which.to_owned()), named];
    let mut found = places.into_iter().flatten().filter(|place| place.is_dir());
    let Some(dir) = found.next() else {
        let below =
            runs.map_or_else(String::new, |runs| format!(", nor the name of a run in {}", runs.display()));
        return Err(no(format!("it is not a directory{below}"))
            .next("name the directory that the run printed, its name, or `latest`"));
    };
    if !beneath::is_file(&dir, FILE) {
        return Err(
            match [BISECTION, "mutants.json"].into_iter().find(|file| beneath::is_file(&dir, file)) {
                Some(file) => no(format!("{} holds {file}, which is another kind of run", dir.display())),
                None => no(format!("{} holds no {FILE}: it is under way, or was killed", dir.display())),
            },
        );
    }
    dir.canonicalize().on("cannot resolve", &dir)
}

/// Finished runs with a record in this directory, oldest first.
pub fn finished(runs: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_run = |dir: &PathBuf| {
        let name = dir.file_name().and_then(|name| name.to_str());
        // `latest` is a second name of one of them.
        name.is_some_and(|name| vmtest_base::date::of_run(name).is_some()) && beneath::is_file(dir, FILE)
    };
    let mut dirs: Vec<PathBuf> = entries.filter(is_run).collect();
    // A name has the second in which a run began, and random digits.
    dirs.sort_by_cached_key(|dir| {
        let began = dir.file_name().and_then(|name| name.to_str()?.get(..15).map(str::to_owned));
        let ended = dir.join(FILE).symlink_metadata().and_then(|stat| stat.modified()).ok();
        (began, ended)
    });
    dirs
}

/// Reads the record in the directory of a run.
///
/// # Errors
/// Class `Host` if it has another version or contradicts itself.
pub fn read(dir: &Path) -> Result<RunResult> {
    let no = |why: String| Error::host(format!("cannot trust {}", dir.join(FILE).display())).why(why);
    let text = beneath::read_text_up_to(dir, FILE, MAX_BYTES)?;
    /// Enough of the record to say why the rest cannot be read.
    #[derive(serde::Deserialize)]
    struct Version {
        schema: u32,
    }
    let version: Version = serde_json::from_str(&text).map_err(|error| no(error.to_string()))?;
    if version.schema != SCHEMA {
        return Err(no(format!("its schema is {}, and only {SCHEMA} is known here", version.schema)));
    }
    let mut run: RunResult = serde_json::from_str(&text).map_err(|error| no(error.to_string()))?;
    // The record may be untrusted, and its text is shown on a terminal.
    crate::clean::clean(&mut run);
    check(&run).map_err(no)?;
    // Follows from the cells, also in the record of an earlier version.
    let interrupted = interruption(&run);
    crate::attribution::settle(&mut run, interrupted);
    Ok(run)
}

/// Checks that the exit code and the classes follow from the cells and boots.
///
/// How it could be wrong: a cell that was removed along with its count leaves a consistent record. Only the
/// raw events show that it is missing.
///
/// # Errors
/// The contradiction.
pub fn check(run: &RunResult) -> std::result::Result<(), String> {
    let mut again = run.clone();
    reference_columns::settle(&mut again);
    again.conclude(interruption(run));
    if again.exit_code != run.exit_code || again.classes != run.classes {
        return Err(format!(
            "it records exit {}, {}; its cells give exit {}, {}",
            run.exit_code.code(),
            counts(run),
            again.exit_code.code(),
            counts(&again)
        ));
    }
    Ok(())
}

fn interruption(run: &RunResult) -> Option<Class> {
    [Class::Interrupted, Class::Terminated].into_iter().find(|class| *class == run.exit_code)
}

/// `2 x pass, 1 x test failed`.
fn counts(run: &RunResult) -> String {
    let counts: Vec<String> =
        run.classes.iter().map(|(class, count)| format!("{count} x {}", class.label())).collect();
    if counts.is_empty() { "no cells".to_owned() } else { counts.join(", ") }
}

#[cfg(test)]
mod tests;
