// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sink: collects finished phases for the timeline of `run.json`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vmtest_base::event::{Event, Kind, Sink};
use vmtest_record::run::PhaseRecord;

/// Collects phases; all clones share one list.
#[derive(Debug, Clone, Default)]
pub struct Phases {
    list: Arc<Mutex<Vec<PhaseRecord>>>,
}

impl Phases {
    /// The phases collected so far.
    pub fn records(&self) -> Vec<PhaseRecord> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sink for Phases {
    fn take(&mut self, event: &Event) {
        if let Kind::PhaseFinished { name, subject, took, cached, .. } = &event.kind {
            let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let record = PhaseRecord {
                name: name.clone(),
                kernel: subject.clone(),
                started_ms: millis(event.at.saturating_sub(*took)),
                duration_ms: millis(*took),
                cached: *cached,
            };
            self.list.lock().unwrap_or_else(PoisonError::into_inner).push(record);
        }
    }
}
