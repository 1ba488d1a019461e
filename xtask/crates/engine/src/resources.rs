// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all columns of a run share: tools, virtme-ng, the runner, the locks. Each job of a matrix has its own
//! instance, and all of them share `Common`. Each resource is created once, when it is first needed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use vmtest_protocol::TestName;

use crate::bpftool_donor::Donors;
use crate::plan::Plan;
use crate::prepare::Prepared;
use vmtest_base::error::{Class, Error, Result};
use vmtest_guest::judge::Program;
use vmtest_host::accel::{self, Accel, AccelChoice};
use vmtest_host::build_root::BuildRoot;
use vmtest_host::context::Context;
use vmtest_host::doctor::Toolchain;
use vmtest_host::sandbox::Tools;
use vmtest_host::slots::{Capacity, Demand, Permit, Slots};
use vmtest_host::tools;
use vmtest_host::virtme_ng::Vng;
use vmtest_kernel::series::Series;
use vmtest_record::allow_list::Allowed;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::RunResult;
use vmtest_suite::own::Runner;

/// What all columns share.
pub struct Resources<'a> {
    /// Cache, events, checkout.
    pub ctx: &'a Context,
    /// The plan with everything that it names.
    pub prepared: &'a Prepared,
    /// What was requested.
    pub plan: &'a Plan,
    /// Series of `--patches`, if any.
    pub series: Option<&'a Series>,
    /// The accelerator of the guests.
    pub accel: Accel,
    /// Splats that do not count.
    pub allowed: Allowed,
    /// Programs of selftests/suites/ that run.
    pub programs: &'a [Program],
    /// Trees whose bpftool is lent to kernels without a tree.
    pub donors: Donors,
    common: Arc<Common>,
    chosen: OnceLock<Result<Vec<TestName>>>,
    /// How long its guests are expected to take, compared with other jobs.
    weight: u64,
}

/// What is shared by everything that runs in parallel on one machine.
pub struct Common {
    accel: Accel,
    tools: OnceLock<Result<Tools>>,
    vng: OnceLock<Result<Option<Vng>>>,
    runner: OnceLock<Result<Runner>>,
    make: Slots,
    guests: Slots,
    stopped: AtomicBool,
}

impl Common {
    /// Creates nothing yet.
    ///
    /// # Errors
    /// When the requested accelerator is not available.
    pub fn new(accel: AccelChoice, guests: Capacity) -> Result<Arc<Common>> {
        Ok(Arc::new(Common {
            accel: accel::decide(accel)?,
            tools: OnceLock::new(),
            vng: OnceLock::new(),
            runner: OnceLock::new(),
            make: Slots::new(Capacity::of(1)),
            guests: Slots::new(guests),
            stopped: AtomicBool::new(false),
        }))
    }
}

impl<'a> Resources<'a> {
    /// The resources of a single run; creates nothing yet.
    ///
    /// # Errors
    /// When the requested accelerator is not available, or the file of `--allow-splats` is invalid.
    pub fn open(ctx: &'a Context, prepared: &'a Prepared) -> Result<Resources<'a>> {
        let plan = &prepared.plan;
        Resources::beside(ctx, prepared, Common::new(plan.accel, Capacity::of(plan.vms))?, 0)
    }

    /// The resources of one of several jobs, which share `common`. `weight`: how long its guests are expected
    /// to take.
    ///
    /// # Errors
    /// When the file of `--allow-splats` is invalid.
    pub fn beside(
        ctx: &'a Context,
        prepared: &'a Prepared,
        common: Arc<Common>,
        weight: u64,
    ) -> Result<Resources<'a>> {
        let plan = &prepared.plan;
        Ok(Resources {
            ctx,
            prepared,
            plan,
            series: prepared.series.as_ref(),
            programs: &prepared.programs,
            allowed: plan.allow_splats.as_deref().map(Allowed::load).transpose()?.unwrap_or_default(),
            accel: common.accel.clone(),
            donors: Donors::default(),
            common,
            chosen: OnceLock::new(),
            weight,
        })
    }

    /// A column did not pass: with `--fail-fast` no further guest starts.
    pub fn bad(&self) {
        if self.plan.fail_fast {
            self.common.stopped.store(true, Ordering::SeqCst);
        }
    }

    /// Whether `--fail-fast` forbids further guests.
    fn stopped(&self) -> bool {
        self.common.stopped.load(Ordering::SeqCst)
    }

    /// Waits for a guest slot.
    ///
    /// # Errors
    /// Class `Incomplete` if no more guests may start.
    pub fn guest(&self, demand: Demand) -> Result<Permit<'_>> {
        let pass = self.common.guests.acquire(self.weight, demand);
        if self.stopped() {
            let why = "not started: another column did not pass (--fail-fast)";
            return Err(Error::new(Class::Incomplete, why));
        }
        Ok(pass)
    }

    /// Waits until make may run: one already uses all cores, so a second one would only use more memory.
    pub fn make(&self) -> Permit<'_> {
        self.common.make.acquire(self.weight, Demand::default())
    }

    /// The tools that build and boot.
    ///
    /// # Errors
    /// When they are not available.
    pub fn tools(&self) -> Result<&Tools> {
        let tools = self.common.tools.get_or_init(|| match self.plan.toolchain {
            Toolchain::Image => Ok(Tools::Image(BuildRoot::ensure(self.ctx)?)),
            Toolchain::Host => Ok(Tools::Host(tools::host_key())),
        });
        tools.as_ref().map_err(Clone::clone)
    }

    /// Version of virtme-ng; `None` if no guest needed it, or it is the host's.
    pub fn vng_version(&self) -> Option<String> {
        self.common.vng.get()?.as_ref().ok()?.as_ref().map(|vng| vng.version.clone())
    }

    /// virtme-ng for the build root; `None` with the host's tools, which have their own.
    ///
    /// # Errors
    /// When it is not available.
    pub fn vng(&self) -> Result<Option<&Vng>> {
        let vng = self.common.vng.get_or_init(|| match self.plan.toolchain {
            Toolchain::Image => Vng::ensure(self.ctx).map(Some),
            Toolchain::Host => Ok(None),
        });
        vng.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// The runner and its chosen subtests; empty if our own suite is not to run.
    ///
    /// # Errors
    /// Class `SuiteBuild`, or `Usage` if nothing is chosen.
    pub fn runner(&self) -> Result<(&Runner, &[TestName])> {
        let runner =
            self.common.runner.get_or_init(|| Runner::ensure(self.ctx)).as_ref().map_err(Clone::clone)?;
        let chosen = self.chosen.get_or_init(|| self.choose(runner));
        chosen.as_ref().map(|chosen| (runner, &chosen[..])).map_err(Clone::clone)
    }

    /// What the tests of our own suite prove that did not pass; empty if the runner was never needed.
    pub fn proves(&self, run: &RunResult) -> BTreeMap<String, String> {
        let Some(Ok(runner)) = self.common.runner.get() else { return BTreeMap::new() };
        let told = |path: &String| {
            run.cells
                .iter()
                .any(|cell| cell.suite == "own" && cell.outcome != Outcome::Pass && cell.path() == *path)
        };
        let all = runner.listed.iter().map(|listed| (listed.name.path(), listed.about.clone()));
        all.filter(|(path, _)| told(path)).collect()
    }

    fn choose(&self, runner: &Runner) -> Result<Vec<TestName>> {
        let others = self.plan.upstream.is_some() || !self.programs.is_empty();
        let chosen = match (self.plan.own, others) {
            (false, _) => Vec::new(),
            (true, false) => runner.choose(&self.plan.filter, self.plan.effort)?,
            // A glob may be meant only for another suite.
            (true, true) => match runner.known(&self.plan.filter)? {
                filter if filter.is_empty() && !self.plan.filter.is_empty() => Vec::new(),
                filter => runner.choose(&filter, self.plan.effort)?,
            },
        };
        self.plan.repeat.rounds(chosen.len())?;
        Ok(chosen)
    }
}
