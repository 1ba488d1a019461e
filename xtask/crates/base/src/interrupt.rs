// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a signal requested that this process end. All code that waits checks it.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::{Class, Error, IoContext, Result};

/// Time in milliseconds after which a wait looks for a signal.
const LOOK_MS: u16 = 100;

static SIGNAL: AtomicU32 = AtomicU32::new(0);
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Installs handlers for SIGINT, SIGHUP and SIGTERM.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn listen() -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGHUP, SIGTERM])
        .map_err(|error| Error::host("cannot install signal handlers").why(error))?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            // The first signal decides the exit code.
            let _ = SIGNAL.compare_exchange(0, signal.unsigned_abs(), Ordering::SeqCst, Ordering::SeqCst);
            COUNT.fetch_add(1, Ordering::SeqCst);
        }
    });
    Ok(())
}

/// Stops everything in progress because an error elsewhere made it pointless.
pub fn abandon() {
    let _ = SIGNAL.compare_exchange(0, SIGINT.unsigned_abs(), Ordering::SeqCst, Ordering::SeqCst);
}

/// The class to end with, if the process should end.
pub fn requested() -> Option<Class> {
    match i32::try_from(SIGNAL.load(Ordering::SeqCst)) {
        Ok(0) | Err(_) => None,
        Ok(SIGTERM) => Some(Class::Terminated),
        Ok(_) => Some(Class::Interrupted),
    }
}

/// Whether a second signal arrived: stop waiting for a clean end.
pub fn insistent() -> bool {
    COUNT.load(Ordering::SeqCst) > 1
}

/// Fails if the process should end. For use between steps that do not wait.
///
/// # Errors
/// Class `Interrupted` or `Terminated`.
pub fn check() -> Result<()> {
    match requested() {
        None => Ok(()),
        Some(class) => Err(Error::new(class, class.label())),
    }
}

/// A line from standard input, trimmed. Reading is not ended by a signal, so it starts when there is a line.
///
/// # Errors
/// Class `Interrupted` or `Terminated`, and those of reading.
pub fn line() -> Result<String> {
    let stdin = std::io::stdin();
    loop {
        check()?;
        let mut waiting = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if poll(&mut waiting, PollTimeout::from(LOOK_MS)).is_ok_and(|ready| ready > 0) {
            break;
        }
    }
    let mut line = String::new();
    if stdin.read_line(&mut line).on("cannot read", "standard input")? == 0 {
        // A terminal that goes away ends the input and sends a signal, which may arrive after that.
        std::thread::sleep(Duration::from_millis(LOOK_MS.into()));
    }
    check()?;
    Ok(line.trim().to_owned())
}
