// SPDX-License-Identifier: MIT OR Apache-2.0
//! `scripts/check-uapi.sh` of the tree: whether a patch changes the headers of user space in an incompatible
//! way. The script wants a git repository, and a tree may come from an archive: it gets the two states as
//! directories, and a `git` that knows only these.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::patched::PatchedTree;
use crate::source_view::{self, Overlaid};
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::{create_dir, write_file};
use vmtest_host::context::Context;
use vmtest_host::process::Job;
use vmtest_host::sandbox::{Sandbox, Tools};

/// The script, below the tree.
const SCRIPT: &str = "scripts/check-uapi.sh";
/// Time limit: it compiles about a thousand headers twice.
const LIMIT: Duration = Duration::from_secs(900);

/// Answers what the script asks of git about the states `past` and `base`, which are directories in `/obj`.
const GIT: &str = r#"#!/bin/bash
set -e
ref="${!#}"
case "$1" in
    archive) cd "$STATES/$ref"
        tar --create --file=- --exclude='./tools/testing' --exclude='./drivers' --exclude='./Documentation' \
            --exclude='./sound' --exclude='./fs' --exclude='./net' --transform="s,^\./,$ref-archive/," . ;;
    rev-parse) echo "$ref" ;;
    diff | merge-base) ;;
    *) echo "git $1 is not known here" >&2; exit 1 ;;
esac
"#;

/// Whether a patch that changes these files can change what user space sees.
pub fn concerns(files: &[String]) -> bool {
    files.iter().any(|file| {
        file.starts_with("include/uapi/") || file.contains("/include/uapi/") && file.starts_with("arch/x86/")
    })
}

/// What the script reports; empty if the headers stay compatible.
///
/// # Errors
/// Class `Host` if it cannot run: a tree without the script, or tools without abidiff.
pub fn run(ctx: &Context, tools: &Tools, past: &PatchedTree, base: &PatchedTree) -> Result<Vec<String>> {
    let scratch = ctx.cache.scratch()?;
    for (name, tree) in [("past", past), ("base", base)] {
        unpack(scratch.path(), name, tree)?;
    }
    let bin = scratch.path().join("bin");
    create_dir(&bin)?;
    write_file(&bin.join("git"), GIT)?;
    let git = bin.join("git");
    std::fs::set_permissions(&git, std::fs::Permissions::from_mode(0o755))
        .on("cannot make executable", &git)?;
    let sandbox = Sandbox::new(tools).read_only(scratch.path(), "/obj");
    let seen = sandbox.see("/obj");
    let sandbox = sandbox
        .path_first(seen.join("bin").to_string_lossy())
        .env("STATES", seen.to_string_lossy())
        .env("KERNEL_SRC", seen.join("base").to_string_lossy())
        .env("TMPDIR", "/tmp");
    let mut command = sandbox.command("bash");
    command.arg(seen.join("base").join(SCRIPT)).args(["-b", "base", "-p", "past"]);
    let done = Job::new(command).deadline(LIMIT).run()?;
    match done.status.code() {
        Some(0) => Ok(Vec::new()),
        // Reports go to standard error, of which the last lines are kept.
        Some(1) if done.tail.iter().any(|line| line.contains("backwards compatible")) => {
            Ok(report(&done.tail))
        }
        _ => {
            let why = done.tail.iter().find(|line| line.starts_with("error - ")).cloned();
            let error = Error::host(format!("{SCRIPT} cannot run here"));
            Err(why.map_or_else(|| done.error("cannot run check-uapi.sh"), |why| error.why(why)))
        }
    }
}

fn unpack(scratch: &Path, name: &str, tree: &PatchedTree) -> Result<()> {
    let overlay = tree.overlay().map(|overlay| (overlay, overlay.dir.join("files")));
    source_view::sync(
        &scratch.join(name),
        &scratch.join(format!("{name}.json")),
        &tree.source().dir,
        &tree.source().key,
        overlay.as_ref().map(|(overlay, files)| Overlaid {
            files,
            changed: &overlay.changed,
            deleted: &overlay.deleted,
        }),
    )
    .map(|_| ())
}

/// The lines about what changed, without the summary and the rulers.
fn report(output: &[String]) -> Vec<String> {
    let tells = |line: &&String| {
        line.starts_with("====") && line.contains("UAPI header")
            || line.contains("ABI differences")
            || line.starts_with("    ")
    };
    let lines: Vec<String> =
        output.iter().filter(tells).map(|line| line.trim_matches(['=', ' ']).to_owned()).collect();
    if lines.is_empty() { output.to_vec() } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_headers_of_user_space_concern_it() {
        assert!(concerns(&["kernel/a.c".into(), "include/uapi/linux/bpf.h".into()]));
        assert!(concerns(&["arch/x86/include/uapi/asm/kvm.h".into()]));
        assert!(!concerns(&["arch/arm64/include/uapi/asm/kvm.h".into(), "include/linux/bpf.h".into()]));
        assert!(!concerns(&["tools/include/uapi/linux/bpf.h".into()]));
    }
}
