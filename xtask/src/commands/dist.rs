// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask dist`: the program with everything that it needs, as a tarball that is the same whenever it is made from the
//! same commit with the same compiler.

use std::path::{Path, PathBuf};

use liblzma::write::XzEncoder;

use crate::commands::{print, staging};
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::{create_dir, write_file};
use vmtest_base::program::NAME;

const EXAMPLES: &str = "\
Examples:
  cargo xtask dist
  cargo xtask dist --out ~/kmatrix.tar.xz

Unpack it anywhere and run bin/kmatrix. It needs glibc and what its
scripts/setup.sh installs, but neither cargo nor clang nor the checkout.";

/// Level of xz: higher ones take more memory to unpack.
const LEVEL: u32 = 6;

/// Pack the program with everything that it needs into a tarball
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The tarball [default: target/kmatrix-VERSION.tar.xz in the checkout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Makes it and prints its path.
///
/// # Errors
/// When something does not build, or a file cannot be read or written.
pub fn run(args: &Args, project: &Path) -> Result<()> {
    let Args { out } = args;
    let top = format!("{NAME}-{}", env!("CARGO_PKG_VERSION"));
    let out = out.clone().unwrap_or_else(|| project.join(format!("target/{top}.tar.xz")));
    if out.is_dir() || !out.parent().is_none_or(|dir| dir.as_os_str().is_empty() || dir.is_dir()) {
        return Err(Error::usage(format!("--out {} is not a file", out.display()))
            .why("it is a directory, or its directory does not exist"));
    }
    // Not in a temporary directory: the staged program is run, which the mount of that may not allow.
    let target = project.join("target");
    create_dir(&target)?;
    let made = tempfile::Builder::new().prefix(".kmatrix-").tempdir_in(&target);
    let stage = made.on("cannot create a directory in", &target)?;
    let version = staging::fill(project, stage.path())?;
    let bytes = pack(stage.path(), &top).on("cannot pack", stage.path())?;
    write_file(&out, &bytes)?;
    print(&format!("{}\n{}, {} MB\n", out.display(), version.revision, bytes.len().div_ceil(1 << 20)))
}

/// A compressed tar of a directory: names in order, without times and owners.
fn pack(dir: &Path, top: &str) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(XzEncoder::new(Vec::new(), LEVEL));
    tar.mode(tar::HeaderMode::Deterministic);
    for entry in walkdir::WalkDir::new(dir).min_depth(1).sort_by_file_name() {
        let entry = entry?;
        let below = entry.path().strip_prefix(dir).unwrap_or(entry.path());
        if entry.file_type().is_file() {
            tar.append_path_with_name(entry.path(), Path::new(top).join(below))?;
        }
    }
    tar.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_tarball_depends_on_names_contents_and_the_executable_bit_only() {
        let made = |order: [&str; 3]| {
            let dir = tempfile::tempdir().expect("a directory");
            for name in order {
                fs::create_dir_all(dir.path().join("sub")).expect("made");
                fs::write(dir.path().join(name), name).expect("written");
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            let program = fs::Permissions::from_mode(0o755);
            fs::set_permissions(dir.path().join("b"), program).expect("set");
            pack(dir.path(), "top").expect("packed")
        };
        let one = made(["a", "b", "sub/c"]);
        assert_eq!(one, made(["sub/c", "b", "a"]));
        let mut tar = tar::Archive::new(liblzma::read::XzDecoder::new(&one[..]));
        let entry = |entry: std::io::Result<tar::Entry<'_, _>>| {
            let entry = entry.expect("an entry");
            let header = entry.header();
            let path = entry.path().expect("a path").display().to_string();
            (path, header.mode().expect("a mode") & 0o777, header.uid().expect("an owner"))
        };
        let entries: Vec<_> = tar.entries().expect("read").map(entry).collect();
        let expected = [("top/a", 0o644, 0), ("top/b", 0o755, 0), ("top/sub/c", 0o644, 0)];
        assert_eq!(entries, expected.map(|(path, mode, owner)| (path.to_owned(), mode, owner)));
    }
}
