// SPDX-License-Identifier: MIT OR Apache-2.0
//! Refs of an untrusted repository, copied into a private git directory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{fs, io};

use crate::source::git::place::{SMALL, is_id, put};
use vmtest_base::beneath::{self, Kind, Top};
use vmtest_base::error::{IoContext, Result};
use vmtest_base::files::create_dir;

/// Limit for `packed-refs`, one file of a reftable or of a log. A kernel with all of its tags and remotes has
/// about 10 MB.
pub(super) const REFS: u64 = 256 << 20;

/// Most files of refs or logs.
const MAX_FILES: usize = 500_000;

/// Whether a name is a valid ref, and so a safe path inside our directory.
fn is_ref(name: &[u8]) -> bool {
    let odd = |byte: &u8| *byte <= b' ' || *byte == 0x7f || b"~^:?*[\\".contains(byte);
    name.starts_with(b"refs/")
        && !name.starts_with(b"refs/replace/")
        && !name.iter().any(odd)
        && name.split(|byte| *byte == b'/').all(|part| {
            !part.is_empty()
                && !part.starts_with(b".")
                && !part.ends_with(b".lock")
                && !part.windows(2).any(|two| two == b"..")
        })
}

/// Whether refs of this name are private to each worktree.
pub(super) fn is_of_one_worktree(name: &[u8]) -> bool {
    [&b"refs/bisect/"[..], b"refs/worktree/", b"refs/rewritten/"].iter().any(|begin| name.starts_with(begin))
}

/// Refs, from all places where a repository keeps them.
#[derive(Default)]
pub(super) struct Names {
    ids: BTreeMap<Vec<u8>, String>,
    /// Symbolic refs: `HEAD`, `refs/remotes/origin/HEAD`.
    symbolic: BTreeMap<Vec<u8>, String>,
}

impl Names {
    pub(super) fn read_packed(&mut self, common: &Path) -> Result<()> {
        let file = common.join("packed-refs");
        // Tools that share a repository between directories make it a symlink.
        let (dir, name) = match file.canonicalize() {
            Ok(real) => {
                (real.parent().unwrap_or(common).to_owned(), real.file_name().unwrap_or_default().to_owned())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).on("cannot read", &file),
        };
        let bytes =
            Top::open(&dir).and_then(|mut top| top.read(Path::new(&name), REFS)).on("cannot read", &file)?;
        for line in bytes.split(|byte| *byte == b'\n') {
            let Some(at) = line.iter().position(|byte| *byte == b' ') else { continue };
            self.add(&line[at + 1..], &String::from_utf8_lossy(&line[..at]));
        }
        Ok(())
    }

    /// Loose refs override packed ones.
    pub(super) fn read_loose(&mut self, dir: &Path, wanted: impl Fn(&[u8]) -> bool) -> Result<()> {
        let Ok(refs) = dir.join("refs").canonicalize() else { return Ok(()) };
        let mut top = Top::open(&refs).on("cannot open", &refs)?;
        let mut count = 0;
        beneath::walk(&refs, Path::new(""), &mut |path, kind| {
            if kind == Kind::File {
                count += 1;
                if count > MAX_FILES {
                    return Err(io::Error::other("there are too many files"));
                }
                let name = [b"refs/", path.as_os_str().as_bytes()].concat();
                match top.read(path, SMALL) {
                    Ok(_) if !wanted(&name) => (),
                    Ok(bytes) => self.add(&name, String::from_utf8_lossy(&bytes).trim_end()),
                    Err(error) if beneath::gone(&error) => (),
                    Err(error) => return Err(io::Error::other(format!("{}: {error}", path.display()))),
                }
            }
            Ok(true)
        })
        .on("cannot read", &refs)
    }

    /// `HEAD`, `FETCH_HEAD`, `ORIG_HEAD` and so on: the first commit in each.
    pub(super) fn read_heads(&mut self, git_dir: &Path) -> Result<()> {
        let mut top = Top::open(git_dir).on("cannot open", git_dir)?;
        for entry in fs::read_dir(git_dir).on("cannot list", git_dir)? {
            let name = entry.on("cannot list", git_dir)?.file_name();
            let bytes = name.as_bytes();
            if !bytes.ends_with(b"HEAD")
                || !bytes.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_')
            {
                continue;
            }
            let path = Path::new(&name);
            let text = match top.read_link(path) {
                // git of 2005 used symlinks.
                Ok(target) => format!("ref: {}", target.to_string_lossy()),
                Err(_) if name == "FETCH_HEAD" => {
                    let bytes = top.read(path, REFS).unwrap_or_default();
                    let text = String::from_utf8_lossy(&bytes);
                    text.split(['\t', '\n']).next().unwrap_or_default().to_owned()
                }
                Err(_) => {
                    let bytes = top.read(path, SMALL).on("cannot read", git_dir.join(path))?;
                    String::from_utf8_lossy(&bytes).trim_end().to_owned()
                }
            };
            self.put(bytes, &text);
        }
        Ok(())
    }

    fn add(&mut self, name: &[u8], text: &str) {
        if is_ref(name) {
            self.put(name, text);
        }
    }

    fn put(&mut self, name: &[u8], text: &str) {
        if is_id(text) {
            self.symbolic.remove(name);
            self.ids.insert(name.to_owned(), text.to_owned());
        } else if let Some(other) =
            text.strip_prefix("ref:").map(str::trim).filter(|other| is_ref(other.as_bytes()))
        {
            self.ids.remove(name);
            self.symbolic.insert(name.to_owned(), other.to_owned());
        }
    }

    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let mut packed = b"# pack-refs with: sorted \n".to_vec();
        for (name, id) in &self.ids {
            if name.starts_with(b"refs/") {
                packed.extend([id.as_bytes(), b" ", name, b"\n"].concat());
            } else {
                put(&dir.join(OsStr::from_bytes(name)), format!("{id}\n"))?;
            }
        }
        for (name, other) in &self.symbolic {
            let path = dir.join(OsStr::from_bytes(name));
            create_dir(path.parent().unwrap_or(dir))?;
            put(&path, format!("ref: {other}\n"))?;
        }
        put(&dir.join("packed-refs"), packed)
    }
}

/// Copies regular files below a directory, which may be missing.
pub(super) fn copy_files(from: &Path, name: &Path, to: &Path) -> Result<()> {
    let Ok(whole) = from.join(name).canonicalize() else { return Ok(()) };
    let mut top = Top::open(&whole).on("cannot open", &whole)?;
    let mut count = 0;
    let mut files = Vec::new();
    beneath::walk(&whole, Path::new(""), &mut |path, kind| {
        if kind == Kind::File {
            count += 1;
            if count > MAX_FILES {
                return Err(io::Error::other("there are too many files"));
            }
            files.push(path.to_owned());
        }
        Ok(true)
    })
    .on("cannot read", &whole)?;
    for path in files {
        let copy = to.join(&path);
        create_dir(copy.parent().unwrap_or(to))?;
        match top.read(&path, REFS) {
            Ok(bytes) => fs::write(&copy, bytes).on("cannot write", &copy)?,
            Err(error) if beneath::gone(&error) => (),
            Err(error) => return Err(error).on("cannot read", whole.join(&path)),
        }
    }
    Ok(())
}
