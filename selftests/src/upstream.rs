// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the kernel's own `test_progs`, or a program that prints KTAP, instead of our own suite: one process
//! for each test, with a time limit.
//!
//! It only judges how the process ended. The host gets the whole output and interprets it, so that its parser
//! can be tested, and run again, without a guest.

use crate::kmsg::Kmsg;
use crate::params::Params;
use crate::supervisor::outside;
use crate::worker::Events;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use vmtest_protocol::{
    Check, End, Event, GuestOutcome, MAX_TEST_OUTPUT, OUT_OF_TIME, OUTPUT_CUT, Output, Plan, Splat, Start,
    TestName, Upstream, UpstreamTest,
};

/// Where the tests run: they write files, and the root of the guest is read-only.
const WORK: &str = "/run/vmtest-upstream";
const TEST_PROGS: &str = "./test_progs";
/// Tests call ip and other programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longest piece of output in one event.
const MAX_PIECE: u64 = 16 * 1024;
/// How often a sign of life is sent during a long test: it prints nothing before its end, and the host kills
/// silent guests.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// Time limit for output after the process has ended: a child that it left behind may hold the pipe.
const LINGER: Duration = Duration::from_secs(2);

/// Runs the tests named in the file of wishes.
pub fn run_wishes(params: &Params, wishes: &str, kmsg: &mut Kmsg, pipe: File, told: File) -> io::Result<()> {
    // An orphan of a test must not inherit the pipe that the supervisor reads until end of file.
    fcntl(&pipe, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    fcntl(&told, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let events = Events { pipe, told, round: 1 };
    let text =
        fs::read_to_string(wishes).map_err(|err| io::Error::new(err.kind(), format!("{wishes}: {err}")))?;
    let wishes: Upstream = serde_json::from_str(&text)?;
    let listed = match &params.trouble {
        Some(trouble) => Err(trouble.clone()),
        None => prepare(&wishes).and_then(|()| list(&wishes)),
    };
    // Without a list nothing can run, and the requested tests fail with the reason.
    let names = match &listed {
        Ok(names) => names.clone(),
        Err(_) => wishes.tests.iter().map(|test| test.name.clone()).collect(),
    };
    let tests = names.iter().map(|name| whole(name)).collect();
    events.send(&Event::Plan(Plan { tests, rounds: 1, until_fail: false }))?;
    for title in kmsg.complaints() {
        events.send(&outside(title))?;
    }
    for name in names {
        events.begin(Start { name: whole(&name), round: 1 })?;
        let end = match (&listed, wishes.tests.iter().find(|test| test.name == name)) {
            (Err(trouble), _) => failed(&name, trouble.clone(), Duration::ZERO),
            // The host compares the plan with its own.
            (Ok(_), None) => failed(&name, "nobody asked for it".to_owned(), Duration::ZERO),
            (Ok(_), Some(test)) => run_test(test, &wishes, &events)?,
        };
        events.send(&Event::End(end))?;
        for title in kmsg.complaints() {
            events.send(&Event::Splat(Splat { name: whole(&name), title }))?;
        }
    }
    Ok(())
}

/// A test as a whole: it has no subtest.
fn whole(name: &str) -> TestName {
    TestName { test: name.to_owned(), subtest: String::new() }
}

/// Copies the bundle into memory and brings up the loopback device, without which a network namespace has no
/// network.
fn prepare(wishes: &Upstream) -> Result<(), String> {
    let told = |what: &str, err: &dyn std::fmt::Display| format!("{what}: {err}");
    fs::create_dir_all(WORK).map_err(|err| told(WORK, &err))?;
    mount(Some("tmpfs"), WORK, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .map_err(|err| told("mount tmpfs", &err))?;
    copy(Path::new(&wishes.bundle), Path::new(WORK))
        .map_err(|err| told("copy of test_progs and its files", &err))?;
    // Best effort: a test that needs it reports it.
    let _ = Command::new("ip").args(["link", "set", "lo", "up"]).env("PATH", PATH).status();
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// The requested tests that `test_progs -l` would run, in its order.
fn list(wishes: &Upstream) -> Result<Vec<String>, String> {
    if wishes.program.is_some() {
        return Ok(wishes.tests.iter().map(|test| test.name.clone()).collect());
    }
    let mut command = run(TEST_PROGS);
    command.arg("-l");
    for test in &wishes.tests {
        command.args(["-a", &test.name]);
    }
    let done = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let done = done.map_err(|err| format!("{TEST_PROGS} -l: {err}"))?;
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if !done.status.success() {
        // It first adds a key; 6.18 and later print nothing if that fails.
        return Err(format!("test_progs -l {}: {}", how(done.status), last_line(&err, &out)));
    }
    let names: Vec<String> =
        out.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let count = names.len();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() != count {
        return Err(format!("test_progs -l names a test twice: {}", names.join(", ")));
    }
    Ok(names)
}

fn last_line<'a>(err: &'a str, out: &'a str) -> &'a str {
    let last = |text: &'a str| text.lines().rev().find(|line| !line.trim().is_empty());
    last(err)
        .or_else(|| last(out))
        .unwrap_or("it said nothing; a kernel without asymmetric keys is one cause")
}

fn run(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(WORK).env("PATH", PATH).env("HOME", WORK).stdin(Stdio::null());
    command
}

/// Runs one test to its end, or to its time limit.
fn run_test(test: &UpstreamTest, wishes: &Upstream, events: &Events) -> io::Result<End> {
    let started = Instant::now();
    let program = wishes.program.as_ref().map_or(TEST_PROGS.to_owned(), |program| format!("./{program}"));
    let mut command = run(&program);
    if wishes.program.is_none() {
        choose(&mut command, test, wishes);
    }
    // A single pipe for both streams preserves their order.
    let (output, input) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    command.stdout(Stdio::from(input.try_clone()?)).stderr(Stdio::from(input)).process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(err) => return Ok(failed(&test.name, format!("{program}: {err}"), started.elapsed())),
    };
    // It holds the write ends of the pipe.
    drop(command);
    let (sender, pieces) = channel();
    std::thread::spawn(move || forward(File::from(output), &sender));
    let limit = Duration::from_secs(wishes.limit_s.into());
    let status = watch(&mut child, &pieces, started, limit, events)?;
    let Some(status) = status else {
        return Ok(failed(&test.name, format!("{OUT_OF_TIME} {} s", limit.as_secs()), started.elapsed()));
    };
    // After a signal there is no exit status, so there is nothing to check.
    let exit = status.code().map(|code| Check {
        what: "exit status".into(),
        expected: "0".into(),
        seen: code.to_string(),
        ok: code == 0,
    });
    let failed = failed(
        &test.name,
        format!("{} {}", program.trim_start_matches("./"), how(status)),
        started.elapsed(),
    );
    let end = End { checks: u32::from(exit.is_some()), seen: exit.into_iter().collect(), ..failed };
    Ok(match status.success() {
        true => End { outcome: GuestOutcome::Pass, reason: String::new(), ..end },
        false => end,
    })
}

/// Adds the arguments that select the tests.
fn choose(command: &mut Command, test: &UpstreamTest, wishes: &Upstream) {
    if test.subtests.is_empty() {
        command.args(["-a", &test.name]);
    }
    for subtest in &test.subtests {
        command.arg("-a").arg(format!("{}/{subtest}", test.name));
    }
    for pattern in &wishes.deny {
        command.args(["-d", pattern]);
    }
}

/// Sends output until the process has ended and nothing is left to read. `None` if the time limit expired.
fn watch(
    child: &mut Child,
    pieces: &Receiver<String>,
    started: Instant,
    limit: Duration,
    events: &Events,
) -> io::Result<Option<ExitStatus>> {
    let mut bounded = Bounded::default();
    let mut ended: Option<(ExitStatus, Instant)> = None;
    let mut out_of_time = false;
    let mut last_sign = Instant::now();
    loop {
        match pieces.recv_timeout(Duration::from_millis(20)) {
            Ok(piece) => {
                if let Some(text) = bounded.take(piece) {
                    events.send(&Event::Output(Output { fd: 1, text }))?;
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if ended.is_none() {
            ended = child.try_wait()?.map(|status| (status, Instant::now()));
        }
        if ended.is_some_and(|(_, at)| at.elapsed() > LINGER) {
            break;
        }
        if ended.is_none() && !out_of_time && started.elapsed() > limit {
            out_of_time = true;
            kill(child);
        }
        if last_sign.elapsed() > SIGN_OF_LIFE {
            last_sign = Instant::now();
            events.send(&Event::Output(Output { fd: 0, text: String::new() }))?;
        }
    }
    for text in bounded.rest() {
        events.send(&Event::Output(Output { fd: 1, text }))?;
    }
    let status = match ended {
        Some((status, _)) => status,
        None => child.wait()?,
    };
    // Processes that it left behind must not disturb the next test.
    kill(child);
    Ok(Some(status).filter(|_| !out_of_time))
}

fn kill(child: &Child) {
    // If no process was left behind, the group no longer exists.
    let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
}

/// Forwards the output of a pipe by lines, so that no character is split.
fn forward(pipe: File, output: &Sender<String>) {
    let mut pipe = BufReader::new(pipe);
    loop {
        let mut piece = Vec::new();
        match pipe.by_ref().take(MAX_PIECE).read_until(b'\n', &mut piece) {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        if output.send(String::from_utf8_lossy(&piece).into_owned()).is_err() {
            return;
        }
    }
}

/// Output of one test: the first half of the limit is sent at once, then only the tail is kept.
#[derive(Default)]
struct Bounded {
    sent: usize,
    kept: VecDeque<String>,
    size: usize,
    cut: bool,
}

impl Bounded {
    /// Adds a piece; returns it if it should be sent now.
    fn take(&mut self, piece: String) -> Option<String> {
        if self.kept.is_empty() && self.sent + piece.len() <= MAX_TEST_OUTPUT / 2 {
            self.sent += piece.len();
            return Some(piece);
        }
        self.size += piece.len();
        self.kept.push_back(piece);
        while self.size > MAX_TEST_OUTPUT / 2 {
            self.size -= self.kept.pop_front().map_or(0, |piece| piece.len());
            self.cut = true;
        }
        None
    }

    fn rest(self) -> impl Iterator<Item = String> {
        let mark = self.cut.then(|| format!("\n{OUTPUT_CUT}\n"));
        mark.into_iter().chain(self.kept)
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("died of signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

fn failed(name: &str, reason: String, took: Duration) -> End {
    End {
        name: whole(name),
        round: 1,
        outcome: GuestOutcome::Fail,
        reason,
        checks: 0,
        seen: Vec::new(),
        measured: String::new(),
        duration_us: took.as_micros() as u64,
        log: String::new(),
    }
}

#[cfg(test)]
mod tests;
