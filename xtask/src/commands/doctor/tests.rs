// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use vmtest_host::doctor::Need;

fn checks() -> Vec<Check> {
    let there = Check {
        name: "debian-archive-keyring",
        found: Some("1024.5 GiB".to_owned()),
        minimum: Some("8.0 GiB".to_owned()),
        why: "checks every package's signature",
        needed_for: vec![Need::BuildRoot, Need::Archive, Need::Source],
        status: Status::Ok,
        problem: None,
        fix: None,
    };
    let missing = Check {
        name: "mmdebstrap",
        found: None,
        minimum: None,
        status: Status::Missing,
        problem: Some("word ".repeat(40)),
        fix: Some("scripts/setup.sh".to_owned()),
        ..there.clone()
    };
    vec![there, missing]
}

#[test]
fn the_table_fits_80_columns_and_ends_with_the_counts() {
    let text = as_table(&checks());
    for line in text.lines() {
        assert!(line.len() <= 80, "{} columns: {line}", line.len());
    }
    assert!(text.contains("\n    fix: scripts/setup.sh\n"), "{text}");
    assert!(text.ends_with("\n1 ok, 0 warning, 1 missing\n"), "{text}");
}

#[test]
fn every_row_that_this_host_can_show_fits() {
    for toolchain in [Toolchain::Image, Toolchain::Host] {
        let checks = doctor::examine(toolchain);
        let table = as_table(&checks);
        for line in table.lines().take(checks.len() + 1) {
            assert!(line.len() <= 80, "{} columns: {line}", line.len());
        }
    }
}

#[test]
fn json_has_the_same_fields_for_everything() {
    let text = as_json(&checks()).expect("plain data");
    let value: serde_json::Value = serde_json::from_str(&text).expect("our own JSON");
    let names = ["name", "found", "minimum", "why", "needed_for", "verdict", "problem", "mend"];
    for object in value.as_array().expect("an array") {
        let object = object.as_object().expect("objects");
        assert_eq!(object.len(), names.len());
        assert!(names.iter().all(|name| object.contains_key(*name)));
    }
    assert_eq!(value[1]["verdict"], "lacking");
    assert_eq!(value[1]["needed_for"][0], "build-root");
    assert!(value[1]["found"].is_null());
}
