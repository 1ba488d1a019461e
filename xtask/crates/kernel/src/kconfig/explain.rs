// SPDX-License-Identifier: MIT OR Apache-2.0
//! Explains in a few lines why an option does not have the requested value.

use std::collections::BTreeSet;

use crate::kconfig::expr::{Expr, conjuncts, leaves};
use crate::kconfig::{Definition, Kconfig, MAX_EXPLAIN_DEPTH, MAX_SELECTORS, Symbol};
use vmtest_base::dotconfig::DotConfig;

impl Kconfig {
    /// Why `option` does not have the value `wanted` in `dotconfig`; one line per cause, the nearest first.
    pub fn explain(&self, option: &str, wanted: &str, dotconfig: &DotConfig) -> Vec<String> {
        let defined = self.symbols.get(option).filter(|symbol| !symbol.definitions.is_empty());
        let Some(symbol) = defined else {
            let near = self.near(option);
            return vec![if near.is_empty() {
                format!("there is no option {option} in this tree")
            } else {
                format!("there is no option {option} in this tree; did you mean {}?", near.join(" or "))
            }];
        };
        if wanted == "n" {
            return self.explain_set(option, symbol, dotconfig);
        }
        if wanted == "m" && symbol.kind == "bool" {
            return vec![format!("{option} is a bool: it cannot be a module")];
        }
        if wanted == "m" && self.value("MODULES", dotconfig) == "n" {
            return vec!["MODULES is n: nothing can be a module".to_owned()];
        }
        let least = if wanted == "m" { 1 } else { 2 };
        let mut unmet = Unmet { kconfig: self, dotconfig, least, seen: BTreeSet::new(), lines: Vec::new() };
        unmet.add(option, symbol);
        if !unmet.lines.is_empty() {
            return unmet.lines;
        }
        if let Some(id) = symbol.definitions.iter().find_map(|definition| definition.choice) {
            let chosen = self.chosen_of(id, dotconfig).join(", ");
            return vec![format!("{option} is one of a choice: {chosen} was chosen")];
        }
        self.explain_met(option, symbol, dotconfig)
    }

    /// Members of a choice that are on.
    fn chosen_of(&self, id: usize, dotconfig: &DotConfig) -> Vec<&str> {
        let is_member = |symbol: &Symbol| symbol.definitions.iter().any(|d| d.choice == Some(id));
        let members = self
            .symbols
            .iter()
            .filter(|(name, symbol)| is_member(symbol) && self.value(name, dotconfig) == "y");
        members.map(|(name, _)| name.as_str()).collect()
    }

    /// Why an option is off although its dependencies are met.
    fn explain_met(&self, option: &str, symbol: &Symbol, dotconfig: &DotConfig) -> Vec<String> {
        let mut lines = Vec::new();
        let prompts: Vec<&Vec<Expr>> = symbol.definitions.iter().filter_map(|d| d.prompt.as_ref()).collect();
        if prompts.is_empty() {
            lines.push(self.only_selected(option, symbol, dotconfig));
        } else if let Some(hidden) = prompts
            .iter()
            .all(|conditions| conditions.iter().any(|c| c.eval(self, dotconfig) == Some(0)))
            .then(|| prompts.iter().flat_map(|conditions| conditions.iter()))
        {
            for condition in hidden.filter(|c| c.eval(self, dotconfig) == Some(0)) {
                let leaves = self.leaves_text(condition, dotconfig);
                lines.push(format!("{option} has a prompt only if {condition}: {leaves}"));
            }
        }
        for (from, to, condition) in symbol.definitions.iter().flat_map(|definition| &definition.ranges) {
            if condition.as_ref().is_none_or(|c| c.eval(self, dotconfig) != Some(0)) {
                // The bounds may be options themselves.
                let end = |text: &str| dotconfig.get(text).cloned().unwrap_or_else(|| text.to_owned());
                lines.push(format!("{option} has the range {} to {}", end(from), end(to)));
                break;
            }
        }
        if lines.is_empty() {
            lines.push(format!(
                "the dependencies of {option} are met; is the value valid for its type, {}?",
                symbol.kind
            ));
        }
        lines
    }

    /// Why an option is on that should be off.
    fn explain_set(&self, option: &str, symbol: &Symbol, dotconfig: &DotConfig) -> Vec<String> {
        let on = |(by, condition): &&(String, Option<Expr>)| {
            self.value(by, dotconfig) != "n"
                && condition.as_ref().is_none_or(|c| c.eval(self, dotconfig) != Some(0))
        };
        let selecting: Vec<&str> = symbol.selected_by.iter().filter(on).map(|(by, _)| by.as_str()).collect();
        if !selecting.is_empty() {
            return vec![format!("{option} is selected by {}", some_of(&selecting))];
        }
        if symbol.definitions.iter().any(|definition| definition.choice.is_some()) {
            return vec![format!("{option} is one of a choice, and no other member was requested")];
        }
        if symbol.definitions.iter().all(|definition| definition.prompt.is_none()) {
            return vec![format!("{option} has no prompt: its default decides")];
        }
        vec![format!("{option} has no prompt with this configuration: its default decides")]
    }

    fn only_selected(&self, option: &str, symbol: &Symbol, dotconfig: &DotConfig) -> String {
        let by: Vec<String> = symbol
            .selected_by
            .iter()
            .map(|(by, condition)| match condition {
                Some(condition) => format!("{by} ({}) if {condition}", self.value(by, dotconfig)),
                None => format!("{by} ({})", self.value(by, dotconfig)),
            })
            .collect();
        let by: Vec<&str> = by.iter().map(String::as_str).collect();
        let default = symbol.definitions.iter().any(|definition| definition.has_default);
        match (by.is_empty(), default) {
            (false, _) => format!("{option} has no prompt: it can only be selected, by {}", some_of(&by)),
            (true, true) => format!("{option} has no prompt: its default decides"),
            (true, false) => format!("{option} has no prompt, and nothing selects it"),
        }
    }

    /// "it is n", "both are n", "A is y, B is n".
    fn leaves_text(&self, expr: &Expr, dotconfig: &DotConfig) -> String {
        let mut leaves = leaves(expr);
        leaves.dedup();
        let value = |name: &str| match self.value(name, dotconfig) {
            "" => "empty".to_owned(),
            value => value.to_owned(),
        };
        let values: BTreeSet<String> = leaves.iter().map(|(name, _)| value(name)).collect();
        match (leaves.len(), values.first(), values.len()) {
            // `depends on m`
            (0, ..) => "it can only be a module".to_owned(),
            (1, Some(only), _) if matches!(expr, Expr::Symbol(_)) => format!("it is {only}"),
            (2, Some(same), 1) => format!("both are {same}"),
            (3.., Some(same), 1) => format!("all are {same}"),
            _ => {
                let each: Vec<String> =
                    leaves.iter().map(|(name, _)| format!("{name} is {}", value(name))).collect();
                each.join(", ")
            }
        }
    }

    pub(super) fn value<'a>(&self, name: &str, dotconfig: &'a DotConfig) -> &'a str {
        match dotconfig.get(name) {
            Some(value) => value.trim_matches('"'),
            None => match self.symbols.get(name).map(|symbol| symbol.kind.as_str()) {
                Some("int" | "hex" | "string") => "",
                _ => "n",
            },
        }
    }

    /// The options with the names most similar to a misspelled one.
    fn near(&self, option: &str) -> Vec<&str> {
        let limit = if option.len() < 5 { 1 } else { 2 };
        let defined = self.symbols.iter().filter(|(_, symbol)| !symbol.definitions.is_empty());
        let mut near: Vec<(usize, &str)> = defined
            .filter(|(name, _)| name.len().abs_diff(option.len()) <= limit)
            .map(|(name, _)| (distance(option, name), name.as_str()))
            .filter(|(distance, _)| *distance <= limit)
            .collect();
        near.sort_unstable();
        let best = near.first().map_or(0, |(distance, _)| *distance);
        near.into_iter().filter(|(distance, _)| *distance == best).take(3).map(|(_, name)| name).collect()
    }
}

/// The unmet dependencies of an option.
struct Unmet<'a> {
    kconfig: &'a Kconfig,
    dotconfig: &'a DotConfig,
    /// The lowest value that counts as met.
    least: u8,
    seen: BTreeSet<String>,
    lines: Vec<String>,
}

impl Unmet<'_> {
    /// Adds a line for each unmet dependency, then for those of these dependencies.
    fn add(&mut self, option: &str, symbol: &Symbol) {
        let (kconfig, dotconfig, least) = (self.kconfig, self.dotconfig, self.least);
        if !self.seen.insert(option.to_owned()) || self.seen.len() > MAX_EXPLAIN_DEPTH * 4 {
            return;
        }
        let failing = |definition: &Definition| -> Vec<Expr> {
            let parts = definition.depends.iter().flat_map(conjuncts);
            parts
                .filter(|part| part.eval(kconfig, dotconfig).is_some_and(|value| value < least))
                .cloned()
                .collect()
        };
        // It is enough if the dependencies of one definition are met.
        let Some(parts) = symbol.definitions.iter().map(failing).min_by_key(Vec::len) else { return };
        let mut deeper = Vec::new();
        for part in &parts {
            let line = format!("{option} needs {part}: {}", kconfig.leaves_text(part, dotconfig));
            if !self.lines.contains(&line) {
                self.lines.push(line);
            }
            deeper.extend(leaves(part).into_iter().filter(|(_, positive)| *positive).map(|(name, _)| name));
        }
        for name in deeper {
            if let Some(symbol) =
                kconfig.symbols.get(&name).filter(|_| kconfig.value(&name, dotconfig) == "n")
            {
                if symbol.definitions.is_empty() {
                    continue;
                }
                let before = self.lines.len();
                self.add(&name, symbol);
                let promptless = symbol.definitions.iter().all(|definition| definition.prompt.is_none());
                if self.lines.len() == before && promptless {
                    self.lines.push(kconfig.only_selected(&name, symbol, dotconfig));
                }
            }
        }
    }
}

fn some_of(names: &[&str]) -> String {
    match names.len().checked_sub(MAX_SELECTORS) {
        Some(more @ 1..) => format!("{} or {more} others", names[..MAX_SELECTORS].join(", ")),
        _ => names.join(", "),
    }
}

/// Edit distance between two names; swapping two adjacent characters counts as one edit.
pub(super) fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=other.len() {
            rows[i][j] = match (i, j) {
                (0, far) | (far, 0) => far,
                _ => {
                    let substitute = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
                    let mut least = substitute.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                    if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                        least = least.min(rows[i - 2][j - 2] + 1);
                    }
                    least
                }
            };
        }
    }
    rows[one.len()][other.len()]
}
