// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a file with patches and decompresses it. The size is limited, because a few kilobytes can decompress
//! to more than fits on a disk.

use std::fs::File;
use std::io::{Cursor, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use vmtest_base::error::{Error, IoContext, Result};

/// Longest file, decompressed. The diff between two kernel releases has a quarter of that.
const MAX_BYTES: u64 = 256 << 20;
/// Memory for decompression; xz -9 needs 65 MiB.
const MAX_MEMORY: u64 = 128 << 20;

/// Extensions of compressed files that are supported here.
pub(super) const PACKED: [&str; 2] = ["gz", "xz"];

/// The tool that decompresses a file, according to its first bytes; `None` if it is not compressed.
fn packing(bytes: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 4] = [
        (&[0x1f, 0x8b], "gunzip"),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], "unxz"),
        (b"BZh", "bunzip2"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "unzstd"),
    ];
    known.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, tool)| *tool)
}

/// The content of a file that the user named, which may be a pipe.
pub(super) fn named(file: &Path) -> Result<Vec<u8>> {
    whole(File::open(file).on("cannot read", file)?, file, MAX_BYTES)
}

/// The beginning of a regular file, as text.
pub(super) fn start(file: &Path) -> Result<String> {
    const START: u64 = 64 << 10;
    let mut how = File::options();
    let open = how.read(true).custom_flags(nix::libc::O_NONBLOCK).open(file).on("cannot read", file)?;
    let mut bytes = Vec::new();
    open.take(START).read_to_end(&mut bytes).on("cannot read", file)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The content of a file that was found in a directory.
pub(super) fn found(file: &Path) -> Result<Vec<u8>> {
    // Opening a FIFO that has no writer would block forever.
    let mut how = File::options();
    let open = how.read(true).custom_flags(nix::libc::O_NONBLOCK).open(file).on("cannot read", file)?;
    if !open.metadata().on("cannot read", file)?.is_file() {
        return Err(Error::usage(format!("{} is not a file", file.display()))
            .next("remove it from the directory, or name the patch files one by one"));
    }
    whole(open, file, MAX_BYTES)
}

fn whole(open: impl Read, file: &Path, most: u64) -> Result<Vec<u8>> {
    let shown = file.display();
    let mut bytes = Vec::new();
    open.take(most + 1).read_to_end(&mut bytes).on("cannot read", file)?;
    let damaged = |error: std::io::Error| {
        Error::usage(format!("{shown} cannot be unpacked")).why(error).next("download it again")
    };
    let tool = packing(&bytes);
    bytes = match tool {
        None => bytes,
        Some("gunzip") => {
            unpacked(flate2::read::MultiGzDecoder::new(Cursor::new(bytes)), most).map_err(damaged)?
        }
        Some("unxz") => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(MAX_MEMORY, flags)
                .map_err(|error| damaged(error.into()))?;
            unpacked(liblzma::read::XzDecoder::new_stream(Cursor::new(bytes), stream), most)
                .map_err(damaged)?
        }
        Some(tool) => {
            return Err(Error::usage(format!("{shown} is compressed, but not with gzip or xz"))
                .next(format!("unpack it with {tool} first")));
        }
    };
    if bytes.len() as u64 > most {
        return Err(Error::usage(format!("{shown} has more than {} MiB", most >> 20))
            .why("no series is that long")
            .next("give a file that holds only the series"));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::usage(format!("{shown} is empty")).next("download or create it again"));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        // A byte order mark; git would not recognize the mail after it.
        bytes.drain(..3);
    }
    Ok(bytes)
}

fn unpacked(from: impl Read, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
