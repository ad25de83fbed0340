use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::config::PublisherType;
use crate::policy::Zone;
use crate::publish::Strategy;

/// A number within `range`.
pub(super) fn number<T: FromStr + PartialOrd>(text: &str, range: RangeInclusive<T>) -> Option<T> {
    text.parse().ok().filter(|number| range.contains(number))
}

/// A whole number with its unit, as `250ms`, `5s`, `10m`, `1h` or `7d`; more than nothing.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(unit_at);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let total = count.parse::<u64>().ok()?.checked_mul(millis)?;
    (total > 0).then(|| Duration::from_millis(total))
}

/// A duration of at least 10 ms, shorter than which nothing is repeated or waited for.
pub(super) fn pace(text: &str) -> Option<Duration> {
    duration(text).filter(|pace| *pace >= Duration::from_millis(10))
}

/// `true` or `false`, in one of the usual spellings.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Any text but an empty one.
pub(super) fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Any path but an empty one.
pub(super) fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// The name of a time zone that the time zone database knows.
pub(super) fn time_zone(text: &str) -> Option<String> {
    Zone::named(text).ok().map(|_| text.to_owned())
}

/// The name of a publisher.
pub(super) fn publisher_type(text: &str) -> Option<PublisherType> {
    match text {
        "queue" => Some(PublisherType::Queue),
        "event_bus" => Some(PublisherType::EventBus),
        "composite" => Some(PublisherType::Composite),
        _ => None,
    }
}

/// The name of a strategy.
pub(super) fn strategy(text: &str) -> Option<Strategy> {
    match text {
        "all" => Some(Strategy::All),
        "any" => Some(Strategy::Any),
        "primary" => Some(Strategy::Primary),
        _ => None,
    }
}

/// The setting in `value`, or what is wrong with it, where it ought to be `form`.
pub(super) fn setting<T>(
    value: &OsStr,
    form: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, String> {
    let Some(value) = value.to_str().map(str::trim) else {
        return Err(format!("is not Unicode, and so not {form}"));
    };
    if value.is_empty() {
        return Err(format!("is empty, and so not {form}"));
    }
    parse(value).ok_or_else(|| format!("`{value}` is not {form}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_a_unit() {
        let millis = |text| duration(text).map(|d| d.as_millis());
        assert_eq!(millis("250ms"), Some(250));
        assert_eq!(millis("5s"), Some(5_000));
        assert_eq!(millis("10m"), Some(600_000));
        assert_eq!(millis("1h"), Some(3_600_000));
        assert_eq!(millis("7d"), Some(604_800_000));
        for broken in [
            "",
            "5",
            "s",
            "-5s",
            "+5s",
            "5 s",
            "1.5s",
            "5S",
            "0s",
            "99999999999999999d",
        ] {
            assert_eq!(millis(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_pace_is_no_shorter_than_10_ms() {
        assert_eq!(pace("9ms"), None);
        assert_eq!(pace("10ms"), Some(Duration::from_millis(10)));
    }

    #[test]
    fn a_number_keeps_its_range() {
        assert_eq!(number("7", 1..=7_u32), Some(7));
        assert_eq!(number("8", 1..=7_u32), None);
        assert_eq!(number("0", 1..=7_u32), None);
        assert_eq!(number("seven", 1..=7_u32), None);
    }

    #[test]
    fn a_time_zone_is_one_that_the_database_knows() {
        assert!(time_zone("Europe/Stockholm").is_some());
        assert!(time_zone("Europe/Atlantis").is_none());
        assert!(time_zone("Etc/Unknown").is_none(), "no limiter takes it");
    }
}
