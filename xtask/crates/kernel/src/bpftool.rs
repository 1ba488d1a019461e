// SPDX-License-Identifier: MIT OR Apache-2.0
//! bpftool of the tree under test. With the build root's tools it is linked statically, so that it runs in
//! any guest. The host may not have the static libraries for that, so with the host's tools it runs only in
//! guests that share the host's root file system.
//!
//! Cached under a hash of its source files, so that a series that touches only the kernel costs a copy of the
//! tree's names and no compilation.

use std::path::{Path, PathBuf};

use crate::make_mark::Make;
use crate::patched::PatchedTree;
use crate::{build_log, executed};
use vmtest_base::beneath::{self, Budget};
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::files::{create_dir, write_file};
use vmtest_base::key::{Key, KeyBuilder, hash_file};
use vmtest_host::context::Context;
use vmtest_host::process::{Job, ended};
use vmtest_host::sandbox::{Sandbox, Tools};
use vmtest_host::store::CacheKind;

/// File name in the cache entry.
pub const BPFTOOL: &str = "bpftool";

/// Functions missing from Debian's static libelf.
const EU_SEARCH: &str = include_str!("libelf_search_shim.c");

/// Whether programs built with these tools run in a guest without their shared libraries.
pub fn is_static(tools: &Tools) -> bool {
    matches!(tools, Tools::Image(_))
}

/// Everything that a build of bpftool reads from the tree, and no more: a series that changes the verifier
/// does not change bpftool.
const INPUTS: [&str; 10] = [
    "Makefile", // its version
    "kernel/bpf/disasm.c",
    "kernel/bpf/disasm.h",
    "scripts/bpf_doc.py",
    "tools/arch/x86",
    "tools/bpf/bpftool",
    "tools/build",
    "tools/include",
    "tools/lib",
    "tools/scripts",
];

/// The directory that holds the tree's bpftool, built if it is not in the cache. The output of make goes to
/// `log_dir/bpftool.log`.
///
/// # Errors
/// Class `SuiteBuild` with the compiler's first error.
pub fn ensure(
    ctx: &Context,
    tree: &PatchedTree,
    tools: &Tools,
    how: Make,
    log_dir: &Path,
) -> Result<PathBuf> {
    let name = Key::of("bpftool source 1").field("lineage", tree.source().lineage.as_str()).finish();
    let _lock = ctx.cache.lock(&ctx.bus, CacheKind::Objects, name.as_str())?;
    let dir = ctx.cache.path(CacheKind::Objects, name.as_str());
    create_dir(&dir)?;
    ctx.cache.hold(&dir);
    let phase = ctx.bus.phase("bpftool", tree.id());
    let src = dir.join("src");
    tree.sync(&src, &dir.join("view.json"))?;
    let key = Key::of("bpftool 3").field("tools", tools.key().as_str()).field("eu_search", EU_SEARCH);
    // The makefiles can read more than these inputs, and so could put a different bpftool under a key that
    // others share.
    let key = inputs_key(&src, executed::isolated(ctx, tree, key)?)?;
    let (kept, cached) = ctx.cache.get_or_make(&ctx.bus, CacheKind::Bpftool, key.as_str(), |place| {
        ctx.cache.verify(&ctx.bus, &tree.source().dir)?;
        // In an empty directory: these makefiles cannot cope with source that changes between builds.
        let obj = ctx.cache.scratch()?;
        let built = make(&Recipe { tree, tools, how, log_dir }, &src, obj.path())?;
        beneath::copy(obj.path(), built, &place.join(BPFTOOL), &mut Budget::of(Class::SuiteBuild))
    })?;
    if cached {
        phase.cached()
    } else {
        phase.finish()
    }
    Ok(kept)
}

/// Adds every input file to the key.
fn inputs_key(src: &Path, mut key: KeyBuilder) -> Result<Key> {
    for input in INPUTS {
        if !beneath::no_link_on_the_way(src, input) {
            continue;
        }
        let walk = walkdir::WalkDir::new(src.join(input)).follow_root_links(false);
        for entry in walk.sort_by_file_name() {
            // A tree may not have all inputs; make reports what is missing.
            let Ok(entry) = entry else { continue };
            if entry.file_type().is_file() {
                let below = entry.path().strip_prefix(src).unwrap_or(entry.path());
                key = key.field(&below.to_string_lossy(), hash_file(entry.path())?);
            }
        }
    }
    Ok(key.finish())
}

/// The source of bpftool, and how to build it.
struct Recipe<'a> {
    tree: &'a PatchedTree,
    tools: &'a Tools,
    how: Make,
    log_dir: &'a Path,
}

/// Builds it from `src` in `obj`; returns its path below `obj`.
fn make(recipe: &Recipe<'_>, src: &Path, obj: &Path) -> Result<&'static str> {
    let Recipe { tree, tools, how, log_dir } = *recipe;
    let sandbox = Sandbox::new(tools).read_only(src, "/src").writable(obj, "/obj");
    let mut command = sandbox.command("make");
    command.arg("-C").arg(sandbox.see("/src/tools/bpf/bpftool"));
    command.arg(format!("OUTPUT={}/", sandbox.see("/obj").display()));
    // Features that the tests do not need: disassembly, capabilities, and BPF programs that need a kernel's
    // BTF.
    for feature in ["llvm", "libbfd", "libcap", "clang-bpf-co-re"] {
        command.arg(format!("feature-{feature}=0"));
    }
    let log = log_dir.join("bpftool.log");
    if is_static(tools) {
        let object = eu_search(&sandbox, obj)?;
        // Not LDFLAGS: make's feature checks would use those too, and then not find libelf.
        command.arg(format!("EXTRA_LDFLAGS=-static -s {}", object.display()));
        // The tree's own list has libraries before those that need them, which breaks static linking.
        command.arg("LIBS=$(LIBBPF) -lelf -lcrypto -lz -lzstd");
    }
    command.arg(format!("-j{}", how.jobs)).arg(sandbox.see("/obj").join(BPFTOOL));
    let done = Job::new(command).log(log.clone()).deadline_of(how.limit, Class::SuiteBuild).run()?;
    if done.success() && beneath::is_file(obj, BPFTOOL) {
        return Ok(BPFTOOL);
    }
    let first = build_log::first_error(done.tail.iter().map(String::as_str));
    let detail = if first.is_empty() { done.tail.clone() } else { first };
    Err(Error::new(Class::SuiteBuild, format!("bpftool of {} does not build", tree.id()))
        .why(format!("make {}", ended(done.status)))
        .detail(detail)
        .next(format!("the whole output is in {}", log.display())))
}

/// Compiles the functions missing from the static libelf. Returns the object's path in the sandbox.
fn eu_search(sandbox: &Sandbox<'_>, obj: &Path) -> Result<PathBuf> {
    write_file(&obj.join("eu_search.c"), EU_SEARCH)?;
    let (source, object) = (sandbox.see("/obj/eu_search.c"), sandbox.see("/obj/eu_search.o"));
    let mut command = sandbox.command("gcc");
    command.args(["-O2", "-Wall", "-Werror", "-c", "-o"]).arg(&object).arg(&source);
    Job::new(command).run()?.ok("cannot compile the functions missing from the static libelf")?;
    Ok(object)
}
