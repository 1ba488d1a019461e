// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use std::os::unix::net::UnixListener;

/// A QEMU that sends these answers, one for each line that it receives, and then falls silent.
fn asked(answers: &'static [&'static str]) -> (Evidence, Duration) {
    let dir = tempfile::tempdir().expect("a directory");
    let listener = UnixListener::bind(dir.path().join(QMP)).expect("a socket");
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("a connection");
            let _ = stream.write_all(b"{\"QMP\": {}}\n");
            let mut buffer = [0; 4096];
            for answer in answers {
                let _ = stream.read(&mut buffer);
                let _ = stream.write_all(answer.as_bytes());
            }
            let _ = stream.read(&mut buffer);
            std::thread::sleep(ANSWER + Duration::from_millis(500));
        });
        let evidence = collect(dir.path(), dir.path(), false);
        (evidence, begun.elapsed())
    })
}

#[test]
fn a_link_to_a_socket_of_the_host_is_not_followed() {
    let (home, dir) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let listener = UnixListener::bind(home.path().join("docker.sock")).expect("a socket");
    std::os::unix::fs::symlink(home.path().join("docker.sock"), dir.path().join(QMP)).expect("linked");
    assert!(connect(dir.path(), QMP).expect_err("a link").to_string().contains("not a socket"));
    assert!(connect(home.path(), "docker.sock").is_ok());
    listener.accept().expect("one connection");
    listener.set_nonblocking(true).expect("set");
    assert!(listener.accept().is_err(), "and no other");
}

const STATUS: &str = "{\"event\": \"X\"}\n{\"return\": {\"status\": \"paused\"}}\n";

#[test]
fn status_and_registers_are_told() {
    let registers =
        "{\"return\": \"CPU#0\\r\\nRIP=ffffffff81000010 RFL=0\\r\\nCPU#1\\r\\nEIP=00000007\\r\\n\"}\n";
    let answers: &'static [&'static str] =
        Box::leak(Box::new(["{\"return\": {}}\n", STATUS, Box::leak(registers.to_owned().into_boxed_str())]));
    let (evidence, _) = asked(answers);
    assert_eq!(evidence.told, ["QEMU says: paused", "instruction pointers: ffffffff81000010, 00000007"]);
    assert!(evidence.machine.contains("CPU#1\nEIP=00000007\n"), "{}", evidence.machine);
}

#[test]
fn a_qemu_that_is_silent_refuses_or_is_not_there_holds_nothing_up() {
    let (evidence, took) = asked(&["{\"return\": {}}\n"]);
    assert_eq!(evidence.told, ["query-status: no answer within 1 s"]);
    assert!(took < 3 * ANSWER, "{took:?}");
    let (evidence, _) = asked(&["{\"return\": {}}\n", STATUS, "{\"error\": {\"desc\": \"not here\"}}\n"]);
    assert_eq!(evidence.told[1], "human-monitor-command: not here");
    let none = tempfile::tempdir().expect("a directory");
    let evidence = collect(none.path(), none.path(), true);
    assert!(evidence.told[0].starts_with("QEMU does not answer: "), "{:?}", evidence.told);
}
