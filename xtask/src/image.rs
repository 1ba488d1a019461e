// SPDX-License-Identifier: MIT OR Apache-2.0
//! What guests and builds stand on: the build root (a Debian made by mmdebstrap), virtme-ng, and the initramfs of a
//! direct boot. Each is made once from a manifest in `images/`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::context::Context;
use crate::error::{Error, IoContext, Result};
use crate::proc::Job;
use crate::sandbox::{MOUNT_POINTS, Tools};
use crate::workdir::{Key, create_dir, hash_file, read_text, write_file};

/// A Debian with compilers, QEMU and what virtme-ng needs.
#[derive(Debug, Clone)]
pub struct BuildRoot {
    /// Its `/`.
    pub dir: PathBuf,
    /// Hash of the packages' versions.
    pub key: Key,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    suite: String,
    packages: Vec<String>,
}

impl BuildRoot {
    /// The build root of `images/build-root.toml`; made on first use (about a minute and 1 GB).
    ///
    /// # Errors
    /// Class `Host` when it cannot be made.
    pub fn ensure(ctx: &Context) -> Result<BuildRoot> {
        let file = ctx.project.join("images/build-root.toml");
        let text = read_text(&file)?;
        let manifest: Manifest = toml::from_str(&text)
            .map_err(|error| Error::host(format!("cannot read {}", file.display())).why(error))?;
        let packages = manifest.packages.join(",");
        let key = Key::of("root 1")
            .field("suite", &manifest.suite)
            .field("packages", &packages)
            .field("mounts", MOUNT_POINTS.join(" "))
            .finish();
        let phase = ctx.bus.phase("build root", format!("Debian {}", manifest.suite));
        let (entry, cached) = ctx.cache.get_or_make(&ctx.bus, "root", key.as_str(), |dir| {
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

    /// Whether it is there already.
    pub fn is_cached(ctx: &Context) -> bool {
        let entries = fs::read_dir(ctx.cache.path("root", "")).map(Iterator::count);
        entries.unwrap_or(0) > 0
    }
}

/// mmdebstrap writes a tar, and that is unpacked as the caller: a directory made by an unprivileged mmdebstrap would
/// belong to another user id, and the caller could not delete it.
fn bootstrap(
    ctx: &Context,
    phase: &crate::event::Phase,
    suite: &str,
    packages: &str,
    dir: &Path,
) -> Result<()> {
    let tar = dir.join("root.tar");
    let source = crate::kernel::archive::sources_line(ctx, suite)?;
    let mode = if nix::unistd::geteuid().is_root() { "root" } else { "unshare" };
    let mut command = Command::new("mmdebstrap");
    command.arg(format!("--mode={mode}")).arg("--variant=essential").arg(format!("--include={packages}"));
    for unread in ["man", "doc", "locale", "info"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{unread}/*"));
    }
    // busybox, git and QEMU recommend daemons and documentation.
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

/// virtme-ng from the Python index, unpacked, with launchers for the build root's Python.
#[derive(Debug, Clone)]
pub struct Vng {
    /// `bin/vng`, `bin/virtme-run` and `lib/`.
    pub dir: PathBuf,
    /// Version, for the record.
    pub version: String,
}

/// Where [`Vng::dir`] is mounted. Its init runs in the guest from there, so the path is part of each guest's command line.
pub const VNG_MOUNT: &str = "/opt/vng";

impl Vng {
    /// The pinned virtme-ng of `images/virtme-ng.txt`.
    ///
    /// # Errors
    /// Class `Host` when pip cannot fetch it, or what it fetched has another hash.
    pub fn ensure(ctx: &Context) -> Result<Vng> {
        let requirements = ctx.project.join("images/virtme-ng.txt");
        let text = read_text(&requirements)?;
        let version = text
            .lines()
            .find_map(|line| line.strip_prefix("virtme-ng==")?.split_whitespace().next())
            .ok_or_else(|| Error::host(format!("{} pins no virtme-ng", requirements.display())))?
            .to_owned();
        let key = Key::of("vng 1").field("requirements", &text).finish();
        let phase = ctx.bus.phase("virtme-ng", &version);
        let (dir, cached) =
            ctx.cache.get_or_make(&ctx.bus, "vng", key.as_str(), |dir| fetch_vng(&requirements, dir))?;
        if cached {
            phase.cached()
        } else {
            phase.finish()
        }
        Ok(Vng { dir, version })
    }
}

fn fetch_vng(requirements: &Path, dir: &Path) -> Result<()> {
    let wheels = dir.join("wheels");
    let mut command = Command::new("python3");
    command.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--only-binary",
        ":all:",
    ]);
    command.arg("--dest").arg(&wheels).arg("--requirement").arg(requirements);
    Job::new(command).run()?.ok("cannot download virtme-ng with pip").map_err(|error| {
        error.next("check the network and pip's index settings, then run the same command again")
    })?;
    let lib = dir.join("lib");
    for wheel in fs::read_dir(&wheels).on("cannot list", &wheels)?.flatten() {
        // A wheel is a zip; Python is here anyway and reads it.
        let mut command = Command::new("python3");
        command.args(["-m", "zipfile", "-e"]).arg(wheel.path()).arg(&lib);
        Job::new(command).run()?.ok("cannot unpack virtme-ng")?;
    }
    fs::remove_dir_all(&wheels).on("cannot remove", &wheels)?;
    // zipfile drops modes, and the guest executes this one.
    for init in ["virtme/guest/bin/virtme-ng-init", "virtme/guest/virtme-init"] {
        let init = lib.join(init);
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).on("cannot make executable", &init)?;
    }
    let bin = dir.join("bin");
    create_dir(&bin)?;
    for (name, module) in [("vng", "virtme_ng.run"), ("virtme-run", "virtme.commands.run")] {
        let launcher = format!(
            "#!/usr/bin/python3\nimport sys\nsys.path.insert(0, \"{VNG_MOUNT}/lib\")\nsys.argv[0] = \"{name}\"\n\
             from {module} import main\nsys.exit(main())\n"
        );
        let path = bin.join(name);
        write_file(&path, launcher)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).on("cannot make executable", &path)?;
    }
    Ok(())
}

/// Where in an initramfs a bpftool is.
pub const BPFTOOL_ENTRY: &str = "bin/bpftool";

/// An initramfs with the runner as `/init`, a bpftool where there is one to be used, and a shell when asked for.
///
/// # Errors
/// Class `Host` when it cannot be written, or the shell is asked for and the build root has none.
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
    let (dir, _) = ctx.cache.get_or_make(&ctx.bus, "initramfs", key.finish().as_str(), |dir| {
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

/// One entry in the kernel's own initramfs format, "newc" (Documentation/driver-api/early-userspace/buffer-format.rst):
/// 13 fields of 8 hex digits, the name, the content, each padded to 4 bytes. Files only: devtmpfs brings the devices.
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
