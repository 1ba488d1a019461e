// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trees of a run that lend their bpftool to kernels that come without a tree: the newest of those that know sessions. An
//! older bpftool would fail on a session, and that would be a finding about nothing under test.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::error::Result;
use crate::kernel::patched::PatchedTree;
use crate::kernel::{archive, source};

/// What lanes with a source have told so far.
#[derive(Default)]
pub struct Lenders {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Lanes that have not told yet.
    awaited: usize,
    /// Version, place of the lane, tree.
    newest: Option<(String, usize, PatchedTree)>,
}

/// A lane that will tell, at the latest when it ends: nobody waits for one that failed.
pub struct Promise<'a>(&'a Lenders);

impl Lenders {
    /// One more lane will tell. To be called before anybody waits.
    pub fn promise(&self) -> Promise<'_> {
        self.lock().awaited += 1;
        Promise(self)
    }

    /// The tree to borrow from, once all lanes have told; `None` where no tree of the run knows sessions.
    pub fn newest(&self) -> Option<PatchedTree> {
        let state = self
            .changed
            .wait_while(self.lock(), |state| state.awaited > 0)
            .unwrap_or_else(PoisonError::into_inner);
        state.newest.as_ref().map(|(_, _, tree)| tree.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Promise<'_> {
    /// What the lane at this place has.
    ///
    /// # Errors
    /// When files of the tree cannot be read.
    pub fn keep(self, place: usize, tree: PatchedTree) -> Result<()> {
        let knows = tree
            .read("tools/include/uapi/linux/bpf.h")?
            .is_some_and(|text| text.contains("BPF_TRACE_FSESSION"));
        // Of a version the candidates come before it.
        let version = tree
            .read("Makefile")?
            .and_then(|text| source::version_of_makefile(&text))
            .map(|version| version.replace('-', "~"));
        if let (true, Some(version)) = (knows, version) {
            let mut state = self.0.lock();
            // Of equals the first of the command line, whatever order they come in.
            let better = state.newest.as_ref().is_none_or(|(other, at, _)| {
                archive::compare_versions(&version, other).then(at.cmp(&place)).is_gt()
            });
            if better {
                state.newest = Some((version, place, tree));
            }
        }
        Ok(())
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.0.lock().awaited -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::source::SourceTree;
    use crate::key::Key;
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    /// A tree of this version, in a directory of this name.
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

    /// Name of the tree that is borrowed from.
    fn newest(lenders: &Lenders) -> Option<String> {
        lenders.newest().map(|tree| tree.id().to_owned())
    }

    #[test]
    fn the_newest_that_knows_sessions_lends() {
        let top = tempfile::tempdir().expect("a directory");
        let make = |name, version, knows| tree(top.path(), name, version, knows);
        let lenders = Lenders::default();
        assert_eq!(newest(&lenders), None, "nobody is waited for where nobody will tell");
        let promises: Vec<Promise<'_>> = (0..5).map(|_| lenders.promise()).collect();
        let trees = [
            Some(make("old", (6, 18), true)),
            Some(make("later", (7, 9), true)),
            None, // it could not be fetched
            Some(make("newest", (7, 10), true)),
            Some(make("plain", (7, 11), false)),
        ];
        for (place, (promise, tree)) in promises.into_iter().zip(trees).enumerate() {
            match tree {
                Some(tree) => promise.keep(place, tree).expect("its files can be read"),
                None => drop(promise),
            }
        }
        assert_eq!(newest(&lenders).as_deref(), Some("newest"));

        let lenders = Lenders::default();
        let (first, second) = (lenders.promise(), lenders.promise());
        second.keep(1, make("second", (7, 1), true)).expect("its files can be read");
        first.keep(0, make("first", (7, 1), true)).expect("its files can be read");
        assert_eq!(newest(&lenders).as_deref(), Some("first"), "of equals the first of the command line");
    }

    #[test]
    fn all_are_waited_for() {
        let top = tempfile::tempdir().expect("a directory");
        let lenders = Lenders::default();
        let (quick, slow) = (lenders.promise(), lenders.promise());
        quick.keep(0, tree(top.path(), "quick", (6, 18), true)).expect("its files can be read");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                slow.keep(1, tree(top.path(), "slow", (7, 3), true)).expect("its files can be read");
            });
            assert_eq!(newest(&lenders).as_deref(), Some("slow"));
        });
    }
}
