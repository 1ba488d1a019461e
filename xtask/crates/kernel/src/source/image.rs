// SPDX-License-Identifier: MIT OR Apache-2.0
//! `image:FILE`: a prebuilt bzImage or vmlinux. It is copied, since its owner may rebuild it while it boots.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::bytes::Regex;

use crate::source::tarball::{remembered_hash, same_content};
use crate::source::{Choice, Prebuilt, Resolved, short_name};
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::key::{Key, hash_file};
use vmtest_host::context::Context;
use vmtest_host::store::CacheKind;

/// Format of a kernel file, according to its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Compressed, with setup code in front.
    BzImage,
    /// ELF for x86_64.
    Vmlinux,
}

/// Enough for the boot sector and the setup code, which contains the version string.
const HEAD: u64 = 64 * 1024;

fn format_of(head: &[u8]) -> Option<Format> {
    let word = |at: usize| Some(u16::from_le_bytes([*head.get(at)?, *head.get(at + 1)?]));
    if head.get(0x202..0x206) == Some(b"HdrS") && word(0x1fe) == Some(0xaa55) {
        return Some(Format::BzImage);
    }
    const ELFCLASS64: u8 = 2;
    const EM_X86_64: u16 = 62;
    (head.starts_with(b"\x7fELF") && head.get(4) == Some(&ELFCLASS64) && word(18) == Some(EM_X86_64))
        .then_some(Format::Vmlinux)
}

/// First word of the version string that the header of a bzImage points to.
fn bzimage_release(head: &[u8]) -> Option<String> {
    let pointer = usize::from(u16::from_le_bytes([*head.get(0x20e)?, *head.get(0x20f)?]));
    let text = head.get(0x200 + pointer..).filter(|_| pointer != 0)?;
    let end = text.iter().position(|byte| *byte == 0 || *byte == b' ')?;
    let release = std::str::from_utf8(&text[..end]).ok()?;
    release.starts_with(|c: char| c.is_ascii_digit()).then(|| release.to_owned())
}

static BANNER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?-u)Linux version (\d[!-~]*) \(").expect("a valid pattern"));

/// The release in the banner of a vmlinux. Every kernel has the banner, and no other program does.
fn banner(mut file: File, path: &Path) -> Result<Option<String>> {
    const STEP: u64 = 1 << 20;
    let mut bytes = Vec::new();
    loop {
        if file.by_ref().take(STEP).read_to_end(&mut bytes).on("cannot read", path)? == 0 {
            return Ok(None);
        }
        if let Some(found) = BANNER.captures(&bytes) {
            return Ok(Some(String::from_utf8_lossy(&found[1]).into_owned()));
        }
        // Keep enough for a banner that spans two steps.
        let done = bytes.len().saturating_sub(256);
        bytes.drain(..done);
    }
}

/// `uname -r` of a kernel image; `None` for a bzImage without a version string.
///
/// # Errors
/// Class `Usage` if the file is not an x86_64 kernel.
pub fn release_of(path: &Path) -> Result<Option<String>> {
    let no = |why: &str| {
        Error::usage(format!("{} is not a kernel", path.display()))
            .why(why)
            .next("name a bzImage (arch/x86/boot/bzImage, /boot/vmlinuz-*) or a vmlinux for x86_64")
    };
    // Checked before opening, since that would block on a FIFO.
    if !fs::metadata(path).on("cannot read", path)?.is_file() {
        return Err(no("it is not a file"));
    }
    let mut file = File::open(path).on("cannot open", path)?;
    let mut head = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut head).on("cannot read", path)?;
    match format_of(&head) {
        None => Err(no("it has neither the header of a bzImage nor that of an x86_64 ELF file")),
        Some(Format::BzImage) => Ok(bzimage_release(&head)),
        Some(Format::Vmlinux) => {
            let file = File::open(path).on("cannot open", path)?;
            match banner(file, path)? {
                Some(release) => Ok(Some(release)),
                None => Err(no("it is an ELF file without the banner that every kernel has")),
            }
        }
    }
}

fn checked(file: &Path) -> Result<(PathBuf, Option<String>)> {
    let path = file
        .canonicalize()
        .map_err(|error| Error::usage(format!("image:{} cannot be used", file.display())).why(error))?;
    let release = release_of(&path)?;
    Ok((path, release))
}

pub(super) fn resolve(_ctx: &Context, file: &Path) -> Result<Resolved> {
    let (path, release) = checked(file)?;
    let release = release.unwrap_or_else(|| "of an unnamed release".to_owned());
    Ok(Resolved {
        id: format!("image:{}", short_name(&path)),
        description: format!("kernel {release}, {}", path.display()),
        cached: false,
        path: Some(path.clone()),
        state: String::new(),
        commits: 0,
        choice: Choice::File(path),
    })
}

pub(super) fn fetch(ctx: &Context, file: &Path) -> Result<Prebuilt> {
    let (path, _) = checked(file)?;
    let hash = remembered_hash(ctx, &path)?;
    let (dir, _) =
        ctx.cache.get_or_make(&ctx.bus, CacheKind::Image, &format!("file-{}", &hash[..20]), |dir| {
            fs::copy(&path, dir.join("image")).on("cannot copy", &path)?;
            same_content(&path, &hash, &hash_file(&dir.join("image"))?)
        })?;
    let image = dir.join("image");
    Ok(Prebuilt {
        id: format!("image:{}", short_name(&path)),
        release: release_of(&image)?,
        image,
        config: None,
        key: Key::of("image file 1").field("sha256", &hash).finish(),
    })
}

#[cfg(test)]
mod tests;
