// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parses the event channel into events and keeps every irregularity as a [`Fault`]. A single fault means
//! that the run is not trusted; see `judge`.

use std::collections::HashSet;

use vmtest_protocol::{
    Check, Checked, Counters, Done, End, Event, Hello, Line, MAX_LINE, Output, PROTOCOL, Splat, Start,
    TestName,
};

/// Most faults kept, in case a guest sends only garbage.
const MAX_FAULTS: usize = 20;
/// Most events kept: far more than any suite has, and few enough to fit into memory easily.
pub const MAX_EVENTS: usize = 300_000;
/// Most bytes parsed, because what is kept of them is in memory.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Most characters of a bad line that an error repeats.
const EXCERPT: usize = 80;
/// Most expectations kept of the running subtest: more than a runner sends.
const MAX_CHECKED: usize = 1000;

/// Something that a correct runner never does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A line that is not an event.
    NotAnEvent(String),
    /// A line with the nonce of another run.
    WrongNonce(String),
    /// A line is missing or was received twice.
    Gap {
        /// The expected sequence number.
        expected: u64,
        got: u64,
    },
    /// The runner uses another protocol version.
    Protocol(u32),
    /// A line that exceeds the limit without a newline.
    TooLong,
    /// More events than are kept.
    TooMany,
    /// More bytes than are kept.
    TooMuch,
    /// An event in the wrong place, for example a second plan or an end without a start.
    OutOfPlace(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::NotAnEvent(line) => write!(out, "a line that is not an event: {line}"),
            Fault::WrongNonce(nonce) => write!(out, "an event of another run, nonce {nonce}"),
            Fault::Gap { expected, got } => write!(out, "expected event {expected}, got {got}"),
            Fault::Protocol(version) => write!(out, "the runner speaks protocol {version}, not {PROTOCOL}"),
            Fault::TooLong => write!(out, "a line of more than {MAX_LINE} bytes"),
            Fault::TooMuch => write!(out, "more than {MAX_BYTES} bytes of events"),
            Fault::TooMany => write!(out, "more than {MAX_EVENTS} events"),
            Fault::OutOfPlace(what) => write!(out, "{what}"),
        }
    }
}

/// The parsed state of the event channel.
#[derive(Debug)]
pub struct Stream {
    nonce: String,
    buffer: Vec<u8>,
    next_seq: u64,
    events: usize,
    bytes: usize,
    /// The first event; `None` until it arrives.
    pub hello: Option<Hello>,
    /// The subtests that the runner announced; `None` until it has.
    pub plan: Option<Vec<TestName>>,
    /// The subtest that is running; `None` between two.
    pub running: Option<TestName>,
    /// What that subtest has checked so far, as far as it was reported.
    pub checked: Vec<Check>,
    /// The round of the subtest that is running or ran last.
    pub round: u32,
    /// Results in order, one for each repetition of a subtest.
    pub ended: Vec<End>,
    /// The same as a set, to detect duplicates.
    known: HashSet<(TestName, u32)>,
    /// Number of rounds that the runner announced.
    rounds: u32,
    /// Kernel warnings that the runner noticed.
    pub splats: Vec<Splat>,
    /// Output of `--exec`.
    pub output: Vec<Output>,
    /// What `test_progs` printed, by test.
    pub printed: Vec<(TestName, String)>,
    /// The last event. Without it, nothing counts as a pass.
    pub done: Option<Done>,
    pub faults: Vec<Fault>,
}

impl Stream {
    /// Expects events with this nonce.
    pub fn new(nonce: impl Into<String>) -> Stream {
        Stream {
            nonce: nonce.into(),
            buffer: Vec::new(),
            next_seq: 0,
            events: 0,
            bytes: 0,
            hello: None,
            plan: None,
            running: None,
            checked: Vec::new(),
            round: 1,
            ended: Vec::new(),
            known: HashSet::new(),
            rounds: 1,
            splats: Vec::new(),
            output: Vec::new(),
            printed: Vec::new(),
            done: None,
            faults: Vec::new(),
        }
    }

    /// The nonce that every line must carry.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Parses bytes as they arrive, in pieces of any size.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > MAX_BYTES {
            self.buffer.clear();
            return self.fault_once(Fault::TooMuch);
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.buffer.len() + piece.len() > MAX_LINE {
                self.fault(Fault::TooLong);
                self.buffer.clear();
                continue;
            }
            self.buffer.extend_from_slice(piece);
            if self.buffer.ends_with(b"\n") {
                let line = std::mem::take(&mut self.buffer);
                self.line(&line[..line.len() - 1]);
            }
        }
    }

    /// The channel closed; an incomplete last line is a fault.
    pub fn close(&mut self) {
        if !self.buffer.is_empty() {
            let torn = std::mem::take(&mut self.buffer);
            self.fault(Fault::NotAnEvent(format!("torn: {}", excerpt(&torn))));
        }
    }

    /// What was printed while this test ran.
    pub fn printed_by(&self, name: &TestName) -> &str {
        self.printed.iter().find(|(test, _)| test == name).map_or("", |(_, text)| text)
    }

    fn fault_once(&mut self, fault: Fault) {
        if !self.faults.contains(&fault) {
            self.fault(fault);
        }
    }

    fn fault(&mut self, fault: Fault) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    fn line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return;
        }
        let Ok(Line { n, seq, ms: _, event }) = serde_json::from_slice(line) else {
            return self.fault(Fault::NotAnEvent(excerpt(line)));
        };
        if n != self.nonce {
            return self.fault(Fault::WrongNonce(excerpt(n.as_bytes())));
        }
        if seq != self.next_seq {
            self.fault(Fault::Gap { expected: self.next_seq, got: seq });
        }
        self.next_seq = seq.saturating_add(1);
        self.events += 1;
        if self.events > MAX_EVENTS {
            return self.fault(Fault::TooMany);
        }
        self.event(event);
    }

    fn event(&mut self, event: Event) {
        if self.done.is_some() {
            return self.fault(Fault::OutOfPlace("an event after the last one".to_owned()));
        }
        if self.hello.is_none() && !matches!(event, Event::Hello(_)) {
            self.fault(Fault::OutOfPlace("an event before hello".to_owned()));
        }
        match event {
            Event::Hello(hello) => {
                if hello.protocol != PROTOCOL {
                    self.fault(Fault::Protocol(hello.protocol));
                }
                if self.hello.replace(hello).is_some() {
                    self.fault(Fault::OutOfPlace(
                        "a second hello: the runner, or the guest, started twice".to_owned(),
                    ));
                }
            }
            Event::Plan(plan) => {
                self.rounds = plan.rounds;
                if self.plan.replace(plan.tests).is_some() {
                    self.fault(Fault::OutOfPlace("a second plan".to_owned()));
                }
            }
            Event::Start(Start { name, round }) => {
                if !(1..=self.rounds).contains(&round) {
                    let name = excerpt(name.path().as_bytes());
                    self.fault(Fault::OutOfPlace(format!(
                        "a start of {name} in round {round} of {}",
                        self.rounds
                    )));
                }
                self.round = round;
                self.checked.clear();
                if let Some(open) = self.running.replace(name) {
                    self.fault(Fault::OutOfPlace(format!(
                        "a start while {} runs",
                        excerpt(open.path().as_bytes())
                    )));
                }
            }
            Event::Checked(Checked { name, round, checks }) => {
                if self.running.as_ref() != Some(&name) || self.round != round {
                    let name = excerpt(name.path().as_bytes());
                    self.fault(Fault::OutOfPlace(format!("expectations of {name}, which was not running")));
                }
                self.checked.extend(checks);
                self.checked.truncate(MAX_CHECKED);
            }
            Event::End(mut end) => {
                if self.running.take().as_ref() != Some(&end.name) || self.round != end.round {
                    let name = excerpt(end.name.path().as_bytes());
                    self.fault(Fault::OutOfPlace(format!("an end event of {name}, which was not running")));
                }
                if !self.known.insert((end.name.clone(), end.round)) {
                    let name = excerpt(end.name.path().as_bytes());
                    self.fault(Fault::OutOfPlace(format!("{name} ended twice")));
                }
                // Its process died, and the worker, which sent this, does not know what it had checked.
                let checked = std::mem::take(&mut self.checked);
                if end.checks == 0 {
                    end.seen.extend(checked);
                }
                self.ended.push(end);
            }
            // They are evaluated after the run, from the recorded events.
            Event::Counters(Counters { name, .. }) => {
                let is_early = name.test.is_empty() && self.running.is_none() && self.ended.is_empty();
                if self.running.as_ref() != Some(&name) && !is_early {
                    let name = excerpt(name.path().as_bytes());
                    self.fault(Fault::OutOfPlace(format!("counters of {name}, which was not running")));
                }
            }
            Event::Splat(splat) => self.splats.push(splat),
            Event::Output(output) => match (&self.running, self.printed.last_mut()) {
                (None, _) => self.output.push(output),
                (Some(name), Some((last, text))) if last == name => text.push_str(&output.text),
                (Some(name), _) => self.printed.push((name.clone(), output.text)),
            },
            Event::Done(done) => self.done = Some(done),
        }
    }
}

/// The start of bytes that a guest sent, without terminal control characters.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let clean = |c: char| if c.is_control() { '·' } else { c };
    let mut short: String = text.chars().take(EXCERPT).map(clean).collect();
    if text.chars().nth(EXCERPT).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
