// SPDX-License-Identifier: MIT OR Apache-2.0
//! Extracts single files from Debian packages without installing them.

use std::fs;
use std::path::Path;

use crate::source::succeeded;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::create_dir;
use vmtest_host::clean_env;
use vmtest_host::process::Job;

/// A member of a package, and the file name for it.
pub(super) type Picked = (String, &'static str);

/// Extracts members of a package into the directory `into`. `pick` gets all names and selects some.
///
/// # Errors
/// If `pick` finds nothing, or a tool or the disk fails.
pub(super) fn extract(
    package: &Path,
    into: &Path,
    pick: impl Fn(&[&str]) -> Option<Vec<Picked>>,
) -> Result<()> {
    let content = into.join("content.tar");
    let what = format!("cannot unpack {}", package.display());
    // dpkg-deb writes only to its standard output; the shell just redirects that to a file.
    let mut command = clean_env::command("sh");
    command.args(["-c", "exec dpkg-deb --fsys-tarfile \"$1\" > \"$2\"", "sh"]).arg(package).arg(&content);
    succeeded(Job::new(command).run()?, &what)?;
    let mut list = clean_env::command("tar");
    list.arg("-tf").arg(&content);
    let listing = succeeded(Job::new(list).run()?, &what)?.stdout;
    let members: Vec<&str> = listing.lines().collect();
    let picked = pick(&members).ok_or_else(|| {
        Error::host(&what)
            .why("the wanted files are not in it")
            .detail(members.iter().take(10).map(|&member| member.to_owned()))
    })?;
    for (member, name) in picked {
        let at = into.join("member");
        create_dir(&at)?;
        let mut take = clean_env::command("tar");
        take.args(["--no-same-owner", "--no-same-permissions"]).arg("-xf").arg(&content).arg("-C").arg(&at);
        take.arg("--").arg(&member);
        succeeded(Job::new(take).run()?, &what)?;
        let from = at.join(member.trim_start_matches("./"));
        fs::rename(&from, into.join(name)).on("cannot move", &from)?;
    }
    fs::remove_file(&content).on("cannot remove", &content)
}
