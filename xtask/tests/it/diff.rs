// SPDX-License-Identifier: MIT OR Apache-2.0
//! Comparing two runs: what counts as worse, and the exit code.

use std::fs;

use crate::support::{Done, World, text};

/// A run of a guest that does this.
fn ran(world: &World, does: &str, words: &[&str]) -> Done {
    let spec = format!("tree:{}", world.tree("linux", &format!("guest: {does}")).display());
    world.run(&[&["--kernel", &spec, "--boot", "direct"], words].concat())
}

fn name(done: &Done) -> String {
    done.run_dir.as_ref().expect("a run").display().to_string()
}

fn diff(world: &World, words: &[&str]) -> Done {
    world.start(world.command(&[&["report", "diff"], words].concat())).done()
}

#[test]
fn what_got_worse_ends_with_1_and_what_did_not_with_0() {
    let world = World::new();
    let idle: &[&str] = &["--timeout", "idle=1"];
    let [pass, fail, panic, missing, hangs, less] = [
        ran(&world, "pass", &[]),
        ran(&world, "fail", &[]),
        ran(&world, "panic", &[]),
        ran(&world, "missing", &[]),
        ran(&world, "idle", idle),
        ran(&world, "pass", &["--test", "basic"]),
    ]
    .map(|done| name(&done));
    for (old, new, code, says) in [
        (&pass, &pass, 0, "nothing got worse than in"),
        (&pass, &fail, 1, "basic/second on tree:linux: pass then, fail now the session ran once"),
        (&fail, &pass, 0, "fixed: 1"),
        (&fail, &fail, 0, "every test as it was"),
        (&fail, &panic, 1, "fails worse: 1"),
        (&pass, &missing, 1, "pass then, missing now"),
        (&missing, &hangs, 1, "missing then, timeout now"),
        (&pass, &less, 1, "many/third on tree:linux: pass then, not there now"),
        (&less, &pass, 0, "added: 1"),
    ] {
        let done = diff(&world, &[old, new]);
        assert_eq!(done.status.code(), Some(code), "{old} {new}\n{done}");
        done.says(&[says]);
        let json = diff(&world, &[old, new, "--json"]);
        assert_eq!((json.status.code(), json.stderr.as_str()), (Some(code), ""), "{json}");
        let json: serde_json::Value =
            serde_json::from_str(&json.stdout).expect("JSON alone on standard output");
        assert_eq!(json["worse"], code == 1, "{json:#}");
        assert!(old.ends_with(&text(&json["old"])) && new.ends_with(&text(&json["new"])));
    }
    // By default the newest run is the later one.
    assert_eq!(diff(&world, &[&pass]).status.code(), Some(1));
    diff(&world, &["nowhere"]).refuses(2, &["no such finished run: nowhere"]);
}

#[test]
fn beside_a_baseline_it_is_the_comparison_that_decides() {
    let world = World::new();
    let (pass, fail) = (name(&ran(&world, "pass", &[])), name(&ran(&world, "fail", &[])));
    let beside = |does: &str, baseline: &str, words: &[&str]| {
        let done = ran(&world, does, &[&["--baseline", baseline], words].concat());
        let own = done.json()["exit_code"].clone();
        let last = done.stdout.lines().last().expect("a last line").to_owned();
        (done.status.code(), own.as_i64(), last)
    };
    let (code, own, last) = beside("fail", &fail, &[]);
    assert_eq!((code, own), (Some(0), Some(1)), "what failed before as well");
    assert!(
        last.starts_with("exit 0: nothing got worse than in ")
            && last.ends_with("by itself exit 1: test failed 1, pass 2"),
        "{last}"
    );
    let (code, own, last) = beside("fail", &pass, &[]);
    assert_eq!((code, own), (Some(1), Some(1)));
    assert!(last.starts_with("exit 1: something got worse than in "), "{last}");
    let (code, own, _) = beside("panic", &fail, &[]);
    assert_eq!((code, own), (Some(21), Some(21)), "the run's own code says more than 1");
    let (code, own, last) = beside("pass", &pass, &["--test", "basic"]);
    assert_eq!((code, own), (Some(1), Some(0)), "a test that vanished");
    assert!(last.contains("vanished 1"), "{last}");

    let file = world.path("nothing.json").display().to_string();
    let done = ran(&world, "pass", &["--baseline", &file]);
    done.refuses(2, &["no such finished run:"]);
    fs::write(format!("{fail}/run.json"), "{}").expect("written");
    ran(&world, "pass", &["--baseline", &fail]).refuses(30, &["cannot trust"]);
}

#[test]
fn the_configuration_of_kernels_is_compared() {
    let world = World::new();
    let extra = world.write("more.config", "# For the test.\nCONFIG_FAKE_EXTRA=y\n").display().to_string();
    let (one, other) = (ran(&world, "pass", &[]), ran(&world, "pass", &["--config", &extra]));
    let done = diff(&world, &[&name(&one), &name(&other)]);
    assert_eq!(done.status.code(), Some(0), "{done}");
    done.says(&["CONFIG_FAKE_EXTRA of tree:linux/default: nothing then, y now"]);
}
