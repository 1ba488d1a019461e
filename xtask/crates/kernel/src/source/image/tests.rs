// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

fn bzimage(release: &str) -> Vec<u8> {
    let mut head = vec![0_u8; 0x400];
    head[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    head[0x202..0x206].copy_from_slice(b"HdrS");
    head[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    let text = format!("{release} (a@b) #1 SMP\0");
    head[0x300..0x300 + text.len()].copy_from_slice(text.as_bytes());
    head
}

#[test]
fn formats_are_told_by_their_magic() {
    assert_eq!(format_of(&bzimage("6.18.15")), Some(Format::BzImage));
    let mut elf = vec![0_u8; 64];
    elf[..5].copy_from_slice(b"\x7fELF\x02");
    elf[18] = 62;
    assert_eq!(format_of(&elf), Some(Format::Vmlinux));
    elf[18] = 183;
    assert_eq!(format_of(&elf), None, "arm64");
    assert_eq!(format_of(b"#!/bin/sh\n"), None);
    assert_eq!(format_of(b""), None);
}

#[test]
fn the_release_is_read_from_either_format() {
    assert_eq!(
        bzimage_release(&bzimage("7.0.13+deb13-cloud-amd64")).as_deref(),
        Some("7.0.13+deb13-cloud-amd64")
    );
    let cut = &bzimage("6.18.15")[..0x250];
    assert_eq!(bzimage_release(cut), None);
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("vmlinux");
    let mut elf = vec![0_u8; (1 << 20) - 10];
    elf[..5].copy_from_slice(b"\x7fELF\x02");
    elf[18] = 62;
    fs::write(&path, &elf).expect("written");
    assert!(release_of(&path).expect_err("no banner").to_string().contains("is not a kernel"));
    elf.extend_from_slice(b"Linux version 7.3.4-x (me@here) #1");
    fs::write(&path, &elf).expect("written");
    assert_eq!(release_of(&path).expect("a kernel").as_deref(), Some("7.3.4-x"));
}
