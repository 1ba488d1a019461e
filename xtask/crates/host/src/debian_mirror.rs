// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which Debian mirror is used, and the sources list entries for it.

use xshell::{Shell, cmd};

use crate::context::Context;
use vmtest_base::error::{Error, Result};

/// End of the hint to a user who cannot reach an archive.
pub const OTHER_WAYS: &str =
    "or name a kernel that needs no archive: tree:PATH, tar:FILE, git:PATH@REV, image:FILE";

/// Suites that are searched, in order of preference: name in the archive, name for users.
pub const SUITES: [(&str, &str); 3] =
    [("trixie", "stable"), ("trixie-backports", "backports"), ("testing", "testing")];

/// Keys that sign the archive's releases.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The mirror to use: the requested one, else the one that this host's apt uses.
pub fn mirror(ctx: &Context, shell: &Shell) -> Result<String> {
    match ctx.mirror() {
        Some(mirror) if mirror.contains(':') && !mirror.contains(char::is_whitespace) => {
            Ok(mirror.to_owned())
        }
        Some(mirror) => Err(Error::usage(format!("`{mirror}` is not a mirror"))
            .next("give a URL that holds dists/ and pool/, as in an apt source")),
        None => host_mirror(shell),
    }
}

/// The Debian mirror of this host's apt.
fn host_mirror(shell: &Shell) -> Result<String> {
    let format = "$(ORIGIN)|$(CODENAME)|$(REPO_URI)";
    let targets =
        cmd!(shell, "apt-get indextargets --format {format}").quiet().ignore_stderr().env("LC_ALL", "C");
    let targets = targets.read().unwrap_or_default();
    pick_mirror(&targets).ok_or_else(|| {
        Error::host(UNKNOWN)
            .why("this host's apt uses none, and neither --mirror nor the settings name one")
            .detail(["MIRROR/debian is the directory that holds dists/ and pool/".to_owned()])
            .next("export VMTEST_DEBIAN_MIRROR=http://MIRROR/debian")
    })
}

const UNKNOWN: &str = "cannot choose a Debian mirror";

/// Whether something failed only because no mirror is known.
pub fn is_unknown(error: &Error) -> bool {
    error.what == UNKNOWN || error.why.iter().any(|why| why == UNKNOWN)
}

/// Picks the mirror of Debian's main archive from the output of `apt-get indextargets --format
/// '$(ORIGIN)|$(CODENAME)|$(REPO_URI)'`. The origin stays unexpanded if it was never downloaded; then the
/// path decides.
fn pick_mirror(targets: &str) -> Option<String> {
    let rows: Vec<(&str, &str, &str)> = targets
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, '|');
            Some((parts.next()?, parts.next()?, parts.next()?.trim()))
        })
        .filter(|(_, _, uri)| !uri.is_empty() && !uri.contains("security") && !uri.starts_with("cdrom:"))
        .collect();
    let main = rows.iter().find(|(origin, codename, _)| *origin == "Debian" && !codename.contains('-'));
    let any = || rows.iter().find(|(origin, _, _)| *origin == "Debian");
    let by_path = || {
        rows.iter().find(|(origin, _, uri)| {
            (origin.is_empty() || origin.starts_with('$')) && uri.trim_end_matches('/').ends_with("/debian")
        })
    };
    main.or_else(any).or_else(by_path).map(|(_, _, uri)| uri.trim_end_matches('/').to_owned())
}

/// Fails if no mirror is known.
///
/// # Errors
/// The one that making the build root would fail with.
pub fn require(ctx: &Context) -> Result<()> {
    mirror(ctx, &shell()?).map(drop)
}

fn shell() -> Result<Shell> {
    Shell::new().map_err(|error| Error::host("cannot use the working directory").why(error))
}

/// The sources list entry for one Debian suite, verified with Debian's own keys. The build root is made from
/// it.
///
/// # Errors
/// If there is no mirror.
pub fn sources_line(ctx: &Context, suite: &str) -> Result<String> {
    let shell = shell()?;
    Ok(format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror(ctx, &shell)?))
}

/// The sources list of the private apt root: binaries and sources of every suite.
pub fn sources_list(mirror: &str) -> String {
    SUITES
        .iter()
        .map(|(suite, _)| {
            format!(
                "deb [ arch=amd64 lang=none target=Packages signed-by={KEYRING} ] {mirror} {suite} main\n\
                 deb-src [ lang=none target=Sources signed-by={KEYRING} ] {mirror} {suite} main\n"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_main_mirror_is_picked() {
        let host = "\
Debian|bookworm-security|http://mirror.example/debian-security/
Debian|bookworm-updates|http://mirror.example/debian/
Debian|bookworm|http://main.example/debian/
. nodistro|nodistro|https://third.example/node_20.x/
";
        assert_eq!(pick_mirror(host).as_deref(), Some("http://main.example/debian"));
        let never_updated = "$(ORIGIN)|$(CODENAME)|http://mirror.example/debian/";
        assert_eq!(pick_mirror(never_updated).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(pick_mirror("Ubuntu|noble|http://archive.example/ubuntu/"), None);
    }
}
