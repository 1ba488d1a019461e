// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs one guest from start to end: starts QEMU or vng in the sandbox, stores every byte of console and
//! events before interpreting it, enforces the limits, and leaves nothing running.
//!
//! It makes a FIFO for events and starts the child; until the child exits, two reader threads deliver console
//! bytes (a pipe) and event bytes (the FIFO). The `watchdog` decides when the guest is over, and `judge`
//! interprets the result. A guest that exceeds a limit is queried before it is killed (`last_words`); what it
//! sends then is stored but not judged.

use crate::observed::{End, Limits, Observed};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use vmtest_protocol::TestName;

use crate::console::{Progress, Scanner};
use crate::events::Stream;
use crate::last_words::{self, Evidence};
use crate::watchdog::Watchdog;
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::interrupt;
use vmtest_host::process::Group;
use vmtest_host::reaper;

/// Bytes stored of each channel; the rest is read, judged and dropped, with a mark in the file.
pub const MAX_STORED: u64 = 64 * 1024 * 1024;
/// Bytes kept of what QEMU or vng print themselves.
const MAX_COMPLAINT: usize = 16 * 1024;

/// A directory that QEMU sees as `/vm`, with the FIFO for its events.
pub struct Channel {
    dir: tempfile::TempDir,
    fifo: File,
}

impl Channel {
    /// Creates both.
    ///
    /// # Errors
    /// When the temporary directory cannot be written.
    pub fn create() -> Result<Channel> {
        let dir = reaper::temporary_directory()?;
        let path = dir.path().join("events");
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)).on("cannot make a FIFO", &path)?;
        // Opened for reading and writing, so it never reports end of file before QEMU has opened it.
        let fifo = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(&path)
            .on("cannot open", &path)?;
        Ok(Channel { dir, fifo })
    }

    /// The directory on the host.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Which of the child's streams is the kernel's console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleOn {
    /// Direct boot: QEMU writes it to its standard output.
    Stdout,
    /// vng writes it to its standard error, mixed with its own messages.
    Stderr,
}

enum Message {
    Console(Vec<u8>),
    Events(Vec<u8>),
    Complaint(Vec<u8>),
    Evidence(Evidence),
    Closed,
}

/// Name of the file with QEMU's answers about a guest that was killed.
const MACHINE: &str = "machine.txt";

pub struct Start<'a> {
    /// The command that starts it.
    pub command: Command,
    /// Which of its streams is the console.
    pub console_on: ConsoleOn,
    /// Where its events arrive.
    pub channel: Channel,
    /// Where QEMU sees the directory of the channel.
    pub seen_at: PathBuf,
    /// The nonce of its runner's lines.
    pub nonce: String,
    pub limits: Limits,
    /// Where its bytes are stored.
    pub store: &'a Path,
}

/// Runs a guest to its end. `watch` is called after each change.
///
/// # Errors
/// When it cannot be started or its bytes cannot be stored. Whatever a guest does is an [`End`], not an
/// error.
pub fn run(start: Start<'_>, mut watch: impl FnMut(&Stream, &Scanner)) -> Result<Observed> {
    let Start { command, console_on, channel, seen_at, nonce, limits, store } = start;
    let mut logs = Logs::create(store)?;
    let mut group = Group::spawn(with_empty_input(command))?;
    // Bounded, so that a guest that floods a channel blocks instead of filling our memory.
    let (sender, receiver) = sync_channel(64);
    let stop = Arc::new(AtomicBool::new(false));
    if let Some((out, err)) = group.streams() {
        let (console, other) = (Message::Console as fn(_) -> _, Message::Complaint as fn(_) -> _);
        let (on_out, on_err) =
            if console_on == ConsoleOn::Stdout { (console, other) } else { (other, console) };
        read_bytes(out, on_out, sender.clone());
        read_bytes(err, on_err, sender.clone());
    }
    let fifo = channel.fifo.try_clone().on("cannot use the FIFO in", channel.dir())?;
    read_fifo(fifo, sender.clone(), Arc::clone(&stop));
    // Dropped once it was used: the loop ends when there are no senders left.
    let mut asker = Some(sender);

    let mut seen = Observed { stream: Stream::new(nonce), ..Observed::new(End::NoFirstByte, false) };
    let mut watchdog = Watchdog::new(group, limits);
    // Do not wait for a process that left the guest's process group and keeps its streams open.
    while !watchdog.waited_long_enough() {
        match receiver.recv_timeout(Duration::from_millis(20)) {
            Ok(message) => {
                if take(message, &mut logs, &mut watchdog, &mut seen)? {
                    watch(&seen.stream, &seen.console);
                }
            }
            Err(RecvTimeoutError::Timeout) => (),
            // All readers have exited: everything that was sent has been read.
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if let (Some(end), Some(sender)) = (watchdog.look(&seen)?, asker.take_if(|_| watchdog.is_over())) {
            if end.is_limit() {
                logs.console.write(b"\n[vmtest: its time is up; the lines below were requested]\n")?;
                watchdog.ask();
                let (dir, seen_at) = (channel.dir().to_owned(), seen_at.clone());
                let sysrq = seen.console.progress >= Progress::Kernel;
                std::thread::spawn(move || {
                    drop(sender.send(Message::Evidence(last_words::collect(&dir, &seen_at, sysrq))));
                });
            }
        }
        if watchdog.kill_if_over() {
            // From here on, only what is already in the pipes is read.
            stop.store(true, Ordering::SeqCst);
        }
    }
    watchdog.finish(&mut seen)?;
    seen.console.close();
    seen.stream.close();
    seen.truncated = logs.console.finish()? | logs.events.finish()?;
    Ok(seen)
}

/// Stores what arrived and, if it counts, adds it to what was seen. Returns whether it counts: bytes that
/// arrive after the time was up are only stored.
fn take(message: Message, logs: &mut Logs, watchdog: &mut Watchdog, seen: &mut Observed) -> Result<bool> {
    let counts = !watchdog.time_is_up();
    match message {
        Message::Console(bytes) => {
            logs.console.write(&bytes)?;
            if !counts {
                return Ok(false);
            }
            seen.judged[0] += bytes.len() as u64;
            seen.console.now = seen.stream.running.as_ref().map(TestName::path).unwrap_or_default();
            seen.console.feed(&bytes);
        }
        Message::Events(bytes) => {
            logs.events.write(&bytes)?;
            if !counts {
                return Ok(false);
            }
            seen.judged[1] += bytes.len() as u64;
            seen.stream.feed(&bytes);
        }
        Message::Complaint(bytes) => {
            let room = MAX_COMPLAINT.saturating_sub(seen.complaint.len());
            seen.complaint.extend(String::from_utf8_lossy(&bytes).chars().take(room));
            return Ok(false);
        }
        Message::Evidence(evidence) => {
            watchdog.answered();
            logs.console.write(&evidence.console)?;
            if !evidence.machine.is_empty() {
                vmtest_base::files::write_file(&logs.machine, &evidence.machine)?;
            }
            seen.before_kill = evidence.told;
            return Ok(false);
        }
        Message::Closed => return Ok(false),
    }
    watchdog.heard(seen);
    Ok(true)
}

fn with_empty_input(mut command: Command) -> Command {
    command.stdin(std::process::Stdio::null());
    command
}

fn read_bytes(
    mut from: impl Read + Send + 'static,
    wrap: fn(Vec<u8>) -> Message,
    sender: SyncSender<Message>,
) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match from.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    if sender.send(wrap(buffer[..length].to_vec())).is_err() {
                        return;
                    }
                }
            }
        }
        drop(sender.send(Message::Closed));
    });
}

/// Reads the FIFO until `stop` is set and it is empty.
fn read_fifo(mut fifo: File, sender: SyncSender<Message>, stop: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let stopping = stop.load(Ordering::SeqCst);
            match fifo.read(&mut buffer) {
                Ok(length) if length > 0 => {
                    if sender.send(Message::Events(buffer[..length].to_vec())).is_err() {
                        return;
                    }
                }
                // Empty. When stopping, QEMU is gone and nothing more will arrive.
                _ if stopping => break,
                _ => {
                    let mut wanted = [PollFd::new(fifo.as_fd(), PollFlags::POLLIN)];
                    // Whether poll was interrupted does not matter: the read above decides.
                    let _ = poll(&mut wanted, PollTimeout::from(20_u8));
                }
            }
        }
        drop(sender.send(Message::Closed));
    });
}

/// The files of one guest.
struct Logs {
    console: Store,
    events: Store,
    machine: PathBuf,
}

impl Logs {
    fn create(store: &Path) -> Result<Logs> {
        Ok(Logs {
            console: Store::create(store.join("console.log"))?,
            events: Store::create(store.join("events.jsonl"))?,
            machine: store.join(MACHINE),
        })
    }
}

/// A file that stores the first [`MAX_STORED`] bytes it is given.
struct Store {
    path: PathBuf,
    file: File,
    left: u64,
    truncated: bool,
}

impl Store {
    fn create(path: PathBuf) -> Result<Store> {
        let file = File::create(&path).on("cannot create", &path)?;
        Ok(Store { path, file, left: MAX_STORED, truncated: false })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.file.write_all(&bytes[..room]).on("cannot write", &self.path)?;
        self.left -= room as u64;
        self.truncated |= room < bytes.len();
        Ok(())
    }

    fn finish(mut self) -> Result<bool> {
        if self.truncated {
            self.file.write_all(b"\n[vmtest: truncated]\n").on("cannot write", &self.path)?;
        }
        Ok(self.truncated)
    }
}

/// Runs an interactive child on the caller's terminal.
///
/// # Errors
/// When it cannot be started, or it exits with a nonzero status.
pub fn interact(command: Command) -> Result<()> {
    let mut group = Group::spawn_interactive(command)?;
    loop {
        match group.try_wait()? {
            // Without udev in the root, vng always exits with 255, so its status means nothing here.
            Some(_) => return Ok(()),
            None if interrupt::insistent() => return Err(Error::new(Class::Interrupted, "interrupted")),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests;
