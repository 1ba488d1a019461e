// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sanitizes untrusted text in a record: a guest, a patch or a path may have influenced it, and the record
//! may come from another machine.

use serde_json::Value;

use crate::run::RunResult;
use vmtest_base::sanitize::{line, lines};

/// Fields that may contain line breaks.
const SEVERAL_LINES: [&str; 6] = ["reason", "log", "what", "expected", "seen", "why"];
/// Tables whose values may contain line breaks.
const TABLES: [&str; 3] = ["tools", "features", "profile"];

/// Sanitizes every text of a record, including fields that are added later. Names of planned subtests never
/// contain such characters, so no cell takes the place of another.
///
/// # Panics
/// If the model cannot be converted to JSON and back, which a test would have found.
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
