// SPDX-License-Identifier: MIT OR Apache-2.0
//! The channel to the host: finds the device, stamps events and writes one line for each.

use nix::errno::Errno;
use nix::libc;
use nix::sys::termios::{self, SetArg};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use vmtest_protocol::{Event, Line, MAX_LINE};

/// Longer logs are cut, so that a line stays below the host's limit.
const MAX_LOG: usize = 64 * 1024;

pub struct Port {
    file: File,
    nonce: String,
    next: u64,
    started: Instant,
}

impl Port {
    /// Opens the device that the host calls `name`: `ttyS1`, or the name of a virtio port.
    pub fn open(name: &str, nonce: &str, started: Instant) -> io::Result<Self> {
        let path = match name.strip_prefix("tty") {
            Some(_) => PathBuf::from("/dev").join(name),
            None => virtio_device(name)?,
        };
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if let Ok(mut mode) = termios::tcgetattr(&file) {
            // Otherwise the tty turns \n into \r\n and echoes input.
            termios::cfmakeraw(&mut mode);
            termios::tcsetattr(&file, SetArg::TCSANOW, &mode)?;
        }
        Ok(Self { file, nonce: nonce.to_owned(), next: 0, started })
    }

    /// Sends one event as one line in one write.
    pub fn send(&mut self, event: Event) -> io::Result<()> {
        let line = Line {
            n: self.nonce.clone(),
            seq: self.next,
            ms: self.started.elapsed().as_millis() as u64,
            event,
        };
        self.next += 1;
        self.file.write_all(&encode(line)?)
    }

    /// Waits until everything has left the machine.
    pub fn drain(&self) {
        /// An emulated port is empty long before this; tcdrain(3) sleeps for a tick at least.
        const SOON: Duration = Duration::from_millis(3);
        let started = Instant::now();
        while started.elapsed() < SOON {
            if self.is_empty() {
                return;
            }
            std::thread::yield_now();
        }
        // A virtio port is not a terminal and has nothing to wait for.
        let _ = termios::tcdrain(&self.file);
    }

    /// Whether the terminal has nothing in its buffer or in the hardware; also true without a terminal.
    fn is_empty(&self) -> bool {
        /// Bit of TIOCSERGETLSR: the transmitter is empty.
        const TEMT: libc::c_int = 1;
        let ask = |request| {
            let mut value: libc::c_int = 0;
            // SAFETY: both requests write one int.
            let ret = unsafe { libc::ioctl(self.file.as_raw_fd(), request, &raw mut value) };
            Errno::result(ret).map(|_| value)
        };
        match (ask(libc::TIOCOUTQ), ask(libc::TIOCSERGETLSR)) {
            (Ok(waiting), Ok(state)) => waiting == 0 && state & TEMT != 0,
            (Err(errno), _) => errno == Errno::ENOTTY,
            // A terminal without such a register: tcdrain(3) knows.
            (Ok(_), Err(_)) => false,
        }
    }
}

/// Encodes one line. A line that is too long for the host loses its log, because JSON can turn one byte into
/// six.
fn encode(mut line: Line) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(&line)?;
    if text.len() >= MAX_LINE {
        if let Event::End(end) = &mut line.event {
            end.log =
                format!("[a log of {} bytes was left out by the runner: too long for a line]", end.log.len());
            end.reason = cut(std::mem::take(&mut end.reason));
            end.seen.clear();
        }
        text = serde_json::to_vec(&line)?;
    }
    text.push(b'\n');
    Ok(text)
}

/// The device node of a virtio port. There is no udev to create `/dev/virtio-ports/NAME`; sysfs has the name.
fn virtio_device(name: &str) -> io::Result<PathBuf> {
    for entry in std::fs::read_dir("/sys/class/virtio-ports")? {
        let entry = entry?;
        if std::fs::read_to_string(entry.path().join("name")).is_ok_and(|found| found.trim_end() == name) {
            return Ok(PathBuf::from("/dev").join(entry.file_name()));
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("no virtio port is named {name}")))
}

/// Cuts a log to what fits into a line, keeping both ends: the verifier gives the reason at the end, libbpf
/// gives the place at the start.
pub fn cut(log: String) -> String {
    if log.len() <= MAX_LOG {
        return log;
    }
    let mut head = MAX_LOG / 2;
    while !log.is_char_boundary(head) {
        head -= 1;
    }
    let mut tail = log.len() - MAX_LOG / 2;
    while !log.is_char_boundary(tail) {
        tail += 1;
    }
    format!("{}\n[.. {} bytes cut by the runner ..]\n{}", &log[..head], tail - head, &log[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmtest_protocol::{End, GuestOutcome, TestName};

    #[test]
    fn a_line_fits_whatever_the_log_holds() {
        let end = |log: String| {
            Event::End(End {
                name: TestName { test: "basic".into(), subtest: "args_1".into() },
                round: 1,
                outcome: GuestOutcome::Fail,
                reason: "no".into(),
                checks: 0,
                seen: Vec::new(),
                measured: String::new(),
                duration_us: 0,
                log,
            })
        };
        let text =
            |log: String| encode(Line { n: "n".into(), seq: 0, ms: 0, event: end(log) }).expect("plain data");
        let short = text("a log".into());
        assert!(short.ends_with(b"\n") && String::from_utf8_lossy(&short).contains("a log"));
        let long = text("\u{1}".repeat(MAX_LOG));
        assert!(long.len() < MAX_LINE && String::from_utf8_lossy(&long).contains("left out"));
    }

    #[test]
    fn long_logs_keep_both_ends() {
        assert_eq!(cut("short".into()), "short");
        let log = format!("begin{}end", "ä".repeat(MAX_LOG));
        let cut = cut(log);
        assert!(cut.len() < MAX_LOG + 100);
        assert!(cut.starts_with("begin") && cut.ends_with("end") && cut.contains("bytes cut"));
    }
}
