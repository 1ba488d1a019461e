// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that start with an empty environment. What they make is kept under a hash of what they read, so nothing
//! else may change a byte of it: not the caller's `GIT_CONFIG_PARAMETERS` or `XZ_OPT`, no settings in a home
//! directory, no language.
//!
//! [`git`] is the only way in which git is started on anything that is not the project's own. Programs that need the
//! user's proxies (apt-get, pip, b4) do not belong here.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// A program with an empty environment: `PATH` and `TMPDIR` stay.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        // `.` in it would be a directory of a stranger.
        let absolute = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
        command.env("PATH", std::env::join_paths(absolute).unwrap_or_default());
    }
    if let Some(dir) = std::env::var_os("TMPDIR") {
        command.env("TMPDIR", dir);
    }
    // Messages are parsed, and dates are part of commits.
    command.envs([("LC_ALL", "C"), ("TZ", "UTC"), ("HOME", "/nonexistent")]);
    command
}

/// A `git` without the user's repositories and settings, in `dir`. It starts no program to fetch what is missing,
/// whatever the repository says that it is given.
pub fn git(dir: &Path) -> Command {
    let mut command = command("git");
    command
        .current_dir(dir)
        .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_SYSTEM", "/dev/null")])
        .envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_ATTR_NOSYSTEM", "1"), ("GIT_TERMINAL_PROMPT", "0")])
        // The first is new in git 2.45; the second works everywhere, since no protocol is called "none".
        .envs([("GIT_NO_LAZY_FETCH", "1"), ("GIT_ALLOW_PROTOCOL", "none")])
        // A replaced object is not the object that was named.
        .envs([("GIT_NO_REPLACE_OBJECTS", "1"), ("GIT_OPTIONAL_LOCKS", "0")])
        // `dir` may lie in somebody's repository: never look for one above it.
        .env("GIT_CEILING_DIRECTORIES", dir.parent().unwrap_or(dir));
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn nothing_of_the_caller_is_left() {
        let command = git(Path::new("/some/where"));
        let set: BTreeMap<_, _> = command.get_envs().collect();
        for name in set.keys().filter_map(|name| name.to_str()) {
            let known = ["PATH", "TMPDIR", "LC_ALL", "TZ", "HOME"].contains(&name);
            assert!(known || name.starts_with("GIT_"), "{name}");
        }
        assert_eq!(set.get(OsStr::new("GIT_CEILING_DIRECTORIES")), Some(&Some(OsStr::new("/some"))));
        let mut env = crate::clean_env::command("env");
        // `env_clear` is not seen in `get_envs`.
        env.env("PATH", "/usr/bin:/bin");
        let said = env.output().expect("env runs").stdout;
        let said = String::from_utf8_lossy(&said);
        let names: Vec<_> = said.lines().filter_map(|line| line.split('=').next()).collect();
        assert!(names.iter().all(|name| ["PATH", "TMPDIR", "LC_ALL", "TZ", "HOME"].contains(name)), "{said}");
    }
}
