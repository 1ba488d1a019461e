// SPDX-License-Identifier: MIT OR Apache-2.0
//! One guest from start to end: starts QEMU or vng in the sandbox, stores every byte of console and events first, then
//! looks at them, watches the limits, and leaves nothing running.
//!
//! Its story: make a FIFO for events, start the child, and until it ends take console bytes (a pipe) and event bytes
//! (the FIFO) from two reader threads. What it all means is decided elsewhere (`result`). A guest whose time is up is
//! asked what it does before it is killed (`evidence`); what it says then is stored and not judged.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};
use vmtest_protocol::TestName;

use crate::error::{Class, Error, IoContext, Result};
use crate::guest::Stream;
use crate::interrupt;
use crate::leftovers;
use crate::proc::Group;
use crate::vm::console::{Progress, Scanner};
use crate::vm::evidence::{self, Evidence};

/// Bytes stored of each channel; what comes after is drained, judged and dropped, with a mark in the file.
pub const MAX_STORED: u64 = 64 * 1024 * 1024;
/// Bytes kept of what QEMU or vng say themselves.
const MAX_COMPLAINT: usize = 16 * 1024;

/// How long what is left in the pipes may take to be read once the guest is gone.
const LINGER: Duration = Duration::from_secs(2);
/// A kernel that panicked ends QEMU. One that does not manage to is ended, in time for a verdict within two seconds.
const AFTER_PANIC: Duration = Duration::from_millis(1500);
/// After an oops a panic follows, which every guest is told to make of it. One that falls silent instead is dead.
const QUIET_AFTER_OOPS: Duration = Duration::from_secs(3);
/// Of a limit on the boot, what is kept for questions: they are asked within it.
const FOR_QUESTIONS: Duration = Duration::from_millis(500);

/// How long a guest may take for what. Scaled by the accelerator, each overridable, all in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Start to the first byte on the console.
    pub first_byte: Duration,
    /// Start to the runner's hello.
    pub boot: Duration,
    /// Without a byte on either channel.
    pub idle: Duration,
    /// Start to the end of everything.
    pub run: Duration,
    /// The runner's last word to QEMU's end.
    pub shutdown: Duration,
}

/// How the guest's life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", content = "status", rename_all = "kebab-case")]
pub enum End {
    /// QEMU (or vng) ended by itself.
    #[serde(with = "wait_status")]
    Exited(ExitStatus),
    /// No byte in time.
    NoFirstByte,
    /// No hello in time.
    BootLimit,
    /// No byte for too long after hello.
    IdleLimit,
    /// Too long altogether.
    RunLimit,
    /// The runner was done, but the machine did not switch off.
    ShutdownLimit,
    /// The kernel said that it died, and the machine did not end.
    StayedDead,
    /// The user, or the system.
    #[serde(with = "class_code")]
    Interrupted(Class),
}

/// An exit status as wait(2) gives it.
mod wait_status {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(status: &ExitStatus, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_i32(status.into_raw())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ExitStatus, D::Error> {
        i32::deserialize(from).map(ExitStatus::from_raw)
    }
}

/// A class as its exit code.
mod class_code {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::error::Class;

    pub fn serialize<S: Serializer>(class: &Class, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u8(class.code())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Class, D::Error> {
        u8::deserialize(from).map(|code| Class::from_code(code).unwrap_or(Class::Host))
    }
}

/// Everything that was seen of one guest.
#[derive(Debug)]
pub struct Observed {
    /// How it ended.
    pub end: End,
    /// What the runner said.
    pub stream: Stream,
    /// What the console showed.
    pub console: Scanner,
    /// What QEMU, vng or bubblewrap said themselves.
    pub complaint: String,
    /// Start to end.
    pub took: Duration,
    /// Start to hello; `None` when it never came.
    pub booted_after: Option<Duration>,
    /// A channel sent more than [`MAX_STORED`].
    pub truncated: bool,
    /// The line that told of the kernel's death, or else the guest's last byte, to the verdict.
    pub to_verdict: Duration,
    /// What it was asked before it was killed, and what it said; empty for a guest that ended by itself.
    pub before_kill: Vec<String>,
    /// Bytes of its console and of its events that count: those up to the end of its time.
    pub judged: [u64; 2],
}

impl Observed {
    /// A guest of which nothing was seen but how it ended.
    pub fn new(end: End, truncated: bool) -> Observed {
        Observed {
            end,
            stream: Stream::new(""),
            console: Scanner::default(),
            complaint: String::new(),
            took: Duration::ZERO,
            booted_after: None,
            truncated,
            to_verdict: Duration::ZERO,
            before_kill: Vec::new(),
            judged: [0, 0],
        }
    }
}

/// A directory that QEMU can see at `/vm`, with the FIFO that it writes events to.
pub struct Channel {
    dir: tempfile::TempDir,
    fifo: File,
}

impl Channel {
    /// Makes them.
    ///
    /// # Errors
    /// When the temporary directory cannot be written.
    pub fn create() -> Result<Channel> {
        let dir = leftovers::temporary_directory()?;
        let path = dir.path().join("events");
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)).on("cannot make a FIFO", &path)?;
        // Opened for both directions, it never reports an end while QEMU has not yet opened its side.
        let fifo = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(&path)
            .on("cannot open", &path)?;
        Ok(Channel { dir, fifo })
    }

    /// Where it is on the host.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Which of the child's streams is the kernel's console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleOn {
    /// Direct: QEMU writes it to its standard output.
    Stdout,
    /// vng writes it to its standard error, beside its own words.
    Stderr,
}

enum Message {
    Console(Vec<u8>),
    Events(Vec<u8>),
    Complaint(Vec<u8>),
    Evidence(Evidence),
    Closed,
}

/// Name of the file with what QEMU said of a guest that was killed.
const MACHINE: &str = "machine.txt";

/// Runs the guest that `command` starts, to its end. `seen_at` is where QEMU sees the channel's directory. `watch` is
/// called after every piece of news.
///
/// # Errors
/// When it cannot be started or its bytes cannot be stored. Everything that a guest does is no error but an [`End`].
#[expect(clippy::too_many_arguments, reason = "each is another thing, and there is one caller")]
pub fn run(
    command: Command,
    console_on: ConsoleOn,
    channel_dir: Channel,
    seen_at: PathBuf,
    nonce: &str,
    limits: &Limits,
    store: &Path,
    mut watch: impl FnMut(&Stream, &Scanner),
) -> Result<Observed> {
    let mut console_log = Store::create(store.join("console.log"))?;
    let mut event_log = Store::create(store.join("events.jsonl"))?;
    let mut group = Group::spawn(with_empty_input(command))?;
    // Bounded: a guest that floods waits for us, not in our memory.
    let (sender, receiver) = sync_channel(64);
    let stop = Arc::new(AtomicBool::new(false));
    if let Some((out, err)) = group.streams() {
        let (console, other) = (Message::Console as fn(_) -> _, Message::Complaint as fn(_) -> _);
        let (on_out, on_err) =
            if console_on == ConsoleOn::Stdout { (console, other) } else { (other, console) };
        read_bytes(out, on_out, sender.clone());
        read_bytes(err, on_err, sender.clone());
    }
    read_fifo(
        channel_dir.fifo.try_clone().on("cannot use the FIFO in", channel_dir.dir())?,
        sender.clone(),
        Arc::clone(&stop),
    );
    // Gone once it was used: the loop ends when nobody can send any more.
    let mut asker = Some(sender);

    let mut seen = Observed { stream: Stream::new(nonce), ..Observed::new(End::NoFirstByte, false) };
    let started = Instant::now();
    let mut clock = Clock { started, last_byte: started, done_at: None, died_at: None, panicked_at: None };
    let mut end = None;
    let mut asked_at = None;
    let mut ended_at = None;
    loop {
        // A process that left the guest's group, and holds its streams open, is not waited for.
        if ended_at.is_some_and(|at: Instant| at.elapsed() > LINGER) {
            break;
        }
        // What comes after the time was up is stored, and changes nothing.
        let judged = asked_at.is_none();
        let mut answered = false;
        match receiver.recv_timeout(Duration::from_millis(20)) {
            Ok(Message::Console(bytes)) => {
                console_log.write(&bytes)?;
                if judged {
                    clock.last_byte = Instant::now();
                    seen.judged[0] += bytes.len() as u64;
                    seen.console.now = seen.stream.running.as_ref().map(TestName::path).unwrap_or_default();
                    seen.console.feed(&bytes);
                    clock.look_for_death(&seen.console);
                    watch(&seen.stream, &seen.console);
                }
            }
            Ok(Message::Events(bytes)) => {
                event_log.write(&bytes)?;
                if judged {
                    clock.last_byte = Instant::now();
                    seen.judged[1] += bytes.len() as u64;
                    seen.stream.feed(&bytes);
                    if seen.stream.hello.is_some() && seen.booted_after.is_none() {
                        seen.booted_after = Some(started.elapsed());
                    }
                    if seen.stream.done.is_some() && clock.done_at.is_none() {
                        clock.done_at = Some(Instant::now());
                    }
                    watch(&seen.stream, &seen.console);
                }
            }
            Ok(Message::Complaint(bytes)) => {
                let room = MAX_COMPLAINT.saturating_sub(seen.complaint.len());
                seen.complaint.extend(String::from_utf8_lossy(&bytes).chars().take(room));
            }
            Ok(Message::Evidence(evidence)) => {
                answered = true;
                console_log.write(&evidence.console)?;
                if !evidence.machine.is_empty() {
                    crate::workdir::write_file(&store.join(MACHINE), &evidence.machine)?;
                }
                seen.before_kill = evidence.told;
            }
            Ok(Message::Closed) => (),
            Err(RecvTimeoutError::Timeout) => (),
            // All readers are gone: everything that was sent has been read.
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if end.is_none() {
            end = over(&mut group, &clock, &seen, limits)?;
            if let (Some(why), Some(sender)) = (end, asker.take_if(|_| end.is_some())) {
                if why.is_limit() {
                    console_log.write(b"\n[vmtest: its time is up; what follows it was asked for]\n")?;
                    asked_at = Some(Instant::now());
                    let (dir, seen_at) = (channel_dir.dir().to_owned(), seen_at.clone());
                    let sysrq = seen.console.progress >= Progress::Kernel;
                    std::thread::spawn(move || {
                        drop(sender.send(Message::Evidence(evidence::collect(&dir, &seen_at, sysrq))));
                    });
                }
            }
        }
        let waiting = asked_at.is_some_and(|at| {
            !answered && at.elapsed() < evidence::MOST_TIME && interrupt::requested().is_none()
        });
        if end.is_some() && ended_at.is_none() && !waiting {
            // Also when it exited by itself: what it left behind would hold the streams open for ever.
            group.end_within(Duration::from_millis(200));
            // From here on only what is already in the pipes is read.
            stop.store(true, Ordering::SeqCst);
            ended_at = Some(Instant::now());
        }
    }
    seen.end = end.unwrap_or(End::Exited(group.wait()?));
    seen.took = started.elapsed();
    seen.to_verdict = clock.died_at.unwrap_or(clock.last_byte).elapsed();
    seen.console.close();
    seen.stream.close();
    seen.truncated = console_log.finish()? | event_log.finish()?;
    Ok(seen)
}

impl End {
    /// Whether its time was up, and it could still be asked.
    fn is_limit(self) -> bool {
        match self {
            End::NoFirstByte | End::BootLimit | End::IdleLimit | End::RunLimit | End::ShutdownLimit => true,
            End::Exited(_) | End::Interrupted(_) | End::StayedDead => false,
        }
    }
}

struct Clock {
    started: Instant,
    last_byte: Instant,
    done_at: Option<Instant>,
    died_at: Option<Instant>,
    panicked_at: Option<Instant>,
}

impl Clock {
    fn look_for_death(&mut self, console: &Scanner) {
        if console.death().is_some() {
            self.died_at.get_or_insert_with(Instant::now);
        }
        if console.panicked {
            self.panicked_at.get_or_insert_with(Instant::now);
        }
    }
}

/// Whether the guest's life is over, and why. A child that ended comes first: it cannot be late any more.
fn over(group: &mut Group, clock: &Clock, seen: &Observed, limits: &Limits) -> Result<Option<End>> {
    if let Some(status) = group.try_wait()? {
        return Ok(Some(End::Exited(status)));
    }
    if let Some(class) = interrupt::requested() {
        return Ok(Some(End::Interrupted(class)));
    }
    let age = clock.started.elapsed();
    let asking = |limit: Duration| limit - FOR_QUESTIONS.min(limit / 10);
    let stayed = clock.panicked_at.is_some_and(|at| at.elapsed() > AFTER_PANIC)
        || (clock.died_at.is_some() && clock.last_byte.elapsed() > QUIET_AFTER_OOPS);
    Ok(if stayed {
        Some(End::StayedDead)
    } else if clock.panicked_at.is_some() {
        None
    } else if clock.done_at.is_some_and(|at| at.elapsed() > limits.shutdown) {
        Some(End::ShutdownLimit)
    } else if clock.done_at.is_some() {
        None
    } else if seen.console.progress == Progress::Silent
        && seen.stream.hello.is_none()
        && age > asking(limits.first_byte)
    {
        Some(End::NoFirstByte)
    } else if seen.stream.hello.is_none() && age > asking(limits.boot) {
        Some(End::BootLimit)
    } else if seen.stream.hello.is_some() && clock.last_byte.elapsed() > limits.idle {
        Some(End::IdleLimit)
    } else if age > limits.run {
        Some(End::RunLimit)
    } else {
        None
    })
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
                // Nothing there. When stopping, QEMU is gone and nothing will come.
                _ if stopping => break,
                _ => {
                    let mut wanted = [PollFd::new(fifo.as_fd(), PollFlags::POLLIN)];
                    // Interrupted or not, the read above decides.
                    let _ = poll(&mut wanted, PollTimeout::from(20_u8));
                }
            }
        }
        drop(sender.send(Message::Closed));
    });
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
/// When it cannot be started, or it ends with another status than 0.
pub fn interact(command: Command) -> Result<()> {
    let mut group = Group::spawn_interactive(command)?;
    loop {
        match group.try_wait()? {
            // vng always says 255 without udev in the root, so its status means nothing here.
            Some(_) => return Ok(()),
            None if interrupt::insistent() => return Err(Error::new(Class::Interrupted, "interrupted")),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests;
