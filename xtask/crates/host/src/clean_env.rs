// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that start with an empty environment. Their output is cached under a hash of their input, so
//! nothing else may change it: not the caller's `GIT_CONFIG_PARAMETERS` or `XZ_OPT`, settings in a home
//! directory, or the locale.
//!
//! [`git`] is the only way to run git on anything but this project's own checkout. Programs that need the
//! user's proxies (apt-get, pip, b4) must not use this module.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// A program with an empty environment, except for `PATH` and `TMPDIR`.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        // Drop relative entries such as `.`, which could be an untrusted directory.
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

/// `git` in `dir`, without the user's repositories and settings. It never starts a program to fetch missing
/// objects, whatever the repository's configuration says.
pub fn git(dir: &Path) -> Command {
    let mut command = command("git");
    command
        .current_dir(dir)
        .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_SYSTEM", "/dev/null")])
        .envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_ATTR_NOSYSTEM", "1"), ("GIT_TERMINAL_PROMPT", "0")])
        // The first is new in git 2.45; the second works in every version because no protocol is called
        // "none".
        .envs([("GIT_NO_LAZY_FETCH", "1"), ("GIT_ALLOW_PROTOCOL", "none")])
        // A replacement object is not the object that was named.
        .envs([("GIT_NO_REPLACE_OBJECTS", "1"), ("GIT_OPTIONAL_LOCKS", "0")])
        // `dir` may be inside another repository: do not search above it.
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
        // `get_envs` does not show `env_clear`.
        env.env("PATH", "/usr/bin:/bin");
        let said = env.output().expect("env runs").stdout;
        let said = String::from_utf8_lossy(&said);
        let names: Vec<_> = said.lines().filter_map(|line| line.split('=').next()).collect();
        assert!(names.iter().all(|name| ["PATH", "TMPDIR", "LC_ALL", "TZ", "HOME"].contains(name)), "{said}");
    }
}
