// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was seen of a guest, how its life ended, and the limits that it had.

use std::process::ExitStatus;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::console::Scanner;
use crate::events::Stream;
use vmtest_base::error::Class;

/// How long a guest may take for what. Scaled by the accelerator, each overridable, all in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Start to the first byte on the console.
    pub first_byte: Duration,
    /// Start to the runner's hello.
    pub boot: Duration,
    /// Without a byte on either channel.
    pub idle: Duration,
    /// Start to the end of everything.
    pub run: Duration,
    /// The runner's last word to QEMU's end.
    pub shutdown: Duration,
}

/// How the guest's life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", content = "status", rename_all = "kebab-case")]
pub enum End {
    /// QEMU (or vng) ended by itself.
    #[serde(with = "wait_status")]
    Exited(ExitStatus),
    /// No byte in time.
    NoFirstByte,
    /// No hello in time.
    BootLimit,
    /// No byte for too long after hello.
    IdleLimit,
    /// Too long altogether.
    RunLimit,
    /// The runner was done, but the machine did not switch off.
    ShutdownLimit,
    /// The kernel said that it died, and the machine did not end.
    StayedDead,
    /// The user, or the system.
    Interrupted(Class),
}

impl End {
    /// Whether its time was up, and it could still be asked.
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
    /// How it ended.
    pub end: End,
    /// What the runner said.
    pub stream: Stream,
    /// What the console showed.
    pub console: Scanner,
    /// What QEMU, vng or bubblewrap said themselves.
    pub complaint: String,
    /// Start to end.
    pub took: Duration,
    /// Start to hello; `None` when it never came.
    pub booted_after: Option<Duration>,
    /// A channel sent more than [`MAX_STORED`].
    pub truncated: bool,
    /// The line that told of the kernel's death, or else the guest's last byte, to the verdict.
    pub to_verdict: Duration,
    /// What it was asked before it was killed, and what it said; empty for a guest that ended by itself.
    pub before_kill: Vec<String>,
    /// Bytes of its console and of its events that count: those up to the end of its time.
    pub judged: [u64; 2],
}

impl Observed {
    /// A guest of which nothing was seen but how it ended.
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

/// An exit status as wait(2) gives it.
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
