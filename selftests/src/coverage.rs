// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports which lines of instrumented files ran (gcov): before the first subtest, and in each subtest.
//!
//! The counters are reset when a subtest begins, and read when it ends. A subtest that takes the guest with it has none.

use crate::port::Port;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use vmtest_protocol::{Counters, Event, TestName, base64};

/// Where a kernel with gcov has its counters.
pub const GCOV: &str = "/sys/kernel/debug/gcov";
/// Where the kernel was built, as its data files name it.
const OBJECTS: &str = "obj";
/// Bytes of a piece: as base64 it stays below the limit of a line.
const PIECE: usize = 96 * 1024;
/// Fast: the guest may be emulated.
const LEVEL: u8 = 1;

/// The data files of the kernel.
pub struct Coverage {
    /// Each with its path below the object directory, and what it holds after a reset.
    files: Vec<(PathBuf, String, Vec<u8>)>,
    /// The first subtest has not begun.
    is_early: bool,
}

impl Coverage {
    /// Finds the data files. Without any, nothing is reported, and the host has no coverage.
    pub fn open() -> Self {
        let mut found = Vec::new();
        data_files(Path::new(GCOV), &mut found);
        found.sort();
        let named = found.into_iter().filter_map(|path| {
            let below = path.strip_prefix(GCOV).ok()?.to_str()?;
            // Built on the host, its objects have a longer path.
            let object = below.split_once(&format!("{OBJECTS}/"))?.1.to_owned();
            Some((path, object, Vec::new()))
        });
        Self { files: named.collect(), is_early: true }
    }

    /// Reads and resets the counters where an event says that something begins or ends.
    pub fn at(&mut self, event: &Event, port: &mut Port) -> io::Result<()> {
        match event {
            Event::Start(_) => {
                if std::mem::take(&mut self.is_early) {
                    self.send(&TestName { test: String::new(), subtest: String::new() }, port)?;
                }
                self.reset()
            }
            Event::End(end) => self.send(&end.name, port),
            _ => Ok(()),
        }
    }

    fn reset(&mut self) -> io::Result<()> {
        if self.files.is_empty() {
            return Ok(());
        }
        fs::write(Path::new(GCOV).join("reset"), "0")?;
        for (path, _, empty) in &mut self.files {
            *empty = fs::read(path)?;
        }
        Ok(())
    }

    fn send(&self, name: &TestName, port: &mut Port) -> io::Result<()> {
        for (path, object, empty) in &self.files {
            let data = fs::read(path)?;
            if data == *empty {
                continue;
            }
            let packed = miniz_oxide::deflate::compress_to_vec(&data, LEVEL);
            let pieces: Vec<&[u8]> = packed.chunks(PIECE).collect();
            for (at, piece) in pieces.iter().enumerate() {
                port.send(Event::Counters(Counters {
                    name: name.clone(),
                    object: object.clone(),
                    part: at as u32 + 1,
                    parts: pieces.len() as u32,
                    data: base64::encode(piece),
                }))?;
            }
        }
        Ok(())
    }
}

/// All data files below a directory. The links beside them, which name a path of the host, are left out.
fn data_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => data_files(&path, found),
            Ok(kind) if kind.is_file() && path.extension().is_some_and(|end| end == "gcda") => {
                found.push(path)
            }
            _ => {}
        }
    }
}
