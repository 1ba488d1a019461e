// SPDX-License-Identifier: MIT OR Apache-2.0
//! Object directories: which one a build uses, and its initial content.

use std::fs;
use std::path::{Path, PathBuf};

use crate::executed::{self, Isolation};
use crate::patched::PatchedTree;
use vmtest_base::error::{IoContext, Result};
use vmtest_base::files::create_dir;
use vmtest_base::key::KeyBuilder;
use vmtest_host::context::Context;
use vmtest_host::process::Job;
use vmtest_host::store::{CacheKind, Lock, Scratch};

/// What keeps an object directory for this build.
pub(super) enum Held {
    /// Others wait for it.
    Locked(#[expect(dead_code, reason = "held until it is dropped")] Lock),
    /// Nobody else knows it, and it goes away with this.
    ThrownAway(#[expect(dead_code, reason = "removed when it is dropped")] Scratch),
}

/// Object directories that are kept for one stranger's tree; they differ in what make executes.
const KEPT_STATES: usize = 2;

/// The object directory for this state of a tree. `name`: of what it has in common with others of its lineage.
///
/// What a build leaves is used by builds of the same origin that execute the same, see [`executed`]. What the project
/// trusts has one directory. A stranger's series has one as long as it changes nothing that is executed, which begins as a
/// copy of the objects of its trusted source; else it is built in such a copy that is thrown away. A stranger's tree has a
/// directory for each set of what is executed, which begins empty, and the ones used last are kept.
pub(super) fn objects(ctx: &Context, tree: &PatchedTree, name: KeyBuilder) -> Result<(PathBuf, Held)> {
    let series = tree.overlay().and_then(|overlay| overlay.origin.as_ref());
    let plain = name.clone().finish();
    // That of the source is in its lineage.
    let own = match series {
        Some(origin) => name.field("series origin 2", origin.as_str()).finish(),
        None => plain.clone(),
    };
    let place = |name: &str| ctx.cache.path(CacheKind::Objects, name);
    let (name, from) = match executed::isolation(ctx, tree)? {
        Isolation::Origin => (own.to_string(), plain.to_string()),
        Isolation::ThrownAway(path) => {
            ctx.bus.note(format!(
                "{}: it changes {path}, which make executes, so it is built in a private copy of the objects",
                tree.id()
            ));
            let scratch = ctx.cache.scratch()?;
            copy_objects(ctx, tree, plain.as_str(), scratch.path())?;
            return Ok((scratch.path().to_owned(), Held::ThrownAway(scratch)));
        }
        Isolation::Executed(executed) => {
            // A series on top that executes the same begins with what the tree itself left.
            (format!("{own}-{executed}"), format!("{plain}-{executed}"))
        }
    };
    let lock = ctx.cache.lock(&ctx.bus, CacheKind::Objects, name.as_str())?;
    let dir = place(&name);
    if !dir.exists() {
        if name != from {
            let scratch = ctx.cache.scratch()?;
            if copy_objects(ctx, tree, &from, scratch.path())? {
                scratch.keep_unsynced_as(&dir)?;
            }
        }
        create_dir(&dir)?;
    }
    ctx.cache.hold(&dir);
    if name.contains('-') {
        // The lock is enough as long as it is built in: a bisection would hold one for each commit.
        ctx.cache.release(&dir);
        ctx.cache.keep_newest(CacheKind::Objects, &format!("{own}-"), KEPT_STATES)?;
    }
    Ok((dir, Held::Locked(lock)))
}

/// Fills an empty directory with a copy of these objects; whether there are any. What a build makes of a copy stays its own,
/// and it compiles what it changes and no more.
fn copy_objects(ctx: &Context, tree: &PatchedTree, name: &str, into: &Path) -> Result<bool> {
    // Nobody who holds this lock waits for that of a series.
    let _lock = ctx.cache.lock(&ctx.bus, CacheKind::Objects, name)?;
    let from = ctx.cache.path(CacheKind::Objects, name);
    if !from.join("obj").is_dir() {
        return Ok(false);
    }
    let phase = ctx.bus.phase("copy objects", tree.id());
    for entry in fs::read_dir(&from).on("cannot list", &from)? {
        let entry = entry.on("cannot list", &from)?.path();
        let mut copy = std::process::Command::new("cp");
        copy.args(["--archive", "--reflink=auto"]);
        // Only ever read, and replaced where it changes.
        if entry.ends_with("src") {
            copy.arg("--link");
        }
        copy.arg(&entry).arg(into);
        Job::new(copy).run()?.ok("cannot copy objects")?;
    }
    phase.finish();
    Ok(true)
}
