// SPDX-License-Identifier: MIT OR Apache-2.0
//! Object directories: which one a build uses, and its initial content.

use std::fs;
use std::path::{Path, PathBuf};

use crate::build::Recipe;
use crate::executed::{self, Isolation};
use crate::patched::PatchedTree;
use vmtest_base::error::{IoContext, Result};
use vmtest_base::files::create_dir;
use vmtest_base::key::Key;
use vmtest_host::context::Context;
use vmtest_host::process::Job;
use vmtest_host::store::{CacheKind, Lock, Scratch, make_room};

/// Protects the object directory during a build.
pub(super) enum Held {
    /// Other builds wait for this lock.
    Locked(#[expect(dead_code, reason = "held until it is dropped")] Lock),
    /// Private to this build, and removed with this value.
    ThrownAway(#[expect(dead_code, reason = "removed when it is dropped")] Scratch),
}

/// What an object directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    Build,
    /// Nothing is compiled in it, so a private one starts empty.
    Configure,
}

/// An empty private directory.
pub(super) fn private(ctx: &Context) -> Result<(PathBuf, Held)> {
    let scratch = ctx.cache.scratch()?;
    Ok((scratch.path().to_owned(), Held::ThrownAway(scratch)))
}

/// Object directories that are kept per untrusted tree, one per set of files that make executes.
const KEPT_STATES: usize = 2;

/// The object directory for this state of a tree.
///
/// Builds share objects only with builds of the same origin that execute the same files, see [`executed`]:
///
/// - Trusted code has one directory.
/// - An untrusted series on a trusted source has one directory if it changes nothing that make executes. It
///   starts as a copy of the source's objects. Otherwise the series is built in a temporary copy of them.
/// - An untrusted tree has one directory per set of files that make executes. It starts empty, or, for a
///   series on top, as a copy of the tree's own objects. Only the last used ones are kept.
pub(super) fn objects(
    ctx: &Context,
    tree: &PatchedTree,
    recipe: &Recipe<'_>,
    intent: Intent,
) -> Result<(PathBuf, Held)> {
    // What it shares with others of its lineage.
    let name = Key::of("objects 1")
        .field("lineage", tree.source().lineage.as_str())
        .field("config", recipe.requests.key().as_str())
        .field("tools", recipe.tools.key().as_str())
        .field("compiler", recipe.variant.compiler.name());
    let series = tree.overlay().and_then(|overlay| overlay.origin.as_ref());
    let plain = name.clone().finish();
    // The origin of the source is part of its lineage.
    let own = match series {
        Some(origin) => name.field("series origin 2", origin.as_str()).finish(),
        None => plain.clone(),
    };
    let place = |name: &str| ctx.cache.path(CacheKind::Objects, name);
    let (name, from) = match executed::isolation(ctx, tree)? {
        Isolation::Origin => (own.to_string(), plain.to_string()),
        Isolation::ThrownAway(_) if intent == Intent::Configure => return private(ctx),
        Isolation::ThrownAway(path) => {
            ctx.bus.note(format!(
                "{}: it changes {path}, which make executes, so it is built in a private copy of the objects",
                tree.id()
            ));
            let (dir, held) = private(ctx)?;
            copy_objects(ctx, tree, plain.as_str(), &dir)?;
            return Ok((dir, held));
        }
        Isolation::Executed(executed) => {
            // A series on an untrusted tree that executes the same files starts with the tree's own objects.
            (format!("{own}-{executed}"), format!("{plain}-{executed}"))
        }
    };
    // A matrix or a bisection fills a disk build by build.
    make_room(&ctx.cache, &ctx.bus)?;
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
        // The lock is enough while it is built in. Holding every entry until the end would keep one per
        // commit of a bisection.
        ctx.cache.release(&dir);
        ctx.cache.keep_newest(CacheKind::Objects, &format!("{own}-"), KEPT_STATES)?;
    }
    Ok((dir, Held::Locked(lock)))
}

/// Fills an empty directory with a copy of these objects; returns whether they exist. Builds in the copy do
/// not affect the original, and only compile what they change.
fn copy_objects(ctx: &Context, tree: &PatchedTree, name: &str, into: &Path) -> Result<bool> {
    // No deadlock: the holder of this lock never waits for that of a series.
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
        // Files of the view are never modified in place, so they can be hard-linked.
        if entry.ends_with("src") {
            copy.arg("--link");
        }
        copy.arg(&entry).arg(into);
        Job::new(copy).run()?.ok("cannot copy objects")?;
    }
    phase.finish();
    Ok(true)
}
