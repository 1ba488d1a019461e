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
        (SeriesColumns::EachPatch, _) => "--each-patch",
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
    if how == SeriesColumns::EachPatch && columns.len() > 1 {
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
        };
        let step = |count, role| (at, Column { upto: Upto::of(count, of), role, ..column.clone() });
        expanded.extend(before.into_iter().map(|(count, role)| step(count, Some(role))));
        expanded.push(step(last, None));
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(spec: &str) -> Column {
        Column {
            spec: spec.parse().expect("a spec"),
            variant: Some("default".into()),
            label: None,
            upto: Upto::All,
            on_top: None,
            role: None,
            self_test: None,
        }
    }

    fn expanded(patches: usize, how: SeriesColumns, first_n: Option<usize>) -> Vec<(Upto, Option<Role>)> {
        let columns = expand(&[column("src:6.18")], &[patches], how, first_n).expect("columns");
        columns.into_iter().map(|(_, column)| (column.upto, column.role)).collect()
    }

    #[test]
    fn each_patch_is_a_step_and_only_the_last_column_is_judged_as_a_whole() {
        let first = |count| Upto::First { count, of: 3 };
        let steps =
            [(first(0), Some(Role::Step)), (first(1), Some(Role::Step)), (first(2), Some(Role::Step))];
        assert_eq!(expanded(3, SeriesColumns::EachPatch, None), [&steps[..], &[(Upto::All, None)]].concat());
        assert_eq!(
            expanded(3, SeriesColumns::EachPatch, Some(2)),
            [&steps[..2], &[(first(2), None)]].concat()
        );
        let one = [(Upto::First { count: 0, of: 1 }, Some(Role::Step)), (Upto::All, None)];
        assert_eq!(expanded(1, SeriesColumns::EachPatch, None), one);
    }

    #[test]
    fn a_base_comes_before_its_kernel_and_only_where_there_is_a_series() {
        let base = (Upto::First { count: 0, of: 3 }, Some(Role::Base));
        assert_eq!(expanded(3, SeriesColumns::WithBase, None), [base, (Upto::All, None)]);
        assert_eq!(
            expanded(3, SeriesColumns::WithBase, Some(1)),
            [base, (Upto::First { count: 1, of: 3 }, None)]
        );
        let both = [column("debian:7.0.13"), column("src:6.18")];
        let columns = expand(&both, &[0, 3], SeriesColumns::WithBase, None).expect("columns");
        assert_eq!(columns.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 1, 1]);
        assert_eq!(columns[0].1.role, None);
    }

    #[test]
    fn more_patches_than_there_are_is_a_mistake() {
        for bad in [0, 4] {
            let error =
                expand(&[column("src:6.18")], &[3], SeriesColumns::Whole, Some(bad)).expect_err("a mistake");
            assert_eq!(error.class, vmtest_base::error::Class::Usage);
            assert!(error.to_string().contains("from 1 to 3"), "{error}");
        }
    }
}
