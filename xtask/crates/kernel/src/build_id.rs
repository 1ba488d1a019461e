// SPDX-License-Identifier: MIT OR Apache-2.0
//! The build ID of a kernel file, to compare with that of the running guest kernel: `uname -r` is the same
//! for all series on one version.
//!
//! A `vmlinux` has it in an ELF note. In a bzImage it is compressed with everything else, so it is not read
//! there. An untrusted build may leave any file, so this reads only headers and notes, all of bounded size.
//! (An ELF crate would read more, and trust the sizes stated in the file.)

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use vmtest_protocol::build_id::of_notes;

use vmtest_base::error::{IoContext, Result};

const EHDR: usize = 64;
const PHDR: usize = 56;
const PT_NOTE: u32 = 4;
/// Most program headers that are read; a kernel has six.
const MAX_HEADERS: usize = 128;
/// Most bytes of notes; a kernel has a few hundred.
const MAX_NOTES: usize = 64 * 1024;

/// The build ID of an x86_64 ELF file in hexadecimal; `None` if it has none or is not such a file.
pub fn of_file(path: &Path) -> Result<Option<String>> {
    let file = File::open(path).on("cannot open", path)?;
    Ok(of_elf(|offset, length| {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset).ok().map(|()| bytes)
    }))
}

/// The same for any source that returns bytes at an offset.
fn of_elf(read: impl Fn(u64, usize) -> Option<Vec<u8>>) -> Option<String> {
    let header = read(0, EHDR)?;
    // ELF, 64-bit, little endian.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let half = |bytes: &[u8], at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let word = |bytes: &[u8], at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let long = |bytes: &[u8], at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (table, size, count) = (long(&header, 32)?, half(&header, 54)?, usize::from(half(&header, 56)?));
    if usize::from(size) != PHDR || count > MAX_HEADERS {
        return None;
    }
    let headers = read(table, PHDR * count)?;
    headers.chunks_exact(PHDR).filter(|header| word(header, 0) == Some(PT_NOTE)).find_map(|header| {
        let (offset, length) = (long(header, 8)?, usize::try_from(long(header, 32)?).ok()?);
        of_notes(&read(offset, length.min(MAX_NOTES))?)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An ELF file with these notes and nothing else.
    pub(crate) fn elf(notes: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(EHDR + PHDR, 0);
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(18, &62_u16.to_le_bytes());
        put(32, &(EHDR as u64).to_le_bytes());
        put(54, &(PHDR as u16).to_le_bytes());
        put(56, &1_u16.to_le_bytes());
        put(EHDR, &PT_NOTE.to_le_bytes());
        put(EHDR + 8, &((EHDR + PHDR) as u64).to_le_bytes());
        put(EHDR + 32, &(notes.len() as u64).to_le_bytes());
        bytes.extend(notes);
        bytes
    }

    fn note(id: &[u8]) -> Vec<u8> {
        let words = [4, id.len() as u32, 3].map(u32::to_le_bytes).concat();
        [&words[..], b"GNU\0", id].concat()
    }

    fn of(bytes: &[u8]) -> Option<String> {
        of_elf(|offset, length| {
            let offset = usize::try_from(offset).ok()?;
            bytes.get(offset..offset.checked_add(length)?).map(<[u8]>::to_vec)
        })
    }

    #[test]
    fn it_is_read_from_the_notes_of_an_elf_file() {
        let whole = elf(&note(&[0xab; 20]));
        assert_eq!(of(&whole), Some("ab".repeat(20)));
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("vmlinux");
        std::fs::write(&path, &whole).expect("written");
        assert_eq!(of_file(&path).expect("read"), Some("ab".repeat(20)));
        assert!(of_file(&dir.path().join("none")).is_err());
        for cut in 0..whole.len() {
            assert_eq!(of(&whole[..cut]), None, "cut at {cut}");
        }
        for other in [&b"HdrS"[..], b"", b"#!/bin/sh\n", &elf(&[])] {
            assert_eq!(of(other), None);
        }
    }

    #[test]
    fn sizes_that_a_file_states_are_not_trusted() {
        let whole = elf(&note(&[0xab; 20]));
        let with = |at: usize, value: &[u8]| {
            let mut bytes = whole.clone();
            bytes[at..at + value.len()].copy_from_slice(value);
            // No read is longer than the limits.
            of_elf(|offset, length| {
                assert!(length <= MAX_NOTES.max(PHDR * MAX_HEADERS), "{length} bytes");
                let offset = usize::try_from(offset).ok()?;
                bytes.get(offset..offset.checked_add(length)?).map(<[u8]>::to_vec)
            })
        };
        assert_eq!(with(32, &u64::MAX.to_le_bytes()), None, "table");
        assert_eq!(with(56, &u16::MAX.to_le_bytes()), None, "count");
        assert_eq!(with(54, &0_u16.to_le_bytes()), None, "size");
        assert_eq!(with(EHDR + 8, &u64::MAX.to_le_bytes()), None, "place of the notes");
        assert_eq!(with(EHDR + 32, &u64::MAX.to_le_bytes()), None, "length of the notes");
    }
}
