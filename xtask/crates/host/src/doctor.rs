// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this host has and lacks, and the one command that mends it.
//!
//! [`examine`] asks everything, versions included, for `doctor`. [`require`] asks what a run cannot begin without and
//! takes milliseconds. Neither changes the host: `scripts/setup.sh` does, and names the same things.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::accel;
use crate::process::{Job, find_program};
use crate::store::Cache;
use vmtest_base::error::{Error, Result};

/// Whose compilers, pahole and QEMU are used.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Toolchain {
    /// Those of the build root, in the sandbox
    #[default]
    Image,
    /// Those of this host, without a sandbox
    Host,
}

/// What something is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Compiling the harness itself.
    Harness,
    /// Closing builds and guests off from the host and the network.
    Sandbox,
    /// Making the build root.
    BuildRoot,
    /// Fetching `src:` and `debian:` kernels.
    Archive,
    /// Reading `tree:`, `git:` and `tar:` kernels, applying series.
    Source,
    /// Building the runner and its BPF programs.
    Runner,
    /// Building kernels with `--toolchain host`.
    HostBuild,
    /// Booting with `--toolchain host`.
    HostBoot,
    /// `--boot vng` with `--toolchain host`.
    HostVng,
    /// Room for kernels and guests.
    Storage,
    /// Guests at the speed of the processor.
    Acceleration,
}

impl Need {
    /// What a reader of the table sees.
    pub fn label(self) -> &'static str {
        match self {
            Need::Harness => "harness",
            Need::Sandbox => "sandbox",
            Need::BuildRoot => "build root",
            Need::Archive => "archive",
            Need::Source => "source",
            Need::Runner => "runner",
            Need::HostBuild => "host build",
            Need::HostBoot => "host boot",
            Need::HostVng => "host vng",
            Need::Storage => "room",
            Need::Acceleration => "speed",
        }
    }

    /// Whether every run with this toolchain may come to need it. `src:` and `debian:` kernels are one source among
    /// several, and emulation works everywhere: a host without these is no broken host.
    fn always(self) -> bool {
        !matches!(self, Need::Archive | Need::Acceleration)
    }
}

/// What an examination came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is there and new enough.
    Ok,
    /// Some runs will fail, or be slow.
    Warning,
    /// Runs will fail.
    Lacking,
}

impl Verdict {
    /// What a reader of the table sees.
    pub fn label(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Lacking => "LACKING",
        }
    }
}

/// One thing that was looked at. The fields, in this order, are what `doctor --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Name of the program, file or property.
    pub name: &'static str,
    /// Its version or value; `None` when it is not there.
    pub found: Option<String>,
    /// Smallest version or value that will do; `None` when any does.
    pub minimum: Option<String>,
    /// What it is for, in a few words.
    pub why: &'static str,
    /// What fails without it.
    pub needed_for: Vec<Need>,
    /// The judgement.
    pub verdict: Verdict,
    /// What is wrong with it; `None` when nothing is.
    pub problem: Option<String>,
    /// The one command, or the one thing to do; `None` when nothing is wrong.
    pub mend: Option<String>,
}

/// Installs what the harness needs.
const SETUP: &str = "scripts/setup.sh";
/// Installs what `--toolchain host` needs, too.
const SETUP_HOST: &str = "scripts/setup.sh --toolchain-host";
const RUSTUP: &str = "rustup update stable (rustup itself: https://rustup.rs)";
const VNG: &str = "pipx install virtme-ng";

/// Longest time that a program may take to tell its version, or the sandbox to open. A broken shim must not hang us.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

const GIB: u64 = 1 << 30;
/// An object directory with its source and the build root fill about this much.
const DISK_WARNING: u64 = 8 * GIB;
/// Not even the build root and one kernel's source fit.
const DISK_LACKING: u64 = 3 * GIB;
/// The link of vmlinux with BTF, or a guest beside a compiler.
const MEMORY_NEEDED: u64 = 2 * GIB;

/// How to look for something.
enum Look {
    /// A program on PATH that tells its version when asked like this; an empty list: it has no such option.
    Program { name: &'static str, ask: &'static [&'static str], minimum: Option<(u32, u32)> },
    /// A file where the linker looks, and its header (empty: none).
    Library { file: &'static str, header: &'static str },
    /// One of these files.
    AnyOf(&'static [&'static str]),
}

struct Tool {
    name: &'static str,
    look: Look,
    needs: &'static [Need],
    why: &'static str,
    mend: &'static str,
    /// Runs work without it.
    optional: bool,
}

const VERSION: &[&str] = &["--version"];

const fn program(
    name: &'static str,
    minimum: Option<(u32, u32)>,
    needs: &'static [Need],
    why: &'static str,
    mend: &'static str,
) -> Tool {
    let look = Look::Program { name, ask: VERSION, minimum };
    Tool { name, look, needs, why, mend, optional: false }
}

const fn library(file: &'static str, header: &'static str, why: &'static str) -> Tool {
    let look = Look::Library { file, header };
    Tool { name: file, look, needs: &[Need::Runner], why, mend: SETUP, optional: false }
}

/// A program that only `--toolchain host` uses.
const fn host_tool(name: &'static str, minimum: Option<(u32, u32)>, why: &'static str) -> Tool {
    program(name, minimum, &[Need::HostBuild], why, SETUP_HOST)
}

/// Everything that is a program or a file, in the order of the table.
const TOOLS: &[Tool] = &[
    program("cargo", Some((1, 85)), &[Need::Harness, Need::Runner], "builds harness and runner", RUSTUP),
    program("rustc", Some((1, 85)), &[Need::Harness, Need::Runner], "builds harness and runner", RUSTUP),
    program("cc", None, &[Need::Harness, Need::Runner], "links what cargo builds", SETUP),
    program("bwrap", Some((0, 8)), &[Need::Sandbox], "closes builds and guests off", SETUP),
    program("mmdebstrap", None, &[Need::BuildRoot], "makes the build root", SETUP),
    Tool {
        name: "debian-archive-keyring",
        look: Look::AnyOf(&[
            "/usr/share/keyrings/debian-archive-keyring.gpg",
            "/usr/share/keyrings/debian-archive-keyring.pgp",
        ]),
        needs: &[Need::BuildRoot, Need::Archive],
        why: "checks every package's signature",
        mend: SETUP,
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
        mend: SETUP,
        optional: false,
    },
    program("apt-get", None, &[Need::Archive], "fetches kernels of the Debian archive", SETUP),
    program("dpkg-deb", None, &[Need::Archive], "unpacks kernels of the Debian archive", SETUP),
    program("git", None, &[Need::Source], "reads commits, applies series", SETUP),
    program("tar", None, &[Need::BuildRoot, Need::Archive, Need::Source], "unpacks sources", SETUP),
    program("xz", None, &[Need::Archive, Need::Source], "unpacks sources", SETUP),
    program("clang", Some((14, 0)), &[Need::Runner], "compiles the suite's BPF programs", SETUP),
    program("make", None, &[Need::Runner], "builds the libbpf inside the runner", SETUP),
    program("pkg-config", None, &[Need::Runner], "asked for by the build of libbpf", SETUP),
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
        mend: SETUP_HOST,
        optional: false,
    },
    Tool {
        name: "ccache",
        look: Look::Program { name: "ccache", ask: VERSION, minimum: None },
        needs: &[Need::HostBuild],
        why: "makes the second build of a file quick",
        mend: SETUP_HOST,
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
    mend: SETUP,
    optional: false,
};

/// Every need of a run with this toolchain.
fn needs_of(toolchain: Toolchain) -> &'static [Need] {
    use Need::*;
    match toolchain {
        Toolchain::Image => &[Harness, Sandbox, BuildRoot, Archive, Source, Runner, Storage, Acceleration],
        Toolchain::Host => {
            &[Harness, Archive, Source, Runner, HostBuild, HostBoot, HostVng, Storage, Acceleration]
        }
    }
}

/// Looks at everything that runs with this toolchain may need, versions included: some 0.2 s, as the programs are
/// asked side by side.
pub fn examine(toolchain: Toolchain) -> Vec<Finding> {
    let needs = needs_of(toolchain);
    let mut looks: Vec<Box<dyn FnOnce() -> Finding + Send>> = Vec::new();
    for tool in wanted(needs) {
        looks.push(Box::new(move || judge(tool, needs, look_closely(&tool.look))));
    }
    if needs.contains(&Need::Sandbox) {
        looks.push(Box::new(user_namespaces));
    }
    if needs.contains(&Need::BuildRoot) && !is_root() {
        looks.push(Box::new(subordinate_ids));
    }
    looks.push(Box::new(disk));
    looks.push(Box::new(memory));
    looks.push(Box::new(kvm));
    std::thread::scope(|scope| {
        let running: Vec<_> = looks.into_iter().map(|look| scope.spawn(look)).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Looks only for what these needs cannot do without, and asks no program for its version: 10 ms. The sandbox is
/// really opened.
///
/// # Errors
/// A host error that lists everything that lacks, each with what mends it.
pub fn require(needs: &[Need]) -> Result<()> {
    let mut findings: Vec<Finding> = wanted(needs)
        .filter(|tool| !tool.optional)
        .map(|tool| judge(tool, needs, look_briefly(&tool.look)))
        .collect();
    if needs.contains(&Need::Sandbox) && find_program("bwrap").is_some() {
        findings.push(user_namespaces());
    }
    if needs.contains(&Need::BuildRoot) && !is_root() {
        findings.push(subordinate_ids());
    }
    if needs.contains(&Need::Storage) {
        findings.push(disk());
    }
    refuse(&findings)
}

/// An error that lists what lacks. What [`examine`] only warns of counts here when it is a program or a file: the run
/// asked for it by naming its need.
fn refuse(findings: &[Finding]) -> Result<()> {
    let stops = |finding: &&Finding| match finding.verdict {
        Verdict::Ok => false,
        Verdict::Lacking => true,
        Verdict::Warning => finding.found.is_none(),
    };
    let lacking: Vec<&Finding> = findings.iter().filter(stops).collect();
    let Some(first) = lacking.first() else { return Ok(()) };
    let lines = lacking.iter().map(|finding| {
        let problem = finding.problem.as_deref().unwrap_or("is not there");
        format!("{} ({}): {problem}", finding.name, finding.why)
    });
    let mut mends: Vec<&str> = lacking.iter().filter_map(|finding| finding.mend.as_deref()).collect();
    mends.dedup();
    let next = if mends.is_empty() { "see `cargo xtask doctor`".to_owned() } else { mends.join("; then ") };
    let what = match lacking.len() {
        1 => format!("this host lacks {}", first.name),
        many => format!("this host lacks {many} things that the run needs"),
    };
    Err(Error::host(what).detail(lines).next(next))
}

fn wanted(needs: &[Need]) -> impl Iterator<Item = &'static Tool> {
    let for_users: &[Tool] = if is_root() { &[] } else { &[NEWUIDMAP] };
    TOOLS.iter().chain(for_users).filter(|tool| tool.needs.iter().any(|need| needs.contains(need)))
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// What looking for a tool showed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    /// It is there; the version, or "yes" for what has none.
    There(String),
    /// It is there and does not work; why.
    Broken(String),
    /// It is not there; where it was looked for.
    Absent(String),
}

/// Finds it, and asks it for its version.
fn look_closely(look: &Look) -> Seen {
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
                    let said = telling(&done.tail).unwrap_or("without a word");
                    Seen::Broken(format!("`{}` fails: {said}", done.command))
                }
                Err(error) => Seen::Broken(error.summary()),
            }
        }
        _ => look_briefly(look),
    }
}

/// The line that says why a program failed: Python puts it last, rustup first, and a backtrace may follow.
fn telling(lines: &[String]) -> Option<&str> {
    lines.iter().rev().find(|line| line.contains("rror")).or(lines.last()).map(String::as_str)
}

/// Only finds it.
fn look_briefly(look: &Look) -> Seen {
    match look {
        Look::Program { name, .. } => match find_program(name) {
            Some(_) => Seen::There("yes".to_owned()),
            None => absent_from_path(name),
        },
        Look::Library { file, header } => {
            let include = Path::new("/usr/include").join(header);
            // Debian's multiarch, Fedora's, Arch's.
            let multiarch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
            let dirs = [multiarch.as_str(), "/usr/lib64", "/usr/lib"];
            // stdio.h stands for the C library, which is never without its header where it has a static archive.
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

/// What a look at a tool means for these needs.
fn judge(tool: &Tool, needs: &[Need], seen: Seen) -> Finding {
    let minimum = match tool.look {
        Look::Program { minimum, .. } => minimum,
        Look::Library { .. } | Look::AnyOf(_) => None,
    };
    let needed_for: Vec<Need> = tool.needs.iter().copied().filter(|need| needs.contains(need)).collect();
    let bad = if tool.optional || !needed_for.iter().any(|need| need.always()) {
        Verdict::Warning
    } else {
        Verdict::Lacking
    };
    let (found, verdict, problem, mend) = match seen {
        Seen::There(found) => match (minimum, version(&found)) {
            (Some(least), Some(has)) if has < least => {
                let problem = format!("{} {found} is older than {}.{}", tool.name, least.0, least.1);
                (Some(found), bad, Some(problem), Some(newer(tool, least)))
            }
            // A program that tells no version is believed: refusing it would end runs that work.
            _ => (Some(found), Verdict::Ok, None, None),
        },
        Seen::Broken(why) | Seen::Absent(why) => (None, bad, Some(why), Some(tool.mend.to_owned())),
    };
    Finding {
        name: tool.name,
        found,
        minimum: minimum.map(|(major, minor)| format!("{major}.{minor}")),
        why: tool.why,
        needed_for,
        verdict,
        problem,
        mend,
    }
}

/// What mends a tool that is too old: the distribution's package is what is there already.
fn newer(tool: &Tool, (major, minor): (u32, u32)) -> String {
    let host_only = |need: &Need| matches!(need, Need::HostBuild | Need::HostBoot | Need::HostVng);
    if tool.mend == RUSTUP {
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

/// The first dotted number in a line: `14.0.6` of `Debian clang version 14.0.6`.
fn dotted(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .map(|word| word.trim_matches('.'))
        .find(|word| word.contains('.') && version(word).is_some())
}

/// Major and minor of a dotted number.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Opens the sandbox that builds and guests will run in, with nothing inside.
fn user_namespaces() -> Finding {
    let mut finding = Finding {
        name: "user namespaces",
        found: None,
        minimum: None,
        why: "the sandbox opens (tried)",
        needed_for: vec![Need::Sandbox],
        verdict: Verdict::Ok,
        problem: None,
        mend: None,
    };
    let said = match try_sandbox() {
        Ok(()) => {
            finding.found = Some("yes".to_owned());
            return finding;
        }
        Err(said) => said,
    };
    finding.verdict = Verdict::Lacking;
    finding.mend = Some(mend_sandbox(&Limits::read()).to_owned());
    finding.problem = Some(said);
    finding
}

/// What bwrap says when it fails.
fn try_sandbox() -> std::result::Result<(), String> {
    let Some(bwrap) = find_program("bwrap") else { return Err("bwrap is not on PATH".to_owned()) };
    let mut command = Command::new(bwrap);
    command.args(["--ro-bind", "/", "/", "--unshare-pid", "--unshare-net", "--die-with-parent"]);
    command.args(["--proc", "/proc", "--dev", "/dev", "true"]).env("LC_ALL", "C");
    match Job::new(command).deadline(PROBE_LIMIT).run() {
        Ok(done) if done.success() => Ok(()),
        Ok(done) => Err(done.tail.last().cloned().unwrap_or_else(|| "bwrap fails without a word".to_owned())),
        Err(error) => Err(error.summary()),
    }
}

/// What may forbid user namespaces; `None`: this kernel has no such setting, or it cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Limits {
    /// bwrap is not there at all.
    no_bwrap: bool,
    /// root needs no user namespace.
    root: bool,
    /// kernel.apparmor_restrict_unprivileged_userns (Ubuntu since 23.10).
    apparmor: Option<u64>,
    /// kernel.unprivileged_userns_clone (Debian's and Arch's kernels).
    clone: Option<u64>,
    /// user.max_user_namespaces.
    max: Option<u64>,
}

impl Limits {
    fn read() -> Limits {
        let sysctl = |path: &str| {
            let text = std::fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?;
            text.trim().parse().ok()
        };
        Limits {
            no_bwrap: find_program("bwrap").is_none(),
            root: is_root(),
            apparmor: sysctl("kernel/apparmor_restrict_unprivileged_userns"),
            clone: sysctl("kernel/unprivileged_userns_clone"),
            max: sysctl("user/max_user_namespaces"),
        }
    }
}

/// The one command that opens the sandbox on such a host.
fn mend_sandbox(limits: &Limits) -> &'static str {
    if limits.no_bwrap {
        SETUP
    } else if !limits.root && limits.clone == Some(0) {
        "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    } else if !limits.root && limits.apparmor.is_some_and(|value| value != 0) {
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    } else if !limits.root && limits.max == Some(0) {
        "sudo sysctl -w user.max_user_namespaces=15000"
    } else {
        // Nothing on the host forbids it, so a container around us does.
        "start the container with --privileged, or go without a sandbox: --toolchain host"
    }
}

/// Whether mmdebstrap gets users of its own.
fn subordinate_ids() -> Finding {
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    let user = user.unwrap_or_else(|| uid.to_string());
    let lacking = ["/etc/subuid", "/etc/subgid"].into_iter().find(|file| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        !has_range(&text, &user, uid.as_raw())
    });
    Finding {
        name: "subordinate ids",
        found: lacking.is_none().then(|| "yes".to_owned()),
        minimum: None,
        why: "gives mmdebstrap users of its own",
        needed_for: vec![Need::BuildRoot],
        verdict: if lacking.is_some() { Verdict::Lacking } else { Verdict::Ok },
        problem: lacking.map(|file| format!("{user} has no range in {file}")),
        mend: lacking
            .map(|_| format!("sudo usermod --add-subuids 200000-265535 --add-subgids 200000-265535 {user}")),
    }
}

/// Whether a file like /etc/subuid gives this user as many ids as a Debian system has: 65,536.
fn has_range(text: &str, user: &str, uid: u32) -> bool {
    text.lines().any(|line| {
        let mut parts = line.trim().split(':');
        let owner = parts.next().unwrap_or_default();
        let count = parts.nth(1).and_then(|count| count.parse::<u64>().ok());
        (owner == user || owner == uid.to_string()) && count.is_some_and(|count| count >= 65_536)
    })
}

/// Room where the cache is. Opening the cache also shows that it can be written.
fn disk() -> Finding {
    let seen = Cache::open().map_err(|error| (error.summary(), error.next)).and_then(|cache| {
        let root: PathBuf = cache.root().to_owned();
        match nix::sys::statvfs::statvfs(&root) {
            Ok(stat) => Ok((root, stat.blocks_available() * stat.fragment_size())),
            Err(errno) => Err((format!("cannot look at {}: {}", root.display(), errno.desc()), None)),
        }
    });
    judge_disk(seen)
}

type DiskSeen = std::result::Result<(PathBuf, u64), (String, Option<String>)>;

fn judge_disk(seen: DiskSeen) -> Finding {
    const ELSEWHERE: &str = "export VMTEST_CACHE_DIR=DIR, a directory with more room";
    let (found, verdict, problem, mend) = match seen {
        Err((problem, next)) => {
            (None, Verdict::Lacking, Some(problem), Some(next.unwrap_or_else(|| ELSEWHERE.to_owned())))
        }
        Ok((root, free)) => {
            let verdict = match free {
                free if free < DISK_LACKING => Verdict::Lacking,
                free if free < DISK_WARNING => Verdict::Warning,
                _ => Verdict::Ok,
            };
            let bad = verdict != Verdict::Ok;
            let problem = bad.then(|| format!("only {} free in {}", gib(free), root.display()));
            (Some(gib(free)), verdict, problem, bad.then(|| ELSEWHERE.to_owned()))
        }
    };
    Finding {
        name: "disk",
        found,
        minimum: Some(gib(DISK_WARNING)),
        why: "holds sources, kernels and the build root",
        needed_for: vec![Need::Storage],
        verdict,
        problem,
        mend,
    }
}

fn memory() -> Finding {
    judge_memory(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

fn judge_memory(meminfo: &str) -> Finding {
    let bytes = |name: &str| {
        let value = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    };
    let (total, available) = (bytes("MemTotal"), bytes("MemAvailable"));
    let few = |value: Option<u64>| value.is_some_and(|value| value < MEMORY_NEEDED);
    // Memory that others hold now may be free in a minute; memory that is not there will not.
    let (verdict, problem, mend) = if few(total) {
        let problem = format!("this host has {}", gib(total.unwrap_or(0)));
        (Verdict::Lacking, Some(problem), Some("use a host with more memory".to_owned()))
    } else if few(available) {
        let problem = format!("only {} of {} free", gib(available.unwrap_or(0)), gib(total.unwrap_or(0)));
        (Verdict::Warning, Some(problem), Some("end programs that hold memory".to_owned()))
    } else {
        (Verdict::Ok, None, None)
    };
    Finding {
        name: "memory",
        found: available.or(total).map(gib),
        minimum: Some(gib(MEMORY_NEEDED)),
        why: "links kernels, holds guests",
        needed_for: vec![Need::Storage],
        verdict,
        problem,
        mend,
    }
}

fn gib(bytes: u64) -> String {
    let tenths = bytes * 10 / GIB;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

/// For information: without KVM, guests are emulated.
fn kvm() -> Finding {
    let unusable = accel::unusable(&accel::observe());
    Finding {
        name: "kvm",
        found: unusable.is_none().then(|| "usable".to_owned()),
        minimum: None,
        why: "without it guests are emulated",
        needed_for: vec![Need::Acceleration],
        verdict: if unusable.is_some() { Verdict::Warning } else { Verdict::Ok },
        problem: unusable.as_ref().map(|unusable| unusable.why.clone()),
        mend: unusable.map(|unusable| unusable.mend.to_owned()),
    }
}

#[cfg(test)]
mod tests;
