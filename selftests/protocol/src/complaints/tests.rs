// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

#[test]
fn every_rule_is_reached_and_has_a_text_to_look_for() {
    for rule in RULES {
        let pattern = rule.pattern;
        assert!(rule.literal().len() >= 4, "{pattern}");
        assert!(!pattern.starts_with('*') && !pattern.ends_with('*') && !pattern.contains("**"), "{pattern}");
        // An earlier rule that shadows this one must have the same meaning.
        let text = pattern.replace('*', "x");
        let kind = find(text.as_bytes(), true).map(|found| found.kind);
        assert!(
            kind.is_some_and(|kind| kind.severity() == rule.kind.severity()),
            "{pattern} is {kind:?}, not {:?}",
            rule.kind
        );
    }
}

#[test]
fn a_message_may_begin_behind_prefixes_and_in_a_frame() {
    for text in [
        "BUG: odd",
        "  BUG: odd",
        "bpf: BUG: odd",
        "reboot: [ BUG: odd ]",
        "[ BUG: odd ]",
        "====== BUG: odd",
        "a/b.c:12: x-y: BUG: odd",
    ] {
        assert_eq!(find(text.as_bytes(), true).map(|found| found.kind), Some(Kind::Splat), "{text}");
        assert_eq!(find(text.as_bytes(), false), None, "{text}");
    }
    for text in
        ["Spectre V2 : BUG: odd", "sh[7]: BUG: odd", "a b: BUG: odd", ": BUG: odd", "a: b: c: d: BUG: odd"]
    {
        assert_eq!(find(text.as_bytes(), true), None, "{text}");
    }
}

#[test]
fn the_first_line_of_die_is_known_by_its_end() {
    for text in [
        "stack segment: 0000 [#1] SMP",
        "general protection fault, maybe for address 0x1: 0000 [#12] PREEMPT",
        "Internal error: Oops: 0000000096000004 [#1] PREEMPT SMP",
        "Oops: invalid opcode: 0000 [#1]",
        "unexpected #NM exception: 0000 [#1] SMP",
    ] {
        assert_eq!(severity(text), Some(Severity::Death), "{text}");
    }
    for text in ["see: bug [#1]", "x: 12 [#1]", "x: 0000 [#]", "0000 [#1]", "x: 0000 [#12345]", "x: 0000 [#1"]
    {
        assert_eq!(severity(text), None, "{text}");
    }
}

#[test]
fn a_death_behind_other_words_is_worse_than_they_are() {
    let found = find(b"WARNING: odd and Kernel panic - not syncing: x", true);
    assert_eq!(found.map(|found| (found.kind, found.start)), Some((Kind::Panic, 17)));
    let found = find(b"Web Content: page allocation failure: order:9", false);
    assert_eq!(found.map(|found| (found.kind, found.start)), Some((Kind::Splat, 0)));
}
