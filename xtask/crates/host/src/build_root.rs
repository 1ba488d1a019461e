// SPDX-License-Identifier: MIT OR Apache-2.0
//! The build root: a Debian that mmdebstrap makes from the manifest in `images/`. Builds and guests run in
//! it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::context::Context;
use crate::process::Job;
use crate::store::CacheKind;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::{create_dir, read_text, write_file};
use vmtest_base::key::{Key, hash_file};

/// A Debian with compilers, QEMU and the dependencies of virtme-ng.
#[derive(Debug, Clone)]
pub struct BuildRoot {
    /// Its root directory.
    pub dir: PathBuf,
    /// Hash of the packages' versions.
    pub key: Key,
}

/// Mount points that exist in every build root. It is mounted read-only, so none can be added later.
pub const MOUNT_POINTS: [&str; 8] =
    ["/src", "/obj", "/ccache", "/kernel", "/vm", "/suite", "/opt/vng", "/initramfs"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    suite: String,
    packages: Vec<String>,
}

impl BuildRoot {
    /// The build root of `images/build-root.toml`. The first call makes it, which takes about a minute and 1
    /// GB.
    ///
    /// # Errors
    /// Class `Host` if it cannot be made.
    pub fn ensure(ctx: &Context) -> Result<BuildRoot> {
        let (manifest, key) = Manifest::read(ctx)?;
        let packages = manifest.packages.join(",");
        let phase = ctx.bus.phase("build root", format!("Debian {}", manifest.suite));
        let (entry, cached) = ctx.cache.get_or_make(&ctx.bus, CacheKind::Root, key.as_str(), |dir| {
            bootstrap(ctx, &phase, &manifest.suite, &packages, dir)
        })?;
        let key = read_text(&entry.join("key"))?;
        let root =
            BuildRoot { dir: entry.join("root"), key: Key::of("tools").field("packages", key).finish() };
        if cached {
            phase.cached()
        } else {
            phase.finish()
        }
        Ok(root)
    }

    /// Whether the cache has it.
    pub fn is_cached(ctx: &Context) -> bool {
        Manifest::read(ctx).is_ok_and(|(_, key)| ctx.cache.path(CacheKind::Root, key.as_str()).exists())
    }
}

impl Manifest {
    /// The manifest of this project, with the key of the root that it makes.
    fn read(ctx: &Context) -> Result<(Manifest, Key)> {
        let file = ctx.project.join("images/build-root.toml");
        let text = read_text(&file)?;
        let manifest: Manifest = toml::from_str(&text)
            .map_err(|error| Error::host(format!("cannot read {}", file.display())).why(error))?;
        let key = Key::of("root 1")
            .field("suite", &manifest.suite)
            .field("packages", manifest.packages.join(","))
            .field("mounts", MOUNT_POINTS.join(" "))
            .finish();
        Ok((manifest, key))
    }
}

/// Has mmdebstrap write a tar archive, and unpacks that as the caller: an unprivileged mmdebstrap would make
/// a directory that belongs to another user id, which the caller could not delete.
fn bootstrap(
    ctx: &Context,
    phase: &vmtest_base::event::Phase,
    suite: &str,
    packages: &str,
    dir: &Path,
) -> Result<()> {
    let tar = dir.join("root.tar");
    let source = crate::debian_mirror::sources_line(ctx, suite)?;
    let mode = if nix::unistd::geteuid().is_root() { "root" } else { "unshare" };
    let mut command = Command::new("mmdebstrap");
    command.arg(format!("--mode={mode}")).arg("--variant=essential").arg(format!("--include={packages}"));
    for unread in ["man", "doc", "locale", "info"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{unread}/*"));
    }
    // Without this, busybox, git and QEMU would pull in daemons and documentation.
    command.arg("--aptopt=Apt::Install-Recommends \"false\"").arg(suite).arg(&tar).arg("-");
    phase.progress(0, 0, "mmdebstrap");
    Job::new(command)
        .input(source)
        .on_line(|_, line| {
            if let Some(step) = line.strip_prefix("I: ") {
                phase.progress(0, 0, step.trim_end_matches("..."));
            }
        })
        .run()?
        .ok(format!("cannot make the build root of Debian {suite} with mmdebstrap"))?;
    phase.progress(0, 0, "unpacking");
    let root = dir.join("root");
    create_dir(&root)?;
    let mut command = Command::new("tar");
    command.arg("--extract").arg("--file").arg(&tar).arg("--directory").arg(&root);
    command.args(["--no-same-owner", "--exclude=./dev/*"]);
    Job::new(command).run()?.ok("cannot unpack the build root")?;
    fs::remove_file(&tar).on("cannot remove", &tar)?;
    for point in MOUNT_POINTS {
        create_dir(&root.join(point.trim_start_matches('/')))?;
    }
    let status = root.join("var/lib/dpkg/status");
    write_file(&dir.join("key"), hash_file(&status)?)
}
