// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a shell command instead of the tests and turns its output into events. Or an interactive shell on the
//! console.

use nix::libc;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use vmtest_protocol::{Event, Output, WorkerEnd};

const SHELL: &str = "/bin/sh";
/// The kernel does not set PATH for init.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Exit status of a shell that cannot start the command.
const CANNOT_START: i32 = 127;
/// Longest piece of output in one event.
const MAX_PIECE: u64 = 16 * 1024;

/// Runs a command; `send` gets its output as it arrives.
pub fn run(command: &str, mut send: impl FnMut(Event)) -> WorkerEnd {
    let child = Command::new(SHELL)
        .args(["-c", command])
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(err) => {
            let text = format!("{SHELL}: {err}: the guest has no shell unless its image brings one\n");
            send(Event::Output(Output { fd: 2, text }));
            return WorkerEnd::Exited(CANNOT_START);
        }
    };
    let (output, pieces) = channel();
    let out = child.stdout.take().map(|pipe| (1, Box::new(pipe) as Box<dyn Read + Send>));
    let err = child.stderr.take().map(|pipe| (2, Box::new(pipe) as Box<dyn Read + Send>));
    for (fd, pipe) in [out, err].into_iter().flatten() {
        let output = output.clone();
        std::thread::spawn(move || forward(fd, pipe, &output));
    }
    drop(output);
    for piece in pieces {
        send(Event::Output(piece));
    }
    child.wait().map_or(WorkerEnd::Exited(CANNOT_START), end)
}

/// An interactive shell on the console.
pub fn shell() -> WorkerEnd {
    let mut command = Command::new(SHELL);
    command.arg("-i").env("PATH", PATH).current_dir("/");
    // SAFETY: only system calls are made between fork and exec, on descriptor 0, which exists by then.
    unsafe { command.pre_exec(own_terminal) };
    if let Ok(terminal) = console() {
        command.stdin(terminal.0).stdout(terminal.1).stderr(terminal.2);
    }
    command.status().map_or(WorkerEnd::Exited(CANNOT_START), end)
}

/// Opens the terminal behind the console three times. /dev/console itself cannot be a controlling terminal,
/// and without one Ctrl-C does nothing.
fn console() -> io::Result<(File, File, File)> {
    let active = std::fs::read_to_string("/sys/class/tty/console/active")?;
    let name = active.split_whitespace().last().unwrap_or("console");
    let terminal = File::options().read(true).write(true).open(Path::new("/dev").join(name))?;
    Ok((terminal.try_clone()?, terminal.try_clone()?, terminal))
}

/// Makes standard input the controlling terminal of this process. A shell also works without one.
fn own_terminal() -> io::Result<()> {
    let _ = nix::unistd::setsid();
    // SAFETY: takes no pointer.
    unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
    Ok(())
}

fn end(status: ExitStatus) -> WorkerEnd {
    match (status.code(), status.signal()) {
        (Some(code), _) => WorkerEnd::Exited(code),
        (None, signal) => WorkerEnd::Signaled(signal.unwrap_or(0)),
    }
}

/// Forwards the output of a pipe by lines, so that no character is split.
fn forward(fd: u8, pipe: impl Read, output: &Sender<Output>) {
    let mut pipe = BufReader::new(pipe);
    loop {
        let mut piece = Vec::new();
        match pipe.by_ref().take(MAX_PIECE).read_until(b'\n', &mut piece) {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        if output.send(Output { fd, text: String::from_utf8_lossy(&piece).into_owned() }).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output_of(command: &str) -> (WorkerEnd, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        let end = run(command, |event| match event {
            Event::Output(Output { fd: 1, text }) => out += &text,
            Event::Output(Output { text, .. }) => err += &text,
            other => panic!("only output, not {other:?}"),
        });
        (end, out, err)
    }

    #[test]
    fn output_and_status_arrive() {
        let (end, out, err) = output_of("echo one; printf two >&2; exit 3");
        assert_eq!((end, out.as_str(), err.as_str()), (WorkerEnd::Exited(3), "one\n", "two"));
    }

    #[test]
    fn a_signal_is_no_exit_status() {
        assert_eq!(output_of("kill -9 $$").0, WorkerEnd::Signaled(9));
    }
}
