// SPDX-License-Identifier: MIT OR Apache-2.0
//! Resource limits of a sandbox: file sizes, memory, processes. They stop runaway programs.
//!
//! Most are limits per process. RLIMIT_NPROC counts the processes of a user namespace, but does not apply to
//! root, which gets a cgroup instead if possible.

use crate::process::LARGEST_FILE;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// Sizes of the tmpfs in /tmp, /dev/shm and /run, which all use memory.
const TMP: u64 = 2 << 30;
const SHARED: u64 = 256 << 20;
const RUN: u64 = 16 << 20;
/// Open files per process.
const DESCRIPTORS: u64 = 65_536;
/// Locked memory per process: the default of systemd.
const LOCKED: u64 = 8 << 20;
/// Processes and threads, plus more per CPU: make starts several of them per job.
const PROCESSES: u64 = 4096;
const PER_PROCESSOR: u64 = 16;
/// OOM score adjustment: the OOM killer takes processes of the sandbox before those of the host.
const FIRST_TO_GO: i32 = 500;

/// Limits per process.
fn limits() -> Vec<(Resource, rlim_t, rlim_t)> {
    let memory = memory();
    let wanted = [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, LARGEST_FILE),
        (Resource::RLIMIT_NOFILE, DESCRIPTORS),
        (Resource::RLIMIT_MEMLOCK, LOCKED),
        // Not RLIMIT_AS: programs reserve address space that they never use, for example 64 MB per thread.
        (Resource::RLIMIT_DATA, memory),
    ];
    // Never above the caller's own limits.
    let within = |(resource, most): (Resource, rlim_t)| {
        let (soft, hard) = getrlimit(resource).unwrap_or((most, most));
        (resource, soft.min(most), hard.min(most))
    };
    wanted.into_iter().map(within).collect()
}

/// Sizes of /tmp, /dev/shm and /run. The first two get at most a quarter of the memory each.
pub fn sizes() -> [(&'static str, u64); 3] {
    let most = memory() / 4;
    [("/tmp", TMP.min(most)), ("/dev/shm", SHARED.min(most)), ("/run", RUN)]
}

/// Most processes and threads.
pub fn processes() -> u64 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    PROCESSES + PER_PROCESSOR * processors as u64
}

/// A command prefix that limits the command to [`processes`]. Must run inside the sandbox, where only its own
/// processes count; outside, all processes of the user would.
pub fn within_processes() -> [String; 2] {
    ["/usr/bin/prlimit".to_owned(), format!("--nproc={}", processes())]
}

/// Bytes of memory of this host.
fn memory() -> u64 {
    static BYTES: OnceLock<u64> = OnceLock::new();
    *BYTES.get_or_init(|| {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = text.lines().find_map(|line| {
            line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        });
        // Without /proc the size is unknown, but then no sandbox starts either.
        kib.map_or(u64::MAX, |kib| kib * 1024)
    })
}

/// Applies these limits to a command.
pub fn apply(command: &mut Command) {
    let limits = limits();
    let cgroup = cgroup();
    let expendable = expendable();
    // SAFETY: setrlimit(2) and write(2) are async-signal-safe, and nothing here allocates.
    unsafe {
        command.pre_exec(move || {
            for (resource, soft, hard) in &limits {
                setrlimit(*resource, *soft, *hard)?;
            }
            if let Some(text) = &expendable {
                // Errors are ignored: it only affects the OOM killer's choice.
                let path = c"/proc/self/oom_score_adj";
                let how = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_CLOEXEC;
                if let Ok(file) = nix::fcntl::open(path, how, nix::sys::stat::Mode::empty()) {
                    let _ = nix::unistd::write(&file, text.as_bytes());
                }
            }
            for file in cgroup {
                nix::unistd::write(file, b"0")?;
            }
            Ok(())
        });
    }
}

/// The text to write to oom_score_adj; `None` if the caller's value is as high already, which only root may
/// lower.
fn expendable() -> Option<String> {
    let now: i32 = fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok()?;
    (now < FIRST_TO_GO).then(|| FIRST_TO_GO.to_string())
}

/// Prefix of our cgroups' names; the pid follows.
const PREFIX: &str = "vmtest-";
/// Where cgroups are mounted.
const MOUNTED: &str = "/sys/fs/cgroup";

/// Directories to remove in the end.
static MADE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// The `cgroup.procs` files of the cgroups for this process' sandboxes. Empty for ordinary users, or if none
/// can be created.
fn cgroup() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        if !nix::unistd::geteuid().is_root() {
            return Vec::new();
        }
        let ours = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let made: Vec<File> = places(&ours).iter().filter_map(|place| bounded(place)).collect();
        // Most hosts allow all or none, so try all at once first.
        if takes_in(&made) { made } else { made.into_iter().filter(|one| takes_in([one])).collect() }
    })
}

/// Where to create them, so that the caller's limits still apply. In cgroup v1: below our own, for both
/// controllers. In v2: next to our own, because a cgroup that has processes cannot enable controllers for its
/// children.
fn places(ours: &str) -> Vec<PathBuf> {
    let top = Path::new(MOUNTED);
    let place = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let below = Path::new(path.trim_start_matches('/'));
        match controllers {
            "" => Some(top.join(below.parent().unwrap_or(below))),
            "pids" | "memory" => Some(top.join(controllers).join(below)),
            _ => None,
        }
    };
    ours.lines().filter_map(place).collect()
}

/// Creates a cgroup with limits in `place`; `None` if that is not possible.
fn bounded(place: &Path) -> Option<File> {
    if !place.join("cgroup.procs").exists() {
        return None;
    }
    for entry in fs::read_dir(place).ok()?.flatten() {
        // Left by a harness that was killed. One that still has processes cannot be removed.
        let owner = entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)).map(str::to_owned);
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
    let dir = place.join(format!("{PREFIX}{}", std::process::id()));
    fs::create_dir(&dir).ok()?;
    MADE.lock().unwrap_or_else(PoisonError::into_inner).push(dir.clone());
    let processes = set_first(&dir, &["pids.max"], processes());
    // The rest is left to the host.
    let memory = set_first(&dir, &["memory.max", "memory.limit_in_bytes"], memory() / 10 * 9);
    let file = File::options().write(true).open(dir.join("cgroup.procs")).ok();
    file.filter(|_| processes || memory)
}

fn set_first(dir: &Path, names: &[&str], value: u64) -> bool {
    let there = names.iter().map(|name| dir.join(name)).find(|path| path.exists());
    there.is_some_and(|path| fs::write(path, value.to_string()).is_ok())
}

/// Whether a process can really be moved into all of them: some hosts refuse that although the files exist.
fn takes_in<'a>(files: impl IntoIterator<Item = &'a File>) -> bool {
    let Ok(files) = files.into_iter().map(File::try_clone).collect::<std::io::Result<Vec<_>>>() else {
        return false;
    };
    if files.is_empty() {
        return true;
    }
    let mut command = Command::new("true");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: write(2) is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            Ok(files.iter().try_for_each(|file| nix::unistd::write(file, b"0").map(drop))?)
        });
    }
    command.status().is_ok_and(|status| status.success())
}

/// Removes the cgroups of this process.
pub fn finish() {
    for dir in MADE.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let _ = fs::remove_dir(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_the_caller_hold_as_well() {
        let names = |text: &str| -> Vec<String> {
            places(text).iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(
            names("0::/user.slice/user-0.slice/session-3.scope\n"),
            [format!("{MOUNTED}/user.slice/user-0.slice")]
        );
        assert_eq!(names("0::/\n"), [format!("{MOUNTED}/")]);
        let first = "9:name=systemd:/\n8:pids:/a\n4:memory:/b/c\n1:cpu:/\n";
        assert_eq!(names(first), [format!("{MOUNTED}/pids/a"), format!("{MOUNTED}/memory/b/c")]);
        assert_eq!(names(""), [""; 0]);
    }
}
