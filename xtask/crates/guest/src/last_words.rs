// SPDX-License-Identifier: MIT OR Apache-2.0
//! Collects the state of a hung guest before it is killed: the status and the registers of all CPUs from
//! QEMU, and by sysrq the blocked tasks (`w`), backtraces of all CPUs (`l`) and all tasks (`t`) from the
//! kernel. For humans: no verdict depends on it.
//!
//! sysrq is sent over the serial console: a BREAK, then the letter. The console is connected to a file or a
//! pipe that accepts no input, so QEMU is instructed to replace it with a socket. Everything is bounded in
//! time and in bytes.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use serde_json::{Value, json};

/// Name of QEMU's QMP socket in the directory that it shares with the host.
pub const QMP: &str = "qmp";
/// Name of the socket that the console is moved to.
const CONSOLE: &str = "console";
/// The longer of the two.
pub const LONGEST_NAME: &str = CONSOLE;
/// Time limit for everything.
pub const MAX_TIME: Duration = Duration::from_secs(8);
/// Time limit for one answer from QEMU.
const ANSWER: Duration = Duration::from_secs(1);
/// A kernel that is silent for this long has finished its answer, or will not answer.
const QUIET: Duration = Duration::from_millis(400);
/// Most bytes of one answer.
const MAX_BYTES: usize = 1024 * 1024;

/// What was collected.
#[derive(Debug, Default)]
pub struct Evidence {
    /// QEMU's answers in full.
    pub machine: String,
    /// What the kernel wrote, to be appended to the console log.
    pub console: Vec<u8>,
    /// One line for each query, for the record.
    pub told: Vec<String>,
}

/// Collects everything. `dir`: directory of the sockets on the host; `seen_at`: the same directory as QEMU
/// sees it; `sysrq`: whether there is a kernel to query.
pub fn collect(dir: &Path, seen_at: &Path, sysrq: bool) -> Evidence {
    let mut evidence = Evidence::default();
    let until = Instant::now() + MAX_TIME;
    if let Err(why) = ask(dir, seen_at, sysrq, until, &mut evidence) {
        evidence.told.push(why);
    }
    evidence
}

fn ask(dir: &Path, seen_at: &Path, sysrq: bool, until: Instant, to: &mut Evidence) -> Result<(), String> {
    let mut qemu = Qemu::connect(dir).map_err(|why| format!("QEMU does not answer: {why}"))?;
    let status = qemu.call("query-status", json!({}))?;
    to.machine.push_str(&format!("query-status: {status}\n"));
    to.told.push(format!("QEMU says: {}", status["status"].as_str().unwrap_or("nothing of its state")));
    let registers = qemu.call("human-monitor-command", json!({ "command-line": "info registers -a" }))?;
    let registers = registers.as_str().unwrap_or_default().replace('\r', "");
    to.machine.push_str(&registers);
    to.told.push(format!("instruction pointers: {}", pointers(&registers).join(", ")));
    if !sysrq {
        return Ok(());
    }
    let path = seen_at.join(CONSOLE);
    let socket = json!({ "type": "socket", "data": {
        "addr": { "type": "unix", "data": { "path": path.to_string_lossy() } }, "server": true, "wait": false } });
    qemu.call("chardev-change", json!({ "id": "console", "backend": socket }))?;
    let mut console = connect(dir, CONSOLE).map_err(|why| format!("the console is not available: {why}"))?;
    for (letter, what) in [('w', "blocked tasks"), ('l', "CPUs"), ('t', "tasks")] {
        qemu.call("chardev-send-break", json!({ "id": "console" }))?;
        console.write_all(&[letter as u8]).map_err(|why| format!("sysrq {letter}: {why}"))?;
        let bytes = read_until_quiet(&mut console, until);
        to.told.push(match bytes.len() {
            0 => format!("sysrq {letter} ({what}): no answer"),
            length => format!("sysrq {letter} ({what}): {length} bytes at the end of console.log"),
        });
        to.console.extend(bytes);
    }
    Ok(())
}

/// The instruction pointer of each CPU.
fn pointers(registers: &str) -> Vec<String> {
    // EIP in a guest that is not in 64-bit mode yet.
    let pointer = |word| ["RIP=", "EIP="].into_iter().find_map(|name| str::strip_prefix(word, name));
    let found = registers.split_whitespace().filter_map(pointer);
    let mut found: Vec<String> = found.take(64).map(str::to_owned).collect();
    if found.is_empty() {
        found.push("none reported".to_owned());
    }
    found
}

/// Connects through an open O_PATH descriptor: the path of the socket could be longer than the 108 bytes of
/// `sun_path`, and a compromised QEMU could replace it with a link to a socket of this host.
fn connect(dir: &Path, name: &str) -> std::io::Result<UnixStream> {
    let dir = std::fs::File::open(dir)?;
    let how = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let socket = std::fs::File::from(openat(&dir, name, how, Mode::empty())?);
    if !socket.metadata()?.file_type().is_socket() {
        return Err(std::io::Error::other(format!("{name} is not a socket")));
    }
    let path = PathBuf::from(format!("/proc/self/fd/{}", socket.as_raw_fd()));
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(QUIET))?;
    stream.set_write_timeout(Some(ANSWER))?;
    Ok(stream)
}

fn read_until_quiet(console: &mut UnixStream, until: Instant) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while Instant::now() < until && bytes.len() < MAX_BYTES {
        match console.read(&mut buffer) {
            Ok(length) if length > 0 => bytes.extend_from_slice(&buffer[..length]),
            _ => break,
        }
    }
    bytes
}

/// The QEMU machine protocol: one JSON object per line, in both directions.
struct Qemu {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Qemu {
    fn connect(dir: &Path) -> Result<Qemu, String> {
        let stream = connect(dir, QMP).map_err(|error| error.to_string())?;
        let lines = BufReader::new(stream.try_clone().map_err(|error| error.to_string())?);
        let mut qemu = Qemu { stream, lines };
        qemu.line(Instant::now() + ANSWER)?;
        qemu.call("qmp_capabilities", json!({}))?;
        Ok(qemu)
    }

    fn call(&mut self, command: &str, arguments: Value) -> Result<Value, String> {
        let until = Instant::now() + ANSWER;
        let text = json!({ "execute": command, "arguments": arguments }).to_string();
        self.stream.write_all(text.as_bytes()).map_err(|error| format!("{command}: {error}"))?;
        loop {
            let mut answer = self.line(until).map_err(|why| format!("{command}: {why}"))?;
            if let Some(error) = answer.get("error") {
                return Err(format!("{command}: {}", error["desc"].as_str().unwrap_or("refused")));
            }
            // Anything else is an asynchronous event.
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    fn line(&mut self, until: Instant) -> Result<Value, String> {
        let mut text = Vec::new();
        loop {
            let room = MAX_BYTES.saturating_sub(text.len()) as u64;
            match self.lines.by_ref().take(room).read_until(b'\n', &mut text) {
                Ok(0) => return Err("it went away".to_owned()),
                Ok(_) if text.ends_with(b"\n") => break,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.to_string()),
            }
            if Instant::now() > until {
                return Err(format!("no answer within {} s", ANSWER.as_secs()));
            }
        }
        serde_json::from_slice(&text).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests;
