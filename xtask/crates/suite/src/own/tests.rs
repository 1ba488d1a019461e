// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

fn runner() -> Runner {
    let listed = [
        ("basic", "runs_twice", Effort::Quick),
        ("basic", "args", Effort::Normal),
        ("mixed", "orders", Effort::Normal),
        ("faults", "panic", Effort::Normal),
        ("many", "each", Effort::Normal),
    ];
    let listed = listed.map(|(test, subtest, effort)| Listed {
        name: TestName { test: test.into(), subtest: subtest.into() },
        about: String::new(),
        effort,
        single_thread: test == "mixed",
        several_cpus: subtest == "args",
        bpftool: test == "tools",
        counted: test == "cost",
        only_named: test == "faults",
        optional: test == "many",
    });
    Runner { dir: PathBuf::new(), listed: listed.into() }
}

fn chosen(globs: &[&str], effort: Effort) -> Result<Vec<String>> {
    let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
    let names = runner().choose(&TestFilter::new(&globs)?, effort)?;
    Ok(names.iter().map(TestName::path).collect())
}

#[test]
fn globs_choose_groups_and_subtests() {
    assert_eq!(chosen(&[], Effort::Quick).expect("some"), ["basic/runs_twice"]);
    assert_eq!(chosen(&["basic"], Effort::Normal).expect("some").len(), 2);
    assert_eq!(chosen(&["*r*s"], Effort::Normal).expect("some").len(), 2);
    assert_eq!(chosen(&["mixed/orders"], Effort::Quick).expect("named in full"), ["mixed/orders"]);
}

#[test]
fn a_group_that_kills_the_kernel_has_to_be_named() {
    for globs in [&[][..], &["*"], &["*/*"], &["*s/p*", "mixed"]] {
        assert!(
            !chosen(globs, Effort::Soak).expect("some").contains(&"faults/panic".to_owned()),
            "{globs:?}"
        );
    }
    for glob in ["faults", "faults/*", "faults/panic"] {
        assert_eq!(chosen(&[glob], Effort::Normal).expect("some"), ["faults/panic"]);
    }
    let runner = runner();
    let all: Vec<TestName> = runner.choose(&TestFilter::new(&[]).expect("none"), Effort::Soak).expect("some");
    let (names, places) = runner.ask_for(&all, Effort::Soak);
    assert!(
        names.is_empty() && places.is_empty(),
        "all of them is what the guest runs when nothing is named"
    );
}

#[test]
fn an_optional_subtest_may_be_skipped_unless_its_group_is_named() {
    let optional = |globs: &[&str], test: &str, subtest: &str| {
        let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
        let name = TestName { test: test.into(), subtest: subtest.into() };
        runner().is_optional(&name, &TestFilter::new(&globs).expect("globs"))
    };
    for globs in [&[][..], &["*"], &["basic/*", "m*"]] {
        assert!(optional(globs, "many", "each") && !optional(globs, "basic", "args"), "{globs:?}");
    }
    for glob in ["many", "many/*", "many/each"] {
        assert!(!optional(&[glob], "many", "each"), "{glob}");
    }
}

#[test]
fn any_choice_can_be_sent_to_a_guest() {
    let listed = |n: usize| Listed {
        name: TestName {
            test: format!("group_{}", n / 9),
            subtest: format!("a_subtest_with_a_long_name_{n}"),
        },
        ..runner().listed[0].clone()
    };
    let runner = Runner { dir: PathBuf::new(), listed: (0..150).map(listed).collect() };
    for globs in [
        &["*/*_[0-8]*"][..],
        &["*/*_{1,2,3,4,5,6,7}*"],
        &["group_?", "group_1?/*[!9]"],
        &["*/*1*", "*/*2*", "*/*3*", "*/*4*", "*/*5*", "*/*6*"],
        &["*/*_7"],
    ] {
        let filter =
            TestFilter::new(&globs.iter().map(|glob| (*glob).to_owned()).collect::<Vec<_>>()).expect("globs");
        let chosen = runner.choose(&filter, Effort::Normal).expect("some");
        let (sent, places) = runner.ask_for(&chosen, Effort::Normal);
        assert!(sent.iter().map(|name| name.len() + 1).sum::<usize>() <= MAX_NAMES, "{globs:?}");
        assert!(sent.is_empty() || sent.len() == chosen.len(), "{globs:?}");
        assert!(places.len() < 40, "{globs:?}");
        let places = vmtest_protocol::picked(&places, runner.listed.len()).expect("of this list");
        let names = runner.listed.iter().zip(places).filter(|(_, picked)| *picked);
        assert!(names.map(|(listed, _)| &listed.name).eq(&chosen), "{globs:?}");
    }
}

#[test]
fn the_machine_is_asked_for_what_the_chosen_ones_need() {
    let name = |test: &str, subtest: &str| TestName { test: test.into(), subtest: subtest.into() };
    let runner = runner();
    assert_eq!(runner.demands(&[name("basic", "runs_twice")]), Demands::default());
    let all: Vec<TestName> = runner.listed.iter().map(|listed| listed.name.clone()).collect();
    let demands = runner.demands(&all);
    assert_eq!(demands.several_cpus, Some((1, "basic/args".to_owned())));
    assert_eq!(demands.single_thread, Some((1, "mixed/orders".to_owned())));
}

#[test]
fn many_names_go_in_several_parts() {
    let names: Vec<TestName> =
        (0..100).map(|n| TestName { test: "basic".into(), subtest: format!("a_subtest_{n}") }).collect();
    let parts = runner().in_parts(&names);
    assert_eq!(parts.concat(), names);
    assert!(parts.len() > 1);
    for part in parts {
        assert!(
            !part.is_empty() && part.iter().map(|name| name.path().len() + 1).sum::<usize>() <= MAX_NAMES
        );
    }
    assert!(runner().in_parts(&[]).is_empty());
}

#[test]
fn a_glob_without_a_match_is_a_mistake() {
    for globs in [&["basci/*"][..], &["basic/*", "nothing"], &["["]] {
        assert_eq!(chosen(globs, Effort::Normal).expect_err("a mistake").class, Class::Usage);
    }
    assert_eq!(chosen(&["mixed"], Effort::Quick).expect_err("nothing left").class, Class::Usage);
}
