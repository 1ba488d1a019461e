// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cache and a tiny kernel repository for tests.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use vmtest_base::event::Bus;
use vmtest_host::context::Context;
use vmtest_host::store::Cache;

/// A context with its own cache, which is removed with the directory.
pub fn context() -> (tempfile::TempDir, Context) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let cache = Cache::at(dir.path().join("cache")).expect("a cache");
    let ctx = Context { cache, bus: Bus::new(Vec::new()), project: dir.path().to_owned(), mirror: None };
    (dir, ctx)
}

/// Runs git with a test identity, independent of the settings of the user who runs the tests.
pub fn git(repo: &Path, args: &[&str]) {
    let mut command = Command::new("git");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-C"]).arg(repo).args(args);
    let status = command.status().expect("git runs");
    assert!(status.success(), "git {args:?}");
}

/// A repository with one commit that looks like a kernel.
pub fn kernel_repo(at: &Path) -> PathBuf {
    fs::create_dir_all(at.join("kernel")).expect("made");
    fs::write(at.join("Makefile"), "VERSION = 6\nPATCHLEVEL = 18\nSUBLEVEL = 0\n").expect("written");
    fs::write(at.join(".gitignore"), "*.o\n").expect("written");
    fs::write(at.join("kernel/trampoline.c"), "int a;\n").expect("written");
    git(at, &["init", "-q", "-b", "main"]);
    git(at, &["add", "-A"]);
    git(at, &["commit", "-qm", "one"]);
    at.to_owned()
}

/// A snapshot of a tree, which must succeed.
pub fn snapshot(ctx: &Context, top: &Path) -> crate::source::SourceTree {
    crate::source::tree::fetch(ctx, top).expect("snapshot")
}

/// Everything below a directory, including `.git`, with size and mtime.
pub fn listing(dir: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let entries = walkdir::WalkDir::new(dir).into_iter();
    entries
        .map(|entry| {
            let entry = entry.expect("listed");
            let stat = entry.metadata().expect("read");
            (entry.into_path(), (stat.size(), stat.mtime(), stat.mtime_nsec()))
        })
        .collect()
}
