// SPDX-License-Identifier: MIT OR Apache-2.0
//! In a job of GitHub the runner acts on lines of the log: `::error ..` at the start of a line, `##[error] ..` anywhere in it.
//! A kernel, a guest or a patch may print such lines, so the log is bracketed by `::stop-commands::TOKEN` and `::TOKEN::`, and
//! only our own annotations stand outside of the brackets, escaped.
//!
//! The runner reads both streams of a process and has one state for them, and nothing says in which order it reads two lines of
//! two streams. So what opens a gap is written to the stream that strangers wrote to before, and what ends it to the one that
//! they write to next; where that is not enough a moment is left between them.
//!
//! How it could be wrong: a process that is killed leaves the log stopped, and commands of the same step that follow are
//! shown and not run. The runner begins each step anew.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

/// How long the runner may take to have read one stream before the other goes on.
const MOMENT: Duration = Duration::from_millis(200);

/// Whether standard output says that commands are stopped.
static ON_STDOUT: AtomicBool = AtomicBool::new(false);

/// What ends the stop; `None` outside of a job. Nobody but the runner sees it: it goes to the log alone.
fn token() -> Option<&'static str> {
    static TOKEN: OnceLock<Option<String>> = OnceLock::new();
    let in_job = || std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true");
    TOKEN.get_or_init(|| in_job().then(vmtest_base::files::nonce)).as_deref()
}

/// A log that is closed is read by nobody.
fn write(mut to: impl Write, line: &str) {
    let _ = to.write_all(line.as_bytes()).and_then(|()| to.flush());
}

/// The log of this process, from its first line to its last.
pub struct Brackets;

/// Stops commands, before anything of a stranger can be printed. They go on when the result is dropped, also by a panic.
pub fn begin() -> Brackets {
    if let Some(token) = token() {
        write(std::io::stderr(), &format!("::stop-commands::{token}\n"));
    }
    Brackets
}

impl Drop for Brackets {
    fn drop(&mut self) {
        let Some(token) = token() else { return };
        // The last line of standard output stays the verdict.
        if ON_STDOUT.load(Ordering::SeqCst) {
            sleep(MOMENT);
        }
        write(std::io::stderr(), &format!("::{token}::\n"));
    }
}

/// Text for people follows on standard output. Not for data, which may go to a file or another program.
pub fn text_follows() {
    if let Some(token) = token().filter(|_| !ON_STDOUT.swap(true, Ordering::SeqCst)) {
        write(std::io::stdout(), &format!("::stop-commands::{token}\n"));
    }
}

/// Prints commands of our own, between all that strangers said so far and the text that follows on standard output.
pub fn commands(print: impl FnOnce()) {
    if let Some(token) = token() {
        write(std::io::stderr(), &format!("::{token}::\n"));
        sleep(MOMENT);
    }
    print();
    text_follows();
}
