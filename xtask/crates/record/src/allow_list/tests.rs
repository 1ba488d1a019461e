// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

const TODAY: &str = "2026-11-21";

fn file(title: &str, expires: &str) -> String {
    format!("[[allow]]\ntitle = '{title}'\nreason = 'known'\nexpires = '{expires}'\n")
}

fn allows(title: &str, expires: &str, splat: &str) -> bool {
    Allowed::parse(&file(title, expires), TODAY).expect("a list").allows(splat).is_some()
}

const WARNING: &str = "WARNING: CPU: 0 PID: 1 at kernel/bpf/trampoline.c:42 x+0x1/0x2";

#[test]
fn an_entry_allows_what_it_names_until_its_last_day() {
    assert!(allows("trampoline\\.c:42 ", "2026-11-21", WARNING));
    assert!(!allows("trampoline\\.c:42 ", "2026-11-20", WARNING), "expired");
    assert!(!allows("trampoline\\.c:43 ", "2027-01-01", WARNING));
}

#[test]
fn no_entry_allows_a_death() {
    for (death, pattern) in [
        ("Kernel panic - not syncing: x", "panic"),
        ("Oops: int3: 0000 [#1] SMP", "int3"),
        ("BUG: kernel NULL pointer dereference, address: 0", "BUG"),
        ("kernel BUG at mm/slub.c:1!", "slub"),
        ("general protection fault, probably for non-canonical address", "protection fault"),
        ("kernel tainted: D (an oops or BUG), W (a warning)", "tainted"),
    ] {
        assert!(!allows(pattern, "2027-01-01", death), "{death}");
    }
    assert!(allows("BUG", "2027-01-01", "BUG: KASAN: slab-use-after-free in x"));
}

#[test]
fn a_file_that_makes_no_sense_is_refused() {
    for (text, why) in [
        (String::new(), "no [[allow]]"),
        (file(".*", "2027-01-01"), "fits everything"),
        (file("", "2027-01-01"), "fits everything"),
        (file("(", "2027-01-01"), "title"),
        (file("x", "soon"), "not a date"),
        (file("x", "2027-13-01"), "not a date"),
        (file("x", "2027-01-01").replace("known", " "), "no reason"),
        ("[[allow]]\ntitle = 'x'\nreason = 'y'\n".to_owned(), "expires"),
        (file("x", "2027-01-01") + "until = 'x'\n", "until"),
    ] {
        let error = Allowed::parse(&text, TODAY).expect_err(&text);
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn a_pattern_that_names_no_complaint_is_refused() {
    for wide in [
        ".",
        ".*",
        ".+",
        "^",
        "$",
        "^.",
        "(?s).",
        "(?i)[a-z]",
        "[a-z]",
        r"\w",
        r"\d",
        r"\s",
        r"\S+",
        "x?",
        ":",
        "[^q]",
        "a|e|i|o|u",
        "WARNING",
        "INFO",
        "(?i)warning:",
        "for|on|in",
        "KASAN|trampoline",
        r"\b",
        r"\w+:",
        "^[A-Z]",
    ] {
        let error = Allowed::parse(&file(wide, "2027-01-01"), TODAY).expect_err(wide);
        assert!(
            error.contains(&format!("{wide:?}"))
                && (error.contains("fits") || error.contains("matches unrelated")),
            "{wide}: {error}"
        );
        // The message names the pattern, among others.
        let two = file("one", "2027-01-01") + &file(wide, "2027-01-01");
        assert!(Allowed::parse(&two, TODAY).expect_err(wide).contains(&format!("{wide:?}")), "{wide}");
    }
    for title in UNLIKE {
        assert!(allows(&regex::escape(title), "2027-01-01", title), "{title}");
    }
    let readme = r"kernel/bpf/trampoline\.c:\d+ bpf_tramp_image_put";
    assert!(allows(readme, "2027-01-01", UNLIKE[0]));
}

#[test]
fn what_became_of_each_entry_is_told() {
    let text = [file("one", "2027-01-01"), file("two", "2020-01-01"), file("three", "2027-01-01")].concat();
    let allowed = Allowed::parse(&text, TODAY).expect("a list");
    let splat = |title: &str| SplatRecord {
        title: title.to_owned(),
        severity: "splat".to_owned(),
        allowed: allowed.allows(title).map(str::to_owned),
        ..SplatRecord::default()
    };
    let states: Vec<(String, u64)> = allowed
        .records(&[splat("WARNING: one"), splat("WARNING: two"), splat("WARNING: one")])
        .into_iter()
        .map(|record| (record.state, record.splats))
        .collect();
    assert_eq!(states, [("used".into(), 2), ("expired".into(), 1), ("unused".into(), 0)]);
}
