// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::outcome::Outcome;
use crate::samples::boot;
use crate::samples::cell;
use crate::samples::run;
use vmtest_base::error::PRECEDENCE;

#[test]
fn a_record_names_no_place_outside_of_its_run() {
    let dir = Path::new("/runs/r");
    assert_eq!(below(dir, "cells/a"), Some("/runs/r/cells/a".into()));
    for name in ["", "/etc", "../r2", "cells/../../x", "."] {
        assert_eq!(below(dir, name), None, "{name}");
    }
}

#[test]
fn a_record_that_contradicts_itself_is_not_trusted() {
    for class in PRECEDENCE {
        let outcome = if class == Class::Pass { Outcome::Pass } else { Outcome::Fail };
        let mut run = run(vec![cell("k", "a", outcome, class)]);
        run.boots = vec![boot("k", Class::Pass)];
        check(&run).expect("as it was written");
        run.exit_code = if class == Class::Pass { Class::TestFailed } else { Class::Pass };
        check(&run).expect_err("another exit code");
        run.exit_code = class;
        run.cells.push(cell("k", "b", Outcome::Pass, Class::Pass));
        check(&run).expect_err("a cell that was not counted");
    }
    let mut nothing = run(Vec::new());
    assert_eq!(nothing.exit_code.code(), Class::Usage.code());
    nothing.exit_code = Class::Pass;
    check(&nothing).expect_err("nothing is no pass");
}

#[test]
fn a_number_that_no_class_has_is_named() {
    let good = run(vec![cell("k", "a", Outcome::Fail, Class::TestFailed)]);
    let good = serde_json::to_string_pretty(&good).expect("plain data");
    for (from, to) in [
        ("\"class\": 1", "\"class\": 99"),
        ("\"exit_code\": 1", "\"exit_code\": 99"),
        ("\"1\": 1", "\"99\": 1"),
    ] {
        assert!(good.contains(from), "{from}: {good}");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(FILE), good.replace(from, to)).expect("written");
        let error = read(dir.path()).expect_err("no such class");
        assert_eq!(error.class, Class::Host);
        assert!(error.to_string().contains("no exit class has the number 99"), "{error}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join(FILE), good).expect("written");
    read(dir.path()).expect("as it was written");
}
