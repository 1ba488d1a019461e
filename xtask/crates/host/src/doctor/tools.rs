// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of all programs and files that are needed, and how to look for each.

use std::path::Path;
use std::process::Command;

use super::{Check, Need, PROBE_LIMIT, SETUP, SETUP_HOST, Status, is_root, located};
use crate::process::{Job, find_program};

pub(super) const RUSTUP: &str = "rustup update stable (rustup itself: https://rustup.rs)";
const VNG: &str = "pipx install virtme-ng";

/// How to look for a tool.
pub(super) enum Look {
    /// A program on PATH, with the arguments that print its version (empty if it has no such option).
    Program { name: &'static str, ask: &'static [&'static str], minimum: Option<(u32, u32)> },
    /// A file in the linker's search path, and its header in /usr/include.
    Library { file: &'static str, header: &'static str },
    /// Any of these files.
    AnyOf(&'static [&'static str]),
}

pub(super) struct Tool {
    pub(super) name: &'static str,
    pub(super) look: Look,
    needs: &'static [Need],
    why: &'static str,
    fix: &'static str,
    /// Runs work without it.
    pub(super) optional: bool,
}

const VERSION: &[&str] = &["--version"];

const fn program(
    name: &'static str,
    minimum: Option<(u32, u32)>,
    needs: &'static [Need],
    why: &'static str,
    fix: &'static str,
) -> Tool {
    let look = Look::Program { name, ask: VERSION, minimum };
    Tool { name, look, needs, why, fix, optional: false }
}

const fn library(file: &'static str, header: &'static str, why: &'static str) -> Tool {
    let look = Look::Library { file, header };
    Tool { name: file, look, needs: &[Need::Runner], why, fix: SETUP, optional: false }
}

/// A program that only `--toolchain host` uses.
const fn host_tool(name: &'static str, minimum: Option<(u32, u32)>, why: &'static str) -> Tool {
    program(name, minimum, &[Need::HostBuild], why, SETUP_HOST)
}

/// All programs and files, in the order of the table.
pub(super) const TOOLS: &[Tool] = &[
    program("cargo", Some((1, 85)), &[Need::Harness, Need::Runner], "builds harness and runner", RUSTUP),
    program("rustc", Some((1, 85)), &[Need::Harness, Need::Runner], "builds harness and runner", RUSTUP),
    program("cc", None, &[Need::Harness, Need::Runner], "links what cargo builds", SETUP),
    program("bwrap", Some((0, 8)), &[Need::Sandbox], "isolates builds and guests", SETUP),
    program("mmdebstrap", None, &[Need::BuildRoot], "makes the build root", SETUP),
    Tool {
        name: "debian-archive-keyring",
        look: Look::AnyOf(&[
            "/usr/share/keyrings/debian-archive-keyring.gpg",
            "/usr/share/keyrings/debian-archive-keyring.pgp",
        ]),
        needs: &[Need::BuildRoot, Need::Archive],
        why: "checks every package's signature",
        fix: SETUP,
        optional: false,
    },
    Tool {
        name: "pip",
        look: Look::Program {
            name: "python3",
            // Four times as fast as `-m pip --version`.
            ask: &["-c", "import pip; print(pip.__version__)"],
            minimum: None,
        },
        needs: &[Need::BuildRoot],
        why: "fetches the pinned virtme-ng",
        fix: SETUP,
        optional: false,
    },
    program("apt-get", None, &[Need::Archive], "fetches kernels of the Debian archive", SETUP),
    program("dpkg-deb", None, &[Need::Archive], "unpacks kernels of the Debian archive", SETUP),
    program("git", None, &[Need::Source], "reads commits, applies series", SETUP),
    program("tar", None, &[Need::BuildRoot, Need::Archive, Need::Source], "unpacks sources", SETUP),
    program("xz", None, &[Need::Archive, Need::Source], "unpacks sources", SETUP),
    program("clang", Some((14, 0)), &[Need::Runner], "compiles the suite's BPF programs", SETUP),
    program("make", None, &[Need::Runner], "builds the libbpf inside the runner", SETUP),
    program("pkg-config", None, &[Need::Runner], "needed by the build of libbpf", SETUP),
    library("libc.a", "stdio.h", "the runner is static"),
    library("libelf.a", "libelf.h", "the runner is static"),
    library("libz.a", "zlib.h", "the runner is static"),
    host_tool("gcc", None, "compiles kernels"),
    host_tool("ld.lld", None, "links kernels of variants with clang"),
    host_tool("llvm-objcopy", None, "part of kernel builds with clang"),
    host_tool("bc", None, "part of kernel builds"),
    host_tool("bison", None, "part of kernel builds"),
    host_tool("flex", None, "part of kernel builds"),
    host_tool("cpio", None, "packs what the kernel carries"),
    host_tool("rsync", None, "installs the kernel's headers"),
    host_tool("pahole", Some((1, 16)), "makes BTF; without it the option vanishes"),
    Tool {
        name: "libssl",
        look: Look::AnyOf(&["/usr/include/openssl/ssl.h"]),
        needs: &[Need::HostBuild],
        why: "part of kernel builds",
        fix: SETUP_HOST,
        optional: false,
    },
    Tool {
        name: "ccache",
        look: Look::Program { name: "ccache", ask: VERSION, minimum: None },
        needs: &[Need::HostBuild],
        why: "makes the second build of a file quick",
        fix: SETUP_HOST,
        optional: true,
    },
    program("qemu-system-x86_64", None, &[Need::HostBoot], "runs guests", SETUP_HOST),
    program("vng", Some((1, 30)), &[Need::HostVng], "boots kernels that were built here", VNG),
];

/// Only ordinary users need it: root makes the build root without a user namespace.
const NEWUIDMAP: Tool = Tool {
    name: "newuidmap",
    look: Look::Program { name: "newuidmap", ask: &[], minimum: None },
    needs: &[Need::BuildRoot],
    why: "gives mmdebstrap users of its own",
    fix: SETUP,
    optional: false,
};

pub(super) fn wanted(needs: &[Need]) -> impl Iterator<Item = &'static Tool> {
    let for_users: &[Tool] = if is_root() { &[] } else { &[NEWUIDMAP] };
    TOOLS.iter().chain(for_users).filter(|tool| tool.needs.iter().any(|need| needs.contains(need)))
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// Present, with its version, or "yes" if that is unknown.
    There(String),
    /// Present but does not work; why.
    Broken(String),
    /// Missing; where it should be.
    Absent(String),
}

/// Finds a tool and, if it is a program, runs it to get its version.
pub(super) fn look_closely(look: &Look) -> Seen {
    match look {
        Look::Program { name, ask, .. } if !ask.is_empty() => {
            let Some(path) = find_program(name) else { return absent_from_path(name) };
            let mut command = Command::new(path);
            command.args(*ask).env("LC_ALL", "C");
            match Job::new(command).deadline(PROBE_LIMIT).run() {
                Ok(done) if done.success() => {
                    let version = done.tail.iter().find_map(|line| dotted(line));
                    Seen::There(version.unwrap_or("yes").to_owned())
                }
                Ok(done) => {
                    let said = cause(&done.tail).unwrap_or("no message");
                    Seen::Broken(format!("`{}` fails: {said}", done.command))
                }
                Err(error) => Seen::Broken(error.summary()),
            }
        }
        _ => look_briefly(look),
    }
}

/// The line that says why a program failed: the last one with an error, else the last one. Python prints it
/// last; rustup prints it first, and a backtrace may follow.
pub(super) fn cause(lines: &[String]) -> Option<&str> {
    lines.iter().rev().find(|line| line.contains("rror")).or(lines.last()).map(String::as_str)
}

/// Finds a tool without running it.
pub(super) fn look_briefly(look: &Look) -> Seen {
    match look {
        Look::Program { name, .. } => match find_program(name) {
            Some(_) => Seen::There("yes".to_owned()),
            None => absent_from_path(name),
        },
        Look::Library { file, header } => {
            let include = Path::new("/usr/include").join(header);
            // Debian's multiarch directory, Fedora's, Arch's.
            let multiarch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
            let dirs = [multiarch.as_str(), "/usr/lib64", "/usr/lib"];
            // stdio.h is checked instead of libc.a's many headers.
            if !dirs.iter().any(|dir| Path::new(dir).join(file).exists()) {
                Seen::Absent("is not where the linker looks".to_owned())
            } else if !include.exists() {
                Seen::Absent(format!("{} is missing", include.display()))
            } else {
                Seen::There("yes".to_owned())
            }
        }
        Look::AnyOf(paths) => match paths.iter().find(|path| Path::new(path).exists()) {
            Some(_) => Seen::There("yes".to_owned()),
            None => Seen::Absent(format!("{} is missing", paths.first().copied().unwrap_or_default())),
        },
    }
}

fn absent_from_path(name: &str) -> Seen {
    Seen::Absent(format!("{name} is not on PATH"))
}

/// The check of a tool for these needs.
pub(super) fn judge(tool: &Tool, needs: &[Need], seen: Seen) -> Check {
    let minimum = match tool.look {
        Look::Program { minimum, .. } => minimum,
        Look::Library { .. } | Look::AnyOf(_) => None,
    };
    let needed_for: Vec<Need> = tool.needs.iter().copied().filter(|need| needs.contains(need)).collect();
    let bad = if tool.optional || !needed_for.iter().any(|need| need.always()) {
        Status::Warning
    } else {
        Status::Missing
    };
    let (found, status, problem, fix) = match seen {
        Seen::There(found) => match (minimum, version(&found)) {
            (Some(least), Some(has)) if has < least => {
                let problem = format!("{} {found} is older than {}.{}", tool.name, least.0, least.1);
                (Some(found), bad, Some(problem), Some(newer(tool, least)))
            }
            // Trust a tool without a version: rejecting it would stop runs that work.
            _ => (Some(found), Status::Ok, None, None),
        },
        Seen::Broken(why) | Seen::Absent(why) => (None, bad, Some(why), Some(located(tool.fix))),
    };
    Check {
        name: tool.name,
        found,
        minimum: minimum.map(|(major, minor)| format!("{major}.{minor}")),
        why: tool.why,
        needed_for,
        status,
        problem,
        fix,
    }
}

/// The fix for a tool that is too old. Reinstalling the distribution's package would not help.
fn newer(tool: &Tool, (major, minor): (u32, u32)) -> String {
    let host_only = |need: &Need| matches!(need, Need::HostBuild | Need::HostBoot | Need::HostVng);
    if tool.fix == RUSTUP {
        RUSTUP.to_owned()
    } else if tool.needs.iter().all(host_only) {
        format!(
            "install {} {major}.{minor} or newer, or use --toolchain image, which brings its own",
            tool.name
        )
    } else if tool.needs.contains(&Need::Sandbox) {
        format!("install {} {major}.{minor} or newer, or go without a sandbox: --toolchain host", tool.name)
    } else {
        format!("install {} {major}.{minor} or newer", tool.name)
    }
}

/// The first dotted number in a line: `14.0.6` in `Debian clang version 14.0.6`.
pub(super) fn dotted(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .map(|word| word.trim_matches('.'))
        .find(|word| word.contains('.') && version(word).is_some())
}

/// Major and minor version of a dotted number.
pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}
