// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detects what attaching leaves behind in the kernel: counts before and after must be equal.

use crate::bpf;
use crate::check::Checks;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Time limit for the kernel to clean up: it waits for other CPUs and for sleeping tasks.
const LIMIT: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(100);

/// The number of objects of each kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counts {
    links: usize,
    programs: usize,
    /// Trampoline images; each has a symbol.
    trampolines: usize,
    /// Functions with something attached.
    enabled_functions: usize,
}

impl Counts {
    /// Counts before a test. Objects of an earlier test may still be disappearing: a trampoline without a
    /// link is.
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

    /// Everything except trampolines: a large kernel takes a second to list its symbols when emulated.
    fn without_symbols() -> Result<Self, String> {
        let text = |errno| format!("counting links and programs: {errno}");
        Ok(Self {
            links: bpf::link_ids().map_err(text)?.len(),
            programs: bpf::program_ids().map_err(text)?.len(),
            trampolines: 0,
            enabled_functions: lines("/sys/kernel/tracing/enabled_functions", |_| true)?,
        })
    }

    /// How many more of each kind there are now: links, programs, images of trampolines, lines of
    /// enabled_functions.
    pub fn more(&self) -> Result<[i64; 4], String> {
        let now = Self::now()?;
        let more = |now: usize, before: usize| now as i64 - before as i64;
        Ok([
            more(now.links, self.links),
            more(now.programs, self.programs),
            more(now.trampolines, self.trampolines),
            more(now.enabled_functions, self.enabled_functions),
        ])
    }

    /// Checks that everything is as before, within the time limit.
    pub fn state_as_before(self, checks: &mut Checks) -> Result<(), String> {
        let started = Instant::now();
        let now = loop {
            let late = started.elapsed() >= LIMIT;
            // Count the symbols last, once everything else is back to normal.
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
    // Large buffer: each read of such a file starts by searching for its position.
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

/// For example `ffffffffa0201000 t bpf_trampoline_6442530669 [bpf]`.
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
