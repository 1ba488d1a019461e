// SPDX-License-Identifier: MIT OR Apache-2.0
//! The events of a run, to show or keep: the only interface between the stages and the reporters. Stages do
//! not know who listens, and reporters depend on nothing else of the stages.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::sanitize::{line, lines};

#[derive(Debug, Clone)]
pub struct Event {
    /// Time since the run started.
    pub at: Duration,
    pub kind: Kind,
}

/// Identifies one phase from start to finish.
pub type PhaseId = u64;

#[derive(Debug, Clone)]
pub enum Kind {
    /// A long step started.
    PhaseStarted {
        id: PhaseId,
        /// The operation: `download`, `unpack`, `build root`, `configure`, `build`, `boot` ..
        name: String,
        /// What it works on: a kernel's id, a package.
        subject: String,
    },
    /// A long step made progress.
    PhaseProgressed {
        id: PhaseId,
        /// Units done: bytes, objects, subtests.
        done: u64,
        /// Units expected; 0 if unknown.
        total: u64,
        /// The current item; may be empty.
        detail: String,
    },
    /// A long step ended.
    PhaseFinished {
        id: PhaseId,
        /// Repeated, so that a reader need not keep state.
        name: String,
        subject: String,
        took: Duration,
        /// Nothing had to be done.
        cached: bool,
        /// Whether it succeeded.
        ok: bool,
    },
    /// Something the user should know but need not act on, for example which version a spec resolved to.
    Noted(String),
    /// Something the user should act on or be careful about.
    Warned(String),
    /// A subtest ended in a guest. What its runner reported; the verdict comes later.
    TestEnded { subject: String, test: String, outcome: String },
    /// How many kernels the run builds.
    Planned { kernels: usize },
    /// Errors of a compiler, one per line: `path:line:column: error: ..`, as editors read them.
    Diagnosed(String),
}

/// Receives every event, in order.
pub trait Sink: Send {
    /// Called with each event; must not block for long.
    fn take(&mut self, event: &Event);
}

/// Hands events to the sinks. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    started: Instant,
    next_phase: AtomicU64,
    sinks: Mutex<Vec<Box<dyn Sink>>>,
}

impl Bus {
    /// A bus with these sinks; the clock starts now.
    pub fn new(sinks: Vec<Box<dyn Sink>>) -> Bus {
        Bus {
            inner: Arc::new(Inner {
                started: Instant::now(),
                next_phase: AtomicU64::new(0),
                sinks: Mutex::new(sinks),
            }),
        }
    }

    /// Adds a sink later, for example one that needs the run directory.
    pub fn add(&self, sink: Box<dyn Sink>) {
        self.sinks().push(sink);
    }

    /// Sends an event to every sink.
    pub fn emit(&self, kind: Kind) {
        let event = Event { at: self.inner.started.elapsed(), kind: cleaned(kind) };
        for sink in self.sinks().iter_mut() {
            sink.take(&event);
        }
    }

    pub fn note(&self, text: impl Into<String>) {
        self.emit(Kind::Noted(text.into()));
    }

    pub fn warn(&self, text: impl Into<String>) {
        self.emit(Kind::Warned(text.into()));
    }

    /// Shows errors of a compiler as they are.
    pub fn diagnostics(&self, text: impl Into<String>) {
        let text = text.into();
        if !text.is_empty() {
            self.emit(Kind::Diagnosed(text));
        }
    }

    /// Starts a phase. It counts as failed unless [`Phase::finish`] or [`Phase::cached`] is called.
    pub fn phase(&self, name: impl Into<String>, subject: impl Into<String>) -> Phase {
        let phase = Phase {
            bus: self.clone(),
            id: self.inner.next_phase.fetch_add(1, Ordering::Relaxed),
            name: name.into(),
            subject: subject.into(),
            started: Instant::now(),
            ended: false,
        };
        self.emit(Kind::PhaseStarted {
            id: phase.id,
            name: phase.name.clone(),
            subject: phase.subject.clone(),
        });
        phase
    }

    fn sinks(&self) -> std::sync::MutexGuard<'_, Vec<Box<dyn Sink>>> {
        // A sink that panicked must not silence the others.
        self.inner.sinks.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Removes terminal control characters: parts of these texts come from kernels, series and guests.
fn cleaned(kind: Kind) -> Kind {
    match kind {
        Kind::PhaseStarted { id, name, subject } => Kind::PhaseStarted { id, name, subject: line(&subject) },
        Kind::PhaseProgressed { id, done, total, detail } => {
            Kind::PhaseProgressed { id, done, total, detail: line(&detail) }
        }
        Kind::PhaseFinished { id, name, subject, took, cached, ok } => {
            Kind::PhaseFinished { id, name, subject: line(&subject), took, cached, ok }
        }
        Kind::Noted(text) => Kind::Noted(lines(&text)),
        Kind::Warned(text) => Kind::Warned(lines(&text)),
        Kind::TestEnded { subject, test, outcome } => {
            Kind::TestEnded { subject: line(&subject), test: line(&test), outcome: line(&outcome) }
        }
        Kind::Planned { kernels } => Kind::Planned { kernels },
        Kind::Diagnosed(text) => Kind::Diagnosed(lines(&text)),
    }
}

/// A phase in progress.
pub struct Phase {
    bus: Bus,
    id: PhaseId,
    name: String,
    subject: String,
    started: Instant,
    ended: bool,
}

impl Phase {
    /// Reports progress; `total` is 0 if unknown.
    pub fn progress(&self, done: u64, total: u64, detail: impl Into<String>) {
        self.bus.emit(Kind::PhaseProgressed { id: self.id, done, total, detail: detail.into() });
    }

    /// Ends the phase as successful.
    pub fn finish(mut self) {
        self.end(false, true);
    }

    /// Ends the phase as successful because nothing had to be done.
    pub fn cached(mut self) {
        self.end(true, true);
    }

    fn end(&mut self, cached: bool, ok: bool) {
        self.ended = true;
        self.bus.emit(Kind::PhaseFinished {
            id: self.id,
            name: self.name.clone(),
            subject: self.subject.clone(),
            took: self.started.elapsed(),
            cached,
            ok,
        });
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        if !self.ended {
            self.end(false, false);
        }
    }
}
