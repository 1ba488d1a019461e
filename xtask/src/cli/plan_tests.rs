// SPDX-License-Identifier: MIT OR Apache-2.0
//! What command lines mean, and which ones are rejected.

use crate::cli::{Cli, Command};
use clap::Parser;
use std::time::Duration;
use vmtest_base::error::Class;
use vmtest_base::error::Result;
use vmtest_engine::plan::*;
use vmtest_guest::judge::Rounds;
use vmtest_host::accel::Kind;
use vmtest_kernel::maintained::Named;
use vmtest_protocol::TestName;

fn plan(words: &[&str]) -> Result<Plan> {
    let cli = Cli::try_parse_from(["xtask", "vmtest"].iter().chain(words)).expect("clap accepts it");
    match cli.command {
        Command::Vmtest(args) => Plan::new(&args.request()),
        _ => unreachable!("vmtest was typed"),
    }
}

#[test]
fn kernels_times_variants_are_columns_and_images_have_none() {
    let all =
        plan(&["--kernel", "src:7.3", "--kernel", "tree:/l", "--variant", "default", "--variant", "nojit"]);
    assert_eq!(all.expect("a plan").columns.len(), 4);
    let mixed = plan(&["--kernel", "debian:7.0.13", "--kernel", "src:7.3"]).expect("a plan");
    assert_eq!(
        mixed.columns.iter().map(|column| column.variant.as_deref()).collect::<Vec<_>>(),
        [None, Some("default")]
    );
}

#[test]
fn the_series_of_the_project_is_the_default_only_where_nothing_is_named() {
    let of = |words: &[&str]| {
        let plan = plan(words).expect("a plan");
        (plan.columns[0].spec.to_string(), plan.patches)
    };
    let typed = vec![Named::Typed("my".into())];
    assert_eq!(of(&[]), (DEFAULT_KERNEL.to_owned(), vec![Named::Maintained(DEFAULT_SERIES)]));
    assert_eq!(of(&["--patches", "my"]), (DEFAULT_KERNEL.to_owned(), typed.clone()));
    assert_eq!(of(&["--kernel", "src:6.18"]), ("src:6.18".to_owned(), vec![]));
    assert_eq!(of(&["--kernel", "src:7.3", "--patches", "my"]), ("src:7.3".to_owned(), typed));
}

#[test]
fn impossible_combinations_are_refused_by_name() {
    for (words, named) in [
        (&["--kernel", "debian:7.0.13", "--patches", "x"][..], "--patches"),
        (&["--kernel", "image:x", "--variant", "nojit"], "--variant"),
        (&["--kernel", "image:x", "--config", "f"], "--config"),
        (&["--kernel", "src:7.3", "--kernel", "src:7.3"], "twice"),
        (&["--shell", "--kernel", "src:7.3", "--kernel", "src:6.18"], "--shell"),
        (&["--append", "a b"], "--append"),
        (&["--append", "x=$(reboot)"], "--append"),
        (&["--sysctl", "net.core.x"], "--sysctl"),
        (&["--sysctl", "../x=1"], "--sysctl"),
        (&["--cpu-model", "max $(reboot)"], "--cpu-model"),
        (&["--cpu-model", ""], "--cpu-model"),
        (&["--memory", "lots"], "--memory"),
        (&["--memory", "64M"], "--memory"),
        (&["--timeout", "boot"], "--timeout"),
        (&["--timeout", "make=3"], "--timeout"),
        (&["--timeout", "boot=0"], "--timeout"),
        (&["--allow-skip", "debian:*="], "--allow-skip"),
        (&["--allow-skip", "["], "glob"),
        (&["--exec", " "], "--exec"),
        (&["--suite", "upstream", "--kernel", "debian:7.0.13"], "--suite upstream"),
        (&["--suite", "own", "--suite", "upstream", "--kernel", "image:x"], "--suite upstream"),
        (&["--suite", "upstream", "--boot", "direct"], "--suite upstream"),
        (&["--suite", "upstream", "--exec", "true"], "--exec"),
        (&["--suite", "upstream", "--self-test"], "--self-test"),
        (&["--suite", "upstream", "--test", "a/b?"], "test_progs does not support"),
        (&["--ignore-denylist"], "--ignore-denylist"),
        (&["--kernel", "src:6.18", "--with-base"], "--with-base needs a series"),
        (&["--kernel", "src:6.18", "--each-patch"], "--each-patch needs a series"),
        (&["--kernel", "debian:7.0.13", "--first-n", "2"], "--first-n needs a series"),
        (&["--each-patch", "--exec", "true"], "--each-patch starts several guests"),
        (&["--with-base", "--gdb"], "--with-base starts several guests"),
        (&["--each-patch", "--variant", "default", "--variant", "nojit"], "one kernel in one variant"),
        (
            &["--each-patch", "--patches", "x", "--kernel", "src:7.3", "--kernel", "src:6.18"],
            "--each-patch is",
        ),
    ] {
        let error = plan(words).expect_err(named);
        assert_eq!(error.class, Class::Usage, "{words:?}");
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn suites_are_the_own_one_the_trees_or_both() {
    let of = |words: &[&str]| {
        let plan = plan(words).expect("a plan");
        (plan.own, plan.upstream.is_some())
    };
    assert_eq!(of(&[]), (true, false));
    assert_eq!(of(&["--suite", "upstream"]), (false, true));
    assert_eq!(of(&["--suite", "upstream", "--suite", "own"]), (true, true));
}

#[test]
fn an_allowed_skip_is_bound_to_its_kernel() {
    let plan = plan(&["--allow-skip", "debian:6.19*=*"]).expect("a plan");
    let name = TestName { test: "basic".into(), subtest: "x".into() };
    assert!(plan.may_skip("debian:6.19.11", &name));
    assert!(!plan.may_skip("debian:7.0.13", &name));
}

#[test]
fn limits_are_scaled_and_overridden() {
    let plan = plan(&["--timeout", "idle=7", "--memory", "2G"]).expect("a plan");
    assert_eq!(plan.memory_mib, Some(2048));
    assert_eq!(plan.limits(Kind::Tcg, 1).idle, Duration::from_secs(7));
    assert!(plan.limits(Kind::Tcg, 1).boot > plan.limits(Kind::Kvm, 1).boot);
    assert_eq!(plan.limits(Kind::Kvm, 3).run, plan.limits(Kind::Kvm, 1).run * 3);
    assert_eq!(plan.limits(Kind::Tcg, 3).idle, Duration::from_secs(7));
}

#[test]
fn what_takes_longer_has_longer_limits() {
    let (once, soak) = (plan(&[]).expect("a plan"), plan(&["--effort", "soak"]).expect("a plan"));
    let often = plan(&["--repeat", "5"]).expect("a plan");
    let [once, soak, often] = [once, soak, often].map(|plan| plan.limits(Kind::Tcg, 1));
    assert_eq!((soak.idle, soak.run, soak.boot), (once.idle * 3, once.run * 3, once.boot));
    assert_eq!((often.idle, often.run), (once.idle, once.run * 5));
}

#[test]
fn rounds_are_as_many_as_can_be_told() {
    let repeat = |words: &[&str]| plan(words).expect("a plan").repeat;
    assert_eq!(repeat(&[]).rounds(100).expect("once"), 1);
    assert_eq!(repeat(&["--repeat", "1000"]).rounds(50).expect("fits"), 1000);
    assert_eq!(repeat(&["--repeat", "1000"]).rounds(1000).expect_err("too many").class, Class::Usage);
    assert_eq!(repeat(&["--until-fail"]).rounds(3).expect("bounded"), MAX_ROUNDS);
    assert!(repeat(&["--until-fail"]).rounds(1000).expect("bounded") < MAX_ROUNDS);
    assert_eq!(repeat(&["--until-fail", "--repeat", "7"]).rounds(3).expect("bounded"), 7);
    assert_eq!(repeat(&["--repeat", "7"]).wanted(), Rounds::Exactly(7));
    assert_eq!(repeat(&["--until-fail", "--repeat", "7"]).wanted(), Rounds::UntilFail);
}
