// SPDX-License-Identifier: MIT OR Apache-2.0
//! Functions whose machine code changed between two kernels. A function that only refers to something that
//! moved is not changed: where two versions differ, the bytes are read as an address, and if both name the
//! same place (a symbol and an offset, or the same text), the difference does not count.
//!
//! How it could be wrong: two constants that happen to be such addresses in both kernels count as the same, and
//! so do two tables without a name in one section.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use object::read::{File, Object, ObjectSection, ObjectSymbol};
use object::{SectionKind, SymbolKind};

use vmtest_base::error::{Class, Error, IoContext, Result};

/// Largest vmlinux that is read; one with debug information has about 150 MB.
const LARGEST: u64 = 4 << 30;
/// Longest text that two addresses are compared by.
const TEXT: usize = 256;

/// The code and the data of a vmlinux.
#[derive(Debug)]
pub struct Code {
    sections: Vec<Loaded>,
    /// Address and size of each function, by name. Further ones of the same name have a number.
    functions: BTreeMap<String, (u64, u64)>,
    /// Address, name and size of each symbol, sorted.
    symbols: Vec<(u64, String, u64)>,
}

#[derive(Debug)]
struct Loaded {
    name: String,
    address: u64,
    bytes: Vec<u8>,
}

impl Code {
    /// Reads it.
    ///
    /// # Errors
    /// Class `KernelBuild` if the file is not an ELF file with functions.
    pub fn of(vmlinux: &Path) -> Result<Code> {
        let size = vmlinux.metadata().on("cannot look at", vmlinux)?.len();
        let refused = |why: String| {
            Error::new(Class::KernelBuild, format!("cannot read {}", vmlinux.display())).why(why)
        };
        if size > LARGEST {
            return Err(refused(format!("it has {size} bytes")));
        }
        let bytes = std::fs::read(vmlinux).on("cannot read", vmlinux)?;
        let file = File::parse(&bytes[..]).map_err(|error| refused(error.to_string()))?;
        let code = Code::parse(&file).map_err(|error| refused(error.to_string()))?;
        if code.functions.is_empty() {
            return Err(refused("it has no symbols of functions".to_owned()));
        }
        Ok(code)
    }

    fn parse(file: &File<'_>) -> object::Result<Code> {
        let loaded = |section: &object::read::Section<'_, '_>| {
            matches!(
                section.kind(),
                SectionKind::Text
                    | SectionKind::Data
                    | SectionKind::ReadOnlyData
                    | SectionKind::ReadOnlyString
            )
        };
        // A section that cannot be read would be the same in both kernels.
        let read = |section: object::read::Section<'_, '_>| {
            let (name, bytes) = (section.name()?.to_owned(), section.data()?.to_vec());
            Ok(Loaded { name, address: section.address(), bytes })
        };
        let sections: object::Result<Vec<Loaded>> = file.sections().filter(loaded).map(read).collect();
        let mut functions = BTreeMap::new();
        let mut symbols = Vec::new();
        let mut names: HashMap<String, usize> = HashMap::new();
        for symbol in file.symbols() {
            let Ok(name) = symbol.name() else { continue };
            if symbol.is_undefined() || name.is_empty() || symbol.kind() == SymbolKind::File {
                continue;
            }
            symbols.push((symbol.address(), name.to_owned(), symbol.size()));
            if symbol.kind() == SymbolKind::Text && symbol.size() > 0 {
                // Static functions of two files can have one name; the linker keeps the order of files.
                let count = names.entry(name.to_owned()).and_modify(|count| *count += 1).or_insert(1);
                let name = if *count > 1 { format!("{name} ({count})") } else { name.to_owned() };
                functions.insert(name, (symbol.address(), symbol.size()));
            }
        }
        symbols.sort();
        Ok(Code { sections: sections?, functions, symbols })
    }

    fn section(&self, address: u64) -> Option<&Loaded> {
        let holds = |section: &&Loaded| {
            address >= section.address && address - section.address < section.bytes.len() as u64
        };
        self.sections.iter().find(holds)
    }

    fn at(&self, address: u64, length: usize) -> Option<&[u8]> {
        let section = self.section(address)?;
        let from = usize::try_from(address - section.address).ok()?;
        section.bytes.get(from..from.checked_add(length)?)
    }

    /// The symbol that an address is in, and its distance from the start of it; `None` outside of all, as for
    /// a text without a name.
    fn name(&self, address: u64) -> Option<(&str, u64)> {
        let after = self.symbols.partition_point(|(start, ..)| *start <= address);
        let start = self.symbols.get(after.checked_sub(1)?)?.0;
        // An address can have several names: take the first in the alphabet, which is the same in both kernels.
        let first = self.symbols.partition_point(|(other, ..)| *other < start);
        let inside = |(_, _, size): &&(u64, String, u64)| address - start < (*size).max(1);
        let (_, name, _) = self.symbols[first..after].iter().find(inside)?;
        Some((name, address - start))
    }

    /// The zero-terminated text at an address.
    fn text(&self, address: u64) -> Option<&[u8]> {
        let section = self.section(address)?;
        let rest = &section.bytes[usize::try_from(address - section.address).ok()?..];
        let text = &rest[..rest.len().min(TEXT)];
        let end = text.iter().position(|byte| *byte == 0)?;
        (end > 1 && text[..end].iter().all(|byte| (9..127).contains(byte))).then(|| &text[..end])
    }

    /// Whether everything that is loaded is the same, apart from the build ID and the debug information.
    pub fn is_same(&self, other: &Code) -> bool {
        let loaded = |code: &Code| -> HashMap<String, (u64, Vec<u8>)> {
            let of_code = code.sections.iter().filter(|section| !section.name.starts_with(".notes"));
            of_code.map(|one| (one.name.clone(), (one.address, one.bytes.clone()))).collect()
        };
        let mine = loaded(self);
        !mine.is_empty() && mine == loaded(other)
    }

    /// Names of functions that were added, removed or changed.
    pub fn changes(&self, after: &Code) -> Changes {
        let mut changes = Changes::default();
        for (name, place) in &after.functions {
            match self.functions.get(name) {
                None => changes.added.push(name.clone()),
                Some(before) if !self.is_like(*before, after, *place) => changes.changed.push(name.clone()),
                Some(_) => (),
            }
        }
        let gone = self.functions.keys().filter(|name| !after.functions.contains_key(*name));
        changes.removed.extend(gone.cloned());
        changes
    }

    fn is_like(&self, (from, size): (u64, u64), after: &Code, (to, other_size): (u64, u64)) -> bool {
        let Ok(length) = usize::try_from(size) else { return false };
        let (Some(was), Some(is)) = (self.at(from, length), after.at(to, length)) else { return false };
        if size != other_size {
            return false;
        }
        let mut at = 0;
        while at < length {
            if was[at] == is[at] {
                at += 1;
                continue;
            }
            // The difference may begin in any byte of an address.
            let starts = (at.saturating_sub(3)..=at).rev();
            let Some(end) = starts.filter(|start| start + 4 <= length).find_map(|start| {
                let explained = self.same_address((from, was), after, (to, is), start);
                explained.then_some(start + 4)
            }) else {
                return false;
            };
            at = end.max(at + 1);
        }
        true
    }

    /// Whether the four bytes at `start` mean the same place in both: as a distance from the end of the
    /// instruction, which may have more bytes after them, or as an address.
    fn same_address(
        &self,
        (from, was): (u64, &[u8]),
        after: &Code,
        (to, is): (u64, &[u8]),
        start: usize,
    ) -> bool {
        let word = |bytes: &[u8]| {
            bytes.get(start..start + 4).and_then(|four| Some(i32::from_le_bytes(four.try_into().ok()?)))
        };
        let (Some(mine), Some(theirs)) = (word(was), word(is)) else { return false };
        let same = |one: u64, other: u64| match (self.name(one), after.name(other)) {
            (Some(one), Some(other)) => one == other,
            (None, None) => match (self.text(one), after.text(other)) {
                (Some(one), Some(other)) => one == other,
                // A table of the compiler, without a name.
                (None, None) => {
                    self.section(one).zip(after.section(other)).is_some_and(|(a, b)| a.name == b.name)
                }
                _ => false,
            },
            _ => false,
        };
        let relative = |base: u64, distance: i32, more: u64| {
            base.wrapping_add(start as u64 + 4 + more).wrapping_add_signed(distance.into())
        };
        // Addresses of the kernel are the upper half of 32 bits, with the sign extended.
        let absolute = |word: i32| 0_u64.wrapping_add_signed(word.into());
        [0, 1, 2, 4].into_iter().any(|more| same(relative(from, mine, more), relative(to, theirs, more)))
            || same(absolute(mine), absolute(theirs))
    }
}

/// Names of functions that differ, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub changed: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two functions and a text: `f` calls `g` and loads the address of the text.
    fn code(shift: u64, add: u8, text: &str) -> Code {
        let base = 0xffff_ffff_8100_0000_u64;
        let (f, g, data) = (base, base + 0x100 + shift, base + 0x1000 + shift);
        let mut bytes = vec![0x90; 0x400];
        let call = u32::try_from((g - (f + 5)) & 0xffff_ffff).expect("32 bits").to_le_bytes();
        bytes[0] = 0xe8;
        bytes[1..5].copy_from_slice(&call);
        // mov $text,%rdi
        bytes[5..8].copy_from_slice(&[0x48, 0xc7, 0xc7]);
        bytes[8..12].copy_from_slice(&u32::try_from(data & 0xffff_ffff).expect("32 bits").to_le_bytes());
        // add $N,%eax
        bytes[12..15].copy_from_slice(&[0x83, 0xc0, add]);
        let text = [text.as_bytes(), b"\0"].concat();
        Code {
            sections: vec![
                Loaded { name: ".text".into(), address: base, bytes },
                Loaded { name: ".rodata".into(), address: data, bytes: text },
            ],
            functions: [("f".to_owned(), (f, 16)), ("g".to_owned(), (g, 16))].into(),
            symbols: vec![(f, "f".into(), 16), (g, "g".into(), 16)],
        }
    }

    #[test]
    fn what_only_moved_is_not_changed() {
        let (before, after) = (code(0, 1, "hello"), code(0x40, 1, "hello"));
        assert_eq!(before.changes(&after), Changes::default());
        assert!(!before.is_same(&after) && before.is_same(&before));
    }

    #[test]
    fn another_constant_another_text_and_another_callee_are_changes() {
        let before = code(0, 1, "hello");
        assert_eq!(before.changes(&code(0x40, 2, "hello")).changed, ["f"]);
        assert_eq!(before.changes(&code(0x40, 1, "other")).changed, ["f"]);
        let mut callee = code(0x40, 1, "hello");
        callee.symbols[1].1 = "h".into();
        assert_eq!(before.changes(&callee).changed, ["f"]);
        let mut grown = code(0, 1, "hello");
        grown.functions.insert("g".into(), (0xffff_ffff_8100_0100, 20));
        grown.functions.insert("new".into(), (0xffff_ffff_8100_0200, 4));
        let changes = before.changes(&grown);
        assert_eq!((changes.changed, changes.added), (vec!["g".to_owned()], vec!["new".to_owned()]));
        assert_eq!(grown.changes(&before).removed, ["new"]);
    }
}
