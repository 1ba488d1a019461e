// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests one kernel after another: each kernel that the search selects is built, run, judged and recorded.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::bisect::axis::{Axis, Known, Order};
use crate::bisect::question::{Answer, Asked};
use crate::bisect::search::{Next, Purpose, Search, Verdict, steps};
use crate::bisect::state::{self, Record, StoredStep};
use crate::column::{self, Built, ColumnResult, Material};
use crate::plan::Column;
use crate::request::Request;
use crate::resources::Resources;
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::files::write_file;
use vmtest_base::interrupt;
use vmtest_base::key::Key;
use vmtest_base::thread::join;
use vmtest_host::store::RunDir;
use vmtest_record::reference_columns;
use vmtest_record::run::{BootRecord, RunResult};

/// Host failures on this many kernels in a row stop the bisection.
const HOST_TROUBLE: usize = 3;

/// A running bisection.
pub struct Hunt<'a> {
    resources: &'a Resources<'a>,
    /// Its state so far.
    pub record: Record,
    run_dir: &'a RunDir,
    /// The order of the kernels.
    pub order: Order,
    /// The position of each kernel in it; empty if a single kernel is judged.
    pub places: BTreeMap<String, usize>,
    /// What all kernels have in common.
    like: Column,
    /// Source and series, if all kernels share them.
    material: OnceLock<Result<Material>>,
    /// Kernels that were built.
    built: BTreeMap<String, Made>,
    began: Instant,
}

/// A kernel, or why it could not be built.
struct Made {
    built: Built,
    seconds: f64,
}

/// Kernels that were built while another one ran, with their IDs.
type MadeAhead = Vec<(String, Made)>;

/// Names a purpose, in messages and in the record.
fn word(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Verify => "end",
        Purpose::Narrow => "search",
        Purpose::Confirm => "confirm",
    }
}

impl<'a> Hunt<'a> {
    /// Starts or resumes.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn new(resources: &'a Resources<'a>, record: Record, run_dir: &'a RunDir) -> Result<Hunt<'a>> {
        let Some(like) = resources.plan.columns.first().cloned() else {
            return Err(Error::usage("no kernel to start with"));
        };
        let order = record.axis.history(resources.ctx)?;
        let alone = record.ends.new.is_empty();
        Ok(Hunt {
            places: if alone { BTreeMap::new() } else { order.places(&record.ends)? },
            order,
            resources,
            record,
            run_dir,
            like: Column { label: None, ..like },
            material: OnceLock::new(),
            built: BTreeMap::new(),
            began: Instant::now(),
        })
    }

    /// The argument for `--resume`: the run's name if that is enough.
    pub fn resume_word(&self) -> String {
        let named =
            vmtest_base::places::runs_dir().is_ok_and(|runs| self.run_dir.path.parent() == Some(&runs));
        if named {
            self.run_dir.id.clone()
        } else {
            vmtest_host::process::shell_word(&self.run_dir.path.to_string_lossy())
        }
    }

    /// Continues until there is an answer.
    ///
    /// # Errors
    /// An interruption, or a problem of this host. All results so far have been saved by then.
    pub fn run(&mut self) -> Result<Next> {
        loop {
            interrupt::check()?;
            let search = self.record.search();
            match search.next(&self.order)? {
                Next::Run { id, left, purpose } => self.step(&search, &id, left, purpose)?,
                end @ (Next::Found { .. } | Next::Hidden { .. } | Next::WrongEnd { .. }) => return Ok(end),
            }
        }
    }

    /// How a kernel is presented to users.
    ///
    /// # Errors
    /// When git cannot read the commit.
    pub fn known(&self, id: &str) -> Result<Known> {
        self.record.axis.known(id, &self.order, self.resources.series)
    }

    /// The directory of the bisection.
    pub fn run_dir(&self) -> &RunDir {
        self.run_dir
    }

    /// Runs a kernel once and records the result.
    ///
    /// # Errors
    /// An interruption, or a problem of this host.
    pub fn step(&mut self, search: &Search, id: &str, left: usize, purpose: Purpose) -> Result<()> {
        let known = self.known(id)?;
        let number = 1 + self.record.steps.iter().map(|step| step.number).max().unwrap_or(0);
        let before = search.runs.get(id).map_or(0, Vec::len);
        self.announce(search, &known, left, purpose, before);
        if !self.built.contains_key(id) {
            let made = self.make(id)?;
            self.built.insert(id.to_owned(), made);
        }
        let ahead = self.ahead(search, id)?;
        let Some(made) = self.built.get(id) else { return Err(Error::host(format!("{id} was not built"))) };
        interrupt::check()?;
        let built_s = if before == 0 { made.seconds } else { 0.0 };
        let key = self.key(&made.built)?;
        let remembered = key.as_ref().and_then(|key| state::known_run(self.resources.ctx, key, before));
        let cached = remembered.is_some();
        let (mut ran_s, mut later) = (0.0, Vec::new());
        let (result, directory) = match remembered {
            Some(run) => (run.result, run.directory),
            None => {
                let dir = self.run_dir.part(&format!("steps/{number:03}"))?;
                let column = self.record.axis.column(id, &self.like)?;
                let (columns, made_ahead);
                (columns, ran_s, made_ahead) = self.boot(&column, &made.built, &dir, &ahead)?;
                later = made_ahead;
                let result = self.result(&dir, columns, made.built.kernel().clone());
                let text = serde_json::to_string_pretty(&result)
                    .map_err(|error| Error::host("cannot write run.json").why(error))?;
                write_file(&dir.path.join("run.json"), text)?;
                (result, dir.path)
            }
        };
        let answer = self.answer(&result, &directory)?;
        if let Some(key) = key.filter(|_| !cached && worth_keeping(&result)) {
            state::keep_run(self.resources.ctx, &key, &result, &directory)?;
        }
        if id == search.failing_end() || id == search.passing_end() {
            self.record.question.learn(&answer, &result);
        }
        let Answer { verdict, why, title: _, class } = answer;
        let step = StoredStep {
            number,
            id: id.to_owned(),
            known,
            verdict,
            why,
            class,
            purpose: word(purpose).to_owned(),
            directory: directory.strip_prefix(&self.run_dir.path).map(Into::into).unwrap_or(directory),
            cached,
            boots: if cached { 0 } else { result.boots.len() },
            built_s,
            ran_s,
        };
        self.tell(&step);
        self.record.steps.push(step);
        self.record.save(&self.run_dir.path)?;
        self.built.extend(later);
        self.blame_the_host()
    }

    /// Turns a run into an answer; if the guest never started, this host is at fault.
    fn answer(&self, result: &RunResult, directory: &Path) -> Result<Answer> {
        let mut answer = self.record.question.judge(result)?;
        if let Some(why) = never_started(result, directory).filter(|_| answer.verdict == Verdict::Skip) {
            (answer.class, answer.why) = (Class::Host, format!("no guest started: {why}"));
        }
        Ok(answer)
    }

    /// A single failure may be due to one kernel. Three in a row are due to this host, and continuing would
    /// skip everything.
    fn blame_the_host(&self) -> Result<()> {
        let is_host = |step: &&StoredStep| step.class == Class::Host;
        let last: Vec<&StoredStep> = self.record.steps.iter().rev().take_while(is_host).collect();
        // An image that the mirror lists but does not have says nothing about this host.
        if last.len() < HOST_TROUBLE || matches!(self.record.axis, Axis::Images { .. }) {
            return Ok(());
        }
        let why = last.first().map(|step| step.why.clone()).unwrap_or_default();
        Err(Error::host(format!("{} kernels in a row could not be tested because of this host", last.len()))
            .why(why))
    }

    /// Builds the kernel, or records why it cannot be built.
    fn make(&self, id: &str) -> Result<Made> {
        let column = self.record.axis.column(id, &self.like)?;
        let started = Instant::now();
        let own;
        let material = if matches!(self.record.axis, Axis::Patches { .. }) {
            self.material.get_or_init(|| column::material(self.resources, &column))
        } else {
            own = column::material(self.resources, &column);
            &own
        };
        // The build logs of all kernels share a directory, named by key: one may be built while another runs.
        let tree = column::patch(self.resources, &column, material);
        let built = column::build(self.resources, &column, tree, self.run_dir);
        Ok(Made { built, seconds: started.elapsed().as_secs_f64() })
    }

    /// The kernels that may be tested next, whatever the verdict on this one.
    fn ahead(&self, search: &Search, id: &str) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        // A single kernel.
        if self.record.ends.new.is_empty() {
            return Ok(ids);
        }
        for verdict in [Verdict::Bad, Verdict::Good] {
            let mut supposed = search.supposing(id, verdict);
            while supposed.verdict(id).is_none() {
                supposed = supposed.supposing(id, verdict);
            }
            if let Next::Run { id: next, .. } = supposed.next(&self.order)? {
                if next != id && !ids.contains(&next) && !self.built.contains_key(&next) {
                    ids.push(next);
                }
            }
        }
        Ok(ids)
    }

    /// Boots a kernel, and builds others in the meantime. The returned seconds are those of the boot; kernels
    /// built ahead have their own.
    fn boot(
        &self,
        column: &Column,
        built: &Built,
        dir: &RunDir,
        ahead: &[String],
    ) -> Result<(Vec<ColumnResult>, f64, MadeAhead)> {
        if self.record.question.asked == Asked::Build && built.error().is_none() {
            return Ok((Vec::new(), 0.0, Vec::new()));
        }
        let booted = AtomicBool::new(built.error().is_some());
        std::thread::scope(|scope| {
            let maker = scope.spawn(|| {
                let mut made = Vec::new();
                for id in ahead.iter().filter(|_| self.pays(ahead.len())) {
                    if booted.load(Ordering::SeqCst) || interrupt::requested().is_some() {
                        break;
                    }
                    made.push((id.clone(), self.make(id)?));
                }
                Ok(made)
            });
            let started = Instant::now();
            let results = column::boot(self.resources, column, built, dir);
            let seconds = started.elapsed().as_secs_f64();
            booted.store(true, Ordering::SeqCst);
            Ok((results, seconds, join(maker)?))
        })
    }

    /// Whether to build ahead. Worthwhile for a kernel that is certainly needed, and for a download. With two
    /// candidates one build is wasted and competes with the guest for CPUs, so only if the guest takes
    /// longer.
    fn pays(&self, candidates: usize) -> bool {
        let fresh = || self.record.steps.iter().filter(|step| !step.cached && step.boots > 0);
        let (built, ran) =
            fresh().fold((0.0, 0.0), |(built, ran), step| (built + step.built_s, ran + step.ran_s));
        candidates < 2 || matches!(self.record.axis, Axis::Images { .. }) || (ran > built && built > 0.0)
    }

    /// Hash of everything that the cells of a run depend on; `None` without a kernel, or if nothing is
    /// booted.
    ///
    /// How it could be wrong: properties of the host other than its tools (its CPU under KVM, its load) are
    /// not included.
    fn key(&self, built: &Built) -> Result<Option<Key>> {
        let made_of = built.made_of().filter(|_| self.record.question.asked != Asked::Build);
        let Some(made_of) = made_of else { return Ok(None) };
        let (_, chosen) = self.resources.runner()?;
        let mut key = Key::of("verdict 3")
            .field("kernel", made_of.as_str())
            // The kernel's ID appears in the cells, and so in what is compared.
            .field("id", &built.kernel().id)
            .field("judged by", &self.record.suite);
        for name in chosen {
            key = key.field("test", name.path());
        }
        // All options of the run, except the kernel.
        for word in (Request { kernels: Vec::new(), ..self.record.request.clone() }).words() {
            key = key.field("option", word);
        }
        Ok(Some(key.finish()))
    }

    fn result(
        &self,
        dir: &RunDir,
        columns: Vec<ColumnResult>,
        kernel: vmtest_record::run::Kernel,
    ) -> RunResult {
        let mut result = RunResult::empty(&dir.id, self.record.command.clone());
        columns.into_iter().for_each(|column| column.add_to(&mut result));
        if result.kernels.is_empty() {
            result.kernels.push(kernel);
        }
        reference_columns::settle(&mut result);
        vmtest_record::clean::clean(&mut result);
        result.conclude(interrupt::requested());
        result
    }

    fn announce(&self, search: &Search, known: &Known, left: usize, purpose: Purpose, before: usize) {
        let place = match purpose {
            Purpose::Verify => "endpoint".to_owned(),
            Purpose::Narrow | Purpose::Confirm => {
                let more = steps(left);
                let time = self
                    .time_left(search, more)
                    .map(|time| format!(", about {time:.0} s"))
                    .unwrap_or_default();
                let confirm = if purpose == Purpose::Confirm { ", confirming" } else { "" };
                format!("{left} left, about {more} step(s){time}{confirm}")
            }
        };
        let run = if self.record.trust.runs > 1 { format!(", run {}", before + 1) } else { String::new() };
        self.resources.ctx.bus.note(format!("testing {}{run}: {place}", known.line()));
    }

    fn time_left(&self, search: &Search, more: u32) -> Option<f64> {
        let fresh: Vec<&StoredStep> = self.record.steps.iter().filter(|step| !step.cached).collect();
        let average = |time: fn(&StoredStep) -> f64| {
            fresh.iter().map(|step| time(step)).sum::<f64>() / fresh.len().max(1) as f64
        };
        let kernels = fresh.iter().filter(|step| step.built_s > 0.0).count();
        let builds = fresh.iter().map(|step| step.built_s).sum::<f64>() / kernels.max(1) as f64;
        // A bad kernel usually fails in its first run, and about half of the kernels are good.
        let runs = f64::from(search.needed() + 1) / 2.0;
        (!fresh.is_empty()).then(|| f64::from(more) * (builds + runs * average(|step| step.ran_s)))
    }

    fn tell(&self, step: &StoredStep) {
        let again = if step.cached { " (cached from an earlier run)" } else { "" };
        let so_far = |which: fn(Verdict) -> bool| {
            self.record
                .steps
                .iter()
                .map(|step| step.verdict)
                .chain([step.verdict])
                .filter(|it| which(*it))
                .count()
        };
        self.resources.ctx.bus.note(format!(
            "{} {}{again}: {}; so far good {}, bad {}, skip {}; {:.0} s",
            step.verdict.name(),
            step.known.name,
            step.why,
            so_far(|verdict| verdict == Verdict::Good),
            so_far(|verdict| verdict == Verdict::Bad),
            so_far(|verdict| matches!(verdict, Verdict::Skip | Verdict::Never)),
            self.began.elapsed().as_secs_f64()
        ));
    }
}

/// Whether a run may be reused by later bisections: only if the kernel itself is responsible for the result.
/// On a host that is slow, out of memory or cannot start QEMU, guests end in the same ways as with a kernel
/// that does not boot, hangs or is lost, so these are not kept and such a kernel is booted again.
///
/// How it could be wrong: a panic or a failed test can be the host's fault, too (an emulator that translates
/// code incorrectly). It is then wrong in the bisection that saw it as well.
fn worth_keeping(result: &RunResult) -> bool {
    let classes =
        result.cells.iter().map(|cell| cell.class).chain(result.boots.iter().map(|boot| boot.class));
    let the_kernels = |class: Class| match class {
        Class::Pass | Class::TestFailed | Class::Incomplete | Class::Splat | Class::Flaky | Class::Panic => {
            true
        }
        Class::Usage
        | Class::SeriesDoesNotApply
        | Class::OptionLost
        | Class::KernelBuild
        | Class::SuiteBuild
        | Class::BootFailed
        | Class::Hang
        | Class::WallClock
        | Class::GuestLost
        | Class::RunnerDied
        | Class::Host
        | Class::Interrupted
        | Class::Terminated => false,
    };
    !result.boots.is_empty() && classes.into_iter().all(the_kernels)
}

/// The reason of a boot in which the virtual machine reported an error and no kernel printed anything: the
/// kernel was not tested. Does not apply to a silent kernel whose machine keeps running.
///
/// How it could be wrong: if QEMU stops because of something that a kernel does before its first output, the
/// host is blamed. Either way the kernel is only skipped.
fn never_started(result: &RunResult, directory: &Path) -> Option<String> {
    let silent = |boot: &&BootRecord| {
        let console = std::fs::read(directory.join(&boot.directory).join("console.log")).unwrap_or_default();
        boot.class == Class::BootFailed
            && boot.reason.contains("; it said: ")
            && memchr::memmem::find(&console, b"Linux version ").is_none()
    };
    result.boots.iter().find(silent).map(|boot| boot.reason.clone())
}
