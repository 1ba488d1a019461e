// SPDX-License-Identifier: MIT OR Apache-2.0
//! The steps of `matrix.yml`, run by `scripts/forge.mjs`, which passes only what GitHub would from job to
//! job.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use super::workflows::tools;
use super::{output, said};
use crate::forge::{command, program, record, world};
use crate::support::schema::without_volatile;
use crate::support::{World, text};
use crate::workflows::top;

fn run_workflow(world: &World, place: &str, more: &[&str]) -> (Output, PathBuf) {
    let place = world.path(place);
    let mut node = command(world, "node");
    node.arg(top().join("scripts/forge.mjs")).arg(tools());
    node.arg(top().join(".github/workflows/matrix.yml")).arg(&place);
    let caller = format!("={}", world.path("caller").display());
    let harness = format!("o/vmtest={}", world.path("project").display());
    node.args(["--checkout", &caller, "--checkout", &harness]);
    node.args(["--input", "harness=o/vmtest", "--input", "matrix=ci/m.toml"]).args(more);
    (output("node", &mut node), place)
}

/// The same on one machine, in the checkout of the last job: the directory of a kernel is part of its name.
fn whole(world: &World, checkout: &Path) -> Value {
    let out = world.path("whole").display().to_string();
    let matrix = checkout.join("caller/ci/m.toml").display().to_string();
    let mut cargo = command(world, &world.path("forge-bin/cargo").display().to_string());
    cargo.args(["xtask", "vmtest", "--matrix", &matrix, "--out", &out]).current_dir(checkout.join("vmtest"));
    cargo.env("VMTEST_CACHE_DIR", world.path("cache")).output().expect("it runs");
    record(&world.path("whole"))
}

fn outcome(output: &Output) -> String {
    format!("{}\n{}", output.status, said(output))
}

#[test]
#[ignore = "runs in CI, where npm is installed: cargo xtask test --interop"]
fn the_jobs_of_the_workflow_come_to_what_one_machine_says() {
    let world = world("guest: pass");
    let (done, forge) = run_workflow(&world, "forge", &[]);
    assert!(done.status.success(), "{}", outcome(&done));
    assert!(outcome(&done).contains("plan success, build success, cell success, merge success"));
    // Each machine was set up, and the others got from the cache what the first one built.
    assert_eq!(world.read("home/setup.calls").lines().filter(|line| *line == "setup --ci").count(), 4);
    assert_eq!(world.made("vmlinux"), 2, "{}", outcome(&done));
    assert!(outcome(&done).contains("tree:one (direct)  tree:one (vng)"), "{}", outcome(&done));
    let joined = record(&forge.join("artifacts/vmtest-run"));
    assert_eq!((&joined["exit_code"], &joined["classes"]), (&0.into(), &serde_json::json!({ "0": 9 })));
    let whole = whole(&world, &forge.join("done/merge"));
    assert_eq!(without_volatile(&joined)["cells"], without_volatile(&whole)["cells"]);
    // The next run finds all of it, even with another cache key.
    let (done, _) = run_workflow(&world, "again", &["--input", "shards=2"]);
    assert!(done.status.success(), "{}", outcome(&done));
}

#[test]
#[ignore = "runs in CI, where npm is installed: cargo xtask test --interop"]
fn a_failing_cell_stops_no_other_and_fails_the_workflow() {
    let world = world("guest: fail");
    let (done, forge) = run_workflow(&world, "forge", &[]);
    assert_eq!(done.status.code(), Some(1), "{}", outcome(&done));
    assert!(outcome(&done).contains("plan success, build success, cell failure, merge failure"));
    let joined = record(&forge.join("artifacts/vmtest-run"));
    assert_eq!(
        (&joined["exit_code"], &joined["classes"]),
        (&1.into(), &serde_json::json!({ "0": 7, "1": 2 }))
    );
    // Readers of the merged run see which cell failed, and the forge shows it.
    assert!(outcome(&done).contains("::error"), "{}", outcome(&done));
    let summaries =
        fs::read_dir(forge.join("told")).expect("told").map(|entry| entry.expect("listed").path());
    let of_merge = summaries.map(|path| fs::read_to_string(path).expect("read"));
    assert!(of_merge.into_iter().any(|text| text.contains("basic/second") && text.contains("fail")));
}

#[test]
#[ignore = "runs in CI, where npm is installed: cargo xtask test --interop"]
fn a_kernel_that_does_not_build_and_a_machine_that_was_lost_are_told_by_the_last_job() {
    let world = world("make: error");
    let (done, forge) = run_workflow(&world, "forge", &[]);
    assert_eq!(done.status.code(), Some(1), "{}", outcome(&done));
    assert!(outcome(&done).contains("build: failed, which is allowed"), "{}", outcome(&done));
    let joined = record(&forge.join("artifacts/vmtest-run"));
    assert_eq!(joined["exit_code"], 12, "{joined:#}");
    // The third machine (plan is not set up) stops before it has a run.
    world.write("home/setup.calls", "");
    program(
        &world,
        "project/scripts/setup.sh",
        "#!/bin/sh\necho \"setup $*\" >> \"$HOME/setup.calls\"\n\
         [ \"$(wc -l < \"$HOME/setup.calls\")\" != 3 ] || { echo 'the disk is full' >&2; exit 1; }\n",
    );
    world.write("caller/one/fake.does", "guest: pass\n");
    let (done, forge) = run_workflow(&world, "second", &[]);
    assert_eq!(done.status.code(), Some(1), "{}{}", world.read("home/setup.calls"), outcome(&done));
    let joined = record(&forge.join("artifacts/vmtest-run"));
    assert_eq!(joined["exit_code"], 3, "{joined:#}");
    let cells = joined["cells"].as_array().expect("cells");
    let lost: Vec<_> = cells.iter().filter(|cell| cell["outcome"] == "missing").collect();
    let [lost] = lost[..] else { panic!("{joined:#}") };
    assert_eq!((text(&lost["kernel"]), text(&lost["boot"])), ("tree:one".to_owned(), "vng".to_owned()));
    let said = format!("{}: no run of this job was given", text(&lost["subtest"]));
    assert!(outcome(&done).contains(&said), "{}", outcome(&done));
}
