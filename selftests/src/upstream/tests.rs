// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

#[test]
fn long_output_keeps_both_ends_and_says_so() {
    let mut bounded = Bounded::default();
    let mut all = String::new();
    for number in 0..200_000 {
        all.extend(bounded.take(format!("line {number}\n")));
    }
    all.extend(bounded.rest());
    assert!(all.len() < MAX_TEST_OUTPUT + 100);
    assert!(all.starts_with("line 0\n") && all.ends_with("line 199999\n") && all.contains(OUTPUT_CUT));
    let mut short = Bounded::default();
    assert_eq!(short.take("x\n".into()).as_deref(), Some("x\n"));
    assert_eq!(short.rest().count(), 0);
}

fn watched(script: &str, limit: Duration) -> (Option<ExitStatus>, Vec<String>) {
    let (output, input) = nix::unistd::pipe2(OFlag::O_CLOEXEC).expect("a pipe");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).stdout(Stdio::from(input)).process_group(0);
    let mut child = command.spawn().expect("a shell");
    drop(command);
    let (sender, pieces) = channel();
    std::thread::spawn(move || forward(File::from(output), &sender));
    let sent = tempfile();
    let (pipe, told) = (sent.try_clone().expect("a descriptor"), sent.try_clone().expect("a descriptor"));
    let events = Events { pipe, told, round: 1 };
    let status = watch(&mut child, &pieces, Instant::now(), limit, &events).expect("watched");
    let text = {
        use std::io::Seek;
        let mut sent = sent;
        sent.rewind().expect("rewound");
        let mut text = String::new();
        sent.read_to_string(&mut text).expect("read");
        text
    };
    (status, text.lines().map(str::to_owned).collect())
}

fn tempfile() -> File {
    let path = std::env::temp_dir().join(format!("vmtest-upstream-{:?}", std::thread::current().id()));
    let file = File::options().create(true).truncate(true).read(true).write(true).open(&path);
    let _ = fs::remove_file(&path);
    file.expect("a file")
}

#[test]
fn a_process_is_watched_to_its_end_and_no_longer_than_its_limit() {
    let (status, events) = watched("echo one; exit 3", Duration::from_secs(20));
    assert_eq!(status.and_then(|status| status.code()), Some(3));
    assert!(events.len() == 1 && events[0].contains("one"), "{events:?}");
    let begun = Instant::now();
    let (status, _) = watched("sleep 100", Duration::from_millis(200));
    assert!(status.is_none() && begun.elapsed() < Duration::from_secs(20));
    // A child that is left behind holds the pipe; it is not waited for.
    let (status, events) = watched("sleep 100 & echo two", Duration::from_secs(20));
    assert!(status.is_some_and(|status| status.success()) && events[0].contains("two"));
    assert!(begun.elapsed() < Duration::from_secs(30));
}
