// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trees of a run whose bpftool is used by kernels without a tree: the newest tree that supports sessions. An
//! older bpftool would fail on a session, which would say nothing about the kernel under test.

use std::sync::{Mutex, PoisonError};

use vmtest_base::error::Result;
use vmtest_kernel::patched::PatchedTree;
use vmtest_kernel::source::{self, archive};

/// The newest tree offered so far. All are offered before the first kernel is built.
#[derive(Default)]
pub struct Donors {
    /// Version, index of the chain, tree.
    newest: Mutex<Option<(String, usize, PatchedTree)>>,
}

impl Donors {
    /// The tree to borrow from; `None` if no tree of the run supports sessions.
    pub fn newest(&self) -> Option<PatchedTree> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.as_ref().map(|(_, _, tree)| tree.clone())
    }

    /// Offers the tree of the chain with this index.
    ///
    /// # Errors
    /// When files of the tree cannot be read.
    pub fn offer(&self, place: usize, tree: &PatchedTree) -> Result<()> {
        let knows = tree
            .read("tools/include/uapi/linux/bpf.h")?
            .is_some_and(|text| text.contains("BPF_TRACE_FSESSION"));
        // Release candidates sort before their release.
        let version = tree
            .read("Makefile")?
            .and_then(|text| source::version_of_makefile(&text))
            .map(|version| version.replace('-', "~"));
        if let (true, Some(version)) = (knows, version) {
            let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            // Of equal versions, the first one on the command line wins, regardless of the order in which
            // they are offered.
            let better = newest.as_ref().is_none_or(|(other, at, _)| {
                archive::compare_versions(&version, other).then(at.cmp(&place)).is_gt()
            });
            if better {
                *newest = Some((version, place, tree.clone()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;
    use vmtest_base::key::Key;
    use vmtest_kernel::source::SourceTree;

    /// A tree of this version, in a directory with this name.
    fn tree(top: &Path, name: &str, version: (u32, u32), knows: bool) -> PatchedTree {
        let dir = top.join(name);
        let header = dir.join("tools/include/uapi/linux");
        fs::create_dir_all(&header).expect("a directory");
        let (major, minor) = version;
        fs::write(dir.join("Makefile"), format!("VERSION = {major}\nPATCHLEVEL = {minor}\n"))
            .expect("a file");
        fs::write(header.join("bpf.h"), if knows { "BPF_TRACE_FSESSION,\n" } else { "BPF_TRACE_FEXIT,\n" })
            .expect("a file");
        let key = Key::of(name).finish();
        let source = SourceTree {
            id: name.into(),
            dir,
            key: key.clone(),
            lineage: key,
            origin: None,
            base_commit: None,
        };
        PatchedTree::unpatched(source)
    }

    /// Name of the tree to borrow from.
    fn newest(donors: &Donors) -> Option<String> {
        donors.newest().map(|tree| tree.id().to_owned())
    }

    #[test]
    fn the_newest_that_knows_sessions_lends() {
        let top = tempfile::tempdir().expect("a directory");
        let make = |name, version, knows| tree(top.path(), name, version, knows);
        let donors = Donors::default();
        assert_eq!(newest(&donors), None, "nothing was offered");
        let trees = [
            make("old", (6, 18), true),
            make("later", (7, 9), true),
            make("newest", (7, 10), true),
            make("plain", (7, 11), false),
        ];
        for (place, tree) in trees.iter().enumerate() {
            donors.offer(place, tree).expect("its files can be read");
        }
        assert_eq!(newest(&donors).as_deref(), Some("newest"));

        let donors = Donors::default();
        donors.offer(1, &make("second", (7, 1), true)).expect("its files can be read");
        donors.offer(0, &make("first", (7, 1), true)).expect("its files can be read");
        assert_eq!(newest(&donors).as_deref(), Some("first"), "of equals the first of the command line");
    }
}
