// SPDX-License-Identifier: MIT OR Apache-2.0
//! Takes single files out of Debian packages, without installing anything.

use std::fs;
use std::path::Path;

use crate::source::succeeded;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::create_dir;
use vmtest_host::clean_env;
use vmtest_host::process::Job;

/// A member of a package, and the name to keep it under.
pub(super) type Picked = (String, &'static str);

/// Takes members out of a package into the directory `into`. `pick` sees their names and says which.
///
/// # Errors
/// When there is nothing to pick, and when a tool or the disk fails.
pub(super) fn extract(
    package: &Path,
    into: &Path,
    pick: impl Fn(&[&str]) -> Option<Vec<Picked>>,
) -> Result<()> {
    let content = into.join("content.tar");
    let what = format!("cannot unpack {}", package.display());
    // dpkg-deb writes to its standard output only; the shell does no more than to open a file for it.
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
