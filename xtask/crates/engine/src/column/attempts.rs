// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guests of one column and suite: the first attempt, and with `--retries` those for the tests that it
//! lost.

use std::collections::{BTreeMap, BTreeSet};

use vmtest_protocol::TestName;

use crate::plan::Column;
use crate::resources::Resources;
use vmtest_base::error::{Class, Result};
use vmtest_base::interrupt;
use vmtest_record::column::ColumnResult;
use vmtest_record::retries;
use vmtest_record::run::{BootRecord, Cell, Kernel, SplatRecord};

/// The judged result of one guest.
pub struct Guest {
    /// The kernel, with the release that the guest reported.
    pub kernel: Kernel,
    pub record: BootRecord,
    pub cells: Vec<Cell>,
    /// The kernel's warnings.
    pub splats: Vec<SplatRecord>,
    /// Subtests that the tree's own tests reported without doubt; empty for other suites.
    pub reported: BTreeMap<String, BTreeSet<String>>,
}

/// How the cells of a later attempt are merged with the earlier ones.
#[derive(Clone, Copy)]
pub enum Joins {
    /// Only lost subtests ran again: merge cell by cell.
    Cells,
    /// Whole tests ran again, because running only part of a program would change what it does.
    Tests,
}

/// The results of all guests of a column.
pub struct Attempts {
    kernel: Kernel,
    first: BootRecord,
    again: Vec<BootRecord>,
    cells: Vec<Cell>,
    splats: Vec<SplatRecord>,
}

impl Attempts {
    /// Starts with the first attempt.
    pub fn new(guest: Guest) -> Attempts {
        let Guest { kernel, record, cells, splats, reported: _ } = guest;
        Attempts { kernel, first: record, again: Vec::new(), cells, splats }
    }

    /// Names of all cells so far.
    fn names(&self) -> Vec<TestName> {
        self.cells.iter().map(Cell::name).collect()
    }

    /// Boots `more` for what was lost, as often as the plan allows. `planned`: what may run again; `None`:
    /// everything that has a cell. `more` gets the names and the number of the attempt, and returns the
    /// guests that it tried to start.
    pub fn again(
        &mut self,
        resources: &Resources<'_>,
        column: &Column,
        joins: Joins,
        planned: Option<&[TestName]>,
        mut more: impl FnMut(&[TestName], u32) -> Vec<Result<Guest>>,
    ) {
        // Tests of a reference column do not count and are not retried.
        let most = if column.role.is_none() { resources.plan.retries } else { 0 };
        for attempt in 2..=most + 1 {
            let all = planned.map_or_else(|| self.names(), <[TestName]>::to_vec);
            let lost = retries::again(&self.cells, &all);
            if lost.is_empty() || interrupt::requested().is_some() {
                break;
            }
            resources.ctx.bus.warn(format!(
                "{}: {} of {} subtests failed or were lost; retrying them (attempt {attempt} of {})",
                self.kernel.id,
                lost.len(),
                all.len(),
                most + 1
            ));
            let (ran, failed): (Vec<_>, Vec<_>) = more(&lost, attempt).into_iter().partition(Result::is_ok);
            for error in failed.into_iter().filter_map(Result::err) {
                // The results of the first attempt are still valid.
                resources.ctx.bus.warn(format!("attempt {attempt} could not run: {error}"));
            }
            let guests: Vec<Guest> = ran.into_iter().filter_map(Result::ok).collect();
            if guests.is_empty() {
                break;
            }
            self.add(attempt, guests, joins, &lost);
        }
        if resources.plan.allow_flaky {
            retries::allow(&mut self.cells);
        }
    }

    fn add(&mut self, attempt: u32, guests: Vec<Guest>, joins: Joins, lost: &[TestName]) {
        let before = self.again.last().unwrap_or(&self.first).class;
        // Lost tests are judged by the retries that follow; a guest that lost nothing keeps its class.
        for record in std::iter::once(&mut self.first).chain(&mut self.again) {
            record.retried |= retries::is_replaced(record.class);
        }
        for guest in guests {
            let boots = (before, guest.record.class);
            match joins {
                Joins::Cells => retries::merge(&mut self.cells, guest.cells, attempt, boots),
                Joins::Tests => retries::merge_tests(&mut self.cells, guest.cells, lost, attempt, boots),
            }
            self.again.push(guest.record);
            self.splats.extend(guest.splats);
            if !guest.kernel.release.is_empty() {
                self.kernel.release = guest.kernel.release;
            }
        }
    }

    /// Finishes the column. `apart`: cells that no guest ran. Runs before the next guest is admitted, so that
    /// `--fail-fast` takes effect in time.
    pub fn finish(self, resources: &Resources<'_>, column: &Column, apart: Vec<Cell>) -> ColumnResult {
        let Attempts { kernel, first, again, mut cells, splats } = self;
        cells.extend(apart);
        // Failed tests of a reference column do not trigger `--fail-fast`.
        let tests_count = column.role.is_none();
        let boot_counts = |boot: &BootRecord| boot.class != Class::Pass && !boot.retried;
        if std::iter::once(&first).chain(&again).any(boot_counts)
            || (tests_count && cells.iter().any(|cell| cell.class != Class::Pass))
        {
            resources.bad();
        }
        ColumnResult { kernel, boot: Some(first), again, cells, splats }
    }
}
