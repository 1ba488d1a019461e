// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::events::Stream;
use crate::observed::End;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use vmtest_protocol::{Event, GuestOutcome, Line, Output};

/// The outcome of the only planned result if its program ended like this.
fn outcome(reason: &str) -> Outcome {
    let name = TestName { test: "tiny".into(), subtest: String::new() };
    let end = TestEnd {
        name: name.clone(),
        round: 1,
        outcome: GuestOutcome::Pass,
        reason: reason.into(),
        checks: 0,
        seen: Vec::new(),
        measured: String::new(),
        duration_us: 0,
        log: String::new(),
    };
    let plan = vmtest_protocol::Plan { tests: vec![name.clone()], rounds: 1, until_fail: false };
    let text = "KTAP version 1\n1..1\nok 1 one\n".to_owned();
    let hello = r#"{"ev":"hello","protocol":1,"release":"k","cmdline":"","clocksource":"tsc","cpus":1,"memory_mib":1,"features":{},"profile":{}}"#;
    let events = [
        serde_json::from_str(hello).expect("a hello"),
        Event::Plan(plan),
        Event::Start(vmtest_protocol::Start { name, round: 1 }),
        Event::Output(Output { fd: 1, text }),
        Event::End(end),
    ];
    let mut stream = Stream::new("n");
    for (seq, event) in events.into_iter().enumerate() {
        let line = Line { n: "n".into(), seq: seq as u64, ms: 0, event };
        let mut text = serde_json::to_vec(&line).expect("plain data");
        text.push(b'\n');
        stream.feed(&text);
    }
    let end = End::Exited(ExitStatus::from_raw(0));
    let seen = Observed { stream, ..Observed::new(end, false) };
    let suite = Program {
        name: "tiny".into(),
        about: String::new(),
        dir: PathBuf::new(),
        program: "run.sh".into(),
        tests: vec!["one".into()],
        limit_s: 1,
    };
    let base = CellBase {
        kernel: "k".into(),
        variant: String::new(),
        boot: "vng".into(),
        accel: "tcg".into(),
        suite: "tiny".into(),
        enforced: None,
    };
    let boot = Verdict { class: Class::Pass, reason: String::new() };
    judge(&base, &suite, &seen, &boot, &|_| true)[0].outcome
}

#[test]
fn an_end_that_does_not_say_how_is_no_pass() {
    assert_eq!(outcome(""), Outcome::Missing);
    assert_eq!(outcome("run.sh died of signal 9"), Outcome::Missing);
}
