// SPDX-License-Identifier: MIT OR Apache-2.0
//! The result of one column, before it is added to the record of a run.

use crate::run::{BootRecord, Cell, Kernel, RunResult, SplatRecord};

/// The result of a column.
#[derive(Debug)]
pub struct ColumnResult {
    /// The kernel of the column.
    pub kernel: Kernel,
    /// The boot; `None` if none was started.
    pub boot: Option<BootRecord>,
    /// The boots of further attempts.
    pub again: Vec<BootRecord>,
    /// The cells of the column.
    pub cells: Vec<Cell>,
    /// The kernel's warnings.
    pub splats: Vec<SplatRecord>,
}

impl ColumnResult {
    /// Adds it to the record of a run.
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
