// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be said of a patch without booting it: style, new warnings, changed types, functions and user
//! interfaces. Each module reads one thing from one state of a tree, or compares two.

pub mod btf;
pub mod checkpatch;
pub mod functions;
pub mod uapi;
pub mod warnings;

/// A change of one name between two states: what it was, and what it is. `None`: it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub name: String,
    pub was: Option<String>,
    pub is: Option<String>,
}

/// The names of two tables that differ, sorted.
pub(crate) fn changed(
    before: &std::collections::BTreeMap<String, String>,
    after: &std::collections::BTreeMap<String, String>,
) -> Vec<Changed> {
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let differs = |name: &&String| before.get(*name) != after.get(*name);
    let change = |name: &String| Changed {
        name: name.clone(),
        was: before.get(name).cloned(),
        is: after.get(name).cloned(),
    };
    names.into_iter().filter(differs).map(change).collect()
}
