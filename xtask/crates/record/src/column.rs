// SPDX-License-Identifier: MIT OR Apache-2.0
//! Result of one column, before it is part of the record of a run.

use crate::run::{BootRecord, Cell, Kernel, RunResult, SplatRecord};

/// Result of a column.
#[derive(Debug)]
pub struct ColumnResult {
    /// The column.
    pub kernel: Kernel,
    /// The boot; `None` when it never came to one.
    pub boot: Option<BootRecord>,
    /// The boots of further attempts.
    pub again: Vec<BootRecord>,
    /// Its cells.
    pub cells: Vec<Cell>,
    /// What the kernel complained of.
    pub splats: Vec<SplatRecord>,
}

impl ColumnResult {
    /// Puts it into the record of a run.
    pub fn add_to(self, result: &mut RunResult) {
        let ColumnResult { kernel, boot, again, cells, splats } = self;
        if !result.kernels.contains(&kernel) {
            result.kernels.push(kernel);
        }
        result.boots.extend(boot.into_iter().chain(again));
        result.cells.extend(cells);
        result.splats.extend(splats);
    }
}
