// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small reader of the kernel's Kconfig files for x86, good enough to say *why* an option did not survive. It never
//! decides a configuration: `make` does, and this explains its result afterwards.
//!
//! Macros (`$(cc-option,..)`) are unknown here, and an unknown condition is left out of every explanation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use crate::confined;

/// The options of a `.config`, without `CONFIG_`; those that are not set are absent or `n`.
pub type DotConfig = BTreeMap<String, String>;

/// Sources inside sources inside .. : a loop ends here.
const MAX_DEPTH: usize = 32;
/// How far a chain of unmet dependencies is followed.
const MAX_EXPLAIN_DEPTH: usize = 4;
/// Selecting options that are named; some have hundreds.
const MAX_SELECTORS: usize = 6;

/// A dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expr {
    Symbol(String),
    Literal(String),
    /// A macro: nobody here knows.
    Unknown,
    Not(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Compare(Box<Expr>, &'static str, Box<Expr>),
}

impl fmt::Display for Expr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |parts: &[Expr], with: &str| {
            let parts: Vec<String> = parts.iter().map(Expr::to_string).collect();
            format!("({})", parts.join(with))
        };
        match self {
            Expr::Symbol(name) => out.write_str(name),
            Expr::Literal(text) => write!(out, "{text}"),
            Expr::Unknown => out.write_str("$(..)"),
            Expr::Not(inner) => write!(out, "!{inner}"),
            Expr::And(parts) => out.write_str(&joined(parts, " && ")),
            Expr::Or(parts) => out.write_str(&joined(parts, " || ")),
            Expr::Compare(left, operator, right) => write!(out, "({left} {operator} {right})"),
        }
    }
}

/// One `config` block; an option may have several.
#[derive(Debug, Clone, Default)]
struct Definition {
    depends: Vec<Expr>,
    /// Conditions under which it is asked for; `None` without a prompt.
    prompt: Option<Vec<Expr>>,
    has_default: bool,
    choice: Option<usize>,
    ranges: Vec<(String, String, Option<Expr>)>,
}

#[derive(Debug, Clone, Default)]
struct Symbol {
    /// `bool`, `tristate`, `int` ..; empty where no definition says.
    kind: String,
    definitions: Vec<Definition>,
    /// Who selects it, and when.
    selected_by: Vec<(String, Option<Expr>)>,
}

/// The options of a tree.
#[derive(Debug, Clone, Default)]
pub struct Kconfig {
    symbols: BTreeMap<String, Symbol>,
    choices: usize,
}

/// What encloses a line.
#[derive(Debug, Clone)]
enum Block {
    If(Expr),
    Menu { depends: Vec<Expr>, visible: Vec<Expr> },
    Choice { id: usize, depends: Vec<Expr> },
}

/// What attributes belong to.
enum Entry {
    None,
    Config(String),
    /// The innermost block.
    Block,
}

impl Kconfig {
    /// Reads the files of a tree, from its top `Kconfig` on. Files that cannot be read are left out: what they hold
    /// is then "no such option", so the caller checks [`Kconfig::is_empty`].
    pub fn read(tree: &Path) -> Kconfig {
        let mut kconfig = Kconfig::default();
        kconfig.source(tree, "Kconfig", &mut Vec::new(), 0);
        kconfig
    }

    /// Whether nothing was found: no kernel tree.
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    fn source(&mut self, tree: &Path, file: &str, blocks: &mut Vec<Block>, depth: usize) {
        // What a stranger's tree names with `..` or a link is no file of it.
        let Ok(text) = confined::read_text(tree, file) else { return };
        if depth < MAX_DEPTH {
            self.parse(tree, file, &text, blocks, depth);
        }
    }

    fn parse(&mut self, tree: &Path, file: &str, text: &str, blocks: &mut Vec<Block>, depth: usize) {
        let mut entry = Entry::None;
        let mut lines = text.lines().peekable();
        while let Some(first) = lines.next() {
            let mut line = first.to_owned();
            while line.ends_with('\\') {
                line.pop();
                line.push_str(lines.next().unwrap_or_default());
            }
            let words = tokens(&line);
            let Some(keyword) = words.first().and_then(Token::word) else { continue };
            let rest = &words[1..];
            match keyword {
                "help" | "---help---" => {
                    let deep = |line: &str| -> Option<usize> {
                        let mut column = 0;
                        for c in line.chars() {
                            match c {
                                ' ' => column += 1,
                                '\t' => column = (column / 8 + 1) * 8,
                                _ => return Some(column),
                            }
                        }
                        None
                    };
                    let mut text_at = None;
                    while let Some(next) = lines.peek() {
                        match (deep(next), text_at) {
                            (None, _) => (),
                            (Some(0), None) => break,
                            (Some(at), None) => text_at = Some(at),
                            (Some(at), Some(least)) if at < least => break,
                            _ => (),
                        }
                        lines.next();
                    }
                }
                "source" | "rsource" | "osource" | "orsource" => {
                    entry = Entry::None;
                    let Some(path) = rest.first().and_then(Token::text) else { continue };
                    let path = path.replace("$(SRCARCH)", "x86").replace("$(HEADER_ARCH)", "x86");
                    let relative = keyword.contains("rs");
                    let dir = Path::new(file).parent().filter(|_| relative).unwrap_or(Path::new(""));
                    self.source(tree, &dir.join(path).to_string_lossy(), blocks, depth + 1);
                }
                "config" | "menuconfig" => {
                    let Some(name) = rest.first().and_then(Token::word) else { continue };
                    let mut definition = Definition::default();
                    for block in blocks.iter() {
                        match block {
                            Block::If(condition) => definition.depends.push(condition.clone()),
                            Block::Menu { depends, .. } => definition.depends.extend_from_slice(depends),
                            Block::Choice { id, depends } => {
                                definition.choice = Some(*id);
                                definition.depends.extend_from_slice(depends);
                            }
                        }
                    }
                    self.symbols.entry(name.to_owned()).or_default().definitions.push(definition);
                    entry = Entry::Config(name.to_owned());
                }
                "if" => {
                    blocks.push(Block::If(parse_expr(rest)));
                    entry = Entry::None;
                }
                "menu" => {
                    blocks.push(Block::Menu { depends: Vec::new(), visible: Vec::new() });
                    entry = Entry::Block;
                }
                "choice" => {
                    self.choices += 1;
                    blocks.push(Block::Choice { id: self.choices, depends: Vec::new() });
                    entry = Entry::Block;
                }
                "endif" | "endmenu" | "endchoice" => {
                    blocks.pop();
                    entry = Entry::None;
                }
                "comment" | "mainmenu" => entry = Entry::None,
                _ => self.attribute(keyword, rest, &entry, blocks),
            }
        }
    }

    fn attribute(&mut self, keyword: &str, rest: &[Token], entry: &Entry, blocks: &mut [Block]) {
        let (value, condition) = split_if(rest);
        match entry {
            Entry::None => (),
            Entry::Block => match (blocks.last_mut(), keyword) {
                (Some(Block::Menu { depends, .. } | Block::Choice { depends, .. }), "depends") => {
                    depends.push(dependency(value, condition));
                }
                (Some(Block::Menu { visible, .. }), "visible") => visible.extend(condition),
                _ => (),
            },
            Entry::Config(name) => {
                if let "select" | "imply" = keyword {
                    // `imply` only suggests.
                    if let (Some(target), "select") = (value.first().and_then(Token::word), keyword) {
                        let target = self.symbols.entry(target.to_owned()).or_default();
                        target.selected_by.push((name.clone(), condition));
                    }
                    return;
                }
                let menus = blocks.iter().filter_map(|block| match block {
                    Block::Menu { visible, .. } => Some(visible.iter().cloned()),
                    _ => None,
                });
                let asked_when = || menus.flatten().chain(condition.clone()).collect();
                let Some(symbol) = self.symbols.get_mut(name) else { return };
                let Some(definition) = symbol.definitions.last_mut() else { return };
                match keyword {
                    "bool" | "tristate" | "int" | "hex" | "string" => {
                        symbol.kind = keyword.to_owned();
                        if !value.is_empty() {
                            definition.prompt = Some(asked_when());
                        }
                    }
                    "def_bool" | "def_tristate" => {
                        symbol.kind = keyword.trim_start_matches("def_").to_owned();
                        definition.has_default = true;
                    }
                    "prompt" => definition.prompt = Some(asked_when()),
                    "default" => definition.has_default = true,
                    "depends" => definition.depends.push(dependency(value, condition)),
                    "range" => {
                        if let [from, to] = value {
                            let text = |token: &Token| token.text().unwrap_or_default().to_owned();
                            definition.ranges.push((text(from), text(to), condition));
                        }
                    }
                    _ => (),
                }
            }
        }
    }

    /// Why `option`, wanted as `wanted`, is not that in `dotconfig`; lines for a reader, the nearest cause first.
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
        let mut lines = Vec::new();
        self.unmet(
            option,
            symbol,
            if wanted == "m" { 1 } else { 2 },
            dotconfig,
            &mut BTreeSet::new(),
            &mut lines,
        );
        if !lines.is_empty() {
            return lines;
        }
        if let Some(id) = symbol.definitions.iter().find_map(|definition| definition.choice) {
            let members = self.symbols.iter().filter(|(name, other)| {
                other.definitions.iter().any(|d| d.choice == Some(id)) && self.value(name, dotconfig) == "y"
            });
            let chosen: Vec<&str> = members.map(|(name, _)| name.as_str()).collect();
            return vec![format!("{option} is one of a choice: {} was chosen", chosen.join(", "))];
        }
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
                lines.push(format!("{option} is asked for only if {condition}: {leaves}"));
            }
        }
        for (from, to, condition) in symbol.definitions.iter().flat_map(|definition| &definition.ranges) {
            if condition.as_ref().is_none_or(|c| c.eval(self, dotconfig) != Some(0)) {
                // The ends may be options themselves.
                let end = |text: &str| dotconfig.get(text).cloned().unwrap_or_else(|| text.to_owned());
                lines.push(format!("{option} has the range {} to {}", end(from), end(to)));
                break;
            }
        }
        if lines.is_empty() {
            lines.push(format!(
                "the dependencies of {option} hold; is the value one that its type, {}, can take?",
                symbol.kind
            ));
        }
        lines
    }

    /// Why an option that should be off is on.
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
            return vec![format!("{option} is one of a choice, and no other member was asked for")];
        }
        if symbol.definitions.iter().all(|definition| definition.prompt.is_none()) {
            return vec![format!("{option} has no prompt: its default decides")];
        }
        vec![format!("{option} is not asked for with this configuration: its default decides")]
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

    /// Adds a line for each dependency that does not hold, then for what that depends on.
    fn unmet(
        &self,
        option: &str,
        symbol: &Symbol,
        least: u8,
        dotconfig: &DotConfig,
        seen: &mut BTreeSet<String>,
        lines: &mut Vec<String>,
    ) {
        if !seen.insert(option.to_owned()) || seen.len() > MAX_EXPLAIN_DEPTH * 4 {
            return;
        }
        let failing = |definition: &Definition| -> Vec<Expr> {
            let parts = definition.depends.iter().flat_map(conjuncts);
            parts
                .filter(|part| part.eval(self, dotconfig).is_some_and(|value| value < least))
                .cloned()
                .collect()
        };
        // One definition whose dependencies hold is enough.
        let Some(parts) = symbol.definitions.iter().map(failing).min_by_key(Vec::len) else { return };
        let mut deeper = Vec::new();
        for part in &parts {
            let line = format!("{option} needs {part}: {}", self.leaves_text(part, dotconfig));
            if !lines.contains(&line) {
                lines.push(line);
            }
            deeper.extend(leaves(part).into_iter().filter(|(_, positive)| *positive).map(|(name, _)| name));
        }
        for name in deeper {
            if let Some(symbol) = self.symbols.get(&name).filter(|_| self.value(&name, dotconfig) == "n") {
                if symbol.definitions.is_empty() {
                    continue;
                }
                let before = lines.len();
                self.unmet(&name, symbol, least, dotconfig, seen, lines);
                let promptless = symbol.definitions.iter().all(|definition| definition.prompt.is_none());
                if lines.len() == before && promptless {
                    lines.push(self.only_selected(&name, symbol, dotconfig));
                }
            }
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

    fn value<'a>(&self, name: &str, dotconfig: &'a DotConfig) -> &'a str {
        match dotconfig.get(name) {
            Some(value) => value.trim_matches('"'),
            None => match self.symbols.get(name).map(|symbol| symbol.kind.as_str()) {
                Some("int" | "hex" | "string") => "",
                _ => "n",
            },
        }
    }

    /// The options whose names are nearest to a misspelt one.
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

fn some_of(names: &[&str]) -> String {
    match names.len().checked_sub(MAX_SELECTORS) {
        Some(more @ 1..) => format!("{} or {more} others", names[..MAX_SELECTORS].join(", ")),
        _ => names.join(", "),
    }
}

/// Edits between two names, two swapped neighbours being one.
fn distance(one: &str, other: &str) -> usize {
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

fn conjuncts(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::And(parts) => parts.iter().flat_map(conjuncts).collect(),
        other => vec![other],
    }
}

/// The options in an expression; the flag says whether they are wanted on.
fn leaves(expr: &Expr) -> Vec<(String, bool)> {
    match expr {
        Expr::Symbol(name) => vec![(name.clone(), true)],
        Expr::Literal(_) | Expr::Unknown => Vec::new(),
        Expr::Not(inner) => leaves(inner).into_iter().map(|(name, positive)| (name, !positive)).collect(),
        Expr::And(parts) | Expr::Or(parts) => parts.iter().flat_map(leaves).collect(),
        // Which side would have to change, nobody can say: no deeper.
        Expr::Compare(left, _, right) => {
            leaves(left).into_iter().chain(leaves(right)).map(|(name, _)| (name, false)).collect()
        }
    }
}

impl Expr {
    /// 0 n, 1 m, 2 y; `None` where a macro decides.
    fn eval(&self, kconfig: &Kconfig, dotconfig: &DotConfig) -> Option<u8> {
        let tristate = |text: &str| match text {
            "y" => 2,
            "m" => 1,
            _ => 0,
        };
        match self {
            Expr::Symbol(name) => Some(tristate(kconfig.value(name, dotconfig))),
            Expr::Literal(text) => Some(tristate(text)),
            Expr::Unknown => None,
            Expr::Not(inner) => inner.eval(kconfig, dotconfig).map(|value| 2 - value),
            // What is unknown is left out ..
            Expr::And(parts) => parts.iter().filter_map(|part| part.eval(kconfig, dotconfig)).min(),
            // .. and may be what holds.
            Expr::Or(parts) => {
                let values: Option<Vec<u8>> =
                    parts.iter().map(|part| part.eval(kconfig, dotconfig)).collect();
                values.and_then(|values| values.into_iter().max())
            }
            Expr::Compare(left, operator, right) => {
                let side = |expr: &Expr| match expr {
                    // A name that is no option stands for itself.
                    Expr::Symbol(name)
                        if kconfig.symbols.contains_key(name) || dotconfig.contains_key(name) =>
                    {
                        Some(kconfig.value(name, dotconfig).to_owned())
                    }
                    Expr::Symbol(text) | Expr::Literal(text) => Some(text.clone()),
                    _ => None,
                };
                let (left, right) = (side(left)?, side(right)?);
                let order = match (number(&left), number(&right)) {
                    (Some(left), Some(right)) => left.cmp(&right),
                    _ => left.cmp(&right),
                };
                let holds = match *operator {
                    "=" => order.is_eq(),
                    "!=" => order.is_ne(),
                    "<" => order.is_lt(),
                    "<=" => order.is_le(),
                    ">" => order.is_gt(),
                    _ => order.is_ge(),
                };
                Some(if holds { 2 } else { 0 })
            }
        }
    }
}

fn number(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Macro,
    Operator(&'static str),
}

impl Token {
    fn word(&self) -> Option<&str> {
        match self {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Token::Word(text) | Token::Quoted(text) => Some(text),
            _ => None,
        }
    }
}

const OPERATORS: [&str; 11] = ["&&", "||", "!=", "<=", ">=", "=", "<", ">", "!", "(", ")"];

fn tokens(line: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let taken = if first == '#' {
            break;
        } else if first == '"' || first == '\'' {
            let mut text = String::new();
            let mut length = 1;
            let mut escaped = false;
            for c in rest[1..].chars() {
                length += c.len_utf8();
                match c {
                    _ if escaped => {
                        text.push(c);
                        escaped = false;
                    }
                    '\\' => escaped = true,
                    _ if c == first => break,
                    _ => text.push(c),
                }
            }
            found.push(Token::Quoted(text));
            length
        } else if rest.starts_with("$(") {
            let mut open = 0_usize;
            let end = rest.char_indices().find_map(|(at, c)| {
                match c {
                    '(' => open += 1,
                    ')' => open -= 1,
                    _ => (),
                }
                (c == ')' && open == 0).then_some(at + 1)
            });
            found.push(Token::Macro);
            end.unwrap_or(rest.len())
        } else if let Some(operator) = OPERATORS.iter().find(|operator| rest.starts_with(**operator)) {
            found.push(Token::Operator(operator));
            operator.len()
        } else {
            let is_word = |c: char| c.is_alphanumeric() || "_-./".contains(c);
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            if end > 0 {
                found.push(Token::Word(rest[..end].to_owned()));
            }
            end.max(first.len_utf8())
        };
        rest = rest[taken..].trim_start();
    }
    found
}

/// `X if Y` taken apart.
fn split_if(words: &[Token]) -> (&[Token], Option<Expr>) {
    match words.iter().position(|word| word.word() == Some("if")) {
        Some(at) => (&words[..at], Some(parse_expr(&words[at + 1..]))),
        None => (words, None),
    }
}

/// `depends on X`, and since 7.0 `depends on X if Y`.
fn dependency(value: &[Token], condition: Option<Expr>) -> Expr {
    let value = value.strip_prefix(&[Token::Word("on".to_owned())]).unwrap_or(value);
    let expr = parse_expr(value);
    match condition {
        Some(condition) => Expr::Or(vec![expr, Expr::Not(Box::new(condition))]),
        None => expr,
    }
}

/// What cannot be read is unknown.
fn parse_expr(words: &[Token]) -> Expr {
    let mut rest = words;
    parse_or(&mut rest).filter(|_| rest.is_empty()).unwrap_or(Expr::Unknown)
}

fn parse_or(rest: &mut &[Token]) -> Option<Expr> {
    parse_list(rest, "||", parse_and, Expr::Or)
}

fn parse_and(rest: &mut &[Token]) -> Option<Expr> {
    parse_list(rest, "&&", parse_unary, Expr::And)
}

fn parse_list(
    rest: &mut &[Token],
    operator: &'static str,
    part: fn(&mut &[Token]) -> Option<Expr>,
    join: fn(Vec<Expr>) -> Expr,
) -> Option<Expr> {
    let mut parts = vec![part(rest)?];
    while rest.first() == Some(&Token::Operator(operator)) {
        *rest = &rest[1..];
        parts.push(part(rest)?);
    }
    if parts.len() > 1 { Some(join(parts)) } else { parts.pop() }
}

fn parse_unary(rest: &mut &[Token]) -> Option<Expr> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    let value = match first {
        Token::Operator("!") => return Some(Expr::Not(Box::new(parse_unary(rest)?))),
        Token::Operator("(") => {
            let inner = parse_or(rest)?;
            let (close, after) = rest.split_first()?;
            *rest = after;
            return (*close == Token::Operator(")")).then_some(inner);
        }
        Token::Operator(_) => return None,
        Token::Macro => Expr::Unknown,
        Token::Quoted(text) => Expr::Literal(text.clone()),
        Token::Word(word) => named(word),
    };
    if let Some(Token::Operator(operator @ ("=" | "!=" | "<" | ">" | "<=" | ">="))) = rest.first() {
        *rest = &rest[1..];
        let right = match rest.split_first()? {
            (Token::Word(word), after) => (named(word), after),
            (Token::Quoted(text), after) => (Expr::Literal(text.clone()), after),
            (Token::Macro, after) => (Expr::Unknown, after),
            _ => return None,
        };
        *rest = right.1;
        return Some(Expr::Compare(Box::new(value), operator, Box::new(right.0)));
    }
    Some(value)
}

/// An option, or a constant: y, m, n, a number.
fn named(word: &str) -> Expr {
    let constant =
        matches!(word, "y" | "m" | "n") || word.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    if constant { Expr::Literal(word.to_owned()) } else { Expr::Symbol(word.to_owned()) }
}

#[cfg(test)]
mod tests;
