// SPDX-License-Identifier: MIT OR Apache-2.0
//! The virtme-ng that is pinned in `images/`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::context::Context;
use crate::process::Job;
use crate::store::CacheKind;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::{create_dir, read_text, write_file};
use vmtest_base::key::Key;

/// virtme-ng from PyPI, unpacked, with launchers for the build root's Python.
#[derive(Debug, Clone)]
pub struct Vng {
    /// Contains `bin/vng`, `bin/virtme-run` and `lib/`.
    pub dir: PathBuf,
    pub version: String,
}

/// Where [`Vng::dir`] is mounted. The guest runs its init from this path, so it is part of each guest's
/// command line.
pub const VNG_MOUNT: &str = "/opt/vng";

impl Vng {
    /// The pinned virtme-ng of `images/virtme-ng.txt`.
    ///
    /// # Errors
    /// Class `Host` if pip cannot download it, or if the download has another hash.
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
        let (dir, cached) = ctx
            .cache
            .get_or_make(&ctx.bus, CacheKind::Vng, key.as_str(), |dir| fetch_vng(&requirements, dir))?;
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
        // A wheel is a zip archive, and Python is available anyway.
        let mut command = Command::new("python3");
        command.args(["-m", "zipfile", "-e"]).arg(wheel.path()).arg(&lib);
        Job::new(command).run()?.ok("cannot unpack virtme-ng")?;
    }
    fs::remove_dir_all(&wheels).on("cannot remove", &wheels)?;
    // zipfile drops modes, and the guest executes this file.
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
