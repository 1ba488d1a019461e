// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sizes in bytes: formatting and parsing. Units are powers of 1024.

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// `1.4 GiB`; `17 B` below 1 KiB. Rounded down, so it never shows more space than there is.
pub fn format(bytes: u64) -> String {
    match [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")].into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

/// Parses `500M`, `500 MB`, `20GiB` or `1T` in any case. A number without a unit is ambiguous, so only 0 may
/// omit it.
///
/// # Errors
/// A hint on how to write a size.
pub fn parse(text: &str) -> Result<u64, String> {
    let upper = text.trim().to_ascii_uppercase();
    let upper = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
    let units = [("K", KIB), ("M", MIB), ("G", GIB), ("T", TIB)];
    let bytes = match units.into_iter().find_map(|(name, unit)| Some((upper.strip_suffix(name)?, unit))) {
        Some((number, unit)) => number.trim().parse().ok().and_then(|number: u64| number.checked_mul(unit)),
        None => (upper.trim() == "0").then_some(0),
    };
    bytes.ok_or_else(|| "not a size: write 500M or 20G".to_owned())
}

/// Parses whole mebibytes. A number without a unit is in mebibytes: `512`, `512M`, `2G`.
pub fn parse_mebibytes(text: &str) -> Option<u64> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    parse(text).ok().filter(|bytes| bytes % MIB == 0).map(|bytes| bytes / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_the_largest_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (KIB, "1.0 KiB"),
            (MIB - 1, "1023.9 KiB"),
            (500 * MIB, "500.0 MiB"),
            (8 * GIB - 1, "7.9 GiB"),
            (1536 * MIB, "1.5 GiB"),
            (2 * TIB, "2048.0 GiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(format(bytes), text);
        }
    }

    #[test]
    fn a_size_needs_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("0B", 0),
            ("4k", 4 * KIB),
            ("500M", 500 * MIB),
            ("500 MB", 500 * MIB),
            (" 20gib ", 20 * GIB),
            ("1T", TIB),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "7", "B", "G", "iB", "-1G", "1.5G", "1X", "99999999999T", "1 GiG"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for bytes in [0, 4 * KIB, 500 * MIB, 20 * GIB] {
            assert_eq!(parse(&format(bytes).replace(".0", "")), Ok(bytes));
        }
    }

    #[test]
    fn mebibytes_are_the_usual_unit_of_memory() {
        for (text, mebibytes) in [
            ("512", 512),
            ("512M", 512),
            ("512m", 512),
            ("2G", 2048),
            ("2g", 2048),
            ("2GB", 2048),
            ("2GiB", 2048),
        ] {
            assert_eq!(parse_mebibytes(text), Some(mebibytes), "{text}");
        }
        for wrong in ["", "M", "1K", "many", "-1", "1.5G"] {
            assert_eq!(parse_mebibytes(wrong), None, "{wrong}");
        }
    }
}
