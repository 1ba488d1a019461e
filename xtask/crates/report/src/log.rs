// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sink: writes every event, unfiltered, to the run's `log`. It exists before any other report, and every
//! other report can be checked against it.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use vmtest_base::error::{IoContext, Result};
use vmtest_base::event::{Event, Kind, Sink};

/// Writes one line per event.
pub struct Log {
    file: File,
}

impl Log {
    /// Creates the file.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path) -> Result<Log> {
        Ok(Log { file: File::create(path).on("cannot create", path)? })
    }

    /// Opens the file to append to it.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn append(path: &Path) -> Result<Log> {
        Ok(Log { file: File::options().create(true).append(true).open(path).on("cannot open", path)? })
    }
}

impl Sink for Log {
    fn take(&mut self, event: &Event) {
        let at = event.at.as_secs_f64();
        // A full disk is reported when results are written; a missing log line must not end a run.
        let _ = match &event.kind {
            Kind::PhaseStarted { name, subject, .. } => {
                writeln!(self.file, "{at:9.3} start  {name}: {subject}")
            }
            Kind::PhaseProgressed { .. } => Ok(()),
            Kind::PhaseFinished { name, subject, took, cached, ok, .. } => {
                let how = if !ok {
                    "failed"
                } else if *cached {
                    "cached"
                } else {
                    "done"
                };
                writeln!(self.file, "{at:9.3} {how:6} {name}: {subject} ({:.3} s)", took.as_secs_f64())
            }
            Kind::Noted(text) => writeln!(self.file, "{at:9.3} note   {text}"),
            Kind::Warned(text) => writeln!(self.file, "{at:9.3} warn   {text}"),
            Kind::Diagnosed(text) => writeln!(self.file, "{at:9.3} error  {text}"),
            // The events of the guest are stored whole.
            Kind::TestEnded { .. } => Ok(()),
            Kind::Planned { kernels } => writeln!(self.file, "{at:9.3} plan   {kernels} kernels"),
        };
    }
}
