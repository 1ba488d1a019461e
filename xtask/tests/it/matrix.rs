// SPDX-License-Identifier: MIT OR Apache-2.0
//! Matrices: how a CI system uses one (jobs, runs, merging), that the result equals a single run, and what
//! must not be accepted as a shard of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::schema::{is_valid, without_volatile};
use crate::support::{Done, World, text};

/// A record without the parts that differ between runs.
fn lasting(record: &Value) -> Value {
    is_valid(record);
    without_volatile(record)
}

/// Three kernels; one is tested in two ways and one fails a test: five jobs in three builds.
fn world(second: &str) -> World {
    let world = World::new();
    world.tree("good", "guest: pass");
    world.tree("other", second);
    world.write(
        "m.toml",
        "[[matrix]]\nkernels = ['tree:good', 'tree:other']\nvariants = ['default', 'debug']\nboot = ['direct', 'vng']\n\
         [[exclude]]\nkernel = 'tree:other'\nvariant = 'debug'\n\
         [[exclude]]\nkernel = 'tree:good'\nvariant = 'debug'\nboot = 'vng'\n",
    );
    world
}

const JOBS: [&str; 5] = [
    "tree-good--none--default--direct--own",
    "tree-good--none--default--vng--own",
    "tree-good--none--debug--direct--own",
    "tree-other--none--default--direct--own",
    "tree-other--none--default--vng--own",
];

fn record(dir: &Path) -> Value {
    let text = fs::read_to_string(dir.join("run.json")).expect("run.json");
    serde_json::from_str(&text).expect("JSON")
}

/// Runs a shard into a directory below `runs/`.
fn part(world: &World, select: &str, name: &str) -> (Done, PathBuf) {
    let out = world.path(&format!("runs/{name}"));
    let done = world.run(&["--matrix", "m.toml", select, "--out", &out.to_string_lossy()]);
    (done, out)
}

fn merge(world: &World, dirs: &[&Path], more: &[&str]) -> Done {
    let dirs = dirs.iter().map(|dir| dir.to_string_lossy().into_owned()).collect::<Vec<_>>();
    let words: Vec<&str> = ["report", "merge"]
        .into_iter()
        .chain(dirs.iter().map(String::as_str))
        .chain(more.iter().copied())
        .collect();
    world.start(world.command(&words)).done()
}

#[test]
fn a_matrix_is_one_run_with_each_kernel_built_once() {
    let world = world("guest: fail");
    let done = world.run(&["--matrix", "m.toml"]);
    done.exits(1);
    let json = done.json();
    let jobs: Vec<String> =
        json["matrix"]["jobs"].as_array().expect("jobs").iter().map(|job| text(&job["id"])).collect();
    assert_eq!(jobs, JOBS);
    assert_eq!(json["classes"], serde_json::json!({ "0": 13, "1": 2 }));
    assert_eq!(json["boots"].as_array().expect("boots").len(), 5);
    assert_eq!(world.made("vmlinux"), 3, "{done}");
    // Parallel builds and boots can be distinguished.
    let phases = json["phases"].as_array().expect("phases").iter();
    let called: Vec<_> = phases.map(|phase| (text(&phase["name"]), text(&phase["kernel"]))).collect();
    for (name, kernel) in
        [("build", "tree:good (debug)"), ("boot", "tree:good (debug, direct)"), ("boot", "tree:good (vng)")]
    {
        assert!(called.contains(&(name.to_owned(), kernel.to_owned())), "{called:?}");
    }
    let dir = done.run_dir.as_ref().expect("a run");
    for boot in json["boots"].as_array().expect("boots") {
        assert!(dir.join(text(&boot["directory"])).join("console.log").is_file(), "{boot}");
    }
    // The slowest jobs start first the next time; this run builds nothing.
    let times: Value = serde_json::from_str(&world.read("state/vmtest/job-times.json")).expect("JSON");
    assert_eq!(times.as_object().expect("times").len(), 5, "{times} {json:#}");
    world.run(&["--matrix", "m.toml"]).exits(1);
    assert_eq!(world.made("vmlinux"), 3);
    world.is_clean();
}

#[test]
fn what_a_ci_system_does_comes_to_the_same_as_one_run() {
    let world = world("guest: fail");
    let whole = world.run(&["--matrix", "m.toml"]);
    whole.exits(1);
    // Jobs, each on a separate machine ..
    let listed = world.start(world.command(&["ci-matrix", "m.toml", "--format", "github"])).done();
    listed.exits(0);
    assert_eq!((listed.stdout.lines().count(), listed.stderr.as_str()), (1, ""), "{listed}");
    let jobs: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let jobs = jobs["include"].as_array().expect("a list");
    assert_eq!(jobs.len(), JOBS.len());
    for job in jobs {
        let (done, out) = part(&world, &text(&job["select"]), &text(&job["id"]));
        let json = record(&out);
        assert_eq!(done.status.code().map(i64::from), json["exit_code"].as_i64());
        assert_eq!(json["boots"].as_array().map(Vec::len), Some(1), "{done}");
    }
    // .. and merged, in any order.
    let joined = merge(&world, &[&world.path("runs")], &["--matrix", "m.toml"]);
    joined.exits(1);
    assert_eq!(lasting(joined.json()), lasting(whole.json()));
    let backwards: Vec<PathBuf> = JOBS.iter().rev().map(|id| world.path(&format!("runs/{id}"))).collect();
    let backwards: Vec<&Path> = backwards.iter().map(PathBuf::as_path).collect();
    let joined = merge(&world, &backwards, &[]);
    joined.exits(1);
    assert_eq!(lasting(joined.json()), lasting(whole.json()));
    // It is an ordinary run.
    let dir = joined.run_dir.as_ref().expect("a run");
    let shown = world.start(world.command(&["report", "show", &dir.to_string_lossy()])).done();
    shown.exits(1);
    for boot in joined.json()["boots"].as_array().expect("boots") {
        assert!(dir.join(text(&boot["directory"])).join("events.jsonl").is_file(), "{boot}");
    }
}

#[test]
fn a_part_whose_bytes_say_something_else_is_not_joined() {
    let world = world("guest: pass");
    let (done, out) = part(&world, &format!("--cell={}", JOBS[0]), "one");
    done.exits(0);
    let alone = |code| {
        let joined = merge(&world, &[&out], &[]);
        assert_eq!(joined.status.code(), Some(code), "{joined}");
        joined
    };
    // The other jobs are missing.
    alone(3);
    let cells = fs::read_dir(out.join("cells")).expect("cells").flatten().next().expect("a guest").path();
    let events = fs::read_to_string(cells.join("events.jsonl")).expect("events");
    let changed = events.replacen("\"outcome\":\"pass\"", "\"outcome\":\"fail\"", 1);
    assert_ne!(events, changed);
    fs::write(cells.join("events.jsonl"), &changed).expect("written");
    let refused = alone(30);
    refused.says(&["cannot be merged", "contradicts the output of its guests"]);
    assert!(refused.run_dir.is_none(), "{refused}");
    // Truncated bytes prove nothing, and there is a message about that.
    fs::write(cells.join("events.jsonl"), &events[..events.len() / 2]).expect("written");
    alone(3).says(&["not re-judged"]);
}

#[test]
fn shards_are_the_whole_and_a_missing_one_is_named() {
    let world = world("guest: pass");
    let whole = world.run(&["--matrix", "m.toml"]);
    whole.exits(0);
    let shards: Vec<PathBuf> = (1..=3)
        .map(|number| {
            let (done, out) = part(&world, &format!("--shard={number}/3"), &format!("shard-{number}"));
            done.exits(0);
            out
        })
        .collect();
    let all: Vec<&Path> = shards.iter().map(PathBuf::as_path).collect();
    let joined = merge(&world, &all, &[]);
    joined.exits(0);
    assert_eq!(lasting(joined.json()), lasting(whole.json()));
    // The second one is JOBS[1] and JOBS[2].
    let without = merge(&world, &[all[0], all[2]], &[]);
    without.exits(3).says(&["no run found for 2 cells", JOBS[1], JOBS[2]]);
    let missing: Vec<String> = without
        .outcomes(None)
        .into_iter()
        .filter(|(_, outcome)| outcome == "missing")
        .map(|(name, _)| name)
        .collect();
    assert_eq!(missing, [format!("job/{}", JOBS[2]), format!("job/{}", JOBS[1])]);
    // A machine that left nothing is treated the same, and so are all of them if the matrix is known.
    let nothing = world.path("runs/nothing");
    fs::create_dir_all(&nothing).expect("made");
    merge(&world, &[all[0], &nothing, all[2]], &[]).exits(3).says(&["contains no run.json", JOBS[1]]);
    merge(&world, &[&nothing], &["--matrix", "m.toml"]).exits(3).says(&JOBS);
    merge(&world, &[&nothing], &[]).refuses(2, &["nothing to merge"]);
    // More shards than jobs: an empty one does not pass silently.
    part(&world, "--shard=1/9", "empty").0.refuses(2, &["shard 1/9 has no jobs"]);
}

#[test]
fn what_is_no_part_of_this_matrix_is_refused() {
    let world = world("guest: pass");
    let (_, one) = part(&world, "--shard=1/2", "one");
    let (_, two) = part(&world, "--shard=2/2", "two");
    merge(&world, &[&one, &two], &[]).exits(0);
    merge(&world, &[&one, &one], &[]).refuses(2, &["is already in"]);
    let plain = world.path("runs/plain");
    world.run(&["--kernel", "tree:good", "--out", &plain.to_string_lossy()]).exits(0);
    merge(&world, &[&one, &plain], &[]).refuses(2, &["is not a run of a matrix"]);
    // A record that contradicts its cells.
    let changed = world.path("runs/changed");
    fs::create_dir_all(&changed).expect("made");
    let mut json = record(&two);
    json["matrix"]["jobs"][0]["id"] = JOBS[0].into();
    fs::write(changed.join("run.json"), json.to_string()).expect("written");
    merge(&world, &[&one, &changed], &[]).refuses(2, &["cannot be merged"]);
    // A tree that was changed between two shards: the kernel is not the same.
    world.write("other/kernel/fake.c", "int fourth;\n");
    let (_, stale) = part(&world, &format!("--cell={}", JOBS[4]), "stale");
    let (_, fresh) = part(&world, &format!("--cell={}", JOBS[3]), "fresh");
    merge(&world, &[&fresh, &stale], &[]).exits(3);
    world.write("other/kernel/fake.c", "int fifth;\n");
    let (_, fresh) = part(&world, &format!("--cell={}", JOBS[3]), "fresh-2");
    merge(&world, &[&fresh, &stale], &[]).refuses(2, &["kernel tree:other differs from"]);
    // The file or the harness changed.
    let file = world.read("m.toml");
    world.write("m.toml", &format!("{file}# another day\n"));
    let (_, other) = part(&world, "--shard=2/2", "other-file");
    merge(&world, &[&one, &other], &[]).refuses(2, &["another matrix"]);
    merge(&world, &[&one, &two], &["--matrix", "m.toml"]).refuses(2, &["another matrix"]);
    world.write("m.toml", &file);
    world.write("project/selftests/lib.rs", "changed\n");
    let (_, other) = part(&world, "--shard=2/2", "other-harness");
    merge(&world, &[&one, &other], &[]).refuses(2, &["another version of the harness"]);
}

#[test]
fn mistakes_cost_no_work() {
    let world = world("guest: pass");
    let refuses = |words: &[&str], parts: &[&str]| {
        world.run(words).refuses(2, parts);
    };
    refuses(&["--matrix", "none.toml"], &["none.toml"]);
    for (text, parts) in [
        ("", &["has no job"][..]),
        ("[[matrix]]\nkernels = ['tree:good'\n", &["bad.toml:"]),
        ("\n\n[[matrix]]\nkernels = ['tree:good']\nvariant = ['x']\n", &["bad.toml:5", "variant"]),
        ("[[matrix]]\nkernels = ['tree:good']\nvariants = ['none-such']\n", &["unknown variant"]),
        ("[[matrix]]\nkernels = ['tree:good']\nsuites = ['none-such']\n", &["none-such"]),
        ("[[matrix]]\nkernels = ['tree:good']\ntests = ['nosuch/*']\n", &["nosuch"]),
        (
            "[[matrix]]\nkernels = ['tree:good']\ntimeouts = ['x']\n",
            &["tree-good--none--default--auto--own", "timeout"],
        ),
        ("[[matrix]]\nkernels = ['tree:good', 'tree:./good']\n", &["would both be column"]),
    ] {
        world.write("bad.toml", text);
        refuses(&["--matrix", "bad.toml"], parts);
    }
    refuses(&["--matrix", "m.toml", "--cell", "nope"], &["has no cell \"nope\""]);
    refuses(&["--matrix", "m.toml", "--cell", JOBS[0], "--cell", JOBS[0]], &["twice"]);
    refuses(&["--matrix", "m.toml", "--executor", "run it"], &["{cell}"]);
    for words in [
        &["--matrix", "m.toml", "--kernel", "tree:good"][..],
        &["--matrix", "m.toml", "--suite", "own"],
        &["--matrix", "m.toml", "--boot", "vng"],
        &["--matrix", "m.toml", "--shard", "4/3"],
        &["--matrix", "m.toml", "--shard", "1/3", "--cell", "x"],
        &["--cell", "x"],
        &["--shard", "1/2"],
        &["--executor", "x {cell}"],
    ] {
        let done = world.run(words);
        assert_eq!(done.status.code(), Some(2), "{done}");
    }
    assert_eq!(world.made("vmlinux"), 0);
    let dry = world.run(&["--matrix", "m.toml", "--shard", "2/2", "--dry-run"]);
    dry.exits(0).says(&[JOBS[2], "jobs 3 of 5"]);
    let dry = world.run(&["--matrix", "m.toml", "--shard", "2/2", "--dry-run", "--json", "-"]);
    let data: Value = serde_json::from_str(&dry.exits(0).stdout).expect("JSON");
    assert_eq!((&data["jobs"][0]["id"], &data["of"]), (&JOBS[2].into(), &5.into()));
    assert_eq!(data["jobs"].as_array().map(Vec::len), Some(3));
}

#[test]
fn what_is_built_ahead_is_not_built_again() {
    let world = world("make: error");
    let done = world.run(&["--matrix", "m.toml", "--build-only"]);
    assert_eq!(done.status.code(), Some(12), "{done}");
    done.says(&["tree-good--none--debug--direct--own: built tree:good", "'sessions' undeclared"]);
    assert_eq!(world.read("home/guest.calls"), "", "no guest was started");
    let made = world.made("vmlinux");
    let (done, _) = part(&world, &format!("--cell={}", JOBS[2]), "one");
    done.exits(0);
    assert_eq!(world.made("vmlinux"), made);
}

#[test]
fn jobs_for_ci_systems() {
    let world = world("guest: pass");
    let run = |words: &[&str]| {
        let words: Vec<&str> = ["ci-matrix", "m.toml"].iter().chain(words).copied().collect();
        world.start(world.command(&words)).done()
    };
    let json = |done: &Done| serde_json::from_str::<Value>(&done.stdout).expect("JSON");
    let done = run(&["--format", "json"]);
    let cells = json(done.exits(0))["cells"].as_array().expect("cells").clone();
    assert_eq!(cells.iter().map(|cell| text(&cell["id"])).collect::<Vec<_>>(), JOBS);
    // Each job is in one shard, and there are no more shards than jobs.
    for (asked, of) in [("2", 2), ("9", 5)] {
        let done = run(&["--format", "json", "--shards", asked]);
        let shards = json(done.exits(0))["cells"].as_array().expect("shards").clone();
        assert_eq!(shards.len(), of);
        let ids: Vec<String> =
            shards.iter().flat_map(|shard| shard["cells"].as_array().expect("ids")).map(text).collect();
        assert_eq!(ids, JOBS);
        assert_eq!(text(&shards[0]["select"]), format!("--shard=1/{of}"));
    }
    let done = run(&["--format", "gitlab"]);
    let pipeline = json(done.exits(0));
    for id in JOBS {
        let script = pipeline[id]["script"].to_string();
        assert!(script.contains(&format!("--cell={id}")), "{script}");
    }
    assert!(pipeline["merge"]["script"].to_string().contains("report merge"));
    world.write("m.toml", "# nothing\n");
    for format in ["github", "gitlab", "json"] {
        run(&["--format", format]).refuses(2, &["has no job"]);
    }
}

/// A command that runs one job as another machine would, and logs its arguments.
fn executor(world: &World, body: &str) -> PathBuf {
    let script =
        world.write("one cell.sh", &format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >> \"$HOME/told\"\n{body}\n"));
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a mode");
    script
}

#[test]
fn an_executor_runs_each_job_and_its_runs_are_joined() {
    let world = world("guest: fail");
    let whole = world.run(&["--matrix", "m.toml"]);
    let binary = env!("CARGO_BIN_EXE_xtask");
    let script = executor(
        &world,
        &format!(
            "exec '{binary}' vmtest --toolchain host --accel tcg --matrix \"$3\" --cell \"$1\" --out \"$2\""
        ),
    );
    // A space in its name: words stay intact.
    let command = format!("sh '{}' {{cell}} {{out}} {{matrix}}", script.display());
    let done = world.run(&["--matrix", "m.toml", "--executor", &command]);
    done.exits(1);
    assert_eq!(lasting(done.json()), lasting(whole.json()));
    let told = world.read("home/told");
    assert!(JOBS.iter().all(|id| told.lines().any(|line| line == *id)), "{told}");
    let dir = done.run_dir.as_ref().expect("a run");
    for boot in done.json()["boots"].as_array().expect("boots") {
        assert!(dir.join(text(&boot["directory"])).join("console.log").is_file(), "{boot}");
    }
}

#[test]
fn an_executor_that_fails_is_never_a_pass() {
    let world = world("guest: pass");
    let binary = env!("CARGO_BIN_EXE_xtask");
    let run = |cell: &str| {
        format!(
            "'{binary}' vmtest --toolchain host --accel tcg --matrix \"$3\" --cell {cell} --out \"$2\" >/dev/null"
        )
    };
    let mut number = 0;
    let mut ends = |body: &str, more: &[&str], code: i32, parts: &[&str]| {
        number += 1;
        let script = executor(&world, body);
        let command = format!("sh '{}' {{cell}} {{out}} {{matrix}}", script.display());
        let words = [&["--matrix", "m.toml", "--cell", JOBS[0], "--executor", &command], more].concat();
        let done = world.run(&words);
        done.exits(code).says(parts);
        let outcomes = done.outcomes(None);
        assert_eq!(outcomes.get("basic/first").map(String::as_str), (code == 0).then_some("pass"), "{done}");
        if code != 0 {
            assert_eq!(outcomes[&format!("job/{}", JOBS[0])], "notrun");
        }
    };
    ends(&run("\"$1\""), &[], 0, &[]);
    ends("exit 0", &[], 30, &["left no run"]);
    ends("echo no such host >&2; exit 255", &[], 30, &["no such host"]);
    ends(&format!("{}; exit 7", run("\"$1\"")), &[], 30, &["but its run says 0"]);
    ends(&format!("{}; exit 0", run(JOBS[1])), &[], 30, &["something other than"]);
    ends("mkdir -p \"$2\"; echo '{}' > \"$2/run.json\"", &[], 30, &["left no run"]);
    ends("sleep 100", &["--executor-limit", "1"], 30, &["did not end within 1 s"]);
    ends(
        &format!("'{binary}' vmtest --toolchain host --accel tcg --kernel tree:good --out \"$2\" >/dev/null"),
        &[],
        30,
        &["is not a run of a matrix"],
    );
    let done = world.run(&["--matrix", "m.toml", "--cell", JOBS[0], "--executor", "/no/such/program {cell}"]);
    done.exits(30).says(&["the executor failed"]);
    world.is_clean();
}

#[test]
fn guests_run_side_by_side_as_far_as_they_are_let() {
    // Each of them waits for another one.
    let world = World::new();
    world.tree("a", "guest: meets");
    world.tree("b", "guest: meets");
    world.write(
        "m.toml",
        "[[matrix]]\nkernels = ['tree:a', 'tree:b']\nboot = ['direct']\ntests = ['basic/first']\n",
    );
    world.run(&["--matrix", "m.toml", "--vms", "2"]).exits(0);
    // And here none may overlap with another one.
    let world = World::new();
    world.tree("a", "guest: alone");
    world.tree("b", "guest: alone");
    world.write(
        "m.toml",
        "[[matrix]]\nkernels = ['tree:a', 'tree:b']\nboot = ['direct']\ntests = ['basic/first']\n",
    );
    world.run(&["--matrix", "m.toml", "--vms", "1"]).exits(0);
}

#[test]
fn an_interrupted_matrix_has_a_record_and_so_has_what_it_is_joined_to() {
    let world = World::new();
    world.tree("good", "guest: pass");
    world.tree("idle", "guest: idle");
    world.write("m.toml", "[[matrix]]\nkernels = ['tree:good', 'tree:idle']\nboot = ['direct']\n");
    let (done, good) = part(&world, "--shard=1/2", "good");
    done.exits(0);
    let cut = world.path("runs/cut");
    let command = world.vmtest(&["--matrix", "m.toml", "--shard=2/2", "--out", &cut.to_string_lossy()]);
    let mut running = world.start(command);
    running.wait_for_hang();
    running.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(running.done().status.code(), Some(130));
    assert_eq!(record(&cut)["exit_code"], 130);
    world.no_process_is_left(std::time::Duration::from_secs(5));
    merge(&world, &[&good, &cut], &[]).exits(130);
    // An interrupted executor is no different.
    let script = executor(&world, "echo $$ >> \"$HOME/pids\"; exec sleep 1000");
    let command = format!("sh '{}' {{cell}} {{out}}", script.display());
    world.write("home/pids", "");
    let mut running = world.start(world.vmtest(&["--matrix", "m.toml", "--executor", &command]));
    running.wait_for_hang();
    running.signal(nix::sys::signal::Signal::SIGINT);
    let done = running.done();
    done.exits(130);
    assert!(done.outcomes(None).values().all(|outcome| outcome == "notrun"), "{done}");
    world.no_process_is_left(std::time::Duration::from_secs(5));
}

#[test]
fn a_variant_says_what_its_guest_did_not_enforce() {
    let world = World::new();
    world.tree("good", "guest: pass");
    let run = |variant: &str| world.run(&["--kernel", "tree:good", "--variant", variant]);
    // An emulated CPU does not track branches: a pass, and the record says what it proves.
    let env = world.read("home/guest.env");
    world.write("home/guest.env", &format!("{env}features=',\"cpu.ibt\":\"no\"'\n"));
    let done = run("ibt");
    done.exits(0).says(&["not enforced here", "cpu.ibt is \"no\""]);
    let json = done.json();
    assert_eq!(json["cells"][0]["enforced"], false);
    let condition = &json["boots"][0]["conditions"][0];
    assert_eq!((&condition["read"], &condition["value"]), (&"cpu.ibt".into(), &"no".into()));
    assert_eq!((&condition["enforced"], &condition["must"]), (&false.into(), &false.into()));
    // What only the kernel decides is required: a guest without it cannot pass.
    let done = run("harden");
    done.exits(30).says(&["net.core.bpf_jit_harden is \"not read\", wanted is 2"]);
    assert!(done.outcomes(None).values().all(|outcome| outcome != "pass"), "{done}");
    world.write("home/guest.env", &format!("{env}features=',\"net.core.bpf_jit_harden\":\"2\"'\n"));
    let done = run("harden");
    done.exits(0);
    assert_eq!(done.json()["cells"][0]["enforced"], true);
    let done = run("default");
    assert_eq!(done.exits(0).json()["cells"][0]["enforced"], Value::Null);
}

/// The first is what the project's workflow runs, the second is every released kernel.
#[test]
fn the_matrices_of_the_project_make_sense() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (file, least) in [("matrix.toml", 4), ("stable.toml", 28)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["ci-matrix", file, "--format", "json"]).current_dir(&top);
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(json["cells"].as_array().is_some_and(|cells| cells.len() >= least), "{file}");
    }
}
