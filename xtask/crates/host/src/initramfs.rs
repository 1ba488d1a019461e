// SPDX-License-Identifier: MIT OR Apache-2.0
//! The initramfs of a direct boot.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::sandbox::Tools;
use crate::store::CacheKind;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::key::{Key, hash_file};

/// Path of bpftool in an initramfs.
pub const BPFTOOL_ENTRY: &str = "bin/bpftool";

/// An initramfs with the runner as `/init`, and optionally bpftool and a shell.
///
/// # Errors
/// Class `Host` if it cannot be written, or if a shell is requested but busybox is missing.
pub fn initramfs(
    ctx: &Context,
    tools: &Tools,
    runner: &Path,
    bpftool: Option<&Path>,
    with_shell: bool,
) -> Result<PathBuf> {
    let busybox = if with_shell { Some(busybox(tools)?) } else { None };
    let mut key = Key::of("initramfs 1").field("runner", hash_file(runner)?);
    if let Some(bpftool) = bpftool {
        key = key.field("bpftool", hash_file(bpftool)?);
    }
    if let Some(busybox) = &busybox {
        key = key.field("busybox", hash_file(busybox)?);
    }
    let (dir, _) = ctx.cache.get_or_make(&ctx.bus, CacheKind::Initramfs, key.finish().as_str(), |dir| {
        let path = dir.join("initramfs.cpio");
        let mut archive = Vec::new();
        for name in ["dev", "proc", "sys", "run", "tmp", "bin"] {
            entry(&mut archive, name, 0o040_755, &[]);
        }
        entry(&mut archive, "init", 0o100_755, &fs::read(runner).on("cannot read", runner)?);
        if let Some(bpftool) = bpftool {
            let content = fs::read(bpftool).on("cannot read", bpftool)?;
            entry(&mut archive, BPFTOOL_ENTRY, 0o100_755, &content);
        }
        if let Some(busybox) = &busybox {
            entry(&mut archive, "bin/busybox", 0o100_755, &fs::read(busybox).on("cannot read", busybox)?);
            entry(&mut archive, "bin/sh", 0o120_777, b"busybox");
        }
        entry(&mut archive, "TRAILER!!!", 0, &[]);
        fs::File::create(&path).and_then(|mut file| file.write_all(&archive)).on("cannot write", &path)
    })?;
    Ok(dir)
}

fn busybox(tools: &Tools) -> Result<PathBuf> {
    let path = match tools {
        Tools::Image(root) => root.dir.join("bin/busybox"),
        Tools::Host(_) => PathBuf::from("/bin/busybox"),
    };
    if path.exists() {
        return Ok(path);
    }
    Err(Error::host(format!("a shell in a direct boot needs {}", path.display()))
        .next("install busybox-static, or leave out --toolchain host"))
}

/// One entry in the kernel's own initramfs format, "newc"
/// (Documentation/driver-api/early-userspace/buffer-format.rst): 13 fields of 8 hex digits, the name and the
/// content, the latter two padded to 4 bytes. Device nodes are not needed: devtmpfs provides them.
fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) {
    let number = archive.len() as u32 / 4 + 1;
    let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
    let fields = [number, mode, 0, 0, links, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(content);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    while archive.len() % 4 != 0 {
        archive.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_say_their_size() {
        let mut archive = Vec::new();
        entry(&mut archive, "init", 0o100_755, b"hello");
        assert_eq!(&archive[..14], b"07070100000001");
        assert_eq!(&archive[14..22], b"000081ed", "a regular file that may be executed");
        assert_eq!(&archive[54..62], b"00000005", "size of the content");
        assert_eq!(&archive[94..102], b"00000005", "length of the name with its NUL");
        assert_eq!(&archive[110..115], b"init\0");
        assert_eq!(&archive[116..121], b"hello", "the content begins at a multiple of 4");
        assert_eq!(archive.len() % 4, 0);
    }
}
