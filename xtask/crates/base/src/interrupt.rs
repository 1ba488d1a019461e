// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the user, or the system, asked this process to end. Everything that waits asks here.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::{Class, Error, Result};

static SIGNAL: AtomicU32 = AtomicU32::new(0);
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Begins to listen for SIGINT, SIGHUP and SIGTERM.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn listen() -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGHUP, SIGTERM])
        .map_err(|error| Error::host("cannot install signal handlers").why(error))?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            // The first one decides the exit code.
            let _ = SIGNAL.compare_exchange(0, signal.unsigned_abs(), Ordering::SeqCst, Ordering::SeqCst);
            COUNT.fetch_add(1, Ordering::SeqCst);
        }
    });
    Ok(())
}

/// Ends everything that is under way, because an error elsewhere makes it pointless.
pub fn abandon() {
    let _ = SIGNAL.compare_exchange(0, SIGINT.unsigned_abs(), Ordering::SeqCst, Ordering::SeqCst);
}

/// The class to end with, if somebody asked.
pub fn requested() -> Option<Class> {
    match i32::try_from(SIGNAL.load(Ordering::SeqCst)) {
        Ok(0) | Err(_) => None,
        Ok(SIGTERM) => Some(Class::Terminated),
        Ok(_) => Some(Class::Interrupted),
    }
}

/// Whether somebody asked twice: no more grace then.
pub fn insistent() -> bool {
    COUNT.load(Ordering::SeqCst) > 1
}

/// An error if somebody asked; to be called between steps that do not wait.
///
/// # Errors
/// The interruption.
pub fn check() -> Result<()> {
    match requested() {
        None => Ok(()),
        Some(class) => Err(Error::new(class, class.label())),
    }
}
