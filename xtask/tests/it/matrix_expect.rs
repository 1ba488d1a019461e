// SPDX-License-Identifier: MIT OR Apache-2.0
//! Known failures and required cells of a matrix, in whole runs and in shards.

use crate::support::World;

const MATRIX: &str = "[[matrix]]\nkernels = ['tree:good', 'tree:bad']\nboot = ['direct']\n";

fn world(does: &str, more: &str) -> World {
    let world = World::new();
    world.tree("good", "guest: pass");
    world.tree("bad", does);
    world.write("m.toml", &format!("{MATRIX}{more}"));
    world
}

fn expect(more: &str) -> String {
    format!(
        "[[expect]]\nkernel = 'tree:bad'\nreason = 'known to the maintainer'\nlink = 'docs/findings/x.md'\n\
         expires = '2999-12-31'\n{more}\n"
    )
}

const SECOND: &str = "test = 'basic/second'\n";

#[test]
fn a_known_failure_does_not_fail_the_run_and_nothing_else_is_known() {
    let world =
        world("guest: fail", &expect(&format!("{SECOND}outcome = 'fail'\nsays = 'the session ran once'")));
    let done = world.run(&["--matrix", "m.toml"]);
    done.exits(0);
    assert_eq!(done.outcomes(Some("tree:bad"))["basic/second"], "xfail");
    assert_eq!(done.outcomes(Some("tree:good"))["basic/second"], "pass");
    let json = done.json();
    assert_eq!(json["matrix"]["expected"][0]["state"], "used");
    assert_eq!(json["matrix"]["expected"][0]["covered"], 1);
    let cells = json["cells"].as_array().expect("cells");
    let cell = cells.iter().find(|cell| cell["outcome"] == "xfail").expect("one");
    assert_eq!((&cell["expected"]["outcome"], &cell["expected"]["class"]), (&"fail".into(), &1.into()));
    assert!(cell["reason"].as_str().is_some_and(|reason| reason.contains("the session ran once")));
    for (does, code) in [
        ("guest: panic", 21),
        ("guest: vanish", 24),
        ("guest: missing", 3),
        ("guest: splat-and-fail", 4),
        ("guest: skip", 3),
        ("guest: garbage", 30),
        ("make: error", 12),
    ] {
        let bad = world.path("bad/fake.does");
        std::fs::write(&bad, format!("{does}\n")).expect("written");
        let done = world.run(&["--matrix", "m.toml"]);
        assert_eq!(done.status.code(), Some(code), "{does}: {done}");
    }
}

#[test]
fn what_became_of_an_entry_is_told_where_all_of_the_matrix_is_known() {
    let world = world("guest: pass", &expect(&format!("{SECOND}outcome = 'fail'")));
    world.run(&["--matrix", "m.toml"]).exits(0).says(&["1 cells pass although they are declared to fail"]);
    let other = expect("test = 'none/such'\noutcome = 'fail'");
    world.write("m.toml", &format!("{MATRIX}{other}"));
    world.run(&["--matrix", "m.toml"]).exits(0).says(&["matches no failure any more"]);
    let part = world.run(&["--matrix", "m.toml", "--shard", "1/2"]);
    assert_eq!(part.exits(0).told("matches no failure"), 0, "another part may have it");
    let over = expect(&format!("{SECOND}outcome = 'fail'")).replace("2999", "2020");
    world.write("m.toml", &format!("{MATRIX}{over}"));
    std::fs::write(world.path("bad/fake.does"), "guest: fail\n").expect("written");
    world.run(&["--matrix", "m.toml"]).exits(1).says(&["expired on 2020-12-31"]);
}

#[test]
fn a_known_death_covers_its_test_and_what_it_took_along_is_declared_apart() {
    let crash = expect(&format!("{SECOND}outcome = 'crash'\nsays = 'NULL pointer dereference'"));
    let world = world("guest: panic", &crash);
    // many/third is missing, which is not declared.
    world.run(&["--matrix", "m.toml"]).exits(3);
    let missing = expect("test = 'many/third'\noutcome = 'missing'");
    world.write("m.toml", &format!("{MATRIX}{crash}{missing}"));
    let done = world.run(&["--matrix", "m.toml"]);
    done.exits(0);
    assert_eq!(done.json()["splats"][0]["severity"], "death", "it is shown all the same");
    // Another death in the same test.
    std::fs::write(world.path("bad/fake.does"), "guest: other-panic\n").expect("written");
    world.run(&["--matrix", "m.toml"]).exits(21);
    // The same, after the last test: no cell shows it.
    std::fs::write(world.path("bad/fake.does"), "guest: panics-at-last\n").expect("written");
    world.run(&["--matrix", "m.toml"]).exits(21);
}

#[test]
fn what_is_required_is_there_and_passed() {
    let require = "[[require]]\nkernel = 'tree:bad'\ntest = 'basic/second'\n";
    let run = |does: &str, more: &str, words: &[&str]| {
        let world = world(does, more);
        let words: Vec<&str> = ["--matrix", "m.toml"].iter().chain(words).copied().collect();
        world.run(&words)
    };
    run("guest: pass", require, &[]).exits(0);
    // Skips are allowed here, except for this one.
    let allowed = format!("allow_skip = ['*']\n{require}");
    run("guest: skip", "allow_skip = ['*']\n", &[]).exits(0);
    run("guest: skip", &allowed, &[]).exits(3).says(&["required cells did not pass"]);
    let known = format!("{}{require}", expect(&format!("{SECOND}outcome = 'fail'")));
    run("guest: fail", &known, &[]).exits(1).says(&["required cells did not pass"]);
    let none = "[[require]]\ntest = 'none/such'\n";
    let done = run("guest: pass", none, &[]);
    done.exits(3).says(&["no cell of the matrix matches"]);
    let cells = done.json()["cells"].as_array().expect("cells");
    assert!(cells.iter().any(|cell| cell["suite"] == "matrix" && cell["outcome"] == "missing"), "{done}");
    run("guest: pass", none, &["--shard", "1/2"]).exits(0);
}
