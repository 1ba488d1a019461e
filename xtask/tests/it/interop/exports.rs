// SPDX-License-Identifier: MIT OR Apache-2.0
//! JUnit in a validator with Jenkins' schema, KTAP in a TAP parser. Neither may accept a run that is not a
//! pass.

use std::path::Path;
use std::process::Command;

use super::{output, said};
use crate::exports::{WAYS, exported, hostile};
use crate::support::{World, checkout};

fn is_valid_junit(file: &Path) {
    let mut command = Command::new("xmllint");
    command.args(["--nonet", "--noout", "--schema"]).arg(checkout().join("schema/junit.xsd")).arg(file);
    let done = output("xmllint", &mut command);
    assert!(done.status.success(), "{}", said(&done));
}

/// Whether a TAP parser reports a pass, both in its status and in its output.
fn is_tap_pass(file: &Path) -> bool {
    let done = output("prove", Command::new("prove").args(["--exec", "cat"]).arg(file));
    let said = said(&done);
    assert_eq!(done.status.success(), said.contains("Result: PASS"), "{said}");
    done.status.success()
}

#[test]
#[ignore = "runs in CI, where xmllint and prove are installed: cargo xtask test --interop"]
fn a_validator_and_a_reader_of_tap_agree_with_the_exit_code() {
    for (does, words, code) in WAYS {
        let world = World::new();
        let exported = exported(&world, does, words);
        exported.done.exits(code);
        is_valid_junit(&exported.dir.join("junit"));
        assert_eq!(is_tap_pass(&exported.dir.join("ktap")), code == 0, "{does}\n{}", exported.read("ktap"));
    }
}

#[test]
#[ignore = "runs in CI, where xmllint and prove are installed: cargo xtask test --interop"]
fn they_see_what_never_came_to_a_guest() {
    for (does, code) in [("make: error", 12), ("kconfig: CONFIG_BPF_EVENTS", 11)] {
        let world = World::new();
        let spec = format!("tree:{}", world.tree("linux", does).display());
        let file = |name: &str| world.path(name).display().to_string();
        let (xml, ktap) = (format!("junit={}", file("xml")), format!("ktap={}", file("ktap")));
        world.run(&["--kernel", &spec, "--output", &xml, "--output", &ktap]).exits(code);
        is_valid_junit(&world.path("xml"));
        assert!(!is_tap_pass(&world.path("ktap")));
    }
}

#[test]
#[ignore = "runs in CI, where xmllint and prove are installed: cargo xtask test --interop"]
fn they_read_the_report_of_a_hostile_guest() {
    let world = World::new();
    let exported = hostile(&world);
    is_valid_junit(&exported.dir.join("junit"));
    assert!(!is_tap_pass(&exported.dir.join("ktap")));
}
