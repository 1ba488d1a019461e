// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

/// enum { A = 1, FSESSION = 58 }; enum64 { BIG = 1 << 40 }; int f(int, int), with an int before and
/// struct A { int A; int f:1; } between.
fn sample() -> Vec<u8> {
    let strings = b"\0A\0FSESSION\0f\0BIG\0";
    let info = |kind: u32, vlen: u32| kind << 24 | vlen;
    let types: Vec<u32> = [
        vec![0, info(1, 0), 4, 32], // 1: int
        vec![12, info(12, 1), 5],   // 2: func f, prototype comes later
        // 3: struct, with a bit field
        vec![1, info(4, 2) | 1 << 31, 8, 1, 1, 0, 12, 1, 1 << 24 | 32],
        vec![0, info(6, 2), 4, 1, 1, 3, 58],    // 4: enum
        vec![0, info(13, 2), 1, 0, 1, 0, 1],    // 5: prototype
        vec![0, info(19, 1), 8, 14, 0, 1 << 8], // 6: enum64
    ]
    .concat();
    let header = [0x0001_eb9f, 24, 0, types.len() as u32 * 4, types.len() as u32 * 4, strings.len() as u32];
    let words = header.iter().chain(&types).flat_map(|w| w.to_le_bytes());
    words.chain(strings.iter().copied()).collect()
}

#[test]
fn finds_enumerators_and_functions() {
    let found = find(
        &sample(),
        &Wanted { values: &["FSESSION", "BIG", "SESSION", "ABSENT"], funcs: &["f", "g"], members: &[] },
    )
    .expect("well formed");
    assert_eq!(found.values, [("BIG".into(), 1 << 40), ("FSESSION".into(), 58)].into());
    assert_eq!(found.funcs, [("f".into(), Func { id: 2, proto: 5, params: 2 })].into());
}

#[test]
fn broken_btf_is_an_error_at_every_length() {
    let whole = sample();
    for len in 0..whole.len() {
        assert!(
            find(&whole[..len], &Wanted { values: &["A"], funcs: &["f"], members: &[("A", "f")] }).is_err(),
            "cut at {len}"
        );
    }
    let mut unknown = whole;
    unknown[24 + 7] = 31;
    assert!(find(&unknown, &Wanted::default()).expect_err("kind 31 does not exist").contains("new"));
}

#[test]
fn a_member_is_there_or_not_only_of_a_struct_that_is_there() {
    let members = [("A", "A"), ("A", "f"), ("A", "BIG"), ("BIG", "A"), ("FSESSION", "A")];
    let found = find(&sample(), &Wanted { members: &members, ..Wanted::default() }).expect("well formed");
    assert_eq!(found.members, [("A.A".into(), true), ("A.f".into(), true), ("A.BIG".into(), false)].into());
}

#[test]
fn functions_are_chosen_by_their_names() {
    assert_eq!(functions(&sample(), |name| name == b"f"), Ok(vec![2]));
    assert_eq!(functions(&sample(), |name| name == b"A"), Ok(vec![]), "an enumerator");
    assert!(functions(&sample()[..60], |_| true).is_err());
}
