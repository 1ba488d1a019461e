// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kinds of cache entries, each with its own directory.

use serde::Serialize;

/// Defines the kinds with their directories.
macro_rules! kinds {
    ($($kind:ident = $name:literal, $about:literal;)*) => {
        /// A kind of cache entries. Sources come before the kinds that link to their files, because a file
        /// with several links counts only for the first entry.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum CacheKind {
            $(#[doc = $about] $kind),*
        }

        impl CacheKind {
            pub const ALL: &[CacheKind] = &[$(CacheKind::$kind),*];

            pub fn name(self) -> &'static str {
                match self {
                    $(CacheKind::$kind => $name),*
                }
            }

            pub fn about(self) -> &'static str {
                match self {
                    $(CacheKind::$kind => $about),*
                }
            }
        }
    };
}

kinds! {
    Source = "source", "unpacked sources";
    Trees = "trees", "snapshots of users' trees";
    Git = "git", "repositories that borrow users' objects";
    GitPatches = "git-patches", "ranges of commits as patches";
    Mail = "mail", "series that came by mail";
    Overlay = "overlay", "files that series change";
    Objects = "objects", "object directories";
    Kernel = "kernel", "built kernels";
    Image = "image", "finished kernels";
    Ccache = "ccache", "compiled objects by their source";
    Root = "root", "build roots";
    Vng = "vng", "virtme-ng";
    Runner = "runner", "the own suite";
    Initramfs = "initramfs", "initramfs of direct boots";
    Bpftool = "bpftool", "bpftool of trees";
    Suite = "suite", "test_progs of trees";
    SuiteBase = "suite-base", "libraries of test_progs";
    SuiteIndex = "suite-index", "tests of trees";
    Apt = "apt", "lists of the archive";
    SuiteSeen = "suite-seen", "subtests that were seen";
    Hashes = "hashes", "hashes of files";
    Tools = "tools", "versions of tools";
    Verdicts = "verdicts", "what bisections ran";
    Checks = "checks", "results of checks of patches";
}

impl CacheKind {
    /// The kind with this directory.
    pub fn named(name: &str) -> Option<CacheKind> {
        CacheKind::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Whether its entries are small files with remembered facts.
    pub fn is_fact(self) -> bool {
        matches!(self, CacheKind::SuiteSeen | CacheKind::Hashes | CacheKind::Tools | CacheKind::Verdicts)
    }
}

impl std::fmt::Display for CacheKind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.pad(self.name())
    }
}

impl Serialize for CacheKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
