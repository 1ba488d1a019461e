// SPDX-License-Identifier: MIT OR Apache-2.0
//! The last stage of a kernel: built here or taken as it is, it can boot.

use std::path::{Path, PathBuf};

use vmtest_base::dotconfig::DotConfig;
use vmtest_base::error::Error;
use vmtest_base::key::Key;
use vmtest_kernel::patched::PatchedTree;
use vmtest_kernel::variant::Variant;
use vmtest_record::run::Kernel;

/// A kernel that can boot, with all that its boot depends on.
#[derive(Debug)]
pub struct Bootable {
    /// For the record.
    pub kernel: Kernel,
    /// Directory of the kernel file.
    pub dir: PathBuf,
    /// Its name there.
    pub file: String,
    /// `None` for a kernel that was not built here.
    pub variant: Option<Variant>,
    /// Its configuration; `None` where it is unknown.
    pub config: Option<DotConfig>,
    /// The bpftool of its tree.
    pub bpftool: Bpftool,
    /// Its tree and its key; `None` for a kernel that was not built here.
    pub tree: Option<(PatchedTree, Key)>,
}

/// Whether a guest can be offered the bpftool of the tree under test.
#[derive(Debug)]
pub enum Bpftool {
    /// It is in this directory.
    In(PathBuf),
    /// Nothing is wrong, and there is none, for this reason. What would use it is not run and not required.
    None(String),
    /// It should be there.
    Failed(Error),
}

impl Bootable {
    /// Whether its source went away: it was damaged, or somebody pruned it.
    pub fn source_is_gone(&self) -> bool {
        self.source().is_some_and(|dir| dir.symlink_metadata().is_err())
    }

    /// Key of everything that its kernel was made of, its origin included; of a finished kernel that of its image.
    pub fn made_of(&self) -> &str {
        self.tree.as_ref().map_or(&self.kernel.key, |(_, key)| key.as_str())
    }

    /// Its source, without the series; `None` for a kernel that was not built here.
    pub fn source(&self) -> Option<&Path> {
        self.tree.as_ref().map(|(tree, _)| tree.source().dir.as_path())
    }

    /// Its configuration as a `.config`; `None` where it is unknown.
    pub fn config_text(&self) -> Option<String> {
        let lines = self.config.as_ref()?.iter().map(|(option, value)| format!("CONFIG_{option}={value}\n"));
        Some(lines.collect())
    }

    /// How much slower its guests are than those of the default variant.
    pub fn slowdown(&self) -> u32 {
        self.variant.as_ref().map_or(1, |variant| variant.slowdown)
    }
}
