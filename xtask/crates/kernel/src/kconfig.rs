// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small reader of the kernel's Kconfig files for x86, good enough to explain *why* an option was lost. It
//! never decides a configuration: `make` does, and this explains the result afterwards.
//!
//! Macros (`$(cc-option,..)`) have no known value here, and unknown conditions are left out of explanations.

mod explain;
mod expr;

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::path::Path;

use crate::kconfig::expr::{Expr, Token, dependency, parse_expr, split_if, tokens};

use vmtest_base::beneath;

/// Limit for nested `source` lines, to end a loop.
const MAX_DEPTH: usize = 32;
/// Limit for following a chain of unmet dependencies.
const MAX_EXPLAIN_DEPTH: usize = 4;
/// Most selecting options that are listed; some symbols have hundreds.
const MAX_SELECTORS: usize = 6;

/// One `config` block. An option may have several.
#[derive(Debug, Clone, Default)]
struct Definition {
    depends: Vec<Expr>,
    /// Conditions of its prompt; `None` without a prompt.
    prompt: Option<Vec<Expr>>,
    has_default: bool,
    choice: Option<usize>,
    ranges: Vec<(String, String, Option<Expr>)>,
}

#[derive(Debug, Clone, Default)]
struct Symbol {
    /// `bool`, `tristate`, `int` ..; empty if no definition gives a type.
    kind: String,
    definitions: Vec<Definition>,
    /// Options that select it, with their conditions.
    selected_by: Vec<(String, Option<Expr>)>,
}

/// The options of a tree.
#[derive(Debug, Clone, Default)]
pub struct Kconfig {
    symbols: BTreeMap<String, Symbol>,
    choices: usize,
}

/// A block that encloses a line.
#[derive(Debug, Clone)]
enum Block {
    If(Expr),
    Menu { depends: Vec<Expr>, visible: Vec<Expr> },
    Choice { id: usize, depends: Vec<Expr> },
}

/// What the following attributes belong to.
enum Entry {
    None,
    Config(String),
    /// The innermost block.
    Block,
}

impl Kconfig {
    /// Reads the files of a tree, starting at its top `Kconfig`. Files that cannot be read are skipped, so
    /// their options would be reported as unknown. The caller checks [`Kconfig::is_empty`] first.
    pub fn read(tree: &Path) -> Kconfig {
        let mut kconfig = Kconfig::default();
        kconfig.source(tree, "Kconfig", &mut Vec::new(), 0);
        kconfig
    }

    /// Whether nothing was found, as in a directory that is not a kernel tree.
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    fn source(&mut self, tree: &Path, file: &str, blocks: &mut Vec<Block>, depth: usize) {
        // Fails for a path with `..` or through a symlink, so an untrusted tree cannot reach other files.
        let Ok(text) = beneath::read_text(tree, file) else { return };
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
                "help" | "---help---" => skip_help(&mut lines),
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
                    let definition = Definition::inside(blocks);
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
                    // `imply` is only a suggestion.
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
}

impl Definition {
    /// A definition with the dependencies of the blocks around it.
    fn inside(blocks: &[Block]) -> Definition {
        let mut definition = Definition::default();
        for block in blocks {
            match block {
                Block::If(condition) => definition.depends.push(condition.clone()),
                Block::Menu { depends, .. } => definition.depends.extend_from_slice(depends),
                Block::Choice { id, depends } => {
                    definition.choice = Some(*id);
                    definition.depends.extend_from_slice(depends);
                }
            }
        }
        definition
    }
}

/// Skips a help text: the lines indented at least as far as its first one.
fn skip_help<'a>(lines: &mut Peekable<impl Iterator<Item = &'a str>>) {
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

#[cfg(test)]
mod tests;
