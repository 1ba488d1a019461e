// SPDX-License-Identifier: MIT OR Apache-2.0
//! `run.json` is what its schema says, whatever the run came to.

use serde_json::Value;

use crate::support::World;
use crate::support::schema::{is_valid, schema, without_volatile};

#[test]
fn the_schema_is_one_and_refuses_what_is_none() {
    assert!(jsonschema::meta::is_valid(&schema()));
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: fail").display());
    let run = world.run(&["--kernel", &spec]).json().clone();
    is_valid(&run);
    let validator = jsonschema::validator_for(&schema()).expect("a schema");
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut other = run.clone();
        change(&mut other);
        assert!(!validator.is_valid(&other), "{other:#}");
    };
    refused(&|run| run["schema"] = 2.into());
    refused(&|run| run["exit_code"] = 77.into());
    refused(&|run| run["cells"][0]["outcome"] = "fine".into());
    refused(&|run| run["cells"][0]["duration_ms"] = (-1).into());
    refused(&|run| drop(run["cells"][0].as_object_mut().expect("a cell").remove("class")));
    refused(&|run| run["kernels"][0]["colour"] = "red".into());
}

#[test]
fn every_record_is_valid() {
    let ways: [(&str, &[&str]); 16] = [
        ("guest: pass", &["--boot", "direct"]),
        ("guest: pass", &["--boot", "vng"]),
        ("guest: contradicts", &[]),
        ("guest: skip", &["--allow-skip", "*"]),
        ("guest: xfail", &[]),
        ("guest: missing", &[]),
        ("guest: fail then panic then pass", &["--retries", "2"]),
        ("guest: told-splat", &[]),
        ("guest: many-splats-and-panic", &[]),
        ("guest: panic", &[]),
        ("guest: idle", &["--timeout", "idle=1"]),
        ("guest: dies-early", &[]),
        ("guest: garbage", &[]),
        ("guest: escapes", &[]),
        ("make: error", &[]),
        ("kconfig: CONFIG_BPF_EVENTS", &["--with-base"]),
    ];
    for (does, words) in ways {
        let world = World::new();
        let spec = format!("tree:{}", world.tree("linux", does).display());
        let patch = world.patch("0001-rename.patch", "second", "better").display().to_string();
        let done = world.run(&[&["--kernel", &spec, "--patches", &patch], words].concat());
        is_valid(done.json());
    }
}

#[test]
fn two_runs_of_the_same_thing_differ_in_volatile_fields_alone() {
    let world = World::new();
    for does in ["pass", "fail", "panic"] {
        let spec = format!("tree:{}", world.tree("linux", &format!("guest: {does}")).display());
        let first = world.run(&["--kernel", &spec]).json().clone();
        let second = world.run(&["--kernel", &spec, "--vms", "1"]).json().clone();
        assert_ne!(first, second);
        let stripped = without_volatile(&first);
        assert_eq!(stripped, without_volatile(&second));
        // Nothing that is judged went with it.
        assert_eq!(stripped["exit_code"], first["exit_code"]);
        let cells = |run: &Value| run["cells"].as_array().expect("cells").len();
        assert_eq!(cells(&stripped), cells(&first));
        assert!(stripped["cells"][0]["outcome"].is_string() && stripped["run"].is_null());
    }
}
