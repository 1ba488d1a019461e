// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decides when a guest is over, from what it sent and when, and ends it.

use std::time::{Duration, Instant};

use crate::console::Progress;
use crate::last_words;
use crate::observed::{End, Limits, Observed};
use vmtest_base::error::Result;
use vmtest_base::interrupt;
use vmtest_host::process::Group;

/// Time limit for reading what is left in the pipes once the guest is gone.
const LINGER: Duration = Duration::from_secs(2);
/// A kernel that panics makes QEMU exit. If it does not, it is killed in time for a verdict within two
/// seconds.
const AFTER_PANIC: Duration = Duration::from_millis(1500);
/// Every guest is configured to panic after an oops. One that falls silent instead is dead.
const QUIET_AFTER_OOPS: Duration = Duration::from_secs(3);
/// The part of the boot limit that is reserved for queries.
const FOR_QUESTIONS: Duration = Duration::from_millis(500);

pub struct Watchdog {
    group: Group,
    limits: Limits,
    started: Instant,
    last_byte: Instant,
    done_at: Option<Instant>,
    died_at: Option<Instant>,
    panicked_at: Option<Instant>,
    end: Option<End>,
    asked_at: Option<Instant>,
    answered: bool,
    ended_at: Option<Instant>,
}

impl Watchdog {
    /// For a guest that was just started.
    pub fn new(group: Group, limits: Limits) -> Watchdog {
        let now = Instant::now();
        Watchdog {
            group,
            limits,
            started: now,
            last_byte: now,
            done_at: None,
            died_at: None,
            panicked_at: None,
            end: None,
            asked_at: None,
            answered: false,
            ended_at: None,
        }
    }

    /// Bytes arrived and are part of what was seen.
    pub fn heard(&mut self, seen: &mut Observed) {
        self.last_byte = Instant::now();
        if seen.console.death().is_some() {
            self.died_at.get_or_insert(self.last_byte);
        }
        if seen.console.panicked {
            self.panicked_at.get_or_insert(self.last_byte);
        }
        if seen.stream.hello.is_some() {
            seen.booted_after.get_or_insert_with(|| self.started.elapsed());
        }
        if seen.stream.done.is_some() {
            self.done_at.get_or_insert(self.last_byte);
        }
    }

    /// Why the guest is over, the first time that this is known.
    ///
    /// # Errors
    /// When its process cannot be waited for.
    pub fn look(&mut self, seen: &Observed) -> Result<Option<End>> {
        if self.is_over() {
            return Ok(None);
        }
        self.end = self.over(seen)?;
        Ok(self.end)
    }

    /// Whether the guest is over, though its process may still exist.
    pub fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// The guest is being queried; it is not killed before it has answered or the time for that is up.
    pub fn ask(&mut self) {
        self.asked_at = Some(Instant::now());
    }

    /// Whether a limit expired, so that nothing the guest sends counts any more.
    pub fn time_is_up(&self) -> bool {
        self.asked_at.is_some()
    }

    pub fn answered(&mut self) {
        self.answered = true;
    }

    /// Kills its processes, once, when the guest is over and had time to answer. Returns whether it did so
    /// now.
    pub fn kill_if_over(&mut self) -> bool {
        let waits = self.asked_at.is_some_and(|at| {
            !self.answered && at.elapsed() < last_words::MAX_TIME && interrupt::requested().is_none()
        });
        if !self.is_over() || self.ended_at.is_some() || waits {
            return false;
        }
        // Even if it exited by itself: processes that it left behind would keep the streams open for ever.
        self.group.end_within(Duration::from_millis(200));
        self.ended_at = Some(Instant::now());
        true
    }

    /// Whether what was left in the pipes had time to be read.
    pub fn waited_long_enough(&self) -> bool {
        self.ended_at.is_some_and(|at| at.elapsed() > LINGER)
    }

    /// Adds how and when the guest ended to what was seen.
    ///
    /// # Errors
    /// When its process cannot be waited for.
    pub fn finish(mut self, seen: &mut Observed) -> Result<()> {
        seen.end = match self.end {
            Some(end) => end,
            None => End::Exited(self.group.wait()?),
        };
        seen.took = self.started.elapsed();
        seen.to_verdict = self.died_at.unwrap_or(self.last_byte).elapsed();
        Ok(())
    }

    /// Whether the guest is over, and why. A child that exited takes precedence: it cannot be late any more.
    fn over(&mut self, seen: &Observed) -> Result<Option<End>> {
        let limits = &self.limits;
        if let Some(status) = self.group.try_wait()? {
            return Ok(Some(End::Exited(status)));
        }
        if let Some(class) = interrupt::requested() {
            return Ok(Some(End::Interrupted(class)));
        }
        let age = self.started.elapsed();
        let asking = |limit: Duration| limit - FOR_QUESTIONS.min(limit / 10);
        let stayed = self.panicked_at.is_some_and(|at| at.elapsed() > AFTER_PANIC)
            || (self.died_at.is_some() && self.last_byte.elapsed() > QUIET_AFTER_OOPS);
        Ok(if stayed {
            Some(End::StayedDead)
        } else if self.panicked_at.is_some() {
            None
        } else if self.done_at.is_some_and(|at| at.elapsed() > limits.shutdown) {
            Some(End::ShutdownLimit)
        } else if self.done_at.is_some() {
            None
        } else if seen.console.progress == Progress::Silent
            && seen.stream.hello.is_none()
            && age > asking(limits.first_byte)
        {
            Some(End::NoFirstByte)
        } else if seen.stream.hello.is_none() && age > asking(limits.boot) {
            Some(End::BootLimit)
        } else if seen.stream.hello.is_some() && self.last_byte.elapsed() > limits.idle {
            Some(End::IdleLimit)
        } else if age > limits.run {
            Some(End::RunLimit)
        } else {
            None
        })
    }
}
