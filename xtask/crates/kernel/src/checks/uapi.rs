// SPDX-License-Identifier: MIT OR Apache-2.0
//! `scripts/check-uapi.sh` of the tree: whether a patch changes the headers of user space in an incompatible
//! way. The script wants a git repository, and a tree may come from an archive: it gets the two states as
//! directories, and a `git` that knows only these.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::patched::PatchedTree;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::{create_dir, write_file};
use vmtest_host::context::Context;
use vmtest_host::process::Job;
use vmtest_host::sandbox::{Sandbox, Tools};

/// The script, below the tree.
const SCRIPT: &str = "scripts/check-uapi.sh";
/// Time limit: it compiles about a thousand headers twice.
const LIMIT: Duration = Duration::from_secs(900);

/// Most lines of output that are read.
const MAX_LINES: usize = 10_000;

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

/// What the script reports about `base`; empty if the headers stay compatible. The script is that of `past`:
/// a patch does not judge itself.
///
/// # Errors
/// Class `Host` if it cannot run, or compares nothing: a tree without the script, tools without abidiff, a
/// header that did not compile before the patch either.
pub fn run(ctx: &Context, tools: &Tools, past: &PatchedTree, base: &PatchedTree) -> Result<Vec<String>> {
    let scratch = ctx.cache.scratch()?;
    for (name, tree) in [("past", past), ("base", base)] {
        tree.sync(&scratch.path().join(name), &scratch.path().join(format!("{name}.json")))?;
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
        .env("KERNEL_SRC", seen.join("past").to_string_lossy())
        .env("TMPDIR", "/tmp");
    let mut command = sandbox.command("bash");
    command.arg(seen.join("past").join(SCRIPT)).args(["-b", "base", "-p", "past"]);
    let mut output: Vec<String> = Vec::new();
    let keep = |_, line: &str| {
        if output.len() < MAX_LINES {
            output.push(line.to_owned());
        }
    };
    let done = Job::new(command).deadline(LIMIT).on_line(keep).run()?;
    let report = read(&output, done.status.code() == Some(0));
    report.map_err(|why| Error::host(format!("{SCRIPT} has no result")).why(why))
}

/// Reads the output of the script. `success`: it exited with 0.
///
/// # Errors
/// Why it says nothing of the patch.
fn read(output: &[String], success: bool) -> std::result::Result<Vec<String>, String> {
    let says = |text: &str| output.iter().find(|line| line.contains(text));
    if success {
        // It exits with 0 as well if both states were found to be the same.
        let compared = says("appear to be backwards compatible").or(says("No changes to UAPI headers"));
        return compared.map(|_| Vec::new()).ok_or_else(|| "it compared no header".to_owned());
    }
    if says("appear _not_ to be backwards compatible").is_none() {
        let error = says("error - ").or(output.last());
        return Err(error.map_or("it printed nothing".to_owned(), String::clone));
    }
    let mut lines: Vec<String> = Vec::new();
    let mut is_new = false;
    for line in output {
        // A report begins with a title between rulers, and ends with a ruler.
        if line.starts_with("==== ") {
            let broken_before = line.contains("Could not compile") && line.contains(" at past ");
            is_new = !broken_before;
        }
        let is_ruler = line.chars().all(|c| c == '=');
        if is_new && !is_ruler && !line.starts_with("error - ") {
            lines.push(line.trim_matches(['=', ' ']).to_owned());
        }
        is_new &= !is_ruler;
    }
    match lines.is_empty() {
        true => Err("no header that it names compiled before this patch".to_owned()),
        false => Ok(lines),
    }
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

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_changed_struct_is_reported_with_its_field() {
        let found = read(&lines(include_str!("uapi/broken.txt")), false).expect("a report");
        assert_eq!(found[0], "ABI differences detected in include/linux/bpf.h from past -> base");
        assert!(found.iter().any(|line| line.contains("'__u32 flags', at offset 32")), "{found:?}");
        assert!(!found.iter().any(|line| line.is_empty() || line.starts_with("error - ")), "{found:?}");
    }

    #[test]
    fn nothing_is_compatible_that_was_not_compared() {
        let compatible = "All 981 UAPI headers compatible with x86 appear to be backwards compatible\n";
        assert_eq!(read(&lines(compatible), true), Ok(Vec::new()));
        for (output, success) in [
            ("", true),
            ("Installing user-facing UAPI headers from base... OK\n", true),
            ("", false),
            ("error - abidiff not found!\nPlease install abigail-tools version 2.4 or greater\n", false),
        ] {
            assert!(read(&lines(output), success).is_err(), "{output}");
        }
    }

    #[test]
    fn a_header_that_did_not_compile_before_is_no_finding() {
        let before = "==== Could not compile version of UAPI header include/linux/x.h at past ====\n\
                      x.h:1:1: error: unknown type name\n=====\n";
        let end = "error - 1/981 UAPI headers compatible with x86 appear _not_ to be backwards compatible\n";
        assert!(read(&lines(&format!("{before}{end}")), false).is_err());
        let after = before.replace("at past", "at base");
        assert_eq!(read(&lines(&format!("{before}{after}{end}")), false).map(|found| found.len()), Ok(2));
    }
}
