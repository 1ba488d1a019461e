// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

#[test]
fn a_line_survives_the_wire() {
    let line = Line {
        n: "abc".into(),
        seq: 3,
        ms: 17,
        event: Event::End(End {
            name: TestName { test: "basic".into(), subtest: "runs_twice".into() },
            round: 2,
            outcome: GuestOutcome::Fail,
            reason: "counter".into(),
            checks: 1,
            seen: vec![Check { what: "runs".into(), expected: "2".into(), seen: "1".into(), ok: false }],
            measured: String::new(),
            duration_us: 5,
            log: "a\nb".into(),
        }),
    };
    let text = serde_json::to_string(&line).expect("events hold nothing that JSON cannot");
    assert!(!text.contains('\n'), "one event is one line");
    assert_eq!(serde_json::from_str::<Line>(&text).expect("what we write we can read"), line);
}

#[test]
fn what_names_no_round_is_the_first() {
    let name = r#""ev":"start","test":"a","subtest":"b""#;
    for (more, round) in [("", 1), (r#","round":7"#, 7)] {
        let line = format!(r#"{{"n":"a","seq":0,"ms":0,{name}{more}}}"#);
        let line: Line = serde_json::from_str(&line).expect("an event");
        let Event::Start(start) = line.event else { panic!("a start") };
        assert_eq!((start.name.path().as_str(), start.round), ("a/b", round));
    }
}

#[test]
fn efforts_have_their_words() {
    for effort in Effort::ALL {
        assert_eq!(Effort::of_name(effort.name()), Some(effort));
        assert_eq!(serde_json::to_value(effort).expect("JSON"), effort.name());
    }
    assert_eq!(Effort::of_name("thorough"), None);
}

#[test]
fn an_unknown_event_is_an_error_not_a_default() {
    assert!(serde_json::from_str::<Line>(r#"{"n":"a","seq":0,"ms":0,"ev":"finished"}"#).is_err());
}
