// SPDX-License-Identifier: MIT OR Apache-2.0
//! Detects kernel warnings in the log and in the taint bits.
//!
//! The taint alone is not enough (a bit can be set only once), and neither is the log (it can be turned
//! down).

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use vmtest_protocol::complaints::{self, Kind};
use vmtest_protocol::{LAST_WORD, taint};

/// The state at the last check. A fork shares the position in the log with its parent: whichever reads next
/// continues where the other stopped.
pub struct Kmsg {
    log: Option<File>,
    tainted: u64,
}

/// `/proc/sys/kernel/tainted`; `None` if it cannot be read.
pub fn tainted() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/kernel/tainted").ok()?.trim().parse().ok()
}

/// Writes [`LAST_WORD`] to the log, as a warning (`<4>`): the host checks whether it reached the console. A
/// kernel without that log does not print it, and the host notices.
pub fn last_word() {
    let _ = std::fs::write("/dev/kmsg", format!("<4>{LAST_WORD}\n"));
}

impl Kmsg {
    /// Starts at the beginning of the log: the first check covers the boot.
    pub fn open() -> Self {
        let log = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open("/dev/kmsg");
        let log = log.ok().and_then(|mut file| file.seek(SeekFrom::Start(0)).map(|_| file).ok());
        Self { log, tainted: 0 }
    }

    /// Titles of the warnings since the last check, and of new taint that they do not explain.
    pub fn complaints(&mut self) -> Vec<String> {
        let mut titles = self.logged();
        let tainted = tainted().unwrap_or(self.tainted);
        let new = taint::bad_bits(tainted & !self.tainted);
        self.tainted = tainted;
        if new != 0 && titles.is_empty() {
            titles.push(taint::title(new));
        }
        titles
    }

    /// Titles of the warnings in the log since the last check. For a process that does not know which taint
    /// the other side of a fork has already reported.
    pub fn logged(&mut self) -> Vec<String> {
        let mut found: Vec<(Kind, String)> =
            self.new_records().iter().filter_map(|record| complaint(record)).collect();
        // If the first line of a report is present, its other lines are not separate warnings.
        if found.iter().any(|(kind, _)| *kind > Kind::Part) {
            found.retain(|(kind, _)| *kind > Kind::Part);
        }
        found.into_iter().map(|(_, title)| title).collect()
    }

    fn new_records(&mut self) -> Vec<String> {
        let mut records = Vec::new();
        let Some(log) = &mut self.log else { return records };
        let mut record = [0; 8192];
        loop {
            match log.read(&mut record) {
                Ok(0) => return records,
                Ok(len) => records.push(String::from_utf8_lossy(&record[..len]).into_owned()),
                // Overwritten before we could read it: the next read continues after the gap.
                Err(err) if err.kind() == ErrorKind::BrokenPipe || err.kind() == ErrorKind::Interrupted => {}
                Err(_) => return records,
            }
        }
    }
}

/// The text of a kmsg record (`prio,seq,time,flags;text`) if it is a kernel warning.
fn complaint(record: &str) -> Option<(Kind, String)> {
    let (header, text) = record.split_once(';')?;
    // Facility 0 is the kernel; other records are from user space, which may quote anything.
    let priority: u32 = header.split(',').next()?.parse().ok()?;
    let title = text.lines().next()?.trim();
    let found = complaints::find(title.as_bytes(), true).filter(|_| priority >> 3 == 0)?;
    found.kind.severity().map(|_| (found.kind, title.to_owned()))
}

#[cfg(test)]
mod tests {
    fn complaint(record: &str) -> Option<String> {
        super::complaint(record).map(|(_, title)| title)
    }

    #[test]
    fn complaints_are_told_from_chatter() {
        let warning = "4,611,2093921,-;WARNING: CPU: 1 PID: 77 at kernel/bpf/trampoline.c:640 f+0x1/0x2\n SUBSYSTEM=x\n";
        assert_eq!(
            complaint(warning).as_deref(),
            Some("WARNING: CPU: 1 PID: 77 at kernel/bpf/trampoline.c:640 f+0x1/0x2")
        );
        assert!(complaint("1,9,1,-;BUG: kernel NULL pointer dereference, address: 0").is_some());
        assert!(complaint("6,12,1,-;Run /init as init process").is_none());
        assert!(complaint("12,12,1,-;WARNING: said by a process").is_none());
        assert!(complaint("rubbish").is_none());
        // The rules are shared with the host: those of `vmtest_protocol::complaints`.
        for text in [
            "[ BUG: Invalid wait context ]",
            "bpf: WARNING: odd",
            "refcount_t: underflow",
            "list_add corruption",
        ] {
            assert!(complaint(&format!("4,1,1,-;{text}.")).is_some(), "{text}");
        }
        assert!(
            complaint("4,1,1,-;Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on").is_none()
        );
        assert!(complaint("4,1,1,-;runner invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL)").is_none());
    }
}
