// SPDX-License-Identifier: MIT OR Apache-2.0
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
    let steps = [(first(0), Some(Role::Step)), (first(1), Some(Role::Step)), (first(2), Some(Role::Step))];
    assert_eq!(expanded(3, SeriesColumns::EachPatch, None), [&steps[..], &[(Upto::All, None)]].concat());
    assert_eq!(expanded(3, SeriesColumns::EachPatch, Some(2)), [&steps[..2], &[(first(2), None)]].concat());
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
