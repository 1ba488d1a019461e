// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fault injection: makes the n-th allocation of an operation fail once, for n = 1, 2, .. until the operation
//! makes fewer than n. The kernel counts down in a file of the thread.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

const FILE: &str = "/proc/thread-self/fail-nth";
/// Without them only allocations that must not sleep fail, no page fails alone, and each failure is logged
/// like a warning.
const SETTINGS: [(&str, &str); 6] = [
    ("failslab/verbose", "0"),
    ("failslab/ignore-gfp-wait", "N"),
    ("fail_page_alloc/verbose", "0"),
    ("fail_page_alloc/ignore-gfp-wait", "N"),
    ("fail_page_alloc/ignore-gfp-highmem", "N"),
    ("fail_page_alloc/min-order", "0"),
];
/// More allocations than any operation here makes.
const MOST: u32 = 5_000;

/// Whether the kernel can do it; why not.
pub fn is_there() -> Result<(), String> {
    match std::fs::metadata(FILE) {
        Ok(_) => Ok(()),
        Err(err) => Err(format!("it needs {FILE}, which CONFIG_FAULT_INJECTION provides: {err}")),
    }
}

/// What happened in all runs of an operation.
#[derive(Debug, Default, PartialEq)]
pub struct Walk {
    /// Runs in which an allocation failed.
    pub points: u32,
    /// Those that failed, by error.
    pub failed: BTreeMap<String, u32>,
    /// Those that worked all the same.
    pub tolerated: u32,
    /// What was wrong after a run, and which allocation had failed.
    pub wrong: Vec<String>,
}

impl std::fmt::Display for Walk {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} allocations failed: {} tolerated", self.points, self.tolerated)?;
        self.failed.iter().try_for_each(|(error, count)| write!(out, ", {count} times {error}"))
    }
}

/// The counter of this thread.
pub struct FailNth {
    file: File,
}

impl FailNth {
    /// Opens it, and lets every kind of allocation fail without a word in the kernel's log.
    pub fn open() -> Result<Self, String> {
        for (name, value) in SETTINGS {
            let path = format!("/sys/kernel/debug/{name}");
            std::fs::write(&path, value).map_err(|err| format!("set {path} to {value}: {err}"))?;
        }
        let file = OpenOptions::new().read(true).write(true).open(FILE);
        Ok(Self { file: file.map_err(|err| format!("{FILE}: {err}"))? })
    }

    /// Runs an operation whose `n`-th allocation fails; also returns whether it made that many.
    pub fn fail<T>(&self, n: u32, operation: impl FnOnce() -> T) -> Result<(T, bool), String> {
        let text = |what: &str, err: std::io::Error| format!("{what} {FILE}: {err}");
        let (set, mut left) = (n.to_string(), [0; 16]);
        self.file.write_all_at(set.as_bytes(), 0).map_err(|err| text("write", err))?;
        let result = operation();
        let read = self.file.read_at(&mut left, 0);
        self.file.write_all_at(b"0", 0).map_err(|err| text("write", err))?;
        let len = read.map_err(|err| text("read", err))?;
        let left = std::str::from_utf8(&left[..len]).unwrap_or_default().trim();
        let left: u32 = left.parse().map_err(|_| format!("{FILE} contains {left:?}"))?;
        Ok((result, left == 0))
    }

    /// Runs an operation again and again, each time with the next allocation failing, and `check` after each
    /// with its result, also after the last, in which nothing failed. `check` returns what is wrong.
    pub fn walk<T, E: std::fmt::Display>(
        &self,
        mut operation: impl FnMut() -> Result<T, E>,
        mut check: impl FnMut(Result<T, E>) -> Result<(), String>,
    ) -> Result<Walk, String> {
        let mut walk = Walk::default();
        for n in 1..=MOST {
            let (result, hit) = self.fail(n, &mut operation)?;
            match &result {
                Err(error) if hit => *walk.failed.entry(error.to_string()).or_default() += 1,
                Err(error) => walk.wrong.push(format!("fails although no allocation does: {error}")),
                Ok(_) => walk.tolerated += u32::from(hit),
            }
            walk.points += u32::from(hit);
            if let Err(wrong) = check(result) {
                walk.wrong.push(format!("allocation {n}: {wrong}"));
            }
            if !hit || walk.wrong.len() >= 5 {
                return Ok(walk);
            }
        }
        Err(format!("the operation makes more than {MOST} allocations"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_says_what_failed_and_how_often() {
        let walk =
            Walk { points: 3, failed: [("ENOMEM".to_owned(), 2)].into(), tolerated: 1, wrong: Vec::new() };
        assert_eq!(walk.to_string(), "3 allocations failed: 1 tolerated, 2 times ENOMEM");
    }
}
