// SPDX-License-Identifier: MIT OR Apache-2.0
//! What our jobs do on a forge, done here: the steps of `matrix.yml` by `scripts/forge.mjs`, which passes from job to job what
//! GitHub would and nothing else, and the scripts of the pipeline that `ci-matrix --format gitlab` prints.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::schema::{is_valid, without_volatile};
use crate::support::{World, text};
use crate::workflows;

/// Three jobs in two builds of two kernels; `first` is what the guest of one of them does.
const MATRIX: &str = "[[matrix]]\nkernels = ['tree:../one', 'tree:../two']\nboot = ['direct', 'vng']\n\
                      [[exclude]]\nkernel = 'tree:../two'\nboot = 'vng'\n";

/// A repository with two kernels and a matrix, and one with the harness.
fn world(first: &str) -> World {
    let world = World::new();
    world.tree("caller/one", first);
    world.tree("caller/two", "guest: pass");
    world.write("caller/two/README", "Another kernel: what has the same content is the same.\n");
    world.write("caller/ci/m.toml", MATRIX);
    program(&world, "project/scripts/setup.sh", "#!/bin/sh\necho \"setup $*\" >> \"$HOME/setup.calls\"\n");
    // `cargo xtask` is the harness that was built already, with the host's (fake) tools.
    let harness = env!("CARGO_BIN_EXE_xtask");
    let fake = world.path("bin/cargo");
    let body = format!(
        "#!/bin/sh\n[ \"$1\" = xtask ] || exec '{}' \"$@\"\nshift\nexport CARGO_MANIFEST_DIR=\"$PWD/xtask\"\n\
         if [ \"$1\" = vmtest ]; then\n  shift\n  exec '{harness}' vmtest --toolchain host --accel tcg \"$@\"\nfi\n\
         exec '{harness}' \"$@\"\n",
        fake.display()
    );
    program(&world, "forge-bin/cargo", &body);
    world
}

fn program(world: &World, name: &str, body: &str) {
    let path = world.write(name, body);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
}

/// A program with the world's tools in front of the host's.
fn command(world: &World, program: &str) -> Command {
    let host = std::env::var("PATH").expect("a PATH");
    let path = format!("{}:{}:{host}", world.path("forge-bin").display(), world.path("bin").display());
    let mut command = Command::new(program);
    command.env_clear().env("PATH", path).env("CARGO", world.path("bin/cargo"));
    for (name, below) in [("HOME", "home"), ("TMPDIR", "tmp"), ("XDG_STATE_HOME", "state")] {
        command.env(name, world.path(below));
    }
    command
}

fn run_workflow(world: &World, place: &str, more: &[&str]) -> (Output, PathBuf) {
    let place = world.path(place);
    let mut node = command(world, "node");
    node.arg(workflows::top().join("scripts/forge.mjs")).arg(workflows::tools());
    node.arg(workflows::top().join(".github/workflows/matrix.yml")).arg(&place);
    let caller = format!("={}", world.path("caller").display());
    let harness = format!("o/vmtest={}", world.path("project").display());
    node.args(["--checkout", &caller, "--checkout", &harness]);
    node.args(["--input", "harness=o/vmtest", "--input", "matrix=ci/m.toml"]).args(more);
    (node.output().expect("node runs: scripts/setup.sh --ci installs it"), place)
}

fn record(dir: &Path) -> Value {
    let text = fs::read_to_string(dir.join("run.json")).expect("run.json");
    let record = serde_json::from_str(&text).expect("JSON");
    is_valid(&record);
    record
}

/// The same on one machine, in the checkout of the last job: a kernel's directory is part of its name.
fn whole(world: &World, checkout: &Path) -> Value {
    let out = world.path("whole").display().to_string();
    let matrix = checkout.join("caller/ci/m.toml").display().to_string();
    let mut cargo = command(world, &world.path("forge-bin/cargo").display().to_string());
    cargo.args(["xtask", "vmtest", "--matrix", &matrix, "--out", &out]).current_dir(checkout.join("vmtest"));
    cargo.env("VMTEST_CACHE_DIR", world.path("cache")).output().expect("it runs");
    record(&world.path("whole"))
}

fn outcome(output: &Output) -> String {
    format!("{}\n{}", output.status, workflows::text(output))
}

#[test]
fn the_jobs_of_the_workflow_come_to_what_one_machine_says() {
    let world = world("guest: pass");
    let (done, forge) = run_workflow(&world, "forge", &[]);
    assert!(done.status.success(), "{}", outcome(&done));
    assert!(outcome(&done).contains("plan success, build success, cell success, merge success"));
    // Each machine was set up, and what the first of them built went to the others through the cache.
    assert_eq!(world.read("home/setup.calls").lines().filter(|line| *line == "setup --ci").count(), 4);
    assert_eq!(world.made("vmlinux"), 2, "{}", outcome(&done));
    assert!(outcome(&done).contains("tree:one (direct)  tree:one (vng)"), "{}", outcome(&done));
    let joined = record(&forge.join("artifacts/vmtest-run"));
    assert_eq!((&joined["exit_code"], &joined["classes"]), (&0.into(), &serde_json::json!({ "0": 9 })));
    let whole = whole(&world, &forge.join("done/merge"));
    assert_eq!(without_volatile(&joined)["cells"], without_volatile(&whole)["cells"]);
    // The next run finds all of it, also under a key that is another one.
    let (done, _) = run_workflow(&world, "again", &["--input", "shards=2"]);
    assert!(done.status.success(), "{}", outcome(&done));
}

#[test]
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
    // Whoever looks at the joined run reads which cell, and the forge shows it.
    assert!(outcome(&done).contains("::error"), "{}", outcome(&done));
    let summaries =
        fs::read_dir(forge.join("told")).expect("told").map(|entry| entry.expect("listed").path());
    let of_merge = summaries.map(|path| fs::read_to_string(path).expect("read"));
    assert!(of_merge.into_iter().any(|text| text.contains("basic/second") && text.contains("fail")));
}

#[test]
fn a_kernel_that_does_not_build_and_a_machine_that_was_lost_are_told_by_the_last_job() {
    let world = world("make: error");
    let (done, forge) = run_workflow(&world, "forge", &[]);
    assert_eq!(done.status.code(), Some(1), "{}", outcome(&done));
    assert!(outcome(&done).contains("build: failed, which may be"), "{}", outcome(&done));
    let joined = record(&forge.join("artifacts/vmtest-run"));
    assert_eq!(joined["exit_code"], 12, "{joined:#}");
    // The third machine (plan is not set up) ends before it has a run.
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
    let said = format!("{}: no run of this job was brought", text(&lost["subtest"]));
    assert!(outcome(&done).contains(&said), "{}", outcome(&done));
}

/// Each job in a directory of its own, with the artifacts of the stages before and the cache, as a runner would.
#[test]
fn the_scripts_of_the_pipeline_for_gitlab_come_to_the_same() {
    let world = world("guest: fail");
    // The pipeline is that of a repository which holds the harness and its kernels.
    let harness = world.path("project").display().to_string();
    let fresh = |name: &str| {
        let top = world.path(&format!("runners/{name}"));
        fs::create_dir_all(&top).expect("a directory");
        for from in [format!("{harness}/."), world.path("caller").display().to_string()] {
            let copied = Command::new("cp").args(["-a", &from]).arg(&top).status();
            assert!(copied.expect("cp runs").success());
        }
        top
    };
    let run = |top: &Path, script: &str| {
        let mut shell = command(&world, "bash");
        shell.args(["-ec", script]).current_dir(top).env("CI_PROJECT_DIR", top);
        shell.env("VMTEST_ORIGIN_BASE", top);
        shell.env("VMTEST_CACHE_DIR", top.join("vmtest-cache")).output().expect("bash runs")
    };
    let printed = run(&fresh("plan"), "cargo xtask ci-matrix caller/ci/m.toml --format gitlab");
    let pipeline: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
    let pipeline = pipeline.as_object().expect("a table");
    assert_eq!(pipeline["variables"]["VMTEST_CACHE_DIR"], "$CI_PROJECT_DIR/vmtest-cache");
    assert_eq!(pipeline["variables"]["VMTEST_ORIGIN_BASE"], "$CI_PROJECT_DIR");
    let (kept, cached) = (world.path("artifacts"), world.path("cached"));
    let bring = |from: &Path, to: &Path, path: &Value| {
        let (from, to) = (from.join(text(path)), to.join(text(path)));
        if from.exists() {
            fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
            assert!(Command::new("cp").arg("-aT").args([from, to]).status().expect("cp runs").success());
        }
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut codes = Vec::new();
    for stage in list(&pipeline["stages"]) {
        for (name, job) in pipeline.iter().filter(|(_, job)| job["stage"] == stage) {
            let top = fresh(name);
            list(&job["cache"]["paths"]).iter().for_each(|path| bring(&cached, &top, path));
            if stage == "merge" {
                bring(&kept, &top, &"vmtest-runs".into());
            }
            let script: Vec<String> = list(&job["script"]).iter().map(text).collect();
            let done = run(&top, &script.join("\n"));
            codes.push((text(&stage), done.status.code(), job["allow_failure"] == true));
            if job["cache"]["policy"] == "pull-push" {
                list(&job["cache"]["paths"]).iter().for_each(|path| bring(&top, &cached, path));
            }
            list(&job["artifacts"]["paths"]).iter().for_each(|path| bring(&top, &kept, path));
            job["artifacts"]["reports"]["junit"]
                .as_str()
                .iter()
                .for_each(|path| bring(&top, &kept, &(*path).into()));
        }
    }
    let told = |stage: &str, code, may| (stage.to_owned(), Some(code), may);
    let (one, two) = (told("cells", 1, true), told("cells", 0, true));
    assert_eq!(codes, [told("build", 0, true), one.clone(), one, two, told("merge", 1, false)]);
    assert_eq!(world.made("vmlinux"), 2, "built once");
    let joined = record(&kept.join("vmtest-run"));
    assert_eq!(
        (&joined["exit_code"], &joined["classes"]),
        (&1.into(), &serde_json::json!({ "0": 7, "1": 2 }))
    );
    let junit = fs::read_to_string(kept.join("vmtest.xml")).expect("a report");
    assert!(junit.contains("failures=\"2\""), "{junit}");
}
