// SPDX-License-Identifier: MIT OR Apache-2.0
//! The architecture: a crate depends only on those below it, no two modules of a crate import each other, the
//! picture in docs/architecture.md matches cargo's metadata, and the key of the harness covers all of its
//! sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates that each crate may depend on besides the guest's protocol, from the bottom up.
const MAY_SEE: [(&str, &[&str]); 9] = [
    ("base", &[]),
    ("record", &["base"]),
    ("host", &["base"]),
    ("kernel", &["base", "host"]),
    ("guest", &["base", "record", "host"]),
    ("report", &["base", "record"]),
    ("suite", &["base", "record", "host", "kernel", "guest"]),
    ("engine", &["base", "record", "host", "kernel", "guest", "suite"]),
    ("xtask", &["base", "record", "host", "kernel", "guest", "report", "suite", "engine"]),
];
/// The marks around the picture in the page.
const MARKS: [&str; 2] =
    ["<!-- picture: made by the test, VMTEST_BLESS=1 -->\n```text\n", "```\n<!-- end -->\n"];

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the checkout")
}

struct Package {
    name: String,
    dir: PathBuf,
    sees: BTreeSet<String>,
}

/// The workspace according to cargo, without dev-dependencies.
fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(project());
    let told = command.output().expect("cargo runs");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let package = |value: &serde_json::Value| Package {
        name: text(&value["name"]).trim_start_matches("vmtest-").to_owned(),
        dir: Path::new(&text(&value["manifest_path"])).parent().expect("a directory").to_owned(),
        sees: value["dependencies"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|one| one["kind"].is_null())
            .filter_map(|one| one["name"].as_str()?.strip_prefix("vmtest-").map(str::to_owned))
            .collect(),
    };
    metadata["packages"].as_array().expect("a list").iter().map(package).collect()
}

/// The crates of [`MAY_SEE`], in that order.
fn house() -> Vec<Package> {
    let mut all: BTreeMap<String, Package> =
        packages().into_iter().map(|package| (package.name.clone(), package)).collect();
    MAY_SEE.iter().map(|(name, _)| all.remove(*name).unwrap_or_else(|| panic!("no crate {name}"))).collect()
}

#[test]
fn a_crate_sees_only_what_stands_below_it() {
    for (package, (_, may)) in house().iter().zip(MAY_SEE) {
        let others: Vec<_> =
            package.sees.iter().filter(|name| *name != "protocol" && !may.contains(&name.as_str())).collect();
        assert!(others.is_empty(), "{} must not see {others:?}: docs/architecture.md", package.name);
    }
}

#[test]
fn no_two_rooms_of_a_crate_import_each_other() {
    for package in house() {
        let rooms = rooms(&package.dir.join("src"));
        let cycle = cycle(&rooms);
        assert!(cycle.is_empty(), "{}: {} import each other", package.name, cycle.join(" -> "));
    }
}

#[test]
fn a_cycle_of_rooms_is_seen() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("b")).expect("made");
    for (file, text) in [
        ("lib.rs", "pub mod a;\npub mod b;\npub mod c;\n"),
        ("a.rs", "use crate::{b::deep::X, c};\n"),
        ("b/deep.rs", "// crate::a is only named here\nuse crate::c::Y;\n"),
        ("c.rs", "fn f() { g(\"crate::a\"); }\n#[cfg(test)]\nmod tests {\n    use crate::a;\n}\n"),
    ] {
        fs::write(dir.path().join(file), text).expect("written");
    }
    assert!(cycle(&rooms(dir.path())).is_empty());
    fs::write(dir.path().join("b/deep.rs"), "fn f() { crate::a::g() }\n").expect("written");
    assert_eq!(cycle(&rooms(dir.path())), ["a", "b", "a"]);
}

#[test]
fn the_key_of_the_harness_covers_every_crate() {
    let keys = fs::read_to_string(project().join("xtask/crates/engine/src/matrix/keys.rs")).expect("read");
    for package in packages() {
        // A crate that only tests use cannot change a run.
        if package.name == "testing" {
            continue;
        }
        let source = package.dir.join("src");
        let below = source.strip_prefix(project()).expect("in the project");
        let covered = below.ancestors().any(|place| keys.contains(&format!("\"{}\"", place.display())));
        assert!(covered, "{} is not part of the key of the harness", below.display());
    }
}

#[test]
fn the_page_shows_the_house() {
    let page = project().join("docs/architecture.md");
    let text = fs::read_to_string(&page).expect("the page");
    let mut picture = String::new();
    for package in house().iter().rev() {
        let direct: Vec<_> =
            MAY_SEE.iter().map(|(name, _)| *name).filter(|name| package.sees.contains(*name)).collect();
        picture += format!("{:7} {}", package.name, direct.join(" ")).trim_end();
        picture += "\n";
    }
    let (before, rest) = text.split_once(MARKS[0]).expect("the first mark");
    let (shown, after) = rest.split_once(MARKS[1]).expect("the last mark");
    if std::env::var_os("VMTEST_BLESS").is_some() {
        fs::write(&page, [before, MARKS[0], &picture, MARKS[1], after].concat()).expect("written");
        return;
    }
    assert_eq!(shown, picture, "VMTEST_BLESS=1 cargo test -p xtask --test it architecture");
}

/// The top-level modules of a crate that each of them imports, outside of tests.
fn rooms(source: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in walkdir::WalkDir::new(source).into_iter().map(|entry| entry.expect("listed")) {
        let path = entry.path().strip_prefix(source).expect("below");
        let is_test = path.components().any(|part| part.as_os_str().to_string_lossy().contains("tests"));
        if path.extension().is_none_or(|end| end != "rs") || is_test {
            continue;
        }
        let first = path.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        let room = first.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(entry.path()).expect("read");
        rooms
            .entry(room.clone())
            .or_default()
            .extend(imports(&text).into_iter().filter(|name| *name != room));
    }
    // The root module declares all of them.
    rooms.retain(|room, _| room != "lib" && room != "main");
    rooms
}

/// Names after `crate::` in code, also `crate::{a, b::C}`.
fn imports(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let parts = code.split('"').step_by(2).flat_map(|code| code.split("crate::").skip(1)).map(str::to_owned);
    let name = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let names = |part: String| -> Vec<String> {
        let Some(list) = part.strip_prefix('{') else { return vec![name(&part)] };
        let (mut depth, mut names, mut start) = (0, Vec::new(), 0);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    names.push(name(&list[start..at]));
                    start = at + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => (),
            }
        }
        names
    };
    parts.flat_map(names).filter(|name: &String| !name.is_empty()).collect()
}

/// A path from a module back to itself; empty without one.
fn cycle(rooms: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    fn search(
        rooms: &BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> bool {
        let here = way.last().expect("a room").clone();
        for next in rooms.get(&here).into_iter().flatten() {
            if let Some(at) = way.iter().position(|room| room == next) {
                way.drain(..at);
                way.push(next.clone());
                return true;
            }
            if rooms.contains_key(next) && !done.contains(next) {
                way.push(next.clone());
                if search(rooms, way, done) {
                    return true;
                }
                way.pop();
            }
        }
        done.insert(here);
        false
    }
    let mut done = BTreeSet::new();
    for room in rooms.keys() {
        let mut way = vec![room.clone()];
        if !done.contains(room) && search(rooms, &mut way, &mut done) {
            return way;
        }
    }
    Vec::new()
}
