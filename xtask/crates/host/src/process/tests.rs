// SPDX-License-Identifier: MIT OR Apache-2.0
//! Children that end, hang, write too much or are stopped.

use super::*;

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[test]
fn both_streams_arrive_and_the_status_is_kept() {
    let mut seen = Vec::new();
    let done = Job::new(shell("echo out; echo err >&2; exit 3"))
        .on_line(|stream, line| seen.push((stream, line.to_owned())))
        .run()
        .expect("sh runs");
    assert_eq!(done.status.code(), Some(3));
    assert_eq!(done.stdout, "out\n");
    assert!(seen.contains(&(Stream::Err, "err".to_owned())));
    assert!(done.ok("cannot test").expect_err("status 3").to_string().contains("exited with status 3"));
}

#[test]
fn a_deadline_ends_the_whole_group() {
    let begun = Instant::now();
    let error = Job::new(shell("sleep 77 & sleep 77")).deadline(Duration::from_millis(200)).run();
    assert!(error.expect_err("too slow").what.contains("did not end"));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_child_that_floods_fills_neither_memory_nor_disk() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let log = dir.path().join("log");
    let done = Job::new(shell("yes 0123456789abcdef | head -c 90000000; echo; echo last"))
        .log(&log)
        .run()
        .expect("ran");
    let size = std::fs::metadata(&log).expect("there").len();
    assert!(size <= MAX_LOG + 32 && size > MAX_LOG - 64, "{size}");
    assert_eq!(done.tail.last().map(String::as_str), Some("last"));
    let text = std::fs::read_to_string(&log).expect("read");
    assert!(text.ends_with("[vmtest: truncated]\n"));
}

#[test]
fn input_is_fed() {
    let done = Job::new(shell("cat")).input("a\nb\n").run().expect("cat runs");
    assert_eq!(done.stdout, "a\nb\n");
}

#[test]
fn words_are_quoted_where_needed() {
    assert_eq!(shell_word("a b'c"), r"'a b'\''c'");
    assert_eq!(shell_word("O=/obj"), "O=/obj");
}
