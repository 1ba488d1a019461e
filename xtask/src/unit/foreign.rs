// SPDX-License-Identifier: MIT OR Apache-2.0
//! A boot for a suite that is no part of the runner: a program in the guest, whose output the host reads.

use std::path::PathBuf;

use vmtest_protocol::{TestName, Upstream, UpstreamTest};

use super::attempts::Guest;
use super::{Bootable, cell_directory, judge_as_variant, record, splats, terms};
use crate::conditions;
use crate::error::Result;
use crate::guest::Stream;
use crate::kernel::variant;
use crate::launch::{self, boot_with_fallback};
use crate::plan::Unit;
use crate::replay::{Brief, Foreign};
use crate::result::{BootRecord, Cell, CellBase, Kernel, MaySkip, Rounds, SplatRecord, Verdict};
use crate::sandbox::Sandbox;
use crate::shop::Shop;
use crate::vm::console::Scanner;
use crate::vm::session::{Limits, Observed};
use crate::vm::{BUNDLE_MOUNT, Boot, Task};
use crate::workdir::RunDir;

/// What the guest gets and what it is to do with it.
pub struct Order {
    /// Name of the suite.
    pub suite: String,
    /// The program and its files, on the host.
    pub files: PathBuf,
    /// What runs in place of `test_progs`; `None`: that.
    pub program: Option<String>,
    /// Which tests.
    pub tests: Vec<UpstreamTest>,
    /// Subtests that must not run.
    pub deny: Vec<String>,
    /// Seconds that one test may take.
    pub limit_s: u32,
    /// Why it is booted as it is.
    pub boot_reason: String,
    /// Which attempt of `--retries` it is, where it is not the first.
    pub attempt: Option<u32>,
}

/// What came of it, before its cells are judged.
pub struct Ran {
    /// What was seen.
    pub seen: Observed,
    /// Judgement of the boot.
    pub verdict: Verdict,
    /// What its cells have in common.
    pub base: CellBase,
    /// For the record.
    pub record: BootRecord,
    /// The kernel, with the release that the guest told.
    pub kernel: Kernel,
    /// What the kernel complained of.
    pub splats: Vec<SplatRecord>,
    /// What it takes to judge it again, as far as that is known before its cells are.
    brief: Brief,
    store: PathBuf,
}

impl Ran {
    /// With its cells, and what it takes to come to them again.
    pub fn with(self, shop: &Shop<'_>, cells: Vec<Cell>, foreign: Foreign, may_skip: MaySkip<'_>) -> Guest {
        if let Err(error) = self.brief.of_foreign(foreign, &cells, may_skip).leave(&self.store) {
            // What was seen of the guest is worth more.
            shop.ctx.bus.warn(format!("{}: it cannot be judged again: {}", self.kernel.id, error.summary()));
        }
        Guest { kernel: self.kernel, record: self.record, cells, splats: self.splats }
    }
}

/// What the cells of a foreign suite have in common.
pub fn base(shop: &Shop<'_>, unit: &Unit, kernel: &str, suite: &str) -> CellBase {
    CellBase {
        kernel: kernel.to_owned(),
        variant: unit.variant.clone().unwrap_or_default(),
        boot: Boot::Vng.name().to_owned(),
        accel: shop.accel.kind.name().to_owned(),
        suite: suite.to_owned(),
        enforced: None,
    }
}

/// Limits of a guest with this kernel.
pub fn limits(shop: &Shop<'_>, bootable: &Bootable) -> Limits {
    bootable.limits(shop, shop.accel.kind)
}

/// Boots through vng and runs the program there, to the end of the guest.
///
/// # Errors
/// When the guest cannot be started, or must not be any more.
pub fn run(shop: &Shop<'_>, unit: &Unit, bootable: &Bootable, order: Order, run_dir: &RunDir) -> Result<Ran> {
    let Order { suite, files, program, tests, deny, limit_s, boot_reason, attempt } = order;
    shop.vng()?;
    let _guest = shop.guest(launch::demand(shop, bootable, Boot::Vng)?)?;
    let seen_at = Sandbox::new(shop.tools()?).read_only(&files, BUNDLE_MOUNT).see(BUNDLE_MOUNT);
    let total = tests.len() as u64;
    let wishes = Upstream { bundle: seen_at.to_string_lossy().into_owned(), program, tests, deny, limit_s };
    let task = Task::Upstream { bundle: files, wishes };
    let name = cell_directory(&bootable.kernel.id, unit.variant.as_deref(), Boot::Vng);
    let which = attempt.map_or_else(String::new, |number| format!("-attempt-{number}"));
    let name = format!("{name}-{suite}{which}");
    let store = run_dir.dir(&format!("cells/{name}"))?;
    let phase = {
        let how = ["vng", &format!("suite {suite}")];
        shop.ctx.bus.phase("boot", variant::called(&bootable.kernel.id, unit.variant.as_deref(), &how))
    };
    let watch = |stream: &Stream, _: &Scanner| {
        let now = stream.running.as_ref().map(TestName::path).unwrap_or_default();
        phase.progress(stream.ended.len() as u64, total, now);
    };
    let machine = launch::machine(shop, Boot::Vng)?;
    let (seen, accel) = boot_with_fallback(shop, bootable, Boot::Vng, task, &store, watch)?;
    let emulator = machine.risky_emulator(accel.kind);
    let terms = terms(shop, bootable, emulator.as_deref());
    let brief = Brief::of(&seen, &terms, &[], Rounds::Exactly(1), &|_| false);
    let (verdict, conditions) = judge_as_variant(shop, bootable, &machine, accel.kind, &seen);
    let base = CellBase {
        accel: accel.kind.name().to_owned(),
        enforced: conditions::enforced(&conditions),
        ..base(shop, unit, &bootable.kernel.id, &suite)
    };
    let mut kernel = bootable.kernel.clone();
    if let Some(hello) = &seen.stream.hello {
        kernel.release.clone_from(&hello.release);
    }
    let limits = bootable.limits(shop, accel.kind);
    let why = (boot_reason, accel, machine);
    let record = record(limits, &base, &verdict, &seen, why, format!("cells/{name}"));
    let record = BootRecord { attempt, conditions, ..record };
    phase.finish();
    let mut splats = splats(shop, bootable, &base, &seen);
    splats.iter_mut().for_each(|splat| splat.attempt = attempt);
    Ok(Ran { seen, verdict, base, record, kernel, splats, brief, store })
}
