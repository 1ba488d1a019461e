// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the last make in an object directory was killed.
//!
//! A make that is killed leaves incomplete objects with new times, which the next one trusts ("member
//! mm/vmscan.o in archive is not an object"). So a mark exists next to the objects while make runs. If it is
//! still there at the next start, all newer files are removed and make rebuilds them, mostly from ccache.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vmtest_base::error::{IoContext, Result};
use vmtest_base::files::write_file;

/// How to run make.
#[derive(Debug, Clone, Copy)]
pub struct Make {
    /// Parallel jobs.
    pub jobs: usize,
    /// Time limit of one make, since it may run untrusted code.
    pub limit: Duration,
}

/// The mark of one object directory.
#[derive(Debug)]
pub struct Making {
    mark: PathBuf,
}

impl Making {
    /// For the object directory `obj`; the mark is next to it. Removes what a killed make left behind.
    pub fn of(obj: &Path) -> Result<Making> {
        let making = Making { mark: obj.with_extension("making") };
        if let Ok(data) = making.mark.metadata() {
            let since = data.modified().on("cannot look at", &making.mark)?;
            for entry in
                walkdir::WalkDir::new(obj).into_iter().flatten().filter(|entry| !entry.file_type().is_dir())
            {
                let young = entry
                    .metadata()
                    .ok()
                    .and_then(|data| data.modified().ok())
                    .is_none_or(|time| time >= since);
                if young {
                    fs::remove_file(entry.path()).on("cannot remove", entry.path())?;
                }
            }
            making.ended()?;
        }
        Ok(making)
    }

    /// Called before make starts.
    pub fn begins(&self) -> Result<()> {
        write_file(&self.mark, "")
    }

    /// Called after make ended by itself, even with an error: make deletes the target that failed.
    pub fn ended(&self) -> Result<()> {
        fs::remove_file(&self.mark).on("cannot remove", &self.mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn what_a_killed_make_wrote_is_not_believed() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let obj = dir.path().join("obj");
        fs::create_dir_all(obj.join("mm")).expect("made");
        let old = obj.join("mm/slab.o");
        fs::write(&old, "whole").expect("written");
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        fs::File::options().write(true).open(&old).and_then(|file| file.set_modified(long_ago)).expect("set");
        let making = Making::of(&obj).expect("nothing to clear up");
        making.begins().expect("marked");
        fs::write(obj.join("mm/vmscan.o"), "hal").expect("written");
        drop(making);
        let again = Making::of(&obj).expect("cleared up");
        assert!(old.exists() && !obj.join("mm/vmscan.o").exists());
        again.begins().expect("marked");
        fs::write(obj.join("mm/vmscan.o"), "whole").expect("written");
        again.ended().expect("unmarked");
        Making::of(&obj).expect("nothing to clear up");
        assert!(obj.join("mm/vmscan.o").exists());
    }
}
