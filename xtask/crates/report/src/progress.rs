// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sink: what is being done, how far it is, and how long it will take. Bars on a terminal, plain lines
//! everywhere else.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::layout;
use vmtest_base::event::{Event, Kind, PhaseId, Sink};

/// Without a terminal, a phase in progress prints a line this often.
const EVERY: Duration = Duration::from_secs(20);
/// A shorter phase does not get its own line.
const WORTH_A_LINE: Duration = Duration::from_millis(200);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Bars that redraw themselves.
    Bars,
    /// Lines that stay.
    Lines,
}

/// Chooses the style from the properties of the output.
pub fn style(terminal: bool, ci: bool, dumb: bool) -> Style {
    if terminal && !ci && !dumb { Style::Bars } else { Style::Lines }
}

/// The sink for this process' standard error.
pub fn sink() -> Box<dyn Sink> {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    match style(std::io::stderr().is_terminal(), set("CI"), dumb) {
        Style::Bars => {
            Box::new(Bars { all: MultiProgress::new(), bars: HashMap::new(), builds: Builds::default() })
        }
        Style::Lines => Box::new(Lines::new(false)),
    }
}

/// Numbers the builds of a run with several kernels: `build 2/5`.
#[derive(Debug, Default)]
struct Builds {
    planned: usize,
    seen: Vec<String>,
}

impl Builds {
    /// The name of a phase, with its number if it is a build.
    fn name(&mut self, name: &str, subject: &str) -> String {
        if name != "build" || self.planned < 2 {
            return name.to_owned();
        }
        let at = self.seen.iter().position(|one| one == subject).unwrap_or_else(|| {
            self.seen.push(subject.to_owned());
            self.seen.len() - 1
        });
        format!("{name} {}/{}", at + 1, self.planned.max(self.seen.len()))
    }
}

/// A sink that prints a line for each test.
pub fn each_test() -> Box<dyn Sink> {
    Box::new(Lines::new(true))
}

/// A sink that prints only warnings.
pub fn warnings() -> Box<dyn Sink> {
    Box::new(Warnings)
}

struct Warnings;

impl Sink for Warnings {
    fn take(&mut self, event: &Event) {
        // A closed standard error is ignored.
        let _ = match &event.kind {
            Kind::Warned(text) => writeln!(std::io::stderr(), "warning: {text}"),
            Kind::Diagnosed(text) => writeln!(std::io::stderr(), "{text}"),
            _ => Ok(()),
        };
    }
}

struct Bars {
    all: MultiProgress,
    bars: HashMap<PhaseId, ProgressBar>,
    builds: Builds,
}

impl Sink for Bars {
    fn take(&mut self, event: &Event) {
        match &event.kind {
            Kind::PhaseStarted { id, name, subject } => {
                let bar = self.all.add(ProgressBar::new_spinner());
                bar.set_style(look("{spinner} {prefix} {wide_msg} {elapsed}"));
                bar.set_prefix(format!("{}: {subject}", self.builds.name(name, subject)));
                bar.enable_steady_tick(Duration::from_millis(120));
                self.bars.insert(*id, bar);
            }
            Kind::PhaseProgressed { id, done, total, detail } => {
                let Some(bar) = self.bars.get(id) else { return };
                if *total > 0 && bar.length() != Some(*total) {
                    bar.set_length(*total);
                    bar.set_style(look(
                        "{spinner} {prefix} {bar:20} {pos}/{len} {elapsed}, {eta} left {wide_msg}",
                    ));
                }
                bar.set_position(*done);
                bar.set_message(detail.clone());
            }
            Kind::PhaseFinished { id, name, subject, took, cached, ok } => {
                if let Some(bar) = self.bars.remove(id) {
                    bar.finish_and_clear();
                    self.all.remove(&bar);
                }
                let name = self.builds.name(name, subject);
                if let Some(line) = finished(&name, subject, *took, *cached, *ok) {
                    drop(self.all.println(line));
                }
            }
            Kind::Noted(text) => drop(self.all.println(broken(&format!("note: {text}")))),
            Kind::Warned(text) => drop(self.all.println(broken(&format!("warning: {text}")))),
            Kind::Diagnosed(text) => drop(self.all.println(text)),
            Kind::TestEnded { .. } => (),
            Kind::Planned { kernels } => self.builds.planned = *kernels,
        }
    }
}

fn look(template: &str) -> ProgressStyle {
    // The templates are constants of this file; an invalid one falls back to the default look.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

struct Running {
    name: String,
    subject: String,
    started: Instant,
    said: Instant,
}

struct Lines {
    phases: HashMap<PhaseId, Running>,
    builds: Builds,
    /// Print each subtest as it ends.
    each_test: bool,
}

impl Lines {
    fn new(each_test: bool) -> Lines {
        Lines { phases: HashMap::new(), builds: Builds::default(), each_test }
    }
}

impl Sink for Lines {
    fn take(&mut self, event: &Event) {
        let mut out = std::io::stderr().lock();
        // A closed standard error is ignored.
        let _ = match &event.kind {
            Kind::PhaseStarted { id, name, subject } => {
                let now = Instant::now();
                let (name, subject) = (self.builds.name(name, subject), subject.clone());
                self.phases.insert(*id, Running { name, subject, started: now, said: now });
                Ok(())
            }
            Kind::PhaseProgressed { id, done, total, detail } => match self.phases.get_mut(id) {
                Some(phase) if phase.said.elapsed() >= EVERY => {
                    phase.said = Instant::now();
                    let far = so_far(*done, *total, phase.started.elapsed());
                    writeln!(out, "{}: {}: {far} {detail}", phase.name, phase.subject)
                }
                _ => Ok(()),
            },
            Kind::PhaseFinished { id, name, subject, took, cached, ok } => {
                self.phases.remove(id);
                let name = self.builds.name(name, subject);
                match finished(&name, subject, *took, *cached, *ok) {
                    Some(line) => writeln!(out, "{line}"),
                    None => Ok(()),
                }
            }
            Kind::Noted(text) => writeln!(out, "note: {text}"),
            Kind::Warned(text) => writeln!(out, "warning: {text}"),
            Kind::Diagnosed(text) => writeln!(out, "{text}"),
            Kind::TestEnded { subject, test, outcome } if self.each_test => {
                writeln!(out, "{outcome:8}{test}  ({subject})")
            }
            Kind::TestEnded { .. } => Ok(()),
            Kind::Planned { kernels } => {
                self.builds.planned = *kernels;
                Ok(())
            }
        };
    }
}

/// "412 of 1450, 80 s, 200 s left".
fn so_far(done: u64, total: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match (done, total) {
        (0, _) => format!("{seconds} s"),
        (_, 0) => format!("{done}, {seconds} s"),
        _ => {
            let left = elapsed.as_secs_f64() * (total.saturating_sub(done)) as f64 / done as f64;
            format!("{done} of {total}, {seconds} s, {left:.0} s left")
        }
    }
}

/// A message with the line breaks of this terminal.
fn broken(text: &str) -> String {
    layout::message(text, layout::columns_of_stderr())
}

fn finished(name: &str, subject: &str, took: Duration, cached: bool, ok: bool) -> Option<String> {
    let seconds = took.as_secs_f64();
    match (ok, cached) {
        (false, _) => Some(format!("{name}: {subject}: failed after {seconds:.1} s")),
        (true, true) => None,
        (true, false) if took < WORTH_A_LINE => None,
        (true, false) => Some(format!("{name}: {subject}: {seconds:.1} s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_only_where_they_can_be_drawn() {
        assert_eq!(style(true, false, false), Style::Bars);
        for (terminal, ci, dumb) in [(false, false, false), (true, true, false), (true, false, true)] {
            assert_eq!(style(terminal, ci, dumb), Style::Lines);
        }
    }

    #[test]
    fn builds_are_numbered_if_there_are_several() {
        let mut builds = Builds { planned: 2, ..Builds::default() };
        let names = [("build", "a"), ("boot", "a"), ("build", "b"), ("build", "a")];
        let names = names.map(|(name, subject)| builds.name(name, subject));
        assert_eq!(names, ["build 1/2", "boot", "build 2/2", "build 1/2"]);
        assert_eq!(Builds { planned: 1, ..Builds::default() }.name("build", "a"), "build");
    }

    #[test]
    fn time_left_follows_from_what_was_done() {
        assert_eq!(so_far(100, 400, Duration::from_secs(20)), "100 of 400, 20 s, 60 s left");
        assert_eq!(so_far(0, 400, Duration::from_secs(5)), "5 s");
    }
}
