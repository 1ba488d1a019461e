// SPDX-License-Identifier: MIT OR Apache-2.0
//! In a GitHub job the runner acts on lines of the log: `::error ..` at the start of a line, `##[error] ..`
//! anywhere in it. A kernel, a guest or a patch may print such lines, so the log is bracketed by
//! `::stop-commands::TOKEN` and `::TOKEN::`, and only our own annotations are outside the brackets, escaped.
//!
//! The runner reads both streams of a process with a single state, and the order in which it reads lines of
//! different streams is undefined. So the start of a gap is written to the stream with the preceding
//! untrusted text, and its end to the stream with the following one; where that is not enough, we wait a
//! moment in between.
//!
//! How it could be wrong: if the process is killed, commands stay stopped, and later commands of the same
//! step are shown but not run. The runner resets this state for each step.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

/// How long the runner may take to read one stream before we continue on the other.
const MOMENT: Duration = Duration::from_millis(200);

/// Whether commands have been stopped on standard output.
static ON_STDOUT: AtomicBool = AtomicBool::new(false);

/// The token that ends the stop; `None` outside of a job. Only the runner gets to see it: it is written to
/// nothing but the log.
fn token() -> Option<&'static str> {
    static TOKEN: OnceLock<Option<String>> = OnceLock::new();
    let in_job = || std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true");
    TOKEN.get_or_init(|| in_job().then(vmtest_base::files::nonce)).as_deref()
}

/// Errors of a closed log are ignored.
fn write(mut to: impl Write, line: &str) {
    let _ = to.write_all(line.as_bytes()).and_then(|()| to.flush());
}

/// The log of this process, from its first line to its last.
pub struct Brackets;

/// Stops commands before any untrusted text is printed. They resume when the result is dropped, even after a
/// panic.
pub fn begin() -> Brackets {
    if let Some(token) = token() {
        write(std::io::stderr(), &format!("::stop-commands::{token}\n"));
    }
    Brackets
}

impl Drop for Brackets {
    fn drop(&mut self) {
        let Some(token) = token() else { return };
        // The last line of standard output is still the verdict.
        if ON_STDOUT.load(Ordering::SeqCst) {
            sleep(MOMENT);
        }
        write(std::io::stderr(), &format!("::{token}::\n"));
    }
}

/// Text for humans follows on standard output. Not for data, which may go to a file or another program.
pub fn text_follows() {
    if let Some(token) = token().filter(|_| !ON_STDOUT.swap(true, Ordering::SeqCst)) {
        write(std::io::stdout(), &format!("::stop-commands::{token}\n"));
    }
}

/// Prints our own commands, between all untrusted text so far and the text that follows on standard output.
pub fn commands(print: impl FnOnce()) {
    if let Some(token) = token() {
        write(std::io::stderr(), &format!("::{token}::\n"));
        sleep(MOMENT);
    }
    print();
    text_follows();
}
