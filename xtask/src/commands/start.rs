// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a command that makes a run starts: what every stage needs, and the directory of the run with its log.

use std::path::Path;

use crate::settings::Settings;
use crate::verbosity::Verbosity;
use vmtest_base::error::Result;
use vmtest_base::event::{Bus, Sink};
use vmtest_host::context::Context;
use vmtest_host::store::{Cache, RunDir};
use vmtest_report::log::Log;

/// What every stage needs. The mirror may be in the settings. Events go to the progress display and to `more`.
///
/// # Errors
/// When there is no place for the cache.
pub fn context(
    project: &Path,
    mirror: Option<&str>,
    verbosity: Verbosity,
    more: Option<Box<dyn Sink>>,
) -> Result<Context> {
    let bus = Bus::new(std::iter::once(verbosity.sink()).chain(more).collect());
    Ok(Context {
        cache: Cache::open()?,
        bus,
        project: project.to_owned(),
        mirror: Settings::read()?.mirror(mirror),
    })
}

/// A new directory for a run; from now on its log receives all events.
///
/// # Errors
/// When it cannot be written, or is not empty.
pub fn run_dir(ctx: &Context, out: Option<&Path>) -> Result<RunDir> {
    let run_dir = RunDir::create(out)?;
    ctx.bus.add(Box::new(Log::create(&run_dir.path.join("log"))?));
    Ok(run_dir)
}
