// SPDX-License-Identifier: MIT OR Apache-2.0
//! A child in a process group of its own, and how the group is ended.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal, killpg, signal};
use nix::unistd::Pid;

use super::{GRACE, MAX_LINE, QUEUED_LINES, Stream, display};
use crate::reaper;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::interrupt;
use vmtest_base::program;

/// A child. One from [`Group::spawn`] has its own process group, and dropping it ends the whole group.
pub struct Group {
    child: Child,
    pid: Pid,
    shown: String,
    reaped: Option<ExitStatus>,
}

impl Group {
    /// Starts it with both output streams piped; standard input is as set in the command.
    ///
    /// The child is killed when the *thread* that calls this ends, so that nothing outlives a harness that is
    /// killed. So call it from the thread that waits.
    pub fn spawn(mut command: Command) -> Result<Group> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command.env(reaper::VARIABLE, reaper::nonce());
        let group = Group::start(command)?;
        reaper::note(group.child.id());
        Ok(group)
    }

    /// Starts it with the caller's streams, in the caller's process group, so that it can use the terminal.
    pub fn spawn_interactive(command: Command) -> Result<Group> {
        Group::start(command)
    }

    fn start(mut command: Command) -> Result<Group> {
        let shown = display(&command);
        // SAFETY: prctl(2) and sigaction(2) are plain system calls: async-signal-safe and without allocation.
        unsafe {
            command.pre_exec(|| {
                // This process ignores it, and children would inherit that.
                signal(Signal::SIGXFSZ, SigHandler::SigDfl)?;
                Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
            });
        }
        let child = command.spawn().map_err(|error| {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let base = Error::host(format!("cannot start `{shown}`")).why(error);
            if missing {
                base.next(format!(
                    "`{}` names what is missing and the package that has it",
                    program::command("doctor")
                ))
            } else {
                base
            }
        })?;
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        Ok(Group { child, pid, shown, reaped: None })
    }

    /// The command line, for errors.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Both streams, as bytes instead of lines. `None` after [`Group::lines`].
    pub fn streams(&mut self) -> Option<(impl Read + AsFd + Send + 'static, impl Read + Send + 'static)> {
        Some((self.child.stdout.take()?, self.child.stderr.take()?))
    }

    /// Its standard input, if the command has a pipe there. `None` after the first call.
    pub fn take_stdin(&mut self) -> Option<impl Write + Send + 'static> {
        self.child.stdin.take()
    }

    /// Lines of both streams in order of arrival. The channel closes when both streams have closed.
    pub fn lines(&mut self) -> Receiver<(Stream, String)> {
        // Bounded: a child that floods us has to wait, instead of filling our memory.
        let (sender, receiver) = sync_channel(QUEUED_LINES);
        if let Some(out) = self.child.stdout.take() {
            read_lines(out, Stream::Out, sender.clone());
        }
        if let Some(err) = self.child.stderr.take() {
            read_lines(err, Stream::Err, sender);
        }
        receiver
    }

    /// Its status, if it has ended.
    ///
    /// # Errors
    /// If the kernel does not report it.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        if self.reaped.is_none() {
            self.reaped = self.child.try_wait().on("cannot wait for", &self.shown)?;
        }
        Ok(self.reaped)
    }

    /// Waits for the child. The rest of its group ends when this is dropped.
    ///
    /// # Errors
    /// If interrupted, or if the kernel does not report the status.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            interrupt::check()?;
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends the group with SIGTERM, then SIGKILL after two seconds; then reaps the child.
    pub fn end(&mut self) {
        self.end_within(GRACE);
    }

    /// Ends the group with this much time between SIGTERM and SIGKILL.
    pub fn end_within(&mut self, grace: Duration) {
        if self.reaped.is_some() {
            // The leader is reaped, but its pid is not reused while the group has a member.
            let _ = killpg(self.pid, Signal::SIGKILL);
            return;
        }
        let _ = killpg(self.pid, Signal::SIGTERM);
        let until = Instant::now() + grace;
        while Instant::now() < until && !interrupt::insistent() {
            if matches!(self.try_wait(), Ok(Some(_)) | Err(_)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = killpg(self.pid, Signal::SIGKILL);
        let _ = self.child.kill();
        if self.reaped.is_none() {
            self.reaped = self.child.wait().ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

fn read_lines(stream: impl Read + Send + 'static, which: Stream, sender: SyncSender<(Stream, String)>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let limit = MAX_LINE as u64;
            match reader.by_ref().take(limit).read_until(b'\n', &mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    let text = String::from_utf8_lossy(&bytes);
                    let line = text.trim_end_matches(['\n', '\r']).to_owned();
                    if sender.send((which, line)).is_err() {
                        return;
                    }
                }
            }
        }
    });
}
