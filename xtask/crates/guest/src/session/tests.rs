// SPDX-License-Identifier: MIT OR Apache-2.0
//! How guests end, with fake programs in place of QEMU.

use super::*;
use crate::observed::{End, Limits, Observed};
use std::time::Instant;

/// Limits that no test reaches; each test shortens the one that it is about. If several were short, the load
/// of the host would decide which expires first.
const LIMITS: Limits = Limits {
    first_byte: Duration::from_secs(60),
    boot: Duration::from_secs(60),
    idle: Duration::from_secs(60),
    run: Duration::from_secs(60),
    shutdown: Duration::from_secs(60),
};
const SHORT: Duration = Duration::from_millis(400);
const HELLO: &str = r#"{"n":"abc","seq":0,"ms":1,"ev":"hello","protocol":5,"release":"r","cmdline":"","clocksource":"tsc","cpus":2,"memory_mib":480,"features":{},"profile":{}}"#;

/// A fake guest: a shell script that gets the FIFO as $1.
fn guest(script: &str) -> Observed {
    guest_within(LIMITS, script)
}

fn guest_within(limits: Limits, script: &str) -> Observed {
    let channel = Channel::create().expect("a FIFO");
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(channel.dir().join("events"));
    let store = tempfile::tempdir().expect("temporary directory");
    let seen_at = channel.dir().to_owned();
    let (console_on, nonce, store) = (ConsoleOn::Stdout, "abc".to_owned(), store.path());
    run(Start { command, console_on, channel, seen_at, nonce, limits, store }, |_, _| ())
        .expect("a guest ran")
}

#[test]
fn a_kernel_that_panicked_and_stays_is_ended_within_two_seconds() {
    let begun = Instant::now();
    let talk = "while :; do echo x; sleep 0.1; done";
    let seen = guest(&format!("echo '{HELLO}' > $1; echo 'Kernel panic - not syncing: x'; {talk}"));
    assert_eq!(seen.end, End::StayedDead);
    assert!(seen.to_verdict < Duration::from_secs(2), "{:?}", seen.to_verdict);
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_kernel_that_halts_before_it_can_panic_is_ended_within_two_seconds() {
    for last in ["PANIC: early exception 0x0d IP 10:ffffffff83a0b7d1 error 0 cr2 0x0", " -- System halted"] {
        let seen = guest(&format!("echo 'Linux version 1'; echo '{last}'; sleep 60"));
        assert_eq!(seen.end, End::StayedDead, "{last}");
        assert!(seen.to_verdict < Duration::from_secs(2), "{last}: {:?}", seen.to_verdict);
        assert!(seen.console.death().is_some(), "{last}");
    }
}

#[test]
fn what_a_guest_says_after_its_time_was_up_changes_nothing() {
    // The socket exists, but nothing answers on it: it takes a second to find that out.
    let wait = "python3 -c 'import socket,sys; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()\n\
                import time; time.sleep(9)' \"$(dirname $1)/qmp\" &";
    let late = "sleep 0.8; echo 'Kernel panic - not syncing: late'; sleep 9";
    let limits = Limits { idle: SHORT, ..LIMITS };
    let seen = guest_within(limits, &format!("echo 'Linux version 1'; echo '{HELLO}' > $1; {wait} {late}"));
    assert_eq!(seen.end, End::IdleLimit);
    assert!(seen.console.death().is_none(), "{:?}", seen.console.death());
    assert!(!seen.before_kill.is_empty());
}

#[test]
fn everything_said_before_the_end_is_read() {
    let seen = guest(&format!("echo 'Linux version 1'; echo '{HELLO}' > $1; echo last words"));
    assert!(matches!(seen.end, End::Exited(status) if status.success()));
    assert!(seen.stream.hello.is_some());
    assert_eq!(seen.console.tail(1), ["last words"]);
}

#[test]
fn each_limit_has_its_own_end_and_nothing_is_left() {
    let hello = format!("echo '{HELLO}' > $1");
    let silent = Limits { first_byte: SHORT, ..LIMITS };
    assert_eq!(guest_within(silent, "sleep 60").end, End::NoFirstByte);
    let without_hello = Limits { boot: SHORT, ..LIMITS };
    assert_eq!(guest_within(without_hello, "echo 'Linux version 1'; sleep 60").end, End::BootLimit);
    let idle = Limits { idle: SHORT, ..LIMITS };
    assert_eq!(guest_within(idle, &format!("{hello}; sleep 60")).end, End::IdleLimit);
    let endless = Limits { run: Duration::from_secs(1), ..LIMITS };
    let seen = guest_within(endless, &format!("{hello}; while :; do echo x; sleep 0.1; done"));
    assert_eq!(seen.end, End::RunLimit);
}

#[test]
fn a_fake_guest_that_floods_is_drained() {
    let seen = guest("head -c 80000000 /dev/zero");
    assert!(matches!(seen.end, End::Exited(_)));
    assert!(seen.truncated);
}
