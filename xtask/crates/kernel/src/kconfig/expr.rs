// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kconfig expressions: tokens, parsing, and evaluation for a configuration.

use std::fmt;

use crate::kconfig::Kconfig;
use vmtest_base::dotconfig::DotConfig;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expr {
    Symbol(String),
    Literal(String),
    /// A macro, whose value is unknown here.
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

pub(super) fn conjuncts(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::And(parts) => parts.iter().flat_map(conjuncts).collect(),
        other => vec![other],
    }
}

/// The options in an expression; the flag says whether it wants them on.
pub(super) fn leaves(expr: &Expr) -> Vec<(String, bool)> {
    match expr {
        Expr::Symbol(name) => vec![(name.clone(), true)],
        Expr::Literal(_) | Expr::Unknown => Vec::new(),
        Expr::Not(inner) => leaves(inner).into_iter().map(|(name, positive)| (name, !positive)).collect(),
        Expr::And(parts) | Expr::Or(parts) => parts.iter().flat_map(leaves).collect(),
        // It is unclear which side would have to change, so do not go deeper.
        Expr::Compare(left, _, right) => {
            leaves(left).into_iter().chain(leaves(right)).map(|(name, _)| (name, false)).collect()
        }
    }
}

impl Expr {
    /// 0 for n, 1 for m, 2 for y; `None` if it depends on a macro.
    pub(super) fn eval(&self, kconfig: &Kconfig, dotconfig: &DotConfig) -> Option<u8> {
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
            // Ignore unknown parts ..
            Expr::And(parts) => parts.iter().filter_map(|part| part.eval(kconfig, dotconfig)).min(),
            // .. but here one of them might be true.
            Expr::Or(parts) => {
                let values: Option<Vec<u8>> =
                    parts.iter().map(|part| part.eval(kconfig, dotconfig)).collect();
                values.and_then(|values| values.into_iter().max())
            }
            Expr::Compare(left, operator, right) => {
                let side = |expr: &Expr| match expr {
                    // A name that is not an option is a constant.
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
pub(super) enum Token {
    Word(String),
    Quoted(String),
    Macro,
    Operator(&'static str),
}

impl Token {
    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Token::Word(text) | Token::Quoted(text) => Some(text),
            _ => None,
        }
    }
}

const OPERATORS: [&str; 11] = ["&&", "||", "!=", "<=", ">=", "=", "<", ">", "!", "(", ")"];

pub(super) fn tokens(line: &str) -> Vec<Token> {
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

/// Splits `X if Y`.
pub(super) fn split_if(words: &[Token]) -> (&[Token], Option<Expr>) {
    match words.iter().position(|word| word.word() == Some("if")) {
        Some(at) => (&words[..at], Some(parse_expr(&words[at + 1..]))),
        None => (words, None),
    }
}

/// `depends on X`, and since 7.0 `depends on X if Y`.
pub(super) fn dependency(value: &[Token], condition: Option<Expr>) -> Expr {
    let value = value.strip_prefix(&[Token::Word("on".to_owned())]).unwrap_or(value);
    let expr = parse_expr(value);
    match condition {
        Some(condition) => Expr::Or(vec![expr, Expr::Not(Box::new(condition))]),
        None => expr,
    }
}

/// An expression that cannot be parsed is unknown.
pub(super) fn parse_expr(words: &[Token]) -> Expr {
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

/// An option or a constant: y, m, n, a number.
fn named(word: &str) -> Expr {
    let constant =
        matches!(word, "y" | "m" | "n") || word.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    if constant { Expr::Literal(word.to_owned()) } else { Expr::Symbol(word.to_owned()) }
}
