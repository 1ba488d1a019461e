// SPDX-License-Identifier: MIT OR Apache-2.0
//! Result classes with their public exit codes, and the error type of the harness.
//!
//! A class says how a cell, a stage or a run ended. "A test failed" and "could not be tested" never share
//! one.

use std::fmt;
use std::path::Path;

use crate::program;

/// How something ended. The number is the public exit code (`vmtest --help`, docs/design.md).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
pub enum Class {
    /// Every required cell passed.
    Pass = 0,
    /// A required test failed.
    TestFailed = 1,
    /// The command line is invalid, or selects nothing.
    Usage = 2,
    /// A required test was skipped or never reported.
    Incomplete = 3,
    /// The kernel printed a warning although the tests passed.
    Splat = 4,
    /// Passed only on a retry.
    Flaky = 5,
    /// A patch of the series does not apply.
    SeriesDoesNotApply = 10,
    /// A requested kconfig option is not in the resulting configuration.
    OptionLost = 11,
    /// The kernel does not build.
    KernelBuild = 12,
    /// The suite or the runner does not build.
    SuiteBuild = 13,
    /// The guest never reached the runner.
    BootFailed = 20,
    /// The kernel died: panic or oops.
    Panic = 21,
    /// No output for the idle limit.
    Hang = 22,
    /// The wall-clock limit was reached while there was still output.
    WallClock = 23,
    /// The guest exited without a final message.
    GuestLost = 24,
    /// The runner died while the kernel was alive.
    RunnerDied = 25,
    /// A problem of this host: tool, disk, download, permission.
    #[default]
    Host = 30,
    /// SIGINT or SIGHUP.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

/// Every class, in the order that decides the exit code: findings about a kernel come before jobs that could
/// not run, and a skip comes last. A usage error ends a run before it has other classes, so its place does
/// not matter.
pub const PRECEDENCE: [Class; 19] = [
    Class::Interrupted,
    Class::Terminated,
    Class::Usage,
    Class::Panic,
    Class::GuestLost,
    Class::Hang,
    Class::WallClock,
    Class::BootFailed,
    Class::RunnerDied,
    Class::TestFailed,
    Class::Splat,
    Class::Flaky,
    Class::Host,
    Class::SuiteBuild,
    Class::KernelBuild,
    Class::OptionLost,
    Class::SeriesDoesNotApply,
    Class::Incomplete,
    Class::Pass,
];

impl Class {
    /// The process exit code.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The class with this exit code.
    pub fn from_code(code: u8) -> Option<Class> {
        PRECEDENCE.into_iter().find(|class| class.code() == code)
    }

    /// Two or three words for the last line of a run.
    pub fn label(self) -> &'static str {
        match self {
            Class::Pass => "pass",
            Class::TestFailed => "test failed",
            Class::Usage => "usage",
            Class::Incomplete => "required test skipped or missing",
            Class::Splat => "kernel splat",
            Class::Flaky => "flaky",
            Class::SeriesDoesNotApply => "series does not apply",
            Class::OptionLost => "kconfig option lost",
            Class::KernelBuild => "kernel build failed",
            Class::SuiteBuild => "suite build failed",
            Class::BootFailed => "boot failed",
            Class::Panic => "kernel panic or oops",
            Class::Hang => "hang",
            Class::WallClock => "wall-clock limit",
            Class::GuestLost => "guest lost",
            Class::RunnerDied => "runner died",
            Class::Host => "host problem",
            Class::Interrupted => "interrupted",
            Class::Terminated => "terminated",
        }
    }
}

impl From<Class> for u8 {
    fn from(class: Class) -> u8 {
        class.code()
    }
}

impl TryFrom<u8> for Class {
    type Error = String;

    fn try_from(code: u8) -> std::result::Result<Class, String> {
        Class::from_code(code).ok_or_else(|| format!("no exit class has the number {code}"))
    }
}

/// The exit codes as `--help` shows them.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
   0  every required test passed          20  boot failed
   1  a required test failed              21  kernel panic or oops
   2  usage; nothing selected             22  hang: no output for the idle limit
   3  required test skipped or missing    23  wall-clock limit
   4  kernel splat though tests passed    24  guest lost (silent reset, or QEMU died)
   5  passed only on a repeat             25  runner died, kernel alive
  10  series does not apply               30  host: tool, disk, download, permission
  11  a requested kconfig option was lost
  12  kernel build failed                130, 143  interrupted
  13  suite or runner build failed
If several apply: the first of 130/143, 21, 24, 22, 23, 20, 25, 1, 4, 5, 30, 13, 12, 11, 10, 3, 0.";

/// What to do about a full disk.
pub fn free_space() -> String {
    format!(
        "free some space (`{}`, `{}`), or put the cache elsewhere with VMTEST_CACHE_DIR=DIR and runs with \
         XDG_STATE_HOME=DIR",
        program::command("cache --prune SIZE"),
        program::command("clean --runs")
    )
}

/// What to do about a limit on the size of files.
pub const RAISE_LIMIT: &str = "raise the limit with `ulimit -f unlimited`, and run the same command again";

/// The limit of this process on the size of files, in words.
pub fn limit_of_files() -> String {
    match nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_FSIZE) {
        Ok((most, _)) if most != nix::sys::resource::RLIM_INFINITY => {
            format!("the limit on the size of files is {most} bytes (ulimit -f)")
        }
        _ => "the file system takes no file of this size".to_owned(),
    }
}

/// What was tried, on what, why it failed and what to do next; and the class that decides the exit code.
#[derive(Debug, Clone)]
pub struct Error {
    pub class: Class,
    /// What was tried, on what.
    pub what: String,
    /// Why it failed, nearest cause first.
    pub why: Vec<String>,
    /// What the user can do, if known.
    pub next: Option<String>,
    /// Supporting lines: a compiler's error, the tail of a log. May be empty.
    pub detail: Vec<String>,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `class`; `what` says what was tried, on what.
    pub fn new(class: Class, what: impl Into<String>) -> Error {
        Error { class, what: what.into(), why: Vec::new(), next: None, detail: Vec::new() }
    }

    /// A problem of this host: something is missing or not permitted.
    pub fn host(what: impl Into<String>) -> Error {
        Error::new(Class::Host, what)
    }

    /// A command line that is invalid.
    pub fn usage(what: impl Into<String>) -> Error {
        Error::new(Class::Usage, what)
    }

    /// Adds a cause, nearest first.
    pub fn why(mut self, why: impl fmt::Display) -> Error {
        self.why.push(why.to_string());
        self
    }

    /// Sets what to do next.
    pub fn next(mut self, next: impl Into<String>) -> Error {
        self.next = Some(next.into());
        self
    }

    /// Sets what to do next, unless it is already set.
    pub fn next_or(self, next: impl Into<String>) -> Error {
        if self.next.is_some() { self } else { self.next(next) }
    }

    /// Adds supporting lines.
    pub fn detail(mut self, lines: impl IntoIterator<Item = String>) -> Error {
        self.detail.extend(lines);
        self
    }

    /// Adds context: `what` replaces the old one, which becomes the nearest cause.
    pub fn within(mut self, what: impl Into<String>) -> Error {
        let inner = std::mem::replace(&mut self.what, what.into());
        self.why.insert(0, inner);
        self
    }

    /// One line: what failed and the first line of each cause, without the details.
    pub fn summary(&self) -> String {
        let mut text = self.what.clone();
        for why in &self.why {
            text.push_str(": ");
            text.push_str(why.lines().next().unwrap_or_default());
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.what)?;
        for (depth, why) in self.why.iter().enumerate() {
            let indent = "  ".repeat(depth + 1);
            for (number, line) in why.lines().enumerate() {
                let lead = if number == 0 { "because: " } else { "         " };
                write!(out, "\n{indent}{lead}{line}")?;
            }
        }
        for line in &self.detail {
            write!(out, "\n  | {line}")?;
        }
        if let Some(next) = &self.next {
            write!(out, "\n  next: {next}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Turns an IO error into a host error that names the operation and the path.
pub trait IoContext<T> {
    /// `tried` is a verb phrase, for example "cannot read".
    fn on(self, tried: &str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn on(self, tried: &str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|error| io_error(tried, path.as_ref(), &error))
    }
}

impl<T> IoContext<T> for nix::Result<T> {
    fn on(self, tried: &str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|errno| io_error(tried, path.as_ref(), &std::io::Error::from(errno)))
    }
}

fn io_error(tried: &str, path: &Path, error: &std::io::Error) -> Error {
    let base = Error::host(format!("{tried} {}", path.display())).why(error);
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => base.next(free_space()),
        std::io::ErrorKind::FileTooLarge => base.why(limit_of_files()).next(RAISE_LIMIT),
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => base.next(
            "give yourself access to it, or choose other places with VMTEST_CACHE_DIR=DIR and XDG_STATE_HOME=DIR",
        ),
        _ => base,
    }
}

#[cfg(test)]
mod tests;
