// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files that make executes when it builds a kernel: makefiles, scripts, what Kconfig runs, and the
//! sources of host programs. Such a program can write anything into the object directory. So the objects of
//! one state of an untrusted tree are reused only for states that execute the same files.
//!
//! Every file counts as executed unless it is known to be harmless: C, assembler and documentation outside of
//! the directories with host programs. Those directories are scripts/, tools/ (except for its tests, which
//! are never built with a kernel) and the like, and every directory whose makefile mentions a host program.
//!
//! Limits: a makefile can run a C file as a script, or build a host program without any of the words known
//! here. The archive's makefiles do not, and if a series changes makefiles, its objects are never reused. But
//! an untrusted tree may: then a hostile and a harmless state of it with the same makefiles share objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use memchr::memmem;
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use crate::patch::Overlay;
use crate::patched::PatchedTree;
use vmtest_base::error::{IoContext, Result};
use vmtest_base::files::{create_dir, write_file};
use vmtest_base::interrupt;
use vmtest_base::key::{Key, KeyBuilder, hash_bytes, hash_file};
use vmtest_host::context::Context;
use vmtest_host::store::{CacheKind, SEAL};

/// Host programs are built in these directories.
const DIRECTORIES: [&str; 5] = ["certs/", "rust/", "scripts/", "tools/", "usr/"];
/// An exception in one of them: no kernel needs it.
const TESTS: &str = "tools/testing/";
/// Directories that contribute nothing to a kernel.
const PROSE: [&str; 2] = ["Documentation/", "LICENSES/"];
/// The tests that are built with a kernel.
const TEST_MODULES: &str = "tools/testing/selftests/bpf/test_kmods/";
/// Headers and sources that programs in [`DIRECTORIES`] find through `-I` options.
const INCLUDED: [&str; 7] = [
    "arch/x86/include/asm/inat.h",
    "arch/x86/include/asm/inat_types.h",
    "arch/x86/include/asm/insn.h",
    "arch/x86/lib/inat.c",
    "arch/x86/lib/insn.c",
    "include/linux/asn1.h",
    "include/linux/asn1_ber_bytecode.h",
];
/// Words that mark host programs in a makefile.
const FOR_THE_HOST: [&str; 4] = ["hostprogs", "userprogs", "HOSTCC", "HOSTCXX"];
/// Suffixes of files that only a compiler reads, and of files that a build does not read.
const READ: [&str; 14] = [
    ".c",
    ".h",
    ".S",
    ".rs",
    ".dts",
    ".dtsi",
    ".dtso",
    ".rst",
    ".txt",
    ".md",
    ".yaml",
    ".json",
    "_defconfig",
    ".config",
];
/// Names of files that a build does not read.
const UNREAD: [&str; 7] =
    [".gitignore", ".gitattributes", ".mailmap", "COPYING", "CREDITS", "MAINTAINERS", "README"];

/// How a file takes part in a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// It is not executed, unless it is in a directory with host programs.
    Read,
    /// Only its lines that can run something count.
    Kconfig,
    /// The whole file counts.
    Executed,
}

fn part(path: &str) -> Part {
    let name = path.rsplit('/').next().unwrap_or(path);
    let within = |dir: &str| path.starts_with(dir);
    if (path.starts_with(TESTS) && !path.starts_with(TEST_MODULES)) || PROSE.iter().any(|dir| within(dir)) {
        return Part::Read;
    }
    let of_an_arch = path.strip_prefix("arch/").and_then(|rest| rest.split_once('/'));
    if DIRECTORIES.iter().any(|dir| within(dir))
        || of_an_arch.is_some_and(|(_, rest)| rest.starts_with("tools/"))
    {
        return Part::Executed;
    }
    if name.starts_with("Kconfig") {
        Part::Kconfig
    } else if UNREAD.contains(&name) || READ.iter().any(|end| name.ends_with(end)) {
        if INCLUDED.contains(&path) { Part::Executed } else { Part::Read }
    } else {
        Part::Executed
    }
}

fn is_makefile(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with("Makefile") || name.starts_with("Kbuild")
}

/// What make executes in one state of a tree.
#[derive(Debug)]
pub struct Executed {
    /// Every file that counts: its path in the tree, and its location on disk.
    files: BTreeMap<String, PathBuf>,
    /// Directories whose makefiles mention host programs, with a trailing slash.
    directories: Vec<String>,
}

impl Executed {
    /// Of a source, optionally with a series on top.
    pub fn of(source: &Path, overlay: Option<&Overlay>) -> Result<Executed> {
        let mut all = BTreeMap::new();
        for entry in WalkDir::new(source).min_depth(1) {
            interrupt::check()?;
            let entry = entry.map_err(std::io::Error::from).on("cannot walk", source)?;
            let below =
                entry.path().strip_prefix(source).unwrap_or(entry.path()).to_string_lossy().into_owned();
            if !entry.file_type().is_dir() && below != SEAL {
                all.insert(below, entry.into_path());
            }
        }
        if let Some(overlay) = overlay {
            overlay.deleted.iter().for_each(|path| drop(all.remove(path)));
            let at = |path: &String| (path.clone(), overlay.dir.join("files").join(path));
            all.extend(overlay.changed.iter().map(at));
        }
        let mut directories = Vec::new();
        for (path, file) in all.iter().filter(|(path, _)| is_makefile(path)) {
            let text = bytes(file)?;
            if FOR_THE_HOST.iter().any(|word| memmem::find(&text, word.as_bytes()).is_some()) {
                let dir = path.rsplit_once('/').map(|(dir, _)| format!("{dir}/"));
                // The top-level makefile does not count: it is about the whole tree.
                directories.extend(dir);
            }
        }
        let mut executed = Executed { files: BTreeMap::new(), directories };
        let mut found: Vec<&String> = all.keys().filter(|path| executed.takes(path)).collect();
        let mut paths: BTreeSet<&String> = found.iter().copied().collect();
        // A file that a host program includes by a relative path is part of it, wherever it is.
        while let Some(path) = found.pop() {
            for included in included(path, &all[path], executed.takes(path))? {
                if let Some((path, _)) = all.get_key_value(&included) {
                    if paths.insert(path) {
                        found.push(path);
                    }
                }
            }
        }
        executed.files = paths.into_iter().map(|path| (path.clone(), all[path].clone())).collect();
        Ok(executed)
    }

    fn takes(&self, path: &str) -> bool {
        let unread = || UNREAD.contains(&path.rsplit('/').next().unwrap_or(path));
        part(path) != Part::Read
            || (self.directories.iter().any(|dir| path.starts_with(dir))
                && !path.starts_with(TESTS)
                && !unread())
    }

    /// The first path of a series that changes what is executed, if any. This is the state of `source` below it, with the
    /// files of `below` where there are some: what a series takes back of those is a change as well.
    pub fn changed_by(
        &self,
        source: &Path,
        below: Option<&Overlay>,
        overlay: &Overlay,
    ) -> Result<Option<String>> {
        let paths = below.into_iter().chain([overlay]).flat_map(|one| one.changed.iter().chain(&one.deleted));
        for path in paths.filter(|path| self.files.contains_key(*path) || self.takes(path)) {
            let before = self.files.get(path).map(|file| line(path, file)).transpose()?;
            let untouched = !overlay.changed.contains(path) && !overlay.deleted.contains(path);
            let top = if untouched { source.to_owned() } else { overlay.dir.join("files") };
            let file = top.join(path);
            let after = file.symlink_metadata().is_ok().then(|| line(path, &file)).transpose()?;
            if before != after {
                return Ok(Some(path.clone()));
            }
        }
        Ok(None)
    }

    /// Hash of all these files.
    pub fn key(&self) -> Result<Key> {
        let mut key = Key::of("executed 1");
        for (path, file) in &self.files {
            interrupt::check()?;
            key = key.field(path, line(path, file)?);
        }
        Ok(key.finish())
    }
}

/// What counts of a file: its content and whether it is executable.
fn line(path: &str, file: &Path) -> Result<String> {
    let stat = file.symlink_metadata().on("cannot look at", file)?;
    if stat.is_symlink() {
        let target = fs::read_link(file).on("cannot read the link", file)?;
        return Ok(format!("link {}", target.display()));
    }
    if !stat.is_file() {
        return Ok("neither file nor link".to_owned());
    }
    if part(path) == Part::Kconfig {
        return Ok(format!(
            "kconfig {}",
            hash_bytes(running_lines(&String::from_utf8_lossy(&bytes(file)?)).as_bytes())
        ));
    }
    let runs = stat.permissions().mode() & 0o100 != 0;
    Ok(format!("{runs} {}", hash_file(file)?))
}

/// The lines of a Kconfig file that run a command or read another file, with their continuations.
fn running_lines(text: &str) -> String {
    let mut lines = String::new();
    let mut goes_on = false;
    for line in text.lines() {
        let words = line.trim_start();
        let reads = ["source", "rsource", "osource", "orsource"].iter().any(|word| words.starts_with(word));
        if goes_on || reads || line.contains('$') {
            lines.push_str(line);
            lines.push('\n');
            goes_on = line.ends_with('\\');
        }
    }
    lines
}

/// Paths in the tree that a C file includes by a relative path. If the file's own directory counts as
/// executed, returns nothing unless an include starts with `../`.
fn included(path: &str, file: &Path, among_its_like: bool) -> Result<Vec<String>> {
    if ![".c", ".h", ".S"].iter().any(|end| path.ends_with(end)) {
        return Ok(Vec::new());
    }
    let bytes = bytes(file)?;
    if among_its_like && memmem::find(&bytes, b"\"../").is_none() {
        return Ok(Vec::new());
    }
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    let text = String::from_utf8_lossy(&bytes);
    let names = text.lines().filter_map(|line| {
        let rest = line.trim_start().strip_prefix('#')?.trim_start().strip_prefix("include")?;
        let name = rest.trim_start().strip_prefix('"')?;
        name.split('"').next()
    });
    Ok(names.filter_map(|name| joined(dir, name)).collect())
}

/// A path in the tree; `None` if it leads out of the tree.
fn joined(dir: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => (),
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The content of a file in the tree; empty if it is a symlink or not a regular file.
fn bytes(file: &Path) -> Result<Vec<u8>> {
    if !file.symlink_metadata().is_ok_and(|stat| stat.is_file()) {
        return Ok(Vec::new());
    }
    fs::read(file).on("cannot read", file)
}

/// Which object directory a state of a tree is built in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// That of its origin: everything that ran there is trusted, or is the same as what runs now.
    Origin,
    /// One per origin and set of executed files, which this key identifies.
    Executed(Key),
    /// A temporary one: the series changes what is executed, first in this path.
    ThrownAway(String),
}

/// How the objects of this tree are separated from others. Code that the archive signed or the project
/// maintains is trusted. For untrusted code, it checks what make executes, once per state.
pub fn isolation(ctx: &Context, tree: &PatchedTree) -> Result<Isolation> {
    let Some(origin) = tree.origin() else { return Ok(Isolation::Origin) };
    let memo =
        Key::of("isolation 3").field("tree", tree.key().as_str()).field("origin", origin.as_str()).finish();
    let memo = ctx.cache.path(CacheKind::Hashes, memo.as_str());
    if let Some(known) = fs::read(&memo).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
        return Ok(known);
    }
    ctx.cache.verify(&ctx.bus, &tree.source().dir)?;
    let found = match (&tree.source().origin, tree.overlay()) {
        (None, Some(overlay)) => {
            // On top of the project's own series: the changes of that are not untrusted.
            let (source, below) = (&tree.source().dir, tree.trusted());
            let trusted = Executed::of(source, below)?;
            trusted.changed_by(source, below, overlay)?.map_or(Isolation::Origin, Isolation::ThrownAway)
        }
        (_, overlay) => Isolation::Executed(Executed::of(&tree.source().dir, overlay)?.key()?),
    };
    if let Some(dir) = memo.parent() {
        create_dir(dir)?;
    }
    // An enum of strings: serializing it cannot fail.
    write_file(&memo, serde_json::to_vec(&found).unwrap_or_default())?;
    Ok(found)
}

/// Extends the key of something that makefiles build from hashed files, because untrusted makefiles can read
/// more than those. Adds nothing for trusted code.
pub fn isolated(ctx: &Context, tree: &PatchedTree, key: KeyBuilder) -> Result<KeyBuilder> {
    let Some(origin) = tree.origin() else { return Ok(key) };
    let key = key.field("origin", origin.as_str());
    Ok(match isolation(ctx, tree)? {
        Isolation::Origin => key,
        Isolation::Executed(executed) => key.field("executed", executed.as_str()),
        Isolation::ThrownAway(_) => key.field("tree", tree.key().as_str()),
    })
}

#[cfg(test)]
mod tests;
