// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks and errors for hosts where something is missing.

use std::path::PathBuf;

use super::resources::{judge_disk, judge_memory};
use super::sandbox::{Limits, fix_sandbox, has_range};
use super::tools::{RUSTUP, Seen, TOOLS, Tool, cause, dotted, version};
use super::*;
use vmtest_base::error::Class;
use vmtest_base::size::GIB;

fn tool(name: &str) -> &'static Tool {
    TOOLS.iter().find(|tool| tool.name == name).expect("a name of the table")
}

#[test]
fn versions_are_found_in_what_programs_say() {
    for (said, found) in [
        ("Debian clang version 14.0.6", Some("14.0.6")),
        ("bubblewrap 0.8.0", Some("0.8.0")),
        ("rustc 1.95.0 (59807616e 2026-04-14)", Some("1.95.0")),
        ("cc (Debian 12.2.0-14+deb12u1) 12.2.0", Some("12.2.0")),
        ("v1.25", Some("1.25")),
        ("virtme-ng 1.42", Some("1.42")),
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u16)", Some("7.2.22")),
        ("apt 2.6.1 (amd64)", Some("2.6.1")),
        ("xz (XZ Utils) 5.4.1", Some("5.4.1")),
        ("Copyright 2022 ... all rights", None),
        ("", None),
    ] {
        assert_eq!(dotted(said), found, "{said}");
    }
    assert_eq!(version("1.95.0"), Some((1, 95)));
    assert_eq!(version("yes"), None);
}

#[test]
fn the_cause_is_picked_from_a_failure() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let python =
        lines("Traceback (most recent call last):\n  File x\nModuleNotFoundError: No module named 'pip'");
    assert_eq!(cause(&python), Some("ModuleNotFoundError: No module named 'pip'"));
    let rustup = lines("error: no default toolchain\n  13: <unknown>");
    assert_eq!(cause(&rustup), Some("error: no default toolchain"));
    assert_eq!(cause(&lines("a\nb")), Some("b"));
    assert_eq!(cause(&[]), None);
}

#[test]
fn what_is_too_old_says_what_would_do() {
    let needs = needs_of(Toolchain::Image);
    let old = judge(tool("clang"), needs, Seen::There("11.0.1".to_owned()));
    assert_eq!(old.status, Status::Missing);
    assert_eq!(old.problem.as_deref(), Some("clang 11.0.1 is older than 14.0"));
    assert_eq!(old.fix.as_deref(), Some("install clang 14.0 or newer"));
    let fine = judge(tool("clang"), needs, Seen::There("14.0.6".to_owned()));
    assert_eq!((fine.status, fine.fix), (Status::Ok, None));
    let vng = judge(tool("vng"), needs_of(Toolchain::Host), Seen::There("1.9".to_owned()));
    assert!(vng.fix.is_some_and(|fix| fix.contains("--toolchain image")));
    let rust = judge(tool("rustc"), needs, Seen::There("1.84.1".to_owned()));
    assert_eq!(rust.fix.as_deref(), Some(RUSTUP));
}

#[test]
fn what_only_some_runs_need_is_a_warning_until_a_run_needs_it() {
    let absent = || Seen::Absent("apt-get is not on PATH".to_owned());
    let seen = judge(tool("apt-get"), needs_of(Toolchain::Image), absent());
    assert_eq!(seen.status, Status::Warning);
    let error = refuse(&[judge(tool("apt-get"), &[Need::Archive], absent())]).expect_err("asked for");
    assert_eq!(error.class, Class::Host);
    assert!(error.to_string().contains("next: scripts/setup.sh"), "{error}");
    let seen = judge(tool("ccache"), needs_of(Toolchain::Host), Seen::Absent(String::new()));
    assert_eq!(seen.status, Status::Warning);
}

#[test]
fn an_installation_needs_nothing_that_only_compiles_the_harness_and_the_runner() {
    let needs = |installed| without_cargo(needs_of(Toolchain::Image).to_vec(), installed);
    let names = |installed| wanted(&needs(installed)).map(|tool| tool.name).collect::<Vec<_>>();
    for name in ["cargo", "rustc", "cc", "clang", "make", "libelf.a"] {
        assert!(names(false).contains(&name) && !names(true).contains(&name), "{name}");
    }
    assert!(names(true).contains(&"bwrap") && names(true).contains(&"apt-get"));
}

#[test]
fn a_refusal_lists_everything_once() {
    let absent = |name| judge(tool(name), &[Need::BuildRoot], Seen::Absent("is not on PATH".to_owned()));
    let error = refuse(&[absent("mmdebstrap"), absent("pip")]).expect_err("two are missing");
    assert_eq!(error.detail.len(), 2);
    assert_eq!(error.next.as_deref(), Some(SETUP));
    assert!(error.what.contains("2 things"));
    assert!(refuse(&[judge(tool("tar"), &[Need::Source], Seen::There("1.34".to_owned()))]).is_ok());
}

#[test]
fn each_limit_on_user_namespaces_has_its_command() {
    let free = Limits { clone: Some(1), apparmor: Some(0), max: Some(96_365), ..Limits::default() };
    assert!(fix_sandbox(&free).contains("--toolchain host"));
    let table = [
        (Limits { no_bwrap: true, ..free.clone() }, SETUP),
        (Limits { clone: Some(0), ..free.clone() }, "unprivileged_userns_clone=1"),
        (Limits { apparmor: Some(1), ..free.clone() }, "apparmor_restrict_unprivileged_userns=0"),
        (Limits { max: Some(0), ..free.clone() }, "max_user_namespaces"),
        (Limits { root: true, apparmor: Some(1), ..free }, "--privileged"),
    ];
    for (limits, fix) in table {
        assert!(fix_sandbox(&limits).contains(fix), "{limits:?}");
    }
}

#[test]
fn ranges_belong_to_a_name_or_a_number() {
    let text = "other:100000:65536\nme:165536:65536\n1007:300000:65536\nfew:1:10\n";
    assert!(has_range(text, "me", 1000));
    assert!(has_range(text, "nobody", 1007));
    assert!(!has_range(text, "few", 1001));
    assert!(!has_range(text, "ot", 1));
    assert!(!has_range("", "me", 1000));
}

#[test]
fn room_is_judged_in_two_steps() {
    let at = |gibs: u64| judge_disk(Ok((PathBuf::from("/c"), gibs * GIB))).status;
    assert_eq!([at(2), at(3), at(7), at(8)], {
        use Status::*;
        [Missing, Warning, Warning, Ok]
    });
    let broken = judge_disk(Err(("cannot create /c".to_owned(), None)));
    assert_eq!((broken.status, broken.found), (Status::Missing, None));

    let memory = |total: u64, available: u64| {
        judge_memory(&format!("MemTotal:  {total} kB\nMemFree: 1 kB\nMemAvailable:  {available} kB\n")).status
    };
    assert_eq!(memory(25_000_000, 24_000_000), Status::Ok);
    assert_eq!(memory(25_000_000, 1_000_000), Status::Warning);
    assert_eq!(memory(1_000_000, 900_000), Status::Missing);
    assert_eq!(judge_memory("").status, Status::Ok, "unknown is not a reason to fail");
}
