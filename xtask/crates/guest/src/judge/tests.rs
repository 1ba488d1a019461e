// SPDX-License-Identifier: MIT OR Apache-2.0
//! Verdicts on guests that ended in every way, and the resulting cells.

use super::*;
use crate::console::Scanner;
use crate::events::Stream;
use crate::judge::boot::{judge as judge_boot, unexplained_taint};
use crate::judge::cells::{judge as cells, measured};
use crate::observed::{End, Observed};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::LazyLock;
use std::time::Duration;
use vmtest_base::error::Class;
use vmtest_protocol::{End as TestEnd, LAST_WORD, TestName};
use vmtest_record::allow_list::Allowed;
use vmtest_record::outcome::Outcome;
use vmtest_record::samples;

fn name(subtest: &str) -> TestName {
    TestName { test: "basic".into(), subtest: subtest.into() }
}

const HELLO: &str = r#""ev":"hello","protocol":5,"release":"7.3.4","build_id":"0123456789abcdef","cmdline":"","clocksource":"tsc","cpus":2,"memory_mib":480,"features":{},"profile":{}"#;
const ID: &str = "0123456789abcdef";
const PLAN: &str = r#""ev":"plan","tests":[{"test":"basic","subtest":"a"},{"test":"basic","subtest":"b"}]"#;
fn start(test: &str) -> String {
    format!(r#""ev":"start","test":"basic","subtest":"{test}""#)
}
fn end(test: &str, outcome: &str, checks: u32) -> String {
    format!(
        r#""ev":"end","test":"basic","subtest":"{test}","outcome":"{outcome}","reason":"why","checks":{checks},"seen":[],"duration_us":9000,"log":"l""#
    )
}
fn done(ended: u32, how: &str) -> String {
    format!(r#""ev":"done","planned":2,"ended":{ended},"worker":{how},"tainted":0"#)
}
#[test]
fn a_figure_says_what_it_was_taken_on_and_is_of_a_pass() {
    let mut end: TestEnd = serde_json::from_str(
        r#"{"test":"cost","subtest":"a","outcome":"pass","reason":"","checks":1,"seen":[],"duration_us":1,"log":""}"#,
    )
    .expect("an end without a figure");
    assert_eq!(measured(&end, Outcome::Pass, "tcg"), "");
    end.measured = "7 ns".to_owned();
    assert_eq!(measured(&end, Outcome::Pass, "tcg"), "7 ns, tcg: emulated");
    assert_eq!(measured(&end, Outcome::Pass, "kvm"), "7 ns, kvm");
    assert_eq!(measured(&end, Outcome::Fail, "kvm"), "");
}

const FINE: &str = r#"{"how":"exited","code":0}"#;

fn observed(events: &[String], console: &str, end: End) -> Observed {
    let mut stream = Stream::new("abc");
    for (seq, event) in events.iter().enumerate() {
        stream.feed(format!("{{\"n\":\"abc\",\"seq\":{seq},\"ms\":1,{event}}}\n").as_bytes());
    }
    stream.close();
    let mut scanner = Scanner::default();
    scanner.feed(console.as_bytes());
    if events.iter().any(|event| event.contains(r#""ev":"done""#)) {
        scanner.feed(format!("\nLinux version 7.3.4\n{LAST_WORD}\n").as_bytes());
    }
    scanner.close();
    Observed {
        end,
        stream,
        console: scanner,
        complaint: String::new(),
        took: Duration::from_secs(1),
        booted_after: None,
        truncated: false,
        to_verdict: Duration::ZERO,
        before_kill: Vec::new(),
        judged: [0, 0],
    }
}

fn exited() -> End {
    End::Exited(ExitStatus::from_raw(0))
}

fn good() -> Vec<String> {
    [
        HELLO.into(),
        PLAN.into(),
        start("a"),
        end("a", "pass", 2),
        start("b"),
        end("b", "pass", 1),
        done(2, FINE),
    ]
    .into()
}

fn judged(events: &[String], console: &str, how: End) -> (Class, Vec<(Outcome, Class)>) {
    let seen = observed(events, console, how);
    let boot = judge_boot(&seen, &terms("7.3.4"));
    let base = CellBase {
        kernel: "k".into(),
        variant: "default".into(),
        boot: "direct".into(),
        accel: "tcg".into(),
        suite: "own".into(),
        enforced: None,
    };
    let cells = cells(&base, &[name("a"), name("b")], &seen, &boot, Rounds::Exactly(1), &|_| false);
    (boot.class, cells.iter().map(|cell| (cell.outcome, cell.class)).collect())
}

static NOTHING: LazyLock<Allowed> = LazyLock::new(Allowed::default);

fn terms(release: &str) -> Terms<'_> {
    Terms { release, build_id: ID, allowed: &NOTHING, emulator: None }
}

#[test]
fn an_int3_oops_in_the_kernels_own_text_is_the_emulators_where_it_is_one_of_those() {
    let console = |symbol: &str| {
        format!(
            "[    1.0] Oops: int3: 0000 [#1] SMP\n[    1.0] RIP: 0010:{symbol}\n[    1.1] Kernel panic - not syncing: x\n"
        )
    };
    let class = |console: &str, emulator: Option<&str>| {
        let seen = observed(&good()[..5], console, exited());
        let verdict = judge_boot(&seen, &Terms { emulator, ..terms("7.3.4") });
        assert_ne!(verdict.class, Class::Pass);
        verdict.class
    };
    let here = Some("QEMU 7.2 with 2 CPUs on threads of their own");
    assert_eq!(class(&console("schedule+0x1/0x2"), here), Class::Host);
    assert_eq!(class(&console("schedule+0x1/0x2"), None), Class::Panic, "KVM, or one thread");
    for ours in ["bpf_trampoline_123+0x1/0x2", "bpf_prog_0123_x+0x1/0x2", "0xffffffffc0001234"] {
        assert_eq!(class(&console(ours), here), Class::Panic, "{ours}");
    }
    let other = console("schedule+0x1/0x2").replace("int3", "0002");
    assert_eq!(class(&other, here), Class::Panic);
}

#[test]
fn an_allowed_splat_passes_alone_and_hides_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("allow.toml");
    let text = "[[allow]]\ntitle = 'at known'\nreason = 'r'\nexpires = '9999-01-01'\n";
    std::fs::write(&file, text).expect("written");
    let allowed = Allowed::load(&file).expect("a list");
    let class = |console: &str| {
        let seen = observed(&good(), console, exited());
        judge_boot(&seen, &Terms { allowed: &allowed, ..terms("7.3.4") }).class
    };
    let (known, other) = ("WARNING: CPU: 0 PID: 1 at known\n", "WARNING: CPU: 0 PID: 1 at other\n");
    assert_eq!(class(known), Class::Pass);
    assert_eq!(class(&format!("{known}{other}")), Class::Splat);
    assert_eq!(class(&format!("{known}Kernel panic - not syncing: at known\n")), Class::Panic);
    assert_eq!(class(&known.repeat(60)), Class::Splat, "more than are kept could be anything");
}

#[test]
fn only_a_whole_run_passes() {
    use Outcome::Pass;
    assert_eq!(judged(&good(), "", exited()), (Class::Pass, vec![(Pass, Class::Pass), (Pass, Class::Pass)]));
    // Leaving out any one event must lose the pass of at least one cell or of the boot.
    for left_out in 0..good().len() {
        let mut events = good();
        events.remove(left_out);
        let (boot, cells) = judged(&events, "", exited());
        let all = boot == Class::Pass && cells.iter().all(|(outcome, _)| *outcome == Pass);
        assert!(!all, "without event {left_out}");
    }
}

#[test]
fn another_kernel_than_the_one_to_test_proves_nothing() {
    let seen = observed(&good(), "", exited());
    assert_eq!(judge_boot(&seen, &terms("7.3.4-rc1")).class, Class::Host);
    assert_eq!(judge_boot(&seen, &terms("")).class, Class::Pass);
}

/// The verdict on a good guest with this text replaced.
fn changed(from: &str, to: &str, terms: &Terms<'_>) -> Verdict {
    let events: Vec<String> = good().iter().map(|event| event.replace(from, to)).collect();
    assert_ne!(events, good(), "{from}");
    judge_boot(&observed(&events, "", exited()), terms)
}

#[test]
fn the_guest_proves_which_kernel_it_runs() {
    let terms = terms("7.3.4");
    assert_eq!(judge_boot(&observed(&good(), "", exited()), &terms).class, Class::Pass);
    let other = changed(ID, "fedcba9876543210", &terms);
    assert_eq!(other.class, Class::Host);
    assert!(other.reason.contains(ID) && other.reason.contains("fedcba9876543210"), "{}", other.reason);
    for silent in ["\"build_id\":\"\",", ""] {
        let silent = changed(&format!("\"build_id\":\"{ID}\","), silent, &terms);
        assert_eq!(silent.class, Class::Host);
        assert!(silent.reason.contains("does not show the build id"), "{}", silent.reason);
    }
    // Unknown for a compressed image.
    assert_eq!(changed(ID, "fedc", &Terms { build_id: "", ..terms }).class, Class::Pass);
}

#[test]
fn a_tainted_kernel_is_no_pass_unless_what_is_allowed_explains_it() {
    let tainted = |bits: u64| changed("\"tainted\":0", &format!("\"tainted\":{bits}"), &terms("7.3.4"));
    for (bits, word) in
        [(512, "W (a warning)"), (128, "D (an oops"), (32, "B (a bad page"), (16, "M"), (1 << 14, "L")]
    {
        let verdict = tainted(bits);
        assert_eq!(verdict.class, Class::Splat, "{bits}");
        assert!(verdict.reason.starts_with(&format!("kernel tainted: {word}")), "{}", verdict.reason);
    }
    assert!(tainted(4096 | 512).reason.ends_with(": W (a warning)"), "the module is no trouble");
    assert_eq!(tainted(1 << 12 | 1 << 13 | 1 << 18 | 4).class, Class::Pass, "unsigned test modules, a CPU");
    let unknown = changed("\"tainted\":0", "\"tainted\":null", &terms("7.3.4"));
    assert_eq!((unknown.class, unknown.reason.contains("could not read")), (Class::Host, true));
    let absent = changed(",\"tainted\":0", "", &terms("7.3.4"));
    assert_eq!(absent.class, Class::Host);

    let title = "WARNING: CPU: 0 PID: 1 at known";
    let kasan = "BUG: KASAN: slab-use-after-free in known";
    let allowed = Allowed::exactly(&[title.to_owned(), kasan.to_owned()]);
    let class = |bits: u64, console: &str| {
        let mut events = good();
        let last = events.len() - 1;
        events[last] = events[last].replace("\"tainted\":0", &format!("\"tainted\":{bits}"));
        let seen = observed(&events, console, exited());
        judge_boot(&seen, &Terms { allowed: &allowed, ..terms("7.3.4") }).class
    };
    assert_eq!(class(512, title), Class::Pass);
    assert_eq!(class(512, ""), Class::Splat, "nothing was seen that explains it");
    assert_eq!(class(512 | 32, title), Class::Splat, "a warning sets no B");
    assert_eq!(class(32, kasan), Class::Pass);
    assert_eq!(class(512 | 128, title), Class::Splat, "nothing allows an oops");
    // It can be allowed by name like any warning; an oops cannot.
    let seen = |bits: u64| {
        let mut events = good();
        let last = events.len() - 1;
        events[last] = events[last].replace("\"tainted\":0", &format!("\"tainted\":{bits}"));
        observed(&events, "", exited())
    };
    for (bits, class) in [(512, Class::Pass), (128, Class::Splat)] {
        let seen = seen(bits);
        let allowed = Allowed::exactly(&unexplained_taint(&seen).into_iter().collect::<Vec<_>>());
        assert_eq!(judge_boot(&seen, &Terms { allowed: &allowed, ..terms("7.3.4") }).class, class);
    }
}

#[test]
fn a_console_that_was_turned_down_is_no_evidence() {
    let class = |console: &str| {
        let mut seen = observed(&good(), "", exited());
        seen.console = Scanner::default();
        seen.console.feed(console.as_bytes());
        seen.console.close();
        judge_boot(&seen, &terms("7.3.4"))
    };
    let (start, end) =
        ("[    0.000000] Linux version 7.3.4 (x) #1\r\n", format!("[    9.000000][    T1] {LAST_WORD}\r\n"));
    assert_eq!(class(&format!("{start}{end}")).class, Class::Pass);
    assert_eq!(class(&format!("{start}user text {end}")).class, Class::Pass, "behind an open line");
    for (console, what) in
        [(String::new(), "the start"), (start.to_owned(), "last word"), (end.clone(), "the start")]
    {
        let verdict = class(&console);
        assert_eq!(verdict.class, Class::Host, "{console}");
        assert!(verdict.reason.contains(what), "{}", verdict.reason);
    }
    // Warnings that were found take precedence.
    assert_eq!(class(&format!("{start}WARNING: CPU: 0 PID: 1 at x\n")).class, Class::Splat);
}

#[test]
fn a_death_after_a_clean_run_is_no_pass() {
    let (boot, cells) = judged(&good(), "[ 1.0] Kernel panic - not syncing: x\n", exited());
    assert_eq!(boot, Class::Panic);
    assert_eq!(cells[0].0, Outcome::Pass, "what was reported before the death is kept");
    let mut run = samples::run(vec![samples::cell("k", "a", Outcome::Pass, Class::Pass)]);
    run.boots = vec![samples::boot("k", Class::Panic)];
    run.conclude(None);
    assert_eq!(run.exit_code.code(), 21);
}

#[test]
fn every_death_has_its_class_and_its_cell() {
    let died: Vec<String> = good()[..5].into();
    let cases = [
        ("Kernel panic - not syncing: x\n", exited(), Class::Panic, Outcome::Crash),
        ("", exited(), Class::GuestLost, Outcome::Crash),
        ("", End::IdleLimit, Class::Hang, Outcome::Timeout),
        ("", End::RunLimit, Class::WallClock, Outcome::Timeout),
    ];
    for (console, how, class, outcome) in cases {
        let (boot, cells) = judged(&died, console, how);
        assert_eq!((boot, cells[0].0, cells[1]), (class, Outcome::Pass, (outcome, class)));
    }
    let mut runner = died.clone();
    runner.push(done(1, r#"{"how":"signaled","code":11}"#));
    assert_eq!(judged(&runner, "", exited()).1[1], (Outcome::Crash, Class::RunnerDied));
    assert_eq!(judged(&[], "Linux version 6", exited()).0, Class::BootFailed);
    assert_eq!(judged(&[], "", End::NoFirstByte).1[0], (Outcome::Notrun, Class::BootFailed));
    assert_eq!(judged(&died, "", End::Interrupted(Class::Terminated)).1[1].1, Class::Terminated);
}

#[test]
fn a_splat_a_skip_and_a_hollow_pass_are_no_pass() {
    assert_eq!(judged(&good(), "WARNING: CPU: 0 PID: 1 at x\n", exited()).0, Class::Splat);
    let mut events = good();
    events[3] = end("a", "skip", 1);
    events[5] = end("b", "pass", 0);
    let (boot, cells) = judged(&events, "", exited());
    assert_eq!(boot, Class::Pass);
    assert_eq!(cells, [(Outcome::Skip, Class::Incomplete), (Outcome::Fail, Class::TestFailed)]);
}

/// The cells of a run in which `a` and `b` ran in these rounds with these outcomes.
fn repeated(ran: &[(&str, u32, &str)], rounds: Rounds) -> Vec<(Outcome, Class, u32, String)> {
    let most = ran.iter().map(|one| one.1).max().unwrap_or(1).max(9);
    let mut events = vec![HELLO.to_owned(), format!(r#"{PLAN},"rounds":{most}"#)];
    for (test, round, outcome) in ran {
        events.push(format!(r#"{},"round":{round}"#, start(test)));
        if !outcome.is_empty() {
            events.push(format!(r#"{},"round":{round}"#, end(test, outcome, 1)));
        }
    }
    let ended = ran.iter().filter(|one| !one.2.is_empty()).count() as u32;
    let open = ran.last().is_some_and(|one| one.2.is_empty());
    if !open {
        events.push(done(ended, FINE));
    }
    let seen = observed(&events, if open { "Kernel panic - not syncing: x\n" } else { "" }, exited());
    assert_eq!(seen.stream.faults, []);
    let boot = judge_boot(&seen, &terms("7.3.4"));
    let base = CellBase {
        kernel: "k".into(),
        variant: "v".into(),
        boot: "direct".into(),
        accel: "tcg".into(),
        suite: "own".into(),
        enforced: None,
    };
    let cells = cells(&base, &[name("a"), name("b")], &seen, &boot, rounds, &|_| false);
    cells.into_iter().map(|cell| (cell.outcome, cell.class, cell.attempts, cell.reason)).collect()
}

const A: [(&str, u32, &str); 3] = [("a", 1, "pass"), ("a", 2, "pass"), ("a", 3, "pass")];

/// The cell of `b` if it ran like this alongside three passes of `a`.
fn beside(b: &[(&str, u32, &str)], rounds: Rounds) -> (Outcome, Class, u32, String) {
    let mut cells = repeated(&[&A[..], b].concat(), rounds);
    let b = cells.pop().expect("two cells");
    let a = cells.pop().expect("two cells");
    assert_eq!((a.0, a.2), (Outcome::Pass, 3));
    b
}

#[test]
fn every_repetition_has_to_pass() {
    const THREE: Rounds = Rounds::Exactly(3);
    let found = |b: &[(&str, u32, &str)]| beside(b, THREE);
    let (outcome, class, attempts, reason) = found(&[("b", 1, "pass"), ("b", 2, "pass"), ("b", 3, "pass")]);
    assert_eq!((outcome, class, attempts, reason.as_str()), (Outcome::Pass, Class::Pass, 3, "why"));
    let (outcome, class, attempts, reason) = found(&[("b", 1, "pass"), ("b", 2, "fail"), ("b", 3, "fail")]);
    assert_eq!((outcome, class, attempts), (Outcome::Fail, Class::TestFailed, 3));
    assert!(reason.starts_with("repetition 2 of 3: why"), "{reason}");
    for (b, number) in [
        (&[("b", 1, "pass"), ("b", 2, "pass")][..], 3),
        (&[("b", 1, "pass"), ("b", 3, "pass")], 2),
        (&[("b", 2, "pass"), ("b", 3, "pass")], 1),
    ] {
        let (outcome, class, attempts, reason) = found(b);
        assert_eq!((outcome, class, attempts), (Outcome::Missing, Class::Incomplete, 2), "{b:?}");
        assert!(reason.starts_with(&format!("repetition {number} of 3: ")), "{reason}");
    }
    assert_eq!(found(&[]).0, Outcome::Missing);
    let (outcome, class, _, reason) = found(&[("b", 1, "pass"), ("b", 2, "skip"), ("b", 3, "pass")]);
    assert_eq!((outcome, class), (Outcome::Skip, Class::Incomplete));
    assert!(reason.starts_with("repetition 2 of 3: "), "{reason}");
    let (outcome, _, _, reason) = found(&[("b", 1, "skip"), ("b", 2, "skip"), ("b", 3, "skip")]);
    assert_eq!((outcome, reason.as_str()), (Outcome::Skip, "why"), "the same every time");
    let (outcome, class, _, _) =
        found(&[("b", 1, "pass"), ("b", 2, "pass"), ("b", 3, "pass"), ("b", 4, "pass")]);
    assert_eq!((outcome, class), (Outcome::Fail, Class::Host), "more than were asked for");
    let (outcome, class, attempts, reason) = found(&[("b", 1, "pass"), ("b", 2, "")]);
    assert_eq!((outcome, class, attempts), (Outcome::Crash, Class::Panic, 2));
    assert!(reason.starts_with("repetition 2 of 3: "), "{reason}");
}

#[test]
fn until_it_fails_takes_one_whole_round() {
    const UNTIL: Rounds = Rounds::UntilFail;
    // The time was up in the third round.
    assert_eq!(beside(&[("b", 1, "pass"), ("b", 2, "pass")], UNTIL).0, Outcome::Pass);
    let (outcome, _, _, reason) = beside(&[("b", 1, "pass"), ("b", 2, "pass"), ("b", 3, "fail")], UNTIL);
    assert_eq!(outcome, Outcome::Fail);
    assert!(reason.starts_with("repetition 3: "), "{reason}");
    for b in [&[][..], &[("b", 1, "pass")], &[("b", 2, "pass")]] {
        assert_eq!(beside(b, UNTIL).0, Outcome::Missing, "{b:?}");
    }
    let outcomes = |ran: &[(&str, u32, &str)]| -> Vec<Outcome> {
        repeated(ran, UNTIL).into_iter().map(|cell| cell.0).collect()
    };
    assert_eq!(outcomes(&[("a", 1, "pass")]), [Outcome::Pass, Outcome::Missing], "not one whole round");
    assert_eq!(outcomes(&[("a", 1, "fail")]), [Outcome::Fail, Outcome::Missing]);
    assert_eq!(
        outcomes(&[("a", 1, "pass"), ("b", 1, "pass"), ("a", 2, "")]),
        [Outcome::Crash, Outcome::Pass]
    );
    assert_eq!(outcomes(&[]), [Outcome::Missing, Outcome::Missing]);
}

#[test]
fn a_test_that_was_never_planned_is_not_counted_as_one_that_was() {
    let mut events = good();
    events[2] = start("z");
    events[3] = end("z", "pass", 2);
    let (_, cells) = judged(&events, "", exited());
    assert_eq!(cells[0], (Outcome::Missing, Class::Incomplete));
    assert_eq!(cells[2], (Outcome::Fail, Class::Host));
}

#[test]
fn a_cell_whose_guest_died_has_what_was_checked_before() {
    let check = |what: &str, ok: bool| {
        format!(
            r#""ev":"checked","test":"basic","subtest":"a","round":1,"checks":[{{"what":"{what}","expected":"2","seen":"3","ok":{ok}}}]"#
        )
    };
    let events = [
        HELLO.into(),
        PLAN.into(),
        start("a"),
        check("first", true),
        check("second", false),
        check("third", true),
    ];
    let seen = observed(&events, "Kernel panic - not syncing: x\n", exited());
    let boot = judge_boot(&seen, &terms("7.3.4"));
    let judged =
        cells(&CellBase::default(), &[name("a"), name("b")], &seen, &boot, Rounds::Exactly(1), &|_| false);
    let what = |all: &[vmtest_record::run::Expectation]| -> Vec<String> {
        all.iter().map(|one| one.what.clone()).collect()
    };
    assert_eq!(judged[0].outcome, Outcome::Crash);
    assert_eq!(
        (what(&judged[0].held), what(&judged[0].unmet)),
        (vec!["first".into(), "third".into()], vec!["second".into()])
    );
    assert!(judged[1].held.is_empty() && judged[1].unmet.is_empty());
}
