// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was seen of a guest, how it ended, and its limits.

use std::process::ExitStatus;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::console::Scanner;
use crate::events::Stream;
use vmtest_base::error::Class;

/// Time limits of a guest. Scaled by the accelerator, each overridable, all in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From start to the first byte on the console.
    pub first_byte: Duration,
    /// From start to the runner's `hello`.
    pub boot: Duration,
    /// Without a byte on either channel.
    pub idle: Duration,
    /// From start to exit.
    pub run: Duration,
    /// From the runner's last event to QEMU's exit.
    pub shutdown: Duration,
}

/// How the guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", content = "status", rename_all = "kebab-case")]
pub enum End {
    /// QEMU (or vng) exited by itself.
    #[serde(with = "wait_status")]
    Exited(ExitStatus),
    /// No byte in time.
    NoFirstByte,
    /// No `hello` in time.
    BootLimit,
    /// No byte for too long after `hello`.
    IdleLimit,
    /// The total limit was exceeded.
    RunLimit,
    /// The runner was done, but the machine did not power off.
    ShutdownLimit,
    /// The kernel reported its death, but the machine did not exit.
    StayedDead,
    /// Stopped by the user or the system.
    Interrupted(Class),
}

impl End {
    /// Whether a limit expired, so that the guest can still be queried.
    pub fn is_limit(self) -> bool {
        match self {
            End::NoFirstByte | End::BootLimit | End::IdleLimit | End::RunLimit | End::ShutdownLimit => true,
            End::Exited(_) | End::Interrupted(_) | End::StayedDead => false,
        }
    }
}

/// Everything that was seen of one guest.
#[derive(Debug)]
pub struct Observed {
    pub end: End,
    pub stream: Stream,
    /// What the console showed.
    pub console: Scanner,
    /// What QEMU, vng or bubblewrap printed themselves.
    pub complaint: String,
    pub took: Duration,
    /// From start to `hello`; `None` if it never arrived.
    pub booted_after: Option<Duration>,
    /// A channel sent more than [`MAX_STORED`].
    pub truncated: bool,
    /// Time from the line that reported the kernel's death, or else the guest's last byte, to the verdict.
    pub to_verdict: Duration,
    /// Queries before it was killed, with the answers; empty for a guest that ended by itself.
    pub before_kill: Vec<String>,
    /// How many bytes of its console and of its events count: those before its time was up.
    pub judged: [u64; 2],
}

impl Observed {
    /// A guest of which only the way it ended is known.
    pub fn new(end: End, truncated: bool) -> Observed {
        Observed {
            end,
            stream: Stream::new(""),
            console: Scanner::default(),
            complaint: String::new(),
            took: Duration::ZERO,
            booted_after: None,
            truncated,
            to_verdict: Duration::ZERO,
            before_kill: Vec::new(),
            judged: [0, 0],
        }
    }
}

/// An exit status as wait(2) returns it.
mod wait_status {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(status: &ExitStatus, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_i32(status.into_raw())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ExitStatus, D::Error> {
        i32::deserialize(from).map(ExitStatus::from_raw)
    }
}
