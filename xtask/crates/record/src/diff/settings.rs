// SPDX-License-Identifier: MIT OR Apache-2.0
//! The settings of two runs: tools, kernels, guests, and every option of their configurations. Differences
//! are reported but never affect the verdict.

use std::collections::{BTreeMap, BTreeSet};

use crate::diff::{Setting, Side};

/// Maps kind, column and name to the value.
type Settings = BTreeMap<(&'static str, String, String), String>;

/// The settings that differ, for columns that both runs have.
pub(super) fn differing(old: Side<'_>, new: Side<'_>, rename: &dyn Fn(&str) -> String) -> Vec<Setting> {
    let (before, after) = (settings_of(old, rename), settings_of(new, &str::to_owned));
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    // A column that exists in only one run cannot be compared.
    let columns = |settings: &Settings| settings.keys().map(|(_, of, _)| of.clone()).collect::<BTreeSet<_>>();
    let (before_has, after_has) = (columns(&before), columns(&after));
    let differing = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    let known = differing.filter(|(_, of, _)| before_has.contains(of) && after_has.contains(of));
    // A newer runner reads more features of a guest than an older one, which says nothing about the kernel.
    let asked = |key: &&(&'static str, String, String)| {
        key.0 != "guest" || (before.contains_key(*key) && after.contains_key(*key))
    };
    known
        .filter(asked)
        .map(|key| Setting {
            kind: key.0,
            of: key.1.clone(),
            name: key.2.clone(),
            was: before.get(key).cloned().unwrap_or_default(),
            is: after.get(key).cloned().unwrap_or_default(),
        })
        .collect()
}

fn settings_of(side: Side<'_>, rename: &dyn Fn(&str) -> String) -> Settings {
    let mut found = Settings::new();
    let run = side.run;
    for (tool, version) in &run.tools {
        found.insert(("tool", String::new(), tool.clone()), version.clone());
    }
    for kernel in &run.kernels {
        let of = rename(&kernel.id);
        let series = kernel.series.len().to_string() + " patches";
        for (name, value) in [
            ("id", &kernel.id),
            ("release", &kernel.release),
            ("toolchain", &kernel.toolchain),
            ("series", &series),
        ] {
            found.insert(("kernel", of.clone(), name.to_owned()), value.clone());
        }
    }
    for boot in run.boots.iter().filter(|boot| boot.attempt.is_none()) {
        let slash = if boot.variant.is_empty() { "" } else { "/" };
        let of = format!("{}{slash}{} ({}, {})", rename(&boot.kernel), boot.variant, boot.boot, boot.suite);
        let cpus = boot.cpus.to_string();
        let thread = boot.tcg_thread.clone().unwrap_or_default();
        for (name, value) in [("accel", &boot.accel), ("cpus", &cpus), ("tcg_thread", &thread)] {
            found.insert(("guest", of.clone(), name.to_owned()), value.clone());
        }
        for (name, value) in boot.features.iter().chain(&boot.profile) {
            found.insert(("guest", of.clone(), name.clone()), value.clone());
        }
    }
    for ((kernel, variant), options) in side.options {
        let of = format!("{}/{variant}", rename(kernel));
        // Record the column even if no option is set in it. "Not set" and "missing" are the same.
        found.insert(("option", of.clone(), String::new()), String::new());
        for (option, value) in options.iter().filter(|(_, value)| *value != "n") {
            found.insert(("option", of.clone(), format!("CONFIG_{option}")), value.clone());
        }
    }
    found
}
