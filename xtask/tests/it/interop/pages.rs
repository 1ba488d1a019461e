// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pages that the browser shows: a series, a run, a matrix and bisections.

use std::collections::BTreeMap;

use vmtest_base::error::Class;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{BootRecord, Cell, Expectation, Kernel, Role, RunResult};
use vmtest_record::samples;
use vmtest_record::series::{Check, CheckState, PatchInfo};
use vmtest_record::{attribution, reference_columns};
use vmtest_report::html;
use vmtest_report::story::Story;

const SUBJECTS: [&str; 5] = [
    "bpf: add session cookies to the trampoline",
    "bpf: mask the cookie index",
    "bpf: correct a comment",
    "bpf: tell of the session in struct bpf_link_info",
    "bpf: use the new helper in the verifier",
];
const FILES: [&[&str]; 5] = [
    &["kernel/bpf/trampoline.c", "include/linux/bpf.h"],
    &["kernel/bpf/trampoline.c"],
    &["kernel/bpf/trampoline.c"],
    &["include/uapi/linux/bpf.h"],
    &["kernel/bpf/verifier.c"],
];
const ERROR: &str = "does not build\n  \
     because: /src/kernel/bpf/verifier.c:2638:21: error: implicit declaration of function 'bpf_session_of'\n  \
     |  2638 |         if (bpf_session_of(prog))\n  |       |             ^~~~~~~~~~~~~~\n  \
     next: the whole output is in /home/u/.local/state/vmtest/runs/20261127-221740-2784dc/builds/80070569b3c75ad5b94e/build.log";
const TESTS: [(&str, &[&str]); 6] = [
    ("basic", &["one_entry_one_exit", "two_programs", "nested", "detach", "module"]),
    ("cookie", &["attach_order", "fifth_session", "max", "survives_detach"]),
    ("reject", &["no_entry", "sleepable"]),
    ("cost", &["attach"]),
    ("info", &["link"]),
    ("tools", &["bpftool_link"]),
];

/// A series of five: one adds a warning, one breaks two tests, one changes nothing, one changes a struct of the
/// uapi, one does not build.
pub fn series() -> RunResult {
    let mut run = samples::run(Vec::new());
    run.run = "20261127-221740-2784dc".into();
    run.command =
        ["cargo", "xtask", "vmtest", "--patches", "sessions.mbox", "--each-patch"].map(Into::into).into();
    for at in 0..=SUBJECTS.len() {
        let kernel = kernel(at);
        for (test, subtests) in TESTS {
            run.cells.extend(subtests.iter().map(|subtest| cell(&kernel.id, at, test, subtest)));
        }
        if at < 5 && at != 3 {
            let boot = samples::boot(&kernel.id, Class::Pass);
            let directory = format!("cells/{at}");
            run.boots.push(BootRecord { booted_after_ms: Some(3100), duration_ms: 9400, directory, ..boot });
        }
        run.kernels.push(kernel);
    }
    reference_columns::settle(&mut run);
    attribution::settle(&mut run, None);
    run.conclude(None);
    let proves = "a session's cookie is the one of its own program, whatever the order of attaching.";
    run.proves = BTreeMap::from([("cookie/attach_order".to_owned(), proves.to_owned())]);
    run
}

fn kernel(at: usize) -> Kernel {
    let id = |at: usize| match at {
        0 => "git:linux@2cac3d4de467".to_owned(),
        5 => "git:linux@2cac3d4de467+sessions".to_owned(),
        _ => format!("git:linux@2cac3d4de467+sessions@{at}/5"),
    };
    let patch = |number: usize| PatchInfo {
        subject: SUBJECTS[number - 1].into(),
        author: "Jane Doe <jane@example.org>".into(),
        message_id: format!("20261120.{number}.sessions@example.org"),
        commit: String::new(),
        files: FILES[number - 1].iter().map(|file| (*file).to_owned()).collect(),
    };
    Kernel {
        id: id(at),
        spec: "git:/home/u/linux@v7.0".into(),
        release: if at < 5 { "7.0.0".into() } else { String::new() },
        series: SUBJECTS[..at].iter().map(|subject| (*subject).to_owned()).collect(),
        patches: (1..=at).map(patch).collect(),
        checks: checks(at),
        same_as: (at == 3).then(|| id(2)),
        role: Some(Role::Step).filter(|_| at < 5),
        compared_to: at.checked_sub(1).map(id),
        ..Kernel::default()
    }
}

fn checks(at: usize) -> BTreeMap<String, Check> {
    let check = |state: CheckState, summary: &str, lines: &[&str]| Check {
        state,
        summary: summary.into(),
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        duration_ms: 900,
    };
    let warning = "kernel/bpf/trampoline.c:512:6: warning: unused variable 'left' [-Wunused-variable]";
    let uapi = "include/uapi/linux/bpf.h: struct bpf_link_info: member session moves from offset 24 to 32";
    let clean = || check(CheckState::Clean, "nothing to report", &[]);
    let all = match at {
        0 => return BTreeMap::new(),
        1 => [
            ("warnings", check(CheckState::Bad, "adds 1 compiler warning", &[warning])),
            ("uapi", clean()),
            ("checkpatch", check(CheckState::Advice, "1 line over 100 columns", &["trampoline.c:510"])),
        ],
        4 => [
            ("warnings", clean()),
            ("uapi", check(CheckState::Bad, "breaks the uapi: struct bpf_link_info", &[uapi])),
            ("checkpatch", clean()),
        ],
        5 => [
            ("warnings", check(CheckState::Unknown, "it does not build", &[])),
            ("uapi", clean()),
            ("checkpatch", clean()),
        ],
        _ => [("warnings", clean()), ("uapi", clean()), ("checkpatch", clean())],
    };
    all.into_iter().map(|(name, check)| (name.to_owned(), check)).collect()
}

fn cell(kernel: &str, at: usize, test: &str, subtest: &str) -> Cell {
    let broken = (2..5).contains(&at) && ["attach_order", "max"].contains(&subtest);
    let (outcome, class, reason) = match (at, test) {
        (5, _) => (Outcome::Notrun, Class::KernelBuild, format!("{kernel} {ERROR}")),
        (0, "cookie" | "info") => (Outcome::Skip, Class::Incomplete, "no BPF_TRACE_FSESSION".to_owned()),
        _ if subtest == "detach" => {
            (Outcome::Fail, Class::TestFailed, "links after detach: expected 0, seen 1 (1 of 3)".to_owned())
        }
        _ if broken => {
            let reason = "cookie of the second program: expected 0x20021, seen 0x21 (1 of 14)".to_owned();
            (Outcome::Fail, Class::TestFailed, reason)
        }
        _ => (Outcome::Pass, Class::Pass, String::new()),
    };
    let unmet = reason.split_once(": expected ").and_then(|(what, rest)| {
        let (expected, seen) = rest.split_once(", seen ")?;
        let seen = seen.split(" (").next()?;
        Some(Expectation { what: what.into(), expected: expected.into(), seen: seen.into() })
    });
    let unmet = unmet.filter(|_| outcome == Outcome::Fail).into_iter().collect();
    Cell { test: test.into(), reason, unmet, ..samples::cell(kernel, subtest, outcome, class) }
}

/// The page, with a console of each guest.
pub fn page(run: &RunResult) -> String {
    let console = |boot: &BootRecord| {
        let text =
            format!("[    3.100000] Run /init as init process\n[    9.300000] end of {}\n", boot.directory);
        (boot.directory.clone(), text)
    };
    let consoles = run.boots.iter().map(console).collect();
    let story = Story::of(run, "/home/u/.local/state/vmtest/runs/20261127-221740-2784dc");
    html::render(&Story { consoles: &consoles, ..story })
}

/// A run of one kernel: 120 tests, of which 11 fail.
pub fn failing() -> RunResult {
    let text = include_str!("../../../crates/report/screens/failing.json");
    serde_json::from_str(text).expect("a record")
}
