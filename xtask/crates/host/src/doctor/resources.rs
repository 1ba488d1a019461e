// SPDX-License-Identifier: MIT OR Apache-2.0
//! Disk space, memory and KVM.

use std::path::PathBuf;

use super::{Check, Need, Status};
use crate::accel;
use crate::store::{Cache, ROOM, free_space};
use vmtest_base::size::{self, GIB};

/// Less than this does not even hold the build root and one kernel's source.
const DISK_MINIMUM: u64 = 3 * GIB;
/// Enough to link vmlinux with BTF, or to run a guest next to a compiler.
const MEMORY_NEEDED: u64 = 2 * GIB;

/// Free space for the cache. Opening the cache also checks that it is writable.
pub(super) fn disk() -> Check {
    let seen = Cache::open().map_err(|error| (error.summary(), error.next)).and_then(|cache| {
        let root: PathBuf = cache.root().to_owned();
        match free_space(&root) {
            Ok(free) => Ok((root, free)),
            Err(errno) => Err((format!("cannot look at {}: {}", root.display(), errno.desc()), None)),
        }
    });
    judge_disk(seen)
}

type DiskSeen = std::result::Result<(PathBuf, u64), (String, Option<String>)>;

pub(super) fn judge_disk(seen: DiskSeen) -> Check {
    const ELSEWHERE: &str = "export VMTEST_CACHE_DIR=DIR, a directory with more room";
    let (found, status, problem, fix) = match seen {
        Err((problem, next)) => {
            (None, Status::Missing, Some(problem), Some(next.unwrap_or_else(|| ELSEWHERE.to_owned())))
        }
        Ok((root, free)) => {
            let status = match free {
                free if free < DISK_MINIMUM => Status::Missing,
                free if free < ROOM => Status::Warning,
                _ => Status::Ok,
            };
            let bad = status != Status::Ok;
            let problem = bad.then(|| format!("only {} free in {}", size::format(free), root.display()));
            (Some(size::format(free)), status, problem, bad.then(|| ELSEWHERE.to_owned()))
        }
    };
    Check {
        name: "disk",
        found,
        minimum: Some(size::format(ROOM)),
        why: "holds sources, kernels and the build root",
        needed_for: vec![Need::Storage],
        status,
        problem,
        fix,
    }
}

pub(super) fn memory() -> Check {
    judge_memory(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

pub(super) fn judge_memory(meminfo: &str) -> Check {
    let bytes = |name: &str| {
        let value = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    };
    let (total, available) = (bytes("MemTotal"), bytes("MemAvailable"));
    let few = |value: Option<u64>| value.is_some_and(|value| value < MEMORY_NEEDED);
    // Memory that is in use may be free in a minute; memory that is not installed will not.
    let (status, problem, fix) = if few(total) {
        let problem = format!("this host has {}", size::format(total.unwrap_or(0)));
        (Status::Missing, Some(problem), Some("use a host with more memory".to_owned()))
    } else if few(available) {
        let problem = format!(
            "only {} of {} free",
            size::format(available.unwrap_or(0)),
            size::format(total.unwrap_or(0))
        );
        (Status::Warning, Some(problem), Some("stop programs that use memory".to_owned()))
    } else {
        (Status::Ok, None, None)
    };
    Check {
        name: "memory",
        found: available.or(total).map(size::format),
        minimum: Some(size::format(MEMORY_NEEDED)),
        why: "links kernels, holds guests",
        needed_for: vec![Need::Storage],
        status,
        problem,
        fix,
    }
}

/// Only a warning: without KVM, guests are emulated.
pub(super) fn kvm() -> Check {
    let unusable = accel::unusable(&accel::observe());
    Check {
        name: "kvm",
        found: unusable.is_none().then(|| "usable".to_owned()),
        minimum: None,
        why: "without it guests are emulated",
        needed_for: vec![Need::Acceleration],
        status: if unusable.is_some() { Status::Warning } else { Status::Ok },
        problem: unusable.as_ref().map(|unusable| unusable.why.clone()),
        fix: unusable.map(|unusable| unusable.fix.to_owned()),
    }
}
