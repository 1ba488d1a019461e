// SPDX-License-Identifier: MIT OR Apache-2.0
//! The only place that starts long-running children. Each gets its own process group and a reader thread per
//! stream, and optionally a log file and a deadline. The last lines are kept for error messages. A child is
//! stopped with SIGTERM, then SIGKILL.
//!
//! Short queries (a version, a list) go through xshell instead.

mod group;

pub use group::Group;

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};

use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::interrupt;

/// Time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How often a wait checks for an interruption.
const TICK: Duration = Duration::from_millis(50);
/// Lines kept for an error.
const TAIL_LINES: usize = 40;
/// Longest line; a longer one is split, because a child may never print a newline.
const MAX_LINE: usize = 64 * 1024;

/// Lines that may be queued for processing.
const QUEUED_LINES: usize = 256;
/// Largest log. Output beyond that is still read and processed, but not written; a mark in the file says so.
pub const MAX_LOG: u64 = 64 * 1024 * 1024;

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// Called with each line that a child prints.
type OnLine<'a> = Box<dyn FnMut(Stream, &str) + 'a>;

/// A long-running child.
pub struct Job<'a> {
    command: Command,
    log: Option<PathBuf>,
    deadline: Option<(Duration, Class)>,
    input: Option<Vec<u8>>,
    on_line: OnLine<'a>,
}

/// A child that ended by itself.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    /// Its last lines, both streams, in order of arrival.
    pub tail: Vec<String>,
    /// Its standard output, up to [`MAX_OUTPUT`] bytes.
    pub stdout: String,
    /// The command line, for errors.
    pub command: String,
}

/// Largest file that may be written in a sandbox: twice the largest kernel that is kept.
pub const LARGEST_FILE: u64 = 4 << 30;
/// Most standard output that is kept in [`Finished::stdout`], in bytes.
pub const MAX_OUTPUT: usize = 64 * 1024 * 1024;

impl Finished {
    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// A host error that says how the command ended, with its last lines.
    pub fn error(&self, what: impl Into<String>) -> Error {
        match self.no_space() {
            Some(line) => full_disk(what, &self.command, line),
            None => Error::host(what)
                .why(format!("`{}` {}", self.command, ended(self.status)))
                .detail(self.tail.clone()),
        }
    }

    /// The last line that reports a full disk, if there is one.
    pub fn no_space(&self) -> Option<&str> {
        let full = |line: &&String| {
            ["No space left", "Out of diskspace", "Disk quota", "enough free space"]
                .iter()
                .any(|text| line.contains(text))
        };
        self.tail.iter().rfind(full).map(|line| line.trim())
    }

    /// The line that reports that a file exceeded the size limit, if the caller of this program set that
    /// limit: then the failure says nothing about a patch or a source. The sandbox's own, higher limit does
    /// not count here, since exceeding that is the fault of the program inside.
    fn cut_off(&self) -> Option<String> {
        let (limit, _) = getrlimit(Resource::RLIMIT_FSIZE).ok()?;
        if self.success() || limit >= LARGEST_FILE {
            return None;
        }
        if self.status.signal() == Some(Signal::SIGXFSZ as i32) {
            return Some(ended(self.status));
        }
        let says = |line: &&String| {
            ["File size limit exceeded", "File too large"].iter().any(|text| line.contains(text))
        };
        self.tail.iter().rfind(says).map(|line| line.trim().to_owned())
    }

    /// Returns itself if it succeeded.
    ///
    /// # Errors
    /// A host error that starts with `what`.
    pub fn ok(self, what: impl Into<String>) -> Result<Finished> {
        if self.success() { Ok(self) } else { Err(self.error(what)) }
    }
}

/// The error of a child that ran out of disk space.
pub fn full_disk(what: impl Into<String>, command: &str, line: &str) -> Error {
    Error::host(what)
        .why(format!("the disk is full, says `{command}`"))
        .detail([line.to_owned()])
        .next(vmtest_base::error::free_space())
}

/// "exited with status 2", "was killed by signal 9".
pub fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// The command line as it could be typed.
pub fn display(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| shell_word(&arg.to_string_lossy())));
    words.join(" ")
}

pub use vmtest_base::program::shell_word;

impl<'a> Job<'a> {
    /// A job that ignores the child's output lines.
    pub fn new(command: Command) -> Job<'a> {
        Job { command, log: None, deadline: None, input: None, on_line: Box::new(|_, _| ()) }
    }

    /// Writes both streams to this file, which is created or truncated.
    pub fn log(mut self, path: impl Into<PathBuf>) -> Job<'a> {
        self.log = Some(path.into());
        self
    }

    /// Ends the child after this time, with an error of class `Host`.
    pub fn deadline(self, limit: Duration) -> Job<'a> {
        self.deadline_of(limit, Class::Host)
    }

    /// Ends the child after this time, with an error of this class.
    pub fn deadline_of(mut self, limit: Duration, class: Class) -> Job<'a> {
        self.deadline = Some((limit, class));
        self
    }

    /// Feeds this to its standard input, which is otherwise empty.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Job<'a> {
        self.input = Some(bytes.into());
        self
    }

    /// Calls this with each line, without its line end.
    pub fn on_line(mut self, callback: impl FnMut(Stream, &str) + 'a) -> Job<'a> {
        self.on_line = Box::new(callback);
        self
    }

    /// Runs it until it ends.
    ///
    /// # Errors
    /// If it cannot be started, if the deadline passes, if the harness is interrupted, or if it failed
    /// because of a full disk or the caller's limit on file sizes. Any other failure of the child is not an
    /// error: see [`Finished::ok`].
    pub fn run(self) -> Result<Finished> {
        let Job { mut command, log, deadline, input, mut on_line } = self;
        let shown = display(&command);
        let mut log = log.map(Log::create).transpose()?;
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut group = Group::spawn(command)?;
        let writer = input.and_then(|bytes| {
            let mut stdin = group.take_stdin()?;
            // A child that closes its input early reports why on stderr.
            Some(std::thread::spawn(move || drop(stdin.write_all(&bytes))))
        });
        let lines = group.lines();
        let started = Instant::now();
        let mut ended_at = None;
        let mut tail = VecDeque::new();
        let mut stdout = String::new();
        loop {
            interrupt::check()?;
            if let Some((limit, class)) = deadline.filter(|(limit, _)| started.elapsed() > *limit) {
                let what = format!("`{shown}` did not end within {} s", limit.as_secs());
                return Err(Error::new(class, what).detail(tail));
            }
            match lines.recv_timeout(TICK) {
                Ok((stream, line)) => {
                    if let Some(log) = &mut log {
                        log.line(&line)?;
                    }
                    on_line(stream, &line);
                    if stream == Stream::Out && stdout.len() + line.len() < MAX_OUTPUT {
                        stdout.push_str(&line);
                        stdout.push('\n');
                    }
                    if tail.len() == TAIL_LINES {
                        tail.pop_front();
                    }
                    tail.push_back(line);
                }
                // A process that the child left behind may keep the streams open forever.
                Err(RecvTimeoutError::Timeout) if group.try_wait()?.is_some() => {
                    let ended_at = ended_at.get_or_insert_with(Instant::now);
                    if ended_at.elapsed() > GRACE {
                        group.end();
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = group.wait()?;
        if let Some(writer) = writer {
            drop(writer.join());
        }
        Finished { status, tail: tail.into(), stdout, command: shown }.unless_out_of_space()
    }
}

/// The log file of a child, cut at [`MAX_LOG`].
struct Log {
    file: File,
    path: PathBuf,
    left: u64,
}

impl Log {
    fn create(path: PathBuf) -> Result<Log> {
        Ok(Log { file: File::create(&path).on("cannot create", &path)?, path, left: MAX_LOG })
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let length = line.len() as u64 + 1;
        let text = match self.left {
            0 => String::new(),
            left if length <= left => format!("{line}\n"),
            _ => "[vmtest: truncated]\n".to_owned(),
        };
        self.left = self.left.saturating_sub(length);
        self.file.write_all(text.as_bytes()).on("cannot write", &self.path)
    }
}

impl Finished {
    /// Fails if a full disk or a limit on file sizes was the cause.
    fn unless_out_of_space(self) -> Result<Finished> {
        let done = self;
        if let Some(line) = done.cut_off() {
            return Err(Error::host("a file exceeded the size limit of the caller")
                .why(vmtest_base::error::limit_of_files())
                .why(format!("`{}` {}", done.command, ended(done.status)))
                .detail([line])
                .next(vmtest_base::error::RAISE_LIMIT));
        }
        match crate::store::full_place().filter(|_| !done.success()) {
            None => Ok(done),
            // Not every program reports it, and such a failure says nothing about a patch or a source.
            Some(place) => Err(Error::host(format!("no space left in {}", place.display()))
                .why(format!("`{}` {}", done.command, ended(done.status)))
                .detail(done.tail)
                .next(vmtest_base::error::free_space())),
        }
    }
}

/// Keeps file descriptors that the caller left open from being inherited by children: through an open
/// directory they could leave the sandbox, and they could read files that only the caller may read. Call it
/// once, before anything else.
///
/// # Errors
/// If /proc does not list the open descriptors.
pub fn close_to_children() -> Result<()> {
    let fds = Path::new("/proc/self/fd");
    // Collect first: reading the directory opens a descriptor itself.
    let open: Vec<RawFd> = std::fs::read_dir(fds)
        .on("cannot list", fds)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| *fd > libc::STDERR_FILENO) {
        // SAFETY: it was open a moment ago, and no other thread runs yet. The directory's own descriptor is
        // closed by now, which fcntl reports as an error.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
    Ok(())
}

/// Makes a write beyond the caller's `ulimit -f` fail with an error instead of killing this program silently.
/// Call it once.
///
/// # Errors
/// If the signal cannot be ignored.
pub fn survive_large_files() -> Result<()> {
    // SAFETY: ignoring a signal runs no code.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.on("cannot ignore", "SIGXFSZ").map(drop)
}

/// The path of a program on PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok() && file.is_file()
}

#[cfg(test)]
mod tests;
