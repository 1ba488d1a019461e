// SPDX-License-Identifier: MIT OR Apache-2.0
//! Versions of kernels and packages: which is newer, and which belong to a series. Pure.

use std::cmp::Ordering;

/// Compares two Debian version strings as dpkg does (except for epochs, which kernels do not have).
pub fn compare_versions(left: &str, right: &str) -> Ordering {
    // `~` sorts before the end of the string, the end before letters, and letters before other characters.
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    };
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    let starts_with_text = |text: &[u8]| text.first().is_some_and(|byte| !byte.is_ascii_digit());
    while !left.is_empty() || !right.is_empty() {
        while starts_with_text(left) || starts_with_text(right) {
            match weight(left.first()).cmp(&weight(right.first())) {
                Ordering::Equal => (left, right) = (&left[1..], &right[1..]),
                different => return different,
            }
        }
        let (number_left, number_right) = (take_number(&mut left), take_number(&mut right));
        // Without leading zeros, the longer number is larger.
        match number_left.len().cmp(&number_right.len()).then(number_left.cmp(number_right)) {
            Ordering::Equal => (),
            different => return different,
        }
    }
    Ordering::Equal
}

/// Removes the leading digits, and returns them without leading zeros.
fn take_number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
    &digits[zeros..]
}

/// Whether an upstream version is `wanted` or one of its point releases: 6.1 includes 6.1.5 but not 6.18.
pub(super) fn matches(upstream: &str, wanted: &str) -> bool {
    upstream.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Newest first, without duplicates.
pub(super) fn newest_first<'a>(versions: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut all: Vec<&str> = versions.collect();
    all.sort_by(|a, b| compare_versions(b, a));
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_dpkg_does() {
        let mut versions = [
            "6.18.15-1",
            "6.18.5-1",
            "6.18.15-1~bpo13+1",
            "7.0~rc3-1",
            "7.0-1",
            "6.18.15-1+b1",
            "6.18.15-10",
        ];
        versions.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(
            versions,
            [
                "6.18.5-1",
                "6.18.15-1~bpo13+1",
                "6.18.15-1",
                "6.18.15-1+b1",
                "6.18.15-10",
                "7.0~rc3-1",
                "7.0-1"
            ]
        );
        assert_eq!(compare_versions("1.02", "1.2"), Ordering::Equal);
    }

    #[test]
    fn a_series_has_its_point_releases() {
        assert!(matches("6.18.15", "6.18") && matches("6.18", "6.18"));
        assert!(!matches("6.18.15", "6.1"));
        assert_eq!(
            newest_first(["6.18.5", "7.0", "6.18.15", "7.0"].into_iter()),
            ["7.0", "6.18.15", "6.18.5"]
        );
    }
}
