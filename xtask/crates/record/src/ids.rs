// SPDX-License-Identifier: MIT OR Apache-2.0
//! Identities of kernels, columns and cells of a record.

use vmtest_protocol::TestName;

use crate::matrix::JobRecord;
use crate::run::{BootRecord, Cell, SplatRecord};

/// A kernel in a variant. A kernel warning is attributed to this, not to a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariantId<'a> {
    /// ID of the kernel.
    pub kernel: &'a str,
    /// Name of the variant; empty for a kernel that was not built here.
    pub variant: &'a str,
}

/// A column: a kernel in a variant, how it is booted, and what runs in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ColumnId<'a> {
    /// ID of the kernel.
    pub kernel: &'a str,
    /// Name of the variant; empty for a kernel that was not built here.
    pub variant: &'a str,
    /// `vng` or `direct`; empty if it was never decided.
    pub boot: &'a str,
    /// `own`, `upstream`, ..
    pub suite: &'a str,
}

impl<'a> ColumnId<'a> {
    /// The same column, regardless of how it is booted.
    pub fn any_boot(self) -> ColumnId<'a> {
        ColumnId { boot: "", ..self }
    }
}

/// Identifies a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellId<'a> {
    /// Its column.
    pub column: ColumnId<'a>,
    /// Group of tests.
    pub test: &'a str,
    /// Subtest; empty for a test as a whole.
    pub subtest: &'a str,
}

impl Cell {
    /// Its kernel and variant.
    pub fn variant_id(&self) -> VariantId<'_> {
        VariantId { kernel: &self.kernel, variant: &self.variant }
    }

    /// Its column.
    pub fn column(&self) -> ColumnId<'_> {
        let Cell { kernel, variant, boot, suite, .. } = self;
        ColumnId { kernel, variant, boot, suite }
    }

    /// Its unique identity within a run.
    pub fn id(&self) -> CellId<'_> {
        CellId { column: self.column(), test: &self.test, subtest: &self.subtest }
    }

    /// Name of its test.
    pub fn name(&self) -> TestName {
        TestName { test: self.test.clone(), subtest: self.subtest.clone() }
    }
}

impl BootRecord {
    /// Its kernel and variant.
    pub fn variant_id(&self) -> VariantId<'_> {
        VariantId { kernel: &self.kernel, variant: &self.variant }
    }

    /// The column that the guest belongs to.
    pub fn column(&self) -> ColumnId<'_> {
        let BootRecord { kernel, variant, boot, suite, .. } = self;
        ColumnId { kernel, variant, boot, suite }
    }
}

impl SplatRecord {
    /// Its kernel and variant.
    pub fn variant_id(&self) -> VariantId<'_> {
        VariantId { kernel: &self.kernel, variant: &self.variant }
    }
}

impl JobRecord {
    /// Its kernel and variant.
    pub fn variant_id(&self) -> VariantId<'_> {
        VariantId { kernel: &self.kernel, variant: &self.variant }
    }

    /// Whether the column belongs to this job.
    pub fn owns(&self, column: ColumnId<'_>) -> bool {
        let JobRecord { kernel, variant, boot, suite, .. } = self;
        let boot = if boot == "auto" { column.boot } else { boot };
        ColumnId { kernel, variant, boot, suite } == column
    }
}
