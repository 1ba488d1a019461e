// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

fn line(seq: u64, event: &str) -> String {
    format!("{{\"n\":\"abc\",\"seq\":{seq},\"ms\":1,{event}}}\n")
}
const HELLO: &str = r#""ev":"hello","protocol":5,"release":"7.3.4","cmdline":"","clocksource":"tsc","cpus":2,"memory_mib":480,"features":{},"profile":{}"#;
const PLAN: &str = r#""ev":"plan","tests":[{"test":"basic","subtest":"a"}]"#;
const START: &str = r#""ev":"start","test":"basic","subtest":"a""#;
const CHECKED: &str = r#""ev":"checked","test":"basic","subtest":"a","round":1,"checks":[{"what":"runs","expected":"2","seen":"2","ok":true}]"#;
const END: &str = r#""ev":"end","test":"basic","subtest":"a","outcome":"pass","reason":"","checks":2,"seen":[],"duration_us":9,"log":"""#;
const DONE: &str = r#""ev":"done","planned":1,"ended":1,"worker":{"how":"exited","code":0},"tainted":0"#;

fn whole() -> String {
    [HELLO, PLAN, START, END, DONE].iter().enumerate().map(|(seq, event)| line(seq as u64, event)).collect()
}

#[test]
fn a_whole_stream_in_pieces_of_any_size() {
    for size in [1, 7, 4096] {
        let mut stream = Stream::new("abc");
        whole().as_bytes().chunks(size).for_each(|piece| stream.feed(piece));
        stream.close();
        assert_eq!(stream.faults, []);
        assert!(stream.done.is_some() && stream.running.is_none());
        assert_eq!(stream.ended.len(), 1);
    }
}

#[test]
fn cut_anywhere_it_has_no_done_and_no_panic() {
    let text = whole();
    for cut in 0..text.len() {
        let mut stream = Stream::new("abc");
        stream.feed(&text.as_bytes()[..cut]);
        stream.close();
        assert!(stream.done.is_none(), "cut at {cut}");
    }
}

#[test]
fn every_irregularity_is_a_fault() {
    let cases: [(&str, String); 9] = [
        ("not an event", format!("{}garbage\n", line(0, HELLO))),
        ("another run", line(0, HELLO).replace("abc", "xyz")),
        ("expected event", line(0, HELLO) + &line(2, PLAN)),
        ("before hello", line(0, PLAN)),
        ("second plan", line(0, HELLO) + &line(1, PLAN) + &line(2, PLAN)),
        ("was not running", line(0, HELLO) + &line(1, END)),
        ("was not running", line(0, HELLO) + &line(1, CHECKED)),
        ("protocol 9", line(0, &HELLO.replace("\"protocol\":5", "\"protocol\":9"))),
        ("after the last", whole() + &line(5, START)),
    ];
    for (word, text) in cases {
        let mut stream = Stream::new("abc");
        stream.feed(text.as_bytes());
        stream.close();
        assert!(
            stream.faults.iter().any(|fault| fault.to_string().contains(word)),
            "{word}: {:?}",
            stream.faults
        );
    }
}

#[test]
fn repetitions_are_told_apart_by_their_round() {
    let plan = PLAN.replace("]", "],\"rounds\":3");
    let one = |round: u32| {
        let round = format!(",\"round\":{round}");
        [START.to_owned() + &round, END.to_owned() + &round]
    };
    let faults = |events: &[String]| {
        let mut stream = Stream::new("abc");
        for (seq, event) in [HELLO.to_owned(), plan.clone()].iter().chain(events).enumerate() {
            stream.feed(line(seq as u64, event).as_bytes());
        }
        stream.faults.iter().map(Fault::to_string).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(faults(&[one(1), one(2), one(3)].concat()), "");
    // Missing rounds are left to the judgement of the cells.
    assert_eq!(faults(&[one(1), one(3)].concat()), "");
    assert!(faults(&[one(1), one(1)].concat()).contains("ended twice"));
    assert!(faults(&[one(1), one(4)].concat()).contains("round 4 of 3"));
    assert!(faults(&one(0)).contains("round 0 of 3"));
    let [start, _] = one(2);
    assert!(faults(&[start, END.to_owned()]).contains("was not running"), "of another round");
}

#[test]
fn output_belongs_to_the_test_that_runs() {
    let output = r#""ev":"output","fd":1,"text":"a line\n""#;
    let mut stream = Stream::new("abc");
    for (seq, event) in [HELLO, PLAN, START, output, output, END].iter().enumerate() {
        stream.feed(line(seq as u64, event).as_bytes());
    }
    let name = TestName { test: "basic".into(), subtest: "a".into() };
    assert_eq!(stream.printed_by(&name), "a line\na line\n");
    assert!(stream.output.is_empty() && stream.faults.is_empty());
}

#[test]
fn an_endless_line_costs_no_memory_and_terminal_escapes_are_cleaned() {
    let mut stream = Stream::new("abc");
    for _ in 0..40 {
        stream.feed(&vec![b'x'; 100_000]);
    }
    assert!(stream.buffer.capacity() <= 2 * MAX_LINE);
    assert!(stream.faults.contains(&Fault::TooLong));
    assert!(!excerpt(b"\x1b[2Jhi").contains('\x1b'));
}

#[test]
fn what_was_checked_is_that_of_the_running_subtest() {
    let stream = |events: &[&str]| {
        let mut stream = Stream::new("abc");
        for (seq, event) in events.iter().enumerate() {
            stream.feed(line(seq as u64, event).as_bytes());
        }
        assert_eq!(stream.faults, []);
        stream
    };
    let dies = stream(&[HELLO, PLAN, START, CHECKED, CHECKED]);
    assert_eq!(dies.checked.iter().map(|check| check.what.as_str()).collect::<Vec<_>>(), ["runs"; 2]);
    let ended = stream(&[HELLO, PLAN, START, CHECKED, END]);
    assert!(ended.checked.is_empty() && ended.ended[0].seen.is_empty(), "the end has what is worth showing");
    // The worker sends this for a process that died.
    let killed = END.replace("pass", "fail").replace("\"checks\":2", "\"checks\":0");
    assert_eq!(stream(&[HELLO, PLAN, START, CHECKED, &killed]).ended[0].seen.len(), 1);
}

#[test]
fn counters_belong_to_the_test_that_runs_or_come_before_the_first_one() {
    let counters = |name: &str| {
        format!(r#""ev":"counters",{name},"object":"kernel/a.gcda","part":1,"parts":1,"data":"""#)
    };
    let (early, own) = (r#""test":"","subtest":"""#, r#""test":"basic","subtest":"a""#);
    let (early, own, other) = (counters(early), counters(own), counters(r#""test":"basic","subtest":"b""#));
    let faults = |events: &[&str]| {
        let mut stream = Stream::new("abc");
        let all = [HELLO, PLAN].into_iter().chain(events.iter().copied()).enumerate();
        let text: String = all.map(|(seq, event)| line(seq as u64, event)).collect();
        stream.feed(text.as_bytes());
        stream.faults.len()
    };
    assert_eq!(faults(&[&early, START, &own, END]), 0);
    assert_eq!(faults(&[START, &other]), 1);
    assert_eq!(faults(&[START, &early]), 1, "a test runs");
    assert_eq!(faults(&[START, END, &early]), 1, "it is over");
    assert_eq!(faults(&[&own]), 1, "it has not begun");
}
