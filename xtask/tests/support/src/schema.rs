// SPDX-License-Identifier: MIT OR Apache-2.0
//! `schema/run.schema.json`: validates records, and removes the fields that differ between two identical
//! runs.

use serde_json::Value;

pub fn schema() -> Value {
    let file = crate::checkout().join("schema/run.schema.json");
    serde_json::from_str(&std::fs::read_to_string(file).expect("the schema")).expect("JSON")
}

/// Asserts that a record matches the schema.
#[track_caller]
pub fn is_valid(run: &Value) {
    let validator = jsonschema::validator_for(&schema()).expect("a schema");
    let errors: Vec<String> =
        validator.iter_errors(run).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{}\n{run:#}", errors.join("\n"));
}

/// A record without the fields that the schema marks as volatile.
pub fn without_volatile(run: &Value) -> Value {
    let schema = schema();
    let mut run = run.clone();
    strip(&mut run, &schema, &schema);
    run
}

fn strip(value: &mut Value, part: &Value, schema: &Value) {
    let part = match part["$ref"].as_str().and_then(|name| name.strip_prefix("#")) {
        Some(pointer) => schema.pointer(pointer).expect("what is named is there"),
        None => part,
    };
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| part["properties"][name]["volatile"] != true);
            for (name, field) in fields {
                strip(field, &part["properties"][name], schema);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| strip(item, &part["items"], schema)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}
