// SPDX-License-Identifier: MIT OR Apache-2.0
//! Our own suite in a column: what is planned, its guests, its cells.

use vmtest_protocol::TestName;

use crate::bootable::{Bootable, Bpftool};
use crate::column::attempts::{Attempts, Joins};
use crate::column::boot::{self, BootRequest, Guests};
use crate::column::{Built, bpftool, choose_boot};
use crate::launch;
use crate::plan::Column;
use crate::resources::Resources;
use vmtest_base::error::{Class, Error, Result};
use vmtest_guest::judge::{CellBase, Rounds, SuiteInput, notrun};
use vmtest_guest::spec::{Boot, Task};
use vmtest_host::store::RunDir;
use vmtest_record::column::ColumnResult;
use vmtest_record::run::Kernel;

/// Why a kernel that was built has no results.
const NOT_BOOTED: &str = "it was not booted, as --skip boots asks";

/// The name that stands for all subtests.
fn whole_suite() -> TestName {
    TestName { test: "suite".to_owned(), subtest: "all".to_owned() }
}

/// Boots a kernel for our own suite, and judges it.
pub fn boot(resources: &Resources<'_>, column: &Column, built: &Built, run_dir: &RunDir) -> ColumnResult {
    let kernel = built.kernel.clone();
    let base = |kernel: &Kernel, how: &str| boot::base(resources, column, &kernel.id, how, boot::OWN);
    let failed = |kernel: Kernel, boot: &str, error: &Error| {
        resources.bad();
        let planned = resources.runner().map(|(_, chosen)| chosen.to_vec()).unwrap_or_default();
        let mut cells = notrun(&base(&kernel, boot), &planned, error.class, &error.to_string());
        if cells.is_empty() {
            // Without a runner the subtests are unknown; this cell keeps the column from vanishing.
            cells = notrun(&base(&kernel, boot), &[whole_suite()], error.class, &error.to_string());
        }
        ColumnResult { kernel, boot: None, again: Vec::new(), cells, splats: Vec::new() }
    };
    let bootable = match &built.bootable {
        Ok(bootable) => bootable,
        Err(error) => return failed(kernel, "", error),
    };
    if resources.plan.build_only {
        let mut cells = notrun(&base(&kernel, ""), &[whole_suite()], Class::Pass, NOT_BOOTED);
        cells.iter_mut().for_each(|cell| cell.required = false);
        return ColumnResult { kernel, boot: None, again: Vec::new(), cells, splats: Vec::new() };
    }
    let (boot, boot_reason) = choose_boot(resources.plan.boot, bootable);
    match test(resources, column, bootable, boot, boot_reason, run_dir, &base(&kernel, boot.name())) {
        Ok(done) => done,
        Err(error) => failed(kernel, boot.name(), &error),
    }
}

fn test(
    resources: &Resources<'_>,
    column: &Column,
    bootable: &Bootable,
    boot: Boot,
    boot_reason: String,
    run_dir: &RunDir,
    base: &CellBase,
) -> Result<ColumnResult> {
    let (runner, chosen) = resources.runner()?;
    let runs_there = boot == Boot::Vng || vmtest_kernel::bpftool::is_static(resources.tools()?);
    let offered = matches!(bootable.bpftool, Bpftool::In(_)) && runs_there;
    let (planned, without): (Vec<TestName>, Vec<TestName>) =
        chosen.iter().cloned().partition(|name| offered || !runner.uses_bpftool(name));
    let (planned, without) =
        (&planned[..], bpftool::cells_without(base, bootable, &without, planned.is_empty()));
    if planned.is_empty() {
        resources.bad();
        return Ok(ColumnResult {
            kernel: bootable.kernel.clone(),
            boot: None,
            again: Vec::new(),
            cells: without,
            splats: Vec::new(),
        });
    }
    let guests = Guests::admit(resources, bootable, (boot, boot_reason), base.clone(), run_dir)?;
    // Pass what was chosen, not what is planned: the guest itself omits subtests that need a missing bpftool.
    let effort = resources.plan.effort;
    let (names, places) = runner.ask_for(chosen, effort);
    let repeat = resources.plan.repeat;
    let rounds = repeat.rounds(chosen.len())?;
    let time = repeat.time(launch::limits(resources, bootable, resources.accel.kind).run);
    let until_fail = repeat.until_fail.then_some(time);
    let task = Task::Tests { names, places, effort, self_test: column.self_test, rounds, until_fail };
    let expected = planned.len() as u64 * u64::from(rounds);
    let outcome = guests.boot(BootRequest { task, expected, attempt: None, part: 0 })?;
    let rounds = repeat.wanted();
    let mut attempts = Attempts::new(guests.judge(outcome, SuiteInput::Own { planned, rounds }));
    attempts.again(resources, column, Joins::Cells, Some(planned), |lost, attempt| {
        let parts = runner.in_parts(lost).into_iter().enumerate();
        parts
            .map(|(part, planned)| {
                let (names, places) = runner.ask_for(&planned, effort);
                let self_test = column.self_test;
                let task = Task::Tests { names, places, effort, self_test, rounds: 1, until_fail: None };
                let expected = planned.len() as u64;
                let outcome = guests.boot(BootRequest { task, expected, attempt: Some(attempt), part })?;
                let rounds = Rounds::Exactly(1);
                Ok(guests.judge(outcome, SuiteInput::Own { planned: &planned, rounds }))
            })
            .collect()
    });
    Ok(attempts.finish(resources, column, without))
}
