use std::fmt;
use std::ops::Range;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::error::ConfigError;
use crate::time::Timestamp;

/// A named time zone of the IANA database, with its daylight-saving rules.
///
/// ```
/// use outbox_core::policy::Zone;
///
/// assert_eq!(Zone::named("Europe/Stockholm").unwrap().to_string(), "Europe/Stockholm");
/// assert!(Zone::named("Europe/Atlantis").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// Coordinated universal time: every day has 24 hours.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// The zone that the IANA database calls `name`, in any case, as `Europe/Stockholm`.
    ///
    /// # Errors
    /// A [`ConfigError`] that quotes the name where the database does not have it.
    pub fn named(name: &str) -> Result<Self, ConfigError> {
        let refused = |why: String| {
            let mut error = ConfigError::default();
            let problem = format!("`{name}` is no zone of the IANA database ({why})");
            error.add("time zone", problem);
            error
        };
        let zone = TimeZone::get(name).map_err(|error| refused(error.to_string()))?;
        if zone.is_unknown() {
            return Err(refused("it stands for an unknown zone".to_owned()));
        }
        Ok(Self(zone))
    }

    /// The calendar day that holds `at`; `None` outside the years that a calendar can tell.
    fn day(&self, at: Timestamp) -> Option<Range<Timestamp>> {
        let moment = jiff::Timestamp::from_microsecond(at.as_micros()).ok()?;
        let date = self.0.to_datetime(moment).date();
        let (start, end) = (self.start_of(date)?, self.start_of(date.tomorrow().ok()?)?);
        if at < end {
            return Some(start..end);
        }
        // Clocks set back across midnight: the next day had begun, and its hours go on.
        let after = date.tomorrow().ok()?.tomorrow().ok()?;
        Some(end..self.start_of(after)?)
    }

    /// The first moment of `date`; where its midnight was skipped, the first moment after the gap.
    fn start_of(&self, date: Date) -> Option<Timestamp> {
        let midnight = date.to_zoned(self.0.clone()).ok()?;
        let start = midnight.start_of_day().ok()?.timestamp();
        Some(Timestamp::from_micros(start.as_microsecond()))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

/// How time is cut into windows without gaps: what a fixed-window limiter counts in.
///
/// ```
/// use outbox_core::policy::Window;
/// use outbox_core::time::Timestamp;
/// use std::time::Duration;
///
/// let minute = Window::Fixed(Duration::from_secs(60));
/// let bounds = minute.bounds(Timestamp::from_millis(90_000));
/// assert_eq!(bounds, Timestamp::from_millis(60_000)..Timestamp::from_millis(120_000));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// From midnight to midnight on the clocks of `zone`: 23 or 25 hours where they change. Outside
    /// the years -9999 to 9999, days are those of UTC.
    CalendarDay {
        /// Whose clocks.
        zone: Zone,
    },
    /// Spans of one length, one of which begins at the Unix epoch; at least 1 µs, which a shorter
    /// one counts as.
    Fixed(Duration),
}

impl Window {
    /// The window that holds `at`: from its first moment to the first of the next window, which is
    /// no longer in it.
    #[must_use]
    pub fn bounds(&self, at: Timestamp) -> Range<Timestamp> {
        match self {
            Self::CalendarDay { zone } => zone
                .day(at)
                .unwrap_or_else(|| aligned(at, Duration::from_secs(24 * 60 * 60))),
            Self::Fixed(length) => aligned(at, *length),
        }
    }
}

fn aligned(at: Timestamp, length: Duration) -> Range<Timestamp> {
    let length = i64::try_from(length.as_micros()).unwrap_or(i64::MAX).max(1);
    let start = at
        .as_micros()
        .saturating_sub(at.as_micros().rem_euclid(length));
    Timestamp::from_micros(start)..Timestamp::from_micros(start.saturating_add(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(text: &str) -> Timestamp {
        let moment: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_micros(moment.as_microsecond())
    }

    fn day_in(zone: &str, moment: &str) -> Range<Timestamp> {
        let zone = Zone::named(zone).unwrap();
        Window::CalendarDay { zone }.bounds(at(moment))
    }

    #[test]
    fn a_day_begins_at_midnight_of_its_zone() {
        let day = day_in("Asia/Tokyo", "2026-02-03T15:00:00Z");
        assert_eq!(day, at("2026-02-03T15:00:00Z")..at("2026-02-04T15:00:00Z"));
        let day_before = day_in("Asia/Tokyo", "2026-02-03T14:59:59.999999Z");
        assert_eq!(day_before.end, day.start);
    }

    #[test]
    fn the_day_on_which_clocks_go_forward_has_23_hours() {
        let day = day_in("Europe/Stockholm", "2026-03-29T12:00:00Z");
        assert_eq!(day, at("2026-03-28T23:00:00Z")..at("2026-03-29T22:00:00Z"));
        assert_eq!(day.end.since(day.start), 23 * HOUR);
    }

    #[test]
    fn the_day_on_which_clocks_go_back_has_25_hours() {
        let day = day_in("Europe/Stockholm", "2026-10-25T12:00:00Z");
        assert_eq!(day, at("2026-10-24T22:00:00Z")..at("2026-10-25T23:00:00Z"));
        assert_eq!(day.end.since(day.start), 25 * HOUR);
    }

    #[test]
    fn a_day_whose_midnight_was_skipped_begins_after_the_gap() {
        let day = day_in("America/Sao_Paulo", "2018-11-04T12:00:00Z");
        assert_eq!(day, at("2018-11-04T03:00:00Z")..at("2018-11-05T02:00:00Z"));
    }

    #[test]
    fn a_date_that_a_zone_skipped_is_in_no_window() {
        let before = day_in("Pacific/Apia", "2011-12-30T09:59:59Z");
        let after = day_in("Pacific/Apia", "2011-12-30T10:00:00Z");
        assert_eq!(before.end, after.start);
        assert_eq!(before.end.since(before.start), 24 * HOUR);
    }

    #[test]
    fn clocks_set_back_across_midnight_stay_in_the_day_that_had_begun() {
        // At 00:01 on Sunday, the clocks of St John's went back to 23:01 on Saturday.
        let sunday = day_in("America/St_Johns", "2006-10-29T02:30:30Z");
        let saturday_again = day_in("America/St_Johns", "2006-10-29T03:00:00Z");
        assert_eq!(sunday, saturday_again);
        assert_eq!(sunday.end.since(sunday.start), 25 * HOUR);
    }

    #[test]
    fn an_unknown_zone_is_named_in_the_error() {
        for name in ["Mars/Olympus", "", "Etc/Unknown"] {
            let error = Zone::named(name).unwrap_err();
            assert_eq!(error.problems[0].setting, "time zone");
            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        }
    }

    #[test]
    fn fixed_windows_are_aligned_to_the_epoch() {
        let window = Window::Fixed(Duration::from_secs(10));
        let millis = |from, to| Timestamp::from_millis(from)..Timestamp::from_millis(to);
        assert_eq!(window.bounds(Timestamp::EPOCH), millis(0, 10_000));
        assert_eq!(
            window.bounds(Timestamp::from_millis(9_999)),
            millis(0, 10_000)
        );
        assert_eq!(
            window.bounds(Timestamp::from_millis(-1)),
            millis(-10_000, 0)
        );
    }

    #[test]
    fn the_ends_of_time_are_in_a_window_too() {
        let windows = [
            Window::CalendarDay { zone: Zone::UTC },
            Window::Fixed(Duration::MAX),
            Window::Fixed(Duration::ZERO),
        ];
        for (window, at) in windows
            .iter()
            .flat_map(|w| [(w, Timestamp::MAX), (w, Timestamp::from_micros(i64::MIN))])
        {
            let bounds = window.bounds(at);
            assert!(bounds.start <= at && at <= bounds.end, "{window:?} {at}");
        }
    }

    proptest! {
        #[test]
        fn windows_hold_their_moments_and_touch_each_other(
            zone in prop::sample::select(vec![
                "America/St_Johns", "America/Havana", "Asia/Amman", "Africa/Cairo", "Asia/Gaza",
                "Pacific/Apia", "Australia/Lord_Howe", "Europe/Dublin", "Antarctica/Troll", "UTC",
            ]),
            secs in 0_i64..2_500_000_000,
        ) {
            let window = Window::CalendarDay { zone: Zone::named(zone).unwrap() };
            let now = Timestamp::from_millis(secs * 1_000);
            let day = window.bounds(now);
            prop_assert!(day.contains(&now));
            prop_assert_eq!(window.bounds(day.start), day.clone());
            prop_assert_eq!(window.bounds(day.end).start, day.end);
            let before = window.bounds(day.start - Duration::from_micros(1));
            prop_assert_eq!(before.end, day.start);
        }
    }
}
