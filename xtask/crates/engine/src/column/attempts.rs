// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guests of one column and suite: the first attempt, and with `--retries` those of what it lost.

use std::collections::{BTreeMap, BTreeSet};

use vmtest_protocol::TestName;

use crate::plan::Column;
use crate::resources::Resources;
use vmtest_base::error::{Class, Result};
use vmtest_base::interrupt;
use vmtest_record::column::ColumnResult;
use vmtest_record::retries;
use vmtest_record::run::{BootRecord, Cell, Kernel, SplatRecord};

/// What one guest came to.
pub struct Guest {
    /// The kernel, with the release that it told.
    pub kernel: Kernel,
    /// How it ended.
    pub record: BootRecord,
    /// Its cells.
    pub cells: Vec<Cell>,
    /// What the kernel complained of.
    pub splats: Vec<SplatRecord>,
    /// Subtests that the tree's own tests reported without doubt; empty for other suites.
    pub reported: BTreeMap<String, BTreeSet<String>>,
}

/// How the cells of a later attempt join those of the ones before.
#[derive(Clone, Copy)]
pub enum Joins {
    /// Only what was lost ran again: cell by cell.
    Cells,
    /// Whole tests ran again, because a program cannot be asked for less without changing what it does.
    Tests,
}

/// All that the guests of a column came to.
pub struct Attempts {
    kernel: Kernel,
    first: BootRecord,
    again: Vec<BootRecord>,
    cells: Vec<Cell>,
    splats: Vec<SplatRecord>,
}

impl Attempts {
    /// The first one.
    pub fn new(guest: Guest) -> Attempts {
        let Guest { kernel, record, cells, splats, reported: _ } = guest;
        Attempts { kernel, first: record, again: Vec::new(), cells, splats }
    }

    /// Names of all cells, as far as they are known.
    fn names(&self) -> Vec<TestName> {
        self.cells.iter().map(Cell::name).collect()
    }

    /// Boots `more` for what was lost, as often as the plan allows. `planned`: what may run again; `None`: whatever has a
    /// cell. `more` gets the names, the number of the attempt and gives the guests that could be started.
    pub fn again(
        &mut self,
        resources: &Resources<'_>,
        column: &Column,
        joins: Joins,
        planned: Option<&[TestName]>,
        mut more: impl FnMut(&[TestName], u32) -> Vec<Result<Guest>>,
    ) {
        // Tests of a column to compare with do not count, and are not tried again.
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
                // What the first attempt found is not lost for it.
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
        // Only what was run again is told by the guests to come; a guest without anything lost stays what it was.
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

    /// The column. `apart`: cells of what no guest ran. Told before the next guest is let in whether all is well.
    pub fn finish(self, resources: &Resources<'_>, column: &Column, apart: Vec<Cell>) -> ColumnResult {
        let Attempts { kernel, first, again, mut cells, splats } = self;
        cells.extend(apart);
        // Tests of a column to compare with stop nobody.
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
