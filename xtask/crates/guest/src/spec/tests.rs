// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

#[test]
fn names_are_sent_by_place_where_there_are_too_many() {
    let mut spec = example(Boot::Direct);
    let Task::Tests { names, .. } = &mut spec.task else { panic!("tests") };
    names.clear();
    let params = common_params(&spec, "ttyS1");
    assert!(params.contains(&"vmtest.pick=c0".to_owned()), "{params:?}");
    assert!(!params.iter().any(|param| param.starts_with(param::TEST)), "{params:?}");
}

#[test]
fn params_say_how_often() {
    let mut spec = example(Boot::Direct);
    let Task::Tests { rounds, until_fail, .. } = &mut spec.task else { panic!("tests") };
    (*rounds, *until_fail) = (7, Some(Duration::from_secs(90)));
    let params = common_params(&spec, "ttyS1");
    for needed in ["vmtest.repeat=7", "vmtest.untilfail=1", "vmtest.seconds=90"] {
        assert!(params.iter().any(|param| param == needed), "{needed}");
    }
}

#[test]
fn params_carry_the_task() {
    let params = common_params(&example(Boot::Direct), "ttyS1");
    for needed in [
        "vmtest.nonce=0123abcd",
        "vmtest.port=ttyS1",
        "vmtest.test=basic/*",
        "vmtest.effort=quick",
        "vmtest.bpftool=/obj/bpftool",
        "oops=panic",
    ] {
        assert!(params.iter().any(|param| param == needed), "{needed}");
    }
    assert!(!params.iter().any(|param| param.starts_with(param::REPEAT)), "once is the default");
    assert_eq!(params.first().map(String::as_str), Some("mitigations=off"), "our words are the last");
}
