// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text of strangers in a record: a guest, a patch or a path may have a say in it, and a record may be somebody else's.

use serde_json::Value;

use crate::run::RunResult;
use vmtest_base::sanitize::{line, lines};

/// Fields that may have several lines.
const SEVERAL_LINES: [&str; 6] = ["reason", "log", "what", "expected", "seen", "why"];
/// Fields whose values may.
const TABLES: [&str; 3] = ["tools", "features", "profile"];

/// Cleans every text of a record, also of fields that are added later. Names of subtests that were asked for hold nothing
/// of the kind, so no cell takes the place of another.
///
/// # Panics
/// Where the model cannot be written as JSON and read back, which a test would have found.
pub fn clean(run: &mut RunResult) {
    let mut value = serde_json::to_value(&*run).expect("a record is JSON");
    walk(&mut value, false);
    *run = serde_json::from_value(value).expect("a clean text is a text");
}

fn walk(value: &mut Value, several_lines: bool) {
    match value {
        Value::String(text) => *text = if several_lines { lines(text) } else { line(text) },
        Value::Array(values) => values.iter_mut().for_each(|value| walk(value, several_lines)),
        Value::Object(fields) => {
            for (name, value) in std::mem::take(fields) {
                let table = TABLES.contains(&name.as_str());
                let mut value = value;
                walk(&mut value, several_lines || table || SEVERAL_LINES.contains(&name.as_str()));
                fields.insert(line(&name), value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => (),
    }
}
