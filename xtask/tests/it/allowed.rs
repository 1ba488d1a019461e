// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--allow-splats`: which kernel warnings do not fail a run, and that allowed ones are reported.

use crate::support::{Done, World, text};

/// A run of a kernel that does this, with this allow list.
fn run(does: &str, list: &str) -> Done {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", &format!("guest: {does}")).display());
    let file = world.write("allow.toml", list);
    let file = file.to_str().expect("a plain name");
    world.run(&["--kernel", &spec, "--boot", "direct", "--allow-splats", file])
}

fn entry(title: &str, expires: &str) -> String {
    format!("[[allow]]\ntitle = '{title}'\nreason = 'a known bug'\nexpires = '{expires}'\n")
}

const WARNING: &str = r"trampoline\.c:42 ";

#[test]
fn an_allowed_splat_is_shown_and_does_not_count() {
    let done = run("splat", &entry(WARNING, "9999-12-31"));
    done.exits(0).says(&["splat: WARNING: CPU: 0", "(allowed: a known bug)"]);
    let json = done.json();
    assert_eq!(text(&json["splats"][0]["allowed"]), "a known bug");
    assert_eq!(text(&json["allowed_splats"][0]["state"]), "used");
    assert_eq!(json["boots"][0]["class"], 0);
    run("told-splat", &entry("told by the runner", "9999-12-31")).exits(0);
}

#[test]
fn what_is_expired_or_fits_nothing_allows_nothing_and_is_told() {
    let done = run("splat", &entry(WARNING, "2020-02-29"));
    done.exits(4).says(&["is expired", "since 2020-02-29"]);
    assert_eq!(text(&done.json()["allowed_splats"][0]["state"]), "expired");
    assert_eq!(done.json()["splats"][0].get("allowed"), None);
    let done = run("splat", &entry("another thing", "9999-12-31"));
    done.exits(4).says(&["is unused: it fits nothing in this run"]);
    run("pass", &entry(WARNING, "9999-12-31")).exits(0).says(&["is unused"]);
}

#[test]
fn one_allowed_splat_hides_no_other_and_no_death() {
    run("two-splats", &entry(WARNING, "9999-12-31")).exits(4).says(&["other.c:7"]);
    run("panic", &entry("BUG", "9999-12-31")).exits(21);
    run("panics-at-last", &entry("Kernel panic", "9999-12-31")).exits(21);
    run("many-splats", &entry(WARNING, "9999-12-31")).exits(4).says(&["more kernel warnings than are kept"]);
}

#[test]
fn a_list_that_makes_no_sense_stops_the_run_before_any_work() {
    for (list, why) in [
        (entry(".*", "9999-12-31"), "fits everything"),
        (entry(".", "9999-12-31"), "fits everything"),
        (entry("WARNING", "9999-12-31"), "matches unrelated kernel warnings"),
        (entry(WARNING, "tomorrow"), "not a date"),
        ("[[allow]]\ntitle = 'x'\n".to_owned(), "missing field"),
        (String::new(), "no [[allow]]"),
    ] {
        run("splat", &list).refuses(2, &["--allow-splats", why]);
    }
    let world = World::new();
    let done = world.run(&["--kernel", "src:6.18", "--allow-splats", "/not/there"]);
    assert_ne!(done.status.code(), Some(0), "{done}");
}
