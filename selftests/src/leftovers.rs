// SPDX-License-Identifier: MIT OR Apache-2.0
//! What attaching leaves behind in the kernel: counted before and after, it has to be the same.

use crate::bpf;
use crate::check::Checks;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the kernel may take to clean up: it waits for other CPUs and for sleeping tasks.
const LIMIT: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(100);

/// What there is of each kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counts {
    links: usize,
    programs: usize,
    /// Images of trampolines, each a symbol.
    trampolines: usize,
    /// Functions that something is attached to.
    enabled_functions: usize,
}

impl Counts {
    /// Counts what is there before a test. What an earlier one left may still be on its way out: a trampoline without
    /// a link is.
    pub fn before() -> Result<Self, String> {
        let started = Instant::now();
        loop {
            let now = Self::now()?;
            if now.trampolines <= now.links || started.elapsed() > LIMIT {
                return Ok(now);
            }
            sleep(TICK);
        }
    }

    fn now() -> Result<Self, String> {
        let mut now = Self::without_symbols()?;
        now.trampolines = lines("/proc/kallsyms", is_trampoline)?;
        Ok(now)
    }

    /// All but the trampolines: a large kernel takes a second to tell its symbols, when emulated.
    fn without_symbols() -> Result<Self, String> {
        let text = |errno| format!("counting links and programs: {errno}");
        Ok(Self {
            links: bpf::link_ids().map_err(text)?.len(),
            programs: bpf::program_ids().map_err(text)?.len(),
            trampolines: 0,
            enabled_functions: lines("/sys/kernel/tracing/enabled_functions", |_| true)?,
        })
    }

    /// States that everything is as it was, within the limit.
    pub fn state_as_before(self, checks: &mut Checks) -> Result<(), String> {
        let started = Instant::now();
        let now = loop {
            let late = started.elapsed() >= LIMIT;
            // The symbols last, when the rest is there.
            if late || Self::without_symbols()? == (Self { trampolines: 0, ..self }) {
                let now = Self::now()?;
                if now == self || late {
                    break now;
                }
            }
            sleep(TICK);
        };
        checks.eq("links in the system, as before", now.links, self.links);
        checks.eq("programs in the system, as before", now.programs, self.programs);
        checks.eq("images of trampolines in kallsyms, as before", now.trampolines, self.trampolines);
        checks.eq("lines of enabled_functions, as before", now.enabled_functions, self.enabled_functions);
        Ok(())
    }
}

fn lines(path: &str, counts: impl Fn(&[u8]) -> bool) -> Result<usize, String> {
    let file = File::open(path).map_err(|err| format!("{path}: {err}"))?;
    // Large pieces: each read of such a file starts by finding its place.
    let mut file = BufReader::with_capacity(1 << 20, file);
    let (mut line, mut count) = (Vec::new(), 0);
    loop {
        line.clear();
        match file.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(count),
            Ok(_) => count += usize::from(counts(&line)),
            Err(err) => return Err(format!("{path}: {err}")),
        }
    }
}

/// Such as `ffffffffa0201000 t bpf_trampoline_6442530669 [bpf]`.
fn is_trampoline(line: &[u8]) -> bool {
    let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty()).skip(2);
    words.next().is_some_and(|name| name.starts_with(b"bpf_trampoline_")) && words.next() == Some(b"[bpf]")
}

#[cfg(test)]
mod tests {
    use super::is_trampoline;

    #[test]
    fn only_images_of_trampolines_are_counted() {
        assert!(is_trampoline(b"ffffffffa0201000 t bpf_trampoline_6442530669\t[bpf]\n"));
        for other in [
            &b"ffffffff81309160 T bpf_trampoline_update\n"[..],
            b"ffffffffa0201000 t bpf_prog_d35b94b4c0c10efb_one_arg\t[bpf]\n",
            b"ffffffffa0201000 t bpf_dispatcher_xdp\t[bpf]\n",
            b"",
        ] {
            assert!(!is_trampoline(other), "{}", String::from_utf8_lossy(other));
        }
    }
}
