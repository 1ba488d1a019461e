// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers a few questions about the kernel's BTF in a single pass over it.
//!
//! Not done with libbpf, whose parser builds a whole type graph, which under emulation takes longer than a
//! subtest. Not a general parser: it only finds enumerators, functions and members of structs by name.

use std::collections::BTreeMap;

/// A kernel function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Func {
    pub id: u32,
    /// BTF ID of its prototype.
    pub proto: u32,
    pub params: usize,
}

/// The names that were found.
#[derive(Debug, Default, PartialEq)]
pub struct Found {
    /// Enumerators by name, of any enum.
    pub values: BTreeMap<String, i64>,
    pub funcs: BTreeMap<String, Func>,
    /// Whether a struct has a member, by `struct.member`; a struct that the kernel does not have is left out.
    pub members: BTreeMap<String, bool>,
}

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_ENUM: u32 = 6;
const KIND_FUNC: u32 = 12;
const KIND_ENUM64: u32 = 19;

/// What is searched for, by name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    pub values: &'a [&'a str],
    pub funcs: &'a [&'a str],
    /// Structs, each with a member of its own: not one of an anonymous struct or union inside it.
    pub members: &'a [(&'a str, &'a str)],
}

/// Finds enumerators, functions and members of structs. An error says what is wrong with the BTF.
pub fn find(btf: &[u8], wanted: &Wanted) -> Result<Found, String> {
    let (types, strings) = sections(btf)?;
    let mut found = Found::default();
    let mut protos = Vec::new(); // (function, id of its prototype): may come before or after it
    let mut offsets = vec![0]; // of each type by id; 0 is void and has none
    let mut at = 0;
    while at < types.len() {
        let word = |n: usize| read(types, at + 4 * n).ok_or("BTF: types cut short");
        let (name, info, size_or_type) = (word(0)?, word(1)?, word(2)?);
        let (kind, vlen) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let extra =
            extra_words(kind, vlen).ok_or_else(|| format!("BTF: kind {kind} is new to this reader"))?;
        match kind {
            KIND_FUNC => {
                if let Some(name) = wanted.funcs.iter().find(|wanted| is_named(strings, name, wanted)) {
                    protos.push((*name, offsets.len() as u32, size_or_type));
                }
            }
            KIND_STRUCT => {
                let ours = wanted.members.iter().filter(|(owner, _)| is_named(strings, name, owner));
                for (owner, member) in ours {
                    let mut has = false;
                    for entry in 0..vlen {
                        has |= is_named(strings, word(3 + entry * MEMBER_WORDS)?, member);
                    }
                    *found.members.entry(format!("{owner}.{member}")).or_default() |= has;
                }
            }
            KIND_ENUM | KIND_ENUM64 => {
                let words = extra / vlen.max(1);
                for entry in 0..vlen {
                    let name = word(3 + entry * words)?;
                    if let Some(name) = wanted.values.iter().find(|wanted| is_named(strings, name, wanted)) {
                        let low = word(4 + entry * words)?;
                        let value = match kind {
                            KIND_ENUM => i64::from(low as i32),
                            _ => i64::from(word(5 + entry * words)?) << 32 | i64::from(low),
                        };
                        found.values.insert((*name).to_owned(), value);
                    }
                }
            }
            _ => {}
        }
        offsets.push(at);
        at += 4 * (3 + extra);
    }
    for (name, id, proto) in protos {
        let at = offsets.get(proto as usize).ok_or("BTF: a function without a prototype")?;
        let info = read(types, at + 4).ok_or("BTF: types cut short")?;
        found.funcs.insert(name.to_owned(), Func { id, proto, params: (info & 0xffff) as usize });
    }
    Ok(found)
}

/// The sections of types and of strings.
fn sections(btf: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let header = |at: usize| read(btf, at).ok_or("BTF: header cut short");
    if header(0)? & 0xffff != u32::from(MAGIC) {
        return Err("BTF: wrong magic".into());
    }
    let base = header(4)? as usize;
    let section = |at: usize| -> Result<&[u8], String> {
        let start = base + header(at)? as usize;
        let end = start + header(at + 4)? as usize;
        btf.get(start..end).ok_or_else(|| "BTF: section outside of the file".into())
    };
    Ok((section(8)?, section(16)?))
}

/// IDs of all functions whose names are wanted, in their order.
pub fn functions(btf: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<u32>, String> {
    let (types, strings) = sections(btf)?;
    let (mut found, mut at) = (Vec::new(), 0);
    for id in 1.. {
        if at >= types.len() {
            break;
        }
        let word = |n: usize| read(types, at + 4 * n).ok_or("BTF: types cut short");
        let (name, info) = (word(0)?, word(1)?);
        let (kind, vlen) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let extra =
            extra_words(kind, vlen).ok_or_else(|| format!("BTF: kind {kind} is new to this reader"))?;
        let name = strings.get(name as usize..).unwrap_or_default();
        if kind == KIND_FUNC && wanted(name.split(|&byte| byte == 0).next().unwrap_or_default()) {
            found.push(id);
        }
        at += 4 * (3 + extra);
    }
    Ok(found)
}

/// Name, type and offset.
const MEMBER_WORDS: usize = 3;

/// Number of words after the three that every type has; `None` for a kind of a newer format.
fn extra_words(kind: u32, vlen: usize) -> Option<usize> {
    Some(match kind {
        2 | 7..=12 | 16 | 18 => 0, // ptr, fwd, typedef, volatile, const, restrict, func, float, type_tag
        1 | 14 | 17 => 1,          // int, var, decl_tag
        3 => 3,                    // array
        KIND_STRUCT | 5 => MEMBER_WORDS * vlen, // struct, union
        15 | KIND_ENUM64 => 3 * vlen, // datasec, enum64
        KIND_ENUM | 13 => 2 * vlen, // enum, func_proto
        _ => return None,
    })
}

fn read(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().expect("a range of four bytes")))
}

fn is_named(strings: &[u8], offset: u32, name: &str) -> bool {
    let here = strings.get(offset as usize..).unwrap_or_default();
    here.starts_with(name.as_bytes()) && here.get(name.len()) == Some(&0)
}

#[cfg(test)]
mod tests;
