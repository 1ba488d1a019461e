// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which columns a kernel with a series becomes: itself alone, with the unpatched kernel before it, or one
//! for each patch. Pure: the number of patches is an argument.

use crate::plan::{Column, Purpose};
use vmtest_base::error::{Error, Result};
use vmtest_kernel::maintained::Named;
use vmtest_kernel::spec::KernelSpec;
use vmtest_record::run::Role;

/// Which columns a kernel with a series becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeriesColumns {
    /// One, with the series on top.
    Whole,
    /// The unpatched kernel, and one with the series on top.
    WithBase,
    /// The unpatched kernel, and one more for each patch.
    EachPatch,
    /// One for each patch.
    EachPatchOnly,
}

/// How much of the series a column has on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upto {
    /// All of it, regardless of the number of patches.
    All,
    /// Only the first patches of the series; may be none.
    First {
        /// Number of patches on top.
        count: usize,
        /// Number of patches in the series.
        of: usize,
    },
}

impl Upto {
    /// The number of patches, for a series with `all` patches.
    pub fn count(self, all: usize) -> usize {
        match self {
            Upto::All => all,
            Upto::First { count, .. } => count,
        }
    }

    /// The first `count` patches of a series with `of`.
    fn of(count: usize, of: usize) -> Upto {
        if count == of { Upto::All } else { Upto::First { count, of } }
    }
}

/// Rejects options about parts of a series if there is no series or another option contradicts them.
pub(super) fn refuse(
    how: SeriesColumns,
    first_n: Option<u32>,
    purpose: &Purpose,
    columns: &[Column],
    patches: &[Named],
) -> Result<()> {
    let option = match (how, first_n) {
        (SeriesColumns::EachPatch | SeriesColumns::EachPatchOnly, _) => "--each-patch",
        (SeriesColumns::WithBase, _) => "--with-base",
        (SeriesColumns::Whole, Some(_)) => "--first-n",
        (SeriesColumns::Whole, None) => return Ok(()),
    };
    let has_series =
        |column: &Column| !patches.is_empty() || matches!(column.spec, KernelSpec::GitRange { .. });
    if !columns.iter().any(has_series) {
        return Err(Error::usage(format!("{option} needs a series"))
            .why("a kernel given by name is tested as it is, and no patches are given")
            .next("add --patches, use a range git:PATH@A..B as the kernel, or leave out --kernel"));
    }
    if how != SeriesColumns::Whole && *purpose != Purpose::Test {
        return Err(Error::usage(format!("{option} starts several guests"))
            .why("--shell, --exec and --gdb look inside one")
            .next("use --first-n to look at a kernel with part of a series"));
    }
    let each = matches!(how, SeriesColumns::EachPatch | SeriesColumns::EachPatchOnly);
    if each && columns.len() > 1 {
        return Err(Error::usage("--each-patch is for one kernel in one variant")
            .why(format!("{} kernels and variants are requested", columns.len()))
            .next("test them in separate runs"));
    }
    Ok(())
}

/// The columns, each with the index of the column that it comes from. `patches` is the number of patches on
/// top of each.
///
/// # Errors
/// Class `Usage` if `--first-n` exceeds the number of patches.
pub fn expand(
    columns: &[Column],
    patches: &[usize],
    how: SeriesColumns,
    first_n: Option<usize>,
) -> Result<Vec<(usize, Column)>> {
    let mut expanded = Vec::new();
    for (at, (column, &of)) in columns.iter().zip(patches).enumerate() {
        if of == 0 {
            expanded.push((at, column.clone()));
            continue;
        }
        let last = first_n.unwrap_or(of);
        if last == 0 || last > of {
            return Err(Error::usage(format!("--first-n {last} is out of range for this series"))
                .why(format!("it has {of} patches on top of {}", column.spec))
                .next(format!(
                    "give a number from 1 to {of}; for the unpatched kernel use --kernel {}",
                    column.spec
                )));
        }
        let before: Vec<(usize, Role)> = match how {
            SeriesColumns::Whole => vec![],
            SeriesColumns::WithBase => vec![(0, Role::Base)],
            SeriesColumns::EachPatch => (0..last).map(|count| (count, Role::Step)).collect(),
            SeriesColumns::EachPatchOnly => (1..last).map(|count| (count, Role::Step)).collect(),
        };
        let step = |count, role| (at, Column { upto: Upto::of(count, of), role, ..column.clone() });
        expanded.extend(before.into_iter().map(|(count, role)| step(count, Some(role))));
        expanded.push(step(last, None));
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests;
