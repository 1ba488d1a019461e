// SPDX-License-Identifier: MIT OR Apache-2.0
//! `run.json` matches its schema, whatever the result of the run.

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
        // Nothing that is judged was removed with it.
        assert_eq!(stripped["exit_code"], first["exit_code"]);
        let cells = |run: &Value| run["cells"].as_array().expect("cells").len();
        assert_eq!(cells(&stripped), cells(&first));
        assert!(stripped["cells"][0]["outcome"].is_string() && stripped["run"].is_null());
    }
}

/// The fields of an object of the schema as a table.
fn table(title: &str, part: &Value) -> String {
    let description = part["description"].as_str().expect("every part says what it is");
    let mut text = format!("{title}: {description}\n\n| field | content |\n|---|---|\n");
    let required: Vec<&str> =
        part["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in part["properties"].as_object().expect("it has fields") {
        let content = field["description"].as_str().unwrap_or_else(|| panic!("{title}: {name} says nothing"));
        let volatile = if field["volatile"] == true { " *Volatile.*" } else { "" };
        let optional = !required.contains(&name.as_str());
        assert!(!optional || content.contains("absent"), "{title}: {name} does not say when it is absent");
        text.push_str(&format!("| `{name}` | {content}{volatile} |\n"));
    }
    text
}

#[test]
fn the_page_has_the_fields_of_the_schema() {
    let schema = schema();
    let mut fields = vec![table("The record", &schema)];
    for (name, part) in schema["$defs"].as_object().expect("parts") {
        if part["properties"].is_object() {
            fields.push(table(&format!("`{name}`"), part));
        }
    }
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reports.md");
    let page = std::fs::read_to_string(&file).expect("the page");
    let (before, rest) = page.split_once("schema -->\n").expect("where the fields begin");
    let (_, behind) = rest.split_once("<!-- end of fields").expect("where they end");
    let wanted = format!("{before}schema -->\n{}\n<!-- end of fields{behind}", fields.join("\n"));
    if std::env::var_os("VMTEST_BLESS").is_some() {
        std::fs::write(&file, &wanted).expect("written");
    }
    let page = std::fs::read_to_string(&file).expect("the page");
    assert!(
        page == wanted,
        "docs/reports.md lags behind the schema: VMTEST_BLESS=1 cargo test -p xtask --test it schema"
    );
}
