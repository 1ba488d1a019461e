// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

#[test]
fn names_are_ordered_as_people_count() {
    let mut names = [
        "v2-0010-b.patch",
        "patch-6.18.10-11.patch",
        "10.patch",
        "0002-a.patch",
        "patch-6.18.9-10.patch",
        "9.patch",
        "v2-0009-c.patch",
        "zebra.patch",
        "apple.patch",
        "0001-z.patch",
        "01.patch",
        "1.patch",
        "99999999999999999999999-x.patch",
    ];
    names.sort_by(|one, other| by_number(one, other));
    assert_eq!(
        names,
        [
            "0001-z.patch",
            "01.patch",
            "1.patch",
            "0002-a.patch",
            "9.patch",
            "10.patch",
            "99999999999999999999999-x.patch",
            "apple.patch",
            "patch-6.18.9-10.patch",
            "patch-6.18.10-11.patch",
            "v2-0009-c.patch",
            "v2-0010-b.patch",
            "zebra.patch",
        ]
    );
}

#[test]
fn file_names_tell_their_version() {
    for (name, version) in [
        ("v2-0001-x.patch", Some(2)),
        ("0001-x.patch", Some(1)),
        ("v12-0103-x.patch", Some(12)),
        ("x.patch", None),
        ("v2-x.patch", None),
        ("vx-0001-x.patch", None),
        ("20260101-x.patch", None),
        ("ä001-x.patch", None),
    ] {
        assert_eq!(version_of(name), version, "{name}");
    }
}
