// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all columns of a run share: tools, virtme-ng, the runner, the locks. Each is made once, by whoever needs it first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use vmtest_protocol::TestName;

use crate::allow::Allowed;
use crate::context::Context;
use crate::error::{Class, Error, Result};
use crate::host::Toolchain;
use crate::image::{BuildRoot, Vng};
use crate::kernel::series::Series;
use crate::lender::Lenders;
use crate::plan::Plan;
use crate::sandbox::Tools;
use crate::suite::Runner;
use crate::suite::program::Program;
use crate::tools;
use crate::vm::accel::{self, Accel};

/// What all columns share.
pub struct Shop<'a> {
    /// Cache, events, checkout.
    pub ctx: &'a Context,
    /// What was asked for.
    pub plan: &'a Plan,
    /// Series of `--patches`; `None` without one.
    pub series: Option<Series>,
    /// What guests run on.
    pub accel: Accel,
    /// Splats that do not count.
    pub allowed: Allowed,
    tools: OnceLock<Result<Tools>>,
    vng: OnceLock<Result<Option<Vng>>>,
    runner: OnceLock<Result<(Runner, Vec<TestName>)>>,
    make: Mutex<()>,
    /// Programs of selftests/suites/ that run.
    pub programs: Vec<Program>,
    guests: Gate,
    /// Whose bpftool a kernel without a tree gets.
    pub lenders: Lenders,
    stopped: AtomicBool,
}

/// Lets a number of threads in at once.
struct Gate {
    free: Mutex<usize>,
    changed: Condvar,
}

/// A place among them, as long as it lives.
pub struct Pass<'a>(&'a Gate);

impl Gate {
    fn enter(&self) -> Pass<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            self.changed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Pass(self)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.changed.notify_one();
    }
}

impl<'a> Shop<'a> {
    /// Opens shop; nothing is made yet.
    ///
    /// # Errors
    /// When the asked-for accelerator cannot be had, or the file of `--allow-splats` makes no sense.
    pub fn open(ctx: &'a Context, plan: &'a Plan, series: Option<Series>) -> Result<Shop<'a>> {
        let program = |name: &String| Program::load(&ctx.project, name);
        Ok(Shop {
            programs: plan.programs.iter().map(program).collect::<Result<_>>()?,
            ctx,
            plan,
            series,
            allowed: plan.allow_splats.as_deref().map(Allowed::load).transpose()?.unwrap_or_default(),
            accel: accel::decide(plan.accel)?,
            tools: OnceLock::new(),
            vng: OnceLock::new(),
            runner: OnceLock::new(),
            make: Mutex::new(()),
            guests: Gate { free: Mutex::new(plan.vms), changed: Condvar::new() },
            lenders: Lenders::default(),
            stopped: AtomicBool::new(false),
        })
    }

    /// A column is not all pass: with `--fail-fast` no further guest starts.
    pub fn bad(&self) {
        if self.plan.fail_fast {
            self.stopped.store(true, Ordering::SeqCst);
        }
    }

    /// Whether a further guest may start.
    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Waits until a guest may run.
    ///
    /// # Errors
    /// Class `Incomplete` where none may any more.
    pub fn guest(&self) -> Result<Pass<'_>> {
        let pass = self.guests.enter();
        if self.stopped() {
            let why = "not started: --fail-fast, and another column was not all pass";
            return Err(Error::new(Class::Incomplete, why));
        }
        Ok(pass)
    }

    /// Waits until make may run: it takes all cores already, two at once would only take memory.
    pub fn make(&self) -> MutexGuard<'_, ()> {
        self.make.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tools that build and boot.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn tools(&self) -> Result<&Tools> {
        let tools = self.tools.get_or_init(|| match self.plan.toolchain {
            Toolchain::Image => Ok(Tools::Image(BuildRoot::ensure(self.ctx)?)),
            Toolchain::Host => Ok(Tools::Host(tools::host_key())),
        });
        tools.as_ref().map_err(Clone::clone)
    }

    /// Version of virtme-ng; `None` where no guest needed it, or it is the host's.
    pub fn vng_version(&self) -> Option<String> {
        self.vng.get()?.as_ref().ok()?.as_ref().map(|vng| vng.version.clone())
    }

    /// virtme-ng for the build root; `None` with the host's tools, which have their own.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn vng(&self) -> Result<Option<&Vng>> {
        let vng = self.vng.get_or_init(|| match self.plan.toolchain {
            Toolchain::Image => Vng::ensure(self.ctx).map(Some),
            Toolchain::Host => Ok(None),
        });
        vng.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// The runner, and the subtests that were chosen of those it has; none where the own suite is not to run.
    ///
    /// # Errors
    /// Class `SuiteBuild`, or `Usage` when nothing is chosen.
    pub fn runner(&self) -> Result<(&Runner, &[TestName])> {
        let made = self.runner.get_or_init(|| {
            let runner = Runner::ensure(self.ctx)?;
            let others = self.plan.upstream.is_some() || !self.programs.is_empty();
            let chosen = match (self.plan.own, others) {
                (false, _) => Vec::new(),
                (true, false) => runner.choose(&self.plan.filter, self.plan.effort)?,
                // A glob may be meant for the other suite alone.
                (true, true) => match runner.known(&self.plan.filter)? {
                    filter if filter.is_empty() && !self.plan.filter.is_empty() => Vec::new(),
                    filter => runner.choose(&filter, self.plan.effort)?,
                },
            };
            self.plan.repeat.rounds(chosen.len())?;
            Ok((runner, chosen))
        });
        made.as_ref().map(|(runner, chosen)| (runner, &chosen[..])).map_err(Clone::clone)
    }
}
