// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kernel's build ID: a hash of its contents made by the linker. It is among the ELF notes of a `vmlinux`,
//! and the running kernel exposes the same notes in `/sys/kernel/notes`, so the two can be compared.
//!
//! How it could be wrong: changing bytes after linking does not change the ID, and a kernel can report a
//! false one. It identifies the kernel that runs; it does not prove that the kernel is good.

/// `NT_GNU_BUILD_ID`
const TYPE: u32 = 3;
const NAME: &[u8] = b"GNU\0";
/// A hash has 8 to 64 bytes (8 with `--build-id=fast`); any other length is rejected.
const LENGTHS: std::ops::RangeInclusive<usize> = 8..=64;

/// The build ID in a sequence of ELF notes (little endian, 4-byte aligned), in hexadecimal; `None` without a
/// build ID, or if an earlier note is malformed.
pub fn of_notes(notes: &[u8]) -> Option<String> {
    let mut rest = notes;
    loop {
        let word = |at: usize| Some(u32::from_le_bytes(rest.get(at..at + 4)?.try_into().ok()?));
        let (name, id, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let id_at = 12_usize.checked_add(name.checked_next_multiple_of(4)?)?;
        let end = id_at.checked_add(id)?;
        let found = rest.get(id_at..end)?;
        if kind == TYPE && rest.get(12..12 + name) == Some(NAME) && LENGTHS.contains(&id) {
            return Some(found.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        // The last note may be unpadded.
        rest = rest.get(end.checked_next_multiple_of(4)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [name.len() as u32, content.len() as u32, kind] {
            bytes.extend(word.to_le_bytes());
        }
        for part in [name, content] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn it_is_found_among_others() {
        let id: Vec<u8> = (0xf0..=0xff).chain(0..4).collect();
        let xen = note(b"Xen\0", 18, &[1, 2, 3, 4, 5, 6, 7, 8]);
        let other = note(b"Linux\0", 3, &[9; 20]);
        let ours = note(b"GNU\0", 3, &id);
        let hex = Some("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff00010203".to_owned());
        for notes in [&ours[..], &[&xen[..], &other, &ours].concat(), &[&ours[..], &xen].concat()] {
            assert_eq!(of_notes(notes), hex);
        }
        assert_eq!(of_notes(&[&xen[..], &other].concat()), None);
        // Without padding at the end, as allowed for the last one.
        let odd = note(b"GNU\0", 3, &[7; 9]);
        assert_eq!(of_notes(&odd[..odd.len() - 3]), Some("07".repeat(9)));
    }

    #[test]
    fn what_is_cut_or_makes_no_sense_is_none() {
        let whole = [note(b"Xen\0", 18, &[1; 8]), note(b"GNU\0", 3, &[5; 20])].concat();
        for cut in 0..whole.len() {
            assert_eq!(of_notes(&whole[..cut]), None, "cut at {cut}");
        }
        assert_eq!(of_notes(&note(b"GNU\0", 3, &[])), None, "empty");
        assert_eq!(of_notes(&note(b"GNU\0", 3, &[1; 65])), None, "too long");
        assert_eq!(of_notes(&[0xff; 64]), None);
        assert_eq!(of_notes(&[0; 64]), None);
    }
}
