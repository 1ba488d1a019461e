// SPDX-License-Identifier: MIT OR Apache-2.0
//! The last stage of a kernel: whether built here or used as is, it can boot.

use std::path::{Path, PathBuf};

use vmtest_base::dotconfig::DotConfig;
use vmtest_base::error::Error;
use vmtest_base::key::Key;
use vmtest_kernel::patched::PatchedTree;
use vmtest_kernel::variant::Variant;
use vmtest_record::run::Kernel;

/// A kernel that can boot, with everything that its boot depends on.
#[derive(Debug)]
pub struct Bootable {
    /// Its entry in the record.
    pub kernel: Kernel,
    /// Directory of the kernel file.
    pub dir: PathBuf,
    /// File name of the kernel in `dir`.
    pub file: String,
    /// `None` for a kernel that was not built here.
    pub variant: Option<Variant>,
    /// Its configuration; `None` if unknown.
    pub config: Option<DotConfig>,
    /// The bpftool of its tree.
    pub bpftool: Bpftool,
    /// Its tree and its key; `None` for a kernel that was not built here.
    pub tree: Option<(PatchedTree, Key)>,
}

/// Whether the guest can use the bpftool of the tree under test.
#[derive(Debug)]
pub enum Bpftool {
    /// Its directory.
    In(PathBuf),
    /// Not available for this reason, which is not an error. Subtests that need it are not run and not
    /// required.
    None(String),
    /// It should be available, but building it failed.
    Failed(Error),
}

impl Bootable {
    /// Whether its source disappeared from the cache: it was damaged or pruned.
    pub fn source_is_gone(&self) -> bool {
        self.source().is_some_and(|dir| dir.symlink_metadata().is_err())
    }

    /// Key of everything that its kernel was made of, including the origin; for a finished kernel, the key of
    /// its image.
    pub fn made_of(&self) -> &str {
        self.tree.as_ref().map_or(&self.kernel.key, |(_, key)| key.as_str())
    }

    /// The directory of its source, without the series; `None` for a kernel that was not built here.
    pub fn source(&self) -> Option<&Path> {
        self.tree.as_ref().map(|(tree, _)| tree.source().dir.as_path())
    }

    /// Its configuration as a `.config`; `None` if unknown.
    pub fn config_text(&self) -> Option<String> {
        let lines = self.config.as_ref()?.iter().map(|(option, value)| format!("CONFIG_{option}={value}\n"));
        Some(lines.collect())
    }

    /// By what factor its guests are slower than those of the default variant.
    pub fn slowdown(&self) -> u32 {
        self.variant.as_ref().map_or(1, |variant| variant.slowdown)
    }
}
