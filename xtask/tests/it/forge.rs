// SPDX-License-Identifier: MIT OR Apache-2.0
//! What our jobs do on a forge, done here: the scripts of the pipeline that `ci-matrix --format gitlab`
//! prints. The steps of `matrix.yml` are in `interop`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::schema::is_valid;
use crate::support::{World, text};

/// Three jobs in two builds of two kernels; `first` is what the guest of one of them does.
const MATRIX: &str = "[[matrix]]\nkernels = ['tree:../one', 'tree:../two']\nboot = ['direct', 'vng']\n\
                      [[exclude]]\nkernel = 'tree:../two'\nboot = 'vng'\n";

/// A repository with two kernels and a matrix, and one with the harness.
pub fn world(first: &str) -> World {
    let world = World::new();
    world.tree("caller/one", first);
    world.tree("caller/two", "guest: pass");
    world.write("caller/two/README", "Another kernel: what has the same content is the same.\n");
    world.write("caller/ci/m.toml", MATRIX);
    program(&world, "project/scripts/setup.sh", "#!/bin/sh\necho \"setup $*\" >> \"$HOME/setup.calls\"\n");
    // `cargo xtask` is the harness that has already been built, with the host's (fake) tools.
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

pub fn program(world: &World, name: &str, body: &str) {
    let path = world.write(name, body);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
}

/// A program with the world's tools before the host's in PATH.
pub fn command(world: &World, program: &str) -> Command {
    let host = std::env::var("PATH").expect("a PATH");
    let path = format!("{}:{}:{host}", world.path("forge-bin").display(), world.path("bin").display());
    let mut command = Command::new(program);
    command.env_clear().env("PATH", path).env("CARGO", world.path("bin/cargo"));
    for (name, below) in [("HOME", "home"), ("TMPDIR", "tmp"), ("XDG_STATE_HOME", "state")] {
        command.env(name, world.path(below));
    }
    command
}

pub fn record(dir: &Path) -> Value {
    let text = fs::read_to_string(dir.join("run.json")).expect("run.json");
    let record = serde_json::from_str(&text).expect("JSON");
    is_valid(&record);
    record
}

/// Each job in a separate directory, with the artifacts of earlier stages and the cache, as on a CI runner.
#[test]
fn the_scripts_of_the_pipeline_for_gitlab_come_to_the_same() {
    let world = world("guest: fail");
    // The pipeline of a repository that contains the harness and its kernels.
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
