// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jobs of a matrix: their names, their order, their shards, and the request of each. Pure.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use vmtest_protocol::Effort;

use crate::request::{BootChoice, Request, Suite};
use vmtest_base::error::{Error, Result};
use vmtest_kernel::spec::KernelSpec;
use vmtest_record::matrix::Axes;

/// The name for "no series".
pub const NO_SERIES: &str = "none";
/// The variant name of a kernel that is not built here.
pub const NO_VARIANT: &str = "image";

/// How the jobs of a block run, apart from their coordinates.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Settings {
    /// `--test`
    #[serde(default)]
    pub tests: Vec<String>,
    /// `--effort`
    pub effort: Option<String>,
    /// `--retries`
    pub retries: Option<u32>,
    /// `--allow-flaky`
    #[serde(default)]
    pub allow_flaky: bool,
    /// `--allow-skip`
    #[serde(default)]
    pub allow_skip: Vec<String>,
    /// `--timeout`
    #[serde(default)]
    pub timeouts: Vec<String>,
    /// `--append`
    #[serde(default)]
    pub append: Vec<String>,
    /// `--sysctl`
    #[serde(default)]
    pub sysctls: Vec<String>,
    /// `--cpus`
    pub cpus: Option<u32>,
    /// `--cpu-model`
    pub cpu_model: Option<String>,
    /// `--memory`
    pub memory: Option<String>,
    /// `--ignore-denylist`
    #[serde(default)]
    pub ignore_denylist: bool,
}

#[derive(Debug, Clone)]
pub struct Job {
    /// Its coordinates in the matrix.
    pub axes: Axes,
    /// Its kernel, with absolute paths.
    pub kernel: KernelSpec,
    /// Absolute paths of its series.
    pub series: Vec<PathBuf>,
    /// `None` for a kernel that is not built here.
    pub variant: Option<String>,
    /// How it is booted.
    pub boot: BootChoice,
    pub suite: Suite,
    pub settings: Settings,
    /// File of splats that do not count.
    pub allow_splats: Option<PathBuf>,
}

impl Job {
    /// Its request. `common`: the options given for all jobs of a run.
    ///
    /// # Errors
    /// Class `Usage` for an unknown setting.
    pub fn request(&self, common: &Request) -> Result<Request> {
        let Settings {
            tests,
            effort,
            retries,
            allow_flaky,
            allow_skip,
            timeouts,
            append,
            sysctls,
            cpus,
            cpu_model,
            memory,
            ignore_denylist,
        } = self.settings.clone();
        Ok(Request {
            kernels: vec![self.kernel.to_string()],
            patches: self.series.clone(),
            variants: self.variant.iter().cloned().collect(),
            suites: vec![self.suite.clone()],
            tests,
            effort: effort.as_deref().map(effort_of).transpose()?.unwrap_or(common.effort),
            retries,
            allow_flaky,
            allow_skip,
            allow_splats: self.allow_splats.clone(),
            // The command line overrides the file.
            timeouts: timeouts.into_iter().chain(common.timeouts.clone()).collect(),
            append,
            sysctls,
            cpus,
            cpu_model,
            memory,
            ignore_denylist,
            boot: self.boot,
            ..common.clone()
        })
    }
}

fn effort_of(text: &str) -> Result<Effort> {
    Effort::of_name(text).ok_or_else(|| {
        Error::usage(format!("unknown effort {text:?}")).next("expected \"quick\", \"normal\" or \"soak\"")
    })
}

/// Paths in the file are relative to its directory.
pub fn from_here(spec: KernelSpec, dir: &Path) -> KernelSpec {
    let at = |path: PathBuf| dir.join(path);
    match spec {
        spec @ (KernelSpec::Src(_) | KernelSpec::Debian { .. }) => spec,
        KernelSpec::Tree(path) => KernelSpec::Tree(at(path)),
        KernelSpec::Git { repo, rev } => KernelSpec::Git { repo: at(repo), rev },
        KernelSpec::GitRange { repo, from, to } => KernelSpec::GitRange { repo: at(repo), from, to },
        KernelSpec::Tar(path) => KernelSpec::Tar(at(path)),
        KernelSpec::Image(path) => KernelSpec::Image(at(path)),
    }
}

/// One of several shards of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    number: usize,
    of: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Shard, String> {
        let numbers =
            text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) && of <= 10_000 => Ok(Shard { number, of }),
            _ => Err(format!("`{text}` is not I/N (for example 1/3)")),
        }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.number, self.of)
    }
}

impl Shard {
    /// All shards of a matrix that is split into `of`.
    pub fn all(of: usize) -> impl Iterator<Item = Shard> {
        (1..=of).map(move |number| Shard { number, of })
    }

    /// Indices of its jobs among `count`, which are ordered so that neighbours share a kernel. The sizes of
    /// the shards differ by at most one, and each index is in exactly one of them.
    pub fn places(self, count: usize) -> std::ops::Range<usize> {
        let at = |number: usize| number * count / self.of;
        at(self.number - 1)..at(self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_in_exactly_one_shard() {
        for of in 1..20 {
            for count in 0..50 {
                let places: Vec<usize> = Shard::all(of).flat_map(|shard| shard.places(count)).collect();
                assert_eq!(places, (0..count).collect::<Vec<_>>(), "{count} in {of}");
                let sizes: Vec<usize> = Shard::all(of).map(|shard| shard.places(count).len()).collect();
                let (least, most) = (sizes.iter().min().expect("one"), sizes.iter().max().expect("one"));
                assert!(most - least <= 1, "{count} in {of}");
            }
        }
    }

    #[test]
    fn a_shard_is_a_number_of_so_many() {
        assert_eq!("2/3".parse(), Ok(Shard { number: 2, of: 3 }));
        for bad in ["0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/2", "", "1/99999"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }
}
