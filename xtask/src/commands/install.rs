// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask install`: the content of the tarball in the user's data directory, and a link to the program on PATH.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::commands::{print, staging};
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::{create_dir, exchange, nonce};
use vmtest_base::places::base_dir;
use vmtest_base::program::{NAME, VERSION_FILE};
use vmtest_host::store::remove_tree;

const EXAMPLES: &str = "\
Examples:
  cargo xtask install
  cargo xtask install --prefix ~/tools

Run it again to update. To remove it: delete ~/.local/share/kmatrix and the
link that was printed.";

/// Install the program for this user, as `kmatrix`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Install into DIR/share/kmatrix and DIR/bin instead of the user's directories
    #[arg(long, value_name = "DIR")]
    prefix: Option<PathBuf>,
}

/// Where everything goes.
struct Places {
    root: PathBuf,
    link: PathBuf,
}

/// Installs it, or replaces an earlier installation as a whole.
///
/// # Errors
/// Class `Usage` if something else is in its place; otherwise when something does not build or cannot be written.
pub fn run(args: &Args, project: &Path) -> Result<()> {
    let places = places(args)?;
    let Places { root, link } = &places;
    places.are_free()?;
    let (above, bin) = (root.parent().unwrap_or(root), link.parent().unwrap_or(link));
    create_dir(above)?;
    create_dir(bin)?;
    let made = tempfile::Builder::new().prefix(".kmatrix-").tempdir_in(above);
    let stage = made.on("cannot create a directory in", above)?;
    let version = staging::fill(project, stage.path())?;
    fs::set_permissions(stage.path(), fs::Permissions::from_mode(0o755))
        .on("cannot set the mode of", stage.path())?;
    let stage = stage.keep();
    if root.exists() {
        exchange(&stage, root)?;
        remove_tree(&stage);
    } else {
        fs::rename(&stage, root).on("cannot rename into place", root)?;
    }
    // Under another name first: there is always a program to call.
    let half = bin.join(format!(".{NAME}-{}", nonce()));
    symlink(places.program(), &half).on("cannot create", &half)?;
    fs::rename(&half, link).on("cannot rename into place", link)?;
    let mut text = format!("{NAME} {} ({})\n", version.version, version.revision);
    text += &format!("installed in {}\nlinked as {}\n", root.display(), link.display());
    if !on_path(bin) {
        let bin = bin.display();
        text += &format!("{bin} is not on PATH; for this shell: export PATH=\"{bin}:$PATH\"\n");
    }
    print(&text)
}

fn places(args: &Args) -> Result<Places> {
    let Args { prefix } = args;
    if let Some(prefix) = prefix {
        let prefix = std::path::absolute(prefix).on("cannot resolve", prefix)?;
        return Ok(Places { root: prefix.join("share").join(NAME), link: prefix.join("bin").join(NAME) });
    }
    let cargo = base_dir("CARGO_HOME", ".cargo")?.join("bin");
    let bin = if cargo.is_dir() && on_path(&cargo) { cargo } else { home()?.join(".local/bin") };
    Ok(Places { root: base_dir("XDG_DATA_HOME", ".local/share")?.join(NAME), link: bin.join(NAME) })
}

fn home() -> Result<PathBuf> {
    base_dir("HOME", "")
}

fn on_path(dir: &Path) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|one| one == dir)
}

impl Places {
    fn program(&self) -> PathBuf {
        self.root.join("bin").join(NAME)
    }

    /// Whether nothing is in its place but an earlier installation.
    fn are_free(&self) -> Result<()> {
        let refused = |path: &Path, why: &str| {
            Err(Error::usage(format!("cannot install to {}", path.display()))
                .why(why)
                .next("move it away, or install elsewhere with --prefix DIR"))
        };
        let ours = self.root.join(VERSION_FILE).is_file() && self.program().is_file();
        if self.root.symlink_metadata().is_ok() && (!ours || self.root.is_symlink()) {
            return refused(&self.root, "it exists and was not made by `cargo xtask install`");
        }
        let to = fs::read_link(&self.link);
        if self.link.symlink_metadata().is_ok() && to.ok().as_deref() != Some(&self.program()) {
            return refused(
                &self.link,
                &format!("it exists and is not a link to {}", self.program().display()),
            );
        }
        Ok(())
    }
}
