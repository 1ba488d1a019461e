// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dates and times, all in UTC, in the formats that this project uses.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

pub fn today() -> String {
    Timestamp::now().strftime("%Y-%m-%d").to_string()
}

/// Now, in the format that a run's name begins with: `20261127-175839`.
pub fn compact() -> String {
    Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string()
}

/// Whether the text is an existing date as YYYY-MM-DD.
pub fn is_date(text: &str) -> bool {
    Date::strptime("%Y-%m-%d", text).is_ok_and(|date| date.to_string() == text)
}

/// The time that a run's name begins with; `None` if it does not begin with one.
pub fn of_run(name: &str) -> Option<Timestamp> {
    let moment = jiff::civil::DateTime::strptime("%Y%m%d-%H%M%S", name.get(..15)?).ok()?;
    moment.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_days_that_there_are_are_dates() {
        for good in ["2026-11-21", "2024-02-29", "1999-12-31"] {
            assert!(is_date(good), "{good}");
        }
        for bad in
            ["2026-02-31", "2026-02-29", "2026-13-01", "2026-1-1", "26-11-21", "2026-11-21x", "", "2026-11"]
        {
            assert!(!is_date(bad), "{bad}");
        }
        assert!(is_date(&today()));
    }

    #[test]
    fn the_name_of_a_run_says_when_it_began() {
        let began = |name| of_run(name).map(|moment| moment.to_string());
        assert_eq!(began("20261121-090238-692d4c").as_deref(), Some("2026-11-21T09:02:38Z"));
        assert_eq!(began("20261321-090238-692d4c"), None);
        assert_eq!(began("r"), None);
        assert!(of_run(&compact()).is_some());
    }
}
