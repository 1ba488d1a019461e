// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs that complete, fully or in part: what they leave, print, reuse and do not touch.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::process::Command;

use serde_json::Value;

use crate::support::{TESTS, World, git, listing, text};

const PASSES: &str = "guest: pass";

/// The `--kernel` of a tree that passes.
fn good(world: &World) -> String {
    format!("tree:{}", world.tree("good", PASSES).display())
}

fn passes(boot: &str) {
    let world = World::new();
    let spec = good(&world);
    let done = world.run(&["--kernel", &spec, "--boot", boot]);
    done.exits(0);
    assert_eq!(done.stdout.lines().last(), Some("exit 0: pass 3"), "{done}");
    assert!(!done.stderr.contains("warning"), "{done}");

    let json = done.json();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["classes"], serde_json::json!({ "0": 3 }));
    assert!(json["tools"]["make"].as_str().is_some_and(|version| version.contains("99.1")));
    assert!(json["tools"]["qemu-system-x86_64"].is_string());
    let kernel = &json["kernels"][0];
    assert_eq!(text(&kernel["id"]), "tree:good");
    assert_eq!(text(&kernel["spec"]), spec);
    assert_eq!(text(&kernel["release"]), "6.18.0-fake");
    assert_eq!(text(&kernel["toolchain"]), "gcc");
    assert_eq!(kernel["series"], serde_json::json!([]));
    let cells = json["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), TESTS.len());
    for (cell, path) in cells.iter().zip(TESTS) {
        assert_eq!(format!("{}/{}", text(&cell["test"]), text(&cell["subtest"])), path);
        for (field, value) in [
            ("kernel", "tree:good"),
            ("variant", "default"),
            ("boot", boot),
            ("accel", "tcg"),
            ("suite", "own"),
            ("outcome", "pass"),
            ("reason", ""),
        ] {
            assert_eq!(text(&cell[field]), value, "{field} of {path}");
        }
        assert_eq!((&cell["required"], &cell["attempts"]), (&true.into(), &1.into()));
        assert_eq!(cell["duration_ms"], 5);
    }
    assert_eq!(json["splats"], serde_json::json!([]));
    for name in ["snapshot", "configure", "build", "runner", "boot"] {
        let phases = json["phases"].as_array().expect("phases").iter();
        let found: Vec<_> = phases.filter(|phase| phase["name"] == name).collect();
        assert_eq!(found.len(), 1, "{name}: {json:#}");
        assert!(found[0]["duration_ms"].is_u64() && found[0]["kernel"].is_string(), "{found:?}");
        assert_eq!(found[0]["cached"], false, "{name}");
    }

    let run = done.run_dir.as_ref().expect("a run directory");
    assert_eq!(
        fs::read_link(world.path("state/vmtest/runs/latest")).ok().as_deref(),
        run.file_name().map(AsRef::as_ref)
    );
    let plan = fs::read_to_string(run.join("plan.json")).expect("plan.json");
    let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
    assert_eq!(text(&plan["columns"][0]["spec"]), spec);
    let cell = run.join(text(&json["boots"][0]["directory"]));
    for file in [
        run.join("log"),
        run.join("builds").join(text(&kernel["key"])).join("build.log"),
        cell.join("console.log"),
        cell.join("events.jsonl"),
    ] {
        assert!(fs::metadata(&file).is_ok_and(|data| data.len() > 0), "{}", file.display());
    }
    let events = fs::read_to_string(cell.join("events.jsonl")).expect("events");
    assert_eq!(events.lines().count(), 2 + 2 * TESTS.len() + 1, "raw, and all of them");
    assert!(fs::read_to_string(cell.join("console.log")).expect("console").contains("Linux version"));
    world.is_clean();

    let again = world.run(&["--kernel", &spec, "--boot", boot]);
    again.exits(0);
    assert_eq!((world.made("allnoconfig"), world.made("vmlinux")), (1, 1), "the kernel is reused");
    assert_eq!(world.read("home/cargo.calls").lines().count(), 1, "the runner is reused");
    assert_eq!(world.read("home/guest.calls").lines().count(), 2, "a verdict is never reused");
    let again = again.json();
    let phases = again["phases"].as_array().expect("phases").iter();
    let cached: Vec<_> =
        phases.filter(|phase| phase["cached"] == true).map(|phase| text(&phase["name"])).collect();
    for name in ["snapshot", "build", "runner"] {
        assert!(cached.iter().any(|cached| cached == name), "{name}: {cached:?}");
    }
}

#[test]
fn a_good_run_through_vng_leaves_its_record_and_is_reused() {
    passes("vng");
}

#[test]
fn a_good_run_by_direct_boot_leaves_its_record_and_is_reused() {
    passes("direct");
}

#[test]
fn auto_takes_vng_for_a_kernel_built_here_and_direct_for_an_image() {
    let world = World::new();
    // An ELF header for x86_64, the banner, and what the fake guest looks for.
    let mut image = b"\x7fELF\x02\x01\x01".to_vec();
    image.resize(18, 0);
    image.extend(62_u16.to_le_bytes());
    image.resize(64, 0);
    image.extend(b"\nLinux version 6.18.0-fake (vmtest@vmtest)\nguest: pass\n");
    let path = world.path("vmlinux-of-somebody");
    fs::write(&path, image).expect("written");
    let image = format!("image:{}", path.display());
    let done = world.run(&["--kernel", &good(&world), "--kernel", &image]);
    done.exits(0);
    let json = done.json();
    let boots = json["boots"].as_array().expect("boots").iter();
    let boots: Vec<_> = boots.map(|boot| (text(&boot["kernel"]), text(&boot["boot"]))).collect();
    let pair = |kernel: &str, boot: &str| (kernel.to_owned(), boot.to_owned());
    assert_eq!(boots, [pair("tree:good", "vng"), pair("image:vmlinux-of-somebody", "direct")]);
    assert!(
        json["boots"].as_array().expect("boots").iter().all(|boot| !text(&boot["boot_reason"]).is_empty())
    );
}

#[test]
fn the_users_tree_and_repository_stay_untouched() {
    let world = World::new();
    let top = world.repo("linux", PASSES);
    fs::write(top.join("kernel/fake.c"), "int first;\nint second;\nint third;\nint fourth;\n")
        .expect("written");
    world.commit(&top, "fake: add fourth");
    fs::write(top.join("untracked.c"), "int x;\n").expect("written");
    let patch = world.patch("series/0001-rename.patch", "second", "better");
    let before = listing(&top);
    let (tree, commit, range) = (
        format!("tree:{}", top.display()),
        format!("git:{}@HEAD", top.display()),
        format!("git:{}@HEAD~1..HEAD", top.display()),
    );
    let done = world.run(&["--kernel", &tree, "--kernel", &commit]);
    done.exits(0);
    assert_eq!(listing(&top), before, "after tree: and git:");
    let done = world.run(&["--kernel", &range]);
    done.exits(0);
    assert_eq!(done.json()["kernels"][0]["series"], serde_json::json!(["fake: add fourth"]));
    let patches = patch.parent().expect("a directory").display().to_string();
    let done = world.run(&["--kernel", &tree, "--patches", &patches]);
    done.exits(0);
    let kernel = &done.json()["kernels"][0];
    assert_eq!(text(&kernel["id"]), "tree:linux+series");
    assert_eq!(kernel["series"], serde_json::json!(["fake: rename second"]));
    assert_eq!(listing(&top), before, "after a range and a series");
}

#[test]
fn a_tarball_is_a_kernel_too() {
    let world = World::new();
    world.tree("linux-6.18", PASSES);
    let tar = world.path("linux-6.18.tar.xz");
    let status =
        Command::new("tar").arg("-cJf").arg(&tar).arg("-C").arg(world.path("")).arg("linux-6.18").status();
    assert!(status.expect("tar runs").success());
    let before = listing(&tar);
    world.run(&["--kernel", &format!("tar:{}", tar.display())]).exits(0);
    assert_eq!(listing(&tar), before);
}

#[test]
fn a_kernel_that_does_not_build_leaves_the_matrix_going() {
    let world = World::new();
    let bad = format!("tree:{}", world.tree("bad", "make: error").display());
    let done = world.run(&["--kernel", &bad, "--kernel", &good(&world)]);
    done.exits(12).says(&["kernel/fake.c:7:9: error: 'sessions' undeclared"]);
    // Relative to the tree, so that an editor that runs in it can jump there.
    let line = "kernel/fake.c:7:9: error: 'sessions' undeclared (first use in this function)";
    assert!(done.stderr.lines().any(|told| told == line), "{done}");
    assert!(done.outcomes(Some("tree:bad")).values().all(|outcome| outcome == "notrun"));
    assert!(done.outcomes(Some("tree:good")).values().all(|outcome| outcome == "pass"));
    assert_eq!(done.outcomes(Some("tree:bad")).len(), TESTS.len());
    assert_eq!(done.json()["classes"], serde_json::json!({ "0": 3, "12": 3 }));
    assert_eq!(done.stdout.lines().last(), Some("exit 12: kernel build failed 3, pass 3"), "{done}");
    let told = done.told("'sessions' undeclared");
    assert_eq!(told, 3, "for editors, with the lines around it, and in the finding\n{done}");

    // The failure is not cached: once fixed, it builds.
    world.tree("bad", PASSES);
    world.run(&["--kernel", &bad]).exits(0);
}

#[test]
fn a_lost_option_is_named_with_what_it_needs() {
    let world = World::new();
    let tree = format!("tree:{}", world.tree("lossy", "kconfig: CONFIG_BPF_EVENTS").display());
    let done = world.run(&["--kernel", &tree]);
    done.exits(11).says(&[
        "CONFIG_BPF_EVENTS=y became n",
        "kconfig/fragments/tracing.config:",
        "FAKE_TRACING",
    ]);
    assert_eq!(world.made("vmlinux"), 0, "nothing is built with it");
    assert!(done.outcomes(None).values().all(|outcome| outcome == "notrun"));
}

#[test]
fn a_series_that_does_not_apply_is_told_once() {
    let world = World::new();
    let patch = world.patch("0001-elsewhere.patch", "nowhere", "better");
    let done = world.run(&["--kernel", &good(&world), "--patches", &patch.display().to_string()]);
    done.exits(10).says(&["0001-elsewhere.patch", "kernel/fake.c"]);
    assert_eq!(world.made("vmlinux"), 0);
    assert_eq!(done.told("does not apply: "), 2, "the reason, and the finding at the end\n{done}");
    done.says(&["FAILED: patch 1/1 \"fake: rename nowhere\" does not apply: kernel/fake.c: "]);
    let ended =
        world.run(&["--kernel", &good(&world), "--patches", &patch.display().to_string(), "--with-base"]);
    ended.exits(10).says(&["not built, because the series does not apply to it"]);
    assert_eq!(world.made("allnoconfig") + world.made("vmlinux"), 0, "not even the base");
    let dry = world.run(&["--kernel", &good(&world), "--patches", &patch.display().to_string(), "--dry-run"]);
    dry.refuses(10, &["0001-elsewhere.patch", "does not apply: "]);
}

#[test]
fn a_dry_run_says_what_it_costs_and_refuses_what_the_run_refuses() {
    let world = World::new();
    let kernel = good(&world);
    let dry = |words: &[&str]| world.run(&[&["--kernel", &kernel, "--dry-run"], words].concat());
    dry(&[]).exits(0).says(&["cost 1 kernel to build; there is no earlier run to estimate the time from"]);
    world.run(&["--kernel", &kernel]).exits(0);
    dry(&[]).exits(0).says(&["cost no kernel to build, about 1 min"]);
    dry(&["--with-base", "--patches", &world.patch("a.patch", "first", "better").display().to_string()])
        .exits(0)
        .says(&["cost 2 kernels to build, about 1 min", "of disk"]);
    world.write("used/file", "mine\n");
    dry(&["--out", "used"]).refuses(2, &["--out", "is not empty"]);
    dry(&["--baseline", "nowhere"]).refuses(2, &["no such finished run: nowhere"]);
    dry(&["--output", "junit=/nowhere/at/all"]).refuses(30, &["cannot write /nowhere/at/all"]);
    assert!(!world.path("new").exists());
    dry(&["--out", "new"]).exits(0);
    assert!(!world.path("new").exists(), "nothing is made");
}

#[test]
fn a_series_that_is_applied_already_says_so() {
    let world = World::new();
    let tree = world.tree("good", PASSES);
    let patch = world.patch("0001-done.patch", "second", "better");
    fs::write(tree.join("kernel/fake.c"), "int first;\nint better;\nint third;\n").expect("written");
    let done = world.run(&[
        "--kernel",
        &format!("tree:{}", tree.display()),
        "--patches",
        &patch.display().to_string(),
    ]);
    done.exits(10).says(&["already"]);
}

#[test]
fn a_runner_that_does_not_build_is_class_13_for_every_cell() {
    let world = World::new();
    world.write("home/runner-is-broken", "");
    let done = world.run(&["--kernel", &good(&world)]);
    done.exits(13).says(&["cannot find function `attach`"]);
    assert_eq!(world.read("home/guest.calls"), "");
}

#[test]
fn a_subtest_is_chosen_by_glob_and_by_name() {
    let world = World::new();
    let spec = good(&world);
    for (glob, expected) in [("basic/*", &TESTS[..2]), ("many", &TESTS[2..]), ("basic/second", &TESTS[1..2])]
    {
        let done = world.run(&["--kernel", &spec, "--test", glob]);
        done.exits(0);
        assert_eq!(done.outcomes(None).into_keys().collect::<Vec<_>>(), expected, "{glob}");
    }
    let done = world.run(&["--kernel", &spec, "--effort", "quick"]);
    assert_eq!(done.outcomes(None).into_keys().collect::<Vec<_>>(), &TESTS[..1]);
}

#[test]
fn the_report_goes_to_json_and_out_as_well() {
    let world = World::new();
    let (json, out) = (world.path("my.json"), world.path("new/out"));
    let done = world.run(&[
        "--kernel",
        &good(&world),
        "--json",
        &json.display().to_string(),
        "--out",
        &out.display().to_string(),
    ]);
    done.exits(0);
    assert_eq!(done.run_dir, None, "it is where it was asked for");
    let text = fs::read_to_string(&json).expect("the report");
    assert_eq!(text, fs::read_to_string(out.join("run.json")).expect("the same"));
    assert!(out.join("plan.json").exists());
}

#[test]
fn a_dry_run_does_nothing() {
    let world = World::new();
    let spec = good(&world);
    let done = world.run(&["--kernel", &spec, "--dry-run"]);
    done.exits(0).says(&["tree:good", "variant  default", "accel    tcg", "limits   first byte"]);
    assert_eq!(done.run_dir, None);
    for calls in ["make.calls", "cargo.calls", "guest.calls"] {
        assert_eq!(world.read(&format!("home/{calls}")), "", "{calls}");
    }
    assert!(!world.path("state/vmtest").exists() && !world.path("cache/trees").exists());
    // As data: the subtests are still unknown.
    let done = world.run(&["--kernel", &spec, "--dry-run", "--json", "-"]);
    let plan: Value = serde_json::from_str(&done.exits(0).stdout).expect("JSON");
    assert_eq!((&plan["dry_run"], &plan["chosen"], &plan["run"]), (&true.into(), &Value::Null, &Value::Null));
    assert_eq!(
        (&plan["columns"][0]["kernel"], &plan["columns"][0]["cached"]),
        (&"tree:good".into(), &false.into())
    );
    assert!(!world.path("state/vmtest").exists() && !world.path("cache/trees").exists());
    world.run(&["--list"]).exits(0);
    let file = world.path("plan.json");
    let words = ["--kernel", &spec, "--test", "basic/*", "--dry-run", "--json", &file.to_string_lossy()];
    world.run(&words).exits(0).says(&["tree:good"]);
    let plan: Value = serde_json::from_str(&world.read("plan.json")).expect("JSON");
    assert_eq!(plan["chosen"], serde_json::json!(["basic/first", "basic/second"]));
}

#[test]
fn the_list_needs_no_guest_and_no_kernel() {
    let world = World::new();
    let done = world.run(&["--list"]);
    done.exits(0);
    let names: Vec<_> = done.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, TESTS);
    assert!(done.stdout.contains("Proves basic/second."));
    assert_eq!((world.read("home/guest.calls"), done.run_dir), (String::new(), None));
}

#[test]
fn exec_shows_the_output_and_tells_the_status() {
    let world = World::new();
    let spec = good(&world);
    let done = world.run(&["--kernel", &spec, "--boot", "vng", "--exec", "echo from the guest"]);
    done.exits(0);
    assert_eq!(done.stdout, "from the guest\n");
    let done = world.run(&["--kernel", &spec, "--boot", "vng", "--exec", "echo no; exit 7"]);
    done.exits(1).says(&["exited with 7"]);
    assert_eq!(done.stdout, "no\n");
    let dead = format!("tree:{}", world.tree("dead", "guest: dies-early").display());
    let done = world.run(&["--kernel", &dead, "--boot", "vng", "--exec", "true"]);
    done.exits(21).says(&["Kernel panic - not syncing: VFS"]);
    // Its first boot is one of this world.
    let world = World::new();
    let odd = format!("tree:{}", world.tree("odd", "guest: emulator-dies-early then pass").display());
    let done = world.run(&["--kernel", &odd, "--boot", "vng", "--exec", "echo from the guest"]);
    done.exits(0).says(&["Retrying once"]);
    assert_eq!(done.stdout, "from the guest\n");
}

#[test]
fn fail_fast_starts_no_further_guest() {
    let world = World::new();
    // One kernel in two variants: which one boots first is undefined, and does not matter.
    let spec = format!("tree:{}", world.tree("bad", "guest: fail").display());
    let words = ["--kernel", &spec, "--variant", "default", "--variant", "debug", "--vms", "1"];
    let done = world.run(&[&words[..], &["--fail-fast"]].concat());
    done.exits(1).says(&["not started: another column did not pass (--fail-fast)"]);
    assert_eq!(world.read("home/guest.calls").lines().count(), 1);
    assert_eq!(done.json()["classes"], serde_json::json!({ "0": 2, "1": 1, "3": 3 }));
    let done = world.run(&words);
    done.exits(1);
    assert_eq!(world.read("home/guest.calls").lines().count(), 3, "without it both boot");
}

#[test]
fn two_runs_at_once_build_a_kernel_once() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("slow", "make: slow\nguest: pass").display());
    let both = [(); 2].map(|()| world.start(world.vmtest(&["--kernel", &spec])));
    for done in both.map(|running| running.done()) {
        // Both run directories are new, so it is unknown which one belongs to which run.
        assert_eq!(done.status.code(), Some(0), "{done}");
        assert_eq!(done.stdout.lines().last(), Some("exit 0: pass 3"), "{done}");
    }
    assert_eq!(world.made("vmlinux"), 1);
    assert_eq!(world.read("home/cargo.calls").lines().count(), 1);
    world.is_clean();
}

#[test]
fn an_edit_rebuilds_and_a_step_back_does_not() {
    let world = World::new();
    let top = world.repo("linux", PASSES);
    let head = format!("git:{}@HEAD", top.display());
    world.run(&["--kernel", &head]).exits(0);
    fs::write(top.join("kernel/fake.c"), "int changed;\n").expect("written");
    world.commit(&top, "second");
    world.run(&["--kernel", &head]).exits(0);
    assert_eq!(world.made("vmlinux"), 2);
    git(&top, &["checkout", "-q", "HEAD~1"]);
    world.run(&["--kernel", &head]).exits(0);
    assert_eq!((world.made("vmlinux"), world.made("allnoconfig")), (2, 1));
}

#[test]
fn two_trees_of_one_name_are_never_mixed_up() {
    let world = World::new();
    let good = format!("tree:{}", world.tree("a/linux", PASSES).display());
    let bad = format!("tree:{}", world.tree("b/linux", "guest: fail").display());
    let done = world.run(&["--kernel", &good, "--kernel", &bad]);
    done.exits(1);
    let all = |kernel: &str, outcome: &str| {
        let cells = done.outcomes(Some(kernel));
        assert!(!cells.is_empty() && cells.values().all(|seen| seen == outcome), "{kernel}: {cells:?}");
    };
    all("tree:a/linux", "pass");
    assert!(done.outcomes(Some("tree:b/linux")).values().any(|seen| seen == "fail"), "{done}");
}

#[test]
fn the_callers_environment_changes_nothing() {
    let world = World::new();
    let top = world.repo("linux", PASSES);
    let tree = format!("tree:{}", top.display());
    let head = format!("git:{}@HEAD", top.display());
    let mut command = world.vmtest(&["--kernel", &tree, "--kernel", &head]);
    for (name, value) in [
        ("KBUILD_OUTPUT", "/nonexistent"),
        ("MAKEFLAGS", "--question"),
        ("GIT_DIR", "/nonexistent"),
        ("GIT_WORK_TREE", "/nonexistent"),
        ("LC_ALL", "de_DE.UTF-8"),
        ("TERM", "xterm-256color"),
    ] {
        command.env(name, value);
    }
    let done = world.start(command).done();
    done.exits(0);
    assert!(!(done.stdout.clone() + &done.stderr).contains('\x1b'), "no colours into a file\n{done}");
}

#[test]
fn a_path_with_spaces_and_quotes_is_repeated_as_it_must_be_typed() {
    let world = World::new();
    let tree = world.repo("it's my linux, $HOME", PASSES);
    for boot in ["direct", "vng"] {
        let done = world.run(&["--kernel", &format!("tree:{}", tree.display()), "--boot", boot]);
        done.exits(0);
        let repeat =
            done.stdout.lines().find_map(|line| line.strip_prefix("repeat: ")).expect("how to repeat it");
        let words =
            Command::new("sh").args(["-c", &format!("set -- {repeat}; printf '%s\\n' \"$@\"")]).output();
        let words = String::from_utf8(words.expect("sh runs").stdout).expect("text");
        assert!(words.lines().any(|word| word == format!("tree:{}", tree.display())), "{repeat}");
    }
    world.run(&["--kernel", &format!("git:{}@HEAD", tree.display())]).exits(0);
}

#[test]
fn a_cache_that_vng_cannot_be_handed_is_refused_by_name() {
    let world = World::new();
    let spec = good(&world);
    let run = |boot: &str| {
        let mut command = world.vmtest(&["--kernel", &spec, "--boot", boot]);
        command.env("VMTEST_CACHE_DIR", world.path("my, cache"));
        world.start(command).done()
    };
    run("direct").exits(0);
    run("vng").exits(30).says(&["vng cannot use the path", "VMTEST_CACHE_DIR"]);
}

#[test]
fn what_is_asked_for_reaches_the_guest() {
    let world = World::new();
    let spec = good(&world);
    let words = [
        "--append",
        "nosmp",
        "--sysctl",
        "net.core.bpf_jit_harden=2",
        "--memory",
        "1G",
        "--cpus",
        "3",
        "--self-test",
    ];
    for boot in ["direct", "vng"] {
        world.run(&[&["--kernel", &spec, "--boot", boot][..], &words].concat());
    }
    let seen = world.read("home/guest.args");
    let seen: Vec<_> = seen.lines().collect();
    for (line, rest) in [(seen[0], ["-m 1024M", "-smp 3"]), (seen[1], ["--memory 1024M", "--cpus 3"])] {
        let both = ["nosmp", "vmtest.sysctl=net.core.bpf_jit_harden=2", "vmtest.selftest=turned", "panic=-1"];
        for part in both.iter().chain(&rest) {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
    let long = "x".repeat(2000);
    let done = world.run(&["--kernel", &spec, "--append", &long]);
    done.exits(2).says(&["the kernel command line would be"]);
}

#[test]
fn a_report_may_go_to_a_pipe_or_a_device() {
    let world = World::new();
    let spec = good(&world);
    // This test's own pipes: a harness that replaces what it should write to must not be able to damage
    // /dev/stdout.
    let (pipe, link) = (world.path("pipe"), world.path("link"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    symlink("pipe", &link).expect("linked");
    for name in ["pipe", "link"] {
        let reader = {
            let pipe = pipe.clone();
            std::thread::spawn(move || fs::read_to_string(pipe).expect("read"))
        };
        world.run(&["--kernel", &spec, "--json", name]).exits(0);
        assert!(
            fs::metadata(&pipe).expect("there").file_type().is_fifo() && link.is_symlink(),
            "{name} stays"
        );
        let json: serde_json::Value = serde_json::from_str(&reader.join().expect("it read")).expect("JSON");
        assert_eq!(json["exit_code"], 0);
    }
}

#[test]
fn a_report_that_is_a_link_replaces_what_it_names() {
    let world = World::new();
    let target = world.write("target.json", "old");
    symlink("target.json", world.path("link.json")).expect("linked");
    world.run(&["--kernel", &good(&world), "--json", "link.json"]).exits(0);
    assert!(world.path("link.json").is_symlink());
    assert!(fs::read_to_string(target).expect("read").starts_with('{'));
}

#[test]
fn a_reader_who_goes_away_changes_no_verdict() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("bad", "guest: fail").display());
    let mut command = world.vmtest(&["--kernel", &spec]);
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("waited").code(), Some(1));
}

#[test]
fn a_child_that_make_leaves_behind_does_not_hold_the_run_up() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "make: leave-a-child\nguest: pass").display());
    let running = world.start(world.vmtest(&["--kernel", &spec]));
    running.done_within(std::time::Duration::from_secs(20)).exits(0);
    world.is_clean();
}

#[test]
fn as_many_guests_run_at_once_as_was_asked_for() {
    let world = World::new();
    for (does, vms) in [("meets", "2"), ("alone", "1")] {
        let spec = format!("tree:{}", world.tree(does, &format!("guest: {does}")).display());
        let variants = ["--variant", "default", "--variant", "debug"];
        world.run(&[&["--kernel", &spec, "--vms", vms][..], &variants].concat()).exits(0);
    }
}

#[test]
fn a_series_that_fits_one_kernel_of_two_leaves_the_other_going() {
    let world = World::new();
    let other = world.tree("other", PASSES);
    fs::write(other.join("kernel/fake.c"), "int elsewhere;\n").expect("written");
    world.patch("series/0001-rename.patch", "second", "better");
    let other = format!("tree:{}", other.display());
    let done = world.run(&["--kernel", &other, "--kernel", &good(&world), "--patches", "series"]);
    done.exits(10);
    assert!(done.outcomes(Some("tree:other+series")).values().all(|outcome| outcome == "notrun"));
    assert!(done.outcomes(Some("tree:good+series")).values().all(|outcome| outcome == "pass"));
    assert_eq!(done.json()["classes"], serde_json::json!({ "0": 3, "10": 3 }));
}

#[test]
fn a_failure_stays_a_failure_when_it_is_run_again() {
    let world = World::new();
    for (name, does, code) in [
        ("lossy", "kconfig: CONFIG_BPF_EVENTS", 11),
        ("broken", "make: error", 12),
        ("empty", "make: nothing", 12),
        ("unreadable", "make: no-config", 12),
    ] {
        let spec = format!("tree:{}", world.tree(name, does).display());
        for _ in 0..2 {
            world.run(&["--kernel", &spec]).exits(code);
        }
    }
    let spec = format!("tree:{}", world.path("unreadable").display());
    world.run(&["--kernel", &spec]).exits(12).says(&["kernel/Kconfig:3: syntax error", "config.log"]);
    world.is_clean();
}

#[test]
fn make_gets_the_jobs_and_nothing_of_the_callers() {
    let world = World::new();
    world.run(&["--kernel", &good(&world), "--make-jobs", "7", "--boot", "direct"]).exits(0);
    let calls = world.read("home/make.args");
    assert!(calls.lines().any(|call| call.ends_with("-j7 vmlinux")), "{calls}");
}

#[test]
fn a_pass_that_cannot_be_told_is_no_pass() {
    let world = World::new();
    let mut command = world.vmtest(&["--kernel", &good(&world)]);
    command.stdout(fs::File::options().write(true).open("/dev/full").expect("it is everywhere"));
    command.stderr(std::process::Stdio::null());
    assert_eq!(command.status().expect("it ran").code(), Some(30));
}

#[test]
fn a_guest_with_fewer_cpus_than_asked_for_is_said() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: fewer-cpus").display());
    let done = world.run(&["--kernel", &spec, "--boot", "direct", "--cpus", "4"]);
    done.exits(0).says(&["warning: tree:linux: the guest sees 1 CPUs of 4"]);
}
