// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `.config` of a kernel.

use std::collections::BTreeMap;

/// The options of a `.config`, without `CONFIG_`. An option that is not set is missing or `n`.
pub type DotConfig = BTreeMap<String, String>;

pub fn parse(text: &str) -> DotConfig {
    let unset = |line: &str| {
        let option = line.strip_prefix("# CONFIG_")?.strip_suffix(" is not set")?;
        Some((option.to_owned(), "n".to_owned()))
    };
    let set = |line: &str| {
        let (option, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
        Some((option.to_owned(), value.trim_end().to_owned()))
    };
    text.lines().filter_map(|line| set(line).or_else(|| unset(line))).collect()
}
