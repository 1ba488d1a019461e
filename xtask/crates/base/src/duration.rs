// SPDX-License-Identifier: MIT OR Apache-2.0
//! Durations as users type them.

use std::time::Duration;

/// Parses `90`, `90s`, `5m`, `1h`, `7d` or `2w`; `min` is the same as `m`. A plain number is in seconds.
///
/// # Errors
/// A hint on how to write a duration.
pub fn parse(text: &str) -> Result<Duration, String> {
    let units = [("min", 60), ("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400), ("w", 604_800)];
    let text = text.trim();
    let (number, unit) =
        units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit))).unwrap_or((text, 1));
    let number: Option<u32> = Some(number.trim_end())
        .filter(|number| !number.starts_with('+'))
        .and_then(|number| number.parse().ok());
    let seconds = number.map(|number| Duration::from_secs(u64::from(number) * unit));
    seconds.ok_or_else(|| "not a duration: write 90s, 5m or 1h".to_owned())
}

/// Whole seconds of a [`parse`]d duration, at least one.
///
/// # Errors
/// A hint on how to write a duration.
pub fn parse_seconds(text: &str) -> Result<u32, String> {
    let seconds = parse(text)?.as_secs();
    match u32::try_from(seconds) {
        Ok(0) => Err("it must be at least 1 second".to_owned()),
        Ok(seconds) => Ok(seconds),
        Err(_) => Err("it is too long".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_or_is_in_seconds() {
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("5m", 300),
            ("5 min", 300),
            ("1h", 3_600),
            ("7d", 604_800),
            ("2w", 1_209_600),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "s", "-1s", "+1s", "1.5h", "5x", "5ms", "1h30m", "99999999999s"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse_seconds("0s").is_err() && parse_seconds("60000w").is_err());
        assert_eq!(parse_seconds("2m"), Ok(120));
    }
}
