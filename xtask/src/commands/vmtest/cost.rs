// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run will cost, for `--dry-run`: kernels to build, and time and disk by what earlier runs took.

use std::path::Path;

use serde_json::Value;

use vmtest_base::error::{Class, Result};
use vmtest_base::places::runs_dir;
use vmtest_engine::build_chain;
use vmtest_engine::column;
use vmtest_engine::plan::Column;
use vmtest_engine::prepare::Meaning;
use vmtest_engine::resources::Resources;
use vmtest_host::build_root::BuildRoot;
use vmtest_host::doctor::Toolchain;
use vmtest_host::store::CacheKind;
use vmtest_kernel::spec::KernelSpec;
use vmtest_record::load;

/// Most earlier runs that are read.
const RUNS: usize = 30;

pub(super) struct Cost {
    builds: usize,
    /// `None` if no earlier run tells.
    seconds: Option<u64>,
    bytes: Option<u64>,
}

impl Cost {
    /// Reads earlier runs, and applies a series whose kernel is in the cache: a run that would fail with it is
    /// refused here as well.
    ///
    /// # Errors
    /// Class `SeriesDoesNotApply`.
    pub(super) fn of(resources: &Resources<'_>) -> Result<Cost> {
        let columns = &resources.plan.columns;
        let mut meanings = resources.prepared.meanings.iter();
        let mut builds = 0;
        for chain in build_chain::split(columns) {
            let meant: Vec<&Meaning> = meanings.by_ref().take(chain.len()).collect();
            builds += to_build(resources, chain, &meant)?;
        }
        let (builds_ms, guests_ms) = earlier();
        let guests = columns.len().div_ceil(resources.plan.vms.max(1));
        let needed = |times: u64, each: Option<u64>| if times == 0 { Some(0) } else { Some(times * each?) };
        let time = needed(builds as u64, median(builds_ms))
            .zip(needed(guests as u64, median(guests_ms)))
            .map(|(builds, guests)| (builds + guests) / 1000);
        let kernel = newest_size(resources, CacheKind::Kernel);
        let objects = newest_size(resources, CacheKind::Objects);
        let bytes = kernel.map(|kernel| kernel * builds as u64 + objects.unwrap_or(0));
        Ok(Cost { builds, seconds: time, bytes: bytes.filter(|_| builds > 0) })
    }

    pub(super) fn line(&self) -> String {
        let what = match self.builds {
            0 => "no kernel to build".to_owned(),
            1 => "1 kernel to build".to_owned(),
            more => format!("{more} kernels to build"),
        };
        let time = match self.seconds {
            Some(seconds) => format!(", about {} min as in earlier runs", seconds.div_ceil(60).max(1)),
            None => "; there is no earlier run to estimate the time from".to_owned(),
        };
        let disk = self.bytes.map(|bytes| format!(", up to {} MB of disk", bytes.div_ceil(1_000_000)));
        format!("cost     {what}{time}{}\n", disk.unwrap_or_default())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::json!({ "builds": self.builds, "seconds": self.seconds, "bytes": self.bytes })
    }
}

/// How many kernels of a chain are not in the cache. If the last one is, so are the steps before it.
fn to_build(resources: &Resources<'_>, chain: &[Column], meant: &[&Meaning]) -> Result<usize> {
    let (Some(last), Some(meaning)) = (chain.last(), meant.last()) else { return Ok(0) };
    if !last.spec.has_source() {
        return Ok(0);
    }
    let tools = resources.plan.toolchain == Toolchain::Host || BuildRoot::is_cached(resources.ctx);
    // A tree is read into the cache only if there is a series to try on it.
    let is_read = matches!(last.spec, KernelSpec::Tree(_)) && meaning.of > 0;
    if !meaning.resolved.cached && !is_read {
        return Ok(chain.len());
    }
    let unbuilt = column::patch(resources, last, &column::material(resources, last));
    match unbuilt.tree() {
        Err(error) if error.class == Class::SeriesDoesNotApply => Err(error),
        Ok(_) if tools && unbuilt.is_built(resources, last).unwrap_or(false) => Ok(0),
        _ => Ok(chain.len()),
    }
}

/// Times of builds and guests in earlier runs, in milliseconds.
fn earlier() -> (Vec<u64>, Vec<u64>) {
    let (mut builds, mut guests) = (Vec::new(), Vec::new());
    let runs = runs_dir().map(|runs| load::finished(&runs)).unwrap_or_default();
    for run in runs.iter().rev().take(RUNS).filter_map(|dir| load::read(dir).ok()) {
        let built = run.phases.iter().filter(|phase| phase.name == "build" && !phase.cached);
        builds.extend(built.map(|phase| phase.duration_ms));
        guests.extend(run.boots.iter().map(|boot| boot.duration_ms));
    }
    (builds, guests)
}

fn median(mut times: Vec<u64>) -> Option<u64> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// Size of the newest entry of this kind in the cache.
fn newest_size(resources: &Resources<'_>, kind: CacheKind) -> Option<u64> {
    let place = resources.ctx.cache.path(kind, "x");
    let entries = std::fs::read_dir(place.parent()?).ok()?.flatten();
    let newest = entries
        .filter(|entry| entry.path().is_dir())
        .max_by_key(|entry| entry.metadata().and_then(|stat| stat.modified()).ok())?;
    Some(size(&newest.path()))
}

fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(stat) if stat.is_dir() => size(&entry.path()),
            Ok(stat) => stat.len(),
            Err(_) => 0,
        })
        .sum()
}
