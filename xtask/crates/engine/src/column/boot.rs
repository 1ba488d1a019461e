// SPDX-License-Identifier: MIT OR Apache-2.0
//! The only code that boots a guest of a column, for any suite, and passes what was seen of it to the judge.

use std::path::{Path, PathBuf};

use vmtest_protocol::{GuestOutcome, TestName};

use crate::bootable::Bootable;
use crate::column::attempts::Guest;
use crate::column::cell_directory;
use crate::launch::{self, Launch};
use crate::plan::Column;
use crate::replay::SavedInput;
use crate::resources::Resources;
use vmtest_base::error::{Class, Result};
use vmtest_base::event::{Kind as Event, Phase};
use vmtest_guest::console::Scanner;
use vmtest_guest::events::Stream;
use vmtest_guest::judge::{CellBase, JudgeInput, Judged, SuiteInput, Terms, judge};
use vmtest_guest::machine::Machine;
use vmtest_guest::observed::Observed;
use vmtest_guest::spec::{BUNDLE_MOUNT, Boot, Task};
use vmtest_host::accel::{Accel, Kind};
use vmtest_host::sandbox::Sandbox;
use vmtest_host::slots::Permit;
use vmtest_host::store::RunDir;
use vmtest_kernel::variant;
use vmtest_record::run::{BootRecord, Kernel};

/// The suite whose runner reports each subtest.
pub const OWN: &str = "own";

/// The guests of one column and suite. While it exists, it occupies a guest slot.
pub struct Guests<'a> {
    resources: &'a Resources<'a>,
    bootable: &'a Bootable,
    boot: Boot,
    boot_reason: String,
    base: CellBase,
    machine: Machine,
    run_dir: &'a RunDir,
    _place: Permit<'a>,
}

/// One guest.
pub struct BootRequest {
    /// What the guest is to do.
    pub task: Task,
    /// How many subtest results are expected.
    pub expected: u64,
    /// Number of the attempt of `--retries`, if it is not the first.
    pub attempt: Option<u32>,
    /// Index of the guest in an attempt with several guests, from 0.
    pub part: usize,
}

/// What was seen of a guest, before it is judged.
pub struct BootOutcome {
    seen: Observed,
    accel: Accel,
    attempt: Option<u32>,
    directory: String,
    store: PathBuf,
    phase: Phase,
}

/// What the cells of a column have in common.
pub fn base(resources: &Resources<'_>, column: &Column, kernel: &str, boot: &str, suite: &str) -> CellBase {
    CellBase {
        kernel: kernel.to_owned(),
        variant: column.variant.clone().unwrap_or_default(),
        boot: boot.to_owned(),
        accel: resources.accel.kind.name().to_owned(),
        suite: suite.to_owned(),
        enforced: None,
    }
}

impl<'a> Guests<'a> {
    /// Waits for a guest slot.
    ///
    /// # Errors
    /// When a tool that starts guests is not available, or no more guests may start.
    pub fn admit(
        resources: &'a Resources<'a>,
        bootable: &'a Bootable,
        (boot, boot_reason): (Boot, String),
        base: CellBase,
        run_dir: &'a RunDir,
    ) -> Result<Guests<'a>> {
        resources.tools()?;
        if boot == Boot::Vng {
            resources.vng()?;
        }
        let machine = launch::machine(resources, boot)?;
        let place = resources.guest(launch::demand(resources, bootable, &machine))?;
        Ok(Guests { resources, bootable, boot, boot_reason, base, machine, run_dir, _place: place })
    }

    /// Boots one guest, to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn boot(&self, request: BootRequest) -> Result<BootOutcome> {
        let BootRequest { task, expected, attempt, part } = request;
        let suite = &self.base.suite;
        let mut directory = format!("cells/{}", cell_directory(&self.base));
        let mut how = vec![self.boot.name().to_owned()];
        if suite != OWN {
            directory.push_str(&format!("-{suite}"));
            how.push(format!("suite {suite}"));
        }
        if let Some(number) = attempt {
            directory.push_str(&format!("-attempt-{number}"));
        }
        if part > 0 {
            directory.push_str(&format!("-{}", part + 1));
        }
        let store = self.run_dir.dir(&directory)?;
        let how: Vec<&str> = how.iter().map(String::as_str).collect();
        let called = variant::called(&self.base.kernel, Some(&self.base.variant), &how);
        let phase = self.resources.ctx.bus.phase("boot", called);
        let bus = &self.resources.ctx.bus;
        let mut shown = 0;
        let watch = |stream: &Stream, _: &Scanner| {
            for end in stream.ended.iter().skip(shown) {
                let outcome = match end.outcome {
                    GuestOutcome::Pass => "pass",
                    GuestOutcome::Fail => "fail",
                    GuestOutcome::Skip => "skip",
                    GuestOutcome::Xfail => "xfail",
                };
                let (subject, test) = (self.base.kernel.clone(), end.name.path());
                bus.emit(Event::TestEnded { subject, test, outcome: outcome.to_owned() });
            }
            shown = stream.ended.len();
            let now = stream.running.as_ref().map(TestName::path).unwrap_or_default();
            phase.progress(stream.ended.len() as u64, expected, now);
        };
        let Guests { resources, bootable, boot, machine, .. } = self;
        let launch = Launch { resources, bootable, boot: *boot, machine, task };
        let (seen, accel) = launch.with_fallback(&store, watch)?;
        Ok(BootOutcome { seen, accel, attempt, directory, store, phase })
    }

    /// Whether a subtest of our own suite may be skipped by any kernel.
    fn is_optional(&self, name: &TestName) -> bool {
        let filter = &self.resources.plan.filter;
        self.base.suite == OWN
            && self.resources.runner().is_ok_and(|(runner, _)| runner.is_optional(name, filter))
    }

    /// Judges a guest, and stores what is needed to judge it again next to its raw bytes.
    pub fn judge(&self, outcome: BootOutcome, suite: SuiteInput<'_>) -> Guest {
        let Guests { resources, bootable, machine, .. } = self;
        let BootOutcome { seen, accel, attempt, directory, store, phase } = outcome;
        let Kernel { id, release, build_id, .. } = &bootable.kernel;
        let emulator = machine.risky_emulator(accel.kind);
        let input = JudgeInput {
            base: CellBase { accel: accel.kind.name().to_owned(), ..self.base.clone() },
            terms: Terms { release, build_id, allowed: &resources.allowed, emulator: emulator.as_deref() },
            conditions: bootable.variant.as_ref().map(|variant| &variant.conditions[..]).unwrap_or_default(),
            suite,
            may_skip: &|name| resources.plan.may_skip(id, name) || self.is_optional(name),
        };
        let judged = judge(&input, &seen);
        if let Err(error) = SavedInput::of(&input, &seen, &judged).write(&store) {
            // A warning only: the results of the guest are worth more.
            resources.ctx.bus.warn(format!("{id}: cannot be re-judged: {}", error.summary()));
        }
        self.say_what_it_is_not(&seen, &judged);
        let record = self.record(&input.base, &judged, &seen, accel);
        let record = BootRecord { directory, attempt, ..record };
        phase.finish();
        let Judged { cells, mut splats, reported, .. } = judged;
        crate::stacktrace::decode(resources, bootable, &mut splats);
        splats.iter_mut().for_each(|splat| splat.attempt = attempt);
        let mut kernel = bootable.kernel.clone();
        if let Some(hello) = &seen.stream.hello {
            kernel.release.clone_from(&hello.release);
        }
        Guest { kernel, record, cells, splats, reported }
    }

    /// Warns if a guest is less than its column promises: it does not meet the conditions of its variant, or
    /// has fewer CPUs than configured. Concurrency tests on one CPU prove little.
    fn say_what_it_is_not(&self, seen: &Observed, judged: &Judged) {
        let (bus, id) = (&self.resources.ctx.bus, &self.bootable.kernel.id);
        for one in judged.conditions.iter().filter(|one| !one.enforced && !one.must) {
            bus.note(format!(
                "{id}: not enforced here: {} ({} is {:?}); passing tests prove nothing about it",
                one.what, one.read, one.value
            ));
        }
        let given = self.machine.cpus;
        if let Some(hello) = seen.stream.hello.as_ref().filter(|hello| hello.cpus != given) {
            bus.warn(format!("{id}: the guest sees {} CPUs of {given}", hello.cpus));
        }
    }

    fn record(&self, base: &CellBase, judged: &Judged, seen: &Observed, accel: Accel) -> BootRecord {
        let machine = &self.machine;
        let emulated = accel.kind == Kind::Tcg;
        let limits = launch::limits(self.resources, self.bootable, accel.kind);
        let limits = [
            ("first-byte", limits.first_byte),
            ("boot", limits.boot),
            ("idle", limits.idle),
            ("run", limits.run),
            ("shutdown", limits.shutdown),
        ];
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let hello = seen.stream.hello.as_ref();
        let Judged { verdict, conditions, .. } = judged;
        BootRecord {
            kernel: base.kernel.clone(),
            variant: base.variant.clone(),
            suite: base.suite.clone(),
            boot: base.boot.clone(),
            boot_reason: self.boot_reason.clone(),
            accel: base.accel.clone(),
            accel_reason: accel.reason,
            cpus: machine.cpus,
            cpus_reason: machine.cpus_reason.clone(),
            tcg_thread: emulated.then(|| machine.tcg_thread.to_owned()),
            tcg_thread_reason: emulated.then(|| machine.tcg_thread_reason.clone()),
            limits_s: limits.iter().map(|(name, limit)| ((*name).to_owned(), limit.as_secs())).collect(),
            build_id: hello.map(|hello| hello.build_id.clone()).unwrap_or_default(),
            features: hello.map(|hello| hello.features.clone()).unwrap_or_default(),
            profile: hello.map(|hello| hello.profile.clone()).unwrap_or_default(),
            conditions: conditions.clone(),
            class: verdict.class,
            reason: verdict.reason.clone(),
            booted_after_ms: seen.booted_after.map(millis),
            duration_ms: millis(seen.took),
            console_tail: if verdict.class == Class::Pass { Vec::new() } else { seen.console.tail(15) },
            to_verdict_ms: millis(seen.to_verdict),
            before_kill: seen.before_kill.clone(),
            ..BootRecord::default()
        }
    }
}

/// Where a guest sees the files of an external suite.
///
/// # Errors
/// When the tools are not available.
pub fn seen_in_guest(resources: &Resources<'_>, files: &Path) -> Result<String> {
    let seen_at = Sandbox::new(resources.tools()?).read_only(files, BUNDLE_MOUNT).see(BUNDLE_MOUNT);
    Ok(seen_at.to_string_lossy().into_owned())
}
